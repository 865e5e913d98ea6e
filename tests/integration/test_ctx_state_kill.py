"""Workers are killed at random moments: what their handlers wrote is there for each task that ended well, once, for no other."""

from __future__ import annotations

import asyncio
import json
import os
import random
import signal
import sys
import time
from asyncio.subprocess import PIPE
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from autogen_coord import Coordination, RetryPolicy, TaskHandle
from autogen_coord.core.events import Kind
from autogen_coord.settings import Settings
from tests.conformance.lock_holders import free
from tests.integration.processes import ROOT, Child
from tests.integration.workers.effects_process import LEDGERS, book

SHORT = Settings(beat=0.1, suspect_after=0.3, session_ttl=0.5, trust_margin=0.1, crash_limit=100, history=1_000)
OFTEN = RetryPolicy(tries=1_000, backoff=0.01, cap=0.05)
WORKERS = 3


class Stem(Child):
    """Where the workers come from."""

    async def worker(self) -> int:
        await self.tell("start")
        word, pid = (await self.line()).split()
        assert word == "ready"
        return int(pid)


@asynccontextmanager
async def stem(path: Path) -> AsyncIterator[Stem]:
    given = json.dumps(SHORT.model_dump(exclude_unset=True))
    started = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "tests.integration.workers.effects_process", str(path), given, cwd=ROOT, stdin=PIPE, stdout=PIPE
    )
    try:
        child = Stem(started)
        yield child
        await child.end()
    finally:
        if started.returncode is None:
            started.kill()
        await started.communicate()


async def kill_rounds(coord: Coordination, path: Path, seed: int, rounds: int) -> list[TaskHandle[int]]:
    """Kill one of the workers at a random moment, and start another, while tasks keep coming; then let all of them end."""
    draw, handles = random.Random(seed), list[TaskHandle[int]]()
    async with stem(path) as source:
        pids = [await source.worker() for _ in range(WORKERS)]
        for _ in range(rounds):
            handles += [await coord.submit(book, len(handles) + number, retry=OFTEN) for number in range(draw.randrange(4, 9))]
            await asyncio.sleep(draw.uniform(0, 0.12))
            os.kill(pids.pop(draw.randrange(WORKERS)), signal.SIGKILL)
            pids.append(await source.worker())
        async with asyncio.timeout(30):
            await asyncio.gather(*(handle.result() for handle in handles))
    return handles


@pytest.mark.process
@pytest.mark.timeout(60)
@pytest.mark.parametrize("seed", [1, 2])
async def test_what_handlers_wrote_is_in_step_with_how_their_tasks_ended(seed: int, tmp_path: Path) -> None:
    path, rounds, began = tmp_path / "coord.db", 40, time.monotonic()
    async with Coordination.open(path, settings=SHORT) as coord:
        handles = await kill_rounds(coord, path, seed, rounds)
        infos = [await handle.info() for handle in handles]
        crashed = Counter(attempt.end for info in infos for attempt in info.attempts)
        print(f"seed {seed}: {rounds} kills, {len(handles)} tasks, ends {dict(crashed)}, {time.monotonic() - began:.1f} s")
        assert crashed["crashed"] > 0, "no kill struck a running task: this shows nothing"
        count = len(handles)

        booked = await coord.state.list("booked", limit=10_000)
        assert {one.key: (one.version, one.value["attempt"]) for one in booked} == {
            f"booked/{info.id}": (1, info.attempt) for info in infos
        }
        total = await coord.state.get("sums/all")
        assert total is not None
        assert (total.value, total.version) == ({"count": count}, count)
        ledgers = await coord.state.list("ledgers")
        of = Counter(number % LEDGERS for number in range(count))
        assert {one.key: (one.value, one.version) for one in ledgers} == {
            f"ledgers/{number}": (many, many) for number, many in of.items()
        }
        await _in_step(coord)
        await free(coord)


async def _in_step(coord: Coordination) -> None:
    """The log says it too: each outcome stands right behind the three documents that were written with it."""
    events = [event async for event in coord.events(0, [Kind.STATE_CHANGED, Kind.TASK_COMPLETED], follow=False)]
    assert len(events) % 4 == 0
    for start in range(0, len(events), 4):
        *changed, end = events[start : start + 4]
        assert end.kind == Kind.TASK_COMPLETED
        assert [event.number for event in changed] == [end.number - 3, end.number - 2, end.number - 1]
        assert changed[0].subject == f"booked/{end.subject}"
