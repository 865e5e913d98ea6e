"""The line: the queue of one process's commands on their way to the store. Each batch is one transaction.

The line drains what has gathered, folds the commands in order through their rules, commits, and answers. While one batch is on its
way the next one gathers. A command that its rule refuses (a `CoordError`) changes no row and does not disturb its neighbours; a
driver error repeats the batch command by command, each in a transaction of its own, so that a poisoned one fails alone. An idle
line commits at once; a full one makes its callers wait.
"""

from __future__ import annotations

import asyncio
import copy
import logging
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

from ..errors import ClosedError, CoordError, StoreError, StoreUnavailableError
from ..settings import Settings
from .events import RESOURCES
from .store import Change, Keys, Load, NotLoaded, Range, Rows, Store, Transaction
from .tables import DOCUMENT, EVENT, OUTCOME, QUEUE, READY, SESSION, EventRow, OutcomeRow

log = logging.getLogger(__name__)

C = TypeVar("C")
A = TypeVar("A")
Rule = Callable[[Rows, C, float, Settings], A]
"""Pure: reads rows, writes rows, answers; ids and jitter are drawn by the caller; may run again from unchanged rows."""


@dataclass(slots=True)
class Committed:
    """What a batch did, told to listeners after its commit."""

    pools: set[str] = field(default_factory=set)
    """Pools that have a newly ready task."""
    outcomes: list[OutcomeRow] = field(default_factory=list)
    cancelling: list[str] = field(default_factory=list)
    """Running tasks that were asked to stop."""
    due: float | None = None
    """The earliest moment at which one of the written rows must be looked at again."""
    first_event: int = 0
    last_event: int = 0
    sessions: bool = False
    resources: list[EventRow] = field(default_factory=list)
    """What became of locks."""
    documents: list[tuple[str, int]] = field(default_factory=list)
    """Keys of documents that have a new version, and the numbers of its events."""


class Entry:
    """A command on the line, and the future of its answer."""

    __slots__ = ("command", "future", "reads", "rule")

    def __init__(self, rule: Rule[Any, Any], command: Any, future: asyncio.Future[Any], reads: Sequence[Load]) -> None:
        self.rule = rule
        self.command = command
        self.future = future
        self.reads = reads


class Line:
    """One process's only way to write. `run` is its loop; whoever made it runs and closes it."""

    def __init__(self, store: Store, policy: Settings, renew: Callable[[Rows, float], None] | None = None) -> None:
        self._store = store
        self._policy = policy
        self._renew = renew
        self._queue: deque[Entry] = deque()
        self._wake = asyncio.Event()
        self._room = asyncio.Event()
        self._room.set()
        self._closing = False
        self._stopped = False
        self._sources: list[Callable[[], Entry | None]] = []
        self._listeners: list[Callable[[Committed], None]] = []
        self._done = asyncio.Event()

    # for callers

    async def put(self, rule: Rule[C, A], command: C, reads: Sequence[Load] = ()) -> A:
        """Wait for a place, then for the commit, and return the rule's answer.

        Raises: what the rule refuses with; StoreError; ClosedError.
        """
        await self.room()
        future: asyncio.Future[A] = self.offer(rule, command, reads)
        return await future

    async def room(self) -> None:
        """Wait until the line has a place: backpressure for who brings new work."""
        while self.is_full:
            self._room.clear()
            await self._room.wait()

    def offer(self, rule: Rule[C, A], command: C, reads: Sequence[Load] = ()) -> asyncio.Future[A]:
        """Take a place now, full or not: for work whose number is bounded elsewhere. The future has the answer."""
        if self._stopped:
            raise ClosedError("the coordination is closed: open it again")
        future: asyncio.Future[A] = asyncio.get_running_loop().create_future()
        self._queue.append(Entry(rule, command, future, reads))
        self._wake.set()
        return future

    def entry(self, rule: Rule[C, A], command: C) -> Entry:
        """A command for a source to answer with."""
        return Entry(rule, command, asyncio.get_running_loop().create_future(), ())

    def wake(self) -> None:
        """Ask the sources at once, though no command came."""
        self._wake.set()

    def join(self, source: Callable[[], Entry | None]) -> None:
        """``source`` is asked before each batch for a command to end it with: so a claim goes along with the submits it is for."""
        self._sources.append(source)

    def listen(self, listener: Callable[[Committed], None]) -> None:
        """``listener`` is told of each commit, before the callers hear their answers."""
        self._listeners.append(listener)

    @property
    def is_full(self) -> bool:
        """Whether who brings new work would wait for a place."""
        return len(self._queue) >= self._policy.line_commands

    @property
    def waiting(self) -> int:
        return len(self._queue)

    # its loop

    async def run(self) -> None:
        """Commit batch after batch until `close`."""
        try:
            while True:
                await self._wake.wait()
                self._wake.clear()
                while batch := self._take():
                    await self._commit(batch)
                    await asyncio.sleep(0)  # who was answered may speak again before the next batch is drained
                if self._closing:
                    return
        finally:
            self._stopped = True
            self._fail(list(self._queue), ClosedError("the coordination was closed before this was written"))
            self._queue.clear()
            self._room.set()
            self._done.set()

    async def close(self) -> None:
        """Commit what has gathered, then stop."""
        self._closing = True
        self._wake.set()
        await self._done.wait()

    def _take(self) -> list[Entry]:
        queue, most = self._queue, self._policy.batch_commands
        batch: list[Entry] = []
        while queue and len(batch) < most:
            entry = queue.popleft()
            if not entry.future.cancelled():  # its caller has left before it was begun: nothing was promised
                batch.append(entry)
        if len(queue) < self._policy.line_commands:
            self._room.set()
        try:
            batch += [last for source in self._sources if (last := source()) is not None]
        except BaseException as error:
            self._break(batch, error)
            raise
        return batch

    async def _commit(self, batch: list[Entry]) -> None:
        try:
            await self._try(batch)
        except BaseException as error:
            self._break(batch, error)
            raise

    def _break(self, batch: list[Entry], error: BaseException) -> None:
        """Whatever it is, nobody waits for ever."""
        closed = ClosedError("the line broke, and it is not known what it wrote: open the coordination again")
        closed.__cause__ = error
        self._fail(batch, closed)

    async def _try(self, batch: list[Entry]) -> None:
        try:
            answers, committed = await self._store.transact(_Fold(batch, self._policy, self._renew), _reads(batch))
        except StoreUnavailableError as error:
            self._fail(batch, error)
        except StoreError as error:
            if len(batch) == 1:
                self._fail(batch, error)
                return
            log.warning("a batch of %d commands failed (%s): repeating them one by one", len(batch), error.code)
            for entry in batch:
                await self._commit([entry])
        except CoordError as error:
            self._fail(batch, error)
        else:
            self._queue.extendleft(reversed(batch[len(answers) :]))
            self._tell(committed)
            for entry, (value, refusal) in zip(batch, answers, strict=False):
                if entry.future.done():
                    continue
                if refusal is None:
                    entry.future.set_result(value)
                else:
                    entry.future.set_exception(refusal)

    def _tell(self, committed: Committed) -> None:
        for listener in self._listeners:
            listener(committed)

    @staticmethod
    def _fail(batch: list[Entry], error: Exception) -> None:
        for entry in batch:
            if not entry.future.done():
                own = copy.copy(error)  # each caller raises its own, with its own traceback
                own.__cause__ = error.__cause__
                entry.future.set_exception(own)


def _reads(batch: list[Entry]) -> list[Load]:
    """What the batch's commands said that they will read: the ranges, and one load of keys a table."""
    ranges: list[Load] = []
    wanted: dict[str, Keys[Any]] = {}
    for entry in batch:
        for load in entry.reads:
            if isinstance(load, Range):
                ranges.append(load)
                continue
            known = wanted.get(load.table.name)
            if known is None:
                wanted[load.table.name] = Keys(load.table, list(load.keys))
            else:
                known.keys.extend(load.keys)  # type: ignore[attr-defined]
    return [*ranges, *wanted.values()]


Answers = list[tuple[Any, Exception | None]]


class _Fold:
    """Folds a batch; runs in the store's thread, so it touches nothing but its rows and its commands."""

    def __init__(self, batch: list[Entry], policy: Settings, renew: Callable[[Rows, float], None] | None) -> None:
        self._batch = batch
        self._policy = policy
        self._renew = renew

    def __call__(self, rows: Transaction, now: float) -> tuple[Answers, Committed]:
        """Answers for the first commands of the batch (all of them, if the time bound allows)."""
        policy = self._policy
        answers: Answers = []
        missed = False
        until = time.monotonic() + policy.batch_seconds
        try:
            if self._renew is not None:
                self._renew(rows, now)
        except NotLoaded:
            missed = True
        for entry in self._batch:
            mark = rows.mark()
            try:
                answers.append((entry.rule(rows, entry.command, now, policy), None))
            except NotLoaded:
                missed = True
                rows.undo(mark)
            except StoreError:
                raise
            except Exception as error:
                rows.undo(mark)
                answers.append((None, error))
            if time.monotonic() > until:
                break
        if missed:
            raise NotLoaded
        return answers, committed(rows.changes())


def committed(changes: list[Change]) -> Committed:
    """What listeners must know of a transaction's changes."""
    out = Committed()
    pools, outcomes, due = out.pools, out.outcomes, out.due
    for table, old, new in changes:
        if table is QUEUE:
            if new is None:
                continue
            if new.state == READY:
                pools.add(new.pool)
            elif new.cancel_at is not None and (old is None or old.cancel_at is None):
                out.cancelling.append(new.id)
            if new.due is not None and (due is None or new.due < due):
                due = new.due
        elif table is OUTCOME:
            if new is not None:
                outcomes.append(new)
        elif table is EVENT:
            if new is not None:
                if not out.first_event:
                    out.first_event = new.number
                out.last_event = new.number
                if new.kind in RESOURCES:
                    out.resources.append(new)
        elif table is SESSION:
            out.sessions = True
        elif table is DOCUMENT and new is not None:
            out.documents.append((new.key, new.number))
    out.due = due
    return out
