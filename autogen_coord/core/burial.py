"""After a death: slices of at most 256 rows return what the dead session held. Any process may do them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from ..settings import Settings
from . import bodies, endings, inboxes, locks, pools, queue
from .addresses import TOPIC
from .registry import OFFLINE, is_online, retire, split_label
from .sessions import DEAD, GONE
from .store import Range, Rows, each
from .tables import FAILED, PROVIDER, QUEUE, SESSION, TASK, ProviderRow, QueueRow, SessionRow

BURIED = "buried"
"""In a dead session's ``meta``: with which provider the next slice begins."""


class Bury(NamedTuple):
    session: str


class Settle(NamedTuple):
    """Providers that were withdrawn: what was pinned or addressed to them must not wait there. At most a slice of them."""

    providers: tuple[str, ...]


def bury(rows: Rows, command: Bury, now: float, policy: Settings) -> bool:
    """One slice: claims back to ready (as suspects), providers offline and their pools emptied. True when there is more."""
    session = rows.one(SESSION, command.session)
    if session is None or session.state != DEAD:
        return False
    claims = rows.scan(Range(QUEUE, "by_session", (session.id,), limit=max(policy.slice, 2)))
    start = _left_off(session)
    lonely = len(claims) == 1 and start is None  # all that it held: no earlier slice took others
    _crash(rows, claims, lonely, now, policy)
    left = policy.slice - len(claims)
    if left > 0:
        left -= locks.bury(rows, session.id, left, now, policy)
    following: str | None = start or ""
    if left > 0:
        following = _take_down(rows, session, following or "", left, now, policy)
    if following is None:
        rows.put(SESSION, session._replace(state=GONE, meta=None))
        return False
    rows.put(SESSION, session._replace(meta=bodies.encode({BURIED: following})))
    return True


def _left_off(session: SessionRow) -> str | None:
    """The provider with which an earlier slice left off (empty: before the first); None when there was none."""
    noted = None if session.meta is None else bodies.decode(session.meta).get(BURIED)
    return None if noted is None else str(noted)


def _crash(rows: Rows, claims: Sequence[QueueRow], lonely: bool, now: float, policy: Settings) -> None:
    queue.expect(rows, claims)

    def crash(found: QueueRow) -> None:
        row = rows.one(QUEUE, found.id)  # an earlier one may have ended it (a parent its children)
        if row is not None and row.session == found.session:
            endings.crash(rows, row, now, policy, lonely)

    each(claims, crash)


def _take_down(rows: Rows, session: SessionRow, start: str, most: int, now: float, policy: Settings) -> str | None:
    """So many providers from ``start`` on are offline from now; the provider to go on with, None when all is done."""
    found = rows.scan(Range(PROVIDER, "by_session", (session.id,), low=start, limit=most + 1))
    some, rest = found[:most], found[most:]
    for provider in some:
        if provider.status != OFFLINE:
            retire(rows, provider, OFFLINE, now)
    if empty_pools(rows, some, most, now, policy):
        return start
    return rest[0].id if rest else None


def settle(rows: Rows, command: Settle, now: float, policy: Settings) -> bool:
    """One slice for providers that said goodbye. True when there is more."""
    there = [provider for provider in rows.get(PROVIDER, command.providers) if provider is not None]
    return empty_pools(rows, there, policy.slice, now, policy)


def empty_pools(rows: Rows, providers: Sequence[ProviderRow], most: int, now: float, policy: Settings) -> bool:
    """Send what is ready only for providers that are gone to others, or end it where it was addressed. True when there is more."""
    served = [provider for provider in providers if split_label(provider.capability)[0] != TOPIC]  # a subscription has no pool
    rows.get(SESSION, list(dict.fromkeys(provider.session for provider in served)))
    own = [pools.addressed(provider.capability, provider.id) for provider in served if not is_online(rows, provider.id)]
    pinned, more = _pinned(rows, [place for pool in own for place in (pool, pools.alone(pool))], most)
    queue.expect(rows, pinned)

    def move(found: QueueRow) -> None:
        row = rows.one(QUEUE, found.id)  # an earlier one may have ended it (a parent its children)
        if row is None:
            return
        task = rows.one(TASK, row.id)
        if task is not None and task.target is not None:
            endings.end(rows, row, FAILED, now, policy, error=endings.gone(pools.provider_in(row.pool) or "").stored())
        else:
            queue.put(rows, queue.reroute(rows, row, now, policy), policy)

    each(pinned, move)
    closed = [provider.capability for provider in served if provider.status == OFFLINE]
    return inboxes.leave(rows, closed, most, policy) or more


def _pinned(rows: Rows, places: Sequence[str], most: int) -> tuple[list[QueueRow], bool]:
    """Some ``most`` of what is ready in these pools, of each as many as of another; and whether there may be more."""
    heads = rows.scan_many([Range(QUEUE, "ready", (pool,), limit=1) for pool in places])
    full = [pool for pool, head in zip(places, heads, strict=True) if head]
    share = max(1, most // max(1, len(full)))
    found = rows.scan_many([Range(QUEUE, "ready", (pool,), limit=share) for pool in full[:most]])
    return [row for some in found for row in some], len(full) > most or any(len(some) == share for some in found)
