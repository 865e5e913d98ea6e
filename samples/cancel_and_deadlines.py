"""Four clocks and a cancel: timeout, attempt_timeout, ttl, and the patience of one who waits."""

import asyncio
import sys
from collections.abc import Awaitable

from autogen_coord import CallTimeoutError, Coordination, RetryPolicy, TaskError, capability, run

begun = asyncio.Event()
stopped: list[float] = []


@capability
async def slow(seconds: float) -> str:
    begun.set()
    try:
        await asyncio.sleep(seconds)
    except asyncio.CancelledError:
        stopped.append(seconds)
        raise
    return "done"


async def told(title: str, call: Awaitable[str]) -> None:
    try:
        print(f"{title}: {await call}")
    except TaskError as error:
        print(f"{title}: {type(error).__name__} {error.facts.get('text', '')}".rstrip())


async def main(store: str = "dict://") -> None:
    async with Coordination.open(store) as coord:
        await coord.provide(slow)

        await told("timeout ends the task", coord.call(slow, 9, timeout=0.1))
        twice = RetryPolicy(tries=2, backoff=0)
        await told("attempt_timeout fails the attempt", coord.call(slow, 9, attempt_timeout=0.1, retry=twice))

        handle = await coord.submit(slow, 0.3)
        try:
            await handle.result(timeout=0.1)
        except CallTimeoutError:
            print("result(timeout=) ends only the wait:", await handle.result())

        begun.clear()
        handle = await coord.submit(slow, 9)
        await begun.wait()
        print("cancel:", await handle.cancel())
        await told("its result", handle.result())
        print("cancel once more:", await handle.cancel())  # it had ended

        await coord.withdraw(slow)  # nobody there: it waits, until its ttl
        await told("ttl ends what nobody began", coord.call(slow, 0, ttl=0.1))
        print("handlers stopped:", len(stopped))


if __name__ == "__main__":
    run(main(*sys.argv[1:]))
