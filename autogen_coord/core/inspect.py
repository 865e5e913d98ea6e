"""Looking without touching: a task with its history, and why it waits; lists; who is there. Reads only."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

from pydantic import TypeAdapter, ValidationError

from ..errors import InvalidInputError, NotFoundError
from ..settings import Settings
from . import bodies, pools, registry, sessions
from .queue import HOLDS, WAITS
from .store import Keys, Range, Store
from .tables import (
    ATTEMPT,
    BLOB,
    DELAYED,
    LIVE,
    OUTCOME,
    PARKED,
    PROVIDER,
    QUEUE,
    RUNNING,
    SESSION,
    TASK,
    WAITING,
    AttemptRow,
    OutcomeRow,
    ProviderRow,
    QueueRow,
    TaskRow,
    TaskState,
)

T = TypeVar("T")
COUNT_MOST = 1_000
"""How far "behind N others" is counted."""
PAGE = 500


@dataclass(frozen=True, slots=True)
class AttemptInfo:
    number: int
    provider: str | None
    session: str | None
    started_at: float | None
    ended_at: float | None
    end: str
    """running, succeeded, failed, timeout, crashed, released, rejected, cancelled, expired"""
    error: dict[str, Any] | None


@dataclass(frozen=True, slots=True)
class TaskInfo:
    """A task as it stands. Times are epoch seconds of the store's clock."""

    id: str
    capability: str
    state: str
    why: str
    """Why it waits, in a sentence; empty when it does not."""
    priority: float
    key: str | None
    lane: str | None
    sticky: str | None
    parent: str | None
    requeued_from: str | None
    submitted_at: float
    ready_at: float
    deadline: float | None
    expires_at: float | None
    finished_at: float | None
    attempt: int
    failures: int
    crashes: int
    suspect: bool
    progress: dict[str, Any] | None
    error: dict[str, Any] | None
    attempts: tuple[AttemptInfo, ...] = field(default=())


def decoder(returns: type[T]) -> Callable[[str], T]:
    """Reads a stored output as ``returns``."""
    adapter = TypeAdapter(returns)

    def decode(text: str) -> T:
        try:
            return adapter.validate_json(text)
        except ValidationError as error:
            raise InvalidInputError(f"the output is not a {returns!r}: {error.errors(include_url=False)[0]['msg']}") from error

    return decode


async def live_providers(store: Store, label: str) -> list[ProviderRow]:
    """Providers online, on live sessions."""
    (rows,) = await store.read(Range(PROVIDER, "by_capability", (label, registry.ONLINE)))
    (found,) = await store.read(Keys(SESSION, [row.session for row in rows]))
    now = await store.now()
    alive = {row.id for row in found if row is not None and row.state == sessions.LIVE and row.lease_until >= now}
    return [row for row in rows if row.session in alive]


async def task(store: Store, policy: Settings, id: str) -> TaskInfo:
    """All there is to know of a task. Raises: NotFoundError."""
    tasks, queue, outcomes, attempts = await store.read(
        Keys(TASK, (id,)), Keys(QUEUE, (id,)), Keys(OUTCOME, (id,)), Range(ATTEMPT, "by_task", (id,))
    )
    if tasks[0] is None:
        raise NotFoundError(f"no task {id!r} in namespace {store.namespace!r}: it was never submitted, or was pruned", task_id=id)
    why = "" if queue[0] is None else await reason(store, policy, tasks[0], queue[0])
    return _info(tasks[0], queue[0], outcomes[0], attempts, why)


def _info(task: TaskRow, row: QueueRow | None, outcome: OutcomeRow | None, attempts: Sequence[AttemptRow], why: str) -> TaskInfo:
    live = row if row is not None else outcome
    error = outcome.error if outcome is not None else (attempts[-1].error if attempts else None)
    return TaskInfo(
        task.id, task.capability, row.state if row is not None else outcome.state if outcome is not None else "unknown", why,
        task.priority, task.key, task.lane, task.sticky, task.parent, task.requeued_from, task.submitted_at,
        row.ready_at if row is not None else task.ready_at, task.deadline, task.expires_at,
        None if outcome is None else outcome.finished_at,
        live.attempt if live is not None else 0, live.failures if live is not None else 0, live.crashes if live is not None else 0,
        bool(row is not None and row.suspect), bodies.decode(row.progress) if row is not None and row.progress else None,
        bodies.decode(error) if error else None, tuple(_history(row, outcome, attempts)),
    )  # fmt: skip


def _history(row: QueueRow | None, outcome: OutcomeRow | None, attempts: Sequence[AttemptRow]) -> list[AttemptInfo]:
    history = [
        AttemptInfo(a.number, a.provider, a.session, a.started_at, a.ended_at, a.end, bodies.decode(a.error) if a.error else None)
        for a in attempts
    ]
    if row is not None and row.state == RUNNING:
        history.append(AttemptInfo(row.attempt, row.provider, row.session, row.started_at, None, "running", None))
    if outcome is not None and outcome.attempt and outcome.started_at is not None:
        error = bodies.decode(outcome.error) if outcome.error else None
        history.append(
            AttemptInfo(
                outcome.attempt, outcome.provider, outcome.session, outcome.started_at, outcome.finished_at, outcome.state, error
            )
        )
    return history


async def reason(store: Store, policy: Settings, task: TaskRow, row: QueueRow) -> str:
    """Why a live task is not done: the sentence that `tasks show` prints."""
    now = await store.now()
    if row.state == RUNNING:
        asked = "; asked to stop" if row.cancel_at is not None else ""
        child = f"; its handler waits for child {row.waits_for}" if row.waits_for is not None else ""
        return f"running for {now - (row.started_at or now):.1f} s on {row.provider} (session {row.session}){child}{asked}"
    if row.state == DELAYED:
        what = (
            f"attempt {row.attempt} failed; next try" if row.failures else "given back; next try" if row.attempt else "not before"
        )
        return f"delayed: {what} in {max(0.0, row.ready_at - now):.1f} s"
    if row.state == WAITING:
        return await _lane_reason(store, row)
    if row.state == PARKED:
        return "parked: its run waits for something long"
    return await _ready_reason(store, policy, task, row)


async def _lane_reason(store: Store, row: QueueRow) -> str:
    holders, ahead = await store.read(
        Range(QUEUE, "by_lane", (row.lane, HOLDS)), Range(QUEUE, "by_lane", (row.lane, WAITS), high=row.rank, limit=COUNT_MOST)
    )
    by = ", ".join(f"task {holder.id} ({holder.state})" for holder in holders) or "nobody"
    return f"lane {row.lane!r} is taken by {by}; {_many(len(ahead))} of the lane before it"


async def _ready_reason(store: Store, policy: Settings, task: TaskRow, row: QueueRow) -> str:
    providers = await live_providers(store, row.capability)
    if task.target is not None:
        providers = [provider for provider in providers if provider.id == task.target]
    if not providers:
        who = f"provider {task.target}" if task.target is not None else f"a provider of {row.capability}"
        return f"no provider: {who} is not online; start a process that provides it"
    if row.suspect:
        return (
            "suspect: the process that ran it died, so it waits for one that runs nothing else "
            f"({row.crashes} of {policy.crash_limit} crashes while alone)"
        )
    (ahead,) = await store.read(Range(QUEUE, "ready", (row.pool,), high=row.rank, limit=COUNT_MOST))
    slots = sum(provider.max_concurrency for provider in providers)
    there = f"{len(providers)} provider{'s' if len(providers) > 1 else ''} with {slots} slots"
    if ahead:
        return f"behind {_many(len(ahead))} of {pools.together(row.pool)}; {there}"
    return f"provider busy: it is next; {there}"


def _many(count: int) -> str:
    return f"{count} other{'' if count == 1 else 's'}" if count < COUNT_MOST else f"{COUNT_MOST} or more others"


async def tasks(store: Store, *, states: Sequence[str] = (), capability: str | None = None, limit: int = 50) -> list[TaskInfo]:
    """Tasks, newest first."""
    for state in states:
        if state not in list(TaskState):
            raise InvalidInputError(f"no state {state!r}; there are {', '.join(TaskState)}")
    found: list[TaskInfo] = []
    if states and not any(state in LIVE for state in states):
        for state in states:
            (outcomes,) = await store.read(
                Range(OUTCOME, "by_state", (state,), limit=limit if capability is None else None, reverse=True)
            )
            ids = [row.id for row in outcomes if capability in (None, row.capability)][:limit]
            found += await _many_infos(store, ids)
        return sorted(found, key=lambda info: info.id, reverse=True)[:limit]
    if states and all(state in LIVE for state in states):
        return await _walk(store, QUEUE, states, capability, limit)
    return await _walk(store, TASK, states, capability, limit)


async def _walk(store: Store, table: Any, states: Sequence[str], capability: str | None, limit: int) -> list[TaskInfo]:
    found: list[TaskInfo] = []
    high = None
    while len(found) < limit:
        (rows,) = await store.read(Range(table, "key", (), high=high, limit=PAGE, reverse=True))
        if not rows:
            break
        high = rows[-1].id
        ids = [row.id for row in rows if capability in (None, row.capability) and (table is TASK or row.state in states)]
        found += [info for info in await _many_infos(store, ids) if not states or info.state in states]
    return found[:limit]


async def _many_infos(store: Store, ids: Sequence[str]) -> list[TaskInfo]:
    tasks, queue, outcomes = await store.read(Keys(TASK, ids), Keys(QUEUE, ids), Keys(OUTCOME, ids))
    return [
        _info(task, row, outcome, (), "") for task, row, outcome in zip(tasks, queue, outcomes, strict=True) if task is not None
    ]


async def body(store: Store, text: str | None, blob: str | None) -> str:
    """A stored body's JSON text."""
    if blob is None:
        return text if text is not None else "null"
    (blobs,) = await store.read(Keys(BLOB, (blob,)))
    return blobs[0].body if blobs[0] is not None else "null"
