"""Ask everybody who provides a capability; and read the log of what happened."""

import sys

from autogen_coord import Capability, Coordination, RetryPolicy, TaskContext, capability, run


def voter(name: str, vote: str) -> Capability[str, str]:
    @capability("vote")
    async def answer(question: str, ctx: TaskContext) -> str:
        await ctx.progress(0.5, "thinking")
        if not vote:
            raise PermissionError(f"{name} abstains")
        return f"{name}: {vote}"

    return answer


async def main(store: str = "dict://vote") -> None:
    async with Coordination.open(store) as ann, Coordination.open(store) as bob, Coordination.open(store) as eve:
        # three sessions, as if they were three processes
        await ann.provide(voter("ann", "yes"))
        await bob.provide(voter("bob", "no"))
        await eve.provide(voter("eve", ""))
        outcomes = await ann.broadcast(voter("", ""), "shall we?", retry=RetryPolicy(tries=1))
        for outcome in sorted(outcomes, key=lambda each: str(each.value)):
            print(outcome.value if outcome.error is None else f"error: {outcome.error.text}")

        await bob.withdraw("vote")
        await eve.withdraw("vote")
        begin = [event.number async for event in ann.events(since=0, follow=False)][-1]
        await ann.call("vote", "and now?", returns=str)
        async for event in ann.events(since=begin, follow=False):
            print(event.number - begin, event.kind, event.data.get("note", ""))


if __name__ == "__main__":
    run(main(*sys.argv[1:]))
