"""Drafts: several changes of one document are written as one, and that one does what they would do one after the other."""

from __future__ import annotations

from typing import Any

from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from autogen_coord.core import bodies
from autogen_coord.core.documents import DELETE, PATCH, PUT
from autogen_coord.core.drafts import Draft, draft
from autogen_coord.core.state import Edit
from autogen_coord.core.store import Rows
from autogen_coord.errors import CoordError, VersionConflictError
from tests.conftest import Ground
from tests.unit.shelf import BY, Shelf

ADD, ALL = {"n": "add"}, {"n": "add", "l": "append", "u": "union", "m": "max"}
numbers = st.integers(0, 3)
leaves = st.none() | numbers | st.lists(numbers, max_size=2)
objects = st.fixed_dictionaries(
    {}, optional={"n": numbers, "l": st.lists(numbers, max_size=2), "x": leaves | st.fixed_dictionaries({}, optional={"y": leaves})}
)
updates = st.fixed_dictionaries(
    {}, optional={"n": numbers, "l": st.lists(numbers, max_size=2), "u": st.lists(numbers, max_size=2), "m": numbers, "x": leaves}
)
operations = st.one_of(
    st.builds(lambda name, value: {"op": "add", "path": f"/{name}", "value": value}, st.sampled_from("nlxz"), leaves),
    st.builds(lambda name: {"op": "remove", "path": f"/{name}"}, st.sampled_from("nlxz")),
    st.just({"op": "add", "path": "/l/-", "value": 9}),
)


def put(value: Any) -> Edit:
    return Edit("a", PUT, bodies.encode(value))


def patch(patch: Any) -> Edit:
    return Edit("a", PATCH, bodies.encode(patch))


def update(value: Any, reducers: dict[str, str]) -> Edit:
    return Edit("a", PUT, bodies.encode(value), None, "reduce", reducers)


DELETED = Edit("a", DELETE, None, missing_ok=True)
changes = st.one_of(
    st.builds(put, objects),
    st.builds(patch, objects),
    st.builds(patch, st.lists(operations, min_size=1, max_size=2)),
    st.builds(update, updates, st.sampled_from([ADD, ALL])),
    st.just(DELETED),
)


class _Seen(Exception):
    """Nothing is committed."""

    def __init__(self, draft: Draft) -> None:
        self.draft = draft


def drawn(ground: Ground, one: Edit, known: Draft | None) -> Draft:
    """The draft, of what stands in the store. Raises: what the rule refuses."""

    def look(rows: Rows, now: float) -> None:
        raise _Seen(draft(rows, one, known, BY, ground.policy))

    try:
        ground.store.transact_blocking(look)
    except _Seen as seen:
        return seen.draft
    raise AssertionError("unreachable")


def shelf_with(first: Any) -> Shelf:
    ground = Ground(collecting=True)
    ground.session()
    shelf = Shelf(ground)
    if first is not None:
        shelf.put("a", first)
    return shelf


def all_drawn(ground: Ground, edits: list[Edit]) -> tuple[Draft | None, list[Edit]]:
    """What they come to together, and those that were not refused."""
    known, good = None, []
    for one in edits:
        try:
            known = drawn(ground, one, known)
        except CoordError:
            continue
        good.append(one)
    return known, good


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.none() | objects, st.lists(changes, min_size=1, max_size=4))
def test_undisturbed_one_change_does_what_all_do_in_turn_and_what_was_seen(first: Any, edits: list[Edit]) -> None:
    one_by_one, together = shelf_with(first), shelf_with(first)
    known, good = all_drawn(together.ground, edits)
    for each in good:
        one_by_one.write(each)
    assert (known is None) == (not good)
    if known is None:
        return
    together.write(known.edit)
    assert together.value("a") == one_by_one.value("a")
    seen = None if known.row is None or known.row.value is None else bodies.decode(known.row.value)
    assert seen == together.value("a")
    if seen is not None:
        assert known.row is not None
        assert together.row("a").version == known.row.version


@settings(max_examples=250, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.none() | objects, st.lists(changes, min_size=1, max_size=4), changes)
@example({"n": 1}, [update({"n": 1}, ADD), patch({"x": 1})], update({"n": 2}, ADD))
@example({"x": 1}, [patch({"x": None}), patch({"x": {"y": None}})], patch({"x": {"y": 1, "z": 2}}))
def test_when_another_wrote_meanwhile_it_does_so_to_what_stands_there_or_is_refused(
    first: Any, edits: list[Edit], others: Edit
) -> None:
    one_by_one, together = shelf_with(first), shelf_with(first)
    known, good = all_drawn(together.ground, edits)
    try:
        one_by_one.write(others)
        together.write(others)
    except CoordError:
        return
    if known is None:
        return
    try:
        for each in good:
            one_by_one.write(each)
    except CoordError:
        return  # one of them no longer applies; together they may
    try:
        together.write(known.edit)
    except VersionConflictError:
        assert len(good) > 1
    else:
        assert together.value("a") == one_by_one.value("a")


def test_an_expected_version_is_that_of_the_first_change() -> None:
    shelf = shelf_with({"n": 1})
    first = drawn(shelf.ground, put(1)._replace(expected=1), None)
    second = drawn(shelf.ground, put(2), first)
    assert second.edit.expected == 1
    third = drawn(shelf.ground, put(2)._replace(expected=2), drawn(shelf.ground, put(1), None))  # of its own
    assert third.edit.expected == 1
