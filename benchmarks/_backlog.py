"""A store that has been used for long, written in bulk through the port: real rows, with counters and events that fit them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from autogen_coord.core import events, pools, queue
from autogen_coord.core.endings import FINISHED
from autogen_coord.core.events import Kind
from autogen_coord.core.ids import new_id
from autogen_coord.core.registry import ONLINE
from autogen_coord.core.sessions import LIVE
from autogen_coord.core.store import Store, Table
from autogen_coord.core.tables import (
    COUNTER,
    EVENT,
    OUTCOME,
    PROVIDER,
    QUEUE,
    SESSION,
    TASK,
    CounterRow,
    EventRow,
    OutcomeRow,
    ProviderRow,
    QueueRow,
    SessionRow,
    TaskKind,
    TaskRow,
    TaskState,
)
from autogen_coord.settings import Settings

Written = Iterator[tuple[Table[Any], Any]]

INPUT = '{"text":"a long text"}'
OUTPUT = '{"text":"a long tex"}'
YEAR = 365 * 86_400.0
OTHER_SESSION, OTHER_PROVIDER = "s-elsewhere", "p-elsewhere"
LANE = "taken"
STORY = (Kind.TASK_DELEGATED, Kind.TASK_ACCEPTED, Kind.TASK_STARTED, Kind.TASK_COMPLETED)
"""The events of a task that went well."""


@dataclass(frozen=True)
class Backlog:
    """How many tasks of each sort. ``ready``: in the pool of another provider; ``laned``: behind a task that runs for a year."""

    finished: int = 0
    delayed: int = 0
    ready: int = 0
    laned: int = 0
    open: int = 0
    """Ready for anybody."""

    @property
    def waiting(self) -> int:
        return self.delayed + self.ready + self.laned + self.open


async def fill(store: Store, backlog: Backlog, label: str, policy: Settings) -> int:
    """Write it to a store that holds nothing yet; returns how many rows. A provider elsewhere stays online for a year."""
    return await store.fill(_Rows(label, await store.now(), policy).of(backlog))


class _Rows:
    def __init__(self, label: str, now: float, policy: Settings) -> None:
        self._label = label
        self._now = now
        self._policy = policy
        self._event = 0
        self._finished = 0

    def of(self, backlog: Backlog) -> Written:
        yield from self._elsewhere()
        yield from self._of_finished(backlog.finished)
        for _ in range(backlog.delayed):
            yield from self._live(TaskState.DELAYED, self._label, ready_at=self._now + YEAR)
        for _ in range(backlog.ready):
            yield from self._live(TaskState.READY, pools.addressed(self._label, OTHER_PROVIDER), target=OTHER_PROVIDER)
        if backlog.laned:
            yield from self._live(TaskState.RUNNING, self._label, lane=LANE, place=queue.HOLDS)
        for _ in range(backlog.laned):
            yield from self._live(TaskState.WAITING, self._label, lane=LANE, place=queue.WAITS)
        for _ in range(backlog.open):
            yield from self._live(TaskState.READY, self._label)
        yield COUNTER, CounterRow(events.NUMBER, self._event)
        floor = max(0, self._event - self._policy.keep_count)
        if floor:
            yield COUNTER, CounterRow(events.FLOOR, floor)
        yield COUNTER, CounterRow(FINISHED, self._finished)

    def _elsewhere(self) -> Written:
        now = self._now
        yield SESSION, SessionRow(OTHER_SESSION, "process", "elsewhere:1", LIVE, now + YEAR, now, YEAR, now, None)
        yield PROVIDER, ProviderRow(
            OTHER_PROVIDER, OTHER_SESSION, OTHER_SESSION, self._label, "1", "function", None, None, ONLINE, 8, None, now,
        )  # fmt: skip

    def _of_finished(self, count: int) -> Written:
        # pruning keeps the newest events: only those are written, as in a store in its steady state
        first_kept = len(STORY) * count - self._policy.keep_count
        for number in range(count):
            id = new_id()
            at = self._now - 3600 + 3600 * number / count
            seq = self._event + 1
            for kind in STORY:
                self._event += 1
                if self._event > first_kept:
                    yield EVENT, EventRow(self._event, at, kind, id, OTHER_SESSION, f'{{"capability":"{self._label}"}}')
            yield TASK, self._task(id, seq, at)
            self._finished += 1
            yield OUTCOME, OutcomeRow(
                id, TaskState.SUCCEEDED, self._label, OUTPUT, None, None, 1, 0, 0, OTHER_SESSION, OTHER_PROVIDER, at, at,
            )  # fmt: skip

    def _live(
        self,
        state: TaskState,
        pool: str,
        *,
        ready_at: float | None = None,
        target: str | None = None,
        lane: str | None = None,
        place: int | None = None,
    ) -> Written:
        id = new_id()
        ready_at = self._now if ready_at is None else ready_at
        self._event += 1
        yield EVENT, EventRow(self._event, self._now, Kind.TASK_DELEGATED, id, OTHER_SESSION, f'{{"capability":"{self._label}"}}')
        yield TASK, self._task(id, self._event, ready_at, target, lane)
        running = state == TaskState.RUNNING
        row = QueueRow(
            id, self._event, self._label, state, pool, queue.rank_of(ready_at, 5.0, self._policy), lane, place, 5.0, ready_at,
            1 if running else 0, 0, 0, 0, OTHER_SESSION if running else None, OTHER_PROVIDER if running else None,
            self._now if running else None, None, None, YEAR if running else self._policy.timeout,
            None, None, None, None, 0, None, None,
        )  # fmt: skip
        yield QUEUE, row._replace(due=queue.due_of(row, self._policy))

    def _task(self, id: str, seq: int, at: float, target: str | None = None, lane: str | None = None) -> TaskRow:
        return TaskRow(
            id, seq, TaskKind.CALL, self._label, target, INPUT, None, "", None, 5.0, OTHER_SESSION, None, None, None, None,
            None, None, lane, None, at, None, None, self._policy.timeout, None, at, None,
        )  # fmt: skip
