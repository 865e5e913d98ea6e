"""The three-way merge of JSON values: what two writers made of one base, brought together, or the places where it cannot be.

- Objects are merged field by field, at any depth. Two objects made where nothing was are merged so too.
- What only one side changed (made, replaced, deleted) is as that side has it. What both changed alike is so.
- An array is one value, but for this: where both sides only appended to the base's array, and did not append the same, the
  result is the base, then their tail, then mine. An item that both tails have stands there twice.
- All else is a conflict: two different changes of one place, a deletion against a change of something in it, two different
  arrays made where nothing was.

Changes are told by `values.same`: 1, 1.0 and true are different values, the order of fields is not looked at.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from .values import ABSENT, copied, pointer, same


@dataclass(frozen=True, slots=True)
class Merged:
    """What a merge came to. It shares no part with what was merged."""

    value: Any
    """The merged value, `ABSENT` where it was deleted. In a place of conflict it has what *they* have."""
    conflicts: tuple[str, ...]
    """JSON pointers to where the sides disagree, in order of text; "" is the whole value. None: the merge is clean."""


def merge(base: Any, theirs: Any, mine: Any) -> Merged:
    """Brings two changes of one base together.

    Each is a JSON value as `values.checked` lets it through, or `ABSENT`; none is changed. The sides may be exchanged: the
    conflicts are the same, and so is a clean value, but for the order in which two tails of an array stand.
    """
    conflicts: list[str] = []
    value = _merge(base, theirs, mine, (), conflicts)
    return Merged(copied(value), tuple(sorted(conflicts)))


def _merge(base: Any, theirs: Any, mine: Any, at: tuple[str, ...], conflicts: list[str]) -> Any:
    if isinstance(theirs, dict) and isinstance(mine, dict) and (base is ABSENT or isinstance(base, dict)):
        return dict(_fields({} if base is ABSENT else base, theirs, mine, at, conflicts))
    if same(theirs, mine) or same(base, mine):
        return theirs
    if same(base, theirs):
        return mine
    if _appended(base, theirs) and _appended(base, mine):
        return [*theirs, *mine[len(base) :]]
    conflicts.append(pointer(at))
    return theirs


def _fields(
    base: dict[str, Any], theirs: dict[str, Any], mine: dict[str, Any], at: tuple[str, ...], conflicts: list[str]
) -> Iterator[tuple[str, Any]]:
    """The fields of two objects: in their order, mine behind."""
    for name in {**theirs, **mine}:
        value = _merge(base.get(name, ABSENT), theirs.get(name, ABSENT), mine.get(name, ABSENT), (*at, name), conflicts)
        if value is not ABSENT:
            yield name, value


def _appended(base: Any, side: Any) -> bool:
    """Whether a side, which is not the base, is the base's array with more behind it."""
    return isinstance(base, list) and isinstance(side, list) and same(side[: len(base)], base)
