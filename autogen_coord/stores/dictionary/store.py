"""`DictionaryStore`: the port in memory.

``collecting=True`` makes it as unwilling as PostgreSQL: each row and range that a fold asks for and that was not loaded is noted,
the fold stops with `NotLoaded`, and runs again once they are. It proves that the rules can run again.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import AsyncIterator, Callable, Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager
from itertools import islice
from typing import Any, TypeVar

from ...core.fold import Pending
from ...core.store import Base, Change, Fold, Key, Keys, Load, NotLoaded, R, Range, Table
from ...errors import ClosedError, ConfigError, StoreError, StoreUnavailableError
from ...settings import Settings
from .data import NAMED, DictionaryData

T = TypeVar("T")
Clock = Callable[[], float]

ROUNDS = 20
"""How often a collecting store folds one transaction before it gives up."""
FILL = 10_000


class DictionaryStore:
    """`autogen_coord.core.store.Store` over a `DictionaryData`. Handles on the same data are to each other like other processes."""

    def __init__(
        self,
        namespace: str = "default",
        settings: Settings | None = None,
        *,
        data: DictionaryData | None = None,
        clock: Clock | None = None,
        collecting: bool = False,
    ) -> None:
        self.namespace = namespace
        self._settings = settings or Settings()
        self._data = DictionaryData() if data is None else data
        self._clock = clock or _steady()
        self._collecting = collecting
        self._own = 0
        """Commits that are no news to `changes`."""
        self._pid = os.getpid()
        self._closed = False

    @classmethod
    def named(cls, name: str, namespace: str, settings: Settings) -> DictionaryStore:
        """A handle on the data that this process keeps under ``name``, as long as a store has it; on new data without a name."""
        return cls(namespace, settings, data=NAMED.setdefault(name, DictionaryData()) if name else None)

    async def transact(self, fold: Fold[T], prefetch: Sequence[Load] = ()) -> T:
        self._require_open()
        await asyncio.sleep(0)  # a real store never answers at once either
        pause, until = 0.0, time.monotonic() + self._settings.store_wait
        while not self._data.writer.acquire(blocking=False):
            if time.monotonic() >= until:
                raise _unavailable()
            await asyncio.sleep(pause)
            pause = 0.001
        try:
            answer, wrote = self._fold(fold, prefetch)
            self._own += wrote
            return answer
        finally:
            self._data.writer.release()

    def transact_blocking(self, fold: Fold[T]) -> T:
        self._require_open()
        with self._turn():
            return self._fold(fold, ())[0]

    async def read(self, *loads: Load) -> list[list[Any]]:
        self._require_open()
        await asyncio.sleep(0)
        return self._data.snapshot(self.namespace, loads)

    def read_blocking(self, *loads: Load) -> list[list[Any]]:
        self._require_open()
        return self._data.snapshot(self.namespace, loads)

    async def now(self) -> float:
        self._require_open()
        return self._clock()

    def changes(self, wanted: Callable[[], bool]) -> AsyncIterator[None]:
        self._require_open()
        return self._changes(wanted, self._data.commits - self._own)

    async def fill(self, rows: Iterable[tuple[Table[Any], Any]]) -> int:
        self._require_open()
        rest, count = iter(rows), 0
        while some := [Change(table, None, row) for table, row in islice(rest, FILL)]:
            with self._turn():
                self._own += self._data.commit(self.namespace, some)
            count += len(some)
        return count

    async def close(self) -> None:
        self._closed = True

    async def _changes(self, wanted: Callable[[], bool], seen: int) -> AsyncIterator[None]:
        while not self._closed:
            if wanted() and (version := self._data.commits - self._own) != seen:
                seen = version
                yield
            await asyncio.sleep(self._settings.poll)

    @contextmanager
    def _turn(self) -> Iterator[None]:
        if not self._data.writer.acquire(timeout=self._settings.store_wait):
            raise _unavailable()
        try:
            yield
        finally:
            self._data.writer.release()

    def _fold(self, fold: Fold[T], prefetch: Sequence[Load]) -> tuple[T, bool]:
        base = _Collecting(self._data, self.namespace) if self._collecting else _Through(self._data, self.namespace)
        base.expect(prefetch)
        now = self._clock()  # once: what depends on it is asked for alike in each round
        for _ in range(ROUNDS):
            pending = Pending(base)
            try:
                answer = _run(fold, pending, prefetch, now)
            except Exception:
                # Any error may come of a row that was not there yet.
                if not base.missed():
                    raise
                continue
            if not base.missed():
                return answer, self._data.commit(self.namespace, pending.changes())
        raise StoreError(f"a fold asked for more rows in each of {ROUNDS} rounds")

    def _require_open(self) -> None:
        if os.getpid() != self._pid:
            raise ConfigError("the dictionary store was opened before a fork; a child has no part in it")
        if self._closed:
            raise ClosedError("the dictionary store is closed")


class _Through(Base):
    """Reads through."""

    def __init__(self, data: DictionaryData, namespace: str) -> None:
        self._data = data
        self._namespace = namespace

    def load(self, table: Table[R], keys: Sequence[Key]) -> list[R | None]:
        return self._data.load(self._namespace, table, keys)

    def walk(self, range: Range[R]) -> list[R]:
        return self._data.walk(self._namespace, range)

    def gather(self, ranges: Sequence[Range[Any]]) -> Collection[Range[Any]]:
        """None: each is read when it is walked."""
        return ()

    def expect(self, prefetch: Sequence[Load]) -> None:
        """Load rows before they are asked for."""

    def missed(self) -> bool:
        """Whether the last fold asked for rows that were not there yet; they are now."""
        return False


class _Collecting(_Through):
    """Shows only what an earlier round asked for."""

    def __init__(self, data: DictionaryData, namespace: str) -> None:
        super().__init__(data, namespace)
        self._known: set[Any] = set()
        self._asked: set[Any] = set()

    def load(self, table: Table[R], keys: Sequence[Key]) -> list[R | None]:
        self._require((table, key) for key in keys)
        return super().load(table, keys)

    def walk(self, range: Range[R]) -> list[R]:
        self._require((range,))
        return super().walk(range)

    def gather(self, ranges: Sequence[Range[Any]]) -> Collection[Range[Any]]:
        self._require(ranges)
        return ()

    def expect(self, prefetch: Sequence[Load]) -> None:
        for load in prefetch:
            self._known.update([(load.table, key) for key in load.keys] if isinstance(load, Keys) else [load])

    def missed(self) -> bool:
        missed = bool(self._asked)
        self._known |= self._asked
        self._asked = set()
        return missed

    def _require(self, loads: Iterable[Any]) -> None:
        missing = [load for load in loads if load not in self._known]
        if missing:
            self._asked.update(missing)
            raise NotLoaded


def _run(fold: Fold[T], pending: Pending, prefetch: Sequence[Load], now: float) -> T:
    pending.expect(prefetch)
    return fold(pending, now)


def _unavailable() -> StoreUnavailableError:
    return StoreUnavailableError("another transaction of the dictionary store did not end in time")


def _steady() -> Clock:
    """The time of day when it was made, counted on by a clock that is never stepped."""
    start = time.time() - time.monotonic()
    return lambda: time.monotonic() + start
