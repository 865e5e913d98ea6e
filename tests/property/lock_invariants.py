"""What must hold of locks whatever happens.

`LockWatch` plays each command once more on paper: it takes the events of the command as they were told, and asks of each whether it
was right at that moment. Then it looks at everybody: no two who exclude each other hold, nobody who could be granted waits, nobody
waits in a circle.
"""

from __future__ import annotations

import json
from itertools import combinations
from typing import Any

from autogen_coord.core.lock_queue import ARRIVED, FIRST, INCARNATION, TOKENS, WAITING
from autogen_coord.core.locks import Acquire, Convert, Deadlocked, Granted, Waits
from autogen_coord.core.store import Change
from autogen_coord.core.tables import COUNTER, EVENT, LOCK_HELD, LOCK_WAIT, QUEUE, TASK, LockHeldRow, LockWaitRow
from autogen_coord.errors import CoordError, LockHeldError

from .invariants import Watch, require
from .lock_paper import RIGHTS, Asks, Key, Paper, clash, gives, least, mine, text
from .lock_programs import Cover
from .programs import Command


class LockWatch(Watch):
    """The checks of a program of locks, beside those of every program."""

    token = 0
    """The greatest that was given."""

    def _holds(self, session: str) -> bool:
        held = [row.session for row in self.mirror.rows(LOCK_HELD).values()]
        waits = [row.session for row in self.mirror.rows(LOCK_WAIT).values()]
        return super()._holds(session) or session in held + waits

    def command(self, command: Command, answer: Any, error: Exception | None, changes: list[Change], now: float) -> None:
        super().command(command, answer, error, changes, now)
        if command.rule == "lock_programs.write":
            self._write(command.body, error)
            return
        module, _, name = command.rule.partition(".")
        touched = any(change.table in (LOCK_HELD, LOCK_WAIT) for change in changes)
        if module == "locks" or touched:
            Replay(self, command, answer, error, changes, now).run(name)

    def between(self, now: float) -> None:
        super().between(now)
        held, waits = self.mirror.rows(LOCK_HELD), self.mirror.rows(LOCK_WAIT)
        paper = Paper(held.values(), waits.values(), self.mirror.rows(QUEUE), self._lives)
        counter = self.mirror.rows(COUNTER).get(WAITING)
        require((counter.value if counter else 0) == len(paper.waits), "waiting", "counted", counter, "of", list(paper.waits))
        for id, row in ((row.session, row) for rows in (held, waits) for row in rows.values()):
            session = self._session(id)
            require(session is not None and session.state in ("live", "dead"), "burial", "left behind by", session, row)

    def _write(self, body: Cover, error: Exception | None) -> None:
        guard = body.guard
        held = [self.mirror.rows(LOCK_HELD).get((path, guard.id)) for path in guard.paths]
        rows = [row for row in held if row is not None]
        stands = len(rows) == len(held) and all((row.session, row.token) == (guard.session, guard.token) for row in rows)
        counter = self.mirror.rows(COUNTER).get(INCARNATION)
        stands = stands and self._lives(guard.session) and counter is not None and guard.token >> TOKENS == counter.value
        covers = any(gives(row.mode, row.path, body.path) >= RIGHTS[body.mode] for row in rows)
        require((error is None) == (stands and covers), "fence", body, "of", rows, error)
        require(error is None or getattr(error, "code", "") == "lease_lost", "fence", body, repr(error))


class Replay:
    """One command once more, on paper."""

    def __init__(
        self, watch: LockWatch, command: Command, answer: Any, error: Exception | None, changes: list[Change], now: float
    ) -> None:
        self.watch = watch
        self.body = command.body
        self.rule = command.rule
        self.answer = answer
        self.error = error
        self.now = now
        self.changes = [change for change in changes if change.table in (LOCK_HELD, LOCK_WAIT)]
        queue = dict(watch.mirror.rows(QUEUE))
        for table, old, new in changes:
            if table is QUEUE:
                queue[(new or old).id] = new
        self.queue = {id: row for id, row in queue.items() if row is not None}
        """Who waits for whose child, as the command leaves it: no rule changes that after it looked at the locks."""
        mirror = watch.mirror
        self.paper = Paper(mirror.rows(LOCK_HELD).values(), mirror.rows(LOCK_WAIT).values(), self.queue, watch._lives)
        events = sorted(change.new for change in changes if change.table is EVENT and change.new is not None)
        self.events = [row for row in events if row.kind.startswith("resource.")]
        self.freed: dict[Key, LockHeldRow] = {}
        """What the command takes from its holder."""
        self.refused: dict[str, list[str]] = {}
        self.left: list[tuple[str, str]] = []
        """The rights that somebody held or waited for before, and does no more."""
        self.known: str | None = None
        """The request that asks for what its owner has."""

    def run(self, name: str) -> None:
        begin = getattr(self, f"_{name}")
        if begin() is False:
            require(not self.changes and not self.events, "refusals", self.rule, self.body, "wrote", self.changes)
            return
        at = 0
        while at < len(self.events):
            row, data = self.events[at], json.loads(self.events[at].data)
            if row.kind == "resource.locked":
                at += self._locked(at, data)
                continue
            at += 1
            if row.kind == "resource.deadlocked":
                self._deadlocked(row, data)
            else:
                self._unlocked(row, data)
        require(not self.freed, "freed", self.rule, self.body, "was not told of", self.freed)
        self._compare()
        self._everybody()
        end = getattr(self, f"_{name}_answer", None)
        if end is not None:
            end()

    # what was told

    def _locked(self, at: int, data: dict[str, Any]) -> int:
        """A grant: right at this moment, whole, and under a new token."""
        paper, token = self.paper, data["token"]
        asks = paper.waits.get(data.get("conversion", data["lease"]))
        require(asks is not None, "grants", self.rule, "granted what nobody asked for:", data)
        assert asks is not None
        require(paper.lives(asks.row.session), "grants", "granted to the dead:", asks)
        holders = paper.holders(asks)
        require(not holders, "exclusion", self.rule, asks, "was granted beside", holders)
        passed = paper.earlier(asks)
        require(not passed or asks.id == self.known, "order", self.rule, asks, "passed", passed)
        if asks.converts:
            before = [other for other in paper.waits.values() if other.converts and other.place < asks.place]
            passed = [other for other in before if paper.excludes(asks, other) and not paper.holders(other, dead=True)]
            require(not passed, "order", self.rule, "the conversion", asks, "passed", passed)
        rows = self.events[at : at + len(asks.wants)]
        told = [(row.subject + "/", json.loads(row.data or "")) for row in rows]
        as_what = {"lease": asks.lease, "token": token} | ({"conversion": asks.id} if asks.converts else {})
        wants = [(path, {"mode": mode} | as_what) for path, mode in asks.wants]
        require(told == wants, "grants", self.rule, asks, "was told", told)
        require(token > self.watch.token, "tokens", self.rule, token, "after", self.watch.token)
        self.watch.token = token
        del paper.waits[asks.id]
        for path, mode in asks.wants:
            held = LockHeldRow.of(asks.row)._replace(path=path, mode=mode, token=token, since=self.now)
            paper.held[path, asks.lease] = held._replace(conversion=asks.id if asks.converts else None)
        return len(rows)

    def _deadlocked(self, row: Any, data: dict[str, Any]) -> None:
        """A refusal: in a circle, of which it is the one to be refused; and the circle is named."""
        paper, id = self.paper, data["victim"]
        require(id in paper.waits, "deadlocks", self.rule, "refused who does not wait:", data)
        victim = paper.waits[id]
        require(paper.circle(through=id) is not None, "deadlocks", self.rule, victim, "was refused, and is in no circle")
        better = [asks.id for asks in paper.waits.values() if asks.worth < victim.worth]
        require(paper.circle(better, id) is not None, "victims", self.rule, victim, "was refused instead of one of", better)
        require(paper.is_circle(data["cycle"], id), "named", self.rule, victim, "for", data["cycle"])
        require(row.session == victim.row.session, "deadlocks", "told to", row.session, "of", victim)
        self.refused[id] = data["cycle"]
        self._leave_line(id)

    def _unlocked(self, row: Any, data: dict[str, Any]) -> None:
        key = row.subject + "/", data["lease"]
        held = self.freed.pop(key, None)
        require(held is not None, "freed", self.rule, self.body, "freed", key)
        assert held is not None
        late = self.rule == "locks.release" and not self.paper.lives(held.session)
        lost = late or self.rule in ("locks.evict", "burial.bury")
        require(row.kind == ("resource.lost" if lost else "resource.unlocked"), "freed", self.rule, row)
        require((held.mode, held.token, held.session) == (data["mode"], data["token"], row.session), "freed", row, held)
        del self.paper.held[key]
        self.left.append((held.path, held.mode))

    def _leave_line(self, id: str) -> None:
        self.left += self.paper.waits.pop(id).wants

    # the end

    def _after(self) -> Paper:
        """The rows as they will be."""
        held: dict[Any, LockHeldRow] = dict(self.watch.mirror.rows(LOCK_HELD))
        waits: dict[Any, LockWaitRow] = dict(self.watch.mirror.rows(LOCK_WAIT))
        for table, old, new in self.changes:
            rows: dict[Any, Any] = held if table is LOCK_HELD else waits
            rows.pop(table.key_of(new if old is None else old), None)
            if new is not None:
                rows[table.key_of(new)] = new
        after = Paper(held.values(), waits.values(), self.queue, self.watch._lives)
        for asks in after.waits.values():
            stands = sorted((row.path, row.mode) for row in waits.values() if row.id == asks.id)
            require(stands == sorted(asks.wants), "rows of a lock", asks, "stands as", stands)
        return after

    def _compare(self) -> None:
        paper, after = self.paper, self._after()
        require(paper.held == after.held, "rows of a lock", self.rule, "told", paper.held, "wrote", after.held)
        mine, theirs = ({id: (asks.wants, asks.row[4:]) for id, asks in one.waits.items()} for one in (paper, after))
        require(mine == theirs, "rows of a lock", self.rule, "waiting are", after.waits, "instead of", paper.waits)

    def _everybody(self) -> None:
        paper = self.paper
        living = [row for row in paper.held.values() if paper.lives(row.session)]
        for one, other in combinations(living, 2):
            apart = mine(one, other) or not clash(one.mode, one.path, other.mode, other.path)
            require(apart, "exclusion", self.rule, one, "beside", other)
        for asks in paper.waits.values():
            # who is kept by one that is dead is looked at when that one is buried, or when another gets out of its way
            dead = not any(clash(mode, path, was, place) for path, mode in asks.wants for place, was in self.left)
            forgotten = paper.lives(asks.row.session) and not paper.blocked(asks, dead)
            require(not forgotten, "forgotten", self.rule, self.body, "left waiting", asks, "held are", list(paper.held))
        circle = paper.circle()
        require(circle is None, "deadlocks", self.rule, self.body, "left a circle:", circle)

    # the commands: what they begin with; False: nothing

    def _refused_with(self, code: str) -> bool:
        require(getattr(self.error, "code", "") == code, "refusals", self.rule, self.body, repr(self.error), "instead of", code)
        return False

    def _acquire(self) -> bool:
        body: Acquire = self.body
        watch, paper = self.watch, self.paper
        if not watch._lives(body.session):
            return self._refused_with("lease_lost")
        first = body.wants[0].path
        held = [row for path, _ in body.wants if (row := paper.held.get((path, body.id)))]
        if held and len(held) < len(body.wants):  # a part of it was taken away
            return self._refused_with("lease_lost")
        if held or body.id in paper.waits:
            known = held[0] if held else None
            token = self.answer.token if isinstance(self.answer, Granted) else None
            require(self.error is None and token == (known.token if known else None), "repeats", body, self.answer)
            return False
        if body.task is not None and not watch._stands(body.session, body.task, body.attempt):
            return self._refused_with("stale_claim")
        task = watch.mirror.rows(TASK).get(body.task or "")
        new = LockWaitRow(
            first, body.id, body.wants[0].mode, text(body.wants), body.owner, body.session, body.task, body.attempt, body.priority,
            self.now - body.priority * watch.policy.priority_weight, self._last(), self.now,
            self.now if task is None else task.submitted_at, text(body.within) if body.within else None,
        )  # fmt: skip
        return self._ask(Asks(body.id, tuple((path, mode) for path, mode in body.wants), new))

    def _convert(self) -> bool:
        body, paper = self.body, self.paper
        held = [row for path in body.paths if (row := paper.held.get((path, body.lease))) and row.session == body.session]
        if len(held) < len(body.paths) or not paper.lives(body.session):
            return self._refused_with("lease_lost")
        if body.id in paper.waits:
            require(self.answer == Waits(body.id), "repeats", body, self.answer)
            return False
        wants = tuple((row.path, least(row.mode, body.mode)) for row in held)
        abandoned = [asks.id for asks in paper.waits.values() if asks.row.converts == body.lease]
        enough = all(mode == row.mode for (_, mode), row in zip(wants, held, strict=True))
        if self.error is None or enough:
            for id in abandoned:
                self._leave_line(id)
        if enough:
            require(isinstance(self.answer, Granted) and self.answer.token == held[0].token, "repeats", body, self.answer)
            return bool(abandoned)
        row = held[0]
        inside = list(dict.fromkeys([*((one.path, one.id) for one in held), *body.within]))
        asks = LockWaitRow(
            row.path, body.id, wants[0][1], text(wants), row.owner, row.session, row.task, row.attempt, row.priority, FIRST,
            self._last(), self.now, row.born, text(inside), row.id,
        )  # fmt: skip
        return self._ask(Asks(body.id, wants, asks))

    def _last(self) -> int:
        counter = self.watch.mirror.rows(COUNTER).get(ARRIVED)
        return (counter.value if counter else 0) + 1

    def _ask(self, asks: Asks) -> bool:
        """It is granted at once exactly if nothing is in its way; else it waits, if it will."""
        paper = self.paper
        if paper.has_it(asks):
            self.known = asks.id
        blocked = bool(paper.holders(asks) or (asks.id != self.known and paper.earlier(asks)))
        if blocked and not self.body.wait:
            self._refused_with("lock_held")
            self._facts(self.error, asks)
            return False
        require(self.error is None, "refusals", self.rule, self.body, repr(self.error))
        if not blocked:
            first = json.loads(self.events[0].data or "") if self.events else {}
            require(
                first.get("conversion", first.get("lease")) == asks.id,
                "grants",
                self.rule,
                self.body,
                "is not granted, though it is free",
            )
        paper.waits[asks.id] = asks
        return True

    def _facts(self, error: Exception | None, asks: Asks) -> None:
        """A refusal says who is in the way, how, and since when."""
        paper = self.paper
        facts = error.facts if isinstance(error, CoordError) else {}
        in_the_way = [(row.path, row.mode, row.since) for row in paper.holders(asks)]
        if not in_the_way:
            in_the_way = [(path, mode, other.row.since) for other in paper.earlier(asks) for path, mode in other.wants]
        said = f"{facts.get('path')}/", facts.get("mode"), facts.get("since")
        require(said in in_the_way, "facts", self.rule, self.body, error, "of", in_the_way)

    def _acquire_answer(self) -> None:
        id, answer = self.body.id, self.answer
        lease = self.body.lease if isinstance(self.body, Convert) else id
        held = [row for row in self.paper.held.values() if row.id == lease]
        if id in self.refused:
            require(answer == Deadlocked(tuple(self.refused[id])), "answers of a lock", self.rule, self.body, answer)
        elif id in self.paper.waits:
            require(answer == Waits(id), "answers of a lock", self.rule, self.body, answer)
        else:
            said = isinstance(answer, Granted) and sorted((answer.token, *want) for want in answer.wants)
            require(said == sorted((row.token, row.path, row.mode) for row in held), "answers of a lock", self.body, answer, held)

    _convert_answer = _acquire_answer

    def _release(self) -> bool:
        body, paper = self.body, self.paper
        place = body.paths[0]
        some = [one for one in paper.waits.values() if body.id in (one.id, one.lease) and one.row.session == body.session]
        gone = [one.id for one in some if place in [path for path, _ in one.wants]]
        for id in gone:
            self._leave_line(id)
        self._free(lambda row: row.id == body.id and row.path in body.paths and row.session == body.session)
        stood = bool(gone or self.freed) and paper.lives(body.session)
        require(self.answer == stood, "answers of a lock", self.rule, body, self.answer)
        return bool(gone or self.freed)

    def _give_up(self) -> bool:
        body, paper = self.body, self.paper
        asks = paper.waits.get(body.id)
        if asks is not None and asks.row.session == body.session:
            self._facts_if_blocked(asks)
            self._leave_line(body.id)
            return True
        held = [row for path in body.paths if (row := paper.held.get((path, body.lease))) and row.session == body.session]
        stands = len(held) == len(body.paths) and body.id in (held[0].id, held[0].conversion)
        token = self.answer.token if isinstance(self.answer, Granted) else None
        require(token == (held[0].token if stands else None), "answers of a lock", self.rule, body, self.answer)
        return False

    def _facts_if_blocked(self, asks: Asks) -> None:
        require(isinstance(self.answer, LockHeldError), "answers of a lock", self.rule, self.body, self.answer)
        if self.paper.blocked(asks):  # else only one that is dead, and not yet buried, stood in its way
            self._facts(self.answer, asks)

    def _evict(self) -> bool:
        body = self.body
        self._free(lambda row: row.id == body.id and row.path in body.paths)
        if self.freed:
            for id in [asks.id for asks in self.paper.waits.values() if asks.row.converts == body.id]:
                self._leave_line(id)
        require(self.answer == len(self.freed), "answers of a lock", self.rule, body, self.answer)
        return bool(self.freed)

    def _stop(self) -> bool:
        body, paper = self.body, self.paper
        claim = body.task, body.attempt, body.session
        gone = [asks.id for asks in paper.waits.values() if (asks.row.task, asks.row.attempt, asks.row.session) == claim]
        for id in gone:
            self._leave_line(id)
        self._free(lambda row: (row.task, row.attempt, row.session) == claim)
        require(self.answer == len(self.freed), "answers of a lock", self.rule, body, self.answer)
        return bool(gone or self.freed)

    def _bury(self) -> bool:
        """A slice: which rows is its own affair, but what waits goes before what is held, and nothing is another's."""
        session, most = self.body.session, self.watch.policy.slice
        waits = [change.old for change in self.changes if change.table is LOCK_WAIT and change.new is None]
        told = {
            data[name]
            for row in self.events
            for data in [json.loads(row.data or "")]
            for name in ("lease", "conversion", "victim")
            if name in data
        }
        for id in {row.id for row in waits if row.session == session and row.id not in told}:
            self._leave_line(id)
        lost = [row for row in self.events if row.kind in ("resource.lost", "resource.unlocked")]
        keys = {(row.subject + "/", json.loads(row.data or "")["lease"]) for row in lost}
        self._free(lambda row: row.session == session and (row.path, row.id) in keys)
        require(len(keys) <= most, "slices", self.rule, "freed", len(keys), "of", most)
        return True

    _leave = _bury

    def _leave_answer(self) -> None:
        left = [row.id for row in self.paper.held.values() if row.session == self.body.session]
        left += [asks.id for asks in self.paper.waits.values() if asks.row.session == self.body.session]
        require(self.answer is True or not left, "slices", self.rule, "left", left)

    def _free(self, which: Any) -> None:
        self.freed = {key: row for key, row in self.paper.held.items() if which(row)}
