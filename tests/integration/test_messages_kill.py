"""Receivers in real processes, killed in the middle: what they did not acknowledge comes again, what they did never does."""

from __future__ import annotations

import asyncio
import json
import sys
from asyncio.subprocess import PIPE
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from autogen_coord import Coordination, StaleClaimError
from autogen_coord.settings import Settings
from tests.conftest import until
from tests.integration.processes import ROOT, Child

SHORT = Settings(beat=0.15, suspect_after=0.4, session_ttl=0.6, trust_margin=0.1)


@asynccontextmanager
async def receiver(store: Path) -> AsyncIterator[Child]:
    """A `message_process`; killed at the end."""
    given = json.dumps(SHORT.model_dump(exclude_unset=True))
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "tests.integration.workers.message_process", str(store), given, cwd=ROOT, stdin=PIPE, stdout=PIPE
    )
    try:
        child = Child(process)
        assert (await child.line()).startswith("ready")
        yield child
    finally:
        if process.returncode is None:
            process.kill()
        await process.communicate()


@pytest.mark.process
@pytest.mark.timeout(60)
async def test_what_a_killed_receiver_did_not_acknowledge_comes_again_and_the_rest_does_not(tmp_path: Path) -> None:
    store = tmp_path / "coord.db"
    async with Coordination.open(store, settings=SHORT) as coord, receiver(store) as child:
        await coord.receive("writer", timeout=0)
        ids = []
        for body in ("one", "two", "three"):
            (posted,) = await coord.send("writer", body)
            ids.append(posted.id)
            await child.tell("take")
            assert (await child.line()).split() == ["take", posted.id, "1", body]
        await child.tell("done")
        assert await child.line() == f"done {ids[0]}"
        child.process.kill()
        async with asyncio.timeout(30):
            again = [await coord.receive("writer") for _ in range(2)]
        assert [(one.id, one.attempt, one.body) for one in again if one is not None] == [(ids[1], 2, "two"), (ids[2], 2, "three")]
        assert await coord.receive("writer", timeout=0) is None
        for message in again:
            assert message is not None
            await message.ack()
        assert [(await coord.task(id)).state for id in ids] == ["succeeded"] * 3


@pytest.mark.process
@pytest.mark.timeout(60)
async def test_a_receiver_that_kills_its_process_each_time_is_a_dead_letter_in_the_end(tmp_path: Path) -> None:
    store = tmp_path / "coord.db"
    async with Coordination.open(store, settings=SHORT) as coord:
        await coord.receive("writer", timeout=0)
        (poison,) = await coord.send("writer", "poison", priority=10)
        (behind,) = await coord.send("writer", "behind")
        for attempt in range(1, SHORT.crash_limit + 1):
            async with receiver(store) as child:
                await child.tell("take")
                assert (await child.line()).split() == ["take", poison.id, str(attempt), "poison"]
                child.process.kill()
                await child.process.wait()

                async def returned(attempt: int = attempt) -> bool:
                    info = await coord.task(poison.id)
                    return info.state != "running" and info.crashes == attempt

                await until(returned, 30)
        assert (await coord.task(poison.id)).state == "failed"
        async with asyncio.timeout(30):
            message = await coord.receive("writer")
        assert message is not None
        assert (message.id, message.attempt) == (behind.id, 1)


@pytest.mark.process
@pytest.mark.timeout(60)
async def test_a_request_is_answered_by_the_next_receiver_when_the_first_was_killed(tmp_path: Path) -> None:
    store = tmp_path / "coord.db"
    async with Coordination.open(store, settings=SHORT) as coord, receiver(store) as first:
        await coord.receive("writer", timeout=0)
        asking = asyncio.create_task(coord.request("writer", "sum", timeout=40))
        await first.tell("take")
        assert (await first.line()).endswith("1 sum")
        async with receiver(store) as second:
            await second.tell("answer")
            first.process.kill()
            assert await asking == "sum"
            assert (await second.line()).endswith("2 sum")


@pytest.mark.process
@pytest.mark.timeout(60)
async def test_a_process_that_ends_in_order_gives_back_what_it_holds(tmp_path: Path) -> None:

    store = tmp_path / "coord.db"
    async with Coordination.open(store, settings=SHORT) as coord, receiver(store) as child:
        await coord.receive("writer", timeout=0)
        (posted,) = await coord.send("writer", "x")
        await child.tell("take")
        await child.line()
        await child.end()  # an orderly close: given back, not crashed
        async with asyncio.timeout(30):
            message = await coord.receive("writer")
        assert message is not None
        info = await coord.task(posted.id)
        assert (message.attempt, info.crashed, info.crashes) == (2, 0, 0)
        assert await coord.cancel(message.id)
        await until(lambda: _ended(coord, message.id))
        with pytest.raises(StaleClaimError):
            await message.ack()


async def _ended(coord: Coordination, id: str) -> bool:
    return (await coord.task(id)).finished_at is not None
