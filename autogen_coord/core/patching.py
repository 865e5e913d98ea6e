"""Patches of JSON values: a list is an RFC 6902 patch (by the ``jsonpatch`` library), an object an RFC 7396 merge patch.

All operations of a patch are applied or none. ``test`` compares as RFC 6902, 4.6 wants it: numbers by their value (1 is 1.0),
and true is no number. `diff` is stricter: what it finds also tells 1 from 1.0, so that its patch makes exactly the other value.
"""

from __future__ import annotations

from typing import Any

from jsonpatch import InvalidJsonPatch, JsonPatch, JsonPatchException, JsonPatchTestFailed, JsonPointer, JsonPointerException

from ..errors import InvalidInputError, PayloadTooLargeError, VersionConflictError
from .values import canonical, copied, kind

OPERATIONS = 1_000
"""Of one patch."""
MOVED = 100_000_000
"""Items of arrays that the operations of one patch may move together: what is put in at an array's front moves all behind it. It
takes about a tenth of a second, in which nobody else writes."""


def apply(value: Any, patch: Any, limit: int | None = None) -> Any:
    """What a patch makes of a JSON value; neither is changed, and the result shares no part with them.

    ``limit``: bytes of JSON that the ``copy`` operations of one patch may copy together, for a few of them double a value often
    enough to fill any memory. Without it (a patch that `diff` made, outside of a transaction) nothing else is bounded either.
    The result is not checked: see `values.checked`.

    Raises: InvalidInputError, with the number of the ``operation`` (the first is 1) and its ``path``, when it is none or does not
    apply; VersionConflictError, likewise, when its ``test`` fails: the value is not the expected one; PayloadTooLargeError, also
    for more than `OPERATIONS`, and when these move more than `MOVED` items of arrays.
    """
    if isinstance(patch, dict):
        return _merge_patch(value, patch)
    if not isinstance(patch, list):
        raise InvalidInputError(f"the patch is {kind(patch)}: pass a list of RFC 6902 operations, or an object (RFC 7396)")
    if limit is not None:
        check_operations(patch)
    result, left, moves = copied(value), limit, MOVED
    for number, operation in enumerate(patch, 1):
        try:
            step = JsonPatch([operation])
            if left is not None:
                moves -= _moved(result, operation)
                left -= _copy_size(result, operation)
                if moves < 0:
                    raise _too_slow(number, operation)
                if left < 0:
                    raise _too_large(number, operation, limit)
            result = step.apply(result, in_place=True)
        except JsonPatchTestFailed:
            raise _failed(number, operation) from None
        except RecursionError:  # each step may nest the value deeper than it was
            raise _too_deep(number, operation) from None
        except (JsonPatchException, JsonPointerException, TypeError) as error:  # TypeError: of what is at "-", which is nothing
            raise _unfit(number, operation, error) from None  # the library's own text quotes the value
    return result


def check_operations(patch: list[Any]) -> None:
    """Raises: PayloadTooLargeError for a patch of too many."""
    if len(patch) > OPERATIONS:
        raise PayloadTooLargeError(
            f"the patch has {len(patch):,} operations, at most {OPERATIONS:,} are applied at once: split it, or put the value",
            size=len(patch),
            limit=OPERATIONS,
        )


def diff(one: Any, other: Any) -> list[dict[str, Any]]:
    """RFC 6902 operations with which `apply` makes the other JSON value of the first; none where they are the `values.same`."""
    return list(JsonPatch.from_diff(one, other).patch)


def _merge_patch(target: Any, patch: Any) -> Any:
    """Source: RFC 7396, section 2, MergePatch."""
    if not isinstance(patch, dict):
        return copied(patch)
    fields = target if isinstance(target, dict) else {}
    result = {}
    for name in {**fields, **patch}:
        if name not in patch:
            result[name] = copied(fields[name])
        elif patch[name] is not None:
            result[name] = _merge_patch(fields.get(name), patch[name])
    return result


def _copy_size(value: Any, operation: dict[str, Any]) -> int:
    start = operation.get("from")
    if operation["op"] != "copy" or not isinstance(start, str):
        return 0  # the library refuses it
    return len(canonical(JsonPointer(start).resolve(value, None)))


def _moved(value: Any, operation: dict[str, Any]) -> int:
    """How many items at most an operation moves in their arrays."""
    if operation["op"] not in ("add", "remove", "copy", "move"):
        return 0
    places = operation["path"], operation.get("from") if operation["op"] == "move" else None
    return sum(len(_array_at(value, place)) for place in places if isinstance(place, str))


def _array_at(value: Any, place: str) -> list[Any]:
    """The array that a pointer leads into; an empty one for no array, and for the end of one, where nothing is behind it."""
    above, _, last = place.rpartition("/")
    if last == "-" or not place:
        return []
    found = JsonPointer(above).resolve(value, None)
    return found if isinstance(found, list) else []


def _path(operation: Any) -> str:
    path = operation.get("path") if isinstance(operation, dict) else None
    return path if isinstance(path, str) else ""


def _unfit(number: int, operation: Any, error: Exception) -> InvalidInputError:
    path = _path(operation)
    why = (
        f"is no operation: {error!s:.120}"
        if isinstance(error, InvalidJsonPatch)
        else "does not apply: its place is not in the value"
    )
    return InvalidInputError(f"operation {number} of the patch, path {path!r:.80}, {why}", operation=number, path=path)


def _too_deep(number: int, operation: Any) -> InvalidInputError:
    path = _path(operation)
    return InvalidInputError(
        f"operation {number} of the patch, path {path!r:.80}: the steps before it nest the value too deep",
        operation=number,
        path=path,
    )


def _failed(number: int, operation: Any) -> VersionConflictError:
    path = _path(operation)
    return VersionConflictError(
        f"operation {number} of the patch, path {path!r:.80}: its test fails, the value is another: read it and patch that",
        operation=number,
        path=path,
    )


def _too_slow(number: int, operation: Any) -> PayloadTooLargeError:
    path = _path(operation)
    return PayloadTooLargeError(
        f"operation {number} of the patch, path {path!r:.80}: its operations move more than {MOVED:,} items of arrays: split it, "
        "put the value instead, or keep the items under keys of their own",
        operation=number,
        path=path,
        limit=MOVED,
    )


def _too_large(number: int, operation: Any, limit: int | None) -> PayloadTooLargeError:
    return PayloadTooLargeError(
        f"operation {number} of the patch, path {_path(operation)!r:.80}: its copies are more than {limit:,} bytes of JSON: "
        "put the value instead",
        operation=number,
        path=_path(operation),
        limit=limit,
    )
