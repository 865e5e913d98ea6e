"""A document with its audit trail: nothing is changed without a record of who, what, when and why."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from autogen_coord import (
    Coordination,
    FencedError,
    InvalidInputError,
    NotFoundError,
    PayloadTooLargeError,
    StoreUnavailableError,
    VersionConflictError,
    capability,
)
from autogen_coord.core.pruning import Prune, prune
from tests.conftest import Fault, World


@pytest.fixture
async def other(world: World, coord: Coordination) -> Coordination:
    """Another process on the same store."""
    return await world.open()


async def test_the_trail_says_who_changed_what_when_and_why(coord: Coordination) -> None:
    document = coord.state.document("docs/a")
    await document.edit({"title": "x", "n": 1}, why="begun", actor="ann")
    written = await document.edit(lambda value: {**value, "n": 2}, why="counted", actor="bob", cause="job")
    assert (written.version, written.value) == (2, {"title": "x", "n": 2})
    second, first = await document.trail()
    assert (first.version, first.actor, first.why) == (1, "ann", "begun")
    assert first.changes == [{"op": "add", "path": "", "value": {"title": "x", "n": 1}}]
    assert (second.version, second.actor, second.why, second.cause, second.at) == (2, "bob", "counted", "job", written.at)
    assert second.changes == [{"op": "replace", "path": "/n", "value": 2}]
    assert await coord.state.value("docs/a") == {"title": "x", "n": 2}


async def test_a_document_that_begins_above_forgotten_versions_has_its_first_entry_too(world: World) -> None:
    coord = await world.open(keep_seconds=0.001)
    for number in range(3):
        await coord.state.put("old", number)
    await coord.state.delete("old")

    async def forgotten() -> bool:
        assert coord._parts is not None
        await coord._parts.process.line.put(prune, Prune(), ())
        return not await coord.state.list(deleted=True)

    async with asyncio.timeout(10):
        while not await forgotten():
            await asyncio.sleep(0)
    document = coord.state.document("a")
    first = await document.edit({"n": 1}, why="begun", actor="ann")
    second = await document.edit({"n": 2}, why="counted", actor="bob")
    assert first.version > 1
    trail = [(entry.version, entry.actor, entry.why) for entry in await document.trail()]
    assert trail == [(second.version, "bob", "counted"), (first.version, "ann", "begun")]


async def test_a_function_that_gives_nothing_writes_nothing(coord: Coordination) -> None:
    document = coord.state.document("a")
    await document.edit({"n": 1}, why="begun")
    with pytest.raises(InvalidInputError, match="must return the new value"):
        await document.edit(lambda value: value.update(n=2), why="counted")
    assert await coord.state.value("a") == {"n": 1}


async def test_edits_of_many_writers_lose_nothing_and_each_has_its_entry(coord: Coordination, other: Coordination) -> None:
    def more(value: int | None) -> int:
        return (value or 0) + 1

    async def edit(number: int) -> None:
        document = (coord, other)[number % 2].state.document("a")
        for turn in range(5):
            await document.edit(more, why=f"{number}.{turn}")

    await asyncio.gather(*map(edit, range(10)))
    trail = await coord.state.document("a").trail()
    assert await coord.state.value("a") == 50
    assert [entry.version for entry in trail] == list(range(50, 0, -1))
    assert sorted(entry.why or "" for entry in trail) == sorted(f"{number}.{turn}" for number in range(10) for turn in range(5))


async def test_the_trail_reaches_further_back_than_the_history(world: World) -> None:
    coord = await world.open(history=3)
    document = coord.state.document("a")
    seen: list[Any] = [[0]]
    await document.edit([0], why="begun")
    for number in range(1, 20):
        seen.append([*seen[-1], number] if number % 6 else ["x" * 2_000 * number])
        await document.edit(seen[-1], why=str(number))
    assert [entry.why for entry in await document.trail(limit=1_000)] == [*map(str, range(19, 0, -1)), "begun"]
    assert [await document.at(version) for version in range(1, 21)] == seen
    assert len(await coord.state.history("a")) == 4
    assert await document.diff(2, 3) == [{"op": "add", "path": "/2", "value": 2}]
    assert await document.diff(20) == []
    assert [entry.version for entry in await document.trail(limit=2, before=6)] == [5, 4]


async def test_a_compare_and_set_is_tried_once(coord: Coordination) -> None:
    document = coord.state.document("a")
    await document.edit(1, why="x", expected_version=0)
    with pytest.raises(VersionConflictError) as caught:
        await document.edit(2, why="x", expected_version=0)
    assert (caught.value.key, caught.value.expected, caught.value.found) == ("a", 0, 1)
    with pytest.raises(VersionConflictError):
        await document.edit(2, why="x", expected_version=7)
    assert (await document.edit(2, why="x", expected_version=1)).version == 2
    assert len(await document.trail()) == 2


async def test_a_function_s_own_error_ends_the_edit(coord: Coordination) -> None:
    def wrong(value: Any) -> Any:
        raise VersionConflictError("of its own")

    with pytest.raises(VersionConflictError, match="of its own"):
        await coord.state.document("a").edit(wrong, why="x")
    assert await coord.state.document("a").trail() == []


async def test_a_function_that_changes_what_it_was_given_is_recorded_right(coord: Coordination) -> None:
    document = coord.state.document("a")
    await document.edit({"l": [1], "text": "a long one, so that the change is the shorter record"}, why="x")

    def add(value: dict[str, Any]) -> dict[str, Any]:
        value["l"].append(2)
        return value

    await document.edit(add, why="y")
    assert (await document.trail())[0].changes == [{"op": "add", "path": "/l/1", "value": 2}]


async def test_writes_past_the_trail_show_as_such(world: World) -> None:
    coord = await world.open(history=2)
    document = coord.state.document("a")
    await document.edit(1, why="x")
    await coord.state.put("a", 2, actor="eve")
    await document.edit(3, why="y")
    assert [(one.version, one.actor == "eve", one.why) for one in await document.trail()] == [
        (3, False, "y"), (2, True, None), (1, False, "x"),
    ]  # fmt: skip
    for number in range(4, 8):
        await document.edit({"n": number, "text": "so long that only the change of it is recorded"}, why="z")
    assert [one.version for one in await document.trail()] == [7, 6, 5, 4, 3, 1]
    with pytest.raises(NotFoundError):
        await document.at(2)
    assert await document.at(1) == 1


async def test_a_deleted_document_is_begun_again(coord: Coordination) -> None:
    document = coord.state.document("a")
    await document.edit(1, why="x")
    await coord.state.delete("a")
    assert (await document.edit(lambda value: [value], why="again")).version == 3
    assert await document.at(3) == [None]
    with pytest.raises(NotFoundError, match="deletion"):
        await document.at(2)


async def test_an_edit_that_fails_writes_neither(coord: Coordination) -> None:
    document = coord.state.document("a")
    with Fault(coord), pytest.raises(StoreUnavailableError):
        await document.edit(1, why="x")
    for wrong in (float("nan"), {1: 2}, object()):
        with pytest.raises(InvalidInputError):
            await document.edit(wrong, why="x")
    with pytest.raises(PayloadTooLargeError):
        await document.edit("x" * (1 << 20), why="x")
    assert (await document.trail(), await coord.state.list()) == ([], [])


async def test_a_fenced_document_is_edited_under_its_lock(coord: Coordination) -> None:
    document = coord.state.document("a")
    async with coord.lock("a") as lease:
        assert (await document.edit(1, why="x", fence=lease)).token == lease.token
    with pytest.raises(FencedError):
        await document.edit(2, why="x")
    await document.edit(2, why="by force", force=True)
    assert [entry.why for entry in await document.trail()] == ["by force", "x"]


async def test_bad_input_is_refused(coord: Coordination) -> None:
    for key in ("", "a//b", 7, "x" * 490):
        with pytest.raises(InvalidInputError):
            coord.state.document(key)  # type: ignore[arg-type]
    document = coord.state.document("a")
    for why in ("", None, 7):
        with pytest.raises(InvalidInputError, match="why"):
            await document.edit(1, why=why)  # type: ignore[arg-type]
    with pytest.raises(NotFoundError):
        await document.at(1)
    with pytest.raises(InvalidInputError):
        await document.at(0)
    with pytest.raises(InvalidInputError):
        await document.trail(limit=0)


async def test_a_handler_edits_under_its_capability_and_its_task(coord: Coordination) -> None:
    @capability
    async def write(text: str) -> int:
        return (await coord.state.document("a").edit(text, why="asked to")).version

    await coord.provide(write)
    handle = await coord.submit(write, "x")
    assert await handle.result(timeout=10) == 1
    (entry,) = await coord.state.document("a").trail()
    assert (entry.actor, entry.cause, entry.why) == ("write", handle.id, "asked to")
