"""Where a live task stands: its rank, its turn in its lane, the moment it must be looked at again.

``ready`` means claimable now; what may not start yet waits outside: *delayed* (by time), *waiting* (its lane is taken). Tasks of
one lane run one at a time, in order of rank, then submission: one of them holds the lane (place 0), the others wait (place 1); one
that is not yet due (place 2) does not take part. A retry keeps the lane while it is delayed. Whoever frees the lane promotes one.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ..settings import Settings
from . import inboxes, pools
from .addresses import is_inbox
from .registry import is_online, pool_for
from .store import Keys, Range, Rows, each
from .tables import DELAYED, QUEUE, READY, RUNNING, TASK, WAITING, QueueRow

HOLDS, WAITS, LATER = 0, 1, 2
SUBLANE = ">>"
CHILD_LEAD = 0.001
"""Seconds by which a child goes before its parent's place: work that was begun is ended before more is begun, or the handlers that
wait for children pile up."""


def rank_of(ready_at: float, priority: float, policy: Settings) -> float:
    """Smaller goes first. A point of priority is worth some seconds of waiting, so that nothing waits for ever."""
    return ready_at - priority * policy.priority_weight


def due_of(row: QueueRow, policy: Settings) -> float | None:
    """The earliest moment at which time alone changes this task."""
    if row.state == RUNNING:
        return due_while_running(row.started_at or 0.0, row.timeout, row.deadline, row.cancel_at, policy)
    times = [] if row.deadline is None else [row.deadline]
    if row.expires_at is not None:
        times.append(row.expires_at)
    if row.state == DELAYED or (row.state == READY and row.avoid is not None):
        times.append(row.ready_at)
    return min(times, default=None)


def due_while_running(
    started_at: float, timeout: float, deadline: float | None, cancel_at: float | None, policy: Settings
) -> float:
    """When others step in: the runner ends its attempt itself, and waits one grace for the handler, so it is after another."""
    due = started_at + timeout + 2 * policy.cancel_grace
    if deadline is not None:
        due = min(due, deadline + policy.cancel_grace)
    return due if cancel_at is None else min(due, cancel_at)


def put(rows: Rows, row: QueueRow, policy: Settings) -> None:
    """Write a live task, with its ``due`` derived."""
    due = due_of(row, policy)
    rows.put(QUEUE, row if due == row.due else row._replace(due=due))


def expect(rows: Rows, found: Sequence[QueueRow]) -> None:
    """Ask at once for what is read of each when they end or move on: a store that loads in rounds needs one, not one a task."""
    tasks, parents = [row.id for row in found], [row.parent for row in found if row.parent is not None]
    wanted: tuple[Keys[Any], ...] = (Keys(TASK, tasks), Keys(QUEUE, parents))
    each(wanted, lambda load: rows.get(load.table, load.keys))
    inboxes.expect(rows, found)


def holders_last(found: Sequence[QueueRow]) -> list[QueueRow]:
    """Who holds a lane goes last where many end: it would promote one that ends next, which promotes one that ends next."""
    return sorted(found, key=lambda row: row.place == HOLDS)


def admit(rows: Rows, row: QueueRow, now: float, policy: Settings) -> None:
    """Let a task in whose time has come: among the ready, or behind the holder of its lane."""
    if row.lane is None:
        put(rows, row if row.state == READY else row._replace(state=READY), policy)
        return
    if row.place != HOLDS:
        holder = next(iter(rows.scan(Range(QUEUE, "by_lane", (row.lane, HOLDS), limit=1))), None)
        if holder is not None:
            if not _overtakes(row, holder):
                put(rows, row._replace(state=WAITING, place=WAITS), policy)
                return
            put(rows, holder._replace(state=WAITING, place=WAITS), policy)
    put(rows, row._replace(state=READY, place=HOLDS), policy)


def _overtakes(row: QueueRow, holder: QueueRow) -> bool:
    """A holder that was never claimed gives way to a better rank."""
    return holder.state == READY and holder.attempt == 0 and (row.rank, row.seq) < (holder.rank, holder.seq)


def delay(rows: Rows, row: QueueRow, until: float, policy: Settings) -> None:
    """Let a task wait for a moment. Its rank is that of the moment; a lane that it holds stays its own."""
    place = None if row.lane is None else HOLDS if row.place == HOLDS else LATER
    rank = rank_of(until, row.priority, policy)
    put(rows, row._replace(state=DELAYED, place=place, ready_at=until, rank=rank), policy)


def free_lane(rows: Rows, row: QueueRow, now: float, policy: Settings) -> None:
    """The holder of a lane is done: the next in line becomes ready, in a pool that somebody serves."""
    if row.lane is None or row.place != HOLDS:
        return
    for following in rows.scan(Range(QUEUE, "by_lane", (row.lane, WAITS), limit=1)):
        following = reroute(rows, following, now, policy)._replace(state=READY, place=HOLDS)
        if is_stranded(rows, following):
            rows.put(QUEUE, following._replace(due=now))  # `timers.turn` ends it, not this transaction: a lane may hold thousands
        else:
            put(rows, following, policy)


def is_stranded(rows: Rows, row: QueueRow) -> bool:
    """Whether it stands in a pool of a provider that is gone."""
    pinned = pools.provider_in(row.pool)
    return pinned is not None and not is_online(rows, pinned)


def reroute(rows: Rows, row: QueueRow, now: float, policy: Settings) -> QueueRow:
    """A task pinned to a provider that is gone is pinned anew; one *addressed* to it stays stranded, for others to end.

    A message whose inbox was closed goes to the one that is open.
    """
    if is_inbox(row.capability):
        row = inboxes.settled(rows, row, policy)
    if not is_stranded(rows, row):
        return row
    task = rows.one(TASK, row.id)
    if task is None or task.target is not None:
        return row
    pool = pool_for(rows, row.capability, None, task.sticky, now, policy)
    return row._replace(pool=pools.alone(pool) if row.suspect else pool, avoid=None)


def lane_within(rows: Rows, lane: str, parent: str | None) -> str:
    """The lane of a child: inside a lane that an ancestor holds, a lane of its own, so that nobody waits for its own caller."""
    while parent is not None:
        row = rows.one(QUEUE, parent)
        if row is None:
            break
        if row.lane is not None and (row.lane == lane or row.lane.startswith(lane + SUBLANE)):
            return f"{lane}{SUBLANE}{row.id}"
        parent = row.parent
    return lane
