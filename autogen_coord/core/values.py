"""JSON values and keys of documents: what may be stored, when two are the same, and where in a value something stands.

All that is stored reads back as it was given, with three exceptions that everybody expects: a tuple comes back as an array,
a model or dataclass as the object that pydantic makes of it (``returns=`` reads it as what it was), and a date, time, UUID,
Decimal, path or enum member as its usual text or value. Whatever else JSON would change on its way is refused: keys of objects
that are no text, sets (they have no order), bytes, iterators, NaN and infinities.
"""

from __future__ import annotations

import datetime
import decimal
import json
import math
import pathlib
import uuid
from collections.abc import Iterable, Iterator
from dataclasses import fields, is_dataclass
from enum import Enum
from typing import Any, Final

from pydantic_core import to_jsonable_python

from ..errors import InvalidInputError, PayloadTooLargeError
from .bodies import encode
from .lock_modes import stored

_TIMES = (datetime.date, datetime.time, datetime.timedelta)
_AS_TEXT = (decimal.Decimal, uuid.UUID, pathlib.PurePath)
_NOT_FINITE = "no JSON number: pass numbers that are finite, or None"
_SHOWN = 80
_canonical = json.JSONEncoder(ensure_ascii=True, allow_nan=False, separators=(",", ":"), sort_keys=True)


class Absent(Enum):
    """The type of `ABSENT`."""

    ABSENT = "absent"


ABSENT: Final = Absent.ABSENT
"""No value at all: JSON's null is one."""


def canonical(value: Any) -> str:
    """One text for all JSON values that are the `same`."""
    return _canonical.encode(value)


def same(one: Any, other: Any) -> bool:
    """Whether two JSON values, or `ABSENT`, would read the same: the order of fields is nothing, but 1, 1.0 and true are three."""
    if one is ABSENT or other is ABSENT:
        return one is other
    return canonical(one) == canonical(other)


def copied(value: Any) -> Any:
    """A JSON value that shares no part with the given one."""
    if isinstance(value, dict):
        return {name: copied(field) for name, field in value.items()}
    if isinstance(value, list):
        return [copied(item) for item in value]
    return value


def kind(value: Any) -> str:
    """The JSON type of a value, in words."""
    if value is ABSENT:
        return "absent"
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "a boolean"
    if isinstance(value, int | float):
        return "a number"
    if isinstance(value, str):
        return "a text"
    if isinstance(value, dict):
        return "an object"
    return "an array" if isinstance(value, list | tuple) else f"a {type(value).__name__}"


def pointer(parts: Iterable[object]) -> str:
    """The JSON pointer (RFC 6901) to where the names lead; "" is the whole value."""
    return "".join("/" + str(part).replace("~", "~0").replace("/", "~1") for part in parts)


def checked_key(key: object) -> str:
    """A document's key. It is a lock's path too: 1 to 500 characters in at most 32 parts, none of them empty, '.' or '..'.

    Raises: InvalidInputError.
    """
    try:
        return stored(key)[:-1]
    except InvalidInputError as error:
        raise InvalidInputError("key" + error.message.removeprefix("path"), key=key) from None


def checked(value: Any, key: str, limit: int, depth: int) -> str:
    """The JSON text under which a value is stored.

    ``limit``: bytes of text; ``depth``: how many arrays and objects may stand in each other, up to 100. The value is not changed.

    Raises: InvalidInputError, with the ``key`` and the ``path`` in the value; PayloadTooLargeError, with key, size and limit.
    """
    try:
        text = encode(value if _is_plain(value, depth, limit) else _Reading(limit).plain(value, depth))
    except _UnfitError as unfit:
        path = pointer(reversed(unfit.parts))
        at = f"{path!r:.{_SHOWN}}: " if path else ""
        raise InvalidInputError(f"key {key!r:.{_SHOWN}}: {at}{unfit.reason.format(depth=depth)}", key=key, path=path) from None
    except InvalidInputError as error:
        raise InvalidInputError(f"key {key!r:.{_SHOWN}}: {error.message}", key=key, path="") from None
    except _TooLargeError:
        raise _too_large(key, f"more than {limit:,}", limit + 1, limit) from None
    if len(text) > limit:
        raise _too_large(key, f"{len(text):,}", len(text), limit)
    return text


def _too_large(key: str, shown: str, size: int, limit: int) -> PayloadTooLargeError:
    return PayloadTooLargeError(
        f"key {key!r:.{_SHOWN}}: the value is {shown} bytes of JSON, the limit is {limit:,}: "
        "store parts of it under keys of their own, or raise the limit in the settings",
        key=key,
        size=size,
        limit=limit,
    )


def _is_plain(value: Any, depth: int, limit: int) -> bool:
    """Whether it is of JSON's own types alone, within the limits: most are. What is not is read by `_Reading`, which says why."""
    layer: list[Any] = [value]
    size = 0
    for left in range(depth, -1, -1):
        below: list[Any] = []
        for one in layer:
            kind = type(one)
            if kind is str:
                size += len(one)
            elif kind is dict or kind is list:
                if left == 0:
                    return False
                if kind is list:
                    below += one
                elif set(map(type, one)) <= _TEXTS:
                    size += sum(map(len, one))
                    below += one.values()
                else:
                    return False
                if size + len(below) > limit:  # now, not behind the layer: what stands in it many times over may have no end
                    return False
            elif kind is float:
                if not math.isfinite(one):
                    return False
            elif not (one is None or kind is int or kind is bool):
                return False
        if size > limit:
            return False
        if not below:
            return True
        size += len(below)
        layer = below
    return False


_TEXTS = {str}


class _UnfitError(Exception):
    """A part of a value cannot be stored; ``parts`` grows on the way out, the innermost name first."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason
        self.parts: list[object] = []


class _TooLargeError(Exception):
    """The value is larger than the limit, by a sum that is no larger than its text."""


class _Reading:
    """One value on its way to plain JSON.

    It ends on whatever it is given: what refers to itself is too deep, and what refers to one thing many times over (ten lists
    of ten of ten ... take little memory, and no end of text) is too large long before it is written.
    """

    def __init__(self, limit: int) -> None:
        self.left = limit

    def plain(self, value: Any, depth: int) -> Any:
        if value is None or isinstance(value, bool):
            return value
        if isinstance(value, Enum):
            return self.plain(value.value, depth)
        if isinstance(value, str):
            self._spend(len(value))
            return value
        if isinstance(value, int):
            return value
        if isinstance(value, float):
            if not math.isfinite(value):
                raise _UnfitError(_NOT_FINITE)
            return value
        if isinstance(value, dict | list | tuple):
            return self._container(value, depth)
        return self._turned(value, depth)

    def _container(self, value: dict[Any, Any] | list[Any] | tuple[Any, ...], depth: int) -> Any:
        if depth <= 0:
            raise _UnfitError("nested too deep: at most {depth} arrays and objects may stand in each other")
        self._spend(len(value))
        if isinstance(value, dict):
            self._check_names(value)
            return dict(self._parts(value.items(), depth))
        return [part for _, part in self._parts(enumerate(value), depth)]

    def _parts(self, parts: Iterable[tuple[Any, Any]], depth: int) -> Iterator[tuple[Any, Any]]:
        for name, value in parts:
            try:
                yield name, self.plain(value, depth - 1)
            except _UnfitError as unfit:
                unfit.parts.append(name)
                raise

    def _check_names(self, value: dict[Any, Any]) -> None:
        for name in value:
            if not isinstance(name, str):
                raise _UnfitError(f"a field of an object is named by {kind(name)}, and JSON would make a text of it: pass a str")
            self._spend(len(name))

    def _spend(self, characters: int) -> None:
        self.left -= characters
        if self.left < 0:
            raise _TooLargeError

    def _turned(self, value: Any, depth: int) -> Any:
        """What is no JSON of its own, but has one well-known form."""
        if isinstance(value, decimal.Decimal) and not value.is_finite():
            raise _UnfitError(_NOT_FINITE)
        if isinstance(value, _AS_TEXT):
            return self.plain(str(value), depth)
        if isinstance(value, _TIMES):
            return to_jsonable_python(value)
        if isinstance(value, type):
            raise _UnfitError("a class has no JSON form: pass a value of it")
        serializer = getattr(value, "__pydantic_serializer__", None)
        if serializer is not None:
            return self.plain(_dumped(serializer, value), depth)
        if is_dataclass(value):
            return self._container({field.name: getattr(value, field.name) for field in fields(value)}, depth)
        raise _UnfitError(f"{kind(value)} has no JSON form that reads back as it was: pass lists, texts, pydantic models")


def _dumped(serializer: Any, value: Any) -> Any:
    try:
        dumped = serializer.to_python(value, mode="json", by_alias=True, warnings=False)
        if any(isinstance(one, float) and not math.isfinite(one) for one in _leaves(serializer.to_python(value, warnings=False))):
            # pydantic writes NaN as null where a field's type says nothing
            raise _UnfitError(_NOT_FINITE)
    except ValueError:  # PydanticSerializationError is one
        raise _UnfitError(f"{type(value).__name__}: pydantic finds no JSON form for it") from None
    return dumped


def _leaves(value: Any) -> Iterator[Any]:
    left = [value]
    while left:
        one = left.pop()
        if isinstance(one, dict):
            left += one.values()
        elif isinstance(one, list | tuple | set | frozenset):
            left += one
        else:
            yield one
