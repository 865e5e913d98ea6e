"""Locks: acquire, convert, release, give up; what a dead session held. Leases hang on the session that took them.

A resource is a path; a lock on it covers what lies below. A free lock is granted in the transaction that asks for it, else the
request waits in its place, holding nothing. Each grant has a token, greater than any before: the guard.

Source: modes, J. Gray et al. 1976 (see `lock_modes`); fencing, M. Kleppmann, "How to do distributed locking", 2016.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from ..errors import LeaseLostError, LockHeldError
from ..settings import Settings
from . import claims, deadlocks, events, lock_queue
from .events import Kind
from .lock_modes import combine, covers, shown
from .lock_queue import FIRST, Request, Want
from .queue import rank_of
from .sessions import is_live, require
from .store import Range, Rows
from .tables import LOCK_HELD, LOCK_WAIT, TASK, LockHeldRow, LockWaitRow

LAST = 1 << 62
"""The place of a request that has none yet."""


class Acquire(NamedTuple):
    """``wants`` is granted as a whole, under one token. ``id`` names the request, and then the lease: the same again is the same.

    ``within`` are the locks inside whose blocks this one is asked for: they are not released before it is answered. ``owner``: what
    others of this owner hold never stands in its way. ``task``, ``attempt``: the claim of the handler that asks.
    """

    id: str
    session: str
    wants: tuple[Want, ...]
    wait: bool
    priority: float = 5.0
    owner: str | None = None
    within: tuple[tuple[str, str], ...] = ()
    task: str | None = None
    attempt: int = 0


class Convert(NamedTuple):
    """A lease, held at ``paths``, shall hold at least ``mode`` on all of them; it keeps what it has while it waits.

    ``id`` names the request: the same again is the same. Another one for this lease that still waits is taken back: nobody awaits
    it any more. ``within``: the locks inside whose blocks this is asked for; its own rows need not be named.
    """

    id: str
    lease: str
    session: str
    paths: tuple[str, ...]
    mode: str
    wait: bool
    within: tuple[tuple[str, str], ...] = ()


class Release(NamedTuple):
    """A lease is given back, with the request that would convert it; a request that waits is taken back."""

    id: str
    session: str
    paths: tuple[str, ...]


class GiveUp(NamedTuple):
    """The patience of a request is over. ``lease``: the one that it would become, or that it would convert."""

    id: str
    lease: str
    session: str
    paths: tuple[str, ...]


class Evict(NamedTuple):
    """An operator takes a lock from its holder."""

    id: str
    paths: tuple[str, ...]


class Leave(NamedTuple):
    """A session gives back all that it holds."""

    session: str


class Handler(NamedTuple):
    """A handler has stopped: what it held is free."""

    session: str
    task: str
    attempt: int


class Guard(NamedTuple):
    """A lease as a write of ours names it."""

    id: str
    session: str
    token: int
    paths: tuple[str, ...]


class Granted(NamedTuple):
    """``since`` is the store's clock."""

    id: str
    token: int
    wants: tuple[Want, ...]
    since: float


class Waits(NamedTuple):
    """It waits in its place; ``id`` is the request's."""

    id: str


class Deadlocked(NamedTuple):
    """It would wait for itself: ``cycle`` says how, in words."""

    cycle: tuple[str, ...]


Answer = Granted | Waits | Deadlocked


def acquire(rows: Rows, command: Acquire, now: float, policy: Settings) -> Answer:
    """Grant it, or let it wait.

    Raises: LockHeldError when it would have to and will not; LeaseLostError (the session is dead); StaleClaimError (the handler's
    claim is over).
    """
    require(rows, command.session)
    free = lock_queue.is_free(rows, command.wants)
    known = None if free else _known(rows, command.id, command.wants)
    if known is not None:
        return known
    born = now
    if command.task is not None:
        born = _born(rows, command, now)
    if free:
        return _granted_at_once(rows, command, born, now)
    rank = rank_of(now, command.priority, policy)
    row = LockWaitRow(
        "", command.id, "", "", command.owner, command.session, command.task, command.attempt, command.priority, rank, LAST,
        now, born, deadlocks.stored(command.within),
    )  # fmt: skip
    return _settle(rows, Request.of(row, command.wants), row, command.wait, now)


def _granted_at_once(rows: Rows, command: Acquire, born: float, now: float) -> Granted:
    """Nobody waits, so it is not weighed against anybody, and closes no circle."""
    row = LockHeldRow(
        "", command.id, "", command.owner, 0, command.session, command.task, command.attempt, command.priority, now, born
    )  # fmt: skip
    token = lock_queue.grant(rows, Request(command.id, command.wants, command.owner, 0.0, 0), row, now).token
    return Granted(command.id, token, command.wants, now)


def _born(rows: Rows, command: Acquire, now: float) -> float:
    task = command.task or ""
    if claims.held(rows, command.session, task, command.attempt) is None:
        raise claims.stale(task, command.attempt)
    request = rows.one(TASK, task)
    return now if request is None else request.submitted_at


def _known(rows: Rows, id: str, wants: Sequence[Want]) -> Answer | None:
    """What the same command heard before. Raises: LeaseLostError when a part of it was taken away since."""
    held = [row for row in rows.get(LOCK_HELD, [(want.path, id) for want in wants]) if row is not None]
    if len(held) == len(wants):
        return Granted(id, held[0].token, tuple(wants), held[0].since)
    if held:
        raise _lost(id, [want.path for want in wants])
    return Waits(id) if lock_queue.request_at(rows, wants[0].path, id) is not None else None


def _settle(rows: Rows, request: Request, row: LockWaitRow, wait: bool, now: float, freed: Sequence[str] = ()) -> Answer:
    """``freed``: where others may go on since."""
    holder = next(lock_queue.holders(rows, request), None)
    before = None
    if holder is None and not _has_it(rows, request):
        before = next(lock_queue.earlier(rows, request), None)
    if holder is None and before is None:
        granted = lock_queue.grant(rows, request, LockHeldRow.of(row), now)
        new = deadlocks.suspects(rows, [granted, *lock_queue.admit(rows, freed, now)])
        deadlocks.break_cycles(rows, new, now)
        return Granted(request.lease, granted.token, request.wants, now)
    if not wait:
        raise _refusal(request, holder, before)
    request = lock_queue.enqueue(rows, row, request.wants)
    path = request.wants[0].path
    mine = rows.one(LOCK_WAIT, (path, request.id))
    assert mine is not None, "it was put there"
    refused = deadlocks.break_cycles(rows, [mine, *deadlocks.suspects(rows, lock_queue.admit(rows, freed, now))], now)
    if request.id in refused:
        return Deadlocked(refused[request.id])
    if rows.one(LOCK_WAIT, (path, request.id)) is not None:
        return Waits(request.id)
    held = rows.one(LOCK_HELD, (path, request.lease))  # another was refused, and this one was next
    assert held is not None, "who waits no more was refused or granted"
    return Granted(request.lease, held.token, request.wants, held.since)


def _has_it(rows: Rows, request: Request) -> bool:
    """Whether its owner holds all that it asks for: then nobody waits longer for it, and it would wait for itself behind them."""
    if request.owner is None:
        return False
    theirs = rows.scan(Range(LOCK_HELD, "by_owner", (request.owner,)))
    held = [row for row in theirs if request.is_mine(row) and is_live(rows, row.session)]
    return all(any(covers(row.mode, row.path, want.mode, want.path) for row in held) for want in request.wants)


def _refusal(request: Request, holder: LockHeldRow | None, before: LockWaitRow | None) -> LockHeldError:
    if holder is not None:
        since = f"{holder.mode} since {holder.since:.3f} by {deadlocks.who(holder)}"
        return LockHeldError(
            f"{shown(holder.path)!r} is held: {since}; pass wait= to wait for it",
            path=shown(holder.path), mode=holder.mode, holder=deadlocks.who(holder), since=holder.since,
        )  # fmt: skip
    if before is None:  # it became free in this very moment
        return LockHeldError(f"{shown(request.wants[0].path)!r} was not granted in time", path=shown(request.wants[0].path))
    return LockHeldError(
        f"{shown(before.path)!r} is waited for by {deadlocks.who(before)}, who came before; pass wait= to wait behind",
        path=shown(before.path), mode=before.mode, holder=deadlocks.who(before), since=before.since,
    )  # fmt: skip


def convert(rows: Rows, command: Convert, now: float, policy: Settings) -> Answer:
    """Let a lease hold more; readers that all want to write wait for each other, so the second is a deadlock at once.

    Raises: LeaseLostError, LockHeldError.
    """
    held = mine(rows, command.lease, command.session, command.paths)
    waits = lock_queue.conversion_at(rows, command.paths[0], command.lease)
    if waits is not None and waits.id == command.id:
        return Waits(command.id)
    freed = _withdrawn(rows, [waits])
    wants = tuple(Want(row.path, combine(row.mode, command.mode)) for row in held)
    if all(want.mode == row.mode for want, row in zip(wants, held, strict=True)):
        deadlocks.admit(rows, freed, now)
        return Granted(command.lease, held[0].token, wants, held[0].since)
    row = held[0]
    within = dict.fromkeys([*((one.path, one.id) for one in held), *command.within])
    new = LockWaitRow(
        "", command.id, "", "", row.owner, row.session, row.task, row.attempt, row.priority, FIRST, LAST, now, row.born,
        deadlocks.stored(list(within)), row.id,
    )  # fmt: skip
    return _settle(rows, Request.of(new, wants), new, command.wait, now, freed)


def mine(rows: Rows, id: str, session: str, paths: Sequence[str]) -> list[LockHeldRow]:
    """The rows of a lease that stands. Raises: LeaseLostError."""
    found = rows.get(LOCK_HELD, [(path, id) for path in paths])
    held = [row for row in found if row is not None and row.session == session]
    if len(held) < len(paths) or not is_live(rows, session):
        raise _lost(id, paths)
    return held


def _lost(id: str, paths: Sequence[str]) -> LeaseLostError:
    return LeaseLostError(
        f"the lock on {', '.join(map(shown, paths))} is not held by this lease: it was released, or lost", lease=id
    )


def release(rows: Rows, command: Release, now: float, policy: Settings) -> bool:
    """Free a lease, or take back a request; the next in line are granted. False when it was not held any more.

    Of a session that was declared dead it is freed as well, before its burial comes to it; but it was lost before.
    """
    lives = is_live(rows, command.session)
    place = command.paths[0]
    waits = lock_queue.request_at(rows, place, command.id) or lock_queue.conversion_at(rows, place, command.id)
    freed: list[str] = []
    if waits is not None and waits.session == command.session:
        lock_queue.leave(rows, waits)
        freed += command.paths
    held = [row for row in rows.get(LOCK_HELD, [(path, command.id) for path in command.paths]) if row is not None]
    kind = Kind.RESOURCE_UNLOCKED if lives else Kind.RESOURCE_LOST
    freed += _free(rows, [row for row in held if row.session == command.session], kind, now)
    if freed:
        deadlocks.admit(rows, list(dict.fromkeys(freed)), now)
    return lives and bool(freed)


def give_up(rows: Rows, command: GiveUp, now: float, policy: Settings) -> Granted | LockHeldError | None:
    """The patience of a waiter is over: its request is taken back (a lease that would convert keeps what it has).

    The answer says who was in its way; or what it was granted, if it waits no more; None when it was refused.
    """
    waits = rows.one(LOCK_WAIT, (command.paths[0], command.id))
    if waits is None or waits.session != command.session:
        held = rows.get(LOCK_HELD, [(path, command.lease) for path in command.paths])
        first = held[0]
        if first is None or any(row is None or row.session != command.session or row.token != first.token for row in held):
            return None
        return Granted(command.lease, first.token, (), first.since) if command.id in (first.id, first.conversion) else None
    request = Request.of(waits)
    refusal = _refusal(request, next(lock_queue.holders(rows, request), None), next(lock_queue.earlier(rows, request), None))
    lock_queue.leave(rows, waits)
    deadlocks.admit(rows, [want.path for want in request.wants], now)
    return refusal


def leave(rows: Rows, command: Leave, now: float, policy: Settings) -> bool:
    """A slice of what a session gives back when it says goodbye. True when there may be more."""
    return bury(rows, command.session, policy.slice, now, policy, Kind.RESOURCE_UNLOCKED) > 0


def evict(rows: Rows, command: Evict, now: float, policy: Settings) -> int:
    """Take a lock away: its holder hears that it is lost. Returns how many paths were freed."""
    held = [row for row in rows.get(LOCK_HELD, [(path, command.id) for path in command.paths]) if row is not None]
    freed = _withdrawn(rows, [lock_queue.conversion_at(rows, row.path, row.id) for row in held[:1]])
    freed += _free(rows, held, Kind.RESOURCE_LOST, now)
    deadlocks.admit(rows, list(dict.fromkeys(freed)), now)
    return len(held)


def stop(rows: Rows, command: Handler, now: float, policy: Settings) -> int:
    """Free what a handler took and did not give back: it has stopped, so nothing is written under it any more."""
    waits = rows.scan(Range(LOCK_WAIT, "by_task", (command.task,)))
    freed = _withdrawn(rows, [row for row in waits if (row.session, row.attempt) == (command.session, command.attempt)])
    held = rows.scan(Range(LOCK_HELD, "by_task", (command.task,)))
    mine = [row for row in held if (row.session, row.attempt) == (command.session, command.attempt)]
    freed += _free(rows, mine, Kind.RESOURCE_UNLOCKED, now)
    deadlocks.admit(rows, list(dict.fromkeys(freed)), now)
    return len(mine)


def bury(rows: Rows, session: str, most: int, now: float, policy: Settings, kind: Kind = Kind.RESOURCE_LOST) -> int:
    """A slice of what a session left behind, held and waited for. Returns how many rows were freed.

    What waits goes first: else one that says goodbye would be granted what it just gave back.
    """
    waits = rows.scan(Range(LOCK_WAIT, "by_session", (session,), limit=most))
    freed = _withdrawn(rows, waits)
    held = rows.scan(Range(LOCK_HELD, "by_session", (session,), limit=most - len(waits)))
    freed += _free(rows, held, kind, now)
    deadlocks.admit(rows, list(dict.fromkeys(freed)), now)
    return len(waits) + len(held)


def _withdrawn(rows: Rows, waits: Sequence[LockWaitRow | None]) -> list[str]:
    """Take requests back, each whole though a row of it may be missing here; the answer is where they stood."""
    freed: list[str] = []
    for id, row in {row.id: row for row in waits if row is not None}.items():
        if rows.one(LOCK_WAIT, (row.path, id)) is not None:
            lock_queue.leave(rows, row)
            freed += [want.path for want in lock_queue.wants_of(row)]
    return freed


def _free(rows: Rows, held: Sequence[LockHeldRow], kind: Kind, now: float) -> list[str]:
    for row in held:
        rows.drop(LOCK_HELD, row)
        data = events.of_lock(row.mode, row.id, row.token)
        events.append(rows, now, kind, shown(row.path), row.session, data)
    return [row.path for row in held]


def require_cover(rows: Rows, guard: Guard, path: str, mode: str) -> None:
    """The one check of any write that names a lease: it still holds, with this token, a lock that covers ``mode`` on ``path``.

    Call it in the writing transaction. Raises: LeaseLostError.
    """
    held = _standing(rows, guard)
    if any(row.token != guard.token for row in held):
        raise _not_held(guard, f"{mode} on {shown(path)!r}")
    if not any(covers(row.mode, row.path, mode, path) for row in held):
        has = ", ".join(f"{row.mode} on {shown(row.path)!r}" for row in held[:5])
        raise LeaseLostError(
            f"the lease with token {guard.token} holds {has}, and {mode} on {shown(path)!r} is wanted: convert it, or lock that",
            lease=guard.id,
            token=guard.token,
        )


def require_standing(rows: Rows, guard: Guard) -> None:
    """The same for a write that the lease's paths say nothing of: it still stands, with this token. Raises: LeaseLostError."""
    if any(row.token != guard.token for row in _standing(rows, guard)):
        raise _not_held(guard, ", ".join(repr(shown(path)) for path in guard.paths))


def _standing(rows: Rows, guard: Guard) -> list[LockHeldRow]:
    held = mine(rows, guard.id, guard.session, guard.paths)
    if not lock_queue.is_of_now(rows, guard.token):
        raise LeaseLostError(
            f"token {guard.token} is of another store, or of this one before it was restored: take the lock again",
            lease=guard.id,
            token=guard.token,
        )
    return held


def _not_held(guard: Guard, what: str) -> LeaseLostError:
    return LeaseLostError(f"the lease with token {guard.token} does not hold {what} any more", lease=guard.id, token=guard.token)
