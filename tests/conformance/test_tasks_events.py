"""The log: numbered without gaps, in the order of commit, read from any point that is kept."""

from __future__ import annotations

import asyncio

import pytest

from autogen_coord import Coordination, Event, EventsPrunedError, RetryPolicy, TaskContext, capability
from autogen_coord.core import pruning
from autogen_coord.core.pruning import Prune
from tests.conftest import World, ended, held, process_of, soon


async def log_of(coord: Coordination, subject: str | None = None, kinds: list[str] | None = None) -> list[Event]:
    events = [event async for event in coord.events(0, kinds, follow=False)]
    return [event for event in events if subject in (None, event.subject)]


async def test_events_are_numbered_without_gaps_whoever_writes(world: World) -> None:
    coords = [await world.open() for _ in range(3)]

    @capability("work")
    async def work(number: int, ctx: TaskContext) -> int:
        if number % 5 == 0 and ctx.attempt == 1:
            raise ValueError
        return number

    for coord in coords:
        await coord.provide(work)
    async with soon():
        await asyncio.gather(
            *(coord.call(work, number, retry=RetryPolicy(tries=2, backoff=0)) for coord in coords for number in range(30))
        )
    logs = [await log_of(coord) for coord in coords]
    assert [event.number for event in logs[0]] == list(range(1, len(logs[0]) + 1))
    assert logs[0] == logs[1] == logs[2]
    assert [event.at for event in logs[0]] == sorted(event.at for event in logs[0])


async def test_a_tasks_life_is_told_in_order(coord: Coordination) -> None:
    @capability
    async def once(text: str, ctx: TaskContext) -> str:
        await ctx.progress(1.0)
        if ctx.attempt == 1:
            raise ValueError(text)
        return text

    await coord.provide(once)
    handle = await coord.submit(once, "secret", retry=RetryPolicy(tries=2, backoff=0))
    await ended(handle)
    events = await log_of(coord, handle.id)
    assert [event.kind for event in events] == [
        "task.delegated", "task.accepted", "task.started", "task.progressed", "task.retried",
        "task.accepted", "task.started", "task.progressed", "task.completed",
    ]  # fmt: skip
    assert [event.data.get("attempt") for event in events if event.kind == "task.started"] == [1, 2]
    assert all("secret" not in str(event.data) for event in events)
    assert {event.session for event in events} == {coord.session}


@pytest.mark.parametrize("end", ["failed", "cancelled", "expired"])
async def test_each_end_has_its_event(coord: Coordination, end: str) -> None:
    hold, gate = held()

    @capability
    async def bad(text: str) -> str:
        raise ValueError

    await coord.provide(hold)
    await coord.provide(bad)
    if end == "failed":
        handle = await coord.submit(bad, "x", retry=RetryPolicy(tries=1))
    else:
        handle = await coord.submit(hold, "x", timeout=0.05 if end == "expired" else None)
        await gate.saw()
        if end == "cancelled":
            await handle.cancel()
    assert (await ended(handle)).state == end
    kinds = [event.kind for event in await log_of(coord, handle.id)]
    assert kinds[-1] == f"task.{end}"
    assert ("task.cancelling" in kinds) == (end == "cancelled")


async def test_sessions_and_providers_are_told(world: World) -> None:
    coord, other = await world.open(), await world.open()
    hold, _ = held()
    provider = await other.provide(hold)
    session = other.session
    await other.close()
    assert [event.kind for event in await log_of(coord, session)] == ["session.opened", "session.closed"]
    assert [event.kind for event in await log_of(coord, provider)] == ["agent.online", "agent.offline"]


async def test_the_log_is_read_from_any_number_and_by_kind(coord: Coordination) -> None:
    hold, gate = held()
    gate.release.set()
    await coord.provide(hold)
    await coord.call(hold, "a")
    everything = await log_of(coord)
    some = [event async for event in coord.events(everything[2].number, follow=False)]
    assert some == everything[3:]
    ends = [event async for event in coord.events(0, ["task.completed", "agent.online"], follow=False)]
    assert [event.kind for event in ends] == ["agent.online", "task.completed"]
    assert [event async for event in coord.events(everything[-1].number, follow=False)] == []
    assert [event async for event in coord.events(follow=False)] == []


async def test_who_follows_hears_of_all_processes_from_now_on(world: World) -> None:
    worker, listener = await world.open(), await world.open()
    hold, gate = held()
    gate.release.set()
    await worker.provide(hold)
    heard: list[Event] = []
    listening = asyncio.Event()

    async def listen() -> None:
        events = listener.events(kinds=["task.completed"])
        listening.set()
        async for event in events:
            heard.append(event)
            if len(heard) == 20:
                return

    async with soon():
        task = asyncio.create_task(listen())
        await listening.wait()
        await asyncio.sleep(0.05)
        handles = [await worker.submit(hold, str(number)) for number in range(10)]
        handles += [await listener.submit(hold, str(number)) for number in range(10)]
        await task
    assert sorted(event.subject for event in heard) == sorted(handle.id for handle in handles)
    assert [event.number for event in heard] == sorted(event.number for event in heard)


async def test_a_listener_that_is_behind_misses_nothing(coord: Coordination) -> None:
    hold, gate = held(limit=64)
    gate.release.set()
    await coord.provide(hold)
    heard = []
    async with soon():
        handles = await coord.submit_many(hold, [str(number) for number in range(700)])  # more than a page of the log
        await asyncio.gather(*(handle.result() for handle in handles))
        async for event in coord.events(0):
            heard.append(event.number)
            if len(heard) == 2800:
                break
    assert heard == list(range(1, 2801))


async def test_what_was_pruned_is_told_with_the_floor(world: World) -> None:
    coord = await world.open(keep_count=10)
    hold, gate = held()
    gate.release.set()
    await coord.provide(hold)
    for number in range(10):
        await coord.call(hold, str(number))
    while (await process_of(coord).line.put(pruning.prune, Prune())).more:
        pass
    with pytest.raises(EventsPrunedError, match="begin with since") as caught:
        await anext(coord.events(0))
    floor = caught.value.floor
    assert caught.value.since == 0
    kept = [event.number async for event in coord.events(floor, follow=False)]
    assert kept == list(range(floor + 1, floor + 1 + len(kept)))
    assert len(kept) == 10
    with pytest.raises(EventsPrunedError):
        await anext(coord.events(floor - 1))


async def test_a_listener_that_is_overtaken_by_pruning_is_told(world: World) -> None:
    coord = await world.open(keep_count=5)
    hold, gate = held()
    gate.release.set()
    await coord.provide(hold)
    events = coord.events(0)
    async with soon():
        first = await anext(events)
        assert first.number == 1
        for number in range(200):  # more than the page that the listener holds
            await coord.call(hold, str(number))
        while (await process_of(coord).line.put(pruning.prune, Prune())).more:
            pass
        with pytest.raises(EventsPrunedError, match="meanwhile"):
            async for _ in events:
                pass
