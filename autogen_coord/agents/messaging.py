"""Messages of one process: sent, received, asked for and answered, subscribed to."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from datetime import datetime
from typing import Any, TypedDict

from autogen_core import AgentId, AgentType, TopicId
from pydantic import TypeAdapter, ValidationError

from ..core import bodies, directory, messages, registry
from ..core.addresses import Address, Reach, Recipient
from ..core.calls import HANDLER, Calls
from ..core.claims import Claimed
from ..core.ids import new_id
from ..core.messages import MessageKind, Posted, Send
from ..core.outcomes import error_of
from ..core.process import Process
from ..core.registry import Announce, Withdraw
from ..core.requests import Options, Priority, build, checked_name, checked_seconds
from ..core.schemas import jsonable
from ..core.store import Keys
from ..core.tables import EXPIRED, TASK, TaskKind
from ..core.waiting import Wait
from ..errors import CallTimeoutError, ClosedError, InvalidInputError, NotFoundError, RemoteError
from .context import TaskContext
from .inbox import Inboxes, announce_here, withdraw_quietly
from .message import Message
from .recipients import To, address_of, own_address_of, recipient_of, subscriber_of, topic_of
from .replies import Answer, Replies
from .settling import Pulled, Pushed


class SendOptions(TypedDict, total=False):
    """What `send` takes besides recipient and body, all by name. Times are seconds."""

    kind: MessageKind | str
    """task, result, status, error, feedback, control; a task unless said otherwise."""
    sender: str | AgentId | None
    """The address that replies go to."""
    correlation: str | None
    """Names a conversation: what belongs together has the same."""
    causation: str | None
    """The id of the message or task that this one follows from."""
    priority: float
    ttl: float | None
    """The latest first receipt; then it is a dead letter. 7 days unless said otherwise (`message_ttl`)."""
    delay: float
    at: datetime | float | None
    """Not before: an aware datetime, or epoch seconds."""


class RequestOptions(TypedDict, total=False):
    """What `request` takes besides recipient, body, ``timeout`` and ``returns``, all by name."""

    kind: MessageKind | str
    causation: str | None
    priority: float


class Messaging:
    """The messages of one process."""

    def __init__(self, process: Process, calls: Calls) -> None:
        self._process = process
        self._calls = calls
        self.inboxes = Inboxes(process)
        self._replies = Replies(process)
        self._subscriptions: dict[tuple[str, Address | str], str] = {}
        self._subscribing = asyncio.Lock()

    # sending

    async def send(self, to: To, body: Any, options: SendOptions, context: TaskContext | None = None) -> list[Posted]:
        """See `Coordination.send`. With a ``context``: in the name of its handler, whose repeated attempt does not send it twice.

        Raises: InvalidInputError, PayloadTooLargeError, NotFoundError, NoProviderError, StoreError; StaleClaimError with a context.
        """
        self._process.check()
        command = self._command(recipient_of(to), body, options)
        if context is not None:
            command = _named(command, context, _step(context, f"!send {command.to}", options))
        return await self._put(command)

    async def reply(self, message: Message, body: Any, kind: MessageKind, context: TaskContext | None) -> Posted:
        """See `Message.reply`."""
        options: SendOptions = {
            "kind": kind,
            "sender": message.recipient,
            "correlation": message.correlation or message.id,
            "causation": message.id,
        }
        self._process.check()
        command = self._command(recipient_of(message.sender or ""), body, options)
        if context is not None:
            command = _named(command, context, _step(context, f"!reply {message.id}", options))
        (posted,) = await self._put(command._replace(seen=True))  # it named itself: the answer waits for it
        return posted

    def _command(self, to: Recipient, body: Any, options: SendOptions) -> Send:
        """Raises: InvalidInputError, PayloadTooLargeError."""
        process = self._process
        _check_options(options, SendOptions)
        kind = _kind(options.get("kind", MessageKind.TASK))
        sender, ttl = options.get("sender"), options.get("ttl")
        times: Options = {
            "ttl": process.policy.message_ttl if ttl is None else ttl,
            "priority": options.get("priority", Priority.NORMAL),
            "delay": options.get("delay", 0.0),
            "at": options.get("at"),
        }
        topic = to.name if to.reach is Reach.TOPIC else None
        text = messages.envelope(kind, topic, jsonable(body), group=to.reach is not Reach.AGENT)
        message = build(
            "a message", text, process.policy, times,
            kind=TaskKind.MESSAGE.value,
            sender=None if sender is None else str(address_of(sender)),
            correlation=checked_name(options.get("correlation"), "correlation"),
            causation=checked_name(options.get("causation"), "causation"),
        )  # fmt: skip
        blob = bodies.blob_key(text) if len(text) >= process.policy.blob_from else None  # not while others wait for the writer
        return Send(message, to, process.session, blob)

    async def _put(self, command: Send) -> list[Posted]:
        """Raises: as `send`."""
        try:
            return await self._offer(command)
        except NotFoundError:  # a rule cannot look through all that was ever announced: others would wait for it
            await directory.require_seen(self._process.store, Address.parse(command.to.name))
        return await self._offer(command._replace(seen=True))

    async def _offer(self, command: Send) -> list[Posted]:
        process, to = self._process, command.to
        await process.line.room()
        reads = (Keys(TASK, (command.message.id,)),)
        future = process.line.offer(messages.send, command, reads)
        if to.reach is Reach.AGENT:
            address = Address.parse(to.name)
            process.dispatcher.heat((address.label, address.type_label))
        return await future

    # receiving

    async def receive(self, owner: str | AgentId, timeout: float | None) -> Message | None:
        """See `Coordination.receive`. Raises: InvalidInputError, ClosedError, StoreError."""
        self._process.check()
        checked_seconds(timeout, "timeout")
        held = await self.inboxes.receive(own_address_of(owner), timeout)
        return None if held is None else Message(held.claimed, Pulled(held, self))

    def open_message(self, claimed: Claimed, context: TaskContext) -> Message:
        """A message that the runner has for a handler."""
        return Message(claimed, Pushed(context, self))

    # requests

    async def request(
        self, to: To, body: Any, returns: Any, timeout: float | None, options: RequestOptions, context: TaskContext | None = None
    ) -> Any:
        """See `Coordination.request`. With a ``context``: in the name of its handler, whose repeated attempt asks again.

        Raises: what `send` raises; CallTimeoutError, TaskError's children, ClosedError; InvalidInputError for an answer that is no
        ``returns``.
        """
        process = self._process
        process.check()
        recipient = recipient_of(to)
        if recipient.reach is not Reach.AGENT:
            raise InvalidInputError(f"a request is answered by one agent, not by {recipient}: pass its address, or send a message")
        seconds = checked_seconds(timeout, "timeout", above_zero=True) or process.policy.timeout
        correlation = new_id("q")
        own: SendOptions = {"sender": str(self._replies.address), "correlation": correlation, "ttl": seconds}
        _check_options(options, RequestOptions)
        command = self._command(recipient, body, {**options, **own})
        if context is not None:
            command = _named(command, context, None)
        return _read_answer(await self._answer(command, correlation, seconds), recipient, returns)

    async def _answer(self, command: Send, correlation: str, seconds: float) -> Answer:
        process, id = self._process, command.message.id
        answer, wait = self._replies.expect(correlation), process.waits.add(id)
        try:
            async with asyncio.timeout(seconds):
                await self._replies.open()
                await self._put(command)
                wait.stored = True
                return await self._first(wait, answer)
        except TimeoutError:
            raise _late(command.to, seconds) from None
        except asyncio.CancelledError:
            self._calls.cancel_soon(id)
            raise
        finally:
            self._replies.forget(correlation, late=wait.stored)
            process.waits.drop(wait)
            if not wait.future.cancel() and not wait.future.cancelled():
                wait.future.exception()

    async def _first(self, wait: Wait, answer: asyncio.Future[Answer]) -> Answer:
        """The answer; or the error of a request that became a dead letter. A handler that waits here gives its slot back."""
        handling = HANDLER.get()
        inside = handling if handling is not None and handling.process is self._process else None
        if inside is not None:
            self._process.dispatcher.waits(inside.task, inside.attempt, wait)
        try:
            both: list[asyncio.Future[Any]] = [answer, wait.future]
            await asyncio.wait(both, return_when=asyncio.FIRST_COMPLETED)
            if not answer.done():
                outcome = wait.future.result()
                if outcome.state == EXPIRED:
                    raise TimeoutError
                error = error_of(outcome)
                if error is not None:
                    raise error
            return await answer  # it was taken, and the answer may be yet to come
        finally:
            if inside is not None:
                self._process.dispatcher.goes_on(inside.task, inside.attempt, wait)

    # subscriptions

    async def subscribe(self, topic: str | TopicId, recipient: str | AgentId | AgentType) -> None:
        """See `Coordination.subscribe`. Raises: InvalidInputError, StoreError."""
        self._process.check()
        key = topic_of(topic), subscriber_of(recipient)
        async with self._subscribing:  # a rebirth does not take it: who holds it may wait for one
            if key in self._subscriptions:
                return
            id = new_id("u")
            try:
                await announce_here(self._process, lambda session: _subscription(id, session, key))
            except BaseException:  # also a cancellation: it may have been announced
                self._process.spawn(withdraw_quietly(self._process, (id,)))
                raise
            self._subscriptions[key] = id

    async def unsubscribe(self, topic: str | TopicId, recipient: str | AgentId | AgentType) -> None:
        """See `Coordination.unsubscribe`. Raises: InvalidInputError, NotFoundError, StoreError."""
        process = self._process
        process.check()
        key = topic_of(topic), subscriber_of(recipient)
        async with self._subscribing:
            withdrawn = None
            while self._subscriptions.get(key) != withdrawn:  # a rebirth announces it again, under another id
                withdrawn = self._subscriptions[key]
                await process.line.put(registry.withdraw, Withdraw(process.session, (withdrawn,)))
            if self._subscriptions.pop(key, None) is None:
                raise NotFoundError(f"this process did not subscribe {recipient!s} to {topic!s}")

    # the process

    async def announce_all(self, session: str) -> None:
        """The process has a new session: inboxes and subscriptions hang on that one now. Raises: LeaseLostError, StoreError."""
        await self.inboxes.announce_all(session)
        await self._replies.announce_all(session)
        for key in list(self._subscriptions):
            if key in self._subscriptions:  # it may be given up meanwhile
                id = self._subscriptions[key] = new_id("u")
                await self._process.line.put(registry.announce, _subscription(id, session, key))

    def drain(self) -> None:
        """The process closes: whoever waits outside of its handlers gets nothing more."""
        self.inboxes.end(ClosedError("the coordination was closed while you waited for a message"), handlers_too=False)

    def end(self, error: ClosedError) -> None:
        """The process has ended: tell who waits."""
        self.inboxes.end(error)
        self._replies.end(error)


# commands and rows


def _subscription(id: str, session: str, key: tuple[str, Address | str]) -> Announce:
    return Announce(session, [], [messages.subscription(id, session, *key)])


def _kind(kind: object) -> MessageKind:
    try:
        return MessageKind(kind)  # type: ignore[arg-type]
    except ValueError:
        raise InvalidInputError(f"kind={kind!r:.80}: one of {', '.join(MessageKind)}") from None


def _check_options(options: Mapping[str, object], known: type[SendOptions] | type[RequestOptions]) -> None:
    for name in options:
        if name not in known.__annotations__:
            raise InvalidInputError(f"unknown option {name!r}; there are {', '.join(sorted(known.__annotations__))}")


def _step(context: TaskContext, what: str, options: SendOptions) -> str:
    """The name under which a repeated attempt finds what it sent, whatever it says now; no child is named with a ``!``."""
    kind = _kind(options.get("kind", MessageKind.TASK))
    return f"{what}:{kind.value}:{context.ordinal(what, kind.value)}"


def _named(command: Send, context: TaskContext, step: str | None) -> Send:
    """In the name of a handler: caused by its task, refused when its claim is over; found again by its ``step``."""
    message = command.message
    cause = message.causation or context.task_id
    named = message._replace(parent=context.task_id, parent_attempt=context.attempt, step_key=step, causation=cause)
    return command._replace(message=named)


# answers


def _late(to: Recipient, seconds: float) -> CallTimeoutError:
    return CallTimeoutError(f"{to} did not answer within {seconds:g} s; an answer that comes later is dropped")


def _read_answer(answer: Answer, to: Recipient, returns: Any) -> Any:
    body = answer.body
    if answer.kind is MessageKind.ERROR:
        text = body if isinstance(body, str) else bodies.encode(body)
        said = f"{to} answered with an error: {text[:500]}"
        raise RemoteError(said, task_id=answer.causation or "", type="ERROR", text=text)
    if returns is None:
        return body
    try:
        return TypeAdapter(returns).validate_json(bodies.encode(body))
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        raise InvalidInputError(f"the answer of {to} is no {returns!r}: {first['msg']}") from None
