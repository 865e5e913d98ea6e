"""Fences: what stands before other people's storage, so that who lost its lock cannot write there.

A holder may be paused, lose its lease, and wake up in the middle of its write: no lock can prevent that. So the storage refuses a
token smaller than the greatest it has seen. Our own writes need no fence: they name the lease, and the store looks whether it
stands (`autogen_coord.core.locks.require_cover`).

Source: M. Kleppmann, "How to do distributed locking", 2016, "Making the lock safe with fencing".
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import ClassVar

from ..errors import ConfigError, ConflictError, InvalidInputError, LeaseLostError, StoreUnavailableError
from .file_locks import open_lock, try_lock, unlock

GREATEST = (1 << 63) - 1
PAUSE = 0.002
"""Seconds between two looks at a file that another process is writing."""


class Fence:
    """Remembers the greatest token seen of each resource, in memory, and refuses smaller ones; for any threads of one process.

    For a service before its storage. It forgets when the process ends: give it what the storage knows as ``seen``, or keep the
    token beside the data (`FileFence`; ``UPDATE ... WHERE token <= ?``).
    """

    HEADER: ClassVar[str] = "Fencing-Token"
    """The HTTP header for `Lease.token`; `token_of` reads it."""

    def __init__(self, seen: Mapping[str, int] | None = None) -> None:
        self._lock = threading.Lock()
        self._places = {resource: _Place(checked_token(token)) for resource, token in (seen or {}).items()}

    def check(self, token: int, resource: str = "") -> None:
        """Let a token pass, and refuse smaller ones from now on. Raises: LeaseLostError (``token``, ``seen``)."""
        with self.guarded(token, resource):
            pass

    @contextmanager
    def guarded(self, token: int, resource: str = "") -> Iterator[None]:
        """The same; and until the block ends no other token passes for this resource: write inside it.

        Other threads wait for its end; so do not await inside it, what else runs in the thread would come by.

        Raises: LeaseLostError, InvalidInputError, ConflictError (this very thread is inside it).
        """
        checked_token(token)
        with self._lock:
            place = self._places.setdefault(resource, _Place(0))
        if place.thread == threading.get_ident():
            raise _inside(resource or "this resource")
        with place.lock:
            place.thread = threading.get_ident()
            try:
                place.seen = _newest(token, place.seen, resource or "this resource")
                yield
            finally:
                place.thread = 0

    def seen(self, resource: str = "") -> int:
        """The greatest token that passed, 0 when none did."""
        place = self._places.get(resource)
        return 0 if place is None else place.seen

    @staticmethod
    def token_of(header: str | None) -> int:
        """The token in a `HEADER`. Raises: InvalidInputError when there is none."""
        text = (header or "").strip()
        if not (text.isascii() and text.isdigit()) or len(text) > 20:
            raise InvalidInputError(f"{Fence.HEADER}: {header!r:.50}: the token of a lease is wanted, a whole number")
        return checked_token(int(text))


class _Place:
    """One resource of a `Fence`."""

    __slots__ = ("lock", "seen", "thread")

    def __init__(self, seen: int) -> None:
        self.lock = threading.Lock()
        self.seen = seen
        self.thread = 0
        """Which one is inside. Each asks for its own only, so it need not be read under the lock."""


class FileFence:
    """Guards one file: written as a whole or not at all, and never under a smaller token than before; for any processes.

    The token is kept beside the file, in ``.<name>.fence``, and is on disk before the data is: leave that file where it is. Not on
    a network file system. Every method blocks: call it in a thread, ``await asyncio.to_thread(fence.write, text, lease.token)``.
    ``wait``: seconds for another process to finish its write.
    """

    _threads: ClassVar[dict[str, int]] = {}
    """By fence: the thread of this process that is alone with the file."""

    def __init__(self, path: str | os.PathLike[str], *, wait: float = 10.0) -> None:
        self.path = Path(path).resolve()
        self._fence = self.path.with_name(f".{self.path.name}.fence")
        self._draft = self.path.with_name(f".{self.path.name}.draft")
        self._wait = wait

    def write(self, data: str | bytes, token: int) -> None:
        """Replace the file's content, at once; text as UTF-8. Who reads meanwhile sees the old or the new one, whole.

        Raises: LeaseLostError (``token``, ``seen``): another has held the lock since, and nothing was written; InvalidInputError,
        ConfigError, ConflictError (this very thread is inside `guarded`), StoreUnavailableError (another process is stopped in its
        write); OSError of the file system.
        """
        body = data.encode() if isinstance(data, str) else data
        with self.guarded(token):
            self._replace(body)

    def check(self, token: int) -> None:
        """Let a token pass, and refuse smaller ones from now on. Raises: as `write`."""
        with self.guarded(token):
            pass

    @contextmanager
    def guarded(self, token: int) -> Iterator[None]:
        """Alone with the file, under a token that passed: for changes in place. Short ones, without an await: others wait.

        Raises: as `write`.
        """
        checked_token(token)
        with self._alone() as descriptor:
            seen = self._read(descriptor)
            if _newest(token, seen, str(self.path)) > seen:
                os.lseek(descriptor, 0, os.SEEK_SET)
                os.write(descriptor, b"%020d\n" % token)  # always as long, so never half an old one
                os.fsync(descriptor)  # before the data: who comes later must find it, also after a power cut
            yield

    @property
    def seen(self) -> int:
        """The greatest token that passed, 0 when none did. Raises: ConfigError."""
        try:
            with open(self._fence, "rb") as file:
                return self._read(file.fileno())
        except FileNotFoundError:
            return 0

    @contextmanager
    def _alone(self) -> Iterator[int]:
        name, thread = str(self._fence), threading.get_ident()
        if self._threads.get(name) == thread:
            raise _inside(str(self.path))
        try:
            descriptor = open_lock(str(self._fence))
        except OSError as error:
            raise ConfigError(f"{self._fence} cannot be written: its folder must exist and be writable: {error}") from error
        try:
            self._take(descriptor)
            self._threads[name] = thread
            try:
                yield descriptor
            finally:
                del self._threads[name]
                unlock(descriptor)
        finally:
            os.close(descriptor)

    def _take(self, descriptor: int) -> None:
        until = time.monotonic() + self._wait
        while not try_lock(descriptor):
            if time.monotonic() >= until:
                raise StoreUnavailableError(
                    f"{self.path}: another process is writing it for {self._wait:g} s: see whether it is stopped, "
                    "and continue or kill it",
                    path=str(self.path),
                )
            time.sleep(PAUSE)

    def _read(self, descriptor: int) -> int:
        os.lseek(descriptor, 0, os.SEEK_SET)
        text = os.read(descriptor, 64).strip()
        if text and not text.isdigit():
            raise ConfigError(f"{self._fence} holds no token: it was changed by hand; remove it while nobody writes")
        return int(text or b"0")

    def _replace(self, body: bytes) -> None:
        with open(self._draft, "wb") as file:
            file.write(body)
            file.flush()
            os.fsync(file.fileno())
        if self.path.exists():
            os.chmod(self._draft, self.path.stat().st_mode & 0o7777)
        os.replace(self._draft, self.path)
        _sync_folder(self.path.parent)


def checked_token(token: object) -> int:
    """A token as it may be. Raises: InvalidInputError."""
    if isinstance(token, bool) or not isinstance(token, int) or not 0 < token <= GREATEST:
        raise InvalidInputError(f"token {token!r:.50}: the token of a lease is wanted, a whole number: lease.token")
    return token


def _newest(token: int, seen: int, where: str) -> int:
    if token < seen:
        raise LeaseLostError(
            f"{where}: token {token} is refused, {seen} was seen: another has held the lock since; stop, and take it again",
            token=token,
            seen=seen,
        )
    return token


def _inside(where: str) -> ConflictError:
    return ConflictError(
        f"{where}: this thread is inside `guarded` already, and would wait for itself: write inside it without an await and "
        "without another check, or let the whole of it run in a thread (asyncio.to_thread)"
    )


def _sync_folder(folder: Path) -> None:
    flag: int | None = getattr(os, "O_DIRECTORY", None)
    if flag is None:  # Windows has no way to
        return
    descriptor = os.open(folder, os.O_RDONLY | flag)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
