"""A process that receives and answers, made to be killed: ``python -m tests.integration.workers.message_process <store> <json>``.

Each line of its input is a command, each line of its output says what came of it: ``take`` receives a message and keeps it,
``done`` acknowledges what was taken first, ``answer`` receives one and replies with its body.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys

from autogen_coord import Coordination, Message
from autogen_coord.settings import Settings


def say(*words: object) -> None:
    os.write(1, (" ".join(map(str, words)) + "\n").encode())


async def main(store: str, settings: Settings) -> None:
    taken: list[Message] = []
    async with Coordination.open(store, settings=settings) as coord:
        say("ready", coord.session)
        while line := await asyncio.to_thread(sys.stdin.readline):
            what = line.strip()
            if what == "done":
                message = taken.pop(0)
                await message.ack()
                say("done", message.id)
                continue
            received = await coord.receive("writer")
            assert received is not None
            if what == "answer":
                await received.reply(received.body)
                await received.ack()
            else:
                taken.append(received)
            say(what, received.id, received.attempt, received.body)


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], Settings(**json.loads(sys.argv[2]))))
