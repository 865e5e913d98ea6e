"""The runner: one `asyncio.Task` per attempt, stopped when its time is up, reported once.

How an attempt ends: the handler returns (checked against the output's schema), raises, rejects, or is stopped: by its timeout (a
failure), the task's deadline (reported at once, the handler is stopped behind it), a cancellation, or because this process may no
longer trust its lease. A handler that ignores its cancellation is reported without it after a grace; its slot stays taken until it
really ends. What the store refuses as stale is dropped.
"""

from __future__ import annotations

import asyncio
import logging
import random
import traceback
from collections.abc import Awaitable, Callable
from enum import StrEnum
from typing import Any

from ..core import bodies, claims, effects
from ..core.calls import HANDLER, Handling
from ..core.claims import Claimed, Finish, GiveBack, Reject
from ..core.commit import Rule
from ..core.effects import FinishWith
from ..core.endings import Failure
from ..core.lock_handles import ENCLOSING
from ..core.process import Process
from ..core.retry import is_retried
from ..core.schemas import Schema
from ..core.tables import CANCELLED, EXPIRED, FAILED, SUCCEEDED
from ..errors import ClosedError, CoordError, InvalidOutputError, RejectedError, StaleClaimError, StoreError
from ..settings import MAX_SECONDS
from .context import ContextPort, TaskContext

log = logging.getLogger(__name__)


class Stop(StrEnum):
    """Why an attempt is stopped."""

    TIMEOUT = "timeout"
    DEADLINE = "deadline"
    CANCEL = "cancel"
    DISTRUST = "distrust"
    LOST = "lost"
    CLOSE = "close"


class Reported(Exception):
    """A handler's error that is known by its report only: its ``type`` (a class's name), ``text`` and ``traceback``."""

    def __init__(self, type: str, text: str, traceback: str) -> None:
        super().__init__(text)
        self.type = type
        self.text = text
        self.traceback = traceback


class Attempt:
    """One try of one task."""

    __slots__ = ("begun", "claimed", "context", "provider", "reported", "runs", "stop", "timer")

    def __init__(self, claimed: Claimed, provider: Provider, context: TaskContext) -> None:
        self.claimed = claimed
        self.provider = provider
        self.context = context
        self.runs: asyncio.Task[None] | None = None
        self.timer: asyncio.TimerHandle | None = None
        self.stop: Stop | None = None
        self.begun = False
        self.reported = False


class Provider:
    """What the runner calls: ``read`` makes the handler's input of what was claimed; ``output`` checks what it returns."""

    def __init__(
        self,
        label: str,
        read: Callable[[Claimed, TaskContext], Any],
        output: Schema[Any],
        handle: Callable[[Any, TaskContext], Awaitable[Any]],
    ) -> None:
        self.label = label
        self.read = read
        self.output = output
        self.handle = handle


class Runner:
    """All attempts of one process."""

    def __init__(self, process: Process, port: ContextPort) -> None:
        line, policy, dispatcher = process.line, process.policy, process.dispatcher
        self._process = process
        self._line = line
        self._policy = policy
        self._port = port
        self._dispatcher = dispatcher
        self._attempts: dict[str, Attempt] = {}
        self._older: set[Attempt] = set()
        """Attempts that ignore their end while their task runs here again."""
        self._idle = asyncio.Event()
        self._idle.set()

    def __contains__(self, task: str) -> bool:
        return task in self._attempts

    def tasks(self) -> list[str]:
        """The tasks that run."""
        return list(self._attempts)

    def _trusted(self) -> bool:
        return self._process.heart.trusted

    def __len__(self) -> int:
        return len(self._attempts) + len(self._older)

    def start(self, provider: Provider, claimed: Claimed) -> None:
        """Run an attempt that was just claimed."""
        row = claimed.row
        context = TaskContext(
            self._port, row.session or "", row.id, row.attempt, row.deadline, row.capability, claimed.task.sticky,
            Handling(self._process, row.id, row.attempt, row.capability),
        )  # fmt: skip
        attempt = Attempt(claimed, provider, context)
        if row.id in self._attempts:
            self._older.add(self._attempts[row.id])
        self._attempts[row.id] = attempt
        self._idle.clear()
        loop = asyncio.get_running_loop()
        left = row.timeout
        if row.deadline is not None:
            left = min(left, row.deadline - (row.started_at or 0.0))
        attempt.timer = loop.call_later(max(0.0, left), self._time_is_up, attempt)
        attempt.runs = loop.create_task(self._run(attempt), name=row.id)

    def cancel(self, task: str) -> None:
        """The task was cancelled: stop its handler."""
        attempt = self._attempts.get(task)
        if attempt is not None:
            self._halt(attempt, Stop.CANCEL)

    def superseded(self, task: str, attempt_number: int) -> None:
        """Somebody else ended the task: its handler works for nothing."""
        attempt = self._attempts.get(task)
        if attempt is not None and not attempt.reported and attempt.claimed.row.attempt <= attempt_number:
            attempt.reported = True
            self._halt(attempt, Stop.LOST)

    def stop_all(self, why: Stop) -> None:
        for attempt in list(self._attempts.values()):
            self._halt(attempt, why)

    async def idle(self, seconds: float) -> bool:
        """Wait until nothing runs; False when that took too long."""
        try:
            async with asyncio.timeout(seconds):
                await self._idle.wait()
        except TimeoutError:
            return False
        return True

    # one attempt

    async def _run(self, attempt: Attempt) -> None:
        attempt.begun = True
        report = None
        try:
            if attempt.stop is None and not self._trusted():
                attempt.stop = Stop.DISTRUST
            report = await self._handle(attempt) if attempt.stop is None else self._stopped(attempt)
        finally:
            row = attempt.claimed.row
            if attempt.timer is not None:
                attempt.timer.cancel()
            if self._attempts.get(row.id) is attempt:
                del self._attempts[row.id]
            self._older.discard(attempt)
            self._dispatcher.ended(row.id, row.attempt)
            report = None if attempt.reported else report
            if not _releases(report):
                self._port.leases.stopped(row.session or "", row.id, row.attempt)
            if not len(self):
                self._idle.set()
        if report is not None:
            attempt.reported = True
            self._report(*report)

    async def _handle(self, attempt: Attempt) -> tuple[Rule[Any, Any], Any] | None:
        provider, row = attempt.provider, attempt.claimed.row
        HANDLER.set(attempt.context.handling)
        ENCLOSING.set(())  # whoever began this `asyncio.Task` may be inside blocks of its own
        try:
            value = provider.read(attempt.claimed, attempt.context)
            result = await provider.handle(value, attempt.context)
            output = provider.output.encode(result, InvalidOutputError)
            bodies.check_size(output, self._policy.max_output, f"the output of {provider.label}")
        except asyncio.CancelledError:
            if attempt.stop is None:
                return self._failed(attempt, _failure(asyncio.CancelledError("the handler was cancelled from within")))
            return self._stopped(attempt)
        except RejectedError as error:
            return claims.reject, Reject(row.session or "", row.id, row.attempt, error.message)
        except KeyboardInterrupt:
            raise
        except BaseException as error:
            if attempt.stop is not None and attempt.stop != Stop.CANCEL:
                return self._stopped(attempt)
            return self._failed(attempt, _failure(error))
        finally:
            attempt.context.end()
        if attempt.stop == Stop.TIMEOUT:
            return self._stopped(attempt)
        return self._succeeded(attempt, output)

    def _succeeded(self, attempt: Attempt, output: str) -> tuple[Rule[Any, Any], Any]:
        row = attempt.claimed.row
        command = attempt.context.with_effects(
            Finish(row.session or "", row.id, row.attempt, SUCCEEDED, output, None, random.random())
        )
        return (effects.finish if isinstance(command, FinishWith) else claims.finish), command

    def _finish(self, attempt: Attempt, state: str) -> tuple[Rule[Any, Any], Any]:
        row = attempt.claimed.row
        return claims.finish, Finish(row.session or "", row.id, row.attempt, state)

    def _failed(self, attempt: Attempt, failure: Failure) -> tuple[Rule[Any, Any], Any]:
        row = attempt.claimed.row
        return claims.finish, Finish(row.session or "", row.id, row.attempt, FAILED, None, failure, random.random())

    def _stopped(self, attempt: Attempt) -> tuple[Rule[Any, Any], Any] | None:
        """What to report of an attempt that was stopped."""
        row = attempt.claimed.row
        match attempt.stop:
            case Stop.TIMEOUT:
                text = f"attempt {row.attempt} did not end within {row.timeout:g} s"
                return self._failed(attempt, Failure("timeout", "TimeoutError", text))
            case Stop.DEADLINE:
                return self._finish(attempt, EXPIRED)
            case Stop.CANCEL:
                return self._finish(attempt, CANCELLED)
            case Stop.LOST:
                return None
            case _:
                return claims.give_back, GiveBack(row.session or "", [(row.id, row.attempt)])

    def _time_is_up(self, attempt: Attempt) -> None:
        row = attempt.claimed.row
        ends = (row.started_at or 0.0) + row.timeout
        expired = row.deadline is not None and row.deadline <= ends
        self._halt(attempt, Stop.DEADLINE if expired else Stop.TIMEOUT)
        if expired and not attempt.reported:
            attempt.reported = True
            self._report(*self._finish(attempt, EXPIRED))

    def _halt(self, attempt: Attempt, why: Stop) -> None:
        if attempt.stop is not None and not (why == Stop.LOST and attempt.stop != Stop.LOST):
            return
        attempt.stop = why
        attempt.context.stop()
        if attempt.timer is not None:
            attempt.timer.cancel()
        if why != Stop.LOST:
            attempt.timer = asyncio.get_running_loop().call_later(self._policy.cancel_grace, self._abandon, attempt)
        if attempt.runs is not None and attempt.begun:  # one that was cancelled before its first step could not clean up
            attempt.runs.cancel()

    def _abandon(self, attempt: Attempt) -> None:
        """The grace is over and the handler still runs: report without it. Its slot stays taken until it ends."""
        row = attempt.claimed.row
        log.warning("the handler of %s ignores its cancellation; its slot stays taken", row.capability, extra={"task_id": row.id})
        if not attempt.reported:
            report = self._stopped(attempt)
            attempt.reported = True
            if report is not None:
                self._report(*report)

    # to the store

    def _report(self, rule: Rule[Any, Any], command: Any, tries: int = 0) -> None:
        def answered(future: asyncio.Future[Any]) -> None:
            if future.cancelled():
                return
            error = future.exception()
            if isinstance(error, StaleClaimError):
                log.info("a result was dropped: %s", error)
            elif isinstance(error, StoreError):
                # the result is kept and offered again, until the store takes it or the claim is lost
                wait = min(0.1 * 2 ** min(tries, 6), 5.0)
                log.warning("a result could not be written (%s): again in %.1f s", error.code, wait)
                asyncio.get_running_loop().call_later(wait, self._report, rule, command, tries + 1)
                return
            elif error is not None and not isinstance(error, ClosedError):
                log.error("a result was refused: %s", error)
            if isinstance(command, FinishWith) and command.releases:
                ended, gone = command.finish, command.releases if error is None else ()
                self._port.leases.stopped(ended.session, ended.task, ended.attempt, [release.id for release in gone])

        try:
            self._line.offer(rule, command, command.reads()).add_done_callback(answered)
        except ClosedError:
            log.warning("a result came after the close; its task will run again")


def _releases(report: tuple[Rule[Any, Any], Any] | None) -> bool:
    """Whether locks of the attempt are given back by what it reports: until that is answered, they are its own."""
    return report is not None and isinstance(report[1], FinishWith) and bool(report[1].releases)


def _failure(error: BaseException) -> Failure:
    if isinstance(error, Reported):
        return Failure("exception", error.type, error.text, error.traceback)
    code = error.code if isinstance(error, CoordError) else "exception"
    try:
        retry_after = getattr(error, "retry_after", None)
    except Exception:  # a property of the user's that fails
        retry_after = None
    if isinstance(retry_after, bool) or not isinstance(retry_after, int | float) or not 0 <= retry_after <= MAX_SECONDS:
        retry_after = None
    return Failure(code, type(error).__qualname__, _safe_text(error), "".join(_frames(error)), is_retried(error, code), retry_after)


def _safe_text(error: BaseException) -> str:
    try:
        return str(error)
    except Exception:
        return f"<{type(error).__name__} whose text cannot be read>"


def _frames(error: BaseException) -> list[str]:
    return traceback.format_exception(type(error), error, error.__traceback__, limit=-12) if _safe_text(error) is not None else []
