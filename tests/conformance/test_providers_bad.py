"""What cannot be provided: a typed error each that says what to do, and nothing announced."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, TypeVar

import pytest
from autogen_agentchat.agents import AssistantAgent
from autogen_agentchat.teams import RoundRobinGroupChat
from autogen_core import (
    AgentId,
    AgentType,
    MessageContext,
    RoutedAgent,
    SingleThreadedAgentRuntime,
    message_handler,
)
from pydantic import BaseModel

from autogen_coord import (
    Capability,
    CapabilityAgent,
    ConfigError,
    Coordination,
    InvalidInputError,
    Settings,
    TaskContext,
    capability,
)
from tests.conformance.provider_models import EchoModel
from tests.conftest import QUICK, until
from tests.integration.processes import started

T = TypeVar("T")
SETTINGS = Settings(**QUICK)
PLAIN = AgentId("plain", "default")


class Box(BaseModel, Generic[T]):
    content: T


@dataclass
class Pair(Generic[T]):
    left: T
    right: T


class Opaque:
    pass


class Ping(BaseModel):
    text: str = "ping"


class Good(CapabilityAgent):
    """Two capabilities."""

    @capability
    async def first(self, text: str) -> str:
        return text

    @capability
    async def second(self, text: str) -> str:
        return text


class Plain(RoutedAgent):
    """Handlers of several kinds, for `Ping` alone."""

    def __init__(self) -> None:
        super().__init__("plain")

    @message_handler
    async def on_ping(self, message: Ping, ctx: MessageContext) -> str:
        return message.text


@pytest.fixture
async def coord() -> AsyncIterator[Coordination]:
    async with Coordination.open("dict://", settings=SETTINGS) as coord:
        yield coord


async def nothing_announced(coord: Coordination) -> bool:
    return await coord.registry.providers("online") == []


def assistant() -> AssistantAgent:
    return AssistantAgent("helper", EchoModel())


def annotated(input: Any, output: Any = str) -> Callable[[Any], Awaitable[Any]]:
    """A function of these annotations; ``...`` is none."""

    async def work(value):  # type: ignore[no-untyped-def]
        return value

    work.__annotations__ = {name: each for name, each in (("value", input), ("return", output)) if each is not ...}
    return work


# annotations

ANY: Any = T  # as a value
BOX: Any = Box
UNUSABLE: list[Any] = [
    ..., Any, object, ANY, list[ANY], dict[str, list[ANY]], ANY | None, BOX, list[BOX], BOX[T], Pair, Opaque, list[Opaque],
    "Nowhere", "list[", "not a type", "int.nope", 3, Callable[[int], int],
]  # fmt: skip


@pytest.mark.parametrize("side", ["input", "output"])
@pytest.mark.parametrize("annotation", UNUSABLE, ids=str)
async def test_an_annotation_without_a_schema_is_refused_by_name(coord: Coordination, annotation: Any, side: str) -> None:
    function = capability("work")(annotated(annotation) if side == "input" else annotated(str, annotation))
    with pytest.raises(InvalidInputError, match=r"work.*(type|annotation|model)"):
        await coord.provide(function)
    method = type("Agent", (CapabilityAgent,), {})
    bad: Capability[Any, Any] = capability("work")(method_of(method, annotation, side))
    method.work = bad  # type: ignore[attr-defined]
    bad.__set_name__(method, "work")
    with pytest.raises(InvalidInputError, match=r"work.*(type|annotation|model)"):
        await coord.provide(method)
    assert await nothing_announced(coord)
    if annotation not in ("Nowhere", "list[", "not a type", "int.nope"):  # by provide() there are types alone
        await Plain.register(coord.runtime, "plain", Plain)
        types: dict[str, Any] = {"input": Ping, "output": str, side: annotation}
        with pytest.raises(InvalidInputError, match=side):
            await coord.provide(PLAIN, "work", **types)
        with pytest.raises(InvalidInputError, match=side):
            await coord.provide(assistant, "work", **types)
        assert await nothing_announced(coord)


def method_of(owner: type, annotation: Any, side: str) -> Any:
    async def work(self: Any, value):  # type: ignore[no-untyped-def]
        return value

    sides = {"value": str, "return": str} | {"value" if side == "input" else "return": annotation}
    work.__annotations__ = {name: each for name, each in sides.items() if each is not ...}
    work.__qualname__ = f"{owner.__qualname__}.work"
    return work


async def no_input() -> str:
    return ""


async def two_inputs(left: str, right: str) -> str:
    return left + right


async def only_context(ctx: TaskContext) -> str:
    return ctx.task_id


async def two_contexts(text: str, one: TaskContext, two: TaskContext) -> str:
    return text


async def many(*texts: str) -> str:
    return ""


async def named(**texts: str) -> str:
    return ""


@pytest.mark.parametrize("function", [no_input, two_inputs, only_context, two_contexts, many, named])
async def test_one_input_and_one_context_at_most_are_wanted(coord: Coordination, function: Any) -> None:
    with pytest.raises(InvalidInputError, match=rf"{function.__name__}: one input parameter .* into one pydantic model"):
        await coord.provide(capability(function))
    assert await nothing_announced(coord)


def test_a_function_that_is_not_asynchronous_is_refused() -> None:
    wrong: Any = lambda text: text  # noqa: E731
    with pytest.raises(InvalidInputError, match="async def"):
        capability("work")(wrong)


# nonsense

Provide = Callable[[Any], Any]
NONSENSE: dict[str, tuple[Provide, type[Exception], str]] = {
    "a number": (lambda c: c.provide(3), InvalidInputError, "wants a @capability function"),
    "None": (lambda c: c.provide(None), InvalidInputError, "wants a @capability function"),
    "a name alone": (lambda c: c.provide("work"), InvalidInputError, "wants a @capability function"),
    "a class": (lambda c: c.provide(str, "work"), InvalidInputError, "wants a @capability function"),
    "a function": (lambda c: c.provide(annotated(str)), InvalidInputError, "decorate the function"),
    "a function with a name": (lambda c: c.provide(annotated(str), "work"), InvalidInputError, "decorated with @capability"),
    "a method": (lambda c: c.provide(Good.first), InvalidInputError, "provide or register that agent"),
    "an agent": (lambda c: c.provide(assistant(), "work"), InvalidInputError, "pass a factory"),
    "a team": (lambda c: c.provide(RoundRobinGroupChat([assistant()]), "work"), InvalidInputError, "pass a factory"),
    "an awaitable": (lambda c: c.provide(asyncio.Future(), "work"), InvalidInputError, "without calling it"),
    "a class of plain agents": (lambda c: c.provide(Plain), InvalidInputError, "make it a CapabilityAgent"),
    "an agent without capabilities": (lambda c: c.provide(CapabilityAgent), InvalidInputError, "nothing to provide"),
    "an id without a name": (lambda c: c.provide(PLAIN), InvalidInputError, "needs the name"),
    "an id without an output": (lambda c: c.provide(PLAIN, "work", input=Ping), InvalidInputError, "output= is missing"),
    "a type that is unknown": (lambda c: c.provide(AgentId("planet", "x"), "w", input=str, output=str), ConfigError, "register it"),
    "an unknown type": (lambda c: c.provide(AgentType("planet"), "w", input=str, output=str), ConfigError, "there are: plain"),
    "a second name": (lambda c: c.provide(capability(annotated(str)), "other"), InvalidInputError, "rename it"),
    "a name of a class": (lambda c: c.provide(Good, "good"), InvalidInputError, "type='good'"),
    "a name that is none": (lambda c: c.provide(assistant, "a b"), InvalidInputError, "letters, digits"),
    "a version that is none": (lambda c: c.provide(assistant, "work", version=2), InvalidInputError, "version 2"),
    "a description that is none": (lambda c: c.provide(assistant, "work", description=3), InvalidInputError, "a text"),
    "a limit that is none": (lambda c: c.provide(Good, max_concurrency=0), InvalidInputError, "whole number"),
    "labels that are one text": (lambda c: c.provide(Good, labels="fast"), InvalidInputError, "a list of texts"),
    "labels that are no texts": (lambda c: c.provide(Good, labels=[1]), InvalidInputError, "a list of texts"),
    "labels that are none": (lambda c: c.provide(assistant, "work", labels=1), InvalidInputError, "a list of texts"),
    "an agent type that is none": (lambda c: c.provide(Good, type=3), InvalidInputError, "a text"),
    "an agent type that AutoGen refuses": (lambda c: c.provide(Good, type="a b"), ConfigError, "another by type="),
    "an agent type that is taken": (lambda c: c.provide(Good, type="plain"), ConfigError, "another by type="),
    "a factory that is none": (lambda c: c.provide(Good, factory=Good("one")), InvalidInputError, "a function that makes"),
    "a factory with parameters": (lambda c: c.provide(lambda model: assistant(), "work"), InvalidInputError, "takes nothing"),
    "a class with parameters": (lambda c: c.provide(Good, factory=Ping.model_validate), InvalidInputError, "factory=lambda"),
    "via_runtime of a function": (
        lambda c: c.provide(capability(annotated(str)), via_runtime=True), InvalidInputError, "which no runtime knows",
    ),
    "via_runtime of a factory": (lambda c: c.provide(assistant, "work", via_runtime=True), InvalidInputError, "no runtime knows"),
    "via_runtime that is none": (lambda c: c.provide(Good, via_runtime="yes"), InvalidInputError, "True or False"),
    "an unknown option": (lambda c: c.provide(Good, tries=3), InvalidInputError, "no option 'tries'"),
    "an option of another form": (lambda c: c.provide(Good, input=str), InvalidInputError, "no option 'input'"),
}  # fmt: skip


@pytest.mark.parametrize("what", NONSENSE)
async def test_nonsense_is_refused_and_told_what_to_do(coord: Coordination, what: str) -> None:
    provide, error, told = NONSENSE[what]
    await Plain.register(coord.runtime, "plain", Plain)
    with pytest.raises(error, match=told) as caught:
        await provide(coord)
    assert type(caught.value) is error
    assert await nothing_announced(coord)
    assert await coord.registry.capabilities() == []


async def test_a_runtime_that_is_none_is_refused() -> None:
    wrong: Any = Good("one")
    with pytest.raises(InvalidInputError, match="SingleThreadedAgentRuntime"):
        Coordination.open("dict://", runtime=wrong)


# one name, two schemas

SECOND: dict[str, Provide] = {
    "function": lambda c: c.provide(capability("second")(annotated(int))),
    "output": lambda c: c.provide(capability("second")(annotated(str, int))),
    "class": lambda c: c.provide(Good),
    "registered": lambda c: Good.register(c.runtime, "good", Good),
    "instance": lambda c: Good().register_instance(c.runtime, AgentId("good", "one")),
    "id": lambda c: c.provide(PLAIN, "second", input=Ping, output=str),
    "factory": lambda c: c.provide(assistant, "second"),
}


@pytest.mark.parametrize("where", ["here", "elsewhere"])
@pytest.mark.parametrize("form", SECOND)
async def test_of_two_schemas_under_one_name_the_second_is_refused(tmp_path: Path, form: str, where: str) -> None:
    """All of it: an agent of which one capability is taken is not provided in part."""
    path = str(tmp_path / "coord.db")
    there = capability("second")(annotated(bool, bool))
    async with Coordination.open(path, settings=SETTINGS) as coord, Coordination.open(path, settings=SETTINGS) as other:
        holder = coord if where == "here" else other
        await holder.provide(there)
        await Plain.register(coord.runtime, "plain", Plain)
        with pytest.raises(ConfigError, match="give the new form a version of its own"):
            await SECOND[form](coord)
        await until(lambda: names_are(coord, ["second"]))
        assert await coord.call("second", True) is True
        # it was refused for its form alone: when the other is gone, another form is welcome
        await holder.withdraw(there)
        await coord.provide(capability("second")(annotated(int, int)))
        assert await coord.call("second", 7) == 7


async def names_are(coord: Coordination, names: list[str]) -> bool:
    return [info.capability for info in await coord.registry.providers("online")] == names


@pytest.mark.process
@pytest.mark.timeout(60)
async def test_another_process_with_another_schema_keeps_the_second_out(tmp_path: Path) -> None:
    path = str(tmp_path / "coord.db")
    async with started("provide", path, "tests.conformance.provider_process") as child:
        assert await child.line() == "provided"
        async with Coordination.open(path, settings=SETTINGS) as coord:
            with pytest.raises(ConfigError, match="'count' is provided already with other input or output"):
                await coord.provide(capability("count")(annotated(list[str], int)))
            assert await coord.call("count", "four") == 4
            await coord.provide(capability("count", version="2")(annotated(int, int)))
            assert await coord.call("count:2", 7) == 7
            await child.end()


async def test_an_agent_that_cannot_be_provided_keeps_its_coordination_from_opening() -> None:
    """The agent was registered first, and another process provides its capability in another form."""
    runtime = SingleThreadedAgentRuntime()
    await Good.register(runtime, "good", Good)
    async with Coordination.open("dict://shared-by-two", settings=SETTINGS) as other:
        await other.provide(capability("second")(annotated(int)))
        with pytest.raises(ConfigError, match="'second' is provided already"):
            async with Coordination.open("dict://shared-by-two", runtime=runtime, settings=SETTINGS):
                raise AssertionError("it opened")
        assert await names_are(other, ["second"])


async def test_the_same_provider_twice_is_refused(coord: Coordination) -> None:
    await Plain.register(coord.runtime, "plain", Plain)
    await coord.provide(PLAIN, "work", input=Ping, output=str)
    with pytest.raises(ConfigError, match="already"):
        await coord.provide(PLAIN, "work", input=Ping, output=str)
    await coord.provide(assistant, "help")
    with pytest.raises(ConfigError, match="name or version of its own"):
        await coord.provide(lambda: assistant(), "help")
    assert len(await coord.registry.providers("online")) == 2
