"""`Pending`: the rows of one transaction, own changes merged in, each command's changes undoable.

Every store folds through it, so that rules see the same on all of them. It remembers what it loaded (``base``) and what was put or
dropped; an index that is scanned is kept up to date with the changes from then on.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Sequence
from typing import Any, cast

from .store import Base, Change, Key, Keys, Load, R, Range, Shape, Table

_UNCHANGED: Any = object()
"""In place of the changed row that was there before: there was none."""


class _Merge:
    """The changes of one table as one index sees them."""

    __slots__ = ("empty", "gone", "live", "shape")

    def __init__(self, shape: Shape) -> None:
        self.shape = shape
        self.live: dict[tuple[Any, ...], list[tuple[tuple[Any, ...], Key]]] = {}
        """prefix -> (order columns, key) of the changed rows that stand in the index now, in order"""
        self.gone: dict[tuple[Any, ...], set[Key]] = {}
        """prefix -> keys whose row in the database stands there and was changed"""
        self.empty: set[Range[Any]] = set()
        """Ranges in which the database has no row."""

    def enter(self, key: Key, row: Any) -> None:
        shape = self.shape
        if row is None or not (shape.holds_all or shape.holds(row)):
            return
        entry, prefix = (shape.order_of(row), key), shape.prefix_of(row)
        entries = self.live.get(prefix)
        if entries is None:
            self.live[prefix] = [entry]
        else:
            insort(entries, entry)

    def leave(self, key: Key, row: Any) -> None:
        if row is not None and self.shape.holds(row):
            entries = self.live[self.shape.prefix_of(row)]
            del entries[bisect_left(entries, (self.shape.order_of(row), key))]

    def hide(self, key: Key, base: Any) -> None:
        if self.shape.holds(base):
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
        self._seen: dict[str, dict[Key, Any]] = {}
        """What was loaded, with the changes: one look answers most questions of a rule."""
        self._loaded: dict[str, dict[Key, Any]] = {}
        self._changed: dict[str, dict[Key, Any]] = {}
        self._tables: dict[str, Table[Any]] = {}
        self._merges: dict[str, dict[str, _Merge]] = {}
        self._undo: list[Any] = []
        """Of each change the table, the key, and the changed row before; flat, as a tuple for each is work for the collector."""
        self._written: list[Change] | None = None

    # what a rule sees

    def get(self, table: Table[R], keys: Sequence[Key]) -> list[R | None]:
        try:
            seen = self._seen[table.name]
            return [seen[key] for key in keys]
        except KeyError:
            return self._load(table, keys)

    def one(self, table: Table[R], key: Key) -> R | None:
        """`get` of a single key."""
        try:
            return cast("R | None", self._seen[table.name][key])
        except KeyError:
            return self._load(table, (key,))[0]

    def scan(self, range: Range[R]) -> list[R]:
        table, name = range.table, range.table.name
        try:
            merge = self._merges[name][range.index]
        except KeyError:
            merge = self._start_merging(table, range.index)
        found: Sequence[R] = ()
        if range not in merge.empty:
            found = self._base.walk(_reach(range, merge) if merge.gone else range)
            if not found:
                merge.empty.add(range)
        live = merge.within(range) if range.prefix in merge.live else ()
        if not found and not live:
            return []
        changed = self._changed.get(name) or {}
        loaded, seen = self._loaded.setdefault(name, {}), self._seen.setdefault(name, {})
        rows: list[R] = []
        for row in found:
            key = table.key_of(row)
            if key not in changed:
                loaded[key] = seen[key] = row
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
        self._gather(wanted)
        return [self.scan(range) for range in ranges]

    def put(self, table: Table[R], row: R) -> None:
        self._write(table, table.key_of(row), row)

    def drop(self, table: Table[R], row: R) -> None:
        self._write(table, table.key_of(row), None)

    # what the line and the stores need

    def expect(self, loads: Sequence[Load]) -> None:
        """These are wanted next: load the keys, and tell the base of the ranges."""
        for load in loads:
            if isinstance(load, Keys):
                self.get(load.table, load.keys)
        self._gather([load for load in loads if isinstance(load, Range)])

    def mark(self) -> int:
        """A place to undo back to."""
        return len(self._undo)

    def undo(self, mark: int) -> None:
        """Take back every change since ``mark``."""
        self._written = None
        while len(self._undo) > mark:
            table, key, before = self._undo[-3:]
            del self._undo[-3:]
            name = table.name
            changed = self._changed[name]
            current = changed[key]
            for merge in self._merges.get(name, {}).values():
                merge.leave(key, current)
                if before is not _UNCHANGED:
                    merge.enter(key, before)
                else:
                    for keys in merge.gone.values():
                        keys.discard(key)
            if before is not _UNCHANGED:
                changed[key] = self._seen[name][key] = before
                continue
            del changed[key], self._seen[name][key]
            loaded = self._loaded.get(name)
            if loaded is not None and key in loaded:
                self._seen[name][key] = loaded[key]

    def changes(self) -> list[Change]:
        """What the transaction writes: each row once, rows that came and went in it left out."""
        if self._written is not None:
            return self._written
        out: list[Change] = []
        for name, changed in self._changed.items():
            table, loaded = self._tables[name], self._loaded.get(name) or {}
            old_of = loaded.get
            for key, new in changed.items():
                old = old_of(key)
                if new is not old and (old is None or new != old):
                    out.append(Change(table, old, new))
        self._written = out
        return out

    def _load(self, table: Table[R], keys: Sequence[Key]) -> list[R | None]:
        """`get` where not all of them were seen."""
        name = table.name
        seen, loaded = self._seen.setdefault(name, {}), self._loaded.setdefault(name, {})
        missing = [key for key in keys if key not in seen]
        kept = self._kept.get(name)
        if kept:
            known = {key: kept[key] for key in missing if key in kept}
            loaded.update(known)
            seen.update(known)
            missing = [key for key in missing if key not in known]
        if missing:
            found = dict(zip(missing, self._base.load(table, missing), strict=True))
            loaded.update(found)
            seen.update(found)
            if kept is not None:
                kept.update(found)
        return [seen[key] for key in keys]

    def _gather(self, ranges: Sequence[Range[Any]]) -> None:
        for range in self._base.gather(ranges) if ranges else ():
            merge = self._merges.get(range.table.name, {}).get(range.index) or self._start_merging(range.table, range.index)
            merge.empty.add(range)

    def _write(self, table: Table[Any], key: Key, row: Any) -> None:
        name = table.name
        self._written = None
        try:
            changed, seen = self._changed[name], self._seen[name]
        except KeyError:
            changed = self._changed[name] = {}
            seen = self._seen.setdefault(name, {})
            self._tables[name] = table
        before = changed.get(key, _UNCHANGED)
        self._undo += (table, key, before)
        changed[key] = seen[key] = row
        if name in self._merges:
            self._merge(name, key, before, row)

    def _merge(self, name: str, key: Key, before: Any, row: Any) -> None:
        """Keep the indexes that were scanned up to date."""
        if before is _UNCHANGED:
            base = self._loaded.get(name, {}).get(key)
            for merge in self._merges[name].values():
                if base is not None:
                    merge.hide(key, base)
                merge.enter(key, row)
        else:
            for merge in self._merges[name].values():
                merge.leave(key, before)
                merge.enter(key, row)

    def _start_merging(self, table: Table[Any], index: str) -> _Merge:
        merge = _Merge(table.shapes[index])
        self._merges.setdefault(table.name, {})[index] = merge
        loaded = self._loaded.get(table.name, {})
        for key, row in self._changed.get(table.name, {}).items():
            if (base := loaded.get(key)) is not None:
                merge.hide(key, base)
            merge.enter(key, row)
        return merge


def _reach(range: Range[R], merge: _Merge) -> Range[R]:
    """What must be walked to have so many, where some of them were changed since."""
    gone = merge.gone.get(range.prefix)
    return range._replace(limit=range.limit + len(gone)) if gone and range.limit is not None else range
