"""A conversation: a head that counts, and a document for each message. The rules.

The head says how many messages were ever appended, and which is the first that is not left out: messages have numbers from 1, given
in the writing transaction, so they have no gaps whoever appends. What is left out is gone for readers at once; its documents are
deleted some at each append, so that no transaction deletes without end.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, NamedTuple

from ..errors import ConflictError
from ..settings import Settings
from . import bodies, documents
from .documents import DELETE, PUT, REDUCED, Author, New, checked_fence, text_of, there
from .store import Rows, for_each
from .tables import DOCUMENT, DocumentRow

ROOT: Final = "threads/"
MARK: Final = "#"
"""What the parts of keys begin with that no thread's name has."""
FEW = 16
"""Messages that an append deletes beyond as many as it brings."""


class Head(NamedTuple):
    """What stands in a thread's head."""

    appended: int = 0
    """Messages ever."""
    first: int = 1
    """The first that is not left out."""
    swept: int = 1
    """The first whose document may still be there."""

    @classmethod
    def of(cls, text: str | None) -> Head:
        """Raises: ConflictError when something else stands there."""
        try:
            return cls() if text is None else cls(**bodies.decode(text))
        except TypeError:
            raise ConflictError("a thread's head was written over: restore it from its history") from None


class Append(NamedTuple):
    """Messages to go behind all that are there. ``keep``: leave out all but so many."""

    name: str
    messages: tuple[str, ...]
    by: Author
    keep: int | None = None


class Summarised(NamedTuple):
    """A summary that takes the place of the messages from ``first`` up to ``upto``."""

    name: str
    first: int
    upto: int
    text: str
    by: Author


def head_key(name: str) -> str:
    return ROOT + name


def message_key(name: str, number: int) -> str:
    """Keys in the order of numbers."""
    return f"{ROOT}{name}/{MARK}{number:012d}"


def summary_key(name: str) -> str:
    return f"{ROOT}{name}/{MARK}summary"


def append(rows: Rows, command: Append, now: float, policy: Settings) -> Head:
    """The head with the messages: theirs are its last numbers. Raises: ConflictError, FencedError."""
    key = head_key(command.name)
    row = rows.one(DOCUMENT, key)
    checked_fence(rows, key, row, None, False)
    head = Head.of(text_of(rows, row))
    count = len(command.messages)
    keys = [message_key(command.name, head.appended + place) for place in range(1, count + 1)]
    appended = head.appended + count
    first = head.first if command.keep is None else max(head.first, appended - command.keep + 1)
    swept = _sweep(rows, command.name, head, min(first, head.appended + 1), count + FEW, command.by, now, policy)
    found = rows.get(DOCUMENT, keys)
    if any(there(one) for one in found):
        raise ConflictError(f"thread {command.name!r}: its head was lost, and its messages are there: restore the head", key=key)

    def put(place: int) -> DocumentRow:
        return documents.write(rows, keys[place], found[place], New(command.messages[place], PUT), command.by, now, policy)

    for_each(range(count), put)
    return _put_head(rows, key, row, Head(appended, first, swept), command.by, now, policy)


def summarised(rows: Rows, command: Summarised, now: float, policy: Settings) -> bool:
    """Compare-and-set by the first message: False when another has summarised, or left out, some of these meanwhile."""
    key = head_key(command.name)
    row, summary = rows.get(DOCUMENT, (key, summary_key(command.name)))
    checked_fence(rows, key, row, None, False)
    head = Head.of(text_of(rows, row))
    if head.first != command.first or command.upto > head.appended:
        return False
    first = command.upto + 1
    swept = _sweep(rows, command.name, head, first, policy.slice, command.by, now, policy)
    documents.write(rows, summary_key(command.name), summary, New(command.text, PUT), command.by, now, policy)
    _put_head(rows, key, row, Head(head.appended, first, swept), command.by, now, policy)
    return True


def _put_head(rows: Rows, key: str, row: DocumentRow | None, head: Head, by: Author, now: float, policy: Settings) -> Head:
    text = f'{{"appended":{head.appended},"first":{head.first},"swept":{head.swept}}}'
    documents.write(rows, key, row, New(text, REDUCED), by, now, policy)
    return head


def _sweep(rows: Rows, name: str, head: Head, below: int, most: int, by: Author, now: float, policy: Settings) -> int:
    """Delete documents that are left out. Returns the first that may still be there."""
    until = min(below, head.swept + most)
    keys: Sequence[str] = [message_key(name, number) for number in range(head.swept, until)]
    found = rows.get(DOCUMENT, keys) if keys else []

    def drop(place: int) -> None:
        if there(found[place]):
            documents.write(rows, keys[place], found[place], New(None, DELETE), by, now, policy)

    for_each(range(len(keys)), drop)
    return max(until, head.swept)
