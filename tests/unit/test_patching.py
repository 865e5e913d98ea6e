"""Patches: what the RFCs say, what they leave open, and that a found difference is the difference."""

from __future__ import annotations

import copy
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from autogen_coord import InvalidInputError, PayloadTooLargeError, VersionConflictError
from autogen_coord.core import patching
from autogen_coord.core.patching import apply, diff
from autogen_coord.core.values import same

from .json_values import objects, values

RFC_7396 = [
    # the examples of appendix A: target, patch, result
    ({"a": "b"}, {"a": "c"}, {"a": "c"}),
    ({"a": "b"}, {"b": "c"}, {"a": "b", "b": "c"}),
    ({"a": "b"}, {"a": None}, {}),
    ({"a": "b", "b": "c"}, {"a": None}, {"b": "c"}),
    ({"a": ["b"]}, {"a": "c"}, {"a": "c"}),
    ({"a": "c"}, {"a": ["b"]}, {"a": ["b"]}),
    ({"a": {"b": "c"}}, {"a": {"b": "d", "c": None}}, {"a": {"b": "d"}}),
    ({"a": [{"b": "c"}]}, {"a": [1]}, {"a": [1]}),
    ({"e": None}, {"a": 1}, {"e": None, "a": 1}),
    ([1, 2], {"a": "b", "c": None}, {"a": "b"}),
    ({}, {"a": {"bb": {"ccc": None}}}, {"a": {"bb": {}}}),
    (None, {"a": 1}, {"a": 1}),
]


@pytest.mark.parametrize(("target", "patch", "result"), RFC_7396)
def test_an_object_is_a_merge_patch(target: Any, patch: Any, result: Any) -> None:
    assert same(apply(target, patch), result)


RFC_6902 = [
    # target, operations, result
    ({"foo": "bar"}, [{"op": "add", "path": "/baz", "value": "qux"}], {"baz": "qux", "foo": "bar"}),
    (
        {"foo": [1, 3]},
        [{"op": "add", "path": "/foo/1", "value": 2}, {"op": "add", "path": "/foo/-", "value": 4}],
        {"foo": [1, 2, 3, 4]},
    ),
    ({"a": 1, "b": 2}, [{"op": "remove", "path": "/a"}], {"b": 2}),
    ({"a": 1}, [{"op": "replace", "path": "/a", "value": None}], {"a": None}),
    ({"a": {"x": 1}, "b": {}}, [{"op": "move", "from": "/a/x", "path": "/b/y"}], {"a": {}, "b": {"y": 1}}),
    ({"a": [1]}, [{"op": "copy", "from": "/a", "path": "/b"}, {"op": "add", "path": "/b/-", "value": 2}], {"a": [1], "b": [1, 2]}),
    ({"a": 1}, [{"op": "test", "path": "/a", "value": 1.0}, {"op": "add", "path": "", "value": [1]}], [1]),
    ({"a/b": 1, "m~n": 2}, [{"op": "remove", "path": "/a~1b"}, {"op": "remove", "path": "/m~0n"}], {}),
    ({"a": 1}, [], {"a": 1}),
    ({"a": True}, [{"op": "test", "path": "/a", "value": True, "unknown": 1}], {"a": True}),
]


@pytest.mark.parametrize(("target", "patch", "result"), RFC_6902)
def test_a_list_is_a_patch_of_operations(target: Any, patch: Any, result: Any) -> None:
    assert same(apply(target, patch), result)


@pytest.mark.parametrize(
    "operation",
    [
        {"op": "remove", "path": "/missing"},
        {"op": "replace", "path": "/missing", "value": 1},
        {"op": "replace", "path": "/l/-", "value": 1},
        {"op": "add", "path": "/missing/x", "value": 1},
        {"op": "add", "path": "/l/9", "value": 1},
        {"op": "add", "path": "/l/-1", "value": 1},
        {"op": "add", "path": "/l/01", "value": 1},
        {"op": "add", "path": "/l/-/x", "value": 1},
        {"op": "add", "path": "/t/x", "value": 1},
        {"op": "add", "path": "/a"},
        {"op": "add", "path": "a", "value": 1},
        {"op": "add", "path": "/~2", "value": 1},
        {"op": "add", "path": None, "value": 1},
        {"op": "add", "path": "/l/" + "9" * 5_000, "value": 1},
        {"op": "add", "value": 1},
        {"op": "remove", "path": ""},
        {"op": "move", "from": "/o", "path": "/o/x"},
        {"op": "move", "path": "/a"},
        {"op": "copy", "from": "/missing", "path": "/a"},
        {"op": "copy", "from": 7, "path": "/a"},
        {"op": "copy", "from": "/l/-", "path": "/a"},
        {"op": "move", "from": "/l/-", "path": "/a"},
        {"op": "remove", "path": "/l/-"},
        {"op": "copy", "from": "x", "path": "/a"},
        {"op": "copy", "path": "/a"},
        {"op": "mend", "path": "/a"},
        {"op": None, "path": "/a"},
        {"op": ["add"], "path": "/a"},
        {"path": "/a"},
        {},
        7,
        "add",
        None,
    ],
)
def test_an_operation_that_does_not_apply_is_named(operation: Any) -> None:
    target = {"a": 1, "l": [1], "t": "secret", "o": {}}
    with pytest.raises(InvalidInputError) as refused:
        apply(target, [{"op": "add", "path": "/n", "value": 1}, operation], limit=1_000)
    path = operation.get("path") if isinstance(operation, dict) else ""
    assert refused.value.facts == {"operation": 2, "path": path or ""}
    assert "operation 2" in str(refused.value)
    assert "secret" not in str(refused.value)
    assert refused.value.__cause__ is None  # the library's error quotes the value
    assert refused.value.__suppress_context__
    assert target == {"a": 1, "l": [1], "t": "secret", "o": {}}


@pytest.mark.parametrize("patch", [None, 1, "[]", ({"op": "remove", "path": "/a"},)])
def test_what_is_no_patch_is_refused(patch: Any) -> None:
    with pytest.raises(InvalidInputError, match="RFC 6902"):
        apply({"a": 1}, patch)


@pytest.mark.parametrize(
    ("value", "tested"),
    [
        (1, True),
        (True, 1),
        (0, False),
        ([1], [True]),
        ({"x": 0}, {"x": False}),
        (None, 0),
        ("1", 1),
        ("secret", "x"),
        ([], {}),
        (1, 2),
    ],
)
def test_a_failed_test_is_a_lost_compare_and_set(value: Any, tested: Any) -> None:
    target = {"a": value}
    with pytest.raises(VersionConflictError) as lost:
        apply(
            target,
            [
                {"op": "remove", "path": "/a"},
                {"op": "add", "path": "/a", "value": value},
                {"op": "test", "path": "/a", "value": tested},
            ],
        )
    assert lost.value.facts == {"operation": 3, "path": "/a"}
    assert "secret" not in str(lost.value)
    assert lost.value.__cause__ is None
    assert lost.value.__suppress_context__
    assert same(target, {"a": value})


def test_a_test_of_what_is_not_there_fails() -> None:
    with pytest.raises(VersionConflictError):
        apply({}, [{"op": "test", "path": "/a", "value": None}])


def test_copies_cannot_fill_the_memory() -> None:
    bomb = [{"op": "copy", "from": "", "path": f"/{number}"} for number in range(200)]
    with pytest.raises(PayloadTooLargeError) as refused:
        apply({"a": "x" * 100}, bomb, limit=10_000)
    assert refused.value.facts["limit"] == 10_000
    assert 1 < refused.value.operation < 10


@pytest.mark.parametrize("limit", [None, 1_000_000])
@pytest.mark.parametrize("rounds", [500, 5_000])
def test_a_patch_that_nests_without_end_is_refused_where_it_is_too_deep(
    rounds: int, limit: int | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(patching, "OPERATIONS", 20_000)  # a deep value is nested too deep by fewer
    deeper = [
        {"op": "add", "path": "/w", "value": {}},
        {"op": "move", "from": "/a", "path": "/w/x"},
        {"op": "move", "from": "/w", "path": "/a"},
    ]
    with pytest.raises(InvalidInputError) as refused:
        apply({"a": 1}, [*deeper * rounds, {"op": "copy", "from": "/a", "path": "/b"}], limit)
    assert refused.value.facts == {"operation": 3 * rounds + 1, "path": "/b"}


def test_copies_up_to_the_limit_are_made() -> None:
    assert apply({"a": 10}, [{"op": "copy", "from": "/a", "path": "/b"}] * 2, limit=4) == {"a": 10, "b": 10}
    with pytest.raises(PayloadTooLargeError):
        apply({"a": 10}, [{"op": "copy", "from": "/a", "path": "/b"}] * 3, limit=4)


@given(values, values)
def test_a_difference_applied_makes_exactly_the_other_value(one: Any, other: Any) -> None:
    before = copy.deepcopy((one, other))
    found = diff(one, other)
    assert same(apply(one, found), other)
    assert (found == []) == same(one, other)
    assert same([one, other], list(before))


@given(objects, st.data())
def test_close_values_differ_by_few_operations(one: dict[str, Any], data: st.DataObject) -> None:
    other = copy.deepcopy(one)
    other["new"] = data.draw(values)
    found = diff(one, other)
    assert len(found) == 1
    assert same(apply(one, found), other)


@pytest.mark.parametrize(("one", "other"), [(1, True), (1, 1.0), (True, 1.0), (0, False), ([1], [True]), ({"a": 0}, {"a": 0.0})])
def test_a_difference_tells_whole_numbers_others_and_booleans_apart(one: Any, other: Any) -> None:
    assert same(apply(one, diff(one, other)), other)
    assert same(apply({"a": one, "b": other}, diff({"a": one, "b": other}, {"a": other, "b": one})), {"a": other, "b": one})


@given(objects, objects)
def test_a_patch_changes_and_shares_nothing_given(target: Any, patch: Any) -> None:
    target, patch = {**target, "kept": [[]]}, {**patch, "made": [[]]}
    operations = [{"op": "add", "path": "/made", "value": patch["made"]}, {"op": "copy", "from": "/kept", "path": "/copied"}]
    before = copy.deepcopy((target, patch, operations))
    for result in (apply(target, patch), apply(target, operations)):
        result["made"][0].append(9)
        if isinstance(result.get("kept"), list):
            result["kept"][0].append(9)
    assert same([target, patch, operations], list(before))


odd = values | st.fixed_dictionaries(
    {},
    optional={
        "op": st.sampled_from(["add", "remove", "replace", "move", "copy", "test", "x"]) | values,
        "path": st.sampled_from(["", "/", "/a", "/a/0", "/a/-", "/b/-/c", "/a/b/c", "a", "/~"]) | values,
        "from": st.sampled_from(["", "/", "/a", "/a/0", "/b/-", "/~"]) | values,
        "value": values,
    },
)


@given(values, st.lists(odd, max_size=4) | values)
def test_whatever_is_passed_as_a_patch_is_applied_or_refused_by_a_typed_error(target: Any, patch: Any) -> None:
    before = copy.deepcopy(target)
    try:
        apply(target, patch, limit=1_000)
    except (InvalidInputError, VersionConflictError, PayloadTooLargeError):
        pass
    assert same(target, before)


def test_a_patch_of_very_many_operations_is_refused_before_it_is_applied() -> None:
    operations = [{"op": "replace", "path": "/n", "value": 1}] * (patching.OPERATIONS + 1)
    with pytest.raises(PayloadTooLargeError, match="split it") as refused:
        apply({"n": 0}, operations, limit=10_000)
    assert (refused.value.size, refused.value.limit) == (1_001, 1_000)
    assert apply({"n": 0}, operations[1:], limit=10_000) == {"n": 1}
    assert apply({"n": 0}, operations) == {"n": 1}


@pytest.mark.parametrize(
    "operations",
    [
        [{"op": "add", "path": "/l/0", "value": 1}] * 10,
        [{"op": "remove", "path": "/l/0"}] * 13,
        [{"op": "copy", "from": "/n", "path": "/l/0"}] * 10,
        [{"op": "move", "from": "/l/0", "path": "/l/5"}] * 10,
    ],
)
def test_what_moves_very_many_items_of_arrays_is_refused(operations: list[Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(patching, "MOVED", 1_000)
    value = {"l": list(range(100)), "n": 0}
    with pytest.raises(PayloadTooLargeError, match="move more than 1,000 items"):
        apply(value, operations, limit=10_000)
    assert len(apply(value, operations[:4], limit=10_000)["l"]) in (96, 100, 104)


def test_what_is_put_behind_an_array_or_replaced_in_it_moves_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(patching, "MOVED", 0)
    patched = apply([1, 2], [{"op": "add", "path": "/-", "value": 3}, {"op": "replace", "path": "/0", "value": 0}] * 3, limit=0)
    assert patched == [0, 2, 3, 3, 3]
