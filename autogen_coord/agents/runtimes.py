"""The runtime of a coordination: one that was given, or its own."""

from __future__ import annotations

from autogen_core import AgentRuntime, SingleThreadedAgentRuntime


class GivenRuntime:
    """A runtime that somebody else starts and stops."""

    def __init__(self, runtime: AgentRuntime) -> None:
        self.runtime = runtime

    def start(self) -> None:
        """Nothing: it may be started or not."""

    async def stop(self) -> None:
        """Nothing: who made it stops it."""


class OwnRuntime:
    """A runtime of our own: runs from `start` to `stop`, and is new after that."""

    def __init__(self) -> None:
        self.runtime = SingleThreadedAgentRuntime()
        self._running = False

    def start(self) -> None:
        """Let its agents send each other messages."""
        self.runtime.start()
        self._running = True

    async def stop(self) -> None:
        """End it, and close its agents."""
        if self._running:
            self._running = False
            stopped, self.runtime = self.runtime, SingleThreadedAgentRuntime()
            await stopped.close()
