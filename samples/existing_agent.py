"""An AutoGen agent that was written without this package, made durable without a change to it."""

import sys

from autogen_core import AgentId, SingleThreadedAgentRuntime
from plain_autogen.translator import Phrase, Translation, Translator, look_up

from autogen_coord import Coordination, RetryPolicy, run

TRANSLATOR = AgentId("translator", "default")
outages = ["the dictionary is away"]


async def unsteady(words: str) -> str:
    if outages:
        raise ConnectionError(outages.pop())
    return await look_up(words)


async def main(store: str = "dict://") -> None:
    runtime = SingleThreadedAgentRuntime()
    await Translator.register(runtime, "translator", lambda: Translator(unsteady))
    async with Coordination.open(store, runtime=runtime) as coord:
        await coord.provide(TRANSLATOR, "translate", input=Phrase, output=Translation)

        # a task: stored before it runs, tried again when its handler raises
        retry = RetryPolicy(tries=3, backoff=0.01)
        handle = await coord.submit("translate", Phrase("good morning"), returns=Translation, retry=retry)
        print("durable:", await handle.result())
        for attempt in (await handle.info()).attempts:
            print(f"attempt {attempt.number}:", attempt.end, attempt.error["text"] if attempt.error else "")

        runtime.start()  # not needed for tasks: they call the agent directly
        print("by message:", await runtime.send_message(Phrase("good night"), TRANSLATOR))  # the same agent: its second
        await runtime.stop_when_idle()
    await runtime.close()  # whoever made the runtime closes it


if __name__ == "__main__":
    run(main(*sys.argv[1:]))
