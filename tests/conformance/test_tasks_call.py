"""A task's way as its caller sees it: values, errors, keys, sizes, and all that is refused before it is stored."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, TypeVar

import pytest
from pydantic import BaseModel, Field

from autogen_coord import (
    CallTimeoutError,
    ClosedError,
    ConfigError,
    Coordination,
    DuplicateTaskError,
    InvalidInputError,
    NoProviderError,
    NotFoundError,
    PayloadTooLargeError,
    RemoteError,
    RetryPolicy,
    TaskCancelledError,
    TaskContext,
    TaskError,
    TaskExpiredError,
    capability,
)
from autogen_coord.core.store import Range
from autogen_coord.core.tables import BLOB, TASK
from tests.conftest import World, ended, held, process_of, soon, state_of

T = TypeVar("T")


class Article(BaseModel):
    title: str = Field(min_length=1)
    words: int = 0


@dataclass
class Place:
    city: str


@capability
async def shorten(text: str) -> str:
    return text[:3]


@capability
async def summarize(article: Article, ctx: TaskContext) -> Article:
    return Article(title=article.title.upper(), words=ctx.attempt)


@capability
async def explode(text: str) -> str:
    raise ValueError(f"cannot {text}")


async def stored(coord: Coordination) -> int:
    """How many tasks the store holds."""
    (rows,) = await process_of(coord).store.read(Range(TASK, "key"))
    return len(rows)


# values


async def test_a_call_returns_what_the_handler_returned(coord: Coordination) -> None:
    await coord.provide(shorten)
    assert await coord.call(shorten, "abcdef") == "abc"


async def test_models_go_in_and_come_out_as_models(coord: Coordination) -> None:
    await coord.provide(summarize)
    assert await coord.call(summarize, Article(title="ants")) == Article(title="ANTS", words=1)


async def test_a_call_by_name_takes_plain_values_and_returns_the_wanted_type(coord: Coordination) -> None:
    await coord.provide(summarize)
    assert await coord.call("summarize", {"title": "ants"}) == {"title": "ANTS", "words": 1}
    assert await coord.call("summarize", Article(title="ants"), returns=Article) == Article(title="ANTS", words=1)


async def test_a_result_that_is_not_what_the_caller_named_is_told(coord: Coordination) -> None:
    await coord.provide(shorten)
    with pytest.raises(InvalidInputError, match="not a"):
        await coord.call("shorten", "abc", returns=int)


async def test_the_context_may_stand_before_the_input(coord: Coordination) -> None:
    @capability
    async def backwards(ctx: TaskContext, text: str) -> str:
        return f"{text}{ctx.attempt}"

    await coord.provide(backwards)
    assert await coord.call(backwards, "a") == "a1"


async def test_a_context_tells_its_task(coord: Coordination) -> None:
    told: list[Any] = []

    @capability
    async def tell(text: str, ctx: TaskContext) -> str:
        told.extend((ctx.task_id, ctx.attempt, ctx.deadline, ctx.idempotency_key, ctx.cancelled.is_set()))
        ctx.log.info("running")
        if ctx.attempt == 1:
            raise ValueError("once more")
        return text

    await coord.provide(tell)
    handle = await coord.submit(tell, "x", timeout=50)
    await handle.result()
    info = await handle.info()
    first, second = told[:5], told[5:]
    assert first == [handle.id, 1, info.deadline, first[3], False]
    assert second == [handle.id, 2, info.deadline, first[3], False]
    assert info.deadline is not None


async def test_a_handler_called_directly_is_just_a_function() -> None:
    assert await shorten("abcdef") == "abc"


async def test_any_text_survives_the_journey(coord: Coordination) -> None:
    @capability
    async def echo(text: str) -> str:
        return text

    await coord.provide(echo)
    for text in ("", "\0", "é😀", "\ud800 alone", "\\ud800", '"quoted"\n'):
        assert await coord.call(echo, text) == text


async def test_versions_of_a_capability_are_apart(coord: Coordination) -> None:
    @capability("shorten", version="2")
    async def shorter(text: str) -> str:
        return text[:1]

    await coord.provide(shorten)
    await coord.provide(shorter)
    assert await coord.call("shorten", "abcdef") == "abc"
    assert await coord.call("shorten:2", "abcdef") == "a"
    assert await coord.call(shorter, "abcdef") == "a"


async def test_namespaces_do_not_share_tasks_or_capabilities(world: World) -> None:
    one, other = await world.open("one"), await world.open("other")
    await one.provide(shorten)
    handle = await one.submit(shorten, "abc")
    assert await handle.result() == "abc"
    with pytest.raises(NoProviderError):
        await other.submit("shorten", "abc")
    with pytest.raises(NotFoundError):
        await other.task(handle.id)


async def test_a_task_submitted_here_runs_in_another_process(world: World) -> None:
    worker, client = await world.open(), await world.open()
    await worker.provide(shorten)
    async with soon():
        assert await client.call(shorten, "abcdef") == "abc"
    handle = await client.submit("shorten", "xyz")
    async with soon():
        assert await handle.result() == "xyz"
    assert (await handle.info()).attempts[0].session == worker.session


# the errors of a call


async def test_what_a_handler_raises_is_a_remote_error_also_in_process(coord: Coordination) -> None:
    await coord.provide(explode)
    with pytest.raises(RemoteError) as caught:
        await coord.call(explode, "fly", retry=RetryPolicy(tries=1))
    error = caught.value
    assert isinstance(error, TaskError)
    assert (error.type, error.text) == ("ValueError", "cannot fly")
    assert "explode" in error.traceback
    assert (await coord.task(error.task_id)).state == "failed"


async def test_call_and_result_raise_the_same_error_of_a_task(coord: Coordination) -> None:
    await coord.provide(explode)
    handle = await coord.submit(explode, "fly", retry=RetryPolicy(tries=1), key="k")
    for waiting in (handle.result(), coord.call(explode, "fly", key="k"), coord.handle(handle.id, str).result()):
        with pytest.raises(RemoteError) as caught:
            await waiting
        assert caught.value.task_id == handle.id


async def test_a_cancelled_task_is_a_cancelled_error(coord: Coordination) -> None:
    hold, gate = held()
    await coord.provide(hold)
    handle = await coord.submit(hold, "a")
    await gate.saw()
    assert await handle.cancel()
    async with soon():
        with pytest.raises(TaskCancelledError) as caught:
            await handle.result()
    assert caught.value.task_id == handle.id


async def test_an_error_that_cannot_be_shown_is_told_all_the_same(coord: Coordination) -> None:
    class Odd(Exception):
        def __str__(self) -> str:
            raise RuntimeError("no text")

    @capability
    async def odd(text: str) -> str:
        raise Odd

    await coord.provide(odd)
    async with soon():
        with pytest.raises(RemoteError) as caught:
            await coord.call(odd, "x", retry=RetryPolicy(tries=1))
    assert caught.value.type.endswith("Odd")


async def test_a_huge_error_is_cut(coord: Coordination) -> None:
    @capability
    async def shout(text: str) -> str:
        raise ValueError("\ud800" + "a" * 10_000_000)

    await coord.provide(shout)
    async with soon():
        with pytest.raises(RemoteError) as caught:
            await coord.call(shout, "x", retry=RetryPolicy(tries=1))
    assert len(caught.value.text) < 20_000
    assert len(caught.value.traceback) < 20_000


async def test_a_handler_that_exits_or_cancels_itself_only_fails_its_attempt(coord: Coordination) -> None:
    @capability
    async def leave(text: str) -> str:
        if text == "exit":
            raise SystemExit(3)
        raise asyncio.CancelledError

    await coord.provide(leave)
    for text, type in (("exit", "SystemExit"), ("cancel", "CancelledError")):
        async with soon():
            with pytest.raises(RemoteError) as caught:
                await coord.call(leave, text, retry=RetryPolicy(tries=1))
        assert caught.value.type == type


# how long one waits


async def test_the_timeout_of_a_call_is_its_tasks_deadline(coord: Coordination) -> None:
    hold, gate = held()
    await coord.provide(hold)
    async with soon():
        with pytest.raises(TaskExpiredError) as caught:
            await coord.call(hold, "a", timeout=0.1)
    assert (await coord.task(caught.value.task_id)).state == "expired"
    await gate.emptied()


async def test_the_timeout_of_a_result_ends_only_the_wait(coord: Coordination) -> None:
    hold, gate = held()
    await coord.provide(hold)
    handle = await coord.submit(hold, "a")
    await gate.saw()
    with pytest.raises(CallTimeoutError) as caught:
        await handle.result(timeout=0.02)
    assert caught.value.task_id == handle.id
    assert await state_of(handle) == "running"
    gate.release.set()
    async with soon():
        assert await handle.result(timeout=5) == "a!"


@pytest.mark.parametrize("timeout", [math.nan, -1.0, 1e300, "1"])
async def test_an_absurd_timeout_of_a_result_is_refused(coord: Coordination, timeout: Any) -> None:
    hold, gate = held()
    await coord.provide(hold)
    handle = await coord.submit(hold, "a")
    async with soon():
        with pytest.raises(InvalidInputError):
            await handle.result(timeout=timeout)
    gate.release.set()


async def test_cancelling_the_caller_cancels_its_task(coord: Coordination) -> None:
    hold, gate = held()
    await coord.provide(hold)
    caller = asyncio.create_task(coord.call(hold, "a"))
    await gate.saw()
    caller.cancel()
    with pytest.raises(asyncio.CancelledError):
        await caller
    await gate.emptied()
    async with soon():
        async for event in coord.events(0, kinds=["task.cancelled"]):
            assert (await coord.task(event.subject)).state == "cancelled"
            break


async def test_a_keyed_task_is_not_cancelled_with_one_of_its_callers(coord: Coordination) -> None:
    hold, gate = held()
    await coord.provide(hold)
    caller = asyncio.create_task(coord.call(hold, "a", key="k"))
    await gate.saw()
    caller.cancel()
    with pytest.raises(asyncio.CancelledError):
        await caller
    gate.release.set()
    async with soon():
        assert await coord.call(hold, "a", key="k") == "a!"
    assert gate.seen == ["a"]


# keys


async def test_the_same_key_and_input_is_the_same_task(coord: Coordination) -> None:
    hold, gate = held()
    await coord.provide(hold)
    first = await coord.submit(hold, "a", key="k")
    again = await coord.submit(hold, "a", key="k")
    assert again.id == first.id
    gate.release.set()
    async with soon():
        assert await first.result() == "a!"
        assert await coord.call(hold, "a", key="k") == "a!"
        assert (await coord.submit(hold, "a", key="k")).id == first.id
    assert gate.seen == ["a"]


async def test_a_key_with_another_input_is_a_duplicate(coord: Coordination) -> None:
    await coord.provide(shorten)
    first = await coord.submit(shorten, "a", key="k")
    with pytest.raises(DuplicateTaskError) as caught:
        await coord.submit(shorten, "b", key="k")
    assert (caught.value.task_id, caught.value.key) == (first.id, "k")
    with pytest.raises(DuplicateTaskError):
        await coord.call(shorten, "b", key="k")


async def test_the_order_of_fields_does_not_make_another_input(coord: Coordination) -> None:
    @capability
    async def count(words: dict[str, int]) -> int:
        return len(words)

    await coord.provide(count)
    first = await coord.submit(count, {"a": 1, "b": 2}, key="k")
    assert (await coord.submit(count, {"b": 2, "a": 1}, key="k")).id == first.id


async def test_a_keys_scope_is_its_capability(coord: Coordination) -> None:
    hold, gate = held()
    await coord.provide(hold)
    await coord.provide(shorten)
    one, other = await coord.submit(hold, "a", key="k"), await coord.submit(shorten, "b", key="k")
    assert one.id != other.id
    gate.release.set()


async def test_many_at_once_with_one_key_are_one_task(world: World) -> None:
    one, other = await world.open(), await world.open()
    hold, gate = held()
    await one.provide(hold)
    gate.release.set()
    async with soon():
        answers = await asyncio.gather(*(coord.call(hold, "a", key="k") for coord in (one, other) for _ in range(20)))
    assert answers == ["a!"] * 40
    assert gate.seen == ["a"]


async def test_after_a_failure_a_key_returns_that_failure(coord: Coordination) -> None:
    await coord.provide(explode)
    handle = await coord.submit(explode, "fly", key="k", retry=RetryPolicy(tries=1))
    await ended(handle)
    with pytest.raises(RemoteError) as caught:
        await coord.call(explode, "fly", key="k")
    assert caught.value.task_id == handle.id


async def test_retry_failed_makes_a_new_task_of_a_failed_key_only(coord: Coordination) -> None:
    fails = [True]

    @capability
    async def sometimes(text: str) -> str:
        if fails[0]:
            raise ValueError("not yet")
        return text

    await coord.provide(sometimes)
    first = await coord.submit(sometimes, "a", key="k", retry=RetryPolicy(tries=1))
    await ended(first)
    fails[0] = False
    second = await coord.submit(sometimes, "a", key="k", retry_failed=True)
    assert second.id != first.id
    async with soon():
        assert await second.result() == "a"
    third = await coord.submit(sometimes, "a", key="k", retry_failed=True)
    assert third.id == second.id


# nobody there


async def test_a_capability_never_seen_is_told_with_near_names_and_no_row(coord: Coordination) -> None:
    await coord.provide(summarize)
    for ask in (coord.call("sumarize", {}), coord.submit("sumarize", {})):
        with pytest.raises(NoProviderError, match="did you mean summarize") as caught:
            await ask
        assert caught.value.near == ["summarize"]
    with pytest.raises(NoProviderError):
        await coord.call(shorten, "a")  # a reference, but announced by nobody
    assert await stored(coord) == 0


async def test_a_submit_waits_for_a_known_capability_without_a_provider(coord: Coordination) -> None:
    await coord.provide(shorten)
    await coord.withdraw(shorten)
    handle = await coord.submit(shorten, "abcdef")
    info = await handle.info()
    assert info.state == "ready"
    assert "no provider" in info.why
    await coord.provide(shorten)
    async with soon():
        assert await handle.result() == "abc"


async def test_a_submit_without_a_provider_expires_with_its_ttl(coord: Coordination) -> None:
    await coord.provide(shorten)
    await coord.withdraw(shorten)
    handle = await coord.submit(shorten, "abcdef", ttl=0.05)
    async with soon():
        with pytest.raises(TaskExpiredError):
            await handle.result()


async def test_a_call_without_a_provider_ends_and_cancels_its_task(world: World) -> None:
    coord = await world.open(no_provider_wait=0.1)
    await coord.provide(shorten)
    await coord.withdraw(shorten)
    async with soon():
        with pytest.raises(NoProviderError) as caught:
            await coord.call(shorten, "abcdef")
    assert caught.value.capability == "shorten"
    (rows,) = await process_of(coord).store.read(Range(TASK, "key"))
    (task,) = rows
    assert (await ended(coord.handle(task.id, str))).state == "cancelled"


async def test_a_call_goes_on_while_a_busy_provider_lives(world: World) -> None:
    coord = await world.open(no_provider_wait=0.1)
    hold, gate = held(limit=1)
    await coord.provide(hold)
    first, second = asyncio.create_task(coord.call(hold, "a")), asyncio.create_task(coord.call(hold, "b"))
    await gate.saw()
    await asyncio.sleep(0.4)
    assert not first.done()
    assert not second.done()
    gate.release.set()
    async with soon():
        assert (await first, await second) == ("a!", "b!")


async def test_a_task_for_a_provider_that_is_not_there_is_refused(coord: Coordination) -> None:
    await coord.provide(shorten)
    with pytest.raises(NoProviderError, match="not online"):
        await coord.submit(shorten, "a", provider="pnone")


async def test_an_addressed_task_goes_to_its_provider(world: World) -> None:
    one, other = await world.open(), await world.open()
    await one.provide(shorten)
    to = await other.provide(shorten)
    handles = [await one.submit(shorten, "abc", provider=to) for _ in range(5)]
    for handle in handles:
        assert (await ended(handle)).attempts[0].provider == to


async def test_an_addressed_task_ends_when_its_provider_leaves(world: World) -> None:
    one, other = await world.open(), await world.open()
    hold, gate = held(limit=1)
    to = await other.provide(hold)
    running, waiting = await one.submit(hold, "a", provider=to), await one.submit(hold, "b", provider=to)
    await gate.saw()
    await other.withdraw(hold)
    async with soon():
        with pytest.raises(NoProviderError, match="gone"):
            await waiting.result()
    gate.release.set()
    async with soon():
        assert await running.result() == "a!"


# refused before it is stored


@pytest.mark.parametrize(
    ("input", "what"),
    [({"title": ""}, "title"), ({}, "title"), ({"title": "a", "words": "x"}, "words"), (3, "input of summarize")],
)
async def test_input_that_fails_its_schema_is_refused_and_not_stored(coord: Coordination, input: Any, what: str) -> None:
    await coord.provide(summarize)
    ways: list[Callable[[], Awaitable[Any]]] = [
        lambda: coord.call(summarize, input),
        lambda: coord.submit(summarize, input),
        lambda: coord.submit("summarize", input),
        lambda: coord.submit_many(summarize, [Article(title="ok"), input]),
    ]
    for ask in ways:
        with pytest.raises(InvalidInputError, match=what):
            await ask()
    assert await stored(coord) == 0


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
async def test_a_number_that_is_none_is_refused(coord: Coordination, value: float) -> None:
    @capability
    async def root(number: float) -> float:
        return number

    await coord.provide(root)
    for ask in (lambda: coord.call(root, value), lambda: coord.submit("root", value)):
        with pytest.raises(InvalidInputError):
            await ask()
    assert await stored(coord) == 0


@pytest.mark.parametrize("value", [object(), {1, 2}, lambda: 0, b"\xff"])
async def test_a_value_without_a_json_form_is_refused(coord: Coordination, value: Any) -> None:
    await coord.provide(shorten)
    for ask in (lambda: coord.call(shorten, value), lambda: coord.call("shorten", value)):
        with pytest.raises(InvalidInputError):
            await ask()
    assert await stored(coord) == 0


async def test_a_value_that_holds_itself_is_refused(coord: Coordination) -> None:
    @capability
    async def count(values: list[object]) -> int:
        return len(values)

    await coord.provide(count)
    loop: list[object] = []
    loop.append(loop)
    for ask in (lambda: coord.call(count, loop), lambda: coord.call("count", loop)):
        with pytest.raises(InvalidInputError):
            await ask()


async def test_an_oversized_input_is_refused_with_the_facts(world: World) -> None:
    coord = await world.open(max_input=1_000)
    await coord.provide(shorten)
    assert await coord.call(shorten, "a" * 998) == "aaa"
    for ask in (lambda: coord.call(shorten, "a" * 999), lambda: coord.submit("shorten", "a" * 999)):
        with pytest.raises(PayloadTooLargeError) as caught:
            await ask()
        assert (caught.value.size, caught.value.limit) == (1_001, 1_000)
    assert await stored(coord) == 1


@pytest.mark.parametrize("name", ["key", "lane", "sticky", "provider"])
@pytest.mark.parametrize("value", ["", "a\0b", "\ud800", "x" * 501, 7, b"k"])
async def test_a_bad_key_or_name_is_refused(coord: Coordination, name: str, value: Any) -> None:
    await coord.provide(shorten)
    options: Any = {name: value}
    with pytest.raises(InvalidInputError, match=name):
        await coord.submit(shorten, "a", **options)
    assert await stored(coord) == 0


@pytest.mark.parametrize("label", ["", "a\0b", "\ud800", "x" * 501])
async def test_a_bad_capability_name_is_refused(coord: Coordination, label: str) -> None:
    await coord.provide(shorten)
    for ask in (coord.call(label, "a"), coord.submit(label, "a")):
        with pytest.raises((InvalidInputError, NoProviderError)):
            await ask


@pytest.mark.parametrize(
    "options",
    [
        {"delay": -1}, {"delay": math.nan}, {"delay": "1"}, {"delay": 1e12}, {"ttl": 0}, {"ttl": -3}, {"ttl": math.inf},
        {"timeout": 0}, {"timeout": -1}, {"timeout": math.nan}, {"timeout": True}, {"attempt_timeout": 0},
        {"attempt_timeout": 1e300}, {"at": -5}, {"at": math.nan}, {"at": math.inf}, {"at": 1.7e12}, {"at": "tomorrow"},
        {"at": datetime(2030, 1, 1)}, {"priority": -1}, {"priority": 11}, {"priority": math.nan}, {"priority": "high"},
        {"retry": 3}, {"lane": "a", "sticky": "b"}, {"lane": "a>>b"}, {"tiemout": 3},
    ],
    ids=str,
)  # fmt: skip
async def test_an_absurd_option_is_refused_and_not_stored(coord: Coordination, options: Any) -> None:
    await coord.provide(shorten)
    with pytest.raises(InvalidInputError, match=next(iter(options))):
        await coord.submit(shorten, "a", **options)
    assert await stored(coord) == 0


async def test_a_moment_long_past_starts_at_once(coord: Coordination) -> None:
    await coord.provide(shorten)
    async with soon():
        assert await coord.call(shorten, "abcdef", at=5.0) == "abc"
        assert await coord.call(shorten, "abcdef", at=datetime.now(UTC) - timedelta(days=3), timeout=30) == "abc"


# refused when it is provided


def no_annotation(text) -> str:  # type: ignore[no-untyped-def]
    return ""


async def test_annotations_that_say_nothing_are_refused_by_name(coord: Coordination) -> None:
    wrap: Any = capability

    async def bare(text):  # type: ignore[no-untyped-def]
        return text

    async def no_return(text: str):  # type: ignore[no-untyped-def]
        return text

    async def anything(text: Any) -> str:
        return ""

    async def gives_anything(text: str) -> Any:
        return ""

    async def variable(text: T) -> str:
        return ""

    async def unknown(text: Nowhere) -> str:  # type: ignore[name-defined]  # noqa: F821
        return ""

    async def two(one: str, other: str) -> str:
        return ""

    async def none() -> str:
        return ""

    async def many(*texts: str) -> str:
        return ""

    for function, what in (
        (bare, "text"), (no_return, "return"), (anything, "Any"), (gives_anything, "Any"), (variable, "T"), (unknown, "Nowhere"),
        (two, "one, other"), (none, "none"), (many, "texts"),
    ):  # fmt: skip
        with pytest.raises(InvalidInputError, match=what) as caught:
            await coord.provide(wrap(function))
        assert function.__name__ in str(caught.value)


async def test_a_plain_def_cannot_be_a_capability() -> None:
    wrap: Any = capability
    with pytest.raises(InvalidInputError, match="async def"):
        wrap(no_annotation)


@pytest.mark.parametrize("name", ["", "a b", "a@b", "a!b", "a:b", "ä", "1a", "a\0", "\ud800", "x" * 201, 7])
def test_a_bad_name_of_a_capability_is_refused(name: Any) -> None:
    async def work(text: str) -> str:
        return text

    if name == "":
        name = "-"
    with pytest.raises(InvalidInputError, match="name"):
        capability(name)(work)


@pytest.mark.parametrize("limit", [0, -1, True, 1.5, "3", 10**9])
def test_a_bad_bound_of_a_capability_is_refused(limit: Any) -> None:
    async def work(text: str) -> str:
        return text

    with pytest.raises(InvalidInputError, match="max_concurrency"):
        capability("work", max_concurrency=limit)(work)


@pytest.mark.parametrize("limit", [0, -1, True, 1.5, "3"])
async def test_a_bad_bound_of_a_provider_is_refused(coord: Coordination, limit: Any) -> None:
    with pytest.raises(InvalidInputError, match="max_concurrency"):
        await coord.provide(shorten, max_concurrency=limit)


async def test_what_is_no_capability_cannot_be_provided_or_called(coord: Coordination) -> None:
    asks: Any = coord
    with pytest.raises(InvalidInputError, match="capability"):
        await asks.provide(no_annotation)
    with pytest.raises(InvalidInputError, match="capability"):
        await asks.call(no_annotation, "a")
    with pytest.raises(NotFoundError):
        await coord.withdraw("shorten")


async def test_a_process_provides_a_capability_once(coord: Coordination) -> None:
    await coord.provide(shorten)
    with pytest.raises(ConfigError, match="already"):
        await coord.provide(shorten)


async def test_another_form_under_the_same_name_and_version_is_refused(world: World) -> None:
    one, other = await world.open(), await world.open()

    @capability("shorten")
    async def shorten_numbers(number: int) -> int:
        return number

    await one.provide(shorten)
    with pytest.raises(ConfigError, match="version"):
        await other.provide(shorten_numbers)
    await one.withdraw(shorten)
    await other.provide(shorten_numbers)
    assert await one.call("shorten", 7) == 7


# refused after it ran


async def test_output_that_fails_its_schema_fails_the_attempt_and_is_retried(coord: Coordination) -> None:
    @capability
    async def sloppy(text: str, ctx: TaskContext) -> Article:
        return Article(title="fine") if ctx.attempt == 3 else Article.model_construct(title="", words=0)

    await coord.provide(sloppy)
    handle = await coord.submit(sloppy, "a")
    async with soon():
        assert await handle.result() == Article(title="fine")
    assert [attempt.end for attempt in (await handle.info()).attempts] == ["failed", "failed", "succeeded"]


@pytest.mark.parametrize("value", [object(), math.nan, {1: object()}])
async def test_output_without_a_json_form_fails_the_attempt(coord: Coordination, value: Any) -> None:
    @capability
    async def odd(text: str) -> dict[str, object]:
        return {"value": value}

    await coord.provide(odd)
    async with soon():
        with pytest.raises(RemoteError) as caught:
            await coord.call(odd, "a", retry=RetryPolicy(tries=1))
    assert caught.value.remote_code == "invalid_output"


async def test_an_oversized_output_fails_the_task_at_once(world: World) -> None:
    coord = await world.open(max_output=1_000)

    @capability
    async def grow(size: int) -> str:
        return "a" * size

    await coord.provide(grow)
    assert len(await coord.call(grow, 998)) == 998
    async with soon():
        with pytest.raises(RemoteError) as caught:
            await coord.call(grow, 999)
    assert (caught.value.remote_code, caught.value.attempts) == ("payload_too_large", 1)


# large bodies


async def test_large_bodies_are_kept_once_beside_their_rows(coord: Coordination) -> None:
    @capability
    async def double(text: str) -> str:
        return text + text

    await coord.provide(double)
    big = "b" * 20_000
    async with soon():
        assert await asyncio.gather(*(coord.call(double, big) for _ in range(3))) == [big + big] * 3
        handle = await coord.submit(double, big, key="k")
        assert await handle.result() == big + big
        assert await coord.call(double, big, key="k") == big + big
    store = process_of(coord).store
    blobs, rows = await store.read(Range(BLOB, "key"), Range(TASK, "key"))
    assert sorted((len(blob.body), blob.refs) for blob in blobs) == [(20_002, 4), (40_002, 4)]
    assert {row.input for row in rows} == {None}


# after the end


async def test_a_closed_coordination_says_so(world: World) -> None:
    coord = await world.open()
    await coord.provide(shorten)
    handle = await coord.submit(shorten, "a")
    await handle.result()
    await coord.close()
    await coord.close()
    for ask in (
        lambda: coord.call(shorten, "a"), lambda: coord.submit(shorten, "a"), lambda: coord.cancel(handle.id),
        lambda: coord.task(handle.id), lambda: coord.provide(shorten), lambda: handle.result(), lambda: coord.requeue(handle.id),
        lambda: anext(coord.events()), lambda: coord.broadcast(shorten, "a"), lambda: coord.submit_many(shorten, ["a"]),
    ):  # fmt: skip
        async with soon():
            with pytest.raises(ClosedError):
                await ask()


async def test_before_it_is_entered_a_coordination_is_not_open(world: World) -> None:
    coord = Coordination.open(world.url)
    with pytest.raises(ClosedError, match="async with"):
        await coord.submit(shorten, "a")


async def test_who_waits_while_it_is_closed_is_told(world: World) -> None:
    coord, worker = await world.open(), await world.open()
    hold, gate = held()
    await worker.provide(hold)
    waiting = asyncio.create_task(coord.call(hold, "a"))
    await gate.saw()
    listening = asyncio.ensure_future(anext(coord.events(kinds=["none"])))
    await asyncio.sleep(0.02)
    await coord.close()
    async with soon():
        with pytest.raises(ClosedError):
            await waiting
        with pytest.raises((ClosedError, StopAsyncIteration)):
            await listening
    gate.release.set()


async def test_a_task_nobody_stored_is_not_found(coord: Coordination) -> None:
    for ask in (coord.task("none"), coord.cancel("none"), coord.requeue("none")):
        with pytest.raises(NotFoundError):
            await ask
    async with soon():
        with pytest.raises(NotFoundError):
            await coord.handle("none", str).result()


async def test_a_coordination_of_another_loop_is_refused_and_nobody_waits(coord: Coordination) -> None:
    @capability
    async def echo(text: str) -> str:
        return text

    await coord.provide(echo)

    def elsewhere() -> None:
        asyncio.run(coord.call(echo, "x"))

    async with soon():
        with pytest.raises(ConfigError, match="another event loop"):
            await asyncio.to_thread(elsewhere)
