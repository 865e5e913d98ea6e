"""`Pending`: what a rule sees of its own changes, and what is written in the end."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest

from autogen_coord.core.fold import Pending
from autogen_coord.core.store import Change, NotLoaded, Range, Table, each
from autogen_coord.core.tables import COUNTER, QUEUE, CounterRow, QueueRow
from tests.conformance.rows import queued

READY = Range(QUEUE, "ready", ("summarize",))


class Fixed:
    """A base of given rows, which notes what was asked of it."""

    def __init__(self, *rows: QueueRow) -> None:
        self.rows = {row.id: row for row in rows}
        self.loads: list[list[Any]] = []
        self.walks: list[Range[Any]] = []
        self.gathered: list[list[Range[Any]]] = []

    def load(self, table: Table[Any], keys: Sequence[Any]) -> list[Any]:
        self.loads.append(list(keys))
        return [self.rows.get(key) if table is QUEUE else None for key in keys]

    def gather(self, ranges: Sequence[Range[Any]]) -> list[Range[Any]]:
        self.gathered.append(list(ranges))
        return []

    def walk(self, range: Range[Any]) -> list[Any]:
        self.walks.append(range)
        shape = QUEUE.shapes[range.index]
        rows = [row for row in self.rows.values() if shape.holds(row) and shape.prefix_of(row) == range.prefix]
        rows = [row for row in rows if range.low is None or row[shape.first] >= range.low]
        rows = [row for row in rows if range.high is None or row[shape.first] < range.high]
        return sorted(rows, key=shape.order_of, reverse=range.reverse)[: range.limit]


def three() -> Fixed:
    return Fixed(*(queued(id, rank=float(rank)) for rank, id in enumerate("abc")))


def ids(rows: Sequence[QueueRow]) -> str:
    return "".join(row.id for row in rows)


def get(pending: Pending, id: str) -> QueueRow:
    (row,) = pending.get(QUEUE, [id])
    assert row is not None
    return row


def test_a_row_is_loaded_once_absent_ones_too() -> None:
    base = three()
    pending = Pending(base)
    pending.get(QUEUE, ["a", "none"])
    pending.get(QUEUE, ["a", "none", "b"])
    pending.put(QUEUE, queued("fresh"))
    pending.get(QUEUE, ["fresh", "b"])
    assert base.loads == [["a", "none"], ["b"]]


def test_what_a_scan_found_is_loaded() -> None:
    base = three()
    pending = Pending(base)
    pending.scan(READY)
    pending.get(QUEUE, ["a", "c"])
    assert base.loads == []


def test_a_limited_scan_asks_for_as_many_more_as_are_hidden() -> None:
    base = three()
    pending = Pending(base)
    assert ids(pending.scan(READY._replace(limit=1))) == "a"
    pending.put(QUEUE, get(pending, "a")._replace(state="running"))
    assert ids(pending.scan(READY._replace(limit=1))) == "b"
    assert [range.limit for range in base.walks] == [1, 2]
    pending.undo(0)
    assert ids(pending.scan(READY._replace(limit=1))) == "a"
    assert base.walks[-1].limit == 1


def test_many_scans_are_loaded_together_and_see_what_single_ones_see() -> None:
    base = three()
    pending = Pending(base)
    pending.put(QUEUE, get(pending, "a")._replace(pool="other"))
    ranges = [READY._replace(limit=1), READY._replace(prefix=("other",)), READY._replace(reverse=True)]
    assert [ids(found) for found in pending.scan_many(ranges)] == ["b", "a", "cb"]
    assert base.gathered == [[READY._replace(limit=2), *ranges[1:]]]
    assert base.walks == base.gathered[0]


def test_who_misses_a_row_does_not_keep_others_from_asking() -> None:
    asked: list[str] = []

    def act(id: str) -> None:
        asked.append(id)
        if id != "b":
            raise NotLoaded

    with pytest.raises(NotLoaded):
        each("abc", act)
    assert asked == ["a", "b", "c"]
    each("b", act)


def test_a_row_that_moves_between_prefixes_stands_in_one_only() -> None:
    pending = Pending(three())
    pending.scan(READY)
    pending.put(QUEUE, get(pending, "a")._replace(pool="other"))
    assert ids(pending.scan(READY)) == "bc"
    assert ids(pending.scan(READY._replace(prefix=("other",)))) == "a"
    pending.put(QUEUE, get(pending, "a")._replace(pool="summarize", rank=1.5))
    assert ids(pending.scan(READY)) == "bac"
    assert ids(pending.scan(READY._replace(prefix=("other",)))) == ""


def test_changes_made_before_the_first_scan_are_seen_by_it() -> None:
    pending = Pending(three())
    pending.drop(QUEUE, get(pending, "b"))
    pending.put(QUEUE, queued("z", rank=0.5))
    assert ids(pending.scan(READY)) == "azc"
    assert ids(pending.scan(READY._replace(limit=2))) == "az"
    assert ids(pending.scan(READY._replace(limit=2, reverse=True))) == "cz"
    assert ids(pending.scan(READY._replace(low=0.5, high=2.0))) == "z"


def test_changes_say_what_was_and_what_is() -> None:
    base = three()
    pending = Pending(base)
    a, b = get(pending, "a"), get(pending, "b")
    new, moved = queued("new"), a._replace(rank=7.0)
    pending.put(QUEUE, moved)
    pending.drop(QUEUE, b)
    pending.put(QUEUE, new)
    assert set(pending.changes()) == {Change(QUEUE, a, moved), Change(QUEUE, b, None), Change(QUEUE, None, new)}
    pending.put(COUNTER, CounterRow("n", 1))
    assert Change(COUNTER, None, CounterRow("n", 1)) in pending.changes()


def test_what_ends_as_it_began_is_no_change() -> None:
    pending = Pending(three())
    a = get(pending, "a")
    pending.put(QUEUE, a._replace(rank=7.0))
    pending.put(QUEUE, a._replace())
    pending.put(QUEUE, queued("new"))
    pending.drop(QUEUE, queued("new"))
    pending.drop(QUEUE, get(pending, "b"))
    pending.put(QUEUE, queued("b", rank=1.0))
    assert pending.changes() == []


@pytest.mark.parametrize("scanned", [True, False])
def test_undo_takes_back_to_the_mark_and_no_further(scanned: bool) -> None:
    pending = Pending(three())
    if scanned:
        pending.scan(READY)
    pending.put(QUEUE, get(pending, "a")._replace(rank=9.0))
    first = pending.mark()
    pending.put(QUEUE, get(pending, "a")._replace(state="running"))
    pending.drop(QUEUE, get(pending, "b"))
    second = pending.mark()
    pending.put(QUEUE, queued("new", rank=0.5))
    pending.put(QUEUE, queued("b", rank=10.0))
    assert ids(pending.scan(READY)) == "ncb".replace("n", "new")
    pending.undo(second)
    assert ids(pending.scan(READY)) == "c"
    assert pending.get(QUEUE, ["b", "new"]) == [None, None]
    pending.undo(first)
    assert ids(pending.scan(READY)) == "bca"
    assert ids(pending.scan(READY._replace(limit=1))) == "b"
    assert [(change.old.rank, change.new.rank) for change in pending.changes()] == [(0.0, 9.0)]
    pending.undo(0)
    assert ids(pending.scan(READY)) == "abc"
    assert pending.changes() == []


def test_a_row_that_is_not_loaded_leaves_nothing_behind() -> None:
    class Unwilling(Fixed):
        def load(self, table: Table[Any], keys: Sequence[Any]) -> list[Any]:
            raise NotLoaded

        def walk(self, range: Range[Any]) -> list[Any]:
            raise NotLoaded

    pending = Pending(Unwilling())
    for _ in range(2):
        with pytest.raises(NotLoaded):
            pending.get(QUEUE, ["a"])
        with pytest.raises(NotLoaded):
            pending.scan(READY)
    pending.put(QUEUE, queued("new"))
    assert pending.get(QUEUE, ["new"]) == [queued("new")]
    assert pending.changes() == [Change(QUEUE, None, queued("new"))]
