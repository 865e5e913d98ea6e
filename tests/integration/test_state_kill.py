"""Writers in real processes, killed at random moments: versions have no gap and no duplicate, and no acknowledged write is missing.

The long form: ``TEST_KILLS=200 TEST_SEED=7 pytest tests/integration/test_state_kill.py``.
"""

from __future__ import annotations

import asyncio
import json
import os
import random
import sys
import time
from asyncio.subprocess import PIPE, Process
from collections import defaultdict
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from autogen_coord import Coordination
from autogen_coord.core.documents import Document
from autogen_coord.core.events import Kind
from autogen_coord.settings import Settings
from tests.integration.processes import PATIENCE, ROOT
from tests.integration.workers.state_process import KEYS, PAIR, SUM, told

KILLS = int(os.environ.get("TEST_KILLS", "8"))
SEEDS = [int(os.environ["TEST_SEED"])] if "TEST_SEED" in os.environ else [1, 2]
LONGEST = 0.25
"""Seconds that a process writes, at most, before somebody is killed."""
SETTINGS = Settings(history=1_000_000, blob_from=200)
"""All versions are kept, so that each can be compared with what was said of it."""


@dataclass
class Said:
    """What writers acknowledged before they were killed."""

    versions: dict[str, dict[int, str]] = field(default_factory=lambda: defaultdict(dict))
    added: int = 0
    twice: list[str] = field(default_factory=list)

    def hear(self, line: str) -> None:
        if line == "added":
            self.added += 1
        elif line.startswith("wrote "):
            _, key, version, what = line.split()
            if int(version) in self.versions[key]:
                self.twice.append(line)
            self.versions[key][int(version)] = what

    @property
    def count(self) -> int:
        return self.added + sum(map(len, self.versions.values()))


class Writer:
    """A `state_process`, heard by a task of its own until its pipe ends."""

    def __init__(self, process: Process, said: Said) -> None:
        self.process = process
        self.ready = asyncio.Event()
        self._listening = asyncio.create_task(self._listen(said))

    @classmethod
    async def start(cls, store: Path, seed: str, said: Said) -> Writer:
        given = json.dumps(SETTINGS.model_dump(exclude_unset=True))
        arguments = ["-m", "tests.integration.workers.state_process", str(store), given, seed]
        return cls(await asyncio.create_subprocess_exec(sys.executable, *arguments, cwd=ROOT, stdout=PIPE), said)

    async def _listen(self, said: Said) -> None:
        assert self.process.stdout is not None
        async for line in self.process.stdout:
            if not line.endswith(b"\n"):
                break  # killed while it said it
            self.ready.set()
            said.hear(line.decode().strip())

    async def kill(self) -> None:
        assert self.process.returncode is None, "it ended by itself"
        self.process.kill()
        await self._listening
        await self.process.wait()


async def rounds(store: Path, seed: int, kills: int) -> Said:
    """Three write; one of them is killed at a random moment, and another takes its place, again and again."""
    draw, said = random.Random(seed), Said()
    writers = [await Writer.start(store, f"{seed}.{number}", said) for number in range(3)]
    try:
        for number in range(kills):
            async with asyncio.timeout(PATIENCE):
                await asyncio.gather(*[writer.ready.wait() for writer in writers])
            await asyncio.sleep(draw.uniform(0, LONGEST))
            victim = writers.pop(draw.randrange(3))
            await victim.kill()
            writers.append(await Writer.start(store, f"{seed}.{number + 3}", said))
        for writer in writers:
            await writer.ready.wait()
    finally:
        for writer in writers:
            await writer.kill()
    return said


async def every_version(coord: Coordination, key: str) -> list[Document]:
    """The oldest first."""
    out: list[Document] = []
    while page := await coord.state.history(key, limit=1_000, before=out[-1].version if out else None):
        out += page
    return out[::-1]


def value(document: Document) -> str:
    return told(document.value)


@pytest.mark.process
@pytest.mark.timeout(60 + 2 * KILLS)
@pytest.mark.parametrize("seed", SEEDS)
async def test_killed_writers_leave_no_gap_no_duplicate_and_lose_nothing_that_was_acknowledged(seed: int, tmp_path: Path) -> None:
    store, began = tmp_path / "coord.db", time.monotonic()
    said = await rounds(store, seed, KILLS)
    async with Coordination.open(store, settings=SETTINGS) as coord:
        histories = {key: await every_version(coord, key) for key in (*KEYS, *PAIR, SUM)}
        told_of = [event async for event in coord.events(0, [Kind.STATE_CHANGED], follow=False)]
        now = {key: await coord.state.get(key) for key in histories}
    assert not said.twice
    numbers = []
    for key, history in histories.items():
        assert [one.version for one in history] == list(range(1, len(history) + 1)), key
        assert now[key] == history[-1]
        kept = {one.version: value(one) for one in history}
        missing = {version: what for version, what in said.versions[key].items() if kept.get(version) != what}
        assert not missing, f"{key}: acknowledged, and not there"
        numbers += [one.number for one in history]
    assert sorted(numbers) == [event.number for event in told_of]
    # those that expected a version were made from the one before
    assert all(one.base == one.version - 1 for key in KEYS for one in histories[key])
    # all or none: both have the same, in the same order
    left, right = (list(map(value, histories[key])) for key in PAIR)
    assert left == right
    # the sum is made again from its history, and nothing that was added is lost
    assert list(map(value, histories[SUM])) == [str(number) for number in range(1, len(histories[SUM]) + 1)]
    assert len(histories[SUM]) >= said.added > 0
    written = sum(map(len, histories.values()))
    print(f"seed {seed}: {KILLS} kills, {said.count:,} writes acknowledged, {written:,} made, {time.monotonic() - began:.1f} s")
    assert said.count > 50 * KILLS, "too few writes to show anything"
