"""The same program on several stores, in step: command by command where it is decided what the program means, and batch by batch
through the line's own fold, where that must give the same."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple, cast

from autogen_coord.core import commit, pools, sessions
from autogen_coord.core.burial import Bury, Settle
from autogen_coord.core.claims import Claim, Finish, Want
from autogen_coord.core.commit import Committed, Entry
from autogen_coord.core.pruning import Purge
from autogen_coord.core.sessions import Declare, OpenSession
from autogen_coord.core.store import Change, Key, Range, Rows, Store, Transaction
from autogen_coord.core.tables import (
    ATTEMPT,
    BLOB,
    EVENT,
    FINAL,
    LOCK_HELD,
    LOCK_WAIT,
    OUTCOME,
    PROVIDER,
    QUEUE,
    SESSION,
    TABLES,
    TASK,
    QueueRow,
    TaskState,
)
from autogen_coord.core.timers import Turn
from autogen_coord.errors import CoordError, StoreError
from autogen_coord.settings import Settings
from autogen_coord.stores.dictionary.store import DictionaryStore

from .invariants import Violation, Watch, require
from .programs import INBOXES, START, Command, Mirror, Op, Program, World, a_range, announcement, make, opening

Maker = Callable[[World], Command | None]
Answer = tuple[Any, tuple[Any, ...] | None]
"""A value, or a refusal in comparable form."""


class Step(NamedTuple):
    wait: float
    beat: Callable[[World], str | None]
    makers: Sequence[Maker]


class Clock:
    """The store's clock, set by hand."""

    def __init__(self) -> None:
        self.now = START

    def __call__(self) -> float:
        return self.now


class Variant:
    """A store that is given whole batches."""

    def __init__(self, name: str, store: Store, policy: Settings) -> None:
        self.name = name
        self.store = store
        self._policy = policy
        self._mirror = Mirror()

    def run(self, beat: str | None, commands: Sequence[Command]) -> tuple[list[Answer], dict[tuple[str, Key], Any], Committed]:
        """The answers to one batch, what changed by it, and what the line's listeners are told."""
        batch = [Entry(_rule, command, cast(Any, None), ()) for command in commands]

        def renew(rows: Rows, now: float) -> None:
            if beat is not None:
                sessions.renew(rows, beat, now, self._policy)

        fold = commit._Fold(batch, self._policy, renew)

        def transaction(rows: Transaction, now: float) -> tuple[Any, list[Change]]:
            return fold(rows, now), rows.changes()

        (answers, committed), changes = self.store.transact_blocking(transaction)
        self._mirror.apply(changes)
        return [_comparable(value, error) for value, error in answers], _net(changes), committed

    def require_walks(self, mirror: Mirror, r: random.Random) -> None:
        """Every row of every table, and walks of every index, are as the mirror computes them."""
        walks = [a_range(mirror, table, r) for table in TABLES for _ in (1, 2, 3)]
        walks += [Range(table, "key") for table in TABLES]
        for table in TABLES:
            for name, shape in table.shapes.items():
                prefixes = {shape.prefix_of(row) for row in mirror.rows(table).values() if shape.holds(row)}
                walks += [Range(table, name, prefix) for prefix in sorted(prefixes)[:20]]
        found = self.store.transact_blocking(lambda rows, now: [rows.scan(range) for range in walks])
        for walk, rows in zip(walks, found, strict=True):
            require(rows == mirror.walk(walk), "walks", self.name, walk, "found", rows, "instead of", mirror.walk(walk))


def _rule(rows: Rows, command: Command, now: float, policy: Settings) -> Any:
    return command.run(rows, now, policy)


def _comparable(value: Any, error: Exception | None) -> Answer:
    if isinstance(value, CoordError):  # an answer too: who waited long enough is told what was in its way
        error = value
    if error is None:
        return value, None
    facts = error.facts if isinstance(error, CoordError) else {}
    return None, (type(error).__name__, getattr(error, "code", ""), str(error), facts)


def _net(changes: Sequence[Change]) -> dict[tuple[str, Key], Any]:
    """What one batch did to each row, in the end."""
    first: dict[tuple[str, Key], Any] = {}
    last: dict[tuple[str, Key], Any] = {}
    for table, old, new in changes:
        place = table.name, table.key_of(new if old is None else old)
        first.setdefault(place, old)
        last[place] = new
    return {place: (first[place], last[place]) for place in last if first[place] != last[place]}


class Play:
    """One program on its way: the leader decides command by command, each in a transaction of its own; the others follow."""

    worlds: type[World] = World
    watches: type[Watch] = Watch
    make: Callable[[Any, Op], Command | None] = staticmethod(make)

    def __init__(self, program: Program, variants: Sequence[Variant], clock: Clock) -> None:
        self.program = program
        self.policy = program.policy
        self.variants = variants
        self.clock = clock
        self.world = self.worlds(program.policy)
        self.watch = self.watches(self.world.mirror, program.policy)
        self.log: list[str] = []
        """What was done, for people."""
        self.commands = 0
        self._last: Any = None
        """What the command before was told."""
        self._leader = DictionaryStore("leader", program.policy, clock=clock)

    def run(self) -> None:
        """Raises: Violation."""
        for step in self._program():
            self._step(step)
        for step in self._epilogue():
            self._step(step)
        r = random.Random(self.program.seed)
        for variant in self.variants:
            variant.require_walks(self.world.mirror, r)

    # the leader

    def _step(self, step: Step) -> None:
        self.clock.now += step.wait
        now = self.world.now = self.clock.now
        self.log.append(f"at {now - START:g}")
        commands: list[Command] = []
        answers: list[Answer] = []
        changes: list[Change] = []
        beat = step.beat(self.world)
        if beat is not None:
            self._one(Command("sessions.renew", beat), changes)
        for maker in step.makers:
            command = maker(self.world)
            if command is not None:
                commands.append(command)
                answers.append(self._one(command, changes))
        self.watch.between(now)
        self.commands += len(commands)
        if commands or beat:
            for variant in self.variants:
                self._follow(variant, beat, commands, answers, changes)

    def _one(self, command: Command, all_changes: list[Change]) -> Answer:
        """One command alone: what it refuses is taken back by the store, not by the line."""

        def transaction(rows: Transaction, now: float) -> tuple[Any, list[Change]]:
            return command.run(rows, now, self.policy), rows.changes()

        self.log.append(f"  {'SPOILED ' if command.spoiled else ''}{command.rule} {command.body}")
        answer: Any = None
        error: Exception | None = None
        changes: list[Change] = []
        try:
            answer, changes = self._leader.transact_blocking(transaction)
        except StoreError as failed:
            raise Violation("crash", f"{command}: {failed!r}") from failed
        except CoordError as refused:
            error = refused
        except Exception as failed:
            raise Violation("crash", f"{command}: {failed!r}") from failed
        self.log.append(f"    {error!r}" if error is not None else f"    {_brief(answer)}")
        if not command.spoiled:
            self.watch.command(command, answer, error, changes, self.clock.now)
            self.world.mirror.apply(changes)
            self.world.heard(command, answer)
            self.watch.after(command, answer)
        all_changes += changes
        self._last = answer
        return _comparable(answer, error)

    def _follow(
        self, variant: Variant, beat: str | None, commands: list[Command], answers: list[Answer], changes: list[Change]
    ) -> None:
        try:
            theirs, wrote, committed = variant.run(beat, commands)
        except (AssertionError, CoordError) as error:
            raise Violation("batch", f"{variant.name}: {commands}: {error!r}") from error
        for command, mine, other in zip(commands, answers, theirs, strict=True):
            require(mine == other, "answers", variant.name, command, "alone:", mine, "in the batch:", other)
        net = _net(changes)
        for place in net.keys() | wrote.keys():
            alone, together = net.get(place), wrote.get(place)
            require(alone == together, "rows", variant.name, place, "alone:", alone, "in the batch:", together)
        self._told(variant.name, net, committed)

    def _told(self, name: str, net: dict[tuple[str, Key], Any], committed: Committed) -> None:
        queue = [change for (table, _), change in net.items() if table == QUEUE.name]
        ready = {new.pool for _, new in queue if new is not None and new.state == TaskState.READY}
        require(ready == committed.pools, "told", name, "pools", committed.pools, "for", ready)
        ended = {key for (table, key), (_, new) in net.items() if table == OUTCOME.name and new is not None}
        require({row.id for row in committed.outcomes} == ended, "told", name, committed.outcomes, "for", ended)
        asked = {new.id for old, new in queue if new and new.cancel_at is not None and (old is None or old.cancel_at is None)}
        require(set(committed.cancelling) == asked, "told", name, "cancelling", committed.cancelling, "for", asked)
        due = min((new.due for _, new in queue if new is not None and new.due is not None), default=None)
        require(committed.due == due, "told", name, "due", committed.due, "for", due)
        numbers = [key for (table, key), (_, new) in net.items() if table == EVENT.name and new is not None]
        span = (min(numbers, default=0), max(numbers, default=0))
        require((committed.first_event, committed.last_event) == span, "told", name, "events", committed, "for", span)

    # what it does

    def _program(self) -> Iterator[Step]:
        for batch in self.program.batches:
            makers = [lambda world, op=op: self.make(world, op) for op in batch.ops]
            yield Step(batch.wait, lambda world, seed=batch.beat: None if seed is None else _beat(world, seed), makers)  # type: ignore[misc]

    def _epilogue(self) -> Iterator[Step]:
        """Time passes, one good process is left, and all that was submitted must end; all is purged, and nothing may be left."""
        world, last = self.world, "s-last"
        rows = world.mirror.rows
        yield from self._turned(10_000.0)
        late = [
            row for row in rows(QUEUE).values() if row.deadline is not None and row.deadline + self.policy.cancel_grace < world.now
        ]
        require(not late, "timers", "past their deadline, and live:", late)
        yield _step(0.0, Command("sessions.open_session", OpenSession(last, "worker", "here")))
        for _ in range(4):
            yield _step(1.0, Command("sessions.renew", last))
        others = [id for id in rows(SESSION) if id != last]
        yield _step(0.0, *[Command("sessions.declare_dead", Declare(last, id)) for id in others])
        living = [row for row in rows(SESSION).values() if row.state == sessions.LIVE and row.id != last]
        require(not living, "judges", "not declared dead:", living)
        for id in others:
            bury = Command("burial.bury", Bury(id))
            for _ in range(2 * len(rows(TASK)) + len(rows(PROVIDER)) + len(rows(LOCK_HELD)) + len(rows(LOCK_WAIT)) + 2):
                yield _step(0.0, bury)
                if rows(SESSION)[id].state != sessions.DEAD:
                    break
            require(rows(SESSION)[id].state != sessions.DEAD, "burial", "never ends:", id)
        providers = tuple(rows(PROVIDER))
        for _ in range(2 * len(rows(TASK)) + 2):
            yield _step(0.0, Command("burial.settle", Settle(providers)))
            if self._last is False:
                break
        require(self._last is False or not providers, "burial", "settling never ends")
        yield _step(0.0, announcement(_Calm(), last, ("alpha", "beta", "gamma:2")), opening(last, INBOXES))
        for _ in range(len(rows(TASK)) + 20):
            if not rows(QUEUE):
                break
            yield from self._turned(10.0)
            yield _step(0.0, self._claim_all(last))
            yield _step(0.0, *[_well_done(row) for row in rows(QUEUE).values() if row.state == TaskState.RUNNING])
        require(not rows(QUEUE), "lost", "never ends:", list(rows(QUEUE).values()))
        for _ in range(len(rows(OUTCOME)) + 1):
            yield _step(0.0, Command("pruning.purge", Purge(FINAL, world.now + 1.0)))
            if not rows(OUTCOME):
                break
        for table in (TASK, OUTCOME, ATTEMPT, BLOB):
            require(not self.world.mirror.rows(cast(Any, table)), "leak", table, "is not empty")

    def _turned(self, wait: float) -> Iterator[Step]:
        """Let time pass, and turn the clock until nothing is due."""
        queue = self.world.mirror.rows(QUEUE)
        yield Step(wait, _nobody, ())
        for round in range(len(queue) * 3 + 3):
            if not any(row.due is not None and row.due <= self.world.now for row in queue.values()):
                return
            yield _step(0.0, *[Command("timers.turn", Turn(round / 1000))] * 4)
        due = [row for row in queue.values() if row.due is not None and row.due <= self.world.now]
        require(not due, "timers", "due however often the clock is turned:", due)

    def _claim_all(self, session: str) -> Command:
        own = {row.capability: row.id for row in self.world.serving(session)}
        wants = {}
        for row in self.world.mirror.rows(QUEUE).values():
            mine = own[row.capability]
            if row.state == TaskState.READY and pools.provider_in(row.pool) in (None, mine):
                wants[row.pool] = Want.of((row.pool,), mine, 100)
        return Command("claims.claim", Claim(session, tuple(wants.values())))


class _Calm(random.Random):
    """Draws nothing rare."""

    def random(self) -> float:
        return 0.0


def _step(wait: float, *commands: Command) -> Step:
    return Step(wait, _nobody, [lambda world, command=command: command for command in commands])  # type: ignore[misc]


def _nobody(world: World) -> str | None:
    return None


def _beat(world: World, seed: int) -> str | None:
    live = [row.id for row in world.mirror.rows(SESSION).values() if row.state == sessions.LIVE]
    return random.Random(seed).choice(live) if live else None


def _well_done(row: QueueRow) -> Command:
    return Command("claims.finish", Finish(row.session or "", row.id, row.attempt, TaskState.SUCCEEDED, "1"))


def _brief(answer: Any) -> str:
    text = repr(answer)
    return text if len(text) < 500 else text[:500] + "..."


def in_memory(policy: Settings, clock: Clock) -> list[Variant]:
    """The variants that need no database."""
    return [
        Variant("dictionary", DictionaryStore("batches", policy, clock=clock), policy),
        Variant("collecting", DictionaryStore("collecting", policy, clock=clock, collecting=True), policy),
    ]
