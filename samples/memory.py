"""An AutoGen assistant whose memory and conversation survive a restart, and a team that goes on where it was.

Each part runs in a process of its own. The model's answers are replayed: what is shown is what the model was shown.
"""

import asyncio
import sys
import tempfile

from autogen_agentchat.agents import AssistantAgent
from autogen_agentchat.teams import RoundRobinGroupChat
from autogen_core.memory import MemoryContent, MemoryMimeType
from autogen_ext.models.cache import ChatCompletionCache
from autogen_ext.models.replay import ReplayChatCompletionClient

from autogen_coord import Coordination, run
from autogen_coord.teams import CoordCacheStore, CoordChatCompletionContext, CoordMemory


def assistant(model: ReplayChatCompletionClient | ChatCompletionCache) -> AssistantAgent:
    return AssistantAgent(
        "assistant",
        model,
        memory=[CoordMemory("memories/ann", limit=2)],
        model_context=CoordChatCompletionContext("chats/ann", buffer_size=20),
    )


async def learn(coord: Coordination) -> None:
    memory = CoordMemory("memories/ann")
    for fact in ("Ann sails a small boat.", "Ann's harbour is Brest.", "Ann has a cat, Tide."):
        await memory.add(MemoryContent(content=fact, mime_type=MemoryMimeType.TEXT))
    model = ReplayChatCompletionClient(["Set sail at six."])
    print("said:", (await assistant(model).run(task="When do I leave the harbour?")).messages[-1].to_text())

    team = RoundRobinGroupChat(
        [AssistantAgent(each, ReplayChatCompletionClient([f"{each} was here"])) for each in "ab"], max_turns=1
    )
    await team.run(task="Sign the log.")
    await coord.state.save(team, "crew")


async def go_on(coord: Coordination) -> None:
    found = await CoordMemory("memories/ann").query("a cat, or a boat?")
    print("found:", [str(one.content) for one in found.results])

    model = ReplayChatCompletionClient(["At six, as I said."])
    cached = ChatCompletionCache(model, CoordCacheStore("cache/models"))
    await assistant(cached).run(task="When, again?")
    print("the model was shown:")
    for message in await CoordChatCompletionContext("chats/ann").get_messages():
        print("  ", message.type, str(message.content).strip().replace("\n", " | "))

    team = RoundRobinGroupChat([AssistantAgent(each, ReplayChatCompletionClient([f"{each} too"])) for each in "ab"], max_turns=1)
    await coord.state.load(team, "crew")
    print("the next of the crew:", (await team.run()).messages[-1].to_text())


async def process(store: str, part: str) -> None:
    async with Coordination.open(store) as coord:
        await {"learn": learn, "go_on": go_on}[part](coord)


async def main(store: str) -> None:
    for part in ("learn", "go_on"):
        print(f"-- a process: {part}", flush=True)
        started = await asyncio.create_subprocess_exec(sys.executable, __file__, store, part)
        if await started.wait():
            raise SystemExit(f"{part} failed")


if __name__ == "__main__":
    path = sys.argv[1] if sys.argv[1:] else f"{tempfile.mkdtemp()}/coord.db"
    run(process(path, sys.argv[2]) if sys.argv[2:] else main(path))
