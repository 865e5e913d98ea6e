"""The gate: processes that want to write stand in line here, before SQLite's own lock, which is not fair.

Two lock files beside the database. *Take the first, take the second, give the first back, write, give the second back.* Whoever is
next holds the first while it waits for the second, so a process that commits without pause finds the first taken when it comes
again and cannot overtake. The order among those who wait for the first is chance.

The gate is about fairness only; SQLite's lock still guards the file. So it does no harm when the files are deleted, or when a
program that does not know the gate writes. A lock belongs to an open file, not to a process: two gates of one process exclude each
other too, and the lock goes when the process dies.
"""

from __future__ import annotations

import os
import time
import weakref
from collections.abc import Iterator
from contextlib import contextmanager

from ...core.file_locks import open_lock, try_lock, unlock
from ...errors import ConfigError, StoreUnavailableError

SHORTEST = 0.000_05
LONGEST = 0.001

_open_gates: weakref.WeakSet[Gate] = weakref.WeakSet()


class Gate:
    """One pass through the gate of ``path`` at a time; not for several threads at once."""

    def __init__(self, path: str) -> None:
        self.path = path
        self._first = self._second = -1
        try:
            self._first, self._second = open_lock(f"{path}-gate1"), open_lock(f"{path}-gate2")
        except OSError as error:
            self.close()
            raise ConfigError(f"{path}: the folder must be writable, for the lock files beside the database: {error}") from error
        _open_gates.add(self)

    @contextmanager
    def passed(self, until: float) -> Iterator[None]:
        """Alone among those who pass here. ``until``: a `time.monotonic` moment.

        Raises: StoreUnavailableError when it was not our turn until then.
        """
        self._take(self._first, until)
        try:
            self._take(self._second, until)
        finally:
            unlock(self._first)
        try:
            yield
        finally:
            if self._second >= 0:
                unlock(self._second)

    def close(self) -> None:
        """Close the lock files, which gives back what is held. Their names stay: a name that goes would split the gate in two."""
        for descriptor in (self._first, self._second):
            if descriptor >= 0:
                os.close(descriptor)
        self._first = self._second = -1

    def _take(self, descriptor: int, until: float) -> None:
        pause = SHORTEST
        while not try_lock(descriptor):
            if time.monotonic() >= until:
                raise StoreUnavailableError(
                    f"{self.path}: not our turn to write in time; another process holds {self.path}-gate2: "
                    "see whether it is stopped or swapped out, and continue or kill it",
                    path=self.path,
                )
            time.sleep(pause)
            pause = min(pause * 1.5, LONGEST)


def _close_in_child() -> None:
    # A child shares the open files: with them it would keep the parent's turn after the parent's death.
    for gate in list(_open_gates):
        gate.close()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_close_in_child)
