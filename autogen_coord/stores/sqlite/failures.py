"""The one place where the errors of the driver, and of the file system, become ours."""

from __future__ import annotations

import errno
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager

from ...errors import ConfigError, StoreError, StoreUnavailableError

BUSY = (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED)
DAMAGED = (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)
FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
FORBIDDEN = (errno.EACCES, errno.EPERM, errno.EROFS)


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
    if code in DAMAGED:
        return StoreError(f"{path}: the file is damaged ({error}); restore a backup", path=path, damaged=True)
    if code == sqlite3.SQLITE_CONSTRAINT:
        return StoreError(f"{path}: {error}; a row that may exist must be read before it is put", path=path)
    return StoreError(f"{path}: {error}", path=path)


@contextmanager
def system_errors(path: str) -> Iterator[None]:
    """Raise what the file system refuses as a `ConfigError` or `StoreError` about the file."""
    try:
        yield
    except OSError as error:
        said = error.strerror or str(error)
        if error.errno in FULL:
            message = f"{path}: {said}; nothing was written: free some space on the disk and try again"
            raise StoreError(message, path=path, full=True) from error
        if error.errno in FORBIDDEN:
            raise ConfigError(f"{path}: {said}; its folder must be writable for us: mend its rights or name another") from error
        raise StoreError(f"{path}: {said}", path=path) from error
