"""Series: entries that are only appended, by whomever, and the rules that number them."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from typing import Any

import pytest

from autogen_coord import (
    Coordination,
    Document,
    FencedError,
    InvalidInputError,
    PayloadTooLargeError,
    StoreError,
    StoreUnavailableError,
)
from autogen_coord.core import series
from autogen_coord.core.documents import Author
from autogen_coord.core.series import Append, Head, Replace, Sweep
from tests.conftest import Fault, Ground, World

BY = Author("s1", "ann")


def texts(*values: int) -> tuple[str, ...]:
    return tuple(map(str, values))


def values(entries: list[Document] | None) -> list[Any] | None:
    return None if entries is None else [entry.value for entry in entries]


# the rules


def test_entries_are_numbered_without_a_gap(ground: Ground) -> None:
    assert ground.do(series.append, Append("log", texts(1, 2), BY)) == Head(1, 2)
    assert ground.do(series.append, Append("log", texts(3), BY)) == Head(1, 3)


def test_a_series_begins_with_its_beginning_once(ground: Ground) -> None:
    assert ground.do(series.append, Append("log", texts(3), BY, begin=texts(1, 2))) == Head(1, 3)
    assert ground.do(series.append, Append("log", texts(4), BY, begin=texts(1, 2))) == Head(1, 4)


def test_what_is_replaced_gets_new_numbers_and_is_swept_in_slices(ground: Ground) -> None:
    ground.settings(slice=2)
    ground.do(series.append, Append("log", texts(1, 2, 3), BY))
    assert ground.do(series.replace, Replace("log", texts(9), BY)) == Head(4, 4)
    assert ground.do(series.sweep, Sweep("log", 0, BY)) == 2
    assert ground.do(series.sweep, Sweep("log", 2, BY)) is None


# as programs use them


async def test_what_was_appended_is_read_back_in_order_and_the_newest_alone(coord: Coordination) -> None:
    log = coord.state.series("log")
    assert await log.read() is None
    await log.append("a", {"b": 1})
    await log.append([None])
    await log.append()
    assert values(await log.read()) == ["a", {"b": 1}, [None]]
    assert values(await log.read(2)) == [{"b": 1}, [None]]
    assert values(await log.read(10)) == ["a", {"b": 1}, [None]]


async def test_many_appenders_in_several_processes_lose_nothing(world: World) -> None:
    coords = [await world.open() for _ in range(3)]

    async def write(coord: Coordination, name: int) -> None:
        for number in range(5):
            await coord.state.series("log").append([name, number], [name, number, "too"])

    await asyncio.gather(*(write(coords[name % 3], name) for name in range(9)))
    entries = values(await coords[0].state.series("log").read())
    assert entries is not None
    assert len(entries) == 90
    assert all(entries[place + 1] == [*entries[place], "too"] for place in range(0, 90, 2)), "each append stands side by side"
    for name in range(9):
        assert [one[1] for one in entries[::2] if one[0] == name] == list(range(5))


async def test_an_emptied_series_has_no_entries_and_goes_on(coord: Coordination) -> None:
    log = coord.state.series("log")
    await log.append(1, 2, 3)
    await log.replace()
    assert values(await log.read()) == []
    assert [one.key for one in await coord.state.list("log")] == ["log"]
    await log.append(4, begin=[0])
    assert values(await log.read()) == [4]
    await log.replace([5, 6])
    assert values(await log.read()) == [5, 6]
    assert values(await coord.state.series("log").read(1)) == [6]


@pytest.mark.parametrize("meanwhile", ["replace", "append", "sweep", "anew"])
async def test_readers_see_all_before_or_all_after_what_comes_between(
    world: World, monkeypatch: pytest.MonkeyPatch, meanwhile: str
) -> None:
    """A reader looks at the head, then at the entries; here another process writes between."""
    writer, reader = await world.open(), await world.open()
    log, state = writer.state.series("log"), reader.state
    await log.append(*[0] * 10)
    look, writes = state.get_many, iter([True])

    async def get_many(keys: Iterable[str]) -> list[Document | None]:
        if next(writes, False):
            if meanwhile == "append":
                await log.append(1)
            elif meanwhile == "anew":
                await writer.state.delete("log")
                await log.append(7, 7)
            else:
                await log.replace([9] * (20 if meanwhile == "replace" else 3))
        return await look(keys)

    monkeypatch.setattr(state, "get_many", get_many)
    expected = {"append": [0] * 10, "replace": [9] * 20, "sweep": [9] * 3, "anew": [7, 7]}
    assert values(await state.series("log").read()) == expected[meanwhile]


async def test_nothing_of_a_refused_append_is_written(coord: Coordination) -> None:
    log = coord.state.series("log")
    await log.append(1)
    with pytest.raises(InvalidInputError) as bad:
        await log.append(2, {3})
    assert bad.value.facts["key"] == "log"
    with pytest.raises(PayloadTooLargeError):
        await log.append(2, "x" * (1 << 20))
    with pytest.raises(InvalidInputError, match="at most 10,000"):
        await log.append(*range(10_001))
    assert values(await log.read()) == [1]


async def test_a_key_with_another_document_is_no_series(coord: Coordination) -> None:
    await coord.state.put("log", [1])
    with pytest.raises(InvalidInputError, match="another kind"):
        await coord.state.series("log").read()
    with pytest.raises(InvalidInputError, match="another kind"):
        await coord.state.series("log").append(1)
    assert (await coord.state.value("log")) == [1]


async def test_a_key_must_leave_room_for_its_entries(coord: Coordination) -> None:
    coord.state.series("a" * 487)
    for key in ("a" * 488, "", "a//b", "/a"):
        with pytest.raises(InvalidInputError):
            coord.state.series(key)


async def test_a_series_that_is_written_under_a_lock_is_not_appended_to_without(coord: Coordination) -> None:
    log = coord.state.series("log")
    await log.append(1)
    async with coord.lock("log") as lease:
        await coord.state.put("log", {"first": 1, "last": 1}, fence=lease)
    with pytest.raises(FencedError):
        await log.append(2)


async def test_a_restored_snapshot_has_its_entries_and_is_appended_to_again(coord: Coordination) -> None:
    log = coord.state.series("log")
    await log.append(1, 2)
    await coord.state.snapshot("before", "log")
    await log.append(3)
    await coord.state.restore("before")
    assert values(await log.read()) == [1, 2]
    await log.append(4)
    assert values(await log.read()) == [1, 2, 4]


async def test_a_deleted_series_begins_anew(coord: Coordination) -> None:
    log = coord.state.series("log")
    await log.append(1, 2)
    await coord.state.delete("log")
    assert await log.read() is None
    await log.append(4, begin=[3])
    assert values(await log.read()) == [3, 4]


async def test_a_series_that_lost_an_entry_says_so(coord: Coordination) -> None:
    log = coord.state.series("log")
    await log.append(1, 2, 3)
    await coord.state.delete("log/000000000002")
    with pytest.raises(StoreError, match=r"'log' .* were deleted"):
        await log.read()
    assert values(await log.read(1)) == [3]


async def test_entries_of_any_size_are_read(world: World) -> None:
    coord = await world.open(blob_from=10)
    await coord.state.series("log").append("x" * 100, "y", "x" * 100)
    assert values(await coord.state.series("log").read()) == ["x" * 100, "y", "x" * 100]


async def test_an_append_that_the_store_refuses_is_not_there(coord: Coordination) -> None:
    log = coord.state.series("log")
    with Fault(coord), pytest.raises(StoreUnavailableError):
        await log.append(1)
    assert await log.read() is None
