"""The port: what the rules need of a database, and nothing else.

A **table** is a row type (a ``NamedTuple``), its key, and its indexes. Rows of one **namespace** are all that a `Store` shows.
All writes pass through `Store.transact`: *take the writer lock, read the store's clock, fold, write the changed rows, commit*.
The fold sees `Rows`; it decides everything, and runs again from unchanged rows when the store says so (`NotLoaded`).

A key is the value of the key column, or a tuple where a key has several columns. Text compares by code point (C order).
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Collection, Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from operator import itemgetter
from typing import Any, Generic, NamedTuple, Protocol, TypeVar, cast

R = TypeVar("R", bound=tuple[Any, ...])
T = TypeVar("T")
Item = TypeVar("Item")
Key = Any


@dataclass(frozen=True, eq=False)
class Index:
    """One way to walk a table: rows with the same ``equal`` columns, in the order of the ``order`` columns, then the key.

    ``where`` names a column that must not be NULL for a row to stand in the index, or (column, value), a column that must have
    that value, or (column, values), one of these.
    """

    name: str
    equal: tuple[str, ...] = ()
    order: tuple[str, ...] = ()
    where: str | tuple[str, Any] | None = None


class Table(Generic[R]):
    """A row type with its key and indexes. The first columns of ``row`` are the key; the index ``key`` walks all rows."""

    def __init__(self, name: str, row: type[R], key: int = 1, indexes: tuple[Index, ...] = ()) -> None:
        self.name = name
        self.row = row
        self.columns: tuple[str, ...] = cast(Any, row)._fields
        self.key_columns = self.columns[:key]
        self.indexes = {index.name: index for index in (Index("key", order=self.key_columns), *indexes)}
        self.key_of: Callable[[Any], Key] = itemgetter(*range(key))

    def __repr__(self) -> str:
        return f"Table({self.name})"

    @cached_property
    def shapes(self) -> dict[str, Shape]:
        return {name: Shape(self, index) for name, index in self.indexes.items()}


class Shape:
    """An index's columns as functions of a row."""

    def __init__(self, table: Table[Any], index: Index) -> None:
        place = {column: number for number, column in enumerate(table.columns)}
        equal = [place[column] for column in index.equal]
        order = [place[column] for column in dict.fromkeys((*index.order, *table.key_columns))]
        self.prefix_of = _columns(equal)
        self.order_of = _columns(order)
        self.first = order[0]
        self.holds_all = index.where is None
        if index.where is None:
            self.holds: Callable[[Any], bool] = lambda row: True
        elif isinstance(index.where, str):
            column = place[index.where]
            self.holds = lambda row: row[column] is not None
        elif isinstance(index.where[1], tuple):
            some, values = place[index.where[0]], frozenset(index.where[1])
            self.holds = lambda row: row[some] in values
        else:
            which, value = place[index.where[0]], index.where[1]
            self.holds = lambda row: bool(row[which] == value)


def _columns(places: Sequence[int]) -> Callable[[Any], tuple[Any, ...]]:
    """A row's values at these places."""
    if not places:
        return lambda row: ()
    if len(places) == 1:
        (place,) = places
        return lambda row: (row[place],)
    return itemgetter(*places)


class Range(NamedTuple, Generic[R]):
    """Rows of an index whose ``equal`` columns are ``prefix`` and whose first order column is in [low, high), in order."""

    table: Table[R]
    index: str  # type: ignore[assignment]  # a field by this name, not tuple.index
    prefix: tuple[Any, ...] = ()
    low: Any = None
    high: Any = None
    limit: int | None = None
    reverse: bool = False


class Keys(NamedTuple, Generic[R]):
    """Rows by their keys."""

    table: Table[R]
    keys: Sequence[Key]


class NotLoaded(Exception):
    """Raised by a store inside a fold: a row is not here yet. The fold stops that command, goes on with the others to learn what
    they miss, and raises it again at its end; the store loads what was missed and folds again from unchanged rows."""


def each(items: Iterable[Item], act: Callable[[Item], object]) -> None:
    """Do something for each. Where one misses a row, the others go on first, so that one round loads what all of them miss.

    Raises: NotLoaded, after the last.
    """
    for_each(items, act)


def for_each(items: Iterable[Item], act: Callable[[Item], T]) -> list[T]:
    """`each`, with what came of it. Raises: NotLoaded, after the last."""
    answers: list[T] = []
    missed: NotLoaded | None = None
    for item in items:
        try:
            answers.append(act(item))
        except NotLoaded as error:
            missed = error
    if missed is not None:
        raise missed
    return answers


class Rows(Protocol):
    """All that a rule sees; set-wise on purpose. Own changes are merged in.

    A store may load in rounds, and has few of them: a rule asks for many with one `get` or `scan_many`, or acts by `each`.

    A row whose key may exist is read before it is put: a blind put is for fresh ids.
    """

    def get(self, table: Table[R], keys: Sequence[Key]) -> list[R | None]: ...
    def one(self, table: Table[R], key: Key) -> R | None: ...
    def scan(self, range: Range[R]) -> list[R]: ...
    def scan_many(self, ranges: Sequence[Range[R]]) -> list[list[R]]: ...
    def put(self, table: Table[R], row: R) -> None: ...
    def drop(self, table: Table[R], row: R) -> None: ...


class Transaction(Rows, Protocol):
    """`Rows` as the line sees them: each command's changes can be taken back."""

    def mark(self) -> int: ...
    def undo(self, mark: int) -> None: ...
    def changes(self) -> list[Change]: ...


class Base(Protocol):
    """What a store gives to `autogen_coord.core.fold.Pending`: its rows as they were when the transaction began."""

    def load(self, table: Table[R], keys: Sequence[Key]) -> list[R | None]: ...
    def walk(self, range: Range[R]) -> list[R]: ...

    def gather(self, ranges: Sequence[Range[Any]]) -> Collection[Range[Any]]:
        """These are walked next: a store that loads in rounds loads them in one. The answer are some of those that have no row."""
        ...


class Change(NamedTuple):
    """One row that a transaction wrote: ``old`` None when new, ``new`` None when dropped."""

    table: Table[Any]
    old: Any
    new: Any


Fold = Callable[[Transaction, float], T]
Load = Range[Any] | Keys[Any]


class Store(Protocol):
    """One namespace of a database. Whoever opened it closes it."""

    namespace: str

    async def transact(self, fold: Fold[T], prefetch: Sequence[Load] = ()) -> T:
        """Run ``fold(rows, now)`` as the only writer and commit what it wrote; ``now`` is the store's clock, in epoch seconds.

        All or nothing. An exception of the fold rolls back and is raised. ``prefetch`` names what the fold will want.

        Raises: StoreUnavailableError after a bounded wait, StoreError for the rest, ConfigError after a fork.
        """
        ...

    def transact_blocking(self, fold: Fold[T]) -> T:
        """The same on the calling thread, on a connection of its own (for beats, and for who cannot await).

        It does not need the loop, so the loop's thread may call it too.
        """
        ...

    async def read(self, *loads: Load) -> list[list[Any]]:
        """One snapshot: a list of rows for each load (for `Keys`, a row or None per key). Does not wait for writers."""
        ...

    def read_blocking(self, *loads: Load) -> list[list[Any]]:
        """The same on the calling thread, on a connection of its own."""
        ...

    async def now(self) -> float:
        """The store's clock, in epoch seconds."""
        ...

    def changes(self, wanted: Callable[[], bool]) -> AsyncIterator[None]:
        """Something was committed by another process (or by a `transact_blocking`). Looks only while ``wanted()``."""
        ...

    async def fill(self, rows: Iterable[tuple[Table[Any], Any]]) -> int:
        """Write fresh rows in bulk, with no rule and no notice: for tests and benchmarks. Returns how many."""
        ...

    async def close(self) -> None: ...
