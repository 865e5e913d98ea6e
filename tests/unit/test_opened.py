"""Which coordination a component finds."""

from __future__ import annotations

import asyncio
import threading

import pytest

from autogen_coord import ConfigError, Coordination, InvalidInputError, capability
from autogen_coord.teams import CoordCacheStore, CoordMemory
from tests.conftest import World, vanish


async def test_the_one_that_is_open_is_found_by_its_namespace_or_without(world: World) -> None:
    with pytest.raises(ConfigError, match=r"no coordination is open here.*Coordination\.open"):
        Coordination.opened()
    async with Coordination.open(world.url, namespace="a") as coord:
        assert Coordination.opened() is Coordination.opened("a") is coord
        with pytest.raises(ConfigError, match=r"of namespace 'b' is open here.*open is: 'a'"):
            Coordination.opened("b")
    with pytest.raises(ConfigError):
        Coordination.opened("a")


async def test_of_several_the_namespace_decides(world: World) -> None:
    one, other = await world.open("a"), await world.open("b")
    assert Coordination.opened("a") is one
    assert Coordination.opened("b") is other
    with pytest.raises(ConfigError, match=r"2 times .* pass namespace=, one of 'a', 'b'"):
        Coordination.opened()
    await world.open("b")
    with pytest.raises(ConfigError, match=r"2 times .*'b'.* pass state=coord\.state"):
        Coordination.opened("b")


async def test_a_handler_finds_its_own(world: World) -> None:
    asking, providing = await world.open(), await world.open()

    @capability
    async def same(text: str) -> bool:
        return Coordination.opened() is Coordination.opened("default") is providing

    await providing.provide(same)
    assert await asking.call(same, "x") is True


async def test_one_that_vanished_is_not_found(world: World) -> None:
    coord = await world.open()
    await vanish(coord)
    with pytest.raises(ConfigError):
        Coordination.opened()
    other = await world.open()
    assert Coordination.opened() is other


async def test_another_event_loop_does_not_find_it_and_a_thread_without_one_does(world: World) -> None:
    coord = await world.open()
    found: list[object] = []

    async def look() -> Coordination:
        return Coordination.opened()

    def elsewhere() -> None:
        found.append(Coordination.opened())
        try:
            asyncio.run(look())
        except ConfigError as error:
            found.append(error)

    thread = threading.Thread(target=elsewhere)
    thread.start()
    await asyncio.to_thread(thread.join)
    assert found[0] is coord
    assert isinstance(found[1], ConfigError)


async def test_a_component_keeps_to_what_it_found_while_that_is_open(world: World) -> None:
    cache: CoordCacheStore[int] = CoordCacheStore("cache")
    async with Coordination.open(world.url, namespace="a"):
        cache.set("x", 1)
        await world.open("b")
        assert cache.get("x") == 1, "found before another was opened"
        with pytest.raises(ConfigError):
            CoordCacheStore[int]("cache").get("x")
    assert cache.get("x") is None, "the one of namespace b"


async def test_a_component_can_be_told_which(world: World) -> None:
    one, other = await world.open("a"), await world.open("b")
    first: CoordCacheStore[int] = CoordCacheStore("cache", state=one.state)
    first.set("x", 1)
    assert CoordCacheStore[int]("cache", namespace="a").get("x") == 1
    assert CoordCacheStore[int]("cache", state=other.state).get("x") is None
    with pytest.raises(InvalidInputError, match="'b', but the state is of 'a'"):
        CoordMemory("notes", namespace="b", state=one.state)
