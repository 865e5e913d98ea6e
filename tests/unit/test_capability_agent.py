"""`CapabilityAgent`: which of a class's methods are capabilities, how they are called, and what AutoGen sees of it."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, Generic, TypeVar, cast

import pytest
from autogen_core import AgentId, AgentInstantiationContext, MessageContext, SingleThreadedAgentRuntime, message_handler
from pydantic import BaseModel

from autogen_coord import Capability, CapabilityAgent, InvalidInputError, TaskContext, capability
from autogen_coord.agents.context import ContextPort
from autogen_coord.agents.registration import Registration, registrations_on

T = TypeVar("T")
CONTEXT = TaskContext(cast(ContextPort, None), "s1", "t1", 1, None, "work")


class Base(CapabilityAgent):
    """Greets and counts.

    More of it.
    """

    @capability
    async def greet(self, name: str) -> str:
        """Says hello."""
        return f"hello {name}"

    @capability("count", version="2", description="Counts letters", max_concurrency=3)
    async def letters(self, text: str, ctx: TaskContext) -> int:
        return len(text) + ctx.attempt

    async def helper(self, text: str) -> str:
        return text


class Later(BaseModel):
    """A type that is defined behind the class that names it."""


def labels(agent: type[CapabilityAgent]) -> list[str]:
    return [one.label for one in agent.capabilities()]


async def made(agent: type[CapabilityAgent]) -> CapabilityAgent:
    """An instance, as a runtime makes it."""
    with AgentInstantiationContext.populate_context((SingleThreadedAgentRuntime(), AgentId("agent", "default"))):
        return agent()


async def handled(one: Capability[Any, Any], agent: CapabilityAgent, input: Any) -> Any:
    return await one.handle_on(agent, input, CONTEXT)


# which methods


def test_its_decorated_methods_are_its_capabilities() -> None:
    greet, count = Base.capabilities()
    assert (greet.label, greet.description, greet.max_concurrency) == ("greet", "Says hello.", None)
    assert (count.label, count.description, count.max_concurrency) == ("count:2", "Counts letters", 3)


def test_an_agent_without_capabilities_has_none() -> None:
    assert CapabilityAgent.capabilities() == []


def test_a_subclass_has_those_of_its_bases_and_its_own() -> None:
    class Mixin(CapabilityAgent):
        @capability
        async def shout(self, text: str) -> str:
            return text.upper()

    class Sub(Mixin, Base):
        @capability
        async def whisper(self, text: str) -> str:
            return text.lower()

    assert sorted(labels(Sub)) == ["count:2", "greet", "shout", "whisper"]
    assert labels(Base) == ["greet", "count:2"]


async def test_an_override_serves_the_capability_of_its_base() -> None:
    class Sub(Base):
        async def greet(self, name: str) -> str:
            return f"good day {name}"

    assert labels(Sub) == labels(Base)
    assert await handled(Sub.capabilities()[0], await made(Sub), "Ada") == "good day Ada"
    assert await handled(Sub.capabilities()[0], await made(Base), "Ada") == "hello Ada"


async def test_an_override_may_be_a_capability_of_another_form() -> None:
    class Sub(Base):
        @capability("greet", version="2")
        async def greet(self, names: list[str]) -> str:
            return f"hello {' and '.join(names)}"

    assert sorted(labels(Sub)) == ["count:2", "greet:2"]
    (greet,) = [one for one in Sub.capabilities() if one.name == "greet"]
    assert await handled(greet, await made(Sub), ["Ada", "Bob"]) == "hello Ada and Bob"


def test_none_in_its_place_takes_a_capability_away() -> None:
    class Sub(Base):
        greet = None  # type: ignore[assignment]

    assert labels(Sub) == ["count:2"]


def test_two_methods_of_one_name_are_refused() -> None:
    class Twice(Base):
        @capability("greet")
        async def also(self, name: str) -> str:
            return name

    with pytest.raises(InvalidInputError, match=r"Twice: (greet|also) has the name of another capability: give it its own"):
        Twice.capabilities()


@capability
async def shorten(text: str) -> str:
    return text[:3]


async def test_a_function_that_was_put_into_a_class_stays_a_function() -> None:
    class Holder(CapabilityAgent):
        tool = shorten

    assert Holder.capabilities() == []
    agent = await made(Holder)
    assert isinstance(agent, Holder)
    assert agent.tool is shorten
    assert await agent.tool("abcdef") == "abc"


def traced(function: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(function)
    async def wrapper(*args: Any) -> Any:
        return f"traced {await function(*args)}"

    return wrapper


async def test_a_method_may_be_wrapped_by_another_decorator() -> None:
    class Wrapped(CapabilityAgent):
        @capability
        @traced
        async def work(self, text: str) -> str:
            return text

    (work,) = Wrapped.capabilities()
    assert await handled(work, await made(Wrapped), "a") == "traced a"


# how they are called


async def test_a_capability_is_called_as_the_method_it_is() -> None:
    agent = await made(Base)
    assert isinstance(agent, Base)
    assert await agent.greet("Ada") == "hello Ada"
    assert await agent.letters("four", ctx=CONTEXT) == 5
    assert isinstance(Base.greet, Capability)


async def test_the_context_is_found_by_its_type_wherever_it_stands() -> None:
    class Shapes(CapabilityAgent):
        @capability
        async def first(self, context: TaskContext, text: str) -> str:
            return f"{text} {context.task_id}"

        @capability
        async def last(self, text: str, why: TaskContext) -> str:
            return f"{text} {why.task_id}"

        @capability  # type: ignore[arg-type]
        async def named(self, *, text: str, ctx: TaskContext) -> str:
            return f"{text} {ctx.task_id}"

        @capability
        async def alone(self, text: str) -> str:
            return f"{text} t1"

    agent = await made(Shapes)
    assert [await handled(one, agent, "a") for one in Shapes.capabilities()] == ["a t1"] * 4


def test_annotations_may_name_types_that_come_later() -> None:
    class Early(CapabilityAgent):
        @capability
        async def work(self, later: Later) -> Later | None:
            return later

    (work,) = Early.capabilities()
    assert isinstance(work.form.input.decode("{}"), Later)


def test_its_schemas_leave_out_self_and_the_context() -> None:
    (_, count) = Base.capabilities()
    assert (count.form.input.json, count.form.output.json) == ('{"type":"string"}', '{"type":"integer"}')


# what AutoGen sees


async def test_the_description_is_the_classs_unless_given() -> None:
    class Given(Base):
        def __init__(self) -> None:
            super().__init__("mine")

    class Bare(Base):
        pass

    described = [(await made(each)).metadata["description"] for each in (Base, Given, Bare)]
    assert described == ["Greets and counts.", "mine", "Bare"]


async def test_register_makes_no_instance_and_notes_the_class() -> None:
    runtime = SingleThreadedAgentRuntime()

    def factory() -> Base:
        raise AssertionError("it was made")

    made = await Base.register(runtime, "base", factory)
    assert made.type == "base"
    assert registrations_on(runtime).known == [Registration("base", Base)]


async def test_register_instance_notes_its_key() -> None:
    runtime = SingleThreadedAgentRuntime()
    await Base().register_instance(runtime, AgentId("base", "only"))
    assert registrations_on(runtime).known == [Registration("base", Base, "only")]
    assert registrations_on(runtime).keys_of("base") == ["only"]


class Wrong(CapabilityAgent):
    @capability
    async def work(self, value) -> str:  # type: ignore[no-untyped-def]
        return ""


class Open(CapabilityAgent, Generic[T]):
    @capability
    async def work(self, value: T) -> T:
        return value


@pytest.mark.parametrize(("agent", "told"), [(Wrong, "'value' has no annotation"), (Open, "type variable")])
async def test_an_agent_with_unusable_annotations_is_not_registered(agent: type[CapabilityAgent], told: str) -> None:
    runtime = SingleThreadedAgentRuntime()
    with pytest.raises(InvalidInputError, match=rf"work.*{told}"):
        await agent.register(runtime, "agent", agent)
    with pytest.raises(InvalidInputError, match=rf"work.*{told}"):
        await agent().register_instance(runtime, AgentId("agent", "one"))
    assert registrations_on(runtime).known == []
    with pytest.raises(LookupError):
        await runtime.try_get_underlying_agent_instance(AgentId("agent", "default"))


async def test_a_type_that_is_taken_is_refused_as_autogen_does_and_noted_once() -> None:
    runtime = SingleThreadedAgentRuntime()
    await Base.register(runtime, "base", Base)
    with pytest.raises(ValueError, match="already exists"):
        await Base.register(runtime, "base", Base)
    assert registrations_on(runtime).known == [Registration("base", Base)]


async def test_a_coordination_that_refuses_an_agent_does_not_keep_it_from_the_others() -> None:
    runtime, heard = SingleThreadedAgentRuntime(), []

    async def refuse(registration: Registration) -> None:
        raise InvalidInputError("not here")

    async def hear(registration: Registration) -> None:
        heard.append(registration.agent_type)

    registrations_on(runtime).listeners += [refuse, hear]
    with pytest.raises(InvalidInputError, match="not here"):
        await Base.register(runtime, "base", Base)
    assert heard == ["base"]


async def test_messages_go_to_its_handlers() -> None:
    class Both(Base):
        @message_handler
        async def on_later(self, message: Later, ctx: MessageContext) -> str:
            return "a message"

    runtime = SingleThreadedAgentRuntime()
    await Both.register(runtime, "both", Both)
    runtime.start()
    assert await runtime.send_message(Later(), AgentId("both", "default")) == "a message"
    await runtime.stop_when_idle()
