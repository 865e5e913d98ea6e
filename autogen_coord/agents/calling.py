"""How a provider's agent is called: directly, in the runner's own `asyncio.Task`, or by a message over its runtime.

Directly, a stopped attempt really stops its handler, and what it raises is what the runner sees. By message (``via_runtime``) the
runtime's intervention handlers and spans see the call; a plain agent's handler is then only asked to stop, by its token.
"""

from __future__ import annotations

import asyncio
import inspect
from functools import lru_cache
from typing import Any, cast

from autogen_core import (
    Agent,
    AgentId,
    AgentRuntime,
    CancellationToken,
    ClosureAgent,
    MessageContext,
    MessageHandlerContext,
    RoutedAgent,
)

from ..errors import ConfigError
from .agent import Call, CapabilityAgent, Invocation
from .agent_states import AgentStates
from .context import TaskContext

STOCK_GRPC = "autogen_ext.runtimes.grpc"


class Calling:
    """Calls agents of one runtime; every `AgentId` is made once, also by an asynchronous factory that many wait for."""

    def __init__(self, runtime: AgentRuntime, grace: float, states: AgentStates) -> None:
        self.runtime = runtime
        self.states = states
        self._grace = grace
        self._made: set[AgentId] = set()
        self._making: dict[AgentId, _Making] = {}

    def require(self, agent_type: str) -> None:
        """Raises: ConfigError for a type that nobody registered on the runtime (as far as the runtime tells)."""
        known = getattr(self.runtime, "_known_agent_names", None)
        if known is not None and agent_type not in known:
            names = ", ".join(sorted(known)) or "none"
            raise ConfigError(f"no agent type {agent_type!r} is registered on this runtime (there are: {names}): register it first")

    def require_sound(self) -> None:
        """Raises: ConfigError for a runtime whose ``send_message`` cannot be relied on."""
        if type(self.runtime).__module__.startswith(STOCK_GRPC):
            raise ConfigError(
                "via_runtime=True: send_message of AutoGen's gRPC worker runtime may wait for ever, or bring another caller's "
                "answer; leave via_runtime out, and the agent is called directly"
            )

    async def agent(self, id: AgentId) -> Agent:
        """The live agent of this id, made when it is first wanted. Raises: ConfigError; what its factory raises."""
        if id in self._made:
            return await self._instance(id)
        making = self._making.setdefault(id, _Making())
        making.callers += 1
        try:
            async with making.lock:
                agent = await self._instance(id)
                self._made.add(id)
        finally:
            making.callers -= 1
            if not making.callers:
                del self._making[id]
        return agent

    async def _instance(self, id: AgentId) -> Agent:
        try:
            # `object`: the default, a Protocol, makes each check some 20 us slower
            return cast(Agent, await self.runtime.try_get_underlying_agent_instance(id, object))
        except LookupError as error:
            self.require(id.type)
            raise error

    async def method(self, call: Call, id: AgentId, input: Any, context: TaskContext) -> Any:
        """Call a method of a `CapabilityAgent`."""
        agent = await self._capable(id)
        context.agent = str(id)
        with MessageHandlerContext.populate_context(id):
            result = await call(agent, input, context)
        await self._save(agent, context)
        return result

    async def _save(self, agent: Agent, context: TaskContext) -> None:
        """Keep what an agent is now with the outcome of what it did, if it asks for that."""
        if isinstance(agent, CapabilityAgent) and agent.keep_state:
            context.saved = await self.states.saved(agent)

    async def _capable(self, id: AgentId) -> CapabilityAgent:
        agent = await self.agent(id)
        if not isinstance(agent, CapabilityAgent):
            raise ConfigError(f"agent {id} is a {type(agent).__name__}, not the CapabilityAgent that was registered")
        if agent.keep_state and not agent.state_loaded:
            await self.states.load(agent)
        return agent

    async def message(self, id: AgentId, input: Any, context: TaskContext) -> Any:
        """Give an agent the input as a message, directly. Raises: ConfigError when it has no handler for it."""
        agent = await self.agent(id)
        context.agent = str(id)
        token = CancellationToken()
        ctx = MessageContext(None, None, True, token, context.task_id)
        require_handler(agent, input, ctx)
        try:
            with MessageHandlerContext.populate_context(id):
                result = await agent.on_message(input, ctx)
                await self._save(agent, context)
                return result
        except asyncio.CancelledError:
            token.cancel()
            raise

    async def send(self, id: AgentId, input: Any, context: TaskContext) -> Any:
        """Send an agent the input over the runtime. Raises: as `message`."""
        token = _Token()
        agent = await self.agent(id)
        require_handler(agent, input, MessageContext(None, None, True, token, context.task_id))
        result = await self._send(id, input, context, token)
        await self._save(agent, context)
        return result

    async def invoke(self, call: Call, id: AgentId, input: Any, context: TaskContext) -> Any:
        """Call a method of a `CapabilityAgent` over the runtime. Raises: as `method`."""
        agent = await self._capable(id)
        context.agent = str(id)
        result = await self._send(id, Invocation(call, input, context), context, _Token())
        await self._save(agent, context)
        return result

    async def _send(self, id: AgentId, message: Any, context: TaskContext, token: CancellationToken) -> Any:
        sent = asyncio.ensure_future(self.runtime.send_message(message, id, cancellation_token=token, message_id=context.task_id))
        try:
            return await asyncio.shield(sent)
        except asyncio.CancelledError:
            token.cancel()
            await asyncio.wait([sent], timeout=self._grace)
            sent.cancel()  # an end that comes later wedges AutoGen's stop_when_idle(), so it was waited for
            raise


class _Making:
    """An agent that is being made, and how many callers want it."""

    __slots__ = ("callers", "lock")

    def __init__(self) -> None:
        self.lock = asyncio.Lock()
        self.callers = 0


class _Token(CancellationToken):
    """Asks a handler to stop, and leaves the future of the runtime alone: the first that is linked. AutoGen's runtime cannot bear
    that one cancelled while its handler runs on."""

    def __init__(self) -> None:
        super().__init__()
        self._spared = False

    def link_future(self, future: asyncio.Future[Any]) -> asyncio.Future[Any]:
        if not self._spared:
            self._spared = True
            return future
        return super().link_future(future)


def require_handler(agent: Agent, message: Any, ctx: MessageContext) -> None:
    """Raises: ConfigError for an agent that would answer None to a message for which it has no handler."""
    if isinstance(agent, RoutedAgent):
        handled = _routes(agent, message, ctx)
    elif isinstance(agent, ClosureAgent):
        expected = getattr(agent, "_expected_types", None)
        handled = expected is None or type(message) in expected or Any in expected
    else:
        handled = True
    if not handled:
        raise ConfigError(
            f"agent {agent.id} has no handler for {type(message).__qualname__}: provide it with the input that it takes"
        )


def _routes(agent: RoutedAgent, message: Any, ctx: MessageContext) -> bool:
    handlers = _handlers_of(type(agent))
    if handlers is None:
        return True
    return any(type(message) in handler.target_types and handler.router(message, ctx) for handler in handlers)


@lru_cache(maxsize=1_000)
def _handlers_of(cls: type[RoutedAgent]) -> list[Any] | None:
    """The message handlers of a class; None for one that routes for itself, or answers what it has no handler for."""
    if cls.on_message_impl not in (RoutedAgent.on_message_impl, CapabilityAgent.on_message_impl):
        return None
    if cls.on_unhandled_message is not RoutedAgent.on_unhandled_message:
        return None
    return [handler for _, handler in inspect.getmembers_static(cls, lambda value: hasattr(value, "is_message_handler"))]
