"""What time alone does to tasks. Anybody may turn the clock: the rule finds what is due, and does it once."""

from __future__ import annotations

import math
import random
from typing import NamedTuple

from ..settings import Settings
from . import endings, pools, queue
from .endings import Failure
from .store import Range, Rows, each
from .tables import CANCELLED, DELAYED, EXPIRED, FAILED, QUEUE, RUNNING, TASK, QueueRow


class Turn(NamedTuple):
    """``draw`` seeds the jitter of what is retried."""

    draw: float = 0.0


def turn(rows: Rows, command: Turn, now: float, policy: Settings) -> bool:
    """Do one slice of what is due; True when there is more."""
    due = rows.scan(Range(QUEUE, "by_due", (), high=math.nextafter(now, math.inf), limit=policy.slice))
    queue.expect(rows, due)

    def turn_one(found: QueueRow) -> None:
        row = rows.one(QUEUE, found.id)  # an earlier one may have ended it (a parent its children)
        if row is not None and row.due is not None and row.due <= now:
            _turn_one(rows, row, command.draw, now, policy)

    each(queue.holders_last(due), turn_one)
    return len(due) == policy.slice


def _turn_one(rows: Rows, row: QueueRow, draw: float, now: float, policy: Settings) -> None:
    if row.state == RUNNING:
        _turn_running(rows, row, draw, now, policy)
    elif row.deadline is not None and row.deadline <= now:
        endings.end(rows, row, EXPIRED, now, policy)
    elif row.expires_at is not None and row.expires_at <= now:
        endings.end(rows, row, EXPIRED, now, policy)
    elif queue.is_stranded(rows, row := queue.reroute(rows, row, now, policy)):
        target = pools.provider_in(row.pool) or ""
        endings.end(rows, row, FAILED, now, policy, error=endings.gone(target).stored())
    elif row.state == DELAYED:
        queue.admit(rows, row, now, policy)
    else:  # ready, kept from a provider that rejected it: the pause is over
        task = rows.one(TASK, row.id)
        pool = row.capability if task is None or task.sticky is None else row.pool
        queue.put(rows, row._replace(pool=pools.alone(pool) if row.suspect else pool, avoid=None), policy)


def _turn_running(rows: Rows, row: QueueRow, draw: float, now: float, policy: Settings) -> None:
    if row.cancel_at is not None and row.cancel_at <= now:
        endings.end(rows, row, CANCELLED, now, policy)
    elif row.deadline is not None and row.deadline + policy.cancel_grace <= now:
        endings.end(rows, row, EXPIRED, now, policy)
    else:
        failure = Failure("timeout", "TimeoutError", f"attempt {row.attempt} did not end within {row.timeout:g} s")
        endings.fail(rows, row, failure, random.Random(f"{draw}{row.id}").random(), now, policy)
