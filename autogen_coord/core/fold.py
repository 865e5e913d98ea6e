"""`Pending`: the rows of one transaction, own changes merged in, each command's changes undoable.

Every store folds through it, so that rules see the same on all of them. It remembers what it loaded (``base``) and what was put or
dropped; an index that is scanned is kept up to date with the changes from then on.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Sequence
from typing import Any, cast

from .store import Base, Change, Key, R, Range, Shape, Table

_Put = tuple[Table[Any], Key, bool, Any]
"""table, key, whether it was changed before, and the changed row then"""


class _Merge:
    """The changes of one table as one index sees them."""

    __slots__ = ("gone", "live", "shape")

    def __init__(self, shape: Shape) -> None:
        self.shape = shape
        self.live: dict[tuple[Any, ...], list[tuple[tuple[Any, ...], Key]]] = {}
        """prefix -> (order columns, key) of the changed rows that stand in the index now, in order"""
        self.gone: dict[tuple[Any, ...], set[Key]] = {}
        """prefix -> keys whose row in the database stands there and was changed"""

    def enter(self, key: Key, row: Any) -> None:
        if row is not None and self.shape.holds(row):
            insort(self.live.setdefault(self.shape.prefix_of(row), []), (self.shape.order_of(row), key))

    def leave(self, key: Key, row: Any) -> None:
        if row is not None and self.shape.holds(row):
            entries = self.live[self.shape.prefix_of(row)]
            del entries[bisect_left(entries, (self.shape.order_of(row), key))]

    def hide(self, key: Key, base: Any) -> None:
        if base is not None and self.shape.holds(base):
            self.gone.setdefault(self.shape.prefix_of(base), set()).add(key)

    def within(self, range: Range[Any]) -> list[Key]:
        """The keys of the changed rows in a range, in order."""
        entries = self.live.get(range.prefix)
        if not entries:
            return []
        start = 0 if range.low is None else bisect_left(entries, ((range.low,),))
        end = len(entries) if range.high is None else bisect_left(entries, ((range.high,),), start)
        return [key for _, key in entries[start:end]]


class Pending:
    """`autogen_coord.core.store.Rows` over a `Base`."""

    def __init__(self, base: Base, kept: dict[str, dict[Key, Any]] | None = None) -> None:
        """``kept``: rows, by table and key, that a store knows to stand as they did; what is loaded of these tables is added."""
        self._base = base
        self._kept = kept or {}
        self._loaded: dict[str, dict[Key, Any]] = {}
        self._changed: dict[str, dict[Key, Any]] = {}
        self._tables: dict[str, Table[Any]] = {}
        self._merges: dict[str, dict[str, _Merge]] = {}
        self._undo: list[_Put] = []
        self._written: list[Change] | None = None

    # what a rule sees

    def get(self, table: Table[R], keys: Sequence[Key]) -> list[R | None]:
        changed = self._changed.get(table.name) or {}
        loaded = self._loaded.get(table.name)
        if loaded is None:
            loaded = self._loaded[table.name] = {}
        missing = [key for key in keys if key not in loaded and key not in changed]
        kept = self._kept.get(table.name)
        if missing and kept:
            loaded.update({key: kept[key] for key in missing if key in kept})
            missing = [key for key in missing if key not in kept]
        if missing:
            found = dict(zip(missing, self._base.load(table, missing), strict=True))
            loaded.update(found)
            if kept is not None:
                kept.update(found)
        return [changed[key] if key in changed else loaded[key] for key in keys]

    def one(self, table: Table[R], key: Key) -> R | None:
        """`get` of a single key."""
        changed = self._changed.get(table.name)
        if changed is not None and key in changed:
            return cast("R | None", changed[key])
        loaded = self._loaded.get(table.name)
        if loaded is not None and key in loaded:
            return cast("R | None", loaded[key])
        kept = self._kept.get(table.name)
        if kept and loaded is not None and key in kept:
            row = loaded[key] = kept[key]
            return cast("R | None", row)
        return self.get(table, (key,))[0]

    def scan(self, range: Range[R]) -> list[R]:
        table, name = range.table, range.table.name
        merges = self._merges.get(name)
        merge = (None if merges is None else merges.get(range.index)) or self._start_merging(table, range.index)
        found = self._base.walk(_reach(range, merge))
        live = merge.within(range)
        if not found and not live:
            return []
        changed = self._changed.get(name) or {}
        loaded = self._loaded.setdefault(name, {})
        rows: list[R] = []
        for row in found:
            key = table.key_of(row)
            if key not in changed:
                loaded[key] = row
                rows.append(row)
        if live:
            rows += [changed[key] for key in live]
            rows.sort(key=merge.shape.order_of, reverse=range.reverse)
        return rows[: range.limit]

    def scan_many(self, ranges: Sequence[Range[R]]) -> list[list[R]]:
        """`scan` of each, loaded together."""
        wanted = []
        for range in ranges:
            merge = self._merges.get(range.table.name, {}).get(range.index) or self._start_merging(range.table, range.index)
            wanted.append(_reach(range, merge))
        self._base.gather(wanted)
        return [self.scan(range) for range in ranges]

    def put(self, table: Table[R], row: R) -> None:
        self._write(table, table.key_of(row), row)

    def drop(self, table: Table[R], row: R) -> None:
        self._write(table, table.key_of(row), None)

    # what the line and the stores need

    def mark(self) -> int:
        """A place to undo back to."""
        return len(self._undo)

    def undo(self, mark: int) -> None:
        """Take back every change since ``mark``."""
        self._written = None
        while len(self._undo) > mark:
            table, key, was_changed, before = self._undo.pop()
            name = table.name
            changed = self._changed[name]
            current = changed[key]
            for merge in self._merges.get(name, {}).values():
                merge.leave(key, current)
                if was_changed:
                    merge.enter(key, before)
                else:
                    for keys in merge.gone.values():
                        keys.discard(key)
            if was_changed:
                changed[key] = before
            else:
                del changed[key]

    def changes(self) -> list[Change]:
        """What the transaction writes: each row once, rows that came and went in it left out."""
        if self._written is not None:
            return self._written
        out: list[Change] = []
        for name, changed in self._changed.items():
            table, loaded = self._tables[name], self._loaded.get(name, {})
            for key, new in changed.items():
                old = loaded.get(key)
                if new is not old and (new is not None or old is not None) and new != old:
                    out.append(Change(table, old, new))
        self._written = out
        return out

    def _write(self, table: Table[Any], key: Key, row: Any) -> None:
        name = table.name
        self._written = None
        changed = self._changed.get(name)
        if changed is None:
            changed = self._changed[name] = {}
            self._tables[name] = table
        was_changed = key in changed
        before = changed[key] if was_changed else None
        self._undo.append((table, key, was_changed, before))
        changed[key] = row
        merges = self._merges.get(name)
        if merges:
            base = None if was_changed else self._loaded.get(name, {}).get(key)
            for merge in merges.values():
                if was_changed:
                    merge.leave(key, before)
                else:
                    merge.hide(key, base)
                merge.enter(key, row)

    def _start_merging(self, table: Table[Any], index: str) -> _Merge:
        merge = _Merge(table.shapes[index])
        self._merges.setdefault(table.name, {})[index] = merge
        loaded = self._loaded.get(table.name, {})
        for key, row in self._changed.get(table.name, {}).items():
            merge.hide(key, loaded.get(key))
            merge.enter(key, row)
        return merge


def _reach(range: Range[R], merge: _Merge) -> Range[R]:
    """What must be walked to have so many, where some of them were changed since."""
    gone = merge.gone.get(range.prefix)
    return range._replace(limit=range.limit + len(gone)) if gone and range.limit is not None else range
