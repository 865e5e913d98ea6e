"""Who stands before a lock: what is held, who waits, who is next. Reads, and grants; `locks` has the commands.

A request conflicts with what others hold at its path, above it and below it (`lock_modes`), and with whoever waits there already
and comes before it: nobody passes an earlier waiter that it conflicts with. Rows of a session that is dead count for nothing.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, NamedTuple, TypeVar

from ..settings import Settings
from . import bodies, events, lock_modes
from .endings import count
from .events import Kind
from .lock_modes import ABOVE, AT, BELOW, MODES, ancestors, shown
from .sessions import is_live
from .store import Range, Rows, Table
from .tables import COUNTER, LOCK_HELD, LOCK_WAIT, CounterRow, LockHeldRow, LockWaitRow

R = TypeVar("R", bound=tuple[Any, ...])
TOKEN, WAITING, ARRIVED = "lock_token", "lock_waiting", "lock_arrived"
"""Counters: the last token; how many requests wait; the place of the last that came."""
INCARNATION = "incarnation"
"""Counter: the minute in which the store was made, or restored: the upper part of its tokens."""
TOKENS = 37
"""Bits of a token below its incarnation: enough for 10^11 grants, and until 2097 in the 63 bits of a database's integer."""
PAGE = 16
FIRST = -1e15
"""The rank of a conversion, less than any other's: who holds goes before who comes."""


class Want(NamedTuple):
    """A mode on a stored path."""

    path: str
    mode: str


class Request(NamedTuple):
    """What is asked for, as a whole, and by whom. ``owner`` None: by nobody but itself."""

    id: str
    wants: tuple[Want, ...]
    owner: str | None
    rank: float
    arrived: int

    @classmethod
    def of(cls, row: LockWaitRow) -> Request:
        return cls(row.id, wants_of(row), row.owner, row.rank, row.arrived)

    def is_mine(self, row: LockHeldRow | LockWaitRow) -> bool:
        """Whether it never stands in the way of this request: its own, or its owner's."""
        return row.id == self.id or (self.owner is not None and row.owner == self.owner)

    def comes_before(self, row: LockWaitRow) -> bool:
        return (self.rank, self.arrived) < (row.rank, row.arrived)


def wants_of(row: LockWaitRow) -> tuple[Want, ...]:
    return tuple(Want(path, mode) for path, mode in bodies.decode(row.wants))


def end_of(path: str) -> str:
    """The first path behind all that lie at this stored one or below it."""
    return path[:-1] + "0"


def waiting(rows: Rows) -> int:
    """How many requests wait."""
    counter = rows.one(COUNTER, WAITING)
    return counter.value if counter else 0


# what stands in the way


def holders(rows: Rows, request: Request) -> Iterator[LockHeldRow]:
    """What others hold that excludes it, the first found first."""
    for want in request.wants:
        for row in _around(rows, want):
            if not request.is_mine(row) and is_live(rows, row.session):
                yield row


def earlier(rows: Rows, request: Request) -> Iterator[LockWaitRow]:
    """Who waits before it and conflicts with it."""
    if waiting(rows) == 0:
        return
    for path, mode in request.wants:
        for place, modes in ((path, AT[mode]), *((above, ABOVE[mode]) for above in ancestors(path))):
            yield from _before(request, modes, _pages(rows, LOCK_WAIT, "by_place", (place,), None, _behind(request.rank)))
        if BELOW[mode]:
            yield from _before(request, BELOW[mode], _pages(rows, LOCK_WAIT, "key", (), path + "\x01", end_of(path)))


def _before(request: Request, modes: frozenset[str], found: Iterator[LockWaitRow]) -> Iterator[LockWaitRow]:
    for row in found:
        if row.mode in modes and not request.is_mine(row) and not request.comes_before(row):
            yield row


def _behind(rank: float) -> float:
    return math.nextafter(rank, math.inf)


def _around(rows: Rows, want: Want) -> Iterator[LockHeldRow]:
    """What is held that conflicts with a want: at its path, below it, above it."""
    path, mode = want
    if BELOW[mode] == frozenset(MODES):
        yield from _pages(rows, LOCK_HELD, "key", (), path, end_of(path))
    else:
        for other in AT[mode] | BELOW[mode]:
            high = end_of(path) if other in BELOW[mode] else path + "\x01"
            low = path if other in AT[mode] else path + "\x01"
            yield from _pages(rows, LOCK_HELD, "by_mode", (other,), low, high)
    for above in ancestors(path):
        for other in ABOVE[mode]:
            yield from _pages(rows, LOCK_HELD, "by_mode", (other,), above, above + "\x01")


def _pages(rows: Rows, table: Table[R], index: str, prefix: tuple[Any, ...], low: Any, high: Any) -> Iterator[R]:
    """A range, little by little: mostly its first row answers."""
    limit = PAGE
    seen = 0
    while True:
        found = rows.scan(Range(table, index, prefix, low=low, high=high, limit=limit))
        yield from found[seen:]
        if len(found) < limit:
            return
        seen, limit = len(found), limit * 8


# granting


def grant(rows: Rows, request: Request, row: LockHeldRow, now: float) -> int:
    """Give the request all that it wants, under one new token. ``row`` says who holds it; path, mode and token are set here."""
    token = _token(rows, now)
    if request.rank == FIRST:  # a conversion: its rows are there
        rows.get(LOCK_HELD, [(path, request.id) for path, _ in request.wants])
    for path, mode in request.wants:
        rows.put(LOCK_HELD, row._replace(path=path, id=request.id, mode=mode, token=token, since=now))
        data = events.facts(mode=mode, lease=request.id, token=token)
        events.append(rows, now, Kind.RESOURCE_LOCKED, shown(path), row.session, data)
    return token


def enqueue(rows: Rows, row: LockWaitRow, wants: Sequence[Want]) -> Request:
    """Let a request wait. ``row`` says who waits; path, mode and place are set here."""
    arrived = _next(rows, ARRIVED)
    whole = bodies.encode([list(want) for want in wants])
    for path, mode in wants:
        rows.put(LOCK_WAIT, row._replace(path=path, mode=mode, wants=whole, arrived=arrived))
    count(rows, WAITING)
    return Request(row.id, tuple(wants), row.owner, row.rank, arrived)


def leave(rows: Rows, row: LockWaitRow) -> None:
    """A request waits no more."""
    for path, _ in wants_of(row):
        mine = rows.one(LOCK_WAIT, (path, row.id))
        if mine is not None:
            rows.drop(LOCK_WAIT, mine)
    count(rows, WAITING, -1)


def admit(rows: Rows, paths: Iterable[str], now: float, policy: Settings) -> None:
    """Something at these paths is free: grant what fits, in order of rank.

    One pass is enough: granting only takes away, and who is passed over stands before whom it conflicts with.
    """
    if waiting(rows) == 0:
        return
    seen: set[str] = set()
    for path in paths:
        for place in (path, *ancestors(path)):
            _admit_at(rows, place, seen, now)
        below = rows.scan(Range(LOCK_WAIT, "key", (), low=path + "\x01", high=end_of(path)))
        for row in sorted(below, key=lambda one: (one.rank, one.arrived)):
            _admit_one(rows, row, seen, now)


def _admit_at(rows: Rows, place: str, seen: set[str], now: float) -> None:
    """Those who wait at one path: once the first who wants it whole was looked at, nobody behind it fits but its own owner's."""
    some = rows.scan(Range(LOCK_WAIT, "by_place", (place,), limit=PAGE))
    for row in some:
        _admit_one(rows, row, seen, now)
        if row.mode == lock_modes.X and row.owner is None:
            return
    if len(some) == PAGE:
        for row in rows.scan(Range(LOCK_WAIT, "by_place", (place,))):
            _admit_one(rows, row, seen, now)


def _admit_one(rows: Rows, row: LockWaitRow, seen: set[str], now: float) -> None:
    if row.id in seen:
        return
    seen.add(row.id)
    request = Request.of(row)
    if not is_live(rows, row.session) or any(holders(rows, request)) or any(earlier(rows, request)):
        return
    leave(rows, row)
    grant(rows, request, LockHeldRow.of(row), now)


def _token(rows: Rows, now: float) -> int:
    """Greater than any before, also before the store was restored from a backup: that sets a new incarnation."""
    incarnation = rows.one(COUNTER, INCARNATION)
    if incarnation is None:
        incarnation = CounterRow(INCARNATION, int(now // 60))
        rows.put(COUNTER, incarnation)
    return (incarnation.value << TOKENS) + _next(rows, TOKEN)


def _next(rows: Rows, name: str) -> int:
    counter = rows.one(COUNTER, name)
    value = (counter.value if counter else 0) + 1
    rows.put(COUNTER, CounterRow(name, value))
    return value
