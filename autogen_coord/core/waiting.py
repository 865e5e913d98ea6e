"""Who in this process waits for which task."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable

from .tables import OutcomeRow


class Wait:
    """One caller's wait for one task's outcome."""

    __slots__ = ("begun", "future", "label", "owned", "since", "stored", "task")

    def __init__(self, task: str, label: str, begun: float, owned: bool, future: asyncio.Future[OutcomeRow]) -> None:
        self.task = task
        self.label = label
        self.begun = begun
        self.since = begun
        """When a live provider was last known, or the wait's begin."""
        self.owned = owned
        self.stored = False
        """Whether the task is known to be in the store: before that, not to find it there means nothing."""
        self.future = future


class Waits:
    """All waits of the process, by task."""

    def __init__(self) -> None:
        self._by_task: dict[str, list[Wait]] = {}

    def __len__(self) -> int:
        return len(self._by_task)

    def __contains__(self, task: str) -> bool:
        return task in self._by_task

    def all(self) -> list[Wait]:
        return [wait for waits in self._by_task.values() for wait in waits]

    def stored(self) -> list[str]:
        """The tasks that are waited for and known to be stored."""
        return [task for task, waits in self._by_task.items() if any(wait.stored for wait in waits)]

    def add(self, task: str, label: str = "", owned: bool = False) -> Wait:
        loop = asyncio.get_running_loop()
        wait = Wait(task, label, loop.time(), owned, loop.create_future())
        self._by_task.setdefault(task, []).append(wait)
        return wait

    def move(self, wait: Wait, task: str) -> None:
        """It waits for another task from now on (the one that its key named)."""
        self.drop(wait)
        wait.task = task
        self._by_task.setdefault(task, []).append(wait)

    def drop(self, wait: Wait) -> None:
        waits = self._by_task.get(wait.task)
        if waits is not None and wait in waits:
            waits.remove(wait)
            if not waits:
                del self._by_task[wait.task]

    def resolve(self, outcomes: Iterable[OutcomeRow]) -> None:
        for outcome in outcomes:
            for wait in self._by_task.pop(outcome.id, ()):
                if not wait.future.done():
                    wait.future.set_result(outcome)

    def fail(self, wait: Wait, error: BaseException) -> None:
        self.drop(wait)
        if not wait.future.done():
            wait.future.set_exception(error)

    def fail_all(self, task: str, error: BaseException) -> None:
        for wait in list(self._by_task.get(task, ())):
            self.fail(wait, error)
