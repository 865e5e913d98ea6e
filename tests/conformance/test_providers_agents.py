"""Agents as providers: which instance answers, how often it is made, what stands around its handler, and the way by the runtime."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest
from autogen_core import (
    AgentId,
    AgentType,
    CancellationToken,
    DefaultInterventionHandler,
    DropMessage,
    MessageContext,
    MessageHandlerContext,
    RoutedAgent,
    SingleThreadedAgentRuntime,
    message_handler,
)
from pydantic import BaseModel

from autogen_coord import CapabilityAgent, Coordination, RemoteError, Settings, TaskExpiredError, TaskState, capability
from tests.conformance.provider_runtimes import NOT_STARTED, OWN, RUNTIMES, STARTED
from tests.conftest import QUICK, soon, until

SETTINGS = Settings(**QUICK)


class Word(BaseModel):
    text: str


class Echo(CapabilityAgent):
    """Tells who it is, and takes messages too."""

    def __init__(self) -> None:
        super().__init__("tells who it is")

    @capability
    async def who(self, text: str) -> str:
        assert MessageHandlerContext.agent_id() == self.id
        return f"{self.id}: {text}"

    @message_handler
    async def on_word(self, message: Word, ctx: MessageContext) -> str:
        assert MessageHandlerContext.agent_id() == self.id
        return f"{self.id}: {message.text}"


class Asker(CapabilityAgent):
    """Asks another agent of its runtime."""

    def __init__(self) -> None:
        super().__init__("asks another")

    @capability
    async def ask(self, text: str) -> str:
        return str(await self.send_message(Word(text=text), AgentId("Echo", "second")))


class Slow(RoutedAgent):
    """A handler that ends when its token says so, as a good one does."""

    def __init__(self) -> None:
        super().__init__("slow")
        self.begun = asyncio.Event()

    @message_handler
    async def on_word(self, message: Word, ctx: MessageContext) -> str:
        self.begun.set()
        await ctx.cancellation_token.link_future(asyncio.get_running_loop().create_future())
        return "never"


@pytest.fixture(params=RUNTIMES)
async def coord(request: pytest.FixtureRequest) -> AsyncIterator[Coordination]:
    async with RUNTIMES[request.param]() as runtime, Coordination.open("dict://", runtime=runtime, settings=SETTINGS) as coord:
        yield coord


alive = pytest.mark.parametrize("coord", [STARTED, OWN], indirect=True)
"""On runtimes whose agents can send each other messages."""


async def words(coord: Coordination, agent: AgentId | AgentType, name: str, via_runtime: bool = False) -> None:
    await coord.provide(agent, name, input=Word, output=str, via_runtime=via_runtime)


# which instance


async def test_the_sticky_key_picks_the_instance(coord: Coordination) -> None:
    await coord.provide(Echo)
    await words(coord, AgentType("Echo"), "word")
    assert await coord.call("who", "a") == "Echo/default: a"
    assert await coord.call("who", "a", sticky="ada") == "Echo/ada: a"
    assert await coord.call("word", Word(text="b")) == "Echo/default: b"
    assert await coord.call("word", Word(text="b"), sticky="bob") == "Echo/bob: b"


async def test_an_agent_id_is_one_instance_whatever_the_sticky_key(coord: Coordination) -> None:
    await Echo.register(coord.runtime, "plain", Echo)
    await words(coord, AgentId("plain", "only"), "word")
    assert await coord.call("word", Word(text="a"), sticky="ada") == "plain/only: a"


async def test_of_registered_instances_the_named_one_answers_else_the_first(coord: Coordination) -> None:
    await Echo().register_instance(coord.runtime, AgentId("fixed", "one"))
    # AutoGen's gRPC runtime bears the subscription of a type once
    await Echo().register_instance(coord.runtime, AgentId("fixed", "two"), skip_direct_message_subscription=True)
    assert await coord.call("who", "a") == "fixed/one: a"
    assert await coord.call("who", "a", sticky="two") == "fixed/two: a"
    assert await coord.call("who", "a", sticky="three") == "fixed/one: a"
    (info,) = await coord.registry.discover("who")
    assert info.agent == "fixed/one"


class Factory:
    """An asynchronous factory that a test holds."""

    def __init__(self) -> None:
        self.made = 0
        self.gate = asyncio.Event()

    async def make(self) -> Echo:
        self.made += 1
        await self.gate.wait()
        return Echo()


@pytest.mark.parametrize("form", ["class", "id"])
async def test_concurrent_first_calls_make_one_instance(coord: Coordination, form: str) -> None:
    await one_is_made_for_many(coord, form, via_runtime=False)


@alive
@pytest.mark.parametrize("form", ["class", "id"])
async def test_concurrent_first_calls_by_the_runtime_make_one_instance(coord: Coordination, form: str) -> None:
    await one_is_made_for_many(coord, form, via_runtime=True)


async def one_is_made_for_many(coord: Coordination, form: str, via_runtime: bool) -> None:
    """The factory waits until all callers run, which are there before the first instance is."""
    factory = Factory()
    if form == "class":
        await coord.provide(Echo, factory=factory.make, via_runtime=via_runtime)
        handles = [await coord.submit("who", "a") for _ in range(4)]
    else:
        await Echo.register(coord.runtime, "Echo", factory.make)
        await words(coord, AgentId("Echo", "default"), "word", via_runtime)
        handles = [await coord.submit("word", Word(text="a")) for _ in range(4)]
    for handle in handles:
        await until(lambda id=handle.id: is_running(coord, id))
    await until(lambda: factory.made > 0)
    factory.gate.set()
    async with soon():
        assert {await handle.result() for handle in handles} == {"Echo/default: a"}
    assert factory.made == 1


async def is_running(coord: Coordination, id: str) -> bool:
    return (await coord.task(id)).state == TaskState.RUNNING


async def test_a_caller_that_gives_up_while_the_agent_is_made_leaves_the_next_one_unharmed(coord: Coordination) -> None:
    factory = Factory()
    await coord.provide(Echo, factory=factory.make)
    with pytest.raises(TaskExpiredError):
        await coord.call("who", "a", timeout=0.1)
    assert factory.made == 1
    factory.gate.set()
    async with soon():
        assert await coord.call("who", "b") == "Echo/default: b"


# around the handler


async def test_an_agent_takes_messages_beside_its_capabilities(coord: Coordination) -> None:
    await coord.provide(Echo)
    await words(coord, AgentId("Echo", "default"), "word")
    assert await coord.call("who", "a") == "Echo/default: a"
    assert await coord.call("word", Word(text="b")) == "Echo/default: b"


@alive
async def test_the_runtime_reaches_the_instance_that_is_called(coord: Coordination) -> None:
    made: list[Echo] = []

    def factory() -> Echo:
        made.append(Echo())
        return made[-1]

    await coord.provide(Echo, factory=factory)
    await coord.call("who", "a")
    assert await coord.runtime.send_message(Word(text="b"), AgentId("Echo", "default")) == "Echo/default: b"
    assert len(made) == 1


@alive
@pytest.mark.parametrize("via_runtime", [False, True])
async def test_a_handler_may_send_another_agent_a_message(coord: Coordination, via_runtime: bool) -> None:
    await coord.provide(Echo)
    await coord.provide(Asker, via_runtime=via_runtime)
    async with soon():
        assert await coord.call("ask", "a") == "Echo/second: a"


@pytest.mark.parametrize("coord", [NOT_STARTED], indirect=True)
async def test_a_message_on_a_runtime_that_does_not_run_ends_with_its_task(coord: Coordination) -> None:
    await coord.provide(Echo)
    await coord.provide(Asker)
    with pytest.raises(TaskExpiredError):
        await coord.call("ask", "a", timeout=0.2)


# by way of the runtime


class Watcher(DefaultInterventionHandler):
    """Sees what a runtime carries, and drops what it is told to."""

    def __init__(self) -> None:
        self.sent: list[tuple[str, AgentId]] = []
        self.drops = False

    async def on_send(self, message: Any, *, message_context: MessageContext, recipient: AgentId) -> Any | type[DropMessage]:
        self.sent.append((type(message).__name__, recipient))
        return DropMessage if self.drops else message


async def test_intervention_handlers_see_calls_by_the_runtime_and_no_others() -> None:
    watcher = Watcher()
    runtime = SingleThreadedAgentRuntime(intervention_handlers=[watcher])
    runtime.start()
    async with Coordination.open("dict://", runtime=runtime, settings=SETTINGS) as coord:
        await coord.provide(Echo, via_runtime=True)
        await words(coord, AgentId("Echo", "default"), "direct")
        await words(coord, AgentId("Echo", "other"), "sent", via_runtime=True)
        for name, input in (("who", "a"), ("direct", Word(text="b")), ("sent", Word(text="c"))):
            await coord.call(name, input)
    assert watcher.sent == [("Invocation", AgentId("Echo", "default")), ("Word", AgentId("Echo", "other"))]
    await runtime.stop_when_idle()


async def test_a_call_that_an_intervention_handler_drops_fails() -> None:
    watcher = Watcher()
    watcher.drops = True
    runtime = SingleThreadedAgentRuntime(intervention_handlers=[watcher])
    runtime.start()
    async with Coordination.open("dict://", runtime=runtime, settings=SETTINGS) as coord:
        await coord.provide(Echo, via_runtime=True)
        with pytest.raises(RemoteError) as caught:
            await coord.call("who", "a")
    assert caught.value.type == "MessageDroppedException"
    await runtime.stop()  # AutoGen never counts a dropped message as done: it would not be idle


async def test_a_handler_that_heeds_its_token_ends_with_its_task() -> None:
    runtime = SingleThreadedAgentRuntime()
    runtime.start()
    async with Coordination.open("dict://", runtime=runtime, settings=SETTINGS) as coord:
        await Slow.register(runtime, "slow", Slow)
        await words(coord, AgentId("slow", "default"), "wait", via_runtime=True)
        with pytest.raises(TaskExpiredError):
            await coord.call("wait", Word(text="a"), timeout=0.2)
    slow = await runtime.try_get_underlying_agent_instance(AgentId("slow", "default"), Slow)
    assert slow.begun.is_set()
    async with soon():
        await runtime.stop_when_idle()


async def test_a_call_whose_task_ended_before_its_runtime_was_started_is_not_run() -> None:
    asked: list[str] = []

    class Noting(CapabilityAgent):
        @capability
        async def note(self, text: str) -> str:
            asked.append(text)
            return text

    runtime = SingleThreadedAgentRuntime()
    async with Coordination.open("dict://", runtime=runtime, settings=SETTINGS) as coord:
        await coord.provide(Noting, factory=lambda: Noting("notes"), via_runtime=True)
        with pytest.raises(TaskExpiredError):
            await coord.call("note", "too late", timeout=0.1)
        runtime.start()
        async with soon():
            assert await coord.call("note", "in time") == "in time"
    async with soon():
        await runtime.stop_when_idle()
    assert asked == ["in time"]


async def test_a_plain_agent_gets_a_message_older_than_its_task_with_a_cancelled_token() -> None:
    cancelled: list[bool] = []

    class Noting(RoutedAgent):
        @message_handler
        async def on_word(self, message: Word, ctx: MessageContext) -> str:
            cancelled.append(ctx.cancellation_token.is_cancelled())
            return message.text

    runtime = SingleThreadedAgentRuntime()
    await Noting.register(runtime, "noting", lambda: Noting("notes"))
    async with Coordination.open("dict://", runtime=runtime, settings=SETTINGS) as coord:
        await words(coord, AgentId("noting", "default"), "note", via_runtime=True)
        with pytest.raises(TaskExpiredError):
            await coord.call("note", Word(text="too late"), timeout=0.1)
    runtime.start()
    async with soon():
        await runtime.stop_when_idle()
    assert cancelled == [True]


# runtimes and coordinations


async def test_a_coordination_opened_again_on_a_runtime_provides_what_is_registered() -> None:
    runtime = SingleThreadedAgentRuntime()
    await Echo.register(runtime, "Echo", Echo)
    for _ in range(2):
        async with Coordination.open("dict://", runtime=runtime, settings=SETTINGS) as coord:
            assert await coord.call("who", "a") == "Echo/default: a"


async def test_two_coordinations_on_one_runtime_both_provide_its_agents() -> None:
    runtime = SingleThreadedAgentRuntime()
    first = Coordination.open("dict://", runtime=runtime, namespace="first", settings=SETTINGS)
    second = Coordination.open("dict://", runtime=runtime, namespace="second", settings=SETTINGS)
    async with first, second:
        await Echo.register(runtime, "Echo", Echo)
        assert await first.call("who", "a") == await second.call("who", "a") == "Echo/default: a"


async def test_a_runtime_that_was_given_is_left_as_it_was() -> None:
    runtime = SingleThreadedAgentRuntime()
    runtime.start()
    async with Coordination.open("dict://", runtime=runtime, settings=SETTINGS) as coord:
        await coord.provide(Echo)
    assert await runtime.send_message(Word(text="a"), AgentId("Echo", "default"), cancellation_token=CancellationToken())
    await runtime.stop_when_idle()


async def test_agents_of_the_own_runtime_are_closed_with_it() -> None:
    closed: list[AgentId] = []

    class Closing(Echo):
        async def close(self) -> None:
            closed.append(self.id)

    async with Coordination.open("dict://", settings=SETTINGS) as coord:
        await coord.provide(Closing, type="closing")
        await coord.call("who", "a", sticky="ada")
    assert closed == [AgentId("closing", "ada")]


async def test_terms_of_a_provided_class_are_announced(coord: Coordination) -> None:
    (id,) = await coord.provide(Echo, type="named", labels=["fast"], max_concurrency=3)
    (info,) = await coord.registry.discover("who")
    assert (info.id, info.agent, info.labels, info.max_concurrency) == (id, "named", ("fast",), 3)
