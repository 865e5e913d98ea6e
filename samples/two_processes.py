"""Two workers on one store. One is killed with SIGKILL in the middle of its work; all results come."""

import asyncio
import os
import signal
import sys
import tempfile

from autogen_coord import Coordination, Settings, capability, run

SOON = Settings(beat=0.2, suspect_after=0.5, session_ttl=1.0, trust_margin=0.2)  # the default: dead after 3 s


@capability(max_concurrency=2)
async def square(number: int) -> int:
    await asyncio.sleep(0.05)
    return number * number


async def worker(store: str) -> None:
    async with Coordination.open(store, settings=SOON) as coord:
        await coord.provide(square)
        await asyncio.Event().wait()  # until SIGTERM: `run` closes in order


async def work(store: str) -> None:
    pids: dict[str, int] = {}
    online = 0
    async with Coordination.open(store, settings=SOON) as coord:
        async for event in coord.events(since=0, kinds=["session.opened", "agent.online"]):
            if event.kind == "session.opened":
                pids[event.subject] = int(event.data["address"].rpartition(":")[2])
            online += event.kind == "agent.online"
            if online == 2:
                break
        handles = await coord.submit_many(square, range(20))
        started = await anext(coord.events(since=event.number, kinds=["task.started"]))
        os.kill(pids[started.session or ""], signal.SIGKILL)
        print("killed a worker while it ran a task")
        print(await asyncio.gather(*(handle.result() for handle in handles)))
        retried = [event async for event in coord.events(since=0, kinds=["task.retried"], follow=False)]
        print("interrupted and run again:", {event.data["reason"] for event in retried})


async def main(store: str) -> None:
    workers = [await asyncio.create_subprocess_exec(sys.executable, __file__, store, "worker") for _ in range(2)]
    try:
        await work(store)
    finally:
        for each in workers:
            if each.returncode is None:
                each.terminate()
        print("ended with:", sorted([await each.wait() for each in workers]))


if __name__ == "__main__":
    path = sys.argv[1] if sys.argv[1:] else f"{tempfile.mkdtemp()}/coord.db"
    run(worker(path) if sys.argv[2:] == ["worker"] else main(path))
