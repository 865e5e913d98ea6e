"""Leases: the locks that this process holds and waits for.

A lease is as good as its session. When that is declared dead, or can no longer be trusted, the lease is lost: `Lease.lost` is set
and its block is cancelled, before anybody else can be granted the lock. A lease that is lost while its session goes on after all
is given back when its block has ended.

A request is known here before it is put on the line: its grant may be read from the log before its own answer is heard.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Iterable, Sequence
from typing import Any

from ..errors import ClosedError, CoordError, InvalidInputError, LeaseLostError, LockHeldError, StoreError, StoreUnavailableError
from . import bodies, lock_modes, lock_queue, locks
from .calls import HANDLER
from .commit import Rule
from .events import Kind
from .giving_back import AGAIN, LONGEST, GivingBack, was_given_back
from .ids import new_id
from .lock_handles import ENCLOSING, Block, Lease
from .lock_modes import LockMode
from .lock_queue import Want
from .lock_requests import Asked, Claim
from .lock_waiters import Waiter, deadlock
from .locks import Acquire, Answer, Convert, Evict, GiveUp, Granted, Handler, Leave, Release
from .process import Process
from .store import Keys, Load
from .tables import LOCK_HELD, LOCK_WAIT, EventRow

log = logging.getLogger(__name__)

TOLD = 1.0
"""Seconds that a refused request waits at most for the event that tells why."""
SLACK = 1.0
"""Seconds beyond the patience of a caller after which it is told that the store does not answer."""
UNNOTICED = 0.01
"""Seconds until a request of a session that died is made again: its death may not be noticed yet."""


class Leases:
    """The locks of one process."""

    def __init__(self, process: Process) -> None:
        self._process = process
        self._giving_back = GivingBack(process.line)
        self._waiting: dict[str, Waiter] = {}
        self._patient = 0
        """How many of these will wait; the others hear all from the line."""
        self._held: dict[str, tuple[Lease, Block]] = {}
        self._needed: dict[str, Lease] = {}
        """Leases that were left, and are held until their attempt ends, for a write of it names them."""
        self._ending: dict[str, Block] = {}
        """Blocks that run on though their lease is lost."""
        self._ended = asyncio.Event()
        self._handlers: dict[tuple[str, int], set[str]] = {}
        """By (task, attempt): the requests and leases of its handler that were not given back."""
        self._draining = False

    def __len__(self) -> int:
        return len(self._waiting) + len(self._held) + len(self._needed)

    # taking

    async def acquire(self, asked: Asked, block: Block) -> Lease:
        """Hold what is asked for. Its ``wait`` counts from here on: another session and room on the line are waited for within it.

        It ends `SLACK` later at the most, also when the store does not answer. One that does not wait at all hears what the store
        says, however long that takes, but waits for a session and for room no longer than `SLACK`.

        Raises: LockHeldError, DeadlockError, LeaseLostError, StaleClaimError, StoreError, ClosedError.
        """
        began = asyncio.get_running_loop().time()
        if not asked.wait:
            return await self._acquire(asked, block, began)
        try:
            async with asyncio.timeout_at(began + asked.wait + SLACK):
                return await self._acquire(asked, block, began)
        except TimeoutError:
            said = f"the store did not answer within {asked.wait + SLACK:g} s, so the lock was not taken: try again, or wait longer"
            raise StoreUnavailableError(said) from None

    async def _acquire(self, asked: Asked, block: Block, began: float) -> Lease:
        process, claim = self._process, asked.claim or self._claim()
        if (lease := self._taken_up(asked, claim)) is not None:
            self._held[lease.id] = lease, block
            return lease
        latest = None if asked.wait is None else began + max(asked.wait, SLACK)
        left = asked
        while True:
            if claim is None and self._draining:
                raise _closed()
            if process.line.is_full or (claim is None and process.is_being_reborn):
                await self._ready(claim is None, latest)
                left = asked.since(began)
                continue
            id = new_id("l")
            waiter = Waiter(id, id, asked.wants, process.session if claim is None else claim.session)
            try:
                return await self._ask(left, claim, waiter, block)
            except LeaseLostError:
                if claim is not None or waiter.waits or (latest is not None and asyncio.get_running_loop().time() >= latest):
                    raise
                process.check()
                await asyncio.sleep(UNNOTICED)  # the session was dead before it was asked: the next one is on its way
                left = asked.since(began)

    async def _ready(self, session: bool, latest: float | None) -> None:
        """Wait for a ``session``, where it is this process's that counts, and for room. Raises: LeaseLostError, StoreError."""
        process = self._process
        try:
            async with asyncio.timeout_at(latest):
                if session:
                    await process.reborn()
                await process.line.room()
        except TimeoutError:
            if session and process.is_being_reborn:
                raise LeaseLostError("this process lost its session, and has not got another in time: try again") from None
            raise StoreUnavailableError("the store cannot keep up, the line to it is full: try again with fewer at once") from None

    async def _ask(self, asked: Asked, claim: Claim | None, waiter: Waiter, block: Block) -> Lease:
        process, session, id = self._process, waiter.session, waiter.id
        task, attempt = (None, 0) if claim is None else (claim.task, claim.attempt)
        command = Acquire(id, session, asked.wants, asked.wait != 0, asked.priority, asked.owner, ENCLOSING.get(), task, attempt)
        if claim is not None:
            self._handlers.setdefault((claim.task, claim.attempt), set()).add(id)
        try:
            granted = await self._granted(locks.acquire, command, lock_queue.reads(asked.wants), waiter, asked.wait, locks.release)
            if session != process.session or not process.heart.trusted:
                self._give_back(id, session, asked.wants)
                raise LeaseLostError("the session was lost while the lock was granted: try again", lease=id)
        except BaseException:
            self._forget(id, claim)
            raise
        lease = Lease(self, granted, session, claim)
        self._held[id] = lease, block
        return lease

    def _taken_up(self, asked: Asked, claim: Claim | None) -> Lease | None:
        """The lease on just this that the same handler has left, and that is still held: it is its own again."""
        for lease in self._needed.values():
            if claim is not None and lease.claim == claim and lease.is_on(asked.wants):
                del self._needed[lease.id]
                lease.released = False
                return lease
        return None

    def _claim(self) -> Claim | None:
        handling = HANDLER.get()
        if handling is None or handling.process is not self._process:
            return None
        if (handling.task, handling.attempt) not in self._process.dispatcher.running:
            return None  # an `asyncio.Task` that outlived the handler which began it
        return Claim(self._process.session, handling.task, handling.attempt)

    async def convert(self, lease: Lease, mode: LockMode, wait: float | None) -> None:
        """See `Lease.convert`."""
        if lease.converting is not None:
            raise InvalidInputError(f"the lock on {', '.join(lease.paths)} is being converted already: wait for that first")
        within = tuple(dict.fromkeys((*lease.keys, *ENCLOSING.get())))
        waiter = Waiter(new_id("c"), lease.id, lease.wants(mode), lease.session)
        command = Convert(waiter.id, lease.id, lease.session, lease.stored_paths, mode.value, wait != 0, within)
        lease.converting = waiter.id
        try:
            granted = await self._granted(locks.convert, command, [Keys(LOCK_HELD, lease.keys)], waiter, wait, None)
        except LockHeldError:
            raise
        except BaseException:
            self._keep(lease, waiter)
            raise
        finally:
            lease.converting = None
        lease.grown(granted)

    def _keep(self, lease: Lease, waiter: Waiter) -> None:
        """A conversion that nobody waits for any more; if it was granted in the meantime, the lease knows."""

        def answered(done: asyncio.Future[Any]) -> None:
            answer = None if done.cancelled() or done.exception() is not None else done.result()
            if isinstance(answer, Granted) and answer.token > lease.token:
                lease.grown(answer._replace(wants=waiter.wants))

        self._giving_back.write(locks.give_up, _given_up(waiter)).add_done_callback(answered)

    async def _granted(
        self,
        rule: Rule[Any, Answer],
        command: Any,
        reads: Sequence[Load],
        waiter: Waiter,
        wait: float | None,
        undo: Rule[Any, Any] | None,
    ) -> Granted:
        """Put a request on the line, and wait; ``undo`` takes it back, also when it was granted, if its caller leaves before."""
        self._waiting[command.id] = waiter
        self._patient += wait != 0
        timer = asyncio.get_running_loop().call_later(wait, waiter.expire) if wait else None
        try:
            await waiter.hear(self._process.line.offer(rule, command, reads))
            if waiter.outcome is None:
                await self._give_up(waiter, wait or 0.0)
            if isinstance(waiter.outcome, CoordError):
                raise waiter.outcome
            assert waiter.outcome is not None
            return waiter.outcome
        except (asyncio.CancelledError, StoreError, LeaseLostError, ClosedError):
            if undo is not None:
                self._give_back(command.id, waiter.session, waiter.wants)
            raise
        finally:
            if timer is not None:
                timer.cancel()
            self._patient -= wait != 0
            del self._waiting[command.id]

    async def _give_up(self, waiter: Waiter, waited: float) -> None:
        """Its patience is over: it knows afterwards what became of it. Raises: StoreError, ClosedError."""
        answer = await asyncio.shield(self._process.line.offer(locks.give_up, _given_up(waiter), ()))
        if isinstance(answer, LockHeldError):
            waiter.settle(LockHeldError(f"{answer.message.partition(';')[0]}; waited {waited:g} s", **answer.facts, waited=waited))
        elif answer is not None:
            waiter.settle(answer._replace(wants=waiter.wants))
        elif waiter.outcome is None:  # refused, and not heard of yet
            waiter.expired = False
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(TOLD):
                    await waiter.news()
            waiter.settle(_gone())

    # giving back

    async def release(self, lease: Lease) -> None:
        """Give a lease back, and wait until that is written; whoever leaves now, it is. Raises: LeaseLostError, ClosedError."""
        lease.released = True
        told = self._process.feed.cursor  # a loss before this would be known
        if lease.is_needed and self._held.pop(lease.id, None) is not None:
            self._needed[lease.id] = lease
        else:
            self._drop(lease.id)
        if (converting := self._waiting.get(lease.converting or "")) is not None:
            converting.lose(LeaseLostError(f"{lease!r} was released while it was converted", lease=lease.id))
        if lease.id in self._needed:
            return
        command = Release(lease.id, lease.session, lease.stored_paths)
        try:
            found = await self._process.line.offer(locks.release, command, [Keys(LOCK_HELD, lease.keys)])
        except StoreError:
            found = await asyncio.shield(self._giving_back.write(locks.release, command))
            found = found or await was_given_back(self._process.feed, lease.id, told)  # only the answer was lost
        except asyncio.CancelledError:  # it may have been dropped from the line; given back twice does no harm
            self._giving_back.write(locks.release, command)
            raise
        if not found:
            lease.why = "it was gone when it was given back"
            lease.lost.set()
            raise LeaseLostError(lease.fate(), lease=lease.id)

    def left(self, lease: Lease) -> None:
        """The block of a lost lease has ended: if the session goes on all the same, nobody else would free it."""
        if self._ending.pop(lease.id, None) is not None:
            self._ended.set()
            if lease.session == self._process.session:
                self._giving_back.write(locks.release, Release(lease.id, lease.session, lease.stored_paths))

    def _give_back(self, id: str, session: str, wants: Iterable[Want]) -> None:
        self._giving_back.write(locks.release, Release(id, session, tuple(want.path for want in wants)))

    def stopped(self, session: str, task: str, attempt: int, released: Iterable[str] = ()) -> None:
        """A handler has stopped: what it left behind is free; ``released`` is so already, by the end of its attempt."""
        left = self._handlers.pop((task, attempt), None)
        if not left:
            return
        for id in left.intersection(released):
            self._needed.pop(id, None)
            if id not in self._held:
                left.discard(id)
        if not left:
            return
        for id in left:
            if (waiter := self._waiting.get(id)) is not None:
                waiter.lose(LeaseLostError("the handler that asked for this lock has ended", lease=id))
            self._lose(id, "its handler ended inside its block")
        self._giving_back.write(locks.stop, Handler(session, task, attempt))

    def _drop(self, id: str) -> tuple[Lease, Block] | None:
        found = self._held.pop(id, None)
        if found is not None:
            self._forget(id, found[0].claim)
        return found

    def _forget(self, id: str, claim: Claim | None) -> None:
        left = None if claim is None else self._handlers.get((claim.task, claim.attempt))
        if claim is not None and left is not None:
            left.discard(id)
            if not left:
                del self._handlers[claim.task, claim.attempt]

    async def evict(self, id: str, paths: Sequence[str]) -> int:
        """Take a lock from whoever holds it. Returns how many paths were freed."""
        return await self._process.line.put(locks.evict, Evict(id, tuple(map(lock_modes.stored, paths))))

    # what happened

    def happened(self, found: Sequence[EventRow]) -> None:
        """Events of resources: a grant to who waits here, a refusal, a loss. They may be of long ago, and told twice."""
        if not len(self):
            return
        for row in found:
            if not self._patient and row.kind == Kind.RESOURCE_LOCKED:
                continue
            data = bodies.decode(row.data or "{}")
            waiter = self._waiting.get(data.get("conversion") or data.get("lease") or data.get("victim"))
            if row.kind == Kind.RESOURCE_LOST:
                if waiter is not None:
                    waiter.lose(LeaseLostError(f"the lock on {row.subject!r} was taken away: try again", lease=data["lease"]))
                self._lose(data["lease"], "it was taken away")
            elif waiter is None:
                continue
            elif row.kind == Kind.RESOURCE_DEADLOCKED:
                waiter.settle(deadlock(data["cycle"]))
            elif row.kind == Kind.RESOURCE_LOCKED:
                waiter.settle(Granted(data["lease"], data["token"], waiter.wants, row.at))

    def missed(self, tries: int = 0) -> None:
        """Some of that was pruned unread: look at the rows themselves; again and again, until the store lets us."""
        if len(self):
            self._process.spawn(self._look(tries))

    async def _look(self, tries: int) -> None:
        leases = [*(lease for lease, _ in self._held.values()), *self._needed.values()]
        held = {key: lease for lease in leases for key in lease.keys}
        waiting = [waiter for waiter in self._waiting.values() if waiter.waits]
        try:
            rows, granted, places = await self._process.store.read(
                Keys(LOCK_HELD, list(held)),
                Keys(LOCK_HELD, [(waiter.wants[0].path, waiter.lease) for waiter in waiting]),
                Keys(LOCK_WAIT, [(waiter.wants[0].path, waiter.id) for waiter in waiting]),
            )
        except CoordError as error:
            wait = min(AGAIN * 2 ** min(tries, 6), LONGEST)
            log.warning("locks could not be looked at (%s): again in %.1f s", error.code, wait)
            asyncio.get_running_loop().call_later(wait, self.missed, tries + 1)
            return
        for lease, row in zip(held.values(), rows, strict=True):
            if row is None:
                self._lose(lease.id, "it was taken away")
        for waiter, row, place in zip(waiting, granted, places, strict=True):
            if row is not None and waiter.is_granted(row):
                waiter.settle(Granted(row.id, row.token, waiter.wants, row.since))
            elif place is None:
                waiter.settle(_gone())

    def lose_all(self, why: str = "its session is gone, or cannot be trusted any more") -> None:
        """The session is gone, or not to be trusted: every lease is lost, and nobody waits any more."""
        for id in [*self._held, *self._needed]:
            self._lose(id, why)
        for waiter in self._waiting.values():
            waiter.lose(LeaseLostError("the session was lost while it waited for a lock: try again"))

    def _lose(self, id: str, why: str) -> None:
        if (needed := self._needed.pop(id, None)) is not None:  # whatever names it is refused
            needed.why = why
            needed.lost.set()
        found = self._drop(id)
        if found is None:
            return
        lease, block = found
        if (converting := self._waiting.get(lease.converting or "")) is not None:
            converting.lose(
                LeaseLostError(f"the lock on {', '.join(lease.paths)} was lost while it was converted: {why}", lease=id)
            )
        lease.why = why
        lease.lost.set()
        self._ending[id] = block
        log.warning("the lock on %s was lost: %s", ", ".join(lease.paths), why)
        block.cancel()

    # the end

    def drain(self) -> None:
        """The process closes: who waits outside a handler is told, and nobody outside one gets a lock any more."""
        self._draining = True
        inside = self._of_handlers()
        for waiter in self._waiting.values():
            if waiter.lease not in inside:
                waiter.lose(_closed())

    def _of_handlers(self) -> set[str]:
        return {id for left in self._handlers.values() for id in left}

    async def leave(self, grace: float) -> bool:
        """Before a goodbye: end all blocks, and give back whatever this session holds.

        False when a block or a handler runs on: what it holds is kept until the lease of the session ends. Raises: StoreError.
        """
        for waiter in self._waiting.values():
            waiter.lose(_closed())
        stubborn = self._of_handlers()
        for id in [id for id in self._held if id not in stubborn]:
            self._lose(id, "the coordination was closed")
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(grace):
                while self._others():
                    self._ended.clear()
                    await self._ended.wait()
        if self._others() or stubborn & self._held.keys():
            log.warning("a block ignores that it was cancelled: its lock is kept until the session's lease ends")
            return False
        while await self._process.line.put(locks.leave, Leave(self._process.session)):
            pass
        return True

    def _others(self) -> list[Block]:
        """Blocks that still run, but for those that the caller itself is in."""
        return [block for block in self._ending.values() if block.runs_elsewhere]

    def end(self) -> None:
        """The process has ended: tell who waits, and who holds."""
        for waiter in self._waiting.values():
            waiter.lose(_closed())
        for id in list(self._held):
            self._lose(id, "the coordination was closed")


def _given_up(waiter: Waiter) -> GiveUp:
    return GiveUp(waiter.id, waiter.lease, waiter.session, waiter.paths)


def _closed() -> ClosedError:
    return ClosedError("the coordination was closed before you were granted the lock: open it again")


def _gone() -> LeaseLostError:
    return LeaseLostError("the place in the line for this lock is gone, and what was said of it could not be read: try again")
