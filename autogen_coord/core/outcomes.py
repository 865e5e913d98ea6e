"""From a stored outcome to what its caller gets: a value, or an error."""

from __future__ import annotations

from typing import Any

from ..errors import (
    NoProviderError,
    RemoteError,
    TaskCancelledError,
    TaskCrashedError,
    TaskError,
    TaskExpiredError,
)
from . import bodies
from .store import Keys, Store
from .tables import BLOB, CANCELLED, EXPIRED, SUCCEEDED, OutcomeRow


async def output_of(outcome: OutcomeRow, store: Store) -> str:
    """The output's JSON text, fetched from its blob when it is large."""
    if outcome.output is None and outcome.output_blob is not None:
        (blobs,) = await store.read(Keys(BLOB, (outcome.output_blob,)))
        if blobs[0] is None:
            raise RemoteError(f"the output of task {outcome.id} was pruned", task_id=outcome.id, type="NotFoundError")
        return str(blobs[0].body)
    return outcome.output if outcome.output is not None else "null"


def error_of(outcome: OutcomeRow) -> TaskError | NoProviderError | None:
    """The error that a caller raises; None when the task succeeded."""
    id = outcome.id
    if outcome.state == SUCCEEDED:
        return None
    if outcome.state == CANCELLED:
        return TaskCancelledError(f"task {id} of {outcome.capability} was cancelled", task_id=id)
    if outcome.state == EXPIRED:
        what = "deadline while it ran" if outcome.started_at is not None else "deadline or ttl before anybody began it"
        return TaskExpiredError(f"task {id} of {outcome.capability} passed its {what}", task_id=id)
    facts: dict[str, Any] = bodies.decode(outcome.error) if outcome.error else {}
    type, text = facts.get("type", "Exception"), facts.get("text", "")
    if facts.get("code") == "crashed":
        return TaskCrashedError(f"task {id} of {outcome.capability}: {text}; {outcome.crashes} crashes while alone", task_id=id)
    if facts.get("code") == "no_provider":
        return NoProviderError(text, capability=outcome.capability, near=[], task_id=id)
    return RemoteError(
        f"task {id} of {outcome.capability} failed: {type}: {text[:500]}",
        task_id=id, type=type, text=text, traceback=facts.get("traceback", ""), remote_code=facts.get("code", ""),
        attempts=outcome.attempt,
    )  # fmt: skip
