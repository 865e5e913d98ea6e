"""AutoGen's shapes over the state, across processes: what one had when it was killed, the next goes on with."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

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
