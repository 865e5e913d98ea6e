"""Values to JSON text and back, and what has no such form."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from typing import Annotated, Any, Generic, Literal, TypeVar

import pytest
from pydantic import BaseModel, Field

from autogen_coord import InvalidInputError, InvalidOutputError
from autogen_coord.core import bodies
from autogen_coord.core.schemas import Schema, checker, jsonable

T = TypeVar("T")


class Color(StrEnum):
    RED = "red"


class Item(BaseModel):
    name: str = Field(alias="itemName", min_length=1)
    price: float = 0.0
    extra: Any = None


@dataclass
class Pair:
    left: int
    right: str


class Box(BaseModel, Generic[T]):
    content: T


@dataclass
class Both(Generic[T]):
    left: T
    right: T | None = None


NAMED: Any = T  # as a value
BOX: Any = Box
BOTH: Any = Both


@pytest.mark.parametrize(
    ("annotation", "value"),
    [
        (str, "é\0\ud800"), (int, 2**80), (bool, True), (type(None), None), (float, 0.1), (list[int], [1, 2]),
        (dict[str, Pair], {"a": Pair(1, "x")}), (tuple[int, str], (1, "x")), (set[int], {1, 2}), (Color, Color.RED),
        (Item, Item(itemName="x", price=1.5)), (datetime, datetime(2030, 1, 1, tzinfo=UTC)), (int | None, None), (int | None, 3),
        (Literal["a", "b"], "a"), (Annotated[int, Field(gt=1)], 2), (bytes, b"abc"), (dict[str, Any], {"a": [1, None, {"b": 2}]}),
        (list[str], ["\ud800"]),
    ],
    ids=str,
)  # fmt: skip
def test_a_value_comes_back_as_it_went(annotation: Any, value: Any) -> None:
    schema: Schema[Any] = Schema(annotation, "x")
    text = schema.encode(value)
    assert text.isascii()
    json.loads(text)
    back = schema.decode(text)
    assert back == value
    assert type(back) is type(value)


class Crate(BaseModel):
    """Its boxes are left open."""

    boxes: list[BOX]
    next: Crate | None = None


class Bare(BaseModel):
    content: T  # type: ignore[valid-type]


@dataclass
class Shelf:
    crate: Crate | None


@dataclass
class Named(Both[int]):
    """Names the type that its base leaves open."""


class Chain(BaseModel):
    """Holds its own kind."""

    box: Box[int]
    pair: Named
    next: Chain | None = None


@pytest.mark.parametrize("annotation", [Any, object, T, Any | None, Annotated[Any, "x"], int | Annotated[Any, "x"]])
def test_an_annotation_that_says_nothing_is_refused(annotation: Any) -> None:
    with pytest.raises(InvalidInputError, match="the input of work"):
        Schema(annotation, "the input of work")


@pytest.mark.parametrize(
    "annotation",
    [
        list[NAMED], dict[str, list[NAMED]], NAMED | None, tuple[int, NAMED], Annotated[NAMED, "x"], BOX, BOX[T], list[BOX],
        BOX | None, BOTH, BOTH[T], BOTH[BOX], dict[str, BOX[T]], Crate, Bare, list[Shelf],
    ],
    ids=str,
)  # fmt: skip
def test_a_type_that_is_left_open_is_refused_however_deep(annotation: Any) -> None:
    with pytest.raises(InvalidInputError, match=r"the input of work: .*type variable.*name the type"):
        Schema(annotation, "the input of work")


@pytest.mark.parametrize(
    ("annotation", "value"),
    [
        (BOX[int], BOX[int](content=1)), (BOX[list[Pair]], BOX[list[Pair]](content=[Pair(1, "a")])), (BOTH[str], Both("a", None)),
        (Chain, Chain(box=Box[int](content=1), pair=Named(1), next=Chain(box=Box[int](content=2), pair=Named(2, 3)))),
        (list[BOX[str]], [BOX[str](content="a")]), (BOX[BOX[int]], BOX[BOX[int]](content=BOX[int](content=1))),
    ],
    ids=str,
)  # fmt: skip
def test_a_generic_whose_types_are_named_comes_back_as_it_went(annotation: Any, value: Any) -> None:
    schema: Schema[Any] = Schema(annotation, "x")
    back = schema.decode(schema.encode(value))
    assert back == value
    assert type(back) is type(value)
    assert Schema(BOX[int], "x").json != Schema(BOX[str], "x").json


def test_a_schema_accepts_what_it_need_not_change() -> None:
    schema: Schema[Any] = Schema(Item, "x")
    assert schema.accepts(Item(itemName="x"))
    assert not schema.accepts("x")
    assert Schema(int, "x").accepts(7)
    assert not Schema(int, "x").accepts("7")
    assert Schema(str, "x").accepts("7")


@pytest.mark.parametrize(
    ("annotation", "text", "value"),
    [
        (Pair, '{"left":1,"right":"\\ud800"}', Pair(1, "\ud800")), (tuple[int, str], '[1,"a"]', (1, "a")),
        (set[int], "[1,2]", {1, 2}), (Color, '"red"', Color.RED),
        (datetime, '"2030-01-01T00:00:00Z"', datetime(2030, 1, 1, tzinfo=UTC)), (float, "5", 5.0),
    ],
    ids=str,
)  # fmt: skip
def test_json_text_is_read_without_changing_types(annotation: Any, text: str, value: Any) -> None:
    schema: Schema[Any] = Schema(annotation, "x")
    found = schema.decode_strictly(text)
    assert found == value
    assert type(found) is type(value)


@pytest.mark.parametrize(("annotation", "text"), [(int, '"5"'), (int, "5.0"), (str, "5"), (Pair, '{"left":"1"}'), (int, "five")])
def test_json_text_of_another_type_is_refused_and_not_shown(annotation: Any, text: str) -> None:
    with pytest.raises(InvalidInputError, match="the output of work") as caught:
        Schema(annotation, "the output of work").decode_strictly(text)
    assert "five" not in str(caught.value)


def test_only_none_is_none() -> None:
    assert Schema(type(None), "x").is_none
    assert not Schema(int | None, "x").is_none


class Opaque:
    pass


@pytest.mark.parametrize("annotation", [Opaque, list[Opaque], type, "nowhere"])
def test_a_type_without_a_json_form_is_refused(annotation: Any) -> None:
    with pytest.raises(InvalidInputError, match="the input of work"):
        Schema(annotation, "the input of work")


@pytest.mark.parametrize("number", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize(
    ("annotation", "wrap"),
    [
        (float, lambda x: x), (list[float], lambda x: [x]), (dict[str, Any], lambda x: {"a": x}),
        (Item, lambda x: Item(itemName="x", price=x)), (Item, lambda x: Item(itemName="x", extra=[{"deep": x}])),
        (float | None, lambda x: x),
    ],
)  # fmt: skip
def test_a_number_that_is_none_is_refused_wherever_it_hides(annotation: Any, wrap: Any, number: float) -> None:
    with pytest.raises(InvalidInputError):
        Schema(annotation, "x").encode(wrap(number))


def test_none_is_no_hidden_nan() -> None:
    assert Schema(dict[str, Any], "x").encode({"a": None, "b": "null"}) == '{"a":null,"b":"null"}'


def test_a_model_that_does_not_fit_its_own_form_is_refused() -> None:
    schema: Schema[Item] = Schema(Item, "the output of work")
    changed = Item(itemName="x")
    changed.name = ""
    construct: Any = Item.model_construct
    for value in (changed, construct(name=7), construct()):
        with pytest.raises(InvalidOutputError, match="the output of work"):
            schema.encode(value, InvalidOutputError)


def test_what_does_not_fit_is_told_by_field_and_never_shown() -> None:
    schema: Schema[Any] = Schema(dict[str, Pair], "the input of work")
    with pytest.raises(InvalidInputError) as caught:
        schema.encode({"a": {"left": "secret", "right": "x"}})
    assert "a.left" in str(caught.value)
    assert "secret" not in str(caught.value)


def test_many_faults_are_told_in_short() -> None:
    with pytest.raises(InvalidInputError, match="and 97 more"):
        Schema(list[int], "x").encode(["a"] * 100)


def test_a_bool_is_no_int_and_an_int_no_text() -> None:
    with pytest.raises(InvalidInputError):
        Schema(str, "x").encode(1)
    assert Schema(int, "x").encode(True) in ("1", "true")


@pytest.mark.parametrize("value", [object(), {1, 2, object()}, math.nan, {"a": math.inf}, b"\xff", lambda: 0])
def test_what_has_no_json_form_is_refused_without_a_type_too(value: Any) -> None:
    with pytest.raises(InvalidInputError):
        jsonable(value)


def test_a_value_that_holds_itself_is_refused() -> None:
    loop: list[Any] = []
    loop.append(loop)
    with pytest.raises(InvalidInputError):
        jsonable(loop)
    with pytest.raises(InvalidInputError):
        Schema(list[Any], "x").encode(loop)


def test_a_value_too_deep_is_refused() -> None:
    deep: list[Any] = []
    for _ in range(100_000):
        deep = [deep]
    with pytest.raises(InvalidInputError):
        jsonable(deep)
    with pytest.raises(InvalidInputError):
        Schema(list[Any], "x").encode(deep)
    while deep:  # freeing it in one go would overflow too
        deep = deep.pop()


def test_a_checker_knows_only_the_schema() -> None:
    check = checker(Schema(Item, "x").json)
    check('{"itemName":"a","price":1}', "the input of work")
    for text in ('{"itemName":""}', "{}", "3", '{"itemName":"a","price":"x"}'):
        with pytest.raises(InvalidInputError, match="the input of work"):
            check(text, "the input of work")


def test_hashes_are_over_the_canonical_form() -> None:
    assert bodies.digest('{"a":1,"b":[1,2]}') == bodies.digest('{ "b": [1, 2], "a": 1 }')
    assert bodies.digest('{"a":[1,2]}') != bodies.digest('{"a":[2,1]}')
