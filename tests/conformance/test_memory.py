"""`CoordMemory`: what agents remember, on disk, found by its words."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest
from autogen_agentchat.agents import AssistantAgent
from autogen_core import CancellationToken, Image
from autogen_core.memory import ListMemory, Memory, MemoryContent, MemoryMimeType, MemoryQueryResult
from autogen_core.model_context import UnboundedChatCompletionContext
from autogen_core.models import AssistantMessage, SystemMessage, UserMessage
from autogen_ext.models.replay import ReplayChatCompletionClient
from PIL import Image as Pillow

from autogen_coord import Coordination, InvalidInputError, PayloadTooLargeError
from autogen_coord.teams import CoordMemory
from tests.conftest import World


def text(content: str, kind: MemoryMimeType | str = MemoryMimeType.TEXT, **metadata: Any) -> MemoryContent:
    return MemoryContent(content=content, mime_type=kind, metadata=metadata or None)


def contents(found: MemoryQueryResult) -> list[Any]:
    return [one.content for one in found.results]


async def remembering(*entries: str, limit: int = 10) -> CoordMemory:
    memory = CoordMemory("notes", limit=limit)
    for entry in entries:
        await memory.add(text(entry))
    return memory


KEPT = [
    text("plain"),
    text("# a title", MemoryMimeType.MARKDOWN, source="ann", pages=[1, 2]),
    MemoryContent(content={"name": "Ann", "boats": ["Tide"]}, mime_type=MemoryMimeType.JSON),
    text('{"as": "text"}', MemoryMimeType.JSON),
    text("by name", "text/plain"),
]


@pytest.mark.parametrize("content", KEPT, ids=lambda content: str(content.mime_type))
async def test_what_is_remembered_comes_back_in_another_process(world: World, content: MemoryContent) -> None:
    await CoordMemory("notes", state=(await world.open()).state).add(content)
    (found,) = (await CoordMemory("notes", state=(await world.open()).state).query()).results
    kind = content.mime_type if isinstance(content.mime_type, MemoryMimeType) else MemoryMimeType(content.mime_type)
    assert found == content.model_copy(update={"mime_type": kind})


@pytest.mark.parametrize(
    "content",
    [
        MemoryContent(content=Image(Pillow.new("RGB", (1, 1))), mime_type=MemoryMimeType.IMAGE),
        MemoryContent(content=b"\x00", mime_type=MemoryMimeType.BINARY),
        MemoryContent(content=b"text", mime_type=MemoryMimeType.TEXT),
        MemoryContent(content={"a": 1}, mime_type=MemoryMimeType.TEXT),
        MemoryContent(content={"a": float("nan")}, mime_type=MemoryMimeType.JSON),
        text("x", "image/png"),
        text("x", metadata_that_is_no_json={1, 2}),
    ],
    ids=range(7),
)
async def test_what_has_no_words_or_is_no_json_is_refused(coord: Coordination, content: MemoryContent) -> None:
    with pytest.raises(InvalidInputError):
        await CoordMemory("notes").add(content)
    assert contents(await CoordMemory("notes").query()) == []


async def test_what_is_too_large_is_refused(world: World) -> None:
    memory = CoordMemory("notes", state=(await world.open(max_value=100)).state)
    with pytest.raises(PayloadTooLargeError):
        await memory.add(text("x" * 100))


async def test_the_words_of_a_query_find_what_has_them_the_best_first(coord: Coordination) -> None:
    memory = await remembering("the moon lifts the sea", "the sun", "moon, moon, sea: full", "boats")
    await memory.add(MemoryContent(content={"Moon": ["full"]}, mime_type=MemoryMimeType.JSON))
    assert contents(await memory.query("SEA moon")) == [
        "moon, moon, sea: full",
        "the moon lifts the sea",
        {"Moon": ["full"]},
    ]
    assert contents(await memory.query("moons")) == []
    found = (await memory.query(text("boats!"))).results
    assert [one.metadata is not None and one.metadata["score"] > 0 for one in found] == [True]


async def test_of_entries_that_fit_alike_the_newer_comes_first(coord: Coordination) -> None:
    memory = await remembering("the tide 1", "the tide 2", "the tide 3")
    assert contents(await memory.query("tide")) == ["the tide 3", "the tide 2", "the tide 1"]


async def test_a_query_keeps_the_metadata_and_adds_the_score(coord: Coordination) -> None:
    memory = CoordMemory("notes")
    await memory.add(text("tide", page=3))
    (found,) = (await memory.query("tide")).results
    assert found.metadata is not None
    assert found.metadata["page"] == 3
    assert set(found.metadata) == {"page", "score"}


async def test_a_query_answers_a_bounded_number(coord: Coordination) -> None:
    memory = await remembering(*(f"tide {number}" for number in range(12)), limit=3)
    assert contents(await memory.query("tide")) == ["tide 11", "tide 10", "tide 9"]
    assert contents(await memory.query("tide", limit=1)) == ["tide 11"]
    assert contents(await memory.query("?", limit=2)) == ["tide 11", "tide 10"]
    assert len(contents(await memory.query(limit=100))) == 12
    for limit in (0, 1_001, True, "3"):
        with pytest.raises(InvalidInputError, match="limit"):
            await memory.query("tide", limit=limit)  # type: ignore[arg-type]
    with pytest.raises(InvalidInputError, match="top_k"):
        await memory.query("tide", top_k=3)


async def test_a_context_is_given_what_autogens_list_memory_would_give(coord: Coordination) -> None:
    own, memory = ListMemory(), await remembering("a", "b")
    for entry in "ab":
        await own.add(text(entry))
    contexts = UnboundedChatCompletionContext(), UnboundedChatCompletionContext()
    results = await own.update_context(contexts[0]), await memory.update_context(contexts[1])
    assert await contexts[0].get_messages() == await contexts[1].get_messages() != []
    assert results[0] == results[1]


async def test_an_empty_memory_says_nothing(coord: Coordination) -> None:
    context = UnboundedChatCompletionContext()
    assert (await CoordMemory("notes").update_context(context)).memories.results == []
    assert await context.get_messages() == []


@pytest.mark.parametrize(
    ("last", "told"),
    [
        (UserMessage(content="about boats", source="ann"), ["boats sail", "sun 2", "old boats"]),
        (UserMessage(content=["boats?"], source="ann"), ["boats sail", "sun 2", "old boats"]),
        (AssistantMessage(content="nothing known", source="bob"), ["sun 1", "sun 2", "old boats"]),
        (None, ["sun 1", "sun 2", "old boats"]),
    ],
)
async def test_of_many_entries_a_context_is_given_those_that_fit_and_the_newest_in_order(
    coord: Coordination, last: Any, told: list[str]
) -> None:
    memory = await remembering("boats sail", "sun 0", "sun 1", "sun 2", "old boats", limit=3)
    context = UnboundedChatCompletionContext([last] if last else [])
    assert contents((await memory.update_context(context)).memories) == told
    message = (await context.get_messages())[-1]
    assert isinstance(message, SystemMessage)
    assert message.content.strip().splitlines()[1:] == [f"{number}. {one}" for number, one in enumerate(told, 1)]


async def test_many_may_add_at_once(world: World) -> None:
    memories = [CoordMemory("notes", limit=100, state=(await world.open()).state) for _ in range(3)]
    await asyncio.gather(*(memories[number % 3].add(text(f"{number}")) for number in range(60)))
    assert sorted(contents(await memories[0].query()), key=int) == [str(number) for number in range(60)]


async def test_what_is_cleared_is_forgotten(coord: Coordination) -> None:
    memory = await remembering("a")
    await memory.clear()
    await memory.close()
    assert contents(await memory.query("a")) == contents(await memory.query()) == []
    await memory.add(text("b"))
    assert contents(await memory.query()) == ["b"]


async def test_a_cancelled_call_does_nothing(coord: Coordination) -> None:
    memory, token = await remembering("a"), CancellationToken()
    token.cancel()
    with pytest.raises(asyncio.CancelledError):
        await memory.add(text("b"), token)
    with pytest.raises(asyncio.CancelledError):
        await memory.query("a", token)
    assert contents(await memory.query()) == ["a"]


async def test_a_chats_messages_are_no_memory(coord: Coordination) -> None:
    await coord.state.series("notes").append({"content": "x", "type": "UserMessage"})
    with pytest.raises(InvalidInputError, match="notes"):
        await CoordMemory("notes").query("x")


async def test_an_assistants_model_is_shown_what_is_remembered(coord: Coordination) -> None:
    seen: list[str] = []

    class Listening(ReplayChatCompletionClient):
        async def create(self, messages: Any, **options: Any) -> Any:
            seen.extend(message.content for message in messages if message.type == "SystemMessage")
            return await super().create(messages, **options)

    agent = AssistantAgent("helper", Listening(["Ann."]), memory=[await remembering("Ann sails")], system_message=None)
    assert (await agent.run(task="who sails?")).messages[-1].to_text() == "Ann."
    assert [one.strip().splitlines()[-1] for one in seen] == ["1. Ann sails"]


async def test_it_is_a_component_that_says_where_and_no_more(world: World) -> None:
    coord = await world.open("papers")
    memory = CoordMemory("notes", limit=3, state=coord.state)
    await memory.add(text("secret"))
    dumped = json.loads(memory.dump_component().model_dump_json())
    assert dumped["provider"] == "autogen_coord.teams.CoordMemory"
    assert dumped["config"] == {"key": "notes", "namespace": "papers", "limit": 3}
    loaded = Memory.load_component(dumped)
    assert contents(await loaded.query("secret")) == ["secret"]
    assert json.loads(loaded.dump_component().model_dump_json()) == dumped
