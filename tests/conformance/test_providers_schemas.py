"""Values of every kind of annotation, there and back through real calls of functions, agents and AutoGen's own messages."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from enum import Enum, IntEnum
from typing import Annotated, Any, Generic, Literal, NamedTuple, TypeVar
from uuid import UUID

import pytest
from autogen_core import AgentId, ClosureAgent, ClosureContext, MessageContext
from pydantic import BaseModel, ConfigDict, Field
from typing_extensions import TypedDict

from autogen_coord import CapabilityAgent, Coordination, InvalidInputError, RemoteError, RetryPolicy, Settings, capability
from tests.conftest import QUICK

T = TypeVar("T")
ONCE = RetryPolicy(tries=1)


class Tone(Enum):
    DRY = "dry"
    WARM = "warm"


class Level(IntEnum):
    LOW = 1
    HIGH = 2


class Author(BaseModel):
    name: str
    born: date | None = None


class Article(BaseModel):
    model_config = ConfigDict(populate_by_name=True)

    title: str = Field(alias="articleTitle")
    authors: list[Author] = []
    tone: Tone = Tone.DRY
    written: datetime | None = None
    scores: dict[str, float] = {}


class Box(BaseModel, Generic[T]):
    content: T


@dataclass
class Point:
    x: float
    y: float = 0.0


@dataclass
class Path:
    name: str
    start: Point
    end: Point | None = None
    between: list[Point] = field(default_factory=list)
    notes: dict[str, str | None] = field(default_factory=dict)


@dataclass
class Pair(Generic[T]):
    left: T
    right: T | None = None


class Row(NamedTuple):
    id: int
    name: str


class Options(TypedDict, total=False):
    deep: bool
    tones: list[Tone]


class Cat(BaseModel):
    kind: Literal["cat"] = "cat"
    lives: int = 9


class Dog(BaseModel):
    kind: Literal["dog"] = "dog"
    tricks: list[str] = []


class Tree(BaseModel):
    name: str
    children: list[Tree] = []


NOON = datetime(2030, 1, 1, 12, tzinfo=UTC)
PATH = Path("way", Point(1.5), Point(2.0, 3.0), [Point(0.1)], {"a": None, "b": "x"})
ARTICLE = Article(
    title="Tides", authors=[Author(name="Ada", born=date(1815, 12, 10))], tone=Tone.WARM, written=NOON, scores={"a": 0.1}
)
BOX_OF_INTS: Any = Box[int]
BOXES: Any = Box[list[Article]]
PAIR: Any = Pair[Point]
CASES: dict[str, tuple[Any, Any]] = {
    "str": (str, "é\0☂"),
    "empty str": (str, ""),
    "int": (int, 2**70),
    "bool": (bool, False),
    "float": (float, 0.1),
    "None": (None, None),
    "bytes": (bytes, b"abc"),
    "model": (Article, ARTICLE),
    "dataclass": (Path, PATH),
    "dataclass with defaults": (Path, Path("way", Point(1.0))),
    "list": (list[Article], [ARTICLE, ARTICLE]),
    "empty list": (list[int], []),
    "dict": (dict[str, list[Point]], {"a": [Point(1.0)], "b": []}),
    "dict of int keys": (dict[int, str], {1: "a"}),
    "set": (set[str], {"a", "b"}),
    "tuple": (tuple[int, str], (1, "a")),
    "tuple of many": (tuple[int, ...], (1, 2, 3)),
    "named tuple": (Row, Row(1, "a")),
    "typed dict": (Options, {"deep": True, "tones": [Tone.DRY]}),
    "generic model": (BOX_OF_INTS, BOX_OF_INTS(content=7)),
    "generic of generics": (BOXES, BOXES(content=[ARTICLE])),
    "generic dataclass": (PAIR, Pair(Point(1.0), Point(2.0))),
    "optional": (Article | None, ARTICLE),
    "optional None": (Article | None, None),
    "union": (int | str, "7"),
    "union of models": (Cat | Dog, Dog(tricks=["roll"])),
    "tagged union": (Annotated[Cat | Dog, Field(discriminator="kind")], Cat(lives=3)),
    "list of a union": (list[Cat | Dog], [Cat(), Dog()]),
    "Literal": (Literal["a", "b"], "b"),
    "Enum": (Tone, Tone.WARM),
    "IntEnum": (Level, Level.HIGH),
    "datetime": (datetime, NOON),
    "date": (date, date(2030, 1, 1)),
    "timedelta": (timedelta, timedelta(seconds=90)),
    "Decimal": (Decimal, Decimal("0.10")),
    "UUID": (UUID, UUID(int=7)),
    "constrained": (Annotated[int, Field(gt=1)], 2),
    "recursive": (Tree, Tree(name="a", children=[Tree(name="b")])),
}


def echo_of(annotation: Any, seen: list[Any]) -> Any:
    async def echo(value: Any) -> Any:
        seen.append(value)
        return value

    echo.__annotations__ = {"value": annotation, "return": annotation}
    return echo


def agent_of(annotation: Any, seen: list[Any]) -> type[CapabilityAgent]:
    async def method(self: Any, value: Any) -> Any:
        seen.append(value)
        return value

    method.__annotations__ = {"value": annotation, "return": annotation}
    method.__qualname__ = "Echo.method"
    return type("Echo", (CapabilityAgent,), {"echo": capability("agent")(method), "__qualname__": "Echo"})


@pytest.fixture
async def coord() -> AsyncIterator[Coordination]:
    async with Coordination.open("dict://", settings=Settings(**QUICK)) as coord:
        yield coord


@pytest.mark.parametrize("case", CASES)
async def test_a_value_goes_through_a_call_and_comes_back_as_it_was(coord: Coordination, case: str) -> None:
    """By reference and by name, to a function and to an agent; the handler sees it as it was as well."""
    annotation, value = CASES[case]
    seen: list[Any] = []
    function = capability("function")(echo_of(annotation, seen))
    agent = agent_of(annotation, seen)
    await coord.provide(function)
    await coord.provide(agent)
    returns = type(None) if annotation is None else annotation
    answers = [
        await coord.call(function, value),
        await coord.call("function", value, returns=returns),
        await coord.call(agent.capabilities()[0], value),
        await coord.call("agent", value, returns=returns),
    ]
    for each in (*answers, *seen):
        assert each == value
        assert type(each) is type(value)
    assert len(seen) == len(answers)


async def test_a_closure_takes_a_dataclass_with_nested_and_optional_fields_as_its_message(coord: Coordination) -> None:
    async def turn(agent: ClosureContext, message: Path, ctx: MessageContext) -> Path:
        assert message.end is not None
        return Path(message.name, message.end, message.start, message.between, message.notes)

    await ClosureAgent.register_closure(coord.runtime, "turner", turn)
    await coord.provide(AgentId("turner", "default"), "turn", input=Path, output=Path)
    answer = await coord.call("turn", PATH, returns=Path)
    assert answer == Path("way", Point(2.0, 3.0), Point(1.5), [Point(0.1)], {"a": None, "b": "x"})


async def test_one_agent_takes_a_union_of_messages_each_by_its_handler(coord: Coordination) -> None:
    async def ask(agent: ClosureContext, message: Cat | Dog, ctx: MessageContext) -> str:
        return type(message).__name__

    await ClosureAgent.register_closure(coord.runtime, "pets", ask)
    await coord.provide(AgentId("pets", "default"), "ask", input=Cat | Dog, output=str)
    assert [await coord.call("ask", one) for one in (Cat(), Dog())] == ["Cat", "Dog"]


@pytest.mark.parametrize(
    ("case", "wrong", "told"),
    [
        ("model", {"articleTitle": "a", "authors": [{"nome": "b"}]}, "authors"), ("dataclass", {"name": "a"}, "start"),
        ("list", "no list", "array"), ("generic model", {"content": "seven"}, "content"), ("Literal", "c", "enum"),
        ("Enum", "cold", "enum"), ("datetime", [], "string"), ("constrained", 1, "exclusiveMinimum"),
        ("tagged union", {"kind": "cow"}, "oneOf"), ("None", 0, "null"), ("union of models", {"kind": "cow"}, "anyOf"),
        ("recursive", {"name": "a", "children": [{}]}, "children"), ("generic dataclass", {"left": {}}, "left"),
    ],
)  # fmt: skip
async def test_what_does_not_fit_is_refused_by_field_and_not_stored(coord: Coordination, case: str, wrong: Any, told: str) -> None:
    annotation, _ = CASES[case]
    seen: list[Any] = []
    function = capability("function")(echo_of(annotation, seen))
    await coord.provide(function)
    with pytest.raises(InvalidInputError, match="the input of function"):
        await coord.call(function, wrong)
    with pytest.raises(InvalidInputError, match=rf"the input of function: .*{told}"):
        await coord.call("function", wrong)
    assert seen == []


@pytest.mark.parametrize("case", [case for case in CASES if case not in ("str", "empty str")])
async def test_an_output_that_does_not_fit_fails_the_attempt(coord: Coordination, case: str) -> None:
    annotation, _ = CASES[case]

    async def wrong(text: str) -> Any:
        return object()

    wrong.__annotations__["return"] = annotation
    await coord.provide(capability("wrong")(wrong))
    with pytest.raises(RemoteError, match="the output of wrong") as caught:
        await coord.call("wrong", "a", retry=ONCE)
    assert caught.value.type == "InvalidOutputError"
