"""Planted faults: each takes one promise out of a rule, by changing a piece of its source.

A fault whose piece is no longer found in the source says so: then the rule was rewritten, and the fault must be planted anew.
"""

from __future__ import annotations

import inspect
import textwrap
from types import ModuleType
from typing import NamedTuple

import pytest

from autogen_coord.core import (
    balancing,
    bodies,
    burial,
    claims,
    commit,
    endings,
    events,
    fold,
    inboxes,
    messages,
    pruning,
    queue,
    sessions,
    tasks,
    timers,
)


class Piece(NamedTuple):
    """In a function of a module (or a method of its class), ``old`` becomes ``new``."""

    where: ModuleType
    name: str
    old: str
    new: str


class Fault(NamedTuple):
    name: str
    pieces: tuple[Piece, ...]
    checks: tuple[str, ...]
    """The checks that are to notice, one of them."""


def plant(fault: Fault, monkeypatch: pytest.MonkeyPatch) -> None:
    for piece in fault.pieces:
        owner, name = _owner(piece)
        source = textwrap.dedent(inspect.getsource(getattr(owner, name)))
        assert piece.old in source, f"{fault.name}: {piece.where.__name__}.{piece.name} no longer has {piece.old!r}: plant it anew"
        changed = source.replace(piece.old, piece.new, 1)
        space = piece.where.__dict__
        made: dict[str, object] = {}
        code = compile(changed, f"<{fault.name}>", "exec", flags=annotations.compiler_flag, dont_inherit=True)
        exec(code, space, made)
        monkeypatch.setattr(owner, name, made[name])


def _owner(piece: Piece) -> tuple[object, str]:
    owner: object = piece.where
    *path, name = piece.name.split(".")
    for part in path:
        owner = getattr(owner, part)
    return owner, name


def _fault(name: str, where: ModuleType, function: str, old: str, new: str, *checks: str) -> Fault:
    return Fault(name, (Piece(where, function, old, new),), checks)


FAULTS: tuple[Fault, ...] = (
    # the fence
    _fault("no attempt check", claims, "held", "row.attempt != attempt", "False", "fence"),
    _fault("no check of who claimed", claims, "held", "row.session != session", "False", "fence"),
    _fault("a finish of a dead session is accepted", claims, "held", "if is_live(rows, session) else None", "", "fence"),
    _fault("a dead session claims", claims, "claim", "require(rows, command.session)", "pass", "fence"),
    _fault("a child of a claim that is over", tasks, "require_parent", "row.attempt != attempt", "False", "fence"),
    _fault("any finish is taken for a repeat", claims, "finish", "if not _was_accepted", "if 0 and not _was_accepted", "fence"),
    # claims
    _fault("attempt not increased", claims, "_take", "row.attempt + 1", "max(row.attempt, 1)", "claimed twice", "crash"),
    _fault("running tasks stay among the ready", claims, "_take", "state=RUNNING", "state=READY", "attempts", "order"),
    _fault("rank ignored", claims, "_ready", "limit=most)", "limit=most, reverse=True)", "order"),
    _fault("pools not merged by rank", claims, "_shared", "found.sort(", "found.sort(reverse=True, ", "order"),
    _fault("priority ignored", queue, "rank_of", "priority * policy", "0 * policy", "order"),
    _fault("slots ignored", claims, "_one_takes_all", "found[: want.slots]", "found", "slots"),
    _fault("slots of several ignored", claims, "_spread", "bounded=True", "bounded=False", "slots", "order"),
    _fault("what is addressed goes to anybody", balancing, "Balance.give", "if pinned is not None:", "if False:", "addressed"),
    _fault(
        "all goes to the first", balancing, "Balance.give",
        "self._strategy(tuple(self._left.values()))", "min(self._left.values())", "balance",
    ),
    _fault("what expired is claimed", claims, "_expired", "if late:", "late = False\n    if late:", "expiry"),
    _fault("a suspect is taken by name beside others", claims, "_by_name", "row.suspect and", "False and", "suspects"),
    _fault("one asked for twice is given twice", claims, "_by_name", "row.state != READY", "False", "claimed twice", "attempts"),
    # lanes
    _fault("no lane check", queue, "admit", "if holder is not None:", "if False:", "lanes"),
    _fault("a lane is not freed at an end", queue, "free_lane", "row.place != HOLDS", "True", "lanes"),
    _fault("a lane goes to the last", queue, "free_lane", "limit=1", "limit=1, reverse=True", "lanes"),
    _fault("a retry loses its lane", queue, "delay", "HOLDS if row.place == HOLDS else LATER", "LATER", "lanes"),
    # endings
    _fault("live and ended", endings, "end", "rows.drop(QUEUE, row)", "pass", "live xor ended", "crash"),
    _fault(
        "double outcome", claims, "finish", "        return outcome",
        "        rows.put(OUTCOME, outcome._replace(finished_at=now)) if outcome else None\n        return outcome",
        "final", "fence",
    ),
    _fault("children not cancelled at a failure", endings, "end", "if row.children and", "if False and", "children"),
    _fault("a parent waits for one that ended", endings, "end", "parent.waits_for == row.id", "False", "children"),
    _fault("finished not counted", endings, "end", "count(rows, FINISHED)", "pass", "finished"),
    _fault("an end without its event", endings, "end", "events.append(", "(lambda *a: None)(", "endings"),
    _fault("too many tries", endings, "fail", "row.failures >= retry.tries", "row.failures > retry.tries", "tries"),
    _fault("crashes among others count", endings, "crash", "else pools.is_alone(row.pool)", "else True", "tries"),
    _fault("suspects among others", endings, "crash", "pools.alone(row.pool) if row.suspect else row.pool", "row.pool", "suspects"),
    _fault(
        "a rejection counts as a failure", endings, "unclaimed", "session=None,", "session=None, failures=row.failures + 1,",
        "tries",
    ),
    # events and counters
    _fault(
        "event counter not increased", events, "append", "CounterRow(NUMBER, number", "CounterRow(NUMBER, 0 * number",
        "counters", "events", "crash",
    ),
    _fault("a number is left out", events, "append", "counter.value + 1", "counter.value + 2", "events"),
    # sessions and burial
    _fault("anybody may judge", sessions, "declare_dead", "now - judge.steady_since < judge.ttl", "False", "judges"),
    _fault("declared dead within the lease", sessions, "declare_dead", "now <= row.lease_until", "False", "judges"),
    _fault("a late renewal counts as steady", sessions, "renew", "now if late else", "", "judges"),
    _fault("the dead renew", sessions, "renew", "row.state != LIVE", "False", "judges"),
    _fault("burial forgets a claim", burial, "_crash", "each(claims, crash)", "each(claims[1:], crash)", "burial"),
    _fault("burial forgets the pools", burial, "_take_down", "if empty_pools(rows, some, most, now, policy)", "if 0", "strands"),
    _fault("what is addressed to one who left goes back", claims, "give_back", "queue.is_stranded(rows, row)", "False", "strands"),
    _fault(
        "what ended with its parent ends again", timers, "turn", "rows.one(QUEUE, found.id)", "found",
        "endings", "live xor ended", "children",
    ),
    # keys
    _fault("key ignored", tasks, "_earlier", "if command.key is None:", "if True:", "keys"),
    _fault("a key with other input is taken", tasks, "_earlier", "task.input_hash != command.input_hash", "False", "keys"),
    _fault("steps are made anew", tasks, "_earlier", "if same:", "if False:", "keys"),
    _fault("a task waits for itself", tasks, "_refuse_cycle", "if parent in front:", "if False:", "keys"),
    _fault("a repeated submit is a new one", tasks, "submit", "if known is not None:", "if False:", "keys", "crash"),
    # requeue
    _fault(
        "requeue revives the old task", tasks, "requeue",
        "create(rows, again, None,", "create(rows, again._replace(id=task.id), None,",
        "crash", "requeue", "final",
    ),
    _fault("requeue does not say where from", tasks, "requeue", "requeued_from=task.id", "requeued_from=None", "requeue"),
    _fault("a dead letter is requeued twice", tasks, "requeue", "if successor is not None:", "if False:", "requeue"),
    _fault("what succeeded is requeued", tasks, "requeue", "outcome.state not in DEAD_LETTERS", "False", "requeue"),
    # messages
    _fault(
        "a repeated send is a new one", messages, "send", "if rows.one(TASK, message.id) is not None:", "if False:",
        "sent once", "crash",
    ),
    _fault("a handler sends twice", messages, "send", "if before:", "if False:", "sent once"),
    _fault("a handler without claim sends", messages, "send", "tasks.require_parent(", "(lambda *a: None)(", "fence"),
    _fault("a recipient gets it twice", messages, "_places", "list(dict.fromkeys(found))", "found", "recipients"),
    _fault(
        "the sender gets its own", messages, "_places",
        "map(_address, online(rows, ALL)) if str(address) != sender", "map(_address, online(rows, ALL))", "recipients",
    ),
    _fault("a message to nobody is forgotten", messages, "send", "if not places:", "if False:", "recipients"),
    _fault("what is held takes too long", messages, "_post", "HELD if is_pulled(place.label) else", "", "tries"),
    _fault("what was held is a suspect", endings, "crash", "suspect=0 if pulled else 1", "suspect=1", "suspects"),
    _fault("what was held beside others is punished", burial, "bury", "len(claims) == 1 and", "", "tries"),
    _fault("a ttl ends though nobody saw it", claims, "give_back", "row.expires_at if command.unbegun else None", "None", "expiry"),
    _fault("a ttl counts for ever", endings, "unclaimed", ", expires_at=None", "", "expiry"),
    _fault("open inboxes lose messages", inboxes, "settled", "if all_online(rows, (row.capability,))[0]:", "if False:", "inboxes"),
    # time
    _fault("due not derived", queue, "put", "due_of(row, policy)", "row.due", "due", "timers"),
    _fault("a deadline has no end", timers, "_turn_one", "row.deadline is not None and", "False and", "timers"),
    _fault(
        "a clock used inside a rule", queue, "delay", "ready_at=until", "ready_at=until + __import__('time').time() % 1",
        "clock", "rows", "answers",
    ),
    _fault(
        "randomness inside a rule", endings, "end",
        "text, blob =", "error = error and str(__import__('random').random())\n    text, blob =",
        "rows", "answers",
    ),
    # purity
    _fault(
        "state outside the rows", endings, "count",
        "counter.value if counter else 0", "globals().__setitem__('_n', globals().get('_n', 0) + 1) or globals()['_n'] - 1",
        "counters", "finished", "rows",
    ),
    # bodies and pruning
    _fault("blob references not counted", bodies, "keep", "blob.refs + refs if blob else refs", "refs", "blobs"),
    _fault("blobs kept for ever", bodies, "release", "if blob is None:", "if True:", "blobs"),
    _fault("attempts outlive their task", pruning, "forget", "rows.drop(ATTEMPT, attempt)", "pass", "leak"),
    _fault("an attempt that ended before its task outlives it", pruning, "forget", "outcome.session is None", "False", "leak"),
    _fault("live events pruned", pruning, "_prune_events", "floor = row.number", "pass", "events"),
    # the registry
    _fault(
        "a refused command leaves its rows", commit, "_Fold.__call__",
        "error:\n            rows.undo(mark)", "error:\n            pass",
        "rows", "answers", "batch",
    ),
    # the fold
    _fault("undo forgotten", fold, "Pending.undo", "self._written = None", "return", "rows", "answers", "batch"),
    _fault("undo forgets the indexes", fold, "Pending.undo", "merge.leave(key, current)", "pass", "answers", "rows", "batch"),
    _fault("a scan ignores own changes", fold, "Pending.scan", "if live:", "if False:", "answers", "rows", "lanes", "strands"),
    _fault(
        "a scan shows what was changed as it was", fold, "Pending.scan", "if key not in changed:", "if True:",
        "answers", "rows", "batch", "crash", "order", "lanes", "live xor ended",
    ),
    _fault("limit ignored", fold, "Pending.scan", "return rows[: range.limit]", "return rows", "answers", "rows", "lanes", "slots"),
    _fault("hidden rows count for the limit", fold, "_reach", "range.limit + len(gone)", "range.limit", "answers", "rows"),
    _fault("pools not told to listeners", commit, "committed", "pools.add(new.pool)", "pass", "told"),
)  # fmt: skip
