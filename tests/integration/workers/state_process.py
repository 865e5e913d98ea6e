"""A process that writes documents until it is killed: ``python -m tests.integration.workers.state_process <store> <json> <seed>``.

Each line of its output acknowledges what was awaited: ``wrote <key> <version> <what>``, several of them for one write of several.
Half of its writes expect the version that it read, and are made again when another was quicker; the others add up (reduce).
"""

from __future__ import annotations

import asyncio
import json
import os
import random
import sys

from autogen_coord import Coordination, VersionConflictError
from autogen_coord.core.documents import Document
from autogen_coord.core.state_edits import Put
from autogen_coord.settings import Settings

KEYS = tuple(f"shared/{number}" for number in range(5))
PAIR = ("pair/left", "pair/right")
"""Always written together, with the same value."""
SUM = "sum"
WRITERS = 6
LARGE = "a body that is kept beside its row. " * 20


def say(*lines: str) -> None:
    os.write(1, "".join(f"{line}\n" for line in lines).encode())


def wrote(*documents: Document | None) -> None:
    say(*[f"wrote {one.key} {one.version} {told(one.value)}" for one in documents if one is not None])


def told(value: object) -> str:
    """What a value is known by."""
    return str(value["mark"] if isinstance(value, dict) else value)


async def main(store: str, settings: Settings, seed: str) -> None:
    async with Coordination.open(store, settings=settings) as coord:
        say("ready")
        async with asyncio.TaskGroup() as group:
            for number in range(WRITERS):
                group.create_task(write(coord, f"{seed}.{number}"))


async def write(coord: Coordination, name: str) -> None:
    draw, count = random.Random(name), 0
    while True:
        count += 1
        mark, what = f"{name}.{count}", draw.random()
        value = {"mark": mark, "text": draw.choice(("", "", LARGE))}
        if what < 0.25:
            await coord.state.put(SUM, {"mark": 1}, reducers={"mark": "add"})
            say("added")
        elif what < 0.45:
            wrote(*await coord.state.put_many(dict.fromkeys(PAIR, value)))
        else:
            await set_one(coord, draw.choice(KEYS), value)


async def set_one(coord: Coordination, key: str, value: object) -> None:
    """By compare-and-set; its version is that which was read, and one."""
    while True:
        known = await coord.state.get(key)
        try:
            (written,) = await coord.state.put_many([Put(key, value, 0 if known is None else known.version)])
        except VersionConflictError:
            continue
        wrote(written)
        return


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], Settings(**json.loads(sys.argv[2])), sys.argv[3]))
