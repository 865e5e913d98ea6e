"""The inbox that this process's requests are answered to: opened at the first of them, its address the same in every session.

A message is acknowledged when it comes. A result or an error is the answer; what else is said before it, or what nobody awaits any
more, is dropped. Answers are looked for while one is awaited, and for a while after a request ended without one.
"""

from __future__ import annotations

import asyncio
import logging
from typing import Any, NamedTuple

from ..core import bodies, claims, messages, registry
from ..core.addresses import REPLY, Address
from ..core.claims import Claimed, Finish
from ..core.ids import new_id
from ..core.messages import MessageKind
from ..core.process import Process
from ..core.registry import Announce
from ..core.tables import SUCCEEDED
from ..errors import ClosedError, StoreError
from .inbox import announce_here, withdraw_quietly

log = logging.getLogger(__name__)

AT_ONCE = 1_024
"""Answers that are claimed and not yet acknowledged, at most."""
LATE = 30.0
"""Seconds for which the answer to a request that ended without one is looked for, to be dropped."""
ANSWERS = (MessageKind.RESULT, MessageKind.ERROR)


class Answer(NamedTuple):
    """What a request is answered with."""

    kind: MessageKind
    body: Any
    causation: str | None


class Replies:
    """Requests of one process that wait for their answers."""

    def __init__(self, process: Process) -> None:
        self.address = Address(REPLY, new_id())
        self._process = process
        self._id = ""
        self._opening = asyncio.Lock()
        self._awaited: dict[str, asyncio.Future[Answer]] = {}
        self._late: dict[str, asyncio.TimerHandle] = {}
        """Requests that ended without an answer."""

    async def open(self) -> None:
        """Announce the inbox, if it is not there yet. Raises: ClosedError, StoreError."""
        async with self._opening:
            if self._id:
                return
            id = new_id("i")
            try:
                await announce_here(self._process, lambda session: self._announcement(id, session))
            except BaseException:  # also a cancellation: it may have been announced
                self._process.spawn(withdraw_quietly(self._process, (id,)))
                raise
            self._serve(id)

    async def announce_all(self, session: str) -> None:
        """The process has a new session. Raises: LeaseLostError, StoreError."""
        if self._id:
            id = new_id("i")
            self._process.dispatcher.remove(self._id)
            await self._process.line.put(registry.announce, self._announcement(id, session))
            self._serve(id)

    def _announcement(self, id: str, session: str) -> Announce:
        # no row that keeps it known, and no place among everyone: it ends with this process
        return Announce(session, [], messages.inbox_providers(id, session, self.address, AT_ONCE)[:1])

    def _serve(self, id: str) -> None:
        self._id = id
        self._process.dispatcher.add_provider(id, self.address.label, self._limit, self._arrived, holds=True)

    @property
    def _limit(self) -> int:
        return min(AT_ONCE, len(self._awaited) + len(self._late))

    def _resize(self) -> None:
        self._process.dispatcher.resize(self._id, self._limit)

    def expect(self, correlation: str) -> asyncio.Future[Answer]:
        """The result, or the error, that will correlate."""
        future: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
        self._awaited[correlation] = future
        self._resize()
        return future

    def forget(self, correlation: str, late: bool) -> None:
        """Nobody waits for it any more. ``late``: an answer may come all the same."""
        future = self._awaited.pop(correlation, None)
        if future is not None and not future.cancel() and not future.cancelled():
            future.exception()
        elif late:
            self._late[correlation] = asyncio.get_running_loop().call_later(LATE, self._give_up, correlation)
        self._resize()

    def _give_up(self, correlation: str) -> None:
        late = self._late.pop(correlation, None)
        if late is not None:
            late.cancel()
            self._resize()

    def end(self, error: ClosedError) -> None:
        """No answer comes any more: tell who waits."""
        for correlation in list(self._late):
            self._give_up(correlation)
        for future in self._awaited.values():
            if not future.done():
                future.set_exception(error)

    def _arrived(self, claimed: Claimed) -> None:
        correlation = claimed.task.correlation or ""
        waiting = self._awaited.get(correlation)
        if waiting is None or waiting.done():
            log.debug("an answer that nobody awaits is dropped", extra={"task_id": claimed.row.id})
            self._give_up(correlation)
        else:
            envelope = bodies.decode(claimed.input)
            kind = MessageKind(envelope["kind"])
            if kind in ANSWERS:
                waiting.set_result(Answer(kind, envelope["body"], claimed.task.causation))
            else:
                log.debug("a %s message is no answer: dropped", kind, extra={"task_id": claimed.row.id})
        self._acknowledge(claimed)

    def _acknowledge(self, claimed: Claimed, tries: int = 0) -> None:
        row = claimed.row

        def answered(future: asyncio.Future[Any]) -> None:
            error = None if future.cancelled() else future.exception()
            if isinstance(error, StoreError):
                wait = min(0.1 * 2 ** min(tries, 6), 5.0)
                asyncio.get_running_loop().call_later(wait, self._acknowledge, claimed, tries + 1)
            else:  # also when the claim was lost: it comes again, and nobody awaits it then
                self._process.dispatcher.ended(row.id, row.attempt)

        command = Finish(row.session or "", row.id, row.attempt, SUCCEEDED, "null")
        try:
            self._process.line.offer(claims.finish, command, command.reads()).add_done_callback(answered)
        except ClosedError:
            self._process.dispatcher.ended(row.id, row.attempt)
