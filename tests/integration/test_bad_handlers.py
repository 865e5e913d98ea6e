"""Handlers that hurt their process: they exit, stop the loop, fork. Real processes on one file.

The file is its own helper: ``python -m tests.integration.test_bad_handlers PATH NAME`` is a worker that provides one of them.
"""

from __future__ import annotations

import asyncio
import multiprocessing
import os
import sys
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from autogen_coord import (
    Capability,
    ConfigError,
    Coordination,
    RetryPolicy,
    Settings,
    TaskContext,
    TaskCrashedError,
    capability,
)
from tests.conftest import QUICK, soon, until
from tests.integration.processes import Child, started

pytestmark = [pytest.mark.process, pytest.mark.timeout(60)]
MODULE = "tests.integration.test_bad_handlers"
TIMES: dict[str, Any] = {"beat": 0.2, "suspect_after": 0.5, "session_ttl": 1.0, "trust_margin": 0.2, "loop_tick": 0.5}
SETTINGS = Settings(**QUICK, **TIMES, crash_limit=2, suspect_patience=30)


@capability("work")
async def leave(text: str) -> str:
    if text == "poison":
        os._exit(7)
    await asyncio.sleep(0.3)
    return f"{text} from {os.getpid()}"


@capability("work")
async def block(text: str, ctx: TaskContext) -> str:
    if text == "block":
        print("blocks", flush=True)
        time.sleep(2.5)
    return f"{text} from {os.getpid()}"


@capability("work")
async def honest(text: str) -> str:
    return f"{text} from {os.getpid()}"


HANDLERS: dict[str, Capability[str, str]] = {"leave": leave, "block": block, "honest": honest}


async def worker(path: str, name: str) -> None:
    async with Coordination.open(path, settings=SETTINGS) as coord:
        await coord.provide(HANDLERS[name])
        print("ready", flush=True)
        await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)
        print(coord.session, flush=True)


@pytest.fixture
async def coord(tmp_path: Path) -> AsyncIterator[Coordination]:
    async with Coordination.open(tmp_path / "coord.db", settings=SETTINGS) as coord:
        yield coord


async def ready(child: Child) -> None:
    assert await child.line() == "ready"


async def test_a_task_that_ends_its_process_becomes_a_suspect_runs_alone_and_is_given_up(
    coord: Coordination, tmp_path: Path
) -> None:
    path = str(tmp_path / "coord.db")
    async with started(path, "leave", MODULE) as first, soon(50):
        await ready(first)
        innocent = await coord.submit("work", "innocent", returns=str)
        poison = await coord.submit("work", "poison", returns=str)
        assert await first.process.wait() == 7
        lives = 0
        while (await poison.info()).state != "failed":
            async with started(path, "leave", MODULE) as next_one:
                await ready(next_one)
                ended = asyncio.ensure_future(next_one.process.wait())
                failed = asyncio.ensure_future(ended_badly(coord, poison.id))
                await asyncio.wait([ended, failed], return_when=asyncio.FIRST_COMPLETED)
                failed.cancel()
                lives += ended.done()
        with pytest.raises(TaskCrashedError):
            await poison.result()
        info = await poison.info()
        assert (info.crashes, info.failures) == (2, 0)
        assert [one.end for one in info.attempts] == ["crashed", "crashed", "failed"]
        assert lives == 2
        async with started(path, "honest", MODULE) as healer:
            await ready(healer)
            assert (await innocent.result()).startswith("innocent from")
        assert (await innocent.info()).crashes == 0


async def ended_badly(coord: Coordination, id: str) -> None:
    async def failed() -> bool:
        return (await coord.task(id)).state == "failed"

    await until(failed, 40)


async def test_a_handler_that_blocks_its_loop_loses_its_session_and_its_late_finish_is_refused(
    coord: Coordination, tmp_path: Path
) -> None:
    path = str(tmp_path / "coord.db")
    async with started(path, "block", MODULE) as blocker, soon(50):
        await ready(blocker)
        handle = await coord.submit("work", "block", returns=str)
        assert await blocker.line() == "blocks"
        async with started(path, "honest", MODULE) as healthy:
            await ready(healthy)
            assert await handle.result() == f"block from {healthy.process.pid}"  # while the other still blocks
            info = await handle.info()
            assert [one.end for one in info.attempts] == ["crashed", "succeeded"]
            lost = info.attempts[0].session
            # the blocked one comes back: what it says is refused, and it takes a new session
            events = coord.events(0, ["session.opened", "task.completed"])
            opened = 0
            async for event in events:
                opened += event.kind == "session.opened"
                if opened == 4:  # ours, the blocker's, the healthy one's, the blocker's second
                    break
            (session,) = await blocker.end()
            assert session != lost
            done = [event async for event in coord.events(0, ["task.completed"], follow=False)]
            assert [event.subject for event in done] == [handle.id]
            assert await handle.result() == f"block from {healthy.process.pid}"


async def test_a_blocked_loop_that_comes_back_in_time_loses_nothing(coord: Coordination) -> None:
    """Shorter than `loop_tick` and the lease: the beat thread bridges it."""

    @capability("nap")
    async def nap(text: str) -> str:
        time.sleep(0.4)
        return text

    await coord.provide(nap)
    session = coord.session
    async with soon():
        assert await coord.call(nap, "x", retry=RetryPolicy(tries=1)) == "x"
    assert coord.session == session


def use_in_child(coord: Coordination, queue: Any) -> None:
    async def use() -> list[str]:
        said = []
        for ask in (
            lambda: coord.submit(honest, "x"),
            lambda: coord.call(honest, "x"),
            lambda: coord.call("work", "x"),
            lambda: coord.task("none"),
            lambda: coord.cancel("none"),
            lambda: anext(coord.events()),
        ):
            try:
                async with asyncio.timeout(5):
                    await ask()
                said.append("went through")
            except BaseException as error:
                said.append(type(error).__name__)
        return said

    queue.put(asyncio.run(use()))


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
async def test_a_child_of_a_fork_is_told_and_the_parent_goes_on(coord: Coordination) -> None:
    await coord.provide(honest)
    fork = multiprocessing.get_context("fork")
    queue = fork.SimpleQueue()
    child = fork.Process(target=use_in_child, args=(coord, queue), daemon=True)
    child.start()
    try:
        async with soon(40):
            said = await asyncio.to_thread(queue.get)
    finally:
        child.kill()
        await asyncio.to_thread(child.join)
    assert said == [ConfigError.__name__] * 6
    async with soon():
        assert await coord.call(honest, "x") == f"x from {os.getpid()}"


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
async def test_a_handler_that_forks_does_no_harm(coord: Coordination) -> None:
    @capability("forks")
    async def forks(text: str, ctx: TaskContext) -> str:
        pid = os.fork()
        if pid == 0:
            os._exit(0)  # a child that leaves by `sys.exit` would run the parent's loop on: nobody should
        await asyncio.to_thread(os.waitpid, pid, 0)
        await ctx.progress(1.0)
        return text

    await coord.provide(forks)
    async with soon():
        assert await coord.call(forks, "x") == "x"
        assert await coord.call(forks, "y") == "y"


if __name__ == "__main__":
    asyncio.run(worker(sys.argv[1], sys.argv[2]))
