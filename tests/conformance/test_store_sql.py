"""The committed SQL says the same as the tables of `core`: every column, every index, in the right order, by the right index."""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Iterator
from typing import Any

import pytest

from autogen_coord.core.store import Range, Table
from autogen_coord.core.tables import TABLES
from autogen_coord.stores.sqlite import schema
from autogen_coord.stores.sqlite.queries import SIZES, blocks, statements

each_table = pytest.mark.parametrize("table", TABLES, ids=lambda table: table.name)


@pytest.fixture
def connection() -> Iterator[sqlite3.Connection]:
    connection = sqlite3.connect(":memory:", isolation_level=None)
    schema.create(connection)
    yield connection
    connection.close()


def words(text: str) -> list[str]:
    return [word.strip().strip('"') for word in text.split(",")]


def plan(connection: sqlite3.Connection, sql: str) -> list[str]:
    return [row[3] for row in connection.execute(f"EXPLAIN QUERY PLAN {sql}", [1] * sql.count("?"))]


def by_key(table: Table[Any], step: str) -> bool:
    return " USING PRIMARY KEY " in step or f" USING INDEX sqlite_autoindex_{table.name}_1 " in step


@each_table
def test_a_table_has_the_columns_and_the_key_of_its_row(connection: sqlite3.Connection, table: Table[Any]) -> None:
    columns = connection.execute(f"PRAGMA table_info({table.name})").fetchall()
    assert tuple(column[1] for column in columns) == ("namespace", *table.columns)
    key = sorted((column[5], column[1]) for column in columns if column[5])
    assert tuple(name for _, name in key) == ("namespace", *table.key_columns)


@each_table
def test_the_statements_list_the_columns_of_the_row_in_order(table: Table[Any]) -> None:
    named, rest = blocks(table.name), table.columns[len(table.key_columns) :]
    insert = re.search(r"\((.*?)\) VALUES \((.*?)\)", named["insert"], re.DOTALL)
    assert insert is not None
    assert tuple(words(insert[1])) == ("namespace", *table.columns)
    assert len(words(insert[2])) == len(table.columns) + 1
    update = re.search(r"SET(.*?)WHERE (.*)", named["update"], re.DOTALL)
    assert update is not None
    assert tuple(word.split(" ")[0].strip('"') for word in words(update[1])) == rest
    condition = " AND ".join(f"{column} = ?" for column in ("namespace", *table.key_columns))
    assert update[2] == condition
    assert named["delete"].endswith(f"WHERE {condition}")
    for name, text in named.items():
        if name == "load" or name.startswith("walk_"):
            selected = re.search(r"SELECT(.*?)FROM", text, re.DOTALL)
            assert selected is not None
            assert tuple(words(selected[1])) == table.columns, name


@each_table
def test_every_index_is_walked_both_ways_and_nothing_else_is_there(table: Table[Any]) -> None:
    walks = {f"walk_{name}{end}" for name in table.indexes for end in ("", "_desc")} | ({"filled"} & set(blocks(table.name)))
    assert set(blocks(table.name)) == {"load", "insert", "update", "delete"} | walks


@each_table
def test_a_walk_reads_one_index_in_its_order_without_sorting(connection: sqlite3.Connection, table: Table[Any]) -> None:
    for name, index in table.indexes.items():
        order = list(dict.fromkeys((*index.order, *table.key_columns)))
        for reverse in (False, True):
            sql, values = statements(table).walk("n", Range(table, name, ("x",) * len(index.equal), reverse=reverse))
            assert len(values) == sql.count("?")
            (step,) = plan(connection, sql)
            equal = " AND ".join(f"{column}=?" for column in ("namespace", *index.equal))
            assert step.endswith(f"({equal} AND {order[0]}>? AND {order[0]}<?)"), step
            own = f"{table.name}_{name}"
            whole = [*index.equal, *(column for column in order if column not in index.equal)] == list(table.key_columns)
            assert by_key(table, step) if whole else f"USING INDEX {own} " in step
            ordered = re.search(r"ORDER BY (.*)\nLIMIT", sql)
            assert ordered is not None
            assert words(ordered[1]) == [f"{column}{' DESC' * reverse}" for column in order]


@each_table
def test_a_load_finds_each_key_by_the_primary_key(connection: sqlite3.Connection, table: Table[Any]) -> None:
    for size in SIZES:
        sql = statements(table).load[size]
        assert sql.count("?") == size * len(table.key_columns) + 1
        equal = " AND ".join(f"{column}=?" for column in ("namespace", *table.key_columns))
        assert any(by_key(table, step) and step.endswith(f"({equal})") for step in plan(connection, sql))


def test_no_statement_selects_what_it_does_not_name_nor_holds_a_value() -> None:
    for table in TABLES:
        for name, text in blocks(table.name).items():
            assert "*" not in text
            wheres = [index.where[1] for index in table.indexes.values() if isinstance(index.where, tuple)]
            fixed = {f"'{value}'" for where in wheres for value in (where if isinstance(where, tuple) else (where,))}
            assert set(re.findall(r"'[^']*'", text)) <= fixed, (table.name, name)


def test_migrations_are_numbered_without_a_gap_up_to_the_newest_schema() -> None:
    assert [number for number, _ in schema.migrations()] == list(range(1, schema.SCHEMA + 1))
    assert set(schema.USERS) == set(range(1, schema.SCHEMA + 1))
    assert all(oldest <= schema.SCHEMA <= newest for oldest, newest in [schema.USERS[schema.SCHEMA]])
