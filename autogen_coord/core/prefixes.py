"""Prefixes of keys: a key, and what lies below it. ``a/b`` means ``a/b`` and all of ``a/b/``, never ``a/bc``; "" means all."""

from __future__ import annotations

from typing import Any

from .store import R, Range, Table
from .values import checked_key

SEPARATOR = "/"
_BEHIND = "0"
"""The character behind the separator: what begins with ``a/`` is below ``a0``."""


def checked_prefix(prefix: object) -> str:
    """A prefix as it is kept, without a slash at its end. Raises: InvalidInputError."""
    if prefix == "":
        return ""
    return checked_key(prefix.removesuffix(SEPARATOR) if isinstance(prefix, str) else prefix)


def within(key: str, prefix: str) -> bool:
    """Whether a key is at a prefix, or below it."""
    return not prefix or key == prefix or key.startswith(prefix + SEPARATOR)


def above(key: str) -> list[str]:
    """Every prefix that a key is within, the shortest first."""
    ends = [place for place, char in enumerate(key) if char == SEPARATOR]
    return ["", *(key[:end] for end in ends), key]


def ranges(
    table: Table[R], prefix: str, after: str | None = None, limit: int | None = None, index: str = "key"
) -> tuple[Range[R], Range[R]]:
    """The rows at a prefix, and those below it, whose keys come behind ``after``: two ranges, together in the order of keys."""
    behind = None if after is None else f"{after}\0"
    if not prefix:
        return Range(table, index, low="", high="", limit=0), Range(table, index, low=behind, limit=limit)
    below = prefix + SEPARATOR
    at = Range(table, index, low=_later(prefix, behind), high=f"{prefix}\0", limit=limit)
    return at, Range(table, index, low=_later(below, behind), high=prefix + _BEHIND, limit=limit)


def _later(low: str, behind: str | None) -> Any:
    return low if behind is None or behind < low else behind
