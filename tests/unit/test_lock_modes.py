"""The lock modes against the published table, their algebra, and paths."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from autogen_coord import InvalidInputError
from autogen_coord.core import lock_modes
from autogen_coord.core.lock_modes import (
    ABOVE,
    AT,
    BELOW,
    DEEPEST,
    LONGEST,
    MODES,
    LockMode,
    ancestors,
    combine,
    compatible,
    conflicts,
    covers,
    includes,
    intent,
    shown,
    stored,
)
from autogen_coord.core.lock_queue import end_of

COMPATIBLE = """
      IS   IX   S    SIX  X
IS    yes  yes  yes  yes  no
IX    yes  yes  no   no   no
S     yes  no   yes  no   no
SIX   yes  no   no   no   no
X     no   no   no   no   no
"""
"""Gray, Lorie, Putzolu, Traiger 1976, table 1 (without the column of no lock at all)."""
COMBINED = """
      IS   IX   S    SIX  X
IS    IS   IX   S    SIX  X
IX    IX   IX   SIX  SIX  X
S     S    SIX  S    SIX  X
SIX   SIX  SIX  SIX  SIX  X
X     X    X    X    X    X
"""
"""The new mode of a conversion: their table 2."""

modes = st.sampled_from(MODES)
names = st.text(st.sampled_from("ab.! ~é"), min_size=1, max_size=2).filter(lambda name: name not in (".", ".."))
paths = st.lists(names, min_size=1, max_size=4).map("/".join).map(stored)


def table(text: str) -> dict[tuple[str, str], str]:
    head, *lines = text.strip().splitlines()
    columns = head.split()
    return {(row, column): cell for row, *cells in map(str.split, lines) for column, cell in zip(columns, cells, strict=True)}


def test_modes_go_together_as_published() -> None:
    assert {pair: "yes" if compatible(*pair) else "no" for pair in table(COMPATIBLE)} == table(COMPATIBLE)
    assert len(table(COMPATIBLE)) == len(MODES) ** 2


def test_a_conversion_holds_what_is_published() -> None:
    assert {pair: combine(*pair) for pair in table(COMBINED)} == table(COMBINED)


def test_above_a_lock_there_is_an_intent() -> None:
    assert [intent(mode) for mode in ("IS", "IX", "S", "SIX", "X")] == ["IS", "IX", "IS", "IX", "IX"]
    assert all(includes(mode, intent(mode)) for mode in MODES)


@given(modes, modes, modes)
def test_combining_is_a_join(one: str, other: str, third: str) -> None:
    both = combine(one, other)
    assert both == combine(other, one)
    assert combine(one, one) == one
    assert combine(both, third) == combine(one, combine(other, third))
    assert includes(both, one) and includes(both, other)  # noqa: PT018
    if includes(third, one) and includes(third, other):
        assert includes(third, both)


@given(modes, modes, modes)
def test_who_holds_more_goes_with_less(one: str, other: str, third: str) -> None:
    assert compatible(one, other) == compatible(other, one)
    if includes(one, other) and compatible(one, third):
        assert compatible(other, third)
    if includes(one, other) and includes(other, one):
        assert one == other
    if includes(one, other) and includes(other, third):
        assert includes(one, third)


@given(modes, paths, modes, paths)
def test_a_conflict_is_mutual(mode: str, path: str, held: str, place: str) -> None:
    assert conflicts(mode, path, held, place) == conflicts(held, place, mode, path)


@given(modes, modes, st.data())
def test_a_conflict_shows_where_two_paths_meet(mode: str, held: str, data: st.DataObject) -> None:
    path = data.draw(paths)
    above = data.draw(st.sampled_from(ancestors(path) or [path]))
    assert conflicts(mode, path, held, path) == (held in AT[mode]) == (not compatible(mode, held))
    if above != path:
        assert conflicts(mode, path, held, above) == (held in ABOVE[mode]) == (not compatible(intent(mode), held))
        assert conflicts(mode, above, held, path) == (held in BELOW[mode]) == (not compatible(mode, intent(held)))


@given(modes, modes, paths, paths)
def test_paths_that_do_not_contain_each_other_never_conflict(mode: str, held: str, path: str, place: str) -> None:
    one, other = shown(path).split("/"), shown(place).split("/")
    apart = one[: len(other)] != other and other[: len(one)] != one
    if apart:
        assert not conflicts(mode, path, held, place)
        assert not covers(held, place, mode, path)


def at_or_above(data: st.DataObject, path: str) -> str:
    return data.draw(st.sampled_from([path, *ancestors(path)]))


@given(modes, modes, modes, st.data())
def test_what_covers_what_covers_covers(one: str, other: str, third: str, data: st.DataObject) -> None:
    low = data.draw(paths)
    middle = at_or_above(data, low)
    top = at_or_above(data, middle)
    if covers(one, top, other, middle) and covers(other, middle, third, low):
        assert covers(one, top, third, low)


@given(modes, modes, modes, st.data())
def test_what_is_covered_excludes_nobody_more(held: str, mode: str, other: str, data: st.DataObject) -> None:
    lowest = data.draw(paths)
    path, elsewhere = at_or_above(data, lowest), at_or_above(data, lowest)
    place = at_or_above(data, path)
    if covers(held, place, mode, path) and conflicts(mode, path, other, elsewhere):
        assert conflicts(held, place, other, elsewhere)


@pytest.mark.parametrize(
    ("held", "place", "mode", "path", "gives"),
    [
        ("X", "a", "X", "a/b", True), ("X", "a", "S", "a/b/c", True), ("S", "a", "S", "a/b", True), ("S", "a", "X", "a/b", False),
        ("SIX", "a", "S", "a/b", True), ("SIX", "a", "X", "a/b", False), ("IX", "a", "IX", "a/b", False),
        ("IX", "a", "IS", "a", True), ("X", "a/b", "X", "a", False), ("X", "a", "X", "ab", False), ("SIX", "a", "IX", "a", True),
    ],
)  # fmt: skip
def test_a_lock_covers_what_lies_below_it(held: str, place: str, mode: str, path: str, gives: bool) -> None:
    assert covers(held, stored(place), mode, stored(path)) is gives


# modes and paths as people write them


@pytest.mark.parametrize("mode", ["X", LockMode.EXCLUSIVE])
def test_a_mode_may_be_written_by_its_letters(mode: object) -> None:
    assert LockMode.of(mode) is LockMode.EXCLUSIVE


@pytest.mark.parametrize("mode", ["x", "", "U", "exclusive", None, 1, 0.5, ["X"], {}, b"X", "X" * 10_000])
def test_an_unknown_mode_is_refused_with_those_there_are(mode: object) -> None:
    with pytest.raises(InvalidInputError, match="one of IS, IX, S, SIX, X") as caught:
        LockMode.of(mode)
    assert len(str(caught.value)) < 150


@pytest.mark.parametrize(
    "path",
    [
        "", "/", "//", "/a", "a/", "a//b", ".", "..", "a/..", "a/./b", "../a", "a\x00b", "a\nb", "\x7f", "a\ud800", "a/\x1f",
        "a" * (LONGEST + 1), "/".join("a" * (DEEPEST + 1)), None, 1, b"a", ["a"], ("a", "b"),
    ],
)  # fmt: skip
def test_an_absurd_path_is_refused_in_few_words(path: object) -> None:
    with pytest.raises(InvalidInputError, match="path") as caught:
        stored(path)
    assert len(str(caught.value)) < 250


@pytest.mark.parametrize(
    "path",
    ["a", "repo/src/a.py", "a b/c", "é/日本/🙂", "...", "a..b/.c", " ", "a\\b", "C:", "*", "a" * LONGEST, "/".join("a" * DEEPEST)],
)
def test_a_path_comes_back_as_it_was_written(path: str) -> None:
    assert shown(stored(path)) == path
    assert stored(path).endswith("/")


def test_the_ancestors_of_a_path_are_those_above_it() -> None:
    assert ancestors("a/") == []
    assert ancestors("a/b/c/") == ["a/", "a/b/"]


@given(paths, paths)
def test_what_lies_below_a_path_is_one_range_of_keys(path: str, other: str) -> None:
    below = shown(other).split("/")[: len(shown(path).split("/"))] == shown(path).split("/")
    assert (path <= other < end_of(path)) == below
    assert (path in ancestors(other)) == (below and other != path)
    assert (path + "\x01" <= other < end_of(path)) == (below and other != path)


def test_every_mode_has_its_letters() -> None:
    assert (
        [mode.value for mode in LockMode]
        == list(MODES)
        == [lock_modes.IS, lock_modes.IX, lock_modes.S, lock_modes.SIX, lock_modes.X]
    )
