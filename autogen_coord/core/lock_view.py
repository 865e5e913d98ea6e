"""Looking at locks without touching them: what is held, who waits, and what stands in the way of whom. Reads only.

What stands in the way is asked of the rules themselves (`lock_queue`), on a snapshot of the rows around a path.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from ..settings import Settings
from . import lock_modes, lock_queue, sessions
from .fold import Pending
from .lock_modes import ancestors, shown
from .lock_queue import Request, end_of, wants_of
from .store import Key, Keys, R, Range, Store, Table
from .tables import COUNTER, LOCK_HELD, LOCK_WAIT, SESSION, TASK, LockHeldRow, LockWaitRow, SessionRow, TaskRow

HELD, WAITS, CONVERTS = "held", "waits", "converts"
OBSTACLES = 8
"""How many of what stands in the way of a request are named."""
MOST = 1_000
"""Rows that are read of one range around a path."""
COUNTED = ("live", "suspect", "overdue")
"""Of sessions: what hangs on the others counts for nothing."""


@dataclass(frozen=True, slots=True)
class LockInfo:
    """A lock on one path, held or waited for. ``since`` is epoch seconds of the store's clock."""

    path: str
    mode: str
    state: str
    """held, waits, converts (waits to hold more than it does)"""
    lease: str
    token: int | None
    owner: str | None
    task: str | None
    attempt: int
    capability: str | None
    """Of the task."""
    session: str
    address: str
    """Host and process id."""
    session_state: str
    """live, suspect (late), overdue, dead, gone, closed"""
    since: float
    priority: float

    @property
    def counts(self) -> bool:
        """Whether it stands in anybody's way: what a dead session left does not, and is cleared by any live process."""
        return self.session_state in COUNTED

    @property
    def who(self) -> str:
        """Whose it is, for people."""
        if self.task is not None:
            return f"task {self.task}" + (f" of {self.capability}" if self.capability else "")
        return self.owner if self.owner is not None else f"session {self.session}"


@dataclass(frozen=True, slots=True)
class Obstacle:
    """A lock, or an earlier request, that another request may not pass. ``place``: at, above or below ``wanted``."""

    lock: LockInfo
    place: str
    wanted: str


@dataclass(frozen=True, slots=True)
class WaiterInfo:
    """A request that waits, all that it wants as (path, mode), and what stands in its way now."""

    lock: LockInfo
    wants: tuple[tuple[str, str], ...]
    behind: tuple[Obstacle, ...]
    more: bool
    """More than `OBSTACLES` stand there."""


@dataclass(frozen=True, slots=True)
class LockView:
    """What is held at, above and below a path, by path; who waits there, in order."""

    path: str
    holders: tuple[LockInfo, ...]
    waiters: tuple[WaiterInfo, ...]
    more: bool
    """There are more than were asked for."""


async def locks(store: Store, policy: Settings, limit: int = 100) -> tuple[list[LockInfo], bool]:
    """What is held and what waits, by path, at each the holders first; and whether there is more."""
    held, waits = await store.read(Range(LOCK_HELD, "key", limit=limit + 1), Range(LOCK_WAIT, "key", limit=limit + 1))
    rows = sorted([*held, *waits], key=_order)
    return await _infos(store, policy, rows[:limit]), len(rows) > limit


async def around(store: Store, policy: Settings, path: str, limit: int = 100) -> LockView:
    """Who holds and who waits at a path, above it and below it, and why. Raises: InvalidInputError."""
    place = lock_modes.stored(path)
    first = await _Snapshot.of(store, {place})
    asked = _requests(first, place)
    wanted = {want.path for row in asked[:limit] for want in wants_of(row)}
    snapshot = await _Snapshot.of(store, {place, *wanted})
    requests = _requests(snapshot, place)
    holders = sorted((row for row in snapshot.rows(LOCK_HELD) if _related(row.path, place)), key=_order)
    chosen = requests[:limit]
    obstacles = [snapshot.obstacles(row) for row in chosen]
    rows = [*holders[:limit], *chosen, *(row for some in obstacles for row, _ in some)]
    infos = dict(zip(map(_name, rows), await _infos(store, policy, rows), strict=True))
    waiters = [_waiter(row, some, infos) for row, some in zip(chosen, obstacles, strict=True)]
    more = len(holders) > limit or len(requests) > limit
    return LockView(path, tuple(infos[_name(row)] for row in holders[:limit]), tuple(waiters), more)


async def leases_at(store: Store, policy: Settings, path: str) -> list[LockInfo]:
    """What is held at this very path. Raises: InvalidInputError."""
    place = lock_modes.stored(path)
    (held,) = await store.read(Range(LOCK_HELD, "key", low=place, high=place + "\x01"))
    return await _infos(store, policy, held)


async def paths_of(store: Store, lock: LockInfo) -> list[str]:
    """All that the lease of a lock holds, under its one token."""
    (held,) = await store.read(Range(LOCK_HELD, "by_session", (lock.session,)))
    return [shown(row.path) for row in held if row.id == lock.lease]


def _waiter(
    row: LockWaitRow, obstacles: Sequence[tuple[LockHeldRow | LockWaitRow, str]], infos: dict[tuple[str, ...], LockInfo]
) -> WaiterInfo:
    behind = [Obstacle(infos[_name(one)], _place(one.path, wanted), shown(wanted)) for one, wanted in obstacles]
    wants = tuple((shown(path), mode) for path, mode in wants_of(row))
    return WaiterInfo(infos[_name(row)], wants, tuple(behind[:OBSTACLES]), len(behind) > OBSTACLES)


def _requests(snapshot: _Snapshot, place: str) -> list[LockWaitRow]:
    """Those around a place, in order, each once: of several paths that one wants, the nearest to the place."""
    nearest: dict[str, LockWaitRow] = {}
    for row in snapshot.rows(LOCK_WAIT):
        if _related(row.path, place) and (row.id not in nearest or row.path == place):
            nearest[row.id] = row
    return sorted(nearest.values(), key=lambda row: (row.rank, row.arrived))


def _related(one: str, other: str) -> bool:
    return one.startswith(other) or other.startswith(one)


def _place(path: str, wanted: str) -> str:
    if path == wanted:
        return "at"
    return "above" if wanted.startswith(path) else "below"


def _order(row: LockHeldRow | LockWaitRow) -> tuple[Any, ...]:
    if isinstance(row, LockHeldRow):
        return row.path, 0, row.since, 0, row.id
    return row.path, 1, row.rank, row.arrived, row.id


def _name(row: LockHeldRow | LockWaitRow) -> tuple[str, ...]:
    return HELD if isinstance(row, LockHeldRow) else WAITS, row.path, row.id


async def _infos(store: Store, policy: Settings, rows: Sequence[LockHeldRow | LockWaitRow]) -> list[LockInfo]:
    tasks, there = await store.read(
        Keys(TASK, list({row.task for row in rows if row.task is not None})), Keys(SESSION, list({row.session for row in rows}))
    )
    now = await store.now()
    by_task = {task.id: task for task in tasks if task is not None}
    by_session = {session.id: session for session in there if session is not None}
    return [_info(row, by_task.get(row.task), by_session.get(row.session), now, policy) for row in rows]


def _info(
    row: LockHeldRow | LockWaitRow, task: TaskRow | None, session: SessionRow | None, now: float, policy: Settings
) -> LockInfo:
    if isinstance(row, LockHeldRow):
        state, token = HELD, row.token
    else:
        state, token = CONVERTS if row.rank == lock_queue.FIRST else WAITS, None
    return LockInfo(
        shown(row.path), row.mode, state, row.lease, token, row.owner, row.task, row.attempt,
        None if task is None else task.capability, row.session, "" if session is None else session.address,
        sessions.GONE if session is None else sessions.status(session, now, policy), row.since, row.priority,
    )  # fmt: skip


class _Snapshot:
    """`autogen_coord.core.store.Base` over the locks around some paths, so that the rules can be asked."""

    def __init__(self, tables: dict[str, dict[Key, Any]]) -> None:
        self._tables = tables

    @classmethod
    async def of(cls, store: Store, places: Iterable[str]) -> _Snapshot:
        """What is held and waited for at these stored paths, above and below, at one moment, with its sessions."""
        ranges = [*((place, end_of(place)) for place in places)]
        ranges += [(above, above + "\x01") for above in {each for place in places for each in ancestors(place)}]
        loads = [Range(table, "key", low=low, high=high, limit=MOST) for table in (LOCK_HELD, LOCK_WAIT) for low, high in ranges]
        counters, *found = await store.read(Keys(COUNTER, (lock_queue.WAITING,)), *loads)
        tables: dict[str, dict[Key, Any]] = {table.name: {} for table in (LOCK_HELD, LOCK_WAIT, SESSION, COUNTER)}
        for load, rows in zip(loads, found, strict=True):
            tables[load.table.name] |= {load.table.key_of(row): row for row in rows}
        named = {row.session for table in (LOCK_HELD, LOCK_WAIT) for row in tables[table.name].values()}
        (there,) = await store.read(Keys(SESSION, list(named)))
        tables[SESSION.name] = {row.id: row for row in there if row is not None}
        tables[COUNTER.name] = {row.name: row for row in counters if row is not None}
        return cls(tables)

    def gather(self, ranges: Sequence[Range[Any]]) -> Sequence[Range[Any]]:
        """None: all of it is here."""
        return ()

    def rows(self, table: Table[R]) -> list[R]:
        return list(self._tables[table.name].values())

    def obstacles(self, row: LockWaitRow) -> list[tuple[LockHeldRow | LockWaitRow, str]]:
        """What the rules say stands in a request's way, each once, with the path that is wanted there; one more than is shown."""
        request, rows = Request.of(row), Pending(self)
        found: dict[tuple[str, ...], tuple[LockHeldRow | LockWaitRow, str]] = {}
        for want in request.wants:
            one = request._replace(wants=(want,))
            others: list[LockHeldRow | LockWaitRow] = [*lock_queue.holders(rows, one), *lock_queue.earlier(rows, one)]
            for other in others:
                found.setdefault(_name(other), (other, want.path))
        return list(found.values())[: OBSTACLES + 1]

    # what the rules read

    def load(self, table: Table[R], keys: Sequence[Key]) -> list[R | None]:
        return [self._tables[table.name].get(key) for key in keys]

    def walk(self, range: Range[R]) -> list[R]:
        shape = range.table.shapes[range.index]
        rows = [row for row in self.rows(range.table) if shape.holds(row) and shape.prefix_of(row) == range.prefix]
        rows = [row for row in rows if _is_in(row[shape.first], range)]
        rows.sort(key=shape.order_of, reverse=range.reverse)
        return rows[: range.limit]


def _is_in(value: Any, range: Range[Any]) -> bool:
    return (range.low is None or value >= range.low) and (range.high is None or value < range.high)
