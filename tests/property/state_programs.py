"""Random programs of documents: writers put, patch, delete, merge, ask and decide, take snapshots and go back to them, and die.

Drawn as those of `tests.property.lock_programs`, whose leases are the fences here.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any, NamedTuple

from autogen_coord.core import bodies, open_conflicts, snapshots, state, state_policies
from autogen_coord.core.documents import Author
from autogen_coord.core.events import NUMBER
from autogen_coord.core.lock_queue import Want
from autogen_coord.core.locks import Acquire, Guard
from autogen_coord.core.open_conflicts import Decide
from autogen_coord.core.snapshots import AT_ONCE, Drop, Restore, Revert, Take
from autogen_coord.core.state import Edit, Write
from autogen_coord.core.state_policies import SetPolicy
from autogen_coord.core.tables import (
    BLOB,
    CONFLICT,
    COUNTER,
    DOCUMENT,
    DOCUMENT_CHANGE,
    SNAPSHOT,
    STATE_POLICY,
    ChangeRow,
    DocumentRow,
)
from autogen_coord.settings import Settings

from . import lock_programs
from .lock_programs import LockWorld
from .programs import MODULES, Batch, Command, Op, Program

KEYS = ("a", "a/x", "a/x", "a/x/1", "a/y", "a!", "a0", "b", "b/x")
"""Two trees, and two names that sort next to what lies below the first; one is written more often."""
PREFIXES = ("", "", "a", "a/x", "b", "a/none")
NAMES = ("one", "two", "three")
POLICIES = (None, None, "reject", "last_writer", "merge", "merge", "reduce", "ask", "ask")
REDUCERS = ({"n": "add", "tags": "union"}, {"tags": "append", "n": "max"}, {"log": "append"})
LONG = "a text that is long enough for a blob of its own"
STORY = ("put", "look_through", "take", "put_many", "look_through", "delete", "put", "look_through", "restore")
FORGOTTEN = ("take", "look_through", "put", "prune", "restore")
"""The log does not tell any more what was written since the look."""
QUARREL = ("ask", "ask", "put", "ask", "decide", "decide")
QUARRELS = ("put_again", "ask_many", "decide", "decide")
APPENDING = ("append", "append", "append", "append", "append")
HOT = ("put_again",) * 6
"""Its history comes to its end."""
BORROWED = {
    "open_session": 1.0, "renew": 3.0, "declare_dead": 0.5, "bury": 1.0, "close_session": 0.3, "look": 3.0, "prune": 5.0,
    "release": 1.0, "evict": 0.3,
}  # fmt: skip

MODULES |= {"state": state, "snapshots": snapshots, "open_conflicts": open_conflicts, "state_policies": state_policies}


class Look(NamedTuple):
    """What a restore saw when it looked through the documents."""

    name: str
    prefix: str
    seen: int
    keys: tuple[str, ...]


class StateWorld(LockWorld):
    """Remembers what restores have seen."""

    def __init__(self, policy: Settings) -> None:
        super().__init__(policy)
        self.looks: list[Look] = []

    def version(self, key: str) -> int:
        row = self.mirror.rows(DOCUMENT).get(key)
        return 0 if row is None else row.version

    def value(self, row: DocumentRow | ChangeRow | None) -> Any:
        if row is None:
            return None
        text = row.value if row.value_blob is None else self.mirror.rows(BLOB)[row.value_blob].body
        return None if text is None else bodies.decode(text)

    def newest_event(self) -> int:
        row = self.mirror.rows(COUNTER).get(NUMBER)
        return row.value if row else 0

    def key(self, r: random.Random, there: float = 0.7) -> str:
        """Mostly of a document that there is."""
        some = sorted(self.mirror.rows(DOCUMENT))
        return r.choice(some) if some and r.random() < there else r.choice(KEYS)


Draw = Callable[[StateWorld, random.Random], Command | None]
_DRAWS: dict[str, tuple[float, Draw]] = {}


def _op(weight: float) -> Callable[[Draw], Draw]:
    def keep(draw: Draw) -> Draw:
        _DRAWS[draw.__name__.strip("_")] = (weight, draw)
        return draw

    return keep


def make(world: StateWorld, op: Op) -> Command | None:
    """The command that an operation means now; None when there is nothing that it could mean."""
    if op.kind not in _DRAWS:
        return lock_programs.make(world, op)
    command = _DRAWS[op.kind][1](world, random.Random(op.seed))
    return None if command is None else command._replace(spoiled=op.spoiled)


def program(seed: int, batches: int = 14) -> Program:
    """The program of a seed."""
    r = random.Random(f"state {seed}")
    all_weights = {**BORROWED, **{kind: weight for kind, (weight, _) in _DRAWS.items()}}
    kinds = list(all_weights)
    weights = [all_weights[kind] * r.choice((0.3, 1, 1, 2)) for kind in kinds]

    def ops(*given: str) -> tuple[Op, ...]:
        return tuple(Op(kind, r.getrandbits(32), r.random() < 0.05) for kind in given)

    out = [Batch(0.0, None, ops(*["open_session"] * 2, *["put"] * 3))]
    for _ in range(r.randrange(batches // 2, batches * 3 // 2)):
        wait = r.choice((0.0, 0.125, 0.5, 1.0)) if r.random() < 0.85 else r.choice((2.0, 4.0, 12.0))
        some = r.choices(kinds, weights, k=r.choice((1, 2, 4, 6, 10)))
        out.append(Batch(wait, r.getrandbits(32) if r.random() < 0.6 else None, ops(*some)))
        for chance, story in ((0.2, STORY), (0.15, QUARREL), (0.1, QUARRELS), (0.1, APPENDING), (0.2, HOT), (0.1, FORGOTTEN)):
            if r.random() < chance:
                out.append(Batch(0.0, None, ops(*story)))
    return Program(seed, _policy(r), tuple(out))


def _policy(r: random.Random) -> Settings:
    return Settings(
        history=r.choice((0, 1, 2, 3, 5)),
        max_value=r.choice((200, 10_000)),
        max_depth=3,
        blob_from=20,
        slice=r.choice((1, 2, 256)),
        keep_count=r.choice((0, 5, 1_000, 1_000)),
        keep_seconds=r.choice((2.0, 2.0, 1e6)),
        batch_seconds=60.0,
    )


# values


def a_value(r: random.Random) -> Any:
    """Mostly an object; the same ones come again, large ones too."""
    if r.random() < 0.08:
        return r.choice((1, "text", [1, 2], None, LONG, [], {}))
    return {name: a_part(r, name) for name in ("n", "tags", "log", "text", "in") if r.random() < 0.55}


def a_part(r: random.Random, name: str) -> Any:
    if r.random() < 0.04:
        return r.choice(("odd", 7, [7], None, {"deeper": {"and": {"deeper": 1}}}))
    if name == "n":
        return r.choice((0, 1, 2, 5))
    if name in ("tags", "log"):
        return r.choices(("red", "green", 1), k=r.choice((0, 1, 1, 2, 3)))
    if name == "text":
        return r.choice(("short", "brief", LONG))
    return {inner: r.choice((1, 2, 3)) for inner in ("x", "y", "z") if r.random() < 0.6}


def a_patch(r: random.Random) -> Any:
    if r.random() < 0.6:
        return {name: None if r.random() < 0.25 else a_part(r, name) for name in ("n", "tags", "text", "in") if r.random() < 0.4}
    steps = []
    for _ in range(r.choice((1, 2))):
        name = r.choice(("n", "text", "in"))
        what = r.choice(("add", "add", "replace", "remove", "test"))
        steps.append({"op": what, "path": f"/{name}", **({} if what == "remove" else {"value": a_part(r, name)})})
    return steps


def by(w: StateWorld, r: random.Random) -> Author:
    session = w.session(r, 0.9)
    return Author(session, r.choice((session, "ann", None)), r.choice((None, None, "a task")))


def a_guard(w: StateWorld, r: random.Random, key: str) -> Guard | None:
    """Mostly none; else a lease on the key, above it or elsewhere; one that stands, or one of the past."""
    if r.random() < 0.75:
        return None
    leases = [rows for rows in w.leases().values() if r.random() < 0.3 or f"{key}/".startswith(rows[0].path)]
    if leases and r.random() < 0.75:
        rows = r.choice(leases)
        guard = Guard(rows[0].id, rows[0].session, rows[0].token, tuple(row.path for row in rows))
        w.guards.append(guard)
    elif w.guards:
        guard = r.choice(w.guards[-10:])
    else:
        return None
    return guard._replace(token=guard.token - 1) if r.random() < 0.05 else guard


def an_edit(w: StateWorld, r: random.Random, act: str, key: str | None = None) -> Edit:
    key = key or w.key(r, 0.7 if act == "put" else 0.9)
    policy = r.choice(POLICIES)
    reducers = r.choice(REDUCERS) if policy == "reduce" and r.random() < 0.85 else None
    body = None if act == "delete" else bodies.encode(a_value(r) if act == "put" else a_patch(r))
    expected = an_expected(w, r, key)
    return Edit(key, act, body, expected, policy, reducers, a_guard(w, r, key), r.random() < 0.35, r.random() < 0.3)


def an_expected(w: StateWorld, r: random.Random, key: str) -> int | None:
    newest, what = w.version(key), r.random()
    if what < 0.25:
        return None
    if what < 0.5:
        return newest
    if what < 0.55:
        return newest + 1
    if what < 0.62:
        return 0
    return max(0, newest - r.choice((1, 1, 2, 3, 6)))


# writing


@_op(12)
def _put(w: StateWorld, r: random.Random) -> Command | None:
    return _write(w, r, an_edit(w, r, "put"))


@_op(8)
def _patch(w: StateWorld, r: random.Random) -> Command | None:
    return _write(w, r, an_edit(w, r, "patch"))


@_op(4)
def _delete(w: StateWorld, r: random.Random) -> Command | None:
    return _write(w, r, an_edit(w, r, "delete"))


@_op(6)
def _put_many(w: StateWorld, r: random.Random) -> Command | None:
    acts = r.choices(("put", "put", "patch", "delete"), k=r.choice((2, 3, 4)))
    keys = r.sample(sorted(set(KEYS)), len(acts)) if r.random() < 0.93 else ["a/x"] * len(acts)
    edits = [an_edit(w, r, act, key) for act, key in zip(acts, keys, strict=True)]
    if r.random() < 0.6:  # else mostly one of them is refused
        edits = [edit._replace(expected=w.version(edit.key), fence=None, force=True, missing_ok=True) for edit in edits]
        edits = [edit._replace(act="put", body=bodies.encode(a_value(r))) if edit.act == "patch" else edit for edit in edits]
    return _write(w, r, *edits)


@_op(3)
def _put_again(w: StateWorld, r: random.Random) -> Command | None:
    """The same document, whatever stands there."""
    key = "a/x" if r.random() < 0.8 else "b"
    return _write(w, r, Edit(key, "put", bodies.encode(a_value(r)), None, None, None, None, True))


@_op(5)
def _ask(w: StateWorld, r: random.Random) -> Command | None:
    """Stale on purpose."""
    key = w.key(r, 1.0)
    edit = an_edit(w, r, r.choice(("put", "put", "patch", "delete")), key)
    return _write(w, r, edit._replace(policy="ask", expected=max(0, w.version(key) - 1), fence=None, force=True))


@_op(1)
def _ask_many(w: StateWorld, r: random.Random) -> Command | None:
    keys = r.sample(sorted(w.mirror.rows(DOCUMENT)), min(3, len(w.mirror.rows(DOCUMENT))))
    edits = [an_edit(w, r, "put", key) for key in keys]
    stale = [
        edit._replace(policy="ask", expected=w.version(edit.key) - (r.random() < 0.8), fence=None, force=True) for edit in edits
    ]
    return _write(w, r, *stale) if len(stale) > 1 else None


@_op(1)
def _append(w: StateWorld, r: random.Random) -> Command | None:
    """Behind a list as it is, or was."""
    row = w.mirror.rows(DOCUMENT).get("b")
    before = w.mirror.rows(DOCUMENT_CHANGE).get(("b", row.version - 1)) if row is not None else None
    base = before if before is not None and r.random() < 0.6 else row
    value = w.value(base)
    was = value.get("log", []) if isinstance(value, dict) else []
    body = bodies.encode({"log": [*(was if isinstance(was, list) else []), r.choice((1, 2, 3))][:6]})
    return _write(w, r, Edit("b", "put", body, base.version if base is not None else None, "merge", None, None, True))


@_op(5)
def _merge(w: StateWorld, r: random.Random) -> Command | None:
    """Stale on purpose, and with changes in other places, often."""
    key = w.key(r, 1.0)
    edit = an_edit(w, r, r.choice(("put", "patch")), key)
    return _write(
        w, r, edit._replace(policy="merge", expected=max(0, w.version(key) - r.choice((1, 1, 2))), fence=None, force=True)
    )


@_op(5)
def _merge_fields(w: StateWorld, r: random.Random) -> Command | None:
    """A field of its own, made from an earlier version: mostly it can be merged."""
    key = w.key(r, 1.0)
    row = w.mirror.rows(DOCUMENT_CHANGE).get((key, w.version(key) - 1))
    was = w.value(row)
    if row is None or not isinstance(was, dict):
        return None
    value = bodies.encode({**was, r.choice(("w", "v")): r.choice((1, 2)), "log": ["late"]})
    return _write(w, r, Edit(key, "put", value, row.version, "merge", None, None, True))


def _write(w: StateWorld, r: random.Random, *edits: Edit) -> Command:
    return Command("state.write", Write(w.fresh(r, "c"), edits, by(w, r)))


@_op(4)
def _revert(w: StateWorld, r: random.Random) -> Command | None:
    key = w.key(r, 0.95)
    kept = [version for one, version in sorted(w.mirror.rows(DOCUMENT_CHANGE)) if one == key]
    version = r.choice(kept) if kept and r.random() < 0.8 else max(1, w.version(key) + r.choice((-5, -1, 0, 1)))
    expected = None if r.random() < 0.6 else an_expected(w, r, key)
    return Command("snapshots.revert", Revert(key, version, by(w, r), expected, a_guard(w, r, key), r.random() < 0.5))


# policies and conflicts


@_op(3)
def _set_policy(w: StateWorld, r: random.Random) -> Command | None:
    prefix = r.choice(PREFIXES)
    if r.random() < 0.35:
        known = sorted(w.mirror.rows(STATE_POLICY))
        return Command("state_policies.set_policy", SetPolicy(r.choice(known) if known and r.random() < 0.8 else prefix, None, {}))
    policy = r.choice(("reject", "last_writer", "merge", "reduce", "ask"))
    return Command("state_policies.set_policy", SetPolicy(prefix, policy, r.choice(REDUCERS) if policy == "reduce" else {}))


@_op(5)
def _decide(w: StateWorld, r: random.Random) -> Command | None:
    opened = sorted(w.mirror.rows(CONFLICT))
    if not opened and r.random() < 0.8:
        return None
    id = r.choice(opened) if opened and r.random() < 0.93 else "c-none"
    conflict = w.mirror.rows(CONFLICT).get(id)
    key = conflict.key if conflict is not None else "a"
    how = r.choice(("mine", "mine", "theirs", "value"))
    body = bodies.encode(a_value(r)) if how == "value" else None
    expected = None if r.random() < 0.5 else an_expected(w, r, key)
    return Command("open_conflicts.decide", Decide(id, how, body, by(w, r), expected, a_guard(w, r, key), r.random() < 0.6))


# snapshots


@_op(4)
def _take(w: StateWorld, r: random.Random) -> Command | None:
    free = [name for name in NAMES if name not in w.mirror.rows(SNAPSHOT)]
    name = r.choice(free) if free and r.random() < 0.9 else r.choice(NAMES)
    return Command("snapshots.take", Take(name, r.choice(PREFIXES), "", by(w, r)))


@_op(2)
def _drop(w: StateWorld, r: random.Random) -> Command | None:
    return Command("snapshots.drop", Drop(_name(w, r)))


@_op(3)
def _look_through(w: StateWorld, r: random.Random) -> Command | None:
    """What a restore does first, outside of any transaction."""
    name = _name(w, r)
    taken = w.mirror.rows(SNAPSHOT).get(name)
    if taken is not None:
        prefix = taken.prefix if r.random() < 0.7 else r.choice(PREFIXES)
        keys = tuple(row.key for row in _at(w, prefix) if row.number > taken.number)
        w.looks.append(Look(name, prefix, w.newest_event(), keys))
    return None


@_op(5)
def _restore(w: StateWorld, r: random.Random) -> Command | None:
    """With what was seen a moment ago; or in slices, with what is there."""
    author, force = by(w, r), r.random() < 0.7
    if w.looks and r.random() < 0.7:
        look = r.choice(w.looks[-3:])
        assert len(look.keys) <= AT_ONCE
        return Command("snapshots.restore", Restore(look.name, look.prefix, look.keys, look.seen, author, force))
    prefix = r.choice(PREFIXES)
    keys = [row.key for row in _at(w, prefix)]
    return Command(
        "snapshots.restore", Restore(_name(w, r), prefix, tuple(r.sample(keys, min(2, len(keys)))), None, author, force)
    )  # fmt: skip


def _at(w: StateWorld, prefix: str) -> list[DocumentRow]:
    rows = [row for _, row in sorted(w.mirror.rows(DOCUMENT).items())]
    return [row for row in rows if not prefix or f"{row.key}/".startswith(f"{prefix}/")]


def _name(w: StateWorld, r: random.Random) -> str:
    known = sorted(w.mirror.rows(SNAPSHOT))
    return r.choice(known) if known and r.random() < 0.93 else r.choice(NAMES)


# fences


@_op(6)
def _lock(w: StateWorld, r: random.Random) -> Command | None:
    """A lease of one or two paths, mostly as it wants to be for writing."""
    paths = sorted({f"{r.choice(KEYS)}/" for _ in range(r.choice((1, 1, 2)))})
    wants = tuple(Want(path, r.choice(("X", "X", "X", "S", "IX"))) for path in paths)
    return Command("locks.acquire", Acquire(w.fresh(r, "l"), w.session(r, 0.95), wants, False, 5.0))
