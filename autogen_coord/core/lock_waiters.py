"""A request for a lock, as the process that made it waits for it."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

from ..errors import CoordError, DeadlockError
from .lock_queue import Want
from .locks import Answer, Deadlocked, Granted
from .tables import LockHeldRow


class Waiter:
    """A request of this process on its way, or waiting in its place. ``lease``: the one that it becomes, or that it converts."""

    __slots__ = ("expired", "id", "lease", "outcome", "session", "waits", "wants", "woken")

    def __init__(self, id: str, lease: str, wants: tuple[Want, ...], session: str) -> None:
        self.id = id
        self.lease = lease
        self.wants = wants
        self.session = session
        self.waits = False
        """Whether its place in the line is stored."""
        self.expired = False
        """Whether its patience is over."""
        self.outcome: Granted | CoordError | None = None
        self.woken: asyncio.Future[Any] | None = None
        """What its caller awaits: the line's answer, then news."""

    @property
    def paths(self) -> tuple[str, ...]:
        return tuple([want.path for want in self.wants])

    def is_granted(self, row: LockHeldRow) -> bool:
        """Whether a row of its lease is what this request was granted."""
        return self.id in (row.id, row.conversion)

    def settle(self, outcome: Granted | CoordError) -> None:
        """It was granted, or refused: the first to say so counts."""
        if self.outcome is None:
            self.outcome = outcome
        self.wake()

    def lose(self, error: CoordError) -> None:
        """Whatever it was granted is void."""
        self.outcome = error
        self.wake()

    def expire(self) -> None:
        """Its patience is over; the line's answer is awaited all the same."""
        self.expired = True
        if self.waits:
            self.wake()

    def wake(self) -> None:
        if self.woken is not None and not self.woken.done():
            self.woken.set_result(None)

    async def hear(self, asked: asyncio.Future[Answer]) -> None:
        """Await the line's answer, and news where it has to wait; None comes where it was woken before. Raises: what it raises."""
        self.woken = asked
        answer: Answer | None = await asked
        if isinstance(answer, Granted):
            self.settle(answer)
        elif isinstance(answer, Deadlocked):
            self.settle(deadlock(answer.cycle))
        elif answer is not None:
            self.waits = True
            await self.news()

    async def news(self) -> None:
        """Await what becomes of it, or the end of its patience."""
        if self.outcome is None and not self.expired:
            self.woken = asyncio.get_running_loop().create_future()
            await self.woken


def deadlock(cycle: Sequence[str]) -> DeadlockError:
    """What a victim hears; ``passing``: for a handler, another attempt may fare better."""
    path = " -> ".join(cycle)
    said = f"waiting for this lock would never end: {path}; release what you hold, and try again"
    return DeadlockError(said, cycle=list(cycle), passing=True)
