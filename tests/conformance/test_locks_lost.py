"""Leases that are lost, coordinations that close, stores that fail: the block hears of it, and nothing is left behind."""

from __future__ import annotations

import asyncio
import contextlib
from contextlib import AsyncExitStack
from contextvars import Context
from typing import Any

import pytest

from autogen_coord import ClosedError, Coordination, Lease, LeaseLostError, LockHeldError, StoreUnavailableError
from autogen_coord.core import burial, sessions
from autogen_coord.core.burial import Bury
from autogen_coord.core.events import FLOOR, NUMBER, Kind
from autogen_coord.core.lock_handles import ENCLOSING
from autogen_coord.core.locks import require_cover
from autogen_coord.core.store import Range, Rows
from autogen_coord.core.tables import COUNTER, EVENT, SESSION, CounterRow
from autogen_coord.errors import CoordError
from autogen_coord.settings import Settings
from tests.conformance.lock_holders import Holder, S, X, free, held_of, holding, waiting, waits_of
from tests.conftest import MORTAL, Fault, World, process_of, soon, until, vanish

PATH = "repo/src/a.py"


@pytest.fixture
async def other(world: World, coord: Coordination) -> Coordination:
    """Another process on the same store."""
    return await world.open()


async def evict(by: Coordination, lease: Lease) -> None:
    assert by._parts is not None
    assert await by._parts.leases.evict(lease.id, lease.paths) == len(lease.paths)


def declare_dead(rows: Rows, session: str, now: float, policy: Settings) -> None:
    """The death transaction, whoever may judge."""
    row = rows.one(SESSION, session)
    assert row is not None
    rows.put(SESSION, row._replace(state=sessions.DEAD))


async def kill_session(by: Coordination, session: str) -> None:
    """Declare a session dead, and bury it."""
    line = process_of(by).line
    await line.put(declare_dead, session)
    while await line.put(burial.bury, Bury(session)):
        pass


# who took it away


async def test_a_holder_that_vanishes_is_followed_by_the_next_when_its_session_is_dead(world: World) -> None:
    coord, other = await world.open(**MORTAL), await world.open(**MORTAL)
    lease = await (await holding(coord, PATH)).held()
    waits = await waiting(other, PATH)
    began = asyncio.get_running_loop().time()
    await vanish(coord)
    later = await waits.held()
    assert later.token > lease.token
    assert asyncio.get_running_loop().time() - began < MORTAL["session_ttl"] + 1.5
    lost = [event async for event in other.events(0, [Kind.RESOURCE_LOST], follow=False)]
    assert [(event.subject, event.data["token"]) for event in lost] == [(PATH, lease.token)]
    await waits.leave()
    await free(other)


async def test_a_waiter_that_vanishes_keeps_nobody_waiting(world: World) -> None:
    coord, other = await world.open(**MORTAL), await world.open(**MORTAL)
    holder = await holding(other, PATH, S)
    await waiting(coord, PATH, X)
    behind = await waiting(other, PATH, S)
    await vanish(coord)
    await behind.held()
    await behind.leave()
    await holder.leave()
    await free(other)


async def test_a_lease_that_is_taken_away_ends_its_block_with_an_error(coord: Coordination, other: Coordination) -> None:
    holder = await holding(coord, [PATH, "b"])
    lease = await holder.held()
    next_one = await waiting(other, PATH)
    assert not lease.lost.is_set()
    await evict(other, lease)
    await next_one.held()
    error = await holder.error()
    assert isinstance(error, LeaseLostError)
    assert "repo/src/a.py" in str(error)
    assert "taken away" in str(error)
    assert error.lease == lease.id
    assert lease.lost.is_set()
    for use in (lease.release, lambda: lease.convert(X)):
        with pytest.raises(LeaseLostError, match="taken away"):
            await use()
    await next_one.leave()
    await free(coord)


async def test_the_token_of_a_lost_lease_covers_no_write(coord: Coordination, other: Coordination) -> None:
    holder = await holding(coord, PATH)
    lease = await holder.held()

    def write(rows: Rows, command: None, now: float, policy: Settings) -> None:
        require_cover(rows, lease.guard, "repo/src/a.py/", "X")

    await process_of(coord).line.put(write, None)
    await evict(other, lease)
    with pytest.raises(LeaseLostError):
        await process_of(coord).line.put(write, None)
    await holder.error()


async def test_a_dead_session_loses_its_leases_and_its_process_goes_on_with_another(world: World) -> None:
    coord, other = await world.open(), await world.open()
    before = coord.session
    holder, waits = await holding(coord, PATH), await holding(other, "b")
    waiter = await waiting(coord, "b")
    lease = await holder.held()
    await kill_session(other, before)
    for ended in (holder, waiter):
        assert isinstance(await ended.error(), LeaseLostError)
    assert lease.lost.is_set()
    await waits.leave()
    async with soon():
        async with coord.lock(PATH, wait=1) as again:
            assert again.token > lease.token
            assert again.session == coord.session != before
    await free(coord)


async def test_a_process_that_cannot_renew_stops_its_blocks_before_others_get_in(world: World) -> None:
    coord, other = await world.open(**MORTAL), await world.open(**MORTAL)
    holder = await holding(coord, PATH)
    lease = await holder.held()
    waits = await waiting(other, PATH)
    with Fault(coord):
        error = await holder.error()
        assert isinstance(error, LeaseLostError)
        assert "cannot be trusted" in str(error)
        assert waits.lease is None  # it was told first
        later = await waits.held()
        assert later.token > lease.token
    await waits.leave()
    async with soon(), coord.lock(PATH, wait=3):
        pass
    await free(coord)


async def test_what_was_held_in_a_distrusted_time_is_free_when_the_session_goes_on_after_all(world: World) -> None:
    coord = await world.open(**MORTAL)  # alone: nobody declares it dead
    holder = await holding(coord, PATH)
    reader = await holding(coord, "b")
    waits = await waiting(coord, "b")
    session = coord.session
    with Fault(coord):
        for each in (holder, reader, waits):
            assert isinstance(await each.error(), LeaseLostError)
        with pytest.raises((LeaseLostError, StoreUnavailableError)):
            async with coord.lock("c"):
                pass
    await free(coord)
    assert coord.session == session
    async with coord.lock([PATH, "b"], wait=3):
        pass


async def test_a_block_that_does_not_end_keeps_its_lock_while_the_session_lives(world: World) -> None:
    coord = await world.open(**MORTAL)
    asked_to_stop, go = asyncio.Event(), asyncio.Event()

    async def stubborn() -> None:
        async with coord.lock(PATH):
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                asked_to_stop.set()
                await go.wait()

    task = asyncio.create_task(stubborn(), context=Context())
    await until(lambda: _held(coord, 1))
    with Fault(coord):
        async with soon():
            await asked_to_stop.wait()
    with pytest.raises(LockHeldError):  # it goes on, and so does its block
        async with coord.lock(PATH, wait=0.3):
            pass
    go.set()
    with pytest.raises(LeaseLostError):
        await task
    await free(coord)


async def _held(coord: Coordination, count: int) -> bool:
    return len(await held_of(coord)) == count


# who runs the block


async def test_a_block_that_was_entered_through_wait_for_is_cancelled_when_its_lease_is_lost(
    coord: Coordination, other: Coordination
) -> None:
    leases: list[Lease] = []

    async def inside() -> None:
        block = coord.lock(PATH)
        leases.append(await asyncio.wait_for(block.__aenter__(), 5))
        try:
            await asyncio.Event().wait()
        except BaseException as error:
            await block.__aexit__(type(error), error, None)
            raise

    task = asyncio.create_task(inside(), context=Context())
    await until(lambda: bool(leases))
    await evict(other, leases[0])
    with pytest.raises(LeaseLostError, match="while its block ran"):
        async with soon():
            await task
    assert task.cancelling() == 0
    await free(coord)


async def test_a_wait_for_that_ends_before_the_lock_is_granted_leaves_no_request(coord: Coordination, other: Coordination) -> None:
    holder = await holding(other, PATH)
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(coord.lock(PATH, wait=None).__aenter__(), 0.1)
    await until(lambda: _waits(other, 0))
    await holder.leave()
    await free(coord)


@pytest.mark.parametrize("how", ["leaves", "stays"])
async def test_a_block_of_which_nobody_knows_who_runs_it_keeps_its_lock_unless_it_ends(world: World, how: str) -> None:
    coord, other = await world.open(**{**MORTAL, "cancel_grace": 0.3}), await world.open(**MORTAL)
    session = coord.session
    async with AsyncExitStack() as stack:
        lease = await asyncio.create_task(stack.enter_async_context(coord.lock(PATH)))
        closing = asyncio.create_task(coord.close())
        async with soon():
            await lease.lost.wait()
            if how == "stays":
                await closing
                (row,) = await held_of(other)
                assert (row.id, row.session) == (lease.id, session)
            with pytest.raises(LeaseLostError, match="the coordination was closed"):
                await stack.aclose()
            await closing
    async with soon():
        async with other.lock(PATH, wait=None):
            pass
    closed = [event.subject async for event in other.events(0, [Kind.SESSION_CLOSED], follow=False)]
    assert closed == ([] if how == "stays" else [session])


# how a block ends


async def test_of_nested_blocks_only_the_lost_one_and_what_is_inside_it_end(coord: Coordination, other: Coordination) -> None:
    ended: list[str] = []
    leases: list[Lease] = []
    ready = asyncio.Event()

    async def nested() -> None:
        async with coord.lock("a") as outer:
            leases.append(outer)
            try:
                async with coord.lock("b") as inner:
                    leases.append(inner)
                    ready.set()
                    await asyncio.Event().wait()
            except LeaseLostError:
                ended.append("inner")
            outer.require()
            await asyncio.sleep(0)
            ended.append("outer goes on")

    task = asyncio.create_task(nested())
    async with soon():
        await ready.wait()
        await evict(other, leases[1])
        await task
    assert ended == ["inner", "outer goes on"]
    assert not task.cancelling()
    await free(coord)


async def test_when_the_outer_lease_is_lost_the_inner_block_ends_as_cancelled_and_is_freed(
    coord: Coordination, other: Coordination
) -> None:
    seen: list[str] = []
    leases: list[Lease] = []
    ready = asyncio.Event()

    async def nested() -> None:
        async with coord.lock("a") as outer:
            leases.append(outer)
            try:
                async with coord.lock("b"):
                    ready.set()
                    await asyncio.Event().wait()
            except asyncio.CancelledError:
                seen.append("cancelled inside")
                raise

    task = asyncio.create_task(nested())
    async with soon():
        await ready.wait()
        await evict(other, leases[0])
        with pytest.raises(LeaseLostError, match="the lock on a was lost"):
            await task
    assert seen == ["cancelled inside"]
    assert not task.cancelling()
    await free(coord)


async def test_when_all_leases_are_lost_the_outermost_block_says_so(world: World) -> None:
    coord, other = await world.open(), await world.open()
    ready = asyncio.Event()

    async def nested() -> str:
        try:
            async with coord.lock("a"), coord.lock("b"), coord.lock("c"):
                ready.set()
                await asyncio.Event().wait()
        except LeaseLostError as error:
            await asyncio.sleep(0)  # no stray cancellation is left
            return str(error)
        return "nothing"

    task = asyncio.create_task(nested())
    async with soon():
        await ready.wait()
        await kill_session(other, coord.session)
        assert "the lock on a was lost" in await task
    await free(other)


async def test_a_cancellation_from_outside_wins_over_a_lost_lease(coord: Coordination, other: Coordination) -> None:
    cleaning, go = asyncio.Event(), asyncio.Event()
    leases: list[Lease] = []

    async def work() -> None:
        async with coord.lock(PATH) as lease:
            leases.append(lease)
            try:
                await asyncio.Event().wait()
            finally:
                cleaning.set()
                with contextlib.suppress(asyncio.CancelledError):
                    await asyncio.sleep(5)
                await go.wait()

    task = asyncio.create_task(work())
    await until(lambda: bool(leases))
    task.cancel()
    async with soon():
        await cleaning.wait()
        await evict(other, leases[0])
        await leases[0].lost.wait()
        go.set()
        with pytest.raises(asyncio.CancelledError):
            await task
    await free(coord)


async def test_a_timeout_around_a_block_whose_lease_is_lost_in_the_same_moment_is_a_timeout(coord: Coordination) -> None:
    assert coord._parts is not None
    leases = coord._parts.leases
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(10) as timeout:
            async with coord.lock(PATH):
                loop = asyncio.get_running_loop()
                timeout.reschedule(loop.time())
                loop.call_soon(leases.lose_all)
                await asyncio.sleep(5)
    current = asyncio.current_task()
    assert current is not None
    assert not current.cancelling()
    await free(coord)


async def test_a_task_group_inside_a_lost_block_ends_its_children_first(coord: Coordination, other: Coordination) -> None:
    ended: list[str] = []
    leases: list[Lease] = []

    async def child(name: str) -> None:
        try:
            await asyncio.Event().wait()
        finally:
            await asyncio.sleep(0.01)
            ended.append(name)

    async def work() -> None:
        async with coord.lock(PATH) as lease:
            leases.append(lease)
            async with asyncio.TaskGroup() as group:
                group.create_task(child("one"))
                group.create_task(child("two"))

    task = asyncio.create_task(work())
    await until(lambda: bool(leases))
    await evict(other, leases[0])
    async with soon():
        with pytest.raises(LeaseLostError):
            await task
    assert sorted(ended) == ["one", "two"]
    await free(coord)


async def test_a_block_that_overlooks_its_cancellation_still_hears_that_its_lease_was_lost(
    coord: Coordination, other: Coordination
) -> None:
    leases: list[Lease] = []

    async def work() -> None:
        async with coord.lock(PATH) as lease:
            leases.append(lease)
            with contextlib.suppress(asyncio.CancelledError):
                await asyncio.sleep(5)

    task = asyncio.create_task(work())
    await until(lambda: bool(leases))
    await evict(other, leases[0])
    async with soon():
        with pytest.raises(LeaseLostError):
            await task
    assert not task.cancelling()


async def test_an_error_of_a_lost_block_is_its_own(coord: Coordination, other: Coordination) -> None:
    leases: list[Lease] = []

    async def work() -> None:
        async with coord.lock(PATH) as lease:
            leases.append(lease)
            try:
                await asyncio.sleep(5)
            except asyncio.CancelledError:
                raise ValueError("mine") from None

    task = asyncio.create_task(work())
    await until(lambda: bool(leases))
    await evict(other, leases[0])
    async with soon():
        with pytest.raises(ValueError, match="mine"):
            await task


async def test_a_lease_that_is_lost_while_it_is_converted_is_not_held_afterwards(coord: Coordination, other: Coordination) -> None:
    reader = await holding(other, PATH, S)
    started = asyncio.Event()
    leases: list[Lease] = []

    async def work() -> None:
        async with coord.lock(PATH, S) as lease:
            leases.append(lease)
            started.set()
            await lease.convert(X, wait=None)

    task = asyncio.create_task(work(), context=Context())
    async with soon():
        await started.wait()
        await until(lambda: _waits(coord, 1))
        await evict(other, leases[0])
        with pytest.raises(LeaseLostError):
            await task
    await reader.leave()
    await free(coord)


async def _waits(coord: Coordination, count: int) -> bool:
    return len(await waits_of(coord)) == count


async def test_blocks_may_be_left_in_any_order(coord: Coordination) -> None:
    one, two = coord.lock("a"), coord.lock("b")
    await one.__aenter__()
    await two.__aenter__()
    await one.__aexit__(None, None, None)
    waiter = asyncio.create_task(_enter(coord, "b"))  # still inside two's block
    async with soon():
        with pytest.raises(CoordError) as refused:
            await waiter
    assert refused.value.code == "deadlock"
    await two.__aexit__(None, None, None)
    assert ENCLOSING.get() == ()
    await _enter(coord, "b")
    await free(coord)


async def _enter(coord: Coordination, path: str) -> None:
    async with coord.lock(path, wait=5):
        pass


# what the log does not tell, or tells twice


async def test_a_grant_that_was_pruned_unread_is_found(world: World) -> None:
    coord, other = await world.open(poll=1.0, keep_count=0, keep_seconds=1), await world.open()
    waits = await _pruned(coord, other)
    await waits.held()
    await waits.leave()


async def _pruned(coord: Coordination, other: Coordination) -> Holder:
    """Somebody who waits in a process that hears of others only each second, and was granted by an event that is gone by then."""
    holder = await holding(other, PATH)
    lost = await holding(coord, "b")
    lease = await lost.held()
    waits = await waiting(coord, PATH)
    await holder.leave()
    await evict(other, lease)

    def prune_all(rows: Rows, command: None, now: float, policy: Settings) -> None:
        for row in rows.scan(Range(EVENT, "key")):
            rows.drop(EVENT, row)
        newest = rows.one(COUNTER, NUMBER)
        assert newest is not None
        rows.one(COUNTER, FLOOR)
        rows.put(COUNTER, CounterRow(FLOOR, newest.value))

    await process_of(other).line.put(prune_all, None)
    async with other.lock("something else"):  # so that there is an event behind the gap
        pass
    assert isinstance(await lost.error(), LeaseLostError)
    return waits


# closing


async def test_who_waits_when_it_closes_hears_that_and_who_holds_loses_it(world: World) -> None:
    coord, other = await world.open(), await world.open()
    holder, waits = await holding(coord, "a"), await holding(other, "b")
    waiter = await waiting(coord, "b")
    lease = await holder.held()
    async with soon():
        await coord.close()
    assert isinstance(await waiter.error(), ClosedError)
    error = await holder.error()
    assert isinstance(error, LeaseLostError)
    assert "closed" in str(error)
    assert lease.lost.is_set()
    async with other.lock("a", wait=1):
        pass
    await waits.leave()
    await free(other)
    dead = [event async for event in other.events(0, [Kind.SESSION_DEAD], follow=False)]
    assert dead == []


async def test_nobody_gets_a_lock_of_a_coordination_that_closes(coord: Coordination) -> None:
    late = coord.lock("a")
    await coord.close()
    with pytest.raises(ClosedError):
        async with late:
            pass
    with pytest.raises(ClosedError):
        coord.lock("b")


async def test_closing_inside_a_block_frees_it_and_the_block_hears_that(world: World) -> None:
    coord, other = await world.open(), await world.open()
    seen: list[bool] = []
    with pytest.raises(LeaseLostError, match="closed"):
        async with coord.lock(PATH) as lease:
            async with soon():
                await coord.close()
            async with other.lock(PATH):
                seen.append(lease.lost.is_set())
    assert seen == [True]
    await free(other)
    dead = [event async for event in other.events(0, [Kind.SESSION_DEAD], follow=False)]
    assert dead == []


async def test_a_block_that_ignores_the_close_keeps_its_lock_until_the_lease_of_the_session_ends(world: World) -> None:
    coord, other = await world.open(**{**MORTAL, "cancel_grace": 0.05, "session_ttl": 2.0}), await world.open(**MORTAL)
    go = asyncio.Event()

    async def stubborn() -> None:
        async with coord.lock(PATH):
            for _ in range(6):  # a test that fails must end
                with contextlib.suppress(asyncio.CancelledError, TimeoutError):
                    async with soon(2):
                        await go.wait()

    task = asyncio.create_task(stubborn(), context=Context())
    await until(lambda: _held(coord, 1))
    async with soon():
        await coord.close()
    assert len(await held_of(other)) == 1
    async with soon(), other.lock(PATH, wait=5):
        pass
    go.set()
    with pytest.raises(LeaseLostError):
        await task
    await free(other)


async def test_leaving_by_an_error_gives_back_what_others_of_the_program_hold(world: World) -> None:
    other = await world.open()
    settings = other.settings
    with pytest.raises(ValueError, match="mine"):
        async with Coordination.open(world.url, settings=settings) as coord:
            holder = await holding(coord, PATH)
            waiter = await waiting(coord, PATH)
            raise ValueError("mine")
    assert isinstance(await holder.error(), LeaseLostError)
    assert isinstance(await waiter.error(), ClosedError)
    await free(other)


@pytest.mark.faults
async def test_when_a_loop_breaks_every_holder_and_waiter_is_told(world: World) -> None:
    coord = await world.open()
    holder, waiter = await holding(coord, PATH), await waiting(coord, PATH)

    def broken(source: Any = None) -> Any:
        raise RuntimeError("broken, says the test")

    process_of(coord).line.join(broken)
    with pytest.raises(ClosedError):
        async with coord.lock("b"):
            pass
    assert isinstance(await waiter.error(), ClosedError)
    assert isinstance(await holder.error(), LeaseLostError)


# a store that fails


async def test_a_lock_is_given_back_when_the_store_is_there_again(world: World) -> None:
    coord, other = await world.open(), await world.open()
    holder = await holding(coord, PATH)
    with Fault(coord):
        holder.go.set()
        await asyncio.sleep(0.05)
        assert not holder.task.done()
        assert len(await held_of(other)) == 1
    async with soon():
        await holder.task
    await free(other)


def lose_one_answer(coord: Coordination) -> None:
    """The next commit goes through, and nobody hears of it."""
    store: Any = process_of(coord).store
    transact = store.transact

    async def unclear(*args: Any) -> Any:
        del store.transact
        await transact(*args)
        raise StoreUnavailableError("the answer was lost, says the test")

    store.transact = unclear


async def test_a_release_whose_answer_was_not_heard_is_no_lost_lease(world: World) -> None:
    coord = await world.open()
    async with soon():
        async with coord.lock([PATH, "b"]):
            lose_one_answer(coord)
        async with coord.lock(PATH) as lease:
            lose_one_answer(coord)
            await lease.release()
        assert not lease.lost.is_set()
    await free(coord)


async def test_a_lease_that_was_lost_is_told_as_lost_also_when_the_answer_to_its_release_was_not_heard(world: World) -> None:
    coord, other = await world.open(poll=5.0), await world.open()  # it hears of the other's commits too late
    with pytest.raises(LeaseLostError, match="was gone when it was given back"):
        async with soon(), coord.lock(PATH) as lease:
            await evict(other, lease)
            assert not lease.lost.is_set()
            lose_one_answer(coord)
    assert lease.lost.is_set()
    await free(other)


async def test_a_block_that_is_cancelled_while_it_gives_back_does_not_keep_the_lock(world: World) -> None:
    coord, other = await world.open(), await world.open()
    holder = await holding(coord, PATH)
    with Fault(coord):
        holder.go.set()
        await asyncio.sleep(0.02)
        holder.task.cancel()
        assert isinstance(await holder.error(), asyncio.CancelledError)
        assert len(await held_of(other)) == 1
    await free(other)


async def test_a_store_that_is_away_is_said_and_nothing_is_left_of_the_request(world: World) -> None:
    coord, other = await world.open(), await world.open()
    holder = await holding(other, PATH)
    waits = await waiting(coord, PATH, wait=0.2)
    with Fault(coord):
        with pytest.raises(StoreUnavailableError):
            async with coord.lock("b"):
                pass
        assert isinstance(await waits.error(), StoreUnavailableError)  # its patience was over, and could not be written
    await until(lambda: _waits(other, 0))
    await holder.leave()
    await free(other)
    async with coord.lock(["b", PATH]):
        pass


async def test_a_grant_whose_answer_was_not_heard_is_taken_back(world: World) -> None:
    """The commit went through, and its answer was lost: it is not known what was written."""
    coord = await world.open()
    store: Any = process_of(coord).store
    transact = store.transact

    async def unclear(*args: Any) -> Any:
        await transact(*args)
        raise StoreUnavailableError("the answer was lost, says the test")

    store.transact = unclear
    with pytest.raises(StoreUnavailableError):
        async with coord.lock(PATH):
            pass
    del store.transact
    await free(coord)


async def test_a_conversion_whose_answer_was_not_heard_is_known_to_the_lease(world: World) -> None:
    coord = await world.open()
    async with coord.lock(PATH, S) as lease:
        store: Any = process_of(coord).store
        transact = store.transact

        async def unclear(*args: Any) -> Any:
            await transact(*args)
            raise StoreUnavailableError("the answer was lost, says the test")

        store.transact = unclear
        with pytest.raises(StoreUnavailableError):
            await lease.convert(X)
        del store.transact

        async def agreed() -> bool:
            (row,) = await held_of(coord)
            return (row.mode, row.token) == (lease.mode.value, lease.token)

        await until(agreed)
        assert lease.mode == X
    await free(coord)
