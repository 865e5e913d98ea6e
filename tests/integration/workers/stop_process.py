"""A worker made to be stopped: ``python -m tests.integration.workers.stop_process <store> <settings as json>``.

It provides `whoami` and says on its output how far it has come. A line ``freeze`` on its input makes it stop itself inside a
transaction; it ends when its input does.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import signal
import sys
import threading
import time

from autogen_coord import Coordination, TaskContext, capability
from autogen_coord.core.store import Rows
from autogen_coord.settings import Settings

WORK = 0.4
"""Seconds of a slow task."""


def say(*words: object) -> None:
    os.write(1, (" ".join(map(str, words)) + "\n").encode())  # whole lines, from any thread


@capability(max_concurrency=1)
async def whoami(slow: bool, ctx: TaskContext) -> int:
    """The pid of who ran it. A slow one holds the loop, so that nothing comes between its end and its report."""
    say("runs", ctx.task_id, ctx.attempt)
    if slow:
        time.sleep(WORK)
    return os.getpid()


class Told(logging.Handler):
    """Says what the process notices of its own fate."""

    def emit(self, record: logging.LogRecord) -> None:
        if record.msg.startswith("a result was dropped"):
            say("refused")
        elif "was declared dead" in record.msg:
            say("lost")


def freeze(rows: Rows, command: None, now: float, policy: Settings) -> None:
    """A rule that stops its process inside the transaction."""
    say("inside")
    signal.pthread_kill(threading.get_ident(), signal.SIGSTOP)  # to this thread: another might take it a moment too late


async def main(store: str, settings: Settings) -> None:
    logging.getLogger("autogen_coord").setLevel(logging.INFO)
    logging.getLogger("autogen_coord").addHandler(Told())
    async with Coordination.open(store, settings=settings) as coord:
        await coord.provide(whoami)
        say("ready", coord.session)
        while line := await asyncio.to_thread(sys.stdin.readline):
            if line.strip() == "freeze":
                assert coord._parts is not None
                await coord._parts.process.line.put(freeze, None)
                say("thawed")
            else:
                say("session", coord.session)


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], Settings(**json.loads(sys.argv[2]))))
