"""A handler's effects: what it wrote to the shared state, written with its outcome or not at all.

In one transaction: the documents, the outcome, and the release of the locks that guard them. When the documents are refused
(another wrote first, a lease is lost) the attempt fails instead: it is tried again, for what it was made from has changed. A write
that becomes an open conflict (``ask``) ends the task: whoever is asked decides, and another attempt would not wait for that.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from ..errors import CoordError, StaleClaimError, StoreError
from ..settings import Settings
from . import claims, locks, open_conflicts, state
from .claims import Finish
from .endings import Failure
from .locks import Release
from .state import Opened, Write
from .store import Keys, Rows, each
from .tables import DOCUMENT, FAILED, OutcomeRow


class FinishWith(NamedTuple):
    """The success of an attempt, and what it wrote. ``releases``: the leases that its writes name."""

    finish: Finish
    write: Write
    releases: tuple[Release, ...] = ()

    def reads(self) -> tuple[Keys[Any], ...]:
        return (*self.finish.reads(), Keys(DOCUMENT, [edit.key for edit in self.write.edits]))


def finish(rows: Rows, command: FinishWith, now: float, policy: Settings) -> OutcomeRow | None:
    """Accept the end of an attempt with its effects, once; None when it failed by them and will be tried again.

    The same once more (after a commit whose answer was lost) writes nothing, and hears the same.

    Raises: StaleClaimError: nothing of it is written.
    """
    success = command.finish
    if claims.held(rows, success.session, success.task, success.attempt) is None:
        return _repeated(rows, command, now, policy)
    failure = _write(rows, command.write, now, policy)
    outcome = claims.finish(rows, success if failure is None else _failed(success, failure), now, policy)
    each(command.releases, lambda release: locks.release(rows, release, now, policy))
    return outcome


def _write(rows: Rows, write: Write, now: float, policy: Settings) -> Failure | None:
    """Why it was not written. All of it is refused before any of it is written."""
    try:
        answer = state.write(rows, write, now, policy)
    except StoreError:
        raise
    except CoordError as error:
        return _failure(error, retryable=True)
    return _failure(open_conflicts.refusal(answer.conflicts), retryable=False) if isinstance(answer, Opened) else None


def _failure(error: CoordError, retryable: bool) -> Failure:
    return Failure(error.code, type(error).__qualname__, error.message, retryable=retryable)


def _failed(success: Finish, failure: Failure) -> Finish:
    return success._replace(state=FAILED, output=None, failure=failure)


def _repeated(rows: Rows, command: FinishWith, now: float, policy: Settings) -> OutcomeRow | None:
    """The claim is over: by this very command, as a success or as a failure, or it is stale."""
    try:
        return claims.finish(rows, command.finish, now, policy)
    except StaleClaimError:
        return claims.finish(rows, _failed(command.finish, Failure("conflict", "ConflictError", "")), now, policy)
