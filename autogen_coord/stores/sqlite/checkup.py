"""A look at a store's file from outside, for `doctor`: read-only, it waits for no writer and passes no gate."""

from __future__ import annotations

import os
import shutil
import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

from ...errors import ConfigError, SchemaVersionError
from . import files, schema
from .failures import driver_errors

MOST_FAULTS = 10
"""How many faults `PRAGMA quick_check` tells."""


@dataclass(frozen=True, slots=True)
class Place:
    """Where a file lies: its file system (None where that cannot be known) and the bytes free there."""

    real: str
    kind: str | None
    is_network: bool
    free: int


@dataclass(frozen=True, slots=True)
class Checkup:
    """What the file itself says."""

    version: schema.Version
    supported: int
    misfit: SchemaVersionError | None
    """Why this code may not use it."""
    journal_mode: str
    synchronous: int
    """As a connection of ours has it: 2 is FULL."""
    size: int
    """Bytes."""


@dataclass(frozen=True, slots=True)
class Soundness:
    """What `PRAGMA quick_check` found (nothing, when the file is sound), and how many seconds it took."""

    faults: tuple[str, ...]
    seconds: float


@dataclass(frozen=True, slots=True)
class Counts:
    """Live tasks of one namespace by state and, of the ready ones, by pool; and which namespaces the file has."""

    states: dict[str, int]
    ready: dict[str, int]
    namespaces: tuple[str, ...]


def is_made(path: str) -> bool:
    """Whether there is a file with something in it: opening it would make no new store."""
    try:
        return os.stat(path).st_size > 0
    except OSError:
        return False


def place(path: str) -> Place:
    """Where a store's path lies. Raises: ConfigError when its folder does not exist."""
    real = os.path.realpath(path)
    try:
        free = shutil.disk_usage(os.path.dirname(real)).free
    except OSError as error:
        raise ConfigError(f"store {path}: the folder {os.path.dirname(real)} does not exist; create it first") from error
    try:
        kind = files.kind_of(real, files.MOUNTS.read_text(encoding="utf-8", errors="surrogateescape"))
    except OSError:
        kind = None
    return Place(real, kind, kind in files.NETWORK, free)


def look(path: str) -> Checkup:
    """What the file is. Raises: ConfigError when it is no store of ours, StoreError when it is damaged or busy."""
    with _connected(path) as connection:
        version = schema.found(connection, path)
        if version is None:
            raise ConfigError(f"store {path}: an SQLite file with nothing in it; it becomes a store when a program first opens it")
        misfit = None
        try:
            schema.require(version, path)
        except SchemaVersionError as error:
            misfit = error
        connection.execute("PRAGMA synchronous = FULL")
        (mode,) = connection.execute("PRAGMA journal_mode").fetchone()
        (synchronous,) = connection.execute("PRAGMA synchronous").fetchone()
        return Checkup(version, schema.SCHEMA, misfit, mode, synchronous, os.stat(path).st_size)


def sound(path: str) -> Soundness:
    """Read the whole file for damage: seconds for each gigabyte."""
    start = time.monotonic()
    with _connected(path) as connection:
        found = [str(row[0]) for row in connection.execute(f"PRAGMA quick_check({MOST_FAULTS})")]
    return Soundness(() if found == ["ok"] else tuple(found), time.monotonic() - start)


def count(path: str, namespace: str) -> Counts:
    """Count live tasks, without loading them."""
    with _connected(path) as connection:
        connection.execute("BEGIN")
        states = connection.execute("SELECT state, count(*) FROM queue WHERE namespace = ? GROUP BY state", (namespace,))
        found = dict(states.fetchall())
        ready = connection.execute(
            "SELECT pool, count(*) FROM queue WHERE namespace = ? AND state = 'ready' GROUP BY pool", (namespace,)
        )
        pools = dict(ready.fetchall())
        names = connection.execute("SELECT DISTINCT namespace FROM counter ORDER BY namespace")
        return Counts(found, pools, tuple(name for (name,) in names))


def library() -> str:
    """The version of the SQLite library."""
    return sqlite3.sqlite_version


@contextmanager
def _connected(path: str) -> Iterator[sqlite3.Connection]:
    uri = Path(os.path.realpath(path)).as_uri() + "?mode=ro"
    with driver_errors(path), closing(sqlite3.connect(uri, uri=True, timeout=2.0, isolation_level=None)) as connection:
        yield connection
