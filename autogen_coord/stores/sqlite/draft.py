"""A file that is made beside its place and put there whole or not at all, whenever the process is killed."""

from __future__ import annotations

import glob
import hashlib
import os
import secrets
from contextlib import suppress
from types import TracebackType
from typing import Self

from ...core.file_locks import open_lock, try_lock
from ...errors import ConfigError
from .failures import system_errors

SIDES = "-wal", "-shm", "-journal", "-gate1", "-gate2"
"""What stands beside a store."""
PIECE = 1 << 20


class Draft:
    """A draft of ``target``, its lock held for as long as the block lasts; drafts of killed processes are swept away before."""

    def __init__(self, target: str) -> None:
        self.target = target
        folder, name = os.path.split(target)
        self._pattern = os.path.join(glob.escape(folder), f".{glob.escape(name)}.*.part")
        self.path = os.path.join(folder, f".{name}.{secrets.token_hex(4)}.part")
        self._descriptor = -1

    def __enter__(self) -> Self:
        with system_errors(self.target):
            for path in glob.glob(self._pattern):
                _sweep(path)
            self._descriptor = open_lock(self.path)
            try_lock(self._descriptor)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        with suppress(OSError):  # the next one sweeps it away
            _remove(self.path)
        os.close(self._descriptor)

    def flush(self) -> None:
        """What was written is on disk."""
        with system_errors(self.target):
            os.fsync(self._descriptor)

    def like(self, path: str, more: int = 0) -> None:
        """Give it the rights of another file, and ``more``; its owner too where we may."""
        with system_errors(self.target):
            found = os.stat(path)
            os.chmod(self.path, found.st_mode & 0o777 | more)
            with suppress(OSError, AttributeError):
                os.chown(self.path, found.st_uid, found.st_gid)

    def digest(self) -> str:
        """SHA-256 of its content, in hexadecimal. Call it while no connection is open on it."""
        with system_errors(self.target):
            return digest_of(self.path)

    def publish(self, replace: bool) -> None:
        """Put it in its place, on disk. Raises: ConfigError when a file is there and ``replace`` is not meant."""
        self.flush()
        with system_errors(self.target):
            if replace:
                os.replace(self.path, self.target)
            else:
                self._place()
            sync_folder(self.target)

    def _place(self) -> None:
        try:
            os.link(self.path, self.target)  # unlike a rename it does not replace what came there meanwhile
            return
        except FileExistsError:
            pass
        except OSError:  # a file system without hard links
            if not os.path.lexists(self.target):
                os.rename(self.path, self.target)
                return
        raise ConfigError(f"{self.target}: a file is there by now; it is left as it is")


def digest_of(path: str) -> str:
    """SHA-256 of a file, in hexadecimal."""
    found = hashlib.sha256()
    with open(path, "rb") as file:
        while piece := file.read(PIECE):
            found.update(piece)
    return found.hexdigest()


def sync_folder(path: str) -> None:
    """The names in the folder of ``path`` are on disk."""
    flag: int | None = getattr(os, "O_DIRECTORY", None)
    if flag is None:  # Windows has no way to
        return
    descriptor = os.open(os.path.dirname(path), os.O_RDONLY | flag)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _sweep(path: str) -> None:
    """Remove a draft that nobody holds any more."""
    with suppress(FileNotFoundError):
        descriptor = os.open(path, os.O_RDWR)
        try:
            if try_lock(descriptor):
                _remove(path)
        finally:
            os.close(descriptor)


def _remove(path: str) -> None:
    for side in ("", *SIDES):
        with suppress(FileNotFoundError):
            os.unlink(path + side)
