"""`Coordination`: the one entry point."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeVar, Unpack, overload

from autogen_core import AgentId, AgentRuntime, AgentType, TopicId

from .agents.capability import AgentT, Capability
from .agents.chat import Factory
from .agents.handles import BroadcastOutcome, TaskHandle
from .agents.message import Message
from .agents.messaging import RequestOptions, SendOptions
from .agents.parts import Parts
from .agents.provide import ProvideOptions, provide
from .agents.recipients import To
from .agents.runner import Stop
from .agents.runtimes import GivenRuntime, OwnRuntime
from .core import bodies, inspect, opened, registry, tasks
from .core.calls import HANDLER
from .core.discovery import Registry
from .core.events import Event
from .core.ids import new_id
from .core.lock_handles import Block
from .core.lock_modes import LockMode
from .core.lock_requests import asked
from .core.messages import Posted
from .core.process import Process
from .core.requests import Options, Priority, checked_name
from .core.schemas import decoder
from .core.shared_state import State
from .core.store import Range
from .core.tables import PROVIDER
from .core.tasks import Broadcast, Cancel, Requeue
from .errors import ClosedError, ConfigError, CoordError, InvalidInputError
from .settings import Settings
from .stores import Backup, backup_store, open_store

log = logging.getLogger(__name__)

In = TypeVar("In")
Out = TypeVar("Out")
BROADCAST_MOST = 10_000


class Coordination:
    """Durable coordination on a store. Open it with ``async with Coordination.open(...)``; who opens it closes it.

    All that it says yes to is on disk. Any number of processes may open the same store.
    """

    def __init__(self, url: str, namespace: str, settings: Settings, runtime: AgentRuntime | None = None) -> None:
        self._url = url
        self._runtime = OwnRuntime() if runtime is None else GivenRuntime(runtime)
        self._namespace = namespace
        self.settings = settings
        self._parts: Parts | None = None
        self._closing = False

    @classmethod
    def open(
        cls,
        store: str | Path | None = None,
        *,
        runtime: AgentRuntime | None = None,
        namespace: str | None = None,
        settings: Settings | None = None,
    ) -> Coordination:
        """A coordination on ``store`` (a path, ``sqlite:///path``), made at the first use; enter it with ``async with``.

        ``runtime``: whose agents it provides, started or not; who made it stops it. Without one it has its own, see `runtime`.

        Raises: InvalidInputError for a namespace that is no name; on entering ConfigError, SchemaVersionError, StoreError.
        """
        settings = settings or Settings.load()
        space = settings.namespace if namespace is None else namespace
        checked_name(space, "namespace")
        if runtime is not None and not isinstance(runtime, AgentRuntime):
            raise InvalidInputError(f"runtime={runtime!r:.100}: an AutoGen runtime, such as SingleThreadedAgentRuntime()")
        return cls(str(store) if store is not None else settings.store, space, settings, runtime)

    @staticmethod
    def opened(namespace: str | None = None) -> Coordination:
        """The coordination that is open in this process and on this event loop, of this namespace (None: whichever it is).

        In a handler it is the handler's own, if that fits. Raises: ConfigError when there is none, or several.
        """
        owner = opened.opened(namespace).owner
        assert isinstance(owner, Coordination)
        return owner

    async def __aenter__(self) -> Self:
        if self._parts is not None:
            raise ConfigError("this coordination is open already: make another with Coordination.open(...)")
        store = await open_store(self._url, self._namespace, self.settings)
        parts = Parts(Process(store, self.settings))
        try:
            await parts.process.start(parts.calls.mind, parts.state.mind)
        except BaseException:
            await store.close()
            raise
        self._parts = parts
        opened.enter(opened.Opened(parts.process, parts.state, self))
        try:
            self._runtime.start()
            await parts.providing.adopt(self._runtime.runtime)
        except BaseException:
            await self.close(drain=0.0)
            raise
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        await self.close(drain=0.0 if error is not None else None)

    async def close(self, drain: float | None = None) -> None:
        """Stop: claim nothing more, let what runs end (for ``drain`` seconds), cancel the rest, give it back, say goodbye."""
        parts = self._parts
        if parts is None or self._closing:
            return
        self._closing = True
        process, runner = parts.process, parts.runner
        parts.providing.abandon()
        left = False
        try:
            process.dispatcher.drain()
            parts.messaging.drain()
            parts.leases.drain()
            await process.dispatcher.settled()
            if not await runner.idle(self.settings.drain if drain is None else drain):
                runner.stop_all(Stop.CLOSE)
                await runner.idle(self.settings.cancel_grace)
            process.dispatcher.stop()
            await process.dispatcher.settled()
            free = await parts.leases.leave(self.settings.cancel_grace)
            await parts.providing.leave()
            left = free
        except CoordError as failed:
            log.warning("closing: %s; what is left returns with the lease", failed.code)
        finally:
            # nothing may run on, or begin, without a lease, also when this was cancelled midway
            process.dispatcher.stop()
            runner.stop_all(Stop.CLOSE if left else Stop.LOST)
            try:
                await process.stop(goodbye=left)
                await process.store.close()
            finally:
                opened.leave(process)
                self._parts = None
                self._closing = False
                await self._runtime.stop()

    @property
    def _open(self) -> Parts:
        if self._parts is None or (self._closing and not self._in_handler(self._parts)):
            raise ClosedError("the coordination is not open: use it inside `async with Coordination.open(...)`")
        self._parts.process.check()
        return self._parts

    @staticmethod
    def _in_handler(parts: Parts) -> bool:
        """Handlers may finish their work while the coordination closes."""
        handling = HANDLER.get()
        return handling is not None and handling.process is parts.process and handling.task in parts.runner

    @property
    def runtime(self) -> AgentRuntime:
        """The runtime whose agents are provided: the one that was given to `open`, else its own, which runs while this is open."""
        return self._runtime.runtime

    @property
    def session(self) -> str:
        """The id of this process's session; another after it was declared dead and came back."""
        return self._open.process.session

    @property
    def registry(self) -> Registry:
        """Who provides what, as the store says now: `discover`, `describe`, `capabilities`, `providers`."""
        return Registry(self._open.process.store, self.settings)

    # providing

    @overload
    async def provide(
        self, what: Capability[Any, Any], /, *, max_concurrency: int | None = None, labels: Sequence[str] = ()
    ) -> str: ...
    @overload
    async def provide(
        self,
        what: type[AgentT],
        /,
        *,
        type: str | None = None,
        factory: Callable[[], AgentT | Awaitable[AgentT]] | None = None,
        **terms: Unpack[ProvideOptions],
    ) -> list[str]: ...
    @overload
    async def provide(
        self,
        what: AgentId | AgentType,
        name: str,
        /,
        *,
        input: Any,
        output: Any,
        version: str = "1",
        description: str = "",
        **terms: Unpack[ProvideOptions],
    ) -> str: ...
    @overload
    async def provide(
        self,
        what: Factory,
        name: str,
        /,
        *,
        input: Any = str,
        output: Any = str,
        version: str = "1",
        description: str = "",
        max_concurrency: int | None = None,
        labels: Sequence[str] = (),
    ) -> str: ...
    async def provide(self, what: Any, name: str | None = None, /, **options: Any) -> Any:
        """Provide a capability in this process from now on; returns the provider's id. ``what`` is one of

        - a `@capability` function;
        - a `CapabilityAgent` class: registered on the runtime as ``type`` (the class's name), made by ``factory`` (the class);
          returns a list;
        - an ``AgentId`` of the runtime (or an ``AgentType``: its key is the task's ``sticky`` key, else ``default``) and a name:
          any AutoGen agent with a handler for messages of type ``input`` that answers with an ``output``;
        - a factory of AgentChat agents or teams and a name: a fresh one a call, given the input as its task, answering with its
          last message's text (or, with ``output=``, its structured content).

        ``max_concurrency`` bounds how many run at once; ``labels`` describe the provider; ``via_runtime`` sends agents a message,
        where they are otherwise called directly (intervention handlers see it; a plain agent's handler is only asked to stop).

        Raises: InvalidInputError (cannot be provided, unusable annotations), ConfigError (an agent type that the runtime does not
        know; provided already, here, or elsewhere with other schemas).
        """
        return await provide(self._open.providing, what, name, options)

    async def withdraw(self, capability: Capability[Any, Any] | str) -> None:
        """Provide it, or the one provider of this id, no more; what runs of it goes on. Raises: NotFoundError."""
        await self._open.providing.withdraw(capability)

    # asking

    @overload
    async def call(self, capability: Capability[In, Out], input: In, **options: Unpack[Options]) -> Out: ...
    @overload
    async def call(self, capability: str, input: Any, *, returns: type[Out], **options: Unpack[Options]) -> Out: ...
    @overload
    async def call(self, capability: str, input: Any, **options: Unpack[Options]) -> Any: ...
    async def call(self, capability: Any, input: Any, *, returns: Any = None, **options: Unpack[Options]) -> Any:
        """Submit a task and wait for its value. ``timeout=`` is the task's deadline. Cancelling the caller cancels the task.

        Raises: RemoteError, TaskCancelledError, TaskExpiredError, TaskCrashedError; NoProviderError (never announced, or nobody
        there for `no_provider_wait`; the task is cancelled); InvalidInputError and PayloadTooLargeError (nothing was stored);
        DuplicateTaskError; StoreError.
        """
        parts = self._open
        command, decode = await parts.asking.request(capability, input, returns, options)
        await parts.process.line.room()
        return await parts.calls.value(parts.calls.post(command), decode, owned=command.key is None)

    @overload
    async def submit(self, capability: Capability[In, Out], input: In, **options: Unpack[Options]) -> TaskHandle[Out]: ...
    @overload
    async def submit(self, capability: str, input: Any, *, returns: type[Out], **options: Unpack[Options]) -> TaskHandle[Out]: ...
    @overload
    async def submit(self, capability: str, input: Any, **options: Unpack[Options]) -> TaskHandle[Any]: ...
    async def submit(self, capability: Any, input: Any, *, returns: Any = None, **options: Unpack[Options]) -> TaskHandle[Any]:
        """Store a task; when this returns it survives. With ``key=``, the task of that key, old or new.

        Raises: NoProviderError (never announced), InvalidInputError, PayloadTooLargeError, DuplicateTaskError, StoreError.
        """
        parts = self._open
        command, decode = await parts.asking.request(capability, input, returns, options)
        await parts.process.line.room()
        answer = await parts.calls.offer(command)
        return TaskHandle(self, answer.id, decode)

    async def submit_many(
        self,
        capability: Capability[In, Out],
        inputs: Iterable[In],
        *,
        keys: Iterable[str] | None = None,
        **options: Unpack[Options],
    ) -> list[TaskHandle[Out]]:
        """Store many tasks, in batches of the line. All inputs are checked before the first is stored; then each task stands for
        itself: if one is refused, the others are stored all the same, and its error is raised at the end.

        Raises: what `submit` raises.
        """
        parts = self._open
        inputs = list(inputs)
        key_list = [options.get("key")] * len(inputs) if keys is None else list(keys)
        if len(key_list) != len(inputs):
            raise InvalidInputError(f"{len(inputs)} inputs, but {len(key_list)} keys: one for each")
        requests = []
        for input, key in zip(inputs, key_list, strict=True):
            each = options.copy()
            each["key"] = key
            requests.append(await parts.asking.request(capability, input, None, each))
        futures = []
        for command, _ in requests:
            await parts.process.line.room()
            futures.append(parts.calls.offer(command))
        answers = await asyncio.gather(*futures, return_exceptions=True)
        for answer in answers:
            if isinstance(answer, BaseException):
                raise answer
        return [
            TaskHandle(self, answer.id, decode)
            for answer, (_, decode) in zip(answers, requests, strict=True)
            if not isinstance(answer, BaseException)
        ]

    async def broadcast(
        self, capability: Capability[In, Out], input: In, **options: Unpack[Options]
    ) -> list[BroadcastOutcome[Out]]:
        """Ask every provider that is online now, and wait for all: one outcome a provider; one failure raises nothing.

        Raises: NoProviderError when nobody is online; InvalidInputError.
        """
        parts = self._open
        process = parts.process
        for name in ("key", "provider", "sticky", "lane"):
            if options.get(name) is not None:
                raise InvalidInputError(f"{name}= has no meaning in a broadcast")
        command, decode = await parts.asking.request(capability, input, None, options)
        (there,) = await process.store.read(Range(PROVIDER, "by_capability", (command.capability, registry.ONLINE)))
        ids = tuple(new_id() for _ in range(min(len(there) + 64, BROADCAST_MOST)))
        template = command._replace(correlation=command.id)
        sent = await process.line.put(tasks.broadcast, Broadcast(template, ids))

        async def one(provider: str, id: str) -> BroadcastOutcome[Out]:
            try:
                return BroadcastOutcome(provider, await parts.calls.result(id, decode, None), None)
            except ClosedError:
                raise
            except CoordError as error:
                return BroadcastOutcome(provider, None, error)

        try:
            return list(await asyncio.gather(*(one(provider, id) for provider, id in sent.tasks)))
        except asyncio.CancelledError:
            for _, id in sent.tasks:
                parts.calls.cancel_soon(id)
            raise

    # messages

    async def send(self, recipient: To, body: Any, **options: Unpack[SendOptions]) -> list[Posted]:
        """Send a message; when this returns it survives, once for each recipient there is now: their addresses and message ids.

        ``recipient``: an agent (``"type/key"``, ``"type"`` for its key ``default``, an ``AgentId``), every agent that provides a
        capability (the capability, ``Recipient.capability("name")``), a topic's subscribers (a ``TopicId``,
        ``Recipient.topic("type", "source")``), or `EVERYONE`; the sender gets none of its own to a topic or everyone. A group with
        nobody there leaves a dead letter that says so, and the answer is empty. ``body``: any value with a JSON form.

        Raises: NotFoundError for an agent that was never seen here, NoProviderError for a capability that was never announced (both
        with near names), InvalidInputError, PayloadTooLargeError (nothing was stored); StoreError.
        """
        return await self._open.messaging.send(recipient, body, options)

    async def receive(self, recipient: str | AgentId, timeout: float | None = None) -> Message | None:
        """The next message for an agent, waited for ``timeout`` seconds (None: for ever, 0: what is there now); None if none came.

        It is yours until you acknowledge or reject it, see `Message`. The first time opens the agent's inbox here, until the close.
        Several receivers of one agent, in any processes, share its messages.

        Raises: InvalidInputError for what cannot be an address, ClosedError; StoreError when the inbox could not be opened, or
        where ``timeout`` is 0.
        """
        return await self._open.messaging.receive(recipient, timeout)

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
        """Send a message to an agent, and wait for the body of its reply, as a ``returns``.

        ``timeout``: seconds (300 unless said otherwise); it is the message's ttl too. Cancelling the caller cancels the message.
        The reply is a message of kind RESULT or ERROR; others that correlate do not end it.

        Raises: what `send` raises; CallTimeoutError; RemoteError when the reply is of kind ERROR, or the agent's handler failed for
        good; TaskCancelledError, TaskCrashedError; InvalidInputError for a reply that is no ``returns``; ClosedError.
        """
        return await self._open.messaging.request(recipient, body, returns, timeout, options)

    async def subscribe(self, topic: str | TopicId, recipient: str | AgentId | AgentType) -> None:
        """Messages to a topic (``"type"``: whatever its source; ``"type/source"``; a ``TopicId``) go to this agent too, for as long
        as this process is there; to an ``AgentType``, at the key that is the topic's source. Raises: InvalidInputError, StoreError.
        """
        await self._open.messaging.subscribe(topic, recipient)

    async def unsubscribe(self, topic: str | TopicId, recipient: str | AgentId | AgentType) -> None:
        """End a subscription of this process. Raises: NotFoundError, InvalidInputError, StoreError."""
        await self._open.messaging.unsubscribe(topic, recipient)

    async def _result(self, id: str, decode: Callable[[str], Out], timeout: float | None) -> Out:
        return await self._open.calls.result(id, decode, timeout)

    # locks

    def lock(
        self,
        path: str | Sequence[str] | Mapping[str, LockMode | str],
        mode: LockMode | str = LockMode.EXCLUSIVE,
        *,
        wait: float | None = 0,
        owner: str | None = None,
        priority: float = Priority.NORMAL,
    ) -> Block:
        """``async with coord.lock("repo/src/a.py", wait=10) as lease``: hold a resource, and what lies below it, for a block.

        ``path``: parts with slashes between; several paths (or a mapping of paths to modes) are granted as a whole, by one token.
        ``wait``: seconds, from the entering on; 0 does not wait, None waits until it is granted. Another session, where this
        process lost its own, is waited for within it (with 0 for a second), and the store's answer for a second more (with 0 until
        it comes). ``owner``: what others of this owner hold does not stand in its way. ``priority``: as of a task. The lease is as
        good as this process's session; when it is lost, `Lease.lost` is set and the block cancelled with LeaseLostError.
        ``lease.token`` grows with each grant: pass it to what the lock guards. A lock that is asked for by code started inside the
        block, also by an `asyncio.Task` that it made, is taken to hold the block up.

        Raises: InvalidInputError at once. On entering LockHeldError (who holds it, how, since when), DeadlockError (the cycle),
        LeaseLostError (the session died meanwhile), StoreError, ClosedError. At the block's end LeaseLostError.
        """
        return Block(self._open.leases, asked(path, mode, wait, owner, priority))

    # shared state

    @property
    def state(self) -> State:
        """The documents that all processes of this namespace share: `State.get`, `State.put`, `State.watch`, and more."""
        return self._open.state

    # seeing and steering

    async def cancel(self, id: str) -> bool:
        """Cancel a task: at once when it does not run, else its handler is stopped, and the task ended by force after a grace.

        False when it had ended before. Raises: NotFoundError.
        """
        return await self._open.process.line.put(tasks.cancel, Cancel(id))

    async def requeue(self, id: str) -> TaskHandle[Any]:
        """A dead letter's request once more, as a new task. Raises: NotFoundError, InvalidInputError."""
        answer = await self._open.process.line.put(tasks.requeue, Requeue(id, new_id()))
        return TaskHandle(self, answer.id, bodies.decode)

    async def task(self, id: str) -> inspect.TaskInfo:
        """All there is to know of a task, and why it waits. Raises: NotFoundError."""
        return await inspect.task(self._open.process.store, self.settings, id)

    def handle(self, id: str, returns: type[Out]) -> TaskHandle[Out]:
        """A handle for a task whose id you kept."""
        return TaskHandle(self, id, decoder(returns))

    def events(self, since: int | None = None, kinds: Iterable[str] | None = None, *, follow: bool = True) -> AsyncIterator[Event]:
        """The log, from the event after ``since`` (None: from now on), without gaps; ``follow=False`` ends at its present end.

        Raises: EventsPrunedError when ``since`` is below what is kept.
        """
        return self._open.process.feed.follow(since, kinds, follow)

    async def backup(self, path: str | Path, *, replace: bool = False) -> Backup:
        """Copy the whole store, all its namespaces, to a file, while it is in use; the copy is verified before it gets its name.

        It has every write that was acknowledged before. ``replace``: another file may stand there. ``autogen-coord restore`` makes
        a store of it again. Raises: ConfigError for a path that cannot be, or a store that is not in a file; StoreError.
        """
        _ = self._open
        return await backup_store(self._url, str(path), self.settings, replace)
