"""`CoordChatCompletionContext`: a model context whose messages are on disk."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Self

from autogen_core import Component
from autogen_core.model_context import ChatCompletionContext
from autogen_core.models import FunctionExecutionResultMessage, LLMMessage
from pydantic import BaseModel, TypeAdapter, ValidationError

from ..core.series import Series
from ..core.shared_state import State
from ..core.values import checked_key
from ..errors import InvalidInputError
from .binding import Binding

_messages: TypeAdapter[list[LLMMessage]] = TypeAdapter(list[LLMMessage])
JSON = Any


class CoordChatCompletionContextConfig(BaseModel):
    """What a dumped context holds: where its messages are, none of what was said since, and nothing that opens a store."""

    key: str
    namespace: str | None = None
    buffer_size: int | None = None
    initial_messages: list[LLMMessage] | None = None


class CoordChatCompletionContext(ChatCompletionContext, Component[CoordChatCompletionContextConfig]):
    """A model context whose messages are documents at a key: they survive the process.

    Any number of agents, in any processes, may have a context at the same key: what one of them adds the others see, and none of it
    is lost. What `add_message` returned from is on disk. Messages come back as they were added, images as the same pixels.

    ``buffer_size``: show a model the last so many messages (without a function's result whose call is not among them); all are
    kept. ``initial_messages``: what the key begins with if nothing was ever added there. ``namespace``: of the coordination that is
    open at the first use (None: whichever is), ``state``: ``coord.state`` of a certain one.

    Its methods raise, besides what stands there, ConfigError (no such coordination is open, or several), StoreError, ClosedError.
    """

    component_config_schema = CoordChatCompletionContextConfig
    component_provider_override = "autogen_coord.teams.CoordChatCompletionContext"

    def __init__(
        self,
        key: str,
        *,
        buffer_size: int | None = None,
        initial_messages: Sequence[LLMMessage] | None = None,
        namespace: str | None = None,
        state: State | None = None,
    ) -> None:
        """Raises: InvalidInputError for a key or a size that cannot be used."""
        super().__init__(None if initial_messages is None else list(initial_messages))
        if buffer_size is not None and (isinstance(buffer_size, bool) or not isinstance(buffer_size, int) or buffer_size < 1):
            raise InvalidInputError(f"buffer_size={buffer_size!r:.50}: a whole number from 1 on, or None for all messages")
        self._key = checked_key(key)
        self._buffer_size = buffer_size
        self._binding = Binding(namespace, state)

    @property
    def key(self) -> str:
        """Where its messages are."""
        return self._key

    async def add_message(self, message: LLMMessage) -> None:
        """Append a message; on disk when this returns. Raises: InvalidInputError, PayloadTooLargeError."""
        await self._series.append(*_dumped([message]), begin=_dumped(self._initial_messages or ()))

    async def get_messages(self) -> list[LLMMessage]:
        """The messages as they stood at one moment, the oldest first: all, or the last ``buffer_size``."""
        messages = await self._read(self._buffer_size)
        if self._buffer_size is not None and messages and isinstance(messages[0], FunctionExecutionResultMessage):
            return messages[1:]
        return messages

    async def clear(self) -> None:
        """Forget all messages at the key, whoever added them. Initial ones do not come back."""
        await self._series.replace()

    async def save_state(self) -> Mapping[str, Any]:
        """All messages (JSON), in the form that AutoGen's own contexts give."""
        return {"messages": _dumped(await self._read(None))}

    async def load_state(self, state: Mapping[str, Any]) -> None:
        """Have exactly these messages (up to 10,000), in one transaction: what others added at this key since is forgotten too.

        Where they are there already, nothing is written: so a state that was saved, and is loaded after a restart, costs nothing.

        Raises: InvalidInputError for what is no context's state; PayloadTooLargeError.
        """
        messages = _dumped(_loaded(state.get("messages", []), self._key))
        if messages != _dumped(await self._read(None)):
            await self._series.replace(messages)

    async def _read(self, newest: int | None) -> list[LLMMessage]:
        entries = await self._series.read(newest)
        if entries is None:
            return [message.model_copy() for message in (self._initial_messages or ())][-(newest or 0) :]
        return _loaded([entry.value for entry in entries], self._key)

    @property
    def _series(self) -> Series:
        return self._binding.state.series(self._key)

    def _to_config(self) -> CoordChatCompletionContextConfig:
        return CoordChatCompletionContextConfig(
            key=self._key,
            namespace=self._binding.namespace,
            buffer_size=self._buffer_size,
            initial_messages=self._initial_messages,
        )

    @classmethod
    def _from_config(cls, config: CoordChatCompletionContextConfig) -> Self:
        return cls(
            config.key,
            buffer_size=config.buffer_size,
            initial_messages=config.initial_messages,
            namespace=config.namespace,
        )


def _dumped(messages: Sequence[LLMMessage]) -> list[JSON]:
    return [message.model_dump(mode="json") for message in messages]


def _loaded(messages: object, key: str) -> list[LLMMessage]:
    try:
        return _messages.validate_python(messages)
    except ValidationError as error:
        where = ".".join(map(str, error.errors(include_url=False)[0]["loc"]))
        raise InvalidInputError(f"{key!r}: not a list of AutoGen's messages ({where}): use another key", key=key) from error
