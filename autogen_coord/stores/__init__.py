"""Stores: row loads and row writes, per database. No rule lives here."""

from __future__ import annotations

import asyncio
import threading
from dataclasses import dataclass

from ..core.store import Store
from ..errors import ConfigError
from ..settings import Settings

SQLITE = "sqlite:///"
DICTIONARY = "dict://"


@dataclass(frozen=True, slots=True)
class Backup:
    """A backup that was made, and looked through."""

    path: str
    schema: int
    size: int
    """Bytes."""
    rows: int
    """Of all tables."""
    namespaces: tuple[str, ...]
    sha256: str
    seconds: float


async def open_store(url: str, namespace: str, settings: Settings) -> Store:
    """Open one namespace of the store at ``url``; whoever opens it closes it.

    ``url`` is a plain path or ``sqlite:///path`` (four slashes for an absolute path): an SQLite file, created when it is new; or
    ``dict://``: in memory, for tests and benchmarks, gone with the process (``dict://name`` is the same memory for all in this
    process who open that name).

    Raises: ConfigError that says what to change, SchemaVersionError, StoreUnavailableError after ``settings.store_wait`` seconds.
    """
    if url.startswith(DICTIONARY):
        from .dictionary.store import DictionaryStore

        return DictionaryStore.named(url.removeprefix(DICTIONARY), namespace, settings)
    if url.startswith(("postgresql://", "postgres://")):
        raise ConfigError("store: PostgreSQL comes with the [postgres] extra in a later release; use a path or sqlite:///path")
    path = url.removeprefix(SQLITE)
    if "://" in path:
        scheme = path.partition("://")[0]
        raise ConfigError(f"store: {scheme}:// is not known; use a path, sqlite:///path or dict://")
    from .sqlite.store import SqliteStore

    return await SqliteStore.open(path, namespace, settings)


async def backup_store(url: str, target: str, settings: Settings, replace: bool = False) -> Backup:
    """Back up the store at ``url``, see `autogen_coord.stores.sqlite.backup`. Cancelled, it leaves nothing behind."""
    if url.startswith(DICTIONARY) or "://" in url.removeprefix(SQLITE):
        raise ConfigError("backup: only a store in a file is backed up here; a server has its own means")
    from .sqlite.backup import backup

    stopped = threading.Event()
    work = asyncio.ensure_future(
        asyncio.to_thread(
            backup, url.removeprefix(SQLITE), target, replace=replace, wait=settings.store_wait, stopped=stopped.is_set
        )
    )
    try:
        return await asyncio.shield(work)
    except asyncio.CancelledError:
        stopped.set()
        await asyncio.wait([work])
        if not work.cancelled():
            work.exception()  # that it was stopped is no news
        raise
