"""After a death: slices of at most 256 rows return what the dead session held. Any process may do them."""

from __future__ import annotations

from typing import NamedTuple

from ..settings import Settings
from . import endings, locks, pools, queue
from .registry import OFFLINE, is_online, retire
from .sessions import DEAD, GONE
from .store import Range, Rows
from .tables import FAILED, PROVIDER, QUEUE, SESSION, TASK, ProviderRow


class Bury(NamedTuple):
    session: str


class Settle(NamedTuple):
    """Providers that were withdrawn: what was pinned or addressed to them must not wait there."""

    providers: tuple[str, ...]


def bury(rows: Rows, command: Bury, now: float, policy: Settings) -> bool:
    """One slice: providers offline, claims back to ready (as suspects). True when there is more."""
    session = rows.one(SESSION, command.session)
    if session is None or session.state != DEAD:
        return False
    left = policy.slice
    there = [row for row in rows.scan(Range(PROVIDER, "by_session", (session.id,))) if row.status != OFFLINE]
    for provider in there:
        retire(rows, provider, OFFLINE, now)
    claims = rows.scan(Range(QUEUE, "by_session", (session.id,), limit=max(left, 2)))
    lonely = len(claims) == 1 and bool(there)  # all that it held: an earlier slice, which took others, left no provider online
    queue.expect(rows, claims)
    for found in claims:
        row = rows.one(QUEUE, found.id)
        if row is not None and row.session == session.id:
            endings.crash(rows, row, now, policy, lonely)
    left -= len(claims)
    if left > 0:
        left -= locks.bury(rows, session.id, left, now, policy)
    for provider in rows.scan(Range(PROVIDER, "by_session", (session.id,))):
        if left <= 0:
            return True
        left -= empty_pools(rows, provider, left, now, policy)
    if left <= 0:
        return True
    rows.put(SESSION, session._replace(state=GONE))
    return False


def settle(rows: Rows, command: Settle, now: float, policy: Settings) -> bool:
    """One slice for providers that said goodbye. True when there is more."""
    left = policy.slice
    for provider in rows.get(PROVIDER, command.providers):
        if provider is not None and left > 0:
            left -= empty_pools(rows, provider, left, now, policy)
    return left <= 0


def empty_pools(rows: Rows, provider: ProviderRow, most: int, now: float, policy: Settings) -> int:
    """Send what is ready for one provider only to another, or end it where it was addressed. Returns how many."""
    if is_online(rows, provider.id):
        return 0
    moved = 0
    pool = pools.addressed(provider.capability, provider.id)
    for place in (pool, pools.alone(pool)):
        pinned = rows.scan(Range(QUEUE, "ready", (place,), limit=most - moved))
        queue.expect(rows, pinned)
        for found in pinned:
            moved += 1
            row = rows.one(QUEUE, found.id)  # an earlier one may have ended it (a parent its children)
            if row is None:
                continue
            task = rows.one(TASK, row.id)
            if task is not None and task.target is not None:
                endings.end(rows, row, FAILED, now, policy, error=endings.gone(provider.id).stored())
            else:
                queue.put(rows, queue.reroute(rows, row, now, policy), policy)
        if moved >= most:
            break
    return moved
