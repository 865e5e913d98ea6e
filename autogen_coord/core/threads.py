"""Conversations as a program uses them: ``coord.state.thread(name)``."""

from __future__ import annotations

import inspect
import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from ..errors import InvalidInputError, NotFoundError, StoreError
from . import bodies, conversations, values
from .conversations import MARK, Append, Head, Summarised, head_key, message_key, summary_key
from .documents import Author, Document
from .process import Process
from .state_edits import checked_limit, checked_version
from .store import Keys
from .tables import DOCUMENT

if TYPE_CHECKING:
    from .state_reads import StateReads

log = logging.getLogger(__name__)

AT_ONCE = 500
"""Messages of one append."""
SLICE = 500
"""Messages that the function gets at a time."""
KEEP_MOST = 10_000
TRIES = 10


@dataclass(frozen=True, slots=True)
class ThreadMessage:
    """One message of a conversation. ``number``: its place, from 1, without gaps. ``at``: epoch seconds of the store's clock."""

    number: int
    value: Any
    at: float
    actor: str | None
    cause: str | None


@dataclass(frozen=True, slots=True)
class Recalled:
    """A conversation in short: together the summary and the messages are all of it."""

    summary: Any
    """Of the messages up to ``summarised``; None when there are none."""
    summarised: int
    messages: list[ThreadMessage]


Summarise = Callable[[Any, list[ThreadMessage]], Any | Awaitable[Any]]
"""From the old summary (None: there is none) and the messages that come to it, in order, to the new summary, a JSON value."""


class Signing(Protocol):
    """How writes are signed."""

    def __call__(self, actor: str | None, cause: str | None) -> Author: ...


class Thread:
    """A conversation that any number of processes append to; nothing in it is ever changed. `State.thread` makes it.

    It is stored as documents at ``threads/<name>``, in all snapshots of that. With ``keep`` its last so many messages are kept, and
    older ones left out; with ``summarise`` as well, those are not left out but folded into a summary.
    """

    def __init__(
        self, reads: StateReads, process: Process, author: Signing, name: str, keep: int | None, summarise: Summarise | None
    ) -> None:
        self._reads, self._process, self._author = reads, process, author
        self.name = _checked_name(name)
        if keep is not None and (isinstance(keep, bool) or not isinstance(keep, int) or not 1 <= keep <= KEEP_MOST):
            raise InvalidInputError(f"keep={keep!r:.50}: a whole number from 1 to {KEEP_MOST:,}")
        if summarise is not None and keep is None:
            raise InvalidInputError("summarise= wants keep= too: how many messages are left whole")
        self._keep, self._summarise = keep, summarise
        self._busy = False

    async def append(self, *messages: Any, actor: str | None = None, cause: str | None = None) -> list[int]:
        """Put messages behind all that are there: all or none, one behind the other. Returns their numbers.

        Up to 500, JSON values each. When a ``summarise`` has half as much again as ``keep`` to do, it is done before this returns;
        if it fails, that is logged, and tried again with the next: the messages are stored.

        Raises: InvalidInputError, PayloadTooLargeError (nothing is stored), StoreError, ClosedError.
        """
        if len(messages) > AT_ONCE:
            raise InvalidInputError(f"{len(messages):,} messages: at most {AT_ONCE} are appended as a whole; append them in parts")
        policy, key = self._process.policy, head_key(self.name)
        texts = tuple(values.checked(one, key, policy.max_value, policy.max_depth) for one in messages)
        self._process.check()
        if not texts:
            return []
        keep = self._keep if self._summarise is None else None
        command = Append(self.name, texts, self._author(actor, cause), keep)
        head = await self._process.line.put(conversations.append, command, (Keys(DOCUMENT, (key,)),))
        if self._summarise is not None and self._keep is not None:
            await self._summarise_if_due(head, self._keep)
        return list(range(head.appended - len(texts) + 1, head.appended + 1))

    async def page(self, *, before: int | None = None, limit: int = 100) -> list[ThreadMessage]:
        """Up to ``limit`` messages that are kept, the newest or those ``before`` a number, in the order of the conversation.

        An empty list is the beginning. Raises: InvalidInputError.
        """
        limit, before = checked_limit(limit), checked_version(before, self.name)
        for _ in range(TRIES):
            head, _summary = await self._head()
            until = head.appended if before is None else min(before - 1, head.appended)
            found = await self._messages(max(head.first, until - limit + 1), until)
            if found is not None:
                return found
        raise _too_quick(self.name)

    async def tail(self, count: int) -> list[ThreadMessage]:
        """The last messages, in the order of the conversation. Raises: InvalidInputError."""
        return await self.page(limit=count)

    async def len(self) -> int:
        """How many messages are kept: neither left out nor summarised."""
        head, _ = await self._head()
        return head.appended - head.first + 1

    async def appended(self) -> int:
        """How many messages were ever appended: the last one's number."""
        return (await self._head())[0].appended

    async def recall(self) -> Recalled:
        """The summary and all messages that are not in it, as of one moment.

        Raises: InvalidInputError when there are more than 10,000: give the thread a ``keep``, or read it by pages.
        """
        for _ in range(TRIES):
            head, summary = await self._head()
            checked_limit(max(1, head.appended - head.first + 1))
            found = await self._messages(head.first, head.appended)
            if found is not None:
                summarised = 0 if summary is None else int(summary.value["upto"])
                return Recalled(None if summary is None else summary.value["value"], summarised, found)
        raise _too_quick(self.name)

    async def summarise(self, *, actor: str | None = None, cause: str | None = None) -> int:
        """Fold all but the last ``keep`` messages into the summary now. Returns how many were folded by this call.

        The function runs outside any transaction, and more than once for some messages when several processes summarise; what it
        answers is taken only if nobody else's was: no message is lost, and none is in the summary twice.

        Raises: what the function raises; InvalidInputError and PayloadTooLargeError for what it answers.
        """
        function, keep, count = self._summarise, self._keep, 0
        if function is None or keep is None:
            raise InvalidInputError("this thread has no function to summarise with: coord.state.thread(name, keep=, summarise=)")
        by = self._author(actor, cause)
        while True:
            head, old = await self._head()
            upto = min(head.appended - keep, head.first + SLICE - 1)
            if upto < head.first:
                return count
            messages = await self._messages(head.first, upto)
            if messages is None:
                continue
            summary = function(None if old is None else old.value["value"], messages)
            if inspect.isawaitable(summary):
                summary = await summary
            command = Summarised(self.name, head.first, upto, self._summary_text(upto, summary), by)
            if await self._process.line.put(conversations.summarised, command, (Keys(DOCUMENT, (head_key(self.name),)),)):
                count += len(messages)

    def _summary_text(self, upto: int, summary: Any) -> str:
        policy = self._process.policy
        return values.checked({"upto": upto, "value": summary}, summary_key(self.name), policy.max_value, policy.max_depth)

    async def _summarise_if_due(self, head: Head, keep: int) -> None:
        if self._busy or head.appended - head.first + 1 < keep + max(1, keep // 2):
            return
        self._busy = True
        try:
            await self.summarise()
        except Exception as error:  # whatever it is: the messages are stored, and the caller must not append them again
            log.warning("thread %s could not be summarised: %s; it is tried again", self.name, type(error).__name__)
        finally:
            self._busy = False

    async def _head(self) -> tuple[Head, Document | None]:
        """The head and the summary, as of one moment."""
        head, summary = await self._reads.get_many((head_key(self.name), summary_key(self.name)))
        return Head.of(None if head is None else bodies.encode(head.value)), summary

    async def _messages(self, first: int, until: int) -> list[ThreadMessage] | None:
        """Messages by their numbers; None when one of them was left out since the head was read."""
        if until < first:
            return []
        numbers = range(first, until + 1)
        found = await self._reads.get_many([message_key(self.name, number) for number in numbers])
        if None in found:
            if (await self._head())[0].first <= first:
                raise NotFoundError(f"thread {self.name!r}: messages were deleted by hand", name=self.name)
            return None
        return [
            ThreadMessage(number, one.value, one.at, one.actor, one.cause)
            for number, one in zip(numbers, found, strict=True)
            if one is not None
        ]


def _checked_name(name: object) -> str:
    checked = values.checked_key(name)
    if any(part.startswith(MARK) for part in checked.split("/")):
        raise InvalidInputError(f"name {checked!r:.80}: no part of it may begin with {MARK!r}")
    values.checked_key(message_key(checked, 1))
    return checked


def _too_quick(name: str) -> StoreError:
    return StoreError(f"thread {name!r}: messages are left out faster than they can be read: keep more of them")
