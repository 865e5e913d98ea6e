"""Random programs of locks: many owners acquire, convert, release, give up, die, and hold each other up.

Drawn as those of `tests.property.programs`, whose sessions and tasks take part: handlers hold locks and wait for children that want
them too.
"""

from __future__ import annotations

import random
import sys
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

from autogen_coord.core import bodies, locks
from autogen_coord.core.claims import GiveBack
from autogen_coord.core.lock_modes import MODES, SEPARATOR
from autogen_coord.core.lock_queue import Want
from autogen_coord.core.locks import Acquire, Convert, Evict, GiveUp, Granted, Guard, Handler, Leave, Release
from autogen_coord.core.sessions import LIVE, Declare
from autogen_coord.core.store import Rows
from autogen_coord.core.tables import LOCK_HELD, LOCK_WAIT, SESSION, LockHeldRow, LockWaitRow
from autogen_coord.core.tasks import Submit
from autogen_coord.settings import Settings

from . import programs
from .programs import MODULES, Batch, Command, Op, Program, World

PATHS = tuple(path + SEPARATOR for path in ("a", "a/x", "a/x/1", "a/x/2", "a/y", "a!", "a0", "b", "b/x"))
"""Two trees, and two names that sort next to what lies below the first."""
PEOPLE = ("ann", "bob")
FAMILY = ("submit_one", "claim", "acquire_as_parent", "submit_child", "claim", "acquire_as_child")
"""A handler takes a lock and asks for a child, which wants a lock too."""
AGAIN = (*FAMILY, "give_back_parent", "claim", "claim", "acquire_as_parent", "acquire_as_child", "acquire_as_child")
"""It is claimed once more, while what its first attempt took is still held."""
READERS = ("share", "share", "share", "convert_shared", "convert_shared", "release_shared", "release_shared")
"""Several hold a little of one path, and then want more of it."""
PARTLY = ("evict_part", "acquire_again")
BORROWED = {
    "open_session": 2.5, "renew": 5.0, "declare_dead": 0.8, "bury": 2.0, "close_session": 0.3, "announce": 1.5,
    "submit_child": 2.0, "claim": 4.0, "finish": 2.0, "cancel": 0.3, "give_back": 0.5, "turn": 1.0, "look": 2.0,
}  # fmt: skip
"""Kinds of `tests.property.programs`, and how often they are drawn."""


class Cover(NamedTuple):
    """A write of ours that names a lease."""

    guard: Guard
    path: str
    mode: str


def write(rows: Rows, command: Cover, now: float, policy: Settings) -> bool:
    """No rule of ours: what each fenced write does first."""
    locks.require_cover(rows, command.guard, command.path, command.mode)
    return True


MODULES["lock_programs"] = sys.modules[__name__]


class LockWorld(World):
    """Remembers what was asked for and what was granted."""

    def __init__(self, policy: Settings) -> None:
        super().__init__(policy)
        self.asked: list[Acquire] = []
        self.conversions: list[Convert] = []
        self.guards: list[Guard] = []

    def heard(self, command: Command, answer: Any) -> None:
        super().heard(command, answer)
        if isinstance(answer, Granted) and answer.wants:
            self.guards.append(Guard(answer.id, command.body.session, answer.token, tuple(want.path for want in answer.wants)))

    def leases(self, session: str | None = None) -> dict[str, list[LockHeldRow]]:
        """What is held, by lease."""
        found: dict[str, list[LockHeldRow]] = {}
        for _, row in sorted(self.mirror.rows(LOCK_HELD).items()):
            if session in (None, row.session):
                found.setdefault(row.id, []).append(row)
        return found

    def converts(self, command: Convert) -> Command:
        self.conversions.append(command)
        return Command("locks.convert", command)

    def in_part(self) -> list[Acquire]:
        """Requests of which a part was taken away since they were granted."""
        held = self.mirror.rows(LOCK_HELD)
        return [one for one in self.asked if 0 < sum((want.path, one.id) in held for want in one.wants) < len(one.wants)]

    def requests(self) -> dict[str, LockWaitRow]:
        return {row.id: row for _, row in sorted(self.mirror.rows(LOCK_WAIT).items())}

    def lease(self, r: random.Random) -> tuple[str, str, tuple[str, ...]] | None:
        """Mostly one that is held; else one that waits, or one of the past: id, session, paths."""
        held, what = self.leases(), r.random()
        if held and what < 0.75:
            id = r.choice(list(held))
            return id, held[id][0].session, tuple(row.path for row in held[id])
        waits = self.requests()
        if waits and what < 0.9:
            row = waits[r.choice(list(waits))]
            return row.id, row.session, tuple(path for path, _ in bodies.decode(row.wants))
        if self.asked and what > 0.85:
            past = r.choice(self.asked[-20:])
            return past.id, past.session, tuple(want.path for want in past.wants)
        return None


Draw = Callable[[LockWorld, random.Random], Command | None]
_DRAWS: dict[str, tuple[float, Draw]] = {}


def _op(weight: float) -> Callable[[Draw], Draw]:
    def keep(draw: Draw) -> Draw:
        _DRAWS[draw.__name__.strip("_")] = (weight, draw)
        return draw

    return keep


def make(world: LockWorld, op: Op) -> Command | None:
    """The command that an operation means now; None when there is nothing that it could mean."""
    if op.kind not in _DRAWS:
        return programs.make(world, op)
    command = _DRAWS[op.kind][1](world, random.Random(op.seed))
    return None if command is None else command._replace(spoiled=op.spoiled)


def program(seed: int, batches: int = 14) -> Program:
    """The program of a seed."""
    r = random.Random(f"locks {seed}")
    all_weights = {**BORROWED, **{kind: weight for kind, (weight, _) in _DRAWS.items()}}
    kinds = list(all_weights)
    weights = [all_weights[kind] * r.choice((0.3, 1, 1, 2)) for kind in kinds]

    def ops(*given: str) -> tuple[Op, ...]:
        return tuple(Op(kind, r.getrandbits(32), r.random() < 0.05) for kind in given)

    out = [Batch(0.0, None, ops(*["open_session"] * r.choice((2, 3, 4)), *["announce"] * 3))]
    calm = r.random() < 0.7
    for _ in range(r.randrange(batches // 2, batches * 3 // 2)):
        wait = r.choice((0.0, 0.0, 0.125, 0.5, 1.0)) if calm or r.random() < 0.8 else r.choice((2.0, 4.0, 12.0))
        some = r.choices(kinds, weights, k=r.choice((1, 2, 4, 6, 10)))
        out.append(Batch(wait, r.getrandbits(32), ops(*["renew"] * r.randrange(3), *some)))
        if r.random() < 0.12:
            out.append(Batch(0.5, None, ops("declare_dead", *["bury"] * r.randrange(4))))
        if r.random() < 0.2:
            out.append(Batch(0.0, None, ops(*(FAMILY if r.random() < 0.6 else AGAIN))))
        if r.random() < 0.2:
            out.append(Batch(0.0, None, ops(*READERS)))
        if r.random() < 0.08:
            out.append(Batch(0.0, None, ops(*PARTLY)))
        if r.random() < 0.12:
            out += [Batch(1.0, None, ops(*["renew_others"] * 3, *r.choices(kinds, weights, k=2))) for _ in range(4)]
            out.append(Batch(0.0, None, ops(*["declare_silent"] * 2, *r.choices(kinds, weights, k=3), *["bury"] * r.randrange(5))))
    return Program(seed, _policy(r), tuple(out))


def _policy(r: random.Random) -> Settings:
    return Settings(
        priority_weight=r.choice((0.0, 0.5, 30.0)),
        slice=r.choice((1, 2, 3, 256)),
        cancel_grace=r.choice((0.0, 5.0)),
        batch_seconds=60.0,
    )


# who falls silent


@_op(0)
def _renew_others(w: LockWorld, r: random.Random) -> Command | None:
    """Than the one who is about to fall silent."""
    return Command("sessions.renew", r.choice(_living(w)[1:] or ["s-none"]))


@_op(0)
def _declare_silent(w: LockWorld, r: random.Random) -> Command | None:
    steady = [id for id in _living(w) if w.now - w.mirror.rows(SESSION)[id].steady_since >= 3.0]
    late = [id for id in _living(w) if w.mirror.rows(SESSION)[id].lease_until < w.now]
    return Command("sessions.declare_dead", Declare(r.choice(steady), r.choice(late))) if steady and late else None


def _living(w: LockWorld) -> list[str]:
    holds = [row.session for row in w.mirror.rows(LOCK_HELD).values()]
    return sorted((row.id for row in w.mirror.rows(SESSION).values() if row.state == LIVE), key=lambda id: (-holds.count(id), id))


# asking


@_op(22)
def _acquire(w: LockWorld, r: random.Random) -> Command | None:
    if w.asked and r.random() < 0.05:
        return Command("locks.acquire", r.choice(w.asked[-10:]))  # once more, after an answer that was lost
    session = w.session(r, 0.97)
    command = _asked(w, r, session, tuple(_wants(r, r.choice((1, 1, 1, 1, 2, 3)))))
    running = [row for row in w.running() if row.session == session]
    if running and r.random() < 0.3:
        row = r.choice(running)
        command = command._replace(task=row.id, attempt=row.attempt - (r.random() < 0.1))
    return _ask(w, command)


@_op(7)
def _acquire_across(w: LockWorld, r: random.Random) -> Command | None:
    """From inside one lock, what is held inside of which another waits: that is how circles are made."""
    leases, waits = w.leases(), [row for row in w.requests().values() if row.within is not None or row.owner is not None]
    if not leases or not waits:
        return None
    other = r.choice(waits)
    inside = [tuple(key) for key in bodies.decode(other.within or "[]")]
    theirs = [
        row for row in w.mirror.rows(LOCK_HELD).values() if (row.path, row.id) in inside or row.owner == other.owner is not None
    ]
    mine = leases[r.choice(list(leases))]
    if not theirs:
        return None
    wanted = r.choice(theirs)
    command = _asked(w, r, mine[0].session, (Want(wanted.path, r.choice(MODES[2:])),))
    return _ask(w, command._replace(within=tuple((row.path, row.id) for row in mine), wait=True))


@_op(3)
def _acquire_as_parent(w: LockWorld, r: random.Random) -> Command | None:
    """By a handler, mostly the last that began."""
    running = w.handlers()
    if not running:
        return None
    row = running[-1] if r.random() < 0.6 else r.choice(running)
    command = _asked(w, r, row.session or "", tuple(_wants(r, 1)))
    return _ask(w, command._replace(task=row.id, attempt=row.attempt))


@_op(3)
def _acquire_as_child(w: LockWorld, r: random.Random) -> Command | None:
    """By a handler whose parent holds locks: often one of these."""
    running = [row for row in w.handlers() if row.parent is not None]
    if not running:
        return None
    row = r.choice(running)
    theirs = [held.path for held in w.mirror.rows(LOCK_HELD).values() if held.task is not None]
    wants = (Want(r.choice(theirs), r.choice(MODES)),) if theirs and r.random() < 0.6 else tuple(_wants(r, 1))
    return _ask(w, _asked(w, r, row.session or "", wants)._replace(task=row.id, attempt=row.attempt))


@_op(0)
def _give_back_parent(w: LockWorld, r: random.Random) -> Command | None:
    """A claim whose handler holds locks and waits for a child."""
    holds = {(row.task, row.attempt) for row in w.mirror.rows(LOCK_HELD).values()}
    some = [row for row in w.handlers() if row.children and (row.id, row.attempt) in holds]
    if not some:
        return None
    row = r.choice(some)
    return Command("claims.give_back", GiveBack(row.session or "", ((row.id, row.attempt),)))


@_op(1)
def _submit_one(w: LockWorld, r: random.Random) -> Command | None:
    return Command("tasks.submit", Submit(w.fresh(r), r.choice(programs.LABELS), programs.BODIES[0]))


def _wants(r: random.Random, count: int) -> Iterator[Want]:
    for path in sorted(r.sample(PATHS, count)):
        yield Want(path, r.choice((*MODES, "S", "X", "X")))


def _asked(w: LockWorld, r: random.Random, session: str, wants: tuple[Want, ...]) -> Acquire:
    outer = [[(row.path, row.id) for row in rows] for rows in w.leases(session).values()]
    within = r.sample(outer, min(len(outer), r.choice((1, 1, 2)))) if r.random() < 0.5 else []
    owner = r.choice(PEOPLE) if r.random() < 0.35 else None
    priority = r.choice((0.0, 5.0, 5.0, 5.0, 10.0))
    return Acquire(
        w.fresh(r, "l"), session, wants, r.random() < 0.8, priority, owner, tuple(key for keys in within for key in keys)
    )


def _ask(w: LockWorld, command: Acquire) -> Command:
    w.asked.append(command)
    return Command("locks.acquire", command)


@_op(9)
def _convert(w: LockWorld, r: random.Random) -> Command | None:
    """Often of a lease on a path that others hold too."""
    leases = w.leases()
    if not leases or r.random() < 0.05:
        found = w.lease(r)
        return None if found is None else w.converts(Convert(w.fresh(r, "c"), *found, r.choice(MODES), r.random() < 0.8))
    if w.conversions and r.random() < 0.05:
        return Command("locks.convert", r.choice(w.conversions[-5:]))  # once more, after an answer that was lost
    taken = [row.path for rows in leases.values() for row in rows]
    shared = [id for id, rows in leases.items() if any(taken.count(row.path) > 1 for row in rows)]
    id = r.choice(shared) if shared and r.random() < 0.6 else r.choice(list(leases))
    rows = leases[id]
    session = rows[0].session if r.random() < 0.95 else w.session(r)
    outer = [(row.path, row.id) for other in w.leases(session).values() for row in other if row.id != id and r.random() < 0.3]
    mode = r.choice((*MODES, "X", "S"))
    paths = tuple(row.path for row in rows)
    return w.converts(Convert(w.fresh(r, "c"), id, session, paths, mode, r.random() < 0.85, tuple(outer)))


@_op(1)
def _share(w: LockWorld, r: random.Random) -> Command | None:
    modes = ("IS", "IS", "S", "IX")
    wants = tuple(Want(path, r.choice(modes)) for path in ("b/", "b/x/")[r.choice((0, 0, 0, 1)) :][: r.choice((1, 1, 2))])
    return _ask(w, Acquire(w.fresh(r, "l"), w.session(r, 0.97), wants, r.random() < 0.5, 5.0))


@_op(1)
def _convert_shared(w: LockWorld, r: random.Random) -> Command | None:
    some = _shared(w)
    if not some:
        return None
    row = r.choice(some)
    paths = tuple(held.path for held in w.leases()[row.id])
    mode = r.choice(("S", "IX", "SIX", "X"))
    return w.converts(Convert(w.fresh(r, "c"), row.id, row.session, paths, mode, r.random() < 0.9))


@_op(1)
def _release_shared(w: LockWorld, r: random.Random) -> Command | None:
    """One that does not wait for more, so that others get on."""
    converting = {row.converts for row in w.requests().values()}
    some = [row for row in _shared(w) if row.id not in converting]
    if not some:
        return None
    row = r.choice(some)
    return Command("locks.release", Release(row.id, row.session, tuple(held.path for held in w.leases()[row.id])))


def _shared(w: LockWorld) -> list[LockHeldRow]:
    return [row for _, row in sorted(w.mirror.rows(LOCK_HELD).items()) if row.path in ("b/", "b/x/")]


# giving back


@_op(10)
def _release(w: LockWorld, r: random.Random) -> Command | None:
    found = w.lease(r)
    if found is None:
        return None
    id, session, paths = found
    return Command("locks.release", Release(id, session if r.random() < 0.93 else w.session(r), paths))


@_op(3)
def _give_up(w: LockWorld, r: random.Random) -> Command | None:
    """Of one that waits; else late: a lease that was granted, or a conversion of the past."""
    waits, late = list(w.requests().values()), w.lease(r)
    if waits and r.random() < 0.7:
        row = r.choice(waits)
        asked = GiveUp(row.id, row.converts or row.id, row.session, tuple(path for path, _ in bodies.decode(row.wants)))
    elif w.conversions and r.random() < 0.6:
        past = r.choice(w.conversions[-10:])
        asked = GiveUp(past.id, past.lease, past.session, past.paths)
    elif late is not None:
        asked = GiveUp(late[0], *late)
    else:
        return None
    return Command("locks.give_up", asked if r.random() < 0.93 else asked._replace(session=w.session(r)))


@_op(1)
def _evict(w: LockWorld, r: random.Random) -> Command | None:
    found = w.lease(r)
    if found is None:
        return None
    paths = found[2] if r.random() < 0.7 else found[2][:1]
    return Command("locks.evict", Evict(found[0], paths))


@_op(0)
def _evict_part(w: LockWorld, r: random.Random) -> Command | None:
    several = [(id, rows) for id, rows in w.leases().items() if len(rows) > 1]
    if not several:
        return None
    id, rows = r.choice(several)
    return Command("locks.evict", Evict(id, (r.choice(rows).path,)))


@_op(0)
def _acquire_again(w: LockWorld, r: random.Random) -> Command | None:
    """What was granted, and then taken away in part."""
    some = w.in_part()
    return Command("locks.acquire", r.choice(some)) if some else None


@_op(0.3)
def _leave(w: LockWorld, r: random.Random) -> Command | None:
    return Command("locks.leave", Leave(w.session(r)))


@_op(1.5)
def _stop(w: LockWorld, r: random.Random) -> Command | None:
    held = [(row.session, row.task, row.attempt) for row in w.mirror.rows(LOCK_HELD).values() if row.task is not None]
    waits = [(row.session, row.task, row.attempt) for row in w.mirror.rows(LOCK_WAIT).values() if row.task is not None]
    some = sorted({*held, *waits})
    if not some:
        return None
    session, task, attempt = r.choice(some)
    if r.random() < 0.15:
        session, attempt = r.choice(((session, attempt + 1), (w.session(r), attempt)))
    return Command("locks.stop", Handler(session, task, attempt))


# writing


@_op(8)
def _write(w: LockWorld, r: random.Random) -> Command | None:
    """Under a lease that stands, or one of the past; at its path, or elsewhere."""
    leases = w.leases()
    if leases and r.random() < 0.6:
        rows = leases[r.choice(list(leases))]
        guard = Guard(rows[0].id, rows[0].session, rows[0].token, tuple(row.path for row in rows))
        w.guards.append(guard)
    elif w.guards:
        guard = r.choice(w.guards[-15:])
    else:
        return None
    if r.random() < 0.1:
        guard = guard._replace(token=guard.token + r.choice((-1, 1, 1 << 37)))
    if r.random() < 0.05:
        guard = guard._replace(session=w.session(r))
    path = r.choice(guard.paths) if r.random() < 0.5 else r.choice(PATHS)
    return Command("lock_programs.write", Cover(guard, path, r.choice(MODES)))


# the end


def farewells(w: LockWorld, seed: int) -> Iterator[Command]:
    """Whoever lives gives back all that it holds and waits for, one by one, in any order."""
    r = random.Random(f"farewells {seed}")
    while True:
        live = {row.id for row in w.mirror.rows(SESSION).values() if row.state == LIVE}
        rows: list[LockHeldRow | LockWaitRow] = [*w.mirror.rows(LOCK_HELD).values(), *w.mirror.rows(LOCK_WAIT).values()]
        mine = sorted({(row.id, row.session) for row in rows if row.session in live})
        if not mine:
            return
        id, session = r.choice(mine)
        paths = tuple(sorted({row.path for row in rows if row.id == id}))
        yield Command("locks.release", Release(id, session, paths))
