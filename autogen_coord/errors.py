"""Every error that autogen-coord raises, as one tree.

::

    CoordError
    ├── NotFoundError                 no such task, session, event ...
    ├── ConflictError
    │   ├── VersionConflictError      a compare-and-set lost
    │   │   └── OpenConflictError     ... and waits for a decision (policy ``ask``)
    │   ├── FencedError               an unfenced write of a document that is written under a lock
    │   ├── LockHeldError             a lock is held and the caller would not wait
    │   ├── StaleClaimError           a write names a claim that is no longer held
    │   └── DuplicateTaskError        a key was used before, with another input
    ├── DeadlockError
    ├── LeaseLostError                a lease, or the session under it, is gone; a fence has seen a greater token
    ├── InvalidInputError             a value, name, time or schema that cannot be used
    │   └── InvalidOutputError        what a handler returned does not fit its schema
    ├── ConfigError                   a setting or a set-up that cannot work
    │   └── ClosedError               used after it was closed
    ├── StoreError
    │   ├── StoreUnavailableError     busy, frozen, away: the same call may go through later
    │   └── SchemaVersionError        written by code that is too old or too new
    ├── TaskError                     a task ended without a value; it has the ``task_id``
    │   ├── RemoteError               the handler raised (in this process or in another)
    │   ├── TaskCancelledError
    │   ├── TaskExpiredError          its deadline or its ttl passed
    │   └── TaskCrashedError          the processes that ran it died, time after time
    ├── CallTimeoutError              the wait ended, not the task
    ├── NoProviderError               nobody provides the capability
    ├── EventsPrunedError             the log no longer reaches back so far
    ├── NonDeterminismError
    ├── PayloadTooLargeError
    ├── PermissionDeniedError
    └── RejectedError                 raised *by* a handler: not me, give it to another

Each class has a stable ``code``, which crosses process borders, a message that says what to do, and its facts as fields
(``error.facts``, and as attributes).
"""

from __future__ import annotations

from typing import Any, ClassVar


class CoordError(Exception):
    """The base of all errors of autogen-coord."""

    code: ClassVar[str] = "coord"

    def __init__(self, message: str, **facts: Any) -> None:
        super().__init__(message)
        self.message = message
        self.facts = facts

    def __getattr__(self, name: str) -> Any:
        facts = self.__dict__.get("facts", {})
        if name in facts:
            return facts[name]
        raise AttributeError(name)

    def __reduce__(self) -> Any:
        return (_rebuild, (type(self), self.message, self.facts))


def _rebuild(kind: type[CoordError], message: str, facts: dict[str, Any]) -> CoordError:
    return kind(message, **facts)


class NotFoundError(CoordError):
    """Nothing with that id is stored."""

    code = "not_found"


class ConflictError(CoordError):
    """Another write came first."""

    code = "conflict"


class VersionConflictError(ConflictError):
    """The version that was ``expected`` of ``key`` is not the one that was ``found``; ``paths`` says where a merge failed."""

    code = "version_conflict"


class OpenConflictError(VersionConflictError):
    """The write lost, and is kept as the open ``conflict`` of this id until somebody decides; the document stays as it is."""

    code = "open_conflict"


class FencedError(ConflictError):
    """The document is written under a lock (``token``, the greatest so far), and this write names none."""

    code = "fenced"


class LockHeldError(ConflictError):
    """Another holds the lock (``holder``, ``mode``, ``path``, ``since``), and the caller would not wait, or not longer."""

    code = "lock_held"


class StaleClaimError(ConflictError):
    """The write names a claim (task, attempt) that is no longer held; nothing was written."""

    code = "stale_claim"


class DuplicateTaskError(ConflictError):
    """The key was used before, with another input."""

    code = "duplicate_task"


class DeadlockError(CoordError):
    """Waiting would never end: the cycle is in ``cycle``."""

    code = "deadlock"


class LeaseLostError(CoordError):
    """The lease, or the session under it, is gone, or a fence has seen a greater ``token`` (``seen``): stop the work it guarded."""

    code = "lease_lost"


class InvalidInputError(CoordError):
    """A value, a name or a time that cannot be used; nothing was stored."""

    code = "invalid_input"


class InvalidOutputError(InvalidInputError):
    """What the handler returned does not fit its declared output."""

    code = "invalid_output"


class ConfigError(CoordError):
    """A setting or a set-up that cannot work; the message says what to change."""

    code = "config"


class ClosedError(ConfigError):
    """The object was used after it was closed, or it was closed while the caller waited."""

    code = "closed"


class StoreError(CoordError):
    """The store refused or failed; the driver's own error is the ``__cause__``."""

    code = "store"


class StoreUnavailableError(StoreError):
    """The store is busy, frozen or away; nothing was written and the same call may go through later."""

    code = "store_unavailable"


class SchemaVersionError(StoreError):
    """The store was written by code too old or too new for this one; the message names the command that mends it."""

    code = "schema_version"


class TaskError(CoordError):
    """A task ended without a value."""

    code = "task"

    def __init__(self, message: str, *, task_id: str = "", **facts: Any) -> None:
        super().__init__(message, task_id=task_id, **facts)


class RemoteError(TaskError):
    """The handler raised: ``type`` (its class's name), ``text`` and ``traceback`` say what."""

    code = "remote"

    def __init__(
        self, message: str, *, task_id: str = "", type: str = "", text: str = "", traceback: str = "", **facts: Any
    ) -> None:
        super().__init__(message, task_id=task_id, type=type, text=text, traceback=traceback, **facts)


class TaskCancelledError(TaskError):
    """The task was cancelled."""

    code = "cancelled"


class TaskExpiredError(TaskError):
    """The task's deadline or ttl passed before it ended."""

    code = "expired"


class TaskCrashedError(TaskError):
    """The processes that ran the task died, as often as the crash limit allows."""

    code = "crashed"


class CallTimeoutError(CoordError):
    """The caller's own wait ended; the task goes on."""

    code = "call_timeout"


class NoProviderError(CoordError):
    """Nobody provides the capability: ``capability``, and ``near``, the names that look like it."""

    code = "no_provider"


class EventsPrunedError(CoordError):
    """The log no longer reaches back to the asked number: ``floor`` is the oldest that is kept."""

    code = "events_pruned"


class NonDeterminismError(CoordError):
    """A replayed run asked for a step that its journal does not hold."""

    code = "non_determinism"


class PayloadTooLargeError(CoordError):
    """A body is larger than the limit: ``size`` and ``limit`` in bytes."""

    code = "payload_too_large"


class PermissionDeniedError(CoordError):
    """The credential does not allow this."""

    code = "permission_denied"


class RejectedError(CoordError):
    """Raise it in a handler: "not me, not now". The task goes to another provider; no failure is counted."""

    code = "rejected"
