"""What must hold of documents whatever happens.

`StateWatch` plays each command once more on paper, and compares: what was answered, what was written, what was told. Then it looks
at everything: histories, snapshots, and blobs.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from typing import Any

from autogen_coord.core import events, snapshots
from autogen_coord.core.documents import Versioned
from autogen_coord.core.lock_queue import INCARNATION, TOKENS, WAITING
from autogen_coord.core.snapshots import Restored
from autogen_coord.core.state import Opened, Written
from autogen_coord.core.store import Change, Table
from autogen_coord.core.tables import (
    BLOB,
    CONFLICT,
    COUNTER,
    DOCUMENT,
    DOCUMENT_CHANGE,
    EVENT,
    LOCK_HELD,
    LOCK_WAIT,
    SNAPSHOT,
    STATE_POLICY,
    ChangeRow,
    DocumentRow,
)
from autogen_coord.settings import Settings

from .invariants import Watch, require
from .lock_paper import RIGHTS, gives
from .programs import Command, Mirror
from .state_paper import GONE, Asked, New, Paper, Refused, Taken, Version, is_in, same, text

RULES = {
    *("state.write", "snapshots.revert", "snapshots.restore", "snapshots.take", "snapshots.drop"),
    *("open_conflicts.decide", "state_policies.set_policy", "pruning.prune"),
}
OURS = (DOCUMENT, DOCUMENT_CHANGE, SNAPSHOT, CONFLICT, STATE_POLICY)
Told = tuple[str, str, dict[str, Any]]
"""Kind, subject and data of an event."""


class StateWatch(Watch):
    """The checks of a program of documents, beside those of every program."""

    shrinks = frozenset({WAITING, "snapshots", "state_policies"})

    def __init__(self, mirror: Mirror, policy: Settings) -> None:
        super().__init__(mirror, policy)
        self.paper = Paper(policy, self._keeps, self._may_write)
        self.many = 28
        """Snapshots of a document up to which each write drops what it can."""

    # what only the store knows

    def _keeps(self, key: str, version: int) -> bool:
        row = self.mirror.rows(DOCUMENT).get(key)
        return (row is not None and row.version == version) or (key, version) in self.mirror.rows(DOCUMENT_CHANGE)

    def _may_write(self, guard: Any, key: str) -> bool:
        held = [self.mirror.rows(LOCK_HELD).get((path, guard.id)) for path in guard.paths]
        rows = [row for row in held if row is not None]
        counter = self.mirror.rows(COUNTER).get(INCARNATION)
        stands = len(rows) == len(held) and all((row.session, row.token) == (guard.session, guard.token) for row in rows)
        stands = stands and self._lives(guard.session) and counter is not None and guard.token >> TOKENS == counter.value
        if stands and any(is_in(key, path.rstrip("/")) for path in guard.paths):
            return any(gives(row.mode, row.path, key) >= RIGHTS["X"] for row in rows)
        return stands

    def _holds(self, session: str) -> bool:
        held = [row.session for row in self.mirror.rows(LOCK_HELD).values()]
        waits = [row.session for row in self.mirror.rows(LOCK_WAIT).values()]
        return super()._holds(session) or session in held + waits

    # one command

    def command(self, command: Command, answer: Any, error: Exception | None, changes: list[Change], now: float) -> None:
        super().command(command, answer, error, changes, now)
        if command.rule not in RULES:
            require(not any(change.table in OURS for change in changes), "stray", command, changes)
            return
        Replay(self, command, answer, changes, now).run(error)

    # all rows

    def between(self, now: float) -> None:
        super().between(now)
        rows, paper = self.mirror.rows(DOCUMENT), self.paper
        require(rows.keys() == paper.documents.keys(), "documents", sorted(rows), "on paper", sorted(paper.documents))
        kept: dict[str, list[ChangeRow]] = {key: [] for key in rows}
        for (key, _), change in sorted(self.mirror.rows(DOCUMENT_CHANGE).items()):
            require(key in kept, "leak", "a version of no document:", change)
            kept[key].append(change)
        for key, row in rows.items():
            self._document(row, kept[key])
        self._snapshots(rows, kept)
        self._conflicts()
        policies = {row.prefix: (row.policy, json.loads(row.reducers or "{}")) for row in self.mirror.rows(STATE_POLICY).values()}
        require(policies == paper.policies, "policies", policies, "on paper", paper.policies)
        counted = {row.name: row.value for row in self.mirror.rows(COUNTER).values()}
        require(counted.get("state_policies", 0) == len(policies), "policies", "counted", counted)
        require(counted.get("snapshots", 0) == len(paper.snapshots), "snapshots", "counted", counted)

    def _document(self, row: DocumentRow, changes: list[ChangeRow]) -> None:
        """Its history is what was written: no version twice, none that is made up, and none gone that must be kept."""
        every = self.paper.documents[row.key]
        require(row.version == len(every), "versions", row, "is not the last of", every)
        versions: list[Versioned] = [*changes, row]
        for one in versions:
            require(1 <= one.version <= row.version, "versions", one, "of", row)
            require(self._same(one, every[one.version - 1]), "history", one, "on paper", every[one.version - 1])
        numbers = [one.version for one in changes]
        require(row.version not in numbers and len(set(numbers)) == len(numbers), "versions", row, "and earlier ones", numbers)
        last = set(range(max(1, row.version - self.policy.history), row.version))
        require(last <= set(numbers), "kept", row, "of the last", self.policy.history, "there are", numbers)
        require(row.changes == len(changes), "counted", row, "has", numbers)
        gone = row.deleted_at is not None
        require(gone == (every[-1].value is GONE) and (not gone or row.deleted_at == row.at), "tombstones", row)
        require(row.fenced == self.paper.fenced.get(row.key), "fenced", row, "on paper", self.paper.fenced.get(row.key))

    def _same(self, row: Versioned, version: Version) -> bool:
        facts = (row.number, row.kind, row.base, row.token, row.at, row.created_at, row.actor, row.cause)
        theirs = (
            version.number, version.kind, version.base, version.token, version.at, version.created, version.actor, version.cause,
        )  # fmt: skip
        return facts == theirs and same(self.value(row), version.value)

    def value(self, row: Any, new: dict[str, str] | None = None) -> Any:
        """The value of a version, or of a conflict; ``new``: blobs that are just being written."""
        body = row.value
        if row.value_blob is not None:
            require(body is None, "blobs", "a body twice:", row)
            stored = self.mirror.rows(BLOB).get(row.value_blob)
            body = (new or {}).get(row.value_blob) or (stored.body if stored else None)
            require(body is not None, "blobs", "a body is missing:", row)
        return GONE if body is None else json.loads(body)

    def _snapshots(self, rows: dict[Any, DocumentRow], kept: dict[str, list[ChangeRow]]) -> None:
        """As of a snapshot, everything is what it was when it was taken."""
        stored = {row.name: (row.prefix, row.number) for row in self.mirror.rows(SNAPSHOT).values()}
        known = {name: (taken.prefix, taken.number) for name, taken in self.paper.snapshots.items()}
        require(stored == known, "snapshots", stored, "on paper", known)
        for name, taken in self.paper.snapshots.items():
            for key, row in rows.items():
                if is_in(key, taken.prefix):
                    versions: list[Versioned] = [*kept[key], row]
                    then = [one for one in versions if one.number <= taken.number]
                    was = self.value(then[-1]) if then else GONE
                    require(same(was, taken.values.get(key, GONE)), "as of", name, key, "is", was, "instead of", taken.values)
            lost = [key for key in taken.values if key not in rows]
            require(not lost, "as of", name, "was pruned:", lost)

    def _conflicts(self) -> None:
        rows = self.mirror.rows(CONFLICT)
        require(rows.keys() == self.paper.conflicts.keys(), "conflicts", sorted(rows), "on paper", self.paper.conflicts)
        for id, row in rows.items():
            asked = self.paper.conflicts[id]
            require((row.key, row.base, row.found, row.kind) == (asked.key, asked.base, asked.found, asked.kind), "conflicts", row)
            require(same(self.value(row), asked.wanted), "conflicts", row, "wanted", asked.wanted)

    def _references(self, tasks: Any, outcomes: Any) -> None:
        """Blobs: each referred to, as often as it says, under the hash of what it holds."""
        ours: tuple[Table[Any], ...] = (DOCUMENT, DOCUMENT_CHANGE, CONFLICT)
        every = [row.value_blob for table in ours for row in self.mirror.rows(table).values()]
        every += [row.input_blob for row in tasks.values()] + [row.output_blob for row in outcomes.values()]
        used = Counter(hash for hash in every if hash is not None)
        stored = {row.hash: row.refs for row in self.mirror.rows(BLOB).values()}
        require(stored == dict(used), "blobs", "references", dict(used), "are counted", stored)
        for row in self.mirror.rows(BLOB).values():
            require(hashlib.sha256(row.body.encode()).hexdigest() == row.hash, "blobs", "under a wrong hash:", row)


class Replay:
    """One command once more, on paper."""

    def __init__(self, watch: StateWatch, command: Command, answer: Any, changes: list[Change], now: float) -> None:
        self.watch = watch
        self.paper = watch.paper
        self.rule, self.body = command.rule, command.body
        self.answer = answer
        self.now = now
        self.changes = [change for change in changes if change.table in OURS]
        self.blobs = {change.new.hash: change.new.body for change in changes if change.table is BLOB and change.new is not None}
        made = sorted(change.new for change in changes if change.table is EVENT and change.new is not None)
        self.events = [row for row in made if row.kind.startswith("state.")]
        self.expected: list[Told] = []

    def run(self, error: Exception | None) -> None:
        try:
            act = getattr(self, f"_{self.rule.partition('.')[2]}")
            act(error)
        except Refused as refused:
            code = getattr(error, "code", repr(error))
            require(code == refused.code, "refusals", self.rule, self.body, "came to", code, self.answer, "not to", refused.code)
            require(not self.changes and not self.events, "refusals", self.rule, self.body, "wrote", self.changes)
            return
        require(error is None, "refusals", self.rule, self.body, "was refused:", repr(error))
        told = [(row.kind, row.subject, json.loads(row.data or "{}")) for row in self.events]
        require(told == self.expected, "told", self.rule, self.body, "told", told, "instead of", self.expected)

    # what was written

    def _write_news(self, news: list[New], by: Any, also: int = 0) -> list[DocumentRow]:
        """Just these versions were written, and told of, in this order; ``also``: events of the command before them."""
        require(all(row.session == by.session for row in self.events), "told", self.rule, "by another session:", self.events)
        wrote = {change.new.key: change for change in self.changes if change.table is DOCUMENT and change.new is not None}
        keys = [new.key for new in news]
        require(sorted(wrote) == sorted(keys), "written", self.rule, self.body, "wrote", sorted(wrote), "instead of", sorted(keys))
        out = []
        for place, new in enumerate(news):
            row = wrote[new.key].new
            version = self.paper.newest(new.key) + 1
            data = {"version": version, "kind": new.kind, "base": new.base, "token": new.token}
            data = {name: value for name, value in data.items() if value is not None}
            data |= {"deleted": True} if new.value is GONE else {}
            self.expected.append((events.Kind.STATE_CHANGED.value, new.key, data))
            require(place + also < len(self.events), "told", self.rule, "said nothing of", new)
            noted = self.paper.note(new, self.events[place + also].number, self.now, by.actor, by.cause)
            require(row.version == noted.version, "versions", self.rule, row, "instead of", noted)
            found = self.watch.value(row, self.blobs)
            require(same(found, new.value), "written", self.rule, self.body, "wrote", found, "instead of", new.value)
            self._converges(wrote[new.key])
            out.append(row)
        self._dropped(keys)
        return out

    def _converges(self, change: Change) -> None:
        """A history that is too long does not grow, but by what snapshots need."""
        points = [one for one in self.paper.snapshots.values() if is_in(change.new.key, one.prefix)]
        if change.old is not None and len(points) <= self.watch.many:
            most = self.watch.policy.history + len(points)
            require(change.new.changes <= max(most, change.old.changes), "converges", self.rule, change, "with", len(points))

    def _dropped(self, keys: list[str]) -> None:
        """Earlier versions go with a write of their document alone; those that must stay are looked at in `StateWatch`."""
        gone = [change.old for change in self.changes if change.table is DOCUMENT_CHANGE and change.new is None]
        require(all(row.key in keys for row in gone), "kept", self.rule, "dropped", gone)

    def _write(self, error: Exception | None) -> None:
        made = self.paper.written(self.body)
        require(error is None, "refusals", self.rule, self.body, "was refused:", repr(error))
        asked = [one for one in made if isinstance(one, Asked)]
        if asked:
            self._open(asked)
            return
        rows = iter(self._write_news([one for one in made if isinstance(one, New)], self.body.by))
        require(isinstance(self.answer, Written), "answers", self.rule, self.body, self.answer)
        expected = tuple(None if one is None else next(rows) for one in made)
        require(self.answer.rows == expected, "answers", self.answer, "instead of", expected)
        for one, body in zip(made, self.answer.texts, strict=True):
            told = GONE if body is None else json.loads(body)
            require(same(told, one.value if isinstance(one, New) else GONE), "answers", self.answer, "instead of", one)

    def _open(self, asked: list[Asked]) -> None:
        """Conflicts, and nothing else."""
        require(isinstance(self.answer, Opened), "answers", self.rule, self.body, self.answer)
        rows = self.answer.conflicts
        require([row.id for row in rows][:1] == [self.body.id], "answers", self.answer)
        made = [change.new for change in self.changes]
        require(all(change.table is CONFLICT for change in self.changes), "written", self.rule, "wrote", self.changes)
        require(sorted(made) == sorted(rows) and len(rows) == len(asked), "answers", self.answer, "for", asked)
        for row, one in zip(rows, asked, strict=True):
            require((row.at, row.actor, row.cause) == (self.now, self.body.by.actor, self.body.by.cause), "conflicts", row)
            self.paper.conflicts[row.id] = one
            facts = {"conflict": row.id, "base": one.base, "found": one.found}
            self.expected.append((events.Kind.STATE_CONFLICT.value, one.key, facts))

    def _revert(self, error: Exception | None) -> None:
        new = self.paper.reverted(self.body)
        require(error is None, "refusals", self.rule, self.body, "was refused:", repr(error))
        (row,) = self._write_news([new], self.body.by)
        require(self.answer[0] == row and same(json.loads(self.answer[1]), new.value), "answers", self.answer, "for", new)

    def _decide(self, error: Exception | None) -> None:
        new = self.paper.decided(self.body)
        require(error is None, "refusals", self.rule, self.body, "was refused:", repr(error))
        self._write_news([] if new is None else [new], self.body.by)
        asked = self.paper.conflicts.pop(self.body.id)
        facts = {"conflict": self.body.id, "how": self.body.how, "version": self.paper.newest(asked.key)}
        self.expected.append((events.Kind.STATE_DECIDED.value, asked.key, facts))
        told = GONE if self.answer.text is None else json.loads(self.answer.text)
        require(same(told, self.paper.value(asked.key)), "answers", self.answer, "for", self.body)

    def _restore(self, error: Exception | None) -> None:
        body = self.body
        if error is None and self.answer.again:
            since = self.paper_events_since(body.seen)
            require(since >= snapshots.MEANWHILE or self._floor() > body.seen, "again", body, "though only", since)
            require(not self.changes and self.answer == Restored(0, True), "again", body, self.changes)
            return
        keys = list(body.keys)
        if body.seen is not None:  # all that is another now, at the prefix: wherever it was written since
            keys += [key for key in sorted(self.paper.documents) if is_in(key, body.prefix) and self._since(key, body.seen)]
        news = self.paper.restored(body, list(dict.fromkeys(keys)))
        require(error is None, "refusals", self.rule, body, "was refused:", repr(error))
        order = [row.subject for row in self.events]
        news.sort(key=lambda new: order.index(new.key) if new.key in order else -1)
        self._write_news(news, body.by)
        require(self.answer == Restored(len(news)), "answers", self.rule, self.answer, "for", news)
        taken = self.paper.snapshots[body.name]
        if body.seen is not None:
            then = {key: value for key, value in taken.values.items() if is_in(key, body.prefix)}
            require(_alike(self.paper.present(body.prefix), then), "restored", body, self.paper.present(body.prefix), "not", then)

    def _since(self, key: str, seen: int) -> bool:
        return self.paper.documents[key][-1].number > seen

    def paper_events_since(self, seen: int) -> int:
        newest = self.watch.mirror.rows(COUNTER).get(events.NUMBER)
        return (newest.value if newest else 0) - seen

    def _floor(self) -> int:
        floor = self.watch.mirror.rows(COUNTER).get(events.FLOOR)
        return floor.value if floor else 0

    def _take(self, error: Exception | None) -> None:
        if self.body.name in self.paper.snapshots:
            raise Refused("conflict")
        require(error is None, "refusals", self.rule, self.body, "was refused:", repr(error))
        require(bool(self.events), "told", self.rule, "said nothing")
        self.paper.snapshots[self.body.name] = Taken(
            self.body.prefix, self.events[0].number, json.loads(text(self.paper.present(self.body.prefix)))
        )  # fmt: skip
        self.expected.append((events.Kind.STATE_SNAPSHOT.value, self.body.name, {"prefix": self.body.prefix}))
        facts = (self.body.name, self.events[0].number, self.now, self.body.prefix, self.body.by.actor, self.body.note)
        require(tuple(self.answer) == facts, "answers", self.answer, "instead of", facts)

    def _drop(self, error: Exception | None) -> None:
        if self.paper.snapshots.pop(self.body.name, None) is None:
            raise Refused("not_found")
        require(all(change.table is SNAPSHOT for change in self.changes), "written", self.rule, self.changes)

    def _set_policy(self, error: Exception | None) -> None:
        body = self.body
        if body.policy is not None:
            self.paper.policies[body.prefix] = body.policy, dict(body.reducers)
        elif self.paper.policies.pop(body.prefix, None) is None:
            raise Refused("not_found")

    def _prune(self, error: Exception | None) -> None:
        """Tombstones that are old enough and no snapshot needs."""
        for change in self.changes:
            require(change.new is None and change.table in (DOCUMENT, DOCUMENT_CHANGE), "tombstones", self.rule, change)
        gone = [change.old for change in self.changes if change.table is DOCUMENT]
        for row in gone:
            old = row.deleted_at is not None and row.deleted_at < self.now - self.watch.policy.keep_seconds
            require(old, "tombstones", "pruned at", self.now, row)
            self.paper.forget(row.key)
        self._dropped([row.key for row in gone])


def _alike(one: dict[str, Any], other: dict[str, Any]) -> bool:
    return one.keys() == other.keys() and all(same(one[key], other[key]) for key in one)
