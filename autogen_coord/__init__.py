"""autogen-coord: durable coordination for AutoGen agents. The public names."""

from .agents.capability import Capability, TaskContext, capability
from .coordination import BroadcastOutcome, Coordination, TaskHandle
from .core.events import Event
from .core.inspect import AttemptInfo, TaskInfo
from .core.requests import Options, Priority
from .core.retry import RetryPolicy
from .core.running import Terminated, run
from .core.tables import TaskState
from .errors import (
    CallTimeoutError,
    ClosedError,
    ConfigError,
    ConflictError,
    CoordError,
    DeadlockError,
    DuplicateTaskError,
    EventsPrunedError,
    InvalidInputError,
    InvalidOutputError,
    LeaseLostError,
    LockHeldError,
    NonDeterminismError,
    NoProviderError,
    NotFoundError,
    PayloadTooLargeError,
    PermissionDeniedError,
    RejectedError,
    RemoteError,
    SchemaVersionError,
    StaleClaimError,
    StoreError,
    StoreUnavailableError,
    TaskCancelledError,
    TaskCrashedError,
    TaskError,
    TaskExpiredError,
    VersionConflictError,
)
from .settings import Settings

__version__ = "0.1.0"

__all__ = [
    "AttemptInfo",
    "BroadcastOutcome",
    "CallTimeoutError",
    "Capability",
    "ClosedError",
    "ConfigError",
    "ConflictError",
    "CoordError",
    "Coordination",
    "DeadlockError",
    "DuplicateTaskError",
    "Event",
    "EventsPrunedError",
    "InvalidInputError",
    "InvalidOutputError",
    "LeaseLostError",
    "LockHeldError",
    "NoProviderError",
    "NonDeterminismError",
    "NotFoundError",
    "Options",
    "PayloadTooLargeError",
    "PermissionDeniedError",
    "Priority",
    "RejectedError",
    "RemoteError",
    "RetryPolicy",
    "SchemaVersionError",
    "Settings",
    "StaleClaimError",
    "StoreError",
    "StoreUnavailableError",
    "TaskCancelledError",
    "TaskContext",
    "TaskCrashedError",
    "TaskError",
    "TaskExpiredError",
    "TaskHandle",
    "TaskInfo",
    "TaskState",
    "Terminated",
    "VersionConflictError",
    "capability",
    "run",
]
