"""What several `DictionaryStore` handles share: rows and sorted indexes."""

from __future__ import annotations

import threading
import weakref
from bisect import bisect_left, insort
from collections.abc import Sequence
from typing import Any

from ...core.store import Change, Key, R, Range, Table
from ...errors import StoreError

Entry = tuple[tuple[Any, ...], Key]
"""A row's order columns, then its key."""


class _Rows:
    """One table of one namespace."""

    def __init__(self, table: Table[Any]) -> None:
        self.table = table
        self.rows: dict[Key, Any] = {}
        self.indexes: dict[str, dict[tuple[Any, ...], list[Entry]]] = {name: {} for name in table.indexes}

    def write(self, change: Change) -> None:
        key = self.table.key_of(change.old if change.new is None else change.new)
        if change.old is not None:
            self._leave(key, self.rows.pop(key))
        if change.new is not None:
            self.rows[key] = change.new
            self._enter(key, change.new)

    def walk(self, range: Range[Any]) -> list[Any]:
        entries = self.indexes[range.index].get(range.prefix, [])
        start = 0 if range.low is None else bisect_left(entries, ((range.low,),))
        end = len(entries) if range.high is None else bisect_left(entries, ((range.high,),))
        chosen = entries[start:end]
        if range.reverse:
            chosen.reverse()
        return [self.rows[key] for _, key in chosen[: range.limit]]

    def _enter(self, key: Key, row: Any) -> None:
        for name, shape in self.table.shapes.items():
            if shape.holds(row):
                insort(self.indexes[name].setdefault(shape.prefix_of(row), []), (shape.order_of(row), key))

    def _leave(self, key: Key, row: Any) -> None:
        for name, shape in self.table.shapes.items():
            if shape.holds(row):
                prefix = shape.prefix_of(row)
                entries = self.indexes[name][prefix]
                del entries[bisect_left(entries, (shape.order_of(row), key))]
                if not entries:
                    del self.indexes[name][prefix]


class DictionaryData:
    """A database in memory: its namespaces, its writer lock, and how often it was written."""

    def __init__(self) -> None:
        self.writer = threading.Lock()
        self.commits = 0
        self._rows: dict[tuple[str, str], _Rows] = {}
        self._short = threading.Lock()
        """Held while rows are read or a commit is applied, never while a fold runs: readers do not wait for writers."""

    def load(self, namespace: str, table: Table[R], keys: Sequence[Key]) -> list[R | None]:
        with self._short:
            rows = self._table(namespace, table).rows
            return [rows.get(key) for key in keys]

    def walk(self, namespace: str, range: Range[R]) -> list[R]:
        with self._short:
            return self._table(namespace, range.table).walk(range)

    def snapshot(self, namespace: str, loads: Sequence[Any]) -> list[list[Any]]:
        with self._short:
            return [self._one(namespace, load) for load in loads]

    def commit(self, namespace: str, changes: Sequence[Change]) -> bool:
        """Apply all or nothing; whether there was anything. Raises: StoreError for a blind put over an existing row."""
        with self._short:
            for table, old, new in changes:
                if old is None and table.key_of(new) in self._table(namespace, table).rows:
                    raise StoreError(f"{table.name}: a row that may exist must be read before it is put", table=table.name)
            for change in changes:
                self._table(namespace, change.table).write(change)
            self.commits += bool(changes)
            return bool(changes)

    def _one(self, namespace: str, load: Any) -> list[Any]:
        rows = self._table(namespace, load.table)
        return rows.walk(load) if isinstance(load, Range) else [rows.rows.get(key) for key in load.keys]

    def _table(self, namespace: str, table: Table[Any]) -> _Rows:
        rows = self._rows.get((namespace, table.name))
        if rows is None:
            rows = self._rows[namespace, table.name] = _Rows(table)
        return rows


NAMED: weakref.WeakValueDictionary[str, DictionaryData] = weakref.WeakValueDictionary()
"""The data of ``dict://name``, while a store has it open."""
