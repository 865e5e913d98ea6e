"""AgentChat agents and teams as capabilities: a fresh one a call, made by a factory.

An AgentChat agent remembers what it was told. One that served two callers would show each the other's text, so whatever remembers
(the agent or team, its participants, their model contexts) must be new in each call: what was seen before is refused.
"""

from __future__ import annotations

import asyncio
import inspect
import json
import logging
from collections import deque
from collections.abc import Awaitable, Callable, Iterable, Iterator, Sequence
from typing import Any
from weakref import WeakValueDictionary

from autogen_agentchat.base import ChatAgent, TaskResult, Team
from autogen_agentchat.messages import BaseChatMessage, StructuredMessage
from autogen_core import CancellationToken
from autogen_core.model_context import ChatCompletionContext
from autogen_core.tools import BaseTool, Workbench

from ..core.schemas import Schema
from ..errors import ConfigError, InvalidInputError
from .context import TaskContext
from .runner import Reported

log = logging.getLogger(__name__)

Factory = Callable[[], ChatAgent | Team | Awaitable[ChatAgent | Team]]
Rememberer = ChatAgent | Team | ChatCompletionContext
LOOKED_AT = 10_000
"""How many objects are looked at for what remembers."""
PATIENCE = 1.0
"""Seconds that a team gets to stop by its cancellation token, before what runs in it is cancelled."""

_seen: WeakValueDictionary[int, object] = WeakValueDictionary()


class Chat:
    """A factory of AgentChat agents or teams, as a handler. ``label`` names it in errors."""

    def __init__(self, factory: Factory, label: str, input: Schema[Any], output: Schema[Any]) -> None:
        self._factory = factory
        self._label = label
        self._input = input
        self._output = output

    async def handle(self, input: Any, context: TaskContext) -> Any:
        """Make one, give it the input as its task, and return its last message in the form that was declared.

        Raises: ConfigError when the factory returns something else, or something that was used before; what it raises.
        """
        made = self._factory()
        runner = await made if inspect.isawaitable(made) else made
        if not isinstance(runner, ChatAgent | Team):
            raise ConfigError(f"the factory of {self._label} made a {type(runner).__name__}: an AgentChat agent or team is wanted")
        parts = list(_parts(runner))
        self._refuse_shared(parts)
        try:
            result = await _run(runner, self._task(input))
        finally:
            await _close(parts)
        return self._value(result)

    def _refuse_shared(self, parts: Sequence[Rememberer]) -> None:
        for part in parts:
            if _seen.get(id(part)) is part:
                raise ConfigError(
                    f"the factory of {self._label} used a {type(part).__name__} for a second call, which would see the first one's "
                    "text: make everything new inside the factory (a model client may be shared)"
                )
        _seen.update((id(part), part) for part in parts)

    def _task(self, input: Any) -> str | BaseChatMessage | Sequence[BaseChatMessage]:
        if isinstance(input, str | BaseChatMessage):
            return input
        if isinstance(input, list | tuple) and input and all(isinstance(one, BaseChatMessage) for one in input):
            return list(input)
        return self._input.encode(input)

    def _value(self, result: TaskResult) -> Any:
        """The last message in the first of these forms that fits the output: structured content, itself, its text, its JSON."""
        last = next((one for one in reversed(result.messages) if isinstance(one, BaseChatMessage)), None)
        if last is None or self._output.is_none:
            return None
        forms: list[Any] = [last.content] if isinstance(last, StructuredMessage) else []
        text = last.to_text()
        for form in (*forms, last, text):
            if self._output.accepts(form):
                return form
        try:
            return self._output.decode_strictly(text)
        except InvalidInputError:
            return _structure(text)


def _structure(text: str) -> Any:
    """The JSON object or list that it may be, else the text: what of it does not fit the output the runner says."""
    try:
        value = json.loads(text)
    except ValueError:
        return text
    return value if isinstance(value, dict | list) else text


def _parts(runner: ChatAgent | Team) -> Iterator[Rememberer]:
    """It, and what remembers in it: found in the attributes of agents, teams, workbenches and tools, and in collections there."""
    seen: set[int] = set()
    left: deque[object] = deque([runner])
    while left and len(seen) < LOOKED_AT:
        one = left.popleft()
        if id(one) in seen:
            continue
        seen.add(id(one))
        if isinstance(one, ChatAgent | Team | ChatCompletionContext):
            yield one
        left += _held_by(one)


def _held_by(one: object) -> Iterable[object]:
    if isinstance(one, ChatAgent | Team | Workbench | BaseTool):
        return list(vars(one).values()) if hasattr(one, "__dict__") else ()
    if isinstance(one, dict):
        return list(one.values())
    return list(one) if isinstance(one, list | tuple | set | frozenset) else ()


async def _run(runner: ChatAgent | Team, task: str | BaseChatMessage | Sequence[BaseChatMessage]) -> TaskResult:
    token = CancellationToken()
    work = asyncio.ensure_future(runner.run(task=task, cancellation_token=token, output_task_messages=False))
    try:
        return await asyncio.shield(work)
    except asyncio.CancelledError:
        token.cancel()  # first: a team that is cancelled waits until its runtime is idle
        if isinstance(runner, ChatAgent):
            work.cancel()
        await _ended(runner, work)
        raise
    except RuntimeError as error:
        raise _unwrapped(error) from error


async def _ended(runner: ChatAgent | Team, work: asyncio.Future[TaskResult]) -> None:
    try:
        await asyncio.wait([work], timeout=PATIENCE)
        if not work.done():
            for running in _running(runner):  # participants that ignore the token
                running.cancel()
            await asyncio.wait([work])
    finally:
        work.cancel()
        work.add_done_callback(lambda done: done.cancelled() or done.exception())


def _running(runner: ChatAgent | Team) -> list[asyncio.Future[Any]]:
    """What runs in a team's own runtime: a team has no other way to be stopped when a participant ignores its token."""
    found: list[asyncio.Future[Any]] = []
    for part in _parts(runner):
        if isinstance(part, Team) and getattr(part, "_embedded_runtime", False):
            found += getattr(getattr(part, "_runtime", None), "_background_tasks", ())
    return found


def _unwrapped(error: RuntimeError) -> Exception:
    """A team raises a RuntimeError whose text is its participant's error: that error, by its report."""
    kind, _, rest = str(error).partition(": ")
    text, marked, frames = rest.partition("\nTraceback:\n")
    if type(error) is RuntimeError and marked and kind.isidentifier():
        return Reported(kind, text, frames)
    return error


async def _close(parts: Sequence[Rememberer]) -> None:
    for part in parts:
        if isinstance(part, ChatAgent):
            try:
                await part.close()
            except Exception as error:
                log.warning("an agent could not be closed: %s", type(error).__name__)
