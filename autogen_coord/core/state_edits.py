"""From what a caller wrote to the edits of a `Write`: every value is checked here, before anything is stored."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Any, NamedTuple, TypedDict

from ..errors import InvalidInputError, PayloadTooLargeError
from ..settings import Settings
from . import patching, reducing, values
from .documents import DELETE, PATCH, PUT
from .lock_handles import Lease
from .locks import Guard
from .reducing import Reducer
from .requests import checked_name
from .state import MOST, Edit, check_sum
from .state_policies import REDUCE, MergePolicy, Reducers

LARGEST = 1 << 62
LIMIT_MOST = 10_000
OPERATION = 2
"""Levels that a patch puts around a value: the list, and the operation."""


class Terms(TypedDict, total=False):
    """How documents are written, all by name.

    ``policy`` and ``reducers`` (what becomes of a stale write; reducers alone mean REDUCE), ``fence`` (the lease that it is written
    under), ``force`` (write a fenced document without one).
    """

    policy: MergePolicy | str | None
    reducers: Mapping[str, Reducer | str] | None
    fence: Lease | None
    force: bool


class Put(NamedTuple):
    """A change of `State.put_many`: write a value."""

    key: str
    value: Any
    expected_version: int | None = None


class Patch(NamedTuple):
    """A change of `State.put_many`: patch what is there."""

    key: str
    patch: Any
    expected_version: int | None = None


class Delete(NamedTuple):
    """A change of `State.put_many`: delete it."""

    key: str
    expected_version: int | None = None
    missing_ok: bool = False


StateChange = Put | Patch | Delete


def edits_of(changes: Iterable[StateChange], terms: Terms, settings: Settings) -> tuple[Edit, ...]:
    """What is to be written. Raises: InvalidInputError, PayloadTooLargeError, LeaseLostError."""
    if unknown := terms.keys() - Terms.__annotations__.keys():
        known = {*Terms.__annotations__, "expected_version", "actor", "cause"}
        raise InvalidInputError(f"unknown option {min(unknown)!r}; there are {', '.join(sorted(known))}")
    policy, reducers = policy_of(terms.get("policy"), terms.get("reducers"))
    fence, force = guard_of(terms.get("fence")), bool(terms.get("force", False))
    edits = tuple(_edit(change, policy, reducers, fence, force, settings) for change in changes)
    if len(edits) > MOST:
        raise InvalidInputError(f"{len(edits):,} changes: at most {MOST:,} are written as a whole; write them in parts")
    check_sum([(edit.key, len(edit.body or "")) for edit in edits], settings)
    return edits


def _edit(
    change: StateChange, policy: str | None, reducers: Reducers | None, fence: Guard | None, force: bool, settings: Settings
) -> Edit:
    if not isinstance(change, StateChange):
        raise InvalidInputError(f"{change!r:.80}: a change is a Put, a Patch or a Delete")
    key = values.checked_key(change.key)
    expected = checked_version(change.expected_version, key, lowest=0)
    if isinstance(change, Delete):
        return Edit(key, DELETE, None, expected, policy, reducers, fence, force, bool(change.missing_ok))
    act, value = (PUT, change.value) if isinstance(change, Put) else (PATCH, change.patch)
    if act == PATCH and not isinstance(value, dict | list):
        raise InvalidInputError(f"{key!r}: a patch is an object (RFC 7396) or a list of operations (RFC 6902)", key=key)
    if act == PATCH and isinstance(value, list):
        _check_operations(value, key)
    around = OPERATION if act == PATCH else 0  # what it makes of the document is checked when it is applied
    text = values.checked(value, key, settings.max_value, settings.max_depth + around)
    return Edit(key, act, text, expected, policy, reducers, fence, force)


def _check_operations(patch: list[Any], key: str) -> None:
    try:
        patching.check_operations(patch)
    except PayloadTooLargeError as error:
        raise PayloadTooLargeError(f"{key!r}: {error.message}", **error.facts, key=key) from None


def policy_of(policy: MergePolicy | str | None, reducers: Mapping[str, Reducer | str] | None) -> tuple[str | None, Reducers | None]:
    """Both as they are stored; reducers alone mean `MergePolicy.REDUCE`. Raises: InvalidInputError."""
    name = None if policy is None else MergePolicy.of(policy).value
    if reducers is None:
        return name, None
    if not isinstance(reducers, Mapping):
        raise InvalidInputError(f"reducers={reducers!r:.80}: a mapping, such as {{'count': 'add'}}")
    if name not in (None, REDUCE):
        raise InvalidInputError(f"reducers= have no meaning under policy {name}: leave them out, or pass policy='reduce'")
    return REDUCE, reducing.checked(reducers)


def guard_of(fence: object) -> Guard | None:
    """A lease as the store knows it. Raises: LeaseLostError when it is known to be gone; InvalidInputError."""
    if fence is None:
        return None
    if not isinstance(fence, Lease):
        raise InvalidInputError(f"fence={fence!r:.80}: a lease, as `async with coord.lock(...) as lease` gives it")
    fence.require()
    return fence.guard


def checked_version(version: object, key: str, lowest: int = 1) -> int | None:
    """Raises: InvalidInputError."""
    if version is None:
        return None
    if isinstance(version, bool) or not isinstance(version, int) or not lowest <= version <= LARGEST:
        raise InvalidInputError(f"{key!r}: version {version!r:.50}: a whole number from {lowest} on", key=key)
    return version


def checked_limit(limit: object) -> int:
    """Raises: InvalidInputError."""
    if isinstance(limit, bool) or not isinstance(limit, int) or not 1 <= limit <= LIMIT_MOST:
        raise InvalidInputError(f"limit={limit!r:.50}: a whole number from 1 to {LIMIT_MOST:,}")
    return limit


def checked_label(value: object, what: str) -> str:
    """A name that must be there. Raises: InvalidInputError."""
    name = checked_name(value, what)
    if name is None:
        raise InvalidInputError(f"{what}: a text is wanted")
    return name


def checked_note(note: object) -> str:
    """Raises: InvalidInputError."""
    return "" if note == "" else checked_label(note, "note")


def moment(at: object) -> float:
    """Epoch seconds. Raises: InvalidInputError."""
    if isinstance(at, datetime):
        if at.tzinfo is None:
            raise InvalidInputError(f"at={at!r}: a datetime with a time zone")
        return at.timestamp()
    if isinstance(at, bool) or not isinstance(at, int | float) or at != at:
        raise InvalidInputError(f"at={at!r:.80}: an aware datetime, or epoch seconds")
    return float(at)
