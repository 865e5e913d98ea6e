"""What must hold whatever happens, said without the rules' own words: computed from the rows, the command and its answer.

`Watch.command` looks at one command: the rows before it, its answer, its changes. `Watch.between` looks at all rows after a batch.
"""

from __future__ import annotations

from collections import Counter
from typing import Any

from autogen_coord.core import endings, events, lock_queue
from autogen_coord.core.addresses import NOBODY, Reach, is_pulled
from autogen_coord.core.claims import Claim, Claims, Finish
from autogen_coord.core.messages import Posted, Send
from autogen_coord.core.pools import provider_in
from autogen_coord.core.queue import CHILD_LEAD
from autogen_coord.core.retry import RetryPolicy
from autogen_coord.core.store import Change, Range
from autogen_coord.core.tables import (
    ATTEMPT,
    BLOB,
    COUNTER,
    DEAD_LETTERS,
    EVENT,
    OUTCOME,
    PROVIDER,
    QUEUE,
    SESSION,
    TASK,
    OutcomeRow,
    ProviderRow,
    QueueRow,
    SessionRow,
    TaskRow,
    TaskState,
)
from autogen_coord.core.tasks import Submit, Submitted
from autogen_coord.settings import Settings

from .programs import Command, Mirror

HOLDS, WAITS, LATER = 0, 1, 2
FORGETTING = ("pruning.prune", "pruning.purge")
FENCED = ("claims.finish", "claims.reject", "claims.progress")
PLACES = {
    TaskState.READY: HOLDS,
    TaskState.RUNNING: HOLDS,
    TaskState.WAITING: WAITS,
}
MOVES = {
    (TaskState.DELAYED, TaskState.READY),
    (TaskState.DELAYED, TaskState.WAITING),
    (TaskState.WAITING, TaskState.READY),
    (TaskState.WAITING, TaskState.RUNNING),  # by one claim: what it found expired frees the lane, its next want takes this one
    (TaskState.READY, TaskState.WAITING),
    (TaskState.READY, TaskState.RUNNING),
    (TaskState.RUNNING, TaskState.READY),
    (TaskState.RUNNING, TaskState.DELAYED),
}


class Violation(AssertionError):
    """A check failed; ``check`` names it."""

    def __init__(self, check: str, detail: str) -> None:
        super().__init__(f"[{check}] {detail}")
        self.check = check


def require(holds: bool, check: str, *detail: Any) -> None:
    if not holds:
        raise Violation(check, " ".join(map(str, detail)))


class Watch:
    """The checks of one program, and what they remember of its past."""

    shrinks = frozenset({lock_queue.WAITING})
    """Counters of what there is now; all others only grow."""

    def __init__(self, mirror: Mirror, policy: Settings) -> None:
        self.mirror = mirror
        self.policy = policy
        self.inputs: dict[str, str] = {}
        self.granted: set[tuple[str, int]] = set()
        self.ended: dict[str, OutcomeRow] = {}
        self.endings: Counter[str] = Counter()
        self.starts: Counter[str] = Counter()
        self.forgotten: set[str] = set()
        self.sent: dict[tuple[str, str], list[Posted]] = {}
        """What handlers sent, by task and step."""
        self.leases: dict[str, tuple[float, float]] = {}
        self.settled: set[str] = set()
        """Providers whose pools were emptied when they left: nothing may be left there since."""

    # the rows before

    def _task(self, id: str | None) -> TaskRow | None:
        return self.mirror.rows(TASK).get(id)

    def _live(self, id: str | None) -> QueueRow | None:
        return self.mirror.rows(QUEUE).get(id)

    def _session(self, id: str | None) -> SessionRow | None:
        return self.mirror.rows(SESSION).get(id)

    def _lives(self, id: str | None) -> bool:
        row = self._session(id)
        return row is not None and row.state == "live"

    def _stands(self, session: str | None, task: str | None, attempt: int) -> bool:
        row = self._live(task)
        same = row is not None and row.state == TaskState.RUNNING and row.attempt == attempt and row.session == session
        return same and self._lives(session)

    def _available(self, provider: ProviderRow | None) -> bool:
        return provider is not None and provider.status == "online" and self._lives(provider.session)

    # one command

    def command(self, command: Command, answer: Any, error: Exception | None, changes: list[Change], now: float) -> None:
        """Look at a command before its changes are applied to the mirror."""
        rule, body = command.rule, command.body
        self._answer(rule, body, answer, error, changes, now)
        numbers = []
        for table, old, new in changes:
            if table is EVENT:
                if new is None:
                    require(rule == "pruning.prune", "events", rule, "dropped", old)
                else:
                    require(old is None and new.at == now, "events", rule, "at", now, "wrote", new)
                    numbers.append(new.number)
                    self.endings[new.subject] += new.kind in events.ENDINGS
                    self.starts[new.subject] += new.kind == events.Kind.TASK_STARTED
            elif table is COUNTER:
                grows = new is not None and new.value >= (old.value if old else 0)
                require(grows or (new is not None and new.name in self.shrinks), "counters", rule, old, new)
            elif table is OUTCOME:
                self._outcome(rule, old, new, changes, now)
            elif table is TASK:
                require(old is None or (new is None and rule in FORGETTING), "final", rule, "changed a request", old, new)
            elif table is QUEUE:
                self._queue(rule, body, old, new, changes, now)
            elif table is SESSION:
                self._lease(rule, body, old, new, now)
            elif table is ATTEMPT:
                require(new is None or old is None, "attempts", rule, "rewrote", old, new)
            elif table is PROVIDER and new is not None and new.status == "online":
                self.settled.discard(new.id)
        newest = self.mirror.rows(COUNTER).get(events.NUMBER)
        first = newest.value + 1 if newest else 1
        require(sorted(numbers) == list(range(first, first + len(numbers))), "events", rule, "wrote", numbers, "after", first - 1)
        require(numbers == sorted(numbers), "events", rule, "wrote out of order", numbers)

    def _outcome(self, rule: str, old: OutcomeRow | None, new: OutcomeRow | None, changes: list[Change], now: float) -> None:
        if old is not None:
            require(new is None and rule in FORGETTING, "final", rule, "changed", old, "to", new)
            self.forgotten.add(old.id)
            return
        assert new is not None
        born = {change.new.id for change in changes if change.table is TASK and change.old is None}
        to_nobody = rule == "messages.send" and new.capability == NOBODY and new.id in born
        require(to_nobody or self._live(new.id) is not None, "final", rule, "ended what is not live", new)
        require(new.id not in self.ended, "final", rule, "ended once more", new)
        require(new.finished_at == now, "clock", rule, "wrote", new, "at", now)
        self.ended[new.id] = new

    def _queue(self, rule: str, body: Any, old: QueueRow | None, new: QueueRow | None, changes: list[Change], now: float) -> None:
        id = (new or old).id  # type: ignore[union-attr]
        if new is None:
            outcome = next(
                (change.new for change in changes if change.table is OUTCOME and change.new and change.new.id == id), None
            )
            require(outcome is not None, "live xor ended", rule, "lost", old)
            assert old is not None
            assert outcome is not None
            require(outcome.attempt == old.attempt, "attempts", rule, old, outcome)
            self._counts(rule, old, outcome)
            self._expiry(rule, old, outcome, now)
            if outcome.error is not None and outcome.state == TaskState.FAILED and rule == "claims.finish":
                task = self._task(id)
                tries = RetryPolicy.of(self.policy, task.retry if task else None).tries
                final = not body.failure.retryable or outcome.failures >= tries
                require(final, "tries", "given up too early", old, outcome)
            return
        if old is None:
            require((new.attempt, new.failures, new.crashes, new.suspect, new.session) == (0, 0, 0, 0, None), "requeue", rule, new)
            rank = new.ready_at - new.priority * self.policy.priority_weight
            parent = self._live(new.parent)
            rank = rank if parent is None else min(rank, parent.rank - CHILD_LEAD)
            require(new.rank == rank, "order", rule, "ranked", new)
            require(new.state != TaskState.DELAYED or new.ready_at > now, "timers", rule, "delayed what is due", new)
            return
        require(old.state == new.state or (old.state, new.state) in MOVES, "moves", rule, old, new)
        claimed = rule == "claims.claim" and old.state != TaskState.RUNNING and new.state == TaskState.RUNNING
        require(new.attempt == old.attempt + claimed, "attempts", rule, old, new)
        require(new.seq == old.seq and new.deadline == old.deadline and new.parent == old.parent, "final", rule, old, new)
        self._counts(rule, old, new)
        self._lies(rule, body, old, new)
        if new.failures > old.failures:
            task = self._task(id)
            retry = RetryPolicy.of(self.policy, task.retry if task else None)
            require(new.failures < retry.tries, "tries", rule, "tried too often", new)
            longest = min(retry.cap, retry.backoff * retry.factor ** (new.failures - 1))
            if rule == "claims.finish" and body.failure.retry_after is not None:
                longest = body.failure.retry_after
            require(now <= new.ready_at <= now + longest, "clock", rule, "delayed until", new.ready_at, "at", now, new)
        if new.cancel_at is not None and old.cancel_at is None:
            require(new.cancel_at == now + self.policy.cancel_grace, "clock", rule, "at", now, new)

    def _lies(self, rule: str, body: Any, old: QueueRow, new: QueueRow) -> None:
        """In which inbox a message is, and whether its ttl still counts."""
        returned = old.state == TaskState.RUNNING and new.state != TaskState.RUNNING
        unbegun = rule == "claims.give_back" and body.unbegun
        require(new.expires_at == (None if returned and not unbegun else old.expires_at), "expiry", rule, old, new)
        if new.capability != old.capability:
            task = self._task(old.id)
            own = f"inbox:{task.recipient}" if task is not None else ""
            both = {own, own.partition("/")[0]}
            require({old.capability, new.capability} == both and new.state != TaskState.RUNNING, "inboxes", rule, old, new)
            there = [
                row for row in self.mirror.rows(PROVIDER).values() if row.capability == old.capability and self._available(row)
            ]
            require(not there, "inboxes", rule, "took it from an inbox that is open", old, new)

    def _counts(self, rule: str, old: QueueRow, new: QueueRow | OutcomeRow) -> None:
        failed, crashed = new.failures - old.failures, new.crashes - old.crashes
        require(failed in (0, 1) and (not failed or rule in ("claims.finish", "timers.turn")), "tries", rule, "failures", old, new)
        alone = old.pool.endswith("!alone")
        if is_pulled(old.capability):  # nothing runs: it is no suspect, and it does not take too long
            held = sum(row.session == old.session for row in self.mirror.rows(QUEUE).values())
            alone = held == 1
            require(not getattr(new, "suspect", 0), "suspects", rule, old, new)
            require(not failed or rule != "timers.turn", "tries", rule, "ended what is held", old, new)
        require(crashed in (0, 1) and (not crashed or (rule == "burial.bury" and alone)), "tries", rule, "crashes", old, new)

    def _expiry(self, rule: str, old: QueueRow, outcome: OutcomeRow, now: float) -> None:
        late = old.deadline is not None and old.deadline <= now
        unclaimed = old.state != TaskState.RUNNING and old.expires_at is not None and old.expires_at <= now
        if outcome.state == TaskState.EXPIRED:
            require(late or unclaimed or rule == "claims.finish", "expiry", rule, "at", now, "expired", old)

    def _lease(self, rule: str, body: Any, old: SessionRow | None, new: SessionRow | None, now: float) -> None:
        """Leases, kept a second time."""
        if new is None:
            assert old is not None
            over = old.state in ("closed", "gone") and old.lease_until < now - self.policy.keep_seconds
            require(rule == "pruning.prune" and over, "judges", rule, "dropped", old)
            return
        policy = self.policy
        if old is None:
            self.leases[new.id] = (now + policy.session_ttl, now)
        elif new.state != old.state:
            allowed = {("live", "dead"): "sessions.declare_dead", ("dead", "gone"): "burial.bury"}
            allowed |= {("live", "closed"): "sessions.close_session"}
            if rule == "sessions.close_session":
                require((new.state == "dead") == self._holds(new.id), "judges", rule, "holds something:", self._holds(new.id), new)
                return
            require(allowed.get((old.state, new.state)) == rule, "judges", rule, old, new)
            if new.state == "dead":
                lease, _ = self.leases[new.id]
                require(now > lease, "judges", "declared dead within its lease", old, "at", now)
                _, steady = self.leases[body.by]
                require(self._lives(body.by) and now - steady >= policy.session_ttl, "judges", body.by, "may not judge at", now)
            return
        elif rule == "burial.bury" and new == old._replace(meta=new.meta):  # a slice notes how far it came
            return
        else:
            require(old.state == "live", "judges", rule, "renewed", old)
            lease, steady = self.leases[new.id]
            late = now > lease - policy.trust_margin
            self.leases[new.id] = (now + policy.session_ttl, now if late else steady)
        require((new.lease_until, new.steady_since) == self.leases[new.id], "judges", rule, new, self.leases[new.id])

    def _holds(self, session: str) -> bool:
        claims = any(row.session == session for row in self.mirror.rows(QUEUE).values())
        return claims or any(row.session == session and row.status != "offline" for row in self.mirror.rows(PROVIDER).values())

    # answers

    def _answer(self, rule: str, body: Any, answer: Any, error: Exception | None, changes: list[Change], now: float) -> None:
        if rule == "claims.claim" and error is None:
            self._claim(body, answer, now)
        elif rule in FENCED:
            self._fence(rule, body, answer, error, changes)
        elif rule == "tasks.submit":
            self._submit(body, answer, error, now)
        elif rule == "tasks.broadcast" and error is None:
            self.inputs.update({id: body.template.input for _, id in answer.tasks if id in body.ids})
        elif rule == "messages.send":
            self._send(body, answer, error, changes)
        elif rule == "tasks.requeue" and error is None:
            self._requeue(body, answer, changes)
        elif rule == "claims.give_back":
            stand = sum(self._stands(body.session, task, attempt) for task, attempt in body.claims)
            require(answer == stand, "fence", "gave back", answer, "of", stand, body)
        elif rule in ("rows.look", "rows.look_up"):
            self._look(rule, body, answer)
        elif rule == "burial.settle" and answer is False:
            every = [self.mirror.rows(PROVIDER).get(id) for id in body.providers]
            self.settled |= {row.id for row in every if row is not None and not self._available(row)}

    def _send(self, body: Send, answer: Any, error: Exception | None, changes: list[Change]) -> None:
        message, step = body.message, (body.message.parent or "", body.message.step_key or "")
        made = [change.new for change in changes if change.table is TASK]
        if self._task(message.id) is not None:
            require(error is None and not made, "sent once", "a repeat was not recognised:", body, answer)
            return
        if message.parent is not None:
            row = self._live(message.parent)
            if row is None or not self._stands(row.session, row.id, message.parent_attempt):
                require(getattr(error, "code", "") == "stale_claim", "fence", "sent by a handler without claim:", body, error)
                return
            left = [one for one in self.sent.get(step, ()) if self._task(one.id) is not None]
            if left:  # but for what was pruned since
                heard = [one for one in left if self._task(one.id).capability != NOBODY]  # type: ignore[union-attr]
                require(error is None and not made and answer == heard, "sent once", body, answer, "was", self.sent[step])
                return
        if error is not None:
            require(not changes and body.to.reach in (Reach.AGENT, Reach.CAPABILITY), "recipients", body, error)
            return
        if message.step_key is not None:
            self.sent[step] = [Posted(row.recipient or "", row.id) for row in made]
        self.inputs.update({row.id: message.input for row in made})
        told = [(row.recipient, row.id) for row in made if row.capability != NOBODY]
        require(told == [tuple(one) for one in answer], "recipients", body, "told", answer, "made", made)
        require(len({to for to, _ in told}) == len(told), "recipients", "one twice:", body, answer)
        require([row.capability for row in made] == [NOBODY] or answer, "recipients", "to nobody:", body, made)
        if body.to.reach in (Reach.EVERYONE, Reach.TOPIC):
            require({to for to, _ in told} == self._subscribed(body), "recipients", body, answer, self._subscribed(body))
        for row in made:
            own = row.capability == f"inbox:{row.recipient}"
            require(own or row.capability in (f"inbox:{row.recipient.partition('/')[0]}", NOBODY), "recipients", body, row)

    def _subscribed(self, body: Send) -> set[str]:
        """Whom a message to a topic or to everyone is for, by what is announced now."""
        labels, key = {"topic:*"}, "default"
        if body.to.reach is Reach.TOPIC:
            type, _, key = body.to.name.partition("/")
            labels = {f"topic:{type}", f"topic:{type}/{key}"}
        rows = [row for row in self.mirror.rows(PROVIDER).values() if row.capability in labels and self._available(row)]
        return {f"{row.agent_type}/{row.agent_key or key}" for row in rows} - {body.message.sender or ""}

    def _claim(self, body: Claim, answer: Claims, now: float) -> None:
        require(self._lives(body.session), "fence", "a claim by a session that does not live:", body)
        free = Counter({offer.provider: offer.free for want in body.wants for offer in want.offers})
        by_pool = 0
        named = set(body.tasks)
        taken: list[str] = []
        for row, task, text, _ in answer.claimed:
            before = self._live(row.id)
            require(before is not None, "claimed twice", "claimed what is not live:", row)
            assert before is not None
            require(before.state in (TaskState.READY, TaskState.WAITING), "claimed twice", before, "claimed as", row)
            require((row.id, row.attempt) not in self.granted, "claimed twice", row)
            self.granted.add((row.id, row.attempt))
            require(row.session == body.session and row.started_at == now, "clock", row, "at", now)
            late = row.deadline is not None and row.deadline <= now
            require(not late and (row.expires_at is None or row.expires_at > now), "expiry", "claimed", row)
            require(text == self.inputs[row.id] and task == self._task(row.id), "blobs", row.id, "came with", text)
            if row.id in named and not any(row.pool in want.pools for want in body.wants):
                require(not row.suspect or (body.alone and not taken), "suspects", "taken by name beside others:", row)
                taken.append(row.id)
            else:
                by_pool += row.id not in named
                free[row.provider or ""] -= row.id not in named
            pinned = provider_in(before.pool)
            require(pinned in (None, row.provider), "addressed", before, "was given to", row.provider)
        most = sum(want.slots for want in body.wants)
        require(all(left >= 0 for left in free.values()) and by_pool <= most, "slots", body, "got", answer.claimed)
        if not named:
            self._order(body, answer, now)

    def _order(self, body: Claim, answer: Claims, now: float) -> None:
        """Claim again on paper; where something expired meanwhile and freed a lane, only what stood there before counts."""
        ready = {row.id: row for row in self.mirror.rows(QUEUE).values() if row.state == TaskState.READY}
        given = {one.row.id: one.row.provider or "" for one in answer.claimed}
        expected = []
        for want in body.wants:
            offers = {one.provider: one for one in want.offers}
            left = want.slots
            for row in sorted((row for row in ready.values() if row.pool in want.pools), key=lambda row: (row.rank, row.seq)):
                pinned = provider_in(row.pool)
                open_to = [one for one in offers.values() if one.free > 0 and pinned in (None, one.provider)]
                if not left or not open_to:
                    continue
                left -= 1
                del ready[row.id]
                late = row.deadline is not None and row.deadline <= now
                if late or (row.expires_at is not None and row.expires_at <= now):
                    return  # its end may have freed a lane, or taken children along
                expected.append(row.id)
                chosen = offers.get(given.get(row.id, ""), open_to[0])
                least = min(one.active / one.limit for one in open_to)
                require(chosen.active / chosen.limit == least, "balance", row, "was given to", chosen, "of", open_to)
                offers[chosen.provider] = chosen._replace(active=chosen.active + 1)
        require(list(given) == expected, "order", body, "got", given, "for", expected)

    def _fence(self, rule: str, body: Any, answer: Any, error: Exception | None, changes: list[Change]) -> None:
        stands = self._stands(body.session, body.task, body.attempt)
        if stands:
            require(error is None, "fence", rule, "refused a claim that stands:", body, error)
        elif error is None:
            again = rule == "claims.finish" and not changes and self._was_heard(body, answer)
            require(again, "fence", rule, "accepted a claim that does not stand:", body, answer)

    def _was_heard(self, body: Finish, answer: OutcomeRow | None) -> bool:
        """Whether an accepted finish is one that was written before, and says what was said then."""
        if answer is not None:
            mine = (answer.session, answer.attempt, answer.state) == (body.session, body.attempt, body.state)
            return mine and self.mirror.rows(OUTCOME).get(body.task) == answer
        before = self.mirror.rows(ATTEMPT).get((body.task, body.attempt))
        ended = before is not None and before.session == body.session and before.end in ("failed", "timeout")
        return ended and body.failure is not None

    def _submit(self, body: Submit, answer: Any, error: Exception | None, now: float) -> None:
        if self._task(body.id) is not None:
            require(error is None and answer.id == body.id and not answer.created, "keys", "a repeat was not recognised", body)
            return
        if body.parent is not None:
            row = self._live(body.parent)
            stands = row is not None and self._stands(row.session, body.parent, body.parent_attempt)
            if not stands:
                require(
                    error is not None and getattr(error, "code", "") == "stale_claim", "fence", "a child of no claim:", body, error
                )
                return
        earlier, by_key = self._earlier(body)
        if earlier is not None and by_key and earlier.input_hash != body.input_hash:
            require(getattr(error, "code", "") == "duplicate_task", "keys", "a key with other input was taken:", body, error)
        elif earlier is not None and self._is_good(earlier, body, by_key):
            outcome = self.mirror.rows(OUTCOME).get(earlier.id)
            if outcome is None and self._waits(earlier.id, body.parent):
                require(getattr(error, "code", "") == "deadlock", "keys", "waits for itself:", body, answer, error)
                return
            require(error is None and answer[:2] == (earlier.id, False), "keys", "not found again:", body, answer, error)
            require((answer.outcome is None) == (outcome is None), "keys", body, answer)
        elif error is None:
            require(answer == Submitted(body.id, True), "keys", "found what is not there:", body, answer)
            self.inputs[body.id] = body.input
        else:
            require(getattr(error, "code", "") == "no_provider", "keys", body, error)

    def _earlier(self, body: Submit) -> tuple[TaskRow | None, bool]:
        """The newest task of the same step, else of the same key, and whether it was the key."""
        every = self.mirror.rows(TASK).values()
        if body.step_key is not None:
            same = [row for row in every if (row.parent, row.step_key) == (body.parent, body.step_key)]
            if same:
                return max(same, key=lambda row: row.seq), False
        same = [row for row in every if body.key is not None and (row.capability, row.key) == (body.capability, body.key)]
        return max(same, key=lambda row: row.seq, default=None), True

    def _is_good(self, earlier: TaskRow, body: Submit, by_key: bool) -> bool:
        outcome = self.mirror.rows(OUTCOME).get(earlier.id)
        if outcome is None or outcome.state == TaskState.SUCCEEDED:
            return True
        return by_key and not body.retry_failed

    def _waits(self, task: str, parent: str | None) -> bool:
        """Whether a task waits, itself or through others, for this one."""
        seen: set[str] = set()
        row = self._live(task)
        while row is not None and row.id not in seen:
            if row.id == parent:
                return True
            seen.add(row.id)
            row = self._live(row.waits_for)
        return False

    def _requeue(self, body: Any, answer: Submitted, changes: list[Change]) -> None:
        old = self.mirror.rows(OUTCOME).get(body.task)
        require(old is not None and old.state in DEAD_LETTERS, "requeue", "of what is no dead letter:", body, old)
        made = next((change.new for change in changes if change.table is TASK and change.old is None), None)
        was = self._task(body.task)
        assert was is not None
        doing = [row for row in self.mirror.rows(TASK).values() if self._does_its_work(row, was) and row is not made]
        if not answer.created:
            require(answer.id in {row.id for row in doing} and made is None, "requeue", body, answer, doing)
            return
        require(not doing, "requeue", "doubled:", body, answer, doing)
        require(answer == Submitted(body.id, True) and made is not None and made.id == body.id, "requeue", body, answer, made)
        assert made is not None
        require(made.requeued_from == body.task, "requeue", "does not say where it came from:", made)
        same = ["input", "input_blob", "key", "priority", "retry", "sticky"]
        same += ["recipient"] if was.kind == "message" else ["capability", "timeout"]  # it goes to the inbox of now
        require(all(getattr(made, name) == getattr(was, name) for name in same), "requeue", made, was)
        self.inputs[body.id] = self.inputs[body.task]

    def _does_its_work(self, row: TaskRow, letter: TaskRow) -> bool:
        """Whether a task stands for a dead letter: made from it, or of its key and later; and live, or successful."""
        same_key = letter.key is not None and (row.capability, row.key) == (letter.capability, letter.key) and row.seq > letter.seq
        outcome = self.mirror.rows(OUTCOME).get(row.id)
        return (row.requeued_from == letter.id or same_key) and (outcome is None or outcome.state == TaskState.SUCCEEDED)

    def _look(self, rule: str, body: Any, answer: list[Any]) -> None:
        if rule == "rows.look_up":
            table, keys = body
            expected = [self.mirror.rows(table).get(key) for key in keys]
        else:
            expected = self.mirror.walk(body)
        require(answer == expected, "walks", body, "found", answer, "instead of", expected)

    # all rows

    def after(self, command: Command, answer: Any) -> None:
        """Look at a command after its changes."""
        if command.rule == "burial.bury" and answer is False:
            session = self._session(command.body.session)
            if session is not None and session.state in ("dead", "gone"):
                require(session.state == "gone", "burial", "a burial ended too early:", session)
                own = [row for row in self.mirror.rows(PROVIDER).values() if row.session == session.id]
                require(all(row.status == "offline" for row in own), "burial", own)
                self.settled |= {row.id for row in own}

    def between(self, now: float) -> None:
        """Look at everything between two batches."""
        tasks, queue, outcomes = self.mirror.rows(TASK), self.mirror.rows(QUEUE), self.mirror.rows(OUTCOME)
        both = [id for id in queue if id in outcomes]
        require(not both, "live xor ended", "both live and ended:", both)
        neither = set(tasks) ^ (set(queue) | set(outcomes))
        require(not neither, "live xor ended", "a request without, or none:", neither)
        lost = self.inputs.keys() - tasks.keys() - self.forgotten
        require(not lost, "lost", "submitted, never ended, and gone:", lost)
        self._lanes(queue)
        for row in queue.values():
            self._live_task(row, now)
        for id, outcome in outcomes.items():
            require(outcome == self.ended.get(id), "final", "an outcome changed", outcome, self.ended.get(id))
        for id in self.ended:
            require(self.endings[id] == 1, "endings", id, "has", self.endings[id], "ending events")
        self._counters(outcomes)
        self._references(tasks, outcomes)
        self._attempts(tasks, queue, outcomes)

    def _lanes(self, queue: dict[Any, QueueRow]) -> None:
        lanes: dict[str, list[QueueRow]] = {}
        for row in queue.values():
            if row.lane is None:
                require(row.place is None and row.state != TaskState.WAITING, "lanes", "has a place without a lane:", row)
                continue
            lanes.setdefault(row.lane, []).append(row)
            places = (HOLDS, LATER) if row.state == TaskState.DELAYED else (PLACES[TaskState(row.state)],)
            require(row.place in places, "lanes", "out of its place:", row)
        for lane, rows in lanes.items():
            holders = [row for row in rows if row.place == HOLDS]
            waiting = [row for row in rows if row.place == WAITS]
            require(len(holders) <= 1, "lanes", lane, "is held by", holders)
            require(bool(holders) or not waiting, "lanes", lane, "is free, and these wait:", waiting)
            for holder in holders:
                if holder.state == TaskState.READY and holder.attempt == 0:
                    better = [row for row in waiting if (row.rank, row.seq) < (holder.rank, holder.seq)]
                    require(not better, "lanes", lane, "is held by", holder, "before", better)

    def _live_task(self, row: QueueRow, now: float) -> None:
        running = row.state == TaskState.RUNNING
        require(running == (row.session is not None), "claimed twice", "a claim without its session, or the reverse:", row)
        require(not running or (row.id, row.attempt) in self.granted, "claimed twice", "runs without a claim:", row)
        require(bool(row.suspect) == row.pool.endswith("!alone"), "suspects", row)
        require(running or row.cancel_at is None, "children", "cancelled, and does not run:", row)
        session = self._session(row.session)
        require(session is None or session.state != "gone", "burial", "still claimed by", session, row)
        parent_end = self.mirror.rows(OUTCOME).get(row.parent)
        if parent_end is not None and parent_end.state != TaskState.SUCCEEDED:
            require(row.cancel_at is not None, "children", "its parent ended as", parent_end.state, "and it goes on:", row)
        child = self._task(row.waits_for)
        if child is not None and child.parent == row.id:
            require(self._live(child.id) is not None, "children", row, "waits for one that ended:", child)
        stranded = self._stranded(row)
        require(row.due == self._due(row) or (stranded and row.due is not None), "due", row, "should be", self._due(row))
        if stranded and row.due is None:
            pinned = provider_in(row.pool)
            require(pinned not in self.settled, "strands", "nobody will look at it again:", row)

    def _stranded(self, row: QueueRow) -> bool:
        pinned = provider_in(row.pool)
        gone = pinned is not None and not self._available(self.mirror.rows(PROVIDER).get(pinned))
        return gone and row.state == TaskState.READY

    def _due(self, row: QueueRow) -> float | None:
        grace = self.policy.cancel_grace
        if row.state == TaskState.RUNNING:
            assert row.started_at is not None
            ends = [row.started_at + row.timeout + 2 * grace, row.cancel_at]
            ends.append(None if row.deadline is None else row.deadline + grace)
        else:
            wakes = row.state == TaskState.DELAYED or (row.state == TaskState.READY and row.avoid is not None)
            ends = [row.deadline, row.expires_at, row.ready_at if wakes else None]
        return min((end for end in ends if end is not None), default=None)

    def _counters(self, outcomes: dict[Any, OutcomeRow]) -> None:
        counter = {row.name: row.value for row in self.mirror.rows(COUNTER).values()}
        finished, pruned = counter.get(endings.FINISHED, 0), counter.get(endings.PRUNED, 0)
        require(finished == len(self.ended) and pruned == len(self.forgotten), "finished", counter, len(self.ended))
        require(finished - pruned == len(outcomes), "finished", counter, len(outcomes))
        kept = range(counter.get(events.FLOOR, 0) + 1, counter.get(events.NUMBER, 0) + 1)
        require(self.mirror.rows(EVENT).keys() == set(kept), "events", "the log is not", kept)

    def _references(self, tasks: dict[Any, TaskRow], outcomes: dict[Any, OutcomeRow]) -> None:
        used = Counter([row.input_blob for row in tasks.values()] + [row.output_blob for row in outcomes.values()])
        del used[None]
        stored = {row.hash: row.refs for row in self.mirror.rows(BLOB).values()}
        require(stored == dict(used), "blobs", "references", dict(used), "are counted", stored)

    def _attempts(self, tasks: dict[Any, TaskRow], queue: dict[Any, QueueRow], outcomes: dict[Any, OutcomeRow]) -> None:
        recorded: dict[str, set[int]] = {}
        for task, number in self.mirror.rows(ATTEMPT):
            recorded.setdefault(task, set()).add(number)
        orphans = recorded.keys() - tasks.keys()
        require(not orphans, "leak", "attempts of tasks that are gone:", orphans)
        for id in tasks:
            row = queue.get(id) or outcomes[id]
            last = row.attempt - (row.session is not None)  # the one that runs, or that wrote the outcome, stands there
            require(recorded.get(id, set()) == set(range(1, last + 1)), "attempts", row, "with records of", recorded.get(id))
            require(self.starts[id] == row.attempt, "attempts", row, "was started", self.starts[id], "times")


def keys(table: Any) -> Range[Any]:
    return Range(table, "key")
