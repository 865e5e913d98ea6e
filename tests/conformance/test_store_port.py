"""What the port means: one suite for every store.

Folds here have no side effect, as rules have none: a store may run them more than once.
"""

from __future__ import annotations

import asyncio
import math
import random
import threading
import time
from collections.abc import Callable
from typing import Any

import pytest

from autogen_coord.core.store import Fold, Keys, NotLoaded, Range, Rows, Store, Table, Transaction
from autogen_coord.core.tables import (
    ATTEMPT,
    COUNTER,
    EVENT,
    LOCK_HELD,
    OUTCOME,
    PROVIDER,
    QUEUE,
    CounterRow,
    OutcomeRow,
    ProviderRow,
    QueueRow,
)  # fmt: skip
from autogen_coord.errors import ClosedError, StoreError
from autogen_coord.settings import Settings
from tests.conformance.rows import attempt, event, held, queued
from tests.conformance.stores import Place


async def put(store: Store, *rows: tuple[Table[Any], Any]) -> None:
    """Put rows, fresh or not."""

    def fold(pending: Transaction, now: float) -> None:
        for table, row in rows:
            pending.get(table, [table.key_of(row)])
            pending.put(table, row)

    await store.transact(fold)


def counting(name: str) -> Fold[int]:
    def fold(rows: Transaction, now: float) -> int:
        (found,) = rows.get(COUNTER, [name])
        row = CounterRow(name, found.value + 1 if found else 1)
        rows.put(COUNTER, row)
        return row.value

    return fold


def drop_counters(rows: Rows, now: float) -> None:
    for row in rows.scan(Range(COUNTER, "key")):
        rows.drop(COUNTER, row)


async def value(store: Store, name: str = "n") -> int | None:
    ((row,),) = await store.read(Keys(COUNTER, [name]))
    return row.value if row else None


async def names(store: Store, range: Range[Any]) -> list[Any]:
    """The keys of a range, and that a fold sees the same as a reader."""
    (read,) = await store.read(range)
    folded = await store.transact(lambda rows, now: rows.scan(range))
    assert read == folded
    return [range.table.key_of(row) for row in read]


async def within(seconds: float, check: Callable[[], bool]) -> None:
    async with asyncio.timeout(seconds):
        while not check():
            await asyncio.sleep(0.002)


# rows by key


async def test_get_gives_a_row_or_none_for_each_key_in_order(store: Store) -> None:
    await put(store, (COUNTER, CounterRow("a", 1)), (COUNTER, CounterRow("b", 2)))
    keys = ["b", "none", "a", "b"]
    expected = [CounterRow("b", 2), None, CounterRow("a", 1), CounterRow("b", 2)]
    assert await store.transact(lambda rows, now: rows.get(COUNTER, keys)) == expected
    assert await store.read(Keys(COUNTER, keys), Keys(COUNTER, [])) == [expected, []]


async def test_many_ranges_are_read_in_one_round(store: Store) -> None:
    names = [f"pool{number}" for number in range(300)]
    await store.fill((QUEUE, queued(name, pool=name)) for name in names)
    folds = []

    def look(rows: Transaction, now: float) -> list[list[QueueRow]]:
        folds.append(now)
        return rows.scan_many([Range(QUEUE, "ready", (name,), limit=1) for name in names])

    found = await store.transact(look)
    assert [row.id for rows in found for row in rows] == names
    assert len(folds) <= 2


async def test_a_key_of_several_columns_is_a_tuple(store: Store) -> None:
    await put(store, *((ATTEMPT, attempt(task, number)) for task in "ab" for number in (1, 2)))
    keys = [("a", 2), ("b", 1), ("a", 3), ("c", 1)]
    (found,) = await store.read(Keys(ATTEMPT, keys))
    assert found == [attempt("a", 2), attempt("b", 1), None, None]


async def test_get_takes_any_number_of_keys(store: Store) -> None:
    await store.fill((EVENT, event(number)) for number in range(1, 701, 2))
    for count in (1, 2, 5, 17, 65, 256, 257, 700):
        numbers = range(1, count + 1)
        found = await store.transact(lambda rows, now, numbers=numbers: rows.get(EVENT, numbers))  # type: ignore[misc]
        assert [row.number if row else None for row in found] == [n if n % 2 else None for n in numbers]


# writes


async def test_what_a_transaction_put_is_there_for_the_next_and_for_readers(store: Store) -> None:
    await put(store, (COUNTER, CounterRow("n", 1)))
    assert await value(store) == 1
    await put(store, (COUNTER, CounterRow("n", 2)))
    assert await value(store) == 2
    await store.transact(drop_counters)
    assert await value(store) is None


async def test_all_columns_are_written_and_replaced(store: Store) -> None:
    first = QueueRow("id", 1, "c", "ready", "p", 1.5, "l", 2, 3.5, 4.5, 5, 6, 7, 8, "s", "v", 9.5, 10.5, 11.5, 12.5, 13.5, 14.5, "a", "w", 15, "x", "y")  # fmt: skip  # noqa: E501
    second = QueueRow("id", 2, "C", "running", "P", 2.5, "L", 3, 4.5, 5.5, 6, 7, 8, 9, "S", "V", 10.5, 11.5, 12.5, 13.5, 14.5, 15.5, "A", "W", 16, "X", "Y")  # fmt: skip  # noqa: E501
    for row in (first, second, queued("id")):
        await put(store, (QUEUE, row))
        assert await store.read(Keys(QUEUE, ["id"])) == [[row]]


async def test_a_row_that_came_and_went_in_one_transaction_was_never_there(store: Store) -> None:
    def fold(rows: Transaction, now: float) -> None:
        rows.put(COUNTER, CounterRow("n", 1))
        rows.drop(COUNTER, CounterRow("n", 1))

    await store.transact(fold)
    assert await value(store) is None


async def test_a_row_dropped_and_put_again_is_replaced(store: Store) -> None:
    await put(store, (COUNTER, CounterRow("n", 1)))

    def fold(rows: Transaction, now: float) -> None:
        (row,) = rows.get(COUNTER, ["n"])
        assert row is not None
        rows.drop(COUNTER, row)
        rows.put(COUNTER, CounterRow("n", 2))

    await store.transact(fold)
    assert await value(store) == 2


async def test_a_fold_sees_its_own_changes(store: Store) -> None:
    await put(store, (COUNTER, CounterRow("old", 1)))

    def fold(rows: Transaction, now: float) -> list[Any]:
        (old,) = rows.get(COUNTER, ["old"])
        assert old is not None
        rows.drop(COUNTER, old)
        rows.put(COUNTER, CounterRow("new", 2))
        return rows.get(COUNTER, ["old", "new"])

    assert await store.transact(fold) == [None, CounterRow("new", 2)]


async def test_the_answer_of_the_fold_is_returned(store: Store) -> None:
    answer = object()
    assert await store.transact(lambda rows, now: answer) is answer
    assert await asyncio.to_thread(store.transact_blocking, lambda rows, now: answer) is answer


async def test_an_error_of_the_fold_is_raised_and_nothing_is_written(store: Store) -> None:
    class Refused(Exception):
        pass

    def fold(rows: Transaction, now: float) -> None:
        rows.put(COUNTER, CounterRow("n", 1))
        rows.put(EVENT, event(1))
        raise Refused

    for _ in range(2):
        with pytest.raises(Refused):
            await store.transact(fold)
        with pytest.raises(Refused):
            await asyncio.to_thread(store.transact_blocking, fold)
    assert await store.read(Range(COUNTER, "key"), Range(EVENT, "key")) == [[], []]
    assert await store.transact(counting("n")) == 1


async def test_a_blind_put_over_a_row_is_refused_with_all_that_came_with_it(store: Store) -> None:
    await put(store, (COUNTER, CounterRow("n", 1)))

    def fold(rows: Transaction, now: float) -> None:
        rows.put(EVENT, event(1))
        rows.put(COUNTER, CounterRow("n", 2))
        rows.put(QUEUE, queued("t"))

    with pytest.raises(StoreError, match="must be read before"):
        await store.transact(fold)
    assert await value(store) == 1
    assert await store.read(Range(EVENT, "key"), Range(QUEUE, "key")) == [[], []]
    assert await store.transact(counting("n")) == 2


async def test_what_was_undone_is_not_written(store: Store) -> None:
    await put(store, (QUEUE, queued("kept", seq=1)), (QUEUE, queued("gone", seq=2)))

    def fold(rows: Transaction, now: float) -> list[str]:
        kept, gone = rows.get(QUEUE, ["kept", "gone"])
        assert kept is not None
        assert gone is not None
        rows.drop(QUEUE, gone)
        mark = rows.mark()
        rows.drop(QUEUE, kept)
        rows.put(QUEUE, queued("gone", seq=3))
        rows.put(QUEUE, queued("new", seq=4))
        rows.undo(mark)
        return [row.id for row in rows.scan(Range(QUEUE, "ready", ("summarize",)))]

    assert await store.transact(fold) == ["kept"]
    assert await names(store, Range(QUEUE, "key")) == ["kept"]


async def test_ranges_that_were_prefetched_have_the_rows_that_they_have(store: Store) -> None:
    paths = [f"p{number:03}/" for number in range(300)]
    await store.fill((LOCK_HELD, held(path, "l")) for path in paths[::3])
    ranges = [Range(LOCK_HELD, "key", (), path, path[:-1] + "0", 16) for path in paths]

    def fold(rows: Transaction, now: float) -> list[list[str]]:
        rows.put(LOCK_HELD, held("p001/below/", "new"))
        (gone,) = rows.get(LOCK_HELD, [("p000/", "l")])
        if gone is not None:
            rows.drop(LOCK_HELD, gone)
        missed = False
        found: list[list[str]] = []
        for range in ranges:
            try:
                found.append([row.path for row in rows.scan(range)])
            except NotLoaded:
                missed = True
        if missed:
            raise NotLoaded
        return found

    expected = [[path] if number % 3 == 0 else [] for number, path in enumerate(paths)]
    assert await store.transact(fold, ranges) == [[], ["p001/below/"], *expected[2:]]


async def test_prefetch_is_only_a_hint(store: Store) -> None:
    await put(store, (COUNTER, CounterRow("n", 7)))
    wanted: list[Keys[Any]] = [Keys(COUNTER, ["n", "none"]), Keys(ATTEMPT, [("t", 1)])]
    assert await store.transact(lambda rows, now: rows.get(COUNTER, ["n"]), wanted) == [CounterRow("n", 7)]
    assert await store.transact(lambda rows, now: rows.get(EVENT, [1]), wanted) == [None]


async def test_one_writer_at_a_time_whoever_it_is(place: Place) -> None:
    one, other = await place.open(), await place.open()
    await asyncio.gather(
        *(store.transact(counting("n")) for store in (one, other) for _ in range(40)),
        *(asyncio.to_thread(store.transact_blocking, counting("n")) for store in (one, other) for _ in range(10)),
    )
    assert await value(one) == await value(other) == 100


# ranges


async def test_a_range_is_in_order_with_ties_in_the_order_of_keys(store: Store) -> None:
    ranks = {"e": 1.0, "c": 1.0, "d": 0.5, "a": 2.0, "b": 2.0}
    await put(store, *((QUEUE, queued(id, rank=rank)) for id, rank in ranks.items()), (QUEUE, queued("z", pool="other")))
    ready = Range(QUEUE, "ready", ("summarize",))
    assert await names(store, ready) == ["d", "c", "e", "a", "b"]
    assert await names(store, ready._replace(reverse=True)) == ["b", "a", "e", "c", "d"]
    assert await names(store, ready._replace(limit=2)) == ["d", "c"]
    assert await names(store, ready._replace(limit=2, reverse=True)) == ["b", "a"]
    assert await names(store, ready._replace(limit=0)) == []


async def test_low_is_inside_and_high_outside(store: Store) -> None:
    await put(store, *((EVENT, event(number)) for number in range(1, 6)))
    everything = Range(EVENT, "key")
    assert await names(store, everything._replace(low=2, high=4)) == [2, 3]
    assert await names(store, everything._replace(low=4)) == [4, 5]
    assert await names(store, everything._replace(high=2)) == [1]
    assert await names(store, everything._replace(low=4, high=4)) == []
    assert await names(store, everything._replace(low=2, high=5, reverse=True, limit=2)) == [4, 3]


async def test_a_range_over_text_finds_what_begins_alike(store: Store) -> None:
    keys = ["a", "a/", "a/b", "a/b/c", "a0", "b"]
    await put(store, *((COUNTER, CounterRow(key, 1)) for key in keys))
    assert await names(store, Range(COUNTER, "key", low="a/", high="a0")) == ["a/", "a/b", "a/b/c"]
    assert await names(store, Range(COUNTER, "key")) == keys


async def test_a_key_of_several_columns_orders_by_all_of_them(store: Store) -> None:
    await put(store, *((ATTEMPT, attempt(task, number)) for task in "ba" for number in (10, 9, 1)))
    assert await names(store, Range(ATTEMPT, "key")) == [(task, number) for task in "ab" for number in (1, 9, 10)]
    assert await names(store, Range(ATTEMPT, "key", low="b")) == [("b", 1), ("b", 9), ("b", 10)]
    assert await names(store, Range(ATTEMPT, "by_task", ("a",), low=2, reverse=True)) == [("a", 10), ("a", 9)]


async def test_an_index_holds_only_the_rows_it_is_for(store: Store) -> None:
    await put(
        store,
        (QUEUE, queued("free", seq=1)),
        (QUEUE, queued("mine", seq=2, session="s", due=5.0, state="running")),
        (QUEUE, queued("other", seq=3, session="t", due=4.0, state="delayed")),
    )
    assert await names(store, Range(QUEUE, "by_session", ("s",))) == ["mine"]
    assert await names(store, Range(QUEUE, "by_due")) == ["other", "mine"]
    assert await names(store, Range(QUEUE, "by_due", high=5.0)) == ["other"]
    assert await names(store, Range(QUEUE, "ready", ("summarize",))) == ["free"]
    await put(store, (QUEUE, queued("mine", seq=2)), (QUEUE, queued("free", seq=1, session="s", state="running")))
    assert await names(store, Range(QUEUE, "by_session", ("s",))) == ["free"]
    assert await names(store, Range(QUEUE, "by_due")) == ["other"]
    assert await names(store, Range(QUEUE, "ready", ("summarize",))) == ["mine"]


async def test_a_prefix_of_several_columns(store: Store) -> None:
    def provider(id: str, status: str) -> tuple[Table[Any], Any]:
        return PROVIDER, ProviderRow(id, "s", "s", "c", "1", "function", None, None, status, 1, None, 0.0)

    await put(store, provider("b", "online"), provider("a", "online"), provider("c", "offline"))
    assert await names(store, Range(PROVIDER, "by_capability", ("c", "online"))) == ["a", "b"]
    assert await names(store, Range(PROVIDER, "by_capability", ("c", "gone"))) == []
    assert await names(store, Range(PROVIDER, "by_session", ("s",))) == ["a", "b", "c"]


async def test_own_changes_are_merged_in_before_the_limit(store: Store) -> None:
    await put(store, *((QUEUE, queued(id, rank=float(rank))) for rank, id in enumerate("abcdef")))

    def fold(rows: Transaction, now: float) -> list[list[str]]:
        ready = Range(QUEUE, "ready", ("summarize",))
        for row in rows.scan(ready._replace(limit=2)):
            rows.put(QUEUE, row._replace(state="running", session="s"))
        first = rows.scan(ready._replace(limit=2))
        rows.put(QUEUE, queued("new", rank=2.5))
        rows.put(QUEUE, first[1]._replace(rank=9.0))
        ranges = (
            ready._replace(limit=3),
            ready._replace(limit=2, reverse=True),
            ready._replace(low=2.0, high=3.0),
            Range(QUEUE, "by_session", ("s",)),
        )
        return [[row.id for row in rows.scan(range)] for range in ranges]

    assert await store.transact(fold) == [["c", "new", "e"], ["d", "f"], ["c", "new"], ["a", "b"]]


@pytest.mark.parametrize("seed", range(12))
async def test_any_program_of_changes_shows_what_a_plain_list_would(store: Store, seed: int) -> None:
    """Scans, puts, drops and undos at random, in several transactions, against rows in a plain dictionary."""
    dice, truth = random.Random(seed), dict[str, QueueRow]()

    def program(steps: list[tuple[str, Any]], before: dict[str, QueueRow]) -> Fold[dict[str, QueueRow]]:
        def fold(rows: Transaction, now: float) -> dict[str, QueueRow]:
            known, saved, mark = dict(before), dict(before), rows.mark()
            missed = False
            for verb, what in steps:
                try:
                    if verb == "put":
                        rows.get(QUEUE, [what.id])
                        rows.put(QUEUE, what)
                        known[what.id] = what
                    elif verb == "drop":
                        (row,) = rows.get(QUEUE, [what])
                        if row is not None:
                            rows.drop(QUEUE, row)
                        known.pop(what, None)
                    elif verb == "mark":
                        saved, mark = dict(known), rows.mark()
                    elif verb == "undo":
                        rows.undo(mark)
                        known = dict(saved)
                    else:
                        found = rows.scan(what)
                        assert missed or found == expected(known, what)
                except NotLoaded:
                    missed = True
            if missed:
                raise NotLoaded
            return known

        return fold

    for _ in range(4):
        steps = [step(dice) for _ in range(40)]
        truth = await store.transact(program(steps, truth))
        ranges = [some_range(dice) for _ in range(10)]
        assert await store.read(*ranges) == [expected(truth, range) for range in ranges]


def step(dice: random.Random) -> tuple[str, Any]:
    verb = dice.choices(["put", "drop", "mark", "undo", "scan"], [8, 3, 1, 1, 8])[0]
    if verb == "put":
        session = dice.choice([None, "s", "t"])
        return verb, queued(
            dice.choice("abcdefgh"),
            state=dice.choice(["ready", "running"]),
            pool=dice.choice("pq"),
            rank=float(dice.randrange(3)),
            seq=dice.randrange(3),
            session=session,
            due=dice.choice([None, 1.0, 2.0]),
        )
    return verb, dice.choice("abcdefgh") if verb == "drop" else some_range(dice)


def some_range(dice: random.Random) -> Range[QueueRow]:
    index, prefix = dice.choice(
        [("ready", ("p",)), ("ready", ("q",)), ("by_session", ("s",)), ("by_session", ("t",)), ("by_due", ()), ("key", ())]
    )
    bounds = ["b", "d", "f"] if index == "key" else [0, 1, 2]
    low, high = dice.choice([None, *bounds]), dice.choice([None, *bounds])
    return Range(QUEUE, index, prefix, low, high, dice.choice([None, 0, 1, 2, 5]), dice.random() < 0.4)


def expected(rows: dict[str, QueueRow], range: Range[QueueRow]) -> list[QueueRow]:
    shape = QUEUE.shapes[range.index]
    found = [row for row in rows.values() if shape.holds(row) and shape.prefix_of(row) == range.prefix]
    found = [row for row in found if range.low is None or row[shape.first] >= range.low]
    found = [row for row in found if range.high is None or row[shape.first] < range.high]
    return sorted(found, key=shape.order_of, reverse=range.reverse)[: range.limit]


# values


async def test_text_round_trips_and_sorts_by_code_point(store: Store) -> None:
    texts = sorted(
        [
            "",
            " ",
            "A",
            "Z",
            "a",
            "a\x00",
            "a\x00b",
            "ab",
            "é",
            "ß",
            "ü",
            "ÿ",
            "\u0130",
            "\ue000",
            "\uffff",
            "\U00010000",
            "😀",
            "z" * 5000,
        ]
    )
    await put(store, *((COUNTER, CounterRow(text, 1)) for text in reversed(texts)))
    assert await names(store, Range(COUNTER, "key")) == texts
    assert await store.read(Keys(COUNTER, texts)) == [[CounterRow(text, 1) for text in texts]]
    assert await names(store, Range(COUNTER, "key", low="a\x00", high="b")) == ["a\x00", "a\x00b", "ab"]


async def test_numbers_round_trip(store: Store) -> None:
    biggest, tiny = 2**63 - 1, 5e-324
    await put(store, (COUNTER, CounterRow("big", biggest)), (COUNTER, CounterRow("small", -(2**63))))
    assert [await value(store, name) for name in ("big", "small")] == [biggest, -(2**63)]
    ranks = [-math.inf, -1e308, -0.1, 0.0, tiny, 0.1, 0.1 + 0.2, 1_700_000_000.123_456_7, 1e308, math.inf]
    await put(store, *((QUEUE, queued(f"{place}", rank=rank)) for place, rank in enumerate(ranks)))
    (rows,) = await store.read(Range(QUEUE, "ready", ("summarize",)))
    assert [row.rank for row in rows] == ranks
    assert len((await store.read(Range(QUEUE, "ready", ("summarize",), low=1e308)))[0]) == 2


async def test_null_is_neither_nought_nor_nothing(store: Store) -> None:
    row = OutcomeRow("t", "succeeded", "c", None, "", None, 0, 0, 0, None, "", None, 0.0)
    await put(store, (OUTCOME, row))
    assert await store.read(Keys(OUTCOME, ["t"])) == [[row]]


# namespaces


async def test_namespaces_do_not_see_each_other(place: Place) -> None:
    one, other = await place.open("one"), await place.open("other")
    await put(one, (COUNTER, CounterRow("n", 1)), (QUEUE, queued("t", session="s")))
    await put(other, (COUNTER, CounterRow("n", 2)))
    assert [await value(one), await value(other)] == [1, 2]
    assert await names(other, Range(QUEUE, "ready", ("summarize",))) == []
    await other.transact(drop_counters)
    assert [await value(one), await value(other)] == [1, None]


# readers


async def test_a_reader_does_not_wait_for_a_writer_and_sees_what_was_before(store: Store) -> None:
    await put(store, (COUNTER, CounterRow("n", 1)))
    inside, go = threading.Event(), threading.Event()

    def fold(rows: Transaction, now: float) -> int:
        answer = counting("n")(rows, now)
        inside.set()
        assert go.wait(10)
        return answer

    writing = asyncio.create_task(asyncio.to_thread(store.transact_blocking, fold))
    try:
        await within(10, inside.is_set)
        async with asyncio.timeout(5):
            assert await value(store) == 1
    finally:
        go.set()
    assert await writing == 2
    assert await value(store) == 2


async def test_a_read_is_one_snapshot(place: Place) -> None:
    one, other = await place.open(), await place.open()

    def both(rows: Transaction, now: float) -> None:
        counting("a")(rows, now)
        counting("b")(rows, now)

    async def write() -> None:
        for _ in range(50):
            await one.transact(both)

    writing = asyncio.create_task(write())
    while not writing.done():
        first, second = await other.read(Keys(COUNTER, ["a"]), Range(COUNTER, "key", low="b"))
        assert [row.value for row in first if row] == [row.value for row in second]
    await writing


# the clock


async def test_the_clock_is_the_one_that_was_given(place: Place) -> None:
    store = await place.open(clock=lambda: 1234.5)
    assert await store.now() == 1234.5
    assert await store.transact(lambda rows, now: now) == 1234.5
    assert await asyncio.to_thread(store.transact_blocking, lambda rows, now: now) == 1234.5


async def test_the_clock_shows_epoch_seconds_and_never_runs_back(place: Place) -> None:
    stores = [await place.open(), await place.open("other")]
    moments = [await stores[turn % 2].transact(lambda rows, now: now) for turn in range(50)]
    moments.append(await stores[0].now())
    assert moments == sorted(moments)
    assert abs(moments[-1] - time.time()) < 60


# change notices


class Listener:
    """Counts notices, in a task of its own."""

    def __init__(self, store: Store, wanted: bool = True) -> None:
        self.wanted = wanted
        self.count = 0
        self._changes = store.changes(lambda: self.wanted)
        self.task = asyncio.create_task(self._listen())

    async def _listen(self) -> None:
        async for _ in self._changes:
            self.count += 1


async def test_a_commit_of_another_handle_is_noticed(place: Place) -> None:
    one, other = await place.open(), await place.open()
    listener = Listener(one)
    for turn in range(3):
        await other.transact(counting("n"))
        await within(5, lambda turn=turn: listener.count > turn)  # type: ignore[misc]
    await one.close()
    await asyncio.wait_for(listener.task, 5)


async def test_own_commits_are_no_news_but_those_of_the_blocking_thread_are(place: Place) -> None:
    store, other = await place.open(settings=Settings(poll=0.001)), await place.open()
    listener = Listener(store)
    for _ in range(5):
        await store.transact(counting("n"))
        await other.read(Range(COUNTER, "key"))
        await asyncio.sleep(0.005)
    assert listener.count == 0
    await asyncio.to_thread(store.transact_blocking, counting("n"))
    await within(5, lambda: listener.count == 1)
    await store.close()
    await asyncio.wait_for(listener.task, 5)


async def test_a_change_between_two_own_commits_is_not_overlooked(place: Place) -> None:
    store, other = await place.open(), await place.open()
    listener = Listener(store)
    await store.transact(counting("n"))
    await other.transact(counting("n"))
    await store.transact(counting("n"))
    await within(5, lambda: listener.count > 0)
    await store.close()
    await asyncio.wait_for(listener.task, 5)


async def test_what_nobody_wants_is_told_when_somebody_does(place: Place) -> None:
    store, other = await place.open(settings=Settings(poll=0.001)), await place.open()
    listener = Listener(store, wanted=False)
    await other.transact(counting("n"))
    await asyncio.sleep(0.02)
    assert listener.count == 0
    listener.wanted = True
    await within(5, lambda: listener.count == 1)
    await store.close()
    await asyncio.wait_for(listener.task, 5)


async def test_a_transaction_that_wrote_nothing_is_no_news(place: Place) -> None:
    store, other = await place.open(settings=Settings(poll=0.001)), await place.open()
    listener = Listener(store)
    await other.transact(lambda rows, now: rows.scan(Range(COUNTER, "key")))
    await asyncio.sleep(0.02)
    assert listener.count == 0
    await store.close()
    await asyncio.wait_for(listener.task, 5)


# filling and closing


async def test_fill_writes_any_number_of_fresh_rows(store: Store) -> None:
    rows: list[tuple[Table[Any], Any]] = [(EVENT, event(number)) for number in range(1, 12_001)]
    assert await store.fill(iter([*rows, (COUNTER, CounterRow("event", 12_000))])) == 12_001
    assert await value(store, "event") == 12_000
    assert (await names(store, Range(EVENT, "key", reverse=True, limit=1))) == [12_000]
    assert await store.fill([]) == 0


async def test_a_closed_store_says_so(place: Place) -> None:
    store = await place.open()
    await store.transact(counting("n"))
    await asyncio.to_thread(store.transact_blocking, counting("n"))
    await store.close()
    await store.close()
    with pytest.raises(ClosedError):
        await store.transact(counting("n"))
    with pytest.raises(ClosedError):
        await store.read(Range(COUNTER, "key"))
    with pytest.raises(ClosedError):
        await store.now()
    with pytest.raises(ClosedError):
        await asyncio.to_thread(store.transact_blocking, counting("n"))
    assert await value(await place.open()) == 2
