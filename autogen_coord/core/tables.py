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
    conversion: str | None = None
    """The request that converted it last."""

    @classmethod
    def of(cls, row: LockWaitRow) -> LockHeldRow:
        """What a request becomes when it is granted; mode and token are set by who grants it."""
        return cls(
            row.path, row.lease, row.mode, row.owner, 0, row.session, row.task, row.attempt, row.priority, row.since, row.born
        )

    @property
    def lease(self) -> str:
        """Whose it is: the same as of the requests that would convert it."""
        return self.id


class LockWaitRow(NamedTuple):
    """A request that waits: one row for each path that it wants. It holds nothing (a conversion: no more than before)."""

    path: str
    id: str
    """The request's; an acquisition becomes the lease of this id."""
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
    converts: str | None = None
    """The lease that it would convert."""

    @property
    def lease(self) -> str:
        """The lease that it becomes, or that it converts."""
        return self.id if self.converts is None else self.converts


class DocumentRow(NamedTuple):
    """A document as it is now: its newest version. The first columns are those of a `ChangeRow`, which it becomes."""

    key: str
    version: int
    """From 1, without gaps; it goes on after a deletion."""
    value: str | None
    """JSON text; None where a blob holds it, and in a tombstone."""
    value_blob: str | None
    kind: str
    """What made this version: put, patch, merge, reduce, delete, restore, decide"""
    base: int | None
    """The version that its writer made it from; None: whatever stood there."""
    number: int
    """Of its ``state.changed`` event: its place in the order of commit."""
    at: float
    created_at: float
    actor: str | None
    cause: str | None
    token: int | None
    """Of the lease that this version was written under."""
    fenced: int | None
    """The greatest token that it was ever written under; None: never under any."""
    changes: int
    """How many earlier versions are kept."""
    deleted_at: float | None
    """Of a tombstone."""


class ChangeRow(NamedTuple):
    """An earlier version of a document. It moves here when the next one is written: a document written once is stored once."""

    key: str
    version: int
    value: str | None
    value_blob: str | None
    kind: str
    base: int | None
    number: int
    at: float
    created_at: float
    actor: str | None
    cause: str | None
    token: int | None

    @classmethod
    def of(cls, row: DocumentRow) -> ChangeRow:
        """What a document's row becomes when its next version is written."""
        return cls(*row[:12])


class SnapshotRow(NamedTuple):
    """A point in the order of commits, by name."""

    name: str
    number: int
    """Of its ``state.snapshot`` event."""
    at: float
    prefix: str
    actor: str | None
    note: str


class ConflictRow(NamedTuple):
    """A write that lost, and waits for a decision."""

    id: str
    key: str
    base: int
    """The version that its writer expected."""
    found: int
    """The version that it found."""
    value: str | None
    """What its writer wanted; None where a blob holds it, or it wanted the document away."""
    value_blob: str | None
    kind: str
    """put, patch, delete"""
    at: float
    actor: str | None
    cause: str | None


class StatePolicyRow(NamedTuple):
    """What becomes of stale writes at a prefix and below."""

    prefix: str
    policy: str
    reducers: str | None
    """A JSON object: field to reducer."""
    at: float
    actor: str | None


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
DOCUMENT: Table[DocumentRow] = Table(
    "document", DocumentRow, indexes=(Index("by_deleted", (), ("deleted_at",), where="deleted_at"),)
)
DOCUMENT_CHANGE: Table[ChangeRow] = Table(
    "document_change", ChangeRow, key=2, indexes=(Index("by_document", ("key",), ("version",)),)
)
SNAPSHOT: Table[SnapshotRow] = Table("snapshot", SnapshotRow)
CONFLICT: Table[ConflictRow] = Table("conflict", ConflictRow, indexes=(Index("by_key", (), ("key",)),))
STATE_POLICY: Table[StatePolicyRow] = Table("state_policy", StatePolicyRow)

TABLES: tuple[Table[Any], ...] = (
    TASK, QUEUE, OUTCOME, ATTEMPT, SESSION, PROVIDER, CAPABILITY, EVENT, BLOB, COUNTER, LOCK_HELD, LOCK_WAIT,
    DOCUMENT, DOCUMENT_CHANGE, SNAPSHOT, CONFLICT, STATE_POLICY,
)  # fmt: skip
