"""The schema's versions: which file this code may use, how a new one is made and an old one migrated.

A row of ``schema_version`` holds a version of the file, and the oldest and the newest version of the *code* that may use it, so
that an upgrade need not stop every host. The last row counts.
"""

from __future__ import annotations

import os
import re
import sqlite3
import time
from collections.abc import Iterator
from importlib import resources
from typing import NamedTuple

from ...errors import ConfigError, SchemaVersionError
from .failures import driver_errors
from .files import check
from .gate import Gate

SCHEMA = 5
"""This code's version: what it makes of a new file."""
USERS = {1: (1, 1), 2: (2, 2), 3: (3, 3), 4: (4, 4), 5: (5, 5)}
"""version of a file -> oldest and newest code that may use it"""
APPLICATION_ID = 0x41474344
"""Marks a file as ours ("AGCD")."""

_FILE = re.compile(r"(\d{3})_\w+\.sql")
_GROUND = """
CREATE TABLE schema_version (
    version INTEGER NOT NULL PRIMARY KEY,
    oldest INTEGER NOT NULL,
    newest INTEGER NOT NULL,
    at REAL NOT NULL
);
"""


class Version(NamedTuple):
    version: int
    oldest: int
    newest: int


def found(connection: sqlite3.Connection, path: str) -> Version | None:
    """The file's version, None for an empty file. Raises: ConfigError for a file of another program."""
    (application,) = connection.execute("PRAGMA application_id").fetchone()
    tables = {name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
    if not tables and application in (0, APPLICATION_ID):
        return None
    if application != APPLICATION_ID or "schema_version" not in tables:
        raise ConfigError(f"store {path}: an SQLite file of another program; name another path, it is left as it is")
    row = connection.execute("SELECT version, oldest, newest FROM schema_version ORDER BY version DESC LIMIT 1").fetchone()
    if row is None:
        raise ConfigError(f"store {path}: its table schema_version is empty; restore a backup")
    return Version(*row)


def require(version: Version, path: str) -> None:
    """Raises: SchemaVersionError with the command that mends it, when this code may not use the file."""
    facts = {"path": path, "version": version.version, "supported": SCHEMA}
    if version.newest < SCHEMA:
        message = f"store {path}: its schema {version.version} is too old for this code; run `autogen-coord migrate --store {path}`"
        raise SchemaVersionError(message, **facts)
    if version.oldest > SCHEMA:
        message = f"store {path}: its schema {version.version} is too new for this code; run `pip install --upgrade autogen-coord`"
        raise SchemaVersionError(message, **facts)


def create(connection: sqlite3.Connection) -> None:
    """Make an empty file a store of the newest version. Call it inside a write transaction."""
    connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
    for statement in statements(_GROUND):
        connection.execute(statement)
    apply(connection, 0)


def apply(connection: sqlite3.Connection, version: int) -> None:
    """Run the migrations above ``version``. Call it inside a write transaction."""
    for number, text in migrations():
        if number > version:
            for statement in statements(text):
                connection.execute(statement)
            row = (number, *USERS[number], time.time())
            connection.execute("INSERT INTO schema_version (version, oldest, newest, at) VALUES (?, ?, ?, ?)", row)


def migrate(path: str, wait: float = 10.0) -> tuple[int, int]:
    """Bring the file to this code's version, all or nothing; returns (from, to). Back it up first: there is no way back.

    Raises: ConfigError for no store of ours, SchemaVersionError for a newer one, StoreUnavailableError after ``wait`` seconds.
    """
    real = check(path)
    if not os.path.exists(real):
        raise ConfigError(f"store {path}: there is no such file; it is made at the newest version when it is first opened")
    with driver_errors(real):
        connection = sqlite3.connect(real, timeout=wait, isolation_level=None)
        try:
            version = found(connection, path)
            if version is None:
                raise ConfigError(
                    f"store {path}: the file is empty; it becomes a store of the newest version when it is first opened"
                )
            gate = Gate(real)
            try:
                with gate.passed(time.monotonic() + wait):
                    return _migrate(connection, path)
            finally:
                gate.close()
        finally:
            connection.close()


def _migrate(connection: sqlite3.Connection, path: str) -> tuple[int, int]:
    connection.execute("BEGIN IMMEDIATE")
    try:
        version = found(connection, path)
        assert version is not None
        if version.version < SCHEMA:
            apply(connection, version.version)
        else:
            require(version, path)
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise
    return version.version, max(version.version, SCHEMA)


def migrations() -> list[tuple[int, str]]:
    """Number and text of each migration, in order."""
    folder = resources.files(__package__).joinpath("migrations")
    files = [(match, file) for file in folder.iterdir() if (match := _FILE.fullmatch(file.name))]
    return sorted((int(match[1]), file.read_text(encoding="utf-8")) for match, file in files)


def statements(text: str) -> Iterator[str]:
    """The statements of a script, one by one, as `executescript` would end the transaction."""
    statement = ""
    for line in text.splitlines(keepends=True):
        statement += line
        if sqlite3.complete_statement(statement):
            yield statement
            statement = ""
