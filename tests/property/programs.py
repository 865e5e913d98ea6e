"""Random programs of commands and passing time.

A program is drawn from a seed alone. Its operations name what they mean by a small seed of their own ("some running claim", "a past
claim of another session"); what that is, is decided when the operation's turn comes, from the rows as they are then. So programs
stay meaningful, and still are when operations are taken out of them (`tests.property.shrink`).
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

from autogen_coord.core import burial, claims, inboxes, locks, messages, pruning, registry, sessions, tasks, timers
from autogen_coord.core.addresses import EVERYONE, Address, Recipient, is_reserved, topic_label
from autogen_coord.core.balancing import Candidate
from autogen_coord.core.burial import Bury, Settle
from autogen_coord.core.claims import Claim, Claims, Disown, Finish, GiveBack, Progress, Reject, Serves, Want
from autogen_coord.core.endings import Failure
from autogen_coord.core.inboxes import Redirect
from autogen_coord.core.messages import Send
from autogen_coord.core.pools import addressed, alone
from autogen_coord.core.pruning import Prune, Purge
from autogen_coord.core.registry import Announce, Withdraw
from autogen_coord.core.retry import RetryPolicy
from autogen_coord.core.sessions import LIVE, CloseSession, Declare, OpenSession
from autogen_coord.core.store import Change, Key, R, Range, Rows, Table
from autogen_coord.core.tables import (
    DEAD_LETTERS,
    FINAL,
    OUTCOME,
    PROVIDER,
    QUEUE,
    SESSION,
    TABLES,
    TASK,
    CapabilityRow,
    ProviderRow,
    QueueRow,
    TaskState,
)
from autogen_coord.core.tasks import Broadcast, Cancel, Requeue, Submit
from autogen_coord.core.timers import Turn
from autogen_coord.errors import InvalidInputError
from autogen_coord.settings import Settings

START = 1_000_000.0
LABELS = ("alpha", "alpha", "alpha", "beta", "beta", "gamma:2")
LANES = ("lane-1", "lane-1", "lane-2")
LEAVING = (
    ("submit_addressed", "claim_by_name", "withdraw", "settle", "give_back", "claim_by_name"),
    ("submit_addressed", "claim_by_name", "submit_child", "submit_child", "give_back", "withdraw", "settle"),
)
"""A provider goes while it is addressed: before its claims are given back, or after."""
MOVING = (
    ("open_inbox", "send", "send", "open_inbox", "open_inbox", "redirect", "redirect"),
    ("open_inbox", "send", "send", "claim", "open_inbox", "give_back", "give_back", "redirect"),
)
"""One of an agent's inboxes is opened while messages lie in the other."""
INBOXES: tuple[Address | str, ...] = (
    Address("box", "a"),
    Address("box", "b"),
    Address("box", "default"),
    "push",
    "box",
    Address("push", "x"),
)
"""Own ones, and those of types: some agents have both."""
TO = tuple(Recipient.parse(text) for text in ("box/a", "box/a", "box/b", "push/x", "box/none", "capability:alpha", "topic:news/de"))
STICKY = ("who-1", "who-2")
RETRIES = tuple(
    policy.stored()
    for policy in (RetryPolicy(1), RetryPolicy(3, 0.25, 2.0, 1.0), RetryPolicy(2, 0.0), RetryPolicy(4, 1.0, jitter=False))
)
BODIES = ('"a"', '"b"', '"a body that is long enough for a blob"', '"another body that is long enough for a blob"')


def look(rows: Rows, command: Range[Any], now: float, policy: Settings) -> list[Any]:
    """No rule of ours: what a rule would see now."""
    return rows.scan(command)


def look_up(rows: Rows, command: tuple[Table[Any], tuple[Key, ...]], now: float, policy: Settings) -> list[Any]:
    table, keys = command
    return rows.get(table, keys)


MODULES = {
    module.__name__.rpartition(".")[2]: module
    for module in (burial, claims, inboxes, locks, messages, pruning, registry, sessions, tasks, timers)
}


class Command(NamedTuple):
    rule: str
    """``module.name``: looked up when it runs, so that a planted fault is found."""
    body: Any
    spoiled: bool = False
    """Refused after it has written: it must leave nothing behind."""

    def run(self, rows: Rows, now: float, policy: Settings) -> Any:
        module, _, name = self.rule.partition(".")
        rule = globals()[name] if module == "rows" else getattr(MODULES[module], name)
        answer = rule(rows, self.body, now, policy)
        if self.spoiled:
            raise InvalidInputError("spoiled: refused after it wrote")
        return answer


class Op(NamedTuple):
    kind: str
    seed: int
    spoiled: bool = False


class Batch(NamedTuple):
    wait: float
    """Seconds since the batch before."""
    beat: int | None
    """Draws the session whose process sends the batch: its lease is renewed with it."""
    ops: tuple[Op, ...]


class Program(NamedTuple):
    seed: int
    policy: Settings
    batches: tuple[Batch, ...]


class Mirror:
    """The rows as they are, kept by applying changes."""

    def __init__(self) -> None:
        self._rows: dict[str, dict[Key, Any]] = {table.name: {} for table in TABLES}

    def rows(self, table: Table[R]) -> dict[Key, R]:
        return self._rows[table.name]

    def apply(self, changes: Iterable[Change]) -> None:
        for table, old, new in changes:
            key = table.key_of(new if old is None else old)
            rows = self._rows[table.name]
            assert rows.get(key) == old, f"{table.name} {key}: a change says it was {old}, but it was {rows.get(key)}"
            if new is None:
                del rows[key]
            else:
                rows[key] = new

    def walk(self, range: Range[R]) -> list[R]:
        """What an index walk must find, computed from its definition."""
        index, columns = range.table.indexes[range.index], range.table.columns
        place = {column: number for number, column in enumerate(columns)}
        order = [place[column] for column in (*index.order, *range.table.key_columns)]
        out = []
        for row in self.rows(range.table).values():
            if isinstance(index.where, str) and row[place[index.where]] is None:
                continue
            if isinstance(index.where, tuple) and not _is_one_of(row[place[index.where[0]]], index.where[1]):
                continue
            if tuple(row[place[column]] for column in index.equal) != range.prefix:
                continue
            value = row[order[0]]
            if (range.low is not None and value < range.low) or (range.high is not None and value >= range.high):
                continue
            out.append(row)
        out.sort(key=lambda row: tuple(row[number] for number in order), reverse=range.reverse)
        return out[: range.limit]


def _is_one_of(value: Any, wanted: Any) -> bool:
    return value in wanted if isinstance(wanted, tuple) else bool(value == wanted)


class World:
    """What operations choose from: the rows now, and what was claimed, submitted and finished in the past."""

    def __init__(self, policy: Settings) -> None:
        self.policy = policy
        self.now = START
        self.mirror = Mirror()
        self.claims: list[tuple[str, str, int]] = []
        self.submits: list[Submit] = []
        self.finishes: list[Finish] = []
        self.sends: list[Send] = []
        self._drawn = 0

    def fresh(self, r: random.Random, letter: str = "t") -> str:
        """A new id; their order is not that of their drawing."""
        self._drawn += 1
        return f"{letter}{r.randrange(36):02}-{self._drawn:03}"

    def heard(self, command: Command, answer: Any) -> None:
        """Remember what a command was told."""
        if isinstance(answer, Claims):
            self.claims += [(one.row.session or "", one.row.id, one.row.attempt) for one in answer.claimed]

    # what there is

    def session(self, r: random.Random, live: float = 0.9) -> str:
        every = list(self.mirror.rows(SESSION).values())
        some = [row for row in every if row.state == LIVE] if r.random() < live else every
        return r.choice(some).id if some else "s-none"

    def providers(self, session: str | None = None) -> list[ProviderRow]:
        """Of capabilities."""
        return [row for row in self.serving(session) if not is_reserved(row.capability)]

    def serving(self, session: str | None = None) -> list[ProviderRow]:
        """Providers and inboxes."""
        every = self.mirror.rows(PROVIDER).values()
        return [row for row in every if session in (None, row.session) and row.kind != messages.SUBSCRIPTION_KIND]

    def handlers(self) -> list[QueueRow]:
        """What runs, and is not held for somebody."""
        return [row for row in self.running() if not is_reserved(row.capability)]

    def running(self, session: str | None = None) -> list[QueueRow]:
        rows = self.mirror.rows(QUEUE).values()
        return [row for row in rows if row.state == TaskState.RUNNING and session in (None, row.session)]

    def task(self, r: random.Random, live: float = 0.7) -> str:
        some = list(self.mirror.rows(QUEUE) if r.random() < live else self.mirror.rows(TASK))
        return r.choice(some) if some and r.random() < 0.98 else "t-none"

    def claim(self, r: random.Random) -> tuple[str, str, int] | None:
        """Mostly one that stands; else one of the past, or one that never was."""
        running, what = self.running(), r.random()
        if not running and r.random() < 0.8:
            return None
        if running and what < 0.75:
            row = r.choice(running)
            return row.session or "", row.id, row.attempt
        if self.claims and what < 0.92:
            recent = self.claims[-12:]
            return r.choice(recent if r.random() < 0.7 else self.claims)
        if running:
            row = r.choice(running)
            if r.random() < 0.5:
                return self.session(r, 0.9), row.id, row.attempt
            return row.session or "", row.id, row.attempt + r.choice((-1, 1))
        return self.session(r), self.task(r), 1


Draw = Callable[[World, random.Random], Command | None]
_DRAWS: dict[str, tuple[float, Draw]] = {}


def _op(weight: float) -> Callable[[Draw], Draw]:
    def keep(draw: Draw) -> Draw:
        _DRAWS[draw.__name__.strip("_")] = (weight, draw)
        return draw

    return keep


def make(world: World, op: Op) -> Command | None:
    """The command that an operation means now; None when there is nothing that it could mean."""
    command = _DRAWS[op.kind][1](world, random.Random(op.seed))
    return None if command is None else command._replace(spoiled=op.spoiled)


def program(seed: int, batches: int = 16) -> Program:
    """The program of a seed."""
    r = random.Random(seed)
    kinds = list(_DRAWS)
    weights = [_DRAWS[kind][0] * r.choice((0.3, 1, 1, 2)) for kind in kinds]

    def ops(*given: str) -> tuple[Op, ...]:
        return tuple(Op(kind, r.getrandbits(32), r.random() < 0.07) for kind in given)

    out = [Batch(0.0, None, ops(*["open_session"] * r.choice((2, 3)), *["announce"] * 4))]
    calm = r.random() < 0.6
    for _ in range(r.randrange(batches // 2, batches * 3 // 2)):
        wait = r.choice((0.0, 0.125, 0.5, 1.0, 1.0, 2.0)) if calm or r.random() < 0.8 else r.choice((4.0, 12.0, 40.0, 400.0))
        some = r.choices(kinds, weights, k=r.choice((1, 1, 2, 3, 4, 6, 10)))
        out.append(Batch(wait, r.getrandbits(32) if r.random() < 0.5 else None, ops(*["renew"] * r.randrange(3), *some)))
        if r.random() < 0.2:
            out.append(Batch(0.5, None, ops("declare_dead", *["bury"] * r.randrange(4))))
        if r.random() < 0.1:
            out.append(Batch(0.0, None, ops(*r.choice(LEAVING))))
        if r.random() < 0.15:
            out.append(Batch(0.0, None, ops(*r.choice(MOVING))))
    return Program(seed, _policy(r), tuple(out))


def _policy(r: random.Random) -> Settings:
    return Settings(
        tries=r.choice((1, 2, 3)),
        backoff_cap=r.choice((1.0, 4.0)),
        timeout=r.choice((2.0, 10.0, 30.0)),
        cancel_grace=r.choice((0.0, 1.0, 5.0)),
        crash_limit=r.choice((1, 2)),
        priority_weight=r.choice((0.0, 0.5, 30.0)),
        reject_pause=r.choice((0.0, 1.0, 5.0)),
        blob_from=20,
        slice=r.choice((1, 2, 3, 256)),
        keep_count=r.choice((0, 3, 10, 1_000, 1_000)),
        keep_seconds=r.choice((2.0, 1e6)),
        batch_seconds=60.0,
    )


# sessions and providers


@_op(2.5)
def _open_session(w: World, r: random.Random) -> Command | None:
    known = list(w.mirror.rows(SESSION))
    if len(known) > 8:
        return None
    id = r.choice(known) if known and r.random() < 0.05 else w.fresh(r, "s")
    return Command("sessions.open_session", OpenSession(id, "worker", "here"))


@_op(3)
def _renew(w: World, r: random.Random) -> Command | None:
    return Command("sessions.renew", w.session(r))


@_op(0.8)
def _declare_dead(w: World, r: random.Random) -> Command | None:
    live = [row for row in w.mirror.rows(SESSION).values() if row.state == LIVE]
    late = [row.id for row in live if row.lease_until < w.now]
    steady = [row.id for row in live if row.steady_since <= w.now - row.ttl]
    victim = r.choice(late) if late and r.random() < 0.8 else w.session(r)
    judge = r.choice(steady) if steady and r.random() < 0.6 else w.session(r)
    return Command("sessions.declare_dead", Declare(judge, victim))


@_op(2)
def _bury(w: World, r: random.Random) -> Command | None:
    dead = [row.id for row in w.mirror.rows(SESSION).values() if row.state == sessions.DEAD]
    return Command("burial.bury", Bury(r.choice(dead) if dead and r.random() < 0.9 else w.session(r)))


@_op(0.4)
def _close_session(w: World, r: random.Random) -> Command | None:
    return Command("sessions.close_session", CloseSession(w.session(r)))


@_op(3)
def _announce(w: World, r: random.Random) -> Command | None:
    return announcement(r, w.session(r, 0.95), r.sample(("alpha", "beta", "gamma:2"), r.choice((1, 2, 3))))


def announcement(r: random.Random, session: str, labels: Iterable[str]) -> Command:
    capabilities, providers = [], []
    for label in labels:
        name, version = registry.split_label(label)
        form = "{}" if r.random() < 0.92 else '{"other":1}'
        capabilities.append(CapabilityRow(name, version, "", form, "{}", None, 0.0))
        providers += [
            ProviderRow(id, session, session, label, version, "agent", "box", None, registry.ONLINE, 8, None, 0.0)
            for id in (f"{session}.{name}", f"{session}.{name}.2")[: 1 + (r.random() > 0.7)]
        ]
    return Command("registry.announce", Announce(session, tuple(capabilities), tuple(providers)))


@_op(2)
def _open_inbox(w: World, r: random.Random) -> Command | None:
    return opening(w.session(r, 0.95), r.sample(INBOXES, r.choice((1, 2))), r.random() < 0.5)


def opening(session: str, owners: Iterable[Address | str], subscribed: bool = False) -> Command:
    """Inboxes, and subscriptions of their owners to a topic, of one source or all."""
    known, providers = [], []
    for owner in owners:
        id = f"{session}.{owner}"
        known.append(messages.inbox_row(owner))
        providers += messages.inbox_providers(id, session, owner, 1)
        if subscribed:
            label = topic_label("news", "de" if isinstance(owner, str) else None)
            providers.append(messages.subscription(f"{id}.news", session, label, owner))
    return Command("registry.announce", Announce(session, tuple(known), tuple(providers)))


@_op(1.5)
def _withdraw(w: World, r: random.Random) -> Command | None:
    session = w.session(r)
    running = w.running()
    if running and r.random() < 0.5:
        session = r.choice(running).session or ""
    whose = session if r.random() < 0.9 else None
    own = [row.id for row in w.mirror.rows(PROVIDER).values() if whose in (None, row.session)]
    if not own:
        return None
    chosen = tuple(r.sample(own, r.randrange(1, len(own) + 1)))
    return Command(
        "registry.withdraw", Withdraw(session, chosen, r.choice((registry.OFFLINE, registry.OFFLINE, registry.DRAINING)))
    )


@_op(2)
def _settle(w: World, r: random.Random) -> Command | None:
    every = [row.id for row in w.serving() if r.random() < 0.1 or row.status != registry.ONLINE]
    if r.random() < 0.3:
        every = r.sample(every, len(every) // 2)
    return Command("burial.settle", Settle(tuple(every))) if every else None


# tasks


@_op(24)
def _submit(w: World, r: random.Random) -> Command | None:
    again = [command for command in w.submits[-20:] if command.id in w.mirror.rows(TASK)]
    if again and r.random() < 0.03:
        return Command("tasks.submit", r.choice(again))  # once more, after an answer that was lost
    command = _draw_submit(w, r)
    w.submits.append(command)
    return Command("tasks.submit", command)


def _draw_submit(w: World, r: random.Random) -> Submit:
    def sometimes(chance: float, *values: Any) -> Any:
        return r.choice(values) if r.random() < chance else None

    where = r.random()
    providers = w.providers()
    target = r.choice(providers) if providers and r.random() < 0.12 else None
    parent = w.claim(r) if r.random() < 0.25 else None
    key = None if parent is not None and r.random() < 0.6 else sometimes(0.3, "one", "two")
    number = 0 if key is not None and r.random() < 0.7 else r.randrange(len(BODIES))
    return Submit(
        w.fresh(r),
        target.capability if target else "ghost" if r.random() < 0.02 else r.choice(LABELS),
        BODIES[number],
        input_hash="" if key is None else f"hash-{number}",
        key=key,
        retry_failed=r.random() < 0.5,
        priority=r.choice((0.0, 2.0, 5.0, 5.0, 5.0, 7.0, 10.0)),
        target=target.id if target else None,
        lane=r.choice(LANES) if where < 0.3 else None,
        sticky=r.choice(STICKY) if 0.3 <= where < 0.45 else None,
        at=sometimes(0.05, w.now - 5.0, w.now + 3.0),
        delay=sometimes(0.15, 0.5, 2.0, 10.0) or 0.0,
        deadline=sometimes(0.2, 0.5, 2.0, 8.0, 60.0),
        ttl=sometimes(0.15, 0.5, 2.0, 8.0),
        timeout=sometimes(0.3, 1.0, 5.0),
        retry=sometimes(0.2, *RETRIES),
        sender=sometimes(0.2, "someone"),
        parent=parent[1] if parent else None,
        parent_attempt=parent[2] if parent else 0,
        step_key=sometimes(0.7, "step-1", "step-2") if parent else None,
    )


@_op(1)
def _submit_addressed(w: World, r: random.Random) -> Command | None:
    able = [row for row in w.providers() if row.status == registry.ONLINE and w.mirror.rows(SESSION)[row.session].state == LIVE]
    if not able:
        return None
    target = r.choice(able)
    return Command("tasks.submit", Submit(w.fresh(r), target.capability, BODIES[0], target=target.id))


@_op(2.5)
def _submit_child(w: World, r: random.Random) -> Command | None:
    """For the provider that runs its parent; or, by its parent's own key, the parent itself."""
    keyed = [row for row in w.handlers() if w.mirror.rows(TASK)[row.id].key is not None]
    running = keyed if keyed and r.random() < 0.7 else w.handlers()[-3:]
    if not running:
        return None
    parent = r.choice(running)
    task = w.mirror.rows(TASK)[parent.id]
    command = Submit(w.fresh(r), parent.capability, BODIES[0], parent=parent.id, parent_attempt=parent.attempt)
    if task.key is not None and r.random() < 0.7:
        return Command("tasks.submit", command._replace(key=task.key, input_hash=task.input_hash))
    return Command("tasks.submit", command._replace(target=parent.provider))


@_op(1.5)
def _broadcast(w: World, r: random.Random) -> Command | None:
    template = _draw_submit(w, r)._replace(
        key=None, input_hash="", target=None, sticky=None, parent=None, step_key=None, correlation=f"cast-{r.randrange(4)}"
    )
    return Command("tasks.broadcast", Broadcast(template, tuple(w.fresh(r) for _ in range(r.choice((1, 4, 8))))))


@_op(6)
def _send(w: World, r: random.Random) -> Command | None:
    again = [command for command in w.sends[-20:] if command.message.id in w.mirror.rows(TASK)]
    if again and r.random() < 0.08:
        return Command("messages.send", r.choice(again))  # once more, after an answer that was lost
    handlers = w.handlers()
    parent = r.choice(handlers) if handlers and r.random() < 0.4 else None
    message = Submit(
        w.fresh(r, "m"),
        "a message",
        BODIES[r.randrange(len(BODIES))],
        kind="message",
        priority=r.choice((0.0, 5.0, 5.0, 10.0)),
        delay=r.choice((0.0, 0.0, 0.0, 2.0)),
        ttl=r.choice((1.0, 8.0, 1_000.0, 1_000.0)),
        sender=r.choice((None, "box/a", "push/default", "someone/else")),
    )
    to = EVERYONE if r.random() < 0.25 else r.choice(TO)
    if parent is not None:
        attempt = parent.attempt if r.random() < 0.9 else parent.attempt - 1
        step = r.choice((None, "!send 1", "!send 1", "!send 2"))
        message = message._replace(parent=parent.id, parent_attempt=attempt, step_key=step)
    command = Send(message, to, w.session(r))
    w.sends.append(command)
    return Command("messages.send", command)


@_op(3)
def _cancel(w: World, r: random.Random) -> Command | None:
    return Command("tasks.cancel", Cancel(w.task(r, 0.9)))


@_op(2)
def _requeue(w: World, r: random.Random) -> Command | None:
    dead = [row.id for row in w.mirror.rows(OUTCOME).values() if row.state in DEAD_LETTERS]
    return Command("tasks.requeue", Requeue(r.choice(dead) if dead and r.random() < 0.75 else w.task(r, 0.3), w.fresh(r)))


@_op(20)
def _claim(w: World, r: random.Random) -> Command | None:
    session = w.session(r, 0.95)
    ready = [row.capability for row in w.mirror.rows(QUEUE).values() if row.state == TaskState.READY]
    if ready and r.random() < 0.8:
        able = [row.session for row in w.serving() if row.capability in ready and row.status == registry.ONLINE]
        session = r.choice(able or [session])
    serving = w.serving(session) if r.random() < 0.95 else w.serving()
    wants = [_want(label, rows, r) for label, rows in _by_label(serving).items() if r.random() < 0.8]
    by_name = (w.task(r),) if r.random() < 0.1 else ()
    return Command("claims.claim", Claim(session, tuple(wants), by_name, _serves(serving), r.random() < 0.5))


@_op(2)
def _claim_by_name(w: World, r: random.Random) -> Command | None:
    ready = [row for row in w.mirror.rows(QUEUE).values() if row.state == TaskState.READY]
    some = [row for row in ready if row.suspect or row.pool != row.capability] or ready
    if not some:
        return None
    chosen = r.choices(some, k=r.choice((1, 2, 3)))  # one twice is asked for twice, and given once
    able = [row.session for row in w.serving() if row.capability == chosen[0].capability and row.status == registry.ONLINE]
    session = r.choice(able) if able else w.session(r)
    serves = _serves(w.serving(session))
    return Command("claims.claim", Claim(session, (), tuple(row.id for row in chosen), serves, r.random() < 0.4))


def _by_label(providers: Iterable[ProviderRow]) -> dict[str, list[ProviderRow]]:
    found: dict[str, list[ProviderRow]] = {}
    for row in providers:
        found.setdefault(row.capability, []).append(row)
    return found


def _serves(providers: Iterable[ProviderRow]) -> tuple[Serves, ...]:
    return tuple(
        Serves(label, tuple(Candidate(row.id, 0, row.max_concurrency) for row in rows))
        for label, rows in _by_label(providers).items()
    )


def _want(label: str, providers: list[ProviderRow], r: random.Random) -> Want:
    offers = []
    for turn, row in enumerate(providers):
        active = r.choice((0, 0, 1, 3))
        offers.append(Candidate(row.id, active, active + r.choice((1, 1, 2, 5)), turn))
    own = [label, *(addressed(label, row.id) for row in providers)]
    pools = own + [alone(pool) for pool in own]
    slots = min(sum(one.free for one in offers), r.choice((1, 2, 8, 8)))
    return Want(tuple(r.sample(pools, r.choice((1, len(pools), len(pools))))), tuple(offers), slots)


@_op(17)
def _finish(w: World, r: random.Random) -> Command | None:
    if w.finishes and r.random() < 0.06:
        return Command("claims.finish", r.choice(w.finishes))
    what = r.random()
    claim, draw = w.claim(r), r.random()
    if claim is None:
        return None
    if what < 0.5:
        command = Finish(*claim, TaskState.SUCCEEDED, r.choice((None, *BODIES)), None, draw)
    elif what < 0.94:
        after = r.choice((None, None, 0.0, 3.0))
        failure = Failure("remote", "ValueError", "no", "a trace", r.random() < 0.75, after)
        command = Finish(*claim, TaskState.FAILED, None, failure, draw)
    else:
        command = Finish(*claim, r.choice((TaskState.CANCELLED, TaskState.EXPIRED)))
    w.finishes.append(command)
    return Command("claims.finish", command)


@_op(3)
def _reject(w: World, r: random.Random) -> Command | None:
    claim = w.claim(r)
    return None if claim is None else Command("claims.reject", Reject(*claim, "busy"))


@_op(3)
def _give_back(w: World, r: random.Random) -> Command | None:
    claim = w.claim(r)
    if claim is None:
        return None
    session, task, attempt = claim
    away = {row.id for row in w.serving() if row.status != registry.ONLINE}
    homeless = [row for row in w.running() if row.provider in away]
    if homeless and r.random() < 0.6:
        row = r.choice(homeless)
        session, task, attempt = row.session or "", row.id, row.attempt
    more = [(row.id, row.attempt) for row in w.running(session) if r.random() < 0.3]
    return Command("claims.give_back", GiveBack(session, tuple(dict.fromkeys([(task, attempt), *more])), r.random() < 0.3))


@_op(1.5)
def _redirect(w: World, r: random.Random) -> Command | None:
    lying = [row.id for row in w.mirror.rows(QUEUE).values() if is_reserved(row.capability)]
    return Command("inboxes.redirect", Redirect(tuple(r.sample(lying, r.randrange(1, len(lying) + 1))))) if lying else None


@_op(0.7)
def _disown(w: World, r: random.Random) -> Command | None:
    session = w.session(r)
    return Command("claims.disown", Disown(session, tuple((row.id, row.attempt) for row in w.running(session) if r.random() < 0.6)))


@_op(2)
def _progress(w: World, r: random.Random) -> Command | None:
    claim = w.claim(r)
    return None if claim is None else Command("claims.progress", Progress(*claim, r.choice(BODIES)))


# time, and what goes


@_op(10)
def _turn(w: World, r: random.Random) -> Command | None:
    return Command("timers.turn", Turn(r.random()))


@_op(1.5)
def _prune(w: World, r: random.Random) -> Command | None:
    return Command("pruning.prune", Prune())


@_op(0.7)
def _purge(w: World, r: random.Random) -> Command | None:
    return Command("pruning.purge", Purge(tuple(r.sample(FINAL, r.choice((1, 2)))), w.now - r.choice((-1.0, 1.0, 5.0))))


@_op(8)
def _look(w: World, r: random.Random) -> Command | None:
    table = r.choice((QUEUE, QUEUE, QUEUE, *TABLES))
    if r.random() < 0.15:
        keys = list(w.mirror.rows(table))
        return Command("rows.look_up", (table, tuple(r.sample(keys, min(len(keys), 4)))))
    return Command("rows.look", a_range(w.mirror, table, r))


def a_range(mirror: Mirror, table: Table[Any], r: random.Random) -> Range[Any]:
    """Some walk of some index."""
    name = r.choice(list(table.indexes))
    shape = table.shapes[name]
    some = r.choice(list(mirror.rows(table).values()) or [None])
    prefix = ("nothing",) * len(table.indexes[name].equal) if some is None else shape.prefix_of(some)
    ends: list[Any] = [None, None]
    values = sorted({row[shape.first] for row in mirror.rows(table).values() if shape.holds(row)})
    if values:
        ends = [r.choice(values) if r.random() < 0.2 else None for _ in ends]
    return Range(table, name, prefix, ends[0], ends[1], r.choice((None, None, 1, 2, 3)), r.random() < 0.3)
