"""The shared state's one way to write: some edits of documents, all or none of them, each under its policy and its fence.

An edit that expects a version which is no more is stale; what becomes of it is its policy's. Under ``ask`` it becomes an open
conflict, which must be *committed*: so the rule answers it, and who asked raises it. Then nothing of the write is applied.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from ..errors import InvalidInputError, NotFoundError, PayloadTooLargeError, VersionConflictError
from ..settings import Settings
from . import documents, merging, open_conflicts, patching, reducing, state_policies, values
from .bodies import decode
from .documents import DELETE, MERGED, PATCH, PUT, REDUCED, Author, New, checked_fence, text_of, there
from .locks import Guard
from .open_conflicts import Lost
from .state_policies import ASK, MERGE, REDUCE, REJECT, Reducers, Stance
from .store import Rows, for_each
from .tables import DOCUMENT, ConflictRow, DocumentRow
from .values import ABSENT

MOST = 1_000
"""Edits of one write."""


class Edit(NamedTuple):
    """One document's part of a `Write`. Every value was checked before."""

    key: str
    act: str
    """put, patch, delete"""
    body: str | None
    """JSON text: the value, or under ``reduce`` the update, or the patch."""
    expected: int | None = None
    """The version that its writer knows, 0 for no document; None: whatever stands there."""
    policy: str | None = None
    reducers: Reducers | None = None
    fence: Guard | None = None
    force: bool = False
    """Write a fenced document without a lease."""
    missing_ok: bool = False
    """Delete what is not there: nothing is written."""


class Write(NamedTuple):
    """Edits that are applied together, in their order, or not at all; of each key one.

    ``id``: names the conflict that it may become.
    """

    id: str
    edits: tuple[Edit, ...]
    by: Author


class Written(NamedTuple):
    """The new rows, in the order of the edits, and their bodies; None for a deletion of what was not there."""

    rows: tuple[DocumentRow | None, ...]
    texts: tuple[str | None, ...]


class Opened(NamedTuple):
    """Nothing was written: these conflicts wait for a decision."""

    conflicts: tuple[ConflictRow, ...]


def write(rows: Rows, command: Write, now: float, policy: Settings) -> Written | Opened:
    """Apply all edits, or none.

    Raises: VersionConflictError, FencedError, LeaseLostError, NotFoundError, InvalidInputError, PayloadTooLargeError.
    """
    edits = command.edits
    if len(edits) == 1:
        return _write_one(rows, command, edits[0], now, policy)
    keys = [edit.key for edit in edits]
    found: list[DocumentRow | None] = rows.get(DOCUMENT, keys)
    _require_distinct(keys)
    made: list[New | Lost | None] = for_each(zip(edits, found, strict=True), lambda pair: _made(rows, pair[0], pair[1], policy))
    lost = [(edit.key, one) for edit, one in zip(edits, made, strict=True) if isinstance(one, Lost)]
    if lost:
        return Opened(open_conflicts.open_all(rows, command.id, lost, command.by, now, policy))
    news = [new for new in made if not isinstance(new, Lost)]

    def put(place: int) -> DocumentRow | None:
        new = news[place]
        return None if new is None else documents.write(rows, keys[place], found[place], new, command.by, now, policy)

    written = for_each(range(len(edits)), put)
    return Written(tuple(written), tuple(None if new is None else new.text for new in news))


def _write_one(rows: Rows, command: Write, edit: Edit, now: float, policy: Settings) -> Written | Opened:
    """The common case, in a third less time."""
    row = rows.one(DOCUMENT, edit.key)
    new = _made(rows, edit, row, policy)
    if isinstance(new, Lost):
        return Opened(open_conflicts.open_all(rows, command.id, ((edit.key, new),), command.by, now, policy))
    if new is None:
        return Written((None,), (None,))
    return Written((documents.write(rows, edit.key, row, new, command.by, now, policy),), (new.text,))


def edited(rows: Rows, edit: Edit, row: DocumentRow | None, policy: Settings) -> New | Lost | None:
    """What an edit would come to where ``row`` stands; nothing is written. None: nothing to do. Raises: as `write`."""
    return _made(rows, edit, row, policy)


def _require_distinct(keys: Sequence[str]) -> None:
    twice = next((key for place, key in enumerate(keys) if key in keys[:place]), None) if len(set(keys)) < len(keys) else None
    if twice is not None:
        raise InvalidInputError(f"{twice!r} is changed twice in one write: make one change of both", key=twice)


def _made(rows: Rows, edit: Edit, row: DocumentRow | None, policy: Settings) -> New | Lost | None:
    """What an edit comes to, before anything is written; None: nothing."""
    token = checked_fence(rows, edit.key, row, edit.fence, edit.force)
    stance = state_policies.stance(rows, edit.key, edit.policy, edit.reducers)
    stale = _is_stale(edit, row)
    if stale and stance.policy in (REJECT, ASK, MERGE):
        new = _settled(rows, edit, row, stance, policy)
        return new._replace(token=token) if isinstance(new, New) else new
    if edit.act == DELETE:
        if not there(row):
            _require_missing_ok(edit)
            return None
        return New(None, DELETE, edit.expected, token)
    if edit.act == PATCH:
        return New(_patched(rows, edit, row, policy), PATCH, edit.expected, token)
    if stance.policy == REDUCE:
        return New(_reduced(rows, edit, row, stance, policy), REDUCED, edit.expected, token)
    return New(edit.body, PUT, edit.expected, token)


def _require_missing_ok(edit: Edit) -> None:
    if not edit.missing_ok:
        said = f"there is no document {edit.key!r}: nothing to delete; pass missing_ok=True if that is as well"
        raise NotFoundError(said, key=edit.key)


def _is_stale(edit: Edit, row: DocumentRow | None) -> bool:
    """Whether it expects another version than there is. Raises: VersionConflictError for one that is yet to come."""
    expected = edit.expected
    if expected is None:
        return False
    version = 0 if row is None else row.version
    if expected > version:
        raise _conflict(edit, row, f"version {expected} does not exist: the newest is {_shown(row)}; read it before you write")
    return expected != version and not (expected == 0 and not there(row))


def _settled(rows: Rows, edit: Edit, row: DocumentRow | None, stance: Stance, policy: Settings) -> New | Lost | None:
    """A stale edit that its policy does not simply let through."""
    assert row is not None
    assert edit.expected is not None
    if stance.policy == ASK:
        return Lost(edit.expected, row.version, _wanted(rows, edit, row, policy), edit.act)
    if stance.policy == MERGE:
        return _merged(rows, edit, row, policy)
    raise _conflict(
        edit, row, f"version {edit.expected} was expected, but {_shown(row)} is there: another wrote first; read it and try again"
    )


# what it becomes


def _merged(rows: Rows, edit: Edit, row: DocumentRow, policy: Settings) -> New | None:
    base = _base(rows, edit, row)
    mine = ABSENT
    if edit.act != DELETE:
        text = _wanted(rows, edit, row, policy)
        mine = ABSENT if text is None else decode(text)
    merged = merging.merge(base, _value(text_of(rows, row)), mine)
    if merged.value is ABSENT and not there(row) and edit.act == DELETE:
        _require_missing_ok(edit)
        return None
    if merged.value is ABSENT and not there(row):  # its value is the base's, and would be gone unnoticed
        raise _conflict(edit, row, f"version {edit.expected} was deleted since: put it anew if it shall be", paths=[""])
    if merged.conflicts:
        where = ", ".join(repr(path) if path else "the whole value" for path in merged.conflicts[:5])
        said = f"version {edit.expected} was changed to {_shown(row)} in the same places ({where}): read it, and write again"
        raise _conflict(edit, row, said, paths=list(merged.conflicts))
    text = None if merged.value is ABSENT else values.checked(merged.value, edit.key, policy.max_value, policy.max_depth)
    return New(text, MERGED, edit.expected)


def _base(rows: Rows, edit: Edit, row: DocumentRow) -> Any:
    """The value that a stale edit was made from. Raises: VersionConflictError when that was pruned."""
    if edit.expected == 0:
        return ABSENT
    base = documents.version_of(rows, row, edit.expected or 0)
    if base is None:
        said = f"version {edit.expected}, which it was made from, was pruned: read what is there, {_shown(row)}, and write again"
        raise _conflict(edit, row, said, pruned=True)
    return _value(text_of(rows, base))


def _wanted(rows: Rows, edit: Edit, row: DocumentRow, policy: Settings) -> str | None:
    """What the writer of a stale edit had before its eyes."""
    if edit.act != PATCH:
        return edit.body
    base = _base(rows, edit, row)
    if base is ABSENT:
        raise _missing(edit)
    return _apply(edit, base, policy)


def _patched(rows: Rows, edit: Edit, row: DocumentRow | None, policy: Settings) -> str:
    if not there(row):
        raise _missing(edit)
    return _apply(edit, _value(text_of(rows, row)), policy)


def _apply(edit: Edit, value: Any, policy: Settings) -> str:
    try:
        patched = patching.apply(value, decode(edit.body or "null"), policy.max_value)
    except (InvalidInputError, VersionConflictError, PayloadTooLargeError) as error:
        raise type(error)(f"{edit.key!r}: {error.message}", **{**error.facts, "key": edit.key}) from error
    return values.checked(patched, edit.key, policy.max_value, policy.max_depth)


def _reduced(rows: Rows, edit: Edit, row: DocumentRow | None, stance: Stance, policy: Settings) -> str:
    try:
        reduced = reducing.reduce(_value(text_of(rows, row)), decode(edit.body or "null"), stance.reducers)
    except InvalidInputError as error:
        raise InvalidInputError(f"{edit.key!r}: {error.message}", **{**error.facts, "key": edit.key}) from error
    return values.checked(reduced, edit.key, policy.max_value, policy.max_depth)


def _value(text: str | None) -> Any:
    return ABSENT if text is None else decode(text)


# refusals


def _shown(row: DocumentRow | None) -> str:
    if row is None:
        return "none"
    return f"version {row.version}" if there(row) else f"version {row.version}, a deletion"


def _conflict(edit: Edit, row: DocumentRow | None, said: str, **facts: Any) -> VersionConflictError:
    found = 0 if row is None else row.version
    return VersionConflictError(f"{edit.key!r}: {said}", key=edit.key, expected=edit.expected, found=found, **facts)


def _missing(edit: Edit) -> NotFoundError:
    return NotFoundError(f"there is no document {edit.key!r} to patch: put one first", key=edit.key)
