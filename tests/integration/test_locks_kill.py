"""Holders in real processes, killed and stopped: the next one soon has the lock, and no late write gets through."""

from __future__ import annotations

import asyncio
import functools
import json
import os
import random
import signal
import sys
import time
from asyncio.subprocess import PIPE
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import pytest

from autogen_coord import Coordination, FileFence, StoreUnavailableError
from autogen_coord.core.events import Kind
from autogen_coord.settings import Settings
from tests.conftest import until
from tests.integration.processes import ROOT, Child
from tests.integration.workers.lock_process import PATH, WORDS, edit

SHORT = Settings(beat=0.15, suspect_after=0.4, session_ttl=0.6, trust_margin=0.1)
CALM = Settings(beat=0.25, suspect_after=0.6, session_ttl=1.0, trust_margin=0.2)
"""Long enough that nobody loses its lease by the load that three writers make."""
SLACK = 1.0
"""Seconds beyond the lease of a killed holder in which the next one has the lock."""


@asynccontextmanager
async def process(folder: Path, settings: Settings = SHORT) -> AsyncIterator[Child]:
    """A `lock_process`; continued and killed at the end, whatever became of it."""
    given = json.dumps(settings.model_dump(exclude_unset=True))
    arguments = ["-m", "tests.integration.workers.lock_process", str(folder / "coord.db"), given, str(folder / "report.md")]
    started = await asyncio.create_subprocess_exec(sys.executable, *arguments, cwd=ROOT, stdin=PIPE, stdout=PIPE)
    try:
        child = Child(started)
        await said(child, "ready")
        yield child
    finally:
        if started.returncode is None:
            started.kill()
        await started.communicate()


async def said(child: Child, *words: str) -> list[str]:
    """The next line that begins with one of the words; others are passed over."""
    while line := await child.line():
        if line.split()[0] in words:
            return line.split()
    raise AssertionError(f"it ended without saying one of {words}")


async def said_both(child: Child, one: str, other: str) -> dict[str, list[str]]:
    """The next lines that begin with these words, in whichever order they come: its loop and its threads speak as they can."""
    first = await said(child, one, other)
    second = await said(child, other if first[0] == one else one)
    return {line[0]: line for line in (first, second)}


def whole(folder: Path) -> str:
    """The one word of which the file consists."""
    words = (folder / "report.md").read_text().split()
    assert len(words) == WORDS
    assert len(set(words)) == 1
    return words[0]


async def next_holder(children: list[Child]) -> tuple[Child, int]:
    """Whoever of those that wait says first that it holds."""
    waits = {asyncio.ensure_future(said(child, "held")): child for child in children}
    done, rest = await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
    for wait in rest:
        wait.cancel()
    await asyncio.gather(*rest, return_exceptions=True)
    (first,) = done
    return waits[first], int(first.result()[1])


def _seen(folder: Path, token: int) -> bool:
    return FileFence(folder / "report.md").seen == token


async def kill_rounds(folder: Path, settings: Settings, rounds: int, seed: int) -> list[float]:
    """Kill who holds and scribbles, at a random moment, again and again; the seconds until the next one held."""
    draw, seconds, tokens = random.Random(seed), [], [0]
    (folder / "report.md").write_text("0 " * WORDS)  # the first may die before its first write
    async with AsyncExitStack() as stack:
        children = [await stack.enter_async_context(process(folder, settings)) for _ in range(3)]
        await asyncio.sleep(settings.session_ttl)  # so that those left are old enough to judge
        for child in children:
            await child.tell("scribble")
        holder, token = await next_holder(children)
        for _ in range(rounds):
            tokens.append(token)
            await asyncio.sleep(draw.uniform(0, 0.06))
            holder.process.kill()
            struck = time.monotonic()
            children.remove(holder)
            holder, token = await next_holder(children)
            seconds.append(time.monotonic() - struck)
            await until(functools.partial(_seen, folder, token))
            assert int(whole(folder)) in (*tokens, token)  # the newer one has begun; what is there is one write, whole
            children.append(await stack.enter_async_context(process(folder, settings)))
            await children[-1].tell("scribble")
        tokens.append(token)
        assert tokens == sorted(set(tokens))
        await until(lambda: int(whole(folder)) == token)
    return seconds


@pytest.mark.process
@pytest.mark.timeout(60)
@pytest.mark.parametrize("seed", [1, 2])
async def test_the_next_one_holds_soon_after_a_holder_is_killed_in_its_write_and_the_file_is_whole(
    seed: int, tmp_path: Path
) -> None:
    seconds = await kill_rounds(tmp_path, CALM, rounds=3, seed=seed)
    print(f"from SIGKILL to the next holder (ttl {CALM.session_ttl} s): {[round(each, 2) for each in seconds]}")
    assert max(seconds) < CALM.session_ttl + SLACK


@pytest.mark.process
@pytest.mark.timeout(60)
async def test_the_next_one_holds_soon_after_a_holder_is_killed_with_default_settings(tmp_path: Path) -> None:
    seconds = await kill_rounds(tmp_path, Settings(), rounds=1, seed=7)
    print(f"from SIGKILL to the next holder (ttl {Settings().session_ttl} s): {[round(each, 2) for each in seconds]}")
    assert max(seconds) < Settings().session_ttl + SLACK


async def stopped(child: Child, coord: Coordination) -> None:
    """Stop it at a moment when it holds nobody up: if it does, let it go on a little and try again."""
    for _ in range(20):
        os.kill(child.process.pid, signal.SIGSTOP)
        try:
            async with asyncio.timeout(0.3), coord.lock("probe"):
                return
        except (StoreUnavailableError, TimeoutError):
            os.kill(child.process.pid, signal.SIGCONT)
            await asyncio.sleep(0.01)
    raise AssertionError("it was in its transaction each time")


@pytest.mark.process
@pytest.mark.timeout(60)
async def test_a_holder_that_was_stopped_past_its_lease_writes_too_late(tmp_path: Path) -> None:
    file = FileFence(tmp_path / "report.md")
    async with process(tmp_path) as child, Coordination.open(tmp_path / "coord.db", settings=SHORT) as coord:
        await child.tell("hold")
        old = int((await said(child, "held"))[1])
        await child.tell("write early")
        await said(child, "wrote")
        await stopped(child, coord)
        began = time.monotonic()
        async with coord.lock(PATH, wait=20) as lease:
            waited = time.monotonic() - began
            assert lease.token > old
            file.write("new " * WORDS, lease.token)
            await child.tell("write late")
            os.kill(child.process.pid, signal.SIGCONT)
            both = await said_both(child, "refused", "lost")
            assert both == {"refused": ["refused", str(old), str(lease.token)], "lost": ["lost"]}
            assert whole(tmp_path) == "new"
        print(f"from SIGSTOP to the next holder (ttl {SHORT.session_ttl} s): {waited:.2f}")
        assert waited < SHORT.session_ttl + SLACK + 1  # this process must first have renewed for one ttl itself
        await child.tell("hold")  # it has another session, and goes on
        again = int((await said(child, "held"))[1])
        assert again > lease.token
        await child.tell("write again")
        await said(child, "wrote")
        await child.tell("leave")
        await said(child, "left")
        assert whole(tmp_path) == "again"
        await child.end()
        lost = [event async for event in coord.events(0, [Kind.RESOURCE_LOST], follow=False)]
        assert [event.data["token"] for event in lost] == [old]


@pytest.mark.process
@pytest.mark.timeout(60)
async def test_a_handler_that_was_stopped_past_its_lease_neither_writes_nor_answers(tmp_path: Path) -> None:
    """Its task ran elsewhere meanwhile; what it does when it goes on is refused by the file and by the store."""
    async with process(tmp_path) as child, Coordination.open(tmp_path / "coord.db", settings=SHORT) as coord:
        handle = await coord.submit(edit, (str(tmp_path / "report.md"), True))
        _, attempt, old = await said(child, "edits")
        assert attempt == "1"
        await stopped(child, coord)
        await coord.provide(edit)
        new = await handle.result(timeout=20)
        assert new > int(old)
        assert whole(tmp_path) == str(new)
        await coord.withdraw(edit)
        os.kill(child.process.pid, signal.SIGCONT)
        assert await said(child, "refused") == ["refused", old, str(new)]
        await child.tell("hold")
        await said(child, "held")  # it has another session, and goes on
        assert whole(tmp_path) == str(new)
        info = await handle.info()
        assert (info.attempt, info.state) == (2, "succeeded")
        await child.tell("leave")
        await said(child, "left")
        later = await coord.call(edit, (str(tmp_path / "report.md"), False), timeout=20)
        assert whole(tmp_path) == str(later)
        await child.end()


@pytest.mark.process
@pytest.mark.timeout(60)
async def test_two_processes_on_a_file_take_turns(tmp_path: Path) -> None:
    async with AsyncExitStack() as stack:
        children = [await stack.enter_async_context(process(tmp_path)) for _ in range(2)]
        await children[0].tell("hold")
        first = int((await said(children[0], "held"))[1])
        await children[1].tell("hold")
        await asyncio.sleep(0.05)
        began = time.monotonic()
        await children[0].tell("leave")
        second = int((await said(children[1], "held"))[1])
        seconds = time.monotonic() - began
        print(f"from a release to the next holder in another process: {seconds * 1000:.1f} ms")
        assert second > first
        assert seconds < 1
        await children[1].tell("leave")
        await said(children[1], "left")
        for child in children:
            await child.end()
