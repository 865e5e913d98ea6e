"""A copy of a whole store while it is in use, by SQLite's online backup.

One read transaction on the source, so the copy is of one moment and no commit makes it begin again: in a write-ahead log a reader
holds up no writer. What is copied is looked through as a store before it gets its name. Beside it goes ``<name>.sha256``, as
``sha256sum`` writes it: SQLite itself does not see a flipped bit inside a value.

Source: https://www.sqlite.org/backup.html.
"""

from __future__ import annotations

import os
import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import NamedTuple

from ...errors import ClosedError, ConfigError, StoreError
from .. import Backup
from . import schema
from .checkup import is_made
from .draft import SIDES, Draft, sync_folder
from .failures import driver_errors, system_errors
from .files import is_sqlite, writable

PAGES = 256
"""Pages, mostly of 4 KiB, that are copied in one step."""
FLUSH_EVERY = 2
"""Steps after which the copy is flushed: a writer's own flush shall not stand behind all of it."""
FAULTS = 10
"""How many faults `PRAGMA integrity_check` tells."""
DIGEST = ".sha256"


class Contents(NamedTuple):
    """What a file holds, in words that a copy must repeat. ``counters``: by namespace and name."""

    version: schema.Version
    counters: dict[tuple[str, str], int]

    @property
    def namespaces(self) -> tuple[str, ...]:
        return tuple(sorted({namespace for namespace, _ in self.counters}))


def _never() -> bool:
    return False


def backup(source: str, target: str, *, replace: bool = False, wait: float = 10.0, stopped: Callable[[], bool] = _never) -> Backup:
    """Copy the store at ``source`` to the file ``target``, whole or not at all, while any processes use it.

    It has every write that was acknowledged before the call, and none in part. ``replace``: another file may stand there.
    ``wait``: seconds for a busy source. ``stopped``: asked again and again; when it says yes, nothing is left.

    Raises: ConfigError for a source that is no store, or a target that cannot be; StoreError (``full``: the disk; ``damaged``: the
    source is), StoreUnavailableError, ClosedError when it was stopped.
    """
    start, real = time.monotonic(), os.path.realpath(source)
    if not is_made(real):
        raise ConfigError(f"store {source}: there is no such store; nothing was backed up")
    if not is_sqlite(real):
        raise ConfigError(f"store {source}: this is not an SQLite file; nothing was backed up")
    place = _place(real, target, replace)
    with Draft(place) as draft:
        with reading(real, wait) as connection:
            contents = contents_of(connection, source)
            copy(connection, draft, stopped)
        rows = _verify_copy(draft, contents, source)
        draft.like(real)
        digest = draft.digest()
        _forget_digest(place)
        draft.publish(replace)
    _note_digest(place, digest)
    size = os.stat(place).st_size
    return Backup(place, contents.version.version, size, rows, contents.namespaces, digest, time.monotonic() - start)


@contextmanager
def reading(path: str, wait: float) -> Iterator[sqlite3.Connection]:
    """A connection inside a read transaction: all that it sees is of one moment. It makes no file."""
    with driver_errors(path), closing(_connect(path, wait)) as connection:
        connection.execute("PRAGMA query_only = ON")
        connection.execute("BEGIN")
        connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
        yield connection


def contents_of(connection: sqlite3.Connection, path: str) -> Contents:
    """What an open file holds. Raises: ConfigError when it is no store."""
    version = schema.found(connection, path)
    if version is None:
        raise ConfigError(f"store {path}: an SQLite file with nothing in it; it becomes a store when a program first opens it")
    counters = connection.execute("SELECT namespace, name, value FROM counter").fetchall()
    if not all(isinstance(value, int) for value in (*version, *(value for _, _, value in counters))):
        raise damaged(path, "a counter is no number")
    return Contents(version, {(namespace, name): value for namespace, name, value in counters})


def copy(source: sqlite3.Connection, draft: Draft, stopped: Callable[[], bool] = _never) -> None:
    """Copy all that the source's transaction sees into a draft, in steps."""
    steps = 0

    def progress(status: int, remaining: int, total: int) -> None:
        nonlocal steps
        steps += 1
        if steps % FLUSH_EVERY == 0:
            draft.flush()
        if stopped():
            raise ClosedError(f"{draft.target}: the backup was stopped before its end; nothing was left there")

    with driver_errors(draft.target), closing(connect_draft(draft)) as target:
        target.execute("PRAGMA synchronous = OFF")  # it is flushed as a whole
        source.backup(target, pages=PAGES, progress=progress)


def connect_draft(draft: Draft) -> sqlite3.Connection:
    """A connection to a draft, which nobody else opens."""
    return _connect(draft.path, 1.0)


def verify(connection: sqlite3.Connection, path: str) -> int:
    """Read all of a file, and count its rows. Raises: StoreError (``damaged``) when it is not sound."""
    found = [str(row[0]) for row in connection.execute(f"PRAGMA integrity_check({FAULTS})")]
    if found != ["ok"]:
        raise damaged(path, found[0])
    tables = [name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table' ORDER BY name")]
    return sum(_count(connection, table) for table in tables)


def damaged(path: str, fault: str) -> StoreError:
    """What is wrong inside a file."""
    line = fault.replace("\n", " ")
    return StoreError(f"{path}: the file is damaged ({line}); restore a backup", path=path, damaged=True, fault=line)


def _count(connection: sqlite3.Connection, table: str) -> int:
    name = table.replace('"', '""')
    (count,) = connection.execute(f'SELECT count(*) FROM "{name}"').fetchone()
    return int(count)


def _verify_copy(draft: Draft, wanted: Contents, source: str) -> int:
    """What is wrong with a fresh copy is wrong with its source."""
    with driver_errors(source), closing(connect_draft(draft)) as connection:
        connection.execute("PRAGMA journal_mode = DELETE")  # one file, that can be read where nothing can be written
        rows = verify(connection, source)
        if contents_of(connection, source) != wanted:
            message = f"{draft.target}: the copy is not what was copied, and was not kept: check the disk"
            raise StoreError(message, path=draft.target)
    return rows


def _connect(path: str, wait: float) -> sqlite3.Connection:
    return sqlite3.connect(f"{Path(path).as_uri()}?mode=rw", uri=True, timeout=wait, isolation_level=None)


# the file that is to be


def _place(source: str, target: str, replace: bool) -> str:
    """The target's real path. Raises: ConfigError that says why it cannot be."""
    if not target:
        raise ConfigError("backup: a file is wanted as its target, such as coord.backup")
    real = os.path.realpath(target)
    folder = os.path.dirname(real)
    if os.path.isdir(real):
        name = os.path.join(target, os.path.basename(source))
        raise ConfigError(f"{target}: this is a folder; name a file in it, such as {name}")
    if not os.path.isdir(folder):
        raise ConfigError(f"{target}: the folder {folder} does not exist; create it first")
    if real in (source, *(source + side for side in SIDES)) or (os.path.exists(real) and os.path.samefile(real, source)):
        raise ConfigError(f"{target}: this is the store itself, or stands beside it as a part of it; name another file")
    if os.path.lexists(real):
        _require_replaceable(real, target, replace)
    if not writable(folder):
        raise ConfigError(f"{target}: the folder {folder} is read-only for us; name a file in another")
    return real


def _require_replaceable(real: str, target: str, replace: bool) -> None:
    if not replace:
        raise ConfigError(
            f"{target}: there is a file already; it is left as it is: name another, or have it replaced (replace=True; --force)"
        )
    if not os.path.isfile(real):
        raise ConfigError(f"{target}: this is not a plain file; name another")
    log = f"{real}-wal"
    if os.path.exists(log) and os.stat(log).st_size > 0:
        raise ConfigError(f"{target}: this is a store that is in use (there is {log}); name another file")


# its digest


def noted_digest(path: str) -> str | None:
    """What stands in ``<path>.sha256``; None when there is no such file."""
    try:
        return Path(path + DIGEST).read_text(encoding="utf-8", errors="replace").split(" ")[0].strip()
    except FileNotFoundError:
        return None


def _forget_digest(path: str) -> None:
    with system_errors(path):
        Path(path + DIGEST).unlink(missing_ok=True)


def _note_digest(path: str, digest: str) -> None:
    with system_errors(path), Draft(path + DIGEST) as note:
        # one that is half there would damn a good backup: so it comes whole, too
        Path(note.path).write_text(f"{digest}  {os.path.basename(path)}\n", encoding="utf-8")
        note.publish(replace=True)
        sync_folder(path)
