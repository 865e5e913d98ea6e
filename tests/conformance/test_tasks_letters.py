"""What is left of finished tasks: dead letters, requeue, purge, pruning."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from autogen_coord import (
    Coordination,
    InvalidInputError,
    NotFoundError,
    RemoteError,
    RetryPolicy,
    TaskContext,
    capability,
)
from autogen_coord.core import inspect, pruning
from autogen_coord.core.pruning import Prune, Purge
from autogen_coord.core.store import Range
from autogen_coord.core.tables import ATTEMPT, BLOB, OUTCOME, TASK
from tests.conftest import World, ended, held, process_of, soon

ONE_TRY = RetryPolicy(tries=1)


class Fragile:
    """A capability that fails until it is mended."""

    def __init__(self) -> None:
        self.mended = False

        @capability("fragile")
        async def fragile(text: str, ctx: TaskContext) -> str:
            if not self.mended:
                raise ValueError("broken")
            return f"{text}!"

        self.capability = fragile


async def dead(coord: Coordination) -> list[str]:
    infos = await inspect.tasks(process_of(coord).store, states=["failed", "expired"])
    return [info.id for info in infos]


async def rows_of(coord: Coordination, *tables: Any) -> list[int]:
    return [len(rows) for rows in await process_of(coord).store.read(*(Range(table, "key") for table in tables))]


async def test_failed_and_expired_tasks_are_the_dead_letters(coord: Coordination) -> None:
    fragile = Fragile()
    hold, gate = held(limit=1)
    await coord.provide(fragile.capability)
    await coord.provide(hold)
    failed = await coord.submit(fragile.capability, "x", retry=ONE_TRY)
    await coord.submit(hold, "busy")
    await gate.saw()
    expired, cancelled = await coord.submit(hold, "late", ttl=0.02), await coord.submit(hold, "c")
    await cancelled.cancel()
    await ended(expired)
    await ended(failed)
    gate.release.set()
    assert sorted(await dead(coord)) == sorted([failed.id, expired.id])


async def test_requeue_makes_a_new_task_with_the_old_request(coord: Coordination) -> None:
    fragile = Fragile()
    await coord.provide(fragile.capability)
    first = await coord.submit(fragile.capability, "x", key="k", retry=ONE_TRY, priority=7, timeout=100, lane="l")
    await ended(first)
    fragile.mended = True
    second = await coord.requeue(first.id)
    assert second.id != first.id
    async with soon():
        assert await second.result() == "x!"
    old, new = await first.info(), await second.info()
    assert (old.state, new.state, new.requeued_from) == ("failed", "succeeded", first.id)
    assert (new.key, new.priority, new.lane, new.attempt) == ("k", 7, "l", 1)
    assert new.deadline is not None
    assert new.deadline - new.ready_at == pytest.approx(100)
    assert (await coord.submit(fragile.capability, "x", key="k")).id == second.id  # the key is the new one's


async def test_only_dead_letters_are_requeued(coord: Coordination) -> None:
    hold, gate = held()
    await coord.provide(hold)
    running = await coord.submit(hold, "a")
    await gate.saw()
    with pytest.raises(InvalidInputError, match="live"):
        await coord.requeue(running.id)
    gate.release.set()
    await ended(running)
    with pytest.raises(InvalidInputError, match="succeeded"):
        await coord.requeue(running.id)
    with pytest.raises(NotFoundError):
        await coord.requeue("none")


async def test_an_expired_task_is_requeued_with_its_times_counted_anew(coord: Coordination) -> None:
    hold, gate = held(limit=1)
    await coord.provide(hold)
    await coord.submit(hold, "busy")
    await gate.saw()
    late = await coord.submit(hold, "late", ttl=0.05)
    assert (await ended(late)).state == "expired"
    gate.release.set()
    again = await coord.requeue(late.id)
    async with soon():
        assert await again.result() == "late!"


async def test_a_large_input_is_requeued_too(coord: Coordination) -> None:
    fragile = Fragile()
    await coord.provide(fragile.capability)
    text = "b" * 30_000
    first = await coord.submit(fragile.capability, text, retry=ONE_TRY)
    await ended(first)
    fragile.mended = True
    async with soon():
        assert await (await coord.requeue(first.id)).result() == f"{text}!"


async def test_purge_forgets_all_of_a_finished_task(coord: Coordination) -> None:
    fragile = Fragile()
    await coord.provide(fragile.capability)
    text = "b" * 30_000
    handle = await coord.submit(fragile.capability, text, retry=RetryPolicy(tries=2, backoff=0), key="k")
    info = await ended(handle)
    assert info.finished_at is not None
    line = process_of(coord).line
    assert (await line.put(pruning.purge, Purge(["failed"], info.finished_at))).tasks == 0  # not *before* that moment
    assert (await line.put(pruning.purge, Purge(["failed"], info.finished_at + 1))).tasks == 1
    assert await rows_of(coord, TASK, OUTCOME, ATTEMPT, BLOB) == [0, 0, 0, 0]
    with pytest.raises(NotFoundError):
        await handle.info()
    fragile.mended = True
    async with soon():
        with pytest.raises(NotFoundError):
            await handle.result()
        assert await coord.call(fragile.capability, "other", key="k") == "other!"  # the key's life ended with its task


async def test_a_cancelled_retry_leaves_no_attempt_behind_when_it_is_pruned(coord: Coordination) -> None:
    fragile = Fragile()
    await coord.provide(fragile.capability)
    handle = await coord.submit(fragile.capability, "x", retry=RetryPolicy(tries=2, backoff=60, jitter=False))
    async with soon():
        while (await handle.info()).state != "delayed":
            await asyncio.sleep(0.005)
    await handle.cancel()
    await process_of(coord).line.put(pruning.purge, Purge(["cancelled"], 1e12))
    assert await rows_of(coord, TASK, OUTCOME, ATTEMPT) == [0, 0, 0]


async def test_finished_tasks_and_events_are_pruned_by_count(world: World) -> None:
    coord = await world.open(keep_count=10, slice=7)
    hold, gate = held()
    gate.release.set()
    await coord.provide(hold)
    handles = await coord.submit_many(hold, [str(number) for number in range(40)])
    async with soon():
        await asyncio.gather(*(handle.result() for handle in handles))
    line = process_of(coord).line
    while (await line.put(pruning.prune, Prune())).more:
        pass
    assert await rows_of(coord, TASK, OUTCOME) == [10, 10]
    assert [event.number async for event in coord.events(await floor(coord), follow=False)][1:] != []


async def floor(coord: Coordination) -> int:
    from autogen_coord import EventsPrunedError

    try:
        async for _ in coord.events(0, follow=False):
            break
    except EventsPrunedError as error:
        return int(error.floor)
    return 0


async def test_finished_tasks_are_pruned_by_age_and_live_ones_never(world: World) -> None:
    coord = await world.open(keep_seconds=0.05)
    hold, gate = held(limit=1)
    await coord.provide(hold)
    running, delayed = await coord.submit(hold, "a"), await coord.submit(hold, "b", delay=60)
    await gate.saw()
    cancelled = await coord.submit(hold, "c")
    await cancelled.cancel()
    await asyncio.sleep(0.1)
    await process_of(coord).line.put(pruning.prune, Prune())
    with pytest.raises(NotFoundError):
        await cancelled.info()
    assert [(await one.info()).state for one in (running, delayed)] == ["running", "delayed"]
    gate.release.set()
    async with soon():
        assert await running.result() == "a!"


async def test_a_blob_goes_with_its_last_user(coord: Coordination) -> None:
    fragile = Fragile()
    await coord.provide(fragile.capability)
    text = "b" * 30_000
    first = await coord.submit(fragile.capability, text, retry=ONE_TRY)
    ended_at = (await ended(first)).finished_at
    assert ended_at is not None
    await asyncio.sleep(0.01)
    second = await coord.submit(fragile.capability, text, retry=ONE_TRY)
    await ended(second)
    line = process_of(coord).line
    await line.put(pruning.purge, Purge(["failed"], ended_at + 0.005))
    assert await rows_of(coord, TASK, BLOB) == [1, 1]
    fragile.mended = True
    async with soon():
        assert await (await coord.requeue(second.id)).result() == f"{text}!"
    await line.put(pruning.purge, Purge(["failed", "succeeded"], 1e12))
    assert await rows_of(coord, TASK, BLOB) == [0, 0]


async def test_an_error_of_a_task_is_kept_with_its_traceback(coord: Coordination) -> None:
    fragile = Fragile()
    await coord.provide(fragile.capability)
    handle = await coord.submit(fragile.capability, "x", retry=ONE_TRY)
    with pytest.raises(RemoteError):
        await handle.result(timeout=5)
    error = (await handle.info()).error
    assert error is not None
    assert (error["type"], error["text"], error["code"]) == ("ValueError", "broken", "exception")
    assert "fragile" in error["traceback"]
