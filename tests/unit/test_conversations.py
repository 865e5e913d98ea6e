"""The rules of conversations and of progress, on stores whose rows come at once and in rounds."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from autogen_coord.core import conversations
from autogen_coord.core.conversations import FEW, Append, Head, Summarised, message_key, summary_key
from autogen_coord.core.progress import COMPLETE, NEXT, PLAN, SCORE, START, ProgressView, Step, applied
from autogen_coord.core.store import Rows
from autogen_coord.core.tables import DOCUMENT
from autogen_coord.errors import ConflictError, FencedError, NotFoundError
from autogen_coord.settings import Settings
from tests.conftest import Ground
from tests.unit.shelf import BY, Shelf


@pytest.fixture
def shelf(work: Ground) -> Shelf:
    return Shelf(work)


def append(shelf: Shelf, *messages: str, keep: int | None = None) -> Head:
    return shelf.ground.do(conversations.append, Append("t", tuple(f'"{one}"' for one in messages), BY, keep))


def summarise(shelf: Shelf, first: int, upto: int) -> bool:
    return shelf.ground.do(conversations.summarised, Summarised("t", first, upto, f'"{first}-{upto}"', BY))


def kept(shelf: Shelf, until: int) -> list[int]:
    return [number for number in range(1, until + 1) if shelf.value(message_key("t", number)) is not None]


def test_numbers_go_on_and_messages_are_written_once(shelf: Shelf) -> None:
    assert append(shelf, "a", "b") == Head(2, 1, 1)
    assert append(shelf, "c") == Head(3, 1, 1)
    assert [shelf.value(message_key("t", number)) for number in (1, 2, 3)] == ["a", "b", "c"]
    assert [shelf.row(message_key("t", number)).version for number in (1, 2, 3)] == [1, 1, 1]
    assert shelf.row("threads/t").version == 2


def test_an_append_deletes_a_bounded_number_of_what_is_left_out(shelf: Shelf) -> None:
    append(shelf, *map(str, range(60)))
    assert append(shelf, "x", keep=2) == Head(61, 60, 1 + 1 + FEW)
    assert kept(shelf, 61) == list(range(2 + FEW, 62))
    for _ in range(4):
        head = append(shelf, "x", keep=2)
    assert (head.first, head.swept) == (64, 64)
    assert kept(shelf, 65) == [64, 65]


def test_a_message_that_is_left_out_as_it_comes_is_numbered_all_the_same(shelf: Shelf) -> None:
    assert append(shelf, "a", "b", "c", keep=1) == Head(3, 3, 1)
    assert append(shelf, "d", keep=1) == Head(4, 4, 4)
    assert kept(shelf, 4) == [4]


def test_a_summary_takes_the_place_of_its_messages_once(shelf: Shelf) -> None:
    append(shelf, *"abcdef")
    assert summarise(shelf, 1, 3)
    assert not summarise(shelf, 1, 3)
    assert not summarise(shelf, 1, 4)
    assert not summarise(shelf, 4, 7)  # more than there are
    assert (shelf.value(summary_key("t")), kept(shelf, 6)) == ("1-3", [4, 5, 6])
    assert summarise(shelf, 4, 5)
    assert shelf.value("threads/t") == {"appended": 6, "first": 6, "swept": 6}


def test_a_summary_of_what_was_left_out_meanwhile_is_refused(shelf: Shelf) -> None:
    append(shelf, *"abcdef")
    append(shelf, "g", keep=3)
    assert not summarise(shelf, 1, 3)
    with pytest.raises(AssertionError):
        shelf.row(summary_key("t"))


def test_what_stands_in_the_way_is_not_written_over(shelf: Shelf) -> None:
    shelf.put(message_key("t", 1), "mine")
    with pytest.raises(ConflictError, match="its head was lost"):
        append(shelf, "a")
    assert shelf.value(message_key("t", 1)) == "mine"
    shelf.put("threads/t", [1])
    with pytest.raises(ConflictError, match="written over"):
        append(shelf, "a")


def test_heads_that_are_fenced_want_their_lock(shelf: Shelf) -> None:
    append(shelf, "a")

    def fence(rows: Rows, token: int, now: float, policy: Settings) -> None:
        row = rows.one(DOCUMENT, "threads/t")
        assert row is not None
        rows.put(DOCUMENT, row._replace(fenced=token))

    shelf.ground.do(fence, 3)
    with pytest.raises(FencedError):
        append(shelf, "b")
    with pytest.raises(FencedError):
        summarise(shelf, 1, 1)


def test_large_messages_are_kept_beside_the_rows_and_go_with_them(shelf: Shelf) -> None:
    shelf.ground.settings(blob_from=100, history=0)
    append(shelf, "x" * 200, "x" * 200)
    assert list(shelf.blobs.values()) == [2]
    append(shelf, "a", "b", keep=2)
    assert kept(shelf, 4) == [3, 4]


@given(
    st.lists(
        st.one_of(
            st.tuples(st.just("append"), st.integers(1, 4), st.one_of(st.none(), st.integers(1, 6))),
            st.tuples(st.just("summarise"), st.integers(1, 30), st.integers(0, 5)),
        ),
        max_size=12,
    )
)
def test_whatever_is_done_the_messages_are_those_of_a_list(acts: list[tuple[str, int, int | None]]) -> None:
    ground = Ground(collecting=True)
    ground.session()
    shelf, appended, first, told = Shelf(ground), 0, 1, 0
    for act, one, other in acts:
        if act == "append":
            head = append(shelf, *("x" for _ in range(one)), keep=other)
            appended += one
            first = first if other is None else max(first, appended - other + 1)
            assert (head.appended, head.first) == (appended, first)
            assert 1 <= head.swept <= head.first
        else:
            upto = one + (other or 0)
            if summarise(shelf, one, upto):
                assert (one, upto <= appended) == (first, True)
                told, first = upto, upto + 1
            else:
                assert one != first or upto > appended
        missing = [number for number in range(first, appended + 1) if number not in kept(shelf, appended)]
        assert missing == []
    assert told < first or told == 0


# progress


STEPS = st.one_of(
    st.tuples(st.just(PLAN), st.sampled_from("abc"), st.none()),
    st.tuples(st.just(START), st.sampled_from("abc"), st.none()),
    st.tuples(st.just(COMPLETE), st.sampled_from("abc"), st.one_of(st.none(), st.floats(0, 1))),
    st.tuples(st.just(SCORE), st.sampled_from("abc"), st.floats(0, 1)),
    st.tuples(st.just(NEXT), st.just(""), st.none()),
)


@given(st.lists(STEPS, max_size=30))
def test_each_stage_is_in_one_place_and_no_score_is_lost(steps: list[tuple[str, str, float | None]]) -> None:
    value: dict[str, Any] | None = None
    scored = 0
    for act, stage, score in steps:
        try:
            after = applied(value, Step("p", act, BY, (stage,) if stage else (), score))
        except NotFoundError:
            assert value is None or stage not in value["stages"]
            continue
        value = after if after is not None else value
        scored += score is not None
    if value is None:
        return
    view = ProgressView.of("p", 1, value)
    assert sorted((*view.running, *view.completed, *view.pending)) == sorted(view.stages)
    assert view.done == (view.completed == view.stages)
    every = [view.scores, *(one.scores for one in view.past)]
    assert sum(len(some) for scores in every for some in scores.values()) == scored
    assert view.iteration == len(view.past) + 1
