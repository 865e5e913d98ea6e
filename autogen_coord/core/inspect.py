"""Looking without touching: a task with its history, and why it waits; lists; who is there. Reads only."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any

from ..errors import InvalidInputError, NotFoundError
from ..settings import Settings
from . import addresses, bodies, messages, pools, registry, sessions
from .queue import HOLDS, WAITS
from .store import Keys, Range, Store
from .tables import (
    ATTEMPT,
    BLOB,
    CAPABILITY,
    DEAD_LETTERS,
    DELAYED,
    FAILED,
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
    SessionRow,
    TaskKind,
    TaskRow,
    TaskState,
)

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
    """running, succeeded, failed, timeout, crashed, released, unbegun (nobody saw it), rejected, cancelled, expired"""
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
    requeued_as: str | None = None
    """Of a dead letter: the newest task that was made of it."""
    superseded_by: str | None = None
    """Of a dead letter: the newest later task of its key, where that is another."""

    @property
    def crashed(self) -> int:
        """How many attempts ended with the death of their process; ``crashes`` counts those while alone. Needs ``attempts``."""
        ended = sum(one.end == "crashed" for one in self.attempts)
        return ended + (self.state == FAILED and (self.error or {}).get("code") == "crashed")

    @property
    def successor(self) -> str | None:
        """Of a dead letter: the newest task that stands for it."""
        return self.superseded_by or self.requeued_as


async def live_providers(store: Store, label: str) -> list[ProviderRow]:
    """Providers online, on live sessions."""
    (rows,) = await store.read(Range(PROVIDER, "by_capability", (label, registry.ONLINE)))
    (found,) = await store.read(Keys(SESSION, [row.session for row in rows]))
    now = await store.now()
    alive = {row.id for row in found if row is not None and row.state == sessions.LIVE and row.lease_until >= now}
    return [row for row in rows if row.session in alive]


def not_found(store: Store, id: str) -> NotFoundError:
    return NotFoundError(
        f"no task {id!r} in namespace {store.namespace!r}: it was never submitted, or was pruned; "
        "`autogen-coord tasks list` shows what is there",
        task_id=id,
    )


async def task(store: Store, policy: Settings, id: str) -> TaskInfo:
    """All there is to know of a task. Raises: NotFoundError."""
    tasks, queue, outcomes, attempts = await store.read(
        Keys(TASK, (id,)), Keys(QUEUE, (id,)), Keys(OUTCOME, (id,)), Range(ATTEMPT, "by_task", (id,))
    )
    if tasks[0] is None:
        raise not_found(store, id)
    why = "" if queue[0] is None else await reason(store, policy, tasks[0], queue[0])
    info = _info(tasks[0], queue[0], outcomes[0], attempts, why)
    return (await _with_successors(store, [info], tasks))[0]


def _info(task: TaskRow, row: QueueRow | None, outcome: OutcomeRow | None, attempts: Sequence[AttemptRow], why: str) -> TaskInfo:
    live = row if row is not None else outcome
    error = outcome.error if outcome is not None else (attempts[-1].error if attempts else None)
    return TaskInfo(
        task.id, task.capability, row.state if row is not None else outcome.state if outcome is not None else "unknown", why,
        task.priority, task.key, task.lane, task.sticky, None if task.kind == TaskKind.MESSAGE else task.parent,
        task.requeued_from, task.submitted_at,
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
        return await _running_reason(store, policy, row, now)
    if row.due is not None and row.due <= now and not await any_live(store, now):
        over = row.state != DELAYED or row.ready_at > row.due
        said, verb = ("expired", "end") if over else ("due", "start")
        return f"{said} {now - row.due:.1f} s ago, but no process is there to {verb} it"
    if row.state == DELAYED:
        until = f"delayed until {stamp(row.ready_at)} (in {max(0.0, row.ready_at - now):.1f} s)"
        if row.attempt == 0:
            return f"{until}: it was submitted for then"
        return f"{until}: attempt {row.attempt} {'failed' if row.failures else 'was given back'}, then it is tried again"
    if row.state == WAITING:
        return await _lane_reason(store, row)
    if row.state == PARKED:
        return "parked: its run waits for something long"
    return await _ready_reason(store, policy, task, row)


def stamp(at: float) -> str:
    """A moment of the store's clock, in UTC."""
    return datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%d %H:%M:%SZ")


async def _running_reason(store: Store, policy: Settings, row: QueueRow, now: float) -> str:
    found, child = await store.read(Keys(SESSION, (row.session,)), Keys(QUEUE, (row.waits_for or "",)))
    verb = "held" if addresses.is_pulled(row.capability) else "running"
    said = f"{verb} for {now - (row.started_at or now):.1f} s on {row.provider} (session {row.session})"
    if child[0] is not None:
        said += f"; its handler waits for child {row.waits_for}"
    if row.cancel_at is not None:
        said += "; asked to stop"
    if found[0] is not None and sessions.status(found[0], now, policy) not in (sessions.LIVE, "suspect"):
        said += "; its process is silent: "
        if row.cancel_at is not None:
            when = "by a live process" if await any_live(store, now) else "when a process starts"
            said += f"it will be cancelled {when}, not taken over"
        else:
            said += "the next live process takes the task over, as a suspect"
    return said


async def any_live(store: Store, now: float) -> bool:
    """Whether any process keeps its session here: without one nothing starts, and nothing ends."""
    (found,) = await store.read(live_sessions(now))
    return bool(found)


def live_sessions(now: float) -> Range[SessionRow]:
    """The read that finds a live session whose lease holds."""
    return Range(SESSION, "by_state", (sessions.LIVE,), low=now, limit=1)


async def known_capabilities(store: Store) -> list[str]:
    """The labels of all that was ever announced here."""
    (rows,) = await store.read(Range(CAPABILITY, "key"))
    return [registry.label_of(row.name, row.version) for row in rows]


async def _lane_reason(store: Store, row: QueueRow) -> str:
    (holders,) = await store.read(Range(QUEUE, "by_lane", (row.lane, HOLDS)))
    ahead = await _ahead(store, row, Range(QUEUE, "by_lane", (row.lane, WAITS)))
    by = ", ".join(f"task {holder.id} ({holder.state})" for holder in holders) or "nobody"
    return f"lane {row.lane!r} is taken by {by}; {_many(ahead)} of the lane before it"


async def _ready_reason(store: Store, policy: Settings, task: TaskRow, row: QueueRow) -> str:
    pinned = task.target or pools.provider_in(row.pool)
    providers = [each for each in await live_providers(store, row.capability) if pinned in (None, each.id)]
    ahead = await _ahead(store, row, Range(QUEUE, "ready", (row.pool,)))
    if task.kind == TaskKind.MESSAGE:
        return messages.reason(task, row, bool(providers), f", behind {_many(ahead)}" if ahead else "")
    if not providers:
        who = f"provider {pinned}" if pinned is not None else f"a provider of {row.capability}"
        return f"no provider: {who} is not online; start a process that provides it"
    if row.suspect:
        behind = f"; {_many(ahead)} like it before it" if ahead else ""
        return (
            "suspect: the process that ran it died, so it waits for one that runs nothing else "
            f"({row.crashes} of {policy.crash_limit} crashes while alone){behind}"
        )
    if pinned is not None:
        ahead += await _ahead(store, row, Range(QUEUE, "ready", (row.capability,)))
    there = f"{len(providers)} provider{'s' if len(providers) > 1 else ''}"
    slots = sum(provider.max_concurrency for provider in providers)
    taken = await _taken(store, providers)
    if ahead:
        return f"behind {_many(ahead)} of {row.capability}; {there}, {taken} of {slots} slots taken"
    if taken < slots:
        return f"next: {there}, {taken} of {slots} slots taken; it is about to be claimed"
    return f"provider busy: it is next; {there}, all {slots} slots taken"


async def _ahead(store: Store, row: QueueRow, where: Range[QueueRow]) -> int:
    """How many stand before a row in an index ordered by rank, then submission."""
    (found,) = await store.read(where._replace(high=math.nextafter(row.rank, math.inf), limit=COUNT_MOST))
    return sum((each.rank, each.seq) < (row.rank, row.seq) for each in found)


async def _taken(store: Store, providers: Sequence[ProviderRow]) -> int:
    """Slots of these providers whose handlers run and do not wait for a child."""
    sessions = sorted({provider.via for provider in providers})
    found = await store.read(*(Range(QUEUE, "by_session", (session,), limit=COUNT_MOST) for session in sessions))
    ids = {provider.id for provider in providers}
    return sum(row.provider in ids and row.waits_for is None for rows in found for row in rows)


def _many(count: int) -> str:
    return f"{count} other{'' if count == 1 else 's'}" if count < COUNT_MOST else f"{COUNT_MOST} or more others"


async def tasks(store: Store, *, states: Sequence[str] = (), capability: str | None = None, limit: int = 50) -> list[TaskInfo]:
    """Tasks without their attempts: the newest first; if only final states are asked for, those that ended last.

    Raises: InvalidInputError.
    """
    for state in states:
        if state not in list(TaskState):
            raise InvalidInputError(f"no state {state!r}; there are {', '.join(TaskState)}")
    if not states:
        return await _walk(store, TASK, (), capability, limit)
    live, final = [state for state in states if state in LIVE], [state for state in states if state not in LIVE]
    found = await _walk(store, QUEUE, live, capability, limit) if live else []
    for state in final:
        found += await _ended(store, state, capability, limit)
    order: Callable[[TaskInfo], Any] = (lambda info: info.id) if live else (lambda info: (info.finished_at or 0.0, info.id))
    return sorted(found, key=order, reverse=True)[:limit]


async def _walk(store: Store, table: Any, states: Sequence[str], capability: str | None, limit: int) -> list[TaskInfo]:
    found: list[TaskInfo] = []
    high = None
    while len(found) < limit:
        (rows,) = await store.read(Range(table, "key", (), high=high, limit=PAGE, reverse=True))
        if not rows:
            break
        high = rows[-1].id
        ids = [row.id for row in rows if capability in (None, row.capability) and (table is TASK or row.state in states)]
        # one may have moved on since the page was read
        found += [info for info in await _many_infos(store, ids[: limit - len(found)]) if not states or info.state in states]
    return found


async def _ended(store: Store, state: str, capability: str | None, limit: int) -> list[TaskInfo]:
    """Pages from the end; tasks that ended at the same moment may stand on both sides of a page's border."""
    ids: dict[str, None] = {}
    high, page = None, PAGE
    while len(ids) < limit:
        (rows,) = await store.read(Range(OUTCOME, "by_state", (state,), high=high, limit=page, reverse=True))
        ids |= {row.id: None for row in rows if capability in (None, row.capability)}
        if len(rows) < page:
            break
        above = math.nextafter(rows[-1].finished_at, math.inf)
        page = page * 2 if high == above else PAGE
        high = above
    return await _many_infos(store, list(ids)[:limit])


async def _many_infos(store: Store, ids: Sequence[str]) -> list[TaskInfo]:
    tasks, queue, outcomes = await store.read(Keys(TASK, ids), Keys(QUEUE, ids), Keys(OUTCOME, ids))
    infos = [
        _info(task, row, outcome, (), "") for task, row, outcome in zip(tasks, queue, outcomes, strict=True) if task is not None
    ]
    return await _with_successors(store, infos, tasks)


async def _with_successors(store: Store, infos: list[TaskInfo], tasks: Sequence[TaskRow | None]) -> list[TaskInfo]:
    """The same, where dead letters know who stands for them."""
    dead = {info.id for info in infos if info.state in DEAD_LETTERS}
    rows = [task for task in tasks if task is not None and task.id in dead]
    keyed = [task for task in rows if task.key is not None]
    if not rows:
        return infos
    found = await store.read(
        *(Range(TASK, "by_origin", (task.id,), limit=1, reverse=True) for task in rows),
        *(Range(TASK, "by_key", (task.capability, task.key), low=task.seq + 1, limit=1, reverse=True) for task in keyed),
    )
    newest = [each[0].id if each else None for each in found]
    again = dict(zip((task.id for task in rows), newest[: len(rows)], strict=True))
    later = dict(zip((task.id for task in keyed), newest[len(rows) :], strict=True))

    def told(info: TaskInfo) -> TaskInfo:
        made, other = again.get(info.id), later.get(info.id)
        return replace(info, requeued_as=made, superseded_by=other if other != made else None)

    return [told(info) if info.id in dead else info for info in infos]


async def body(store: Store, text: str | None, blob: str | None) -> str:
    """A stored body's JSON text."""
    if blob is None:
        return text if text is not None else "null"
    (blobs,) = await store.read(Keys(BLOB, (blob,)))
    return blobs[0].body if blobs[0] is not None else "null"


async def lasting_sessions(store: Store, policy: Settings) -> list[tuple[SessionRow, str]]:
    """Sessions that hold or may hold something, each with its status in a word (see `sessions.status`)."""
    now = await store.now()
    found = await store.read(*(Range(SESSION, "by_state", (state,)) for state in (sessions.LIVE, sessions.DEAD)))
    return [(row, sessions.status(row, now, policy)) for rows in found for row in rows]


async def unserved(store: Store, ready: Mapping[str, int]) -> dict[str, int]:
    """Of ready tasks, counted by pool: those whose capability, or whose one provider, is not online, counted by capability."""
    missing: dict[str, int] = {}
    online: dict[str, set[str]] = {}
    for pool, count in ready.items():
        label, pinned = pools.together(pool).partition("@")[0], pools.provider_in(pool)
        if label not in online:
            online[label] = {row.id for row in await live_providers(store, label)}
        if not online[label] or (pinned is not None and pinned not in online[label]):
            missing[label] = missing.get(label, 0) + count
    return missing
