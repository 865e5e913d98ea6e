"""A plain AutoGen program, written before autogen-coord: one agent that answers one kind of message."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from autogen_core import AgentId, MessageContext, RoutedAgent, SingleThreadedAgentRuntime, message_handler


@dataclass
class Phrase:
    words: str


@dataclass
class Translation:
    words: str
    number: int


async def look_up(words: str) -> str:
    return {"good morning": "bonjour", "good night": "bonne nuit"}.get(words, words)


class Translator(RoutedAgent):
    def __init__(self, dictionary: Callable[[str], Awaitable[str]] = look_up) -> None:
        super().__init__("Translates phrases into French")
        self._dictionary = dictionary
        self._done = 0

    @message_handler
    async def translate(self, message: Phrase, ctx: MessageContext) -> Translation:
        words = await self._dictionary(message.words)
        self._done += 1
        return Translation(words, self._done)


async def main() -> None:
    runtime = SingleThreadedAgentRuntime()
    await Translator.register(runtime, "translator", Translator)
    runtime.start()
    print(await runtime.send_message(Phrase("good night"), AgentId("translator", "default")))
    await runtime.stop_when_idle()
    await runtime.close()


if __name__ == "__main__":
    asyncio.run(main())
