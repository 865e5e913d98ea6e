"""Deadlocks: each new waiter is checked for a cycle, and one of its waiters is refused.

Edges run from a request to what excludes it (held by others, or asked for before it); from a lock to the requests that are made
inside its block, to the other requests of its owner, and to those of the children that its handler waits for. The search goes
against the edges, from the new waiter: whoever cannot go on before it. That is a few rows, however much is held.

Source: waits-for graphs and victims, J. Gray and A. Reuter, "Transaction Processing", 1993, section 7.11.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from ..settings import Settings
from . import bodies, events, lock_queue
from .events import Kind
from .lock_modes import ancestors, conflicts, shown
from .lock_queue import Request, end_of, wants_of
from .sessions import is_live
from .store import Range, Rows
from .tables import LOCK_HELD, LOCK_WAIT, TASK, LockHeldRow, LockWaitRow

Node = LockHeldRow | LockWaitRow


def stored(within: Sequence[tuple[str, str]]) -> str | None:
    """The locks that a request is made inside of, as they stand in its row."""
    return bodies.encode([list(one) for one in within]) if within else None


def break_cycles(rows: Rows, request: Request, now: float, policy: Settings) -> tuple[str, ...] | None:
    """Refuse one waiter of each cycle that a new waiter closes; the answer is the cycle, if that one is the new waiter itself."""
    while True:
        new = rows.one(LOCK_WAIT, (request.wants[0].path, request.id))
        if new is None:  # granted, since another was refused
            return None
        cycle = find(rows, new)
        if cycle is None:
            return None
        victim = min((one for one in cycle if isinstance(one, LockWaitRow)), key=_worth)
        words = _words(cycle)
        events.append(
            rows, now, Kind.RESOURCE_DEADLOCKED, shown(victim.path), victim.session, events.facts(victim=victim.id, cycle=words)
        )
        lock_queue.leave(rows, victim)
        if victim.id == new.id:
            return words
        lock_queue.admit(rows, [want.path for want in wants_of(victim)], now, policy)


def _worth(row: LockWaitRow) -> tuple[float, float, int]:
    """The lowest priority is refused first, of these the youngest."""
    return row.priority, -row.born, -row.arrived


def find(rows: Rows, new: LockWaitRow) -> list[Node] | None:
    """The cycle that a waiter closes: it waits for the first of the others, that one for the next, the last one for it."""
    request = Request.of(new)
    follows: dict[tuple[str, ...], Node | None] = {_name(new): None}
    front: list[Node] = [new]
    while front:
        node = front.pop(0)
        for behind in _waits_for(rows, node):
            if _name(behind) in follows:
                continue
            follows[_name(behind)] = node
            if _stops(request, behind):
                return _walk(new, behind, follows)
            front.append(behind)
    return None


def _name(node: Node) -> tuple[str, ...]:
    return ("held", node.path, node.id) if isinstance(node, LockHeldRow) else ("waits", node.id)


def _walk(new: LockWaitRow, first: Node, follows: dict[tuple[str, ...], Node | None]) -> list[Node]:
    cycle: list[Node] = [new]
    node: Node | None = first
    while node is not None and _name(node) != _name(new):
        cycle.append(node)
        node = follows[_name(node)]
    return cycle


def _stops(request: Request, node: Node) -> bool:
    """Whether the request waits for this very lock, or behind this very waiter."""
    if request.is_mine(node):
        return False
    if isinstance(node, LockHeldRow):
        return any(conflicts(want.mode, want.path, node.mode, node.path) for want in request.wants)
    if request.comes_before(node):
        return False
    return any(conflicts(want.mode, want.path, other.mode, other.path) for want in request.wants for other in wants_of(node))


def _waits_for(rows: Rows, node: Node) -> Iterator[Node]:
    """Whoever cannot go on before this node."""
    if isinstance(node, LockHeldRow):
        yield from _excluded(rows, node)
        return
    yield from _enclosing(rows, node)
    for want in wants_of(node):
        for row in _waiters_around(rows, want.path):
            if not Request.of(row).is_mine(node) and Request.of(node).comes_before(row) and _meets(row, want.mode, want.path):
                yield row


def _excluded(rows: Rows, held: LockHeldRow) -> Iterator[LockWaitRow]:
    for row in _waiters_around(rows, held.path):
        if not Request.of(row).is_mine(held) and _meets(row, held.mode, held.path):
            yield row


def _meets(row: LockWaitRow, mode: str, path: str) -> bool:
    return conflicts(row.mode, row.path, mode, path) and row.mode != ""


def _waiters_around(rows: Rows, path: str) -> Iterator[LockWaitRow]:
    for place in (path, *ancestors(path)):
        yield from _live(rows, rows.scan(Range(LOCK_WAIT, "by_place", (place,))))
    yield from _live(rows, rows.scan(Range(LOCK_WAIT, "key", (), low=path + "\x01", high=end_of(path))))


def _live(rows: Rows, found: Sequence[LockWaitRow]) -> Iterator[LockWaitRow]:
    return (row for row in found if is_live(rows, row.session))


def _enclosing(rows: Rows, row: LockWaitRow) -> Iterator[LockHeldRow]:
    """The locks that are not released before this request is answered."""
    if row.within is not None:
        yield from (one for one in rows.get(LOCK_HELD, [tuple(key) for key in bodies.decode(row.within)]) if one is not None)
    if row.owner is not None:
        yield from rows.scan(Range(LOCK_HELD, "by_owner", (row.owner,)))
    task = rows.one(TASK, row.task) if row.task is not None else None
    while task is not None and task.parent is not None:
        yield from rows.scan(Range(LOCK_HELD, "by_task", (task.parent,)))
        task = rows.one(TASK, task.parent)


def _words(cycle: Sequence[Node]) -> tuple[str, ...]:
    """The cycle for people, from the new waiter on."""
    return tuple(
        f"{who(node)} {'holds' if isinstance(node, LockHeldRow) else 'waits for'} {node.mode} on {shown(node.path)}"
        for node in cycle
    )


def who(row: Node) -> str:
    """Whose a lock or a request is, for people."""
    if row.task is not None:
        return f"task {row.task}"
    return row.owner if row.owner is not None else f"session {row.session}"
