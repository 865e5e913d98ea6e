"""Who goes first: priority decides between tasks that wait; a lane makes its tasks go one at a time, in order."""

import asyncio
import sys

from autogen_coord import Coordination, Priority, capability, run

order: list[str] = []
running: list[str] = []
together: set[tuple[str, str]] = set()


@capability(max_concurrency=1)
async def job(name: str) -> str:
    order.append(name)
    return name


@capability
async def book(entry: str) -> str:
    together.update((entry, other) for other in running)
    running.append(entry)
    order.append(entry)
    await asyncio.sleep(0.05)
    running.remove(entry)
    return entry


async def main(store: str = "dict://") -> None:
    async with Coordination.open(store) as coord:
        await coord.provide(job)
        await coord.withdraw(job)  # known, so that submit accepts it, but nobody runs it yet
        handles = [
            await coord.submit(job, "low", priority=Priority.LOW),
            await coord.submit(job, "normal"),
            await coord.submit(job, "critical", priority=Priority.CRITICAL),
        ]
        await coord.provide(job)
        await asyncio.gather(*(handle.result() for handle in handles))
        print("by priority:", order)

        order.clear()
        await coord.provide(book)
        lane_a = await coord.submit_many(book, ["a1", "a2", "a3"], lane="account a")
        lane_b = await coord.submit_many(book, ["b1", "b2", "b3"], lane="account b")
        await asyncio.gather(*(handle.result() for handle in lane_a + lane_b))
        print("lane a:", [entry for entry in order if entry[0] == "a"])
        print("lane b:", [entry for entry in order if entry[0] == "b"])
        print("two of one lane at once:", any(one[0] == other[0] for one, other in together))
        print("both lanes at once:", any(one[0] != other[0] for one, other in together))


if __name__ == "__main__":
    run(main(*sys.argv[1:]))
