"""Locks of handlers: kept until the handler has stopped, however early its claim ended; then free, whatever it left behind."""

from __future__ import annotations

import asyncio
import contextlib
from contextvars import Context
from typing import Any

import pytest

from autogen_coord import (
    CapabilityAgent,
    ClosedError,
    Coordination,
    DeadlockError,
    Lease,
    LeaseLostError,
    LockHeldError,
    RemoteError,
    RetryPolicy,
    StaleClaimError,
    TaskCancelledError,
    TaskContext,
    TaskExpiredError,
    capability,
)
from autogen_coord.core.lock_handles import Block
from tests.conformance.lock_holders import free, held_of, holding, waiting, waits_of
from tests.conftest import MORTAL, World, soon, until, vanish

PATH = "docs/a"
ONCE = RetryPolicy(tries=1)


@pytest.fixture
async def other(world: World, coord: Coordination) -> Coordination:
    """Another process on the same store."""
    return await world.open()


async def locked(coord: Coordination, path: str = PATH) -> bool:
    """Whether somebody else would have to wait for it."""
    try:
        async with coord.lock(path):
            return False
    except LockHeldError:
        return True


class Stubborn:
    """A handler that takes a lock, and stops when it is told to, not when it is asked to."""

    def __init__(self) -> None:
        self.inside = asyncio.Event()
        self.asked_to_stop = asyncio.Event()
        self.go = asyncio.Event()
        self.ended = asyncio.Event()
        self.leases: list[Lease] = []

    async def __call__(self, path: str, ctx: TaskContext) -> str:
        try:
            async with ctx.lock(path, wait=5) as lease:
                self.leases.append(lease)
                self.inside.set()
                for _ in range(6):  # a test that fails must end
                    try:
                        with contextlib.suppress(TimeoutError):
                            async with soon(2):
                                await self.go.wait()
                    except asyncio.CancelledError:
                        self.asked_to_stop.set()
            return "done"
        finally:
            self.ended.set()


def stubborn() -> tuple[Any, Stubborn]:
    gate = Stubborn()

    @capability("stubborn")
    async def handler(path: str, ctx: TaskContext) -> str:
        return await gate(path, ctx)

    return handler, gate


async def test_a_lock_of_a_handler_names_its_task_and_is_free_when_its_block_ends(coord: Coordination, other: Coordination) -> None:
    inside, go = asyncio.Event(), asyncio.Event()

    @capability
    async def work(path: str, ctx: TaskContext) -> str:
        async with ctx.lock(path) as lease:
            assert lease.claim is not None
            assert lease.claim.task == ctx.task_id
            inside.set()
            await go.wait()
        assert not await locked(other)
        return "done"

    await coord.provide(work)
    handle = await coord.submit(work, PATH)
    async with soon():
        await inside.wait()
        (row,) = await held_of(coord)
        assert (row.task, row.attempt) == (handle.id, 1)
        with pytest.raises(LockHeldError, match=f"by task {handle.id}"):
            async with other.lock(PATH):
                pass
        go.set()
        assert await handle.result() == "done"
    await free(coord)


async def test_coord_lock_in_a_handler_is_the_handlers_too(coord: Coordination) -> None:
    @capability
    async def work(path: str, ctx: TaskContext) -> str:
        async with coord.lock(path) as lease:
            assert lease.claim is not None
            return lease.claim.task

    await coord.provide(work)
    handle = await coord.submit(work, PATH)
    assert await handle.result(timeout=5) == handle.id
    await free(coord)


async def test_ctx_lock_names_the_task_also_where_the_runtime_runs_the_handler(coord: Coordination) -> None:
    class Writer(CapabilityAgent):
        def __init__(self) -> None:
            super().__init__("writes")

        @capability("write")
        async def write(self, path: str, ctx: TaskContext) -> str:
            async with ctx.lock(path) as lease:
                assert lease.claim is not None
                return lease.claim.task

    await coord.provide(Writer, via_runtime=True)
    handle = await coord.submit("write", PATH, returns=str)
    assert await handle.result(timeout=5) == handle.id
    await free(coord)


@pytest.mark.parametrize("how", ["deadline", "cancel", "attempt timeout"])
async def test_a_claim_that_ends_early_keeps_its_lock_until_its_handler_has_stopped(world: World, how: str) -> None:
    coord, other = await world.open(cancel_grace=0.05), await world.open(cancel_grace=0.05)
    handler, gate = stubborn()
    await coord.provide(handler)
    times: dict[str, Any] = {"deadline": {"timeout": 0.1}, "attempt timeout": {"attempt_timeout": 0.1}}.get(how, {})
    handle = await other.submit(handler, PATH, retry=ONCE, **times)
    async with soon():
        await gate.inside.wait()
        if how == "cancel":
            await other.cancel(handle.id)
        await gate.asked_to_stop.wait()
        with pytest.raises((TaskExpiredError, TaskCancelledError, RemoteError)):
            await handle.result()  # it ended, for everybody but its handler
        assert await locked(other)
        waits = await waiting(other, PATH)
        assert waits.lease is None
        gate.go.set()
        await waits.held()
        assert gate.ended.is_set()
        await waits.leave()
    assert not gate.leases[0].lost.is_set()
    await free(coord)


async def test_a_lock_that_a_stopped_handler_asks_for_is_refused(world: World) -> None:
    """Its claim is over: what it would do under the lock, the next attempt does as well."""
    coord = await world.open(cancel_grace=0.02)
    ends: list[BaseException] = []

    @capability
    async def work(path: str, ctx: TaskContext) -> str:
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.sleep(5)
        await until(lambda: _ended(coord, ctx.task_id))
        try:
            async with ctx.lock(path):
                return "it has it"
        except StaleClaimError as error:
            ends.append(error)
            raise

    await coord.provide(work)
    with pytest.raises(TaskExpiredError):
        await coord.call(work, PATH, timeout=0.05)
    await until(lambda: bool(ends))
    await free(coord)


async def _ended(coord: Coordination, id: str) -> bool:
    return (await coord.task(id)).finished_at is not None


async def test_a_block_that_a_handler_did_not_leave_is_free_when_it_has_ended(coord: Coordination, other: Coordination) -> None:
    left: list[Block] = []

    @capability
    async def forgets(path: str, ctx: TaskContext) -> str:
        block = ctx.lock(path)
        left.append(block)
        lease = await block.__aenter__()
        return str(lease.token)

    await coord.provide(forgets)
    assert await other.call(forgets, PATH, timeout=5)
    await free(coord)
    lease = left[0]._lease
    assert lease is not None
    assert lease.lost.is_set()
    with pytest.raises(LeaseLostError, match="its handler ended"):
        lease.require()


async def test_an_asyncio_task_that_a_handler_left_behind_loses_its_lock(coord: Coordination) -> None:
    left: list[asyncio.Task[None]] = []
    inside = asyncio.Event()

    @capability
    async def forgets(path: str, ctx: TaskContext) -> str:
        async def beside() -> None:
            async with ctx.lock(path):
                inside.set()
                await asyncio.Event().wait()

        left.append(asyncio.create_task(beside()))
        await inside.wait()
        return "done"

    await coord.provide(forgets)
    assert await coord.call(forgets, PATH, timeout=5) == "done"
    with pytest.raises(LeaseLostError, match="its handler ended"):
        async with soon():
            await left[0]
    await free(coord)


async def test_what_outlived_its_handler_takes_locks_as_any_other_code(coord: Coordination, other: Coordination) -> None:
    left: list[asyncio.Task[Lease]] = []
    over, inside, go = asyncio.Event(), asyncio.Event(), asyncio.Event()

    @capability
    async def begins(path: str, ctx: TaskContext) -> str:
        async def beside() -> Lease:
            await over.wait()
            async with coord.lock(path) as lease:
                inside.set()
                await go.wait()
                return lease

        left.append(asyncio.create_task(beside()))
        return "done"

    await coord.provide(begins)
    assert await coord.call(begins, PATH, timeout=5) == "done"
    over.set()
    async with soon():
        await inside.wait()
    (row,) = await held_of(other)
    assert row.task is None
    go.set()
    async with soon():
        assert (await left[0]).claim is None
    await free(coord)


async def test_a_request_that_a_handler_left_behind_is_taken_back(coord: Coordination, other: Coordination) -> None:
    left: list[asyncio.Task[None]] = []
    holder = await holding(other, PATH)

    @capability
    async def forgets(path: str, ctx: TaskContext) -> str:
        async def beside() -> None:
            async with ctx.lock(path, wait=None):
                pass

        left.append(asyncio.create_task(beside()))
        await until(lambda: _waits(coord, 1))
        return "done"

    await coord.provide(forgets)
    assert await coord.call(forgets, PATH, timeout=5) == "done"
    with pytest.raises(LeaseLostError, match="has ended"):
        async with soon():
            await left[0]
    await until(lambda: _waits(coord, 0))
    await holder.leave()
    await free(coord)


async def _waits(coord: Coordination, count: int) -> bool:
    return len(await waits_of(coord)) == count


async def test_a_handler_that_waits_for_a_lock_is_ended_by_its_deadline(coord: Coordination, other: Coordination) -> None:
    holder = await holding(other, PATH)

    @capability
    async def work(path: str, ctx: TaskContext) -> str:
        async with ctx.lock(path, wait=None):
            return "it has it"

    await coord.provide(work)
    with pytest.raises(TaskExpiredError):
        await coord.call(work, PATH, timeout=0.2)
    await until(lambda: _waits(coord, 0))
    await holder.leave()
    await free(coord)


async def test_a_handler_whose_lease_is_taken_away_fails_its_attempt_and_is_tried_again(
    coord: Coordination, other: Coordination
) -> None:
    leases: list[Lease] = []

    @capability
    async def work(path: str, ctx: TaskContext) -> int:
        async with ctx.lock(path) as lease:
            leases.append(lease)
            if ctx.attempt == 1:
                await asyncio.Event().wait()
            return ctx.attempt

    await coord.provide(work)
    handle = await coord.submit(work, PATH)
    await until(lambda: bool(leases))
    assert other._parts is not None
    assert await other._parts.leases.evict(leases[0].id, [PATH]) == 1
    assert await handle.result(timeout=5) == 2
    attempts = (await handle.info()).attempts
    assert [attempt.error["type"] for attempt in attempts if attempt.error] == ["LeaseLostError"]
    assert leases[1].token > leases[0].token
    await free(coord)


async def test_the_locks_of_a_killed_process_are_free_for_the_next_attempt(world: World) -> None:
    coord, other = await world.open(**MORTAL), await world.open(**MORTAL)
    tokens: list[int] = []

    @capability
    async def work(path: str, ctx: TaskContext) -> int:
        async with ctx.lock(path, wait=None) as lease:
            tokens.append(lease.token)
            if ctx.attempt == 1:
                await asyncio.Event().wait()
            return ctx.attempt

    await coord.provide(work)
    handle = await other.submit(work, PATH)
    await until(lambda: bool(tokens))
    await vanish(coord)
    await other.provide(work)
    assert await handle.result(timeout=8) == 2
    assert tokens == sorted(tokens)
    await free(other)


async def test_a_handler_is_in_none_of_its_callers_blocks(world: World) -> None:
    """Who provides or calls inside a block of its own does not hand that block to the handlers that run meanwhile."""
    coord = await world.open()

    @capability
    async def work(path: str, ctx: TaskContext) -> str:
        try:
            async with ctx.lock(path, wait=0.1):
                return "it has it"
        except (LockHeldError, DeadlockError) as error:
            return error.code

    async with coord.lock("z"):
        other = await world.open()
        await other.provide(work)
        assert await other.call(work, "z", timeout=5) == "lock_held"
        assert await coord.call(work, "y", timeout=5) == "it has it"
        await other.close()


async def test_handlers_may_take_locks_while_their_process_drains(coord: Coordination, other: Coordination) -> None:
    inside, go = asyncio.Event(), asyncio.Event()
    plain: list[str] = []

    @capability
    async def work(path: str, ctx: TaskContext) -> str:
        inside.set()
        await go.wait()
        async with ctx.lock(path):
            return "it has it"

    await coord.provide(work)
    handle = await other.submit(work, PATH)
    holder = await holding(other, "b")
    waits, late = await waiting(coord, "b"), coord.lock("c")
    async with soon():
        await inside.wait()
        closing = asyncio.create_task(coord.close(), context=Context())
        error = await waits.error()  # who waits outside a handler is told at once
        plain.append(type(error).__name__)
        with pytest.raises(ClosedError):  # and nobody outside gets one any more
            async with late:
                pass
        go.set()
        await closing
        assert await handle.result() == "it has it"
    assert plain == ["ClosedError"]
    await holder.leave()
    await free(other)


async def test_a_handler_that_ignores_the_close_keeps_its_lock_until_the_lease_of_its_session_ends(world: World) -> None:
    coord, other = (
        await world.open(**{**MORTAL, "cancel_grace": 0.05, "drain": 0.05, "session_ttl": 2.0}),
        await world.open(**MORTAL),
    )
    handler, gate = stubborn()
    await coord.provide(handler)
    await other.submit(handler, PATH, retry=ONCE)
    async with soon():
        await gate.inside.wait()
        await coord.close()
        assert await locked(other)
        assert gate.leases[0].lost.is_set()
        async with other.lock(PATH, wait=5):
            pass
        gate.go.set()
        await gate.ended.wait()
