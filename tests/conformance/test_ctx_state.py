"""``ctx.state``: what a handler writes to the shared state is committed with its outcome, or not at all."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from pydantic import BaseModel

from autogen_coord import (
    CapabilityAgent,
    Coordination,
    FencedError,
    InvalidInputError,
    LeaseLostError,
    LockHeldError,
    Message,
    NotFoundError,
    PayloadTooLargeError,
    RejectedError,
    RemoteError,
    RetryPolicy,
    StaleClaimError,
    StoreUnavailableError,
    TaskContext,
    VersionConflictError,
    capability,
    on_message,
)
from autogen_coord.core.documents import Document
from autogen_coord.core.events import Kind
from autogen_coord.core.state_edits import Delete, Patch, Put
from tests.conformance.lock_holders import free, held_of
from tests.conftest import MORTAL, Fault, World, ended, process_of, soon, until, vanish

ONCE = RetryPolicy(tries=1)
TWICE = RetryPolicy(tries=2, backoff=0.001)
Body = Callable[[TaskContext], Awaitable[Any]]


class Point(BaseModel):
    x: int
    y: int = 0


async def do(coord: Coordination, body: Body, retry: RetryPolicy = ONCE) -> Any:
    """Run a handler that does this."""

    @capability
    async def work(text: str, ctx: TaskContext) -> int | str | None:
        answer: int | str | None = await body(ctx)
        return answer

    await coord.provide(work)
    try:
        async with soon():
            return await coord.call(work, "x", retry=retry)
    finally:
        await coord.withdraw(work)


async def kinds(coord: Coordination, *only: Kind) -> list[str]:
    return [event.kind async for event in coord.events(0, only or None, follow=False)]


def facts(document: Document | None) -> tuple[Any, int, str]:
    assert document is not None
    return document.value, document.version, document.kind


# with the outcome, or not at all


async def test_what_a_handler_writes_is_there_with_its_outcome_and_not_before(world: World, coord: Coordination) -> None:
    other, written, go = await world.open(), asyncio.Event(), asyncio.Event()

    async def body(ctx: TaskContext) -> None:
        await ctx.state.put("a", {"n": 1})
        await ctx.state.put_many({"b": 2, "c": 3})
        written.set()
        await go.wait()

    running = asyncio.create_task(do(coord, body))
    async with soon():
        await written.wait()
        assert await other.state.list() == []
        go.set()
        await running
    documents = await other.state.list()
    assert [(one.key, one.value, one.version) for one in documents] == [("a", {"n": 1}, 1), ("b", 2, 1), ("c", 3, 1)]
    assert {one.actor for one in documents} == {"work"}
    events = [event async for event in coord.events(0, follow=False)]
    ends = next(event for event in events if event.kind == Kind.TASK_COMPLETED)
    assert {one.cause for one in documents} == {ends.subject}
    changed = [event.number for event in events if event.kind == Kind.STATE_CHANGED]
    assert changed == [ends.number - 3, ends.number - 2, ends.number - 1]  # one transaction


@pytest.mark.parametrize("how", ["raises", "rejects", "bad output", "cancelled", "times out", "expires"])
async def test_an_attempt_that_does_not_succeed_writes_nothing(world: World, how: str) -> None:
    coord, written = await world.open(reject_pause=0.01), asyncio.Event()

    @capability
    async def work(text: str, ctx: TaskContext) -> int:
        if ctx.attempt > 1:
            return 1
        await ctx.state.put("a", 1)
        written.set()
        if how == "raises":
            raise ValueError("no")
        if how == "rejects":
            raise RejectedError("not me")
        if how == "bad output":
            return "seven"  # type: ignore[return-value]
        await asyncio.sleep(10)
        return 1

    await coord.provide(work)
    options: dict[str, Any] = {"times out": {"attempt_timeout": 0.1}, "expires": {"timeout": 0.1}}.get(how, {})
    handle = await coord.submit(work, "x", retry=ONCE, **options)
    async with soon():
        await written.wait()
        if how == "cancelled":
            await coord.cancel(handle.id)
    assert (await ended(handle)).state != "succeeded" or how == "rejects"
    assert await coord.state.list() == []
    assert await kinds(coord, Kind.STATE_CHANGED) == []


async def test_a_repeated_attempt_writes_once(coord: Coordination) -> None:
    async def body(ctx: TaskContext) -> int:
        count = await ctx.state.value("count", 0)
        await ctx.state.put("count", count + 1)
        if ctx.attempt == 1:
            raise ValueError("once")
        return ctx.attempt

    assert await do(coord, body, TWICE) == 2
    assert facts(await coord.state.get("count")) == (1, 1, "put")


async def test_coord_state_in_a_handler_is_written_at_once_and_in_its_name(coord: Coordination) -> None:
    async def body(ctx: TaskContext) -> None:
        await coord.state.put("now", ctx.task_id)
        raise ValueError("no")

    with pytest.raises(RemoteError):
        await do(coord, body)
    written = await coord.state.get("now")
    assert written is not None
    assert (written.actor, written.cause) == ("work", written.value)


async def test_a_handler_whose_claim_was_lost_writes_nothing(world: World) -> None:
    """Its process is declared dead while it works: the task runs elsewhere, and what the first one says comes too late."""
    slow, other = await world.open(**MORTAL), await world.open(**MORTAL)
    began, attempts = asyncio.Event(), list[int]()

    @capability
    async def work(text: str, ctx: TaskContext) -> int:
        attempts.append(ctx.attempt)
        await ctx.state.put("by", ctx.attempt)
        if ctx.attempt == 1:
            began.set()
            await asyncio.sleep(10)
        return ctx.attempt

    await slow.provide(work)
    handle = await other.submit(work, "x")
    async with soon(15):
        await began.wait()
        await vanish(slow)
        await other.provide(work)
        assert await handle.result() == 2
    assert facts(await other.state.get("by")) == (2, 1, "put")


async def test_a_finish_whose_answer_was_lost_writes_nothing_twice(coord: Coordination) -> None:
    """The store commits, and says that it could not: the runner offers the same again."""
    process = process_of(coord)
    store: Any = process.store
    real, lost = store.transact, asyncio.Event()

    async def loses(fold: Any, prefetch: Any = ()) -> Any:
        answer = await real(fold, prefetch)
        if not lost.is_set() and await process.store.read() is not None and await coord.state.get("a") is not None:
            lost.set()
            raise StoreUnavailableError("its answer was lost, says the test")
        return answer

    store.transact = loses
    try:

        async def body(ctx: TaskContext) -> str:
            async with ctx.lock("a") as lease:
                await ctx.state.put("a", 1, fence=lease)
            return "done"

        assert await do(coord, body) == "done"
    finally:
        del store.transact
    assert lost.is_set()
    assert facts(await coord.state.get("a")) == (1, 1, "put")
    await free(coord)


async def test_a_finish_waits_for_a_store_that_is_away(coord: Coordination) -> None:
    written, go = asyncio.Event(), asyncio.Event()

    async def body(ctx: TaskContext) -> str:
        async with ctx.lock("a") as lease:
            await ctx.state.put("a", 1, fence=lease)
        written.set()
        await go.wait()
        return "done"

    running = asyncio.create_task(do(coord, body))
    async with soon():
        await written.wait()
        with Fault(coord):
            go.set()
            await asyncio.sleep(0.3)  # some tries
        assert await running == "done"
    assert facts(await coord.state.get("a")) == (1, 1, "put")
    await free(coord)


# reading what was written


async def test_a_handler_reads_what_it_wrote_over_what_is_stored(coord: Coordination) -> None:
    for name in ("a", "b", "c", "d"):
        await coord.state.put(f"docs/{name}", name)

    async def body(ctx: TaskContext) -> None:
        state = ctx.state
        put = await state.put("docs/b", "B")
        assert (put.value, put.version, put.number, put.actor, put.cause) == ("B", 2, 0, "work", ctx.task_id)
        assert await state.get("docs/b") == put
        assert await state.get("docs/b", version=1) == await coord.state.get("docs/b")
        assert await state.delete("docs/c") is True
        assert (await state.get("docs/c"), await state.value("docs/c", 7)) == (None, 7)
        await state.put("docs/bb", Point(x=1))
        assert (await state.get("docs/bb", returns=Point)).value == Point(x=1)  # type: ignore[union-attr]
        many = await state.get_many(["docs/c", "docs/bb", "docs/a", "docs/b"])
        assert [one and one.value for one in many] == [None, {"x": 1, "y": 0}, "a", "B"]
        with pytest.raises(NotFoundError):
            await state.delete("docs/c")
        assert await state.delete("docs/c", missing_ok=True) is False

    await do(coord, body)
    assert [(one.key, one.version) for one in await coord.state.list("docs", deleted=True)] == [
        ("docs/a", 1), ("docs/b", 2), ("docs/bb", 1), ("docs/c", 2), ("docs/d", 1),
    ]  # fmt: skip


async def test_a_list_shows_pages_of_both(coord: Coordination) -> None:
    for number in range(10):
        await coord.state.put(f"p/{number}", number)
    await coord.state.put("q", 1)

    async def body(ctx: TaskContext) -> None:
        state = ctx.state
        for number in (2, 3, 4, 5):
            await state.delete(f"p/{number}")
        for name in ("p", "p/00", "p/45", "p/95", "r"):
            await state.put(name, name)
        wanted = ["p", "p/0", "p/00", "p/1", "p/45", "p/6", "p/7", "p/8", "p/9", "p/95"]
        assert [one.key for one in await state.list("p")] == wanted
        assert len(await state.list("p", deleted=True)) == 14
        for size in (1, 2, 3, 4, 9, 10, 11):
            found: list[str] = []
            while page := await state.list("p", limit=size, after=found[-1] if found else None):
                assert len(page) <= size
                found += [one.key for one in page]
            assert found == wanted
        assert [one.key for one in await state.list()] == [*wanted, "q", "r"]

    await do(coord, body)


async def test_changes_of_one_document_are_one_version(coord: Coordination) -> None:
    await coord.state.put("a", {"n": 1, "list": [1]})

    async def body(ctx: TaskContext) -> None:
        state = ctx.state
        first = await state.patch("a", {"n": 2})
        assert (first.value, first.version) == ({"n": 2, "list": [1]}, 2)
        second = await state.patch("a", [{"op": "add", "path": "/list/-", "value": 2}])
        assert (second.value, second.version) == ({"n": 2, "list": [1, 2]}, 2)
        third = await state.put("a", {**second.value, "m": 3}, expected_version=2)
        assert third.value == {"n": 2, "list": [1, 2], "m": 3}
        with pytest.raises(VersionConflictError):
            await state.put("a", 1, expected_version=1)
        await state.put("b", 1)
        await state.delete("b")
        assert await state.get("b") is None

    await do(coord, body)
    assert facts(await coord.state.get("a")) == ({"n": 2, "list": [1, 2], "m": 3}, 2, "put")
    assert await coord.state.history("b") == []


async def test_a_patch_is_applied_to_what_stands_there_at_the_end(coord: Coordination) -> None:
    await coord.state.put("a", {"mine": 0, "list": []})
    await coord.state.put("sum", {"n": 0})

    async def body(ctx: TaskContext) -> None:
        state = ctx.state
        await state.patch("a", {"mine": 1})
        await state.patch("a", {"more": {"x": 1}})
        await state.put("sum", {"n": 1}, reducers={"n": "add"})
        await state.put("sum", {"n": 2}, reducers={"n": "add"})
        assert (await state.value("sum")) == {"n": 3}
        await coord.state.patch("a", {"theirs": 1})
        await coord.state.put("sum", {"n": 10}, reducers={"n": "add"})
        assert (await state.value("a")) == {"mine": 1, "list": [], "more": {"x": 1}}  # as it was when it was written

    await do(coord, body)
    assert facts(await coord.state.get("a")) == ({"mine": 1, "list": [], "theirs": 1, "more": {"x": 1}}, 3, "patch")
    assert facts(await coord.state.get("sum")) == ({"n": 13}, 3, "reduce")


async def test_the_policy_of_a_prefix_holds_for_a_handlers_writes(coord: Coordination) -> None:
    await coord.state.set_policy("sums", "reduce", {"n": "add"})
    await coord.state.put("sums/a", {"n": 1})

    async def body(ctx: TaskContext) -> None:
        await ctx.state.put("sums/a", {"n": 1})
        await ctx.state.put("sums/a", {"n": 1})
        await coord.state.put("sums/a", {"n": 5})

    await do(coord, body)
    assert facts(await coord.state.get("sums/a")) == ({"n": 8}, 3, "reduce")


async def test_what_cannot_be_one_change_expects_the_version_it_was_made_from(coord: Coordination) -> None:
    """An update, then a patch: as one put of what the handler saw, and if another wrote meanwhile, it is tried again."""
    await coord.state.put("a", {"n": 1})

    async def body(ctx: TaskContext) -> int:
        await ctx.state.put("a", {"n": 1}, reducers={"n": "add"})
        await ctx.state.patch("a", {"last": ctx.attempt})
        if ctx.attempt == 1:
            await coord.state.put("a", {"n": 10})
        return ctx.attempt

    assert await do(coord, body, TWICE) == 2
    assert (await coord.state.value("a")) == {"n": 11, "last": 2}


# bad values


@pytest.mark.parametrize(
    ("change", "error"),
    [
        (Put("a", float("nan")), InvalidInputError),
        (Put("a", {1: 2}), InvalidInputError),
        (Put("a//b", 1), InvalidInputError),
        (Put("a", "x" * 1_100_000), PayloadTooLargeError),
        (Put("a", 1, 7), VersionConflictError),
        (Patch("a", {"x": 1}), NotFoundError),
        (Patch("there", [{"op": "remove", "path": "/none"}]), InvalidInputError),
        (Put("there", 1, 1), VersionConflictError),
        (Delete("a"), NotFoundError),
    ],
)
async def test_a_bad_change_is_refused_where_it_is_made_and_leaves_no_trace(
    coord: Coordination, change: Any, error: type[Exception]
) -> None:
    await coord.state.put("there", {})
    await coord.state.put("there", {"n": 1})

    async def body(ctx: TaskContext) -> str:
        with pytest.raises(error):
            await ctx.state.put_many([Put("good", 1), change])
        assert await ctx.state.get("good") is None
        return "went on"

    assert await do(coord, body) == "went on"
    assert [one.key for one in await coord.state.list(deleted=True)] == ["there"]


async def test_what_comes_after_the_handler_has_returned_is_refused(coord: Coordination) -> None:
    left: list[TaskContext] = []

    async def body(ctx: TaskContext) -> None:
        await ctx.state.put("a", 1)
        left.append(ctx)

    await do(coord, body)
    with pytest.raises(StaleClaimError):
        await left[0].state.put("a", 2)
    assert facts(await coord.state.get("a")) == (1, 1, "put")


async def test_many_writers_of_one_handler_are_kept_one_by_one(coord: Coordination) -> None:
    async def body(ctx: TaskContext) -> None:
        await asyncio.gather(*(ctx.state.put("sum", {"n": 1}, reducers={"n": "add"}) for _ in range(50)))
        await asyncio.gather(*(ctx.state.put(f"k/{number}", number) for number in range(50)))

    await do(coord, body)
    assert (await coord.state.value("sum")) == {"n": 50}
    assert len(await coord.state.list("k")) == 50


# conflicts


async def test_a_conflict_fails_the_attempt_and_the_next_one_sees_what_came_before(coord: Coordination) -> None:
    await coord.state.put("a", 0)

    async def body(ctx: TaskContext) -> int:
        found = await ctx.state.get("a")
        assert found is not None
        await ctx.state.put("other", ctx.attempt)
        await ctx.state.put("a", found.value + 1, expected_version=found.version)
        if ctx.attempt == 1:
            await coord.state.put("a", 10)
        return ctx.attempt

    handle_attempts = await do(coord, body, TWICE)
    assert handle_attempts == 2
    assert (await coord.state.value("a")) == 11
    assert facts(await coord.state.get("other")) == (2, 1, "put")
    retried = [event async for event in coord.events(0, [Kind.TASK_RETRIED], follow=False)]
    assert [event.data["reason"] for event in retried] == ["VersionConflictError"]


async def test_a_conflict_in_the_last_attempt_is_the_tasks_error(coord: Coordination) -> None:
    async def body(ctx: TaskContext) -> None:
        await ctx.state.put("a", 1, expected_version=0)
        await ctx.state.put("b", 1)
        await coord.state.put("a", 2)

    with pytest.raises(RemoteError, match="version 0 was expected, but version 1 is there") as raised:
        await do(coord, body)
    assert raised.value.type == "VersionConflictError"
    assert await coord.state.get("b") is None
    assert (await coord.state.value("a")) == 2


async def test_a_merge_that_fails_at_the_end_is_tried_again(coord: Coordination) -> None:
    await coord.state.put("a", {"x": 1, "y": 1})

    async def body(ctx: TaskContext) -> int:
        found = await ctx.state.get("a")
        assert found is not None
        await ctx.state.put("a", {**found.value, "x": ctx.attempt + 1}, expected_version=found.version, policy="merge")
        if ctx.attempt == 1:
            await coord.state.patch("a", {"x": 9})
        if ctx.attempt == 2:
            await coord.state.patch("a", {"y": 9})
        return ctx.attempt

    assert await do(coord, body, TWICE) == 2
    assert facts(await coord.state.get("a")) == ({"x": 3, "y": 9}, 4, "merge")


async def test_a_write_that_asks_is_kept_and_ends_the_task(coord: Coordination) -> None:
    await coord.state.put("a", "first")

    async def body(ctx: TaskContext) -> None:
        await ctx.state.put("b", 1)
        await ctx.state.put("a", "mine", expected_version=1, policy="ask")
        await coord.state.put("a", "theirs")

    with pytest.raises(RemoteError, match="is kept as conflict") as raised:
        await do(coord, body, TWICE)
    assert raised.value.type == "OpenConflictError"
    (conflict,) = await coord.state.conflicts()
    assert (conflict.key, conflict.expected, conflict.found, conflict.mine, conflict.actor) == ("a", 1, 2, "mine", "work")
    assert (await coord.state.value("a"), await coord.state.get("b")) == ("theirs", None)
    decided = await coord.state.decide(conflict.id, "mine")
    assert facts(decided) == ("mine", 3, "decide")


# locks


async def test_a_lock_that_a_write_names_is_kept_until_the_write_is_committed(world: World, coord: Coordination) -> None:
    other, left, go = await world.open(), asyncio.Event(), asyncio.Event()

    async def body(ctx: TaskContext) -> None:
        async with ctx.lock("docs/a") as lease, ctx.lock("docs/b"):
            await ctx.state.put("docs/a", 1, fence=lease)
        assert lease.released
        with pytest.raises(LeaseLostError, match="was released"):
            await ctx.state.put("docs/a", 2, fence=lease)
        left.set()
        await go.wait()

    running = asyncio.create_task(do(coord, body))
    async with soon():
        await left.wait()
        assert [row.path for row in await held_of(coord)] == ["docs/a/"]
        with pytest.raises(LockHeldError):
            async with other.lock("docs/a"):
                pass
        go.set()
        await running
    document = await coord.state.get("docs/a")
    assert document is not None
    assert (document.value, document.version) == (1, 1)
    assert document.token is not None
    await free(coord)
    told = await kinds(coord, Kind.STATE_CHANGED, Kind.TASK_COMPLETED, Kind.RESOURCE_UNLOCKED)
    assert told == [Kind.RESOURCE_UNLOCKED, Kind.STATE_CHANGED, Kind.TASK_COMPLETED, Kind.RESOURCE_UNLOCKED]
    numbers = [event.number async for event in coord.events(0, follow=False)][-3:]
    assert numbers[2] - numbers[0] == 2
    with pytest.raises(FencedError):
        await coord.state.put("docs/a", 2)


async def test_the_next_in_line_has_the_lock_in_the_transaction_of_the_write(world: World, coord: Coordination) -> None:
    """Fifty handlers of two processes add to one document under its lock, and leave the lock long before they end."""
    other = await world.open()

    @capability(max_concurrency=5)
    async def add(text: str, ctx: TaskContext) -> None:
        async with ctx.lock("sum", wait=None) as lease:
            found = await ctx.state.value("sum", 0)
            await ctx.state.put("sum", found + 1, fence=lease)
        await asyncio.sleep(0.002)

    await coord.provide(add)
    await other.provide(add)
    async with soon():
        await asyncio.gather(*(coord.call(add, "x", retry=ONCE) for _ in range(50)))
    assert facts(await coord.state.get("sum")) == (50, 50, "put")
    await free(coord)


@pytest.mark.parametrize("how", ["raises", "conflict"])
async def test_a_lock_that_was_kept_is_free_when_the_attempt_failed(coord: Coordination, how: str) -> None:
    async def body(ctx: TaskContext) -> None:
        async with ctx.lock("a") as lease:
            await ctx.state.put("a", 1, fence=lease)
            await ctx.state.put("b", 1, expected_version=0, fence=lease)
        await coord.state.put("b", 2)
        if how == "raises":
            raise ValueError("no")

    with pytest.raises(RemoteError):
        await do(coord, body)
    await free(coord)
    assert await coord.state.get("a") is None


@pytest.mark.parametrize("when", ["inside", "after"])
async def test_a_lease_that_is_lost_before_the_end_fails_the_attempt(coord: Coordination, when: str) -> None:
    async def evict(ctx: TaskContext) -> None:
        assert coord._parts is not None
        (row,) = await held_of(coord)
        await coord._parts.leases.evict(row.id, ["a"])

    async def body(ctx: TaskContext) -> int:
        try:
            async with ctx.lock("a") as lease:
                await ctx.state.put("a", ctx.attempt, fence=lease)
                if ctx.attempt == 1 and when == "inside":
                    await evict(ctx)
        except LeaseLostError:
            pass  # it does not stop for it
        if ctx.attempt == 1 and when == "after":
            await evict(ctx)
            await lease.lost.wait()
        return ctx.attempt

    assert await do(coord, body, TWICE) == 2
    document = await coord.state.get("a")
    assert document is not None
    assert (document.value, document.version) == (2, 1)
    retried = [event async for event in coord.events(0, [Kind.TASK_RETRIED], follow=False)]
    assert [event.data["reason"] for event in retried] == ["LeaseLostError"]
    await free(coord)


async def test_a_lock_that_was_left_is_the_handlers_own_when_it_asks_again(coord: Coordination) -> None:
    async def body(ctx: TaskContext) -> int:
        tokens = set()
        for number in range(3):
            async with ctx.lock("a", wait=5) as lease:
                assert not lease.released
                tokens.add(lease.token)
                await ctx.state.put("a", number, fence=lease)
        with pytest.raises(LockHeldError):
            async with ctx.lock("a/below"):
                pass
        return len(tokens)

    async with soon(4):
        assert await do(coord, body) == 1
    assert (await coord.state.value("a")) == 2
    await free(coord)


async def test_a_lease_that_was_converted_since_fences_what_was_written_before(coord: Coordination) -> None:
    async def body(ctx: TaskContext) -> None:
        async with ctx.lock("b", "S") as lease:
            await ctx.state.put("a", 1, fence=lease)
            await lease.convert("X")

    await do(coord, body)
    assert facts(await coord.state.get("a")) == (1, 1, "put")
    await free(coord)


async def test_a_lease_of_another_block_goes_its_own_way(coord: Coordination) -> None:
    """Only the handler's own locks are kept for its writes."""
    async with coord.lock("a") as lease:

        async def body(ctx: TaskContext) -> None:
            await ctx.state.put("a", 1, fence=lease)
            await lease.release()

        with pytest.raises(RemoteError, match="is not held") as raised:
            await do(coord, body)
    assert raised.value.type == "LeaseLostError"
    await free(coord)


# wherever a context is


class Scribe(CapabilityAgent):
    """Writes what it is told."""

    @capability("write")
    async def write(self, text: str, ctx: TaskContext) -> str:
        async with ctx.lock("said") as lease:
            await ctx.state.put("said", text, fence=lease)
        return text

    @on_message
    async def told(self, message: Message, ctx: TaskContext) -> None:
        await ctx.state.put("told", message.body)
        if message.attempt == 1:
            raise ValueError("again")


@pytest.mark.parametrize("via_runtime", [False, True])
async def test_agents_and_their_messages_have_it_too(world: World, via_runtime: bool) -> None:
    coord = await world.open(tries=2)
    await coord.provide(Scribe, via_runtime=via_runtime)
    async with soon():
        assert await coord.call("write", "hello", returns=str) == "hello"
        await coord.send("Scribe/a", "hi")

        async def told() -> bool:
            return await coord.state.get("told") is not None

        await until(told)
    said, heard = await coord.state.get("said"), await coord.state.get("told")
    assert facts(said)[:2] == ("hello", 1)
    assert facts(heard)[:2] == ("hi", 1)
    await free(coord)
