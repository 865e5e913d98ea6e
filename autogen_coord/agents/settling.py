"""How a message is ended: one that was pulled by its receiver, one that was pushed by the runner."""

from __future__ import annotations

import logging
from typing import Any, Protocol

from ..core import claims
from ..core.claims import Finish, GiveBack, Reject
from ..core.endings import Failure
from ..core.messages import MessageKind, Posted
from ..core.tables import FAILED, SUCCEEDED
from ..errors import CoordError, InvalidInputError
from .context import TaskContext
from .inbox import Held
from .message import Message

log = logging.getLogger(__name__)

PUSHED = "this message was pushed to a handler: it is acknowledged when the handler returns; raise RejectedError to reject it"


class Replying(Protocol):
    """Sends the reply to a message, in the name of a handler if there is one."""

    async def reply(self, message: Message, body: Any, kind: MessageKind, context: TaskContext | None) -> Posted: ...


class Pulled:
    """Held by its receiver."""

    def __init__(self, held: Held, replying: Replying) -> None:
        self._held = held
        self._replying = replying

    async def ack(self) -> None:
        session, task, attempt = self._claim
        await self._held.settle("acknowledged", claims.finish, Finish(session, task, attempt, SUCCEEDED, "null"))

    async def reject(self, reason: str, requeue: bool) -> None:
        session, task, attempt = self._claim
        if requeue:
            await self._held.settle("rejected", claims.reject, Reject(session, task, attempt, reason))
            return
        failure = Failure("rejected", "RejectedError", reason or "its receiver rejected it", retryable=False)
        await self._held.settle("buried", claims.finish, Finish(session, task, attempt, FAILED, None, failure))

    async def leave(self, failed: bool) -> None:
        """The end of its block."""
        if self._held.how is not None:
            return
        if not failed:
            await self.ack()
            return
        session, task, attempt = self._claim
        try:
            await self._held.settle("given back", claims.give_back, GiveBack(session, [(task, attempt)]))
        except CoordError as error:  # the block's own error is the one to raise
            log.warning("a message could not be given back (%s): it returns with the session", error.code, extra={"task_id": task})

    async def reply(self, message: Message, body: Any, kind: MessageKind) -> Posted:
        return await self._replying.reply(message, body, kind, None)

    @property
    def _claim(self) -> tuple[str, str, int]:
        row = self._held.claimed.row
        return row.session or "", row.id, row.attempt


class Pushed:
    """Run by the runner, which writes how the handler ended."""

    def __init__(self, context: TaskContext, replying: Replying) -> None:
        self._context = context
        self._replying = replying

    async def ack(self) -> None:
        raise InvalidInputError(PUSHED)

    async def reject(self, reason: str, requeue: bool) -> None:
        raise InvalidInputError(PUSHED)

    async def leave(self, failed: bool) -> None:
        """The runner sees how the handler ends."""

    async def reply(self, message: Message, body: Any, kind: MessageKind) -> Posted:
        return await self._replying.reply(message, body, kind, self._context)
