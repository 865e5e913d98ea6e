"""The synchronous core: one connection with its gate, folding batches and reading snapshots. One thread at a time."""

from __future__ import annotations

import os
import sqlite3
import time
import weakref
from collections.abc import Callable, Collection, Sequence
from typing import Any, TypeVar

from ...core.fold import Pending
from ...core.store import Change, Fold, Key, Keys, Load, R, Range, Table
from ...errors import ConfigError, StoreError
from . import schema
from .clock import Clock, anchored, keep_high
from .failures import BUSY, code_of, driver_errors, ours
from .gate import Gate
from .kept import Kept
from .queries import chunks, statements

T = TypeVar("T")

FOREIGN_WAIT = 0.05
"""Seconds SQLite itself waits at a time for a program that does not pass the gate."""
UNHELD = (OverflowError, UnicodeEncodeError)
"""What the driver raises for an integer of more than 64 bits and for a lone surrogate."""
CACHE_KIB = 32 << 10
CHECKPOINT = 4_000
"""Pages in the write-ahead log (16 MiB) at which they are moved into the file: a page that was written often meanwhile, once."""
LOG_LIMIT = 64 << 20
"""Bytes the write-ahead log is cut back to."""


class Database:
    """One connection to a file, for one namespace. ``wait``: seconds, for the gate and SQLite's lock together."""

    def __init__(self, path: str, namespace: str, wait: float) -> None:
        self.path = path
        self.namespace = namespace
        self.wait = wait
        self.version = 0
        """SQLite's ``data_version``, as last seen: another number means another connection's commit."""
        self._connection: sqlite3.Connection
        self._gate: Gate | None = None
        self._kept = Kept()
        self._looked_at = 0.0
        self.identity: tuple[int, int] | None = None
        """The file's device and inode, once known: another file under its name is not this store."""

    # opening and closing

    def connect(self) -> sqlite3.Connection:
        """Open the connection, for `read` only as yet."""
        there = _identity(self.path)  # looked at before: of a file that is replaced now, we are not to believe that it is ours
        with driver_errors(self.path):
            self._connection = sqlite3.connect(
                self.path, timeout=self.wait, isolation_level=None, cached_statements=512, check_same_thread=False
            )
            self._connection.execute(f"PRAGMA cache_size = -{CACHE_KIB}")
        self.identity = self.identity or there or _identity(self.path)
        _open_databases.add(self)
        return self._connection

    def prepare(self, clock: Clock | None) -> Clock:
        """Make a new file a store, refuse one that this code cannot use, `begin_writing`. Returns the clock."""
        with driver_errors(self.path):
            version = schema.found(self._connection, self.path)
            if version is not None:
                schema.require(version, self.path)
        self.begin_writing(switch=True)
        return self._alone(lambda: self._prepare(clock))

    def begin_writing(self, switch: bool = False) -> None:
        """Open the gate. ``switch``: see that the file keeps a write-ahead log."""
        gate = self._gate = Gate(self.path)
        with driver_errors(self.path):
            if switch:
                with gate.passed(time.monotonic() + self.wait):
                    self._require_file()
                    (mode,) = self._connection.execute("PRAGMA journal_mode = WAL").fetchone()
                if mode != "wal":
                    raise ConfigError(f"store {self.path}: SQLite cannot keep a write-ahead log here; use a local disk")
            self._connection.execute("PRAGMA synchronous = FULL")
            self._connection.execute(f"PRAGMA wal_autocheckpoint = {CHECKPOINT}")
            self._connection.execute(f"PRAGMA journal_size_limit = {LOG_LIMIT}")
            self._connection.execute(f"PRAGMA busy_timeout = {int(FOREIGN_WAIT * 1000)}")

    def begin_reading(self) -> None:
        """Refuse to write."""
        with driver_errors(self.path):
            self._connection.execute("PRAGMA query_only = ON")

    def keep_high(self, now: float, wait: float) -> None:
        """Remember for the next boot that the clock has shown ``now``."""
        self._alone(lambda: keep_high(self._connection, now), wait)

    def close(self) -> None:
        self._connection.close()
        self.close_gate()

    def close_gate(self) -> None:
        if self._gate is not None:
            self._gate.close()

    # what a store does

    def transact(self, fold: Fold[T], prefetch: Sequence[Load], clock: Clock) -> T:
        """`autogen_coord.core.store.Store.transact`, on this thread."""

        def batch() -> T:
            pending = Pending(self, self._kept.at(self.version))
            pending.expect(prefetch)
            answer = fold(pending, clock())
            if not self._connection.in_transaction:
                # After some errors SQLite rolls back by itself; what is written now would commit row by row.
                raise StoreError(f"{self.path}: the transaction ended inside its fold; nothing was written", path=self.path)
            written.extend(pending.changes())
            self._write(written)
            return answer

        written: list[Change] = []
        answer = self._alone(batch)
        self._kept.committed(written, self.version)
        return answer

    def read(self, loads: Sequence[Load]) -> list[list[Any]]:
        """One snapshot; waits for nobody."""
        self._require_file()
        with driver_errors(self.path):
            self._connection.execute("BEGIN")
            try:
                return [self.load(*load) if isinstance(load, Keys) else self.walk(load) for load in loads]
            finally:
                self._roll_back()

    def is_fresh(self, seconds: float) -> bool:
        """Whether `version` was looked up within these seconds."""
        return time.monotonic() - self._looked_at < seconds

    def look(self) -> int:
        """`version`, looked up again."""
        with driver_errors(self.path):
            (self.version,) = self._connection.execute("PRAGMA data_version").fetchone()
        return self.version

    def fill(self, rows: Sequence[tuple[Table[Any], Any]]) -> int:
        """Insert fresh rows in one transaction."""
        self._kept.forget()
        self._alone(lambda: self._write([Change(table, None, row) for table, row in rows]))
        return len(rows)

    # `autogen_coord.core.store.Base`

    def load(self, table: Table[R], keys: Sequence[Key]) -> list[R | None]:
        sql, make = statements(table).load, table.row._make  # type: ignore[attr-defined]
        single = len(table.key_columns) == 1
        rows: dict[Key, R] = {}
        for chunk, size in chunks(keys):
            values = chunk if single else [value for key in chunk for value in key]
            for row in map(make, self._select(sql[size], (*values, self.namespace))):
                rows[table.key_of(row)] = row
        return [rows.get(key) for key in keys]

    def walk(self, range: Range[R]) -> list[R]:
        if self._kept.is_free(range):
            return []
        sql, values = statements(range.table).walk(self.namespace, range)
        found = self._select(sql, values)
        if not found:
            self._kept.was_free(range)
        return list(map(range.table.row._make, found))  # type: ignore[attr-defined]

    def gather(self, ranges: Sequence[Range[Any]]) -> Collection[Range[Any]]:
        """Those of a table's keys that have no row, by one statement where the table has one for that; others are just walked."""
        wanted: dict[Table[Any], list[Range[Any]]] = {}
        for range in ranges:
            if range.index == "key" and range.high is not None and statements(range.table).filled:
                wanted.setdefault(range.table, []).append(range)
        empty: list[Range[Any]] = []
        for table, some in wanted.items():
            if len(some) == 1:  # to walk it costs no more, and it may never be walked
                continue
            filled = self._filled(table, [(range.low, range.high) for range in some])
            empty += [range for range in some if (range.low, range.high) not in filled]
        return empty

    # inside

    def _filled(self, table: Table[Any], places: list[tuple[str, str]]) -> set[tuple[str, str]]:
        """Between which of these keys there is a row."""
        found: set[tuple[str, str]] = set()
        for chunk, size in chunks(places):
            values = [value for place in chunk for value in place]
            found.update(self._select(statements(table).filled[size], (*values, self.namespace)))
        return found

    def _select(self, sql: str, values: tuple[Any, ...]) -> list[Any]:
        # Wrapped here already, not only around the transaction: a fold must see a `StoreError`, which it does not take for a
        # command's refusal.
        try:
            return self._connection.execute(sql, values).fetchall()
        except sqlite3.Error as error:
            raise ours(error, self.path) from error
        except UNHELD as error:
            raise StoreError(f"{self.path}: a value that SQLite does not hold: {error}", path=self.path) from error

    def _prepare(self, clock: Clock | None) -> Clock:
        version = schema.found(self._connection, self.path)
        if version is None:
            schema.create(self._connection)
        else:
            schema.require(version, self.path)
        return clock or anchored(self._connection)

    def _alone(self, batch: Callable[[], T], wait: float | None = None) -> T:
        """``batch`` as one write transaction."""
        assert self._gate is not None
        until = time.monotonic() + (self.wait if wait is None else wait)
        with driver_errors(self.path), self._gate.passed(until):
            self._require_file()  # behind the gate: who replaces the file holds it meanwhile
            self._begin(until)
            try:
                (self.version,) = self._connection.execute("PRAGMA data_version").fetchone()
                self._looked_at = time.monotonic()
                answer = batch()
                self._connection.execute("COMMIT")
            except BaseException:
                self._roll_back()
                raise
        return answer

    def _begin(self, until: float) -> None:
        while True:
            try:
                self._connection.execute("BEGIN IMMEDIATE")
                return
            except sqlite3.OperationalError as error:
                if code_of(error) not in BUSY or time.monotonic() >= until:
                    raise

    def _roll_back(self) -> None:
        # After a full disk SQLite has rolled back by itself.
        if self._connection.in_transaction:
            self._connection.execute("ROLLBACK")

    def _write(self, changes: Sequence[Change]) -> None:
        for (name, sql), values in self._statements(changes).items():
            try:
                self._connection.executemany(sql, values)
            except UNHELD as error:
                raise StoreError(f"{self.path}: {name}: a value that SQLite does not hold: {error}", path=self.path) from error

    def _statements(self, changes: Sequence[Change]) -> dict[tuple[str, str], list[list[Any]]]:
        """The changes as statements with their values. NULLs stand in the statement: to bind one costs as much as three texts."""
        space = self.namespace
        plan: dict[tuple[str, str], list[list[Any]]] = {}
        for table, old, new in changes:
            known = statements(table)
            if new is None:
                sql, values = known.delete, [space, *old[: known.keys]]
            elif old is None and None not in new:
                sql, values = known.insert, [space, *new]
            elif old is None:
                sql = known.insert_of(tuple([value is None for value in new]))
                values = [space, *[value for value in new if value is not None]]
            else:
                rest = new[known.keys :]
                sql = known.update_of(tuple([value is None for value in rest]))
                values = [*[value for value in rest if value is not None], space, *new[: known.keys]]
            group = plan.get((table.name, sql))
            if group is None:
                plan[table.name, sql] = [values]
            else:
                group.append(values)
        return plan

    def _require_file(self) -> None:
        if self.identity is not None and _identity(self.path) != self.identity:
            raise StoreError(
                f"{self.path}: the file was deleted or replaced while it was open; what was acknowledged before is lost with it. "
                "Was it just restored? Then start this program again; else restore a backup first",
                path=self.path,
                gone=True,
            )


_open_databases: weakref.WeakSet[Database] = weakref.WeakSet()
_of_the_parent: list[sqlite3.Connection] = []


def _keep_in_child() -> None:
    # SQLite forbids a child even to close a connection of its parent: there it stays, unused.
    _of_the_parent.extend(database._connection for database in list(_open_databases))


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_keep_in_child)


def _identity(path: str) -> tuple[int, int] | None:
    try:
        found = os.stat(path)
    except OSError:
        return None
    return found.st_dev, found.st_ino
