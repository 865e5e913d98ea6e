"""Locks as programs take them: granted, refused, waited for, converted, given back; in one process and in several."""

from __future__ import annotations

import asyncio
from contextvars import Context
from typing import Any

import pytest

from autogen_coord import (
    Coordination,
    DeadlockError,
    InvalidInputError,
    Lease,
    LeaseLostError,
    LockHeldError,
    LockMode,
    Priority,
)
from autogen_coord.core.events import Kind
from tests.conformance.lock_holders import IS, IX, SIX, Holder, S, X, free, held_of, holding, waiting, waits_of
from tests.conftest import World, process_of, soon, until

PATH = "repo/src/a.py"


@pytest.fixture
async def other(world: World, coord: Coordination) -> Coordination:
    """Another process on the same store."""
    return await world.open()


async def test_a_free_lock_is_held_for_a_block_and_free_afterwards(coord: Coordination) -> None:
    async with coord.lock(PATH) as lease:
        assert (lease.path, lease.paths, lease.mode, lease.released) == (PATH, [PATH], X, False)
        (row,) = await held_of(coord)
        assert (row.id, row.token, row.since, row.session) == (lease.id, lease.token, lease.since, coord.session)
        lease.require()
    assert lease.released
    assert not lease.lost.is_set()
    await free(coord)


async def test_each_grant_has_a_greater_token_in_whatever_process(coord: Coordination, other: Coordination) -> None:
    tokens = []
    for number in range(6):
        async with (coord, other)[number % 2].lock(f"path/{number % 3}") as lease:
            tokens.append(lease.token)
    assert tokens == sorted(set(tokens))
    assert tokens[0] > 0


async def test_a_lock_that_is_held_is_refused_at_once_and_the_error_has_the_facts(coord: Coordination, other: Coordination) -> None:
    async with coord.lock(PATH, S) as lease:
        with pytest.raises(LockHeldError, match="pass wait= to wait for it") as refused:
            async with other.lock("repo"):
                pass
    error = refused.value
    assert (error.path, error.mode, error.since) == (PATH, "S", lease.since)
    assert coord.session in error.holder
    await free(coord)


async def test_patience_that_ends_is_a_refusal_with_the_facts_and_leaves_nothing(coord: Coordination, other: Coordination) -> None:
    holder = await holding(coord, PATH, owner="ann")
    began = asyncio.get_running_loop().time()
    with pytest.raises(LockHeldError, match=r"held: X since .* by ann; waited 0\.15 s") as refused:
        async with other.lock(PATH, wait=0.15):
            pass
    assert 0.14 < asyncio.get_running_loop().time() - began < 2
    assert holder.lease is not None
    error = refused.value
    assert (error.path, error.mode, error.holder, error.since, error.waited) == (PATH, "X", "ann", holder.lease.since, 0.15)
    assert await waits_of(coord) == []
    await holder.leave()
    await free(coord)


async def test_who_would_pass_an_earlier_waiter_is_told_of_that_one(coord: Coordination, other: Coordination) -> None:
    reader = await holding(coord, PATH, S)
    writer = await waiting(coord, PATH, X, owner="writer")
    with pytest.raises(LockHeldError, match="waited for by writer, who came before"):
        async with other.lock(PATH, S):
            pass
    await reader.leave()
    await writer.held()
    await writer.leave()


async def test_waiters_are_granted_in_the_order_of_their_coming(coord: Coordination, other: Coordination) -> None:
    first = await holding(coord, PATH)
    others = [await waiting((coord, other)[number % 2], PATH) for number in range(4)]
    await first.leave()
    tokens = []
    for holder in others:
        tokens.append((await holder.held()).token)
        assert [one.lease is not None for one in others].count(True) == len(tokens)
        await holder.leave()
    assert tokens == sorted(tokens)
    await free(coord)


async def test_a_point_of_priority_is_worth_some_seconds_of_waiting(world: World) -> None:
    coord = await world.open(priority_weight=30.0)
    first = await holding(coord, PATH)
    low = await waiting(coord, PATH, priority=Priority.LOW)
    normal = await waiting(coord, PATH)
    high = await waiting(coord, PATH, priority=Priority.CRITICAL)
    await first.leave()
    for holder in (high, normal, low):
        await holder.held()
        await holder.leave()


async def test_without_a_weight_of_priority_nobody_overtakes(world: World) -> None:
    coord = await world.open(priority_weight=0.0)
    first = await holding(coord, PATH)
    low = await waiting(coord, PATH, priority=Priority.LOW)
    high = await waiting(coord, PATH, priority=Priority.CRITICAL)
    await first.leave()
    await low.held()
    assert high.lease is None
    await low.leave()
    await high.held()
    await high.leave()


async def test_several_paths_are_granted_as_a_whole_under_one_token(coord: Coordination, other: Coordination) -> None:
    async with coord.lock(["b", "a/x", "b"]) as lease:
        assert lease.paths == ["a/x", "b"]
        rows = await held_of(coord)
        assert [(row.path, row.token, row.id) for row in rows] == [("a/x/", lease.token, lease.id), ("b/", lease.token, lease.id)]
        for path in ("a/x", "b"):
            with pytest.raises(LockHeldError):
                async with other.lock(path):
                    pass
    await free(coord)


async def test_who_waits_for_several_paths_holds_none_of_them(coord: Coordination, other: Coordination) -> None:
    first = await holding(coord, "a")
    both = await waiting(other, {"a": X, "b": S})
    assert [row.path for row in await held_of(coord)] == ["a/"]
    async with coord.lock("b", S):  # nobody excludes it
        pass
    await first.leave()
    lease = await both.held()
    assert [(row.path, row.mode, row.token) for row in await held_of(coord)] == [("a/", "X", lease.token), ("b/", "S", lease.token)]
    await both.leave()
    await free(coord)


async def test_what_others_of_an_owner_hold_does_not_stand_in_its_way(coord: Coordination, other: Coordination) -> None:
    async with coord.lock("a", owner="team") as mine, other.lock("a/b", owner="team") as ours:
        assert mine.token < ours.token
        with pytest.raises(LockHeldError):
            async with coord.lock("a/b", S, owner="others"):
                pass
        with pytest.raises(LockHeldError):
            async with coord.lock("a/c", S):
                pass
    await free(coord)


@pytest.mark.parametrize(
    ("held", "path", "wanted", "place", "granted"),
    [
        (S, "a", S, "a", True),
        (S, "a", X, "a", False),
        (IX, "a", IX, "a", True),
        (IX, "a", S, "a", False),
        (SIX, "a", IS, "a", True),
        (X, "a", S, "a/b/c", False),
        (X, "a/b", X, "a/c", True),
        (X, "a/b", S, "a", False),
        (X, "a/b", IX, "a", True),
        (S, "a/b", S, "a", True),
        (S, "a", X, "a/b", False),
        (IX, "a", X, "a/b", True),
        (X, "a/b", X, "a/bc", True),
        (X, "a/b", X, "a/b.c", True),
    ],
)
async def test_two_locks_go_together_as_gray_says(
    world: World, held: LockMode, path: str, wanted: LockMode, place: str, granted: bool
) -> None:
    coord, other = await world.open(), await world.open()
    holder = await holding(coord, path, held)
    second = Holder(other, place, wanted, wait=0)
    if granted:
        await second.held()
        await second.leave()
    else:
        assert isinstance(await second.error(), LockHeldError)
    await holder.leave()


# conversion


async def test_a_reader_that_is_alone_becomes_a_writer_under_a_new_token(coord: Coordination, other: Coordination) -> None:
    async with coord.lock(["a", "b"], S) as lease:
        before = lease.token
        await lease.convert(X)
        assert lease.token > before
        assert [(row.mode, row.token) for row in await held_of(coord)] == [("X", lease.token)] * 2
        assert lease.mode == X
        token = lease.token
        await lease.convert("S")  # what it holds is enough
        assert (lease.token, lease.mode) == (token, X)
        with pytest.raises(LockHeldError):
            async with other.lock("b", IS):
                pass
    await free(coord)


async def test_a_conversion_waits_for_the_other_readers_and_goes_before_who_waits(coord: Coordination, other: Coordination) -> None:
    reader = await holding(other, PATH, S)
    writer = Holder(coord, PATH, S)
    lease = await writer.held()
    late = await waiting(other, PATH, X)
    converted = asyncio.create_task(lease.convert(X, wait=5), context=Context())
    await until(lambda: _count(coord, 2))
    assert lease.mode == S
    lease.require()
    await reader.leave()
    async with soon():
        await converted
    assert lease.mode == X
    assert late.lease is None
    await writer.leave()
    await late.held()
    await late.leave()
    await free(coord)


async def _count(coord: Coordination, waits: int) -> bool:
    return len(await waits_of(coord)) == waits


async def test_a_conversion_that_is_refused_or_given_up_keeps_what_it_had(coord: Coordination, other: Coordination) -> None:
    reader = await holding(other, PATH, S)
    async with coord.lock(PATH, S) as lease:
        token = lease.token
        for wait in (0, 0.05):
            with pytest.raises(LockHeldError):
                await lease.convert(X, wait=wait)
        async with soon():
            converting = asyncio.create_task(lease.convert(X, wait=None))
            await until(lambda: _count(coord, 1))
            with pytest.raises(InvalidInputError, match="being converted already"):
                await lease.convert(SIX)
            converting.cancel()
            await asyncio.wait([converting])
        await until(lambda: _count(coord, 0))
        assert (lease.mode, lease.token) == (S, token)
        lease.require()
        async with other.lock(PATH, S):
            pass
        await reader.leave()
        await lease.convert(X)
        assert lease.mode == X
    await free(coord)


async def test_of_two_readers_that_both_convert_the_second_is_refused_at_once(coord: Coordination, other: Coordination) -> None:
    one, two = await holding(coord, PATH, S), await holding(other, PATH, S)
    first, second = await one.held(), await two.held()
    converted = asyncio.create_task(first.convert(X, wait=None), context=Context())
    await until(lambda: _count(coord, 1))
    with pytest.raises(DeadlockError) as refused:
        await asyncio.create_task(second.convert(X, wait=None), context=Context())
    assert len(refused.value.cycle) >= 2
    assert second.mode == S
    second.require()
    await two.leave()
    async with soon():
        await converted
    assert first.mode == X
    await one.leave()
    await free(coord)


async def test_a_conversion_that_was_granted_as_its_caller_left_is_known_to_the_lease(coord: Coordination) -> None:
    async with coord.lock(PATH, S) as lease:
        converting = asyncio.create_task(lease.convert(X, wait=None))
        await asyncio.sleep(0)
        converting.cancel()
        await asyncio.wait([converting])
        assert converting.cancelled()

        async def agreed() -> bool:
            (row,) = await held_of(coord)
            return (row.mode, row.token) == (lease.mode.value, lease.token)

        await until(agreed)
    await free(coord)


async def test_a_lease_that_is_released_while_it_is_converted_is_gone_for_both(coord: Coordination, other: Coordination) -> None:
    reader = await holding(other, PATH, S)
    async with coord.lock(PATH, S) as lease:
        converting = asyncio.create_task(lease.convert(X, wait=None))
        await until(lambda: _count(coord, 1))
        await lease.release()
        with pytest.raises(LeaseLostError, match="released while it was converted"):
            async with soon():
                await converting
    await reader.leave()
    await free(coord)


# leaving


async def test_a_block_that_raises_frees_its_lock_and_its_own_error_is_heard(coord: Coordination) -> None:
    with pytest.raises(ValueError, match="mine"):
        async with coord.lock(PATH):
            raise ValueError("mine")
    await free(coord)


async def test_a_lease_may_be_released_before_its_block_ends_once(coord: Coordination, other: Coordination) -> None:
    async with coord.lock(PATH) as lease:
        await lease.release()
        async with other.lock(PATH):
            pass
        for use in (lease.release, lambda: lease.convert(X)):
            with pytest.raises(LeaseLostError, match="was released"):
                await use()
        with pytest.raises(LeaseLostError):
            lease.require()
    await free(coord)


async def test_a_caller_that_leaves_at_any_moment_leaves_nothing_behind(coord: Coordination) -> None:
    """Cancelled after each number of turns of the loop: while it asks, while it is answered, inside, while it gives back."""

    async def once() -> None:
        async with coord.lock(PATH, wait=1):
            await asyncio.sleep(0)

    ends = set()
    for turns in range(400):
        task = asyncio.create_task(once())
        for _ in range(turns):
            await asyncio.sleep(0)
        task.cancel()
        await asyncio.wait([task])
        ends.add(task.cancelled())
        if not task.cancelled():
            break
    assert True in ends
    await free(coord)
    async with coord.lock(PATH):
        pass


async def test_a_waiter_that_leaves_at_any_moment_leaves_nothing_behind(coord: Coordination, other: Coordination) -> None:
    for turns in range(60):
        holder = await holding(other, PATH)
        waits = Holder(coord, PATH)
        for _ in range(turns):
            await asyncio.sleep(0)
        waits.task.cancel()
        if turns % 2:
            await holder.leave()
        await asyncio.wait([waits.task])
        assert waits.task.cancelled()
        if not turns % 2:
            await holder.leave()
    await free(coord)


async def test_a_waiter_that_is_granted_as_it_is_cancelled_gives_it_back(coord: Coordination) -> None:
    """The grant is there, and the cancellation comes before its caller hears of it."""
    holder, waits = await holding(coord, PATH), Holder(coord, PATH)
    await until(lambda: _count(coord, 1))
    assert coord._parts is not None
    (waiter,) = coord._parts.leases._waiting.values()
    holder.go.set()
    await until(lambda: waiter.outcome is not None)
    waits.task.cancel()
    await asyncio.wait([waits.task])
    await free(coord)


async def test_many_at_once_never_hold_it_together(world: World) -> None:
    coords = [await world.open() for _ in range(3)]
    inside: list[int] = []
    tokens: list[int] = []

    async def work(number: int) -> None:
        for _ in range(5):
            async with coords[number % 3].lock(PATH, wait=None) as lease:
                inside.append(number)
                assert inside == [number]
                tokens.append(lease.token)
                await asyncio.sleep(0)
                inside.clear()

    async with soon(), asyncio.TaskGroup() as group:
        for number in range(9):
            group.create_task(work(number))
    assert len(tokens) == 45
    assert tokens == sorted(tokens)
    await free(coords[0])


# waiting costs nothing


async def test_who_waits_in_the_same_process_asks_nothing_meanwhile(world: World) -> None:
    coord = await world.open(poll=60)  # another process's commits are not looked for at all
    holder = await holding(coord, PATH)
    waits = await waiting(coord, PATH)
    calls = _Calls(coord)
    with calls:
        await asyncio.sleep(0.1)
        assert calls.transactions == calls.reads == 0
        holder.go.set()
        await waits.held()
        assert (calls.transactions, calls.reads) == (1, 0)  # the release, which grants it
    await waits.leave()


class _Calls:
    """Counts what a coordination asks of its store on behalf of locks."""

    def __init__(self, coord: Coordination) -> None:
        self._store: Any = process_of(coord).store
        self.transactions = self.reads = 0

    def __enter__(self) -> None:
        transact, read = self._store.transact, self._store.read

        async def counted_transact(*args: Any) -> Any:
            self.transactions += 1
            return await transact(*args)

        async def counted_read(*loads: Any) -> Any:
            self.reads += any(load.table.name.startswith("lock") for load in loads)
            return await read(*loads)

        self._store.transact, self._store.read = counted_transact, counted_read

    def __exit__(self, *exc: object) -> None:
        del self._store.transact, self._store.read


class Stepped:
    """Counts how often a coroutine is run on."""

    def __init__(self, coroutine: Any) -> None:
        self._coroutine = coroutine
        self.steps = 0

    def __await__(self) -> Any:
        inner = self._coroutine.__await__()
        value: Any = None
        while True:
            self.steps += 1
            try:
                waited = inner.send(value)
            except StopIteration as stop:
                return stop.value
            value = yield waited


async def test_only_who_is_granted_wakes(coord: Coordination, other: Coordination) -> None:
    """No herd: of thirty that wait in two processes, each release wakes one."""
    holder = await holding(coord, PATH)
    done: list[int] = []
    go_on = [asyncio.Event() for _ in range(30)]

    async def wait(number: int) -> None:
        async with (coord, other)[number % 2].lock(PATH, wait=None):
            done.append(number)
            await go_on[number].wait()

    waiters = [Stepped(wait(number)) for number in range(30)]

    async def run(stepped: Stepped) -> None:
        await stepped

    async with soon(), asyncio.TaskGroup() as group:
        for number, stepped in enumerate(waiters):
            group.create_task(run(stepped))
            await until(lambda number=number: _count(coord, number + 1))
        before = [stepped.steps for stepped in waiters]
        holder.go.set()
        for number in range(30):
            await until(lambda number=number: len(done) == number + 1)
            after = [stepped.steps for stepped in waiters]
            assert [later for later, stepped in enumerate(waiters) if stepped.steps != before[later] and later > number] == []
            assert after[number] == before[number] + 1
            go_on[number].set()
    assert done == list(range(30))
    await free(coord)


async def test_a_grant_is_heard_in_another_process_without_its_asking(world: World) -> None:
    coord, other = await world.open(), await world.open(poll=0.02)
    holder = await holding(coord, PATH)
    waits = await waiting(other, PATH)
    calls = _Calls(other)
    with calls:
        await holder.leave()
        began = asyncio.get_running_loop().time()
        await waits.held()
        assert asyncio.get_running_loop().time() - began < 1
        assert calls.transactions == 0
    await waits.leave()
    await free(coord)


# events


async def test_what_becomes_of_a_lock_is_in_the_log(coord: Coordination) -> None:
    async with coord.lock(PATH, S) as lease:
        pass
    kinds = [Kind.RESOURCE_LOCKED, Kind.RESOURCE_UNLOCKED]
    events = [event async for event in coord.events(0, kinds, follow=False)]
    assert [(event.kind, event.subject, event.data["token"], event.data["lease"]) for event in events] == [
        (kind, PATH, lease.token, lease.id) for kind in kinds
    ]
    assert {event.data["mode"] for event in events} == {"S"}


# bad input


@pytest.mark.parametrize(
    "path",
    [
        "", "/", "a//b", "/a", "a/", ".", "a/../b", "a\0b", "a\nb", "\ud800", "a" * 501, "/".join("a" * 33), 5, None, b"a",
        [], {}, [""], [["a"]], [None], {"a": "Z"}, {"a/": X}, {5: X}, {"a", "b"}, [f"p/{number}" for number in range(257)],
        object(),
    ],
)  # fmt: skip
async def test_an_absurd_path_is_refused_before_anything_is_asked(coord: Coordination, path: Any) -> None:
    with pytest.raises(InvalidInputError):
        coord.lock(path)


@pytest.mark.parametrize("mode", ["", "x", "EXCLUSIVE", "U", None, 5, [], object()])
async def test_an_unknown_mode_is_refused_with_those_there_are(coord: Coordination, mode: Any) -> None:
    with pytest.raises(InvalidInputError, match="IS, IX, S, SIX, X"):
        coord.lock("a", mode)
    async with coord.lock("a", S) as lease:
        with pytest.raises(InvalidInputError, match="IS, IX, S, SIX, X"):
            await lease.convert(mode)


@pytest.mark.parametrize("wait", [-1, -0.001, float("nan"), float("inf"), float("-inf"), True, "5", 1e300, [1]])
async def test_an_absurd_wait_is_refused(coord: Coordination, wait: Any) -> None:
    with pytest.raises(InvalidInputError, match=r"^wait="):
        coord.lock("a", wait=wait)
    async with coord.lock("a", S) as lease:
        with pytest.raises(InvalidInputError, match=r"^wait="):
            await lease.convert(X, wait=wait)
        assert lease.mode == S


@pytest.mark.parametrize(
    "options", [{"owner": ""}, {"owner": 5}, {"owner": "a\0"}, {"priority": -1}, {"priority": 11}, {"priority": float("nan")}]
)
async def test_an_absurd_owner_or_priority_is_refused(coord: Coordination, options: dict[str, Any]) -> None:
    with pytest.raises(InvalidInputError):
        coord.lock("a", **options)


async def test_a_block_is_entered_once(coord: Coordination) -> None:
    block = coord.lock("a")
    async with block:
        with pytest.raises(InvalidInputError, match="entered twice"):
            async with block:
                pass
    with pytest.raises(InvalidInputError, match="entered twice"):
        async with block:
            pass
    both = coord.lock("b", wait=None)

    async def enter() -> Lease:
        async with both as lease:
            return lease

    ends = await asyncio.gather(enter(), enter(), return_exceptions=True)
    assert sorted(type(end).__name__ for end in ends) == ["InvalidInputError", "Lease"]
    await free(coord)
