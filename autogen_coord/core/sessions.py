"""Sessions: what a live process holds hangs on its lease. The rules; the thread that keeps the lease is in `beating`.

A session is *live* while it renews, *suspect* when it is late (it gets no new work), *dead* once another declared it so after its
lease ended, *gone* when all it held has been returned, *closed* when it said goodbye. Dead is one transaction; from then its rows
count for nothing, and slices return what it held. Only a process that renewed on time for one whole TTL may declare another dead:
if the store was away, or the machine slept, everybody is late, and nobody may judge.
"""

from __future__ import annotations

from typing import NamedTuple

from ..errors import LeaseLostError
from ..settings import Settings
from . import events
from .events import Kind
from .store import Range, Rows
from .tables import LOCK_HELD, LOCK_WAIT, PROVIDER, QUEUE, SESSION, SessionRow

LIVE = "live"
DEAD = "dead"
GONE = "gone"
CLOSED = "closed"


class OpenSession(NamedTuple):
    id: str
    kind: str
    address: str
    meta: str | None = None


class Declare(NamedTuple):
    by: str
    session: str


class CloseSession(NamedTuple):
    id: str


def open_session(rows: Rows, command: OpenSession, now: float, policy: Settings) -> SessionRow:
    """A new session, live from now for one ttl."""
    known = rows.one(SESSION, command.id)
    if known is not None:
        return known
    ttl = policy.session_ttl
    row = SessionRow(command.id, command.kind, command.address, LIVE, now + ttl, now, ttl, now, command.meta)
    rows.put(SESSION, row)
    events.append(rows, now, Kind.SESSION_OPENED, row.id, row.id, events.facts(kind=row.kind, address=row.address))
    return row


def renew(rows: Rows, id: str, now: float, policy: Settings) -> bool:
    """Prolong a lease; False when the session no longer lives. A late renewal is fine while nobody declared it dead."""
    row = rows.one(SESSION, id)
    if row is None or row.state != LIVE:
        return False
    late = now > row.lease_until - policy.trust_margin or now < row.steady_since  # the latter: a clock that stepped back
    rows.put(SESSION, row._replace(lease_until=now + row.ttl, steady_since=now if late else row.steady_since))
    return True


def is_fresh(row: SessionRow, now: float, policy: Settings) -> bool:
    """Whether it was renewed so recently that a commit need not write it again."""
    return row.lease_until - now > row.ttl - policy.beat / 4


def status(row: SessionRow, now: float, policy: Settings) -> str:
    """Its state as told to people: live, suspect (late) or overdue (its lease ended, not yet declared), dead, gone, closed."""
    if row.state != LIVE:
        return row.state
    if now > row.lease_until:
        return "overdue"
    return "suspect" if is_late(row, now, policy) else LIVE


def is_late(row: SessionRow, now: float, policy: Settings) -> bool:
    """Whether it has not renewed for so long that it gets no new work."""
    return row.lease_until - now < row.ttl * (1 - policy.suspect_after / policy.session_ttl)


def is_live(rows: Rows, id: str | None) -> bool:
    """Whether what hangs on this session still counts."""
    if id is None:
        return False
    row = rows.one(SESSION, id)
    return row is not None and row.state == LIVE


def require(rows: Rows, id: str) -> None:
    """Raises: LeaseLostError when the session is no longer live."""
    if not is_live(rows, id):
        raise LeaseLostError(f"session {id} was declared dead or closed: its claims are void", session=id)


def declare_dead(rows: Rows, command: Declare, now: float, policy: Settings) -> bool:
    """The death transaction: True when the session is dead from now on (or was)."""
    judge, row = rows.get(SESSION, (command.by, command.session))
    if judge is None or judge.state != LIVE or now - judge.steady_since < judge.ttl:
        return False
    if row is None or row.state != LIVE:
        return row is not None and row.state == DEAD
    if now <= row.lease_until:
        return False
    rows.put(SESSION, row._replace(state=DEAD))
    data = events.facts(overdue=round(now - row.lease_until, 3), address=row.address)
    events.append(rows, now, Kind.SESSION_DEAD, row.id, command.by, data)
    return True


def close_session(rows: Rows, command: CloseSession, now: float, policy: Settings) -> bool:
    """Goodbye: what it held was given back before. False when it had been declared dead meanwhile, or holds something still:
    then it is dead, and buried."""
    row = rows.one(SESSION, command.id)
    if row is None or row.state != LIVE:
        return False
    providers = rows.scan(Range(PROVIDER, "by_session", (row.id,)))
    if any(each.status != "offline" for each in providers) or any(
        rows.scan(Range(table, "by_session", (row.id,), limit=1)) for table in (QUEUE, LOCK_HELD, LOCK_WAIT)
    ):
        rows.put(SESSION, row._replace(state=DEAD, lease_until=now))
        events.append(rows, now, Kind.SESSION_DEAD, row.id, row.id, events.facts(overdue=0.0, address=row.address))
        return False
    rows.put(SESSION, row._replace(state=CLOSED, lease_until=now))
    events.append(rows, now, Kind.SESSION_CLOSED, row.id, row.id)
    return True


def overdue(now: float) -> tuple[Range[SessionRow], Range[SessionRow]]:
    """The reads that tell who must be looked at: live sessions whose lease ended, and dead ones not yet buried."""
    return Range(SESSION, "by_state", (LIVE,), high=now), Range(SESSION, "by_state", (DEAD,))
