"""Series: entries that are only appended, numbered without a gap in the transaction that writes them, whoever appends.

A series is made of documents: a head at its key (``first`` to ``last``: the numbers of the entries that count), and one document
for each entry below it. Emptying or replacing it moves ``first`` behind all that is there, in one transaction; what is before it
counts for nothing from then on, and is deleted in slices afterwards. A number is used twice only where a head was deleted, or a
snapshot restored.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from ..errors import InvalidInputError, StoreError
from ..settings import Settings
from . import documents, values
from .bodies import decode, encode
from .documents import DELETE, PUT, Author, Document, New, checked_fence, text_of, there
from .process import Process
from .store import Keys, Range, Rows, for_each
from .tables import DOCUMENT, DocumentRow
from .values import checked_key

if TYPE_CHECKING:
    from .shared_state import State

MOST = 10_000
"""Entries that are appended as a whole."""
DIGITS = 12
TRIES = 10


class Head(NamedTuple):
    """Which entries count: ``first`` to ``last``; none when ``last`` is below ``first``."""

    first: int = 1
    last: int = 0

    def numbers(self, newest: int | None = None) -> range:
        """Of all entries, or of the ``newest``."""
        first = self.first if newest is None else max(self.first, self.last - newest + 1)
        return range(first, self.last + 1)


class Append(NamedTuple):
    """Put entries (JSON texts) at the end. ``begin``: what a series that never was begins with."""

    key: str
    texts: tuple[str, ...]
    by: Author
    begin: tuple[str, ...] = ()


class Replace(NamedTuple):
    """Have these entries (JSON texts), and no others."""

    key: str
    texts: tuple[str, ...]
    by: Author


class Sweep(NamedTuple):
    """Delete the entries between two numbers; they count for nothing any more."""

    key: str
    after: int
    by: Author


# the rules


def append(rows: Rows, command: Append, now: float, policy: Settings) -> Head:
    """Append entries. Raises: FencedError, InvalidInputError when another document stands where the head should."""
    row = rows.one(DOCUMENT, command.key)
    return _write(rows, command, row, _head(rows, command.key, row), now, policy)


def replace(rows: Rows, command: Replace, now: float, policy: Settings) -> Head:
    """Empty a series, and append entries. Raises: as `append`."""
    row = rows.one(DOCUMENT, command.key)
    head = _head(rows, command.key, row)
    return _write(rows, command, row, head._replace(first=head.last + 1), now, policy)


def sweep(rows: Rows, command: Sweep, now: float, policy: Settings) -> int | None:
    """Delete a slice of what is before the first entry that counts. Returns where to go on, None at the end."""
    head = _head(rows, command.key, rows.one(DOCUMENT, command.key))
    low, high = entry(command.key, command.after + 1), entry(command.key, head.first)
    found = rows.scan(Range(DOCUMENT, "key", low=low, high=high, limit=policy.slice))
    old = [row for row in found if there(row)]
    for_each(old, lambda row: documents.write(rows, row.key, row, New(None, DELETE), command.by, now, policy))
    return number_of(found[-1].key) if len(found) == policy.slice else None


def _write(rows: Rows, change: Append | Replace, row: DocumentRow | None, head: Head, now: float, policy: Settings) -> Head:
    """Write entries behind the last of ``head``, and the head."""
    key, texts = change.key, change.texts
    if isinstance(change, Append) and not there(row):
        texts = change.begin + texts
    checked_fence(rows, key, row, None, False)
    head = head._replace(last=head.last + len(texts))
    keys = [entry(key, number) for number in range(head.last - len(texts) + 1, head.last + 1)]
    found = rows.get(DOCUMENT, keys)

    def put(place: int) -> None:
        documents.write(rows, keys[place], found[place], New(texts[place], PUT), change.by, now, policy)

    for_each(range(len(keys)), put)
    documents.write(rows, key, row, New(encode(head._asdict()), PUT), change.by, now, policy)
    return head


def _head(rows: Rows, key: str, row: DocumentRow | None) -> Head:
    text = text_of(rows, row)
    return Head() if text is None else head_of(key, decode(text))


def head_of(key: str, value: Any) -> Head:
    """What a head's document says. Raises: InvalidInputError for another document."""
    if isinstance(value, dict) and set(value) == {"first", "last"} and all(type(one) is int for one in value.values()):
        return Head(**value)
    raise InvalidInputError(f"{key!r} is a document of another kind, no series: use another key", key=key)


def entry(key: str, number: int) -> str:
    """The key of an entry."""
    return f"{key}/{number:0{DIGITS}}"


def number_of(key: str) -> int:
    """The number of an entry, by its key."""
    return int(key.rpartition("/")[2])


# as a program uses it


class Series:
    """Entries at one key, which any process may append to, read, and replace. Made by `State.series`."""

    def __init__(self, key: str, state: State, process: Process, author: Callable[[], Author]) -> None:
        self.key = checked_key(key)
        checked_key(entry(key, 0))
        self._state = state
        self._process = process
        self._author = author

    async def append(self, *entries: Any, begin: Sequence[Any] = ()) -> None:
        """Append entries (JSON values, up to 10,000), all of them or none, side by side; on disk when this returns.

        ``begin``: what stands before them if nothing was ever appended here.

        Raises: InvalidInputError, PayloadTooLargeError, FencedError, StoreError, ClosedError.
        """
        if entries:
            command = Append(self.key, self._texts(entries), self._author(), self._texts(begin))
            await self._process.line.put(append, command, self._reads())

    async def replace(self, entries: Sequence[Any] = ()) -> None:
        """Have these entries (up to 10,000) and no others, in one transaction; none of them empties it. Raises: as `append`."""
        process, by = self._process, self._author()
        await process.line.put(replace, Replace(self.key, self._texts(entries), by), self._reads())
        after: int | None = 0
        while after is not None:
            after = await process.line.put(sweep, Sweep(self.key, after, by))

    async def read(self, newest: int | None = None) -> list[Document] | None:
        """The entries as they stood at one moment, or the ``newest`` of them, the oldest first. None: nothing was ever appended.

        Raises: InvalidInputError, StoreError, ClosedError.
        """
        for _ in range(TRIES):
            head = await self._state.get(self.key)
            if head is None:
                return None
            before = head_of(self.key, head.value)
            keys = [entry(self.key, number) for number in before.numbers(newest)]
            now, *found = await self._state.get_many([self.key, *keys])
            after = Head() if now is None else head_of(self.key, now.value)
            entries = [one for one in found if one is not None]
            # what was appended meanwhile does no harm: it came later
            if after.first == before.first and after.last >= before.last and len(entries) == len(keys):
                return entries
        raise StoreError(f"{self.key!r} is replaced faster than it can be read, or entries of it were deleted", key=self.key)

    def _reads(self) -> tuple[Keys[DocumentRow], ...]:
        self._process.check()
        return (Keys(DOCUMENT, [self.key]),)

    def _texts(self, entries: Sequence[Any]) -> tuple[str, ...]:
        if len(entries) > MOST:
            said = f"{self.key!r}: {len(entries):,} entries, at most {MOST:,} are written as a whole"
            raise InvalidInputError(said, key=self.key)
        policy = self._process.policy
        return tuple(values.checked(one, self.key, policy.max_value, policy.max_depth) for one in entries)
