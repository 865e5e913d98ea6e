"""Locks on paper: what is held and who waits at one moment, and what follows from it by brute force, without the rules' own words.

Source of the table: J. Gray et al., "Granularity of Locks and Degrees of Consistency in a Shared Data Base", 1976, table 1.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from autogen_coord.core.lock_queue import FIRST
from autogen_coord.core.tables import LockHeldRow, LockWaitRow, QueueRow, TaskState

GRAY = {
    #       IS    IX    S     SIX   X
    "IS": "yes   yes   yes   yes   no",
    "IX": "yes   yes   no    no    no",
    "S": "yes   no    yes   no    no",
    "SIX": "yes   no    no    no    no",
    "X": "no    no    no    no    no",
}
INTENT = {"IS": "IS", "IX": "IX", "S": "IS", "SIX": "IX", "X": "IX"}
RIGHTS = {
    "IS": {"read some"},
    "IX": {"read some", "write some"},
    "S": {"read some", "read all"},
    "SIX": {"read some", "write some", "read all"},
    "X": {"read some", "write some", "read all", "write all"},
}
Key = tuple[str, str]


def together(one: str, other: str) -> bool:
    return GRAY[one].split()[list(GRAY).index(other)] == "yes"


def least(one: str, other: str) -> str:
    """The weakest mode with the rights of both."""
    return min((mode for mode in RIGHTS if RIGHTS[mode] >= RIGHTS[one] | RIGHTS[other]), key=lambda mode: len(RIGHTS[mode]))


def clash(mode: str, path: str, other: str, place: str) -> bool:
    """Whether two rights exclude each other: where the upper one stands, the lower one shows as its intent."""
    here, there = path.rstrip("/").split("/"), place.rstrip("/").split("/")
    if here == there:
        return not together(mode, other)
    if there[: len(here)] == here:
        return not together(mode, INTENT[other])
    return here[: len(there)] == there and not together(INTENT[mode], other)


def gives(mode: str, place: str, path: str) -> set[str]:
    """What a lock allows at a path: at its own all its rights, below only what it has of everything."""
    here, there = path.rstrip("/").split("/"), place.rstrip("/").split("/")
    if here == there:
        return RIGHTS[mode]
    if here[: len(there)] != there:
        return set()
    if "write all" in RIGHTS[mode]:
        return RIGHTS["X"]
    return RIGHTS["S"] if "read all" in RIGHTS[mode] else set()


class Asks(NamedTuple):
    """A request that waits, whole."""

    id: str
    wants: tuple[tuple[str, str], ...]
    row: LockWaitRow

    @property
    def lease(self) -> str:
        """Whose rows it becomes."""
        return self.row.converts or self.id

    @property
    def place(self) -> tuple[float, int]:
        return self.row.rank, self.row.arrived

    @property
    def worth(self) -> tuple[float, float, int]:
        """Whose is least is refused: the lowest priority, then the youngest task."""
        return self.row.priority, -self.row.born, -self.row.arrived

    @property
    def converts(self) -> bool:
        return self.row.rank == FIRST


Node = LockHeldRow | Asks


def mine(one: Node, other: Node) -> bool:
    """Of one lease, or of one owner; but two attempts of a task are never one."""
    (first, a), (second, b) = ((node.lease, node.row if isinstance(node, Asks) else node) for node in (one, other))
    attempts = a.task is not None and a.task == b.task and a.attempt != b.attempt
    return first == second or (a.owner is not None and a.owner == b.owner and not attempts)


class Paper:
    """What is held and who waits, at one moment within a command."""

    def __init__(
        self,
        held: Iterable[LockHeldRow],
        waits: Iterable[LockWaitRow],
        queue: Mapping[str, QueueRow],
        lives: Callable[[str], bool],
    ) -> None:
        self.held: dict[Key, LockHeldRow] = {(row.path, row.id): row for row in held}
        self.waits: dict[str, Asks] = {}
        self.queue = queue
        self.lives = lives
        for row in waits:
            self.waits.setdefault(row.id, Asks(row.id, tuple((path, mode) for path, mode in json.loads(row.wants)), row))

    # who excludes whom

    def holders(self, asks: Asks, dead: bool = False) -> list[LockHeldRow]:
        """Who holds what excludes it; with ``dead``, also those whose session is dead and not buried."""
        out = []
        for held in self.held.values():
            if not mine(asks, held) and (dead or self.lives(held.session)):
                if any(clash(mode, path, held.mode, held.path) for path, mode in asks.wants):
                    out.append(held)
        return out

    def earlier(self, asks: Asks, dead: bool = False) -> list[Asks]:
        """Behind whom it waits: conversions behind nobody."""
        if asks.converts:
            return []
        return [other for other in self.waits.values() if other.place < asks.place and self.excludes(asks, other, dead)]

    def excludes(self, asks: Asks, other: Asks, dead: bool = False) -> bool:
        if mine(asks, other) or not (dead or self.lives(other.row.session)):
            return False
        return any(clash(mode, path, theirs, place) for path, mode in asks.wants for place, theirs in other.wants)

    def has_it(self, asks: Asks) -> bool:
        """Whether its owner holds already all that it asks for: then it is not asked to stand in line."""
        own = [row for row in self.held.values() if row.owner is not None and mine(asks, row) and self.lives(row.session)]
        return all(any(gives(row.mode, row.path, path) >= RIGHTS[mode] for row in own) for path, mode in asks.wants)

    def blocked(self, asks: Asks, dead: bool = False) -> bool:
        return bool(self.holders(asks, dead) or self.earlier(asks, dead))

    # circles

    def follows(self, node: Node) -> list[Node]:
        """For whom a node waits: a request for holders and earlier ones, a lock for the requests inside it."""
        if isinstance(node, Asks):
            return [*self.holders(node), *self.earlier(node)]
        return [asks for asks in self.waits.values() if self.lives(asks.row.session) and self.is_inside(asks, node)]

    def is_inside(self, asks: Asks, held: LockHeldRow) -> bool:
        inside = [tuple(key) for key in json.loads(asks.row.within or "[]")]
        if (held.path, held.id) in inside or mine(asks, held):
            return True
        child = self.queue.get(asks.row.task) if asks.row.task is not None else None
        while child is not None and child.parent is not None:
            parent = self.queue.get(child.parent)
            if parent is not None and (held.task, held.attempt, held.session) == (parent.id, parent.attempt, parent.session):
                return parent.state == TaskState.RUNNING
            child = parent
        return False

    def circle(self, but: Sequence[str] = (), through: str | None = None) -> list[Node] | None:
        """Some circle (through one request, if it is named) without those left out."""
        nodes: list[Node] = [asks for asks in self.waits.values() if asks.id not in but and self.lives(asks.row.session)]
        for start in nodes if through is None else [self.waits[through]]:
            came: dict[Any, Node | None] = {_name(start): None}
            front = [start]
            while front:
                node = front.pop()
                for other in self.follows(node):
                    if _name(other) == _name(start):
                        return [start, node]
                    if _name(other) not in came and not (isinstance(other, Asks) and other.id in but):
                        came[_name(other)] = node
                        front.append(other)
        return None

    def is_circle(self, words: Sequence[str], victim: str) -> bool:
        """Whether the words name a circle that there is, with the victim in it."""
        every: list[Node] = [*self.held.values(), *self.waits.values()]
        named = [[node for node in every if word in list(_words(node))] for word in words]
        for start in named[0] if words else []:
            ways = [[start]]
            for some in named[1:]:
                ways = [[*way, node] for way in ways for node in self.follows(way[-1]) if node in some][:500]
            for way in ways:
                if start in self.follows(way[-1]) and any(isinstance(node, Asks) and node.id == victim for node in way):
                    return True
        return False


def text(value: Any) -> str:
    return json.dumps(value, separators=(",", ":"))


def _name(node: Node) -> Any:
    return node.id if isinstance(node, Asks) else (node.path, node.id)


def _words(node: Node) -> Iterator[str]:
    row = node.row if isinstance(node, Asks) else node
    who = f"task {row.task}" if row.task is not None else row.owner if row.owner is not None else f"session {row.session}"
    if isinstance(node, Asks):
        yield from (f"{who} waits for {mode} on {path.rstrip('/')}" for path, mode in node.wants)
    else:
        yield f"{who} holds {row.mode} on {row.path.rstrip('/')}"
