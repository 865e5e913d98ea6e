"""Random programs of the shared state: what the promises say, on paper, is what the rows hold after each command; and a batch is
its commands one by one, on every store.

``TEST_PROGRAMS=5000`` runs more of them, ``TEST_SEED=1000`` others.
"""

from __future__ import annotations

import asyncio
import os
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from autogen_coord.core import bodies, open_conflicts, snapshots, state
from autogen_coord.core.commit import Entry, Rule, _Fold
from autogen_coord.core.documents import Author
from autogen_coord.core.open_conflicts import Decide
from autogen_coord.core.snapshots import Drop, Restore, Revert, Take
from autogen_coord.core.state import Edit, Write
from autogen_coord.core.store import Range, Store
from autogen_coord.core.tables import TABLES
from autogen_coord.errors import CoordError
from autogen_coord.settings import Settings
from autogen_coord.stores.dictionary import store as dictionary
from autogen_coord.stores.dictionary.data import DictionaryData
from autogen_coord.stores.dictionary.store import DictionaryStore
from autogen_coord.stores.sqlite.store import SqliteStore

from .state_paper import Paper, Refused, all_rows

PROGRAMS = int(os.environ.get("TEST_PROGRAMS", "60"))
SEED = int(os.environ.get("TEST_SEED", "0"))
CHUNKS = 6
ON_DISK = 5
"""One in so many programs runs on SQLite too."""
COMMANDS = 60
KEYS = ("a", "a/b", "a/b/c", "a-b", "d")
PREFIXES = ("", "a", "a/b", "d")
BY = Author("s", "ann", None)
RULES: dict[type[Any], Rule[Any, Any]] = {
    Write: state.write, Take: snapshots.take, Drop: snapshots.drop, Restore: snapshots.restore,
    Revert: snapshots.revert, Decide: open_conflicts.decide,
}  # fmt: skip

Batches = list[list[Any]]


@pytest.fixture(autouse=True)
def _long_chains(monkeypatch: pytest.MonkeyPatch) -> None:
    """A batch in which each command waits for the rows of the one before takes a round for each."""
    monkeypatch.setattr(dictionary, "ROUNDS", 1_000)


class Ticking:
    """A clock that only the test moves."""

    def __init__(self) -> None:
        self.now = 1_000_000.0

    def __call__(self) -> float:
        return self.now


class Maker:
    """Draws commands that mean something as things stand on the paper."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)
        self.paper = Paper()
        self._ids = 0

    def command(self) -> Any:
        draw, paper = self.random.random(), self.paper
        self._ids += 1
        if draw < 0.72:
            keys = self.random.sample(KEYS, self.random.choice((1, 1, 1, 2, 3)))
            return Write(f"w{self._ids}", tuple(self._edit(key) for key in keys), BY)
        if draw < 0.78:
            return Take(self.random.choice("stu"), self.random.choice(PREFIXES), "", BY)
        if draw < 0.82:
            return Drop(self.random.choice("stu"))
        if draw < 0.88:
            name = self.random.choice("stu")
            prefix = paper.snapshots[name][0] if name in paper.snapshots else self.random.choice(PREFIXES)
            inside = tuple(key for key in KEYS if not prefix or f"{key}/".startswith(f"{prefix}/"))
            return Restore(name, prefix, inside, None, BY)
        if draw < 0.94:
            key = self.random.choice(KEYS)
            return Revert(key, self._version(key) or 1, BY)
        id = self.random.choice([*paper.conflicts, "none"])
        how = self.random.choice(("mine", "theirs", "value"))
        return Decide(id, how, bodies.encode(self._value()) if how == "value" else None, BY)

    def _edit(self, key: str) -> Edit:
        act = self.random.choice(("put", "put", "put", "patch", "delete"))
        policy = self.random.choice(("reject", "last_writer", "merge", "merge", "reduce", "ask"))
        body = None if act == "delete" else bodies.encode(self._value())
        expected = self.random.choice((None, self._version(key), self._version(key)))
        reducers = {"n": "add", "l": "union"} if policy == "reduce" else None
        return Edit(key, act, body, expected, policy, reducers, missing_ok=self.random.random() < 0.5)

    def _value(self) -> Any:
        fields: dict[str, Any] = {"n": self.random.randrange(3), "x": self.random.randrange(2), "l": [self.random.randrange(3)]}
        if self.random.random() < 0.2:
            fields["large"] = "x" * 60
        return {name: fields[name] for name in sorted(fields) if self.random.random() < 0.8 or name == "n"}

    def _version(self, key: str) -> int:
        newest = self.paper.count(key)
        return max(0, newest + self.random.choice((0, 0, 0, -1, -1, -2, -5, 1)))


def outcome(rule: Any, store: DictionaryStore, command: Any, policy: Settings) -> Any:
    try:
        return store.transact_blocking(lambda rows, now: rule(rows, command, now, policy))
    except CoordError as error:
        return type(error), error.message


def one_by_one(seed: int, policy: Settings) -> tuple[Batches, list[Any], Any]:
    """A program, drawn while it runs, checked against the paper after each command: its batches, answers and rows."""
    maker, clock = Maker(seed), Ticking()
    store = DictionaryStore(settings=policy, data=DictionaryData(), clock=clock)
    scan = all_rows(lambda range: store.transact_blocking(lambda rows, now: rows.scan(range)))
    batches: Batches = []
    answers = []
    while sum(map(len, batches)) < COMMANDS:
        batch: list[Any] = []
        for _ in range(maker.random.randint(1, 12)):
            command = maker.command()
            batch.append(command)
            answers.append(answer := outcome(RULES[type(command)], store, command, policy))
            agree(maker.paper, command, answer)
            maker.paper.check(scan, policy.history)
        batches.append(batch)
        clock.now += 1.0
    return batches, answers, {table.name: scan(table) for table in TABLES}


def agree(paper: Paper, command: Any, answer: Any) -> None:
    refused: type[CoordError] | None = None
    try:
        paper.apply(command)
    except Refused as error:
        refused = error.kind
    got = answer[0] if isinstance(answer, tuple) and isinstance(answer[0], type) else None
    assert got is refused, f"{command}: {answer}"


async def batch_by_batch(store: Store, batches: Batches, clock: Ticking, policy: Settings) -> tuple[list[Any], Any]:
    answers = []
    for batch in batches:
        entries = [Entry(RULES[type(command)], command, asyncio.get_running_loop().create_future(), ()) for command in batch]
        folded, _ = await store.transact(_Fold(entries, policy, None))
        assert len(folded) == len(batch)
        answers += [value if error is None else (type(error), str(error)) for value, error in folded]
        clock.now += 1.0
    return answers, {table.name: (await store.read(Range(table, "key")))[0] for table in TABLES}


def seeds(chunk: int) -> Iterator[int]:
    return iter(range(SEED + chunk, SEED + PROGRAMS, CHUNKS))


@pytest.mark.parametrize("chunk", range(CHUNKS))
async def test_what_the_promises_say_is_what_happens_and_a_batch_is_its_commands_one_by_one(chunk: int, tmp_path: Path) -> None:
    for seed in seeds(chunk):
        policy = Settings(history=seed % 4, blob_from=60, batch_seconds=60.0)
        batches, answers, rows = one_by_one(seed, policy)
        for collecting in (False, True):
            clock = Ticking()
            store = DictionaryStore(settings=policy, data=DictionaryData(), clock=clock, collecting=collecting)
            assert await batch_by_batch(store, batches, clock, policy) == (answers, rows), f"seed {seed}"
        if seed % ON_DISK == 0:
            clock = Ticking()
            on_disk = await SqliteStore.open(tmp_path / f"{seed}.db", "default", policy, clock)
            try:
                assert await batch_by_batch(on_disk, batches, clock, policy) == (answers, rows), f"seed {seed}, on disk"
            finally:
                await on_disk.close()
