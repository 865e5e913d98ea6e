"""A process that forks workers, made to be killed: ``python -m tests.integration.workers.effects_process <store> <settings>``.

It has imported all it needs, so a worker is there at once. Each line of its input starts one; the worker says ``ready <pid>``. What
is left is killed when the input ends, and ends by itself when this process is killed.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import sys

from autogen_coord import Coordination, TaskContext, capability
from autogen_coord.settings import Settings

LEDGERS = 6


@capability("book", max_concurrency=4)
async def book(number: int, ctx: TaskContext) -> int:
    """Write in three ways what must be there once for each task that ends well. Every fourth fails once, when all is written."""
    ledger = f"ledgers/{number % LEDGERS}"
    await ctx.state.put(f"booked/{ctx.task_id}", {"attempt": ctx.attempt}, expected_version=0)
    await ctx.state.put("sums/all", {"count": 1}, reducers={"count": "add"})
    async with ctx.lock(ledger, wait=None) as lease:
        found = await ctx.state.value(ledger, 0)
        await asyncio.sleep(0.001 * (number % 4))
        await ctx.state.put(ledger, found + 1, fence=lease)
    await asyncio.sleep(0.002 * (number % 3))
    if number % 4 == 0 and ctx.attempt == 1:
        raise ValueError("the first time")
    return ctx.attempt


async def work(store: str, settings: Settings, parent: int) -> None:
    """Serve until killed. ``parent``: a pipe that ends with the process that started it."""
    asyncio.get_running_loop().add_reader(parent, os._exit, 1)
    async with Coordination.open(store, settings=settings) as coord:
        await coord.provide(book)
        os.write(1, f"ready {os.getpid()}\n".encode())
        await asyncio.Event().wait()


def main(store: str, settings: Settings) -> None:
    started: list[int] = []
    alive, hold = os.pipe()
    try:
        for _ in sys.stdin:
            pid = os.fork()
            if pid == 0:
                os.close(hold)
                asyncio.run(work(store, settings, alive))
                os._exit(0)
            started.append(pid)
    finally:
        for pid in started:
            with contextlib.suppress(ProcessLookupError):  # a child that is not waited for keeps its id
                os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)


if __name__ == "__main__":
    main(sys.argv[1], Settings(**json.loads(sys.argv[2])))
