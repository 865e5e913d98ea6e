"""Previews: what a rule would do now, over rows that are read as it asks for them. Nothing is written, and no writer waited for.

Each round of reading is a snapshot of its own, so a preview may mix two moments: whoever writes decides again in its transaction.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from ..errors import StoreError
from .fold import Pending
from .store import Base, Key, Keys, Load, NotLoaded, R, Range, Rows, Store, Table

T = TypeVar("T")
ROUNDS = 50


class _Read(Base):
    """The rows that were read so far; what is missing is noted for the next round."""

    def __init__(self) -> None:
        self._rows: dict[str, dict[Key, Any]] = {}
        self._ranges: dict[Range[Any], list[Any]] = {}
        self.wanted: list[Load] = []

    def load(self, table: Table[R], keys: Sequence[Key]) -> list[R | None]:
        known = self._rows.get(table.name, {})
        missing = [key for key in keys if key not in known]
        if missing:
            self.wanted.append(Keys(table, missing))
            raise NotLoaded
        return [known[key] for key in keys]

    def walk(self, range: Range[R]) -> list[R]:
        self.gather((range,))
        return self._ranges[range]

    def gather(self, ranges: Sequence[Range[Any]]) -> Sequence[Range[Any]]:
        missing = [range for range in ranges if range not in self._ranges]
        if missing:
            self.wanted += missing
            raise NotLoaded
        return [range for range in ranges if not self._ranges[range]]

    async def round(self, store: Store) -> None:
        """Read what is wanted."""
        loads, self.wanted = self.wanted, []
        for load, found in zip(loads, await store.read(*loads), strict=True):
            if isinstance(load, Keys):
                self._rows.setdefault(load.table.name, {}).update(zip(load.keys, found, strict=True))
            else:
                self._ranges[load] = found


async def preview(store: Store, act: Callable[[Rows], T], *expected: Load) -> T:
    """What ``act`` answers on the rows that stand now; it may run several times. ``expected``: what it will ask for.

    Raises: what it raises; StoreError.
    """
    base = _Read()
    base.wanted += expected
    for _ in range(ROUNDS):
        if base.wanted:
            await base.round(store)
        try:
            answer = act(Pending(base))
        except Exception:  # any error may come of a row that was not there yet
            if not base.wanted:
                raise
        else:
            if not base.wanted:
                return answer
    raise StoreError(f"a preview asked for more rows in each of {ROUNDS} rounds")
