"""AgentChat agents and teams as capabilities: a factory makes a fresh one for each call, so no caller's text meets another's.

Offline the models' answers are replayed. OPENAI_BASE_URL (and OPENAI_API_KEY, OPENAI_MODEL) names any OpenAI-compatible server.
"""

import asyncio
import os
import sys

from autogen_agentchat.agents import AssistantAgent
from autogen_agentchat.teams import SelectorGroupChat
from autogen_core.models import ChatCompletionClient, ModelInfo
from autogen_ext.models.replay import ReplayChatCompletionClient

from autogen_coord import ConfigError, Coordination, run

QUESTIONS = ["What lifts the sea?", "What lights the night?", "What circles the earth?"]


def server() -> ChatCompletionClient | None:
    if not os.environ.get("OPENAI_BASE_URL"):
        return None
    try:
        from autogen_ext.models.openai import OpenAIChatCompletionClient
    except ImportError as error:
        raise ConfigError('OPENAI_BASE_URL is set, but there is no client for it: pip install "autogen-ext[openai]"') from error
    return OpenAIChatCompletionClient(
        model=os.environ.get("OPENAI_MODEL", "gpt-4o-mini"),
        base_url=os.environ["OPENAI_BASE_URL"],
        api_key=os.environ.get("OPENAI_API_KEY", "none"),
        model_info=ModelInfo(vision=False, function_calling=False, json_output=False, family="unknown", structured_output=False),
    )


async def main(store: str = "dict://") -> None:
    client = server()  # one for all: a model client remembers nothing

    def model(*replayed: str) -> ChatCompletionClient:
        return client or ReplayChatCompletionClient(replayed)

    def helper() -> AssistantAgent:
        return AssistantAgent("helper", model("The moon."), system_message="Answer in a few words.")

    def panel() -> SelectorGroupChat:
        chat = model("physicist", "The moon's gravity raises two bulges.", "editor", "The moon pulls the water up.")
        names = ["physicist", "historian", "editor"]
        return SelectorGroupChat([AssistantAgent(each, chat, description=each) for each in names], chat, max_turns=2)

    async with Coordination.open(store) as coord:
        await coord.provide(helper, "ask", max_concurrency=2)  # how many talk to the model at once
        await coord.provide(panel, "discuss")
        answers = await asyncio.gather(*(coord.call("ask", each, returns=str, timeout=60) for each in QUESTIONS))
        for question, answer in zip(QUESTIONS, answers, strict=True):
            print(question, answer)

        # a key: asked again, also by another process, the store answers and no model is called
        first, again = [await coord.submit("discuss", "Why are there tides?", returns=str, key="tides") for _ in range(2)]
        print("panel:", await first.result(timeout=60))
        print("again:", await again.result(), first.id == again.id)
    if client is not None:
        await client.close()


if __name__ == "__main__":
    run(main(*sys.argv[1:]))
