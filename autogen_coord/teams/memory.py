"""`CoordMemory`: what agents remember, on disk, found by its words."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from typing import Any, NamedTuple, Self

from autogen_core import CancellationToken, Component
from autogen_core.memory import Memory, MemoryContent, MemoryMimeType, MemoryQueryResult, UpdateContextResult
from autogen_core.model_context import ChatCompletionContext
from autogen_core.models import SystemMessage
from pydantic import BaseModel

from ..core.series import Series
from ..core.shared_state import State
from ..core.values import checked_key
from ..errors import InvalidInputError
from .binding import Binding
from .words import scores, words

LIMIT = 10
MOST = 1_000
TEXTS = (MemoryMimeType.TEXT.value, MemoryMimeType.MARKDOWN.value)


class CoordMemoryConfig(BaseModel):
    """What a dumped memory holds: where its entries are, and nothing that opens a store."""

    key: str
    namespace: str | None = None
    limit: int = LIMIT


class _Found(NamedTuple):
    """An entry, its place among all, and how well it fits (0: not at all)."""

    place: int
    content: MemoryContent
    score: float = 0.0


class CoordMemory(Memory, Component[CoordMemoryConfig]):
    """A memory whose entries are documents at a key: they survive the process, and agents in any processes may share them.

    Entries are texts, Markdown and JSON; images and bytes are refused, since they have no words: keep such a thing where files are
    kept, and remember where that is. A search reads all entries: it is made for thousands, not for millions.

    ``limit``: how many entries a query answers, and the context is given, at most. ``namespace``: of the coordination that is open
    at the first use (None: whichever is), ``state``: ``coord.state`` of a certain one.

    Its methods raise, besides what stands there, ConfigError (no such coordination is open, or several), StoreError, ClosedError.
    """

    component_config_schema = CoordMemoryConfig
    component_provider_override = "autogen_coord.teams.CoordMemory"

    def __init__(self, key: str, *, limit: int = LIMIT, namespace: str | None = None, state: State | None = None) -> None:
        """Raises: InvalidInputError for a key or a limit that cannot be used."""
        self._key = checked_key(key)
        self._limit = _checked_limit(limit)
        self._binding = Binding(namespace, state)

    @property
    def key(self) -> str:
        """Where its entries are."""
        return self._key

    async def add(self, content: MemoryContent, cancellation_token: CancellationToken | None = None) -> None:
        """Remember something; on disk when this returns. The same once more is one more entry.

        Raises: InvalidInputError for images, bytes and what is no JSON; PayloadTooLargeError.
        """
        _require_going_on(cancellation_token)
        await self._series.append(_entry(content))

    async def query(
        self,
        query: str | MemoryContent = "",
        cancellation_token: CancellationToken | None = None,
        *,
        limit: int | None = None,
        **kwargs: Any,
    ) -> MemoryQueryResult:
        """The entries that share words with the query, the best first, at most ``limit``; ``metadata["score"]`` says how well.

        The score is BM25 over all entries (see `autogen_coord.teams.words.scores`); of two that fit alike the newer comes first.
        A query without words answers the newest entries, the newest first, without a score.

        Raises: InvalidInputError for a query that is no text and no JSON, and for options that there are not.
        """
        if kwargs:
            raise InvalidInputError(f"query: unknown option {sorted(kwargs)[0]!r}; there is limit")
        _require_going_on(cancellation_token)
        most = self._limit if limit is None else _checked_limit(limit)
        question = query if isinstance(query, str) else _text(_entry(query))
        if not words(question):
            return MemoryQueryResult(results=[one.content for one in reversed((await self._all(most))[-most:])])
        found = _best(question, await self._all())[:most]
        return MemoryQueryResult(results=[_scored(one) for one in found])

    async def update_context(self, model_context: ChatCompletionContext) -> UpdateContextResult:
        """Add what is remembered to a context, as one system message in the words of AutoGen's ``ListMemory``.

        In chronological order. Of more than ``limit`` entries those that fit the context's last message best, and where these are
        fewer the newest. Nothing is added when there are none.
        """
        entries = await self._all()
        if len(entries) > self._limit:
            messages = await model_context.get_messages()
            best = _best(_words_of(messages[-1].content), entries)[: self._limit] if messages else []
            chosen = {one.place for one in best}
            rest = [one for one in entries if one.place not in chosen]
            entries = sorted([*best, *rest[len(rest) - (self._limit - len(best)) :]], key=lambda one: one.place)
        if entries:
            lines = [f"{number}. {one.content.content!s}" for number, one in enumerate(entries, 1)]
            said = "\nRelevant memory content (in chronological order):\n" + "\n".join(lines) + "\n"
            await model_context.add_message(SystemMessage(content=said))
        return UpdateContextResult(memories=MemoryQueryResult(results=[one.content for one in entries]))

    async def clear(self) -> None:
        """Forget all entries at the key, whoever added them."""
        await self._series.replace()

    async def close(self) -> None:
        """Nothing to do: the coordination is closed by whoever opened it."""

    async def _all(self, newest: int | None = None) -> list[_Found]:
        entries = await self._series.read(newest) or []
        return [_Found(place, _content(entry.value, self._key)) for place, entry in enumerate(entries)]

    @property
    def _series(self) -> Series:
        return self._binding.state.series(self._key)

    def _to_config(self) -> CoordMemoryConfig:
        return CoordMemoryConfig(key=self._key, namespace=self._binding.namespace, limit=self._limit)

    @classmethod
    def _from_config(cls, config: CoordMemoryConfig) -> Self:
        return cls(config.key, limit=config.limit, namespace=config.namespace)


def _best(question: str, entries: Sequence[_Found]) -> list[_Found]:
    """Those that share words, the best first, of two alike the newer."""
    found = scores(question, [_words_of(one.content.content) for one in entries])
    fitting = [one._replace(score=score) for one, score in zip(entries, found, strict=True) if score > 0]
    return sorted(fitting, key=lambda one: (-one.score, -one.place))


def _scored(one: _Found) -> MemoryContent:
    return one.content.model_copy(update={"metadata": {**(one.content.metadata or {}), "score": one.score}})


def _entry(content: MemoryContent) -> dict[str, Any]:
    """An entry as it is kept. Raises: InvalidInputError for what has no words."""
    kind = content.mime_type.value if isinstance(content.mime_type, MemoryMimeType) else content.mime_type
    fits = isinstance(content.content, str) if kind in TEXTS else isinstance(content.content, str | dict)
    if kind not in (*TEXTS, MemoryMimeType.JSON.value) or not fits:
        raise InvalidInputError(
            f"a {type(content.content).__name__} as {kind!r:.80} cannot be remembered: pass a text as text/plain or text/markdown, "
            "or an object as application/json; keep files and images elsewhere, and remember where"
        )
    return {"content": content.content, "mime_type": kind, "metadata": content.metadata}


def _content(value: Any, key: str) -> MemoryContent:
    if not isinstance(value, dict) or {"content", "mime_type", "metadata"} != set(value):
        raise InvalidInputError(f"{key!r} holds something else than a memory's entries: use another key", key=key)
    return MemoryContent(
        content=value["content"], mime_type=MemoryMimeType(value["mime_type"]), metadata=value["metadata"]
    )  # fmt: skip


def _text(entry: dict[str, Any]) -> str:
    return _words_of(entry["content"])


def _words_of(content: object) -> str:
    """What of a memory or a message can be searched for."""
    if isinstance(content, str):
        return content
    if isinstance(content, dict):
        return json.dumps(content, ensure_ascii=False, default=str)
    if not isinstance(content, list):
        return ""
    parts = (one if isinstance(one, str) else getattr(one, "content", getattr(one, "arguments", "")) for one in content)
    return " ".join(part for part in parts if isinstance(part, str))


def _checked_limit(limit: object) -> int:
    if isinstance(limit, bool) or not isinstance(limit, int) or not 1 <= limit <= MOST:
        raise InvalidInputError(f"limit={limit!r:.50}: a whole number from 1 to {MOST:,}")
    return limit


def _require_going_on(token: CancellationToken | None) -> None:
    if token is not None and token.is_cancelled():
        raise asyncio.CancelledError
