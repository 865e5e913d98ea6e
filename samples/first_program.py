"""The first program: one capability, called through a store in a file."""

import sys

from autogen_coord import Coordination, capability, run


@capability
async def shorten(text: str) -> str:
    return text[:10]


async def main(store: str = "coord.db") -> None:
    async with Coordination.open(store) as coord:
        await coord.provide(shorten)
        print(await coord.call(shorten, "a long text"))  # typed: mypy knows it is a str


if __name__ == "__main__":
    run(main(*sys.argv[1:]))
