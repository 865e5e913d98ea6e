"""Rows with defaults, for tests of stores."""

from __future__ import annotations

from typing import Any

from autogen_coord.core.tables import AttemptRow, EventRow, LockHeldRow, QueueRow

_QUEUE: dict[str, Any] = dict.fromkeys(QueueRow._fields) | {
    "seq": 0,
    "capability": "summarize",
    "state": "ready",
    "pool": "summarize",
    "rank": 0.0,
    "priority": 5.0,
    "ready_at": 0.0,
    "attempt": 0,
    "failures": 0,
    "crashes": 0,
    "suspect": 0,
    "timeout": 300.0,
    "children": 0,
}


def queued(id: str, **values: Any) -> QueueRow:
    return QueueRow(**{**_QUEUE, "id": id, **values})


def event(number: int, **values: Any) -> EventRow:
    return EventRow(
        **{"number": number, "at": 1.0, "kind": "task.delegated", "subject": "t", "session": None, "data": None, **values}
    )


def held(path: str, id: str) -> LockHeldRow:
    return LockHeldRow(path, id, "X", None, 1, "s", None, 0, 5.0, 1.0, 1.0)


def attempt(task: str, number: int, **values: Any) -> AttemptRow:
    base: dict[str, Any] = {"provider": None, "session": None, "started_at": None, "ended_at": 2.0, "end": "failed", "error": None}
    return AttemptRow(**{"task": task, "number": number, **base, **values})
