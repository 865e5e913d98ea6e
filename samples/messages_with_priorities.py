"""Agents that write to each other: urgent messages overtake; one agent pulls its messages, to the other they are pushed."""

import asyncio
import sys

from autogen_core import TopicId

from autogen_coord import EVERYONE, CapabilityAgent, Coordination, Message, MessageKind, Priority, on_message, run

told: asyncio.Queue[str] = asyncio.Queue()


class Editor(CapabilityAgent):
    """Its messages are pushed: a method is called for each, and again if it raises; returning acknowledges the message."""

    @on_message(MessageKind.TASK)
    async def edit(self, message: Message) -> None:
        await message.reply(f"{message.read(str).capitalize()}.")

    @on_message
    async def hear(self, message: Message) -> None:
        told.put_nowait(f"{message.kind} from {message.sender}: {message.body}")


async def write(coord: Coordination) -> None:
    """The writer pulls: a message is its own until it is acknowledged or rejected; if its process dies, it comes again."""
    while message := await coord.receive("writer", timeout=0):
        print(f"writer has {message.kind}: {message.body}")
        if message.body == "make coffee":
            await message.reject("not my trade", requeue=False)  # a dead letter; with requeue=True another gets it
            continue
        async with message:  # acknowledged at the end of the block, given back if it raises
            if message.kind == MessageKind.TASK:
                await message.reply("half of it", MessageKind.STATUS)
                await message.reply(f"{message.body} is written", MessageKind.RESULT)


async def main(store: str = "dict://") -> None:
    async with Coordination.open(store) as coord:
        begin = max([event.number async for event in coord.events(since=0, follow=False)], default=0)
        await Editor.register(coord.runtime, "editor", lambda: Editor("Edits"))
        await coord.receive("writer", timeout=0)  # opens its inbox; before that nobody of this name is known

        await coord.send("writer", "make coffee", sender="editor", priority=Priority.LOW)
        await coord.send("writer", "chapter one", sender="editor")
        await coord.send("writer", "more sea, less sand", sender="editor", kind=MessageKind.FEEDBACK, priority=Priority.URGENT)
        await write(coord)
        print("editor was told:", sorted([await told.get(), await told.get()]))

        print("request:", await coord.request("editor", "chapter one", returns=str, timeout=10))

        await coord.subscribe("news", "writer")
        for recipient in (TopicId("news", "default"), EVERYONE, TopicId("gossip", "default")):
            posted = await coord.send(recipient, "the book is out", sender="press", kind=MessageKind.STATUS)
            print("went to:", sorted(each.recipient for each in posted))
        await write(coord)
        print("editor was told:", await told.get())

        async for event in coord.events(since=begin, kinds=["task.failed"], follow=False):
            letter = await coord.task(event.subject)
            print("dead letter:", letter.error and letter.error["text"])


if __name__ == "__main__":
    run(main(*sys.argv[1:]))
