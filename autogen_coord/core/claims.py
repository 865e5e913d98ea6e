"""What a worker does: claim, finish, give back, report. ``(task, attempt)`` names the claim; a stale one is refused.

Source: fencing by a growing number, M. Kleppmann, "How to do distributed locking", 2016;
C. Gray and D. Cheriton, "Leases", SOSP 1989.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from ..errors import StaleClaimError
from ..settings import Settings
from . import bodies, endings, events, pools, queue
from .addresses import is_inbox
from .balancing import Balance, Candidate, Strategy, least_busy
from .endings import Failure
from .events import Kind
from .registry import candidates
from .sessions import is_live, require
from .store import Keys, Range, Rows, each
from .tables import ATTEMPT, BLOB, CANCELLED, EXPIRED, FAILED, OUTCOME, QUEUE, READY, RUNNING, TASK, OutcomeRow, QueueRow, TaskRow

UNBEGUN = "unbegun"
"""How an attempt ended that nobody saw."""


class Want(NamedTuple):
    """So many tasks of these pools, shared among the providers of one capability that have free slots."""

    pools: tuple[str, ...]
    offers: tuple[Candidate, ...]
    slots: int
    strategy: Strategy = least_busy

    @classmethod
    def of(cls, pools: tuple[str, ...], provider: str, slots: int) -> Want:
        """So many, for one provider."""
        return cls(pools, (Candidate(provider, 0, slots),), slots)


class Serves(NamedTuple):
    """The providers of one capability, free or not."""

    label: str
    candidates: tuple[Candidate, ...]
    strategy: Strategy = least_busy

    @classmethod
    def of(cls, label: str, provider: str) -> Serves:
        """One provider."""
        return cls(label, (Candidate(provider, 0, 1),))


class Claim(NamedTuple):
    """``tasks`` are wanted by name, whatever their rank and whoever is busy, because a handler here waits for them: each goes to
    one of those that ``serve`` its capability; a suspect among them only if this process runs nothing else (``alone``)."""

    session: str
    wants: Sequence[Want]
    tasks: Sequence[str] = ()
    serves: Sequence[Serves] = ()
    alone: bool = False


class Claimed(NamedTuple):
    """``unbegun``: how many earlier attempts, of a message, were given back before anybody saw it."""

    row: QueueRow
    task: TaskRow
    input: str
    unbegun: int = 0


class Claims(NamedTuple):
    claimed: list[Claimed]
    dry: list[str]
    """Pools that had less than was wanted: nothing more there until a notice."""


class Finish(NamedTuple):
    """The end of an attempt. Exactly one of ``output`` and ``failure`` for what the handler did; neither: cancelled or expired."""

    session: str
    task: str
    attempt: int
    state: str
    output: str | None = None
    failure: Failure | None = None
    draw: float = 0.0

    def reads(self) -> tuple[Keys[QueueRow], ...]:
        return (Keys(QUEUE, (self.task,)),)


class Reject(NamedTuple):
    session: str
    task: str
    attempt: int
    reason: str = ""

    def reads(self) -> tuple[Keys[QueueRow], ...]:
        return (Keys(QUEUE, (self.task,)),)


class GiveBack(NamedTuple):
    """Claims that are returned unfinished: neither a failure nor a crash. ``unbegun``: nobody saw them, a ttl still counts."""

    session: str
    claims: Sequence[tuple[str, int]]
    unbegun: bool = False

    def reads(self) -> tuple[Keys[QueueRow], ...]:
        return (Keys(QUEUE, tuple(task for task, _ in self.claims)),)


class Disown(NamedTuple):
    """Give back what the store says we claimed, but for what we know of: after a claim whose answer was lost."""

    session: str
    known: Sequence[tuple[str, int]]


class Progress(NamedTuple):
    session: str
    task: str
    attempt: int
    data: str


def claim(rows: Rows, command: Claim, now: float, policy: Settings) -> Claims:
    """Take ready tasks for providers with free slots, best rank first.

    Raises: LeaseLostError when the session no longer lives.
    """
    require(rows, command.session)
    taken: list[QueueRow] = []
    dry: list[str] = []
    ready = _ready(rows, command.wants)
    chosen = [one for want, found in zip(command.wants, ready, strict=True) for one in _shared(want, found, dry)]

    def take(one: tuple[QueueRow, str]) -> None:
        row, provider = one
        # one that expired before it may have taken this one along
        if rows.one(QUEUE, row.id) == row and not _expired(rows, row, now, policy):
            taken.append(_take(rows, row, command.session, provider, now, policy))

    each(chosen, take)
    if command.tasks:
        taken += _by_name(rows, command, now, policy)
    return Claims(_with_inputs(rows, taken), dry)


def _ready(rows: Rows, wants: Sequence[Want]) -> list[dict[str, list[QueueRow]]]:
    """What is ready in the pools of each want: as many of each pool as can be of use."""
    places = [(pool, most) for want in wants for pool, most in _most(want).items()]
    found = iter(rows.scan_many([Range(QUEUE, "ready", (pool,), limit=most) for pool, most in places]))
    return [{pool: next(found) for pool in _most(want)} for want in wants]


def _shared(want: Want, ready: dict[str, list[QueueRow]], dry: list[str]) -> list[tuple[QueueRow, str]]:
    """The best of the pools, each with its provider; what is left over because its one provider is full stays where it is."""
    most = _most(want)
    found = [row for some in ready.values() for row in some]
    if len(want.pools) > 1:
        found.sort(key=lambda row: (row.rank, row.seq))
    best = _one_takes_all(found, want) if len(want.offers) == 1 else _spread(found, want)
    left: set[str] = set()
    if len(best) < len(found):
        given = {row.id for row, _ in best}
        left = {row.pool for row in found if row.id not in given}
    dry += [pool for pool, some in ready.items() if len(some) < most[pool] and pool not in left]
    return best


def _most(want: Want) -> dict[str, int]:
    """How many of each pool can be of use: of one provider's own, as many as it has slots."""
    if len(want.offers) == 1:
        return dict.fromkeys(want.pools, want.slots)
    free = {one.provider: one.free for one in want.offers}
    return {pool: min(want.slots, free.get(pools.provider_in(pool) or "", want.slots)) for pool in want.pools}


def _one_takes_all(found: list[QueueRow], want: Want) -> list[tuple[QueueRow, str]]:
    provider = want.offers[0].provider
    return [(row, provider) for row in found[: want.slots]]


def _spread(found: list[QueueRow], want: Want) -> list[tuple[QueueRow, str]]:
    balance = Balance(want.offers, want.strategy, bounded=True)
    best: list[tuple[QueueRow, str]] = []
    for row in found:
        if len(best) == want.slots or not balance:
            break
        provider = balance.give(pools.provider_in(row.pool))
        if provider is not None:
            best.append((row, provider))
    return best


def _by_name(rows: Rows, command: Claim, now: float, policy: Settings) -> list[QueueRow]:
    balances = {one.label: Balance(one.candidates, one.strategy, bounded=False) for one in command.serves}
    taken: list[QueueRow] = []
    rows.get(QUEUE, command.tasks)

    def take(id: str) -> None:
        row = rows.one(QUEUE, id)  # as it is now: one that expired before it may have taken this one along
        if row is None or row.state != READY or (row.suspect and not (command.alone and not taken)):
            return
        if taken and taken[0].suspect:  # it runs alone
            return
        balance = balances.get(row.capability)
        if balance is None or _expired(rows, row, now, policy):
            return
        provider = balance.give(pools.provider_in(row.pool))
        if provider is not None:
            taken.append(_take(rows, row, command.session, provider, now, policy))

    each(command.tasks, take)
    return taken


def _expired(rows: Rows, row: QueueRow, now: float, policy: Settings) -> bool:
    late = (row.deadline is not None and row.deadline <= now) or (row.expires_at is not None and row.expires_at <= now)
    if late:
        endings.end(rows, row, EXPIRED, now, policy)
    return late


def _take(rows: Rows, row: QueueRow, session: str, provider: str, now: float, policy: Settings) -> QueueRow:
    attempt = row.attempt + 1
    due = queue.due_while_running(now, row.timeout, row.deadline, row.cancel_at, policy)
    row = row._replace(state=RUNNING, attempt=attempt, session=session, provider=provider, started_at=now, due=due)
    rows.put(QUEUE, row)
    data = f'{{"attempt":{attempt},"provider":"{provider}"}}'
    events.append(rows, now, Kind.TASK_ACCEPTED, row.id, session, data, then=Kind.TASK_STARTED)
    return row


def _with_inputs(rows: Rows, taken: list[QueueRow]) -> list[Claimed]:
    tasks = rows.get(TASK, [row.id for row in taken])
    rows.get(BLOB, [task.input_blob for task in tasks if task is not None and task.input_blob is not None])
    unbegun = _unbegun(rows, [row for row in taken if row.attempt > 1 and is_inbox(row.capability)])
    out = []
    for row, task in zip(taken, tasks, strict=True):
        assert task is not None, "a live task has its request"
        text = bodies.fetch(rows, task.input, task.input_blob) or "null"
        out.append(Claimed(row, task, text, unbegun.get(row.id, 0)))
    return out


def _unbegun(rows: Rows, again: list[QueueRow]) -> dict[str, int]:
    ended = rows.scan_many([Range(ATTEMPT, "by_task", (row.id,)) for row in again])
    return {row.id: sum(attempt.end == UNBEGUN for attempt in each) for row, each in zip(again, ended, strict=True)}


def finish(rows: Rows, command: Finish, now: float, policy: Settings) -> OutcomeRow | None:
    """Accept the end of an attempt, once: the outcome, or None when the task will be tried again.

    Requires that the task runs, with this attempt, claimed by this session, and that the session lives. The same finish once more
    (after a commit whose answer was lost) hears the same outcome.

    Raises: StaleClaimError: the result is dropped.
    """
    row = held(rows, command.session, command.task, command.attempt)
    if row is None:
        outcome = rows.one(OUTCOME, command.task)
        if not _was_accepted(rows, command, outcome):
            raise stale(command.task, command.attempt)
        return outcome
    if command.failure is not None:
        return endings.fail(rows, row, command.failure, command.draw, now, policy)
    return endings.end(rows, row, command.state, now, policy, output=command.output)


def _was_accepted(rows: Rows, command: Finish, outcome: OutcomeRow | None) -> bool:
    """Whether this very finish was written before: then its answer was lost, and it is no stale one."""
    if outcome is not None:
        same = (outcome.attempt, outcome.session, outcome.state) == (command.attempt, command.session, command.state)
        return same and bodies.fetch(rows, outcome.output, outcome.output_blob) == command.output
    ended = rows.one(ATTEMPT, (command.task, command.attempt))
    failed = command.failure is not None and ended is not None and ended.session == command.session
    return failed and ended is not None and ended.end in ("failed", "timeout")


def held(rows: Rows, session: str, task: str, attempt: int) -> QueueRow | None:
    """The task, if this claim of it still stands."""
    row = rows.one(QUEUE, task)
    if row is None or row.state != RUNNING or row.attempt != attempt or row.session != session:
        return None
    return row if is_live(rows, session) else None


def stale(task: str, attempt: int) -> StaleClaimError:
    return StaleClaimError(
        f"attempt {attempt} of task {task} no longer holds its claim: the result is dropped", task_id=task, attempt=attempt
    )


def reject(rows: Rows, command: Reject, now: float, policy: Settings) -> None:
    """The provider will not have it now: another one gets it, or this one after a pause.

    Raises: StaleClaimError.
    """
    row = held(rows, command.session, command.task, command.attempt)
    if row is None:
        raise stale(command.task, command.attempt)
    if row.cancel_at is not None:
        endings.end(rows, row, CANCELLED, now, policy)
        return
    endings.record(rows, row, "rejected", now)
    events.append(rows, now, Kind.TASK_REJECTED, row.id, command.session, events.facts(reason=command.reason[:500]))
    pause = now + policy.reject_pause
    avoid = {} if row.avoid is None else {name: until for name, until in bodies.decode(row.avoid).items() if until > now}
    avoid[row.provider or ""] = pause
    task = rows.one(TASK, row.id)
    others = (
        []
        if task is None or task.target is not None
        else [p for p in candidates(rows, row.capability, now, policy) if p.id not in avoid]
    )
    row = endings.unclaimed(row)._replace(avoid=bodies.encode(avoid))
    if not others:
        queue.delay(rows, row._replace(pool=_open_pool(row, task), avoid=None), min(avoid.values()), policy)
        return
    pool = pools.addressed(row.capability, others[0].id)  # until the pause is over; then anybody may have it
    queue.admit(rows, row._replace(pool=pools.alone(pool) if row.suspect else pool, ready_at=pause), now, policy)


def _open_pool(row: QueueRow, task: TaskRow | None) -> str:
    pool = row.capability if task is None or task.target is None else pools.addressed(row.capability, task.target)
    return pools.alone(pool) if row.suspect else pool


def give_back(rows: Rows, command: GiveBack, now: float, policy: Settings) -> int:
    """Return claims to the ready; those that no longer stand are passed over. Returns how many were."""
    back: list[str] = []
    rows.get(QUEUE, [task for task, _ in command.claims])

    def release(claim: tuple[str, int]) -> None:
        row = held(rows, command.session, *claim)
        if row is None:
            return
        back.append(row.id)
        if row.cancel_at is not None:
            endings.end(rows, row, CANCELLED, now, policy)
            return
        endings.record(rows, row, UNBEGUN if command.unbegun else "released", now)
        back_to = endings.unclaimed(row)._replace(expires_at=row.expires_at if command.unbegun else None)
        row = queue.reroute(rows, back_to, now, policy)
        if queue.is_stranded(rows, row):  # addressed to a provider that left meanwhile: its pool was emptied, nobody looks there
            endings.end(rows, row, FAILED, now, policy, error=endings.gone(pools.provider_in(row.pool) or "").stored())
        else:
            queue.admit(rows, row, now, policy)

    each(command.claims, release)
    return len(back)


def disown(rows: Rows, command: Disown, now: float, policy: Settings) -> int:
    """Give back every claim of the session that it does not know of."""
    known = set(command.known)
    mine = rows.scan(Range(QUEUE, "by_session", (command.session,)))
    lost = [(row.id, row.attempt) for row in mine if (row.id, row.attempt) not in known]
    return give_back(rows, GiveBack(command.session, lost), now, policy)


def progress(rows: Rows, command: Progress, now: float, policy: Settings) -> None:
    """Note how far a running attempt is. Raises: StaleClaimError."""
    row = held(rows, command.session, command.task, command.attempt)
    if row is None:
        raise stale(command.task, command.attempt)
    rows.put(QUEUE, row._replace(progress=command.data))
    events.append(rows, now, Kind.TASK_PROGRESSED, row.id, command.session, command.data)
