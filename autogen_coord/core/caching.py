"""Cached reads of documents: an LRU in front of the store, under one of three policies that each say how stale a read may be.

What is kept is a document's row and its JSON text, and the number of the log as of which both were read, in one snapshot. Each
read decodes the text anew: a caller may change what it got, the cache stays as it is. An entry goes when a change with a greater
number is told; and a read that was under way meanwhile is not kept, since it may have seen what was there before.
"""

from __future__ import annotations

import asyncio
import logging
from collections import OrderedDict
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from enum import StrEnum
from types import TracebackType
from typing import Any, NamedTuple, Self

from ..errors import ClosedError, CoordError, InvalidInputError, StoreError
from . import bodies
from .clock import Clock, boottime
from .documents import Document, there
from .events import NUMBER
from .freshness import Changed, Freshness
from .prefixes import checked_prefix, within
from .process import Process
from .requests import checked_seconds
from .schemas import decoder
from .store import Keys
from .tables import BLOB, COUNTER, DOCUMENT, DocumentRow
from .values import checked_key

log = logging.getLogger(__name__)

TTL = 5.0
EVERY = 1.0
SIZE_MOST = 1_000_000
MEMORY = 64 << 20
"""Bytes of JSON that a cache keeps, whatever its size."""
TRIES = 10


class CachePolicy(StrEnum):
    """How stale a cached read may be. What this process itself wrote is seen at once under all of them."""

    IMMEDIATE = "immediate"
    """At most five times `Settings.poll` (50 ms); mostly one. Without the store it is no read at all."""
    EVENTUAL = "eventual"
    """At most ``ttl`` seconds."""
    PERIODIC = "periodic"
    """``every`` seconds, and what a round takes. While the store is away, ever more: `CacheStats.age` tells."""

    @classmethod
    def of(cls, policy: object) -> CachePolicy:
        """From a policy or its name. Raises: InvalidInputError."""
        try:
            return cls(policy)  # type: ignore[arg-type]
        except ValueError:
            raise InvalidInputError(f"cache policy {policy!r:.50}: one of {', '.join(cls)}") from None


@dataclass(frozen=True, slots=True)
class CacheStats:
    """What a cache did, and how stale it is. ``hits`` and ``misses`` count keys."""

    policy: CachePolicy
    hits: int
    misses: int
    evicted: int
    """Entries that had to make room."""
    size: int
    """Entries now, those of missing documents included."""
    memory: int
    """Bytes of their JSON."""
    staleness: float
    """Seconds: the bound of the policy. PERIODIC keeps it while the store is there."""
    age: float | None
    """Seconds since the oldest entry was surely right; None without any."""


class _Entry(NamedTuple):
    """A document as of a number of the log; ``text`` None: there is none. ``at``: when the read began."""

    row: DocumentRow | None
    text: str | None
    number: int
    at: float


class _Load:
    """A read under way."""

    def __init__(self, at: float) -> None:
        self.at = at
        self.found: dict[str, _Entry] = {}
        self.done = asyncio.Event()


class CachedState:
    """Reads the documents of a prefix through a cache; `State.cached` makes it. Open it with ``async with``.

    Documents that are missing are cached as well. It keeps ``size`` entries and 64 MiB of JSON at most, those read last.
    """

    def __init__(
        self,
        process: Process,
        freshness: Freshness,
        policy: CachePolicy | str,
        prefix: str = "",
        size: int = 1024,
        ttl: float | None = None,
        every: float | None = None,
        clock: Clock = boottime,
    ) -> None:
        self._process, self._freshness, self._clock = process, freshness, clock
        self.policy = CachePolicy.of(policy)
        self.prefix = checked_prefix(prefix)
        if isinstance(size, bool) or not isinstance(size, int) or not 1 <= size <= SIZE_MOST:
            raise InvalidInputError(f"size={size!r:.50}: a whole number of entries, from 1 to {SIZE_MOST:,}")
        self._size = size
        self._staleness = _staleness(self.policy, ttl, every, freshness.bound)
        self._may_serve: Callable[[_Entry], bool] = {
            CachePolicy.IMMEDIATE: lambda entry: freshness.is_sure(),
            CachePolicy.EVENTUAL: lambda entry: clock() - entry.at < self._staleness,
            CachePolicy.PERIODIC: lambda entry: True,
        }[self.policy]
        self._entries: OrderedDict[str, _Entry] = OrderedDict()
        self._loading: dict[str, _Load] = {}
        self._memory = self._hits = self._misses = self._evicted = 0
        self._open: asyncio.Event | None = None
        """Set at the end; None before the beginning."""

    async def __aenter__(self) -> Self:
        if self._open is not None:
            raise InvalidInputError("this cache was opened before: make another with coord.state.cached(...)")
        self._process.check()
        self._open = asyncio.Event()
        try:
            if self.policy == CachePolicy.PERIODIC:
                self._freshness.spawn(self._refresh(self._open))
            await self._freshness.join(self._told, self.policy == CachePolicy.IMMEDIATE)
        except BaseException:
            self._end(self._open)
            raise
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        assert self._open is not None
        self._end(self._open)

    def _end(self, ended: asyncio.Event) -> None:
        ended.set()
        self._freshness.leave(self._told)
        self._told(None)

    # reading

    async def get(self, key: str, *, returns: Any = None) -> Document | None:
        """A document, None when there is none. Not staler than the policy says. ``returns``: read the value as that type.

        Raises: InvalidInputError, also for a key outside the prefix; StoreError when the store must be read, and is away.
        """
        decode = bodies.decode if returns is None else decoder(returns)
        entry = self._served(key)
        if entry is None:
            key = self._checked(key)
            entry = (await self._found([key]))[key]
        return None if entry.row is None else Document.of(entry.row, entry.text, decode)

    async def value(self, key: str, default: Any = None) -> Any:
        """The value of a document, or ``default`` when there is none. Raises: as `get`."""
        document = await self.get(key)
        return default if document is None else document.value

    async def get_many(self, keys: Iterable[str]) -> list[Document | None]:
        """Several documents, in the order of the keys; what is not in the cache is read at once. Each is as of a moment of its
        own within the policy's bound: for all as they stood at one moment, read the store. Raises: as `get`.
        """
        wanted = [self._checked(key) for key in keys]
        found = await self._found(list(dict.fromkeys(wanted)))
        return [None if (one := found[key]).row is None else Document.of(one.row, one.text) for key in wanted]

    @property
    def stats(self) -> CacheStats:
        return CacheStats(
            self.policy, self._hits, self._misses, self._evicted, len(self._entries), self._memory, self._staleness, self._age()
        )  # fmt: skip

    def _age(self) -> float | None:
        if not self._entries:
            return None
        if self.policy == CachePolicy.IMMEDIATE:
            return self._freshness.age
        return self._clock() - min(entry.at for entry in self._entries.values())

    def _checked(self, key: object) -> str:
        self._require_open()
        checked = checked_key(key)
        if not within(checked, self.prefix):
            raise InvalidInputError(f"{checked!r} is not in {self.prefix!r}, which this cache is for", key=checked)
        return checked

    def _require_open(self) -> None:
        if self._open is None or self._open.is_set():
            raise ClosedError("the cache is not open: use it inside `async with coord.state.cached(...) as cache`")
        self._process.check()

    def _served(self, key: str) -> _Entry | None:
        """What is in the cache, and fresh enough."""
        self._require_open()
        entry = self._entries.get(key) if isinstance(key, str) else None
        if entry is None or not self._may_serve(entry):
            return None
        self._hits += 1
        self._entries.move_to_end(key)
        return entry

    async def _found(self, keys: list[str]) -> dict[str, _Entry]:
        if self.policy == CachePolicy.IMMEDIATE and not self._freshness.is_sure() and any(key in self._entries for key in keys):
            await self._freshness.look()
        found = {key: entry for key in keys if (entry := self._served(key)) is not None}
        missing = [key for key in keys if key not in found]
        self._misses += len(missing)
        return found | await self._load(missing) if missing else found

    # filling

    async def _load(self, keys: list[str]) -> dict[str, _Entry]:
        """Read from the store; what somebody else reads already is waited for, if that is fresh enough."""
        shared = {key: load for key in keys if (load := self._loading.get(key)) is not None and self._is_recent(load)}
        rest = [key for key in keys if key not in shared]
        found = await self._fetch(rest) if rest else {}
        failed: list[str] = []
        for key, load in shared.items():
            await load.done.wait()
            if key in load.found:
                found[key] = load.found[key]
            else:
                failed.append(key)  # who read it got an error, or was cancelled: ours to ask
        return found | await self._fetch(failed) if failed else found

    def _is_recent(self, load: _Load) -> bool:
        return self._clock() - load.at <= self._freshness.bound

    async def _fetch(self, keys: list[str], only_known: bool = False) -> dict[str, _Entry]:
        load = _Load(self._clock())
        self._loading.update(dict.fromkeys(keys, load))
        try:
            number, found = await _newest(self._process, keys)
            load.found = {key: _Entry(row, text, number, load.at) for key, (row, text) in zip(keys, found, strict=True)}
            for key, entry in load.found.items():
                # `_told` takes away what was changed since the read began: that may be the old value, and must not come back
                if self._loading.get(key) is load and (key in self._entries or not only_known):
                    self._keep(key, entry)
            return load.found
        finally:
            for key in keys:
                if self._loading.get(key) is load:
                    del self._loading[key]
            load.done.set()

    def _keep(self, key: str, entry: _Entry) -> None:
        if self._open is None or self._open.is_set():
            return
        known = self._entries.get(key)
        self._memory += _size(entry) - (0 if known is None else _size(known))
        self._entries[key] = entry
        while len(self._entries) > self._size or self._memory > MEMORY:
            self._memory -= _size(self._entries.popitem(last=False)[1])
            self._evicted += 1

    def _told(self, changed: Changed | None) -> None:
        """Forget what is no longer so."""
        if changed is None:
            self._entries.clear()
            self._loading.clear()
            self._memory = 0
            return
        for key, number in changed:
            self._loading.pop(key, None)
            entry = self._entries.get(key)
            if entry is not None and entry.number < number:
                del self._entries[key]
                self._memory -= _size(entry)

    async def _refresh(self, ended: asyncio.Event) -> None:
        """Read all entries anew, every so many seconds, in one read."""
        away = False
        while True:
            try:
                async with asyncio.timeout(self._staleness):
                    await ended.wait()
                return
            except TimeoutError:
                pass
            try:
                if self._entries:
                    await self._fetch(list(self._entries), only_known=True)
                away = False
            except CoordError as error:
                if not away:
                    log.warning("cached documents could not be refreshed: %s; what is there is served on", error.code)
                away = True


def _staleness(policy: CachePolicy, ttl: float | None, every: float | None, bound: float) -> float:
    if ttl is not None and policy != CachePolicy.EVENTUAL:
        raise InvalidInputError(f"ttl= has no meaning under {policy}: it is eventual's")
    if every is not None and policy != CachePolicy.PERIODIC:
        raise InvalidInputError(f"every= has no meaning under {policy}: it is periodic's")
    if policy == CachePolicy.IMMEDIATE:
        return bound
    if policy == CachePolicy.EVENTUAL:
        seconds = checked_seconds(TTL if ttl is None else ttl, "ttl", above_zero=True)
    else:
        seconds = checked_seconds(EVERY if every is None else every, "every", above_zero=True)
    assert seconds is not None
    return seconds


def _size(entry: _Entry) -> int:
    return len(entry.text or "")


async def _newest(process: Process, keys: list[str]) -> tuple[int, list[tuple[DocumentRow | None, str | None]]]:
    """Documents with their bodies, and the number of the log as of which they are so."""
    for _ in range(TRIES):
        rows, (counter,) = await process.store.read(Keys(DOCUMENT, keys), Keys(COUNTER, (NUMBER,)))
        rows = [row if there(row) else None for row in rows]
        hashes = list({row.value_blob for row in rows if row is not None and row.value_blob is not None})
        blobs = (await process.store.read(Keys(BLOB, hashes)))[0] if hashes else []
        if None in blobs:  # written again, and pruned, since
            continue
        large = {blob.hash: blob.body for blob in blobs}
        found = [(None, None) if row is None else (row, large.get(row.value_blob, row.value)) for row in rows]
        return (counter.value if counter is not None else 0), found
    raise StoreError("what is read is pruned faster than it can be read: keep more history, or write less often")
