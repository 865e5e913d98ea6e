"""How fresh is what this process knows of the log: what caches stand on.

A look reads the log on from where the last one ended, and the number it ends with, in one snapshot. Whoever keeps a copy of a
document that no look has told a change of knows that the copy was right when the last look began: not from trust in a notice that
may be late or lost, but from a read that came back. When no look comes back (the store is away, the loop stood still), the moment
just grows old, and with it all copies. Own commits are told at once, before who wrote hears of it.
"""

from __future__ import annotations

import asyncio
import logging
import math
from collections.abc import Callable, Coroutine, Sequence
from typing import Any

from ..errors import ClosedError, CoordError
from .clock import Clock, boottime
from .commit import Committed
from .events import NUMBER, Kind
from .process import Process
from .store import Keys, Range
from .tables import COUNTER, EVENT

log = logging.getLogger(__name__)

MOST = 4_096
"""Events that one look reads; of more, all copies are forgotten."""
LATE = 5
"""Times `Settings.poll` that a copy is served after the last look: so many looks may be late before readers wait for one."""
IDLE = 1.0
"""Seconds without a question after which nothing is looked for."""

Changed = Sequence[tuple[str, int]]
"""Keys that have a new version, and the numbers of its events."""
Listener = Callable[[Changed | None], None]
"""Hears what was changed; None: nobody knows what, forget everything."""


class Freshness:
    """One process's knowledge of which documents were changed."""

    def __init__(self, process: Process, clock: Clock = boottime) -> None:
        self._process = process
        self._clock = clock
        self._listeners: list[Listener] = []
        self._followers: list[Listener] = []
        self._cursor: int | None = None
        self._own: set[int] = set()
        """Numbers of own commits' events that no look came by yet: told already, and a read begun since has them."""
        self._sure = -math.inf
        self._asked = -math.inf
        self._wake = asyncio.Event()
        self._looking: asyncio.Event | None = None
        self._runs = False
        self._group: asyncio.TaskGroup | None = None
        process.line.listen(self._committed)

    async def mind(self) -> None:
        """Own the loops of all caches; a loop of the process, and they end with it."""
        async with asyncio.TaskGroup() as group:
            self._group = group
            try:
                await asyncio.Event().wait()
            finally:
                self._group = None

    def spawn(self, loop: Coroutine[None, None, None]) -> None:
        """Run a cache's loop until it ends, or the process does. Raises: ClosedError."""
        if self._group is None:
            loop.close()
            raise ClosedError("the coordination is not open: use it inside `async with Coordination.open(...)`")
        self._group.create_task(loop)

    @property
    def bound(self) -> float:
        """Seconds: what is served although another process changed it was right no longer ago than this."""
        return self._process.policy.poll * LATE

    @property
    def age(self) -> float:
        """Seconds since the last look that came back began."""
        return self._clock() - self._sure

    async def join(self, listener: Listener, follow: bool) -> None:
        """Tell ``listener`` of this process's commits, and if it wants to ``follow``, of all. Raises: ClosedError."""
        self._listeners.append(listener)
        if follow:
            await self._begin(listener)

    async def _begin(self, listener: Listener) -> None:
        if not self._followers:  # nobody followed until now: where the log was left is no use
            self._cursor, self._sure, self._own = None, -math.inf, set()
        self._followers.append(listener)
        if not self._runs:
            self.spawn(self._follow())
            self._runs = True
        await self.look()  # from here on all changes are told; when it fails, all copies are forgotten with the first that does not

    def leave(self, listener: Listener) -> None:
        if listener in self._listeners:
            self._listeners.remove(listener)
        if listener in self._followers:
            self._followers.remove(listener)
            self._wake.set()

    def is_sure(self) -> bool:
        """Whether followers may serve what they have. Asking keeps the looks going."""
        now = self._asked = self._clock()
        self._wake.set()
        return now - self._sure <= self.bound and self._process.heart.trusted

    async def look(self) -> None:
        """Find out what was changed. One at a time: who comes meanwhile waits for that one, and asks `is_sure` again.

        When the store did not answer, that is no error here: nobody is surer than before, and reads the store himself.
        """
        if self._looking is not None:
            await self._looking.wait()
            return
        self._looking = looking = asyncio.Event()
        began = self._clock()
        try:
            await self._read_on()
            self._sure = began
        except CoordError as error:
            log.debug("what was changed could not be read: %s", error.code)
        finally:
            self._looking = None
            looking.set()

    async def _read_on(self) -> None:
        store, cursor = self._process.store, self._cursor
        low = 0 if cursor is None else cursor + 1
        rows, (counter,) = await store.read(
            Range(EVENT, "key", (), low=low, limit=0 if cursor is None else MOST), Keys(COUNTER, (NUMBER,))
        )
        newest = 0 if counter is None else counter.value
        if not self._followers:
            return
        known = cursor is not None and newest - cursor == len(rows)  # else pruned unread, too many, or another log altogether
        self._cursor = newest
        own, self._own = self._own, {number for number in self._own if known and number > newest}
        changed = [row for row in rows if row.kind == Kind.STATE_CHANGED and row.number not in own]
        told = [(row.subject, row.number) for row in changed] if known else None
        if told is None or told:
            self._tell(self._followers, told)

    async def _follow(self) -> None:
        """Look, every ``poll`` seconds, for as long as somebody asks; rest while nobody does."""
        try:
            while self._followers:
                if self._clock() - self._asked > IDLE:
                    self._wake.clear()
                    await self._wake.wait()
                else:
                    await asyncio.sleep(self._process.policy.poll)
                    await self.look()
        finally:
            self._runs = False

    def _committed(self, what: Committed) -> None:
        if not what.documents:
            return
        self._tell(self._listeners, what.documents)
        if self._followers and len(self._own) < MOST:
            self._own.update(number for _, number in what.documents)

    @staticmethod
    def _tell(listeners: Sequence[Any], told: Changed | None) -> None:
        for listener in listeners:
            listener(told)
