"""The five lock modes of hierarchical locking, as pure functions: what goes together, what two make, what a path implies.

A lock on a path covers all that lies below it. What a lock implies *above* its path (IS for reading, IX for changing) is not
stored: `conflicts` reads it off where two paths meet.

Source: J. Gray, R. Lorie, G. Putzolu, I. Traiger, "Granularity of Locks and Degrees of Consistency in a Shared Data Base", 1976,
tables 1 and 2; J. Gray and A. Reuter, "Transaction Processing: Concepts and Techniques", 1993, section 7.8.
"""

from __future__ import annotations

import re
from enum import StrEnum
from typing import Final

from ..errors import InvalidInputError

SEPARATOR = "/"
DEEPEST = 32
LONGEST = 500


class LockMode(StrEnum):
    """What a holder may do with a resource, and with what lies below it."""

    INTENT_SHARED = "IS"
    """Read some of what lies below."""
    INTENT_EXCLUSIVE = "IX"
    """Change some of what lies below."""
    SHARED = "S"
    """Read all of it."""
    SHARED_INTENT_EXCLUSIVE = "SIX"
    """Read all of it, and change some of what lies below."""
    EXCLUSIVE = "X"
    """Change all of it."""

    @classmethod
    def of(cls, mode: object) -> LockMode:
        """From a mode or its letters. Raises: InvalidInputError."""
        if type(mode) is cls:
            return mode
        try:
            return cls(mode)  # type: ignore[arg-type]
        except ValueError:
            raise InvalidInputError(f"lock mode {mode!r:.50}: one of {', '.join(cls)}") from None


IS: Final = LockMode.INTENT_SHARED.value
IX: Final = LockMode.INTENT_EXCLUSIVE.value
S: Final = LockMode.SHARED.value
SIX: Final = LockMode.SHARED_INTENT_EXCLUSIVE.value
X: Final = LockMode.EXCLUSIVE.value
MODES: Final = (IS, IX, S, SIX, X)
"""As they stand in rows: plain text."""

_GOES_WITH: dict[str, frozenset[str]] = {
    IS: frozenset({IS, IX, S, SIX}),
    IX: frozenset({IS, IX}),
    S: frozenset({IS, S}),
    SIX: frozenset({IS}),
    X: frozenset(),
}
_CONTAINS: dict[str, frozenset[str]] = {
    IS: frozenset({IS}),
    IX: frozenset({IS, IX}),
    S: frozenset({IS, S}),
    SIX: frozenset({IS, IX, S, SIX}),
    X: frozenset(MODES),
}


def compatible(one: str, other: str) -> bool:
    """Whether two owners may hold these modes on one resource."""
    return other in _GOES_WITH[one]


def includes(one: str, other: str) -> bool:
    """Whether who holds ``one`` may do all that ``other`` allows."""
    return other in _CONTAINS[one]


def combine(one: str, other: str) -> str:
    """The weakest mode that includes both: what a conversion from one to the other must hold."""
    both = [mode for mode in MODES if includes(mode, one) and includes(mode, other)]
    return min(both, key=lambda mode: len(_CONTAINS[mode]))


def intent(mode: str) -> str:
    """What a lock implies for every path above its own."""
    return IS if mode in (IS, S) else IX


def below(mode: str) -> str | None:
    """What a lock gives for every path below its own; None for intents, which give nothing."""
    return {S: S, SIX: S, X: X}.get(mode)


AT: Final = {mode: frozenset(other for other in MODES if not compatible(mode, other)) for mode in MODES}
"""By requested mode: the modes of others on the same path that exclude it."""
ABOVE: Final = {mode: frozenset(other for other in MODES if not compatible(intent(mode), other)) for mode in MODES}
"""The modes of others on a path above that exclude it."""
BELOW: Final = {mode: frozenset(other for other in MODES if not compatible(mode, intent(other))) for mode in MODES}
"""The modes of others on a path below that exclude it."""


def conflicts(mode: str, path: str, held: str, place: str) -> bool:
    """Whether ``mode`` on ``path`` may not be had beside ``held`` on ``place``; both paths as they are stored."""
    if path == place:
        return held in AT[mode]
    if path.startswith(place):
        return held in ABOVE[mode]
    return place.startswith(path) and held in BELOW[mode]


def covers(held: str, place: str, mode: str, path: str) -> bool:
    """Whether ``held`` on ``place`` gives the right that ``mode`` on ``path`` would; both paths as they are stored."""
    if path == place:
        return includes(held, mode)
    given = below(held)
    return path.startswith(place) and given is not None and includes(given, mode)


# paths

_REFUSED = re.compile("[\x00-\x1f\x7f\ud800-\udfff]")


def stored(path: object) -> str:
    """A path as it stands in rows, with a slash behind it: then what begins with it lies at it or below it.

    Raises: InvalidInputError.
    """
    if not isinstance(path, str) or not path or len(path) > LONGEST:
        raise InvalidInputError(f"path {path!r:.80}: a text of 1 to {LONGEST} characters, such as 'repo/src/a.py'")
    parts = path.split(SEPARATOR)
    if "" in parts or "." in parts or ".." in parts:
        raise InvalidInputError(f"path {path!r:.80}: no empty parts, no '.' and '..', no slash at its ends: 'repo/src/a.py'")
    if len(parts) > DEEPEST:
        raise InvalidInputError(f"path {path!r:.80}: at most {DEEPEST} parts")
    if _REFUSED.search(path):
        raise InvalidInputError(f"path {path!r:.80}: control characters and lone surrogates are not allowed")
    return path + SEPARATOR


def shown(path: str) -> str:
    """A stored path as its user wrote it."""
    return path.removesuffix(SEPARATOR)


def ancestors(path: str) -> list[str]:
    """The stored paths above a stored path, the topmost first."""
    parts = path.split(SEPARATOR)[:-2]
    return [SEPARATOR.join(parts[: number + 1]) + SEPARATOR for number in range(len(parts))]
