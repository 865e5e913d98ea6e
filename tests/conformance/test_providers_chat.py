"""AgentChat agents and teams as capabilities: fresh in each call, so that nobody sees another caller's text."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import date
from enum import Enum
from typing import Any

import pytest
from autogen_agentchat.agents import (
    AssistantAgent,
    BaseChatAgent,
    MessageFilterAgent,
    MessageFilterConfig,
    PerSourceFilter,
    SocietyOfMindAgent,
)
from autogen_agentchat.base import ChatAgent, Response, Team
from autogen_agentchat.conditions import MaxMessageTermination
from autogen_agentchat.messages import BaseChatMessage, TextMessage
from autogen_agentchat.teams import RoundRobinGroupChat, SelectorGroupChat
from autogen_agentchat.tools import AgentTool, TeamTool
from autogen_core import CancellationToken
from autogen_core.model_context import BufferedChatCompletionContext, UnboundedChatCompletionContext
from autogen_core.models import ModelFamily, ModelInfo
from autogen_ext.models.replay import ReplayChatCompletionClient
from pydantic import BaseModel

from autogen_coord import Coordination, RemoteError, RetryPolicy, Settings, TaskExpiredError
from tests.conformance.provider_acts import Ask, Record
from tests.conformance.provider_models import ActingModel, EchoModel, Model
from tests.conftest import QUICK, soon

CALLERS = 200
SETTINGS = Settings(**{**QUICK, "cancel_grace": 5.0})
TOOLS = ModelInfo(vision=False, function_calling=True, json_output=True, family=ModelFamily.UNKNOWN, structured_output=True)
Made = Callable[[], ChatAgent | Team]


class CrowdModel(Model):
    """Answers nobody before all callers have asked."""

    def __init__(self, callers: int) -> None:
        super().__init__()
        self.missing = callers
        self.complete = asyncio.Event()

    async def answer(self, messages: list[str], asked: Callable[[], bool]) -> str:
        self.missing -= 1
        if self.missing <= 0:
            self.complete.set()
        await self.complete.wait()
        return messages[-1].upper()


class Summary(BaseModel):
    title: str
    words: int


class Mood(Enum):
    CALM = "calm"


class Diary(BaseModel):
    on: date
    moods: set[Mood]


@dataclass
class Point:
    x: int
    y: tuple[int, int]


def open_coord() -> Coordination:
    return Coordination.open("dict://", settings=SETTINGS)


def texts_of(callers: int) -> list[str]:
    """As many texts, none of which is in another."""
    return [f"<text of caller {number}>" for number in range(callers)]


# one factory, many callers


async def test_two_hundred_callers_at_once_never_see_each_others_text() -> None:
    model, texts = CrowdModel(CALLERS), texts_of(CALLERS)
    async with open_coord() as coord, soon(15.0):
        await coord.provide(lambda: AssistantAgent("helper", model), "help", max_concurrency=CALLERS)
        answers = await asyncio.gather(*(coord.call("help", text, returns=str) for text in texts))
    assert answers == [text.upper() for text in texts]
    assert sorted(model.shown) == sorted([text] for text in texts)


async def test_many_callers_of_a_team_never_see_each_others_text() -> None:
    callers = 40
    model, texts = CrowdModel(callers), texts_of(callers)

    def team() -> Team:
        return RoundRobinGroupChat([AssistantAgent("one", model), AssistantAgent("two", model)], max_turns=2)

    async with open_coord() as coord, soon(15.0):
        await coord.provide(team, "debate", max_concurrency=callers)
        answers = await asyncio.gather(*(coord.call("debate", text, returns=str) for text in texts))
    assert answers == [text.upper() for text in texts]
    assert sorted(model.shown) == sorted(shown for text in texts for shown in ([text], [text, text.upper()]))


async def test_a_caller_sees_nothing_of_those_before_it() -> None:
    model = EchoModel()
    async with open_coord() as coord:
        await coord.provide(lambda: AssistantAgent("helper", model), "help")
        for text in ("first", "second"):
            assert await coord.call("help", text) == text.upper()
    assert model.shown == [["first"], ["second"]]


# what is shared


def shared_agent(model: Model) -> Made:
    agent = AssistantAgent("helper", model)
    return lambda: agent


def shared_team(model: Model) -> Made:
    team = RoundRobinGroupChat([AssistantAgent("one", model)], max_turns=1)
    return lambda: team


def shared_participant(model: Model) -> Made:
    agent = AssistantAgent("one", model)
    return lambda: RoundRobinGroupChat([agent, AssistantAgent("two", model)], max_turns=2)


def shared_in_an_inner_team(model: Model) -> Made:
    agent = AssistantAgent("one", model)
    return lambda: RoundRobinGroupChat([RoundRobinGroupChat([agent], name="inner", max_turns=1)], max_turns=1)


def shared_context(model: Model) -> Made:
    context = UnboundedChatCompletionContext()
    return lambda: AssistantAgent("helper", model, model_context=context)


def shared_context_of_a_participant(model: Model) -> Made:
    context = BufferedChatCompletionContext(9)
    return lambda: RoundRobinGroupChat([AssistantAgent("one", model, model_context=context)], max_turns=1)


def shared_context_of_a_selector(model: Model) -> Made:
    context = UnboundedChatCompletionContext()

    def team() -> Team:
        agents: list[ChatAgent | Team] = [AssistantAgent("one", model), AssistantAgent("two", model)]
        return SelectorGroupChat(agents, model, max_turns=1, selector_func=lambda _: "one", model_context=context)

    return team


def shared_in_a_society(model: Model) -> Made:
    team = RoundRobinGroupChat([AssistantAgent("one", model)], max_turns=1)
    return lambda: SocietyOfMindAgent("society", team, model)


def shared_behind_a_filter(model: Model) -> Made:
    agent = AssistantAgent("one", model)
    return lambda: MessageFilterAgent("filter", agent, MessageFilterConfig(per_source=[PerSourceFilter(source="user")]))


def shared_as_a_tool(model: Model) -> Made:
    agent = AssistantAgent("one", model)
    return lambda: AssistantAgent("helper", ReplayChatCompletionClient(["done"], TOOLS), tools=[AgentTool(agent)])


def shared_as_a_team_tool(model: Model) -> Made:
    team = RoundRobinGroupChat([AssistantAgent("one", model)], max_turns=1)
    tools: list[Any] = [TeamTool(team, "ask", "asks a team")]
    return lambda: AssistantAgent("helper", ReplayChatCompletionClient(["done"], TOOLS), tools=tools)


class Wrapper(BaseChatAgent):
    """An agent of the user's own, which asks those that it holds."""

    def __init__(self, held: dict[str, list[Any]]) -> None:
        super().__init__("wrapper", "asks others")
        self.held = held
        self.itself = self

    @property
    def produced_message_types(self) -> Sequence[type[BaseChatMessage]]:
        return (TextMessage,)

    async def on_messages(self, messages: Sequence[BaseChatMessage], cancellation_token: CancellationToken) -> Response:
        result = await self.held["first"][0].run(task=messages[-1].to_text(), cancellation_token=cancellation_token)
        return Response(chat_message=TextMessage(content=result.messages[-1].to_text(), source=self.name))

    async def on_reset(self, cancellation_token: CancellationToken) -> None:
        pass


def shared_in_an_agent_of_the_users_own(model: Model) -> Made:
    agent = AssistantAgent("one", model)
    return lambda: Wrapper({"first": [agent]})


def shared_context_in_an_agent_of_the_users_own(model: Model) -> Made:
    context = UnboundedChatCompletionContext()
    return lambda: Wrapper({"first": [AssistantAgent("one", model)], "memory": [context]})


SHARED = [
    shared_agent, shared_team, shared_participant, shared_in_an_inner_team, shared_context, shared_context_of_a_participant,
    shared_context_of_a_selector, shared_in_a_society, shared_behind_a_filter, shared_as_a_tool, shared_as_a_team_tool,
    shared_in_an_agent_of_the_users_own, shared_context_in_an_agent_of_the_users_own,
]  # fmt: skip


@pytest.mark.parametrize("shared", SHARED)
async def test_what_is_shared_between_calls_is_refused(shared: Callable[[Model], Made]) -> None:
    """The first caller is served; no later one gets an answer, and nobody's model call shows another's text."""
    model = EchoModel()
    async with open_coord() as coord, soon():
        await coord.provide(shared(model), "help")
        await coord.call("help", "my secret")
        handle = await coord.submit("help", "other")
        with pytest.raises(RemoteError, match="inside the factory") as caught:
            await handle.result()
        assert caught.value.type == "ConfigError"
        assert (await handle.info()).attempt == 1, "another attempt would share it too"
    assert not any("other" in text for shown in model.shown for text in shown)


@pytest.mark.parametrize("shared", [shared_agent, shared_team, shared_participant, shared_context])
async def test_of_callers_at_once_one_alone_is_served_by_what_is_shared(shared: Callable[[Model], Made]) -> None:
    model, texts = EchoModel(), texts_of(8)
    async with open_coord() as coord, soon():
        await coord.provide(shared(model), "help")
        answers = await asyncio.gather(*(coord.call("help", text) for text in texts), return_exceptions=True)
    refused = [one for one in answers if isinstance(one, RemoteError) and one.type == "ConfigError"]
    (served,) = [number for number, one in enumerate(answers) if isinstance(one, str)]
    assert len(refused) == len(texts) - 1
    assert all(shown in ([texts[served]], [texts[served], texts[served].upper()]) for shown in model.shown)


async def test_a_model_client_may_be_shared() -> None:
    model = EchoModel()
    async with open_coord() as coord:
        for name in ("one", "two"):
            await coord.provide(lambda: AssistantAgent("helper", model), name)
        assert await coord.call("one", "a") == await coord.call("two", "a") == "A"


# values


async def test_a_selector_team_is_a_capability() -> None:
    """The model selects, and the selected one answers."""
    selector = ReplayChatCompletionClient(["poet", "critic"])

    def team() -> Team:
        agents: list[ChatAgent | Team] = [
            AssistantAgent("poet", ReplayChatCompletionClient(["a poem"]), description="writes"),
            AssistantAgent("critic", ReplayChatCompletionClient(["a fine poem"]), description="judges"),
        ]
        return SelectorGroupChat(agents, selector, termination_condition=MaxMessageTermination(3))

    async with open_coord() as coord, soon():
        await coord.provide(team, "verse")
        assert await coord.call("verse", "write of the sea") == "a fine poem"


async def test_structured_content_is_the_output_that_was_declared() -> None:
    model = ReplayChatCompletionClient(['{"title":"Tides","words":3}'], TOOLS)
    async with open_coord() as coord, soon():
        factory = lambda: AssistantAgent("helper", model, output_content_type=Summary)  # noqa: E731
        await coord.provide(factory, "summarize", output=Summary)
        assert await coord.call("summarize", "of tides", returns=Summary) == Summary(title="Tides", words=3)


@pytest.mark.parametrize(
    ("output", "text", "value"),
    [
        (Summary, '{"title":"a","words":1}', Summary(title="a", words=1)), (int, "7", 7), (list[str], '["a","b"]', ["a", "b"]),
        (Point, '{"x":1,"y":[2,3]}', Point(1, (2, 3))), (Mood, '"calm"', Mood.CALM), (date, '"2026-01-31"', date(2026, 1, 31)),
        (Diary, '{"on":"2026-01-31","moods":["calm"]}', Diary(on=date(2026, 1, 31), moods={Mood.CALM})), (float, "5", 5.0),
        (Summary, '{"title":"a","words":"1"}', Summary(title="a", words=1)),
        (dict[str, int], '{"a":1}', {"a": 1}), (str, "7", "7"), (str, '{"a":1}', '{"a":1}'), (None, "anything", None),
    ],
)  # fmt: skip
async def test_a_text_is_read_as_the_output_that_was_declared(output: Any, text: str, value: object) -> None:
    async with open_coord() as coord, soon():
        await coord.provide(lambda: AssistantAgent("helper", ReplayChatCompletionClient([text])), "read", output=output)
        assert await coord.call("read", "x", returns=output or type(None)) == value


async def test_an_input_that_is_no_text_is_shown_as_json() -> None:
    model = EchoModel()
    async with open_coord() as coord, soon():
        await coord.provide(lambda: AssistantAgent("helper", model), "read", input=Summary)
        await coord.call("read", Summary(title="a", words=1))
    assert model.shown == [['{"title":"a","words":1}']]


async def test_chat_messages_go_in_and_come_out_as_they_are() -> None:
    model = EchoModel()
    async with open_coord() as coord, soon():
        await coord.provide(lambda: AssistantAgent("helper", model), "talk", input=list[TextMessage], output=TextMessage)
        thread = [TextMessage(content=text, source="user") for text in ("a", "b")]
        answer = await coord.call("talk", thread, returns=TextMessage)
    assert (answer.content, answer.source) == ("B", "helper")
    assert model.shown == [["a", "b"]]


async def test_an_asynchronous_factory_is_awaited() -> None:
    async def make() -> AssistantAgent:
        await asyncio.sleep(0)
        return AssistantAgent("helper", EchoModel())

    async with open_coord() as coord, soon():
        await coord.provide(make, "help")
        assert await coord.call("help", "a") == "A"


# ends


async def test_a_retry_is_a_fresh_agent() -> None:
    models: list[ReplayChatCompletionClient] = []

    def make() -> AssistantAgent:
        models.append(ReplayChatCompletionClient(["7"] if models else ["no number"]))
        return AssistantAgent("helper", models[-1])

    async with open_coord() as coord, soon():
        await coord.provide(make, "count", output=int)
        assert await coord.call("count", "a", returns=int) == 7
    assert [len(model.create_calls) for model in models] == [1, 1]


@pytest.mark.parametrize("team", [False, True], ids=["agent", "team"])
async def test_a_model_client_that_ignores_its_token_is_stopped_too(team: bool) -> None:
    record = Record()

    def make() -> ChatAgent | Team:
        agent = AssistantAgent("helper", ActingModel(record, heeds_its_token=False))
        return RoundRobinGroupChat([agent], max_turns=1) if team else agent

    async with open_coord() as coord, soon():
        await coord.provide(make, "hold", input=Ask)
        with pytest.raises(TaskExpiredError):
            await coord.call("hold", Ask(do="hold"), timeout=0.3)
        hold = record.holds["x"]
        await hold.ended.wait()
    assert hold.seen == ["cancelled"]


@pytest.mark.parametrize("team", [False, True], ids=["agent", "team"])
async def test_a_model_client_hears_by_its_token_that_its_call_is_over(team: bool) -> None:
    record = Record()

    def make() -> ChatAgent | Team:
        agent = AssistantAgent("helper", ActingModel(record))
        return RoundRobinGroupChat([agent], max_turns=1) if team else agent

    async with open_coord() as coord, soon():
        await coord.provide(make, "hold", input=Ask)
        handle = await coord.submit("hold", Ask(do="hold"))
        hold = await record.begun("x")
        await handle.cancel()
        await hold.ended.wait()
        assert hold.asked()
    assert hold.seen == ["cancelled"]


async def test_agents_are_closed_after_each_call_also_after_a_failure() -> None:
    closed: list[str] = []

    class Closing(AssistantAgent):
        async def close(self) -> None:
            closed.append(self.name)

    async with open_coord() as coord, soon():
        await coord.provide(lambda: Closing("good", EchoModel()), "good")
        await coord.provide(lambda: Closing("bad", ReplayChatCompletionClient([])), "bad")
        await coord.call("good", "a")
        with pytest.raises(RemoteError):
            await coord.call("bad", "a", retry=RetryPolicy(tries=1))
    assert closed == ["good", "bad"]
