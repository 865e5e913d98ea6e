"""`CoordChatCompletionContext`: AutoGen's messages on disk."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest
from autogen_agentchat.agents import AssistantAgent
from autogen_core import FunctionCall, Image
from autogen_core.model_context import ChatCompletionContext, UnboundedChatCompletionContext
from autogen_core.models import (
    AssistantMessage,
    FunctionExecutionResult,
    FunctionExecutionResultMessage,
    LLMMessage,
    SystemMessage,
    UserMessage,
)
from autogen_ext.models.replay import ReplayChatCompletionClient
from PIL import Image as Pillow

from autogen_coord import ConfigError, Coordination, InvalidInputError, PayloadTooLargeError
from autogen_coord.teams import CoordChatCompletionContext
from tests.conftest import World

CALL = FunctionCall(id="1", name="add", arguments='{"a": 1, "b": "\\u00e9"}')
RESULT = FunctionExecutionResult(content="2", name="add", call_id="1", is_error=False)
MESSAGES: list[LLMMessage] = [
    SystemMessage(content="be brief \x00\ud7ff\U0001f30a"),
    UserMessage(content="hi", source="ann"),
    UserMessage(content=["one", "two"], source="ann"),
    AssistantMessage(content="hello", source="helper", thought="a greeting"),
    AssistantMessage(content="", source="helper"),
    AssistantMessage(content=[CALL, CALL], source="helper"),
    FunctionExecutionResultMessage(content=[RESULT, FunctionExecutionResult(content="", name="b", call_id="")]),
]


def user(text: str) -> UserMessage:
    return UserMessage(content=text, source="ann")


async def said(context: ChatCompletionContext) -> list[Any]:
    return [message.content for message in await context.get_messages()]


@pytest.mark.parametrize("message", MESSAGES, ids=lambda message: message.type)
async def test_each_kind_of_message_comes_back_as_it_was(coord: Coordination, message: LLMMessage) -> None:
    await CoordChatCompletionContext("chat").add_message(message)
    assert await CoordChatCompletionContext("chat").get_messages() == [message]


async def test_an_image_comes_back_with_the_same_pixels(coord: Coordination) -> None:
    picture = Pillow.new("RGB", (3, 2))
    picture.putdata([(place, 2 * place, 255 - place) for place in range(6)])
    await CoordChatCompletionContext("chat").add_message(UserMessage(content=["look", Image(picture)], source="ann"))
    (message,) = await CoordChatCompletionContext("chat").get_messages()
    assert isinstance(message.content, list)
    text, image = message.content
    assert text == "look"
    assert isinstance(image, Image)
    assert image.image.tobytes() == picture.tobytes()


async def test_messages_survive_the_coordination(world: World) -> None:
    async with Coordination.open(world.url):
        context = CoordChatCompletionContext("chat")
        for message in MESSAGES:
            await context.add_message(message)
    async with Coordination.open(world.url):
        assert await context.get_messages() == MESSAGES, "the context finds the coordination that is open now"
        assert await CoordChatCompletionContext("chat").get_messages() == MESSAGES
    with pytest.raises(ConfigError):
        await context.get_messages()


async def test_two_agents_on_one_key_add_without_loss(world: World) -> None:
    coords = [await world.open() for _ in range(2)]
    contexts = [CoordChatCompletionContext("chat", state=coord.state) for coord in coords]

    async def write(number: int) -> None:
        for count in range(20):
            await contexts[number].add_message(user(f"{number}:{count}"))

    await asyncio.gather(write(0), write(1))
    lines = await said(contexts[0])
    assert lines == await said(contexts[1])
    for number in range(2):
        assert [line for line in lines if line.startswith(f"{number}:")] == [f"{number}:{count}" for count in range(20)]


async def test_a_model_is_shown_the_last_messages_and_no_result_without_its_call(coord: Coordination) -> None:
    context = CoordChatCompletionContext("chat", buffer_size=2)
    for message in [*MESSAGES, user("thanks")]:
        await context.add_message(message)
    assert await said(context) == ["thanks"]
    assert len((await context.save_state())["messages"]) == 8
    assert len(await CoordChatCompletionContext("chat", buffer_size=3).get_messages()) == 3


async def test_initial_messages_come_first_and_once(coord: Coordination) -> None:
    context = CoordChatCompletionContext("chat", initial_messages=[user("first")])
    assert await said(context) == ["first"]
    await context.add_message(user("second"))
    await CoordChatCompletionContext("chat", initial_messages=[user("other")]).add_message(user("third"))
    assert await said(context) == ["first", "second", "third"]
    await context.clear()
    assert await said(context) == []


async def test_a_cleared_context_is_empty_for_all(world: World) -> None:
    one, other = [CoordChatCompletionContext("chat", state=(await world.open()).state) for _ in range(2)]
    await one.add_message(user("a"))
    await other.clear()
    assert await said(one) == []
    await one.add_message(user("b"))
    assert await said(other) == ["b"]


async def test_a_saved_state_is_json_and_loads_into_autogens_own_context_and_back(coord: Coordination) -> None:
    context = CoordChatCompletionContext("chat")
    for message in MESSAGES:
        await context.add_message(message)
    state = json.loads(json.dumps(await context.save_state()))
    own = UnboundedChatCompletionContext()
    await own.load_state(state)
    assert await own.get_messages() == MESSAGES
    other = CoordChatCompletionContext("other")
    await other.add_message(user("to be forgotten"))
    await other.load_state(await own.save_state())
    assert await other.get_messages() == MESSAGES


async def test_loading_what_is_there_writes_nothing(coord: Coordination) -> None:
    context = CoordChatCompletionContext("chat")
    await context.add_message(user("a"))
    before = await coord.state.get("chat")
    await context.load_state(await context.save_state())
    assert await coord.state.get("chat") == before


@pytest.mark.parametrize("messages", ["x", [{"type": "Unknown"}], [{"type": "UserMessage"}], [1]])
async def test_a_state_that_is_none_is_refused_and_nothing_is_forgotten(coord: Coordination, messages: object) -> None:
    context = CoordChatCompletionContext("chat")
    await context.add_message(user("a"))
    with pytest.raises(InvalidInputError, match="chat"):
        await context.load_state({"messages": messages})
    assert await said(context) == ["a"]


async def test_a_series_of_something_else_is_refused(coord: Coordination) -> None:
    await coord.state.series("chat").append({"no": "message"})
    with pytest.raises(InvalidInputError, match="chat"):
        await CoordChatCompletionContext("chat").get_messages()


async def test_a_message_that_is_too_large_is_refused(world: World) -> None:
    coord = await world.open(max_value=1_000)
    context = CoordChatCompletionContext("chat", state=coord.state)
    with pytest.raises(PayloadTooLargeError) as error:
        await context.add_message(user("x" * 1_000))
    assert error.value.facts["key"] == "chat"
    assert await said(context) == []


@pytest.mark.parametrize("size", [0, -1, True, 1.5])
def test_a_size_that_is_none_is_refused(size: Any) -> None:
    with pytest.raises(InvalidInputError, match="buffer_size"):
        CoordChatCompletionContext("chat", buffer_size=size)


async def test_an_assistant_that_is_made_anew_goes_on(world: World) -> None:
    async with Coordination.open(world.url):
        first = AssistantAgent("a", ReplayChatCompletionClient(["one"]), model_context=CoordChatCompletionContext("chat"))
        await first.run(task="count")
        state = await first.save_state()
    async with Coordination.open(world.url):
        context = CoordChatCompletionContext("chat")
        second = AssistantAgent("a", ReplayChatCompletionClient(["two"]), model_context=context)
        await second.load_state(state)
        await second.run(task="on")
        assert await said(context) == ["count", "one", "on", "two"]


async def test_an_assistant_that_is_provided_has_its_conversation_in_each_process(world: World) -> None:
    """A factory makes a new agent for each call; in a handler a context finds the handler's own coordination, of several."""
    asking, *providing = [await world.open() for _ in range(3)]

    def helper() -> AssistantAgent:
        return AssistantAgent("helper", ReplayChatCompletionClient(["yes"]), model_context=CoordChatCompletionContext("chat"))

    for coord in providing:
        await coord.provide(helper, "help")
    for task in "ab":
        assert await asking.call("help", task, returns=str) == "yes"
    assert await said(CoordChatCompletionContext("chat", state=asking.state)) == ["a", "yes", "b", "yes"]


async def test_it_is_a_component_that_says_where_and_no_more(world: World) -> None:
    coord = await world.open("papers")
    context = CoordChatCompletionContext("chat", buffer_size=3, initial_messages=[user("first")], state=coord.state)
    await context.add_message(user("secret"))
    dumped = json.loads(context.dump_component().model_dump_json())
    assert dumped["provider"] == "autogen_coord.teams.CoordChatCompletionContext"
    assert dumped["config"] == {
        "key": "chat",
        "namespace": "papers",
        "buffer_size": 3,
        "initial_messages": [{"content": "first", "source": "ann", "type": "UserMessage"}],
    }
    loaded = ChatCompletionContext.load_component(dumped)
    assert await said(loaded) == ["first", "secret"]
    assert json.loads(loaded.dump_component().model_dump_json()) == dumped
