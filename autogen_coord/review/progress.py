"""How far the job is: a live line on a terminal, a plain line every few seconds elsewhere. Both go to standard error."""

from __future__ import annotations

import sys
import threading
import time
from collections import deque
from types import TracebackType
from typing import Protocol, Self, TextIO

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, ProgressColumn, SpinnerColumn, Task, TextColumn
from rich.progress import Progress as Bar
from rich.text import Text

PLAIN_EVERY = 2.0
"""Seconds between two plain lines."""
SETTLED = 1.0
"""Seconds after which answers count for the rate: what the store knows already comes in at once, and says nothing of the rest."""
RECENT = 10.0
"""Seconds over which the rate is measured."""
SILENT = 1.0
"""Seconds without an answer that are worth a word."""
WAITING = "waiting for an answer (a killed run's tasks come back about 3 s after the start)"


class Progress(Protocol):
    """Opened by the caller; `expect` and `advance` may come in any order."""

    def __enter__(self) -> Self: ...
    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None: ...
    def expect(self, tasks: int) -> None: ...
    def advance(self) -> None: ...


def progress_on(stream: TextIO | None = None) -> Progress:
    """The kind that fits the stream (standard error when None)."""
    out = stream or sys.stderr
    return LiveProgress(out) if out.isatty() else PlainProgress(out)


class Pace:
    """Counts answers; tells how fast they come and how long the rest takes. Moments are of one monotonic clock."""

    def __init__(self, start: float) -> None:
        self.total = self.done = 0
        self._start = self._last = start
        self._recent: deque[float] = deque()

    def advance(self, now: float) -> None:
        self.done += 1
        self._last = now
        if now - self._start > SETTLED:
            self._recent.append(now)

    def rate(self, now: float) -> float | None:
        """Answers a second, None when it cannot be told yet."""
        begin = max(self._start + SETTLED, now - RECENT)
        while self._recent and self._recent[0] < begin:
            self._recent.popleft()
        return len(self._recent) / max(now - begin, 0.1) if self._recent else None

    def is_silent(self, now: float) -> bool:
        return self.done < self.total and now - self._last > SILENT

    def words(self, now: float) -> str:
        """``21/s, 5 s left``, or why that cannot be told."""
        if self.is_silent(now):
            return WAITING
        left, rate = self.total - self.done, self.rate(now)
        if rate is None:
            return "no rate yet" if left else "0 s left"
        return f"{rate:.0f}/s, {left / rate:.0f} s left"


class _PaceColumn(ProgressColumn):
    def __init__(self, pace: Pace) -> None:
        super().__init__()
        self._pace = pace

    def render(self, task: Task) -> Text:
        return Text(self._pace.words(time.monotonic()), style="progress.data.speed")


class LiveProgress:
    """rich's line: done of all, rate, time left."""

    def __init__(self, stream: TextIO) -> None:
        self._pace = Pace(time.monotonic())
        words = TextColumn("review"), BarColumn(), MofNCompleteColumn(), _PaceColumn(self._pace)
        self._bar = Bar(SpinnerColumn(), *words, console=Console(file=stream), transient=True)
        self._line = self._bar.add_task("review", total=0)

    def __enter__(self) -> Self:
        self._bar.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._bar.stop()

    def expect(self, tasks: int) -> None:
        self._pace.total += tasks
        self._bar.update(self._line, total=self._pace.total)

    def advance(self) -> None:
        self._pace.advance(time.monotonic())
        self._bar.advance(self._line)


class PlainProgress:
    """Lines such as ``review: 40 of 134 tasks, 21/s, 5 s left``; and one when answers stay away, which a thread looks for."""

    def __init__(self, stream: TextIO, every: float = PLAIN_EVERY) -> None:
        self._stream, self._every = stream, every
        start = time.monotonic()
        self._pace, self._last, self._said_at = Pace(start), start, -1
        self._closed = threading.Event()
        self._looking = threading.Thread(target=self._look, name="review-progress", daemon=True)

    def __enter__(self) -> Self:
        self._looking.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._closed.set()
        self._looking.join()
        if kind is None:
            self._say(time.monotonic())

    def expect(self, tasks: int) -> None:
        self._pace.total += tasks

    def advance(self) -> None:
        now = time.monotonic()
        self._pace.advance(now)
        if now - self._last >= self._every:
            self._last = now
            self._say(now)

    def _look(self) -> None:
        """Says once of each silence that it is one."""
        while not self._closed.wait(SILENT / 4):
            now = time.monotonic()
            if self._pace.is_silent(now) and self._said_at != self._pace.done:
                self._said_at = self._pace.done
                self._say(now)

    def _say(self, now: float) -> None:
        done = f"review: {self._pace.done} of {self._pace.total} tasks"
        print(f"{done}, {self._pace.words(now)}", file=self._stream, flush=True)
