"""Which task is next: slots, rank with ageing, lanes, sticky keys, delays, and many at once."""

from __future__ import annotations

import asyncio
import time
from datetime import UTC, datetime, timedelta

import pytest

from autogen_coord import (
    Coordination,
    DuplicateTaskError,
    InvalidInputError,
    NoProviderError,
    Priority,
    RemoteError,
    RetryPolicy,
    TaskContext,
    capability,
)
from tests.conftest import World, ended, held, soon, state_of, until

# slots and rank


async def test_no_more_run_at_once_than_a_provider_has_slots(coord: Coordination) -> None:
    hold, gate = held(limit=3)
    await coord.provide(hold)
    handles = await coord.submit_many(hold, [str(number) for number in range(10)])
    await gate.saw(3)
    await asyncio.sleep(0.05)
    assert len(gate.seen) == 3
    gate.release.set()
    async with soon():
        await asyncio.gather(*(handle.result() for handle in handles))
    assert gate.most == 3


async def test_two_processes_share_the_tasks_and_each_runs_once(world: World) -> None:
    seen: list[tuple[str, int]] = []

    @capability("work", max_concurrency=2)
    async def work(number: int, ctx: TaskContext) -> int:
        seen.append((ctx.session, number))
        await asyncio.sleep(0.001)
        return number

    one, other, client = await world.open(), await world.open(), await world.open()
    await one.provide(work)
    await other.provide(work)
    handles = await client.submit_many(work, range(60))
    async with soon():
        assert await asyncio.gather(*(handle.result() for handle in handles)) == list(range(60))
    assert sorted(number for _, number in seen) == list(range(60))
    assert {session for session, _ in seen} == {one.session, other.session}


async def test_a_higher_priority_goes_first(coord: Coordination) -> None:
    hold, gate = held(limit=1)
    await coord.provide(hold)
    await coord.submit(hold, "first")
    await gate.saw()
    for name, priority in (("low", Priority.LOW), ("normal", Priority.NORMAL), ("critical", Priority.CRITICAL), ("high", 7)):
        await coord.submit(hold, name, priority=priority)
    gate.release.set()
    await gate.saw(5)
    assert gate.seen == ["first", "critical", "high", "normal", "low"]


async def test_a_task_that_waited_long_passes_a_younger_one_of_higher_priority(world: World) -> None:
    """Ageing: a point of priority is worth `priority_weight` seconds of waiting."""
    coord = await world.open(priority_weight=0.05)
    hold, gate = held(limit=1)
    await coord.provide(hold)
    await coord.submit(hold, "first")
    await gate.saw()
    await coord.submit(hold, "old and low", priority=4)
    await asyncio.sleep(0.12)
    await coord.submit(hold, "young and high", priority=6)
    await coord.submit(hold, "young and highest", priority=8)
    gate.release.set()
    await gate.saw(4)
    assert gate.seen == ["first", "young and highest", "old and low", "young and high"]


async def test_equals_go_in_the_order_of_their_submit(coord: Coordination) -> None:
    hold, gate = held(limit=1)
    await coord.provide(hold)
    await coord.submit_many(hold, [str(number) for number in range(20)])
    gate.release.set()
    await gate.saw(20)
    assert gate.seen == [str(number) for number in range(20)]


# delays


async def test_a_delayed_task_does_not_start_before_its_moment(coord: Coordination) -> None:
    hold, gate = held()
    gate.release.set()
    await coord.provide(hold)
    for options in ({"delay": 60.0}, {"at": datetime.now(UTC) + timedelta(seconds=60)}, {"at": time.time() + 60}):
        handle = await coord.submit(hold, "later", **options)
        assert await state_of(handle) == "delayed"
    handles = [await coord.submit(hold, str(delay), delay=delay) for delay in (0.3, 0.15)]
    infos = [await ended(handle) for handle in handles]
    for info, delay in zip(infos, (0.3, 0.15), strict=True):
        assert info.ready_at - info.submitted_at == pytest.approx(delay, abs=0.001)  # one clock, one transaction
        assert info.attempts[0].started_at is not None
        assert info.attempts[0].started_at >= info.ready_at
    starts = [info.attempts[0].started_at for info in sorted(infos, key=lambda info: info.ready_at)]
    assert starts == sorted(starts, key=lambda start: start or 0.0)
    assert sorted(gate.seen) == ["0.15", "0.3"]


async def test_a_delayed_task_that_another_process_submitted_starts_too(world: World) -> None:
    worker, client = await world.open(), await world.open()
    hold, gate = held()
    gate.release.set()
    await worker.provide(hold)
    async with soon():
        assert await client.call(hold, "a", delay=0.1) == "a!"


# lanes


async def test_tasks_of_a_lane_run_one_at_a_time_in_order(coord: Coordination) -> None:
    hold, gate = held(limit=8)
    await coord.provide(hold)
    await coord.submit(hold, "first", lane="l")
    await gate.saw()
    for name, priority in (("a", 5), ("b", 5), ("urgent", 9), ("c", 5)):
        handle = await coord.submit(hold, name, lane="l", priority=priority)
        info = await handle.info()
        assert info.state == "waiting"
        assert "lane 'l' is taken by" in info.why
    gate.release.set()
    await gate.saw(5)
    assert gate.seen == ["first", "urgent", "a", "b", "c"]
    assert gate.most == 1


async def test_lanes_do_not_wait_for_each_other(coord: Coordination) -> None:
    hold, gate = held(limit=8)
    await coord.provide(hold)
    for lane in ("a", "b", "c"):
        await coord.submit(hold, lane, lane=lane)
    await gate.saw(3)
    assert sorted(gate.seen) == ["a", "b", "c"]
    gate.release.set()


async def test_a_lane_is_one_across_processes(world: World) -> None:
    one, other = await world.open(), await world.open()
    hold, gate = held(limit=8)
    await one.provide(hold)
    await other.provide(hold)
    handles = [await one.submit(hold, str(number), lane="l") for number in range(6)]
    await gate.saw()
    gate.release.set()
    async with soon():
        await asyncio.gather(*(handle.result() for handle in handles))
    assert gate.most == 1
    assert gate.seen == [str(number) for number in range(6)]


async def test_a_delayed_retry_keeps_its_lane(coord: Coordination) -> None:
    order: list[str] = []

    @capability
    async def shaky(text: str, ctx: TaskContext) -> str:
        order.append(f"{text}{ctx.attempt}")
        if text == "a" and ctx.attempt < 3:
            raise ValueError
        return text

    await coord.provide(shaky)
    retry = RetryPolicy(tries=3, backoff=0.05, factor=1, jitter=False)
    handles = [await coord.submit(shaky, text, lane="l", retry=retry) for text in "abc"]
    async with soon():
        await asyncio.gather(*(handle.result() for handle in handles))
    assert order == ["a1", "a2", "a3", "b1", "c1"]


async def test_a_task_that_is_not_due_does_not_hold_its_lane(coord: Coordination) -> None:
    hold, gate = held()
    gate.release.set()
    await coord.provide(hold)
    later = await coord.submit(hold, "later", lane="l", delay=0.2)
    async with soon():
        assert await coord.call(hold, "now", lane="l") == "now!"
        assert await later.result() == "later!"
    assert gate.seen == ["now", "later"]


@pytest.mark.parametrize("how", ["cancel", "expire", "fail"])
async def test_a_lane_goes_on_however_its_holder_ends(coord: Coordination, how: str) -> None:
    @capability("work")
    async def work(text: str, ctx: TaskContext) -> str:
        if text == "fail":
            raise ValueError
        if text in ("cancel", "expire"):
            await asyncio.Event().wait()
        return text

    await coord.provide(work)
    first = await coord.submit(work, how, lane="l", retry=RetryPolicy(tries=1), timeout=0.1 if how == "expire" else None)
    second = await coord.submit(work, "next", lane="l")
    if how == "cancel":
        await first.cancel()
    async with soon():
        assert await second.result() == "next"
    assert (await first.info()).state in ("cancelled", "expired", "failed")


async def test_a_waiting_task_that_is_cancelled_leaves_its_lane_in_order(coord: Coordination) -> None:
    hold, gate = held()
    await coord.provide(hold)
    handles = [await coord.submit(hold, text, lane="l") for text in "abc"]
    await gate.saw()
    await handles[1].cancel()
    gate.release.set()
    async with soon():
        await handles[2].result()
    assert gate.seen == ["a", "c"]


# sticky


async def test_sticky_tasks_go_to_one_provider_one_at_a_time_in_order(world: World) -> None:
    seen: dict[str, list[tuple[str, int]]] = {}
    busy: dict[str, int] = {}

    @capability("work", max_concurrency=8)
    async def work(pair: tuple[str, int], ctx: TaskContext) -> str:
        key, number = pair
        busy[key] = busy.get(key, 0) + 1
        assert busy[key] == 1
        await asyncio.sleep(0.001)
        seen.setdefault(key, []).append((ctx.session, number))
        busy[key] -= 1
        return ctx.session

    one, other = await world.open(), await world.open()
    await one.provide(work)
    await other.provide(work)
    handles = [await one.submit(work, (key, number), sticky=key) for number in range(6) for key in "abcdefgh"]
    async with soon():
        await asyncio.gather(*(handle.result() for handle in handles))
    assert set(seen) == set("abcdefgh")
    for key in seen:
        assert len({session for session, _ in seen[key]}) == 1
        assert [number for _, number in seen[key]] == list(range(6))
    assert len({where[0][0] for where in seen.values()}) == 2  # eight keys on two providers: both have some


async def test_sticky_tasks_move_when_their_provider_leaves(world: World) -> None:
    one, other = await world.open(), await world.open()
    hold, gate = held(limit=1)
    await one.provide(hold)
    running = await one.submit(hold, "a", sticky="k")
    waiting = await one.submit(hold, "b", sticky="k")
    await gate.saw()
    await one.withdraw(hold)
    await other.provide(hold)
    gate.release.set()
    async with soon():
        assert await running.result() == "a!"
        assert await waiting.result() == "b!"
    assert (await waiting.info()).attempts[0].session == other.session


async def test_sticky_tasks_without_any_provider_wait_for_one(world: World) -> None:
    one, other = await world.open(), await world.open()
    hold, gate = held()
    gate.release.set()
    await one.provide(hold)
    await one.withdraw(hold)
    handle = await other.submit(hold, "a", sticky="k")
    await other.provide(hold)
    async with soon():
        assert await handle.result() == "a!"


# many at once


async def test_many_are_submitted_in_one_go_with_their_keys(coord: Coordination) -> None:
    hold, gate = held()
    gate.release.set()
    await coord.provide(hold)
    texts = [str(number) for number in range(300)]
    handles = await coord.submit_many(hold, texts, keys=texts)
    again = await coord.submit_many(hold, texts, keys=texts)
    assert [handle.id for handle in handles] == [handle.id for handle in again]
    async with soon():
        assert await asyncio.gather(*(handle.result() for handle in handles)) == [f"{text}!" for text in texts]
    assert sorted(gate.seen) == sorted(texts)


async def test_of_many_the_refused_one_is_told_and_the_others_are_stored(coord: Coordination) -> None:
    hold, gate = held()
    gate.release.set()
    await coord.provide(hold)
    await coord.submit(hold, "b", key="k2")
    with pytest.raises(DuplicateTaskError):
        await coord.submit_many(hold, ["1", "2", "3"], keys=["k1", "k2", "k3"])
    async with soon():
        assert await coord.call(hold, "3", key="k3") == "3!"
    assert gate.seen.count("3") == 1


async def test_as_many_keys_as_inputs_are_wanted(coord: Coordination) -> None:
    hold, _ = held()
    await coord.provide(hold)
    with pytest.raises(InvalidInputError, match="2 inputs, but 1 keys"):
        await coord.submit_many(hold, ["a", "b"], keys=["k"])
    assert await coord.submit_many(hold, []) == []


# broadcast


async def test_a_broadcast_asks_every_provider_and_one_failure_raises_nothing(world: World) -> None:
    coords = [await world.open() for _ in range(3)]

    @capability("work")
    async def work(text: str, ctx: TaskContext) -> str:
        if ctx.session == coords[1].session:
            raise ValueError("not me")
        return f"{text} {ctx.session}"

    providers = [await coord.provide(work) for coord in coords]
    async with soon():
        outcomes = await coords[0].broadcast(work, "hi", retry=RetryPolicy(tries=1))
    by = {outcome.provider: outcome for outcome in outcomes}
    assert set(by) == set(providers)
    assert by[providers[0]].value == f"hi {coords[0].session}"
    assert by[providers[2]].value == f"hi {coords[2].session}"
    assert by[providers[1]].value is None
    assert isinstance(by[providers[1]].error, RemoteError)


async def test_a_broadcast_freezes_its_providers_at_submit(world: World) -> None:
    one, late = await world.open(), await world.open()
    hold, gate = held()
    own = await one.provide(hold)
    asked = asyncio.create_task(one.broadcast(hold, "a"))
    await gate.saw()
    await late.provide(hold)
    gate.release.set()
    async with soon():
        outcomes = await asked
    assert [(outcome.provider, outcome.value) for outcome in outcomes] == [(own, "a!")]


async def test_a_provider_that_leaves_is_an_outcome_of_the_broadcast(world: World) -> None:
    one, leaver = await world.open(), await world.open()
    hold, gate = held(limit=1)
    await leaver.provide(hold)
    busy = await one.submit(hold, "busy")
    await gate.saw()
    own = await one.provide(hold)
    asked = asyncio.create_task(one.broadcast(hold, "a"))
    await gate.saw(2)
    await leaver.withdraw(hold)
    gate.release.set()
    async with soon():
        outcomes = {outcome.provider: outcome for outcome in await asked}
        await busy.result()
    assert outcomes[own].value == "a!"
    ((_, other),) = [item for item in outcomes.items() if item[0] != own]
    assert isinstance(other.error, NoProviderError)


async def test_a_broadcast_to_nobody_is_refused(coord: Coordination) -> None:
    hold, _ = held()
    await coord.provide(hold)
    await coord.withdraw(hold)
    with pytest.raises(NoProviderError):
        await coord.broadcast(hold, "a")
    for options in ({"key": "k"}, {"lane": "l"}, {"sticky": "s"}, {"provider": "p"}):
        with pytest.raises(InvalidInputError, match=next(iter(options))):
            await coord.broadcast(hold, "a", **options)  # type: ignore[arg-type]


async def test_why_a_task_waits_is_told(coord: Coordination) -> None:
    hold, gate = held(limit=1)
    await coord.provide(hold)
    await coord.submit(hold, "a")
    await gate.saw()
    next_one, behind = await coord.submit(hold, "b"), await coord.submit(hold, "c")
    delayed = await coord.submit(hold, "d", delay=60)
    assert "provider busy" in (await next_one.info()).why
    assert "behind 1 other" in (await behind.info()).why
    assert "delayed" in (await delayed.info()).why
    gate.release.set()
    await until(lambda: len(gate.ended) == 3)
    assert (await next_one.info()).why == ""
