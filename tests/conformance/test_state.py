"""The shared state as programs use it, on every store: read, written, watched, by one process and by several."""

from __future__ import annotations

import asyncio
import math
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import pytest
from pydantic import BaseModel

from autogen_coord import (
    ClosedError,
    Coordination,
    Delete,
    Document,
    EventsPrunedError,
    FencedError,
    InvalidInputError,
    MergePolicy,
    NotFoundError,
    OpenConflictError,
    Patch,
    PayloadTooLargeError,
    Put,
    Reducer,
    VersionConflictError,
    capability,
)
from autogen_coord.core import pruning
from autogen_coord.core.pruning import Prune
from autogen_coord.core.shared_state import State
from autogen_coord.core.store import Range
from autogen_coord.core.tables import DOCUMENT, EVENT
from tests.conformance.state_processes import Opening, opening, process_under, state
from tests.conftest import World, process_of, soon, until

__all__ = ["opening", "state"]

LARGE = "x" * 20_000


class Point(BaseModel):
    x: int
    y: int = 0


@dataclass
class Size:
    width: int


def keys_of(documents: list[Document]) -> list[str]:
    return [document.key for document in documents]


# reading and writing


async def test_a_document_reads_back_as_it_was_written_in_every_process(state: State, opening: Opening) -> None:
    written = await state.put("notes/a", {"text": "é\ud800\0", "list": [1, 1.0, None, True]})
    other = await opening()
    read = await other.get("notes/a")
    assert read == written
    assert read is not None
    assert (read.version, read.kind, read.actor, read.deleted) == (1, "put", process_under(state).session, False)
    assert (await other.value("notes/a"))["list"] == [1, 1.0, None, True]


async def test_what_is_not_there_is_none_or_the_default(state: State) -> None:
    await state.put("null", None)
    assert (await state.get("a"), await state.value("a", 7), await state.value("null", 7)) == (None, 7, None)
    await state.delete("null")
    assert (await state.get("null"), await state.value("null", 7)) == (None, 7)
    assert await state.delete("null", missing_ok=True) is False
    with pytest.raises(NotFoundError):
        await state.delete("null")


async def test_what_was_read_or_written_may_be_changed_without_changing_the_document(state: State) -> None:
    value: dict[str, Any] = {"l": [1]}
    written = await state.put("a", value)
    value["l"].append(2)
    written.value["l"].append(3)
    assert await state.value("a") == {"l": [1]}


async def test_models_and_dataclasses_are_read_as_what_they_were(state: State) -> None:
    await state.put("point", Point(x=1))
    await state.put("size", Size(3))
    point = await state.get("point", returns=Point)
    size = await state.get("size", returns=Size)
    assert point is not None
    assert size is not None
    assert (point.value, size.value) == (Point(x=1), Size(3))
    with pytest.raises(InvalidInputError):
        await state.get("point", returns=Size)


async def test_a_lone_surrogate_is_read_as_a_type_too(state: State) -> None:
    await state.put("a", "x\ud800")
    document = await state.get("a", returns=str)
    assert document is not None
    assert document.value == "x\ud800"
    with pytest.raises(InvalidInputError, match="surrogates"):
        await state.put("a", "\ud83d\ude00")
    assert await state.value("a") == "x\ud800"


async def test_several_are_read_as_they_stood_at_one_moment(state: State) -> None:
    await state.put_many({"a": 1, "b": LARGE})
    a, missing, b, again = await state.get_many(["a", "q", "b", "a"])
    assert a is not None
    assert b is not None
    assert (a.value, missing, b.value, again) == (1, None, LARGE, a)


async def test_a_text_is_no_list_of_keys(state: State) -> None:
    with pytest.raises(InvalidInputError, match="a list of keys"):
        await state.get_many("abc")


async def test_several_changes_are_one_write(state: State) -> None:
    await state.put_many({"a": {"n": 1}, "b": 1})
    changed = await state.put_many([Put("c", 3, 0), Patch("a", {"m": 2}), Delete("b"), Delete("q", missing_ok=True)])
    assert [None if one is None else (one.key, one.version) for one in changed] == [("c", 1), ("a", 2), ("b", 2), None]
    assert changed[2] is not None
    assert changed[2].deleted
    with pytest.raises(VersionConflictError):
        await state.put_many([Put("a", 0), Put("c", 0, 5)])
    assert (await state.value("a"), await state.put_many([])) == ({"n": 1, "m": 2}, [])


async def test_compare_and_set_lets_one_of_two_win(state: State, opening: Opening) -> None:
    other = await opening()
    await state.put("a", 0)
    answers = await asyncio.gather(
        state.put("a", 1, expected_version=1), other.put("a", 2, expected_version=1), return_exceptions=True
    )
    (lost,) = [answer for answer in answers if isinstance(answer, VersionConflictError)]
    (won,) = [answer for answer in answers if isinstance(answer, Document)]
    assert (lost.key, lost.expected, lost.found, won.version) == ("a", 1, 2, 2)
    assert await state.value("a") == won.value


async def test_namespaces_do_not_see_each_other(state: State, opening: Opening) -> None:
    await state.put("a", 1)
    await state.snapshot("s")
    other = await opening("elsewhere")
    assert (await other.get("a"), await other.list(), await other.snapshots()) == (None, [], [])
    with pytest.raises(NotFoundError, match="in this namespace"):
        await other.restore("s")


async def test_a_prefix_is_a_key_and_what_lies_below_it(state: State) -> None:
    for key in ("a", "a-b", "a/b", "a/b/c", "ab", "b", "a/c"):
        await state.put(key, 1)
    assert keys_of(await state.list("a")) == ["a", "a/b", "a/b/c", "a/c"]
    assert keys_of(await state.list("a/b/")) == ["a/b", "a/b/c"]
    assert keys_of(await state.list("")) == ["a", "a-b", "a/b", "a/b/c", "a/c", "ab", "b"]


async def test_a_list_is_read_page_by_page_and_passes_over_what_is_deleted(state: State) -> None:
    for number in range(12):
        await state.put(f"n/{number:02}", number)
    for number in (0, 4, 5, 6, 7, 11):
        await state.delete(f"n/{number:02}")
    pages: list[list[str]] = []
    after = None
    while page := await state.list("n", limit=3, after=after):
        pages.append(keys_of(page))
        after = page[-1].key
    assert pages == [["n/01", "n/02", "n/03"], ["n/08", "n/09", "n/10"]]
    assert len(await state.list("n", deleted=True)) == 12
    assert [one.deleted for one in await state.list("n", deleted=True, limit=2)] == [True, False]


# what was


async def test_a_document_is_read_as_it_was(state: State) -> None:
    first = await state.put("a", {"n": 1})
    await state.snapshot("one", note="the first")
    second = await state.put("a", {"n": 2})
    await state.delete("a")
    await state.snapshot("gone")
    await state.put("a", LARGE)
    assert await state.get("a", version=1) == first
    assert await state.get("a", version=2) == second
    deleted = await state.get("a", version=3)
    assert deleted is not None
    assert deleted.deleted
    assert (await state.get("a", snapshot="one"), await state.get("a", snapshot="gone")) == (first, None)
    assert await state.get("a", at=first.at) == first
    assert await state.get("a", at=second.at) == second
    assert await state.get("a", at=datetime.fromtimestamp(first.at - 1, UTC)) is None
    assert await state.get("a", at=first.at - 1) is None
    newest = await state.get("a", at=first.at + 1_000)
    assert newest is not None
    assert newest.value == LARGE
    history = await state.history("a")
    assert [(one.version, one.kind, one.deleted) for one in history] == [
        (4, "put", False), (3, "delete", True), (2, "put", False), (1, "put", False)
    ]  # fmt: skip
    assert [one.version for one in await state.history("a", limit=2, before=4)] == [3, 2]
    assert [(one.name, one.note) for one in await state.snapshots()] == [("one", "the first"), ("gone", "")]


async def test_what_is_not_kept_or_never_was_is_said_so(opening: Opening) -> None:
    state = await opening(history=2)
    for number in range(6):
        await state.put("a", number)
    oldest = (await state.history("a"))[-1]
    with pytest.raises(NotFoundError, match="not kept"):
        await state.get("a", version=1)
    with pytest.raises(NotFoundError, match="no version 9, the newest is 6") as caught:
        await state.get("a", version=9)
    assert (caught.value.version, caught.value.newest) == (9, 6)
    with pytest.raises(NotFoundError, match="not kept"):
        await state.get("a", at=oldest.at - 1)
    with pytest.raises(NotFoundError):
        await state.get("a", snapshot="q")
    with pytest.raises(NotFoundError):
        await state.diff("a", 1, 6)


async def test_a_time_between_two_kept_versions_is_not_answered_with_the_wrong_one(opening: Opening) -> None:
    state = await opening(history=1)
    first = await state.put("a", 1)
    await state.snapshot("s")
    second = await state.put("a", 2)
    for number in range(3, 6):
        await state.put("a", number)
    assert [one.version for one in await state.history("a")] == [5, 4, 1]
    assert await state.get("a", snapshot="s") == first
    with pytest.raises(NotFoundError, match="not kept any more"):
        await state.get("a", at=second.at)


async def test_a_snapshot_of_something_else_is_no_way_to_read_a_document(state: State) -> None:
    await state.put("a", 1)
    await state.snapshot("s", "b")
    with pytest.raises(InvalidInputError, match="'a' is not in snapshot 's'"):
        await state.get("a", snapshot="s")
    with pytest.raises(InvalidInputError, match="one of them"):
        await state.get("a", snapshot="s", version=1)


async def test_two_versions_are_compared(state: State) -> None:
    await state.put("a", {"n": 1, "l": [1]})
    await state.put("a", {"n": 2, "l": [1]})
    await state.put("a", {"n": 2, "l": [1, 2]})
    assert await state.diff("a", 1, 2) == [{"op": "replace", "path": "/n", "value": 2}]
    operations = await state.diff("a", 1)
    await state.revert("a", 1)
    assert (await state.patch("a", operations)).value == {"n": 2, "l": [1, 2]}
    await state.delete("a")
    with pytest.raises(InvalidInputError, match="deleted"):
        await state.diff("a", 1)


async def test_a_restore_brings_all_of_a_prefix_back(state: State) -> None:
    await state.put_many({f"p/{number}": number for number in range(5)} | {"q": 1})
    await state.snapshot("s", "p")
    await state.put_many({"p/1": -1, "p/new": 1, "q": 2})
    await state.delete("p/2")
    assert await state.restore("s") == 3
    assert [one.value for one in await state.list("p")] == [0, 1, 2, 3, 4]
    assert await state.value("q") == 2
    await state.put("p/1", -1)
    await state.put("p/3", -1)
    assert await state.restore("s", "p/1") == 1
    assert (await state.value("p/1"), await state.value("p/3")) == (1, -1)
    with pytest.raises(InvalidInputError):
        await state.restore("s", "q")
    await state.drop_snapshot("s")
    with pytest.raises(NotFoundError):
        await state.restore("s")
    with pytest.raises(NotFoundError):
        await state.drop_snapshot("s")


async def test_very_many_documents_are_restored_in_slices(opening: Opening, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("autogen_coord.core.snapshots.AT_ONCE", 20)
    monkeypatch.setattr("autogen_coord.core.shared_state.PAGE", 7)
    state = await opening(slice=8)
    await state.put_many({f"k/{number}": 0 for number in range(50)})
    await state.snapshot("s")
    await state.put_many({f"k/{number}": 1 for number in range(5, 40)})
    assert await state.restore("s") == 35
    assert {one.value for one in await state.list()} == {0}


# policies and conflicts


async def test_a_policy_of_a_prefix_holds_in_every_process(state: State, opening: Opening) -> None:
    other = await opening()
    await state.set_policy("stats", MergePolicy.REDUCE, {"n": Reducer.ADD})
    await state.set_policy("", "last_writer")
    await other.put("stats/a", {"n": 1})
    assert (await other.put("stats/a", {"n": 2})).value == {"n": 3}
    await other.put("b", 1)
    assert (await other.put("b", 2, expected_version=0)).version == 2
    assert [(one.prefix, one.policy, dict(one.reducers)) for one in await other.policies()] == [
        ("", MergePolicy.LAST_WRITER, {}), ("stats", MergePolicy.REDUCE, {"n": Reducer.ADD})
    ]  # fmt: skip
    await state.set_policy("stats", None)
    assert len(await state.policies()) == 1
    with pytest.raises(NotFoundError):
        await state.set_policy("stats", None)


async def test_an_open_conflict_is_shown_side_by_side_and_decided_once(state: State, opening: Opening) -> None:
    other = await opening()
    base = await state.put("doc", {"t": "base"})
    theirs = await state.put("doc", {"t": "theirs"})
    with pytest.raises(OpenConflictError, match="settle it with decide") as caught:
        await other.put("doc", {"t": "mine"}, expected_version=1, policy="ask", actor="ann", cause="t1")
    error = caught.value
    assert (error.key, error.expected, error.found, error.conflicts) == ("doc", 1, 2, [error.conflict])
    assert isinstance(error, VersionConflictError)
    (conflict,) = await state.conflicts("doc")
    assert (conflict.id, conflict.key, conflict.kind, conflict.expected, conflict.found) == (error.conflict, "doc", "put", 1, 2)
    assert (conflict.mine, conflict.theirs, conflict.base) == ({"t": "mine"}, theirs, base)
    assert (conflict.actor, conflict.cause, await state.conflicts("other")) == ("ann", "t1", [])
    assert await state.get("doc") == theirs
    decided = await state.decide(conflict.id, "mine", expected_version=2)
    assert decided is not None
    assert (decided.value, decided.kind, decided.base, decided.version) == ({"t": "mine"}, "decide", 1, 3)
    assert await other.conflicts() == []
    with pytest.raises(NotFoundError):
        await other.decide(conflict.id, "theirs")


async def test_a_conflict_outlives_the_base_it_was_made_from_and_the_document(opening: Opening) -> None:
    state = await opening(history=1)
    for number in range(4):
        await state.put("doc", number)
    for _ in range(2):
        with pytest.raises(OpenConflictError):
            await state.put("doc", LARGE, expected_version=1, policy=MergePolicy.ASK)
    await state.delete("doc")
    first, second = await state.conflicts()
    assert (first.mine, first.base, first.theirs) == (LARGE, None, None)
    assert await state.decide(first.id, "theirs") is None
    with pytest.raises(InvalidInputError, match="value= goes with 'value'"):
        await state.decide(second.id, "value")
    decided = await state.decide(second.id, "value", {"n": 1})
    assert decided is not None
    assert (decided.value, decided.version) == ({"n": 1}, 6)


# watching


async def test_a_watcher_hears_each_version_once_and_goes_on_where_it_was(state: State, opening: Opening) -> None:
    other = await opening()
    await state.put("w/a", 1)
    await other.put_many({"w/b": LARGE, "elsewhere": 1, "w-b": 1, "wb": 1})
    await state.delete("w/a", actor="ann")
    seen = [change async for change in other.watch("w", since=0, follow=False)]
    assert [(one.key, one.version, one.kind, one.deleted, one.value, one.pruned) for one in seen] == [
        ("w/a", 1, "put", False, 1, False), ("w/b", 1, "put", False, LARGE, False), ("w/a", 2, "delete", True, None, False)
    ]  # fmt: skip
    assert seen[-1].actor == "ann"
    await state.put("w/a", 3)
    assert [one.value async for one in other.watch("w", since=seen[-1].number, follow=False)] == [3]


async def test_a_watcher_is_woken_by_a_write_of_its_own_process_and_of_another(state: State, opening: Opening) -> None:
    other = await opening()
    heard: asyncio.Queue[Any] = asyncio.Queue()

    async def watch() -> None:
        async for change in state.watch("w", since=0):
            heard.put_nowait(change.value)

    watching = asyncio.create_task(watch())
    async with soon():
        await state.put("w", 1)
        assert await heard.get() == 1
        await other.put("w", 2)
        assert await heard.get() == 2
    watching.cancel()
    await asyncio.wait([watching])
    assert process_under(state).feed.followers == 0


async def test_a_watcher_is_told_of_versions_that_are_not_kept_any_more(opening: Opening) -> None:
    state = await opening(history=1)
    for number in range(4):
        await state.put("a", number)
    seen = [change async for change in state.watch("a", since=0, follow=False)]
    assert [(one.version, one.pruned, one.value) for one in seen] == [
        (1, True, None),
        (2, True, None),
        (3, False, 2),
        (4, False, 3),
    ]


async def test_who_watches_from_below_what_is_kept_is_told(opening: Opening) -> None:
    state = await opening(keep_count=2)
    for number in range(6):
        await state.put("a", number)
    await process_under(state).line.put(pruning.prune, Prune())
    with pytest.raises(EventsPrunedError):
        _ = [change async for change in state.watch("a", since=1, follow=False)]


async def test_a_conflict_whose_base_is_pruned_while_it_is_read_is_read_anew(
    opening: Opening, monkeypatch: pytest.MonkeyPatch
) -> None:
    state = await opening(history=1, blob_from=40)
    for number in range(2):
        await state.put("a", LARGE + str(number))
    with pytest.raises(OpenConflictError):
        await state.put("a", LARGE + "mine", expected_version=1, policy="ask")
    real, looks = state._read, 0

    async def read(*loads: Any) -> list[list[Any]]:
        nonlocal looks
        found = await real(*loads)
        looks += 1
        if looks == 2:  # behind the rows, before their bodies
            for number in range(2, 5):
                await state.put("a", LARGE + str(number))
        return found

    monkeypatch.setattr(state, "_read", read)
    (conflict,) = await state.conflicts()
    assert conflict.theirs is not None
    assert (conflict.mine, conflict.theirs.version, conflict.base) == (LARGE + "mine", 5, None)


@pytest.mark.parametrize("since", ["1", 1.0, math.nan, True, -1, 1 << 63])
async def test_what_is_no_number_of_an_event_is_refused_at_once(state: State, coord: Coordination, since: Any) -> None:
    with pytest.raises(InvalidInputError, match="since="):
        state.watch("a", since=since)
    with pytest.raises(InvalidInputError, match="since="):
        coord.events(since)


async def test_a_number_of_another_store_is_refused_as_such(state: State, coord: Coordination) -> None:
    number = (await state.put("a", 1)).number
    assert [one async for one in state.watch("a", since=number, follow=False)] == []
    with pytest.raises(InvalidInputError, match="of another store") as caught:
        await anext(state.watch("a", since=number + 1))
    assert (caught.value.since, caught.value.newest) == (number + 1, number)
    with pytest.raises(InvalidInputError, match="of another store"):
        await anext(coord.events(since=1_000_000))


async def test_who_watches_is_told_when_the_process_closes(opening: Opening) -> None:
    state = await opening()
    process = process_under(state)

    async def watch() -> None:
        async for _ in state.watch():
            pass

    watching = asyncio.create_task(watch())
    await until(lambda: process.feed.followers == 1)
    await process.stop()
    with pytest.raises(ClosedError):
        await watching
    with pytest.raises(ClosedError):
        await state.get("a")
    with pytest.raises(ClosedError):
        await state.put("a", 1)


# bad input

DEEP: Any = 1
for _ in range(100):
    DEEP = [DEEP]

BAD_VALUES = [math.nan, math.inf, {1: "x"}, {1, 2}, b"x", object(), DEEP, {"a": [math.nan]}]
BAD_KEYS = ["", "/a", "a/", "a//b", "a\0", "a\nb", "\ud800", "x" * 600, 7, None, ".", "a/../b"]


@pytest.mark.parametrize("value", BAD_VALUES, ids=lambda value: type(value).__name__)
async def test_a_value_that_cannot_be_stored_is_refused_by_key_and_nothing_is_written(state: State, value: Any) -> None:
    with pytest.raises(InvalidInputError, match="bad/one"):
        await state.put("bad/one", value)
    with pytest.raises(InvalidInputError, match="bad/one"):
        await state.put_many({"fine": 1, "bad/one": value})
    assert await rows_of(state) == []


@pytest.mark.parametrize("key", BAD_KEYS, ids=repr)
async def test_a_key_that_cannot_be_one_is_refused_everywhere(state: State, key: Any) -> None:
    for attempt in (
        state.put(key, 1),
        state.get(key),
        state.patch(key, {}),
        state.delete(key),
        state.history(key),
        state.revert(key, 1),
    ):
        with pytest.raises(InvalidInputError):
            await attempt
    assert await rows_of(state) == []


async def test_a_value_that_is_too_large_is_refused_by_key_size_and_limit(opening: Opening) -> None:
    state = await opening(max_value=100)
    with pytest.raises(PayloadTooLargeError, match="'a'") as caught:
        await state.put("a", "x" * 99)
    assert (caught.value.key, caught.value.size, caught.value.limit) == ("a", 101, 100)
    assert (await state.put("a", "x" * 98)).version == 1


async def test_a_write_is_bounded_as_a_whole_and_names_its_largest_documents(opening: Opening) -> None:
    state = await opening(max_write=1_000, max_value=900)
    with pytest.raises(PayloadTooLargeError, match=r"'m/2', 'm/1'.*max_write") as caught:
        await state.put_many({"m/1": "x" * 500, "m/2": "x" * 600})
    assert (caught.value.keys, caught.value.size, caught.value.limit) == (["m/2", "m/1"], 1_104, 1_000)
    await state.put_many({"m/1": "x" * 400, "m/2": "x" * 400})
    await state.put("m/3", ["x" * 400])
    with pytest.raises(PayloadTooLargeError):  # what is sent is small, but not what is written
        await state.put_many([Patch("m/3", [{"op": "copy", "from": "/0", "path": "/-"}]), Put("m/4", "x" * 300)])
    assert [one.version for one in await state.list()] == [1, 1, 1]


async def test_a_patch_of_too_many_operations_is_refused_by_key(state: State) -> None:
    await state.put("a", {"n": 0})
    with pytest.raises(PayloadTooLargeError, match=r"'a'.*split it") as caught:
        await state.patch("a", [{"op": "replace", "path": "/n", "value": 1}] * 1_001)
    assert (caught.value.key, caught.value.limit) == ("a", 1_000)
    assert (await state.patch("a", [{"op": "replace", "path": "/n", "value": 1}] * 1_000)).version == 2


async def test_a_patch_may_bring_what_a_document_may_hold(opening: Opening) -> None:
    state = await opening(max_depth=3)
    await state.put("a", {})
    assert (await state.patch("a", [{"op": "add", "path": "/l", "value": [[1]]}])).value == {"l": [[1]]}
    with pytest.raises(InvalidInputError, match="deep"):
        await state.patch("a", [{"op": "add", "path": "/l", "value": [[[1]]]}])
    assert await state.value("a") == {"l": [[1]]}


async def test_terms_that_mean_nothing_are_refused(state: State) -> None:
    await state.put("a", {"n": 1})
    for terms in (
        {"policy": "newest"}, {"reducers": {"n": "minus"}}, {"policy": "merge", "reducers": {"n": "add"}}, {"policy": "reduce"},
        {"expected_version": -1}, {"expected_version": True}, {"expected_version": "1"}, {"fence": 7}, {"actor": ""},
    ):  # fmt: skip
        with pytest.raises(InvalidInputError):
            await state.put("a", {"n": 2}, **terms)
    with pytest.raises(
        InvalidInputError, match="unknown option 'polcy'; there are actor, cause, expected_version, fence, force, policy"
    ):
        await state.put("a", 1, polcy="merge")  # type: ignore[call-arg]
    with pytest.raises(InvalidInputError):
        await state.patch("a", "text")  # type: ignore[arg-type]
    with pytest.raises(InvalidInputError):
        await state.set_policy("", "reduce")
    with pytest.raises(InvalidInputError):
        await state.decide("c", "ours")
    with pytest.raises(InvalidInputError):
        await state.list(limit=0)
    with pytest.raises(InvalidInputError):
        await state.put_many({f"k{number}": 1 for number in range(1_001)})
    assert (await state.get("a"), len(await rows_of(state))) == (await state.get("a", version=1), 1)


async def rows_of(state: State) -> list[Any]:
    (rows,) = await process_under(state).store.read(Range(DOCUMENT, "key"))
    return rows


# in a coordination


async def test_a_write_under_a_lease_stands_only_with_it(world: World, coord: Coordination) -> None:
    async with coord.lock("doc") as lease:
        document = await coord.state.put("doc/1", 1, fence=lease)
        assert document.token == lease.token
        with pytest.raises(FencedError):
            await (await world.open()).state.put("doc/1", 2)
    with pytest.raises(InvalidInputError, match="lease"):
        await coord.state.put("doc/1", 3, fence=lease.guard)  # type: ignore[arg-type]
    assert await coord.state.value("doc/1") == 1


async def test_a_handler_writes_in_the_name_of_its_capability_for_its_task(coord: Coordination) -> None:
    @capability("scribe")
    async def scribe(text: str) -> str:
        written = await coord.state.put("by/handler", text)
        return f"{written.actor} {written.cause}"

    await coord.provide(scribe)
    handle = await coord.submit(scribe, "x")
    async with soon():
        assert await handle.result() == f"scribe {handle.id}"
    assert (await coord.state.put("by/process", 1)).actor == coord.session


async def test_no_value_is_in_an_event(coord: Coordination) -> None:
    await coord.state.put("a", "secret")
    await coord.state.put("a", "secret")
    with pytest.raises(OpenConflictError):
        await coord.state.put("a", "secret", expected_version=1, policy="ask")
    (events,) = await process_of(coord).store.read(Range(EVENT, "key"))
    assert not any("secret" in (row.data or "") for row in events)
    assert [row.kind for row in events if row.subject == "a"] == ["state.changed", "state.changed", "state.conflict"]
