"""From what a caller wrote to what a lock's block asks for: every value is checked here, before anything is stored."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from ..errors import InvalidInputError
from . import lock_modes
from .lock_modes import LockMode
from .lock_queue import Want
from .requests import checked_name, checked_priority, checked_seconds

PATHS_MOST = 256


class Claim(NamedTuple):
    """The attempt whose handler asks for a lock, and the session that it was claimed under."""

    session: str
    task: str
    attempt: int


class Asked(NamedTuple):
    """What a block asks for. ``wait``: seconds, None for ever. ``claim``: None where no handler asks."""

    wants: tuple[Want, ...]
    wait: float | None
    owner: str | None
    priority: float
    claim: Claim | None

    def since(self, began: float) -> Asked:
        """The same, with what is left of its patience since a moment of the loop's clock."""
        if not self.wait:
            return self
        return self._replace(wait=max(0.0, began + self.wait - asyncio.get_running_loop().time()))


Paths = str | Sequence[str] | Mapping[str, LockMode | str]


def asked(
    paths: Paths, mode: LockMode | str, wait: float | None, owner: str | None, priority: float, claim: Claim | None = None
) -> Asked:
    """Every value is checked before anything is stored. Raises: InvalidInputError."""
    seconds = checked_seconds(wait, "wait")
    return Asked(wants_of(paths, mode), seconds, checked_name(owner, "owner"), checked_priority(priority), claim)


def wants_of(paths: Paths, mode: LockMode | str) -> tuple[Want, ...]:
    """What is asked for, by stored path. Raises: InvalidInputError."""
    own = LockMode.of(mode)
    if isinstance(paths, str):
        return (Want(lock_modes.stored(paths), own.value),)
    if isinstance(paths, Mapping):
        modes: dict[str, LockMode] = {lock_modes.stored(path): LockMode.of(one) for path, one in paths.items()}
    elif isinstance(paths, Sequence) and not isinstance(paths, bytes | bytearray):
        modes = {lock_modes.stored(path): own for path in paths}
    else:
        raise InvalidInputError(f"path {paths!r:.80}: a text such as 'repo/a.py', a list of them, or a mapping of them to modes")
    if not 0 < len(modes) <= PATHS_MOST:
        raise InvalidInputError(f"{len(modes)} paths: a lock takes 1 to {PATHS_MOST}; lock what lies above them")
    return tuple(sorted(Want(path, one.value) for path, one in modes.items()))
