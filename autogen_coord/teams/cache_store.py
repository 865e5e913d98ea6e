"""`CoordCacheStore`: AutoGen's cache of model answers, on disk, shared by all processes."""

from __future__ import annotations

import hashlib
from typing import Any, Self, TypeVar, cast

from autogen_core import CacheStore, Component
from pydantic import BaseModel

from ..core.shared_state import State
from ..core.values import checked_key
from ..errors import InvalidInputError
from .binding import Binding

T = TypeVar("T")


class CoordCacheStoreConfig(BaseModel):
    """What a dumped cache holds: where its entries are, and nothing that opens a store."""

    key: str
    namespace: str | None = None


class CoordCacheStore(CacheStore[T], Component[CoordCacheStoreConfig]):
    """A cache store whose entries are documents below a key: they survive the process, and all processes share them.

    AutoGen's ``get`` and ``set`` are plain functions. Each blocks its thread until it is done; neither waits for the event loop, so
    that both may be called on it (for a read some tenths of a millisecond, for a write as long as a commit takes and those before
    it). What ``set`` returned from is on disk. The last write stands.

    Values are JSON, or models, which come back as the objects that pydantic makes of them, as from AutoGen's ``RedisStore``:
    ``ChatCompletionCache`` reads them as what they were. ``namespace``: of the coordination that is open at the first use (None:
    whichever is), ``state``: ``coord.state`` of a certain one.
    """

    component_config_schema = CoordCacheStoreConfig
    component_provider_override = "autogen_coord.teams.CoordCacheStore"

    def __init__(self, key: str, *, namespace: str | None = None, state: State | None = None) -> None:
        """Raises: InvalidInputError for a key that cannot be used."""
        self._key = checked_key(key)
        self._place("")
        self._binding = Binding(namespace, state)

    def get(self, key: str, default: T | None = None) -> T | None:
        """What was set, ``default`` when nothing was. Raises: ConfigError, StoreError, ClosedError."""
        found = self._binding.state.blocking.get(self._place(key))
        if found is None:
            return default
        if not isinstance(found.value, dict) or set(found.value) != {"key", "value"}:
            raise InvalidInputError(
                f"{found.key!r} is a document of another kind, no cache's entry: use another key", key=found.key
            )
        return cast(T, found.value["value"])

    def set(self, key: str, value: T) -> None:
        """Keep a value; it is on disk when this returns.

        Raises: InvalidInputError (no JSON), PayloadTooLargeError, ConfigError, StoreError, ClosedError.
        """
        entry: dict[str, Any] = {"key": key, "value": value}
        self._binding.state.blocking.put(self._place(key), entry)

    def _place(self, key: str) -> str:
        """A document's key for any text at all."""
        return checked_key(f"{self._key}/{hashlib.sha256(key.encode('utf-8', 'surrogatepass')).hexdigest()}")

    def _to_config(self) -> CoordCacheStoreConfig:
        return CoordCacheStoreConfig(key=self._key, namespace=self._binding.namespace)

    @classmethod
    def _from_config(cls, config: CoordCacheStoreConfig) -> Self:
        return cls(config.key, namespace=config.namespace)
