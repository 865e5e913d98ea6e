"""Cached reads: what is served, how stale it may be, and when nothing may be served."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest
from pydantic import BaseModel

from autogen_coord import CachePolicy, ClosedError, Coordination, InvalidInputError, StoreUnavailableError
from autogen_coord.core.caching import CachedState
from autogen_coord.core.freshness import IDLE, MOST
from autogen_coord.core.store import Keys, Range
from autogen_coord.core.tables import DOCUMENT, EVENT
from tests.conftest import Fault, World, process_of, soon, until


class Reads:
    """Counts, and holds up, the reads of documents of one coordination."""

    def __init__(self, coord: Coordination) -> None:
        self.documents: list[list[str]] = []
        self.after: asyncio.Event | None = None
        """Held behind the read, so that what it saw is old when it comes back."""
        self.looks: asyncio.Event | None = None
        """Held likewise: the reads of the log."""
        self.began = asyncio.Event()
        self.looking = asyncio.Event()
        store: Any = process_of(coord).store
        self._read = store.read
        store.read = self.read

    async def read(self, *loads: Any) -> Any:
        keys = [list(load.keys) for load in loads if isinstance(load, Keys) and load.table is DOCUMENT]
        if not keys:
            looks, found = self.looks, await self._read(*loads)
            if looks is not None:
                self.looking.set()
                await looks.wait()
            return found
        self.documents += keys
        after = self.after
        found = await self._read(*loads)
        self.began.set()
        if after is not None:
            await after.wait()
        return found


class Away(Fault):
    def __init__(self, coord: Coordination) -> None:
        super().__init__(coord, reads=True)


@pytest.fixture
async def other(world: World, coord: Coordination) -> Coordination:
    """Another process on the same store."""
    return await world.open()


@pytest.fixture
async def cache(coord: Coordination) -> AsyncIterator[CachedState]:
    async with coord.state.cached(CachePolicy.IMMEDIATE) as cache:
        yield cache


async def test_a_second_read_is_served_from_memory_and_says_so(coord: Coordination, cache: CachedState) -> None:
    await coord.state.put("a", {"n": 1}, actor="ann")
    reads = Reads(coord)
    first, second = await cache.get("a"), await cache.get("a")
    assert first == second == await coord.state.get("a")
    assert second is not None
    assert (second.value, second.actor, second.version) == ({"n": 1}, "ann", 1)
    stats = cache.stats
    assert (stats.hits, stats.misses, stats.size, stats.evicted) == (1, 1, 1, 0)
    assert stats.memory == len('{"n":1}')
    assert len(reads.documents) == 2  # one of them not the cache's


async def test_what_is_missing_or_deleted_is_cached_too_until_it_is_written(coord: Coordination, cache: CachedState) -> None:
    reads = Reads(coord)
    assert [await cache.get("a"), await cache.value("a", 7)] == [None, 7]
    assert reads.documents == [["a"]]
    await coord.state.put("a", 1)
    assert await cache.value("a") == 1
    await coord.state.delete("a")
    assert await cache.value("a", "gone") == "gone"


@pytest.mark.parametrize("policy", list(CachePolicy))
async def test_own_writes_are_read_back_at_once_under_every_policy(coord: Coordination, policy: CachePolicy) -> None:
    async with coord.state.cached(policy) as cache:
        for number in range(30):
            await coord.state.put("a", number)
            assert await cache.value("a") == number


async def test_a_caller_that_changes_a_value_does_not_change_the_cache(coord: Coordination, cache: CachedState) -> None:
    await coord.state.put("a", {"list": [1]})
    for _ in range(3):
        document = await cache.get("a")
        assert document is not None
        assert document.value == {"list": [1]}
        document.value["list"].append(2)


async def test_values_are_read_as_models(coord: Coordination, cache: CachedState) -> None:
    class Note(BaseModel):
        text: str

    await coord.state.put("a", Note(text="x"))
    for _ in range(2):
        document = await cache.get("a", returns=Note)
        assert document is not None
        assert document.value == Note(text="x")


async def test_another_process_s_write_is_seen_within_the_bound(
    coord: Coordination, other: Coordination, cache: CachedState
) -> None:
    loop = asyncio.get_running_loop()
    for number in range(20):
        await other.state.put("a", number)
        written = loop.time()
        while await cache.value("a") != number:
            assert loop.time() - written < cache.stats.staleness + 1  # the loop of this test may stand still
            await asyncio.sleep(0)
    assert cache.stats.hits > 0


async def test_a_large_body_is_cached_whole(coord: Coordination, other: Coordination, cache: CachedState) -> None:
    await other.state.put("a", "x" * 50_000)
    assert await cache.value("a") == await cache.value("a") == "x" * 50_000
    assert cache.stats.memory == 50_002


async def test_several_are_read_in_one_read_and_only_those_that_are_not_there(coord: Coordination, cache: CachedState) -> None:
    await coord.state.put_many({key: key for key in "abcd"})
    await cache.get_many(["a", "b"])
    reads = Reads(coord)
    found = await cache.get_many(["d", "a", "c", "a", "e"])
    assert [None if one is None else one.value for one in found] == ["d", "a", "c", "a", None]
    assert reads.documents == [["d", "c", "e"]]


async def test_those_who_ask_for_one_document_at_once_share_one_read(coord: Coordination, cache: CachedState) -> None:
    await coord.state.put("a", 1)
    reads = Reads(coord)
    assert await asyncio.gather(*(cache.value("a") for _ in range(50))) == [1] * 50
    assert reads.documents == [["a"]]


async def test_a_reader_that_gives_up_does_not_take_others_along(coord: Coordination, cache: CachedState) -> None:
    await coord.state.put("a", 1)
    reads = Reads(coord)
    reads.after = asyncio.Event()
    first = asyncio.create_task(cache.value("a"))
    await reads.began.wait()
    second = asyncio.create_task(cache.value("a"))
    await asyncio.sleep(0)
    reads.after = None
    first.cancel()
    assert await second == 1


async def test_a_read_that_raced_a_write_does_not_put_the_old_value_back(coord: Coordination, cache: CachedState) -> None:
    await coord.state.put("a", "old")
    reads = Reads(coord)
    reads.after = late = asyncio.Event()
    racing = asyncio.create_task(cache.value("a"))
    await reads.began.wait()  # it has seen the old value, and is on its way back
    reads.after = None
    await coord.state.put("a", "new")
    assert await cache.value("a") == "new"  # nor is the read that began before the write shared by who comes after it
    late.set()
    assert await racing == "old"
    assert await cache.value("a") == "new"


async def test_a_read_that_raced_another_process_s_write_does_not_either(
    coord: Coordination, other: Coordination, cache: CachedState
) -> None:
    await coord.state.put("a", "old")
    await cache.get("b")
    reads = Reads(coord)
    reads.after = late = asyncio.Event()
    racing = asyncio.create_task(cache.value("a"))
    await reads.began.wait()
    reads.after = None
    await other.state.put("a", "new")
    (counter,) = (await process_of(coord).store.read(Keys(DOCUMENT, ("a",))))[0]
    await until(lambda: (coord.state._freshness._cursor or 0) >= counter.number)  # it was told here
    late.set()
    assert await racing == "old"
    assert await cache.value("a") == "new"


async def test_without_the_store_nothing_is_served_under_immediate(coord: Coordination, cache: CachedState) -> None:
    await coord.state.put("a", 1)
    assert await cache.value("a") == 1
    with Away(coord):

        async def refused() -> bool:
            try:
                return await cache.value("a") is None
            except StoreUnavailableError:
                return True

        loop = asyncio.get_running_loop()
        began = loop.time()
        await until(refused)
        assert loop.time() - began < cache.stats.staleness + 1
        for _ in range(3):
            with pytest.raises(StoreUnavailableError):
                await cache.get("a")
    assert await cache.value("a") == 1


async def test_what_was_written_while_the_store_could_not_be_read_is_not_missed(
    coord: Coordination, other: Coordination, cache: CachedState
) -> None:
    await coord.state.put_many({"a": 1, "b": 1})
    assert [await cache.value("a"), await cache.value("b")] == [1, 1]
    with Away(coord):
        await other.state.put("a", 2)
        with pytest.raises(StoreUnavailableError):
            while True:
                await cache.get("a")
                await asyncio.sleep(0)
    assert [await cache.value("a"), await cache.value("b")] == [2, 1]


async def test_a_process_that_may_not_trust_its_session_serves_nothing(
    coord: Coordination, other: Coordination, cache: CachedState, monkeypatch: pytest.MonkeyPatch
) -> None:
    await coord.state.put("a", 1)
    await cache.get("a")
    monkeypatch.setattr(type(process_of(coord).heart), "trusted", False)
    reads = Reads(coord)
    for number in range(5):
        await other.state.put("a", number)
        assert await cache.value("a") == number
    assert len(reads.documents) == 5


async def test_a_look_that_took_long_proves_only_what_was_when_it_began(
    coord: Coordination, other: Coordination, cache: CachedState
) -> None:
    await coord.state.put("a", "old")
    await cache.get("a")
    reads = Reads(coord)
    reads.looks = late = asyncio.Event()
    await reads.looking.wait()
    began, freshness = asyncio.get_running_loop().time(), coord.state._freshness
    await other.state.put("a", "new")
    await until(lambda: asyncio.get_running_loop().time() - began > freshness.bound)
    reads.looks = None
    late.set()
    await until(lambda: freshness._looking is None)
    assert await cache.value("a") == "new"


async def test_a_read_that_takes_long_is_not_shared_by_who_comes_late(
    coord: Coordination, other: Coordination, cache: CachedState, monkeypatch: pytest.MonkeyPatch
) -> None:
    await coord.state.put("a", "old")
    monkeypatch.setattr(coord.state._freshness, "_tell", lambda *told: None)  # no look comes to tell of the change
    reads = Reads(coord)
    reads.after = late = asyncio.Event()
    first = asyncio.create_task(cache.value("a"))
    await reads.began.wait()
    began = asyncio.get_running_loop().time()
    reads.after = None
    await until(lambda: asyncio.get_running_loop().time() - began > cache.stats.staleness)
    await other.state.put("a", "new")
    async with soon():
        assert await cache.value("a") == "new"
    late.set()
    assert await first == "old"


async def test_a_log_that_was_pruned_unread_makes_everything_be_read_anew(
    coord: Coordination, other: Coordination, cache: CachedState
) -> None:
    await coord.state.put_many({"a": 1, "b": 1})
    await cache.get_many(["a", "b"])
    freshness = coord.state._freshness
    with Away(coord):
        await until(lambda: freshness.age > freshness.bound)
        await other.state.put("a", 2)
        await process_of(other).line.put(_forget_the_log, None)
    assert [await cache.value("a"), await cache.value("b")] == [2, 1]
    assert cache.stats.misses == 4


def _forget_the_log(rows: Any, command: None, now: float, policy: Any) -> None:
    for row in rows.scan(Range(EVENT, "key")):
        rows.drop(EVENT, row)


async def test_a_cache_that_rested_looks_before_it_serves(coord: Coordination, other: Coordination, cache: CachedState) -> None:
    await coord.state.put("a", 1)
    await cache.get("a")
    freshness = coord.state._freshness
    await until(lambda: freshness.age > 0.2 and not freshness._wake.is_set(), IDLE + 5)
    await other.state.put("a", 2)
    await other.state.put("b", 2)
    assert await cache.value("a") == 2
    assert cache.stats.misses == 2


async def test_so_many_changes_that_they_are_not_told_one_by_one(
    coord: Coordination, other: Coordination, cache: CachedState
) -> None:
    await coord.state.put("a", 1)
    await cache.get("a")
    freshness = coord.state._freshness
    with Away(coord):
        await until(lambda: freshness.age > freshness.bound)
        for start in range(0, MOST + 1, 1_000):
            await other.state.put_many({f"many/{number}": 1 for number in range(start, start + 1_000)})
        await other.state.put("a", 2)
    assert await cache.value("a") == 2


async def test_eventual_serves_what_it_has_until_its_time_is_over(coord: Coordination, other: Coordination) -> None:
    await coord.state.put("a", 1)
    async with coord.state.cached("eventual", ttl=0.3) as cache:
        began = asyncio.get_running_loop().time()
        assert await cache.value("a") == 1
        await other.state.put("a", 2)
        seen = await cache.value("a")
        assert seen == 1 or asyncio.get_running_loop().time() - began >= 0.3
        with Away(coord):
            seen = await cache.value("a")  # it needs no store meanwhile
            assert seen == 1 or asyncio.get_running_loop().time() - began >= 0.3
        await until(lambda: asyncio.get_running_loop().time() - began > 0.3)
        assert await cache.value("a") == 2
        assert cache.stats.staleness == 0.3


async def test_periodic_is_refreshed_in_one_read_a_round(coord: Coordination, other: Coordination) -> None:
    await coord.state.put_many({"a": 1, "b": 1})
    async with coord.state.cached(CachePolicy.PERIODIC, every=0.05) as cache:
        await cache.get_many(["a", "b", "c"])
        misses = cache.stats.misses
        reads = Reads(coord)
        await other.state.put_many({"a": 2, "c": 2})

        async def fresh() -> bool:
            return [await cache.value("a"), await cache.value("c")] == [2, 2]

        await until(fresh)
        assert cache.stats.misses == misses
        assert reads.documents
        assert all(sorted(keys) == ["a", "b", "c"] for keys in reads.documents)


async def test_periodic_serves_on_while_the_store_is_away_and_tells_its_age(coord: Coordination, other: Coordination) -> None:
    await coord.state.put("a", 1)
    async with coord.state.cached("periodic", every=0.05) as cache:
        await cache.get("a")
        with Away(coord):
            await until(lambda: (cache.stats.age or 0) > 0.3)
            assert await cache.value("a") == 1
            with pytest.raises(StoreUnavailableError):
                await cache.get("b")
            await other.state.put("a", 2)
        await until(lambda: (cache.stats.age or 0) < 0.3)

        async def fresh() -> bool:
            return bool(await cache.value("a") == 2)

        await until(fresh)


async def test_what_was_read_last_stays_and_no_more_than_the_size(coord: Coordination) -> None:
    await coord.state.put_many({f"k/{number}": number for number in range(10)})
    async with coord.state.cached(size=3) as cache:
        await cache.get_many(["k/0", "k/1", "k/2"])
        await cache.get("k/0")
        await cache.get("k/3")
        assert (cache.stats.size, cache.stats.evicted) == (3, 1)
        reads = Reads(coord)
        await cache.get_many(["k/0", "k/3"])
        assert reads.documents == []
        found = await cache.get_many([f"k/{number}" for number in range(10)])
        assert [one.value for one in found if one is not None] == list(range(10))
        assert cache.stats.size == 3


async def test_no_more_is_kept_than_the_memory_allows(coord: Coordination, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("autogen_coord.core.caching.MEMORY", 1_000)
    async with coord.state.cached() as cache:
        for number in range(9):
            await coord.state.put(f"k/{number}", "x" * 300)
            await cache.get(f"k/{number}")
        assert (cache.stats.size, cache.stats.memory) == (3, 906)
        await coord.state.put("k/8", "y")
        assert cache.stats.memory == 604


async def test_a_cache_is_for_its_prefix(coord: Coordination) -> None:
    await coord.state.put_many({"a/b": 1, "a/bc": 2})
    async with coord.state.cached(prefix="a/b") as cache:
        assert await cache.value("a/b") == 1
        with pytest.raises(InvalidInputError, match="'a/bc' is not in 'a/b'"):
            await cache.get("a/bc")
        with pytest.raises(InvalidInputError):
            await cache.get_many(["a/b", "x"])


async def test_bad_input_is_refused(coord: Coordination, cache: CachedState) -> None:
    bad: list[dict[str, Any]] = [{"policy": "never"}, {"size": 0}, {"size": True}, {"ttl": 1}, {"every": 1}, {"prefix": "/a"}]
    bad += [{"policy": "eventual", "ttl": 0}, {"policy": "periodic", "every": -1}, {"policy": "eventual", "every": 1}]
    for wrong in bad:
        with pytest.raises(InvalidInputError):
            coord.state.cached(**wrong)
    keys: list[Any] = ["", "a//b", 7, None, [], "\0"]
    for key in keys:
        with pytest.raises(InvalidInputError):
            await cache.get(key)


async def test_a_cache_that_is_not_open_reads_nothing(world: World, coord: Coordination) -> None:
    cache = coord.state.cached()
    with pytest.raises(ClosedError, match="async with"):
        await cache.get("a")
    async with cache:
        await cache.get("a")
    with pytest.raises(ClosedError):
        await cache.get("a")
    assert cache.stats.size == 0
    with pytest.raises(InvalidInputError, match="before"):
        async with cache:
            pass
    closing = await world.open()
    async with closing.state.cached() as late:
        await late.get("a")
        await closing.close()
        with pytest.raises(ClosedError):
            await late.get("a")


async def test_nothing_is_looked_for_when_no_cache_is_open(coord: Coordination) -> None:
    freshness = coord.state._freshness
    for _ in range(3):
        async with coord.state.cached() as one, coord.state.cached("eventual"):
            await one.get("a")
    await until(lambda: not freshness._runs)
    assert freshness._listeners == freshness._followers == []


async def test_fifty_writers_and_readers_never_see_a_version_go_back(coord: Coordination, other: Coordination) -> None:
    async with coord.state.cached() as cache:

        async def write(coord: Coordination, key: str) -> None:
            for number in range(15):
                await coord.state.put(key, number)

        async def read(key: str) -> None:
            seen = 0
            while seen < 30:
                document = await cache.get(key)
                version = 0 if document is None else document.version
                assert version >= seen
                seen = version
                await asyncio.sleep(0)

        keys = [f"k/{number}" for number in range(6)]
        async with asyncio.TaskGroup() as group:
            for key in keys:
                for one in (coord, other):
                    group.create_task(write(one, key))
                for _ in range(4):
                    group.create_task(read(key))
