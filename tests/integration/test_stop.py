"""SIGSTOP of a process on the file: outside its transaction it is dead to the others; inside, it freezes them, and nobody dies."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
import time
from asyncio.subprocess import PIPE
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from autogen_coord import Coordination
from autogen_coord.core.events import Event, Kind
from autogen_coord.errors import StoreUnavailableError
from autogen_coord.settings import Settings
from tests.integration.processes import ROOT, Child
from tests.integration.workers.stop_process import whoami

SHORT = Settings(beat=0.15, suspect_after=0.4, session_ttl=0.6, trust_margin=0.1, store_wait=1.0)


@asynccontextmanager
async def worker(store: Path, settings: Settings = SHORT) -> AsyncIterator[Child]:
    """A `stop_process`; continued and killed at the end, whatever became of it."""
    given = json.dumps(settings.model_dump(exclude_unset=True))
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "tests.integration.workers.stop_process", str(store), given, cwd=ROOT, stdin=PIPE, stdout=PIPE
    )
    try:
        yield Child(process)
    finally:
        if process.returncode is None:
            process.kill()
        await process.communicate()


async def until(child: Child, *words: str) -> list[str]:
    """The next line that begins with one of the words; others are passed over."""
    while line := await child.line():
        if line.split()[0] in words:
            return line.split()
    raise AssertionError(f"it ended without saying one of {words}")


async def log_of(coord: Coordination, kind: str) -> list[Event]:
    return [event async for event in coord.events(0, [kind], follow=False)]


async def stop_outside(child: Child, coord: Coordination) -> None:
    """Stop it at a moment when it holds nobody up: if it does, let it go on a little and try again."""
    for _ in range(20):
        os.kill(child.process.pid, signal.SIGSTOP)
        try:
            await asyncio.wait_for(coord.cancel((await coord.submit(whoami, False, delay=60)).id), 0.3)
            return
        except (StoreUnavailableError, TimeoutError):
            os.kill(child.process.pid, signal.SIGCONT)
            await asyncio.sleep(0.01)
    raise AssertionError("it was in its transaction each time")


@pytest.mark.process
@pytest.mark.timeout(60)
async def test_a_process_stopped_outside_its_transaction_is_replaced_refused_and_comes_back(tmp_path: Path) -> None:
    path = tmp_path / "coord.db"
    async with worker(path) as child, Coordination.open(path, settings=SHORT) as coord:
        first = (await until(child, "ready"))[1]
        handle = await coord.submit(whoami, True)
        assert await until(child, "runs") == ["runs", handle.id, "1"]
        await stop_outside(child, coord)
        await coord.provide(whoami)

        assert await handle.result(timeout=20) == os.getpid()
        info = await handle.info()
        assert info.attempt == 2
        assert [event.subject for event in await log_of(coord, Kind.SESSION_DEAD)] == [first]
        await coord.withdraw(whoami)

        os.kill(child.process.pid, signal.SIGCONT)
        told = {(await until(child, "refused", "lost"))[0] for _ in range(2)}
        assert told == {"refused", "lost"}
        assert await coord.call(whoami, False, timeout=20) == child.process.pid
        await child.tell("who")
        second = (await until(child, "session"))[1]
        assert second != first
        assert await handle.result() == os.getpid()
        ended = [event.subject for event in await log_of(coord, Kind.TASK_COMPLETED)]
        assert ended.count(handle.id) == 1
        opened = [event.subject for event in await log_of(coord, Kind.SESSION_OPENED)]
        assert second in opened
        assert len(opened) == 3
        await child.end()


@pytest.mark.process
@pytest.mark.timeout(60)
async def test_a_process_stopped_inside_its_transaction_freezes_the_others_and_nobody_is_declared_dead(tmp_path: Path) -> None:
    path = tmp_path / "coord.db"
    async with worker(path) as child, Coordination.open(path, settings=SHORT) as coord:
        await until(child, "ready")
        await asyncio.sleep(2 * SHORT.session_ttl)  # so that both are old enough to judge
        await child.tell("freeze")
        await until(child, "inside")

        began = time.monotonic()
        while time.monotonic() - began < 3 * SHORT.session_ttl:
            asked = time.monotonic()
            with pytest.raises(StoreUnavailableError, match="continue or kill it"):
                await coord.submit(whoami, False)
            assert time.monotonic() - asked < SHORT.store_wait * 5  # behind the other commands of its line, each with its wait
        assert len(await log_of(coord, Kind.SESSION_OPENED)) == 2  # reads wait for nobody

        os.kill(child.process.pid, signal.SIGCONT)
        await until(child, "thawed")
        assert await coord.call(whoami, False, timeout=20) == child.process.pid
        await coord.provide(whoami)
        await asyncio.sleep(2 * SHORT.session_ttl)
        assert await log_of(coord, Kind.SESSION_DEAD) == []
        assert len(await log_of(coord, Kind.SESSION_OPENED)) == 2
        await child.end()


@pytest.mark.process
@pytest.mark.timeout(60)
async def test_a_process_killed_while_it_is_stopped_inside_its_transaction_frees_the_others(tmp_path: Path) -> None:
    path = tmp_path / "coord.db"
    async with worker(path) as child, Coordination.open(path, settings=SHORT) as coord:
        await until(child, "ready")
        await child.tell("freeze")
        await until(child, "inside")
        with pytest.raises(StoreUnavailableError):
            await coord.submit(whoami, False)
        child.process.kill()
        await child.process.wait()
        await coord.provide(whoami)
        assert await coord.call(whoami, False, timeout=20) == os.getpid()
