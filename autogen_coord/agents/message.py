"""`Message`: what one agent sent to another, as its receiver has it."""

from __future__ import annotations

from types import TracebackType
from typing import Any, Protocol, Self, TypeVar, overload

from pydantic import TypeAdapter, ValidationError

from ..core import bodies
from ..core.claims import Claimed
from ..core.messages import MessageKind, Posted
from ..errors import InvalidInputError

T = TypeVar("T")


class Settling(Protocol):
    """Where a message came from, and how it is ended there."""

    async def ack(self) -> None: ...
    async def reject(self, reason: str, requeue: bool) -> None: ...
    async def leave(self, failed: bool) -> None: ...
    async def reply(self, message: Message, body: Any, kind: MessageKind) -> Posted: ...


class Message:
    """A message. ``body`` is a JSON value (`read` gives it a type), ``sender`` and ``recipient`` are addresses ``type/key``.

    ``topic`` is ``type/source`` where it was sent to one; ``group`` tells whether it was sent to whoever is there (a topic, a
    capability's agents, everyone), not to this agent. ``sent_at`` is epoch seconds of the store's clock. ``attempt`` counts how
    often somebody had it: more than 1 means that it may have been worked on before.

    One that was *received* is yours until you `ack` or `reject` it, or your process ends: then it comes again. ``async with
    message:`` acknowledges it at its end, and gives it back on an exception, unless the block did either itself. One that was
    *pushed* to an `on_message` handler is acknowledged when the handler returns.
    """

    def __init__(self, claimed: Claimed, settling: Settling) -> None:
        row, task = claimed.row, claimed.task
        envelope = bodies.decode(claimed.input)
        self.id = row.id
        self.kind = MessageKind(envelope["kind"])
        self.topic: str | None = envelope["topic"]
        self.group: bool = envelope.get("group", False)
        self.body: Any = envelope["body"]
        self.sender = task.sender
        self.recipient = task.recipient or ""
        self.priority = task.priority
        self.correlation = task.correlation
        self.causation = task.causation
        self.sent_at = task.submitted_at
        self.attempt = row.attempt - claimed.unbegun
        self._settling = settling

    def __repr__(self) -> str:
        return f"Message({self.id}, {self.kind}, {self.sender} -> {self.recipient})"

    @overload
    def read(self, type: type[T]) -> T: ...
    @overload
    def read(self, type: Any) -> Any: ...
    def read(self, type: Any) -> Any:
        """The body as a value of a type: a pydantic model, a dataclass, ``list[int]``... Raises: InvalidInputError."""
        try:
            return TypeAdapter(type).validate_json(bodies.encode(self.body))
        except ValidationError as error:
            first = error.errors(include_url=False, include_input=False)[0]
            where = ".".join(map(str, first["loc"]))
            raise InvalidInputError(f"the body of message {self.id} is no {type!r}: {where or 'it'}: {first['msg']}") from None

    async def ack(self) -> None:
        """It is done, and never comes again. Twice is once.

        Raises: StaleClaimError when it is no longer yours (the session died, it was cancelled, it was given back); StoreError: it
        is still yours, try again; InvalidInputError in a handler that it was pushed to.
        """
        await self._settling.ack()

    async def reject(self, reason: str = "", *, requeue: bool = True) -> None:
        """Not me: another receiver gets it, or this one after a pause; without ``requeue`` it becomes a dead letter.

        Raises: as `ack`.
        """
        await self._settling.reject(str(reason), requeue)

    async def reply(self, body: Any, kind: MessageKind = MessageKind.RESULT) -> Posted:
        """Answer its sender: with its correlation (or its id), caused by it.

        In a handler that it was pushed to, a repeated attempt does not answer twice.

        Raises: InvalidInputError (nobody sent it, or a body that cannot be sent), NotFoundError, StoreError.
        """
        if self.sender is None:
            raise InvalidInputError(f"message {self.id} names no sender to reply to: send it with sender=")
        return await self._settling.reply(self, body, kind)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        await self._settling.leave(error is not None)
