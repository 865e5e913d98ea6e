"""How far the job is: a live line on a terminal, a plain line every few seconds elsewhere. Both go to standard error."""

from __future__ import annotations

import sys
import time
from types import TracebackType
from typing import Protocol, Self, TextIO

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, ProgressColumn, SpinnerColumn, Task, TextColumn, TimeRemainingColumn
from rich.progress import Progress as Bar
from rich.text import Text

PLAIN_EVERY = 2.0
"""Seconds between two plain lines."""


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


class _RateColumn(ProgressColumn):
    def render(self, task: Task) -> Text:
        return Text(f"{task.speed or 0:.0f}/s", style="progress.data.speed")


class LiveProgress:
    """rich's line: done of all, rate, time left."""

    def __init__(self, stream: TextIO) -> None:
        words = TextColumn("review"), BarColumn(), MofNCompleteColumn(), _RateColumn(), TimeRemainingColumn(), TextColumn("left")
        self._bar = Bar(SpinnerColumn(), *words, console=Console(file=stream), transient=True)
        self._line = self._bar.add_task("review", total=0)
        self._total = 0

    def __enter__(self) -> Self:
        self._bar.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._bar.stop()

    def expect(self, tasks: int) -> None:
        self._total += tasks
        self._bar.update(self._line, total=self._total)

    def advance(self) -> None:
        self._bar.advance(self._line)


class PlainProgress:
    """Lines such as ``review: 40 of 134 tasks, 21/s, 5 s left``."""

    def __init__(self, stream: TextIO, every: float = PLAIN_EVERY) -> None:
        self._stream, self._every = stream, every
        self._total = self._done = 0
        self._start = self._last = time.monotonic()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if kind is None:
            self._say(time.monotonic())

    def expect(self, tasks: int) -> None:
        self._total += tasks

    def advance(self) -> None:
        self._done += 1
        now = time.monotonic()
        if now - self._last >= self._every:
            self._last = now
            self._say(now)

    def _say(self, now: float) -> None:
        rate = self._done / max(now - self._start, 0.001)
        left = (self._total - self._done) / rate if rate else 0.0
        print(f"review: {self._done} of {self._total} tasks, {rate:.0f}/s, {left:.0f} s left", file=self._stream, flush=True)
