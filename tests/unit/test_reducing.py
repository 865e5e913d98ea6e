"""Reducers: laws by which updates of many writers add up in any order, places, and what does not fit."""

from __future__ import annotations

import copy
import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from autogen_coord import InvalidInputError
from autogen_coord.core.reducing import GREATEST, Reducer, checked, reduce
from autogen_coord.core.values import ABSENT, canonical, same

from .json_values import objects, values

lists = st.lists(values, max_size=4)
numbers = st.integers(-1_000, 1_000)
texts = st.text(max_size=3)
by_reducer = [("add", numbers), ("max", numbers), ("max", texts), ("union", lists), ("append", lists)]


def folded(reducer: str, *updates: Any) -> Any:
    value: Any = ABSENT
    for update in updates:
        value = reduce(value, {"f": update}, {"f": reducer})
    return value["f"]


def unordered(reducer: str, value: Any) -> Any:
    return sorted(map(canonical, value)) if reducer in ("union", "append") else value


@pytest.mark.parametrize(("reducer", "inputs"), by_reducer)
@given(st.data())
def test_updates_come_to_the_same_in_any_order_and_grouping(
    reducer: str, inputs: st.SearchStrategy[Any], data: st.DataObject
) -> None:
    one, two, three = data.draw(inputs), data.draw(inputs), data.draw(inputs)
    found = unordered(reducer, folded(reducer, one, two, three))
    assert found == unordered(reducer, folded(reducer, three, one, two))
    assert found == unordered(reducer, folded(reducer, one, folded(reducer, two, three)))


@given(lists, lists)
def test_a_union_has_each_item_once_where_it_stood_first(one: list[Any], other: list[Any]) -> None:
    union = folded("union", one, other)
    assert same(folded("union", union, union), union)
    keys = [canonical(item) for item in [*one, *other]]
    assert [canonical(item) for item in union] == list(dict.fromkeys(keys))


@given(lists, lists)
def test_append_keeps_everything_in_order(one: list[Any], other: list[Any]) -> None:
    assert same(folded("append", one, other), [*one, *other])


@given(st.just(ABSENT) | objects, objects)
def test_without_a_reducer_the_update_replaces_field_by_field(current: Any, update: Any) -> None:
    assert same(reduce(current, update, {}), {**({} if current is ABSENT else current), **update})


@given(objects, objects)
def test_nothing_given_is_changed_or_shared(current: Any, update: Any) -> None:
    current, update = {**current, "l": [[1]], "o": {"x": {}}}, {**update, "l": [[2]], "p": {"y": {}}}
    before = copy.deepcopy((current, update))
    result = reduce(current, update, {"l": "append"})
    result["l"][0].append(9)
    result["l"][1].append(9)
    if isinstance(result["o"], dict):
        result["o"]["x"]["z"] = 9
    result["p"]["y"]["z"] = 9
    assert same([current, update], list(before))


def test_reducers_reach_fields_further_in_and_the_rest_is_replaced() -> None:
    current = {"stats": {"files": 2, "note": "old", "by": {"a": 1}}, "log": ["x"], "kept": 1}
    update = {"stats": {"files": 3, "note": "new"}, "log": ["y"], "made": {"k": 1}}
    reducers = {"/stats/files": "add", "/stats/by/a": "max", "log": Reducer.APPEND}
    assert reduce(current, update, reducers) == {
        "stats": {"files": 5, "note": "new", "by": {"a": 1}},
        "log": ["x", "y"],
        "kept": 1,
        "made": {"k": 1},
    }
    assert reduce(ABSENT, {"stats": {"files": 3}}, reducers) == {"stats": {"files": 3}}


def test_odd_names_and_the_whole_value_can_be_reduced() -> None:
    assert reduce({"a/b": {"~": 1}}, {"a/b": {"~": 2}}, {"/a~1b/~0": "add"}) == {"a/b": {"~": 3}}
    assert reduce({"a/b": 1, "a": {"b": 1}}, {"a/b": 2, "a": {"b": 2}}, {"a/b": "add"}) == {"a/b": 3, "a": {"b": 2}}
    assert reduce({"~1": 1}, {"~1": 2}, {"/~01": "add"}) == {"~1": 3}
    assert reduce({"": 1}, {"": 2}, {"/": "add"}) == {"": 3}
    assert reduce([1], [2], {"": "append"}) == [1, 2]


def test_a_union_tells_numbers_and_booleans_apart_and_takes_objects() -> None:
    assert same(
        folded("union", [1, {"a": 1, "b": 2}], [True, 1.0, {"b": 2, "a": 1}, 1, [1], [1]]), [1, {"a": 1, "b": 2}, True, 1.0, [1]]
    )


MISFITS = [
    # reducer, current, update, words for both
    ("add", 1, "2", "a number", "a text"),
    ("add", "1", 2, "a text", "a number"),
    ("add", True, 2, "a boolean", "a number"),
    ("add", 1, True, "a number", "a boolean"),
    ("add", None, 1, "null", "a number"),
    ("add", ABSENT, True, "absent", "a boolean"),
    ("max", 1, "2", "a number", "a text"),
    ("max", True, False, "a boolean", "a boolean"),
    ("max", 1, True, "a number", "a boolean"),
    ("max", ABSENT, None, "absent", "null"),
    ("max", [1], [2], "an array", "an array"),
    ("append", [1], 2, "an array", "a number"),
    ("append", {}, [1], "an object", "an array"),
    ("append", None, [1], "null", "an array"),
    ("append", ABSENT, "xy", "absent", "a text"),
    ("union", "ab", ["c"], "a text", "an array"),
    ("union", [1], {"a": 1}, "an array", "an object"),
]


@pytest.mark.parametrize(("reducer", "current", "update", "was", "came"), MISFITS)
def test_types_that_do_not_fit_are_refused_by_field_and_both_types(
    reducer: str, current: Any, update: Any, was: str, came: str
) -> None:
    value = {"s": {} if current is ABSENT else {"f": current}}
    with pytest.raises(InvalidInputError) as refused:
        reduce(value, {"s": {"f": update}}, {"/s/f": reducer})
    assert refused.value.facts == {"field": "/s/f", "current": was, "update": came}
    assert "/s/f" in str(refused.value)
    assert was in str(refused.value)
    assert came in str(refused.value)


@pytest.mark.parametrize(("current", "update"), [(1, {"f": 1}), ({}, 1), ({}, None), ([], {"f": 1}), (None, {"f": 1})])
def test_only_objects_have_fields_to_reduce(current: Any, update: Any) -> None:
    with pytest.raises(InvalidInputError, match="objects"):
        reduce(current, update, {"f": "add"})
    with pytest.raises(InvalidInputError, match="'/s'"):
        reduce({"s": current}, {"s": update}, {"/s/f": "add"})


@pytest.mark.parametrize(
    ("reducer", "current", "update"),
    [
        ("add", GREATEST, 1),
        ("add", -GREATEST, -1),
        ("add", 1e308, 1e308),
        ("add", 10**400, 0.5),
        ("add", 1, math.nan),
        ("add", 1, math.inf),
        ("max", 1, math.inf),
        ("max", math.nan, 1),
    ],
)
def test_results_that_are_no_number_are_refused(reducer: str, current: Any, update: Any) -> None:
    with pytest.raises(InvalidInputError) as refused:
        reduce({"f": current}, {"f": update}, {"f": reducer})
    assert refused.value.field == "/f"


def test_the_range_of_sums_ends_where_it_says() -> None:
    assert folded("add", GREATEST - 1, 1) == GREATEST
    assert folded("add", 1, 0.5) == 1.5
    assert folded("max", 2**70, 1) == 2**70


@pytest.mark.parametrize(
    "reducers",
    [{"f": "sum"}, {"f": None}, {"a": "add", "/a/b": "add"}, {"/a/b": "add", "a": "add"}, {"a": "add", "/a": "max"}, {"/~2": "add"},
     {"": "append", "a": "add"}, {1: "add"}],
)  # fmt: skip
def test_reducers_that_cannot_be_meant_are_refused(reducers: Any) -> None:
    with pytest.raises(InvalidInputError, match="reducer"):
        checked(reducers)
    with pytest.raises(InvalidInputError, match="reducer"):
        reduce({}, {}, reducers)


def test_reducers_are_stored_as_plain_text() -> None:
    assert checked({"a": Reducer.ADD, "/b/c": "union"}) == {"a": "add", "/b/c": "union"}
    assert all(type(one) is str for one in checked({"a": Reducer.ADD}).values())
