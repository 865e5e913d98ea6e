"""Running a command's coroutine so that SIGTERM ends it as Ctrl-C does: handlers are stopped, claims given back, goodbye said."""

from __future__ import annotations

import asyncio
import contextlib
import signal
from collections.abc import Coroutine
from typing import Any, TypeVar

T = TypeVar("T")


class Terminated(Exception):
    """SIGTERM came, and everything was put in order."""


def run(main: Coroutine[Any, Any, T]) -> T:
    """``asyncio.run`` that minds SIGTERM. Raises: Terminated, KeyboardInterrupt, and what ``main`` raises."""
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
