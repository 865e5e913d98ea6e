"""Model clients that need no network: one that acts as it is asked, and one that remembers what it was shown."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal

from autogen_core import CancellationToken
from autogen_core.models import CreateResult, LLMMessage, ModelFamily, ModelInfo, RequestUsage
from autogen_core.tools import Tool, ToolSchema
from autogen_ext.models.replay import ReplayChatCompletionClient
from pydantic import BaseModel

from tests.conformance.provider_acts import Ask, Record, act

INFO = ModelInfo(vision=False, function_calling=False, json_output=True, family=ModelFamily.UNKNOWN, structured_output=True)


def said(text: str) -> CreateResult:
    usage = RequestUsage(prompt_tokens=0, completion_tokens=0)
    return CreateResult(finish_reason="stop", content=text, usage=usage, cached=False)


def texts(messages: Sequence[LLMMessage]) -> list[str]:
    """What a model was shown, the system's own prompt left out."""
    return [str(message.content) for message in messages if message.type != "SystemMessage"]


class Model(ReplayChatCompletionClient):
    """A model client whose answers are made by `answer`; it keeps what each call was shown."""

    heeds_its_token = True

    def __init__(self) -> None:
        super().__init__([], INFO)
        self.shown: list[list[str]] = []

    async def answer(self, messages: list[str], asked: Callable[[], bool]) -> str:
        raise NotImplementedError

    async def create(
        self,
        messages: Sequence[LLMMessage],
        *,
        tools: Sequence[Tool | ToolSchema] = (),
        tool_choice: Tool | Literal["auto", "required", "none"] = "auto",
        json_output: bool | type[BaseModel] | None = None,
        extra_create_args: Mapping[str, Any] | None = None,
        cancellation_token: CancellationToken | None = None,
    ) -> CreateResult:
        token = cancellation_token or CancellationToken()
        self.shown.append(texts(messages))
        work = asyncio.ensure_future(self.answer(self.shown[-1], token.is_cancelled))
        if self.heeds_its_token:
            token.link_future(work)
        return said(await work)


class ActingModel(Model):
    """Does what the last message asks for; one that ``heeds_its_token`` is cancelled by it, as network clients are."""

    def __init__(self, record: Record, heeds_its_token: bool = True) -> None:
        super().__init__()
        self.record = record
        self.heeds_its_token = heeds_its_token

    async def answer(self, messages: list[str], asked: Callable[[], bool]) -> str:
        return str(await act(self.record, Ask.model_validate_json(messages[-1]), asked))


class EchoModel(Model):
    """Says what it was shown last, in capitals; every call gives the others a turn, as a network would."""

    async def answer(self, messages: list[str], asked: Callable[[], bool]) -> str:
        await asyncio.sleep(0)
        return messages[-1].upper()
