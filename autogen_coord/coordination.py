"""`Coordination`: the one entry point."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Generic, Self, TypeVar, Unpack, overload

from .agents.asking import Asking
from .agents.capability import Capability
from .agents.providing import Providing
from .agents.runner import Runner, Stop
from .core import bodies, inspect, registry, tasks
from .core.calls import HANDLER, Calls
from .core.events import Event
from .core.ids import new_id
from .core.process import Process
from .core.requests import Options, checked_name, checked_seconds
from .core.store import Range
from .core.tables import PROVIDER
from .core.tasks import Broadcast, Cancel, Requeue
from .errors import ClosedError, ConfigError, CoordError, InvalidInputError
from .settings import Settings
from .stores import open_store

log = logging.getLogger(__name__)

In = TypeVar("In")
Out = TypeVar("Out")
BROADCAST_MOST = 10_000


class TaskHandle(Generic[Out]):
    """A submitted task: durable from the moment that you hold this."""

    def __init__(self, coord: Coordination, id: str, decode: Callable[[str], Out]) -> None:
        self.id = id
        self._coord = coord
        self._decode = decode

    def __repr__(self) -> str:
        return f"TaskHandle({self.id})"

    async def result(self, timeout: float | None = None) -> Out:
        """Wait for the task and return its value. ``timeout`` (seconds) ends only the wait.

        Raises: TaskError's children; NoProviderError; CallTimeoutError; ClosedError; NotFoundError (never submitted, or pruned).
        """
        checked_seconds(timeout, "timeout")
        return await self._coord._open.calls.result(self.id, self._decode, timeout)

    async def cancel(self) -> bool:
        """See `Coordination.cancel`."""
        return await self._coord.cancel(self.id)

    async def info(self) -> inspect.TaskInfo:
        """See `Coordination.task`."""
        return await self._coord.task(self.id)


class BroadcastOutcome(Generic[Out]):
    """What one provider made of a broadcast: ``value``, or ``error``."""

    def __init__(self, provider: str, value: Out | None, error: CoordError | None) -> None:
        self.provider = provider
        self.value = value
        self.error = error

    def __repr__(self) -> str:
        return f"BroadcastOutcome({self.provider!r}, {self.error if self.error is not None else self.value!r})"


class _Parts:
    """What an open coordination is made of."""

    def __init__(self, process: Process) -> None:
        self.process = process
        self.calls = Calls(process)
        self.asking = Asking(process, self.calls)
        self.runner = Runner(process, self.asking)
        self.providing = Providing(process, self.runner)
        hooks, runner = process.hooks, self.runner
        hooks.runs = runner.__contains__
        hooks.running = runner.tasks
        hooks.busy = lambda: len(runner) > 0
        hooks.cancel = runner.cancel
        hooks.superseded = runner.superseded
        hooks.lost = lambda: runner.stop_all(Stop.LOST)
        hooks.distrusted = lambda: runner.stop_all(Stop.DISTRUST)
        hooks.announce = self.providing.announce_all


class Coordination:
    """Durable coordination on a store. Open it with ``async with Coordination.open(...)``; who opens it closes it.

    All that it says yes to is on disk. Any number of processes may open the same store.
    """

    def __init__(self, url: str, namespace: str, settings: Settings) -> None:
        self._url = url
        self._namespace = namespace
        self.settings = settings
        self._parts: _Parts | None = None
        self._closing = False

    @classmethod
    def open(
        cls, store: str | Path | None = None, *, namespace: str | None = None, settings: Settings | None = None
    ) -> Coordination:
        """A coordination on ``store`` (a path, ``sqlite:///path``), made at the first use; enter it with ``async with``.

        Raises: InvalidInputError for a namespace that is no name; on entering ConfigError, SchemaVersionError, StoreError.
        """
        settings = settings or Settings.load()
        space = settings.namespace if namespace is None else namespace
        checked_name(space, "namespace")
        return cls(str(store) if store is not None else settings.store, space, settings)

    async def __aenter__(self) -> Self:
        if self._parts is not None:
            raise ConfigError("this coordination is open already: make another with Coordination.open(...)")
        store = await open_store(self._url, self._namespace, self.settings)
        parts = _Parts(Process(store, self.settings))
        try:
            await parts.process.start(parts.calls.mind)
        except BaseException:
            await store.close()
            raise
        self._parts = parts
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
        left = False
        try:
            process.dispatcher.drain()
            await process.dispatcher.settled()
            if not await runner.idle(self.settings.drain if drain is None else drain):
                runner.stop_all(Stop.CLOSE)
                await runner.idle(self.settings.cancel_grace)
            process.dispatcher.stop()
            await process.dispatcher.settled()
            await parts.providing.leave()
            left = True
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
                self._parts = None
                self._closing = False

    @property
    def _open(self) -> _Parts:
        if self._parts is None or (self._closing and not self._in_handler(self._parts)):
            raise ClosedError("the coordination is not open: use it inside `async with Coordination.open(...)`")
        self._parts.process.check()
        return self._parts

    @staticmethod
    def _in_handler(parts: _Parts) -> bool:
        """Handlers may finish their work while the coordination closes."""
        handling = HANDLER.get()
        return handling is not None and handling.process is parts.process and handling.task in parts.runner

    @property
    def session(self) -> str:
        """The id of this process's session; another after it was declared dead and came back."""
        return self._open.process.session

    # providing

    async def provide(
        self, capability: Capability[Any, Any], *, max_concurrency: int | None = None, labels: Sequence[str] = ()
    ) -> str:
        """Provide a capability in this process from now on; returns the provider's id.

        Raises: InvalidInputError (not a capability, unusable annotations), ConfigError (provided already, here, or elsewhere with
        other schemas).
        """
        return await self._open.providing.provide(capability, max_concurrency, labels)

    async def withdraw(self, capability: Capability[Any, Any] | str) -> None:
        """Provide it no more; what runs of it goes on.

        Raises: NotFoundError.
        """
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
        return TaskHandle(self, id, inspect.decoder(returns))

    def events(self, since: int | None = None, kinds: Iterable[str] | None = None, *, follow: bool = True) -> AsyncIterator[Event]:
        """The log, from the event after ``since`` (None: from now on), without gaps; ``follow=False`` ends at its present end.

        Raises: EventsPrunedError when ``since`` is below what is kept.
        """
        return self._open.process.feed.follow(since, kinds, follow)
