"""What any process does for all: turn the clock for tasks, declare and bury the dead, prune."""

from __future__ import annotations

import asyncio
import logging
import random

from ..errors import ClosedError, CoordError
from ..settings import Settings
from . import burial, pruning, sessions, timers
from .burial import Bury
from .commit import Committed, Line
from .pruning import Prune
from .sessions import Declare
from .store import Range, Store
from .tables import QUEUE
from .timers import Turn

log = logging.getLogger(__name__)

LONGEST_SLEEP = 60.0
PRUNE_EVERY = 10.0


class Housekeeper:
    """Three loops; whoever made it runs them."""

    def __init__(self, store: Store, line: Line, policy: Settings) -> None:
        self._store = store
        self._line = line
        self._policy = policy
        self._due: float | None = None
        self._wake = asyncio.Event()
        self.session = ""
        line.listen(self.committed)

    def committed(self, what: Committed) -> None:
        if what.due is not None and (self._due is None or what.due < self._due):
            self._due = what.due
            self._wake.set()

    def elsewhere(self) -> None:
        """Another process wrote: its tasks may be due earlier than ours."""
        self._due = None
        self._wake.set()

    async def turn_the_clock(self) -> None:
        """Wake when the next task is due, and do what time demands."""
        while True:
            try:
                await self._turn()
            except ClosedError:
                return
            except Exception as error:  # one task that cannot be turned must not end the process
                _warn("what is due could not be done", error)
                await asyncio.sleep(0.5)

    async def _turn(self) -> None:
        self._wake.clear()
        (first,) = await self._store.read(Range(QUEUE, "by_due", (), limit=1))
        now = await self._store.now()
        self._due = first[0].due if first else None
        wait = LONGEST_SLEEP if self._due is None else max(0.0, min(self._due - now, LONGEST_SLEEP))
        if self._due is not None and wait <= 0:
            while await self._line.put(timers.turn, Turn(random.random())):
                pass
            return
        try:
            async with asyncio.timeout(wait):
                await self._wake.wait()
        except TimeoutError:
            pass
        if self._wake.is_set():
            await asyncio.sleep(0.002)  # a busy line moves the next moment all the time: look at most so often

    async def mind_sessions(self) -> None:
        """Look for sessions whose lease ended; declare them dead if we may judge; bury them."""
        every = min(0.25, self._policy.session_ttl / 12)
        while True:
            await asyncio.sleep(every * random.uniform(0.8, 1.2))
            try:
                await self.look_for_dead()
            except ClosedError:
                return
            except Exception as error:
                _warn("sessions could not be looked at", error)

    async def look_for_dead(self) -> None:
        now = await self._store.now()
        late, dead = await self._store.read(*sessions.overdue(now))
        for row in late:
            if row.id != self.session and await self._line.put(sessions.declare_dead, Declare(self.session, row.id)):
                log.warning(
                    "session %s is dead, its lease ended %.1f s ago: what it ran is run again", row.id, now - row.lease_until
                )
                dead.append(row)
        for row in dead:
            while await self._line.put(burial.bury, Bury(row.id)):
                pass

    async def prune(self) -> None:
        """Drop what the settings no longer keep."""
        while True:
            await asyncio.sleep(PRUNE_EVERY * random.uniform(0.8, 1.2))
            try:
                while (await self._line.put(pruning.prune, Prune())).more:
                    await asyncio.sleep(0)
            except ClosedError:
                return
            except Exception as error:
                _warn("pruning failed", error)


def _warn(what: str, error: Exception) -> None:
    if isinstance(error, CoordError):
        log.warning("%s: %s; trying again", what, error.code)
    else:
        log.error("%s; trying again", what, exc_info=error)
