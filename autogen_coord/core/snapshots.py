"""Snapshots: points in the order of commits, by name. Taking one costs nothing; what it needs of each history is kept from then on.

A restore is a change, not an erasure: each document that was another then gets one more version.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from ..errors import ConflictError, InvalidInputError, NotFoundError, VersionConflictError
from ..settings import Settings
from . import documents, events
from .documents import RESTORE, SNAPSHOTS, Author, New, Versioned, text_of, there
from .events import Kind
from .locks import Guard
from .prefixes import within
from .store import Keys, Load, Range, Rows, for_each
from .tables import COUNTER, DOCUMENT, DOCUMENT_CHANGE, EVENT, SNAPSHOT, ChangeRow, CounterRow, DocumentRow, SnapshotRow

MOST = 1_000
"""Snapshots of a namespace."""
AT_ONCE = 1_000
"""Documents that one transaction restores."""
MEANWHILE = 4_000
"""Events that may have been written since the documents were looked through."""


class Take(NamedTuple):
    """Name this point."""

    name: str
    prefix: str
    note: str
    by: Author


class Drop(NamedTuple):
    """Forget a snapshot. What only it needed is pruned by the next writes."""

    name: str


class Restore(NamedTuple):
    """Bring ``keys`` back to what they were. ``seen``: the newest event when the keys were looked for; documents that were
    changed since then come along. None: these keys only."""

    name: str
    prefix: str
    keys: tuple[str, ...]
    seen: int | None
    by: Author
    force: bool = False


class Restored(NamedTuple):
    """How many documents got a new version; ``again``: too much was written meanwhile, look through the documents anew."""

    documents: int
    again: bool = False


class Revert(NamedTuple):
    """Write an earlier version of a document once more."""

    key: str
    version: int
    by: Author
    expected: int | None = None
    fence: Guard | None = None
    force: bool = False


def take(rows: Rows, command: Take, now: float, policy: Settings) -> SnapshotRow:
    """Raises: ConflictError for a name that is taken, InvalidInputError for one too many."""
    if rows.one(SNAPSHOT, command.name) is not None:
        raise ConflictError(f"there is a snapshot {command.name!r} already: drop it, or take another name", snapshot=command.name)
    counter = rows.one(COUNTER, SNAPSHOTS)
    there_are = counter.value if counter else 0
    if there_are >= MOST:
        raise InvalidInputError(f"{MOST:,} snapshots are kept already: drop some with drop_snapshot")
    number = events.append(rows, now, Kind.STATE_SNAPSHOT, command.name, command.by.session, events.facts(prefix=command.prefix))
    row = SnapshotRow(command.name, number, now, command.prefix, command.by.actor, command.note)
    rows.put(SNAPSHOT, row)
    rows.put(COUNTER, CounterRow(SNAPSHOTS, there_are + 1))
    return row


def drop(rows: Rows, command: Drop, now: float, policy: Settings) -> SnapshotRow:
    """Raises: NotFoundError."""
    row = found(rows.one(SNAPSHOT, command.name), command.name)
    rows.drop(SNAPSHOT, row)
    counter = rows.one(COUNTER, SNAPSHOTS)
    rows.put(COUNTER, CounterRow(SNAPSHOTS, (counter.value if counter else 1) - 1))
    return row


def found(row: SnapshotRow | None, name: str) -> SnapshotRow:
    """Raises: NotFoundError."""
    if row is None:
        raise NotFoundError(f"there is no snapshot {name!r} in this namespace", snapshot=name)
    return row


def covering(row: SnapshotRow, prefix: str) -> SnapshotRow:
    """A snapshot that all at a prefix, or below it, is in. Raises: InvalidInputError."""
    if not within(prefix, row.prefix):
        raise InvalidInputError(
            f"{prefix!r} is not in snapshot {row.name!r}, which was taken of {row.prefix!r} and what lies below it",
            key=prefix,
            snapshot=row.name,
        )
    return row


def restore(rows: Rows, command: Restore, now: float, policy: Settings) -> Restored:
    """Write what was. A document made since gets a tombstone. Raises: NotFoundError, InvalidInputError, FencedError."""
    snapshot = covering(found(rows.one(SNAPSHOT, command.name), command.name), command.prefix)
    keys = list(command.keys)
    if command.seen is not None:
        meanwhile = _changed_since(rows, command.seen, command.prefix)
        if meanwhile is None:
            return Restored(0, again=True)
        keys = list(dict.fromkeys([*keys, *meanwhile]))
    now_rows = rows.get(DOCUMENT, keys)
    changed = [row for row in now_rows if row is not None and row.number > snapshot.number]
    histories = rows.scan_many([documents.history(row.key) for row in changed])
    was = [documents.as_of(row, changes, snapshot.number) for row, changes in zip(changed, histories, strict=True)]
    done = for_each(zip(changed, was, strict=True), lambda pair: _bring_back(rows, pair[0], pair[1], command, now, policy))
    return Restored(sum(done))


def _changed_since(rows: Rows, seen: int, prefix: str) -> list[str] | None:
    """The documents that were changed behind an event; None when these are too many, or not all known any more."""
    floor = rows.one(COUNTER, events.FLOOR)
    since = rows.scan(Range(EVENT, "key", (), low=seen + 1, limit=MEANWHILE))
    if len(since) == MEANWHILE or (floor is not None and floor.value > seen):
        return None
    return [row.subject for row in since if row.kind == Kind.STATE_CHANGED and within(row.subject, prefix)]


def _bring_back(rows: Rows, row: DocumentRow, was: Versioned | None, command: Restore, now: float, policy: Settings) -> bool:
    if not _differ(rows, row, was):
        return False
    documents.checked_fence(rows, row.key, row, None, command.force)
    new = New(text_of(rows, was), RESTORE, None if was is None else was.version)
    documents.write(rows, row.key, row, new, command.by, now, policy)
    return True


def _differ(rows: Rows, row: DocumentRow, was: Versioned | None) -> bool:
    if not (there(row) and there(was)):
        return there(row) or there(was)
    assert was is not None
    return (row.value, row.value_blob) != (was.value, was.value_blob) and text_of(rows, row) != text_of(rows, was)


def revert(rows: Rows, command: Revert, now: float, policy: Settings) -> tuple[DocumentRow, str]:
    """One more version, with the value of an earlier one; the new row and its body.

    Raises: NotFoundError, VersionConflictError (another was expected, or the version is yet to come), InvalidInputError (it is a
    deletion), FencedError, LeaseLostError.
    """
    key, row = command.key, rows.one(DOCUMENT, command.key)
    if row is None:
        raise NotFoundError(f"there is no document {key!r}", key=key)
    if command.version > row.version or (command.expected is not None and command.expected != row.version):
        wanted = command.version if command.version > row.version else command.expected
        said = f"{key!r}: version {wanted} was named, but {row.version} is the newest: look again"
        raise VersionConflictError(said, key=key, expected=wanted, found=row.version)
    token = documents.checked_fence(rows, key, row, command.fence, command.force)
    was = documents.version_of(rows, row, command.version)
    if was is None:
        raise pruned(key, command.version)
    text = text_of(rows, was)
    if text is None:
        raise InvalidInputError(f"{key!r}: version {command.version} is a deletion: delete the document", key=key)
    return documents.write(rows, key, row, New(text, RESTORE, was.version, token), command.by, now, policy), text


def pruned(key: str, version: int) -> NotFoundError:
    """A version that is not kept any more, or never was."""
    return NotFoundError(f"{key!r}: version {version} is not kept: history() says which are", key=key, version=version)


def loads(name: str, key: str) -> tuple[Load, Load, Load]:
    """What `documents.as_of` wants of one document."""
    return Keys(SNAPSHOT, (name,)), Keys(DOCUMENT, (key,)), documents.history(key)


def forgettable(rows: Rows, found: Sequence[DocumentRow]) -> list[tuple[DocumentRow, list[ChangeRow]]]:
    """Of these tombstones, those whose history no snapshot needs, with it."""
    histories = rows.scan_many([Range(DOCUMENT_CHANGE, "by_document", (row.key,)) for row in found])
    return [(row, changes) for row, changes in zip(found, histories, strict=True) if not _is_needed(rows, row, changes)]


def _is_needed(rows: Rows, row: DocumentRow, changes: Sequence[ChangeRow]) -> bool:
    points = documents.points_of(rows, row.key)
    every: list[Versioned] = [*changes, row]  # no more than the row, where no history is kept
    return any(documents.is_needed(points, change, next_one) for change, next_one in zip(changes, every[1:], strict=True))
