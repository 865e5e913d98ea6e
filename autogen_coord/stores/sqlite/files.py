"""Whether a path can be a store: checked before SQLite touches it, each fault with what to do about it."""

from __future__ import annotations

import os
import re
import sqlite3
from contextlib import closing
from pathlib import Path

from ...errors import ConfigError
from .failures import code_of

MOUNTS = Path("/proc/self/mountinfo")
NETWORK = frozenset(
    (
        *("9p", "afs", "beegfs", "ceph", "cifs", "coda", "davfs", "gfs2", "glusterfs", "lustre", "ncpfs", "nfs", "nfs4", "ocfs2"),
        *("smb", "smb2", "smb3", "smbfs", "fuse.ceph", "fuse.cifs", "fuse.davfs2", "fuse.gcsfuse", "fuse.glusterfs"),
        *("fuse.rclone", "fuse.s3fs", "fuse.smbnetfs", "fuse.sshfs"),
    )
)
_ESCAPE = re.compile(r"\\([0-7]{3})")


def check(path: str) -> str:
    """The file's real path. Raises: ConfigError that says why it cannot be a store, and what to do."""
    if not path or path == ":memory:":
        raise ConfigError(f"store {path!r}: a store is a file; use dict:// for one in memory")
    real = os.path.realpath(path)
    folder = os.path.dirname(real)
    if os.path.isdir(real):
        raise ConfigError(f"store {path}: this is a folder; name a file in it, such as {os.path.join(path, 'coord.db')}")
    if not os.path.isdir(folder):
        raise ConfigError(f"store {path}: the folder {folder} does not exist; create it first")
    kind = network_kind(real)
    if kind is not None:
        raise ConfigError(
            f"store {path}: it lies on a network file system ({kind}), where SQLite's locks do not hold; "
            "use a local disk, connect by message, or PostgreSQL"
        )
    if not writable(folder):
        raise ConfigError(f"store {path}: the folder {folder} is read-only for us; SQLite writes its log and our lock files there")
    if os.path.exists(real):
        _check_file(path, real)
    return real


def network_kind(path: str) -> str | None:
    """The type of the network file system that ``path`` lies on; None for a local one, or where there is no way to know."""
    try:
        mounts = MOUNTS.read_text(encoding="utf-8", errors="surrogateescape")
    except OSError:
        return None
    kind = kind_of(path, mounts)
    return kind if kind in NETWORK else None


def kind_of(path: str, mounts: str) -> str | None:
    """The file system type of an absolute path, from the text of ``/proc/self/mountinfo``; of equal mount points the last."""
    best, found = -1, None
    for line in mounts.splitlines():
        left, _, right = line.partition(" - ")
        fields = left.split(" ")
        if len(fields) < 5 or not right:
            continue
        point = _ESCAPE.sub(lambda match: chr(int(match[1], 8)), fields[4])
        below = point.rstrip("/") + "/"
        if (path == point or path.startswith(below)) and len(below) >= best:
            best, found = len(below), right.split(" ")[0]
    return found


def _check_file(path: str, real: str) -> None:
    if not os.path.isfile(real):
        raise ConfigError(f"store {path}: this is not a plain file")
    if not writable(real):
        raise ConfigError(f"store {path}: the file is read-only for us; make it writable or name another")
    if not is_sqlite(real):
        raise ConfigError(f"store {path}: this is not an SQLite file; name another path, it is left as it is")


def is_sqlite(real: str) -> bool:
    """Whether a plain file is one of SQLite's, as far as its head tells."""
    # SQLite itself looks: to open and close the file here would give back all locks that this process has on it, those of a store
    # that is open already too (POSIX has them so); another process that closes the file would then take its log away.
    # See https://www.sqlite.org/howtocorrupt.html, section 2.2.
    with closing(sqlite3.connect(f"{Path(real).as_uri()}?mode=ro", uri=True, timeout=0)) as connection:
        try:
            connection.execute("PRAGMA schema_version")
        except sqlite3.Error as error:
            return code_of(error) != sqlite3.SQLITE_NOTADB  # what else is wrong is told by whoever opens it
    return True


def writable(path: str) -> bool:
    """Whether we may read and write there."""
    effective = os.access in os.supports_effective_ids
    return os.access(path, os.R_OK | os.W_OK, effective_ids=effective)
