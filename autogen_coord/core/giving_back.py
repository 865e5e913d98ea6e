"""Giving back: writes that must reach the store, whoever still waits for them.

A lock that its block has left, or a request whose caller is gone, is nobody's any more: its release is put on the line again and
again until the store takes it. What is not written when the process ends goes with its session.
"""

from __future__ import annotations

import asyncio
import logging
from typing import Any

from ..errors import ClosedError, EventsPrunedError, InvalidInputError, StoreError
from .commit import Line, Rule
from .events import Kind
from .feed import Feed

log = logging.getLogger(__name__)
AGAIN, LONGEST = 0.1, 5.0
"""Seconds until a write that failed is tried again: the first time, doubled each time, and at most."""


class GivingBack:
    """The releases of one process on their way."""

    def __init__(self, line: Line) -> None:
        self._line = line

    def write(self, rule: Rule[Any, Any], command: Any) -> asyncio.Future[Any]:
        """Put it on the line until the store takes it. The future, which nobody need wait for, has its answer, or ClosedError."""
        written: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        written.add_done_callback(lambda done: done.cancelled() or done.exception())
        self._try(rule, command, written, 0)
        return written

    def _try(self, rule: Rule[Any, Any], command: Any, written: asyncio.Future[Any], tries: int) -> None:
        def answered(done: asyncio.Future[Any]) -> None:
            error = ClosedError("the coordination was closed") if done.cancelled() else done.exception()
            if isinstance(error, StoreError):
                wait = min(AGAIN * 2 ** min(tries, 6), LONGEST)
                log.warning("a lock could not be given back (%s): again in %.1f s", error.code, wait)
                asyncio.get_running_loop().call_later(wait, self._try, rule, command, written, tries + 1)
            elif written.done():
                return
            elif error is not None:
                written.set_exception(error)
            else:
                written.set_result(done.result())

        try:
            self._line.offer(rule, command, ()).add_done_callback(answered)
        except ClosedError as error:  # it returns with the session
            if not written.done():
                written.set_exception(error)


async def was_given_back(feed: Feed, id: str, since: int) -> bool:
    """Whether a lease that is gone was given back by who held it; what the log says of it first after ``since`` tells.

    False when it was lost, and when that cannot be read: who is not sure that it held the lock to the end must not believe so.
    """
    try:
        async for event in feed.follow(since, (Kind.RESOURCE_UNLOCKED, Kind.RESOURCE_LOST), follow=False):
            if event.data["lease"] == id:
                return event.kind == Kind.RESOURCE_UNLOCKED
    except (EventsPrunedError, InvalidInputError, StoreError, ClosedError) as error:  # invalid: the store was put back meanwhile
        log.warning("how a lock ended could not be read (%s): it is told as lost", error.code)
    return False
