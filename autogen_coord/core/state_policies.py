"""What becomes of a write whose writer expected another version: the five policies, per call and per part of the namespace."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import Final, NamedTuple

from ..errors import InvalidInputError, NotFoundError
from ..settings import Settings
from . import bodies
from .prefixes import above
from .store import Range, Rows
from .tables import COUNTER, STATE_POLICY, CounterRow, StatePolicyRow

POLICIES = "state_policies"
"""Counter: how many are set. Mostly none, and then no write looks for one."""
MOST = 1_000
"""Policies of a namespace."""


class MergePolicy(StrEnum):
    """What becomes of a write that expected another version than it found."""

    REJECT = "reject"
    """It is refused with VersionConflictError."""
    LAST_WRITER = "last_writer"
    """It is written all the same."""
    MERGE = "merge"
    """What it changes is merged with what others changed since; what both changed is refused with VersionConflictError."""
    REDUCE = "reduce"
    """It is no new value, but an update: folded into whatever stands there, field by field, also when nothing was expected. A stale
    patch or deletion, which no reducer can fold, is refused."""
    ASK = "ask"
    """It is kept as an open conflict until somebody decides, and refused with OpenConflictError. A document has 1,000 at most."""

    @classmethod
    def of(cls, policy: object) -> MergePolicy:
        """From a policy or its name. Raises: InvalidInputError."""
        try:
            return cls(policy)  # type: ignore[arg-type]
        except ValueError:
            raise InvalidInputError(f"policy {policy!r:.50}: one of {', '.join(cls)}") from None


REJECT: Final = MergePolicy.REJECT.value
LAST_WRITER: Final = MergePolicy.LAST_WRITER.value
MERGE: Final = MergePolicy.MERGE.value
REDUCE: Final = MergePolicy.REDUCE.value
ASK: Final = MergePolicy.ASK.value

Reducers = Mapping[str, str]
"""Field to the name of its reducer."""


class Stance(NamedTuple):
    """The policy that holds for one write."""

    policy: str
    reducers: Reducers


PLAIN = Stance(REJECT, {})


class SetPolicy(NamedTuple):
    """The policy of a prefix and what lies below it, where no longer prefix has one. ``policy`` None: it has none any more."""

    prefix: str
    policy: str | None
    reducers: Reducers
    actor: str | None = None


def set_policy(rows: Rows, command: SetPolicy, now: float, policy: Settings) -> StatePolicyRow | None:
    """Returns what is set now. Raises: NotFoundError when there was none to take away; InvalidInputError for one too many."""
    known = rows.one(STATE_POLICY, command.prefix)
    if command.policy is None:
        if known is None:
            raise NotFoundError(f"no policy is set at {command.prefix!r}", prefix=command.prefix)
        rows.drop(STATE_POLICY, known)
        _count(rows, -1)
        return None
    if known is None and _count(rows, 1) > MOST:
        raise InvalidInputError(f"{MOST} policies are set already: set one on what lies above")
    reducers = bodies.encode(dict(command.reducers)) if command.reducers else None
    row = StatePolicyRow(command.prefix, command.policy, reducers, now, command.actor)
    rows.put(STATE_POLICY, row)
    return row


def _count(rows: Rows, more: int) -> int:
    counter = rows.one(COUNTER, POLICIES)
    value = (counter.value if counter else 0) + more
    rows.put(COUNTER, CounterRow(POLICIES, value))
    return value


def stance(rows: Rows, key: str, policy: str | None, reducers: Reducers | None) -> Stance:
    """What a call says itself; else the policy of the longest prefix; else `REJECT`. Raises: InvalidInputError."""
    if policy is not None and (policy != REDUCE or reducers):
        return Stance(policy, reducers or {})
    counter = rows.one(COUNTER, POLICIES)
    if counter is None or not counter.value:
        found = PLAIN
    else:
        found = next((of_row(row) for row in reversed(rows.get(STATE_POLICY, above(key))) if row is not None), PLAIN)
    if policy == REDUCE and found.policy != REDUCE:
        raise InvalidInputError(f"{key!r}: policy reduce needs reducers=, such as {{'count': 'add'}}", key=key)
    return found


def of_row(row: StatePolicyRow) -> Stance:
    """A policy as it is stored."""
    return Stance(row.policy, bodies.decode(row.reducers) if row.reducers else {})


def all_policies() -> Range[StatePolicyRow]:
    """What is set, by prefix."""
    return Range(STATE_POLICY, "key")
