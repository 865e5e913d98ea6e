"""A process that reads and writes shared state.

``python -m tests.integration.workers.shared_state_process <store> <settings as json>``

Each line of its input is a command, each line of its output says what came of it:

- ``put <key> <json>``: write a document: ``put <version>``.
- ``append <thread> <word> <count> <keep>``: so many appenders at once, each appends ``[word, place]``:
  ``appended <numbers as json>``. ``keep`` greater than 0: old messages are summarised to the list of their numbers.
- ``steps <name> <word> <count>``: plan, start, score and complete so many stages at once: ``stepped``.

It ends when its input does.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
from typing import Any

from autogen_coord import Coordination, ThreadMessage
from autogen_coord.settings import Settings


def say(*words: object) -> None:
    os.write(1, (" ".join(map(str, words)) + "\n").encode())


async def numbers_of(summary: Any, messages: list[ThreadMessage]) -> list[int]:
    await asyncio.sleep(0.001)
    return [*(summary or []), *(message.number for message in messages)]


async def append(coord: Coordination, name: str, word: str, count: int, keep: int) -> list[int]:
    terms: dict[str, Any] = {"keep": keep, "summarise": numbers_of} if keep else {}

    async def one(place: int) -> list[int]:
        return await coord.state.thread(name, **terms).append([word, place])

    return [number for some in await asyncio.gather(*map(one, range(count))) for number in some]


async def steps(coord: Coordination, name: str, word: str, count: int) -> None:
    progress = coord.state.progress(name)

    async def one(place: int) -> None:
        stage = f"{word}{place}"
        await progress.plan(stage)
        await progress.start(stage)
        await progress.score("shared", place)
        await progress.complete(stage, place)

    await progress.plan("shared")
    await asyncio.gather(*map(one, range(count)))


async def main(store: str, settings: str) -> None:
    async with Coordination.open(store, settings=Settings(**json.loads(settings))) as coord:
        say("open")
        while line := await asyncio.to_thread(sys.stdin.readline):
            verb, *words = line.split()
            if verb == "put":
                say("put", (await coord.state.put(words[0], json.loads(words[1]))).version)
            elif verb == "append":
                say("appended", json.dumps(await append(coord, words[0], words[1], int(words[2]), int(words[3]))))
            else:
                await steps(coord, words[0], words[1], int(words[2]))
                say("stepped")


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
