"""Locks: what excludes what above and below, several at once, waiting, tokens, converting, and what a deadlock says."""

import asyncio
import sys

from autogen_coord import Coordination, DeadlockError, LockHeldError, LockMode, Priority, run


async def exclude(coord: Coordination) -> None:
    async with coord.lock("repo/src/a.py") as lease:  # exclusive, unless a mode is given
        async with coord.lock("repo/src/b.py", LockMode.SHARED) as beside:
            print("beside each other:", lease.path, beside.path)
            print("tokens grow:", lease.token < beside.token)
        try:
            async with coord.lock("repo", LockMode.SHARED):  # covers all that lies below
                print("never said")
        except LockHeldError as error:
            print("refused at once:", error.facts["mode"], "is held on", error.facts["path"])
        async with coord.lock("repo", LockMode.INTENT_SHARED):  # will read some of it
            print("an intent goes with it")


async def together(coord: Coordination) -> None:
    async with coord.lock(["docs/guide.md", "docs/index.md"]) as lease:  # all of them or none, under one token
        print("one lease:", ", ".join(lease.paths))
    async with coord.lock({"docs": "S", "log/today": "X"}, owner="ann"):
        async with coord.lock("docs", "X", owner="ann"):  # what else its owner holds is not in its way
            print("ann holds both")
    async with coord.lock("docs", "S") as lease:
        before = lease.token
        await lease.convert("X")  # keeps what it has until it has more
        print("converted to", lease.mode, "under a new token:", lease.token > before)


async def wait(coord: Coordination) -> None:
    held = asyncio.Event()

    async def first() -> None:
        async with coord.lock("press"):
            held.set()
            await asyncio.sleep(0.1)

    async with asyncio.TaskGroup() as group:
        group.create_task(first())
        await held.wait()
        try:
            async with coord.lock("press", wait=0.02):
                print("never said")
        except LockHeldError as error:
            print("waited in vain:", error.facts["waited"])
        async with coord.lock("press", wait=10):
            print("waited, and was next")


async def deadlock(coord: Coordination) -> None:
    both = asyncio.Barrier(2)

    async def work(owner: str, one: str, other: str, priority: float) -> None:
        async with coord.lock(one, owner=owner, priority=priority):
            await both.wait()
            try:
                async with coord.lock(other, wait=None, owner=owner, priority=priority):
                    print(owner, "has both")
            except DeadlockError as error:
                print(owner, "was refused:")
                for step in sorted(error.facts["cycle"]):
                    print("  ", step)

    async with asyncio.TaskGroup() as group:
        group.create_task(work("ann", "left", "right", Priority.HIGH))
        group.create_task(work("bob", "right", "left", Priority.LOW))


async def main(store: str = "dict://") -> None:
    async with Coordination.open(store) as coord:
        for part in (exclude, together, wait, deadlock):
            await part(coord)


if __name__ == "__main__":
    run(main(*sys.argv[1:]))
