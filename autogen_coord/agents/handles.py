"""What a caller holds of what it asked for: a task's handle, a provider's outcome."""

from __future__ import annotations

from collections.abc import Callable
from typing import Generic, Protocol, TypeVar

from ..core import inspect
from ..core.requests import checked_seconds
from ..errors import CoordError

T = TypeVar("T")
Out = TypeVar("Out")


class Coordinator(Protocol):
    """What a handle needs of its coordination."""

    async def _result(self, id: str, decode: Callable[[str], T], timeout: float | None) -> T: ...
    async def cancel(self, id: str) -> bool: ...
    async def task(self, id: str) -> inspect.TaskInfo: ...


class TaskHandle(Generic[Out]):
    """A submitted task: durable from the moment that you hold this."""

    def __init__(self, coord: Coordinator, id: str, decode: Callable[[str], Out]) -> None:
        self.id = id
        self._coord = coord
        self._decode = decode

    def __repr__(self) -> str:
        return f"TaskHandle({self.id})"

    async def result(self, timeout: float | None = None) -> Out:
        """Wait for the task and return its value. ``timeout`` (seconds) ends only the wait.

        Raises: TaskError's children; NoProviderError; CallTimeoutError; ClosedError; NotFoundError (never submitted, or pruned).
        """
        checked_seconds(timeout, "timeout")
        return await self._coord._result(self.id, self._decode, timeout)

    async def cancel(self) -> bool:
        """See `Coordination.cancel`."""
        return await self._coord.cancel(self.id)

    async def info(self) -> inspect.TaskInfo:
        """See `Coordination.task`."""
        return await self._coord.task(self.id)


class BroadcastOutcome(Generic[Out]):
    """What one provider made of a broadcast: ``value``, or ``error``."""

    def __init__(self, provider: str, value: Out | None, error: CoordError | None) -> None:
        self.provider = provider
        self.value = value
        self.error = error

    def __repr__(self) -> str:
        return f"BroadcastOutcome({self.provider!r}, {self.error if self.error is not None else self.value!r})"
