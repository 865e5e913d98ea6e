"""Conversations: numbers without gaps, pages, bounds and summaries."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest

from autogen_coord import (
    ConflictError,
    Coordination,
    InvalidInputError,
    NotFoundError,
    PayloadTooLargeError,
    StoreUnavailableError,
    ThreadMessage,
    capability,
)
from autogen_coord.core.threads import AT_ONCE
from tests.conftest import Fault, World


@pytest.fixture
async def other(world: World, coord: Coordination) -> Coordination:
    """Another process on the same store."""
    return await world.open()


def values(messages: list[ThreadMessage]) -> list[Any]:
    return [message.value for message in messages]


async def together(summary: Any, messages: list[ThreadMessage]) -> Any:
    """A summary that shows whether something was lost, or came twice."""
    await asyncio.sleep(0)
    return [*(summary or []), *(message.number for message in messages)]


async def test_messages_come_back_in_their_order_with_who_and_when(coord: Coordination) -> None:
    thread = coord.state.thread("team/chat")
    assert await thread.append({"role": "user"}, "hello", actor="ann") == [1, 2]
    assert await thread.append(None, cause="because") == [3]
    assert await thread.append() == []
    first, second, third = await thread.page()
    assert (first.number, first.value, first.actor, second.value) == (1, {"role": "user"}, "ann", "hello")
    assert first.at == second.at <= third.at
    assert (third.value, third.actor, third.cause) == (None, coord.session, "because")
    assert (await thread.len(), await thread.appended()) == (3, 3)


async def test_an_empty_thread_has_nothing(coord: Coordination) -> None:
    thread = coord.state.thread("none")
    assert (await thread.page(), await thread.tail(5), await thread.len()) == ([], [], 0)
    recalled = await thread.recall()
    assert (recalled.summary, recalled.summarised, recalled.messages) == (None, 0, [])


async def test_pages_lead_back_to_the_beginning(coord: Coordination) -> None:
    thread = coord.state.thread("t")
    await thread.append(*range(1, 24))
    pages, before = [], None
    while page := await thread.page(before=before, limit=10):
        pages.append(values(page))
        before = page[0].number
    assert pages == [list(range(14, 24)), list(range(4, 14)), [1, 2, 3]]
    assert values(await thread.tail(2)) == [22, 23]
    assert values(await thread.page(before=100, limit=1)) == [23]


async def test_fifty_appenders_of_two_processes_leave_no_gap_and_what_is_appended_together_stays_together(
    coord: Coordination, other: Coordination
) -> None:
    async def append(number: int) -> list[list[int]]:
        thread = (coord, other)[number % 2].state.thread("t")
        return [await thread.append([number, turn, 0], [number, turn, 1]) for turn in range(3)]

    numbers = [pair for some in await asyncio.gather(*map(append, range(50))) for pair in some]
    assert sorted(number for pair in numbers for number in pair) == list(range(1, 301))
    messages = await coord.state.thread("t").page(limit=1_000)
    assert [message.number for message in messages] == list(range(1, 301))
    for first, second in zip(messages[::2], messages[1::2], strict=True):
        assert second.value == [*first.value[:2], 1]
    for number in range(50):
        assert [value[1] for value in values(messages) if value[0] == number] == [0, 0, 1, 1, 2, 2]


async def test_only_the_last_are_kept_and_what_is_left_out_is_deleted(coord: Coordination) -> None:
    thread = coord.state.thread("t", keep=5)
    for number in range(1, 31):
        await thread.append(number)
        assert await thread.len() == min(number, 5)
    assert values(await thread.page()) == [26, 27, 28, 29, 30]
    assert values(await thread.page(before=27)) == [26]
    assert await thread.page(before=20) == []
    assert len(await coord.state.list("threads/t")) == 6
    await thread.append(*range(100, 120))  # more at once than are kept
    assert values(await thread.page()) == [115, 116, 117, 118, 119]
    assert (await thread.len(), await thread.appended()) == (5, 50)
    await thread.append("last")
    assert len(await coord.state.list("threads/t")) == 6


async def test_a_thread_that_is_bounded_late_shrinks_step_by_step(coord: Coordination) -> None:
    await coord.state.thread("t").append(*range(1, 101))
    thread = coord.state.thread("t", keep=10)
    await thread.append(101)
    assert values(await thread.page()) == list(range(92, 102))
    for number in range(102, 112):
        await thread.append(number)
    assert len(await coord.state.list("threads/t", limit=1_000)) == 11


async def test_what_leaves_is_summarised_and_nothing_is_lost_or_summarised_twice(coord: Coordination, other: Coordination) -> None:
    calls: list[list[int]] = []

    async def summarise(summary: Any, messages: list[ThreadMessage]) -> Any:
        calls.append([message.number for message in messages])
        return await together(summary, messages)

    async def append(number: int) -> None:
        thread = (coord, other)[number % 2].state.thread("t", keep=10, summarise=summarise)
        for _ in range(4):
            await thread.append(number)

    await asyncio.gather(*map(append, range(25)))
    thread = coord.state.thread("t", keep=10, summarise=summarise)
    recalled = await thread.recall()
    assert recalled.summary == list(range(1, recalled.summarised + 1))
    assert [message.number for message in recalled.messages] == list(range(recalled.summarised + 1, 101))
    assert len(recalled.messages) < 15 + 25  # those that were appended while the last summary was made
    assert await thread.summarise() == len(recalled.messages) - 10
    recalled = await thread.recall()
    assert (recalled.summarised, recalled.summary) == (90, list(range(1, 91)))
    assert await thread.summarise() == 0
    assert max(map(len, calls)) < 100


async def test_a_recall_while_it_is_summarised_is_whole_each_time(coord: Coordination, other: Coordination) -> None:
    done = asyncio.Event()

    async def write() -> None:
        thread = other.state.thread("t", keep=4, summarise=together)
        for number in range(60):
            await thread.append(number)
        done.set()

    async def read() -> None:
        thread = coord.state.thread("t")
        while not done.is_set():
            recalled = await thread.recall()
            numbers = [*(recalled.summary or []), *(message.number for message in recalled.messages)]
            assert numbers == list(range(1, len(numbers) + 1))

    await asyncio.gather(write(), read(), read())


@pytest.mark.parametrize("read", ["recall", "page"])
async def test_messages_that_leave_between_two_reads_are_read_anew(
    coord: Coordination, monkeypatch: pytest.MonkeyPatch, read: str
) -> None:
    writer, thread = coord.state.thread("t", keep=2), coord.state.thread("t")
    await writer.append(1, 2)
    found_by = thread._messages

    async def late(first: int, until: int) -> list[ThreadMessage] | None:
        monkeypatch.setattr(thread, "_messages", found_by)
        await writer.append(3, 4)
        return await found_by(first, until)

    monkeypatch.setattr(thread, "_messages", late)
    messages = (await thread.recall()).messages if read == "recall" else await thread.page()
    assert values(messages) == [3, 4]


async def test_a_function_may_be_plain_and_gets_the_old_summary(coord: Coordination) -> None:
    seen: list[tuple[Any, list[Any]]] = []

    def summarise(summary: Any, messages: list[ThreadMessage]) -> str:
        seen.append((summary, values(messages)))
        return f"{summary or ''}{''.join(map(str, values(messages)))}"

    thread = coord.state.thread("t", keep=2, summarise=summarise)
    for letter in "abcdef":
        await thread.append(letter)
    assert seen == [(None, ["a"]), ("a", ["b"]), ("ab", ["c"]), ("abc", ["d"])]
    assert (await thread.recall()).summary == "abcd"


async def test_a_function_that_fails_loses_no_message_and_is_tried_again(
    coord: Coordination, caplog: pytest.LogCaptureFixture
) -> None:
    broken = True

    async def summarise(summary: Any, messages: list[ThreadMessage]) -> Any:
        if broken:
            raise ValueError("secret")
        return await together(summary, messages)

    thread = coord.state.thread("t", keep=2, summarise=summarise)
    for number in range(1, 6):
        assert await thread.append(number) == [number]
    assert values(await thread.page()) == [1, 2, 3, 4, 5]
    assert "ValueError" in caplog.text
    assert "secret" not in caplog.text
    with pytest.raises(ValueError, match="secret"):
        await thread.summarise()
    broken = False
    await thread.append(6)
    recalled = await thread.recall()
    assert (recalled.summary, values(recalled.messages)) == ([1, 2, 3, 4], [5, 6])


async def test_a_summary_that_cannot_be_stored_is_refused_and_changes_nothing(coord: Coordination) -> None:
    for wrong in (float("nan"), object(), "x" * (1 << 20)):
        thread = coord.state.thread("t", keep=1, summarise=lambda summary, messages, wrong=wrong: wrong)  # type: ignore[misc]
        await thread.append(1, 2, 3)
        with pytest.raises((InvalidInputError, PayloadTooLargeError)) as caught:
            await thread.summarise()
        assert caught.value.key == "threads/t/#summary"
    assert (await thread.recall()).summarised == 0
    assert await thread.len() == 9


async def test_messages_that_cannot_be_stored_leave_nothing_behind(coord: Coordination) -> None:
    thread = coord.state.thread("t")
    with pytest.raises(InvalidInputError):
        await thread.append(1, float("nan"))
    with pytest.raises(PayloadTooLargeError):
        await thread.append(1, "x" * (1 << 20))
    with pytest.raises(InvalidInputError, match="at most 500"):
        await thread.append(*range(AT_ONCE + 1))
    with Fault(coord), pytest.raises(StoreUnavailableError):
        await thread.append(1)
    assert await thread.appended() == 0
    assert await thread.append(*range(AT_ONCE)) == list(range(1, AT_ONCE + 1))


async def test_bad_input_is_refused(coord: Coordination) -> None:
    for wrong in ("", "a//b", "a/#1", "#", 7, None, "x" * 490):
        with pytest.raises(InvalidInputError):
            coord.state.thread(wrong)  # type: ignore[arg-type]
    for keep in (0, -1, True, "5", 1 << 40):
        with pytest.raises(InvalidInputError):
            coord.state.thread("t", keep=keep)  # type: ignore[arg-type]
    with pytest.raises(InvalidInputError, match="keep="):
        coord.state.thread("t", summarise=together)
    thread = coord.state.thread("t")
    with pytest.raises(InvalidInputError, match="no function"):
        await thread.summarise()
    for limit in (0, -1, True, "1"):
        with pytest.raises(InvalidInputError):
            await thread.page(limit=limit)  # type: ignore[arg-type]
    with pytest.raises(InvalidInputError):
        await thread.page(before=0)


async def test_threads_of_names_in_each_other_are_apart(coord: Coordination) -> None:
    for name in ("a", "a/b", "a/000000000001", "ab"):
        await coord.state.thread(name).append(name)
    for name in ("a", "a/b", "a/000000000001", "ab"):
        assert values(await coord.state.thread(name).page()) == [name]


async def test_a_head_that_was_lost_is_refused_not_begun_anew(coord: Coordination) -> None:
    thread = coord.state.thread("t")
    await thread.append(1, 2)
    await coord.state.delete("threads/t")
    with pytest.raises(ConflictError, match="restore the head"):
        await thread.append(3)
    await coord.state.revert("threads/t", 1)
    assert await thread.append(3) == [3]
    await coord.state.put("threads/t", {"other": 1})
    with pytest.raises(ConflictError, match="written over"):
        await thread.append(4)
    await coord.state.revert("threads/t", 4)
    await coord.state.delete("threads/t/#000000000002")
    with pytest.raises(NotFoundError, match="by hand"):
        await thread.page()


async def test_a_snapshot_has_the_whole_thread(coord: Coordination) -> None:
    thread = coord.state.thread("t", keep=3)
    await thread.append(1, 2, 3)
    await coord.state.snapshot("then", "threads/t")
    await thread.append(4, 5)
    await coord.state.restore("then")
    assert values(await thread.page()) == [1, 2, 3]
    assert await thread.append("other") == [4]
    assert values(await thread.page()) == [2, 3, "other"]


async def test_a_handler_appends_under_its_capability(coord: Coordination) -> None:
    @capability
    async def note(text: str) -> list[int]:
        return await coord.state.thread("t").append(text)

    await coord.provide(note)
    handle = await coord.submit(note, "x")
    assert await handle.result(timeout=10) == [1]
    (message,) = await coord.state.thread("t").page()
    assert (message.actor, message.cause) == ("note", handle.id)
    assert json.dumps(message.value) == '"x"'
