"""Shared state between real processes: what one writes, another's cache, conversation and progress."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import pytest

from autogen_coord import CachePolicy, Coordination, Settings
from tests.integration.processes import Child, started

pytestmark = pytest.mark.process
MODULE = "tests.integration.workers.shared_state_process"
LATE = 2.0
"""Seconds that this process may stand still on a busy machine."""


@asynccontextmanager
async def children(path: Path, count: int) -> AsyncIterator[list[Child]]:
    async with AsyncExitStack() as stack:
        found = [await stack.enter_async_context(started(str(path), json.dumps({"drain": 5.0}), MODULE)) for _ in range(count)]
        for child in found:
            assert await child.line() == "open"
        yield found


async def put(child: Child, key: str, value: object) -> float:
    """Written by the other process; the moment from which on everybody may know."""
    await child.tell(f"put {key} {json.dumps(value)}")
    assert (await child.line()).startswith("put ")
    return asyncio.get_running_loop().time()


async def test_a_cached_read_obeys_its_policy_when_another_process_writes(tmp_path: Path) -> None:
    path, loop = tmp_path / "coord.db", asyncio.get_running_loop()
    async with Coordination.open(path, settings=Settings()) as coord, children(path, 1) as (writer,):
        async with (
            coord.state.cached(CachePolicy.IMMEDIATE) as immediate,
            coord.state.cached(CachePolicy.EVENTUAL, ttl=0.5) as eventual,
            coord.state.cached(CachePolicy.PERIODIC, every=0.2) as periodic,
        ):
            assert immediate.stats.staleness == 0.05
            late: list[float] = []
            stale = 0
            for number in range(20):
                await eventual.get("a")
                await periodic.get("a")
                await immediate.get("a")
                written = await put(writer, "a", number)
                while await immediate.value("a") != number:
                    assert loop.time() - written < immediate.stats.staleness + LATE
                    await asyncio.sleep(0.001)
                late.append(loop.time() - written)
                stale += await eventual.value("a") != number
                while await periodic.value("a") != number:
                    assert loop.time() - written < periodic.stats.staleness + LATE
                    await asyncio.sleep(0.001)
            assert sorted(late)[len(late) // 2] < immediate.stats.staleness
            assert stale > 0  # it may be, and is
            written = await put(writer, "a", "last")
            while await eventual.value("a") != "last":
                assert loop.time() - written < eventual.stats.staleness + LATE
                await asyncio.sleep(0.005)
            assert eventual.stats.hits > eventual.stats.misses
        await writer.end()


async def test_fifty_appenders_in_three_processes_number_a_conversation_without_gaps(tmp_path: Path) -> None:
    path = tmp_path / "coord.db"
    async with Coordination.open(path, settings=Settings()) as coord, children(path, 3) as processes:
        for place, child in enumerate(processes):
            await child.tell(f"append talk p{place} 17 0")
        said = [await child.line() for child in processes]
        numbers = [json.loads(line.removeprefix("appended ")) for line in said]
        assert sorted(number for some in numbers for number in some) == list(range(1, 52))
        messages = await coord.state.thread("talk").page()
        assert [message.number for message in messages] == list(range(1, 52))
        for place, some in enumerate(numbers):
            own = {message.number: message.value for message in messages if message.value[0] == f"p{place}"}
            assert sorted(own) == sorted(some)
            assert sorted(value[1] for value in own.values()) == list(range(17))
        for child in processes:
            await child.end()


async def test_processes_that_append_and_summarise_at_once_lose_nothing_and_summarise_nothing_twice(tmp_path: Path) -> None:
    path = tmp_path / "coord.db"
    async with Coordination.open(path, settings=Settings()) as coord, children(path, 3) as processes:
        for turn in range(4):
            for place, child in enumerate(processes):
                await child.tell(f"append talk p{place}.{turn} 12 6")
            for child in processes:
                assert (await child.line()).startswith("appended ")
            recalled = await coord.state.thread("talk").recall()
            assert recalled.summary == list(range(1, recalled.summarised + 1))
            assert [one.number for one in recalled.messages] == list(range(recalled.summarised + 1, 36 * (turn + 1) + 1))
            assert recalled.summarised > 0
        for child in processes:
            await child.end()


async def test_steps_of_three_processes_are_all_in_the_progress(tmp_path: Path) -> None:
    path = tmp_path / "coord.db"
    async with Coordination.open(path, settings=Settings()) as coord, children(path, 3) as processes:
        for place, child in enumerate(processes):
            await child.tell(f"steps flow p{place}. 15")
        for child in processes:
            assert await child.line() == "stepped"
        view = await coord.state.progress("flow").view()
        assert len(view.completed) == 45
        assert view.pending == ("shared",)
        assert sorted(view.scores["shared"]) == sorted([*range(15)] * 3)
        for child in processes:
            await child.end()
