"""A backup becomes a store again: another incarnation of it, in which no session of before lives.

All is made in a draft beside the target: copied, looked through, begun anew. Then, behind the gate, with nobody on the old file,
the draft takes its place; the old file stays as ``<target>.before-restore-<time>``. Killed at any moment, the target is the old
store or the new one, whole.
"""

from __future__ import annotations

import glob
import os
import sqlite3
import time
from contextlib import closing, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from ...core.incarnation import BeginAnew, Begun, begin_anew
from ...core.lock_queue import INCARNATION
from ...core.sessions import LIVE
from ...core.store import Transaction
from ...errors import ConfigError, SchemaVersionError, StoreError, StoreUnavailableError
from ...settings import Settings
from . import clock, schema
from .backup import Contents, connect_draft, contents_of, copy, damaged, noted_digest, reading, verify
from .database import Database
from .draft import Draft, digest_of, sync_folder
from .failures import BUSY, DAMAGED, code_of, driver_errors, system_errors
from .files import check
from .gate import Gate

KEPT = ".before-restore-"
BUSY_WAIT = 0.2
"""Seconds that a reader of the old file gets to end before the file counts as in use."""


@dataclass(frozen=True, slots=True)
class Restored:
    """A store that was restored."""

    path: str
    kept: str | None
    """Where the file is now that stood there before."""
    schema: int
    rows: int
    namespaces: tuple[str, ...]
    sessions: int
    """How many were live in the backup; they count as dead, and what they ran is run again."""


class Old(NamedTuple):
    """What is known of the file that is to be replaced. ``busy``: why it must not be, None when nobody is there."""

    incarnations: dict[str, int]
    busy: str | None
    sound: bool


def restore(backup: str, target: str, settings: Settings, *, force: bool = False) -> Restored:
    """Make the backup the store at ``target``. What stood there is kept beside it.

    ``force``: also while processes seem to use the old file. They cannot use it any more: what they write from now on is refused,
    and they must be started again. ``settings.store_wait``: seconds for their turn to write to end.

    Raises: ConfigError and StoreError (``damaged``) for a backup that cannot be used, SchemaVersionError for one of another
    version, ConfigError for a target that cannot be, StoreUnavailableError for one that is in use.
    """
    source = _require_backup(backup)
    real = check(target)
    if os.path.exists(real) and os.path.samefile(source, real):
        raise ConfigError(f"restore: {backup} is the store {target} itself; name another with --store")
    with Draft(real) as draft:
        contents, rows = _copy(backup, source, draft, settings.store_wait)
        draft.like(real if os.path.exists(real) else source, more=0o600)
        gate = Gate(real)
        try:
            with gate.passed(time.monotonic() + settings.store_wait):
                old = _look(real, target, force)
                begun = _begin_anew(draft, contents, old, settings)
                kept = _swap(draft, real, old)
        finally:
            gate.close()
    spaces = tuple(sorted(begun))
    return Restored(real, kept, contents.version.version, rows, spaces, sum(one.sessions for one in begun.values()))


# the backup


def _require_backup(backup: str) -> str:
    real = os.path.realpath(backup)
    if not os.path.isfile(real):
        raise ConfigError(f"backup {backup}: there is no such file; name one that `autogen-coord backup` made")
    with system_errors(backup):
        if os.stat(real).st_size == 0:
            raise ConfigError(f"backup {backup}: the file is empty; use another backup")
    return real


def _copy(backup: str, source: str, draft: Draft, wait: float) -> tuple[Contents, int]:
    """Into the draft, and looked through there; what is wrong is wrong with the backup, and said so."""
    _require_digest(backup, source)
    try:
        with reading(source, wait) as connection:
            contents = contents_of(connection, backup)
            schema.require(contents.version, backup)
            _require_whole_pages(connection, source, backup)
            copy(connection, draft)
        with driver_errors(draft.target), closing(connect_draft(draft)) as connection:
            return contents, verify(connection, backup)
    except SchemaVersionError as error:
        raise _misfit(backup, error) from error
    except StoreError as error:
        if not _is_damage(error):
            raise
        raise _damaged(backup, error.facts.get("fault") or str(error.__cause__)) from error


def _require_whole_pages(connection: sqlite3.Connection, source: str, backup: str) -> None:
    # SQLite takes what is missing of the last page for zeros.
    (page,) = connection.execute("PRAGMA page_size").fetchone()
    if os.stat(source).st_size % page:
        raise damaged(backup, "its last page was cut off")


def _require_digest(backup: str, source: str) -> None:
    with system_errors(backup):
        noted = noted_digest(source)
        if noted is not None and noted != digest_of(source):
            raise _damaged(backup, f"it is not what {source}.sha256 says; remove that file only if you changed the backup yourself")


def _is_damage(error: StoreError) -> bool:
    """Whether it comes of what is in the file: a table that is not there, or a text that is none, do too."""
    cause = error.__cause__
    return bool(error.facts.get("damaged")) or (isinstance(cause, sqlite3.Error) and code_of(cause) in (0, sqlite3.SQLITE_ERROR))


def _damaged(backup: str, why: str) -> StoreError:
    return StoreError(f"backup {backup}: it is damaged: {why}; nothing was changed: use another backup", path=backup, damaged=True)


def _misfit(backup: str, error: SchemaVersionError) -> SchemaVersionError:
    version = error.facts["version"]
    if "too old" in error.message:
        do = "copy it, run `autogen-coord migrate` on the copy, and restore that"
        return SchemaVersionError(f"backup {backup}: its schema {version} is too old for this code; {do}", **error.facts)
    do = "run `pip install --upgrade autogen-coord`"
    return SchemaVersionError(f"backup {backup}: its schema {version} is too new for this code; {do}", **error.facts)


# the file that is there


def _look(real: str, target: str, force: bool) -> Old:
    """The old file, with all of its log in it. Raises: StoreUnavailableError, StoreError, ConfigError when it may not go."""
    if not os.path.exists(real):
        return Old({}, None, True)
    try:
        with closing(sqlite3.connect(f"{Path(real).as_uri()}?mode=rw", uri=True, timeout=BUSY_WAIT, isolation_level=None)) as old:
            found = _found(old, target)
            if found.busy is not None:
                _require_force(target, found.busy, force)
                _empty_log(old, target)
            return found
    except sqlite3.Error as error:
        if code_of(error) not in DAMAGED:
            with driver_errors(target):
                raise
        _require_force(target, "it is damaged, so it cannot be told who uses it", force)
        return Old({}, None, False)


def _found(old: sqlite3.Connection, target: str) -> Old:
    if schema.found(old, target) is None:
        incarnations: dict[str, int] = {}
        living = 0
    else:
        counters = old.execute("SELECT namespace, value FROM counter WHERE name = ?", (INCARNATION,))
        incarnations = {namespace: int(value) for namespace, value in counters}
        living = _living(old)
    try:
        # SQLite gives the log up only when nobody else has the file open.
        old.execute("PRAGMA journal_mode = DELETE").fetchone()
    except sqlite3.OperationalError as error:
        if code_of(error) not in BUSY:
            raise
        return Old(incarnations, "another process has it open", True)
    return Old(incarnations, f"{living} of its sessions may be alive" if living else None, True)


def _living(old: sqlite3.Connection) -> int:
    """Sessions whose lease has not ended, by the clock of the file; of another boot of the machine none can live."""
    row = old.execute("SELECT boot_id, anchor FROM clock").fetchone()
    boot = clock.boot_id()
    if row is None or row[0] != (boot or ""):
        return 0
    now = clock.wall() if boot is None else clock.since_boot() + float(row[1])
    (count,) = old.execute("SELECT count(*) FROM session WHERE state = ? AND lease_until > ?", (LIVE, now)).fetchone()
    return int(count)


def _require_force(target: str, why: str, force: bool) -> None:
    if not force:
        message = f"store {target}: {why}; nothing was changed: stop its programs and try again, or use --force"
        raise StoreUnavailableError(message, path=target)


def _empty_log(old: sqlite3.Connection, target: str) -> None:
    """All that was committed is in the file itself, so that it is whole without its log."""
    (busy, *_) = old.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
    if busy:
        message = f"store {target}: a process reads it without end, so its log cannot be closed; nothing was changed: stop it first"
        raise StoreUnavailableError(message, path=target)


# the new one


def _begin_anew(draft: Draft, contents: Contents, old: Old, settings: Settings) -> dict[str, Begun]:
    """What each namespace began with; those too that only the old file had, as tokens of theirs may be about."""
    return {
        namespace: _begin(draft, namespace, max(old.incarnations.get(namespace, 0), int(clock.wall() // 60)), settings)
        for namespace in sorted({*contents.namespaces, *old.incarnations})
    }


def _begin(draft: Draft, namespace: str, floor: int, settings: Settings) -> Begun:
    database = Database(draft.path, namespace, settings.store_wait)

    def fold(rows: Transaction, now: float) -> Begun:
        return begin_anew(rows, BeginAnew(floor), now, settings)

    database.connect()
    try:
        time_of_store = database.prepare(None)
        return database.transact(fold, (), time_of_store)
    finally:
        database.close()


def _swap(draft: Draft, real: str, old: Old) -> str | None:
    """The draft takes the place of the old file; where that is now."""
    draft.flush()
    if not os.path.exists(real):
        draft.publish(replace=False)
        return None
    with system_errors(real):
        _drop_second_names(real)
        kept = _free_name(real)
        if old.sound:
            # Before the draft comes: a log of the old file must never stand beside the new one, SQLite would take it for its own.
            for side in ("-wal", "-shm"):
                with suppress(FileNotFoundError):
                    os.unlink(real + side)
            _link(real, kept)
        else:
            os.rename(real, kept)
            for side in ("-wal", "-shm"):
                with suppress(FileNotFoundError):
                    os.rename(real + side, kept + side)
        sync_folder(real)
    draft.publish(replace=True)
    return kept


def _link(real: str, kept: str) -> None:
    try:
        os.link(real, kept)  # then the target is never away, not even between two calls
    except OSError:  # a file system without hard links
        os.rename(real, kept)


def _drop_second_names(real: str) -> None:
    """A restore that was killed between its last two steps left the old file with two names."""
    for path in glob.glob(f"{glob.escape(real)}{KEPT}*"):
        if os.path.samefile(path, real):
            os.unlink(path)


def _free_name(real: str) -> str:
    stamp = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime())
    names = (f"{real}{KEPT}{stamp}{more}" for more in ("", *(f"-{n}" for n in range(2, 1000))))
    return next(name for name in names if not os.path.lexists(name))
