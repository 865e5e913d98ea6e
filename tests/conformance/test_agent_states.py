"""Agents that ask for it have their state kept with each task that they finish, and get it back wherever they are made."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any, ClassVar

import pytest
from autogen_core import AgentId, MessageContext, SingleThreadedAgentRuntime, message_handler
from pydantic import BaseModel

from autogen_coord import (
    CapabilityAgent,
    Coordination,
    InvalidInputError,
    Message,
    RemoteError,
    RetryPolicy,
    capability,
    on_message,
)
from autogen_coord.core.events import Kind
from tests.conftest import World, soon, until

ONCE = RetryPolicy(tries=1)


class Word(BaseModel):
    text: str


class Memory(CapabilityAgent):
    """Remembers what it was told."""

    keep_state = True
    loads: ClassVar[list[str]] = []

    def __init__(self) -> None:
        super().__init__("remembers")
        self.words: list[Any] = []

    @capability("tell")
    async def tell(self, text: str) -> list[str]:
        self.words.append(text)
        if text == "bad":
            raise ValueError("no")
        return [str(word) for word in self.words]

    @capability("spoil")
    async def spoil(self, text: str) -> str:
        self.words.append({1, 2})
        return text

    @on_message
    async def heard(self, message: Message) -> None:
        self.words.append(message.body)

    @message_handler
    async def on_word(self, message: Word, ctx: MessageContext) -> str:
        self.words.append(message.text)
        return " ".join(map(str, self.words))

    async def save_state(self) -> Mapping[str, Any]:
        return {"words": self.words}

    async def load_state(self, state: Mapping[str, Any]) -> None:
        self.loads.append(str(self.id))
        self.words = list(state["words"])


async def tell(coord: Coordination, text: str, **options: Any) -> list[str]:
    async with soon():
        answer: list[str] = await coord.call("tell", text, returns=list[str], retry=ONCE, **options)
        return answer


async def kept(coord: Coordination, key: str = "default") -> Any:
    return await coord.state.value(f"agents/Memory/{key}/state")


@pytest.fixture(autouse=True)
def fresh() -> None:
    Memory.loads.clear()


@pytest.mark.parametrize("via_runtime", [False, True])
async def test_an_agent_that_is_made_later_goes_on_from_the_newest_state(world: World, via_runtime: bool) -> None:
    coord = await world.open()
    await coord.provide(Memory, via_runtime=via_runtime)
    assert await tell(coord, "a") == ["a"]
    assert await tell(coord, "b") == ["a", "b"]
    await tell(coord, "x", sticky="ada")
    document = await coord.state.get("agents/Memory/default/state")
    assert document is not None
    assert (document.value, document.version, document.actor) == ({"words": ["a", "b"]}, 2, "tell")
    await coord.close()
    other = await world.open()
    await other.provide(Memory, via_runtime=via_runtime)
    assert Memory.loads == []  # nobody was made yet
    assert await tell(other, "c") == ["a", "b", "c"]
    assert await tell(other, "y", sticky="ada") == ["x", "y"]
    assert await tell(other, "d") == ["a", "b", "c", "d"]
    assert Memory.loads == ["Memory/default", "Memory/ada"]  # once each


async def test_the_state_is_written_in_the_transaction_of_the_outcome(coord: Coordination) -> None:
    await coord.provide(Memory)
    await tell(coord, "a")
    events = [event async for event in coord.events(0, [Kind.STATE_CHANGED, Kind.TASK_COMPLETED], follow=False)]
    assert [event.kind for event in events] == [Kind.STATE_CHANGED, Kind.TASK_COMPLETED]
    assert events[1].number == events[0].number + 1


async def test_a_task_that_failed_keeps_nothing(coord: Coordination) -> None:
    await coord.provide(Memory)
    await tell(coord, "a")
    with pytest.raises(RemoteError):
        await tell(coord, "bad")
    assert await kept(coord) == {"words": ["a"]}


async def test_many_that_make_one_agent_load_it_once(world: World) -> None:
    coord = await world.open()
    await coord.provide(Memory)
    await tell(coord, "first")
    await coord.close()
    other = await world.open()
    await other.provide(Memory)
    await asyncio.gather(*(tell(other, f"w{number}") for number in range(20)))
    assert Memory.loads == ["Memory/default"]
    words = (await kept(other))["words"]
    assert words[0] == "first"
    assert sorted(words[1:]) == sorted(f"w{number}" for number in range(20))


async def test_messages_that_are_pushed_count_too(world: World) -> None:
    coord = await world.open()
    await coord.provide(Memory)
    await coord.send("Memory/ada", "hello")

    async def there() -> bool:
        return bool(await kept(coord, "ada") == {"words": ["hello"]})

    await until(there)


@pytest.mark.parametrize("via_runtime", [False, True])
async def test_an_agent_that_is_provided_by_its_id_is_kept_too(world: World, via_runtime: bool) -> None:
    for wanted in ("a", "a b"):
        coord = await world.open()
        await Memory.register(coord.runtime, "Memory", Memory)
        await coord.provide(AgentId("Memory", "one"), "word", input=Word, output=str, via_runtime=via_runtime)
        async with soon():
            assert await coord.call("word", Word(text=wanted[-1]), returns=str) == wanted
        await coord.close()


async def test_what_comes_by_the_runtime_alone_finds_the_state_loaded(world: World) -> None:
    coord = await world.open()
    await coord.provide(Memory)
    await tell(coord, "a")
    await coord.close()
    other = await world.open()
    await other.provide(Memory)
    async with soon():
        assert await other.runtime.send_message(Word(text="b"), AgentId("Memory", "default")) == "a b"
    assert await tell(other, "c") == ["a", "b", "c"]
    assert Memory.loads == ["Memory/default"]


async def test_a_registered_instance_is_loaded_before_its_first_task(world: World) -> None:
    coord = await world.open()
    await coord.provide(Memory)
    await tell(coord, "a")
    await coord.close()
    runtime = SingleThreadedAgentRuntime()
    await Memory().register_instance(runtime, AgentId("Memory", "default"))
    async with Coordination.open(world.url, runtime=runtime) as other:
        assert await tell(other, "b") == ["a", "b"]


async def test_odd_keys_have_places_of_their_own(coord: Coordination) -> None:
    await coord.provide(Memory)
    keys = ["a/b", "a//b", "..", ".", "a b", "a%2Fb", "a/b/state", "-"]
    for key in keys:
        assert await tell(coord, key, sticky=key) == [key]
    documents = await coord.state.list("agents/Memory")
    assert sorted(one.value["words"][0] for one in documents) == sorted(keys)


async def test_an_agent_that_does_not_ask_is_not_kept(coord: Coordination) -> None:
    class Plain(CapabilityAgent):
        @capability("plain")
        async def plain(self, text: str) -> str:
            return text

    await coord.provide(Plain)
    assert await coord.call("plain", "x", returns=str) == "x"
    assert await coord.state.list() == []


# what goes wrong


async def test_a_state_that_is_not_json_fails_the_attempt_and_says_where(coord: Coordination) -> None:
    await coord.provide(Memory)
    await tell(coord, "a")
    with pytest.raises(RemoteError, match=r"agents/Memory/default/state.*/words/1") as raised:
        await coord.call("spoil", "x", returns=str)
    assert raised.value.type == "InvalidInputError"
    assert await kept(coord) == {"words": ["a"]}
    info = await coord.task(raised.value.task_id)
    assert info.attempt == 1  # it would be no better the next time


async def test_a_state_that_is_not_taken_fails_the_attempt_until_it_is_mended(world: World) -> None:
    coord = await world.open()
    await coord.provide(Memory)
    await coord.state.put("agents/Memory/default/state", {"wrong": 1})
    with pytest.raises(RemoteError, match=r"does not take the state .*version 1 \(KeyError: 'words'\)") as raised:
        await tell(coord, "a")
    assert raised.value.type == "ConfigError"
    await coord.state.put("agents/Memory/default/state", {"words": ["mended"]})
    assert await tell(coord, "a") == ["mended", "a"]


async def test_asking_without_telling_a_state_is_refused_at_once(coord: Coordination) -> None:
    class Forgetful(CapabilityAgent):
        keep_state = True

        @capability("forget")
        async def forget(self, text: str) -> str:
            return text

    with pytest.raises(InvalidInputError, match="save_state"):
        await coord.provide(Forgetful)
