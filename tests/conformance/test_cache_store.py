"""`CoordCacheStore` and ``coord.state.blocking``: what cannot await reads and writes all the same, and never waits for the loop."""

from __future__ import annotations

import asyncio
import json
import threading
from typing import Any

import pytest
from autogen_core import CacheStore, FunctionCall
from autogen_core.models import CreateResult, ModelInfo, RequestUsage, UserMessage
from autogen_ext.models.cache import CHAT_CACHE_VALUE_TYPE, ChatCompletionCache
from autogen_ext.models.replay import ReplayChatCompletionClient

from autogen_coord import (
    ClosedError,
    ConfigError,
    Coordination,
    FencedError,
    InvalidInputError,
    PayloadTooLargeError,
    StoreUnavailableError,
)
from autogen_coord.core.store import Keys
from autogen_coord.core.tables import DOCUMENT
from autogen_coord.teams import CoordCacheStore
from tests.conformance.stores import Place
from tests.conftest import Fault, World, soon

ASKED = [UserMessage(content="who?", source="ann")]
VALUES: list[Any] = [0, "", "text", None, [1, [2]], {"a": {"b": None}}, True, 1.5]


# documents, without await


async def test_what_is_put_without_awaiting_is_a_document_like_any_other(world: World) -> None:
    coord, other = await world.open(), await world.open()
    written = coord.state.blocking.put("a/b", {"x": 1})
    assert written == await coord.state.get("a/b") == await other.state.get("a/b") == other.state.blocking.get("a/b")
    assert (written.version, written.actor) == (1, coord.session)
    await coord.state.put("a/b", 2)
    assert coord.state.blocking.put("a/b", 3).version == 3
    await coord.state.delete("a/b")
    assert coord.state.blocking.get("a/b") is None
    assert coord.state.blocking.get("never") is None


async def test_large_values_are_read_without_awaiting(world: World) -> None:
    coord = await world.open(blob_from=10)
    coord.state.blocking.put("a", "x" * 100)
    found = coord.state.blocking.get("a")
    assert found is not None
    assert found.value == "x" * 100


async def test_what_is_put_without_awaiting_is_watched(coord: Coordination) -> None:
    changes = coord.state.watch("a")
    waiting = asyncio.ensure_future(anext(changes))
    await asyncio.sleep(0)
    async with soon():
        while not waiting.done():  # the watch begins when its first look has been taken
            coord.state.blocking.put("a", 1)
            await asyncio.sleep(0.005)
        assert (await waiting).value == 1


async def test_a_put_that_may_not_be_is_refused_without_awaiting(world: World) -> None:
    coord = await world.open(max_value=100)
    async with coord.lock("a") as lease:
        await coord.state.put("a", 1, fence=lease)
    for key, value, error in (("a", 2, FencedError), ("b", {1}, InvalidInputError), ("b", "x" * 100, PayloadTooLargeError)):
        with pytest.raises(error) as refused:
            coord.state.blocking.put(key, value)
        assert refused.value.facts["key"] == key
    with pytest.raises(InvalidInputError):
        coord.state.blocking.put("a//b", 1)
    assert await coord.state.get("b") is None
    with Fault(coord), pytest.raises(StoreUnavailableError):
        coord.state.blocking.put("b", 1)


async def test_under_any_policy_what_is_put_without_awaiting_stands(coord: Coordination) -> None:
    await coord.state.set_policy("", "reduce", {"": "append"})
    coord.state.blocking.put("a", [1])
    assert coord.state.blocking.put("a", [2]).value == [2]


async def test_after_the_close_it_is_closed(world: World) -> None:
    async with Coordination.open(world.url) as coord:
        state = coord.state
        state.blocking.put("a", 1)
        assert state.blocking.get("a") is not None
    with pytest.raises(ClosedError):
        state.blocking.get("a")
    with pytest.raises(ClosedError):
        state.blocking.put("a", 1)


async def test_a_blocking_read_does_not_wait_for_a_writer(place: Place) -> None:
    store, other = await place.open(), await place.open()
    writing, go_on = threading.Event(), threading.Event()

    def hold(rows: Any, now: float) -> None:
        writing.set()
        assert go_on.wait(10)

    writer = asyncio.ensure_future(asyncio.to_thread(other.transact_blocking, hold))
    try:
        await asyncio.to_thread(writing.wait, 10)
        assert store.read_blocking(Keys(DOCUMENT, ("a",)), Keys(DOCUMENT, ())) == [[None], []]
    finally:
        go_on.set()
        await writer


async def test_writers_on_the_loop_and_off_it_lose_nothing_and_do_not_wait_for_each_other_for_ever(world: World) -> None:
    """The line writes in its own way, the loop's thread and two others without awaiting: all at once."""
    coord = await world.open()

    def write(name: str) -> None:
        for number in range(20):
            coord.state.blocking.put(f"{name}/{number}", number)

    async def put() -> None:
        for number in range(20):
            await coord.state.put(f"line/{number}", number)

    async def here() -> None:
        for number in range(20):
            coord.state.blocking.put(f"loop/{number}", number)
            await asyncio.sleep(0)

    async with soon(15):
        await asyncio.gather(put(), here(), asyncio.to_thread(write, "one"), asyncio.to_thread(write, "two"))
    assert len(await coord.state.list(limit=100)) == 80


# the cache


@pytest.mark.parametrize("value", VALUES, ids=repr)
async def test_what_is_set_is_got_by_another_process(world: World, value: Any) -> None:
    CoordCacheStore[Any]("cache", state=(await world.open()).state).set("k", value)
    assert CoordCacheStore[Any]("cache", state=(await world.open()).state).get("k", "default") == value


async def test_what_was_never_set_is_the_default(coord: Coordination) -> None:
    cache: CoordCacheStore[int] = CoordCacheStore("cache")
    assert cache.get("k") is None
    assert cache.get("k", 3) == 3
    cache.set("k", 1)
    cache.set("k", 2)
    assert cache.get("k", 3) == 2
    assert CoordCacheStore[int]("other").get("k") is None


@pytest.mark.parametrize("key", ["", "a/b", "//", "..", "x" * 10_000, "\x00", "\ud800", "é", "e\u0301"])
async def test_any_text_is_a_key(coord: Coordination, key: str) -> None:
    cache: CoordCacheStore[str] = CoordCacheStore("cache")
    cache.set(key, "this")
    cache.set(key + "x", "that")
    assert cache.get(key) == "this"


async def test_what_is_no_json_is_refused(coord: Coordination) -> None:
    cache: CoordCacheStore[Any] = CoordCacheStore("cache")
    with pytest.raises(InvalidInputError):
        cache.set("k", object())
    assert cache.get("k") is None


async def test_a_document_of_another_kind_is_no_entry(coord: Coordination) -> None:
    cache: CoordCacheStore[int] = CoordCacheStore("cache")
    cache.set("k", 1)
    (entry,) = await coord.state.list("cache")
    await coord.state.put(entry.key, [1])
    with pytest.raises(InvalidInputError, match=r"another kind"):
        cache.get("k")


async def test_without_a_coordination_it_says_what_to_do() -> None:
    with pytest.raises(ConfigError, match=r"Coordination\.open"):
        CoordCacheStore[int]("cache").get("k")
    with pytest.raises(InvalidInputError):
        CoordCacheStore[int]("a//b")


INFO = ModelInfo(vision=False, function_calling=True, json_output=False, family="unknown", structured_output=False)
ANSWERS = [
    CreateResult(finish_reason="stop", content="Ann.", usage=RequestUsage(3, 4), cached=False, thought="hm"),
    CreateResult(
        finish_reason="function_calls",
        content=[FunctionCall(id="1", name="add", arguments="{}")],
        usage=RequestUsage(1, 2),
        cached=False,
    ),
]


def cached(state: Any, *answers: Any) -> ChatCompletionCache:
    store: CoordCacheStore[CHAT_CACHE_VALUE_TYPE] = CoordCacheStore("cache", state=state)
    return ChatCompletionCache(ReplayChatCompletionClient(list(answers), INFO), store)


@pytest.mark.parametrize("answer", ANSWERS, ids=["text", "calls"])
async def test_a_models_answer_is_had_again_in_another_process_and_no_model_is_called(world: World, answer: CreateResult) -> None:
    first = await cached((await world.open()).state, answer.model_copy(deep=True)).create(ASKED)
    again = await cached((await world.open()).state).create(ASKED)
    assert not first.cached
    assert again.cached
    assert again.model_copy(update={"cached": False}) == first
    assert isinstance(again, CreateResult)


async def test_a_stream_is_had_again_as_a_stream(world: World) -> None:
    async def streamed(cache: ChatCompletionCache) -> list[str | CreateResult]:
        return [part async for part in cache.create_stream(ASKED)]

    first = await streamed(cached((await world.open()).state, "Ann is here"))
    again = await streamed(cached((await world.open()).state))
    assert again[:-1] == first[:-1]
    assert len(again) > 1
    last = again[-1]
    assert isinstance(last, CreateResult)
    assert last.cached
    assert last.content == "Ann is here"


async def test_it_is_a_component_that_says_where_and_no_more(world: World) -> None:
    coord = await world.open("papers")
    cache: CoordCacheStore[str] = CoordCacheStore("cache", state=coord.state)
    cache.set("k", "secret")
    dumped = json.loads(cache.dump_component().model_dump_json())
    assert dumped["provider"] == "autogen_coord.teams.CoordCacheStore"
    assert dumped["config"] == {"key": "cache", "namespace": "papers"}
    loaded: CacheStore[str] = CacheStore.load_component(dumped)
    assert loaded.get("k") == "secret"
    assert json.loads(loaded.dump_component().model_dump_json()) == dumped


async def test_a_cache_of_model_answers_is_a_component_with_it(coord: Coordination) -> None:
    dumped = cached(coord.state, "Ann.").dump_component().model_dump_json()
    loaded = ChatCompletionCache.load_component(json.loads(dumped))
    assert isinstance(loaded, ChatCompletionCache)
    assert isinstance(loaded.store, CoordCacheStore)
    assert [(await loaded.create(ASKED)).content for _ in range(2)] == ["Ann."] * 2, "its model has one answer"
