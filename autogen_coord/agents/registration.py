"""Who is registered on which runtime: what AutoGen's own ``register`` leaves for any `Coordination` on it, before or after.

A runtime does not tell whom it knows, so `CapabilityAgent.register` notes it here. Notes are gone with their runtime.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING
from weakref import WeakKeyDictionary

from autogen_core import AgentRuntime

from .terms import Terms

if TYPE_CHECKING:
    from .agent import CapabilityAgent
    from .agent_states import AgentStates


@dataclass(frozen=True, slots=True)
class Registration:
    """An agent type on a runtime; ``key`` is set when one instance was registered, not a factory."""

    agent_type: str
    agent_class: type[CapabilityAgent]
    key: str | None = None


Listener = Callable[[Registration], Awaitable[None]]


@dataclass(slots=True)
class Registrations:
    """What is registered on one runtime, and who wants to hear of more."""

    known: list[Registration] = field(default_factory=list)
    terms: dict[str, Terms] = field(default_factory=dict)
    """By agent type, where `Coordination.provide` registered it: how every coordination on the runtime provides it."""
    listeners: list[Listener] = field(default_factory=list)
    keepers: list[AgentStates] = field(default_factory=list)
    """Where the states of its agents are kept: one for each coordination that is open on it."""

    @property
    def states(self) -> AgentStates | None:
        """Where an agent's state is read from: the store of the coordination that was opened first."""
        return self.keepers[0] if self.keepers else None

    def keys_of(self, agent_type: str) -> list[str]:
        """The keys under which instances of a type were registered, in that order."""
        return [one.key for one in self.known if one.agent_type == agent_type and one.key is not None]

    def of_class(self, agent_type: str, agent_class: type[CapabilityAgent]) -> Registration | None:
        """The note of a type whose factory makes agents of this class."""
        wanted = Registration(agent_type, agent_class)
        return wanted if wanted in self.known else None

    async def add(self, registration: Registration) -> None:
        """Note a registration and tell it to all. Raises: what a listener raises (ConfigError: the capability is taken)."""
        self.known.append(registration)
        failed: list[Exception] = []
        for listener in list(self.listeners):
            try:
                await listener(registration)
            except Exception as error:  # of one coordination: the others provide it all the same
                failed.append(error)
        if failed:
            raise failed[0]


_BY_RUNTIME: WeakKeyDictionary[AgentRuntime, Registrations] = WeakKeyDictionary()


def registrations_on(runtime: AgentRuntime) -> Registrations:
    """The notes of a runtime."""
    return _BY_RUNTIME.setdefault(runtime, Registrations())
