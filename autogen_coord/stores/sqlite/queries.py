"""The statements of each table, read from ``queries/<table>.sql``: blocks that begin with ``-- name: <name>``."""

from __future__ import annotations

import re
import typing
from collections.abc import Iterator, Sequence
from functools import cache
from importlib import resources
from typing import Any, TypeVar

from ...core.store import Range, Table

T = TypeVar("T")
SIZES = (1, 4, 16, 64, 256)
"""How many keys one load binds: few sizes, so that the driver's cache of prepared statements serves them all."""

MOST_FORMS = 256
"""How many forms of a table's insert and update, by their NULLs, are kept."""

_NAME = re.compile(r"^-- name: (\w+)\n", re.MULTILINE)


def blocks(noun: str) -> dict[str, str]:
    """The named blocks of one file."""
    text = resources.files(__package__).joinpath("queries", f"{noun}.sql").read_text(encoding="utf-8")
    _, *parts = _NAME.split(text)
    return dict(zip(parts[::2], (part.strip().rstrip(";") for part in parts[1::2]), strict=True))


class Statements:
    """One table's statements. A row binds as ``(namespace, *row)``, for an update as ``(*rest, namespace, *key)``."""

    def __init__(self, table: Table[Any]) -> None:
        named = blocks(table.name)
        marks = ", ".join("?" * len(table.key_columns))
        one = f"({marks})" if len(table.key_columns) > 1 else marks
        self.load = {size: named["load"].replace(":keys", ", ".join([one] * size)) for size in SIZES}
        filled = named.get("filled")
        self.filled = {size: filled.replace(":ranges", ", ".join(["(?, ?)"] * size)) for size in SIZES} if filled else {}
        """Which ranges of keys have a row, by how many are asked about; not every table is asked that."""
        self.insert, self.update, self.delete = named["insert"], named["update"], named["delete"]
        self.keys = len(table.key_columns)
        self._with_nulls: dict[tuple[bool, tuple[bool, ...]], str] = {}
        self._walks = {(name, back): named[f"walk_{name}{'_desc' * back}"] for name in table.indexes for back in (False, True)}
        self._lowest = {name: _lowest(table, shape.first) for name, shape in table.shapes.items()}

    def insert_of(self, nulls: tuple[bool, ...]) -> str:
        """The insert of rows in which just these columns are NULL; the others are bound."""
        return self._with_nulls.get((True, nulls)) or self._derive(True, self.insert, (False, *nulls), nulls)

    def update_of(self, nulls: tuple[bool, ...]) -> str:
        """The same for an update; ``nulls`` are the columns behind the key."""
        return self._with_nulls.get((False, nulls)) or self._derive(False, self.update, nulls, nulls)

    def _derive(self, insert: bool, sql: str, marks: tuple[bool, ...], nulls: tuple[bool, ...]) -> str:
        if len(self._with_nulls) >= MOST_FORMS:
            self._with_nulls.clear()
        parts = sql.split("?")
        filled = [("NULL" if place < len(marks) and marks[place] else "?") + part for place, part in enumerate(parts[1:])]
        derived = self._with_nulls[insert, nulls] = parts[0] + "".join(filled)
        return derived

    def walk(self, namespace: str, range: Range[Any]) -> tuple[str, tuple[Any, ...]]:
        """A range as a statement and its values. In SQLite's order every number and text is below the empty blob."""
        low = self._lowest[range.index] if range.low is None else range.low
        high = b"" if range.high is None else range.high
        limit = -1 if range.limit is None else range.limit
        return self._walks[range.index, range.reverse], (namespace, *range.prefix, low, high, limit)


def _lowest(table: Table[Any], place: int) -> str | float:
    """What no value of the column is below."""
    kind = typing.get_type_hints(table.row)[table.columns[place]]
    return "" if str in (kind, *typing.get_args(kind)) else float("-inf")


def chunks(values: Sequence[T]) -> Iterator[tuple[list[T], int]]:
    """The values as such a load binds them, and its size: what is missing to it repeats the last."""
    for start in range(0, len(values), SIZES[-1]):
        chunk = values[start : start + SIZES[-1]]
        size = next(size for size in SIZES if size >= len(chunk))
        yield [*chunk, *[chunk[-1]] * (size - len(chunk))], size


@cache
def statements(table: Table[Any]) -> Statements:
    return Statements(table)
