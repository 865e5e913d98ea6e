"""The states of agents that ask for it (``keep_state = True``): written with each task that they finish, loaded when they are made.

One document an agent, ``agents/<type>/<key>/state``. The last writer stands: an agent that lives in two processes has two states,
of which the one that finished last is kept.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING
from urllib.parse import quote

from autogen_core import AgentId, BaseAgent

from ..core import values
from ..core.documents import PUT
from ..core.process import Process
from ..core.state import Edit
from ..core.state_policies import LAST_WRITER
from ..core.state_reads import StateReads
from ..errors import ConfigError, InvalidInputError

if TYPE_CHECKING:
    from .agent import CapabilityAgent


def key_of(id: AgentId) -> str:
    """Where an agent's state is kept. What no key of a document may have stands percent-encoded."""
    return f"agents/{_part(id.type)}/{_part(id.key)}/state"


def _part(name: str) -> str:
    return name.replace(".", "%2E") if name in (".", "..") else quote(name, safe=" !#$&'()*+,:;=?@[]~")


def require_keepable(agent_class: type[CapabilityAgent]) -> None:
    """Raises: InvalidInputError for an agent that asks for its state to be kept and does not tell it."""
    for name in ("save_state", "load_state"):
        if agent_class.keep_state and getattr(agent_class, name) is getattr(BaseAgent, name):
            raise InvalidInputError(
                f"{agent_class.__qualname__}: keep_state = True wants a {name}() of its own, which AutoGen calls too"
            )


class AgentStates:
    """Loads and saves the states of this process's agents."""

    def __init__(self, process: Process) -> None:
        self._process = process
        self._reads = StateReads(process)

    async def load(self, agent: CapabilityAgent) -> None:
        """Give an agent what is kept of it, once, before it does anything.

        Raises: ConfigError when it does not take it; the next one that wants the agent tries again. StoreError.
        """
        if agent.state_loading is None:
            agent.state_loading = asyncio.Lock()
        async with agent.state_loading:
            if agent.state_loaded:
                return
            kept = await self._reads.get(key := key_of(agent.id))
            if kept is not None:
                try:
                    await agent.load_state(kept.value)
                except Exception as error:
                    raise ConfigError(
                        f"agent {agent.id} does not take the state that is kept in {key!r}, version {kept.version} "
                        f"({type(error).__name__}: {error!s:.200}): mend its load_state, or that document",
                        key=key,
                        version=kept.version,
                    ) from error
            agent.state_loaded = True

    async def saved(self, agent: CapabilityAgent) -> Edit:
        """An agent's state as it is now, to be written with an outcome.

        Raises: what its ``save_state`` raises; InvalidInputError when that is not JSON, PayloadTooLargeError.
        """
        key, policy = key_of(agent.id), self._process.policy
        text = values.checked(await agent.save_state(), key, policy.max_value, policy.max_depth)
        return Edit(values.checked_key(key), PUT, text, policy=LAST_WRITER, force=True)
