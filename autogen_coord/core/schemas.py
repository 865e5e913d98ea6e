"""What goes in and out of a capability: a type, its JSON Schema, and the way to and from JSON text."""

from __future__ import annotations

import dataclasses
import json
import math
import typing
from collections.abc import Callable, Hashable, Iterator
from functools import lru_cache
from types import UnionType
from typing import Any, Generic, TypeVar, cast

from pydantic import BaseModel, TypeAdapter, ValidationError
from pydantic.errors import PydanticUserError
from pydantic_core import PydanticSerializationError, to_jsonable_python

from ..errors import InvalidInputError
from .bodies import decode, encode

T = TypeVar("T")
PLAIN = (str, int, bool, type(None))
_DETAILS = 3


class Schema(Generic[T]):
    """One side of a capability, from its annotation."""

    def __init__(self, annotation: Any, where: str) -> None:
        _refuse_vague(annotation, where)
        self.where = where
        self._plain: type[Any] | None = annotation if annotation in PLAIN else None
        try:
            self._adapter: TypeAdapter[T] = TypeAdapter(annotation)
            self.json = encode(self._adapter.json_schema())
        except (PydanticUserError, TypeError) as error:
            reason = str(error).splitlines()[0]
            raise InvalidInputError(
                f"{where}: {annotation!r} has no JSON form ({reason}); use pydantic models or plain types"
            ) from error

    @property
    def is_none(self) -> bool:
        """Whether None is all that it takes."""
        return self._plain is type(None)

    def encode(self, value: Any, wrong: type[InvalidInputError] = InvalidInputError) -> str:
        """JSON text of a value that fits.

        Raises: ``wrong`` (InvalidInputError, or InvalidOutputError) that names the field.
        """
        if type(value) is self._plain:
            return encode(value)
        try:
            fitting = self._adapter.validator.validate_python(value)
            text = encode(self._adapter.serializer.to_python(fitting, mode="json", by_alias=True, warnings=False))
            if "null" in text:
                _refuse_hidden_nan(self._adapter.serializer.to_python(fitting, warnings=False))
            self._read(text)  # a model that was made without validation, or changed since, pydantic does not look at again
        except ValidationError as error:
            raise wrong(f"{self.where}: {_what(error)}") from None  # pydantic's own text quotes the value
        except (PydanticSerializationError, InvalidInputError, ValueError) as error:
            raise wrong(f"{self.where}: {error}") from error
        return text

    def decode(self, text: str) -> T:
        """The value that `encode` wrote. Raises: InvalidInputError."""
        try:
            if self._plain is not None:
                value: Any = json.loads(text)
                if type(value) is self._plain:
                    return value  # type: ignore[no-any-return]
            return self._read(text)
        except ValidationError as error:
            raise InvalidInputError(f"{self.where}: {_what(error)}") from None

    def decode_strictly(self, text: str) -> T:
        """The value of JSON text in which nothing is of another type ("5" is no int). Raises: InvalidInputError."""
        try:
            return self._read(text, strict=True)
        except ValueError as error:
            what = _what(error) if isinstance(error, ValidationError) else "no JSON"
            raise InvalidInputError(f"{self.where}: {what}") from None

    def accepts(self, value: Any) -> bool:
        """Whether `encode` would take it without changing its type."""
        try:
            self._adapter.validator.validate_python(value, strict=True)
        except ValidationError:
            return False
        return True

    def _read(self, text: str, strict: bool | None = None) -> T:
        if "\\ud" in text:  # surrogates: the JSON reader of pydantic refuses lone ones, which models do emit
            return cast(T, self._adapter.validator.validate_python(json.loads(text)))
        return cast(T, self._adapter.validator.validate_json(text, strict=strict))


def _what(error: ValidationError) -> str:
    lines = []
    for one in error.errors(include_url=False, include_input=False, include_context=False)[:_DETAILS]:
        at = ".".join(str(part) for part in one["loc"])
        lines.append(f"{at}: {one['msg']}" if at else one["msg"])
    more = error.error_count() - _DETAILS
    return "; ".join(lines) + (f"; and {more} more" if more > 0 else "")


def _refuse_vague(annotation: Any, where: str) -> None:
    if _says_nothing(annotation):
        raise InvalidInputError(f"{where}: annotated {annotation!r}, which says nothing: name the type")
    for variable in _variables(annotation, set()):
        raise InvalidInputError(f"{where}: annotated with the type variable {variable}: name the type")


def _says_nothing(annotation: Any) -> bool:
    """Whether every value fits it, by itself or as one of a union."""
    origin, parts = typing.get_origin(annotation), typing.get_args(annotation)
    if origin in (typing.Union, UnionType):
        return any(_says_nothing(part) for part in parts)
    if origin is typing.Annotated:
        return _says_nothing(parts[0])
    return annotation is Any or annotation is object


def _variables(annotation: Any, seen: set[type]) -> Iterator[TypeVar]:
    """The type variables in it, and in the fields of its models, that stand for nothing."""
    if isinstance(annotation, TypeVar):
        yield annotation
    for part in typing.get_args(annotation):
        yield from _variables(part, seen)
    if isinstance(annotation, type) and typing.get_origin(annotation) is None and annotation not in seen:
        seen.add(annotation)
        yield from getattr(annotation, "__parameters__", ())  # a generic class, named without its types
        for field in _fields(annotation):
            yield from _variables(field, seen)


def _fields(cls: type) -> list[Any]:
    """What the fields of a model or dataclass are annotated with, as far as that is known."""
    if issubclass(cls, BaseModel):
        return [field.annotation for field in cls.model_fields.values()]
    if not dataclasses.is_dataclass(cls) or hasattr(cls, "__orig_bases__"):  # a generic base's fields name its own variables
        return []
    try:
        return list(typing.get_type_hints(cls, include_extras=True).values())
    except Exception:  # written as text, of names that pydantic may find elsewhere
        return []


def _refuse_hidden_nan(value: Any) -> None:
    """Where a type says nothing, pydantic writes NaN as null. Raises: InvalidInputError."""
    left = [value]
    while left:
        one = left.pop()
        if isinstance(one, float) and not math.isfinite(one):
            raise InvalidInputError(f"{one} is no JSON number: pass numbers that are finite, or None")
        if isinstance(one, dict):
            left += one.values()
        elif isinstance(one, list | tuple | set | frozenset):
            left += one


def jsonable(value: Any) -> str:
    """JSON text of a value whose schema is known only by name: pydantic models, dataclasses, plain types.

    Raises: InvalidInputError.
    """
    try:
        return encode(to_jsonable_python(value, by_alias=True, inf_nan_mode="constants"))
    except (PydanticSerializationError, ValueError) as error:
        raise InvalidInputError(f"the input has no JSON form: {error}") from error


@lru_cache(maxsize=1_000)
def _adapter(returns: Any) -> TypeAdapter[Any]:
    return TypeAdapter(returns)


def _is_hashable(annotation: Any) -> bool:
    """Not so where it carries what is not, as ``Annotated[int, {...}]``."""
    try:
        hash(annotation)
    except TypeError:
        return False
    return True


def decoder(returns: type[T]) -> Callable[[str], T]:
    """Reads a stored output as ``returns``. Raises: InvalidInputError, when that has no JSON form."""
    try:
        adapter: TypeAdapter[T] = _adapter(cast(Hashable, returns)) if _is_hashable(returns) else TypeAdapter(returns)
    except (PydanticUserError, TypeError) as error:
        raise InvalidInputError(f"returns={returns!r:.200} is no type with a JSON form: {str(error).splitlines()[0]}") from error

    def decode(text: str) -> T:
        try:
            if "\\ud" in text:  # as in `_read`
                return adapter.validate_python(json.loads(text))
            return adapter.validate_json(text)
        except ValidationError as error:
            raise InvalidInputError(f"the output is not a {returns!r}: {error.errors(include_url=False)[0]['msg']}") from None

    return decode


def checker(schema: str) -> Callable[[str, str], None]:
    """A compiled check of JSON text against a JSON Schema, for capabilities known only by name."""
    from jsonschema import Draft202012Validator

    validator = Draft202012Validator(decode(schema))

    def check(text: str, where: str) -> None:
        for error in validator.iter_errors(decode(text)):
            # never the library's own text: it quotes the value
            wanted = f"{error.validator} {error.validator_value!r}"
            raise InvalidInputError(f"{where}: {error.json_path}: does not fit its schema ({wanted[:200]})")

    return check
