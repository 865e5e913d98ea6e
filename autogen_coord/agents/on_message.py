"""`on_message`: methods of an agent to which its messages are pushed."""

from __future__ import annotations

import inspect
import typing
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Concatenate, ParamSpec, TypeVar, overload

from ..core.addresses import check_topic
from ..core.messages import MessageKind
from ..errors import InvalidInputError
from .context import TaskContext
from .message import Message

P = ParamSpec("P")
A = TypeVar("A")
Handler = Callable[Concatenate[A, Message, P], Awaitable[None]]
MARK = "__autogen_coord_on_message__"


@dataclass(frozen=True, slots=True)
class OnMessage:
    """A method that takes messages: of some ``kinds`` (none: of any), of a ``topic`` (``type``, ``type/source``; None: of any)."""

    name: str
    kinds: frozenset[MessageKind]
    topic: str | None
    context: str | None
    """The name of its `TaskContext` parameter."""

    def fits(self, message: Message) -> bool:
        """Whether it takes this message."""
        if self.kinds and message.kind not in self.kinds:
            return False
        return self.topic is None or (message.topic is not None and self.topic in (message.topic, message.topic.partition("/")[0]))

    @property
    def closeness(self) -> tuple[bool, bool, bool]:
        """How much it asks for: of several that fit, the one that asks for most is called."""
        return self.topic is not None and "/" in self.topic, self.topic is not None, bool(self.kinds)

    def handle(self, agent: object, message: Message, context: TaskContext) -> Awaitable[Any]:
        """Call the method as its signature wants it."""
        method = getattr(agent, self.name)
        return method(message) if self.context is None else method(message, **{self.context: context})  # type: ignore[no-any-return]


@dataclass(frozen=True, slots=True)
class _Mark:
    kinds: frozenset[MessageKind]
    topic: str | None


@overload
def on_message(handler: Handler[A, P], /) -> Handler[A, P]: ...
@overload
def on_message(*kinds: MessageKind | str, topic: str | None = None) -> Callable[[Handler[A, P]], Handler[A, P]]: ...
def on_message(*kinds: Any, topic: str | None = None) -> Any:
    """Push messages to this method of a `CapabilityAgent`: ``async def name(self, message: Message) -> None``, with a `TaskContext`
    behind if it wants one.

    As ``@on_message`` (any message), ``@on_message(MessageKind.STATUS, ...)`` (of these kinds), ``@on_message(topic="news")`` (sent
    to this topic, or to ``"news/source"``). Of several that fit, the one that asks for most is called. What it returns is ignored:
    `Message.reply` answers. It is tried again when it raises, as any handler.

    Raises: InvalidInputError for methods that cannot be one.
    """
    if len(kinds) == 1 and callable(kinds[0]):
        return _marked(kinds[0], (), None)
    if topic is not None:
        type, slash, source = topic.partition("/") if isinstance(topic, str) else ("", "", "")
        check_topic(type, source if slash else None)
    return lambda handler: _marked(handler, kinds, topic)


def _marked(handler: Any, kinds: Sequence[Any], topic: str | None) -> Any:
    where = f"@on_message {getattr(handler, '__qualname__', handler)!s}"
    if not inspect.iscoroutinefunction(handler):
        raise InvalidInputError(f"{where}: must be an `async def`; put blocking work into asyncio.to_thread")
    parameters = list(inspect.signature(handler).parameters.values())
    if len(parameters) not in (2, 3) or any(one.kind in (one.VAR_POSITIONAL, one.VAR_KEYWORD) for one in parameters):
        names = ", ".join(one.name for one in parameters) or "none"
        raise InvalidInputError(f"{where}: (self, message: Message[, ctx: TaskContext]) is wanted, not ({names})")
    try:
        mark = _Mark(frozenset(map(MessageKind, kinds)), topic)
    except ValueError:
        raise InvalidInputError(f"{where}: kinds are {', '.join(MessageKind)}") from None
    setattr(handler, MARK, mark)
    return handler


def handlers_of(cls: type) -> list[OnMessage]:
    """The `on_message` methods of a class and its bases; an override without the mark takes no messages.

    Raises: InvalidInputError for unusable annotations, and for two methods that ask for the same.
    """
    found: dict[str, OnMessage] = {}
    for base in reversed(cls.__mro__):
        for name, value in vars(base).items():
            found.pop(name, None)
            mark = getattr(value, MARK, None) if inspect.isfunction(value) else None
            if mark is not None:
                found[name] = OnMessage(name, mark.kinds, mark.topic, _context_of(value))
    handlers = list(found.values())
    _refuse_same(cls, handlers)
    return handlers


def _context_of(handler: Callable[..., Any]) -> str | None:
    """The name of its context parameter, its annotations checked."""
    where = f"@on_message {handler.__qualname__}"
    try:
        hints = typing.get_type_hints(handler)
    except NameError as error:
        raise InvalidInputError(f"{where}: {error}; annotations must name types of its module") from error
    _, message, *more = list(inspect.signature(handler).parameters)
    for name, wanted in ((message, Message), *((name, TaskContext) for name in more)):
        if hints.get(name) is not wanted:
            raise InvalidInputError(f"{where}: parameter {name!r} must be annotated as {wanted.__name__}, not {hints.get(name)!r}")
    return more[0] if more else None


def _refuse_same(cls: type, handlers: Iterable[OnMessage]) -> None:
    asked: dict[tuple[str | None, str | None], str] = {}
    for handler in handlers:
        kinds: list[MessageKind | None] = [*sorted(handler.kinds)] or [None]
        for kind in kinds:
            other = asked.setdefault((handler.topic, kind), handler.name)
            if other != handler.name:
                what = f"{kind or 'any'} messages" + (f" of topic {handler.topic!r}" if handler.topic else "")
                raise InvalidInputError(f"{cls.__qualname__}: {other} and {handler.name} both take {what}: only one of them may")


def choose(handlers: Iterable[OnMessage], message: Message) -> OnMessage | None:
    """The handler of a message: of those that it fits, the one that asks for most. None when no handler takes it."""
    return max((handler for handler in handlers if handler.fits(message)), key=lambda handler: handler.closeness, default=None)


def unhandled(agent: str, message: Message) -> InvalidInputError:
    """Why a message cannot be handled, whoever tries it again."""
    about = f" of topic {message.topic}" if message.topic is not None else ""
    return InvalidInputError(f"agent {agent} has no handler for {message.kind.name} messages{about}: give it an @on_message method")
