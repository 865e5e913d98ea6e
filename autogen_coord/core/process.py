"""One process on one store: the line, the lease, the dispatcher, the feed and the housekeeper, started and stopped together.

Order of stopping: no new claims, drain to a deadline, cancel, give claims back, say goodbye, close. Whatever ends a loop ends them
all, and everybody who waits is told.
"""

from __future__ import annotations

import asyncio
import logging
import os
import socket
from collections.abc import Awaitable, Callable, Coroutine, Sequence

from ..errors import ClosedError, ConfigError, CoordError, LeaseLostError, NotFoundError, StoreError
from ..settings import Settings
from . import sessions
from .beating import Heart
from .clock import boottime
from .commit import Line
from .dispatch import Dispatcher
from .feed import Feed
from .housekeeping import Housekeeper
from .ids import new_id
from .sessions import CloseSession, OpenSession
from .store import Store
from .tables import EventRow, OutcomeRow
from .waiting import Waits

log = logging.getLogger(__name__)

LAST = 1 << 62
"""As an attempt: whichever runs."""


class Hooks:
    """What the process asks of whoever runs handlers on it; replaced by the owner."""

    def __init__(self) -> None:
        self.runs: Callable[[str], bool] = lambda task: False
        self.running: Callable[[], list[str]] = list
        self.busy: Callable[[], bool] = lambda: False
        self.cancel: Callable[[str], None] = lambda task: None
        self.superseded: Callable[[str, int], None] = lambda task, attempt: None
        self.lost: Callable[[], None] = lambda: None
        self.distrusted: Callable[[], None] = lambda: None
        self.announce: Callable[[str], Awaitable[None]] = _nothing
        self.resources: Callable[[Sequence[EventRow]], None] = lambda found: None
        self.missed: Callable[[], None] = lambda: None
        self.ended: Callable[[ClosedError], None] = lambda error: None


async def _nothing(session: str) -> None:
    return None


class Process:
    """One session's machinery on a store."""

    def __init__(self, store: Store, policy: Settings, kind: str = "process") -> None:
        self.store = store
        self.policy = policy
        self.kind = kind
        self.session = ""
        self.waits = Waits()
        self.hooks = Hooks()
        self.heart = Heart(store, policy, self._lost, self._distrusted, self._trusted)
        self.line = Line(store, policy, self.heart.renew)
        self.line.listen(self.heart.committed)
        self.dispatcher = Dispatcher(self.line, policy, self._lost)
        self.housekeeper = Housekeeper(store, self.line, policy)
        self.feed = Feed(
            store,
            wanted=lambda: bool(self.waits) or self.feed.followers > 0 or self.hooks.busy() or self.dispatcher.idle_slots,
            watched=lambda task: task in self.waits or self.hooks.runs(task),
            all_watched=lambda: [*self.waits.stored(), *self.hooks.running()],
            vanished=self._vanished,
            outcomes=self._ended,
            cancelling=lambda task: self.hooks.cancel(task),
            looks=self.dispatcher.looks,
            found=self.dispatcher.seen,
            resources=lambda found: self.hooks.resources(found),
            missed=lambda: self.hooks.missed(),
            elsewhere=self.housekeeper.elsewhere,
        )
        self.line.listen(self.feed.committed)
        self._stop = asyncio.Event()
        self._group: asyncio.TaskGroup | None = None
        self._reborn: asyncio.Task[None] | None = None
        self._dead = ""
        """The session that was declared dead last."""
        self._loops: list[asyncio.Task[None]] = []
        """The line first."""
        self._life: asyncio.Task[None] | None = None
        self._failure: BaseException | None = None
        self._pid = os.getpid()
        self._loop = asyncio.get_running_loop()

    async def start(self, *more: Callable[[], Coroutine[None, None, None]]) -> None:
        """Open a session and start the loops, and ``more`` of them."""
        await self.feed.start()
        started: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._life = asyncio.create_task(self._live(started, more), name="autogen-coord")
        try:
            await started
            await self._open_session()
            self.dispatcher.start(self.session)
        except BaseException:
            await self._end_loops()
            raise

    async def _open_session(self) -> None:
        id, sent = new_id("s"), boottime()
        address = f"{socket.gethostname()}:{os.getpid()}"
        await self.line.put(sessions.open_session, OpenSession(id, self.kind, address))
        self.session = self.housekeeper.session = id
        self.heart.start(id, sent)

    async def _live(self, started: asyncio.Future[None], more: Sequence[Callable[[], Coroutine[None, None, None]]]) -> None:
        try:
            async with asyncio.TaskGroup() as group:
                self._group = group
                self._loops = [
                    group.create_task(loop, name=name)
                    for name, loop in (
                        ("line", self.line.run()),
                        ("feed", self.feed.run()),
                        ("timers", self.housekeeper.turn_the_clock()),
                        ("sessions", self.housekeeper.mind_sessions()),
                        ("pruning", self.housekeeper.prune()),
                        ("trust", self.heart.watch()),
                    )
                ]
                self._loops += [group.create_task(loop()) for loop in more]
                started.set_result(None)
                await self._stop.wait()
                for loop in self._loops:
                    loop.cancel()
                if self._reborn is not None:
                    self._reborn.cancel()
        except BaseExceptionGroup as group_error:
            self._failure = group_error.exceptions[0]
            log.exception("a loop of the coordination failed: everything stops", exc_info=self._failure)
        finally:
            self._group = None
            if not self._stop.is_set():  # a loop failed: who cannot report must not hold a lease, nor work on
                self.dispatcher.stop()
                self.heart.release()
                self.hooks.lost()
            error = ClosedError("the coordination was closed while you waited; the task goes on in the store")
            error.__cause__ = self._failure
            for wait in self.waits.all():
                self.waits.fail(wait, error)
            self.hooks.ended(error)
            self.feed.end()

    def spawn(self, work: Coroutine[None, None, None]) -> None:
        """Do something beside, for as long as the process lives."""
        try:
            if self._group is None:
                raise RuntimeError("closed")
            self._group.create_task(work)
        except RuntimeError:  # closed, or a loop failed and the group is shutting down: who waits is told by that
            work.close()

    @property
    def is_being_reborn(self) -> bool:
        """Whether its session is lost and has no successor yet."""
        return self._reborn is not None and not self._reborn.done()

    async def reborn(self) -> None:
        """Wait until a lost session has its successor."""
        if self._reborn is not None:
            await asyncio.wait([self._reborn])

    def check(self) -> None:
        """Raises: ClosedError when it is not running, ConfigError in the child of a fork and on another event loop."""
        if os.getpid() != self._pid:
            raise ConfigError("the coordination was opened before a fork, its loops run in the parent: open one in the child")
        if asyncio._get_running_loop() not in (None, self._loop):
            raise ConfigError("the coordination belongs to another event loop: open one in this thread's loop")
        if self._group is None or self._stop.is_set():
            raise ClosedError("the coordination is not open: use it inside `async with Coordination.open(...)`") from self._failure

    async def stop(self, goodbye: bool = True) -> None:
        """End the loops, after a ``goodbye``: only who holds nothing any more may say it."""
        try:
            if goodbye and self._group is not None and self.session:
                self.heart.release()
                async with asyncio.timeout(self.policy.store_wait):
                    await self.line.put(sessions.close_session, CloseSession(self.session))
        except (CoordError, TimeoutError) as error:
            log.warning("no goodbye could be said (%s): the session ends with its lease", type(error).__name__)
        finally:
            await self._end_loops()

    async def _end_loops(self) -> None:
        await self.heart.stop()
        for loop in self._loops[1:]:  # before the line: they would find it closed
            loop.cancel()
        if self._group is not None:
            try:
                async with asyncio.timeout(self.policy.store_wait):
                    await self.line.close()
            except TimeoutError:
                log.warning("the line could not be emptied in time")
        self._stop.set()
        if self._life is not None:
            await asyncio.wait([self._life])

    # what happened

    def _ended(self, outcomes: list[OutcomeRow]) -> None:
        self.waits.resolve(outcomes)
        for outcome in outcomes:
            if self.hooks.runs(outcome.id):
                self.hooks.superseded(outcome.id, outcome.attempt)

    def _vanished(self, task: str) -> None:
        self.hooks.superseded(task, LAST)
        self.waits.fail_all(task, NotFoundError(f"task {task} ended, and was pruned before its end was read here", task_id=task))

    def _distrusted(self) -> None:
        log.warning("session %s could not renew its lease in time: its handlers are stopped", self.session)
        self.dispatcher.stop()
        self.hooks.distrusted()

    def _trusted(self) -> None:
        log.info("session %s renewed its lease late; nobody had declared it dead", self.session)
        if not self._stop.is_set() and not self.is_being_reborn:  # a new session starts it when all is announced under it
            self.dispatcher.start(self.session)

    def _lost(self, session: str) -> None:
        """This session was declared dead, and this process lives: it takes a new one."""
        if session != self.session or self._group is None:
            return
        self._dead = session
        if self.is_being_reborn:
            return
        log.warning("session %s was declared dead: taking a new one", session)
        self.dispatcher.stop()
        self.hooks.lost()
        self._reborn = self._group.create_task(self._be_reborn(), name="rebirth")

    async def _be_reborn(self) -> None:
        while True:
            try:
                await self._open_session()
                await self.hooks.announce(self.session)
            except (StoreError, LeaseLostError) as error:
                log.warning("no new session yet: %s; trying again", error.code)
                self.dispatcher.stop()
                self.hooks.lost()
                await asyncio.sleep(0.5)
                continue
            except ConfigError as error:
                log.error("the new session does not provide all: %s", error)
            if self._dead != self.session:
                self.dispatcher.start(self.session)
                return
            self.hooks.lost()  # the new one died while it was announced: that is told once
