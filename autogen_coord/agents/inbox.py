"""Inboxes: what this process receives by pull.

A message that was claimed for a receiver is *held*: nothing runs, and it stays claimed until it is settled, or the session ends. An
inbox has as many slots as there are receivers that wait and messages that are held, so that nothing is claimed for nobody.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import Any

from ..core import claims, directory, messages, registry
from ..core.addresses import Address
from ..core.calls import HANDLER
from ..core.claims import Claimed, Finish, GiveBack
from ..core.commit import Rule
from ..core.ids import new_id
from ..core.process import Process
from ..core.registry import Announce, Withdraw
from ..core.tables import CANCELLED
from ..errors import ClosedError, CoordError, LeaseLostError, StaleClaimError, StoreUnavailableError

log = logging.getLogger(__name__)

FIRST_LOOK = 1.0
"""Seconds that the first claim of a receiver may take at least, however short its timeout: what is there is found."""


async def announce_here(process: Process, make: Callable[[str], Announce]) -> None:
    """Announce something under the session that this process has; if that dies meanwhile, under its successor.

    Not for a rebirth itself, which begins anew with another session.

    Raises: ClosedError, StoreError.
    """
    while True:
        process.check()
        session = process.session
        try:
            await process.line.put(registry.announce, make(session))
        except LeaseLostError:
            await process.reborn()
            await asyncio.sleep(0.01)  # it may not be noticed yet
            continue
        if session == process.session:
            return


def _no_claim(seconds: float) -> StoreUnavailableError:
    return StoreUnavailableError(f"no claim could be made within {seconds:g} s: receive again, or with a timeout")


async def withdraw_quietly(process: Process, ids: tuple[str, ...]) -> None:
    """Withdraw what was given up; if that fails, it goes with the session."""
    try:
        await process.line.put(registry.withdraw, Withdraw(process.session, ids))
    except CoordError as error:
        log.warning("what was given up is still announced (%s): it goes with the session", error.code)


class Held:
    """A message that was claimed for a receiver of this process."""

    __slots__ = ("answer", "claimed", "how", "inbox", "released")

    def __init__(self, inbox: Inbox, claimed: Claimed) -> None:
        self.inbox = inbox
        self.claimed = claimed
        self.how: str | None = None
        """What is being done, or was done, with it."""
        self.answer: asyncio.Future[Any] | None = None
        self.released = False

    @property
    def claim(self) -> tuple[str, int]:
        return self.claimed.row.id, self.claimed.row.attempt

    async def settle(self, how: str, rule: Rule[Any, Any], command: Any) -> None:
        """Write its end. The same once more hears the same; if the store could not be reached, it is still held.

        Raises: StaleClaimError when the claim was lost, or something else was done with it; StoreError; ClosedError.
        """
        if self.how is None and not self.released:
            self.inbox.write(self, how, rule, command)
        if self.how != how or self.answer is None:
            raise claims.stale(*self.claim)
        await asyncio.shield(self.answer)  # whoever leaves now, it is written


class Inbox:
    """One agent's own inbox in this process."""

    def __init__(self, process: Process, owner: Address, all_held: dict[str, Held]) -> None:
        self.owner = owner
        self.id = ""
        self._process = process
        self._all_held = all_held
        self._held = 0
        self._waiting: dict[asyncio.Future[Held], bool] = {}
        """Receivers in the order of their coming, and whether each is in a handler of ours."""
        self._opening = asyncio.Lock()
        self._gathered = False
        """Whether what waited for this agent elsewhere was fetched."""

    # receiving

    async def receive(self, timeout: float | None) -> Held | None:
        """The next message, waited for. At least one claim is tried, whatever the timeout. Raises: ClosedError, StoreError."""
        loop = asyncio.get_running_loop()
        began = loop.time()
        until = None if timeout is None else began + (max(timeout, FIRST_LOOK) if timeout else self._process.policy.store_wait)
        if not await self._ready(until, look_once=timeout == 0):
            return None
        receiver: asyncio.Future[Held] = loop.create_future()
        handling = HANDLER.get()
        self._waiting[receiver] = handling is not None and handling.process is self._process
        self._resize()
        try:
            await self._first_look(receiver, until, look_once=timeout == 0)
            left = None if timeout is None else timeout - (loop.time() - began)
            if not receiver.done() and (left is None or left > 0):
                await asyncio.wait([receiver], timeout=left)
        except BaseException:
            self._forget(receiver)
            if receiver.done() and receiver.exception() is None:
                self._return(receiver.result())
            raise
        self._forget(receiver)
        return receiver.result() if receiver.done() else None

    async def _ready(self, until: float | None, look_once: bool) -> bool:
        """Open the inbox where it is not yet, under a session that lives. False when that took too long."""
        try:
            async with asyncio.timeout_at(until):
                async with self._opening:
                    if not self.id:
                        await self.open()
                    if not self._gathered:
                        await directory.gather(self._process.store, self._process.line, self.owner)
                        self._gathered = True
                await self._process.reborn()
        except TimeoutError:
            if look_once:
                raise _no_claim(self._process.policy.store_wait) from None
            return False
        return True

    async def _first_look(self, receiver: asyncio.Future[Held], until: float | None, look_once: bool) -> None:
        """Wait for the answer of one claim. A session that died just now is replaced, and its successor claims."""
        loop = asyncio.get_running_loop()
        while True:
            trial = self._process.dispatcher.try_now(self.id)
            trial.add_done_callback(lambda done: done.cancelled() or done.exception())
            both: list[asyncio.Future[Any]] = [trial, receiver]
            left = None if until is None else max(0.0, until - loop.time())
            await asyncio.wait(both, timeout=left, return_when=asyncio.FIRST_COMPLETED)
            if not look_once or receiver.done():
                return
            if not trial.done():
                raise _no_claim(self._process.policy.store_wait)
            if not isinstance(trial.exception(), LeaseLostError):
                trial.result()
                return
            await self._ready(until, look_once)

    def _forget(self, receiver: asyncio.Future[Held]) -> None:
        if self._waiting.pop(receiver, None) is not None:
            self._resize()

    def _resize(self) -> None:
        self._process.dispatcher.resize(self.id, len(self._waiting) + self._held)

    # what comes and goes

    def arrived(self, claimed: Claimed) -> None:
        """A message was claimed: it is for whoever waits the longest."""
        held = Held(self, claimed)
        self._held += 1
        self._all_held[claimed.row.id] = held
        if self._waiting:
            receiver = next(iter(self._waiting))
            del self._waiting[receiver]
            receiver.set_result(held)
        else:  # who waited for it has left meanwhile
            self._return(held)

    def write(self, held: Held, how: str, rule: Rule[Any, Any], command: Any) -> None:
        """Put the end of a held message on the line. Raises: ClosedError."""
        held.answer = self._process.line.offer(rule, command, command.reads())
        held.how = how

        def answered(future: asyncio.Future[Any]) -> None:
            error = None if future.cancelled() else future.exception()
            if error is None or isinstance(error, StaleClaimError):
                self.release(held)
            else:
                held.how = None

        held.answer.add_done_callback(answered)

    def _return(self, held: Held) -> None:
        """Nobody was there to take it."""
        row = held.claimed.row
        try:
            self.write(held, "given back", claims.give_back, GiveBack(row.session or "", [held.claim], unbegun=True))
        except ClosedError:
            self.release(held)  # it returns with the lease

    def release(self, held: Held) -> None:
        """It is held no more: its slot is free."""
        if held.released:
            return
        held.released = True
        if self._all_held.get(held.claimed.row.id) is held:
            del self._all_held[held.claimed.row.id]
        self._held -= 1
        self._process.dispatcher.ended(*held.claim)
        self._resize()

    # opening and ending

    async def open(self) -> None:
        """Announce it, and claim for it from then on. Raises: ClosedError, StoreError."""
        process, id = self._process, new_id("i")
        try:
            await announce_here(process, lambda session: self._announcement(id, session))
        except BaseException:  # also a cancellation: it may have been announced
            process.spawn(withdraw_quietly(process, (id, f"{id}.all")))
            raise
        self._serve(id)

    async def open_again(self, session: str) -> None:
        """Announce it under a new session. Raises: LeaseLostError, StoreError."""
        id = new_id("i")
        self._process.dispatcher.remove(self.id)
        await self._process.line.put(registry.announce, self._announcement(id, session))
        self._serve(id)
        self._process.spawn(directory.gather_quietly(self._process.store, self._process.line, self.owner))

    def _serve(self, id: str) -> None:
        self.id = id
        limit = len(self._waiting) + self._held
        self._process.dispatcher.add_provider(id, self.owner.label, limit, self.arrived, holds=True)

    def _announcement(self, id: str, session: str) -> Announce:
        return Announce(session, [messages.inbox_row(self.owner)], messages.inbox_providers(id, session, self.owner, 1))

    def end(self, error: ClosedError, handlers_too: bool) -> None:
        """Nothing more comes: tell the receivers."""
        for receiver in [one for one, inside in self._waiting.items() if handlers_too or not inside]:
            self._forget(receiver)
            receiver.set_exception(error)


class Inboxes:
    """The inboxes of one process, and what they hold."""

    def __init__(self, process: Process) -> None:
        self._process = process
        self._inboxes: dict[Address, Inbox] = {}
        self._held: dict[str, Held] = {}

    def __contains__(self, task: str) -> bool:
        return task in self._held

    def __len__(self) -> int:
        return len(self._held)

    def tasks(self) -> list[str]:
        """The messages that are held."""
        return list(self._held)

    async def receive(self, owner: Address, timeout: float | None) -> Held | None:
        """See `Inbox.receive`; the first time opens the inbox."""
        inbox = self._inboxes.get(owner)
        if inbox is None:
            inbox = self._inboxes[owner] = Inbox(self._process, owner, self._held)
        return await inbox.receive(timeout)

    async def announce_all(self, session: str) -> None:
        """The process has a new session. Raises: LeaseLostError, StoreError."""
        for inbox in list(self._inboxes.values()):
            if inbox.id:
                await inbox.open_again(session)

    def cancel(self, task: str) -> None:
        """The message was cancelled: whoever has it can do nothing with it any more."""
        held = self._held.get(task)
        if held is not None and held.how is None:
            row = held.claimed.row
            try:
                held.inbox.write(held, "cancelled", claims.finish, Finish(row.session or "", row.id, row.attempt, CANCELLED))
            except ClosedError:
                held.inbox.release(held)

    def superseded(self, task: str, attempt: int) -> None:
        """Somebody else ended it."""
        held = self._held.get(task)
        if held is not None and held.how is None and held.claimed.row.attempt <= attempt:
            held.inbox.release(held)

    def lose_all(self) -> None:
        """The session is gone, and the claims with it."""
        for held in list(self._held.values()):
            held.inbox.release(held)

    def end(self, error: ClosedError, handlers_too: bool = True) -> None:
        """Nothing more comes: tell who waits, in handlers of this process too or not yet."""
        for inbox in self._inboxes.values():
            inbox.end(error, handlers_too)
