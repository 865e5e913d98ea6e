"""Reading the shared state: documents as they are and as they were, what becomes of them, and what waits for a decision.

Each read is one snapshot of the store, and waits for no writer.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Protocol

from ..errors import InvalidInputError, NotFoundError, StoreError
from . import bodies, documents, patching, snapshots, state_policies
from .documents import Document, Versioned
from .events import Event, Kind
from .prefixes import checked_prefix, ranges, within
from .reducing import Reducer
from .schemas import decoder
from .snapshots import pruned
from .state_edits import checked_label, checked_limit, checked_version, moment
from .state_policies import MergePolicy
from .store import Keys, Load, Range, Store
from .tables import BLOB, CONFLICT, DOCUMENT, DOCUMENT_CHANGE, SNAPSHOT, ConflictRow, DocumentRow, SnapshotRow, StatePolicyRow
from .values import checked_key

TRIES = 10
"""How often a read is begun anew when what it found was pruned before its large bodies were read."""

Documents = list[Document]
Pick = Callable[[list[list[Any]]], Sequence[Versioned]]


@dataclass(frozen=True, slots=True)
class DocumentChange:
    """One version that was written, as `StateReads.watch` tells of it. ``number`` is its event's: watch on from it."""

    number: int
    key: str
    version: int
    kind: str
    at: float
    deleted: bool
    value: Any = None
    """Of that version, even if there is a newer one by now."""
    actor: str | None = None
    pruned: bool = False
    """The version is not kept any more: its value and its actor are not known."""


@dataclass(frozen=True, slots=True)
class Snapshot:
    """A point in the order of commits, by name, of a prefix and what lies below it ("": of all)."""

    name: str
    number: int
    at: float
    prefix: str
    actor: str | None
    note: str

    @classmethod
    def of(cls, row: SnapshotRow) -> Snapshot:
        return cls(*row)


@dataclass(frozen=True, slots=True)
class Conflict:
    """A stale write that waits for a decision (`State.decide`), side by side with what it was made from and what is there."""

    id: str
    key: str
    kind: str
    """What its writer did: put, patch, delete."""
    expected: int
    found: int
    """The version that was there when it lost."""
    mine: Any
    """What its writer wanted; None for a deletion."""
    theirs: Document | None
    """The document now."""
    base: Document | None
    """What it was made from; None when there was nothing, or it is not kept any more."""
    at: float
    actor: str | None
    cause: str | None


@dataclass(frozen=True, slots=True)
class StatePolicy:
    """What becomes of stale writes at a prefix and below it."""

    prefix: str
    policy: MergePolicy
    reducers: Mapping[str, Reducer]

    @classmethod
    def of(cls, row: StatePolicyRow) -> StatePolicy:
        stance = state_policies.of_row(row)
        return cls(row.prefix, MergePolicy(stance.policy), {field: Reducer(name) for field, name in stance.reducers.items()})


class Log(Protocol):
    """Where events are read."""

    def pages(self, since: int | None, kinds: Iterable[str] | None, follow: bool) -> AsyncGenerator[list_of[Event], None]:
        """The events behind ``since``, as many at a time as there are."""


class Source(Protocol):
    """What documents are read from: a process on a store, or a store on which no session was opened."""

    @property
    def store(self) -> Store: ...

    @property
    def feed(self) -> Log: ...

    def check(self) -> None:
        """Raises: ClosedError, ConfigError."""


class StateReads:
    """What `State` offers to who only reads.

    A **prefix** is a key, with all that lies below it: ``a/b`` means ``a/b`` and ``a/b/...``, not ``a/bc``; "" means everything.
    """

    def __init__(self, process: Source) -> None:
        self._process = process

    @property
    def namespace(self) -> str:
        """Whose documents these are."""
        return self._process.store.namespace

    # one document

    async def get(
        self,
        key: str,
        *,
        version: int | None = None,
        at: datetime | float | None = None,
        snapshot: str | None = None,
        returns: Any = None,
    ) -> Document | None:
        """A document, None when there is none, or it is deleted.

        ``version``: that one, if need be a deletion (``deleted``). ``at`` (an aware datetime, or epoch seconds), ``snapshot`` (its
        name): as it was then. ``returns``: read the value as that type.

        Raises: NotFoundError for a version that is not kept or is yet to come, a time that the history does not reach back to, an
        unknown snapshot; InvalidInputError, also for a snapshot that the key is not in.
        """
        key = checked_key(key)
        if sum(one is not None for one in (version, at, snapshot)) > 1:
            raise InvalidInputError("version, at and snapshot each name one state of the document: pass one of them")
        decode = bodies.decode if returns is None else decoder(returns)
        if version is not None:
            return await self._version(key, checked_version(version, key) or 0, decode)
        if at is not None:
            return await self._one(_as_of_time(moment(at), key), (Keys(DOCUMENT, (key,)), documents.history(key)), decode)
        if snapshot is not None:
            name = checked_label(snapshot, "snapshot")
            return await self._one(_as_of_snapshot(name, key), snapshots.loads(name, key), decode)
        return await self._one(_now, (Keys(DOCUMENT, (key,)),), decode)

    async def _version(self, key: str, version: int, decode: Callable[[str], Any]) -> Document:
        def pick(found: list[list[Any]]) -> Sequence[Versioned]:
            (row,), (change,) = found
            one = row if row is not None and row.version == version else change
            if one is None:
                newest = 0 if row is None else row.version
                raise pruned(key, version) if version <= newest else NotFoundError(
                    f"{key!r}: there is no version {version}, the newest is {newest}", key=key, version=version, newest=newest
                )  # fmt: skip
            return (one,)

        (document,) = await self._found(pick, (Keys(DOCUMENT, (key,)), Keys(DOCUMENT_CHANGE, ((key, version),))), decode)
        return document

    async def value(self, key: str, default: Any = None) -> Any:
        """The value of a document, or ``default`` when there is none. Raises: InvalidInputError."""
        document = await self.get(key)
        return default if document is None else document.value

    async def get_many(self, keys: Iterable[str]) -> list[Document | None]:
        """Several documents as they stood at one moment, in the order of the keys; None where there is none.

        Raises: InvalidInputError.
        """
        wanted = [checked_key(key) for key in keys]
        found = await self._found(lambda loaded: _there(loaded[0]), (Keys(DOCUMENT, list(dict.fromkeys(wanted))),))
        by_key = {document.key: document for document in found}
        return [by_key.get(key) for key in wanted]

    async def history(self, key: str, *, limit: int = 100, before: int | None = None) -> Documents:
        """The versions of a document that are kept, the newest first, deletions too; ``before``: those older than this version.

        Raises: InvalidInputError.
        """
        key, limit, before = checked_key(key), checked_limit(limit), checked_version(before, key)

        def pick(found: list[list[Any]]) -> Sequence[Versioned]:
            (row,), changes = found
            newest = [row] if row is not None and (before is None or row.version < before) else []
            return [*newest, *changes][:limit]

        return await self._found(pick, (Keys(DOCUMENT, (key,)), documents.history(key, before=before, limit=limit)))

    async def diff(self, key: str, a: int, b: int | None = None) -> list[dict[str, Any]]:
        """RFC 6902 operations that make version ``b`` (None: the newest) of version ``a``.

        Raises: NotFoundError for a version that is not kept; InvalidInputError when one of them is a deletion.
        """
        one = await self.get(key, version=a)
        other = await self.get(key) if b is None else await self.get(key, version=b)
        for document in (one, other):
            if document is None or document.deleted:
                raise InvalidInputError(f"{key!r} is deleted in one of these versions: there is nothing to compare", key=key)
        assert one is not None
        assert other is not None
        return patching.diff(one.value, other.value)

    # many

    async def list(self, prefix: str = "", *, limit: int = 100, after: str | None = None, deleted: bool = False) -> Documents:
        """Documents at a prefix and below it, by key; ``after`` the last key of the page before. ``deleted``: these too.

        Raises: InvalidInputError.
        """
        prefix, limit = checked_prefix(prefix), checked_limit(limit)
        after = None if after is None else checked_key(after)
        page: Documents = []
        while True:
            loads = ranges(DOCUMENT, prefix, after, limit)
            last: list_of[str] = []

            def pick(found: list_of[list_of[Any]], last: list_of[str] = last) -> Sequence[Versioned]:
                rows = [*found[0], *found[1]][:limit]
                last[:] = [row.key for row in rows[-1:]] if len(rows) == limit else []
                return rows if deleted else _there(rows)

            page += await self._found(pick, loads)
            if not last or len(page) >= limit:
                return page[:limit]
            after = last[0]

    def watch(self, prefix: str = "", *, since: int | None = None, follow: bool = True) -> AsyncIterator[DocumentChange]:
        """Every version that is written at a prefix or below it, in the order of commit, each once: also those of one moment.

        ``since``: from behind this event on, such as the ``number`` of the last change that was seen (None: from the moment on at
        which the first is waited for); so who was away misses nothing. ``follow=False`` ends at the log's present end.

        Raises: InvalidInputError at once; EventsPrunedError when ``since`` is below what is kept of the log: read the documents
        themselves, and watch on from there; ClosedError.
        """
        return self._watch(checked_prefix(prefix), since, follow)

    async def _watch(self, prefix: str, since: int | None, follow: bool) -> AsyncIterator[DocumentChange]:
        pages = self._process.feed.pages(since, (Kind.STATE_CHANGED,), follow)
        try:
            async for page in pages:
                for change in await self._told([event for event in page if within(event.subject, prefix)]):
                    yield change
        finally:
            await pages.aclose()

    async def _told(self, page: Sequence[Event]) -> list_of[DocumentChange]:
        if not page:
            return []
        wanted = [(event.subject, event.data["version"]) for event in page]
        loads = Keys(DOCUMENT, list({key for key, _ in wanted})), Keys(DOCUMENT_CHANGE, wanted)
        numbers = {event.number for event in page}

        def pick(found: list_of[list_of[Any]]) -> Sequence[Versioned]:
            return [row for rows in found for row in rows if row is not None and row.number in numbers]

        written = {document.number: document for document in await self._found(pick, loads)}
        return [_change(event, written.get(event.number)) for event in page]

    # what stands beside the documents

    async def snapshots(self) -> list_of[Snapshot]:
        """All snapshots, the oldest first."""
        (rows,) = await self._read(Range(SNAPSHOT, "key"))
        return sorted(map(Snapshot.of, rows), key=lambda one: one.number)

    async def policies(self) -> list_of[StatePolicy]:
        """The policies that are set, by prefix."""
        (rows,) = await self._read(state_policies.all_policies())
        return [StatePolicy.of(row) for row in rows]

    async def conflicts(self, prefix: str = "", *, limit: int = 100) -> list_of[Conflict]:
        """Open conflicts of documents at a prefix and below it, by key, at each the oldest first. Raises: InvalidInputError."""
        loads = ranges(CONFLICT, checked_prefix(prefix), None, checked_limit(limit), "by_key")
        for _ in range(TRIES):
            at, below = await self._read(*loads)
            rows: list_of[ConflictRow] = [*at, *below][:limit]
            keys, bases = [row.key for row in rows], [(row.key, row.base) for row in rows]
            now, changes, blobs = await self._read(
                Keys(DOCUMENT, keys), Keys(DOCUMENT_CHANGE, bases), Keys(BLOB, [row.value_blob or "" for row in rows])
            )
            if all(blob is not None or row.value_blob is None for row, blob in zip(rows, blobs, strict=True)):
                return [
                    await self._side_by_side(row, blob.body if blob else row.value, current, change)
                    for row, blob, current, change in zip(rows, blobs, now, changes, strict=True)
                ]
        raise _too_quick()

    async def _side_by_side(self, row: ConflictRow, text: str | None, now: DocumentRow | None, change: Any) -> Conflict:
        base = now if now is not None and now.version == row.base else change
        found = [one for one in (now, base) if documents.there(one)]
        read = {one.number: one for one in await self._found(lambda _: [one for one in found if one is not None], ())}
        mine = None if text is None else bodies.decode(text)
        theirs, made_from = (None if one is None else read.get(one.number) for one in (now, base))
        return Conflict(
            row.id, row.key, row.kind, row.base, row.found, mine, theirs, made_from, row.at, row.actor, row.cause
        )  # fmt: skip

    # reading

    async def _read(self, *loads: Load) -> list_of[list_of[Any]]:
        self._process.check()
        return await self._process.store.read(*loads)

    async def _one(self, pick: Pick, loads: Sequence[Load], decode: Callable[[str], Any]) -> Document | None:
        found = await self._found(pick, loads, decode)
        return found[0] if found else None

    async def _found(self, pick: Pick, loads: Sequence[Load], decode: Callable[[str], Any] = bodies.decode) -> Documents:
        """The rows that are picked of what is loaded, with their bodies."""
        for _ in range(TRIES):
            rows = pick(await self._read(*loads))
            hashes = list({row.value_blob for row in rows if row.value_blob is not None})
            if not hashes:
                return [Document.of(row, row.value, decode) for row in rows]
            (blobs,) = await self._read(Keys(BLOB, hashes))
            if None not in blobs:
                large = {blob.hash: blob.body for blob in blobs}
                return [Document.of(row, large.get(row.value_blob, row.value), decode) for row in rows]
        raise _too_quick()


list_of = list
"""`list`, where a method has that name."""


def _too_quick() -> StoreError:
    return StoreError("what is read is pruned faster than it can be read: keep more history, or write less often")


def _there(rows: Iterable[DocumentRow | None]) -> list[DocumentRow]:
    return [row for row in rows if row is not None and documents.there(row)]


def _now(found: list[list[Any]]) -> Sequence[Versioned]:
    return _there(found[0])


def _as_of_snapshot(name: str, key: str) -> Pick:
    def pick(found: list[list[Any]]) -> Sequence[Versioned]:
        (snapshot,), (row,), changes = found
        point = snapshots.covering(snapshots.found(snapshot, name), key).number
        was = documents.as_of(row, changes, point)
        return (was,) if was is not None and documents.there(was) else ()

    return pick


def _as_of_time(at: float, key: str) -> Pick:
    """A version was there until the next was written: where that one is not kept, nobody knows."""

    def pick(found: list[list[Any]]) -> Sequence[Versioned]:
        (row,), changes = found
        newer: Versioned | None = None
        for one in [*([] if row is None else [row]), *changes]:
            if one.at <= at:
                if newer is not None and newer.version != one.version + 1:
                    break
                return (one,) if documents.there(one) else ()
            newer = one
        if newer is None or newer.version == 1:
            return ()
        raise NotFoundError(f"{key!r}: what stood there then is not kept any more: history() says what is", key=key, at=at)

    return pick


def _change(event: Event, written: Document | None) -> DocumentChange:
    data = event.data
    known = {} if written is None else {"value": written.value, "actor": written.actor}
    deleted = bool(data.get("deleted", False))
    return DocumentChange(
        event.number, event.subject, data["version"], data["kind"], event.at, deleted, pruned=written is None, **known
    )
