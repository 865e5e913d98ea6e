"""The shared state on paper: every version of every document, kept for ever, and what must hold of the rows.

What a write comes to is worked out here from the promises, by another way than the rules take.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any

from autogen_coord.core import bodies, merging, patching, reducing
from autogen_coord.core.open_conflicts import Decide
from autogen_coord.core.snapshots import Drop, Restore, Revert, Take
from autogen_coord.core.state import Edit, Write
from autogen_coord.core.store import Range, Table
from autogen_coord.core.tables import BLOB, CONFLICT, DOCUMENT, DOCUMENT_CHANGE, EVENT, SNAPSHOT, ChangeRow, DocumentRow
from autogen_coord.core.values import ABSENT
from autogen_coord.errors import ConflictError, CoordError, InvalidInputError, NotFoundError, VersionConflictError

All = Callable[[Table[Any]], list[Any]]


class Refused(Exception):
    """The promises refuse a command with this error."""

    def __init__(self, kind: type[CoordError]) -> None:
        self.kind = kind


class Paper:
    """All that was ever written."""

    def __init__(self) -> None:
        self.versions: dict[str, list[Any]] = {}
        self.snapshots: dict[str, tuple[str, dict[str, int]]] = {}
        """name -> (prefix, how many versions each document had)"""
        self.conflicts: dict[str, tuple[str, Any]] = {}
        """id -> (key, what its writer wanted)"""
        self.kept: dict[str, set[int]] = {}
        """Which versions the store has: what was pruned cannot be merged with, nor gone back to."""

    def newest(self, key: str) -> Any:
        versions = self.versions.get(key)
        return versions[-1] if versions else ABSENT

    def count(self, key: str) -> int:
        return len(self.versions.get(key, ()))

    def append(self, key: str, value: Any) -> None:
        self.versions.setdefault(key, []).append(value)

    # what commands come to

    def apply(self, command: Any) -> None:
        """Raises: Refused, and then nothing is changed."""
        match command:
            case Write():
                self._write(command)
            case Take():
                if command.name in self.snapshots:
                    raise Refused(ConflictError)
                inside = {key: len(all) for key, all in self.versions.items() if _within(key, command.prefix)}
                self.snapshots[command.name] = command.prefix, inside
            case Drop():
                if self.snapshots.pop(command.name, None) is None:
                    raise Refused(NotFoundError)
            case Restore():
                self._restore(command)
            case Revert():
                self._revert(command)
            case Decide():
                self._decide(command)

    def _write(self, command: Write) -> None:
        made = [(edit, self._made(edit)) for edit in command.edits]
        lost = [(edit.key, value[1]) for edit, value in made if isinstance(value, tuple)]
        if lost:
            for place, (key, value) in enumerate(lost):
                self.conflicts[command.id if place == 0 else f"{command.id}.{place}"] = key, value
            return
        for edit, value in made:
            if value is not ABSENT or self.newest(edit.key) is not ABSENT:
                self.append(edit.key, value)

    def _made(self, edit: Edit) -> Any:
        """The value it comes to; (asks, what it wanted) when it is kept for a decision."""
        count, now = self.count(edit.key), self.newest(edit.key)
        body = bodies.decode(edit.body) if edit.body is not None else ABSENT
        stale = False
        if edit.expected is not None:
            if edit.expected > count:
                raise Refused(VersionConflictError)
            stale = edit.expected < count and (edit.expected > 0 or now is not ABSENT)
        if not stale or edit.policy in ("last_writer", "reduce"):
            return self._simply(edit, now, body)
        if edit.policy == "reject":
            raise Refused(VersionConflictError)
        wanted = body
        if edit.act == "patch":
            base = self._base(edit)
            if base is ABSENT:
                raise Refused(NotFoundError)
            wanted = patching.apply(base, body)
        if edit.policy == "ask":
            return "asks", wanted
        merged = merging.merge(self._base(edit), now, wanted)
        if wanted is ABSENT and now is ABSENT:
            return self._simply(edit, now, body)
        if merged.conflicts or (merged.value is ABSENT and now is ABSENT):
            raise Refused(VersionConflictError)
        return merged.value

    def _simply(self, edit: Edit, now: Any, body: Any) -> Any:
        if edit.act == "delete":
            if now is ABSENT and not edit.missing_ok:
                raise Refused(NotFoundError)
            return ABSENT
        if edit.act == "patch":
            if now is ABSENT:
                raise Refused(NotFoundError)
            return patching.apply(now, body)
        return reducing.reduce(now, body, edit.reducers or {}) if edit.policy == "reduce" else body

    def _base(self, edit: Edit) -> Any:
        if edit.expected == 0:
            return ABSENT
        if edit.expected not in self.kept[edit.key]:
            raise Refused(VersionConflictError)
        return self.versions[edit.key][(edit.expected or 0) - 1]

    def _restore(self, command: Restore) -> None:
        if command.name not in self.snapshots:
            raise Refused(NotFoundError)
        prefix, counts = self.snapshots[command.name]
        if not _within(command.prefix, prefix):
            raise Refused(InvalidInputError)
        for key in command.keys:
            was = self.versions[key][counts[key] - 1] if counts.get(key) else ABSENT
            now = self.newest(key)
            if (was is ABSENT) != (now is ABSENT) or (was is not ABSENT and bodies.encode(was) != bodies.encode(now)):
                self.append(key, was)

    def _revert(self, command: Revert) -> None:
        if not self.count(command.key):
            raise Refused(NotFoundError)
        if command.version > self.count(command.key):
            raise Refused(VersionConflictError)
        if command.version not in self.kept[command.key]:
            raise Refused(NotFoundError)
        value = self.versions[command.key][command.version - 1]
        if value is ABSENT:
            raise Refused(InvalidInputError)
        self.append(command.key, value)

    def _decide(self, command: Decide) -> None:
        if command.id not in self.conflicts:
            raise Refused(NotFoundError)
        key, wanted = self.conflicts.pop(command.id)
        value = wanted if command.how == "mine" else bodies.decode(command.body or "null")
        if command.how != "theirs" and (value is not ABSENT or self.newest(key) is not ABSENT):
            self.append(key, value)

    # what must hold of the rows

    def check(self, rows: All, history: int) -> None:
        """Raises: AssertionError."""
        blobs = {row.hash: row for row in rows(BLOB)}
        changes: dict[str, list[ChangeRow]] = {}
        for change in rows(DOCUMENT_CHANGE):
            changes.setdefault(change.key, []).append(change)
        found = {row.key: row for row in rows(DOCUMENT)}
        assert set(found) == set(self.versions), "documents"
        for key, row in found.items():
            self._check_document(row, sorted(changes.get(key, []), key=lambda one: one.version), blobs, history)
        self._check_snapshots(rows, found, changes, blobs)
        self._check_beside(rows, found, changes, blobs)
        self.kept = {key: {row.version, *(change.version for change in changes.get(key, ()))} for key, row in found.items()}

    def _check_document(self, row: DocumentRow, changes: list[ChangeRow], blobs: dict[str, Any], history: int) -> None:
        every = self.versions[row.key]
        assert row.version == len(every), f"{row.key}: the number of its version"
        assert row.changes == len(changes), f"{row.key}: how many changes are kept"
        kept: list[ChangeRow | DocumentRow] = [*changes, row]
        for one in kept:
            assert _value(one, blobs) == every[one.version - 1], f"{row.key}: the value of version {one.version}"
        newest = {change.version for change in changes}
        assert set(range(max(1, row.version - history), row.version)) <= newest, f"{row.key}: its newest versions"
        numbers = [one.number for one in kept]
        assert numbers == sorted(set(numbers)), f"{row.key}: the order of commit"
        assert (row.deleted_at is None) == (every[-1] is not ABSENT), f"{row.key}: whether it is deleted"

    def _check_snapshots(
        self, rows: All, found: dict[str, DocumentRow], changes: dict[str, list[ChangeRow]], blobs: dict[str, Any]
    ) -> None:
        taken = {row.name: row for row in rows(SNAPSHOT)}
        assert set(taken) == set(self.snapshots), "snapshots"
        for name, (prefix, counts) in self.snapshots.items():
            for key in (key for key in found if _within(key, prefix)):
                every = [*changes.get(key, ()), found[key]]
                then = [one for one in every if one.number <= taken[name].number]
                version = max((one.version for one in then), default=0)
                was = next((_value(one, blobs) for one in then if one.version == version), ABSENT)
                wanted = self.versions[key][counts[key] - 1] if counts.get(key) else ABSENT
                assert was == wanted, f"{key} as it was at {name}"

    def _check_beside(
        self, rows: All, found: dict[str, DocumentRow], changes: dict[str, list[ChangeRow]], blobs: dict[str, Any]
    ) -> None:
        conflicts = rows(CONFLICT)
        assert {row.id: (row.key, _value(row, blobs)) for row in conflicts} == self.conflicts, "open conflicts"
        every = [*found.values(), *(change for some in changes.values() for change in some), *conflicts]
        wanted = Counter(row.value_blob for row in every if row.value_blob is not None)
        assert {hash: blob.refs for hash, blob in blobs.items()} == dict(wanted), "references to blobs"
        events = Counter(row.subject for row in rows(EVENT) if row.kind == "state.changed")
        assert dict(events) == {key: len(all) for key, all in self.versions.items()}, "an event for each version"


def _value(row: Any, blobs: dict[str, Any]) -> Any:
    if row.value is None and row.value_blob is None:
        return ABSENT
    return bodies.decode(row.value if row.value_blob is None else blobs[row.value_blob].body)


def _within(key: str, prefix: str) -> bool:
    return prefix == "" or f"{key}/".startswith(f"{prefix}/")


def all_rows(scan: Callable[[Range[Any]], list[Any]]) -> All:
    """Whole tables, by a way to walk them."""
    return lambda table: scan(Range(table, "key"))
