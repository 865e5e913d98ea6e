"""Running a program so that SIGTERM ends it as Ctrl-C does: handlers are stopped, claims given back, goodbye said.

Docker, systemd and Kubernetes end a process so at every deploy. Without it SIGTERM is a crash: the tasks that ran wait for the end
of the lease, and run alone.
"""

from __future__ import annotations

import asyncio
import contextlib
import signal
from collections.abc import Coroutine
from typing import Any, TypeVar

T = TypeVar("T")


class Terminated(SystemExit):
    """SIGTERM came, and everything was put in order; left alone, it ends the process with status 143."""

    def __init__(self) -> None:
        super().__init__(128 + signal.SIGTERM)


class Interrupted(SystemExit, KeyboardInterrupt):
    """Ctrl-C came, and everything was put in order; left alone, it ends the process with status 130, without a traceback."""

    def __init__(self) -> None:
        super().__init__(128 + signal.SIGINT)


def run(main: Coroutine[Any, Any, T]) -> T:
    """``asyncio.run(main)``, but SIGTERM cancels ``main`` as Ctrl-C does, so that every ``async with Coordination.open(...)``
    closes in order. A second SIGTERM does not disturb that; a second Ctrl-C ends at once.

    Raises: Terminated and Interrupted (which are a SystemExit, the latter a KeyboardInterrupt too), and what ``main`` raises.
    """
    told: list[signal.Signals] = []

    async def minding() -> T:
        def tell(which: signal.Signals) -> None:
            told.append(which)
            if len(told) == 1:
                task.cancel()
            elif which == signal.SIGINT:
                raise KeyboardInterrupt

        task = asyncio.ensure_future(main)
        loop = asyncio.get_running_loop()
        with contextlib.suppress(NotImplementedError, RuntimeError):  # Windows, and other threads, have no such handlers
            for which in (signal.SIGTERM, signal.SIGINT):
                loop.add_signal_handler(which, tell, which)
        return await task

    try:
        return asyncio.run(minding())
    except asyncio.CancelledError:
        if told:
            raise (Terminated if told[0] == signal.SIGTERM else Interrupted) from None
        raise
