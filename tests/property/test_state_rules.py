"""Random programs of documents: SQLite = dictionary = collecting = one by one, the invariants hold; each planted fault is found.

``TEST_PROGRAMS=5000`` runs more of them, ``TEST_SEED=1000`` others. A failing program is made small
and printed; its seed alone runs it again: ``TEST_SEED=<seed> TEST_PROGRAMS=1 pytest tests/property/test_state_rules.py``.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any
from unittest import mock

import pytest

from autogen_coord.core import documents, snapshots
from autogen_coord.core.documents import Author
from autogen_coord.core.open_conflicts import THEIRS, Decide
from autogen_coord.core.pruning import Prune
from autogen_coord.core.snapshots import Drop
from autogen_coord.core.state import Edit, Write
from autogen_coord.core.store import Table
from autogen_coord.core.tables import BLOB, CONFLICT, DOCUMENT, DOCUMENT_CHANGE, SNAPSHOT
from autogen_coord.settings import Settings
from autogen_coord.stores.dictionary import store as dictionary
from autogen_coord.stores.sqlite.store import SqliteStore

from .faults import Fault, plant
from .invariants import Violation, require
from .programs import Command, Program
from .shrink import shrink
from .state_faults import FAULTS
from .state_invariants import StateWatch
from .state_programs import StateWorld, make, program
from .variants import Clock, Play, Step, Variant, _step, in_memory

PROGRAMS = int(os.environ.get("TEST_PROGRAMS", "120"))
SEED = int(os.environ.get("TEST_SEED", "0"))
CHUNKS = 4
ON_DISK = 8
"""One in so many programs runs on SQLite too."""
MOST = 300
"""How many programs a planted fault may survive."""

Others = Callable[[Settings, Clock], list[Variant]]
LAST = Author("s-last", "s-last")


class StatePlay(Play):
    """At the end no snapshot is left, all conflicts are decided, and all documents are deleted, and forgotten."""

    worlds = StateWorld
    watches = StateWatch
    make = staticmethod(make)

    def _epilogue(self) -> Iterator[Step]:
        rows = self.world.mirror.rows
        yield _step(0.0, *[Command("snapshots.drop", Drop(name)) for name in list(rows(SNAPSHOT))])
        for key in list(rows(DOCUMENT)):  # each history comes down to what is kept
            puts = [Write(f"c-last-{key}", (Edit(key, "put", "1", policy="reject", force=True),), LAST)] * (
                rows(DOCUMENT)[key].changes // 3 + 2
            )
            yield _step(0.0, *[Command("state.write", put) for put in puts])
            row = rows(DOCUMENT)[key]
            require(row.changes == min(self.policy.history, row.version - 1), "converges", row)
        yield _step(0.0, *[Command("open_conflicts.decide", Decide(id, THEIRS, None, LAST)) for id in list(rows(CONFLICT))])
        edits = tuple(Edit(key, "delete", None, force=True, missing_ok=True) for key in list(rows(DOCUMENT)))
        yield _step(0.0, Command("state.write", Write("c-last", edits, LAST)))
        yield _step(self.policy.keep_seconds + 1.0, *[Command("pruning.prune", Prune())] * (len(edits) // 16 + 1))
        tables: tuple[Table[Any], ...] = (DOCUMENT, DOCUMENT_CHANGE, SNAPSHOT, CONFLICT, BLOB)
        for table in tables:
            left = list(rows(table))
            require(not left, "leak", table, "is not empty:", left)


@pytest.fixture(autouse=True)
def _many_rounds(monkeypatch: pytest.MonkeyPatch) -> None:
    """A collecting store folds a batch of many commands as often as they need."""
    monkeypatch.setattr(dictionary, "ROUNDS", 200)


def play(program: Program, others: Others = in_memory, log: list[StatePlay] | None = None) -> StatePlay:
    """``log`` gets the play also when it fails."""
    clock = Clock()
    played = StatePlay(program, others(program.policy, clock), clock)
    if log is not None:
        log.append(played)
    run(played)
    return played


def run(played: StatePlay) -> None:
    """Limits that no program of this size comes to are small in some of them."""
    seed = played.program.seed
    assert isinstance(played.watch, StateWatch)
    with ExitStack() as stack:
        if seed % 3 == 0:
            stack.enter_context(mock.patch.object(documents, "MANY", 1))
            played.watch.many = 1
        if seed % 4 == 1:
            stack.enter_context(mock.patch.object(snapshots, "MEANWHILE", 4))
        played.run()


def explain(seed: int, violation: Violation) -> str:
    """The smallest program that fails in the same way, as it went."""
    small = shrink(program(seed), lambda candidate: violation_of(candidate) == violation.check)
    played: list[StatePlay] = []
    try:
        play(small, log=played)
    except Violation as last:
        return "\n".join([f"seed {seed}: {last}", f"policy: {small.policy!r}", *played[0].log])
    return f"seed {seed}: {violation}"


def violation_of(candidate: Program, others: Others = in_memory) -> str | None:
    try:
        play(candidate, others)
    except Violation as violation:
        return violation.check
    return None


def alone(policy: Settings, clock: Clock) -> list[Variant]:
    return []


@pytest.mark.timeout(600)
@pytest.mark.parametrize("chunk", range(CHUNKS))
def test_documents_in_a_batch_equal_those_one_by_one_and_the_invariants_hold(chunk: int) -> None:
    for seed in range(SEED + chunk, SEED + PROGRAMS, CHUNKS):
        try:
            play(program(seed))
        except Violation as violation:
            pytest.fail(explain(seed, violation), pytrace=False)


@pytest.mark.timeout(600)
async def test_sqlite_keeps_documents_like_the_dictionary(tmp_path: Path) -> None:
    for seed in range(SEED, SEED + PROGRAMS, ON_DISK):
        clock, one = Clock(), program(seed)
        store = await SqliteStore.open(tmp_path / "coord.db", f"program-{seed}", one.policy, clock)
        try:
            played = StatePlay(one, [Variant("sqlite", store, one.policy)], clock)
            run(played)
        except Violation as violation:
            pytest.fail("\n".join([f"seed {seed}: {violation}", *played.log]), pytrace=False)
        finally:
            await store.close()


@pytest.mark.timeout(60)
@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.name)
def test_a_planted_fault_of_documents_is_found(fault: Fault, monkeypatch: pytest.MonkeyPatch) -> None:
    plant(fault, monkeypatch)
    others = in_memory if {"rows", "answers of a batch", "batch"} & set(fault.checks) else alone
    found = (violation_of(program(seed), others) for seed in range(MOST))
    assert any(check in fault.checks for check in found), f"{MOST} programs did not notice"


def test_a_program_of_documents_is_drawn_from_its_seed_alone() -> None:
    assert program(7) == program(7)
    assert play(program(7)).log == play(program(7)).log


def test_a_failing_program_of_documents_is_made_small_and_fails_again(monkeypatch: pytest.MonkeyPatch) -> None:
    plant(next(fault for fault in FAULTS if fault.name == "a dropped version leaves its blob"), monkeypatch)
    seed = next(seed for seed in range(MOST) if violation_of(program(seed), alone) == "blobs")
    small = shrink(program(seed), lambda candidate: violation_of(candidate, alone) == "blobs")
    assert sum(len(batch.ops) for batch in small.batches) <= 4
    assert violation_of(small, alone) == "blobs"
