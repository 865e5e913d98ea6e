"""``coord.state.save`` and ``load``: whole runtimes, teams and agents, a document for each agent."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

import pytest
from autogen_agentchat.agents import AssistantAgent
from autogen_agentchat.teams import RoundRobinGroupChat
from autogen_core import AgentId, BaseAgent, MessageContext, SingleThreadedAgentRuntime
from autogen_ext.models.replay import ReplayChatCompletionClient

from autogen_coord import Coordination, InvalidInputError, NotFoundError, PayloadTooLargeError, StoreUnavailableError
from tests.conftest import Fault, World


class Kept:
    """Something with a state."""

    def __init__(self, state: Any = None) -> None:
        self.state = state

    async def save_state(self) -> Mapping[str, Any]:
        return self.state  # type: ignore[no-any-return]

    async def load_state(self, state: Mapping[str, Any]) -> None:
        self.state = state


class Counter(BaseAgent):
    """Counts its messages."""

    def __init__(self) -> None:
        super().__init__("counts")
        self.count = 0

    async def on_message_impl(self, message: Any, ctx: MessageContext) -> int:
        self.count += 1
        return self.count

    async def save_state(self) -> Mapping[str, Any]:
        return {"count": self.count}

    async def load_state(self, state: Mapping[str, Any]) -> None:
        self.count = state["count"]


async def loaded(coord: Coordination, name: str = "it") -> Any:
    kept = Kept()
    assert await coord.state.load(kept, name)
    return kept.state


STATES: list[dict[str, Any]] = [
    {},
    {"a/x": {}, "b/y/z": {"n": [1, None]}, "a/": {"k": "v"}},
    {"a/..": {}, "a/%2F": {}, "a%2F/x": {}, "a/" + "é" * 300: {"long": 1}, "a/\x00": {}, "a/ ": {}},
    {"type": "TeamState", "version": "1.0.0", "agent_states": {"ann": {"a": 1}, ".": {}, "": 3, "b": None}},
    {"agent_states": {}, "version": "1.0.0"},
    {"version": "1", "agent_states": [1, 2], "other": {"a/b": 1}},
    {"a/x": {}, "b": {}},
    {"a/x": 3},
    {"count": 3},
]


@pytest.mark.parametrize("state", STATES, ids=range(len(STATES)))
async def test_what_was_saved_is_loaded_exactly_in_another_process(world: World, state: dict[str, Any]) -> None:
    await (await world.open()).state.save(Kept(state), "it")
    again = await loaded(await world.open())
    assert again == state
    assert list(again) == list(state)


async def test_each_agent_has_a_document_and_one_that_is_gone_has_none(coord: Coordination) -> None:
    first = await coord.state.save(Kept({"a/x": {"n": 1}, "b/x": {"n": 2}}), "it")
    assert [one.value for one in await coord.state.list("saved/it/agents")] == [{"n": 1}, {"n": 2}]
    assert (first.key, first.version) == ("saved/it", 1)
    second = await coord.state.save(Kept({"b/x": {"n": 3}, "c/x": {}}), "it")
    assert second.version == 2
    assert [one.key for one in await coord.state.list("saved/it/agents")] == ["saved/it/agents/b%2Fx", "saved/it/agents/c%2Fx"]
    assert await loaded(coord) == {"b/x": {"n": 3}, "c/x": {}}


async def test_names_do_not_meet(coord: Coordination) -> None:
    await coord.state.save(Kept({"a/x": {}}), "it")
    await coord.state.save(Kept({"b/x": {}}), "it2")
    assert await loaded(coord) == {"a/x": {}}
    for name in ("a/b", "", "..", "x" * 600, None):
        with pytest.raises(InvalidInputError):
            await coord.state.save(Kept({}), name)  # type: ignore[arg-type]


async def test_a_state_that_cannot_be_stored_names_its_agent_and_leaves_what_was_there(world: World) -> None:
    coord = await world.open(max_value=1_000)
    await coord.state.save(Kept({"a/x": {"n": 1}}), "it")
    for bad, error in (("x" * 1_000, PayloadTooLargeError), ({1}, InvalidInputError), (float("nan"), InvalidInputError)):
        with pytest.raises(error, match=r"agent 'b/x'") as refused:
            await coord.state.save(Kept({"a/x": {"n": 2}, "b/x": {"bad": bad}}), "it")
        assert refused.value.facts["agent"] == "b/x"
        assert await loaded(coord) == {"a/x": {"n": 1}}


async def test_what_the_store_refuses_leaves_what_was_there(coord: Coordination) -> None:
    await coord.state.save(Kept({"a/x": {"n": 1}, "b/x": {}}), "it")
    with Fault(coord), pytest.raises(StoreUnavailableError):
        await coord.state.save(Kept({"a/x": {"n": 2}}), "it")
    assert await loaded(coord) == {"a/x": {"n": 1}, "b/x": {}}


async def test_large_states_and_many_agents_are_saved_as_a_whole(world: World) -> None:
    coord = await world.open()
    state = {f"a/{number}": {"n": number, "text": "x" * (20_000 if number < 3 else 1)} for number in range(1_500)}
    await coord.state.save(Kept(state), "it")
    assert await loaded(coord) == state
    await coord.state.save(Kept({"a/0": {}}), "it")
    assert await loaded(coord) == {"a/0": {}}
    assert len(await coord.state.list("saved/it/agents")) == 1


async def test_of_several_that_save_at_once_one_stands_as_a_whole(world: World) -> None:
    coords = [await world.open() for _ in range(3)]
    states = [{f"{name}/{number}": {"by": name} for number in range(4)} for name in "abc"]
    await asyncio.gather(*(coord.state.save(Kept(state), "it") for coord, state in zip(coords, states, strict=True)))
    assert await loaded(coords[0]) in states
    assert len(await coords[0].state.list("saved/it/agents")) == 4


async def test_who_loads_while_others_save_has_one_of_their_states(world: World) -> None:
    writer, reader = await world.open(), await world.open()
    await writer.state.save(Kept({"a/x": {"n": 0}, "b/x": {"n": 0}}), "it")

    async def write() -> None:
        for number in range(1, 20):
            await writer.state.save(Kept({"a/x": {"n": number}, f"{number}/x": {"n": number}}), "it")

    saving = asyncio.ensure_future(write())
    while not saving.done():
        assert len({one["n"] for one in (await loaded(reader)).values()}) == 1
    await saving


async def test_under_any_policy_a_state_is_saved_as_it_is(coord: Coordination) -> None:
    await coord.state.set_policy("", "reduce", {"n": "add"})
    for _ in range(2):
        await coord.state.save(Kept({"a/x": {"n": 1}}), "it")
    assert await loaded(coord) == {"a/x": {"n": 1}}


async def test_what_was_never_saved_is_not_found(coord: Coordination) -> None:
    kept = Kept("untouched")
    with pytest.raises(NotFoundError, match=r"'it'"):
        await coord.state.load(kept, "it")
    assert await coord.state.load(kept, "it", missing_ok=True) is False
    assert kept.state == "untouched"


async def test_a_state_of_which_an_agent_was_deleted_is_not_loaded(coord: Coordination) -> None:
    await coord.state.save(Kept({"a/x": {}, "b/x": {}}), "it")
    await coord.state.delete("saved/it/agents/b%2Fx")
    with pytest.raises(NotFoundError, match=r"'b/x'"):
        await loaded(coord)


async def test_another_document_is_no_saved_state(coord: Coordination) -> None:
    await coord.state.put("saved/it", {"agents": {}})
    with pytest.raises(InvalidInputError, match="another kind"):
        await loaded(coord)
    with pytest.raises(InvalidInputError, match="another kind"):
        await coord.state.save(Kept({}), "it")


async def test_a_snapshot_brings_back_what_was_saved(coord: Coordination) -> None:
    await coord.state.save(Kept({"a/x": {"n": 1}, "b/x": {}}), "it")
    await coord.state.snapshot("good", "saved/it")
    await coord.state.save(Kept({"a/x": {"n": 2}}), "it")
    await coord.state.restore("good")
    assert await loaded(coord) == {"a/x": {"n": 1}, "b/x": {}}


async def counting() -> SingleThreadedAgentRuntime:
    runtime = SingleThreadedAgentRuntime()
    await Counter.register(runtime, "counter", Counter)
    return runtime


async def test_a_runtime_goes_on_where_it_was(world: World) -> None:
    first = await counting()
    first.start()
    for key in ("x", "x", "y/z"):
        await first.send_message("hi", AgentId("counter", key))
    await first.stop_when_idle()
    await (await world.open()).state.save(first, "it")
    second = await counting()
    assert await (await world.open()).state.load(second, "it")
    assert await second.save_state() == await first.save_state() == {"counter/x": {"count": 2}, "counter/y/z": {"count": 1}}
    second.start()
    assert await second.send_message("hi", AgentId("counter", "x")) == 3
    await second.stop()


def crew(*answers: str) -> RoundRobinGroupChat:
    return RoundRobinGroupChat([AssistantAgent(each, ReplayChatCompletionClient(answers)) for each in ("ann", "bob")], max_turns=1)


async def test_a_team_goes_on_where_it_was(world: World) -> None:
    first = crew("one")
    await first.run(task="go")
    coord = await world.open()
    await coord.state.save(first, "crew")
    assert len(await coord.state.list("saved/crew/agents")) == 3, "two agents and who manages them"
    second = crew("two")
    await (await world.open()).state.load(second, "crew")
    assert await second.save_state() == await first.save_state()
    last = (await second.run()).messages[-1]
    assert (last.source, last.to_text()) == ("bob", "two")


async def test_an_agent_of_its_own_is_saved_too(coord: Coordination) -> None:
    first = AssistantAgent("ann", ReplayChatCompletionClient(["one"]))
    await first.run(task="go")
    await coord.state.save(first, "ann")
    second = AssistantAgent("ann", ReplayChatCompletionClient([]))
    await coord.state.load(second, "ann")
    assert await second.save_state() == await first.save_state()
