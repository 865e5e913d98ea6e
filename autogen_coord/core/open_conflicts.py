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
from .store import Rows
from .tables import CONFLICT, DOCUMENT, ConflictRow, DocumentRow

MINE: Final = "mine"
THEIRS: Final = "theirs"
VALUE: Final = "value"


class Lost(NamedTuple):
    """A stale edit that waits for a decision: what its writer expected, found and wanted."""

    base: int
    found: int
    text: str | None
    kind: str


class Decide(NamedTuple):
    """Settle an open conflict: with what its writer wanted (mine), with what is there (theirs), or with another value.

    ``expected``: the version that whoever decides has seen; None: whatever stands there.
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
    """Keep what a write wanted. The first conflict has the write's ``id``."""
    return tuple(
        _open(rows, id if place == 0 else f"{id}.{place}", key, one, by, now, policy) for place, (key, one) in enumerate(lost)
    )


def _open(rows: Rows, id: str, key: str, lost: Lost, by: Author, now: float, policy: Settings) -> ConflictRow:
    value, blob = bodies.keep(rows, lost.text, policy.blob_from)
    row = ConflictRow(id, key, lost.base, lost.found, value, blob, lost.kind, now, by.actor, by.cause)
    rows.put(CONFLICT, row)
    events.append(rows, now, Kind.STATE_CONFLICT, key, by.session, events.facts(conflict=id, base=lost.base, found=lost.found))
    return row


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
    if command.expected is not None and command.expected != found:
        raise VersionConflictError(
            f"{conflict.key!r}: version {command.expected} was looked at, but {found} is there by now: look again, and decide",
            key=conflict.key, expected=command.expected, found=found,
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
