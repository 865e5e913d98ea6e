"""Open conflicts: stale writes under the policy ``ask``. They stand beside their document until somebody decides."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, NamedTuple

from ..errors import NotFoundError, OpenConflictError, VersionConflictError
from ..settings import Settings
from . import bodies, documents, events
from .documents import DECIDE, Author, New, there
from .events import Kind
from .locks import Guard
from .store import Range, Rows
from .tables import CONFLICT, DOCUMENT, ConflictRow, DocumentRow

MINE: Final = "mine"
THEIRS: Final = "theirs"
VALUE: Final = "value"
MOST = 1_000
"""Open conflicts of a document."""


class Lost(NamedTuple):
    """A stale edit that waits for a decision: what its writer expected, found and wanted."""

    base: int
    found: int
    text: str | None
    kind: str


class Decide(NamedTuple):
    """Settle an open conflict: with what its writer wanted (mine), with what is there (theirs), or with another value.

    ``expected``: the version that whoever decides has seen; None: whatever stands there, but for "mine" without ``force``, which
    was asked for over the version that the conflict was found at.
    """

    id: str
    how: str
    body: str | None
    by: Author
    expected: int | None = None
    fence: Guard | None = None
    force: bool = False


class Decided(NamedTuple):
    """The document as it is now, with its body; None where there is none."""

    row: DocumentRow | None
    text: str | None


def open_all(
    rows: Rows, id: str, lost: Sequence[tuple[str, Lost]], by: Author, now: float, policy: Settings
) -> tuple[ConflictRow, ...]:
    """Keep what a write wanted. The first conflict has the write's ``id``.

    Raises: VersionConflictError when so many wait for their document already.
    """
    waiting = rows.scan_many([Range(CONFLICT, "by_key", low=key, high=f"{key}\0", limit=MOST) for key, _ in lost])
    for (key, one), some in zip(lost, waiting, strict=True):
        if len(some) >= MOST:
            said = (
                f"{key!r}: version {one.base} was expected, but {one.found} is there, and {MOST} conflicts of it are open already"
            )
            raise VersionConflictError(f"{said}: decide some", key=key, expected=one.base, found=one.found)
    return tuple(
        _open(rows, id if place == 0 else f"{id}.{place}", key, one, by, now, policy) for place, (key, one) in enumerate(lost)
    )


def _open(rows: Rows, id: str, key: str, lost: Lost, by: Author, now: float, policy: Settings) -> ConflictRow:
    value, blob = bodies.keep(rows, lost.text, policy.blob_from)
    row = ConflictRow(id, key, lost.base, lost.found, value, blob, lost.kind, now, by.actor, by.cause)
    rows.put(CONFLICT, row)
    events.append(rows, now, Kind.STATE_CONFLICT, key, by.session, events.facts(conflict=id, base=lost.base, found=lost.found))
    return row


def any_of(rows: Rows, keys: Sequence[str]) -> set[str]:
    """Those of these documents that have an open conflict."""
    found = rows.scan_many([Range(CONFLICT, "by_key", low=key, high=f"{key}\0", limit=1) for key in keys])
    return {key for key, some in zip(keys, found, strict=True) if some}


def refusal(conflicts: Sequence[ConflictRow]) -> OpenConflictError:
    """What the writer of these is told, once they are stored."""
    first = conflicts[0]
    return OpenConflictError(
        f"{first.key!r}: version {first.base} was expected, but {first.found} is there: the write is kept as conflict {first.id}, "
        "and nothing was changed; look at it with conflicts(), and settle it with decide()",
        key=first.key,
        expected=first.base,
        found=first.found,
        conflict=first.id,
        conflicts=[one.id for one in conflicts],
    )


def decide(rows: Rows, command: Decide, now: float, policy: Settings) -> Decided:
    """Write what was decided, and close the conflict. "theirs" writes no version.

    Raises: NotFoundError when it was decided before; VersionConflictError, FencedError, LeaseLostError.
    """
    conflict = rows.one(CONFLICT, command.id)
    if conflict is None:
        raise NotFoundError(f"there is no open conflict {command.id!r}: it was decided", conflict=command.id)
    row = rows.one(DOCUMENT, conflict.key)
    found = 0 if row is None else row.version
    expected = command.expected
    if expected is None and command.how == MINE and not command.force:  # it was asked for over this one
        expected = conflict.found
    if expected is not None and expected != found:
        raise VersionConflictError(
            f"{conflict.key!r}: version {expected} was looked at, but {found} is there by now: look again with conflicts(), and "
            f"decide with expected_version={found}",
            key=conflict.key, expected=expected, found=found,
        )  # fmt: skip
    text = bodies.fetch(rows, conflict.value, conflict.value_blob) if command.how == MINE else command.body
    if command.how == THEIRS or (text is None and not there(row)):
        text = documents.text_of(rows, row)
    else:
        token = documents.checked_fence(rows, conflict.key, row, command.fence, command.force)
        row = documents.write(rows, conflict.key, row, New(text, DECIDE, conflict.base, token), command.by, now, policy)
    rows.drop(CONFLICT, conflict)
    bodies.release(rows, conflict.value_blob)
    told = events.facts(conflict=command.id, how=command.how, version=0 if row is None else row.version)
    events.append(rows, now, Kind.STATE_DECIDED, conflict.key, command.by.session, told)
    return Decided(row, text)
