"""The append-only log. Numbers come from the store's counter under the writer lock: no gaps, and the order of commit."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from json.encoder import encode_basestring_ascii as quoted
from typing import Any

from ..errors import InvalidInputError
from .bodies import decode, encode
from .store import Rows
from .tables import COUNTER, EVENT, CounterRow, EventRow

NUMBER = "event"
FLOOR = "event_floor"
"""Counter: the highest number that was pruned."""


LARGEST = 1 << 62


class Kind(StrEnum):
    """What is told. ``task.cancelling`` says that a running task was asked to stop; its end says how it ended."""

    TASK_DELEGATED = "task.delegated"
    TASK_ACCEPTED = "task.accepted"
    TASK_STARTED = "task.started"
    TASK_REJECTED = "task.rejected"
    TASK_PROGRESSED = "task.progressed"
    TASK_RETRIED = "task.retried"
    TASK_CANCELLING = "task.cancelling"
    TASK_COMPLETED = "task.completed"
    TASK_FAILED = "task.failed"
    TASK_CANCELLED = "task.cancelled"
    TASK_EXPIRED = "task.expired"
    SESSION_OPENED = "session.opened"
    SESSION_DEAD = "session.dead"
    SESSION_CLOSED = "session.closed"
    AGENT_ONLINE = "agent.online"
    AGENT_DRAINING = "agent.draining"
    AGENT_OFFLINE = "agent.offline"
    RESOURCE_LOCKED = "resource.locked"
    RESOURCE_UNLOCKED = "resource.unlocked"
    RESOURCE_LOST = "resource.lost"
    RESOURCE_DEADLOCKED = "resource.deadlocked"
    STATE_CHANGED = "state.changed"
    STATE_CONFLICT = "state.conflict"
    STATE_DECIDED = "state.decided"
    STATE_SNAPSHOT = "state.snapshot"


_TEXT = {kind: kind.value for kind in Kind}
RESOURCES = frozenset({Kind.RESOURCE_LOCKED, Kind.RESOURCE_LOST, Kind.RESOURCE_DEADLOCKED})
"""What a holder, or who waits for a lock, must hear of."""
ENDINGS = frozenset({Kind.TASK_COMPLETED, Kind.TASK_FAILED, Kind.TASK_CANCELLED, Kind.TASK_EXPIRED})


@dataclass(frozen=True, slots=True)
class Event:
    """One line of the log: ``number``, ``at`` (epoch seconds), ``kind``, ``subject`` (a task's, session's or provider's
    id, a resource's path, a document's key, or a snapshot's name)."""

    number: int
    at: float
    kind: str
    subject: str
    session: str | None = None
    data: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def of(cls, row: EventRow) -> Event:
        return cls(row.number, row.at, row.kind, row.subject, row.session, decode(row.data) if row.data else {})


def checked_since(since: object) -> int | None:
    """A number to follow the log from. Raises: InvalidInputError."""
    if since is None or (isinstance(since, int) and not isinstance(since, bool) and 0 <= since <= LARGEST):
        return since
    raise InvalidInputError(f"since={since!r:.50}: the number of an event, a whole number from 0 on, or None for now")


def append(
    rows: Rows, now: float, kind: Kind, subject: str, session: str | None = None, data: str | None = None, then: Kind | None = None
) -> int:
    """Write one event and return its number. ``data`` is a JSON object as text; ``then`` a second kind, told of the same."""
    counter = rows.one(COUNTER, NUMBER)
    number = counter.value + 1 if counter else 1
    rows.put(EVENT, EventRow(number, now, _TEXT[kind], subject, session, data))
    if then is not None:
        rows.put(EVENT, EventRow(number + 1, now, _TEXT[then], subject, session, data))
    rows.put(COUNTER, CounterRow(NUMBER, number if then is None else number + 1))
    return number


def of_lock(mode: str, lease: str, token: int, conversion: str | None = None) -> str:
    """The ``data`` of a lock's event: `facts`, in the shortest way, as there are two for each lock."""
    more = "" if conversion is None else f',"conversion":{quoted(conversion)}'
    return f'{{"mode":"{mode}","lease":{quoted(lease)},"token":{token}{more}}}'


def facts(**values: Any) -> str:
    """The ``data`` of an event."""
    return encode(values)
