"""Every form in which an agent or a function is provided: each provides the capabilities of `OUTPUTS`, by the handler `act`."""

from __future__ import annotations

from typing import Any, ClassVar

from autogen_agentchat.agents import AssistantAgent
from autogen_agentchat.base import ChatAgent, Team
from autogen_agentchat.teams import RoundRobinGroupChat
from autogen_core import (
    AgentId,
    AgentRuntime,
    ClosureAgent,
    ClosureContext,
    MessageContext,
    RoutedAgent,
    message_handler,
)

from autogen_coord import Capability, CapabilityAgent, Coordination, TaskContext, capability
from tests.conformance.provider_acts import OUTPUTS, Ask, Record, act
from tests.conformance.provider_models import ActingModel


class Actor(CapabilityAgent):
    """The acts as capabilities of an agent."""

    def __init__(self, record: Record) -> None:
        super().__init__("acts as it is asked")
        self.record = record

    @capability
    async def echo(self, ask: Ask, ctx: TaskContext) -> str:
        return str(await act(self.record, ask, ctx.cancelled.is_set))

    @capability
    async def nothing(self, ask: Ask, ctx: TaskContext) -> None:
        assert await act(self.record, ask, ctx.cancelled.is_set) is None

    @capability
    async def fail(self, ask: Ask, ctx: TaskContext) -> str:
        return str(await act(self.record, ask, ctx.cancelled.is_set))

    @capability
    async def bad(self, ask: Ask, ctx: TaskContext) -> int:
        wrong: Any = await act(self.record, ask, ctx.cancelled.is_set)
        return wrong  # type: ignore[no-any-return]

    @capability
    async def hold(self, ask: Ask, ctx: TaskContext) -> str:
        return str(await act(self.record, ask, ctx.cancelled.is_set))


class Plain(RoutedAgent):
    """An AutoGen agent that knows nothing of coordination."""

    def __init__(self, record: Record) -> None:
        super().__init__("acts as it is asked")
        self.record = record

    @message_handler
    async def on_ask(self, message: Ask, ctx: MessageContext) -> Any:
        return await act(self.record, message, ctx.cancellation_token.is_cancelled)


class Form:
    """A way to provide. ``prepare`` comes before the coordination is opened, ``provide`` after.

    ``via``: by a message of its runtime. ``stops``: a handler that should end is cancelled, not only asked.
    """

    name: ClassVar[str]
    via: ClassVar[bool] = False
    stops: ClassVar[bool] = True

    async def prepare(self, runtime: AgentRuntime, record: Record) -> None:
        """By default nothing stands before."""

    async def provide(self, coord: Coordination, record: Record) -> None:
        """By default nothing is left to do."""


class Function(Form):
    name = "`@capability` function"

    async def provide(self, coord: Coordination, record: Record) -> None:
        for name, output in OUTPUTS.items():
            await coord.provide(function(name, output, record))


def function(name: str, output: Any, record: Record) -> Capability[Ask, Any]:
    async def run(ask: Ask, ctx: TaskContext) -> Any:
        return await act(record, ask, ctx.cancelled.is_set)

    run.__annotations__["return"] = output
    return capability(name)(run)


class RegisteredBefore(Form):
    name = "`CapabilityAgent`, registered before `open`"

    async def prepare(self, runtime: AgentRuntime, record: Record) -> None:
        await Actor.register(runtime, "actor", lambda: Actor(record))


class RegisteredAfter(Form):
    name = "`CapabilityAgent`, registered after `open`"

    async def provide(self, coord: Coordination, record: Record) -> None:
        await Actor.register(coord.runtime, "actor", lambda: Actor(record))


class ByClass(Form):
    name = "`coord.provide(CapabilityAgent class)`"

    async def provide(self, coord: Coordination, record: Record) -> None:
        await coord.provide(Actor, factory=lambda: Actor(record), via_runtime=self.via)


class Instance(Form):
    name = "`CapabilityAgent`, `register_instance`"

    async def prepare(self, runtime: AgentRuntime, record: Record) -> None:
        await Actor(record).register_instance(runtime, AgentId("actor", "only"))


class Routed(Form):
    name = "`AgentId` of a `RoutedAgent`"

    async def prepare(self, runtime: AgentRuntime, record: Record) -> None:
        await Plain.register(runtime, "plain", lambda: Plain(record))

    async def provide(self, coord: Coordination, record: Record) -> None:
        for name, output in OUTPUTS.items():
            await coord.provide(AgentId("plain", "default"), name, input=Ask, output=output, via_runtime=self.via)


class Closure(Form):
    name = "`AgentId` of a `ClosureAgent`"

    async def prepare(self, runtime: AgentRuntime, record: Record) -> None:
        async def run(agent: ClosureContext, message: Ask, ctx: MessageContext) -> Any:
            return await act(record, message, ctx.cancellation_token.is_cancelled)

        await ClosureAgent.register_closure(runtime, "closure", run)

    async def provide(self, coord: Coordination, record: Record) -> None:
        for name, output in OUTPUTS.items():
            await coord.provide(AgentId("closure", "default"), name, input=Ask, output=output)


class Chat(Form):
    name = "factory of an `AssistantAgent`"

    def make(self, record: Record) -> ChatAgent | Team:
        return AssistantAgent("helper", ActingModel(record))

    async def provide(self, coord: Coordination, record: Record) -> None:
        for name, output in OUTPUTS.items():
            await coord.provide(lambda: self.make(record), name, input=Ask, output=output)


class ChatTeam(Chat):
    name = "factory of a team"

    def make(self, record: Record) -> ChatAgent | Team:
        return RoundRobinGroupChat([AssistantAgent("helper", ActingModel(record))], max_turns=1)


class ByClassVia(ByClass):
    name = "`CapabilityAgent` class, `via_runtime=True`"
    via = True


class RoutedVia(Routed):
    name = "`AgentId` of a `RoutedAgent`, `via_runtime=True`"
    via = True
    stops = False


FORMS: tuple[type[Form], ...] = (
    Function, RegisteredBefore, RegisteredAfter, ByClass, Instance, Routed, Closure, Chat, ChatTeam, ByClassVia, RoutedVia,
)  # fmt: skip
