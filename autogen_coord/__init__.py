"""autogen-coord: durable coordination for AutoGen agents. The public names."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .agents.agent import CapabilityAgent
    from .agents.capability import Capability, capability
    from .agents.context import TaskContext
    from .agents.handles import BroadcastOutcome, TaskHandle
    from .agents.message import Message
    from .agents.messaging import RequestOptions, SendOptions
    from .agents.on_message import on_message
    from .coordination import Coordination
    from .core.addresses import EVERYONE, Recipient
    from .core.audits import AuditedDocument, TrailEntry
    from .core.caching import CachedState, CachePolicy, CacheStats
    from .core.discovery import CapabilityInfo, ProviderInfo, ProviderStatus, Registry
    from .core.documents import Document
    from .core.events import Event
    from .core.fencing import Fence, FileFence
    from .core.inspect import AttemptInfo, TaskInfo
    from .core.lock_handles import Lease
    from .core.lock_modes import LockMode
    from .core.messages import MessageKind, Posted
    from .core.progress import Progress, ProgressView
    from .core.reducing import Reducer
    from .core.requests import Options, Priority
    from .core.retry import RetryPolicy
    from .core.running import Interrupted, Terminated, run
    from .core.shared_state import State
    from .core.state_edits import Delete, Patch, Put
    from .core.state_policies import MergePolicy
    from .core.state_reads import Conflict, DocumentChange, Snapshot, StatePolicy
    from .core.tables import TaskState
    from .core.threads import Thread, ThreadMessage
    from .errors import (
        CallTimeoutError,
        ClosedError,
        ConfigError,
        ConflictError,
        CoordError,
        DeadlockError,
        DuplicateTaskError,
        EventsPrunedError,
        FencedError,
        InvalidInputError,
        InvalidOutputError,
        LeaseLostError,
        LockHeldError,
        NonDeterminismError,
        NoProviderError,
        NotFoundError,
        OpenConflictError,
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
    from .stores import Backup

__version__ = "0.1.0"

__all__ = [
    "EVERYONE",
    "AttemptInfo",
    "AuditedDocument",
    "Backup",
    "BroadcastOutcome",
    "CachePolicy",
    "CacheStats",
    "CachedState",
    "CallTimeoutError",
    "Capability",
    "CapabilityAgent",
    "CapabilityInfo",
    "ClosedError",
    "ConfigError",
    "Conflict",
    "ConflictError",
    "CoordError",
    "Coordination",
    "DeadlockError",
    "Delete",
    "Document",
    "DocumentChange",
    "DuplicateTaskError",
    "Event",
    "EventsPrunedError",
    "Fence",
    "FencedError",
    "FileFence",
    "Interrupted",
    "InvalidInputError",
    "InvalidOutputError",
    "Lease",
    "LeaseLostError",
    "LockHeldError",
    "LockMode",
    "MergePolicy",
    "Message",
    "MessageKind",
    "NoProviderError",
    "NonDeterminismError",
    "NotFoundError",
    "OpenConflictError",
    "Options",
    "Patch",
    "PayloadTooLargeError",
    "PermissionDeniedError",
    "Posted",
    "Priority",
    "Progress",
    "ProgressView",
    "ProviderInfo",
    "ProviderStatus",
    "Put",
    "Recipient",
    "Reducer",
    "Registry",
    "RejectedError",
    "RemoteError",
    "RequestOptions",
    "RetryPolicy",
    "SchemaVersionError",
    "SendOptions",
    "Settings",
    "Snapshot",
    "StaleClaimError",
    "State",
    "StatePolicy",
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
    "Thread",
    "ThreadMessage",
    "TrailEntry",
    "VersionConflictError",
    "capability",
    "on_message",
    "run",
]

# Loaded when first used: AutoGen takes a quarter of a second, which a command line that does without it need not wait for.
_HOMES = {
    "agents.agent": ("CapabilityAgent",),
    "agents.capability": (
        "Capability",
        "capability",
    ),
    "agents.context": ("TaskContext",),
    "agents.handles": (
        "BroadcastOutcome",
        "TaskHandle",
    ),
    "agents.message": ("Message",),
    "agents.messaging": (
        "RequestOptions",
        "SendOptions",
    ),
    "agents.on_message": ("on_message",),
    "coordination": ("Coordination",),
    "core.addresses": (
        "EVERYONE",
        "Recipient",
    ),
    "core.audits": (
        "AuditedDocument",
        "TrailEntry",
    ),
    "core.caching": (
        "CachePolicy",
        "CacheStats",
        "CachedState",
    ),
    "core.discovery": (
        "CapabilityInfo",
        "ProviderInfo",
        "ProviderStatus",
        "Registry",
    ),
    "core.documents": ("Document",),
    "core.events": ("Event",),
    "core.fencing": (
        "Fence",
        "FileFence",
    ),
    "core.inspect": (
        "AttemptInfo",
        "TaskInfo",
    ),
    "core.lock_handles": ("Lease",),
    "core.lock_modes": ("LockMode",),
    "core.messages": (
        "MessageKind",
        "Posted",
    ),
    "core.progress": (
        "Progress",
        "ProgressView",
    ),
    "core.requests": (
        "Options",
        "Priority",
    ),
    "core.reducing": ("Reducer",),
    "core.retry": ("RetryPolicy",),
    "core.running": (
        "Interrupted",
        "Terminated",
        "run",
    ),
    "core.shared_state": ("State",),
    "core.state_edits": (
        "Delete",
        "Patch",
        "Put",
    ),
    "core.state_policies": ("MergePolicy",),
    "core.state_reads": (
        "Conflict",
        "DocumentChange",
        "Snapshot",
        "StatePolicy",
    ),
    "core.tables": ("TaskState",),
    "core.threads": (
        "Thread",
        "ThreadMessage",
    ),
    "errors": (
        "CallTimeoutError",
        "ClosedError",
        "ConfigError",
        "ConflictError",
        "CoordError",
        "DeadlockError",
        "DuplicateTaskError",
        "EventsPrunedError",
        "FencedError",
        "InvalidInputError",
        "InvalidOutputError",
        "LeaseLostError",
        "LockHeldError",
        "NoProviderError",
        "NonDeterminismError",
        "NotFoundError",
        "OpenConflictError",
        "PayloadTooLargeError",
        "PermissionDeniedError",
        "RejectedError",
        "RemoteError",
        "SchemaVersionError",
        "StaleClaimError",
        "StoreError",
        "StoreUnavailableError",
        "TaskCancelledError",
        "TaskCrashedError",
        "TaskError",
        "TaskExpiredError",
        "VersionConflictError",
    ),
    "settings": ("Settings",),
    "stores": ("Backup",),
}
_HOME_OF = {name: module for module, names in _HOMES.items() for name in names}


def __getattr__(name: str) -> Any:
    if name not in _HOME_OF:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = globals()[name] = getattr(import_module(f".{_HOME_OF[name]}", __name__), name)
    return value


def __dir__() -> list[str]:
    return [*__all__, "__version__"]
