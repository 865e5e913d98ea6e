"""Who stands before a lock: what is held, who waits, who is next. Reads, and grants; `locks` has the commands.

A request conflicts with what others hold at its path, above it and below it (`lock_modes`), and with whoever waits there already
and comes before it: nobody passes an earlier waiter that it conflicts with. Rows of a session that is dead count for nothing.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import suppress
from functools import lru_cache
from typing import Any, NamedTuple, TypeVar

from . import bodies, events, lock_modes
from .endings import count
from .events import Kind
from .lock_modes import ABOVE, AT, BELOW, MODES, SEPARATOR, ancestors, conflicts, shown
from .sessions import is_live
from .store import NotLoaded, Range, Rows
from .tables import COUNTER, LOCK_HELD, LOCK_WAIT, SESSION, CounterRow, LockHeldRow, LockWaitRow

R = TypeVar("R", bound=tuple[Any, ...])
TOKEN, WAITING, ARRIVED = "lock_token", "lock_waiting", "lock_arrived"
"""Counters: the last token; how many requests wait; the place of the last that came."""
INCARNATION = "incarnation"
"""Counter: the minute in which the store granted its first lock: the upper part of its tokens."""
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
    task: str | None = None
    """The task whose handler asks, and its attempt."""
    attempt: int = 0
    converts: str | None = None
    """The lease that shall hold more."""

    @classmethod
    def of(cls, row: LockWaitRow, wants: tuple[Want, ...] | None = None) -> Request:
        """``wants``: where its row does not say yet what it wants."""
        return cls(row.id, wants or wants_of(row), row.owner, row.rank, row.arrived, row.task, row.attempt, row.converts)

    @property
    def lease(self) -> str:
        """The lease that it becomes, or that it converts."""
        return self.id if self.converts is None else self.converts

    def is_mine(self, row: LockHeldRow | LockWaitRow) -> bool:
        """Whether it never stands in the way of this request."""
        return of_one_party(self, row)

    def comes_before(self, row: LockWaitRow) -> bool:
        return (self.rank, self.arrived) < (row.rank, row.arrived)


def of_one_party(one: Request | LockHeldRow | LockWaitRow, other: Request | LockHeldRow | LockWaitRow) -> bool:
    """Whether two are never in each other's way: of one lease, or of one owner. Two attempts of a task always are: the handler of
    the earlier may still run."""
    if one.lease == other.lease:
        return True
    if one.owner is None or one.owner != other.owner:
        return False
    return one.task is None or one.task != other.task or one.attempt == other.attempt


class Grant(NamedTuple):
    """What was granted at once, under one token: the rows of a new lease, or those of one that is converted."""

    token: int
    rows: tuple[LockHeldRow, ...]
    is_new: bool


def wants_of(row: LockWaitRow) -> tuple[Want, ...]:
    return tuple(Want(path, mode) for path, mode in bodies.decode(row.wants))


def end_of(path: str) -> str:
    """The first path behind all that lie at this stored one or below it."""
    return path[:-1] + "0"


def waiting(rows: Rows) -> int:
    """How many requests wait."""
    counter = rows.one(COUNTER, WAITING)
    return counter.value if counter else 0


def request_at(rows: Rows, path: str, id: str) -> LockWaitRow | None:
    """A request that waits at a stored path; costs no read while nobody waits anywhere."""
    return rows.one(LOCK_WAIT, (path, id)) if waiting(rows) else None


def conversion_at(rows: Rows, path: str, lease: str) -> LockWaitRow | None:
    """The request that would convert a lease which holds this path; costs no read while nobody waits anywhere."""
    if waiting(rows) == 0:
        return None
    conversions = Range(LOCK_WAIT, "by_place", (path,), None, math.nextafter(FIRST, math.inf))
    return next((row for row in rows.scan(conversions) if row.converts == lease), None)


# what stands in the way


def holders(rows: Rows, request: Request) -> Iterator[LockHeldRow]:
    """What others hold that excludes it, the first found first."""
    try:
        for want in request.wants:
            for row in _around(rows, want):
                if not request.is_mine(row) and is_live(rows, row.session):
                    yield row
    except NotLoaded:
        _expect(rows, request)
        raise


def earlier(rows: Rows, request: Request) -> Iterator[LockWaitRow]:
    """Who waits before it and conflicts with it; nobody waits before a conversion, which holds already what others wait for."""
    if request.rank == FIRST or waiting(rows) == 0:
        return
    try:
        for want in request.wants:
            for range, modes in _line(want, request.rank):
                for row in _pages(rows, range):
                    excludes = row.mode in modes and not request.is_mine(row)
                    if excludes and not request.comes_before(row) and is_live(rows, row.session):
                        yield row
    except NotLoaded:
        _expect(rows, request)
        raise


def is_free(rows: Rows, wants: Sequence[Want]) -> bool:
    """Whether nobody at all waits, or holds anything that could matter to these: then there is nothing to weigh.

    What is held but does not exclude them is in the way of this answer only: the others weigh it.
    """
    if waiting(rows):
        return False
    try:
        for path, _ in wants:
            if rows.scan(_whole(path)):
                return False
            for covering in _all_above(_parent(path)):
                if rows.scan(covering):
                    return False
        return True
    except NotLoaded:
        for range in (range for want in wants for range in (_whole(want.path), *_all_above(_parent(want.path)))):
            with suppress(NotLoaded):
                rows.scan(range)
        raise


def reads(wants: Sequence[Want]) -> list[Range[LockHeldRow]]:
    """What a request will look at first: those of a batch are looked at in one go."""
    return [_whole(want.path) for want in wants]


def _parent(path: str) -> str:
    return path[: path.rfind(SEPARATOR, 0, -1) + 1]


def _whole(path: str) -> Range[LockHeldRow]:
    return Range(LOCK_HELD, "key", (), path, end_of(path), PAGE)


@lru_cache(4096)
def _all_above(parent: str) -> tuple[Range[LockHeldRow], ...]:
    """Where what covers the children of a path would stand; many resources have their parent in common."""
    return tuple([_covering(above) for above in (*ancestors(parent), parent)]) if parent else ()


def _around(rows: Rows, want: Want) -> Iterator[LockHeldRow]:
    """What is held that conflicts with a want, whoever holds it: at its path, below it, above it."""
    path, mode = want
    for range in _at_and_below(want):
        yield from _pages(rows, range)
    for above in ancestors(path):
        if rows.scan(_covering(above)):  # mostly not; and stores remember it
            for range in _above(above, mode):
                yield from _pages(rows, range)


def _at_and_below(want: Want) -> list[Range[LockHeldRow]]:
    path, mode = want
    if mode == lock_modes.X:
        return [_whole(path)]
    at, below, first = AT[mode], BELOW[mode], path + "\x01"
    ranges = []
    for other in MODES:  # in one order in every process
        if other in at or other in below:
            high = end_of(path) if other in below else first
            ranges.append(_in_mode(other, path if other in at else first, high))
    return ranges


def _in_mode(mode: str, low: str, high: str) -> Range[LockHeldRow]:
    """Those held in one mode. The exclusive ones, which most are, stand in no index of their own: each of them would pay for it."""
    if mode == lock_modes.X:
        return Range(LOCK_HELD, "exclusive", (), low, high, PAGE)
    return Range(LOCK_HELD, "by_mode", (mode,), low, high, PAGE)


def _covering(above: str) -> Range[LockHeldRow]:
    return Range(LOCK_HELD, "by_cover", (above,), None, None, 1)


def _above(above: str, mode: str) -> list[Range[LockHeldRow]]:
    return [_in_mode(other, above, above + "\x01") for other in MODES if other in ABOVE[mode]]


def _line(want: Want, rank: float) -> list[tuple[Range[LockWaitRow], frozenset[str]]]:
    """Where those wait who may come before a rank, and in which modes they conflict with a want."""
    path, mode = want
    behind = math.nextafter(rank, math.inf)
    places = [(path, AT[mode]), *((above, ABOVE[mode]) for above in ancestors(path))]
    ranges = [(Range(LOCK_WAIT, "by_place", (place,), None, behind, PAGE), modes) for place, modes in places]
    if BELOW[mode]:
        ranges.append((Range(LOCK_WAIT, "key", (), path + "\x01", end_of(path), PAGE), BELOW[mode]))
    return ranges


def behind(want: Want, rank: float) -> list[Range[LockWaitRow]]:
    """Where the first stands who waits around a want and comes after this rank; below it, whoever waits at all."""
    after = math.nextafter(rank, math.inf)
    places = [Range(LOCK_WAIT, "by_place", (place,), after, None, 1) for place in (want.path, *ancestors(want.path))]
    return [*places, Range(LOCK_WAIT, "key", (), want.path + "\x01", end_of(want.path), 1)]


def _pages(rows: Rows, range: Range[R]) -> Iterator[R]:
    """A range, little by little: mostly its first row answers."""
    seen, limit = 0, range.limit or PAGE
    while True:
        found = rows.scan(range)
        yield from found[seen:]
        if len(found) < limit:
            return
        seen, limit = len(found), limit * 8
        range = range._replace(limit=limit)


def _expect(rows: Rows, request: Request) -> None:
    """Ask at once for whatever the request may have to look at: a store that loads in rounds needs a few, not one a range."""
    with suppress(NotLoaded):
        rows.get(COUNTER, (WAITING, ARRIVED, TOKEN, INCARNATION, events.NUMBER))
    for want in request.wants:
        ranges: list[Range[Any]] = [*_at_and_below(want), *(range for range, _ in _line(want, request.rank))]
        for above in ancestors(want.path):
            with suppress(NotLoaded):
                if rows.scan(_covering(above)):
                    ranges += _above(above, want.mode)
        for range in ranges:
            with suppress(NotLoaded):
                rows.get(SESSION, [row.session for row in rows.scan(range)])


# granting


def grant(rows: Rows, request: Request, row: LockHeldRow, now: float) -> Grant:
    """Give the request all that it wants, under one new token. ``row`` says who holds it; path, mode and token are set here.

    Who waits for any of it waits for this lease from now on: `deadlocks` must look at what was granted.
    """
    token = _token(rows, now)
    lease, whose, born = request.lease, row[5:9], row.born
    conversion = None if request.converts is None else request.id
    granted = tuple(
        [LockHeldRow(path, lease, mode, row.owner, token, *whose, now, born, conversion) for path, mode in request.wants]
    )
    if conversion is not None:  # its rows are there
        rows.get(LOCK_HELD, [(path, lease) for path, _ in request.wants])
    for held in granted:
        rows.put(LOCK_HELD, held)
        data = events.of_lock(held.mode, lease, token, conversion)
        events.append(rows, now, Kind.RESOURCE_LOCKED, shown(held.path), held.session, data)
    return Grant(token, granted, conversion is None)


def enqueue(rows: Rows, row: LockWaitRow, wants: Sequence[Want]) -> Request:
    """Let a request wait. ``row`` says who waits; path, mode and place are set here."""
    arrived = _count_on(rows, ARRIVED)
    whole = bodies.encode([list(want) for want in wants])
    for path, mode in wants:
        rows.put(LOCK_WAIT, row._replace(path=path, mode=mode, wants=whole, arrived=arrived))
    count(rows, WAITING)
    return Request.of(row, tuple(wants))._replace(arrived=arrived)


def leave(rows: Rows, row: LockWaitRow) -> None:
    """A request waits no more."""
    for mine in rows.get(LOCK_WAIT, [(path, row.id) for path, _ in wants_of(row)]):
        if mine is not None:
            rows.drop(LOCK_WAIT, mine)
    count(rows, WAITING, -1)


def admit(rows: Rows, paths: Sequence[str], now: float) -> list[Grant]:
    """Something at these paths is free: grant what fits, in order of rank; the answer is what was granted.

    One pass is enough: granting only takes away, and who is passed over stands before whom it conflicts with.
    """
    if waiting(rows) == 0:
        return []
    granted = []
    for request, row in _fitting(rows, paths):
        leave(rows, row)
        granted.append(grant(rows, request, LockHeldRow.of(row), now))
    return granted


def _fitting(rows: Rows, paths: Sequence[str]) -> list[tuple[Request, LockWaitRow]]:
    """Those who can be granted together. Nothing is written while they are chosen: so the same ranges are read for all of them."""
    chosen: list[tuple[Request, LockWaitRow]] = []
    given: dict[Want, list[Request]] = {}
    missed = False
    for row in _next(rows, paths):
        request = Request.of(row)
        try:
            fits = is_live(rows, row.session) and not _meets(request, given)
            fits = fits and not any(holders(rows, request)) and not any(earlier(rows, request))
        except NotLoaded:  # the others are looked at all the same: what they miss is loaded in the same round
            missed = True
            continue
        if fits:
            chosen.append((request, row))
            for want in request.wants:
                given.setdefault(want, []).append(request)
    if missed:
        raise NotLoaded
    return chosen


def _meets(request: Request, given: dict[Want, list[Request]]) -> bool:
    """Whether it conflicts with what others are to be given."""
    return any(
        conflicts(mode, path, held, place) and not all(of_one_party(request, other) for other in others)
        for (place, held), others in given.items()
        for path, mode in request.wants
    )


def _next(rows: Rows, paths: Sequence[str]) -> list[LockWaitRow]:
    """Those who wait for anything at these paths, above or below them, in order of rank."""
    places = dict.fromkeys(place for path in paths for place in (path, *ancestors(path)))
    below = [Range(LOCK_WAIT, "key", (), path + "\x01", end_of(path)) for path in paths]
    found: dict[str, LockWaitRow] = {}
    try:
        for place in places:
            found.update((row.id, row) for row in _next_at(rows, place))
        for range in below:
            found.update((row.id, row) for row in rows.scan(range))
    except NotLoaded:
        first = [Range(LOCK_WAIT, "by_place", (place,), limit=limit) for place in places for limit in (1, PAGE)]
        for range in (*first, *below):
            with suppress(NotLoaded):
                rows.scan(range)
        raise
    return sorted(found.values(), key=lambda one: (one.rank, one.arrived))


def _next_at(rows: Rows, place: str) -> list[LockWaitRow]:
    """Those who wait at one path and may fit: nobody behind the first who wants it whole, but one of the same owner."""
    limit: int | None = 1  # mostly the first is it
    while True:
        some = rows.scan(Range(LOCK_WAIT, "by_place", (place,), limit=limit))
        for number, row in enumerate(some):
            if row.mode == lock_modes.X and row.owner is None and row.rank != FIRST and is_live(rows, row.session):
                return some[: number + 1]
        if limit is None or len(some) < limit:
            return some
        limit = PAGE if limit == 1 else None


def is_of_now(rows: Rows, token: int) -> bool:
    """Whether a token was given by this store as it is: not by another, nor before it was restored from a backup."""
    incarnation = rows.one(COUNTER, INCARNATION)
    return incarnation is not None and token >> TOKENS == incarnation.value


def _token(rows: Rows, now: float) -> int:
    """Greater than any before; a new incarnation makes it greater than those of another copy of the store."""
    incarnation = rows.one(COUNTER, INCARNATION)
    if incarnation is None:
        incarnation = CounterRow(INCARNATION, int(now // 60))
        rows.put(COUNTER, incarnation)
    return (incarnation.value << TOKENS) + _count_on(rows, TOKEN)


def _count_on(rows: Rows, name: str) -> int:
    counter = rows.one(COUNTER, name)
    value = (counter.value if counter else 0) + 1
    rows.put(COUNTER, CounterRow(name, value))
    return value
