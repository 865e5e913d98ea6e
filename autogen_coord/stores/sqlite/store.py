"""`SqliteStore`: the port over an SQLite file.

Four connections: the writer's and the reader's, each on its aiosqlite thread, and for `transact_blocking` and `read_blocking` one
each, opened when first used.
"""

from __future__ import annotations

import asyncio
import logging
import os
import threading
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from itertools import islice
from typing import Any, TypeVar

from ...core.store import Fold, Load, Table
from ...errors import ClosedError, ConfigError, CoordError, StoreError
from ...settings import Settings
from .clock import Clock
from .database import Database
from .files import check
from .thread import DatabaseThread

log = logging.getLogger(__name__)
T = TypeVar("T")

FILL = 10_000
"""Rows per transaction of `SqliteStore.fill`."""
CLOSE_WAIT = 0.5
"""Seconds that closing waits for a turn to note the clock: it matters only after a reboot."""


class SqliteStore:
    """`autogen_coord.core.store.Store` over a file; made by `open`."""

    def __init__(self, path: str, namespace: str, settings: Settings) -> None:
        self.path = path
        self.namespace = namespace
        self._settings = settings
        self._writer = Database(path, namespace, settings.store_wait)
        self._reader = Database(path, namespace, settings.store_wait)
        self._beats: Database | None = None
        self._beats_lock = threading.Lock()
        self._glances: Database | None = None
        self._glances_lock = threading.Lock()
        self._writing: DatabaseThread | None = None
        self._reading: DatabaseThread | None = None
        self._clock: Clock
        self._injected = False
        self._pid = os.getpid()
        self._closed = False

    @classmethod
    async def open(
        cls, path: str | os.PathLike[str], namespace: str, settings: Settings, clock: Clock | None = None
    ) -> SqliteStore:
        """Open the file, and make it a store when it is new. ``clock`` replaces the file's own, for tests.

        Raises: ConfigError that says why the path cannot be a store, SchemaVersionError, StoreUnavailableError after
        ``settings.store_wait`` seconds.
        """
        store = cls(check(os.fspath(path)), namespace, settings)
        try:
            await store._open(clock)
        except BaseException:
            await store._close_threads()
            raise
        return store

    async def transact(self, fold: Fold[T], prefetch: Sequence[Load] = ()) -> T:
        return await self._usable(self._writing).run(self._writer.transact, fold, prefetch, self._clock)

    def transact_blocking(self, fold: Fold[T]) -> T:
        self._require_open()
        with self._beats_lock:
            self._require_open()
            if self._beats is None:
                self._beats = self._open_aside(Database.begin_writing)
            return self._beats.transact(fold, (), self._clock)

    async def read(self, *loads: Load) -> list[list[Any]]:
        return await self._usable(self._reading).run(self._reader.read, loads)

    def read_blocking(self, *loads: Load) -> list[list[Any]]:
        self._require_open()
        with self._glances_lock:
            self._require_open()
            if self._glances is None:
                self._glances = self._open_aside(Database.begin_reading)
            return self._glances.read(loads)

    async def now(self) -> float:
        self._require_open()
        return self._clock()

    def changes(self, wanted: Callable[[], bool]) -> AsyncIterator[None]:
        """Looks every ``settings.poll`` seconds, on the writer's connection: to that one its own commits are not foreign."""
        self._require_open()
        return self._changes(wanted, self._writer.version)

    async def fill(self, rows: Iterable[tuple[Table[Any], Any]]) -> int:
        rest, count = iter(rows), 0
        while some := list(islice(rest, FILL)):
            count += await self._usable(self._writing).run(self._writer.fill, some)
        return count

    async def close(self) -> None:
        """Ends `changes`, finishes what was begun, closes the connections. Does nothing the second time, or after a fork."""
        if self._closed or os.getpid() != self._pid:
            return
        self._closed = True
        try:
            await asyncio.to_thread(self._close_aside)
            if self._writing is not None and not self._injected:
                await self._writing.run(self._writer.keep_high, self._clock(), CLOSE_WAIT)
        except CoordError as error:
            log.warning("closing %s: the clock was not noted: %s", self.path, error)
        finally:
            await self._close_threads()

    async def _open(self, clock: Clock | None) -> None:
        self._injected = clock is not None
        self._writing = await DatabaseThread.open(self._writer.connect)
        self._clock = await self._writing.run(self._writer.prepare, clock)
        self._reading = await DatabaseThread.open(self._reader.connect)
        await self._reading.run(self._reader.begin_reading)
        self._reader.identity = self._writer.identity

    async def _changes(self, wanted: Callable[[], bool], seen: int) -> AsyncIterator[None]:
        while not self._closed:
            if wanted() and (version := await self._look()) != seen:
                seen = version
                yield
            await asyncio.sleep(self._settings.poll)

    def _open_aside(self, begin: Callable[[Database], None]) -> Database:
        database = Database(self.path, self.namespace, self._settings.store_wait)
        database.identity = self._writer.identity
        database.connect()
        try:
            begin(database)
        except BaseException:
            database.close()
            raise
        return database

    def _close_aside(self) -> None:
        with self._beats_lock, self._glances_lock:
            for database in (self._beats, self._glances):
                if database is not None:
                    database.close()
            self._beats = self._glances = None

    async def _close_threads(self) -> None:
        self._closed = True
        for thread in (self._reading, self._writing):
            if thread is not None:
                await thread.close()
        self._writer.close_gate()

    async def _look(self) -> int:
        try:
            if self._writer.is_fresh(self._settings.poll):  # a transaction looked just now
                return self._writer.version
            return await self._usable(self._writing).run(self._writer.look)
        except (StoreError, ClosedError):  # the next transaction will say so to somebody who can be told
            return self._writer.version

    def _usable(self, thread: DatabaseThread | None) -> DatabaseThread:
        self._require_open()
        assert thread is not None
        return thread

    def _require_open(self) -> None:
        # First of all: in a child the threads do not exist, and waiting for them would never end.
        if os.getpid() != self._pid:
            raise ConfigError(f"store {self.path}: it was opened before a fork; open it again in the child")
        if self._closed:
            raise ClosedError(f"store {self.path}: it is closed")
