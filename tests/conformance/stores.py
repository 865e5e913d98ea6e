"""Every store that the conformance suites run on: a factory each. A new store joins by one more line in `PLACES`."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Protocol

from autogen_coord.core.store import Store
from autogen_coord.settings import Settings
from autogen_coord.stores.dictionary.data import DictionaryData
from autogen_coord.stores.dictionary.store import DictionaryStore
from autogen_coord.stores.sqlite.store import SqliteStore

Clock = Callable[[], float]


class Place(Protocol):
    """One database. Each `open` gives a handle of its own, as another process would have it."""

    async def open(self, namespace: str = "default", settings: Settings | None = None, clock: Clock | None = None) -> Store: ...

    async def close(self) -> None:
        """Close every handle."""
        ...


class SqlitePlace:
    def __init__(self, folder: Path) -> None:
        self.path = folder / "coord.db"
        self._handles: list[SqliteStore] = []

    async def open(self, namespace: str = "default", settings: Settings | None = None, clock: Clock | None = None) -> SqliteStore:
        store = await SqliteStore.open(self.path, namespace, settings or Settings(), clock)
        self._handles.append(store)
        return store

    async def close(self) -> None:
        for store in self._handles:
            await store.close()


class DictionaryPlace:
    collecting = False

    def __init__(self, folder: Path) -> None:
        self._data = DictionaryData()
        self._handles: list[DictionaryStore] = []

    async def open(
        self, namespace: str = "default", settings: Settings | None = None, clock: Clock | None = None
    ) -> DictionaryStore:
        store = DictionaryStore(namespace, settings, data=self._data, clock=clock, collecting=self.collecting)
        self._handles.append(store)
        return store

    async def close(self) -> None:
        for store in self._handles:
            await store.close()


class CollectingPlace(DictionaryPlace):
    collecting = True


PLACES: dict[str, Callable[[Path], Place]] = {
    "sqlite": SqlitePlace,
    "dictionary": DictionaryPlace,
    "collecting": CollectingPlace,
}
