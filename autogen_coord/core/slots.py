"""Slots: how many tasks a provider of this process takes at once, and what a claim says of them."""

from __future__ import annotations

from collections.abc import Callable, Container
from dataclasses import dataclass, field

from . import pools
from .balancing import Candidate
from .claims import Claimed, Serves, Want


@dataclass(eq=False)
class Slot:
    """One provider of this process: its bound, and how many of its handlers run and do not wait.

    ``holds``: no handler runs what it takes (an inbox): it is held for somebody, however long that takes. The process counts as
    empty beside it, and nothing of it must run alone.
    """

    provider: str
    label: str
    limit: int
    start: Callable[[Claimed], None]
    """Called in the loop with each task that was claimed for it."""
    holds: bool = False
    active: int = 0
    turn: int = 0
    """When it was given a task last."""
    open: bool = True
    pools: tuple[str, ...] = field(init=False)

    def __post_init__(self) -> None:
        self.pools = (self.label, pools.addressed(self.label, self.provider))

    @property
    def free(self) -> int:
        return self.limit - self.active if self.open else 0

    @property
    def candidate(self) -> Candidate:
        """As a strategy sees it."""
        return Candidate(self.provider, self.active, self.limit, self.turn)


class Providers:
    """The providers of one capability in this process."""

    def __init__(self, label: str) -> None:
        self.label = label
        self.slots: list[Slot] = []

    @property
    def full(self) -> bool:
        """Whether none of them has a free slot."""
        return all(slot.free <= 0 for slot in self.slots)

    @property
    def pools(self) -> list[str]:
        """Where their tasks stand, those that must run alone too."""
        own = [self.label, *(slot.pools[1] for slot in self.slots)]
        return own if self.hold else own + [pools.alone(pool) for pool in own]

    @property
    def hold(self) -> bool:
        """Whether they hold what they take; see `Slot`."""
        return self.slots[0].holds

    def want(self, hot: Container[str], most: int) -> Want | None:
        """What is wanted of the hot pools, for the free slots."""
        if len(self.slots) == 1:  # the common case, in every batch
            (slot,) = self.slots
            if slot.free <= 0:
                return None
            mine = tuple([pool for pool in slot.pools if pool in hot])
            return Want(mine, (slot.candidate,), min(slot.free, most)) if mine else None
        free = [slot for slot in self.slots if slot.free > 0]
        mine = tuple(pool for pool in (self.label, *(slot.pools[1] for slot in free)) if pool in hot)
        if not free or not mine:
            return None
        return Want(mine, tuple(slot.candidate for slot in free), min(sum(slot.free for slot in free), most))

    def lone(self, pool: str) -> Want:
        """One task that must run alone, for an empty process."""
        return Want((pool,), tuple(slot.candidate for slot in self.slots), 1)

    @property
    def serves(self) -> Serves:
        """Who may be given what is asked for by name."""
        return Serves(self.label, tuple(slot.candidate for slot in self.slots))
