"""Rows that a connection need not load again: they stand as they were read or written here while nobody else has written.

SQLite says so by its ``data_version``, which changes with every commit of another connection. Kept are the small tables that every
batch reads, and the queue rows and locks that this process wrote or read: a task that is claimed and finished here is never
loaded, nor a lock that is taken and given back here, and a document that is written here again and again is loaded once. Kept, too,
is where nothing is held, or waited for: each lock asks that of all the paths above its own, which many have in common.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from ...core.store import Change, Key, Range, Table
from ...core.tables import CAPABILITY, COUNTER, DOCUMENT, LOCK_HELD, LOCK_WAIT, QUEUE, SESSION

TABLES: tuple[Table[Any], ...] = (COUNTER, SESSION, CAPABILITY, QUEUE, LOCK_HELD, LOCK_WAIT, DOCUMENT)
PLACES = {LOCK_HELD.name: "by_cover", LOCK_WAIT.name: "by_place"}
"""The indexes by path of which is kept where they have no row: each lock asks that of all paths above its own."""
MOST = 20_000
"""Rows of a table; beyond that all are dropped, and loaded again when they are wanted."""
DOCUMENTS = 2_000
"""Documents, which carry bodies of up to ``blob_from`` each; beyond that these are dropped."""


class Kept:
    """The rows, by table and key, and the ``data_version`` at which they stand."""

    def __init__(self) -> None:
        self._rows: dict[str, dict[Key, Any]] = {}
        self._free: set[tuple[str, tuple[Any, ...]]] | None = None
        """(index, (path,)) where nothing stands; None while nothing is kept"""
        self._version: int | None = None

    def at(self, version: int) -> dict[str, dict[Key, Any]]:
        """What is known at this version. The caller adds rows that it loads; until `committed` nothing of it is certain."""
        if version != self._version or any(len(rows) > MOST for rows in self._rows.values()):
            self._rows = {table.name: {} for table in TABLES}
            self._free = set()
        if len(self._rows[DOCUMENT.name]) > DOCUMENTS:
            self._rows[DOCUMENT.name] = {}
        self._version = None
        return self._rows

    def committed(self, changes: Iterable[Change], version: int) -> None:
        """These changes are in the file."""
        free = self._free
        for table, old, new in changes:
            if free and new is not None and table.name in PLACES:
                free.discard((PLACES[table.name], (new.path,)))
            rows = self._rows.get(table.name)
            if rows is None:
                continue
            if new is None:
                rows.pop(table.key_of(old), None)
            else:
                rows[table.key_of(new)] = new
        self._version = version

    def is_free(self, range: Range[Any]) -> bool:
        """Whether this range is known to have no row."""
        return self._free is not None and (range.index, range.prefix) in self._free

    def was_free(self, range: Range[Any]) -> None:
        """This range had no row."""
        if self._free is None or range.low is not None or range.high is not None:
            return
        if PLACES.get(range.table.name) == range.index:
            if len(self._free) >= MOST:
                self._free.clear()
            self._free.add((range.index, range.prefix))

    def forget(self) -> None:
        self._version = None
