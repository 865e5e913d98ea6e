"""Attempts: failures and their retries, timeouts, deadlines, cancels, rejects, progress."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from autogen_coord import (
    Coordination,
    InvalidInputError,
    RejectedError,
    RemoteError,
    RetryPolicy,
    StaleClaimError,
    TaskCancelledError,
    TaskContext,
    TaskExpiredError,
    TaskHandle,
    capability,
)
from tests.conftest import World, ended, held, soon, state_of, until

AT_ONCE = RetryPolicy(tries=3, backoff=0)


async def ends_of(handle: TaskHandle[Any]) -> list[str]:
    return [attempt.end for attempt in (await ended(handle)).attempts]


# retries


async def test_a_failed_attempt_is_tried_again_until_one_succeeds(coord: Coordination) -> None:
    @capability
    async def third(text: str, ctx: TaskContext) -> int:
        if ctx.attempt < 3:
            raise ValueError(text)
        return ctx.attempt

    await coord.provide(third)
    handle = await coord.submit(third, "x", retry=AT_ONCE)
    async with soon():
        assert await handle.result() == 3
    info = await handle.info()
    assert [(one.number, one.end) for one in info.attempts] == [(1, "failed"), (2, "failed"), (3, "succeeded")]
    assert (info.attempt, info.failures, info.crashes) == (3, 2, 0)
    assert info.attempts[0].error is not None
    assert info.attempts[0].error["text"] == "x"


async def test_tries_are_counted_and_the_last_error_is_told(coord: Coordination) -> None:
    @capability
    async def never(text: str, ctx: TaskContext) -> int:
        raise ValueError(f"try {ctx.attempt}")

    await coord.provide(never)
    handle = await coord.submit(never, "x", retry=AT_ONCE)
    with pytest.raises(RemoteError, match="try 3") as caught:
        await handle.result(timeout=5)
    assert caught.value.attempts == 3
    info = await handle.info()
    assert (info.state, info.attempt, info.failures) == ("failed", 3, 3)


async def test_a_task_with_tries_left_is_delayed_before_the_next(coord: Coordination) -> None:
    @capability
    async def once(text: str, ctx: TaskContext) -> int:
        if ctx.attempt == 1:
            raise ValueError
        return ctx.attempt

    await coord.provide(once)
    handle = await coord.submit(once, "x", retry=RetryPolicy(tries=2, backoff=30, jitter=False))

    async def delayed() -> bool:
        return await state_of(handle) == "delayed"

    await until(delayed)
    info = await handle.info()
    assert "attempt 1 failed" in info.why
    assert 28 < info.ready_at - (info.attempts[0].ended_at or 0) < 31


async def test_retry_after_of_an_exception_is_honoured(coord: Coordination) -> None:
    class Busy(Exception):
        retry_after = 0.15

    @capability
    async def once(text: str, ctx: TaskContext) -> int:
        if ctx.attempt == 1:
            raise Busy
        return ctx.attempt

    await coord.provide(once)
    handle = await coord.submit(once, "x", retry=RetryPolicy(tries=2, backoff=60, jitter=False))
    async with soon():
        assert await handle.result() == 2
    first, second = (await handle.info()).attempts
    assert first.ended_at is not None
    assert second.started_at is not None
    assert second.started_at - first.ended_at >= 0.149


@pytest.mark.parametrize("strange", [-1, float("nan"), "soon", True, 1e300])
async def test_an_absurd_retry_after_is_passed_over(coord: Coordination, strange: Any) -> None:
    class Busy(Exception):
        retry_after = strange

    @capability
    async def once(text: str, ctx: TaskContext) -> int:
        if ctx.attempt == 1:
            raise Busy
        return ctx.attempt

    await coord.provide(once)
    async with soon():
        assert await coord.call(once, "x", retry=AT_ONCE) == 2


async def test_invalid_input_raised_by_a_handler_is_not_tried_again(coord: Coordination) -> None:
    @capability
    async def picky(text: str) -> str:
        raise InvalidInputError("not this")

    await coord.provide(picky)
    with pytest.raises(RemoteError) as caught:
        await coord.call(picky, "x", retry=AT_ONCE)
    assert (caught.value.attempts, caught.value.remote_code) == (1, "invalid_input")


# time


async def test_an_attempts_timeout_is_a_failure_and_is_retried(coord: Coordination) -> None:
    stopped: list[int] = []

    @capability
    async def slow(text: str, ctx: TaskContext) -> int:
        if ctx.attempt == 1:
            try:
                await asyncio.Event().wait()
            finally:
                stopped.append(ctx.attempt)
        return ctx.attempt

    await coord.provide(slow)
    handle = await coord.submit(slow, "x", attempt_timeout=0.05)
    async with soon():
        assert await handle.result() == 2
    info = await handle.info()
    assert [one.end for one in info.attempts] == ["timeout", "succeeded"]
    assert (info.failures, stopped) == (1, [1])


async def test_a_handler_that_never_returns_ends_with_its_tries(coord: Coordination) -> None:
    @capability
    async def forever(text: str) -> str:
        await asyncio.Event().wait()
        return text

    await coord.provide(forever)
    async with soon():
        with pytest.raises(RemoteError, match="did not end within") as caught:
            await coord.call(forever, "x", attempt_timeout=0.03, retry=AT_ONCE)
    assert (caught.value.remote_code, caught.value.attempts) == ("timeout", 3)


async def test_a_deadline_ends_a_running_task_as_expired_and_stops_its_handler(coord: Coordination) -> None:
    hold, gate = held()
    await coord.provide(hold)
    handle = await coord.submit(hold, "a", timeout=0.1)
    async with soon():
        with pytest.raises(TaskExpiredError, match="while it ran"):
            await handle.result()
        await gate.emptied()
    assert await ends_of(handle) == ["expired"]


async def test_a_deadline_ends_a_task_in_any_state(coord: Coordination) -> None:
    hold, gate = held(limit=1)
    await coord.provide(hold)
    first = await coord.submit(hold, "holder", lane="l")
    await gate.saw()
    ready = await coord.submit(hold, "ready", timeout=0.1)
    waiting = await coord.submit(hold, "waiting", lane="l", timeout=0.1)
    assert [await state_of(one) for one in (ready, waiting)] == ["ready", "waiting"]

    @capability
    async def bad(text: str) -> str:
        raise ValueError

    await coord.provide(bad)
    retried = await coord.submit(bad, "x", timeout=0.1, retry=RetryPolicy(tries=9, backoff=60, jitter=False))
    for one in (ready, waiting, retried):
        assert (await ended(one)).state == "expired"
    assert gate.seen == ["holder"]
    gate.release.set()
    assert (await ended(first)).state == "succeeded"


async def test_a_deadline_counts_from_the_moment_a_task_may_start(coord: Coordination) -> None:
    hold, gate = held()
    gate.release.set()
    await coord.provide(hold)
    handle = await coord.submit(hold, "a", delay=0.15, timeout=10)
    info = await handle.info()
    assert info.deadline is not None
    assert info.deadline - info.submitted_at == pytest.approx(10.15, abs=0.001)
    async with soon():
        assert await handle.result() == "a!"


async def test_a_ttl_bounds_the_first_claim_only(coord: Coordination) -> None:
    hold, gate = held(limit=1)
    await coord.provide(hold)
    claimed = await coord.submit(hold, "a", ttl=0.1)
    await gate.saw()
    late = await coord.submit(hold, "b", ttl=0.1)
    async with soon():
        with pytest.raises(TaskExpiredError, match="before anybody began"):
            await late.result()
    assert await state_of(claimed) == "running"
    gate.release.set()
    async with soon():
        assert await claimed.result() == "a!"


async def test_a_retry_may_come_after_the_ttl(coord: Coordination) -> None:
    @capability
    async def once(text: str, ctx: TaskContext) -> int:
        if ctx.attempt == 1:
            raise ValueError
        return ctx.attempt

    await coord.provide(once)
    async with soon():
        assert await coord.call(once, "x", ttl=0.05, retry=RetryPolicy(tries=2, backoff=0.15, jitter=False)) == 2


# handlers that do not stop


class Stubborn:
    """A handler that ignores its cancellation until it is let go."""

    def __init__(self, limit: int | None = None) -> None:
        self.attempts: list[int] = []
        self.go = asyncio.Event()
        self.left: list[int] = []

        @capability("stubborn", max_concurrency=limit)
        async def stubborn(text: str, ctx: TaskContext) -> str:
            self.attempts.append(ctx.attempt)
            if text == "mild":
                return text
            while not self.go.is_set():
                try:
                    await self.go.wait()
                except asyncio.CancelledError:
                    pass
            self.left.append(ctx.attempt)
            return f"late {ctx.attempt}"

        self.capability = stubborn


async def test_a_handler_that_ignores_its_cancellation_is_ended_by_force_after_a_grace(world: World) -> None:
    coord = await world.open(cancel_grace=0.1)
    stubborn = Stubborn()
    await coord.provide(stubborn.capability)
    handle = await coord.submit(stubborn.capability, "a")
    await until(lambda: bool(stubborn.attempts))
    assert await handle.cancel()
    async with soon():
        with pytest.raises(TaskCancelledError):
            await handle.result()
    assert stubborn.left == []
    stubborn.go.set()
    await until(lambda: stubborn.left == [1])
    assert (await handle.info()).state == "cancelled"  # what it said in the end was dropped


async def test_a_stubborn_handler_keeps_its_slot_until_it_really_ends(world: World) -> None:
    coord = await world.open(cancel_grace=0.05)
    stubborn = Stubborn(limit=1)
    await coord.provide(stubborn.capability)
    first = await coord.submit(stubborn.capability, "a")
    await until(lambda: bool(stubborn.attempts))
    second = await coord.submit(stubborn.capability, "mild")
    await first.cancel()
    assert (await ended(first)).state == "cancelled"
    await asyncio.sleep(0.1)
    assert await state_of(second) == "ready"
    stubborn.go.set()
    async with soon():
        assert await second.result() == "mild"


async def test_a_stubborn_attempt_that_timed_out_does_not_disturb_the_next_one(world: World) -> None:
    """Both run at once in this process, under the same task id; only the younger one's answer counts."""
    coord = await world.open(cancel_grace=0.05)
    go, seen, old_left = asyncio.Event(), [], asyncio.Event()

    @capability
    async def odd(text: str, ctx: TaskContext) -> str:
        seen.append(ctx.attempt)
        while not go.is_set():
            try:
                await (go.wait() if ctx.attempt == 1 else asyncio.wait_for(old_left.wait(), 5))
                break
            except asyncio.CancelledError:
                if ctx.attempt > 1:
                    raise
        if ctx.attempt == 1:
            old_left.set()
        return f"from {ctx.attempt}"

    await coord.provide(odd)
    handle = await coord.submit(odd, "x", attempt_timeout=0.5, retry=AT_ONCE)
    await until(lambda: seen == [1, 2])
    go.set()
    async with soon():
        assert await handle.result() == "from 2"
    assert [one.end for one in (await handle.info()).attempts] == ["timeout", "succeeded"]
    async with soon():
        assert await coord.call(odd, "again") == "from 1"  # slots and runner are as before
    async with soon():
        await coord.close()


async def test_a_handler_that_ends_well_in_spite_of_its_cancel_wins(coord: Coordination) -> None:
    """The first terminal write wins."""
    started = asyncio.Event()

    @capability
    async def almost(text: str) -> str:
        try:
            started.set()
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            pass
        return "done"

    await coord.provide(almost)
    handle = await coord.submit(almost, "x")
    await started.wait()
    assert await handle.cancel()
    async with soon():
        assert await handle.result() == "done"
    assert (await handle.info()).state == "succeeded"


# cancel


async def test_a_queued_task_is_cancelled_at_once_and_never_runs(coord: Coordination) -> None:
    hold, gate = held(limit=1)
    await coord.provide(hold)
    await coord.submit(hold, "first", lane="l")
    await gate.saw()
    ready, waiting = await coord.submit(hold, "ready"), await coord.submit(hold, "waiting", lane="l")
    delayed = await coord.submit(hold, "delayed", delay=3600)
    for one in (ready, waiting, delayed):
        assert await one.cancel()
        assert (await one.info()).state == "cancelled"
    gate.release.set()
    assert await coord.call(hold, "last", lane="l") == "last!"
    assert gate.seen == ["first", "last"]


async def test_a_running_task_is_stopped_by_a_cancel(coord: Coordination) -> None:
    told = asyncio.Event()
    started = asyncio.Event()

    @capability
    async def polite(text: str, ctx: TaskContext) -> str:
        started.set()
        try:
            await ctx.cancelled.wait()
        finally:
            if ctx.cancelled.is_set():
                told.set()
        return text

    await coord.provide(polite)
    handle = await coord.submit(polite, "x")
    await started.wait()
    assert await coord.cancel(handle.id)
    async with soon():
        await told.wait()
    info = await ended(handle)
    assert [one.end for one in info.attempts] in (["cancelled"], ["succeeded"])


async def test_a_cancel_reaches_a_handler_in_another_process(world: World) -> None:
    worker, client = await world.open(), await world.open()
    hold, gate = held()
    await worker.provide(hold)
    handle = await client.submit(hold, "a")
    await gate.saw()
    assert await handle.cancel()
    async with soon():
        await gate.emptied()
        with pytest.raises(TaskCancelledError):
            await handle.result()


async def test_after_its_end_a_task_cannot_be_cancelled(coord: Coordination) -> None:
    hold, gate = held()
    gate.release.set()
    await coord.provide(hold)
    handle = await coord.submit(hold, "a")
    await handle.result()
    assert await handle.cancel() is False
    assert await coord.cancel(handle.id) is False
    assert (await handle.info()).state == "succeeded"


async def test_cancelling_twice_asks_once(coord: Coordination) -> None:
    hold, gate = held()
    await coord.provide(hold)
    handle = await coord.submit(hold, "a")
    await gate.saw()
    assert list(await asyncio.gather(handle.cancel(), handle.cancel())) == [True, True]
    await ended(handle)
    asked = [one async for one in coord.events(0, kinds=["task.cancelling"], follow=False)]
    assert [one.subject for one in asked] == [handle.id]


async def test_a_failure_under_cancel_is_not_retried(coord: Coordination) -> None:
    started = asyncio.Event()

    @capability
    async def sore(text: str) -> str:
        started.set()
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            raise ValueError("while it was stopped") from None
        return text

    await coord.provide(sore)
    handle = await coord.submit(sore, "x")
    await started.wait()
    await handle.cancel()
    assert [one.end for one in (await ended(handle)).attempts] == ["cancelled"]


# reject


async def test_a_rejected_task_goes_to_another_provider(world: World) -> None:
    picky, willing, client = await world.open(), await world.open(), await world.open()
    refused: list[str] = []

    @capability("work")
    async def refuse(text: str) -> str:
        refused.append(text)
        raise RejectedError("not me")

    @capability("work")
    async def accept(text: str) -> str:
        return "done"

    await picky.provide(refuse)
    handle = await client.submit("work", "x", returns=str)
    await until(lambda: refused == ["x"])
    own = await willing.provide(accept)
    again = await client.submit("work", "y", returns=str, provider=None)
    async with soon():
        assert await again.result() == "done"
    info = await again.info()
    assert (info.failures, info.crashes) == (0, 0)
    if "y" in refused:  # the picky one saw it first
        assert [(one.end, one.provider == own) for one in info.attempts] == [("rejected", False), ("succeeded", True)]
    assert (await handle.info()).state in ("delayed", "ready", "running", "succeeded")


async def test_a_rejecting_provider_is_passed_over_for_its_pause(world: World) -> None:
    coord = await world.open(reject_pause=0.2)
    seen: list[float] = []
    loop = asyncio.get_running_loop()

    @capability
    async def moody(text: str) -> str:
        seen.append(loop.time())
        if len(seen) == 1:
            raise RejectedError("later")
        return text

    await coord.provide(moody)
    handle = await coord.submit(moody, "x", retry=RetryPolicy(tries=1))
    async with soon():
        assert await handle.result() == "x"
    assert seen[1] - seen[0] >= 0.19
    info = await handle.info()
    assert [one.end for one in info.attempts] == ["rejected", "succeeded"]
    assert (info.failures, info.attempt) == (0, 2)


async def test_a_task_that_is_always_rejected_ends_with_its_deadline(world: World) -> None:
    coord = await world.open(reject_pause=0.01)

    @capability
    async def moody(text: str) -> str:
        raise RejectedError("not today")

    await coord.provide(moody)
    async with soon():
        with pytest.raises(TaskExpiredError):
            await coord.call(moody, "x", timeout=0.15)


# progress


async def test_progress_is_visible_while_a_task_runs(world: World) -> None:
    worker, client = await world.open(), await world.open()
    half, go = asyncio.Event(), asyncio.Event()

    @capability
    async def walk(text: str, ctx: TaskContext) -> str:
        await ctx.progress(0.5, "half way")
        half.set()
        await go.wait()
        return text

    await worker.provide(walk)
    handle = await client.submit(walk, "x")
    await half.wait()
    assert (await handle.info()).progress == {"fraction": 0.5, "note": "half way"}
    events = [one async for one in client.events(0, kinds=["task.progressed"], follow=False)]
    assert [(one.subject, one.data) for one in events] == [(handle.id, {"fraction": 0.5, "note": "half way"})]
    go.set()
    async with soon():
        await handle.result()


@pytest.mark.parametrize("fraction", [-0.1, 1.1, float("nan")])
async def test_absurd_progress_is_refused(coord: Coordination, fraction: float) -> None:
    @capability
    async def walk(text: str, ctx: TaskContext) -> str:
        with pytest.raises(InvalidInputError):
            await ctx.progress(fraction)
        return text

    await coord.provide(walk)
    assert await coord.call(walk, "x") == "x"


async def test_an_attempt_that_lost_its_claim_can_report_nothing(world: World) -> None:
    coord = await world.open(cancel_grace=0.05)
    told: list[type[BaseException]] = []
    lost = asyncio.Event()

    @capability
    async def walk(text: str, ctx: TaskContext) -> str:
        while not lost.is_set():
            try:
                await lost.wait()
            except asyncio.CancelledError:
                pass
        for attempt in (ctx.progress(0.5), ctx.call(walk, "child")):
            try:
                await attempt
            except StaleClaimError as error:
                told.append(type(error))
        return text

    await coord.provide(walk)
    handle = await coord.submit(walk, "x")
    await until(lambda: coord._parts is not None and len(coord._parts.runner) == 1)
    await handle.cancel()
    assert (await ended(handle)).state == "cancelled"
    lost.set()
    await until(lambda: len(told) == 2)
