"""AutoGen's shapes over the shared state: model contexts, memories and caches that survive the process. The public names."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .cache_store import CoordCacheStore
    from .chat_context import CoordChatCompletionContext
    from .memory import CoordMemory

__all__ = [
    "CoordCacheStore",
    "CoordChatCompletionContext",
    "CoordMemory",
]

_HOME_OF = {
    "CoordCacheStore": "cache_store",
    "CoordChatCompletionContext": "chat_context",
    "CoordMemory": "memory",
}


def __getattr__(name: str) -> Any:
    if name not in _HOME_OF:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = globals()[name] = getattr(import_module(f".{_HOME_OF[name]}", __name__), name)
    return value


def __dir__() -> list[str]:
    return [*__all__]
