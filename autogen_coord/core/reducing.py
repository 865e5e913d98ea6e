"""Reducers: how an update is folded into a value field by field, so that updates of many writers add up instead of competing.

Which field has which reducer is a mapping: a name stands for a field of the value, a text that begins with a slash is a JSON
pointer (RFC 6901) to a field of objects further in, "" is the whole value. ``{"findings": "union", "/stats/files": "add"}``.

- A field of the update with a reducer is reduced with the field's value; where there is none yet, with the reducer's identity:
  the empty array for ``append`` and ``union``; for ``add`` and ``max`` the update is the first value.
- An object on the way to a reducer is folded field by field. Any other field of the update replaces the field's value.
- What the update does not name stays.

JSON's null is a value, not a missing one: nothing can be reduced with it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from enum import StrEnum
from typing import Any

from ..errors import InvalidInputError
from .values import ABSENT, canonical, copied, kind, pointer

GREATEST = 2**63 - 1
"""A whole number that ``add`` makes is not greater than this, nor less than minus this."""


class Reducer(StrEnum):
    """How a field's value and its update become one."""

    APPEND = "append"
    """The items of the update, an array, behind those of the value."""
    ADD = "add"
    """The sum of two numbers."""
    UNION = "union"
    """The items of both arrays, each once, where it stood first; 1, 1.0 and true are three items."""
    MAX = "max"
    """The greater of two numbers, or of two texts by their characters; the value, when neither is."""

    @classmethod
    def of(cls, reducer: object) -> Reducer:
        """From a reducer or its name. Raises: InvalidInputError."""
        try:
            return cls(reducer)  # type: ignore[arg-type]
        except ValueError:
            raise InvalidInputError(f"reducer {reducer!r:.50}: one of {', '.join(cls)}") from None


class _Rules:
    """Reducers as a tree: of this place, or of places in it."""

    def __init__(self) -> None:
        self.reducer: Reducer | None = None
        self.fields: dict[str, _Rules] = {}


def checked(reducers: Mapping[str, Reducer | str]) -> dict[str, str]:
    """Reducers as they are stored.

    Raises: InvalidInputError for what is no reducer or no pointer, and when one place has two, or lies in another's.
    """
    _rules(reducers)
    return {field: Reducer.of(reducer).value for field, reducer in reducers.items()}


def reduce(current: Any, update: Any, reducers: Mapping[str, Reducer | str]) -> Any:
    """The value with the update folded in; ``current`` may be `ABSENT`. Neither is changed, and the result shares no
    part with them.

    Raises: InvalidInputError, with the ``field`` (a JSON pointer), when the types do not fit its reducer, or when a sum is no
    number that JSON can hold.
    """
    return copied(_reduce(current, update, _rules(reducers), ()))


def _reduce(current: Any, update: Any, rules: _Rules, at: tuple[str, ...]) -> Any:
    if rules.reducer is not None:
        return _WAYS[rules.reducer](current, update, pointer(at))
    if at and not rules.fields:
        return update
    if current is ABSENT:
        current = {}
    if not isinstance(current, dict) or not isinstance(update, dict):
        raise _unfit("fields of it are reduced, which wants objects", current, update, pointer(at))
    folded = dict(current)
    for name, field in update.items():
        folded[name] = _reduce(current.get(name, ABSENT), field, rules.fields.get(name, _Rules()), (*at, name))
    return folded


def _rules(reducers: Mapping[str, Reducer | str]) -> _Rules:
    root = _Rules()
    for field, reducer in reducers.items():
        place, chosen = root, Reducer.of(reducer)
        for name in _names(field):
            if place.reducer is not None:
                raise _twice(field)
            place = place.fields.setdefault(name, _Rules())
        if place.reducer is not None or place.fields:
            raise _twice(field)
        place.reducer = chosen
    return root


def _names(field: object) -> list[str]:
    if not isinstance(field, str):
        raise InvalidInputError(f"reducers: the field {field!r:.50} is not a text")
    if not field.startswith("/"):
        return [field] if field else []
    names = [name.replace("~1", "/").replace("~0", "~") for name in field.split("/")[1:]]
    if pointer(names) != field:
        raise InvalidInputError(f"reducers: {field!r:.80} is no JSON pointer: write ~0 for '~' and ~1 for '/' in a name")
    return names


def _twice(field: str) -> InvalidInputError:
    return InvalidInputError(f"reducers: {field!r:.80} lies in, above or at a place that has a reducer already: name one of them")


def _append(current: Any, update: Any, field: str) -> Any:
    return [*_items("append", current, update, field), *update]


def _union(current: Any, update: Any, field: str) -> Any:
    items = [*_items("union", current, update, field), *update]
    first: dict[str, Any] = {}
    for item in items:
        first.setdefault(canonical(item), item)
    return list(first.values())


def _items(reducer: str, current: Any, update: Any, field: str) -> list[Any]:
    if current is ABSENT:
        current = [] if isinstance(update, list) else ABSENT
    if not isinstance(current, list) or not isinstance(update, list):
        raise _unfit(f"{reducer} wants arrays", current, update, field)
    return current


def _add(current: Any, update: Any, field: str) -> Any:
    if not _is_number(update) or not (current is ABSENT or _is_number(current)):
        raise _unfit("add wants numbers", current, update, field)
    try:
        total = update if current is ABSENT else current + update
    except OverflowError:  # a whole number that no float comes near
        total = math.inf
    if not (math.isfinite(total) if isinstance(total, float) else abs(total) <= GREATEST):
        raise InvalidInputError(f"field {field!r:.80}: the sum leaves the range of numbers; write the value with put", field=field)
    return total


def _max(current: Any, update: Any, field: str) -> Any:
    first = update if current is ABSENT else current
    if not ((_is_number(first) and _is_number(update)) or (isinstance(first, str) and isinstance(update, str))):
        raise _unfit("max wants two numbers or two texts", current, update, field)
    if any(isinstance(one, float) and not math.isfinite(one) for one in (first, update)):
        raise InvalidInputError(f"field {field!r:.80}: pass numbers that are finite", field=field)
    return update if update > first else first


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _unfit(wanted: str, current: Any, update: Any, field: str) -> InvalidInputError:
    return InvalidInputError(
        f"field {field!r:.80}: {wanted}; the value is {kind(current)}, the update {kind(update)}",
        field=field,
        current=kind(current),
        update=kind(update),
    )


_WAYS = {Reducer.APPEND: _append, Reducer.ADD: _add, Reducer.UNION: _union, Reducer.MAX: _max}
