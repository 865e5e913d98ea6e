"""Deadlocks: each new waiter, and each new lock that passed somebody, is checked for a cycle; one of its waiters is refused.

Edges run from a request to what excludes it (held by others, or asked for before it); from a lock to the requests that are made
inside its block, to the other requests of its owner, and to those of the children of its handler's claim. The search goes against
the edges, from what is new: whoever cannot go on before it. That is a few rows, however much is held.

Source: waits-for graphs and victims, J. Gray and A. Reuter, "Transaction Processing", 1993, section 7.11.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress

from . import bodies, events, lock_queue
from .events import Kind
from .lock_modes import ancestors, conflicts, shown
from .lock_queue import FIRST, Grant, Request, end_of, of_one_party, wants_of
from .sessions import is_live
from .store import NotLoaded, Range, Rows
from .tables import LOCK_HELD, LOCK_WAIT, QUEUE, LockHeldRow, LockWaitRow

Node = LockHeldRow | LockWaitRow
FEW = 256
"""Waiters that are read as a whole."""


def stored(within: Sequence[tuple[str, str]]) -> str | None:
    """The locks that a request is made inside of, as they stand in its row."""
    return bodies.encode([list(one) for one in within]) if within else None


def break_cycles(rows: Rows, new: Sequence[Node], now: float) -> dict[str, tuple[str, ...]]:
    """Refuse one waiter of each cycle that runs through what is new; the answer has the cycles, by the refused request.

    Who was kept waiting by a refused one is granted, and looked at in turn.
    """
    refused: dict[str, tuple[str, ...]] = {}
    todo = list(new)
    while todo:
        cycle = find(rows, todo[0]) if _stands(rows, todo[0]) else None
        if cycle is None:
            del todo[0]
            continue
        victim = min((one for one in cycle if isinstance(one, LockWaitRow)), key=_worth)
        refused[victim.id] = words = _words(cycle)
        data = events.facts(victim=victim.id, cycle=words)
        events.append(rows, now, Kind.RESOURCE_DEADLOCKED, shown(victim.path), victim.session, data)
        lock_queue.leave(rows, victim)
        todo += suspects(rows, lock_queue.admit(rows, [want.path for want in wants_of(victim)], now))
    return refused


def admit(rows: Rows, paths: Sequence[str], now: float) -> None:
    """Something at these paths is free: grant what fits, and refuse who waits in a circle since."""
    granted = lock_queue.admit(rows, paths, now)
    if granted:
        break_cycles(rows, suspects(rows, granted), now)


def suspects(rows: Rows, granted: Sequence[Grant]) -> list[Node]:
    """Those of the locks just granted inside of which somebody may be waiting already: a grant closes a cycle only there.

    Who waits for a lock that passed it, by a better rank or as a conversion, waits for another than before.
    """
    if lock_queue.waiting(rows) == 0:
        return []
    return [row for grant in granted for row in grant.rows if not grant.is_new or row.owner is not None or _has_children(rows, row)]


def _has_children(rows: Rows, held: LockHeldRow) -> bool:
    task = rows.one(QUEUE, held.task) if held.task is not None else None
    return task is not None and task.children > 0


def _stands(rows: Rows, node: Node) -> bool:
    """Whether it is still there: it may have been granted, or refused, since."""
    key = node.path, node.id
    return (rows.one(LOCK_HELD, key) if isinstance(node, LockHeldRow) else rows.one(LOCK_WAIT, key)) is not None


def _worth(row: LockWaitRow) -> tuple[float, float, int]:
    """The lowest priority is refused first, of these the youngest."""
    return row.priority, -row.born, -row.arrived


def find(rows: Rows, new: Node) -> list[Node] | None:
    """A cycle through a node: it waits for the first of the others, that one for the next, the last one for it."""
    if isinstance(new, LockWaitRow) and not _is_awaited(rows, new):
        return None
    line = Line(rows)
    follows: dict[tuple[str, ...], Node | None] = {_name(new): None}
    front = deque([new])
    try:
        while front:
            node = front.popleft()
            for behind in _waits_for(line, node):
                if _name(behind) == _name(new):
                    return _walk(node, follows)
                if _name(behind) not in follows:
                    follows[_name(behind)] = node
                    front.append(behind)
    except NotLoaded:
        line.expect(new)
        raise
    return None


def _is_awaited(rows: Rows, new: LockWaitRow) -> bool:
    """Whether anybody can be waiting for a new request: for a lock that it is made inside of, or behind it, having come before.

    Mostly not: it is the last in the line, and nothing is held up by it. That costs the same however many wait.
    """
    ranges = [range for want in wants_of(new) for range in lock_queue.behind(want, new.rank)]
    try:
        return next(_enclosing(rows, new), None) is not None or any(rows.scan(range) for range in ranges)
    except NotLoaded:
        for range in ranges:
            with suppress(NotLoaded):
                rows.scan(range)
        raise


class Line:
    """All who wait, as a search sees them: read as a whole while they are few."""

    def __init__(self, rows: Rows) -> None:
        self.rows = rows
        self._all = rows.scan(Range(LOCK_WAIT, "key")) if lock_queue.waiting(rows) <= FEW else None

    def around(self, path: str) -> Iterable[LockWaitRow]:
        """At a path, above it and below it."""
        if self._all is not None:
            return (row for row in self._all if row.path.startswith(path) or path.startswith(row.path))
        ranges = [Range(LOCK_WAIT, "by_place", (place,)) for place in (path, *ancestors(path))]
        ranges.append(Range(LOCK_WAIT, "key", (), path + "\x01", end_of(path)))
        return (row for range in ranges for row in self.rows.scan(range))

    def expect(self, new: Node) -> None:
        """Ask at once for what a search may come by: a store that loads in rounds needs a few, not one for each step."""
        for row in [new] if self._all is None else self._all:
            with suppress(NotLoaded):
                is_live(self.rows, row.session)
                if isinstance(row, LockWaitRow):
                    list(_enclosing(self.rows, row))


def _name(node: Node) -> tuple[str, ...]:
    return ("held", node.path, node.id) if isinstance(node, LockHeldRow) else ("waits", node.id)


def _walk(first: Node, follows: dict[tuple[str, ...], Node | None]) -> list[Node]:
    """From the new node on, which waits for ``first``."""
    cycle: list[Node] = []
    node: Node | None = first
    while node is not None:
        cycle.append(node)
        node = follows[_name(node)]
    return [cycle[-1], *cycle[:-1]]


def _waits_for(line: Line, node: Node) -> Iterator[Node]:
    """Whoever cannot go on before this node."""
    if isinstance(node, LockHeldRow):
        yield from _excluded(line, node, node.mode, node.path)
        return
    yield from _enclosing(line.rows, node)
    request = Request.of(node)
    for path, mode in request.wants:
        for row in _excluded(line, node, mode, path):
            if row.rank != FIRST and request.comes_before(row):
                yield row


def _excluded(line: Line, node: Node, mode: str, path: str) -> Iterator[LockWaitRow]:
    """The requests of others that conflict with this right of a node."""
    for row in line.around(path):
        if not of_one_party(row, node) and conflicts(row.mode, row.path, mode, path) and is_live(line.rows, row.session):
            yield row


def _enclosing(rows: Rows, row: LockWaitRow) -> Iterator[LockHeldRow]:
    """The locks that are not released before this request is answered."""
    held: list[LockHeldRow | None] = []
    if row.within is not None:
        held += rows.get(LOCK_HELD, [tuple(key) for key in bodies.decode(row.within)])
    if row.owner is not None:
        held += [one for one in rows.scan(Range(LOCK_HELD, "by_owner", (row.owner,))) if of_one_party(row, one)]
    if row.task is not None:
        held += _of_parents(rows, row.task)
    yield from (one for one in held if one is not None and is_live(rows, one.session))


def _of_parents(rows: Rows, task: str) -> Iterator[LockHeldRow]:
    """What the handlers hold that wait for this task, by their present claims; not who sent it as a message: that one goes on."""
    child = rows.one(QUEUE, task)
    while child is not None and child.parent is not None:
        held = rows.scan(Range(LOCK_HELD, "by_task", (child.parent,)))
        child = rows.one(QUEUE, child.parent)
        if child is not None:
            claim = child.session, child.attempt
            yield from (one for one in held if (one.session, one.attempt) == claim)


def _words(cycle: Sequence[Node]) -> tuple[str, ...]:
    """The cycle for people, from what closed it on."""
    return tuple(
        f"{who(node)} {'holds' if isinstance(node, LockHeldRow) else 'waits for'} {node.mode} on {shown(node.path)}"
        for node in cycle
    )


def who(row: Node) -> str:
    """Whose a lock or a request is, for people."""
    if row.task is not None:
        return f"task {row.task}"
    return row.owner if row.owner is not None else f"session {row.session}"
