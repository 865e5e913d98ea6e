"""A process that holds locks, made to be killed and stopped.

``python -m tests.integration.workers.lock_process <store> <settings as json> <file>``

Each line of its input is a command, each line of its output says what came of it:

- ``hold``: wait for the lock, say ``held <token>``, keep it; ``lost`` when the lease was lost.
- ``scribble``: the same, and write the file again and again from then on; when the lease was lost, wait for the next.
- ``write <word>``: write the file under the last token, from a thread that nothing cancels: ``wrote``, ``refused <token> <seen>``.
- ``leave``: give it back.

It provides `edit` as well. It ends when its input does.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import sys
import threading
import time
from pathlib import Path

from autogen_coord import Coordination, FileFence, LeaseLostError, TaskContext, capability
from autogen_coord.settings import Settings

PATH = "docs/report.md"
WORDS = 4_000
PAUSED = 1.5
"""Seconds that a slow handler holds its loop before it writes."""


def say(*words: object) -> None:
    os.write(1, (" ".join(map(str, words)) + "\n").encode())  # whole lines, from any thread


def write(file: Path, word: str, token: int) -> bool:
    """Fill the file with a word, under a token; says when that was refused."""
    try:
        FileFence(file).write(f"{word} " * WORDS, token)
    except LeaseLostError as error:
        say("refused", error.token, error.seen)
        return False
    return True


@capability(max_concurrency=1)
async def edit(job: tuple[str, bool], ctx: TaskContext) -> int:
    """Write a file under its lock. A slow one holds its loop meanwhile, so that nothing stops it before its late write."""
    file, slow = job
    async with ctx.lock(PATH, wait=None) as lease:
        say("edits", ctx.attempt, lease.token)
        if slow and ctx.attempt == 1:
            time.sleep(PAUSED)
        if not write(Path(file), str(lease.token), lease.token):
            raise LeaseLostError("it wrote too late", lease=lease.id)
        return lease.token


class Told:
    """What the commands do."""

    def __init__(self, coord: Coordination, file: Path) -> None:
        self.coord = coord
        self.file = file
        self.token = 0
        self.leaves = asyncio.Event()

    async def hold(self, scribbles: bool) -> None:
        self.leaves.clear()
        try:
            async with self.coord.lock(PATH, wait=None) as lease:
                self.token = lease.token
                say("held", lease.token)
                if scribbles:
                    threading.Thread(target=self._scribble, args=(lease.token,), daemon=True).start()
                await self.leaves.wait()
            say("left")
        except LeaseLostError:
            say("lost")
            if scribbles:
                await self.hold(scribbles)

    def _scribble(self, token: int) -> None:
        while write(self.file, str(token), token):
            time.sleep(0.005)

    def obey(self, loop: asyncio.AbstractEventLoop) -> None:
        """Commands, in a thread: a write goes on whatever becomes of the loop."""
        for line in sys.stdin:
            what, _, word = line.strip().partition(" ")
            if what == "write":
                if write(self.file, word, self.token):
                    say("wrote")
            elif what == "leave":
                loop.call_soon_threadsafe(self.leaves.set)
            else:
                asyncio.run_coroutine_threadsafe(self.hold(what == "scribble"), loop)


async def main(store: str, settings: Settings, file: Path) -> None:
    async with Coordination.open(store, settings=settings) as coord:
        await coord.provide(edit)
        say("ready", coord.session)
        told = Told(coord, file)
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.to_thread(told.obey, asyncio.get_running_loop())


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], Settings(**json.loads(sys.argv[2])), Path(sys.argv[3])))
