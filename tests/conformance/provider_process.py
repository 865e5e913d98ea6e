"""A program that provides ``count`` with an input of text, until its input ends: another process of the tests."""

from __future__ import annotations

import asyncio
import sys

from autogen_coord import Coordination, capability


@capability
async def count(text: str) -> int:
    return len(text)


async def main(path: str) -> None:
    async with Coordination.open(path) as coord:
        await coord.provide(count)
        print("provided", flush=True)
        await asyncio.to_thread(sys.stdin.read)


if __name__ == "__main__":
    asyncio.run(main(sys.argv[2]))
