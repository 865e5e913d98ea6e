"""The feed: brings to this process what commits did, its own and others'.

Own commits are told by the line. Of another process's commit only "something" is known: then the log is read on from a cursor, and
the pools with free slots are looked at. Nothing is looked for while nobody waits.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterable, Sequence
from contextlib import aclosing
from typing import Any

from ..errors import ClosedError, EventsPrunedError, InvalidInputError, StoreError
from .commit import Committed
from .events import ENDINGS, FLOOR, NUMBER, RESOURCES, Event, Kind
from .store import Keys, Load, Range, Store
from .tables import COUNTER, EVENT, OUTCOME, QUEUE, EventRow, OutcomeRow

log = logging.getLogger(__name__)
PAGE = 1_000


class Feed:
    """``outcomes`` and ``cancelling`` hear of ``watched`` tasks; ``found`` hears which of the ``looks`` found
    something; ``vanished`` hears of watched tasks that were pruned before their end was read. ``resources`` hears what became of
    locks, ``missed`` that some of it was pruned unread."""

    def __init__(
        self,
        store: Store,
        *,
        wanted: Callable[[], bool],
        watched: Callable[[str], bool],
        all_watched: Callable[[], list[str]],
        vanished: Callable[[str], None],
        outcomes: Callable[[list[OutcomeRow]], None],
        cancelling: Callable[[str], None],
        looks: Callable[[], list[Range[Any]]],
        found: Callable[[list[str]], None],
        resources: Callable[[Sequence[EventRow]], None],
        missed: Callable[[], None],
        elsewhere: Callable[[], None],
    ) -> None:
        self._store = store
        self._wanted = wanted
        self._watched = watched
        self._all_watched = all_watched
        self._vanished = vanished
        self._outcomes = outcomes
        self._cancelling = cancelling
        self._looks = looks
        self._found = found
        self._resources = resources
        self._missed = missed
        self._elsewhere = elsewhere
        self._cursor = 0
        self._advanced = asyncio.Event()
        self._ended = False
        self.followers = 0
        """How many follow the log."""

    @property
    def cursor(self) -> int:
        """The last event that was told here."""
        return self._cursor

    async def start(self) -> None:
        """Begin at the end of the log."""
        (counters,) = await self._store.read(Keys(COUNTER, (NUMBER,)))
        self._cursor = counters[0].value if counters[0] is not None else 0

    def committed(self, what: Committed) -> None:
        """One of our own commits. A gap before its events is another's work, read when that is noticed."""
        if what.outcomes:
            self._outcomes(what.outcomes)
        if what.resources:
            self._resources(what.resources)
        for id in what.cancelling:  # after the answers of this batch: one of them may be the claim of this very task
            asyncio.get_running_loop().call_later(0, self._cancelling, id)
        if what.last_event:
            if what.first_event == self._cursor + 1:
                self._cursor = what.last_event
            self.wake()

    def wake(self) -> None:
        """Let those who follow the log look again."""
        self._advanced.set()
        self._advanced = asyncio.Event()

    def end(self) -> None:
        """Tell those who follow that nothing more comes."""
        self._ended = True
        self.wake()

    async def run(self) -> None:
        async for _ in self._store.changes(self._wanted):
            try:
                await self.catch_up()
            except ClosedError:
                return
            except StoreError as error:
                log.warning("another process's commits could not be read: %s; trying again", error.code)

    async def catch_up(self) -> None:
        """Read the log on from the cursor, and look at the pools."""
        looks = self._looks()
        while True:
            cursor = self._cursor
            loads: list[Load] = [Range(EVENT, "key", (), low=cursor + 1, limit=PAGE), *looks]
            rows, *ready = await self._store.read(*loads)
            pools = [look.prefix[0] for look, there in zip(looks, ready, strict=True) if there]
            if looks:
                self._found(pools)
            looks = []
            ended = [row.subject for row in rows if row.kind in ENDINGS and self._watched(row.subject)]
            if rows and rows[0].number != cursor + 1:  # endings may be among the events that were pruned before we read them
                ended = self._all_watched()
                self._missed()
            await self._look_at(ended)
            for row in rows:
                if row.kind == Kind.TASK_CANCELLING and self._watched(row.subject):
                    self._cancelling(row.subject)
            self._resources([row for row in rows if row.kind in RESOURCES])
            if rows:
                self._cursor = max(self._cursor, rows[-1].number)
            if len(rows) < PAGE:
                break
        self.wake()
        self._elsewhere()

    async def _look_at(self, tasks: Sequence[str]) -> None:
        for start in range(0, len(tasks), PAGE):
            some = tasks[start : start + PAGE]
            outcomes, queue = await self._store.read(Keys(OUTCOME, some), Keys(QUEUE, some))
            self._outcomes([outcome for outcome in outcomes if outcome is not None])
            for task, outcome, row in zip(some, outcomes, queue, strict=True):
                if outcome is None and row is None:
                    self._vanished(task)

    async def follow(self, since: int | None, kinds: Iterable[str] | None, follow: bool) -> AsyncIterator[Event]:
        """The log from behind ``since`` (None: from its end on), each event once and without a gap; see `Coordination.events`.

        Raises: EventsPrunedError; InvalidInputError for a number that no event has yet; ClosedError when the process closes.
        """
        async with aclosing(self.pages(since, kinds, follow)) as pages:
            async for page in pages:
                for event in page:
                    yield event

    async def pages(self, since: int | None, kinds: Iterable[str] | None, follow: bool) -> AsyncGenerator[list[Event], None]:
        """`follow`, as many events at a time as there are."""
        wanted = None if kinds is None else frozenset(kinds)
        self.followers += 1
        try:
            (counters,) = await self._store.read(Keys(COUNTER, (NUMBER, FLOOR)))
            newest, floor = (row.value if row is not None else 0 for row in counters)
            cursor = newest if since is None else since
            if cursor > newest:
                raise _of_another(cursor, newest)
            if cursor < floor:
                raise EventsPrunedError(f"events up to {floor} were pruned; begin with since={floor}", since=since, floor=floor)
            while True:
                advanced = self._advanced
                (rows,) = await self._store.read(Range(EVENT, "key", (), low=cursor + 1, limit=PAGE))
                whole = _without_gap(rows, cursor)
                if page := [Event.of(row) for row in whole if wanted is None or row.kind in wanted]:
                    yield page
                cursor += len(whole)
                if len(whole) < len(rows):
                    floor = rows[len(whole)].number - 1
                    raise EventsPrunedError(f"events up to {floor} were pruned meanwhile", since=cursor, floor=floor)
                if not rows:
                    if not follow:
                        return
                    if self._ended:
                        raise ClosedError("the coordination was closed while you listened")
                    await advanced.wait()
        finally:
            self.followers -= 1


def _of_another(since: int, newest: int) -> InvalidInputError:
    return InvalidInputError(
        f"since={since}: the newest event is {newest}, so this number is of another store, or of this one before a backup of it "
        "was put back: read what there is, and begin anew with since=None",
        since=since,
        newest=newest,
    )


def _without_gap(rows: Sequence[EventRow], cursor: int) -> Sequence[EventRow]:
    """The rows that follow the cursor one by one."""
    if not rows or rows[-1].number == cursor + len(rows):
        return rows
    return [row for place, row in enumerate(rows, 1) if row.number == cursor + place]
