"""The one place where the driver's errors become ours."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager

from ...errors import StoreError, StoreUnavailableError

BUSY = (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED)


def code_of(error: sqlite3.Error) -> int:
    """SQLite's primary result code, 0 where the driver itself raised."""
    return int(getattr(error, "sqlite_errorcode", 0) or 0) & 0xFF


@contextmanager
def driver_errors(path: str) -> Iterator[None]:
    """Raise what `sqlite3` raises as a `StoreError` about the file."""
    try:
        yield
    except sqlite3.Error as error:
        raise ours(error, path) from error


def ours(error: sqlite3.Error, path: str) -> StoreError:
    """The same for who has no use for a block: a block costs as much as a short statement."""
    code = code_of(error)
    if code in BUSY:
        message = f"{path}: another program holds the file's lock ({error}); close that program or try again"
        return StoreUnavailableError(message, path=path)
    if code == sqlite3.SQLITE_FULL:
        message = f"{path}: {error}; nothing was written: free some space on the disk and try again"
        return StoreError(message, path=path, full=True)
    if code in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB):
        return StoreError(f"{path}: the file is damaged ({error}); restore a backup", path=path, damaged=True)
    if code == sqlite3.SQLITE_CONSTRAINT:
        return StoreError(f"{path}: {error}; a row that may exist must be read before it is put", path=path)
    return StoreError(f"{path}: {error}", path=path)
