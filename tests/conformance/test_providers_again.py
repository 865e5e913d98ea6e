"""What is provided once more, or no more: after a failure, a withdrawal, another opening, and while a process is being reborn."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Annotated, Any, cast

import pytest
from autogen_core import AgentId, SingleThreadedAgentRuntime

from autogen_coord import (
    CapabilityAgent,
    ConfigError,
    Coordination,
    InvalidInputError,
    RetryPolicy,
    Settings,
    StoreUnavailableError,
    capability,
)
from autogen_coord.core import registry, sessions
from autogen_coord.core.tables import SESSION
from tests.conftest import QUICK, process_of, soon, until

SETTINGS = Settings(**QUICK)


@capability
async def shorten(text: str) -> str:
    return text[:3]


class Pair(CapabilityAgent):
    @capability
    async def left(self, text: str) -> str:
        return f"left {text}"

    @capability
    async def right(self, text: str) -> str:
        return f"right {text}"


@pytest.fixture
async def coord() -> AsyncIterator[Coordination]:
    async with Coordination.open("dict://", settings=SETTINGS) as coord:
        yield coord


class Line:
    """The line of a coordination, where answers to one rule are held back, or fail."""

    def __init__(self, coord: Coordination, rule: Callable[..., Any]) -> None:
        self.reached, self.go = asyncio.Event(), asyncio.Event()
        self.before, self.fails = False, False
        self._rule = rule
        self._line = cast(Any, process_of(coord).line)
        self._put = self._line.put
        self._line.put = self._held

    def end(self) -> None:
        self.go.set()
        del self._line.put

    async def _held(self, rule: Any, command: Any, *more: Any) -> Any:
        if rule is not self._rule:
            return await self._put(rule, command, *more)
        if self.fails:
            raise StoreUnavailableError("busy, says the test")
        if self.before:
            self.reached.set()
            await self.go.wait()
        answer = await self._put(rule, command, *more)
        self.reached.set()
        await self.go.wait()
        return answer


def die(coord: Coordination) -> None:
    """It is declared dead by another, and lives."""
    process = process_of(coord)

    def dead(rows: Any, now: float) -> None:
        row = rows.one(SESSION, process.session)
        rows.put(SESSION, row._replace(state=sessions.DEAD))

    process.store.transact_blocking(dead)


async def online(coord: Coordination) -> list[str]:
    return sorted(one.capability for one in await coord.registry.providers("online"))


async def test_what_is_withdrawn_while_it_is_announced_again_is_withdrawn(coord: Coordination) -> None:
    async with soon():
        await coord.provide(shorten)
        line = Line(coord, registry.announce)
        die(coord)
        await line.reached.wait()  # announced under the new session: the answer is on its way
        await coord.withdraw(shorten)
        line.end()
        await process_of(coord).reborn()
        assert await online(coord) == []
        assert not process_of(coord).dispatcher._slots
        await coord.provide(shorten)
        assert await coord.call(shorten, "again") == "aga"


async def test_a_provide_that_is_cancelled_during_a_rebirth_provides_nothing(coord: Coordination) -> None:
    async with soon():
        line = Line(coord, sessions.open_session)
        line.before = True
        die(coord)
        providing = asyncio.create_task(coord.provide(shorten))
        await line.reached.wait()
        await asyncio.sleep(0)
        providing.cancel()
        with pytest.raises(asyncio.CancelledError):
            await providing
        line.end()
        await process_of(coord).reborn()
        assert await online(coord) == []
        assert not process_of(coord).dispatcher._slots


async def test_a_class_that_could_not_be_announced_is_provided_by_another_try(coord: Coordination) -> None:
    async with soon():
        line = Line(coord, registry.announce)
        line.fails = True
        with pytest.raises(StoreUnavailableError):
            await coord.provide(Pair)
        line.end()
        assert len(await coord.provide(Pair, max_concurrency=3)) == 2
        assert await coord.call(Pair.left, "a") == "left a"
        assert {one.max_concurrency for one in await coord.registry.providers("online")} == {3}


async def test_an_agent_that_autogen_registered_while_the_store_was_busy_is_provided_by_its_class(coord: Coordination) -> None:
    async with soon():
        line = Line(coord, registry.announce)
        line.fails = True
        with pytest.raises(StoreUnavailableError):
            await Pair.register(coord.runtime, "pair", Pair)
        line.end()
        await coord.provide(Pair, type="pair")
        assert await coord.call(Pair.right, "a") == "right a"


async def test_a_class_that_was_withdrawn_in_part_or_whole_is_provided_again(coord: Coordination) -> None:
    async with soon():
        ids = await coord.provide(Pair)
        await coord.withdraw(Pair.left)
        assert await online(coord) == ["right"]
        again = await coord.provide(Pair)
        assert await online(coord) == ["left", "right"]
        assert len(set(ids) & set(again)) == 1
        await coord.withdraw(Pair.left)
        await coord.withdraw(Pair.right)
        await coord.provide(Pair)
        assert await coord.call(Pair.left, "a") == "left a"
        with pytest.raises(ConfigError, match="already"):
            await coord.provide(Pair)


async def test_a_type_of_another_class_is_taken(coord: Coordination) -> None:
    class Other(CapabilityAgent):
        @capability
        async def other(self, text: str) -> str:
            return text

    await coord.provide(Pair, type="pair", labels=["mine"])
    with pytest.raises(ConfigError, match="another by type="):
        await coord.provide(Other, type="pair", labels=["its"])
    assert await online(coord) == ["left", "right"]


async def test_the_terms_of_a_class_hold_when_its_runtime_is_opened_again() -> None:
    runtime = SingleThreadedAgentRuntime()
    async with soon(), Coordination.open("dict://", runtime=runtime, settings=SETTINGS) as coord:
        await coord.provide(Pair, max_concurrency=1, labels=["gpu"])
        with pytest.raises(ConfigError, match="already"):
            await coord.provide(Pair, max_concurrency=7)
    async with soon(), Coordination.open("dict://", runtime=runtime, settings=SETTINGS) as coord:
        found = await coord.registry.providers("online")
        assert [(one.max_concurrency, one.labels) for one in found] == [(1, ("gpu",))] * 2
        # the program that provides it as it did before is no error; its terms count
        await coord.provide(Pair, max_concurrency=2)
        found = await coord.registry.providers("online")
        assert [(one.max_concurrency, one.labels) for one in found] == [(2, ())] * 2
        assert await coord.call(Pair.left, "a") == "left a"
        with pytest.raises(ConfigError, match="already"):
            await coord.provide(Pair)
    await runtime.close()


async def test_agents_that_cannot_be_made_leave_nothing_behind_and_are_made_once(coord: Coordination) -> None:
    made: list[AgentId] = []
    broken = True

    async def factory() -> Pair:
        await asyncio.sleep(0)
        if broken:
            raise ValueError("not yet")
        pair = Pair()
        made.append(pair.id)
        return pair

    async with soon():
        await coord.provide(Pair, factory=factory)
        once = RetryPolicy(tries=1)
        keys = [f"k{number}" for number in range(30)] * 2
        await asyncio.gather(*(coord.call(Pair.left, "a", sticky=key, retry=once) for key in keys), return_exceptions=True)
        parts = coord._parts
        assert parts is not None
        assert parts.providing._require_calling()._making == {}
        broken = False
        await asyncio.gather(*(coord.call(Pair.left, "a", sticky="k1") for _ in range(30)))
        assert len(made) == 1
        await until(lambda: not process_of(coord).dispatcher.running)


async def test_an_output_is_read_as_any_type_that_has_a_form(coord: Coordination) -> None:
    unhashable: Any = Annotated[str, {"unit": "letters"}]
    nothing: Any = 5
    async with soon():
        await coord.provide(shorten)
        assert await coord.call("shorten", "letters", returns=unhashable) == "let"
        with pytest.raises(InvalidInputError, match="returns=5 is no type"):
            await coord.call("shorten", "letters", returns=nothing)
