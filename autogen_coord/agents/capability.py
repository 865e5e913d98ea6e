"""`@capability`: a function as a durable ability, and `TaskContext`: what its handler may know and do."""

from __future__ import annotations

import asyncio
import inspect
import logging
import typing
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any, Generic, Protocol, TypeVar, Unpack, overload

from ..core import bodies, registry
from ..core.requests import Options
from ..core.schemas import Schema
from ..errors import InvalidInputError

In = TypeVar("In")
Out = TypeVar("Out")
In_contra = TypeVar("In_contra", contravariant=True)
Out_co = TypeVar("Out_co", covariant=True)


class ContextPort(Protocol):
    """What a context needs of its coordination."""

    async def call_child(self, context: TaskContext, capability: Any, input: Any, returns: Any, options: Options) -> Any: ...
    async def report_progress(self, context: TaskContext, data: str) -> None: ...


class TaskContext:
    """What a handler may know of its task, and do in its name.

    ``deadline``: epoch seconds of the store's clock, or None. ``cancelled``: an event, set when the attempt should stop (it is
    cancelled as well). ``idempotency_key``: the same in every attempt; pass it to outside services. ``log``: a logger that carries
    the ids.
    """

    def __init__(self, port: ContextPort, session: str, task_id: str, attempt: int, deadline: float | None, label: str) -> None:
        self._port = port
        self._ordinals: dict[tuple[str, str], int] = {}
        self._cancelled: asyncio.Event | None = None
        self.session = session
        self.task_id = task_id
        self.attempt = attempt
        self.deadline = deadline
        self.capability = label

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
        return await self._port.call_child(self, capability, input, returns, options)

    async def progress(self, fraction: float | None = None, note: str = "") -> None:
        """Tell how far the task is: ``fraction`` from 0 to 1. Raises: StaleClaimError, InvalidInputError."""
        if fraction is not None and not 0 <= fraction <= 1:
            raise InvalidInputError(f"progress {fraction}: from 0 to 1")
        await self._port.report_progress(self, bodies.encode({"fraction": fraction, "note": note[:1000]}))

    def ordinal(self, label: str, digest: str) -> int:
        """How many children of this capability and input this attempt asked for before."""
        number = self._ordinals.get((label, digest), 0)
        self._ordinals[label, digest] = number + 1
        return number

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


def check_limit(limit: object, where: str) -> int | None:
    """A bound of how many run at once. Raises: InvalidInputError."""
    if limit is None:
        return None
    if isinstance(limit, bool) or not isinstance(limit, int) or not 1 <= limit <= 100_000:
        raise InvalidInputError(f"{where}: max_concurrency={limit!r}: a whole number from 1 to 100,000")
    return limit


class Capability(Generic[In_contra, Out_co]):
    """A function with a name, a version and schemas: what `@capability` makes of it. It can still be called directly."""

    def __init__(
        self, function: Callable[..., Awaitable[Out_co]], name: str | None, version: str, description: str | None, limit: int | None
    ) -> None:
        where = f"@capability {getattr(function, '__qualname__', function)!s}"
        if not inspect.iscoroutinefunction(function):
            raise InvalidInputError(f"{where}: must be an `async def`; put blocking work into asyncio.to_thread")
        self.function = function
        self.name = name or function.__name__
        self.version = version
        registry.check_name(self.name, version)
        self.label = registry.label_of(self.name, version)
        self.description = description if description is not None else inspect.getdoc(function) or ""
        self.max_concurrency = check_limit(limit, where)
        self._where = where
        self._resolved: _Form | None = None
        self.__name__ = function.__name__
        self.__doc__ = function.__doc__
        self.__wrapped__ = function

    def __call__(self, *args: Any, **kwargs: Any) -> Awaitable[Out_co]:
        return self.function(*args, **kwargs)

    def __repr__(self) -> str:
        return f"Capability({self.label})"

    @property
    def form(self) -> _Form:
        """Its schemas, read from the annotations when first wanted (they may name types that were defined later).

        Raises: InvalidInputError that names the parameter.
        """
        if self._resolved is None:
            self._resolved = _Form(self.function, self.label, self._where)
        return self._resolved

    def handle(self, input: In_contra, context: TaskContext) -> Awaitable[Out_co]:
        """Call the function as its signature wants it."""
        form = self.form
        if form.context_name is None:
            return self.function(input)
        if form.context_first:
            return self.function(context, input)
        return self.function(input, **{form.context_name: context})


class _Form:
    """The shape of a capability's function."""

    def __init__(self, function: Callable[..., Any], label: str, where: str) -> None:
        try:
            hints = typing.get_type_hints(function, include_extras=True)
        except NameError as error:
            raise InvalidInputError(f"{where}: {error}; annotations must name types of its module") from error
        parameters = list(inspect.signature(function).parameters.values())
        contexts = [one for one in parameters if hints.get(one.name) is TaskContext]
        inputs = [one for one in parameters if hints.get(one.name) is not TaskContext]
        if (
            len(inputs) != 1
            or len(contexts) > 1
            or inputs[0].kind in (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
        ):
            names = ", ".join(one.name for one in inputs) or "none"
            raise InvalidInputError(
                f"{where}: one input parameter and an optional TaskContext are wanted; its inputs are: {names}. "
                "Put several values into one pydantic model"
            )
        (parameter,) = inputs
        for name, what in ((parameter.name, f"parameter {parameter.name!r}"), ("return", "the return value")):
            if name not in hints:
                raise InvalidInputError(f"{where}: {what} has no annotation, so it has no schema")
        self.context_name = contexts[0].name if contexts else None
        self.context_first = bool(contexts) and parameters[0] is contexts[0]
        self.input: Schema[Any] = Schema(hints[parameter.name], f"the input of {label}")
        self.output: Schema[Any] = Schema(hints["return"], f"the output of {label}")


class _Decorator(Protocol):
    @overload
    def __call__(self, function: Callable[[In], Awaitable[Out]], /) -> Capability[In, Out]: ...
    @overload
    def __call__(self, function: Callable[[In, TaskContext], Awaitable[Out]], /) -> Capability[In, Out]: ...
    @overload
    def __call__(self, function: Callable[[TaskContext, In], Awaitable[Out]], /) -> Capability[In, Out]: ...


@overload
def capability(function: Callable[[In], Awaitable[Out]], /) -> Capability[In, Out]: ...
@overload
def capability(function: Callable[[In, TaskContext], Awaitable[Out]], /) -> Capability[In, Out]: ...
@overload
def capability(function: Callable[[TaskContext, In], Awaitable[Out]], /) -> Capability[In, Out]: ...
@overload
def capability(
    name: str | None = None, /, *, version: str = "1", description: str | None = None, max_concurrency: int | None = None
) -> _Decorator: ...
def capability(
    first: Any = None, /, *, version: str = "1", description: str | None = None, max_concurrency: int | None = None
) -> Any:
    """Make an ``async def`` with one annotated input (and an optional `TaskContext`) a capability.

    As ``@capability``, or ``@capability("name", version=..., description=..., max_concurrency=...)``. The name is the function's
    unless given; ``max_concurrency`` bounds how many run at once in a process.

    Raises: InvalidInputError for names and functions that cannot be one; its annotations are read when it is first used.
    """
    if callable(first):
        return Capability(first, None, version, description, max_concurrency)

    def decorate(function: Callable[..., Awaitable[Any]]) -> Capability[Any, Any]:
        return Capability(function, first, version, description, max_concurrency)

    return decorate
