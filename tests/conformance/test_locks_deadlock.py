"""Deadlocks in real programs: within a process, across processes, through handlers; who is refused, and how soon."""

from __future__ import annotations

import asyncio
import time
from contextvars import Context

import pytest

from autogen_coord import Coordination, DeadlockError, RemoteError, RetryPolicy, TaskContext, capability
from autogen_coord.core.events import Kind
from tests.conformance.lock_holders import S, X, free, held_of, holding, waiting, waits_of
from tests.conftest import World, soon, until

SOON = 1.0
"""Seconds until a victim must have heard; the aim is one transaction, and one look at the log where it is another process's."""


class Ring:
    """Owners that each hold one resource, and ask for the next one's inside the block."""

    def __init__(self, coords: list[Coordination], size: int) -> None:
        self.coords = coords
        self.size = size
        self.waits: list[asyncio.Task[None]] = []
        self.heard: dict[int, tuple[float, DeadlockError]] = {}
        self.inside: list[int] = []

    async def owner(self, number: int, ask: asyncio.Event) -> None:
        coord = self.coords[number % len(self.coords)]
        async with coord.lock(f"ring/{number}", owner=f"owner {number}"):
            self.inside.append(number)
            await ask.wait()
            try:
                async with coord.lock(f"ring/{(number + 1) % self.size}", owner=f"owner {number}", wait=None):
                    pass
            except DeadlockError as error:
                self.heard[number] = time.perf_counter(), error

    async def run(self) -> tuple[float, DeadlockError, int]:
        """Close the ring; the seconds until the victim's error, the error, whose it was."""
        asks = [asyncio.Event() for _ in range(self.size)]
        async with soon():
            async with asyncio.TaskGroup() as group:
                for number in range(self.size):
                    group.create_task(self.owner(number, asks[number]), context=Context())
                await until(lambda: len(self.inside) == self.size)
                for number in range(self.size - 1):
                    asks[number].set()
                    await until(lambda number=number: self._waits(number + 1))
                began = time.perf_counter()
                asks[-1].set()
        ((number, (ended, error)),) = self.heard.items()
        return ended - began, error, number

    async def _waits(self, count: int) -> bool:
        return len(await waits_of(self.coords[0])) == count


@pytest.mark.parametrize("processes", [1, 2, 3])
@pytest.mark.parametrize("size", [2, 3, 10])
async def test_a_ring_of_owners_is_broken_at_once_and_one_of_them_hears_the_cycle(world: World, size: int, processes: int) -> None:
    coords = [await world.open() for _ in range(processes)]
    seconds, error, number = await Ring(coords, size).run()
    print(f"deadlock of {size} in {processes} processes: {seconds * 1000:.1f} ms")
    assert seconds < SOON
    assert number == size - 1  # the youngest request
    assert len(error.cycle) == 2 * size
    for each in range(size):
        assert f"owner {each} waits for X on ring/{(each + 1) % size}" in error.cycle
        assert any(step.startswith(f"owner {each} holds X on ring/{each}") for step in error.cycle)
    assert " -> " in error.message
    await free(coords[0])
    log = [event async for event in coords[0].events(0, [Kind.RESOURCE_DEADLOCKED], follow=False)]
    assert len(log) == 1
    assert list(log[0].data["cycle"]) == error.cycle


async def test_the_one_of_least_priority_is_refused_though_another_closed_the_cycle(world: World) -> None:
    """The victim waits already, in another process: it hears of it from the log."""
    coord, other = await world.open(), await world.open()
    ready, heard = asyncio.Event(), asyncio.Event()
    seconds: list[float] = []
    cycles: list[list[str]] = []

    async def humble() -> None:
        async with other.lock("b", priority=1):
            ready.set()
            try:
                async with other.lock("a", wait=None, priority=1):
                    pass
            except DeadlockError as error:
                seconds.append(time.perf_counter())
                cycles.append(error.cycle)
                heard.set()

    async with soon(), coord.lock("a", priority=9):
        task = asyncio.create_task(humble(), context=Context())
        await ready.wait()
        await until(lambda: _waits(coord, 1))
        began = time.perf_counter()
        async with coord.lock("b", wait=None, priority=9):
            await heard.wait()
        await task
    print(f"the victim in another process: {(seconds[0] - began) * 1000:.1f} ms")
    assert seconds[0] - began < SOON
    assert [len(cycle) for cycle in cycles] == [4]
    await free(coord)


async def _waits(coord: Coordination, count: int) -> bool:
    return len(await waits_of(coord)) == count


async def test_asking_again_for_what_one_holds_is_a_deadlock_not_a_wait(coord: Coordination) -> None:
    async with soon(), coord.lock("a"):
        for path, mode in (("a", X), ("a/b", S)):
            with pytest.raises(DeadlockError):
                async with coord.lock(path, mode, wait=None):
                    pass
        async with coord.lock("c", wait=None):
            pass
    await free(coord)


async def test_an_asyncio_task_started_inside_a_block_is_taken_to_hold_it_up(coord: Coordination) -> None:
    async def inside() -> None:
        async with coord.lock("a", wait=None):
            pass

    async with soon(), coord.lock("a"):
        with pytest.raises(DeadlockError):
            await asyncio.create_task(inside())
    await asyncio.create_task(inside())


async def test_a_conversion_inside_another_block_sees_a_cycle_through_that_block(coord: Coordination) -> None:
    reader_has, converts = asyncio.Event(), asyncio.Event()

    async def reader() -> None:
        async with coord.lock("b", S, priority=9):
            reader_has.set()
            await converts.wait()
            async with coord.lock("a", wait=None, priority=9):
                pass

    async with soon():
        other = asyncio.create_task(reader(), context=Context())
        async with coord.lock("a"), coord.lock("b", S) as lease:
            await reader_has.wait()
            converts.set()
            await until(lambda: _waits(coord, 1))
            with pytest.raises(DeadlockError) as refused:
                await lease.convert(X, wait=None)
            assert any("waits for X on a" in step for step in refused.value.cycle)
            assert lease.mode == S
        await other
    await free(coord)


# handlers


async def test_a_child_that_wants_what_its_waiting_parent_holds_is_refused(world: World) -> None:
    """In two processes: the parent's claim waits for its child, so its lock is not released before that."""
    coord, other = await world.open(), await world.open()
    times: dict[str, float] = {}

    @capability
    async def child(path: str, ctx: TaskContext) -> str:
        times["asks"] = time.perf_counter()
        try:
            async with ctx.lock(path, wait=None):
                return "it has it"
        except DeadlockError as error:
            times["heard"] = time.perf_counter()
            return " -> ".join(error.cycle)

    @capability
    async def parent(path: str, ctx: TaskContext) -> str:
        async with ctx.lock("docs"):
            return await ctx.call(child, path)

    await coord.provide(parent)
    await other.provide(child)
    handle = await coord.submit(parent, "docs/a")
    said = await handle.result(timeout=5)
    print(f"deadlock through a parent: {(times['heard'] - times['asks']) * 1000:.1f} ms")
    assert times["heard"] - times["asks"] < SOON
    assert f"task {handle.id} holds X on docs" in said
    assert "waits for X on docs/a" in said
    assert await coord.call(parent, "elsewhere", timeout=5) == "it has it"
    await free(coord)


async def test_a_cycle_through_a_grandchild_and_a_stranger_is_found(world: World) -> None:
    """The parent holds a, its grandchild waits for b, whose holder waits for a."""
    coord, other = await world.open(), await world.open()
    asked = asyncio.Event()

    @capability
    async def grandchild(path: str, ctx: TaskContext) -> str:
        async with ctx.lock(path, wait=None):
            return "it has it"

    @capability
    async def child(path: str, ctx: TaskContext) -> str:
        return await ctx.call(grandchild, path)

    @capability
    async def parent(path: str, ctx: TaskContext) -> str:
        async with ctx.lock("a"):
            asked.set()
            return await ctx.call(child, path)

    for each in (grandchild, child, parent):
        await coord.provide(each)
    async with soon():
        async with other.lock("b", priority=1):
            calling = asyncio.create_task(other.call(parent, "b"), context=Context())
            await asked.wait()
            await until(lambda: _waits(coord, 1))
            with pytest.raises(DeadlockError):  # of least priority
                async with other.lock("a", wait=None, priority=1):
                    pass
        assert await calling == "it has it"
    await free(coord)


async def test_of_two_handlers_the_younger_task_is_refused_and_tried_again(coord: Coordination) -> None:
    ends: list[str] = []
    both = asyncio.Barrier(2)

    @capability(max_concurrency=2)
    async def work(name: str, ctx: TaskContext) -> str:
        first, second = ("a", "b") if name == "old" else ("b", "a")
        try:
            async with ctx.lock(first, wait=None):
                if ctx.attempt == 1:
                    await both.wait()
                async with ctx.lock(second, wait=None):
                    return f"{name} on attempt {ctx.attempt}"
        except DeadlockError:
            ends.append(f"{name} refused")
            raise

    await coord.provide(work)
    old = await coord.submit(work, "old")
    young = await coord.submit(work, "young", retry=RetryPolicy(tries=2, backoff=0.001))
    async with soon():
        assert await old.result() == "old on attempt 1"
        assert await young.result() == "young on attempt 2"
    assert ends == ["young refused"]
    await free(coord)


async def test_a_deadlock_that_a_handler_lets_out_is_its_attempts_error(coord: Coordination) -> None:
    @capability
    async def work(path: str, ctx: TaskContext) -> str:
        async with ctx.lock(path), ctx.lock(path, wait=None):
            return "never"

    await coord.provide(work)
    with pytest.raises(RemoteError) as failed:
        await coord.call(work, "a", retry=RetryPolicy(tries=1), timeout=5)
    assert failed.value.type == "DeadlockError"
    assert await held_of(coord) == []


async def test_a_refused_waiter_makes_room_for_who_stood_behind_it(coord: Coordination, world: World) -> None:
    other = await world.open()
    reader = await holding(coord, "a", S)
    async with soon(), coord.lock("b"):
        held_up = asyncio.create_task(_nested(other, "c", "b"), context=Context())
        await until(lambda: _waits(coord, 1))
        writer = await waiting(other, "a", X)
        with pytest.raises(DeadlockError):  # c is held by who waits for b
            async with coord.lock(["a", "c"], wait=None, priority=0):
                pass
    await held_up
    await reader.leave()
    await writer.held()
    await writer.leave()
    await free(coord)


async def _nested(coord: Coordination, first: str, second: str) -> None:
    async with coord.lock(first), coord.lock(second, wait=None):
        pass
