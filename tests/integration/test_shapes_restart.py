"""AutoGen's shapes over the state, across processes: what one had when it was killed, the next goes on with."""

from __future__ import annotations

import json
import random
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from autogen_coord import Coordination
from autogen_coord.teams import CoordChatCompletionContext
from tests.integration.processes import started

MODULE = "tests.integration.workers.shapes_process"


@pytest.mark.process
@pytest.mark.timeout(60)
async def test_a_conversation_a_memory_a_cache_and_a_team_go_on_in_the_next_process(tmp_path: Path) -> None:
    store = str(tmp_path / "coord.db")
    told = []
    for kill in (True, False, False):
        async with started("talk", store, MODULE) as child:
            told.append(json.loads(await child.line()))
            if kill:
                child.process.kill()
            else:
                assert await child.end() == []
    assert [len(one["chat"]) for one in told] == [2, 4, 6]
    assert told[2]["chat"] == [f"{what} {turn}" for turn in range(3) for what in ("question", "answer")]
    assert told[2]["notes"] == ["turn 2", "turn 1", "turn 0"]
    assert [one["cached"] for one in told] == ["asked once"] * 3
    assert [one["crew"] for one in told] == [["ann", "word 0"], ["bob", "word 1"], ["ann", "word 2"]]


class Loaded:
    state: Mapping[str, Any]

    async def save_state(self) -> Mapping[str, Any]:
        return self.state

    async def load_state(self, state: Mapping[str, Any]) -> None:
        self.state = state


@pytest.mark.process
@pytest.mark.timeout(60)
@pytest.mark.parametrize("seed", range(3))
async def test_of_two_writers_that_are_killed_no_message_is_missing_and_no_state_is_half_saved(tmp_path: Path, seed: int) -> None:
    store, draw = str(tmp_path / "coord.db"), random.Random(seed)
    told: dict[str, int] = {}
    async with started("write", store, MODULE) as one, started("write", store, MODULE) as other:
        for child in (one, other):
            for _ in range(draw.randint(5, 40)):
                await child.line()
            child.process.kill()
            heard = await child.rest()
            told[str(child.process.pid)] = int(heard[-1]) if heard else 4
    async with Coordination.open(store) as coord:
        entries = await coord.state.series("chat").read()
        assert entries is not None
        assert [entry.key for entry in entries] == [f"chat/{number:012}" for number in range(1, len(entries) + 1)]
        messages = await CoordChatCompletionContext("chat").get_messages()
        for source, last in told.items():
            numbers = [int(str(one.content)) for one in messages if one.type == "UserMessage" and one.source == source]
            assert numbers == list(range(len(numbers)))
            assert len(numbers) > last
        both = Loaded()
        assert await coord.state.load(both, "both")
        (number,) = {one["number"] for one in both.state.values()}
        assert set(both.state) == {"ann/x", "bob/x", f"{number}/x"}
        assert len(await coord.state.list("saved/both/agents")) == 3
