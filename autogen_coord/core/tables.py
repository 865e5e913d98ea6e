"""The tables: what is stored, one row type a table. Times are epoch seconds of the store's clock; bodies are JSON text."""

from __future__ import annotations

from enum import StrEnum
from typing import Any, Final, NamedTuple

from .store import Index, Table


class TaskState(StrEnum):
    """Where a task stands. The first five are live (rows of ``queue``), the others final (rows of ``outcome``)."""

    DELAYED = "delayed"
    READY = "ready"
    WAITING = "waiting"
    RUNNING = "running"
    PARKED = "parked"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"
    EXPIRED = "expired"


# As they stand in rows: plain text, since SQLite's driver adapts every other type the slow way (measured: 2 µs a value).
DELAYED: Final = TaskState.DELAYED.value
READY: Final = TaskState.READY.value
WAITING: Final = TaskState.WAITING.value
RUNNING: Final = TaskState.RUNNING.value
PARKED: Final = TaskState.PARKED.value
SUCCEEDED: Final = TaskState.SUCCEEDED.value
FAILED: Final = TaskState.FAILED.value
CANCELLED: Final = TaskState.CANCELLED.value
EXPIRED: Final = TaskState.EXPIRED.value

LIVE = (DELAYED, READY, WAITING, RUNNING, PARKED)
FINAL = (SUCCEEDED, FAILED, CANCELLED, EXPIRED)
DEAD_LETTERS = (FAILED, EXPIRED)


class TaskKind(StrEnum):
    CALL = "call"
    STEP = "step"
    TIMER = "timer"
    SIGNAL = "signal"
    QUESTION = "question"
    MESSAGE = "message"


class TaskRow(NamedTuple):
    """A task's request: written once."""

    id: str
    seq: int
    """Its place in the order of submission: the number of its ``task.delegated`` event."""
    kind: str
    capability: str
    target: str | None
    """The provider that it is addressed to."""
    input: str | None
    input_blob: str | None
    """The hash of the blob that holds the input, when it is large."""
    input_hash: str
    key: str | None
    priority: float
    sender: str | None
    recipient: str | None
    correlation: str | None
    causation: str | None
    trace: str | None
    parent: str | None
    step_key: str | None
    lane: str | None
    sticky: str | None
    ready_at: float
    deadline: float | None
    expires_at: float | None
    """ttl: the latest moment of the first claim."""
    timeout: float
    retry: str | None
    """A retry policy as JSON, where it is not the default."""
    submitted_at: float
    requeued_from: str | None


class QueueRow(NamedTuple):
    """A live task: what claims, timers and lanes need of it."""

    id: str
    seq: int
    capability: str
    """Of a message: the inbox that it lies in now, which may be another than it was sent to."""
    state: str
    pool: str
    rank: float
    lane: str | None
    place: int | None
    """In its lane: 0 holds it, 1 waits for it, 2 is not yet due."""
    priority: float
    ready_at: float
    attempt: int
    failures: int
    crashes: int
    suspect: int
    session: str | None
    provider: str | None
    started_at: float | None
    deadline: float | None
    expires_at: float | None
    """ttl, until an attempt was begun."""
    timeout: float
    cancel_at: float | None
    """When a requested cancellation is forced."""
    due: float | None
    """When somebody must look at it again; derived by `autogen_coord.core.timers.due_of`."""
    parent: str | None
    waits_for: str | None
    """The child that its handler waits for."""
    children: int
    """How many children were made for it."""
    avoid: str | None
    """Providers that rejected it, as JSON ``{provider: until}``."""
    progress: str | None


class OutcomeRow(NamedTuple):
    """How a task ended: written once, with the attempt that was claimed last (0 when none was), and its session if it still ran."""

    id: str
    state: str
    capability: str
    output: str | None
    output_blob: str | None
    error: str | None
    attempt: int
    failures: int
    crashes: int
    session: str | None
    provider: str | None
    started_at: float | None
    finished_at: float


class AttemptRow(NamedTuple):
    """An attempt that ended without ending its task (the last one stands in the outcome, a running one in the queue)."""

    task: str
    number: int
    provider: str | None
    session: str | None
    started_at: float | None
    ended_at: float
    end: str
    """failed, timeout, crashed, released, rejected; unbegun: it was given back before anybody saw it"""
    error: str | None


class SessionRow(NamedTuple):
    id: str
    kind: str
    address: str
    state: str
    """live, dead (declared, its claims not yet all returned), gone, closed"""
    lease_until: float
    steady_since: float
    """Since when it has renewed on time without a break."""
    ttl: float
    started_at: float
    meta: str | None
    """A JSON object; of a dead one: how far its burial is."""


class ProviderRow(NamedTuple):
    """A provider as it is announced; ``via`` is the session of the dispatcher that can reach it."""

    id: str
    session: str
    via: str
    capability: str
    version: str
    kind: str
    agent_type: str | None
    agent_key: str | None
    status: str
    """online, draining, offline"""
    max_concurrency: int
    labels: str | None
    registered_at: float


class CapabilityRow(NamedTuple):
    name: str
    version: str
    description: str
    input_schema: str
    output_schema: str
    words: str | None
    announced_at: float


class EventRow(NamedTuple):
    """One line of the log. Numbers have no gaps, and are the order of commit."""

    number: int
    at: float
    kind: str
    subject: str
    session: str | None
    data: str | None


class BlobRow(NamedTuple):
    hash: str
    body: str
    refs: int


class CounterRow(NamedTuple):
    name: str
    value: int


class LockHeldRow(NamedTuple):
    """A lock that is held: one row for each path of a lease."""

    path: str
    """As `autogen_coord.core.lock_modes.stored` writes it."""
    id: str
    """The lease's."""
    mode: str
    owner: str | None
    """Of several locks that do not stand in each other's way; None: nobody but this lease."""
    token: int
    session: str
    task: str | None
    """The task whose handler took it, and its attempt."""
    attempt: int
    priority: float
    since: float
    born: float
    """When its task was submitted, or it was asked for itself: of a deadlock the youngest is refused."""

    @classmethod
    def of(cls, row: LockWaitRow) -> LockHeldRow:
        """What a request becomes when it is granted; mode and token are set by who grants it."""
        return cls(row.path, row.id, row.mode, row.owner, 0, row.session, row.task, row.attempt, row.priority, row.since, row.born)


class LockWaitRow(NamedTuple):
    """A request that waits: one row for each path that it wants. It holds nothing (a conversion: no more than before)."""

    path: str
    id: str
    """Of the lease that it becomes, or that it converts."""
    mode: str
    wants: str
    """All that is wanted, as JSON ``[[path, mode], ...]``: granted as a whole."""
    owner: str | None
    session: str
    task: str | None
    attempt: int
    priority: float
    rank: float
    arrived: int
    """Its place among those of one rank."""
    since: float
    born: float
    within: str | None
    """The locks inside whose blocks it was asked for, as JSON ``[[path, id], ...]``."""


TASK: Table[TaskRow] = Table(
    "task",
    TaskRow,
    indexes=(
        Index("by_key", ("capability", "key"), ("seq",), where="key"),
        Index("by_parent", ("parent",), ("seq",), where="parent"),
        Index("by_step", ("parent", "step_key"), ("seq",), where="step_key"),
        Index("by_correlation", ("correlation",), ("seq",), where="correlation"),
        Index("by_origin", ("requeued_from",), ("seq",), where="requeued_from"),
    ),
)
QUEUE: Table[QueueRow] = Table(
    "queue",
    QueueRow,
    indexes=(
        Index("ready", ("pool",), ("rank", "seq"), where=("state", "ready")),
        Index("by_lane", ("lane", "place"), ("rank", "seq"), where="lane"),
        Index("by_session", ("session",), ("seq",), where="session"),
        Index("by_due", (), ("due",), where="due"),
        Index("by_parent", ("parent",), ("seq",), where="parent"),
    ),
)
OUTCOME: Table[OutcomeRow] = Table(
    "outcome",
    OutcomeRow,
    indexes=(
        Index("by_finish", (), ("finished_at",)),
        Index("by_state", ("state",), ("finished_at",)),
    ),
)
ATTEMPT: Table[AttemptRow] = Table("attempt", AttemptRow, key=2, indexes=(Index("by_task", ("task",), ("number",)),))
SESSION: Table[SessionRow] = Table("session", SessionRow, indexes=(Index("by_state", ("state",), ("lease_until",)),))
PROVIDER: Table[ProviderRow] = Table(
    "provider",
    ProviderRow,
    indexes=(Index("by_capability", ("capability", "status"), ("id",)), Index("by_session", ("session",), ("id",))),
)
CAPABILITY: Table[CapabilityRow] = Table("capability", CapabilityRow, key=2)
EVENT: Table[EventRow] = Table("event", EventRow)
BLOB: Table[BlobRow] = Table("blob", BlobRow)
COUNTER: Table[CounterRow] = Table("counter", CounterRow)
LOCK_HELD: Table[LockHeldRow] = Table(
    "lock_held",
    LockHeldRow,
    key=2,
    indexes=(
        Index("by_mode", ("mode",), ("path",), where=("mode", ("IS", "IX", "S", "SIX"))),
        Index("exclusive", (), ("path",), where=("mode", "X")),
        Index("by_cover", ("path",), ("id",), where=("mode", ("S", "SIX", "X"))),
        Index("by_session", ("session",), ("token",)),
        Index("by_owner", ("owner",), ("path",), where="owner"),
        Index("by_task", ("task",), ("path",), where="task"),
    ),
)
LOCK_WAIT: Table[LockWaitRow] = Table(
    "lock_wait",
    LockWaitRow,
    key=2,
    indexes=(
        Index("by_place", ("path",), ("rank", "arrived")),
        Index("by_session", ("session",), ("path",)),
        Index("by_task", ("task",), ("path",), where="task"),
    ),
)

TABLES: tuple[Table[Any], ...] = (
    TASK, QUEUE, OUTCOME, ATTEMPT, SESSION, PROVIDER, CAPABILITY, EVENT, BLOB, COUNTER, LOCK_HELD, LOCK_WAIT,
)  # fmt: skip
