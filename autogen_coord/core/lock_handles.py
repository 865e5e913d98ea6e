"""A lock's handles: the `Lease` that its holder has, and the `Block` that runs under it (``async with coord.lock(...)``)."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Coroutine
from contextvars import ContextVar
from types import TracebackType
from typing import TYPE_CHECKING, Any

from ..errors import CoordError, InvalidInputError, LeaseLostError
from . import lock_modes
from .lock_modes import LockMode, shown
from .lock_queue import Want
from .lock_requests import Asked, Claim
from .locks import Granted, Guard
from .requests import checked_seconds

if TYPE_CHECKING:
    from .leases import Leases

log = logging.getLogger(__name__)
Key = tuple[str, str]
ENCLOSING: ContextVar[tuple[Key, ...]] = ContextVar("autogen_coord_locks", default=())
"""The locks inside whose blocks this code runs, as (stored path, lease id)."""


class Lease:
    """A lock that is held, on one path or on several under one token.

    ``token`` is greater than that of any grant before: pass it to whatever the lock guards (`Fence`). ``lost`` is an event, set
    when the lock is not held any more though nobody gave it back: stop at once.
    """

    def __init__(self, leases: Leases, granted: Granted, session: str, claim: Claim | None) -> None:
        self.id = granted.id
        self.claim = claim
        """The task and attempt whose handler took it."""
        self.session = session
        self.token = granted.token
        self.since = granted.since
        """Epoch seconds of the store's clock."""
        self.lost = asyncio.Event()
        self.released = False
        self.is_needed = False
        """Whether a write that its handler has not committed names it: then the end of the attempt gives it back, not its block."""
        self.why = ""
        """Why it was lost."""
        self.converting: str | None = None
        """The request that would convert it."""
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
    def stored_paths(self) -> tuple[str, ...]:
        return tuple(self._wants)

    @property
    def keys(self) -> list[Key]:
        return [(path, self.id) for path in self._wants]

    @property
    def guard(self) -> Guard:
        """As a write of ours names it."""
        return Guard(self.id, self.session, self.token, self.stored_paths)

    def require(self) -> None:
        """Raises: LeaseLostError when it is known not to be held any more."""
        if self.lost.is_set():
            raise LeaseLostError(self.fate(), lease=self.id)
        if self.released:
            where = ", ".join(self.paths)
            raise LeaseLostError(f"the lock on {where} was released: what it guards may be another's", lease=self.id)

    def fate(self, when: str = "") -> str:
        """How it was lost, for people."""
        return f"the lock on {', '.join(self.paths)} was lost{when and ' '}{when}: {self.why}; what it guards may be another's"

    async def convert(self, mode: LockMode | str, *, wait: float | None = 0) -> None:
        """Hold at least ``mode`` on all its paths, under a new token; it keeps what it has while it waits, and if it must not.

        Raises: LockHeldError, DeadlockError (another converts as well), LeaseLostError, InvalidInputError, StoreError.
        """
        self.require()
        await self._leases.convert(self, LockMode.of(mode), checked_seconds(wait, "wait"))

    async def release(self) -> None:
        """Give it back; its block does so at its end. When this is cancelled, or the store is away, it is given back all the same.

        One that a write of ``ctx.state`` names is only marked: it is given back by the end of its attempt, with that write.

        Raises: LeaseLostError when it was not held any more, ClosedError.
        """
        self.require()
        await self._leases.release(self)

    def wants(self, mode: LockMode) -> tuple[Want, ...]:
        """What it would hold, converted."""
        return tuple(Want(path, lock_modes.combine(held, mode)) for path, held in self._wants.items())

    def is_on(self, wants: tuple[Want, ...]) -> bool:
        """Whether it holds just this."""
        return self._wants == {want.path: want.mode for want in wants}

    def grown(self, granted: Granted) -> None:
        """It was converted."""
        self.token, self.since = granted.token, granted.since
        self._wants = {want.path: want.mode for want in granted.wants}


class Block:
    """``async with coord.lock(...) as lease``: holds it while the block runs; a lost lease cancels it with LeaseLostError.

    What is cancelled is the `asyncio.Task` that entered it; for ``asyncio.wait_for(block.__aenter__(), ...)``, which on Python 3.11
    makes one for the entering alone, its caller. Where a wrapper makes one (``wait_for(stack.enter_async_context(block), ...)``)
    nobody knows whom to cancel: `Lease.lost` is set, and the block hears of it at its end. Bound the entering by ``wait=``, or by
    ``async with asyncio.timeout(...)``, and there is no such question.
    """

    def __init__(self, leases: Leases, asked: Asked) -> None:
        self._leases = leases
        self._asked = asked
        self._entering: Coroutine[Any, Any, Lease] | None = None
        self._lease: Lease | None = None
        self._task: asyncio.Task[Any] | None = None
        self._left = False
        self._cancelling = 0
        self._cancelled = False

    def __aenter__(self) -> Coroutine[Any, Any, Lease]:
        # no coroutine function: this part runs in the caller, whoever runs the rest
        if self._entering is not None:
            raise InvalidInputError("a lock's block was entered twice: call lock() for each")
        self._entering = entering = self._enter(_caller())
        return entering

    async def _enter(self, caller: asyncio.Task[Any] | None) -> Lease:
        lease = await self._leases.acquire(self._asked, self)
        # no await from here on: a lease that is held has a block that gives it back
        self._lease = lease
        task = asyncio.current_task()
        made_for_this = task is not None and task.get_coro() is self._entering
        self._task = caller if made_for_this else task
        self._cancelling = self._task.cancelling() if self._task is not None else 0
        ENCLOSING.set((*ENCLOSING.get(), *lease.keys))
        return lease

    def cancel(self) -> None:
        """The lease is lost: end the block. One that loses its lease by what it does itself goes on to its end."""
        if not self.runs_elsewhere:
            return
        if self._task is None or self._task.done():
            log.warning("a block cannot be cancelled: the asyncio.Task that entered it has ended; bound the entering by wait=")
            return
        self._cancelled = True
        self._task.cancel()

    @property
    def runs_elsewhere(self) -> bool:
        """Whether it was not left, as far as is known, and is not what asks."""
        if self._left or self._lease is None:
            return False
        if self._task is None or self._task.done():
            return self._lease.claim is None  # what a handler forgot is over with it
        return self._task is not asyncio.current_task()

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        lease, task, self._left = self._lease, self._task, True
        assert lease is not None
        ENCLOSING.set(tuple(key for key in ENCLOSING.get() if key[1] != lease.id))
        alone = self._cancelled and task is not None and task.uncancel() <= self._cancelling  # nobody else cancelled it as well
        if lease.lost.is_set():
            self._leases.left(lease)
            if kind is None or (alone and isinstance(error, asyncio.CancelledError)):
                raise LeaseLostError(lease.fate("while its block ran"), lease=lease.id) from error
        elif not lease.released:
            try:
                await self._leases.release(lease)
            except CoordError:
                if kind is None:
                    raise


def _caller() -> asyncio.Task[Any] | None:
    try:
        return asyncio.current_task()
    except RuntimeError:  # in another thread, which hands the entering to the loop
        return None
