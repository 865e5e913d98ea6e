"""How a task ends, and how an attempt ends without ending its task. Everything that an end entails is in its transaction: the lane
goes to the next, the waiting parent is told, live children are cancelled."""

from __future__ import annotations

from typing import NamedTuple

from ..settings import Settings
from . import bodies, events, pools, queue
from .addresses import is_pulled
from .events import Kind
from .retry import RetryPolicy
from .store import Range, Rows, each
from .tables import (
    ATTEMPT,
    CANCELLED,
    COUNTER,
    EXPIRED,
    FAILED,
    OUTCOME,
    QUEUE,
    RUNNING,
    SUCCEEDED,
    TASK,
    AttemptRow,
    CounterRow,
    OutcomeRow,
    QueueRow,
)

ERROR_BYTES = 16_000
"""What an attempt's or outcome's error may take; longer texts are cut."""
FINISHED = "finished"
PRUNED = "finished_pruned"

_KINDS: dict[str, Kind] = {
    SUCCEEDED: Kind.TASK_COMPLETED,
    FAILED: Kind.TASK_FAILED,
    CANCELLED: Kind.TASK_CANCELLED,
    EXPIRED: Kind.TASK_EXPIRED,
}


class Failure(NamedTuple):
    """What went wrong in an attempt, as it is stored."""

    code: str
    type: str
    text: str
    traceback: str = ""
    retryable: bool = True
    retry_after: float | None = None

    def stored(self) -> str:
        return bodies.encode(
            {
                "code": self.code,
                "type": self.type[:200],
                "text": self.text[: ERROR_BYTES // 4],
                "traceback": self.traceback[-ERROR_BYTES // 2 :],
            }
        )


def end(
    rows: Rows, row: QueueRow, state: str, now: float, policy: Settings, output: str | None = None, error: str | None = None
) -> OutcomeRow:
    """Write a live task's outcome, once, and all that follows from it."""
    text, blob = bodies.keep(rows, output, policy.blob_from)
    attempt = row.attempt
    outcome = OutcomeRow(
        row.id, state, row.capability, text, blob, error, attempt, row.failures, row.crashes,
        row.session, row.provider, row.started_at, now,
    )  # fmt: skip
    rows.put(OUTCOME, outcome)
    rows.drop(QUEUE, row)
    count(rows, FINISHED)
    events.append(rows, now, _KINDS[state], row.id, row.session, f'{{"capability":"{row.capability}","attempt":{attempt}}}')
    queue.free_lane(rows, row, now, policy)
    if row.parent is not None:
        parent = rows.one(QUEUE, row.parent)
        if parent is not None and parent.waits_for == row.id:
            rows.put(QUEUE, parent._replace(waits_for=None))
    if row.children and state != SUCCEEDED:
        cancel_children(rows, row, now, policy)
    return outcome


def count(rows: Rows, name: str, more: int = 1) -> None:
    counter = rows.one(COUNTER, name)
    rows.put(COUNTER, CounterRow(name, (counter.value if counter else 0) + more))


def cancel_children(rows: Rows, row: QueueRow, now: float, policy: Settings) -> None:
    children = rows.scan(Range(QUEUE, "by_parent", (row.id,)))
    queue.expect(rows, children)

    def give_up(found: QueueRow) -> None:
        child = rows.one(QUEUE, found.id)  # as it is now: a sibling's end may have promoted it
        if child is not None:
            cancel(rows, child, now, policy)

    each(queue.holders_last(children), give_up)


def cancel(rows: Rows, row: QueueRow, now: float, policy: Settings) -> OutcomeRow | None:
    """End a task that does not run; ask one that runs to stop, and its children with it."""
    if row.state != RUNNING:
        return end(rows, row, CANCELLED, now, policy)
    if row.cancel_at is None:
        queue.put(rows, row._replace(cancel_at=now + policy.cancel_grace), policy)
        events.append(rows, now, Kind.TASK_CANCELLING, row.id, row.session)
        if row.children:
            cancel_children(rows, row, now, policy)
    return None


def fail(rows: Rows, row: QueueRow, failure: Failure, draw: float, now: float, policy: Settings) -> OutcomeRow | None:
    """An attempt failed: the outcome if that ends the task, None if it will be tried again."""
    error = failure.stored()
    if row.cancel_at is not None:
        return end(rows, row, CANCELLED, now, policy, error=error)
    row = row._replace(failures=row.failures + 1)
    task = rows.one(TASK, row.id)
    retry = RetryPolicy.of(policy, task.retry if task else None)
    if not failure.retryable or row.failures >= retry.tries:
        return end(rows, row, FAILED, now, policy, error=error)
    record(rows, row, "timeout" if failure.code == "timeout" else "failed", now, error)
    wait = retry.delay(row.failures, draw) if failure.retry_after is None else failure.retry_after
    events.append(
        rows, now, Kind.TASK_RETRIED, row.id, row.session,
        events.facts(capability=row.capability, attempt=row.attempt, reason=failure.type[:200], wait=round(wait, 3)),
    )  # fmt: skip
    queue.delay(rows, unclaimed(row)._replace(suspect=0, pool=pools.together(row.pool)), now + wait, policy)
    return None


def crash(rows: Rows, row: QueueRow, now: float, policy: Settings, lonely: bool = False) -> None:
    """The process of a running task died. Its tasks become suspects and run alone; only a crash while alone counts.

    What was pulled from an inbox (no handler ran it) goes back there; that counts if the process held nothing else (``lonely``).
    """
    if row.cancel_at is not None:
        end(rows, row, CANCELLED, now, policy)
        return
    if row.deadline is not None and row.deadline <= now:
        end(rows, row, EXPIRED, now, policy)
        return
    pulled = is_pulled(row.capability)
    alone = lonely if pulled else pools.is_alone(row.pool)
    row = row._replace(crashes=row.crashes + alone)
    failure = Failure("crashed", "ProcessDied", f"the process {row.session} that ran attempt {row.attempt} died")
    task = rows.one(TASK, row.id)
    if row.crashes >= policy.crash_limit or (task is not None and task.target is not None):
        end(rows, row, FAILED, now, policy, error=failure.stored())
        return
    record(rows, row, "crashed", now, failure.stored())
    events.append(
        rows, now, Kind.TASK_RETRIED, row.id, row.session,
        events.facts(capability=row.capability, attempt=row.attempt, reason="crashed", alone=alone),
    )  # fmt: skip
    row = queue.reroute(rows, unclaimed(row)._replace(suspect=0 if pulled else 1), now, policy)
    queue.admit(rows, row._replace(pool=pools.alone(row.pool) if row.suspect else row.pool), now, policy)


def gone(provider: str) -> Failure:
    """Why a task that was addressed to a provider can never start."""
    return Failure("no_provider", "NoProviderError", f"the provider {provider} that it was addressed to is gone")


def record(rows: Rows, row: QueueRow, how: str, now: float, error: str | None = None) -> None:
    """Keep an attempt that did not end its task."""
    rows.put(ATTEMPT, AttemptRow(row.id, row.attempt, row.provider, row.session, row.started_at, now, how, error))


def unclaimed(row: QueueRow) -> QueueRow:
    """The task without its claim; the attempt number stays: the next claim takes a higher one. It was begun in time."""
    return row._replace(session=None, provider=None, started_at=None, waits_for=None, progress=None, expires_at=None)
