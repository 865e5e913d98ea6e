"""A handler that asks for child tasks: when it is tried again, it finds those that are done."""

import asyncio
import sys

from autogen_coord import Coordination, RetryPolicy, TaskContext, capability, run

fetched: list[str] = []


@capability
async def fetch(page: str) -> int:
    fetched.append(page)
    return len(page)


@capability
async def total(pages: list[str], ctx: TaskContext) -> int:
    sizes = await asyncio.gather(*(ctx.call(fetch, page) for page in pages))
    if ctx.attempt == 1:
        raise RuntimeError("failed after its children were done")
    return sum(sizes)


async def main(store: str = "dict://") -> None:
    async with Coordination.open(store) as coord:
        await coord.provide(fetch)
        await coord.provide(total)
        handle = await coord.submit(total, ["one", "three", "seven"], retry=RetryPolicy(backoff=0.01))
        print("total:", await handle.result())
        print("attempts:", (await handle.info()).attempt)
        print("pages fetched:", len(fetched))  # 3, not 6: the second attempt was answered from the store


if __name__ == "__main__":
    run(main(*sys.argv[1:]))
