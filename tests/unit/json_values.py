"""Strategies of JSON values, small on purpose: equal parts must be frequent."""

from __future__ import annotations

from typing import Any

from hypothesis import strategies as st

names = st.sampled_from(["a", "b", "c", "", "a/b", "~", "0", "-", "é", "\ud800"])
scalars = (
    st.none()
    | st.booleans()
    | st.integers(-2, 2)
    | st.sampled_from([0.0, -0.0, 1.0, 0.5, 1e300, 10**30])
    | st.sampled_from(["", "x", "1", "\ud800", "\x00"])
)


def _containers(parts: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return st.lists(parts, max_size=4) | st.dictionaries(names, parts, max_size=4)


values = st.recursive(scalars, _containers, max_leaves=10)
objects = st.dictionaries(names, values, max_size=4)
