"""Leases: the locks that this process holds and waits for, and the blocks that run under them.

A lease is as good as its session. When that is declared dead, or can no longer be trusted, the lease is lost: `Lease.lost` is set
and its block is cancelled, before anybody else can be granted the lock.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping, Sequence
from contextvars import ContextVar
from types import TracebackType
from typing import Any

from ..errors import ClosedError, CoordError, DeadlockError, InvalidInputError, LeaseLostError, LockHeldError, StoreError
from . import bodies, lock_modes, locks
from .calls import HANDLER
from .commit import Rule
from .events import Kind
from .ids import new_id
from .lock_modes import LockMode, shown
from .lock_queue import Want
from .locks import Acquire, Answer, Convert, Deadlocked, Evict, Granted, Guard, Handler, Leave, Release
from .process import Process
from .requests import checked_name, checked_priority, checked_seconds
from .store import Keys
from .tables import LOCK_HELD, EventRow

log = logging.getLogger(__name__)

Key = tuple[str, str]
ENCLOSING: ContextVar[tuple[Key, ...]] = ContextVar("autogen_coord_locks", default=())
"""The locks inside whose blocks this code runs, as (stored path, lease id)."""
PATHS_MOST = 256
AGAIN = 0.1
"""Seconds until a release that could not be written is tried again, doubled each time, five at most."""


class Lease:
    """A lock that is held, on one path or on several under one token.

    ``token`` is greater than that of any grant before: pass it to whatever the lock guards (`Fence`). ``lost`` is an event, set
    when the lock is not held any more though nobody gave it back: stop at once.
    """

    def __init__(self, leases: Leases, granted: Granted, session: str, claim: tuple[str, int] | None) -> None:
        self.id = granted.id
        self.claim = claim
        """The task and attempt whose handler took it."""
        self.session = session
        self.token = granted.token
        self.since = granted.since
        self.lost = asyncio.Event()
        self.released = False
        self._leases = leases
        self._wants = {want.path: want.mode for want in granted.wants}

    def __repr__(self) -> str:
        return f"Lease({', '.join(self.paths)}, token={self.token}{', lost' if self.lost.is_set() else ''})"

    @property
    def paths(self) -> list[str]:
        return [shown(path) for path in self._wants]

    @property
    def path(self) -> str:
        """The path of a lease on one; the first of several."""
        return self.paths[0]

    @property
    def mode(self) -> LockMode:
        """What it may do with its first path."""
        return LockMode(next(iter(self._wants.values())))

    @property
    def keys(self) -> list[Key]:
        return [(path, self.id) for path in self._wants]

    @property
    def guard(self) -> Guard:
        """As a write of ours names it."""
        return Guard(self.id, self.session, self.token, tuple(self._wants))

    def require(self) -> None:
        """Raises: LeaseLostError when it is known not to be held any more."""
        if self.lost.is_set() or self.released:
            why = "was lost" if self.lost.is_set() else "was released"
            raise LeaseLostError(f"the lock on {', '.join(self.paths)} {why}: what it guards may be another's", lease=self.id)

    async def convert(self, mode: LockMode | str, *, wait: float | None = 0) -> None:
        """Hold at least ``mode`` on all its paths, under a new token; it keeps what it has while it waits, and if it must not.

        Raises: LockHeldError, DeadlockError (another converts as well), LeaseLostError.
        """
        self.require()
        await self._leases.convert(self, LockMode.of(mode), wait)

    async def release(self) -> None:
        """Give it back; its block does so at its end. Raises: LeaseLostError when it was not held any more, StoreError."""
        self.require()
        await self._leases.release(self)

    def grown(self, granted: Granted) -> None:
        """It was converted."""
        self.token, self.since = granted.token, granted.since
        self._wants = {want.path: want.mode for want in granted.wants}


class Waiter:
    """A request of this process on its way, or waiting in its place."""

    __slots__ = ("future", "session", "wants")

    def __init__(self, wants: tuple[Want, ...], session: str) -> None:
        self.wants = wants
        self.session = session
        self.future: asyncio.Future[Granted] = asyncio.get_running_loop().create_future()


class Leases:
    """The locks of one process."""

    def __init__(self, process: Process) -> None:
        self._process = process
        self._waiting: dict[str, Waiter] = {}
        self._held: dict[str, tuple[Lease, Block | None]] = {}
        self._handlers: dict[tuple[str, int], set[str]] = {}
        """By (task, attempt): the leases that its handler took and has not given back."""

    def __len__(self) -> int:
        return len(self._waiting) + len(self._held)

    # taking

    def block(
        self,
        paths: str | Sequence[str] | Mapping[str, LockMode | str],
        mode: LockMode | str,
        wait: float | None,
        owner: str | None,
        priority: float,
    ) -> Block:
        """See `Coordination.lock`. Raises: InvalidInputError."""
        checked_seconds(wait, "wait")
        return Block(self, wants_of(paths, mode), wait, checked_name(owner, "owner"), checked_priority(priority))

    async def acquire(self, wants: tuple[Want, ...], wait: float | None, owner: str | None, priority: float) -> Lease:
        """Raises: LockHeldError, DeadlockError, LeaseLostError, StaleClaimError, StoreError, ClosedError."""
        process = self._process
        handling = HANDLER.get()
        inside = handling if handling is not None and handling.process is process else None
        command = Acquire(
            new_id("l"), process.session, wants, wait != 0, priority, owner, ENCLOSING.get(),
            None if inside is None else inside.task, 0 if inside is None else inside.attempt,
        )  # fmt: skip
        await process.line.room()
        granted = await self._granted(command.id, wants, locks.acquire, command, wait, takes_back=True)
        lease = Lease(self, granted, command.session, None if inside is None else (inside.task, inside.attempt))
        self._held[lease.id] = lease, None
        if lease.claim is not None:
            self._handlers.setdefault(lease.claim, set()).add(lease.id)
        if command.session != process.session or not process.heart.trusted:
            self._lose(lease.id)
            raise LeaseLostError(f"the session died while {', '.join(lease.paths)} was granted: try again", lease=lease.id)
        return lease

    async def convert(self, lease: Lease, mode: LockMode, wait: float | None) -> None:
        """See `Lease.convert`."""
        paths = tuple(path for path, _ in lease.keys)
        wants = tuple(Want(path, lock_modes.combine(held, mode)) for path, held in lease._wants.items())
        command = Convert(lease.id, lease.session, paths, mode.value, wait != 0)
        lease.grown(await self._granted(lease.id, wants, locks.convert, command, wait, takes_back=False))

    async def _granted(
        self, id: str, wants: tuple[Want, ...], rule: Rule[Any, Answer], command: Any, wait: float | None, takes_back: bool
    ) -> Granted:
        waiter = Waiter(wants, command.session)
        answer = self._process.line.offer(rule, command, ())
        answer.add_done_callback(lambda done: self._answered(id, waiter, done))
        try:
            async with asyncio.timeout(wait or None):
                return await waiter.future
        except TimeoutError:
            return await self._too_late(id, waiter, wait or 0.0)
        except (asyncio.CancelledError, StoreError):
            self._forget(id, waiter, takes_back)
            raise
        finally:
            self._waiting.pop(id, None)

    def _answered(self, id: str, waiter: Waiter, done: asyncio.Future[Answer]) -> None:
        if waiter.future.done():
            return
        error = ClosedError("the coordination was closed") if done.cancelled() else done.exception()
        if error is not None:
            waiter.future.set_exception(error)
            return
        answer = done.result()
        if isinstance(answer, Granted):
            waiter.future.set_result(answer)
        elif isinstance(answer, Deadlocked):
            waiter.future.set_exception(_deadlock(answer.cycle))
        else:
            self._waiting[id] = waiter

    async def _too_late(self, id: str, waiter: Waiter, wait: float) -> Granted:
        paths = tuple(want.path for want in waiter.wants)
        command = Release(id, waiter.session, paths)
        asked = self._process.line.offer(locks.give_up, command, ())
        try:
            answer = await asyncio.shield(asked)
        except asyncio.CancelledError:
            self._forget(id, waiter, True)
            raise
        if isinstance(answer, Granted):
            return answer._replace(wants=waiter.wants)
        if answer is None:
            raise _deadlock(())
        raise LockHeldError(f"{answer.message.partition(';')[0]}; waited {wait:g} s", **answer.facts, waited=wait)

    def _forget(self, id: str, waiter: Waiter, takes_back: bool) -> None:
        """Its caller is gone: what it asked for is taken back, also when it was granted in the meantime."""
        rule: Rule[Any, Any] = locks.release if takes_back else locks.give_up
        self._write(rule, Release(id, waiter.session, tuple(want.path for want in waiter.wants)))

    # giving back

    async def release(self, lease: Lease) -> None:
        """Give a lease back, and wait until that is written; whoever leaves now, it is. Raises: LeaseLostError, ClosedError."""
        lease.released = True
        self._drop(lease.id)
        answer = self._write(locks.release, Release(lease.id, lease.session, tuple(path for path, _ in lease.keys)))
        if not await asyncio.shield(answer):
            lease.lost.set()
            raise LeaseLostError(f"the lock on {', '.join(lease.paths)} was lost before it was given back", lease=lease.id)

    def _write(self, rule: Rule[Any, Any], command: Any) -> asyncio.Future[Any]:
        """Put it on the line until the store takes it, or the session that held it is gone."""
        written: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        written.add_done_callback(lambda done: done.cancelled() or done.exception())
        self._try(rule, command, written, 0)
        return written

    def _try(self, rule: Rule[Any, Any], command: Any, written: asyncio.Future[Any], tries: int) -> None:
        def answered(done: asyncio.Future[Any]) -> None:
            error = ClosedError("the coordination was closed") if done.cancelled() else done.exception()
            if isinstance(error, StoreError):
                wait = min(AGAIN * 2 ** min(tries, 6), 5.0)
                log.warning("a lock could not be given back (%s): again in %.1f s", error.code, wait)
                asyncio.get_running_loop().call_later(wait, self._try, rule, command, written, tries + 1)
            elif written.done():
                return
            elif error is not None:
                written.set_exception(error)
            else:
                written.set_result(done.result())

        try:
            self._process.line.offer(rule, command, ()).add_done_callback(answered)
        except ClosedError as error:  # it returns with the session
            if not written.done():
                written.set_exception(error)

    async def leave(self) -> None:
        """Before a goodbye: give back whatever this session holds. Raises: StoreError."""
        while await self._process.line.put(locks.leave, Leave(self._process.session)):
            pass

    def stopped(self, session: str, task: str, attempt: int) -> None:
        """A handler has stopped: what it left behind is free."""
        if self._handlers.pop((task, attempt), None):
            self._write(locks.stop, Handler(session, task, attempt))

    def _drop(self, id: str) -> tuple[Lease, Block | None] | tuple[None, None]:
        lease, block = self._held.pop(id, (None, None))
        if lease is not None and lease.claim is not None:
            left = self._handlers.get(lease.claim, set())
            left.discard(id)
            if not left:
                self._handlers.pop(lease.claim, None)
        return (lease, block) if lease is not None else (None, None)

    async def evict(self, id: str, paths: Sequence[str]) -> int:
        """Take a lock from whoever holds it. Returns how many paths were freed."""
        return await self._process.line.put(locks.evict, Evict(id, tuple(map(lock_modes.stored, paths))))

    # what happened

    def happened(self, found: Sequence[EventRow]) -> None:
        """Events of resources: a grant to who waits here, a refusal, a loss."""
        if not len(self):
            return
        for row in found:
            data = bodies.decode(row.data or "{}")
            if row.kind == Kind.RESOURCE_LOCKED:
                waiter = self._waiting.get(data["lease"])
                if waiter is not None and not waiter.future.done():
                    waiter.future.set_result(Granted(data["lease"], data["token"], waiter.wants, row.at))
            elif row.kind == Kind.RESOURCE_DEADLOCKED:
                waiter = self._waiting.get(data["victim"])
                if waiter is not None and not waiter.future.done():
                    waiter.future.set_exception(_deadlock(data["cycle"]))
            elif row.kind == Kind.RESOURCE_LOST and row.session == self._process.session:
                self._lose(data["lease"])

    def missed(self) -> None:
        """Some of that was pruned unread: look at the rows themselves."""
        if len(self):
            self._process.spawn(self._look())

    async def _look(self) -> None:
        held = {key: lease for lease, _ in self._held.values() for key in lease.keys}
        waiting = {(waiter.wants[0].path, id): waiter for id, waiter in self._waiting.items()}
        try:
            rows, granted = await self._process.store.read(Keys(LOCK_HELD, list(held)), Keys(LOCK_HELD, list(waiting)))
        except CoordError as error:
            log.warning("locks could not be looked at: %s", error.code)
            return
        for (_, lease), row in zip(held.items(), rows, strict=True):
            if row is None:
                self._lose(lease.id)
        for ((_, id), waiter), row in zip(waiting.items(), granted, strict=True):
            if row is not None and not waiter.future.done():
                waiter.future.set_result(Granted(id, row.token, waiter.wants, row.since))

    def lose_all(self) -> None:
        """The session is gone, or not to be trusted: every lease is lost, and nobody waits any more."""
        for id in list(self._held):
            self._lose(id)
        error = LeaseLostError("the session was lost while it waited for a lock: try again")
        for waiter in self._waiting.values():
            if not waiter.future.done():
                waiter.future.set_exception(error)

    def _lose(self, id: str) -> None:
        lease, block = self._drop(id)
        if lease is None:
            return
        lease.lost.set()
        log.warning("the lock on %s was lost", ", ".join(lease.paths))
        if lease.session == self._process.session:  # not to be trusted, yet perhaps alive: then nobody else frees it
            self._write(locks.release, Release(lease.id, lease.session, tuple(path for path, _ in lease.keys)))
        if block is not None:
            block.cancel()

    def guards(self, lease: Lease, block: Block) -> None:
        """A block runs under this lease from now on."""
        if lease.id in self._held:
            self._held[lease.id] = lease, block

    def end(self, error: ClosedError) -> None:
        """The process has ended: tell who waits, and who holds."""
        for waiter in self._waiting.values():
            if not waiter.future.done():
                waiter.future.set_exception(error)
        for id in list(self._held):
            self._lose(id)


class Block:
    """``async with coord.lock(...) as lease``: holds it while the block runs; a lost lease cancels it with LeaseLostError."""

    def __init__(self, leases: Leases, wants: tuple[Want, ...], wait: float | None, owner: str | None, priority: float) -> None:
        self._leases = leases
        self._asked = wants, wait, owner, priority
        self._lease: Lease | None = None
        self._task: asyncio.Task[Any] | None = None
        self._cancelling = 0
        self._cancelled = False
        self._outer: tuple[Key, ...] = ()

    async def __aenter__(self) -> Lease:
        if self._lease is not None:
            raise InvalidInputError("a lock's block was entered twice: call lock() for each")
        lease = self._lease = await self._leases.acquire(*self._asked)
        self._task = asyncio.current_task()
        self._cancelling = self._task.cancelling() if self._task is not None else 0
        self._outer = ENCLOSING.get()
        ENCLOSING.set((*self._outer, *lease.keys))
        self._leases.guards(lease, self)
        return lease

    def cancel(self) -> None:
        """The lease is lost: end the block."""
        if self._task is not None and not self._task.done():
            self._cancelled = True
            self._task.cancel()

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        lease, task, self._task = self._lease, self._task, None
        assert lease is not None
        ENCLOSING.set(self._outer)
        if self._cancelled and task is not None and task.uncancel() <= self._cancelling and kind is asyncio.CancelledError:
            raise LeaseLostError(f"the lock on {', '.join(lease.paths)} was lost while its block ran", lease=lease.id) from error
        if lease.lost.is_set():
            if kind is None:
                raise LeaseLostError(f"the lock on {', '.join(lease.paths)} was lost while its block ran", lease=lease.id)
            return
        if lease.released:
            return
        try:
            await self._leases.release(lease)
        except CoordError:
            if kind is None:
                raise


def wants_of(paths: str | Sequence[str] | Mapping[str, LockMode | str], mode: LockMode | str) -> tuple[Want, ...]:
    """What is asked for, by stored path. Raises: InvalidInputError."""
    if isinstance(paths, Mapping):
        modes = {path: LockMode.of(one) for path, one in paths.items()}
    else:
        modes = dict.fromkeys([paths] if isinstance(paths, str) else paths, LockMode.of(mode))
    if not 0 < len(modes) <= PATHS_MOST:
        raise InvalidInputError(f"{len(modes)} paths: a lock takes 1 to {PATHS_MOST}; lock what lies above them")
    return tuple(sorted(Want(lock_modes.stored(path), one.value) for path, one in modes.items()))


def _deadlock(cycle: Sequence[str]) -> DeadlockError:
    path = " -> ".join(cycle) or "it was pruned before it could be read"
    return DeadlockError(f"waiting for this lock would never end: {path}; release what you hold, and try again", cycle=list(cycle))
