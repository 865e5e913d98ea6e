"""What a cold review found around tasks, each as the behaviour that is promised."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from autogen_coord import (
    ClosedError,
    Coordination,
    DeadlockError,
    InvalidInputError,
    NoProviderError,
    NotFoundError,
    RemoteError,
    RetryPolicy,
    TaskContext,
    TaskHandle,
    capability,
)
from autogen_coord.core import claims, pools, pruning, tasks
from autogen_coord.core.claims import Claim, Want
from autogen_coord.core.pruning import Prune
from autogen_coord.core.store import Range
from autogen_coord.core.tables import QUEUE, TASK
from tests.conftest import Ground, World, ended, held, process_of, soon, state_of, until

ONE_TRY = RetryPolicy(tries=1)
SHORT: dict[str, Any] = {"drain": 0.1, "cancel_grace": 0.1}
"""For handlers that may hang when the promise is broken: the test's end does not wait for them."""


@capability
async def echo(text: str) -> str:
    return text


@capability
async def number(value: int) -> int:
    return value


class Counted:
    """How many commits a coordination sends."""

    def __init__(self, coord: Coordination) -> None:
        self._store: Any = process_of(coord).store
        self.commits = 0

    def __enter__(self) -> Counted:
        original = self._store.transact

        async def transact(*args: Any) -> Any:
            self.commits += 1
            return await original(*args)

        self._store.transact = transact
        return self

    def __exit__(self, *exc: object) -> None:
        del self._store.transact


async def flushed(coord: Coordination) -> None:
    """Until all that stood on the line is written."""
    await process_of(coord).line.put(lambda rows, command, now, policy: None, None)


async def crashed(coord: Coordination, handle: TaskHandle[Any]) -> None:
    """Leave a delayed task as a burial leaves one whose process died: ready for a process that runs nothing else."""

    def bury(rows: Any, command: str, now: float, policy: Any) -> None:
        (row,) = rows.get(QUEUE, (command,))
        pool = pools.alone(row.capability)
        rows.put(QUEUE, row._replace(state="ready", suspect=1, attempt=1, pool=pool, ready_at=now, due=None))

    await process_of(coord).line.put(bury, handle.id)


async def until_children(coord: Coordination, parent: str, count: int = 1) -> None:
    async def there() -> bool:
        (rows,) = await process_of(coord).store.read(Range(TASK, "by_parent", (parent,)))
        return len(rows) == count

    await until(there)


# claims


def test_a_pool_whose_row_was_cut_off_by_the_slots_is_not_dry(work: Ground) -> None:
    for each in range(4):
        work.submit(f"open{each}")
    work.submit("addressed", target="p1")
    answer = work.do(claims.claim, Claim("s1", [Want.of(("work", "work@p1"), "p1", 2)]))
    assert [one.row.id for one in answer.claimed] == ["open0", "open1"]
    assert answer.dry == []
    answer = work.do(claims.claim, Claim("s1", [Want.of(("work", "work@p1"), "p1", 4)]))
    assert [one.row.id for one in answer.claimed] == ["open2", "open3", "addressed"]
    assert sorted(answer.dry) == ["work", "work@p1"]


async def test_an_addressed_task_is_not_starved_by_the_backlog_of_the_open_pool(coord: Coordination) -> None:
    hold, gate = held(limit=2)
    to = await coord.provide(hold)
    handles = [await coord.submit(hold, str(each)) for each in range(20)]
    handles.append(await coord.submit(hold, "addressed", provider=to))
    handles += await coord.submit_many(hold, [str(each) for each in range(20, 80)])
    gate.release.set()
    async with soon():
        await asyncio.gather(*(handle.result() for handle in handles))
    assert 18 <= gate.seen.index("addressed") <= 24  # where its submit put it


async def test_a_draining_process_does_not_ask_again_and_again_for_a_child_that_is_delayed(world: World) -> None:
    leaving, staying = await world.open(), await world.open()
    hold, gate = held()

    @capability
    async def parent(text: str, ctx: TaskContext) -> str:
        return await ctx.call(echo, text, delay=0.8)

    for each in (echo, hold, parent):
        await leaving.provide(each)
    handle, beside = await staying.submit(parent, "x"), await staying.submit(hold, "a")
    await gate.saw()
    await until_children(staying, handle.id)
    closing = asyncio.create_task(leaving.close())
    await asyncio.sleep(0.02)
    gate.release.set()
    async with soon():
        await beside.result()
        with Counted(leaving) as counted:
            await asyncio.sleep(0.3)
        assert counted.commits < 30
        await closing
        assert await handle.result() == "x"
    assert [one.end for one in (await handle.info()).attempts] == ["succeeded"]


async def test_a_process_that_holds_back_does_not_ask_again_and_again_for_a_child_that_is_delayed(world: World) -> None:
    coord, client = await world.open(suspect_patience=60), await world.open()

    @capability
    async def parent(text: str, ctx: TaskContext) -> str:
        return await ctx.call(echo, text, delay=0.8)

    for each in (echo, parent):
        await coord.provide(each)
    suspect, handle = await client.submit(echo, "suspect", delay=1000), await client.submit(parent, "x")
    await until_children(client, handle.id)
    await crashed(client, suspect)
    await asyncio.sleep(0.1)
    with Counted(coord) as counted:
        await asyncio.sleep(0.3)
    assert counted.commits < 30
    assert await state_of(suspect) == "ready"
    async with soon():
        assert await handle.result() == "x"
        assert await suspect.result() == "suspect"


async def test_a_suspect_that_another_process_took_holds_no_work_back(world: World) -> None:
    coord, other = await world.open(suspect_patience=60, **SHORT), await world.open(**SHORT)
    busy, gate = held("busy")
    await coord.provide(echo)
    await coord.provide(busy)
    await other.submit(busy, "long")
    await gate.saw()
    suspect = await other.submit(echo, "suspect", delay=1000)
    await crashed(other, suspect)
    await asyncio.sleep(0.1)
    await other.submit(busy, "newcomer")
    await asyncio.sleep(0.1)
    assert gate.seen == ["long"]  # it is held back
    await other.provide(echo)
    async with soon():
        assert await suspect.result() == "suspect"
    await gate.saw(2)
    assert gate.seen == ["long", "newcomer"]
    gate.release.set()


async def test_an_attempt_that_is_cancelled_before_its_first_step_frees_its_slot(world: World) -> None:
    coord = await world.open(**SHORT)
    assert coord._parts is not None
    runner: Any = coord._parts.runner
    start = runner.start

    def start_and_cancel(provider: Any, claimed: Any) -> None:
        """As when the feed reads the cancel in the tick in which the claim is answered."""
        runner.start = start
        start(provider, claimed)
        runner.cancel(claimed.row.id)

    await coord.provide(echo, max_concurrency=1)
    runner.start = start_and_cancel
    handle = await coord.submit(echo, "a")
    assert (await ended(handle)).state == "cancelled"
    async with soon():
        assert await (await coord.submit(echo, "b")).result() == "b"
    await until(lambda: len(runner) == 0)


# waits


@pytest.mark.parametrize("kept", [True, False])
async def test_a_waiter_is_answered_though_the_ending_was_pruned_before_it_was_read(world: World, kept: bool) -> None:
    """With the value where the outcome is kept, else with the news that the task is gone."""
    client, worker = await world.open(**SHORT), await world.open(keep_count=20, **SHORT)
    hold, gate = held()
    await worker.provide(hold)
    await worker.provide(echo)
    handle = await client.submit(hold, "x")
    waiting = [asyncio.create_task(handle.result()), asyncio.create_task(client.call(hold, "y"))]
    await gate.saw(2)
    feed: Any = process_of(client).feed
    catch_up, go = feed.catch_up, asyncio.Event()

    async def later() -> None:
        """The process does not come to read for a while: its loop was busy, it was stopped."""
        await go.wait()
        await catch_up()

    feed.catch_up = later
    gate.release.set()
    await gate.emptied()
    async with soon():
        for each in range(8 if kept else 40):
            await worker.call(echo, str(each))
        while (await process_of(worker).line.put(pruning.prune, Prune())).more:
            pass
        if kept:
            assert (await worker.task(handle.id)).state == "succeeded"
        else:
            with pytest.raises(NotFoundError):
                await worker.task(handle.id)
    assert not any(one.done() for one in waiting)
    go.set()
    async with soon(4):
        answers = await asyncio.gather(*waiting, return_exceptions=True)
    if kept:
        assert answers == ["x!", "y!"]
    else:
        assert [type(answer) for answer in answers] == [NotFoundError, NotFoundError]


async def test_a_provider_that_is_away_at_the_moment_of_the_look_does_not_end_the_call(world: World) -> None:
    client, worker = await world.open(no_provider_wait=1.2), await world.open()
    hold, gate = held(limit=1)
    await worker.provide(hold)
    first = await client.submit(hold, "first")
    await gate.saw()
    calling = asyncio.create_task(client.call(hold, "second"))
    await asyncio.sleep(1.1)  # the provider was there all the time
    await worker.withdraw(hold)
    await asyncio.sleep(0.45)  # a restart; a look falls into it
    await worker.provide(hold)
    gate.release.set()
    async with soon():
        assert await calling == "second!"
        assert await first.result() == "first!"


async def test_a_call_ends_when_its_provider_was_away_for_the_whole_of_the_wait(world: World) -> None:
    client, worker = await world.open(no_provider_wait=0.4), await world.open()
    hold, gate = held(limit=1)
    await worker.provide(hold)
    first = await client.submit(hold, "first")
    await gate.saw()
    calling = asyncio.create_task(client.call(hold, "second"))
    await asyncio.sleep(0.6)
    assert not calling.done()
    await worker.withdraw(hold)
    async with soon():
        with pytest.raises(NoProviderError):
            await calling
    gate.release.set()
    async with soon():
        assert await first.result() == "first!"
    assert gate.seen == ["first"]


async def test_a_call_whose_task_runs_elsewhere_outlives_the_withdraw_of_its_provider(world: World) -> None:
    client, worker = await world.open(no_provider_wait=0.2), await world.open()
    hold, gate = held()
    await worker.provide(hold)
    calling = asyncio.create_task(client.call(hold, "a"))
    await gate.saw()
    await worker.withdraw(hold)  # what runs of it goes on
    await asyncio.sleep(0.7)
    assert not calling.done()
    assert gate.ended == []
    gate.release.set()
    async with soon():
        assert await calling == "a!"


async def test_a_keyed_task_that_another_submitted_outlives_a_call_without_a_provider(world: World) -> None:
    client, worker = await world.open(no_provider_wait=0.2), await world.open()
    await worker.provide(echo)
    await worker.withdraw(echo)
    handle = await worker.submit(echo, "a", key="k")
    async with soon():
        with pytest.raises(NoProviderError):
            await client.call(echo, "a", key="k")
        await flushed(client)
        assert await state_of(handle) == "ready"
        await worker.provide(echo)
        assert await handle.result() == "a"
        assert await client.call(echo, "a", key="k") == "a"


# handlers


@pytest.mark.parametrize("where", ["here", "elsewhere"])
@pytest.mark.parametrize("how", ["call", "submit", "many", "result", "cancel"])
async def test_a_draining_handler_may_use_the_coordination_itself(world: World, how: str, where: str) -> None:
    leaving, staying = await world.open(), await world.open()
    go, started = asyncio.Event(), asyncio.Event()

    @capability
    async def parent(text: str) -> str:
        started.set()
        await go.wait()
        match how:
            case "call":
                return await leaving.call(echo, text)
            case "submit":
                return (await leaving.submit(echo, text)).id
            case "many":
                return (await leaving.submit_many(echo, [text]))[0].id
            case "result":
                return await (await leaving.submit(echo, text)).result()
            case _:
                handle = await leaving.submit(echo, text, delay=1000)
                return f"{await handle.cancel()} {(await handle.info()).state}"

    await leaving.provide(parent)
    await (leaving if where == "here" else staying).provide(echo)
    handle = await staying.submit(parent, "x", retry=ONE_TRY)
    await started.wait()
    closing = asyncio.create_task(leaving.close())
    await asyncio.sleep(0.02)
    with pytest.raises(ClosedError):
        await leaving.submit(echo, "from outside")
    go.set()
    async with soon():
        await closing
        answer = await handle.result()
        match how:
            case "call" | "result":
                assert answer == "x"
            case "submit" | "many":
                if where == "here":
                    await staying.provide(echo)
                assert await staying.handle(answer, str).result() == "x"
            case _:
                assert answer == "True cancelled"


@pytest.mark.parametrize("how", ["call", "result"])
async def test_a_handler_that_waits_through_the_coordination_gives_its_slot_back(world: World, how: str) -> None:
    coord = await world.open(**SHORT)

    @capability(max_concurrency=1)
    async def factorial(value: int) -> int:
        if value <= 1:
            return 1
        if how == "call":
            return value * await coord.call(factorial, value - 1)
        return value * await (await coord.submit(factorial, value - 1)).result()

    await coord.provide(factorial)
    async with soon(4):
        assert await coord.call(factorial, 5) == 120


async def test_the_slot_of_a_handler_that_waited_through_the_coordination_counts_again(world: World) -> None:
    coord = await world.open(**SHORT)
    _, gate = held()

    @capability(max_concurrency=1)
    async def parent(text: str) -> str:
        await coord.call(echo, text)
        await coord.call(echo, text)
        await gate.enter(text)
        return text

    await coord.provide(echo)
    await coord.provide(parent)
    first = await coord.submit(parent, "a")
    await gate.saw()
    handles = [await coord.submit(parent, text) for text in "bc"]
    await asyncio.sleep(0.05)
    assert gate.seen == ["a"]
    later = await coord.submit(echo, "beside")
    gate.release.set()
    async with soon():
        await asyncio.gather(first.result(), later.result(), *(handle.result() for handle in handles))


@pytest.mark.parametrize("how", ["call", "result"])
async def test_what_a_lone_suspect_waits_for_through_the_coordination_runs_beside_it(world: World, how: str) -> None:
    coord = await world.open(**SHORT)

    @capability
    async def parent(text: str) -> str:
        if how == "call":
            return await coord.call(echo, text)
        return await (await coord.submit(echo, text)).result()

    await coord.provide(echo)
    await coord.provide(parent)
    suspect = await coord.submit(parent, "x", delay=1000)
    await crashed(coord, suspect)
    async with soon(4):
        assert await suspect.result() == "x"


async def test_an_error_whose_retry_after_cannot_be_read_is_an_ordinary_failure(world: World) -> None:
    coord = await world.open(**SHORT)

    class Unanswered(Exception):
        @property
        def retry_after(self) -> float:
            raise ValueError("no response, no header")

    @capability
    async def once(text: str, ctx: TaskContext) -> int:
        if ctx.attempt == 1 or text == "never":
            raise Unanswered("no answer")
        return ctx.attempt

    await coord.provide(once)
    async with soon(4):
        assert await coord.call(once, "x", retry=RetryPolicy(tries=2, backoff=0)) == 2
        with pytest.raises(RemoteError, match="no answer") as caught:
            await coord.call(once, "never", retry=ONE_TRY)
    assert caught.value.type.endswith("Unanswered")


@pytest.mark.parametrize("by_name", [True, False])
async def test_an_input_that_does_not_fit_is_refused_without_being_told(coord: Coordination, by_name: bool) -> None:
    """What is logged and stored of an error holds no payload: it may be a secret."""
    called: Any = "number" if by_name else number

    @capability
    async def parent(text: str, ctx: TaskContext) -> int:
        return int(await ctx.call(called, {"password": text}))

    await coord.provide(number)
    await coord.provide(parent)
    with pytest.raises(InvalidInputError) as refused:
        await coord.call(called, {"password": "hunter2"})
    assert "hunter2" not in f"{refused.value} {refused.value.facts} {refused.value!r}"
    handle = await coord.submit(parent, "hunter2")
    async with soon():
        with pytest.raises(RemoteError) as failed:
            await handle.result()
    assert failed.value.remote_code == "invalid_input"
    assert "hunter2" not in f"{failed.value} {failed.value.facts} {(await handle.info()).error}"


async def test_children_wait_for_room_on_the_line(world: World) -> None:
    coord = await world.open(line_commands=4)
    line: Any = process_of(coord).line
    offer, longest = line.offer, [0]

    def watched(rule: Any, command: Any, *more: Any) -> Any:
        if rule is tasks.submit:
            longest.append(line.waiting)
        return offer(rule, command, *more)

    @capability
    async def parent(text: str, ctx: TaskContext) -> int:
        return len(await asyncio.gather(*(ctx.call(echo, f"{text}{each}") for each in range(60))))

    await coord.provide(echo)
    await coord.provide(parent)
    line.offer = watched
    async with soon():
        assert await coord.call(parent, "x") == 60
    assert max(longest) <= 4


@pytest.mark.parametrize("first", ["key", "leaf"])
async def test_a_key_that_names_ones_caller_beside_other_children_is_a_deadlock_error(world: World, first: str) -> None:
    """The caller waits for several children at once; one of them waits for the caller."""
    coord = await world.open(**SHORT)
    leaf, gate = held("leaf")

    @capability
    async def inner(text: str, ctx: TaskContext) -> list[str]:
        await gate.saw()
        try:
            return await ctx.call(outer, text, key="outer")
        except DeadlockError as error:
            return list(error.cycle)
        finally:
            gate.release.set()

    @capability
    async def outer(text: str, ctx: TaskContext) -> list[str]:
        if first == "key":
            cycle, _ = await asyncio.gather(ctx.call(inner, text, key="inner"), ctx.call(leaf, text))
        else:
            _, cycle = await asyncio.gather(ctx.call(leaf, text), ctx.call(inner, text, key="inner"))
        return cycle

    for each in (leaf, inner, outer):
        await coord.provide(each)
    handle = await coord.submit(outer, "x", key="outer")
    async with soon(4):
        cycle = await handle.result()
    assert cycle[0] == cycle[-1]
    assert handle.id in cycle
    assert len(set(cycle)) == 2


async def test_a_call_that_is_not_stored_yet_is_not_taken_for_a_pruned_one(world: World) -> None:
    coord = await world.open()
    process = process_of(coord)
    wait = process.waits.add("on-its-way", "echo")
    assert process.waits.stored() == []
    wait.stored = True
    assert process.waits.stored() == ["on-its-way"]
    process.waits.drop(wait)
    await coord.provide(echo)
    assert await coord.call(echo, "x") == "x"
