"""`CapabilityAgent`: an AutoGen agent whose methods are capabilities."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, ClassVar, Self

from autogen_core import AgentId, AgentRuntime, AgentType, CancellationToken, MessageContext, RoutedAgent

from ..core.calls import inside
from ..errors import InvalidInputError
from .agent_states import require_keepable
from .capability import Capability
from .context import TaskContext
from .on_message import handlers_of
from .registration import Registration, registrations_on

Call = Callable[["CapabilityAgent", Any, TaskContext], Awaitable[Any]]
"""How a method of an agent is called with its input."""


class Invocation:
    """What a runtime carries to an agent that is called ``via_runtime``: seen by intervention handlers, never on a wire."""

    def __init__(self, call: Call, input: Any, context: TaskContext) -> None:
        self.input = input
        self.context = context
        self._call = call

    async def run(self, agent: CapabilityAgent, token: CancellationToken) -> Any:
        """Call the agent's method; cancelling the token stops it, as it stops one that is called directly."""
        work = asyncio.ensure_future(self._handle(agent))
        token.link_future(work)
        try:
            return await work
        finally:
            work.cancel()

    async def _handle(self, agent: CapabilityAgent) -> Any:
        """In the attempt's name: a runtime calls its agents in `asyncio.Task`s of its own, which know nothing of it."""
        with inside(self.context.handling):
            return await self._call(agent, self.input, self.context)


class CapabilityAgent(RoutedAgent):
    """An AutoGen agent with `@capability` methods. It may have ``@message_handler`` methods beside them.

    Register it the AutoGen way, ``await MyAgent.register(runtime, "type", MyAgent)``, before or after the runtime's `Coordination`
    is opened: its capabilities are provided from then on. No instance is made for it; the runtime makes one when it is first
    called, under the task's ``sticky`` key, else ``default``.

    With ``keep_state = True`` in its class, what its ``save_state`` tells (JSON) is kept with each task that it finishes, in the
    document ``agents/<type>/<key>/state``, and given to ``load_state`` before the first thing that an instance does while a
    `Coordination` is open on its runtime. An attempt that failed keeps nothing, though it may have changed the living agent.
    """

    keep_state: ClassVar[bool] = False
    """Whether its state is kept in the store."""
    state_loading: asyncio.Lock | None = None
    state_loaded = False

    def __init__(self, description: str | None = None) -> None:
        """``description``: AutoGen's; the first line of the class's docstring unless given."""
        words = (type(self).__doc__ or type(self).__name__).strip()
        super().__init__(words.partition("\n")[0] if description is None else description)

    @classmethod
    def capabilities(cls) -> list[Capability[Any, Any]]:
        """Its capabilities, by label. An override without ``@capability`` serves the capability of its base class; ``None``
        in its place takes it away.

        Raises: InvalidInputError when annotations are unusable, or two methods have one label.
        """
        found: dict[str, Capability[Any, Any]] = {}
        for base in reversed(cls.__mro__):
            for name, value in vars(base).items():
                if isinstance(value, Capability) and value.method == name:
                    value.form  # noqa: B018 - unusable annotations are refused here, by name
                    found[name] = value
                elif value is None:
                    found.pop(name, None)
        by_label = {one.label: one for one in found.values()}
        if len(by_label) < len(found):
            twice = sorted(one.method or "" for one in found.values() if by_label[one.label] is not one)
            raise InvalidInputError(f"{cls.__qualname__}: {', '.join(twice)} has the name of another capability: give it its own")
        return list(by_label.values())

    @classmethod
    async def register(
        cls,
        runtime: AgentRuntime,
        type: str,
        factory: Callable[[], Self | Awaitable[Self]],
        *,
        skip_class_subscriptions: bool = False,
        skip_direct_message_subscription: bool = False,
    ) -> AgentType:
        """AutoGen's own, and its capabilities are announced where a `Coordination` is open on the runtime.

        Raises: InvalidInputError (nothing was registered); ValueError when the type is taken; ConfigError when a capability is
        provided elsewhere with other schemas (the agent is registered, its capabilities are not provided).
        """
        cls.capabilities()
        handlers_of(cls)
        require_keepable(cls)
        made = await super().register(
            runtime,
            type,
            factory,
            skip_class_subscriptions=skip_class_subscriptions,
            skip_direct_message_subscription=skip_direct_message_subscription,
        )
        await registrations_on(runtime).add(Registration(made.type, cls))
        return made

    async def register_instance(
        self,
        runtime: AgentRuntime,
        agent_id: AgentId,
        *,
        skip_class_subscriptions: bool = True,
        skip_direct_message_subscription: bool = False,
    ) -> AgentId:
        """AutoGen's own; the capabilities are this one agent's, whatever the ``sticky`` key of a task. Raises: as `register`."""
        self.capabilities()
        handlers_of(type(self))
        require_keepable(type(self))
        made = await super().register_instance(
            runtime,
            agent_id,
            skip_class_subscriptions=skip_class_subscriptions,
            skip_direct_message_subscription=skip_direct_message_subscription,
        )
        await registrations_on(runtime).add(Registration(made.type, self.__class__, made.key))
        return made

    async def on_message_impl(self, message: Any, ctx: MessageContext) -> Any | None:
        """AutoGen's own routing, and calls of its capabilities that come by way of the runtime."""
        if self.keep_state and not self.state_loaded and (states := registrations_on(self.runtime).states) is not None:
            await states.load(self)
        if isinstance(message, Invocation):
            return await message.run(self, ctx.cancellation_token)
        return await super().on_message_impl(message, ctx)
