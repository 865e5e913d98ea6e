"""Calls: a task put on the line, and somebody here who waits for its outcome.

One future a call: the submit's own answer only matters when it is a refusal, or when the key named an earlier task.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import NamedTuple, TypeVar

from ..errors import CallTimeoutError, ClosedError, CoordError, NoProviderError
from . import inspect, tasks
from .outcomes import error_of, output_of
from .process import Process
from .store import Keys
from .tables import OUTCOME, QUEUE, RUNNING, TASK, OutcomeRow
from .tasks import Cancel, Submit, Submitted
from .waiting import Wait

log = logging.getLogger(__name__)
LOOK_AFTER = 0.05
"""Seconds after which a call is one that may wait for a provider."""
T = TypeVar("T")
Decode = Callable[[str], T]


class Handling(NamedTuple):
    """The handler that some code runs in: an attempt of this process."""

    process: Process
    task: str
    attempt: int
    capability: str = ""


HANDLER: ContextVar[Handling | None] = ContextVar("autogen_coord_handler", default=None)
"""Set while a handler runs: who waits for a task from inside one gives the handler's slot back meanwhile."""


@contextmanager
def inside(handling: Handling | None) -> Iterator[None]:
    """What is done here is done in that handler, whichever `asyncio.Task` does it."""
    before = HANDLER.get()
    if handling is None or handling is before:
        yield
        return
    HANDLER.set(handling)
    try:
        yield
    finally:
        if HANDLER.get() is handling:  # a coroutine that is thrown away may end in another's context
            HANDLER.set(before)


class Calls:
    """The calls of one process."""

    def __init__(self, process: Process) -> None:
        self._process = process

    def offer(self, command: Submit) -> asyncio.Future[Submitted]:
        """Put a task on the line; its pool is heated, so that the claim may go along."""
        process = self._process
        future = process.line.offer(tasks.submit, command, (Keys(TASK, (command.id,)),))
        process.dispatcher.heat((command.capability,))
        return future

    def post(self, command: Submit) -> Wait:
        """Put a task on the line, and wait for its outcome, not for its place."""
        waits = self._process.waits
        wait = waits.add(command.id, command.capability, owned=command.key is None)

        def stored(future: asyncio.Future[Submitted]) -> None:
            if future.cancelled():
                waits.fail(wait, ClosedError("the coordination was closed before the task was stored"))
            elif (error := future.exception()) is not None:
                waits.fail(wait, error)
            elif (answer := future.result()).created:
                wait.stored = True
            else:
                wait.stored = True
                waits.move(wait, answer.id)
                if answer.outcome is not None:
                    waits.resolve([answer.outcome])
                else:
                    self._process.spawn(self._look(wait))

        self.offer(command).add_done_callback(stored)
        return wait

    async def _look(self, wait: Wait) -> None:
        """The task was there before we waited for it: it may have ended in between."""
        waits = self._process.waits
        try:
            (rows,) = await self._process.store.read(Keys(OUTCOME, (wait.task,)))
            waits.resolve([row for row in rows if row is not None])
        except CoordError as error:
            waits.fail(wait, error)

    async def value(self, wait: Wait, decode: Decode[T], owned: bool) -> T:
        """Wait, and return the value. Cancelling the caller cancels the task where it is ``owned``: made for this call alone.

        Raises: TaskError's children, NoProviderError, ClosedError, and what the submit was refused with.
        """
        try:
            outcome = await self._outcome(wait)
        except asyncio.CancelledError:
            self._process.waits.drop(wait)
            if owned:
                self.cancel_soon(wait.task)
            raise
        return await self._decoded(outcome, decode)

    async def _outcome(self, wait: Wait) -> OutcomeRow:
        handling = HANDLER.get()
        if handling is None or handling.process is not self._process:
            return await wait.future
        dispatcher = self._process.dispatcher
        dispatcher.waits(handling.task, handling.attempt, wait)
        try:
            return await wait.future
        finally:
            dispatcher.goes_on(handling.task, handling.attempt, wait)

    async def result(self, id: str, decode: Decode[T], timeout: float | None) -> T:
        """The value of a task by its id; ``timeout`` (seconds) ends only the wait.

        Raises: what `value` raises; CallTimeoutError; NotFoundError.
        """
        process = self._process
        wait = process.waits.add(id)
        try:
            rows, known = await process.store.read(Keys(OUTCOME, (id,)), Keys(TASK, (id,)))
            if rows[0] is not None:
                return await self._decoded(rows[0], decode)
            if known[0] is None:
                raise inspect.not_found(process.store, id)
            wait.stored = True
            async with asyncio.timeout(timeout):
                outcome = await self._outcome(wait)
        except TimeoutError:
            raise CallTimeoutError(f"task {id} had not ended after {timeout} s; it goes on", task_id=id) from None
        finally:
            process.waits.drop(wait)
        return await self._decoded(outcome, decode)

    async def _decoded(self, outcome: OutcomeRow, decode: Decode[T]) -> T:
        error = error_of(outcome)
        if error is not None:
            raise error
        return decode(outcome.output if outcome.output is not None else await output_of(outcome, self._process.store))

    def cancel_soon(self, id: str) -> None:
        """Cancel a task that nobody here waits for any more."""
        try:
            future = self._process.line.offer(tasks.cancel, Cancel(id))
        except ClosedError:
            log.debug("closed: the task %s goes on without its caller", id)
        else:
            future.add_done_callback(lambda done: done.cancelled() or done.exception())

    async def mind(self) -> None:
        """End calls whose capability has had no live provider for too long; a loop of the process."""
        patience = self._process.policy.no_provider_wait
        while True:
            await asyncio.sleep(max(0.05, min(1.0, patience / 4)))
            try:
                await self._end_hopeless(asyncio.get_running_loop().time())
            except CoordError as error:
                log.warning("calls could not be minded: %s", error.code)

    async def _end_hopeless(self, now: float) -> None:
        process = self._process
        before = now - process.policy.no_provider_wait
        # only who has waited for a while is looked at: most calls end at once
        open_waits = [wait for wait in process.waits.all() if wait.label and wait.begun <= now - LOOK_AFTER]
        for label in {wait.label for wait in open_waits}:
            waiting = [wait for wait in open_waits if wait.label == label]
            if await inspect.live_providers(process.store, label):
                for wait in waiting:
                    wait.since = now
                continue
            waiting = await self._not_begun([wait for wait in waiting if wait.since <= before])
            error = NoProviderError(
                f"nobody has provided {label!r} for {process.policy.no_provider_wait:g} s: start a process that does, "
                "or use submit(), which waits",
                capability=label,
                near=[],
            )
            for wait in waiting:
                if wait.owned:
                    self.cancel_soon(wait.task)
                process.waits.fail(wait, error)

    async def _not_begun(self, waits: list[Wait]) -> list[Wait]:
        """Those whose task does not run: what runs goes on, though its provider takes nothing new."""
        if not waits:
            return []
        (rows,) = await self._process.store.read(Keys(QUEUE, [wait.task for wait in waits]))
        return [wait for wait, row in zip(waits, rows, strict=True) if row is not None and row.state != RUNNING]
