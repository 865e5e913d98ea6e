"""Locks by short names, for the tests of their rules."""

from __future__ import annotations

from typing import Any

from autogen_coord.core import locks
from autogen_coord.core.lock_modes import shown, stored
from autogen_coord.core.lock_queue import Want, waiting
from autogen_coord.core.locks import Acquire, Answer, Convert, Evict, GiveUp, Granted, Guard, Release, Waits
from autogen_coord.core.store import Range
from autogen_coord.core.tables import EVENT, LOCK_HELD, LOCK_WAIT, EventRow
from tests.conftest import Ground


class Resources:
    """Locks by short names: ``ask("l1", "repo/a X")``."""

    def __init__(self, ground: Ground) -> None:
        self.ground = ground
        self.asked: dict[str, Acquire] = {}

    def ask(
        self, id: str, *wants: str, session: str = "s1", wait: bool = True, within: tuple[str, ...] = (), **more: Any
    ) -> Answer:
        pairs = tuple(Want(stored(path), mode) for path, mode in (want.split() for want in wants))
        keys = tuple((want.path, lease) for lease in within for want in self.asked[lease].wants)
        self.asked[id] = Acquire(id, session, pairs, wait, within=keys, **more)
        return self.ground.do(locks.acquire, self.asked[id])

    def hold(self, id: str, *wants: str, **more: Any) -> Granted:
        answer = self.ask(id, *wants, **more)
        assert isinstance(answer, Granted), answer
        return answer

    def queue(self, id: str, *wants: str, **more: Any) -> None:
        assert self.ask(id, *wants, **more) == Waits(id)

    def paths(self, id: str) -> tuple[str, ...]:
        return tuple(want.path for want in self.asked[id].wants)

    def convert(
        self, id: str, mode: str, *, wait: bool = True, session: str = "s1", within: tuple[str, ...] = (), request: str = ""
    ) -> Answer:
        """``request``: its id, else the lease's and a ``+``."""
        keys = tuple((path, lease) for lease in within for path in self.paths(lease))
        return self.ground.do(locks.convert, Convert(request or f"{id}+", id, session, self.paths(id), mode, wait, keys))

    def release(self, id: str, session: str = "s1") -> bool:
        return self.ground.do(locks.release, Release(id, session, self.paths(id)))

    def give_up(self, id: str, session: str = "s1", lease: str = "") -> Any:
        """An acquisition by its id, a conversion by its own."""
        lease = lease or id.rstrip("+")
        return self.ground.do(locks.give_up, GiveUp(id, lease, session, self.paths(lease)))

    def evict(self, id: str) -> int:
        return self.ground.do(locks.evict, Evict(id, self.paths(id)))

    def guard(self, granted: Granted, session: str = "s1") -> Guard:
        return Guard(granted.id, session, granted.token, tuple(want.path for want in granted.wants))

    def write(self, guard: Guard, path: str, mode: str = "X") -> None:
        """As a fenced write begins. Raises: LeaseLostError."""
        self.ground.store.transact_blocking(lambda rows, now: locks.require_cover(rows, guard, stored(path), mode))

    # looking

    @property
    def held(self) -> list[str]:
        return [f"{row.id} {shown(row.path)} {row.mode}" for row in self.ground.scan(Range(LOCK_HELD, "key"))]

    @property
    def holders(self) -> list[str]:
        return sorted({row.id for row in self.ground.scan(Range(LOCK_HELD, "key"))})

    @property
    def waiters(self) -> list[str]:
        rows = self.ground.scan(Range(LOCK_WAIT, "key"))
        assert self.ground.store.transact_blocking(lambda all, now: waiting(all)) == len({row.id for row in rows})
        return sorted({row.id for row in rows})

    def told(self, kind: str) -> list[EventRow]:
        return [row for row in self.ground.scan(Range(EVENT, "key")) if row.kind == f"resource.{kind}"]
