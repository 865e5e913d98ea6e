"""Three-way merges: laws over any JSON values, and the rules by example."""

from __future__ import annotations

import copy
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from autogen_coord.core.merging import Merged, merge
from autogen_coord.core.values import ABSENT, canonical, same

from .json_values import names, objects, scalars, values

maybe = st.just(ABSENT) | values


@st.composite
def changed(draw: st.DrawFn, base: Any) -> Any:
    """A base with a few changes: most of it stays."""
    how = draw(st.sampled_from(["same", "same", "other", "within", "within", "within"]))
    if how == "other" or base is ABSENT:
        return draw(maybe)
    if how == "within" and isinstance(base, dict):
        fields = {name: draw(changed(base.get(name, ABSENT))) for name in [*base, *draw(st.lists(names, max_size=2))]}
        return {name: value for name, value in fields.items() if value is not ABSENT}
    if how == "within" and isinstance(base, list):
        return [*base, *draw(st.lists(scalars, max_size=2))]
    return copy.deepcopy(base)


@st.composite
def three(draw: st.DrawFn) -> tuple[Any, Any, Any]:
    base = draw(maybe | objects)
    return base, draw(changed(base)), draw(changed(base))


def parts(value: Any) -> list[int]:
    """The ids of all containers in it."""
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else None
    return [] if inner is None else [id(value), *(one for part in inner for one in parts(part))]


@given(maybe, maybe)
def test_one_side_unchanged_takes_the_other(base: Any, side: Any) -> None:
    for merged in (merge(base, base, side), merge(base, side, base), merge(base, side, side)):
        assert merged.conflicts == ()
        assert same(merged.value, side)


@given(three())
def test_exchanged_sides_conflict_in_the_same_places_and_come_to_the_same_value(sides: tuple[Any, Any, Any]) -> None:
    base, theirs, mine = sides
    one, other = merge(base, theirs, mine), merge(base, mine, theirs)
    assert one.conflicts == other.conflicts
    if not one.conflicts:
        assert same(unordered(one.value), unordered(other.value))


def unordered(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: unordered(field) for name, field in value.items()}
    return sorted((unordered(item) for item in value), key=canonical) if isinstance(value, list) else value


@given(three())
def test_nothing_given_is_changed_or_shared(sides: tuple[Any, Any, Any]) -> None:
    before = copy.deepcopy(sides)
    merged = merge(*sides)
    assert all(same(one, other) for one, other in zip(before, sides, strict=True))
    assert not set(parts(merged.value)) & {one for side in sides for one in parts(side)}


@given(three())
def test_each_field_that_only_one_side_changed_is_as_that_side_has_it(sides: tuple[Any, Any, Any]) -> None:
    base, theirs, mine = sides
    if not all(isinstance(side, dict) for side in sides):
        return
    merged = merge(*sides)
    for name in {*base, *theirs, *mine}:
        was, their, my = (side.get(name, ABSENT) for side in sides)
        found = merged.value.get(name, ABSENT)
        if same(was, their):
            assert same(found, my)
        elif same(was, my):
            assert same(found, their)


@given(objects, objects, objects)
def test_disjoint_fields_never_conflict(base: Any, theirs: Any, mine: Any) -> None:
    theirs = {"t" + name: value for name, value in theirs.items()}
    mine = {"m" + name: value for name, value in mine.items()}
    merged = merge(base, {**base, **theirs}, {**base, **mine})
    assert merged.conflicts == ()
    assert same(merged.value, {**base, **theirs, **mine})


@given(values, st.lists(scalars, max_size=3), st.lists(scalars, min_size=1, max_size=3), st.lists(scalars, min_size=1, max_size=3))
def test_two_tails_stand_behind_the_base_theirs_first(first: Any, base: list[Any], theirs: list[Any], mine: list[Any]) -> None:
    base = [first, *base]
    merged = merge(base, base + theirs, base + mine)
    assert merged.conflicts == ()
    assert same(merged.value, base + theirs + ([] if same(theirs, mine) else mine))


CLEAN = [
    # base, theirs, mine, value
    ({"a": 1, "b": 1}, {"a": 2, "b": 1}, {"a": 1, "b": 2}, {"a": 2, "b": 2}),
    ({"a": 1, "b": 1}, {"b": 1}, {"a": 1}, {}),
    ({"a": 1}, {}, {}, {}),
    ({"a": {"x": 1}}, {"a": {"x": 1, "y": 1}}, {"a": {"x": 2}}, {"a": {"x": 2, "y": 1}}),
    ({}, {"a": {"x": 1}}, {"a": {"y": 1}}, {"a": {"x": 1, "y": 1}}),
    (ABSENT, {"a": 1}, {"b": 1}, {"a": 1, "b": 1}),
    (ABSENT, ABSENT, None, None),
    (None, ABSENT, None, ABSENT),
    ({"a": 1}, {"a": None}, {"a": 1, "b": None}, {"a": None, "b": None}),
    ([], [1], [2], [1, 2]),
    ([1], [1], [], []),
    ([1, 2], [1, 3], [1, 3], [1, 3]),
    ([1], [1, 2], [1, 2], [1, 2]),
    ([1], [1, 2], [1, 2, 3], [1, 2, 2, 3]),
    (1, 1.0, 1, 1.0),
]


@pytest.mark.parametrize(("base", "theirs", "mine", "value"), CLEAN)
def test_clean_merges(base: Any, theirs: Any, mine: Any, value: Any) -> None:
    merged = merge(base, theirs, mine)
    assert merged.conflicts == ()
    assert same(merged.value, value)


CONFLICTS = [
    # base, theirs, mine, value, where
    ({"a": 1}, {"a": 2}, {"a": 3}, {"a": 2}, ["/a"]),
    ({"a": 1}, {}, {"a": 3}, {}, ["/a"]),
    ({"a": 1}, {"a": 3}, {}, {"a": 3}, ["/a"]),
    ({"a": {"x": 1}}, {"a": {"x": 1, "y": 1}}, {}, {"a": {"x": 1, "y": 1}}, ["/a"]),
    ({"a": 1}, ABSENT, {"a": 2}, ABSENT, [""]),
    ({"a": 1}, {"a": 2}, ABSENT, {"a": 2}, [""]),
    ({}, {"a": 1}, {"a": True}, {"a": 1}, ["/a"]),
    ({}, {"a": 1}, {"a": 1.0}, {"a": 1}, ["/a"]),
    ({}, {"a": None}, {"a": 0}, {"a": None}, ["/a"]),
    (ABSENT, [1], [2], [1], [""]),
    (5, {"a": 1}, {"b": 1}, {"a": 1}, [""]),
    ([1, 2], [1, 3], [1, 2, 4], [1, 3], [""]),
    ([1], [True, 2], [1, 3], [True, 2], [""]),
    ([1, 2], [1], [1, 2, 3], [1], [""]),
    (
        {"a": {"b/c": {"~": 1}}, "z": 1},
        {"a": {"b/c": {"~": 2}}, "z": 2},
        {"a": {"b/c": {"~": 3}}, "z": 3},
        None,
        ["/a/b~1c/~0", "/z"],
    ),
    ({"z": 1, "a": 1}, {"z": 2, "a": 2}, {"z": 3, "a": 3}, {"z": 2, "a": 2}, ["/a", "/z"]),
    ({"": 1}, {"": 2}, {"": 3}, {"": 2}, ["/"]),
]


@pytest.mark.parametrize(("base", "theirs", "mine", "value", "where"), CONFLICTS)
def test_conflicts_name_their_place_and_keep_theirs(base: Any, theirs: Any, mine: Any, value: Any, where: list[str]) -> None:
    merged = merge(base, theirs, mine)
    assert merged.conflicts == tuple(where)
    assert same(merged.value, theirs if value is None else value)


def test_a_conflict_does_not_lose_the_clean_changes_beside_it() -> None:
    merged = merge({"a": 1, "b": 1, "c": 1}, {"a": 2, "b": 2, "c": 1}, {"a": 3, "b": 1, "c": 2})
    assert merged == Merged({"a": 2, "b": 2, "c": 2}, ("/a",))
