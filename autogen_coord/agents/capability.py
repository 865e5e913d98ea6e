"""`@capability`: a function, or a method of an agent, as a durable ability."""

from __future__ import annotations

import inspect
import typing
from collections.abc import Awaitable, Callable
from types import MethodType
from typing import TYPE_CHECKING, Any, Generic, Protocol, Self, TypeVar, overload

from ..core import registry
from ..core.schemas import Schema
from ..errors import InvalidInputError
from .context import TaskContext

if TYPE_CHECKING:
    from .agent import CapabilityAgent

In = TypeVar("In")
Out = TypeVar("Out")
In_contra = TypeVar("In_contra", contravariant=True)
Out_co = TypeVar("Out_co", covariant=True)
AgentT = TypeVar("AgentT", bound="CapabilityAgent")


def check_limit(limit: object, where: str) -> int | None:
    """A bound of how many run at once. Raises: InvalidInputError."""
    if limit is None:
        return None
    if isinstance(limit, bool) or not isinstance(limit, int) or not 1 <= limit <= 100_000:
        raise InvalidInputError(f"{where}: max_concurrency={limit!r}: a whole number from 1 to 100,000")
    return limit


class Capability(Generic[In_contra, Out_co]):
    """A function with a name, a version and schemas: what `@capability` makes of it. It can still be called directly.

    In the body of a `CapabilityAgent` it is a method: read from an instance it is bound, read from the class it is the capability.
    """

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
        self.method: str | None = None
        """The attribute of an agent class that it is; None for a function."""
        self._where = where
        self._resolved: Form | None = None
        self.__name__ = function.__name__
        self.__doc__ = function.__doc__
        self.__wrapped__ = function

    def __set_name__(self, owner: type, name: str) -> None:
        if self.function.__qualname__ == f"{owner.__qualname__}.{self.function.__name__}":  # not a function that was put there
            self.method = name

    @overload
    def __get__(self, instance: None, owner: type, /) -> Self: ...
    @overload
    def __get__(self, instance: object, owner: type, /) -> Callable[..., Awaitable[Out_co]]: ...
    def __get__(self, instance: object | None, owner: type, /) -> Self | Callable[..., Awaitable[Out_co]]:
        if instance is None or self.method is None:
            return self
        return MethodType(self.function, instance)

    def __call__(self, *args: Any, **kwargs: Any) -> Awaitable[Out_co]:
        return self.function(*args, **kwargs)

    def __repr__(self) -> str:
        return f"Capability({self.label})"

    @property
    def form(self) -> Form:
        """Its schemas, read from the annotations when first wanted (they may name types that were defined later).

        Raises: InvalidInputError that names the parameter.
        """
        if self._resolved is None:
            self._resolved = Form(self.function, self.label, self._where, self.method is not None)
        return self._resolved

    def handle(self, input: In_contra, context: TaskContext) -> Awaitable[Out_co]:
        """Call the function as its signature wants it."""
        return self.form.call(self.function, input, context)

    def handle_on(self, agent: CapabilityAgent, input: In_contra, context: TaskContext) -> Awaitable[Out_co]:
        """Call the method of an agent: its own, where a subclass overrides it."""
        assert self.method is not None, "a capability of an agent is one of its methods"
        return self.form.call(getattr(agent, self.method), input, context)


class Form:
    """The shape of a capability's function: its schemas, and where its context goes."""

    def __init__(self, function: Callable[..., Any], label: str, where: str, is_method: bool) -> None:
        try:
            hints = typing.get_type_hints(function, include_extras=True)
        except NameError as error:
            raise InvalidInputError(f"{where}: {error}; annotations must name types of its module") from error
        except Exception as error:  # what is written as text may be anything
            raise InvalidInputError(f"{where}: an annotation is no type ({error}); name a type of its module") from error
        parameters = list(inspect.signature(function).parameters.values())[1 if is_method else 0 :]
        contexts = [one for one in parameters if hints.get(one.name) is TaskContext]
        parameter = _one_input([one for one in parameters if one not in contexts], len(contexts), where)
        for name, what in ((parameter.name, f"parameter {parameter.name!r}"), ("return", "the return value")):
            if name not in hints:
                raise InvalidInputError(f"{where}: {what} has no annotation, so it has no schema")
        self._context = contexts[0].name if contexts else None
        self._context_first = bool(contexts) and parameters[0] is contexts[0]
        self._input_name = parameter.name if parameter.kind is inspect.Parameter.KEYWORD_ONLY else None
        self.input: Schema[Any] = Schema(hints[parameter.name], f"the input of {label}")
        self.output: Schema[Any] = Schema(hints["return"], f"the output of {label}")

    def call(self, function: Callable[..., Awaitable[Out]], input: Any, context: TaskContext) -> Awaitable[Out]:
        if self._input_name is not None:
            named = {self._input_name: input}
            return function(**named) if self._context is None else function(**named, **{self._context: context})
        if self._context is None:
            return function(input)
        if self._context_first:
            return function(context, input)
        return function(input, **{self._context: context})


def _one_input(inputs: list[inspect.Parameter], contexts: int, where: str) -> inspect.Parameter:
    """Raises: InvalidInputError unless there is exactly one input, and one context at most."""
    several = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
    if len(inputs) != 1 or contexts > 1 or inputs[0].kind in several:
        names = ", ".join(one.name for one in inputs) or "none"
        raise InvalidInputError(
            f"{where}: one input parameter and an optional TaskContext are wanted; its inputs are: {names}. "
            "Put several values into one pydantic model"
        )
    return inputs[0]


class _Decorator(Protocol):
    @overload
    def __call__(self, function: Callable[[In], Awaitable[Out]], /) -> Capability[In, Out]: ...
    @overload
    def __call__(self, function: Callable[[In, TaskContext], Awaitable[Out]], /) -> Capability[In, Out]: ...
    @overload
    def __call__(self, function: Callable[[TaskContext, In], Awaitable[Out]], /) -> Capability[In, Out]: ...
    @overload
    def __call__(self, function: Callable[[AgentT, In], Awaitable[Out]], /) -> Capability[In, Out]: ...
    @overload
    def __call__(self, function: Callable[[AgentT, In, TaskContext], Awaitable[Out]], /) -> Capability[In, Out]: ...
    @overload
    def __call__(self, function: Callable[[AgentT, TaskContext, In], Awaitable[Out]], /) -> Capability[In, Out]: ...


@overload
def capability(function: Callable[[In], Awaitable[Out]], /) -> Capability[In, Out]: ...
@overload
def capability(function: Callable[[In, TaskContext], Awaitable[Out]], /) -> Capability[In, Out]: ...
@overload
def capability(function: Callable[[TaskContext, In], Awaitable[Out]], /) -> Capability[In, Out]: ...
@overload
def capability(function: Callable[[AgentT, In], Awaitable[Out]], /) -> Capability[In, Out]: ...
@overload
def capability(function: Callable[[AgentT, In, TaskContext], Awaitable[Out]], /) -> Capability[In, Out]: ...
@overload
def capability(function: Callable[[AgentT, TaskContext, In], Awaitable[Out]], /) -> Capability[In, Out]: ...
@overload
def capability(
    name: str | None = None, /, *, version: str = "1", description: str | None = None, max_concurrency: int | None = None
) -> _Decorator: ...
def capability(
    first: Any = None, /, *, version: str = "1", description: str | None = None, max_concurrency: int | None = None
) -> Any:
    """Make an ``async def`` with one annotated input (and an optional `TaskContext`) a capability: a function, or a method of a
    `CapabilityAgent`.

    As ``@capability``, or ``@capability("name", version=..., description=..., max_concurrency=...)``. The name is the function's
    unless given; ``max_concurrency`` bounds how many run at once in a process.

    Raises: InvalidInputError for names and functions that cannot be one; its annotations are read when it is first used.
    """
    if callable(first):
        return Capability(first, None, version, description, max_concurrency)

    def decorate(function: Callable[..., Awaitable[Any]]) -> Capability[Any, Any]:
        return Capability(function, first, version, description, max_concurrency)

    return decorate
