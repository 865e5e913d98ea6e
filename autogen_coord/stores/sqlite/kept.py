"""Rows that a connection need not load again: they stand as they were read or written here while nobody else has written.

SQLite says so by its ``data_version``, which changes with every commit of another connection. Kept are the small tables that every
batch reads, and the queue rows that this process wrote or read: a task that is claimed and finished here is never loaded.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from ...core.store import Change, Key, Table
from ...core.tables import CAPABILITY, COUNTER, QUEUE, SESSION

TABLES: tuple[Table[Any], ...] = (COUNTER, SESSION, CAPABILITY, QUEUE)
MOST = 20_000
"""Rows of a table; beyond that all are dropped, and loaded again when they are wanted."""


class Kept:
    """The rows, by table and key, and the ``data_version`` at which they stand."""

    def __init__(self) -> None:
        self._rows: dict[str, dict[Key, Any]] = {}
        self._version: int | None = None

    def at(self, version: int) -> dict[str, dict[Key, Any]]:
        """What is known at this version. The caller adds rows that it loads; until `committed` nothing of it is certain."""
        if version != self._version or any(len(rows) > MOST for rows in self._rows.values()):
            self._rows = {table.name: {} for table in TABLES}
        self._version = None
        return self._rows

    def committed(self, changes: Iterable[Change], version: int) -> None:
        """These changes are in the file."""
        for table, old, new in changes:
            rows = self._rows.get(table.name)
            if rows is None:
                continue
            if new is None:
                rows.pop(table.key_of(old), None)
            else:
                rows[table.key_of(new)] = new
        self._version = version

    def forget(self) -> None:
        self._version = None
