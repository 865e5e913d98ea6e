"""What is no longer kept: events and finished tasks, by age and count, deleted documents by age, in slices; and what an operator
purges."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from ..settings import Settings
from . import bodies, documents, endings, events, inboxes, open_conflicts, sessions, snapshots
from .store import Range, Rows, each
from .tables import ATTEMPT, COUNTER, DOCUMENT, EVENT, OUTCOME, PROVIDER, SESSION, TASK, CounterRow, OutcomeRow

EVENTS = 4
"""Events per finished task, in the common case: a slice takes so many more, or the log would grow while a full line prunes."""

TOMBSTONES = 16
"""Deleted documents of a slice: each takes its history along."""


class Prune(NamedTuple):
    pass


class Purge(NamedTuple):
    """Finished tasks of these states, finished before ``before`` (epoch seconds)."""

    states: Sequence[str]
    before: float


class Pruned(NamedTuple):
    tasks: int
    events: int
    more: bool


def prune(rows: Rows, command: Prune, now: float, policy: Settings) -> Pruned:
    """One slice of what the settings no longer keep."""
    gone_events = _prune_events(rows, now, policy)
    gone_tasks = _prune_tasks(rows, now, policy)
    gone_documents = _prune_documents(rows, now, policy)
    _prune_sessions(rows, now, policy)
    more = gone_events == EVENTS * policy.slice or gone_tasks == policy.slice or gone_documents == TOMBSTONES
    return Pruned(gone_tasks, gone_events, more)


def _prune_events(rows: Rows, now: float, policy: Settings) -> int:
    newest, floor = (row.value if row else 0 for row in rows.get(COUNTER, (events.NUMBER, events.FLOOR)))
    oldest_kept = newest - policy.keep_count
    gone = 0
    for row in rows.scan(Range(EVENT, "key", (), low=floor + 1, limit=EVENTS * policy.slice)):
        if row.number > oldest_kept and row.at >= now - policy.keep_seconds:
            break
        rows.drop(EVENT, row)
        floor = row.number
        gone += 1
    if gone:
        rows.put(COUNTER, CounterRow(events.FLOOR, floor))
    return gone


def _prune_tasks(rows: Rows, now: float, policy: Settings) -> int:
    finished, pruned = (row.value if row else 0 for row in rows.get(COUNTER, (endings.FINISHED, endings.PRUNED)))
    surplus = finished - pruned - policy.keep_count
    before = now - policy.keep_seconds
    oldest = rows.scan(Range(OUTCOME, "by_finish", (), limit=1))  # mostly there is nothing to do
    if not oldest or (surplus <= 0 and oldest[0].finished_at >= before):
        return 0
    oldest = rows.scan(Range(OUTCOME, "by_finish", (), limit=policy.slice))
    gone = [outcome for place, outcome in enumerate(oldest) if place < surplus or outcome.finished_at < before]
    _forget_all(rows, gone)
    return len(gone)


def _prune_documents(rows: Rows, now: float, policy: Settings) -> int:
    """Tombstones are kept by age, and for as long as a snapshot needs their history, or a conflict of theirs is open: such are
    looked at again when as much time has passed once more, so that they hold up none behind them.

    A fence stays for ever: of a fenced document its history goes, and the tombstone is not looked at any more.
    """
    old = rows.scan(Range(DOCUMENT, "by_deleted", high=now - policy.keep_seconds, limit=TOMBSTONES))
    if not old:
        return 0
    disputed = open_conflicts.any_of(rows, [row.key for row in old])
    gone = snapshots.forgettable(rows, [row for row in old if row.key not in disputed])
    each([change for _, changes in gone for change in changes], lambda change: documents.drop(rows, change))
    forgotten = {row.key for row, _ in gone}
    for row in old:
        if row.key not in forgotten:
            rows.put(DOCUMENT, row._replace(deleted_at=now))
        elif row.fenced is not None:
            rows.put(DOCUMENT, row._replace(changes=0, deleted_at=None))
    documents.forget(rows, [row for row, _ in gone if row.fenced is None])
    return len(old)


def _prune_sessions(rows: Rows, now: float, policy: Settings) -> None:
    """Sessions that are over, with what they provided, are kept by age alone: they are few."""
    before = now - policy.keep_seconds
    over = [Range(SESSION, "by_state", (state,), high=before, limit=policy.slice) for state in (sessions.CLOSED, sessions.GONE)]
    found = [session for some in rows.scan_many(over) for session in some]
    provided = rows.scan_many([Range(PROVIDER, "by_session", (session.id,)) for session in found])
    for session, providers in zip(found, provided, strict=True):
        for provider in providers:
            rows.drop(PROVIDER, provider)
        rows.drop(SESSION, session)
    inboxes.forget(rows, [provider.capability for providers in provided for provider in providers])


def purge(rows: Rows, command: Purge, now: float, policy: Settings) -> Pruned:
    """One slice of what an operator wants away."""
    gone = 0
    for state in command.states:
        found = rows.scan(Range(OUTCOME, "by_state", (state,), high=command.before, limit=policy.slice - gone))
        _forget_all(rows, found)
        gone += len(found)
        if gone >= policy.slice:
            break
    return Pruned(gone, 0, gone >= policy.slice)


def _forget_all(rows: Rows, outcomes: Sequence[OutcomeRow]) -> None:
    rows.get(TASK, [outcome.id for outcome in outcomes])  # in one load, what `forget` wants one by one
    each(outcomes, lambda outcome: forget(rows, outcome))


def forget(rows: Rows, outcome: OutcomeRow) -> None:
    """Drop a finished task: request, outcome, attempts, and its share of blobs."""
    rows.drop(OUTCOME, outcome)
    bodies.release(rows, outcome.output_blob)
    task = rows.one(TASK, outcome.id)
    if task is not None:
        bodies.release(rows, task.input_blob)
        rows.drop(TASK, task)
    if outcome.attempt > 1 or (outcome.attempt and outcome.session is None):  # the last one too, when it was over before the task
        for attempt in rows.scan(Range(ATTEMPT, "by_task", (outcome.id,))):
            rows.drop(ATTEMPT, attempt)
    endings.count(rows, endings.PRUNED)
