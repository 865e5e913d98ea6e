"""Agents whose handler does not match, and factories that fail, make the wrong thing or take too long: a typed error each."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
from autogen_agentchat.agents import AssistantAgent
from autogen_core import (
    AgentId,
    AgentType,
    ClosureAgent,
    ClosureContext,
    MessageContext,
    RoutedAgent,
    event,
    message_handler,
    rpc,
)
from pydantic import BaseModel

from autogen_coord import CapabilityAgent, Coordination, RemoteError, RetryPolicy, Settings, TaskExpiredError, capability
from tests.conformance.provider_models import EchoModel
from tests.conftest import QUICK, soon, until

ONCE = RetryPolicy(tries=1)
PLAIN = AgentId("plain", "default")


class Ping(BaseModel):
    text: str = "ping"


class Pong(BaseModel):
    text: str = "pong"


class Good(CapabilityAgent):
    @capability
    async def first(self, text: str) -> str:
        return text


class Plain(RoutedAgent):
    """A handler for `Ping` alone."""

    def __init__(self) -> None:
        super().__init__("plain")

    @message_handler
    async def on_ping(self, message: Ping, ctx: MessageContext) -> str:
        return message.text


@pytest.fixture
async def coord() -> AsyncIterator[Coordination]:
    async with Coordination.open("dict://", settings=Settings(**QUICK)) as coord:
        yield coord


def assistant() -> AssistantAgent:
    return AssistantAgent("helper", EchoModel())


# handlers that do not match


def polite(message: Any) -> bool:
    return bool(message.text == "please")


class Picky(RoutedAgent):
    """Handlers that take a message only if it fits, only as an event, only as a request."""

    def __init__(self) -> None:
        super().__init__("picky")

    @message_handler(match=lambda message, ctx: polite(message))
    async def on_ping(self, message: Ping, ctx: MessageContext) -> str:
        return "thanks"

    @event
    async def on_pong(self, message: Pong, ctx: MessageContext) -> None:
        raise AssertionError("an event handler answered a request")


class Asked(RoutedAgent):
    def __init__(self) -> None:
        super().__init__("asked")

    @rpc
    async def on_ping(self, message: Ping, ctx: MessageContext) -> str:
        return message.text


class Catching(RoutedAgent):
    """Takes whatever comes."""

    def __init__(self) -> None:
        super().__init__("catching")

    async def on_unhandled_message(self, message: Any, ctx: MessageContext) -> None:
        raise LookupError(f"what is a {type(message).__name__}?")


ways = pytest.mark.parametrize("via_runtime", [False, True], ids=["direct", "via"])


@ways
@pytest.mark.parametrize(("agent", "input"), [(Plain, Pong), (Picky, Ping), (Picky, Pong), (Asked, Pong), (Plain, str)])
async def test_an_agent_without_a_handler_for_its_input_does_not_answer_none(
    coord: Coordination, agent: Any, input: Any, via_runtime: bool
) -> None:
    await agent.register(coord.runtime, "plain", agent)
    await coord.provide(PLAIN, "work", input=input, output=None, via_runtime=via_runtime)
    await told_of_no_handler(coord, input())


@ways
@pytest.mark.parametrize("policy", ["warn", "error", "ignore"])
async def test_a_closure_without_a_handler_for_its_input_does_not_answer_none(
    coord: Coordination, policy: Any, via_runtime: bool
) -> None:
    async def run(agent: ClosureContext, message: Ping, ctx: MessageContext) -> None:
        raise AssertionError("it was called")

    await ClosureAgent.register_closure(coord.runtime, "plain", run, unknown_type_policy=policy)
    await coord.provide(PLAIN, "work", input=Pong, output=None, via_runtime=via_runtime)
    await told_of_no_handler(coord, Pong())


async def told_of_no_handler(coord: Coordination, input: Any) -> None:
    handle = await coord.submit("work", input)
    with pytest.raises(
        RemoteError, match=r"plain/default has no handler for .*: provide it with the input that it takes"
    ) as caught:
        async with soon():
            await handle.result()
    assert caught.value.type == "ConfigError"
    assert (await handle.info()).attempt == 1, "no other attempt finds a handler either"


@ways
async def test_a_handler_that_matches_answers(coord: Coordination, via_runtime: bool) -> None:
    await Picky.register(coord.runtime, "picky", Picky)
    await Asked.register(coord.runtime, "asked", Asked)
    for name in ("picky", "asked"):
        await coord.provide(AgentId(name, "default"), name, input=Ping, output=str, via_runtime=via_runtime)
    assert await coord.call("picky", Ping(text="please")) == "thanks"
    assert await coord.call("asked", Ping()) == "ping"


async def test_an_agent_that_takes_whatever_comes_answers_for_itself(coord: Coordination) -> None:
    await Catching.register(coord.runtime, "plain", Catching)
    await coord.provide(PLAIN, "work", input=Ping, output=None)
    with pytest.raises(RemoteError, match="what is a Ping"):
        await coord.call("work", Ping(), retry=ONCE)


async def test_none_where_a_value_was_declared_is_a_bad_output(coord: Coordination) -> None:
    async def run(agent: ClosureContext, message: Ping, ctx: MessageContext) -> None:
        return None

    await ClosureAgent.register_closure(coord.runtime, "plain", run)
    await coord.provide(PLAIN, "work", input=Ping, output=str)
    with pytest.raises(RemoteError, match="the output of work") as caught:
        await coord.call("work", Ping(), retry=ONCE)
    assert caught.value.type == "InvalidOutputError"


# factories


class Making:
    """A factory that fails as it is told, and then makes what is wanted."""

    def __init__(self, good: Callable[[], Any], *bad: Any) -> None:
        self._good = good
        self._bad = list(bad)
        self.calls = 0

    def __call__(self) -> Any:
        self.calls += 1
        if not self._bad:
            return self._good()
        wrong = self._bad.pop(0)
        if isinstance(wrong, Exception):
            raise wrong
        return wrong


async def provide_made(coord: Coordination, form: str, make: Making) -> str:
    """A provider whose agents ``make`` makes; the name of its capability, which takes a text."""
    if form == "chat":
        await coord.provide(make, "work")
        return "work"
    await coord.provide(Good, factory=make)
    return "first"


GOOD: dict[str, Callable[[], Any]] = {"chat": assistant, "class": Good}
forms = pytest.mark.parametrize("form", list(GOOD))


@pytest.fixture
def quiet(caplog: pytest.LogCaptureFixture) -> None:
    """AutoGen logs a factory's error with its trace; that is its business."""
    caplog.set_level("CRITICAL", "autogen_core")


@forms
@pytest.mark.usefixtures("quiet")
async def test_what_a_factory_raises_reaches_the_caller_and_the_next_call_works(coord: Coordination, form: str) -> None:
    make = Making(GOOD[form], OSError("no model today"))
    name = await provide_made(coord, form, make)
    with pytest.raises(RemoteError, match="no model today") as caught:
        await coord.call(name, "a", retry=ONCE)
    assert caught.value.type == "OSError"
    assert str(await coord.call(name, "a", retry=ONCE)).lower() == "a"
    assert make.calls == 2


@forms
@pytest.mark.usefixtures("quiet")
async def test_a_factory_that_fails_is_tried_again(coord: Coordination, form: str) -> None:
    make = Making(GOOD[form], OSError("no model today"))
    name = await provide_made(coord, form, make)
    assert str(await coord.call(name, "a")).lower() == "a"


@pytest.mark.parametrize("wrong", [None, "an agent", 3, Ping(), assistant, AssistantAgent])
async def test_a_factory_that_makes_no_chat_agent_is_told_so(coord: Coordination, wrong: Any) -> None:
    make = Making(assistant, wrong)
    await coord.provide(make, "work")
    handle = await coord.submit("work", "a")
    with pytest.raises(RemoteError, match=r"the factory of work made .*: an AgentChat agent or team is wanted") as caught:
        await handle.result()
    assert caught.value.type == "ConfigError"
    assert make.calls == (await handle.info()).attempt == 1
    assert await coord.call("work", "a") == "A"


@pytest.mark.usefixtures("quiet")
@pytest.mark.parametrize("wrong", [None, "an agent"])
async def test_a_factory_that_makes_another_agent_fails_the_call(coord: Coordination, wrong: Any) -> None:
    make = Making(Good, wrong)
    await coord.provide(Good, factory=make)
    with pytest.raises(RemoteError, match=f"expected Good, got {type(wrong).__name__}"):
        await coord.call("first", "a", retry=ONCE)
    assert await coord.call("first", "a", retry=ONCE) == "a"


@forms
async def test_the_deadline_ends_a_factory_that_is_slow_and_the_next_call_works(coord: Coordination, form: str) -> None:
    seen: list[str] = []

    async def slow() -> Any:
        if seen:
            return GOOD[form]()
        seen.append("begun")
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            seen.append("cancelled")
            raise

    name = await provide_made(coord, form, Making(slow))
    with pytest.raises(TaskExpiredError):
        await coord.call(name, "a", timeout=0.2)
    await until(lambda: seen == ["begun", "cancelled"])
    async with soon():
        assert str(await coord.call(name, "a")).lower() == "a"
    assert seen == ["begun", "cancelled"]


async def test_a_sticky_key_that_cannot_be_an_agents_fails_the_call(coord: Coordination) -> None:
    await Good().register_instance(coord.runtime, AgentId("good", "one"))
    await coord.provide(AgentType("good"), "typed", input=str, output=str)
    with pytest.raises(RemoteError, match="not registered"):
        await coord.call("typed", "a", sticky="another", retry=ONCE)
