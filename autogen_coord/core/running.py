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


def run(main: Coroutine[Any, Any, T]) -> T:
    """``asyncio.run(main)``, but SIGTERM cancels ``main``, so that every ``async with Coordination.open(...)`` closes in order.

    Raises: Terminated (a SystemExit), KeyboardInterrupt, and what ``main`` raises.
    """
    told = False

    async def minding() -> T:
        def tell() -> None:
            nonlocal told
            told = True
            task.cancel()

        task = asyncio.ensure_future(main)
        with contextlib.suppress(NotImplementedError):  # Windows has no such handlers: there it ends at once, as a crash
            asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, tell)
        return await task

    try:
        return asyncio.run(minding())
    except asyncio.CancelledError:
        if told:
            raise Terminated from None
        raise
