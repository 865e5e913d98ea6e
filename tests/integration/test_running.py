"""`run`: a signal closes a program in order, once, and without noise."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from asyncio.subprocess import PIPE
from pathlib import Path

import pytest

from autogen_coord import Coordination
from autogen_coord.core.events import Kind
from tests.integration.processes import ROOT

PROGRAM = """
import asyncio, sys
from autogen_coord import Coordination, capability, run

@capability
async def slow(text: str) -> str:
    print("begun", flush=True)
    try:
        await asyncio.sleep(60)
    except asyncio.CancelledError:
        await asyncio.sleep(0.2)  # the close takes a while
        raise
    return text

async def main() -> None:
    async with Coordination.open(sys.argv[1]) as coord:
        await coord.provide(slow)
        await coord.submit(slow, "x")
        await asyncio.Event().wait()

run(main())
"""


async def ended_by(store: Path, *signals: signal.Signals) -> tuple[int, str]:
    """How the program ends when these come, one soon after the other: its status, and what it says on standard error."""
    process = await asyncio.create_subprocess_exec(sys.executable, "-c", PROGRAM, str(store), cwd=ROOT, stdout=PIPE, stderr=PIPE)
    assert process.stdout is not None
    assert await process.stdout.readline() == b"begun\n"
    for which in signals:
        os.kill(process.pid, which)
        await asyncio.sleep(0.05)
    _, said = await asyncio.wait_for(process.communicate(), 20)
    assert process.returncode is not None
    return process.returncode, said.decode()


async def goodbyes(store: Path) -> int:
    async with Coordination.open(store) as coord:
        return len([event async for event in coord.events(0, [Kind.SESSION_CLOSED], follow=False)])


@pytest.mark.process
@pytest.mark.timeout(60)
@pytest.mark.parametrize(
    ("signals", "status"),
    [
        ((signal.SIGTERM,), 143),
        ((signal.SIGTERM, signal.SIGTERM), 143),
        ((signal.SIGTERM, signal.SIGTERM, signal.SIGTERM), 143),
        ((signal.SIGINT,), 130),
        ((signal.SIGINT, signal.SIGTERM), 130),
    ],
)
async def test_a_signal_closes_in_order_whatever_terms_follow_and_silently(
    tmp_path: Path, signals: tuple[signal.Signals, ...], status: int
) -> None:
    store = tmp_path / "coord.db"
    assert await ended_by(store, *signals) == (status, "")
    assert await goodbyes(store) == 1


@pytest.mark.process
@pytest.mark.timeout(60)
async def test_a_second_ctrl_c_ends_at_once(tmp_path: Path) -> None:
    status, _ = await ended_by(tmp_path / "coord.db", signal.SIGINT, signal.SIGINT)
    assert status in (130, -signal.SIGINT)
