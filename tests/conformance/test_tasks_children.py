"""`ctx.call`: children, found again by a repeated attempt, ended with their parent, never waiting for their own caller."""

from __future__ import annotations

import asyncio

import pytest

from autogen_coord import (
    Coordination,
    DeadlockError,
    InvalidInputError,
    NoProviderError,
    RemoteError,
    RetryPolicy,
    TaskCancelledError,
    TaskContext,
    TaskExpiredError,
    capability,
)
from autogen_coord.core.store import Range
from autogen_coord.core.tables import TASK, TaskRow
from tests.conftest import MORTAL, World, ended, held, process_of, soon, until, vanish

AT_ONCE = RetryPolicy(tries=3, backoff=0)
ONE_TRY = RetryPolicy(tries=1)


async def children(coord: Coordination, parent: str) -> list[TaskRow]:
    (rows,) = await process_of(coord).store.read(Range(TASK, "by_parent", (parent,)))
    return rows


@capability("double")
async def double(number: int) -> int:
    return 2 * number


async def test_a_handler_calls_a_child_and_gets_its_value(coord: Coordination) -> None:
    @capability
    async def parent(number: int, ctx: TaskContext) -> int:
        return await ctx.call(double, number) + int(await ctx.call("double", number))

    await coord.provide(double)
    await coord.provide(parent)
    handle = await coord.submit(parent, 5)
    async with soon():
        assert await handle.result() == 20
    found = await children(coord, handle.id)
    assert [(row.capability, row.input) for row in found] == [("double", "5"), ("double", "5")]


async def test_children_run_side_by_side(coord: Coordination) -> None:
    hold, gate = held()

    @capability
    async def parent(text: str, ctx: TaskContext) -> str:
        return "".join(await asyncio.gather(*(ctx.call(hold, letter) for letter in text)))

    await coord.provide(hold)
    await coord.provide(parent)
    handle = await coord.submit(parent, "abc")
    await gate.saw(3)
    gate.release.set()
    async with soon():
        assert await handle.result() == "a!b!c!"


async def test_a_capability_with_one_slot_may_call_itself(coord: Coordination) -> None:
    @capability(max_concurrency=1)
    async def factorial(number: int, ctx: TaskContext) -> int:
        return 1 if number <= 1 else number * await ctx.call(factorial, number - 1)

    await coord.provide(factorial)
    async with soon():
        assert await coord.call(factorial, 6) == 720


async def test_a_slot_is_given_back_while_a_child_is_awaited_and_taken_again(coord: Coordination) -> None:
    hold, gate = held()
    order: list[str] = []

    @capability(max_concurrency=1)
    async def parent(text: str, ctx: TaskContext) -> str:
        order.append(f"{text} begins")
        if text == "a":
            await ctx.call(hold, "child")
        order.append(f"{text} ends")
        return text

    await coord.provide(hold)
    await coord.provide(parent)
    first = await coord.submit(parent, "a")
    await gate.saw()
    async with soon():
        assert await coord.call(parent, "b") == "b"  # the one slot was free
    gate.release.set()
    async with soon():
        await first.result()
    assert order == ["a begins", "b begins", "b ends", "a ends"]


async def test_the_callers_slot_counts_again_after_its_child(coord: Coordination) -> None:
    _, gate = held()
    inside: list[str] = []

    @capability(max_concurrency=1)
    async def parent(text: str, ctx: TaskContext) -> str:
        if text == "a":
            await ctx.call(double, 1)
            await ctx.call(double, 2)
        inside.append(text)
        await gate.enter(text)
        return text

    await coord.provide(double)
    await coord.provide(parent)
    await coord.submit(parent, "a")
    await gate.saw()
    waiting = await coord.submit(parent, "b")
    await asyncio.sleep(0.05)
    assert inside == ["a"]
    gate.release.set()
    async with soon():
        await waiting.result()


async def test_deep_calls_never_wait_for_their_own_callers(world: World) -> None:
    coord = await world.open(max_concurrency=1)

    @capability
    async def down(depth: int, ctx: TaskContext) -> int:
        return 0 if depth == 0 else 1 + await ctx.call(up, depth - 1)

    @capability
    async def up(depth: int, ctx: TaskContext) -> int:
        return 0 if depth == 0 else 1 + await ctx.call(down, depth - 1)

    await coord.provide(down)
    await coord.provide(up)
    async with soon():
        assert await asyncio.gather(*(coord.call(down, 8) for _ in range(5))) == [8] * 5


# lanes and sticky keys of ancestors


async def test_a_child_in_its_callers_lane_does_not_wait_for_its_caller(coord: Coordination) -> None:
    order: list[str] = []

    @capability
    async def nest(depth: int, ctx: TaskContext) -> int:
        order.append(f"begin {depth}")
        if depth:
            await ctx.call(nest, depth - 1, lane="l")
        order.append(f"end {depth}")
        return depth

    await coord.provide(nest)
    first = await coord.submit(nest, 2, lane="l")
    second = await coord.submit(nest, 10, lane="l", key="x", timeout=5)
    async with soon():
        assert await first.result() == 2
        assert await second.result() == 10
    assert order[:6] == ["begin 2", "begin 1", "begin 0", "end 0", "end 1", "end 2"]


async def test_children_of_one_lane_within_the_callers_lane_still_run_one_at_a_time(coord: Coordination) -> None:
    hold, gate = held()

    @capability
    async def parent(text: str, ctx: TaskContext) -> str:
        return "".join(await asyncio.gather(*(ctx.call(hold, letter, lane="l") for letter in text)))

    await coord.provide(hold)
    await coord.provide(parent)
    handle = await coord.submit(parent, "abc", lane="l")
    await gate.saw()
    await asyncio.sleep(0.03)
    assert gate.seen == ["a"]
    gate.release.set()
    async with soon():
        assert await handle.result() == "a!b!c!"
    assert gate.most == 1


async def test_a_sticky_child_of_a_sticky_caller_does_not_wait_for_it(coord: Coordination) -> None:
    @capability(max_concurrency=1)
    async def nest(depth: int, ctx: TaskContext) -> int:
        return 0 if depth == 0 else 1 + await ctx.call(nest, depth - 1, sticky="k")

    await coord.provide(nest)
    async with soon():
        assert await coord.call(nest, 3, sticky="k") == 3


async def test_another_task_of_the_lane_waits_until_the_nested_ones_are_done(coord: Coordination) -> None:
    hold, gate = held()

    @capability
    async def parent(text: str, ctx: TaskContext) -> str:
        return await ctx.call(hold, text, lane="l")

    await coord.provide(hold)
    await coord.provide(parent)
    await coord.submit(parent, "child", lane="l")
    await gate.saw()
    other = await coord.submit(hold, "other", lane="l")
    assert (await other.info()).state == "waiting"
    gate.release.set()
    async with soon():
        await other.result()
    assert gate.seen == ["child", "other"]


# found again


async def test_a_repeated_attempt_finds_the_children_that_succeeded(coord: Coordination) -> None:
    ran: list[int] = []

    @capability
    async def count(number: int) -> int:
        ran.append(number)
        return number * 10

    @capability
    async def parent(text: str, ctx: TaskContext) -> list[int]:
        values = [await ctx.call(count, number) for number in (1, 2, 1)]
        if ctx.attempt < 3:
            raise ValueError("once more")
        return values

    await coord.provide(count)
    await coord.provide(parent)
    async with soon():
        assert await coord.call(parent, "x", retry=AT_ONCE) == [10, 20, 10]
    assert ran == [1, 2, 1]  # the same input twice is two children: they differ in their ordinal


async def test_a_child_that_failed_is_made_anew_by_the_next_attempt(coord: Coordination) -> None:
    ran: list[str] = []

    @capability
    async def shaky(text: str, ctx: TaskContext) -> str:
        ran.append(ctx.task_id)
        if len(ran) == 1:
            raise ValueError("first")
        return text

    @capability
    async def parent(text: str, ctx: TaskContext) -> str:
        return await ctx.call(shaky, text, retry=ONE_TRY)

    await coord.provide(shaky)
    await coord.provide(parent)
    handle = await coord.submit(parent, "x", retry=AT_ONCE)
    async with soon():
        assert await handle.result() == "x"
    assert len(set(ran)) == 2
    assert len(await children(coord, handle.id)) == 2


async def test_a_child_that_still_runs_is_waited_for_by_the_next_attempt(coord: Coordination) -> None:
    hold, gate = held()

    @capability
    async def parent(text: str, ctx: TaskContext) -> str:
        return await ctx.call(hold, text)

    await coord.provide(hold)
    await coord.provide(parent)
    handle = await coord.submit(parent, "x", attempt_timeout=0.3, retry=AT_ONCE)
    await gate.saw()

    async def second() -> bool:
        return (await handle.info()).attempt == 2

    await until(second)
    await asyncio.sleep(0.02)
    gate.release.set()
    async with soon():
        assert await handle.result() == "x!"
    assert gate.seen == ["x"]


async def test_a_parent_and_its_child_whose_process_died_both_run_again_and_end(world: World) -> None:
    """Both are suspects: the parent, alone, finds its child, and the child may run beside it."""
    dying, healthy = await world.open(**MORTAL), await world.open(**MORTAL)
    hold, gate = held()

    @capability
    async def parent(text: str, ctx: TaskContext) -> str:
        return await ctx.call(hold, text)

    await dying.provide(hold)
    await dying.provide(parent)
    handle = await healthy.submit(parent, "x")
    await gate.saw()
    await healthy.provide(parent)
    await healthy.provide(hold)
    await vanish(dying)
    await gate.saw(2)
    gate.release.set()
    async with soon():
        assert await handle.result() == "x!"
    info = await handle.info()
    assert [one.end for one in info.attempts] == ["crashed", "succeeded"]
    assert len(await children(healthy, handle.id)) == 1


async def test_a_child_with_a_key_is_the_task_of_that_key(coord: Coordination) -> None:
    hold, gate = held()
    gate.release.set()

    @capability
    async def parent(text: str, ctx: TaskContext) -> str:
        return await ctx.call(hold, text, key="k")

    await coord.provide(hold)
    await coord.provide(parent)
    async with soon():
        assert await coord.call(hold, "x", key="k") == "x!"
        assert await coord.call(parent, "x") == "x!"
        assert await coord.call(parent, "x") == "x!"
    assert gate.seen == ["x"]


@pytest.mark.parametrize("steps", [1, 2, 3])
async def test_a_key_that_names_ones_own_caller_is_a_deadlock_error_at_once(coord: Coordination, steps: int) -> None:
    @capability
    async def ring(number: int, ctx: TaskContext) -> list[str]:
        if number >= 2 * steps:
            return ["never"]
        try:
            return await ctx.call(ring, (number + 1) % steps, key=str((number + 1) % steps))
        except DeadlockError as error:
            return list(error.cycle)

    await coord.provide(ring)
    async with soon():
        cycle = await coord.call(ring, 0, key="0")
    assert cycle[0] == cycle[-1]
    assert len(set(cycle)) == steps


# ends


async def test_a_childs_deadline_is_at_most_its_parents(coord: Coordination) -> None:
    hold, gate = held()

    @capability
    async def parent(text: str, ctx: TaskContext) -> str:
        return await ctx.call(hold, text, timeout=None if text == "none" else float(text))

    await coord.provide(hold)
    await coord.provide(parent)
    seen: dict[str, float] = {}
    for text in ("none", "1000", "10"):
        handle = await coord.submit(parent, text, timeout=100)
        await gate.saw(len(seen) + 1)
        (child,) = await children(coord, handle.id)
        parent_deadline = (await handle.info()).deadline
        assert child.deadline is not None
        assert parent_deadline is not None
        seen[text] = parent_deadline - child.deadline
    assert seen["none"] == seen["1000"] == 0
    assert seen["10"] == pytest.approx(90, abs=5)
    gate.release.set()


async def test_a_child_expires_with_its_parent(coord: Coordination) -> None:
    hold, gate = held()

    @capability
    async def parent(text: str, ctx: TaskContext) -> str:
        return await ctx.call(hold, text)

    await coord.provide(hold)
    await coord.provide(parent)
    handle = await coord.submit(parent, "x", timeout=0.15)
    async with soon():
        with pytest.raises(TaskExpiredError):
            await handle.result()
        await gate.emptied()
    (child,) = await children(coord, handle.id)
    assert (await ended(coord.handle(child.id, str))).state in ("expired", "cancelled")


async def test_cancelling_a_parent_cancels_its_live_children_in_the_same_transaction(coord: Coordination) -> None:
    hold, gate = held(limit=1)

    @capability
    async def parent(text: str, ctx: TaskContext) -> str:
        return "".join(await asyncio.gather(*(ctx.call(hold, letter) for letter in text)))

    await coord.provide(hold)
    await coord.provide(parent)
    handle = await coord.submit(parent, "ab")
    await gate.saw()
    await until_children(coord, handle.id, 2)
    assert await handle.cancel()
    states = {row.id: (await coord.task(row.id)).state for row in await children(coord, handle.id)}
    assert "ready" not in states.values()  # the queued one ended with the answer of the cancel
    assert (await ended(handle)).state == "cancelled"
    await gate.emptied()
    for row in await children(coord, handle.id):
        assert (await ended(coord.handle(row.id, str))).state == "cancelled"
    assert gate.seen == ["a"]


async def until_children(coord: Coordination, parent: str, count: int) -> None:
    async def there() -> bool:
        return len(await children(coord, parent)) == count

    await until(there)


async def test_a_parents_final_failure_cancels_its_live_children(coord: Coordination) -> None:
    hold, gate = held()

    @capability
    async def parent(text: str, ctx: TaskContext) -> str:
        async with asyncio.TaskGroup() as group:
            group.create_task(ctx.call(hold, text))
            await gate.saw()
            raise ValueError("give up")

    await coord.provide(hold)
    await coord.provide(parent)
    handle = await coord.submit(parent, "x", retry=ONE_TRY)
    async with soon():
        with pytest.raises(RemoteError):
            await handle.result()
        await gate.emptied()
    (child,) = await children(coord, handle.id)
    assert (await ended(coord.handle(child.id, str))).state == "cancelled"


async def test_children_go_on_when_an_attempt_fails_that_is_tried_again(coord: Coordination) -> None:
    hold, gate = held()

    @capability
    async def parent(text: str, ctx: TaskContext) -> str:
        if ctx.attempt > 1:
            return await ctx.call(hold, text)
        asked = asyncio.ensure_future(ctx.call(hold, text))
        await gate.saw()
        del asked
        raise ValueError("try again")

    await coord.provide(hold)
    await coord.provide(parent)
    handle = await coord.submit(parent, "x", retry=AT_ONCE)

    async def second() -> bool:
        return (await handle.info()).attempt == 2

    await until(second)
    gate.release.set()
    async with soon():
        assert await handle.result() == "x!"
    assert gate.seen == ["x"]


async def test_a_child_that_its_handler_gave_up_is_cancelled(coord: Coordination) -> None:
    hold, gate = held()

    @capability
    async def parent(text: str, ctx: TaskContext) -> str:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.05):
                await ctx.call(hold, text)
        return "without it"

    await coord.provide(hold)
    await coord.provide(parent)
    async with soon():
        assert await coord.call(parent, "x") == "without it"
        await gate.emptied()


async def test_a_childs_error_reaches_its_parent_as_in_any_call(coord: Coordination) -> None:
    hold, gate = held()
    told: list[type] = []

    @capability
    async def bad(text: str) -> str:
        raise ValueError("bad")

    @capability
    async def parent(text: str, ctx: TaskContext) -> str:
        for asked in (
            ctx.call(bad, "x", retry=ONE_TRY),
            ctx.call("nobody knows", "x"),
            ctx.call("bad", 7),
            ctx.call(hold, "x", timeout=0.05),
            ctx.call(hold, "cancel me"),
        ):
            try:
                await asked
            except Exception as error:
                told.append(type(error))
        return text

    await coord.provide(hold)
    await coord.provide(bad)
    await coord.provide(parent)
    handle = await coord.submit(parent, "x")
    await gate.saw(2)
    child = (await children(coord, handle.id))[-1]
    await coord.cancel(child.id)
    async with soon():
        assert await handle.result() == "x"
    assert told == [RemoteError, NoProviderError, InvalidInputError, TaskExpiredError, TaskCancelledError]


async def test_what_a_task_waits_for_is_told(coord: Coordination) -> None:
    hold, gate = held()

    @capability
    async def parent(text: str, ctx: TaskContext) -> str:
        return await ctx.call(hold, text)

    await coord.provide(hold)
    await coord.provide(parent)
    handle = await coord.submit(parent, "x")
    await gate.saw()
    (child,) = await children(coord, handle.id)
    assert child.id in (await handle.info()).why
    gate.release.set()
    async with soon():
        await handle.result()


async def test_handlers_that_wait_for_children_do_not_pile_up(coord: Coordination) -> None:
    """Children go before the parents that have not begun, though those are older."""
    alive, most = 0, 0

    @capability(max_concurrency=4)
    async def again(depth: int, ctx: TaskContext) -> int:
        nonlocal alive, most
        alive += 1
        most = max(most, alive)
        try:
            return 0 if depth == 0 else await ctx.call(again, depth - 1) + 1
        finally:
            alive -= 1

    await coord.provide(again)
    handles = await coord.submit_many(again, [1] * 300)
    async with soon(15):
        assert [await handle.result() for handle in handles] == [1] * 300
    assert most < 60
