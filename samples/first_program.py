"""The first program: one capability, called through a store in a file."""

import asyncio

from autogen_coord import Coordination, capability


@capability
async def shorten(text: str) -> str:
    return text[:10]


async def main() -> None:
    async with Coordination.open("coord.db") as coord:
        await coord.provide(shorten)
        print(await coord.call(shorten, "a long text"))


if __name__ == "__main__":
    asyncio.run(main())
