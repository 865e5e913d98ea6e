"""A process with an assistant whose context, memory and model answers are on disk, and a team:
``python -m tests.integration.workers.shapes_process <verb> <store>``.

``talk``: one more turn of everything; says what there is now, then waits for its input to end, or for its death. ``write``: adds
messages to one context and saves a state of two agents, over and over, and says which were acknowledged, until it is killed.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
from collections.abc import Mapping
from typing import Any

from autogen_agentchat.agents import AssistantAgent
from autogen_agentchat.teams import RoundRobinGroupChat
from autogen_core.memory import MemoryContent, MemoryMimeType
from autogen_core.models import UserMessage
from autogen_ext.models.cache import ChatCompletionCache
from autogen_ext.models.replay import ReplayChatCompletionClient

from autogen_coord import Coordination
from autogen_coord.teams import CoordCacheStore, CoordChatCompletionContext, CoordMemory


def crew(answer: str) -> RoundRobinGroupChat:
    return RoundRobinGroupChat([AssistantAgent(each, ReplayChatCompletionClient([answer])) for each in ("ann", "bob")], max_turns=1)


async def talk(coord: Coordination) -> None:
    """One more turn of everything."""
    context, memory = CoordChatCompletionContext("chat"), CoordMemory("notes")
    turn = len((await memory.query()).results)
    await memory.add(MemoryContent(content=f"turn {turn}", mime_type=MemoryMimeType.TEXT))
    agent = AssistantAgent("helper", ReplayChatCompletionClient([f"answer {turn}"]), model_context=context, memory=[memory])
    await agent.run(task=f"question {turn}")
    model = ChatCompletionCache(ReplayChatCompletionClient(["asked once"] if turn == 0 else []), CoordCacheStore("cache"))
    cached = (await model.create([])).content
    team = crew(f"word {turn}")
    await coord.state.load(team, "crew", missing_ok=True)
    last = (await team.run(task="go" if turn == 0 else None)).messages[-1]
    await coord.state.save(team, "crew")
    told = {
        "chat": [str(message.content) for message in await context.get_messages() if message.type != "SystemMessage"],
        "notes": [one.content for one in (await memory.query()).results],
        "cached": cached,
        "crew": [last.source, last.to_text()],
    }
    print(json.dumps(told), flush=True)


class Both:
    """A state of two agents that must stay alike."""

    def __init__(self, number: int) -> None:
        self.number = number

    async def save_state(self) -> Mapping[str, Any]:
        return {"ann/x": {"number": self.number}, "bob/x": {"number": self.number}, f"{self.number}/x": {"number": self.number}}

    async def load_state(self, state: Mapping[str, Any]) -> None:
        raise NotImplementedError


async def write(coord: Coordination) -> None:
    context, number = CoordChatCompletionContext("chat"), 0
    while True:
        await context.add_message(UserMessage(content=str(number), source=str(os.getpid())))
        await coord.state.save(Both(number), "both")
        print(number, flush=True)
        number += 1


async def main(verb: str, store: str) -> None:
    async with Coordination.open(store) as coord:
        await {"talk": talk, "write": write}[verb](coord)
        await asyncio.to_thread(sys.stdin.read)


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
