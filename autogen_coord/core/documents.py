"""Documents: one version after another. Who may write what is decided in `state`; here the version is written, and what was kept
before it.

The newest version stands in the document's row. When the next is written, the row moves to the changes (an undo log): the last
``history`` of them are kept, and older ones that a snapshot needs. A snapshot is a point in the order of commits; it needs the
version that was the newest then. Since a snapshot is always taken now, no gap between two kept versions ever holds the point of
one that stands: whatever was pruned there was needed by none.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

from ..errors import FencedError
from ..settings import Settings
from . import bodies, events, locks
from .events import Kind
from .lock_modes import X, stored
from .locks import Guard
from .prefixes import above
from .store import Range, Rows
from .tables import COUNTER, DOCUMENT, DOCUMENT_CHANGE, SNAPSHOT, ChangeRow, CounterRow, DocumentRow

PUT: Final = "put"
PATCH: Final = "patch"
MERGED: Final = "merge"
REDUCED: Final = "reduce"
DELETE: Final = "delete"
RESTORE: Final = "restore"
DECIDE: Final = "decide"

SNAPSHOTS = "snapshots"
"""Counter: how many there are."""
FORGOTTEN = "documents_forgotten"
"""Counter: the greatest version that a pruned tombstone had."""
FEW = 4
"""Old versions that one write looks at: more than the one it adds, so that the history shrinks where it may."""
MANY = 28
"""Snapshots of a document up to which its oldest versions are looked at first; with more, the newest that is one too many, and
another place each time."""

Versioned = DocumentRow | ChangeRow


@dataclass(frozen=True, slots=True)
class Document:
    """A version of a document. ``value`` is a copy: change it as you like. Times are epoch seconds of the store's clock."""

    key: str
    version: int
    """Each write one more, also behind a deletion; the first is 1, or above those of all deleted documents that were pruned."""
    value: Any
    """None in a deleted one; JSON's null is None too, see ``deleted``."""
    at: float
    """When this version was written."""
    created_at: float
    """When the first one was, since it was deleted last."""
    actor: str | None
    cause: str | None
    kind: str
    """What made this version: put, patch, merge, reduce, delete, restore, decide."""
    base: int | None
    """The version that its writer made it from; None: whatever stood there."""
    number: int
    """Of its event: its place in the order of commit."""
    token: int | None
    """Of the lease that it was written under."""
    deleted: bool = False

    @classmethod
    def of(cls, row: Versioned, text: str | None, decode: Any = bodies.decode) -> Document:
        """From a row and its body (None: there is none, it is a tombstone)."""
        value = None if text is None else decode(text)
        return cls(
            row.key, row.version, value, row.at, row.created_at, row.actor, row.cause, row.kind, row.base, row.number, row.token,
            text is None,
        )  # fmt: skip


class Author(NamedTuple):
    """Who writes: the session, the name it writes under, and what for (a task's id)."""

    session: str | None
    actor: str | None
    cause: str | None = None


class New(NamedTuple):
    """A version to be written. ``text`` None deletes."""

    text: str | None
    kind: str
    base: int | None = None
    token: int | None = None


def there(row: Versioned | None) -> bool:
    """Whether it has a value: it is neither missing nor deleted."""
    return row is not None and not (row.value is None and row.value_blob is None)


def text_of(rows: Rows, row: Versioned | None) -> str | None:
    """The body of a version; None when it has none."""
    return None if row is None else bodies.fetch(rows, row.value, row.value_blob)


def write(rows: Rows, key: str, row: DocumentRow | None, new: New, by: Author, now: float, policy: Settings) -> DocumentRow:
    """Write the next version of a document whose row is ``row``; the one rule that does."""
    version = next_version(rows, row)
    number = events.append(rows, now, Kind.STATE_CHANGED, key, by.session, _told(version, new))
    value, blob = bodies.keep(rows, new.text, policy.blob_from)
    born = row.created_at if row is not None and there(row) else now
    fenced = None if row is None else row.fenced
    if new.token is not None:
        fenced = max(new.token, fenced or 0)
    changes = 0 if row is None else row.changes + 1
    written = DocumentRow(
        key, version, value, blob, new.kind, new.base, number, now, born, by.actor, by.cause, new.token, fenced, changes,
        now if new.text is None else None,
    )  # fmt: skip
    if row is not None:
        rows.put(DOCUMENT_CHANGE, ChangeRow.of(row))
        if changes > policy.history:
            written = written._replace(changes=changes - _prune(rows, written, policy))
    rows.put(DOCUMENT, written)
    return written


def next_version(rows: Rows, row: DocumentRow | None) -> int:
    """A document's next version. The first is above all that was forgotten: it means no earlier document."""
    if row is not None:
        return row.version + 1
    counter = rows.one(COUNTER, FORGOTTEN)
    return 1 if counter is None else counter.value + 1


def forget(rows: Rows, gone: Sequence[DocumentRow]) -> None:
    """Drop documents; no other will have a version that one of them had."""
    if not gone:
        return
    greatest, counter = max(row.version for row in gone), rows.one(COUNTER, FORGOTTEN)
    if counter is None or counter.value < greatest:
        rows.put(COUNTER, CounterRow(FORGOTTEN, greatest))
    for row in gone:
        rows.drop(DOCUMENT, row)


def _told(version: int, new: New) -> str:
    """The ``data`` of its event, in the shortest way."""
    base = "" if new.base is None else f',"base":{new.base}'
    token = "" if new.token is None else f',"token":{new.token}'
    deleted = "" if new.text is not None else ',"deleted":true'
    return f'{{"version":{version},"kind":"{new.kind}"{base}{token}{deleted}}}'


# what is kept


def _prune(rows: Rows, row: DocumentRow, policy: Settings) -> int:
    """Drop some of what is older than the last ``history`` versions and no snapshot needs. Returns how many.

    With many snapshots the version that is one too many now is looked at first: else the history would grow meanwhile.
    """
    points = points_of(rows, row.key)
    oldest = row.version - policy.history  # the first that is kept in any case
    most = FEW + min(len(points), MANY)
    looks = [(None, most)] if len(points) <= MANY else [(oldest - 1, 1), (spread(row.version, oldest), most)]
    by_document = Range(DOCUMENT_CHANGE, "by_document", (row.key,), high=oldest + 1)
    gone: dict[int, ChangeRow] = {}
    for (_, most), found in zip(
        looks, rows.scan_many([by_document._replace(low=low, limit=most + 1) for low, most in looks]), strict=True
    ):
        next_ones: list[Versioned] = [*found[1:], row] if len(found) <= most else [*found[1:]]
        for change, after in zip(found, next_ones, strict=False):
            if change.version < oldest and not is_needed(points, change, after):
                gone[change.version] = change
    for change in gone.values():
        drop(rows, change)
    return len(gone)


def spread(version: int, below: int) -> int:
    """A place from 0 to ``below``, another for each version, so that all are come by. Source: Knuth, TAOCP 3, 6.4, golden ratio."""
    return version * 2_654_435_769 % (1 << 32) * below >> 32


def points_of(rows: Rows, key: str) -> list[int]:
    """The points of the snapshots that a document is in, in order."""
    counter = rows.one(COUNTER, SNAPSHOTS)
    if counter is None or not counter.value:
        return []
    found = rows.scan_many([Range(SNAPSHOT, "by_prefix", (prefix,)) for prefix in above(key)])
    return sorted(row.number for some in found for row in some)


def is_needed(points: Sequence[int], change: ChangeRow, after: Versioned) -> bool:
    """Whether a version was the newest at one of these points."""
    place = bisect_left(points, change.number)
    return place < len(points) and points[place] < after.number


def drop(rows: Rows, change: ChangeRow) -> None:
    """Forget an earlier version."""
    rows.drop(DOCUMENT_CHANGE, change)
    bodies.release(rows, change.value_blob)


# what was


def history(key: str, reverse: bool = True, before: int | None = None, limit: int | None = None) -> Range[ChangeRow]:
    """The earlier versions that are kept, the newest first."""
    return Range(DOCUMENT_CHANGE, "by_document", (key,), high=before, limit=limit, reverse=reverse)


def then(rows: Rows, found: Sequence[DocumentRow], number: int) -> list[Versioned | None]:
    """What these documents, each written since, were at a snapshot's point: of each one version is loaded."""
    newest = [Range(DOCUMENT_CHANGE, "by_number", (row.key,), high=number + 1, limit=1, reverse=True) for row in found]
    return [some[0] if some else None for some in rows.scan_many(newest)]


def as_of(row: DocumentRow | None, changes: Sequence[ChangeRow], number: int) -> Versioned | None:
    """The newest version at a snapshot's point; ``changes`` as `history` gives them. None: there was none."""
    every: list[Versioned] = [*([] if row is None else [row]), *changes]
    return next((one for one in every if one.number <= number), None)


def version_of(rows: Rows, row: DocumentRow | None, version: int) -> Versioned | None:
    """A version of a document; None when it is not kept, or never was."""
    if row is None or version >= row.version:
        return row if row is not None and version == row.version else None
    return rows.one(DOCUMENT_CHANGE, (row.key, version))


# fences


def checked_fence(rows: Rows, key: str, row: DocumentRow | None, fence: Guard | None, force: bool) -> int | None:
    """The token that a document is written under: the lease stands *now*, in the writing transaction. None without a lease.

    Where one of the lease's paths lies at the key or above it, it must hold X there. A lease on anything else has to stand, and for
    a fenced document must not be older than the lease that fenced it: who took it since may know, who took it before cannot.

    Raises: LeaseLostError; FencedError when the document was once written under a lease, and is to be written without, or under
    an older one that is on something else.
    """
    if fence is not None:
        place = stored(key)
        if any(place.startswith(path) for path in fence.paths):
            locks.require_cover(rows, fence, place, X)
        else:
            locks.require_standing(rows, fence)
            if row is not None and row.fenced is not None and fence.token < row.fenced and not force:
                raise _passed_by(key, fence.token, row.fenced)
        return fence.token
    if row is not None and row.fenced is not None and not force:
        raise FencedError(
            f"{key!r} is written under a lock (token {row.fenced}): pass fence=lease, or force=True if nobody can hold it",
            key=key,
            token=row.fenced,
        )
    return None


def _passed_by(key: str, token: int, fenced: int) -> FencedError:
    return FencedError(
        f"{key!r} is written under a newer lock (token {fenced}) than this one (token {token}), which is on something else: "
        "take the lock on the document, or pass force=True if nobody can hold it",
        key=key,
        token=fenced,
        given=token,
    )
