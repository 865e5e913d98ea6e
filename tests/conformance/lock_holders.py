"""Who holds, and who waits for, a lock in a test; and what of it stands in the store."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from contextvars import Context
from typing import Any

from autogen_coord import Coordination, Lease, LockMode
from autogen_coord.core.lock_queue import WAITING
from autogen_coord.core.store import Keys, Range
from autogen_coord.core.tables import COUNTER, LOCK_HELD, LOCK_WAIT, LockHeldRow, LockWaitRow
from tests.conftest import process_of, soon, until

X, S, SIX, IX, IS = (
    LockMode.EXCLUSIVE,
    LockMode.SHARED,
    LockMode.SHARED_INTENT_EXCLUSIVE,
    LockMode.INTENT_EXCLUSIVE,
    LockMode.INTENT_SHARED,
)


class Holder:
    """An `asyncio.Task` of its own, inside nobody's block, that takes a lock and keeps it until it is told to `leave`."""

    def __init__(
        self,
        coord: Coordination,
        path: str | Sequence[str] | Mapping[str, LockMode | str],
        mode: LockMode | str = X,
        **options: Any,
    ) -> None:
        self.coord = coord
        self.asked = path, mode, options
        self.lease: Lease | None = None
        self.go = asyncio.Event()
        self.granted = asyncio.Event()
        self.task = asyncio.get_running_loop().create_task(self._run(), context=Context())
        self.task.add_done_callback(lambda done: done.cancelled() or done.exception())  # a test need not look at all of them

    async def _run(self) -> None:
        path, mode, options = self.asked
        async with self.coord.lock(path, mode, **{"wait": None, **options}) as lease:
            self.lease = lease
            self.granted.set()
            await self.go.wait()

    async def held(self) -> Lease:
        """Until it has it. Raises: what its block raised."""
        async with soon():
            there = asyncio.ensure_future(self.granted.wait())
            await asyncio.wait([there, self.task], return_when=asyncio.FIRST_COMPLETED)
            there.cancel()
        if self.lease is None:
            await self.task
        assert self.lease is not None
        return self.lease

    async def leave(self) -> None:
        self.go.set()
        async with soon():
            await self.task

    async def error(self) -> BaseException:
        """What ended it."""
        async with soon():
            await asyncio.wait([self.task])
        if self.task.cancelled():
            return asyncio.CancelledError()
        error = self.task.exception()
        assert error is not None, "its block ended well"
        return error


async def holding(coord: Coordination, *asked: Any, **options: Any) -> Holder:
    holder = Holder(coord, *asked, **options)
    await holder.held()
    return holder


async def waiting(coord: Coordination, *asked: Any, **options: Any) -> Holder:
    """Somebody whose place in the line is stored."""
    before = len(await waits_of(coord))
    holder = Holder(coord, *asked, **options)

    async def there() -> bool:
        assert not holder.task.done(), await holder.error()
        return len(await waits_of(coord)) > before

    await until(there)
    return holder


async def held_of(coord: Coordination) -> list[LockHeldRow]:
    (rows,) = await process_of(coord).store.read(Range(LOCK_HELD, "key"))
    return rows


async def waits_of(coord: Coordination) -> list[LockWaitRow]:
    (rows,) = await process_of(coord).store.read(Range(LOCK_WAIT, "key"))
    return rows


async def free(coord: Coordination) -> None:
    """Until nothing is held and nobody waits, in the store and in the process."""

    async def empty() -> bool:
        (counters,) = await process_of(coord).store.read(Keys(COUNTER, (WAITING,)))
        there = await held_of(coord) or await waits_of(coord)
        return not there and (counters[0] is None or counters[0].value == 0)

    await until(empty)
    assert coord._parts is not None
    assert len(coord._parts.leases) == 0
