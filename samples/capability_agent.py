"""An AutoGen agent whose methods are capabilities; `sticky` gives each document an agent of its own."""

import sys

from autogen_core import SingleThreadedAgentRuntime

from autogen_coord import CapabilityAgent, Coordination, TaskContext, capability, run

LIBRARY = {"tides": "the moon lifts the sea and the sea falls back", "winds": "the sun stirs the air"}
loaded: list[str] = []


class Reader(CapabilityAgent):
    """Reads one document, the one that its key names, and keeps it for the next question."""

    def __init__(self) -> None:
        super().__init__("Answers questions about a document")
        loaded.append(self.id.key)
        self._words = LIBRARY[self.id.key].split()

    @capability("count", description="How often a word occurs", max_concurrency=4)
    async def count(self, word: str, ctx: TaskContext) -> int:
        await ctx.progress(0.5, f"searching {self.id.key} for {word!r}")
        return self._words.count(word)

    @capability
    async def longest(self, limit: int) -> list[str]:
        """Its longest words"""
        return sorted(self._words, key=len, reverse=True)[:limit]


async def main(store: str = "dict://") -> None:
    runtime = SingleThreadedAgentRuntime()
    await Reader.register(runtime, "reader", Reader)  # AutoGen's own; before or after `open`, as you like
    async with Coordination.open(store, runtime=runtime) as coord:
        # by reference: mypy knows that it takes a str and gives an int
        handle = await coord.submit(Reader.count, "the", sticky="tides")
        print("tides:", await handle.result(), "times 'the'")
        async for event in coord.events(since=0, kinds=["task.progressed"], follow=False):
            if event.subject == handle.id:
                print("on its way:", event.data["note"])
        print("winds:", await coord.call(Reader.count, "the", sticky="winds"), "times 'the'")

        # by name, as another process would that has not got the class
        longest = await coord.registry.describe("longest")
        print(longest.description, longest.output_schema)
        print("tides:", await coord.call("longest", 2, returns=list[str], sticky="tides"))
        print("agents made:", loaded)  # one a document, for both capabilities

    await runtime.close()


if __name__ == "__main__":
    run(main(*sys.argv[1:]))
