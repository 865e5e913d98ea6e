"""`Coordination`: the one entry point."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Generic, Self, TypeVar, Unpack, overload

from .agents.capability import Capability, TaskContext, check_limit
from .agents.runner import Provider, Runner, Stop
from .core import bodies, burial, claims, inspect, registry, tasks
from .core.burial import Settle
from .core.events import FLOOR, NUMBER, Event
from .core.ids import new_id
from .core.outcomes import error_of, output_of
from .core.process import Process
from .core.registry import Announce, Withdraw
from .core.requests import Options, build, checked_name, checked_seconds
from .core.schemas import checker, jsonable
from .core.store import Keys, Range
from .core.tables import CAPABILITY, COUNTER, EVENT, OUTCOME, PROVIDER, TASK, CapabilityRow, OutcomeRow, ProviderRow
from .core.tasks import Broadcast, Cancel, Requeue, Submit, Submitted
from .core.waiting import Wait
from .errors import (
    CallTimeoutError,
    ClosedError,
    ConfigError,
    CoordError,
    EventsPrunedError,
    InvalidInputError,
    LeaseLostError,
    NoProviderError,
    NotFoundError,
)
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
        return await self._coord._result(self.id, self._decode, timeout)

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


class _Local:
    """A provider of this process, and how to announce it again under a new session."""

    def __init__(self, capability: Capability[Any, Any], limit: int, labels: tuple[str, ...]) -> None:
        self.capability = capability
        self.limit = limit
        self.labels = labels
        self.id = ""


class Coordination:
    """Durable coordination on a store. Open it with ``async with Coordination.open(...)``; who opens it closes it.

    All that it says yes to is on disk. Any number of processes may open the same store.
    """

    def __init__(self, url: str, namespace: str, settings: Settings) -> None:
        self._url = url
        self._namespace = namespace
        self.settings = settings
        self._process: Process | None = None
        self._runner: Runner | None = None
        self._providers: dict[str, _Local] = {}
        self._closing = False
        self._checkers: dict[str, tuple[str, Callable[[str, str], None]]] = {}

    @classmethod
    def open(
        cls, store: str | Path | None = None, *, namespace: str | None = None, settings: Settings | None = None
    ) -> Coordination:
        """A coordination on ``store`` (a path, ``sqlite:///path``), made at the first use; enter it with ``async with``.

        Raises (on entering): ConfigError, SchemaVersionError, StoreError.
        """
        settings = settings or Settings.load()
        return cls(str(store) if store is not None else settings.store, namespace or settings.namespace, settings)

    async def __aenter__(self) -> Self:
        if self._process is not None:
            raise ConfigError("this coordination is open already: make another with Coordination.open(...)")
        store = await open_store(self._url, self._namespace, self.settings)
        process = Process(store, self.settings)
        self._runner = Runner(process.line, self.settings, self, process.dispatcher)
        hooks = process.hooks
        hooks.runs = self._runner.__contains__
        hooks.busy = lambda: len(self._running) > 0
        hooks.cancel = self._runner.cancel
        hooks.superseded = self._runner.superseded
        hooks.lost = lambda: self._running.stop_all(Stop.LOST)
        hooks.distrusted = lambda: self._running.stop_all(Stop.DISTRUST)
        hooks.announce = self._announce_all
        try:
            await process.start(lambda: self._mind_calls(process))
        except BaseException:
            await store.close()
            raise
        self._process = process
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        await self.close(drain=0.0 if error is not None else None)

    async def close(self, drain: float | None = None) -> None:
        """Stop: claim nothing more, let what runs end (for ``drain`` seconds), cancel the rest, give it back, say goodbye."""
        process = self._process
        if process is None or self._closing:
            return
        self._closing = True
        left = False
        try:
            process.dispatcher.drain()
            await process.dispatcher.settled()
            if not await self._running.idle(self.settings.drain if drain is None else drain):
                self._running.stop_all(Stop.CLOSE)
                await self._running.idle(self.settings.cancel_grace)
            process.dispatcher.stop()
            await process.dispatcher.settled()
            await self._leave(process)
            left = True
        except CoordError as failed:
            log.warning("closing: %s; what is left returns with the lease", failed.code)
        finally:
            await process.stop(goodbye=left)
            await process.store.close()
            self._process = None

    async def _leave(self, process: Process) -> None:
        await process.line.put(claims.disown, claims.Disown(process.session, ()))
        ids = tuple(local.id for local in self._providers.values())
        if ids:
            await process.line.put(registry.withdraw, Withdraw(process.session, ids))
            while await process.line.put(burial.settle, Settle(ids)):
                pass

    @property
    def _open(self) -> Process:
        if self._process is None or self._closing:
            raise ClosedError("the coordination is not open: use it inside `async with Coordination.open(...)`")
        self._process.check()
        return self._process

    @property
    def _inner(self) -> Process:
        """For handlers: they may finish their work while the coordination closes."""
        if self._process is None:
            raise ClosedError("the coordination was closed")
        self._process.check()
        return self._process

    @property
    def _running(self) -> Runner:
        assert self._runner is not None
        return self._runner

    @property
    def session(self) -> str:
        """The id of this process's session; another after it was declared dead and came back."""
        return self._open.session

    # providing

    async def provide(
        self, capability: Capability[Any, Any], *, max_concurrency: int | None = None, labels: Sequence[str] = ()
    ) -> str:
        """Provide a capability in this process from now on; returns the provider's id.

        Raises: InvalidInputError (not a capability, unusable annotations), ConfigError (provided already, here, or elsewhere with
        other schemas).
        """
        process = self._open
        if not isinstance(capability, Capability):
            raise InvalidInputError(f"provide() wants a function decorated with @capability, not {capability!r:.100}")
        if capability.label in self._providers:
            raise ConfigError(f"this process provides {capability.label!r} already; raise its max_concurrency instead")
        limit = check_limit(max_concurrency, "provide()") or capability.max_concurrency or self.settings.max_concurrency
        local = _Local(capability, limit, tuple(labels))
        capability.form  # noqa: B018 - unusable annotations are refused here, by name
        self._providers[capability.label] = local
        try:
            await self._announce(process, [local])
        except LeaseLostError:  # this process was declared dead just now: its next session announces all that it provides
            await process.reborn()
        except BaseException:
            del self._providers[capability.label]
            raise
        return local.id

    async def withdraw(self, capability: Capability[Any, Any] | str) -> None:
        """Provide it no more; what runs of it goes on.

        Raises: NotFoundError.
        """
        process = self._open
        label = capability if isinstance(capability, str) else capability.label
        local = self._providers.pop(label, None)
        if local is None:
            raise NotFoundError(f"this process does not provide {label!r}")
        process.dispatcher.remove(local.id)
        await process.line.put(registry.withdraw, Withdraw(process.session, (local.id,)))
        while await process.line.put(burial.settle, Settle((local.id,))):
            pass

    async def _announce_all(self, session: str) -> None:
        for label, local in list(self._providers.items()):
            if self._process is None:
                return
            try:
                await self._announce(self._process, [local])
            except ClosedError:
                raise
            except ConfigError as error:  # while we were dead, another took the name with another form: the others stay
                log.error("%s is provided here no more: %s", label, error)
                self._providers.pop(label, None)

    async def _announce(self, process: Process, locals: list[_Local]) -> None:
        for local in locals:
            if local.id:
                process.dispatcher.remove(local.id)
            local.id = new_id("p")
        capabilities = [_capability_row(local.capability) for local in locals]
        providers = [_provider_row(local, process.session) for local in locals]
        await process.line.put(registry.announce, Announce(process.session, capabilities, providers))
        for local in locals:
            form = local.capability.form
            provider = Provider(local.capability.label, form.input, form.output, local.capability.handle)
            process.dispatcher.add_provider(local.id, local.capability.label, local.limit, self._starter(provider))

    def _starter(self, provider: Provider) -> Callable[[claims.Claimed], None]:
        return lambda claimed: self._running.start(provider, claimed)

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
        process = self._open
        command, decode = await self._request(process, capability, input, returns, options)
        await process.line.room()
        return await self._wait(process, self._post(process, command), decode, owned=command.key is None)

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
        process = self._open
        command, decode = await self._request(process, capability, input, returns, options)
        await process.line.room()
        answer = await self._offer(process, command)
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
        process = self._open
        inputs = list(inputs)
        key_list = [options.get("key")] * len(inputs) if keys is None else list(keys)
        if len(key_list) != len(inputs):
            raise InvalidInputError(f"{len(inputs)} inputs, but {len(key_list)} keys: one for each")
        requests = []
        for input, key in zip(inputs, key_list, strict=True):
            each = options.copy()
            each["key"] = key
            requests.append(await self._request(process, capability, input, None, each))
        futures = []
        for command, _ in requests:
            await process.line.room()
            futures.append(self._offer(process, command))
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
        process = self._open
        for name in ("key", "provider", "sticky", "lane"):
            if options.get(name) is not None:
                raise InvalidInputError(f"{name}= has no meaning in a broadcast")
        command, decode = await self._request(process, capability, input, None, options)
        (there,) = await process.store.read(Range(PROVIDER, "by_capability", (command.capability, registry.ONLINE)))
        ids = tuple(new_id() for _ in range(min(len(there) + 64, BROADCAST_MOST)))
        template = command._replace(correlation=command.id)
        sent = await process.line.put(tasks.broadcast, Broadcast(template, ids))

        async def one(provider: str, id: str) -> BroadcastOutcome[Out]:
            try:
                return BroadcastOutcome(provider, await self._result(id, decode, None), None)
            except ClosedError:
                raise
            except CoordError as error:
                return BroadcastOutcome(provider, None, error)

        return list(await asyncio.gather(*(one(provider, id) for provider, id in sent.tasks)))

    async def _request(
        self, process: Process, capability: Any, input: Any, returns: Any, options: Options
    ) -> tuple[Submit, Callable[[str], Any]]:
        if isinstance(capability, Capability):
            form = capability.form
            return build(
                capability.label, form.input.encode(input), self.settings, options, sender=process.session
            ), form.output.decode
        if not isinstance(capability, str):
            raise InvalidInputError(f"{capability!r:.100}: pass a @capability function or a capability's name")
        text = jsonable(input)
        await self._check_by_name(process, capability, text)
        decode = bodies.decode if returns is None else inspect.decoder(returns)
        return build(capability, text, self.settings, options, sender=process.session), decode

    async def _check_by_name(self, process: Process, label: str, text: str) -> None:
        checked_name(label, "capability")
        (rows,) = await process.store.read(Keys(CAPABILITY, (registry.split_label(label),)))
        row: CapabilityRow | None = rows[0]
        if row is None:
            (known,) = await process.store.read(Range(CAPABILITY, "key"))
            raise registry.unknown(label, [registry.label_of(each.name, each.version) for each in known])
        compiled = self._checkers.get(label)
        if compiled is None or compiled[0] != row.input_schema:
            compiled = self._checkers[label] = (row.input_schema, checker(row.input_schema))
        compiled[1](text, f"the input of {label}")

    def _offer(self, process: Process, command: Submit) -> asyncio.Future[Submitted]:
        future = process.line.offer(tasks.submit, command, (Keys(TASK, (command.id,)),))
        process.dispatcher.heat((command.capability,))
        return future

    def _post(self, process: Process, command: Submit) -> Wait:
        """Put a task on the line, and wait for its outcome, not for its place."""
        wait = process.waits.add(command.id, command.capability)

        def stored(future: asyncio.Future[Submitted]) -> None:
            if future.cancelled():
                process.waits.fail(wait, ClosedError("the coordination was closed before the task was stored"))
            elif (error := future.exception()) is not None:
                process.waits.fail(wait, error)
            elif not (answer := future.result()).created:
                process.waits.move(wait, answer.id)
                if answer.outcome is not None:
                    process.waits.resolve([answer.outcome])
                else:
                    self._look(process, wait)

        self._offer(process, command).add_done_callback(stored)
        return wait

    def _look(self, process: Process, wait: Wait) -> None:
        """The task was there before we waited for it: it may have ended in between."""

        async def look() -> None:
            try:
                (rows,) = await process.store.read(Keys(OUTCOME, (wait.task,)))
                process.waits.resolve([row for row in rows if row is not None])
            except CoordError as error:
                process.waits.fail(wait, error)

        process.spawn(look())

    async def _wait(self, process: Process, wait: Wait, decode: Callable[[str], Any], owned: bool) -> Any:
        try:
            outcome = await wait.future
        except asyncio.CancelledError:
            process.waits.drop(wait)
            if owned:
                self._cancel_later(process, wait.task)
            raise
        return await self._value(process, outcome, decode)

    async def _value(self, process: Process, outcome: OutcomeRow, decode: Callable[[str], Any]) -> Any:
        error = error_of(outcome)
        if error is not None:
            raise error
        return decode(outcome.output if outcome.output is not None else await output_of(outcome, process.store))

    def _cancel_later(self, process: Process, id: str) -> None:
        try:
            process.line.offer(tasks.cancel, Cancel(id)).add_done_callback(lambda future: future.cancelled() or future.exception())
        except ClosedError:
            log.debug("closed: the task %s goes on without its caller", id)

    async def _result(self, id: str, decode: Callable[[str], Out], timeout: float | None) -> Out:
        process = self._open
        checked_seconds(timeout, "timeout")
        wait = process.waits.add(id)
        try:
            rows, known = await process.store.read(Keys(OUTCOME, (id,)), Keys(TASK, (id,)))
            if rows[0] is not None:
                return await self._value(process, rows[0], decode)  # type: ignore[no-any-return]
            if known[0] is None:
                raise inspect.not_found(process.store, id)
            async with asyncio.timeout(timeout):
                outcome = await wait.future
        except TimeoutError:
            raise CallTimeoutError(f"task {id} had not ended after {timeout} s; it goes on", task_id=id) from None
        finally:
            process.waits.drop(wait)
        return await self._value(process, outcome, decode)  # type: ignore[no-any-return]

    # children and progress: the port of TaskContext

    async def call_child(self, context: TaskContext, capability: Any, input: Any, returns: Any, options: Options) -> Any:
        process = self._inner
        command, decode = await self._request(process, capability, input, returns, options)
        digest = bodies.digest(command.input)
        command = command._replace(
            input_hash=digest,
            parent=context.task_id,
            parent_attempt=context.attempt,
            step_key=f"{command.capability}:{digest}:{context.ordinal(command.capability, digest)}",
        )
        wait = self._post(process, command)
        process.dispatcher.waits(context.task_id, context.attempt, wait)
        try:
            return await self._wait(process, wait, decode, owned=False)
        except asyncio.CancelledError:
            # the handler gave this child up by itself; a stopped attempt's children stay
            if command.key is None and not context.cancelled.is_set():
                self._cancel_later(process, wait.task)
            raise
        finally:
            process.dispatcher.goes_on(context.task_id, context.attempt, wait)

    async def report_progress(self, context: TaskContext, data: str) -> None:
        command = claims.Progress(context.session, context.task_id, context.attempt, data)
        await self._inner.line.put(claims.progress, command)

    # seeing and steering

    async def cancel(self, id: str) -> bool:
        """Cancel a task: at once when it does not run, else its handler is stopped, and the task ended by force after a grace.

        False when it had ended before. Raises: NotFoundError.
        """
        return await self._open.line.put(tasks.cancel, Cancel(id))

    async def requeue(self, id: str) -> TaskHandle[Any]:
        """A dead letter's request once more, as a new task. Raises: NotFoundError, InvalidInputError."""
        process = self._open
        answer = await process.line.put(tasks.requeue, Requeue(id, new_id()))
        return TaskHandle(self, answer.id, bodies.decode)

    async def task(self, id: str) -> inspect.TaskInfo:
        """All there is to know of a task, and why it waits. Raises: NotFoundError."""
        return await inspect.task(self._open.store, self.settings, id)

    def handle(self, id: str, returns: type[Out]) -> TaskHandle[Out]:
        """A handle for a task whose id you kept."""
        return TaskHandle(self, id, inspect.decoder(returns))

    async def events(
        self, since: int | None = None, kinds: Iterable[str] | None = None, *, follow: bool = True
    ) -> AsyncIterator[Event]:
        """The log, from the event after ``since`` (None: from now on), without gaps; ``follow=False`` ends at its present end.

        Raises: EventsPrunedError when ``since`` is below what is kept.
        """
        process = self._open
        wanted = None if kinds is None else frozenset(kinds)
        process.listeners += 1
        try:
            (counters,) = await process.store.read(Keys(COUNTER, (NUMBER, FLOOR)))
            newest, floor = (row.value if row is not None else 0 for row in counters)
            cursor = newest if since is None else since
            if cursor < floor:
                raise EventsPrunedError(f"events up to {floor} were pruned; begin with since={floor}", since=since, floor=floor)
            while True:
                advanced = process.feed.ticket()
                (rows,) = await process.store.read(Range(EVENT, "key", (), low=cursor + 1, limit=500))
                for row in rows:
                    if row.number != cursor + 1:
                        raise EventsPrunedError(
                            f"events up to {row.number - 1} were pruned meanwhile", since=cursor, floor=row.number - 1
                        )
                    cursor = row.number
                    if wanted is None or row.kind in wanted:
                        yield Event.of(row)
                if not rows:
                    if not follow:
                        return
                    self._open  # noqa: B018 - who listens on a closed coordination is told so
                    await advanced.wait()
        finally:
            process.listeners -= 1

    async def _mind_calls(self, process: Process) -> None:
        """End calls whose capability has had no live provider for too long."""
        patience = self.settings.no_provider_wait
        while True:
            await asyncio.sleep(max(0.05, min(1.0, patience / 4)))
            try:
                await self._end_hopeless(process, asyncio.get_running_loop().time() - patience)
            except CoordError as error:
                log.warning("calls could not be minded: %s", error.code)

    async def _end_hopeless(self, process: Process, before: float) -> None:
        old = [wait for wait in process.waits.all() if wait.label and wait.since <= before and wait.task not in self._running]
        for label in {wait.label for wait in old}:
            if await inspect.live_providers(process.store, label):
                for wait in old:
                    if wait.label == label:
                        wait.since = asyncio.get_running_loop().time()
                continue
            error = NoProviderError(
                f"nobody has provided {label!r} for {self.settings.no_provider_wait:g} s: start a process that does, "
                "or use submit(), which waits",
                capability=label,
                near=[],
            )
            for wait in old:
                if wait.label == label:
                    self._cancel_later(process, wait.task)
                    process.waits.fail(wait, error)


def _capability_row(capability: Capability[Any, Any]) -> CapabilityRow:
    form = capability.form
    words = " ".join(sorted({word.lower() for word in f"{capability.name} {capability.description}".replace(".", " ").split()}))
    return CapabilityRow(capability.name, capability.version, capability.description, form.input.json, form.output.json, words, 0.0)


def _provider_row(local: _Local, session: str) -> ProviderRow:
    labels = bodies.encode(list(local.labels)) if local.labels else None
    return ProviderRow(
        local.id, session, session, local.capability.label, local.capability.version, "function", None, None,
        registry.ONLINE, local.limit, labels, 0.0,
    )  # fmt: skip
