"""What may be stored under which key: all of it reads back as it was, and the rest is refused by name."""

from __future__ import annotations

import copy
import dataclasses
import datetime
import decimal
import enum
import json
import math
import pathlib
import uuid
from typing import Any

import pytest
from hypothesis import given
from pydantic import BaseModel, ConfigDict, Field

from autogen_coord import InvalidInputError, PayloadTooLargeError
from autogen_coord.core import lock_modes
from autogen_coord.core import values as values_module
from autogen_coord.core.values import ABSENT, checked, checked_key, copied, kind, pointer, same

from .json_values import values

LIMIT, DEPTH = 1_000, 5


class Colour(enum.Enum):
    RED = "red"


class Word(enum.StrEnum):
    RED = "red"


class Finding(BaseModel):
    model_config = ConfigDict(populate_by_name=True)

    text: str = Field(alias="Text")
    seen: set[int] = set()
    more: Any = None


@dataclasses.dataclass
class Point:
    x: Any
    y: Any = None


class Loop(BaseModel):
    next: Any = None


@given(values)
def test_a_json_value_reads_back_as_it_was(value: Any) -> None:
    before = copy.deepcopy(value)
    text = checked(value, "k", 100_000, 50)
    assert same(json.loads(text), value)
    assert same(value, before)
    assert text.isascii()


def test_names_keep_their_order() -> None:
    assert checked({"b": 1, "a": 2}, "k", LIMIT, DEPTH) == '{"b":1,"a":2}'


TURNED: list[tuple[Any, Any]] = [
    ((1, (2,)), [1, [2]]),
    (Finding(text="a", seen={3}), {"Text": "a", "seen": [3], "more": None}),
    ([Finding(text="a", more={"x": "\ud800"})], [{"Text": "a", "seen": [], "more": {"x": "\ud800"}}]),
    (Point(1, Point(Word.RED)), {"x": 1, "y": {"x": "red", "y": None}}),
    ({Word.RED: Colour.RED}, {"red": "red"}),
    (datetime.date(2026, 1, 2), "2026-01-02"),
    (datetime.datetime(2026, 1, 2, 3, 4, tzinfo=datetime.UTC), "2026-01-02T03:04:00Z"),
    (datetime.time(3, 4), "03:04:00"),
    (datetime.timedelta(days=1, seconds=2), "P1DT2S"),
    (uuid.UUID(int=1), "00000000-0000-0000-0000-000000000001"),
    (decimal.Decimal("1.10"), "1.10"),
    (pathlib.PurePosixPath("a/b"), "a/b"),
]


@pytest.mark.parametrize(("value", "read"), TURNED)
def test_models_and_plain_types_are_turned_as_pydantic_does(value: Any, read: Any) -> None:
    assert same(json.loads(checked({"v": value}, "k", LIMIT, DEPTH)), {"v": read})


class Odd:
    pass


REFUSED: list[tuple[Any, str]] = [
    (math.nan, "finite"),
    (math.inf, "finite"),
    (-math.inf, "finite"),
    (decimal.Decimal("NaN"), "finite"),
    (Finding(text="a", more=math.nan), "finite"),
    (Finding(text="a", more=[math.inf]), "finite"),
    (Point(math.nan), "finite"),
    ({1: 2}, "a number"),
    ({None: 2}, "null"),
    ({True: 2}, "a boolean"),
    ({(1, 2): 2}, "an array"),
    ({b"x": 1}, "a bytes"),
    (Point({1: 2}), "a number"),
    ({1, 2}, "set"),
    (frozenset(), "frozenset"),
    (b"x", "bytes"),
    (bytearray(b"x"), "bytearray"),
    (iter([1]), "list_iterator"),
    (range(3), "range"),
    (1j, "complex"),
    (Odd(), "Odd"),
    (Odd, "class"),
    (Finding, "class"),
    (Point, "class"),
    (Finding(text="a", more=Odd()), "Finding"),
    (len, "builtin"),
    (ValueError("x"), "ValueError"),
]


@pytest.mark.parametrize(("value", "why"), REFUSED)
def test_what_json_would_change_is_refused_by_key_and_place(value: Any, why: str) -> None:
    with pytest.raises(InvalidInputError, match=why) as refused:
        checked({"a/b": [0, value]}, "doc/1", LIMIT, DEPTH)
    assert refused.value.key == "doc/1"
    assert refused.value.path.startswith("/a~1b/1")
    assert "doc/1" in str(refused.value)
    assert "/a~1b/1" in str(refused.value)


def test_numbers_too_long_to_write_are_refused() -> None:
    with pytest.raises(InvalidInputError, match="doc/1"):
        checked(10**5_000, "doc/1", 1_000_000, DEPTH)


def nested(levels: int, cls: type[Any] = list) -> Any:
    value: Any = 0
    for _ in range(levels):
        value = [value] if cls is list else {"n": value} if cls is dict else (value,) if cls is tuple else cls(value)
    return value


@pytest.mark.parametrize("cls", [list, dict, tuple, Point])
def test_depth_is_allowed_up_to_the_limit(cls: type[Any]) -> None:
    checked(nested(DEPTH, cls), "k", LIMIT, DEPTH)
    with pytest.raises(InvalidInputError, match="at most 5 "):
        checked(nested(DEPTH + 1, cls), "doc/1", LIMIT, DEPTH)


def test_what_a_model_holds_counts_too() -> None:
    checked(Finding(text="a", more=nested(DEPTH - 1)), "k", LIMIT, DEPTH)
    with pytest.raises(InvalidInputError, match=r"'/more/0/0/0/0'.* at most 5 "):
        checked(Finding(text="a", more=nested(DEPTH)), "k", LIMIT, DEPTH)


def test_a_hundred_levels_are_read_and_copied() -> None:
    value = nested(100, dict)
    assert same(json.loads(checked(value, "k", LIMIT, 100)), copied(value))


def test_what_is_very_deep_or_holds_itself_is_refused_and_not_a_recursion_error() -> None:
    loop: list[Any] = []
    loop.append(loop)
    model = Loop()
    model.next = model
    chain = Loop()
    for _ in range(3_000):
        chain = Loop(next=chain)
    for value in (nested(100_000), loop, model, chain, Point(loop)):
        with pytest.raises(InvalidInputError, match="doc/1"):
            checked(value, "doc/1", 10_000_000, 64)


def test_size_is_allowed_up_to_the_limit() -> None:
    checked("x" * (LIMIT - 2), "k", LIMIT, DEPTH)
    for value in ("x" * (LIMIT - 1), "é" * (LIMIT // 4), [0] * LIMIT, {"x" * LIMIT: 1}, {str(n): "xxxxxx" for n in range(90)}):
        with pytest.raises(PayloadTooLargeError, match="doc/1") as refused:
            checked(value, "doc/1", LIMIT, DEPTH)
        assert refused.value.key == "doc/1"
        assert refused.value.size > refused.value.limit == LIMIT


def test_a_value_that_only_looks_small_is_too_large_before_it_is_written() -> None:
    wide: Any = [0] * 10
    for _ in range(60):
        wide = [wide] * 10
    with pytest.raises(PayloadTooLargeError):
        checked(wide, "k", 1_000_000, 64)
    with pytest.raises(PayloadTooLargeError):
        checked(["x" * 1_000_000] * 1_000_000, "k", 1_000_000, 64)


def test_names_count_before_anything_is_written() -> None:
    with pytest.raises(PayloadTooLargeError) as refused:
        checked([{"x" * LIMIT: 0}] * 9, "k", LIMIT, DEPTH)
    assert refused.value.size == LIMIT + 1  # of all the text that it would be, no more was looked at


@given(values)
def test_no_value_within_the_limit_is_called_too_large(value: Any) -> None:
    text = checked(value, "k", 100_000, 50)
    assert checked(value, "k", len(text), 50) == text
    with pytest.raises(PayloadTooLargeError):
        checked(value, "k", len(text) - 1, 50)


def test_messages_do_not_quote_the_value() -> None:
    for value in ({"a": ["secret", {1}]}, ["secret" * LIMIT], Finding(text="secret", more=Odd())):
        with pytest.raises((InvalidInputError, PayloadTooLargeError)) as refused:
            checked(value, "k", LIMIT, DEPTH)
        assert "secret" not in str(refused.value)
        assert refused.value.__cause__ is None
        assert refused.value.__suppress_context__


@pytest.mark.parametrize("key", ["a", "a/b", "a b", "é/ü", "x" * 500, "/".join("x" * 32), "...", "a/.b", "~0"])
def test_keys(key: str) -> None:
    assert checked_key(key) == key
    assert lock_modes.shown(lock_modes.stored(key)) == key


@pytest.mark.parametrize(
    "key",
    [
        "",
        "/",
        "/a",
        "a/",
        "a//b",
        ".",
        "a/..",
        "./a",
        "x" * 501,
        "/".join("x" * 33),
        "a\x00",
        "a\nb",
        "\x7f",
        "\ud800",
        None,
        1,
        b"a",
    ],
)
def test_keys_that_are_refused(key: Any) -> None:
    with pytest.raises(InvalidInputError, match=r"^key ") as refused:
        checked_key(key)
    assert refused.value.key == key


def test_same_looks_at_types_and_not_at_the_order_of_fields() -> None:
    assert same({"a": 1, "b": [1.5]}, {"b": [1.5], "a": 1})
    different: list[Any] = [1, 1.0, True, "1", None, ABSENT, [], {}, [1], 0, 0.0, -0.0, False]
    for number, one in enumerate(different):
        assert [same(one, other) for other in different] == [number == index for index in range(len(different))]


@given(values)
def test_a_copy_is_the_same_and_shares_nothing(value: Any) -> None:
    value = {"a": [value, [{}]]}
    other = copied(value)
    assert same(other, value)
    other["a"][1][0]["x"] = 1
    assert value["a"][1] == [{}]


def test_pointers_and_kinds() -> None:
    assert pointer([]) == ""
    assert pointer(["a/b", 0, "~1", ""]) == "/a~1b/0/~01/"
    some: list[Any] = [None, True, 1, 1.5, "", [], {}, ABSENT]
    assert [kind(one) for one in some] == [
        "null", "a boolean", "a number", "a number", "a text", "an array", "an object", "absent",
    ]  # fmt: skip


@pytest.mark.parametrize(
    "value", ["\ud83d\ude00", ["a", {"in": "x\ud83d\ude00"}], {"\ud83d\ude00": 1, "\U0001f600": 2}, ("\udbff\udfff",)]
)
def test_two_surrogates_that_would_become_one_character_are_refused(value: Any) -> None:
    with pytest.raises(InvalidInputError, match="surrogates"):
        checked(value, "k", 1_000, 10)


@pytest.mark.parametrize("value", ["\ud83d", "\ude00\ud83d", "\U0001f600", {"\ud800": ["\U0001f600\ud83d"]}])
def test_a_lone_surrogate_and_a_whole_character_read_back_as_they_were(value: Any) -> None:
    assert json.loads(checked(value, "k", 1_000, 10)) == value


@pytest.mark.parametrize("value", [[10**4_000] * 1_000, {"n": 1 << 100_000}, (1 << 100_000,), [-(1 << 100_000)]])
def test_long_numbers_are_too_large_before_they_are_written(value: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(values_module, "encode", lambda value: pytest.fail("it was written"))
    with pytest.raises(PayloadTooLargeError):
        checked(value, "k", 20_000, 10)


def test_a_number_is_not_measured_longer_than_it_is() -> None:
    for number in (0, 7, -9, 10**15, 2**64, 10**100, 2**10_000):
        text = str(number)
        assert checked(number, "k", len(text), 10) == text
