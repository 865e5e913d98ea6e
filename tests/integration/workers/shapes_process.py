"""A process with an assistant whose context, memory and model answers are on disk, and a team:
``python -m tests.integration.workers.shapes_process <verb> <store>``.

``talk``: says its line number, the assistant's conversation so far and what it remembers, then waits for its input to end, or for
its death.
"""

from __future__ import annotations

import asyncio
import json
import sys

from autogen_agentchat.agents import AssistantAgent
from autogen_agentchat.teams import RoundRobinGroupChat
from autogen_core.memory import MemoryContent, MemoryMimeType
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


async def main(verb: str, store: str) -> None:
    assert verb == "talk"
    async with Coordination.open(store) as coord:
        await talk(coord)
        await asyncio.to_thread(sys.stdin.read)


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
