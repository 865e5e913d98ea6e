"""`TaskContext`: what a handler may know of its task, and do in its name."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping, MutableMapping, Sequence
from typing import TYPE_CHECKING, Any, Protocol, TypeVar, Unpack, overload

from ..core import bodies
from ..core.calls import Handling, inside
from ..core.claims import Finish
from ..core.documents import Author
from ..core.effects import FinishWith
from ..core.ids import new_id
from ..core.leases import Leases
from ..core.lock_handles import Block
from ..core.lock_modes import LockMode
from ..core.lock_requests import Claim, asked
from ..core.process import Process
from ..core.requests import Options, Priority
from ..core.state import Edit, Write
from ..errors import InvalidInputError
from .handler_state import HandlerState

if TYPE_CHECKING:
    from ..core.messages import Posted
    from .capability import Capability
    from .messaging import RequestOptions, SendOptions
    from .recipients import To

In = TypeVar("In")
Out = TypeVar("Out")


class Asking(Protocol):
    """The part that asks for children and tells of progress."""

    async def call_child(self, context: TaskContext, capability: Any, input: Any, returns: Any, options: Options) -> Any: ...
    async def report_progress(self, context: TaskContext, data: str) -> None: ...


class Messaging(Protocol):
    """The part that sends messages."""

    async def send(self, to: To, body: Any, options: SendOptions, context: TaskContext) -> list[Posted]: ...
    async def request(
        self, to: To, body: Any, returns: Any, timeout: float | None, options: RequestOptions, context: TaskContext
    ) -> Any: ...


class ContextPort(Protocol):
    """What a context needs of its coordination."""

    @property
    def asking(self) -> Asking: ...
    @property
    def messaging(self) -> Messaging: ...
    @property
    def leases(self) -> Leases: ...
    @property
    def process(self) -> Process: ...


class TaskContext:
    """What a handler may know of its task, and do in its name.

    ``deadline``: epoch seconds of the store's clock, or None. ``sticky``: the task's sticky key, or None. ``cancelled``: an event,
    set when the attempt should stop (it is cancelled as well). ``idempotency_key``: the same in every attempt; pass it to outside
    services. ``agent``: the address ``type/key`` of the agent that handles it, None for a function. ``log``: a logger that carries
    the ids.
    """

    def __init__(
        self,
        port: ContextPort,
        session: str,
        task_id: str,
        attempt: int,
        deadline: float | None,
        label: str,
        sticky: str | None = None,
        handling: Handling | None = None,
    ) -> None:
        self._port = port
        self._ordinals: dict[tuple[str, str], int] = {}
        self._cancelled: asyncio.Event | None = None
        self._state: HandlerState | None = None
        self.session = session
        self.task_id = task_id
        self.attempt = attempt
        self.deadline = deadline
        self.capability = label
        self.sticky = sticky
        self.agent: str | None = None
        self.handling = handling
        """The attempt that this is, as the process knows it."""
        self.saved: Edit | None = None
        """The state of its agent, to be written with the outcome."""

    @property
    def cancelled(self) -> asyncio.Event:
        if self._cancelled is None:
            self._cancelled = asyncio.Event()
        return self._cancelled

    @property
    def idempotency_key(self) -> str:
        return self.task_id

    @property
    def log(self) -> logging.LoggerAdapter[logging.Logger]:
        return _TaskLog(logging.getLogger("autogen_coord.task"), {"task_id": self.task_id, "attempt": self.attempt})

    @property
    def state(self) -> HandlerState:
        """The shared state, as this handler sees it: what it writes there is committed with its outcome, or not at all."""
        if self._state is None:
            self._state = HandlerState(self._port.process, self._as_claim, self.capability)
        return self._state

    @property
    def _as_claim(self) -> Claim:
        return Claim(self.session, self.task_id, self.attempt)

    @overload
    async def call(self, capability: Capability[In, Out], input: In, **options: Unpack[Options]) -> Out: ...
    @overload
    async def call(self, capability: str, input: Any, *, returns: type[Out], **options: Unpack[Options]) -> Out: ...
    @overload
    async def call(self, capability: str, input: Any, **options: Unpack[Options]) -> Any: ...
    async def call(self, capability: Any, input: Any, *, returns: Any = None, **options: Unpack[Options]) -> Any:
        """Run a child task and wait for its value; this handler's slot is free meanwhile.

        A repeated attempt finds its children again, by capability, input and ordinal: one that succeeded answers at once, one that
        still runs is waited for, one that failed is made anew. Children end with their parent, and by its deadline.

        Raises: what `Coordination.call` raises; StaleClaimError when this attempt no longer holds its claim.
        """
        with inside(self.handling):
            return await self._port.asking.call_child(self, capability, input, returns, options)

    async def progress(self, fraction: float | None = None, note: str = "") -> None:
        """Tell how far the task is: ``fraction`` from 0 to 1. Raises: StaleClaimError, InvalidInputError."""
        if fraction is not None and not 0 <= fraction <= 1:
            raise InvalidInputError(f"progress {fraction}: from 0 to 1")
        await self._port.asking.report_progress(self, bodies.encode({"fraction": fraction, "note": note[:1000]}))

    async def send(self, recipient: To, body: Any, **options: Unpack[SendOptions]) -> list[Posted]:
        """`Coordination.send`, in this handler's name: from its agent, and caused by its task; a repeated attempt does not send it
        twice.

        Raises: what `Coordination.send` raises; StaleClaimError when this attempt no longer holds its claim.
        """
        options.setdefault("sender", self.agent)
        return await self._port.messaging.send(recipient, body, options, self)

    @overload
    async def request(
        self, recipient: To, body: Any, *, returns: type[Out], timeout: float | None = None, **options: Unpack[RequestOptions]
    ) -> Out: ...
    @overload
    async def request(
        self, recipient: To, body: Any, *, timeout: float | None = None, **options: Unpack[RequestOptions]
    ) -> Any: ...
    async def request(
        self, recipient: To, body: Any, *, returns: Any = None, timeout: float | None = None, **options: Unpack[RequestOptions]
    ) -> Any:
        """`Coordination.request`, caused by this handler's task; its slot is free meanwhile. A repeated attempt asks again.

        Raises: what `Coordination.request` raises; StaleClaimError when this attempt no longer holds its claim.
        """
        with inside(self.handling):
            return await self._port.messaging.request(recipient, body, returns, timeout, options, self)

    def lock(
        self,
        path: str | Sequence[str] | Mapping[str, LockMode | str],
        mode: LockMode | str = LockMode.EXCLUSIVE,
        *,
        wait: float | None = 0,
        owner: str | None = None,
        priority: float = Priority.NORMAL,
    ) -> Block:
        """`Coordination.lock`, for this attempt: kept until its handler has left the block, also when its claim ends early.

        One that a write of `state` names (``fence=``) is kept beyond its block, and given back in the transaction of that write;
        asked for again, just as it was, it is the handler's own.

        Raises: what `Coordination.lock` raises; StaleClaimError when this attempt no longer holds its claim.
        """
        return Block(self._port.leases, asked(path, mode, wait, owner, priority, self._as_claim))

    def ordinal(self, label: str, digest: str) -> int:
        """How many children of this capability and input this attempt asked for before."""
        number = self._ordinals.get((label, digest), 0)
        self._ordinals[label, digest] = number + 1
        return number

    def end(self) -> None:
        """The handler has ended: nothing is added to what it wrote."""
        if self._state is not None:
            self._state.close()

    def with_effects(self, finish: Finish) -> Finish | FinishWith:
        """The success of the attempt, with what it wrote."""
        if self._state is not None and (write := self._state.written(self.saved)).edits:
            return FinishWith(finish, write, self._state.releases())
        if self.saved is not None:
            return FinishWith(finish, Write(new_id("c"), (self.saved,), Author(self.session, self.capability, self.task_id)))
        return finish

    def stop(self) -> None:
        """Tell the handler that its attempt should end."""
        if self._cancelled is not None:
            self._cancelled.set()
        else:
            self._cancelled = asyncio.Event()
            self._cancelled.set()


class _TaskLog(logging.LoggerAdapter[logging.Logger]):
    def process(self, msg: Any, kwargs: MutableMapping[str, Any]) -> tuple[Any, MutableMapping[str, Any]]:
        kwargs["extra"] = {**(self.extra or {}), **(kwargs.get("extra") or {})}
        return msg, kwargs
