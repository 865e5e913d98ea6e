"""What the agents do, as numbers: the job and its agents tell the `Board`, views look at it from their own threads."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

SETTLED = 1.0
"""Seconds after which answers count for the rate: what the store knows already comes in at once, and says nothing of the rest."""
RECENT = 10.0
"""Seconds over which the rate is measured."""
SILENT = 1.0
"""Seconds without an answer, while nothing runs here, that are worth a word."""
WAITING = "waiting for an answer (a killed run's tasks come back about 3 s after the start)"


class Pace:
    """Counts answers; tells how fast they come and how long the rest takes. Moments are of one monotonic clock."""

    def __init__(self, start: float) -> None:
        self.total = self.done = 0
        self.start = self._last = start
        self._recent: deque[float] = deque()

    def advance(self, now: float) -> None:
        self.done += 1
        self._last = now
        if now - self.start > SETTLED:
            self._recent.append(now)

    def rate(self, now: float) -> float | None:
        """Answers a second, None when it cannot be told yet."""
        begin = max(self.start + SETTLED, now - RECENT)
        while self._recent and self._recent[0] < begin:
            self._recent.popleft()
        return len(self._recent) / max(now - begin, 0.1) if self._recent else None

    def is_silent(self, now: float) -> bool:
        return self.done < self.total and now - self._last > SILENT

    def words(self, now: float, busy: bool = False) -> str:
        """``21/s, 5 s left``, or why that cannot be told. ``busy``: something runs here, so that a silence needs no word."""
        if self.is_silent(now) and not busy:
            return WAITING
        left, rate = self.total - self.done, self.rate(now)
        if rate is None:
            return "no rate yet" if left else "0 s left"
        return f"{rate:.0f}/s, {left / rate:.0f} s left"


@dataclass(frozen=True, slots=True)
class Row:
    """One agent and its tasks by state. ``waiting`` counts those that another process runs, too."""

    agent: str
    tool: str
    waiting: int
    running: int
    done: int
    failed: int


@dataclass(frozen=True, slots=True)
class Running:
    """One execution, for how many seconds."""

    agent: str
    path: str
    seconds: float


@dataclass(frozen=True, slots=True)
class Snapshot:
    """The board at one moment. ``running``: the longest first; ``pace``: rate and time left, in words; ``elapsed``: seconds."""

    rows: tuple[Row, ...]
    running: tuple[Running, ...]
    done: int
    total: int
    pace: str
    silent: bool
    elapsed: float


class _Counts:
    __slots__ = ("done", "expected", "failed", "running")

    def __init__(self) -> None:
        self.expected = self.running = self.done = self.failed = 0


class Board:
    """Counts tasks by agent and state. What it is told may come in any order; it may be looked at from any thread.

    ``clock``: monotonic seconds.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._pace = Pace(clock())
        self._agents: dict[str, _Counts] = {}
        self._tools: dict[str, str] = {}
        self._running: dict[object, tuple[str, str, float]] = {}

    def introduce(self, tools: Mapping[str, str]) -> None:
        """The agents, in the order in which they are shown, and what they work with."""
        with self._lock:
            for agent, tool in tools.items():
                self._counts(agent)
                self._tools[agent] = tool

    def expect(self, agent: str, tasks: int) -> None:
        """So many tasks more (or fewer, below 0)."""
        with self._lock:
            self._counts(agent).expected += tasks
            self._pace.total += tasks

    @contextmanager
    def running(self, agent: str, path: str) -> Iterator[None]:
        """An execution, while the block lasts."""
        mark = object()
        with self._lock:
            self._counts(agent).running += 1
            self._running[mark] = agent, path, self._clock()
        try:
            yield
        finally:
            with self._lock:
                self._counts(agent).running -= 1
                del self._running[mark]

    def settle(self, agent: str, failed: bool = False) -> None:
        """A task has its answer, or will have none."""
        with self._lock:
            counts = self._counts(agent)
            counts.failed += failed
            counts.done += not failed
            self._pace.advance(self._clock())

    def snapshot(self) -> Snapshot:
        with self._lock:
            now = self._clock()
            running = sorted(self._running.values(), key=lambda one: one[2])
            return Snapshot(
                tuple(self._row(agent, counts) for agent, counts in self._agents.items()),
                tuple(Running(agent, path, now - since) for agent, path, since in running),
                self._pace.done,
                self._pace.total,
                self._pace.words(now, bool(running)),
                self._pace.is_silent(now) and not running,
                now - self._pace.start,
            )

    def _counts(self, agent: str) -> _Counts:
        return self._agents.setdefault(agent, _Counts())

    def _row(self, agent: str, counts: _Counts) -> Row:
        # an execution that ended is running no more, and done only when its answer came back from the store
        waiting = max(0, counts.expected - counts.running - counts.done - counts.failed)
        return Row(agent, self._tools.get(agent, ""), waiting, counts.running, counts.done, counts.failed)
