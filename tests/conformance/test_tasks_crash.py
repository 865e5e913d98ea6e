"""Processes that die: what they ran is run again, once, and those who kill their process do not punish the others."""

from __future__ import annotations

import asyncio
from functools import partial
from typing import Any

import pytest

from autogen_coord import (
    Coordination,
    NoProviderError,
    RemoteError,
    RetryPolicy,
    StaleClaimError,
    TaskContext,
    TaskCrashedError,
    TaskHandle,
    TaskState,
    capability,
)
from autogen_coord.core import claims
from autogen_coord.core.claims import Finish
from autogen_coord.core.store import Keys
from autogen_coord.core.tables import QUEUE
from tests.conftest import MORTAL, World, ended, held, process_of, soon, state_of, until, vanish


async def suspects(coord: Coordination, *ids: str) -> bool:
    (rows,) = await process_of(coord).store.read(Keys(QUEUE, ids))
    return all(row is not None and row.suspect for row in rows)


async def test_a_task_whose_process_died_runs_elsewhere_and_is_told(world: World) -> None:
    dying, healthy = await world.open(**MORTAL), await world.open(**MORTAL)
    hold, gate = held()
    await dying.provide(hold)
    handle = await healthy.submit(hold, "a")
    await gate.saw()
    await healthy.provide(hold)
    await vanish(dying)
    await gate.saw(2)
    gate.release.set()
    async with soon():
        assert await handle.result() == "a!"
    info = await handle.info()
    assert [(one.number, one.end) for one in info.attempts] == [(1, "crashed"), (2, "succeeded")]
    assert (info.failures, info.crashes) == (0, 0)  # it was not alone: nobody knows whose fault it was
    assert info.attempts[1].session == healthy.session


async def test_a_stale_worker_cannot_finish_a_reclaimed_task(world: World) -> None:
    dying, healthy = await world.open(**MORTAL), await world.open(**MORTAL)
    hold, gate = held()
    await dying.provide(hold)
    handle = await healthy.submit(hold, "a")
    await gate.saw()
    old = dying.session
    await healthy.provide(hold)
    await vanish(dying)
    await gate.saw(2)
    with pytest.raises(StaleClaimError):
        await process_of(healthy).line.put(claims.finish, Finish(old, handle.id, 1, TaskState.SUCCEEDED, '"old"'))
    assert await state_of(handle) == "running"
    gate.release.set()
    async with soon():
        assert await handle.result() == "a!"
    with pytest.raises(StaleClaimError):
        await process_of(healthy).line.put(claims.finish, Finish(old, handle.id, 1, TaskState.SUCCEEDED, '"old"'))
    async with soon():
        assert await handle.result() == "a!"


async def test_what_a_dead_process_had_not_begun_is_no_suspect(world: World) -> None:
    dying, healthy = await world.open(**MORTAL), await world.open(**MORTAL)
    hold, gate = held(limit=1)
    await dying.provide(hold)
    running, waiting = await healthy.submit(hold, "a"), await healthy.submit(hold, "b")
    await gate.saw()
    await vanish(dying)

    async def returned() -> bool:
        return await suspects(healthy, running.id)

    await until(returned)
    assert not await suspects(healthy, waiting.id)
    assert "suspect" in (await running.info()).why or "no provider" in (await running.info()).why
    await healthy.provide(hold)
    gate.release.set()
    async with soon():
        assert (await running.result(), await waiting.result()) == ("a!", "b!")
    assert (await waiting.info()).attempt == 1


async def test_a_suspect_runs_alone_in_a_process_that_is_empty(world: World) -> None:
    dying, healthy = await world.open(**MORTAL), await world.open(**MORTAL, max_concurrency=8)
    hold, gate = held()
    busy, busy_gate = held("busy")
    await dying.provide(hold)
    await healthy.provide(busy)
    first = [await healthy.submit(hold, f"suspect {number}") for number in range(3)]
    await gate.saw(3)
    neighbour = await healthy.submit(busy, "neighbour")
    await busy_gate.saw()
    await healthy.provide(hold)
    await vanish(dying)

    async def returned() -> bool:
        return await suspects(healthy, *(one.id for one in first))

    await until(returned)
    newcomer = await healthy.submit(busy, "newcomer")  # new work is held back for them
    await asyncio.sleep(0.1)
    assert len(gate.seen) == 3
    assert busy_gate.seen == ["neighbour"]
    busy_gate.release.set()
    async with soon():
        await neighbour.result()
    await gate.saw(4)
    await asyncio.sleep(0.05)
    assert len(gate.seen) == 4  # one of them, and nothing beside it
    assert busy_gate.seen == ["neighbour"]
    assert await state_of(newcomer) == "ready"
    gate.release.set()
    async with soon():
        await asyncio.gather(newcomer.result(), *(one.result() for one in first))
    for one in first:
        assert (await one.info()).crashes == 0


async def test_suspects_do_not_run_side_by_side(world: World) -> None:
    dying, healthy = await world.open(**MORTAL), await world.open(**MORTAL)
    hold, gate = held()
    await dying.provide(hold)
    handles = [await healthy.submit(hold, str(number)) for number in range(4)]
    await gate.saw(4)
    await vanish(dying)
    gate.most, gate.ended[:] = 0, list(gate.seen)
    gate.release.set()

    @capability("hold")
    async def again(text: str) -> str:
        gate.seen.append(text)
        gate.most = max(gate.most, len(gate.seen) - len(gate.ended))
        await asyncio.sleep(0.01)
        gate.ended.append(text)
        return f"{text}!"

    await healthy.provide(again)
    async with soon():
        assert await asyncio.gather(*(handle.result() for handle in handles)) == ["0!", "1!", "2!", "3!"]
    assert gate.most == 1


async def test_holding_back_new_work_is_bounded(world: World) -> None:
    """A suspect does not stop a process whose running handler never ends."""
    dying = await world.open(**MORTAL)
    healthy = await world.open(**MORTAL, suspect_patience=0.2)
    hold, gate = held()
    busy, busy_gate = held("busy")
    await dying.provide(hold)
    await healthy.provide(busy)
    await healthy.submit(busy, "endless")
    suspect = await healthy.submit(hold, "a")
    await gate.saw()
    await busy_gate.saw()
    await healthy.provide(hold)
    await vanish(dying)

    async def returned() -> bool:
        return await suspects(healthy, suspect.id)

    await until(returned)
    await healthy.submit(busy, "newcomer")
    await busy_gate.saw(2)  # after the patience
    assert len(gate.seen) == 1
    busy_gate.release.set()
    gate.release.set()
    async with soon():
        assert await suspect.result() == "a!"


async def test_only_crashes_while_alone_count_and_the_limit_ends_the_task(world: World) -> None:
    watcher = await world.open(**MORTAL, crash_limit=2)
    hold, gate = held()

    async def returned(poison: TaskHandle[str], attempt: int) -> bool:
        info = await poison.info()
        return info.suspect and info.state == "ready" and info.attempt == attempt

    poison = innocent = None
    for life in range(1, 4):
        victim = await world.open(**MORTAL, crash_limit=2)
        seen = len(gate.seen)
        await victim.provide(hold)
        if life == 1:
            poison, innocent = await watcher.submit(hold, "poison"), await watcher.submit(hold, "innocent")
            await gate.saw(2)
        else:
            await gate.saw(seen + 1)
            assert gate.seen[seen:] == ["poison"]
        assert poison is not None
        await vanish(victim)
        if life < 3:
            await until(partial(returned, poison, life))
            assert (await poison.info()).crashes == life - 1
    assert poison is not None
    assert innocent is not None
    async with soon():
        with pytest.raises(TaskCrashedError) as caught:
            await poison.result()
    assert caught.value.task_id == poison.id
    info = await poison.info()
    assert (info.state, info.crashes, info.failures) == ("failed", 2, 0)
    survivor = await world.open(**MORTAL)
    await survivor.provide(hold)
    gate.release.set()
    async with soon():
        assert await innocent.result() == "innocent!"
    assert (await innocent.info()).crashes == 0


async def test_a_closed_process_leaves_no_suspects(world: World) -> None:
    """SIGTERM, drained or not, is no crash."""
    leaving, staying = await world.open(drain=0.05, cancel_grace=0.2), await world.open()
    hold, gate = held()
    await leaving.provide(hold)
    handle = await staying.submit(hold, "a")
    await gate.saw()
    await leaving.close()
    info = await handle.info()
    assert (info.state, info.suspect, info.crashes, info.failures) == ("ready", False, 0, 0)
    assert [one.end for one in info.attempts] == ["released"]
    await staying.provide(hold)
    gate.release.set()
    async with soon():
        assert await handle.result() == "a!"


async def test_closing_drains_what_runs_and_begins_nothing_new(world: World) -> None:
    leaving, staying = await world.open(max_concurrency=1), await world.open()
    hold, gate = held()
    await leaving.provide(hold)
    running, waiting = await staying.submit(hold, "a"), await staying.submit(hold, "b")
    await gate.saw()
    closing = asyncio.create_task(leaving.close())
    await asyncio.sleep(0.05)
    assert not closing.done()
    gate.release.set()
    async with soon():
        await closing
        assert await running.result() == "a!"
    assert gate.seen == ["a"]
    assert await state_of(waiting) == "ready"
    assert "no provider" in (await waiting.info()).why


async def test_a_draining_handler_may_report_and_call(world: World) -> None:
    leaving, staying = await world.open(), await world.open()
    go, started = asyncio.Event(), asyncio.Event()

    @capability
    async def child(text: str) -> str:
        return text.upper()

    @capability
    async def parent(text: str, ctx: TaskContext) -> str:
        started.set()
        await go.wait()
        await ctx.progress(0.5)
        return await ctx.call(child, text)

    await leaving.provide(child)
    await leaving.provide(parent)
    handle = await staying.submit(parent, "x")
    await started.wait()
    closing = asyncio.create_task(leaving.close())
    await asyncio.sleep(0.02)
    go.set()
    async with soon():
        await closing
        assert await handle.result() == "X"
    assert (await handle.info()).failures == 0


async def test_an_addressed_task_ends_when_its_process_dies(world: World) -> None:
    dying, healthy = await world.open(**MORTAL), await world.open(**MORTAL)
    hold, gate = held(limit=1)
    to = await dying.provide(hold)
    await healthy.provide(hold)
    running, waiting = await healthy.submit(hold, "a", provider=to), await healthy.submit(hold, "b", provider=to)
    await gate.saw()
    await vanish(dying)
    async with soon():
        with pytest.raises(TaskCrashedError):
            await running.result()
        with pytest.raises(NoProviderError):
            await waiting.result()


async def test_a_broadcast_ends_when_a_provider_dies(world: World) -> None:
    dying, healthy = await world.open(**MORTAL), await world.open(**MORTAL)
    hold, gate = held()
    lost = await dying.provide(hold)
    own = await healthy.provide(hold)
    asked = asyncio.create_task(healthy.broadcast(hold, "a"))
    await gate.saw(2)
    await vanish(dying)
    gate.release.set()
    async with soon():
        outcomes = {outcome.provider: outcome for outcome in await asked}
    assert outcomes[own].value == "a!"
    assert isinstance(outcomes[lost].error, TaskCrashedError)


async def test_sticky_tasks_move_when_their_process_dies(world: World) -> None:
    dying, healthy = await world.open(**MORTAL), await world.open(**MORTAL)
    hold, gate = held()
    await dying.provide(hold)
    handles = [await healthy.submit(hold, text, sticky="k") for text in "abc"]
    await gate.saw()
    await healthy.provide(hold)
    await vanish(dying)
    gate.release.set()
    async with soon():
        assert await asyncio.gather(*(handle.result() for handle in handles)) == ["a!", "b!", "c!"]
    assert gate.seen == ["a", "a", "b", "c"]


async def test_a_lane_whose_holder_died_keeps_its_order(world: World) -> None:
    dying, healthy = await world.open(**MORTAL), await world.open(**MORTAL)
    hold, gate = held()
    await dying.provide(hold)
    handles = [await healthy.submit(hold, text, lane="l") for text in "abc"]
    await gate.saw()
    await healthy.provide(hold)
    await vanish(dying)
    gate.release.set()
    async with soon():
        await asyncio.gather(*(handle.result() for handle in handles))
    assert gate.seen == ["a", "a", "b", "c"]


async def test_a_cancelled_task_whose_process_dies_is_cancelled(world: World) -> None:
    dying, healthy = await world.open(**MORTAL, cancel_grace=30), await world.open(**MORTAL, cancel_grace=30)
    started, never = asyncio.Event(), asyncio.Event()
    dead: list[bool] = []

    @capability
    async def stubborn(text: str) -> str:
        started.set()
        while not dead:
            try:
                await never.wait()
            except asyncio.CancelledError:
                pass
        return text

    await dying.provide(stubborn)
    handle = await healthy.submit(stubborn, "x")
    await started.wait()
    await handle.cancel()
    dead.append(True)
    await vanish(dying)
    assert (await ended(handle)).state in ("cancelled", "succeeded")


async def test_a_withdrawn_provider_with_a_suspect_in_its_queue_does_no_harm(world: World) -> None:
    dying, healthy = await world.open(**MORTAL), await world.open(**MORTAL)
    hold, gate = held()
    busy, busy_gate = held("busy")
    await dying.provide(hold)
    await healthy.provide(busy)
    suspect = await healthy.submit(hold, "a")
    neighbour = await healthy.submit(busy, "b")
    await gate.saw()
    await busy_gate.saw()
    await healthy.provide(hold)
    await vanish(dying)

    async def returned() -> bool:
        return await suspects(healthy, suspect.id)

    await until(returned)
    await healthy.withdraw(hold)
    busy_gate.release.set()
    async with soon():
        assert await neighbour.result() == "b!"
        assert await healthy.call(busy, "c") == "c!"
        gate.release.set()
        await healthy.provide(hold)
        assert await suspect.result() == "a!"


async def test_a_suspect_that_fails_is_an_ordinary_failure(world: World) -> None:
    dying, healthy = await world.open(**MORTAL), await world.open(**MORTAL)
    hold, gate = held()
    await dying.provide(hold)
    handle = await healthy.submit(hold, "a", retry=RetryPolicy(tries=1))
    await gate.saw()
    await vanish(dying)

    @capability("hold")
    async def bad(text: str) -> str:
        raise ValueError("bad")

    await healthy.provide(bad)
    async with soon():
        with pytest.raises(RemoteError):
            await handle.result()
    info: Any = await handle.info()
    assert (info.failures, info.crashes, info.attempt) == (1, 0, 2)
