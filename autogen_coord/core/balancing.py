"""Who gets a task, where several providers of one capability are within reach of one dispatcher.

A **strategy** is a pure function over candidates. `Balance` asks it task by task and counts what it gave, so that one claim of many
tasks is shared as many claims of one would be. Across processes nobody chooses: free slots race.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple


class Candidate(NamedTuple):
    """A provider as a strategy sees it."""

    provider: str
    active: int
    """How many of its slots are taken."""
    limit: int
    """How many slots it has."""
    turn: int = 0
    """When it was chosen last: a number that grows with each choice."""

    @property
    def free(self) -> int:
        return self.limit - self.active


Strategy = Callable[[Sequence[Candidate]], Candidate]
"""Chooses one of at least one candidate. Pure: it may be asked again with the same."""


def least_busy(candidates: Sequence[Candidate]) -> Candidate:
    """The one with the smallest share of its slots taken; among equals, whoever was chosen longest ago."""
    return min(candidates, key=lambda one: (one.active / one.limit, one.turn, one.provider))


class Balance:
    """Gives tasks to candidates, one at a time. ``bounded``: only to those with a free slot."""

    def __init__(self, candidates: Sequence[Candidate], strategy: Strategy, bounded: bool) -> None:
        self._strategy = strategy
        self._bounded = bounded
        self._turn = max((one.turn for one in candidates), default=0)
        self._left = {one.provider: one for one in candidates if not bounded or one.free > 0}

    def __bool__(self) -> bool:
        """Whether anybody could take more."""
        return bool(self._left)

    def give(self, pinned: str | None) -> str | None:
        """The provider of the next task, which is for the ``pinned`` one only, if any; None when nobody can take it."""
        if pinned is not None:
            chosen = self._left.get(pinned)
        else:
            chosen = self._strategy(tuple(self._left.values())) if self._left else None
        if chosen is None:
            return None
        self._turn += 1
        chosen = chosen._replace(active=chosen.active + 1, turn=self._turn)
        if self._bounded and chosen.free <= 0:
            del self._left[chosen.provider]
        else:
            self._left[chosen.provider] = chosen
        return chosen.provider
