"""What a cold review found around sessions, providing and closing, each as the behaviour that is promised."""

from __future__ import annotations

import asyncio
import threading
from typing import Any

import pytest

from autogen_coord import ClosedError, Coordination, NoProviderError, Settings, StoreUnavailableError
from autogen_coord.core import inspect, pruning, registry
from autogen_coord.core.pruning import Prune
from autogen_coord.core.registry import Announce
from autogen_coord.core.store import Range
from autogen_coord.core.tables import PROVIDER, SESSION
from autogen_coord.stores.dictionary.store import DictionaryStore
from autogen_coord.stores.sqlite.store import SqliteStore
from tests.conformance.test_sessions import murder, provider_of, session_of
from tests.conftest import MORTAL, QUICK, Fault, World, held, process_of, soon, until, vanish


class Slow:
    """A coordination's commits, each held before or after it is done until the test lets them go."""

    def __init__(self, coord: Coordination, when: str) -> None:
        self._store: Any = process_of(coord).store
        self._when = when
        self.reached = asyncio.Event()
        self.release = asyncio.Event()

    def __enter__(self) -> Slow:
        original = self._store.transact

        async def transact(*args: Any) -> Any:
            answer = await original(*args) if self._when == "after" else None
            self.reached.set()
            await self.release.wait()
            return await original(*args) if self._when == "before" else answer

        self._store.transact = transact
        return self

    def __exit__(self, *exc: object) -> None:
        self.release.set()
        del self._store.transact


class FaultAt:
    """The n-th commit of a coordination finds the store away; the others do not."""

    def __init__(self, coord: Coordination, number: int) -> None:
        self._store: Any = process_of(coord).store
        self._left = number

    def __enter__(self) -> None:
        original = self._store.transact

        async def transact(*args: Any) -> Any:
            self._left -= 1
            if self._left == -1:
                raise StoreUnavailableError("the store is away, says the test")
            return await original(*args)

        self._store.transact = transact

    def __exit__(self, *exc: object) -> None:
        del self._store.transact


async def flushed(coord: Coordination) -> None:
    """Until all that stood on the line is written."""
    await process_of(coord).line.put(lambda rows, command, now, policy: None, None)


async def online(coord: Coordination, label: str = "hold") -> list[str]:
    return [row.id for row in await inspect.live_providers(process_of(coord).store, label)]


async def nobody(coord: Coordination, label: str = "hold") -> None:
    """Until nobody is online, from now on."""

    async def gone() -> bool:
        return not await online(coord, label)

    await until(gone)
    await asyncio.sleep(0.02)
    assert await online(coord, label) == []


async def ended_session(coord: Coordination, id: str) -> None:
    async def ended() -> bool:
        return (await session_of(coord, id)).state in ("closed", "gone")

    await until(ended)


def beats() -> int:
    return sum(thread.name == "autogen-coord-beat" for thread in threading.enumerate())


# providing


@pytest.mark.parametrize("when", ["before", "after"])
async def test_a_provide_that_is_cancelled_midway_leaves_nobody_online(world: World, when: str) -> None:
    """Before its commit or before its answer: nobody is asked for work that nobody would do."""
    coord, other = await world.open(), await world.open(no_provider_wait=0.3)
    hold, gate = held()
    gate.release.set()
    async with soon():
        with Slow(coord, when) as slow:
            providing = asyncio.create_task(coord.provide(hold))
            await slow.reached.wait()
            providing.cancel()
            slow.release.set()
            with pytest.raises(asyncio.CancelledError):
                await providing
        await flushed(coord)
        await nobody(other)
        with pytest.raises(NoProviderError):
            await other.call(hold, "a")
        provider = await coord.provide(hold)
        assert await online(other) == [provider]
        assert await other.call(hold, "b") == "b!"


async def test_a_withdraw_that_found_the_store_away_can_be_repeated(world: World) -> None:
    coord, other = await world.open(), await world.open(no_provider_wait=0.3)
    hold, gate = held()
    gate.release.set()
    await coord.provide(hold)
    async with soon():
        with Fault(coord):
            with pytest.raises(StoreUnavailableError):
                await coord.withdraw(hold)
        await coord.withdraw(hold)
        assert await online(other) == []
        with pytest.raises(NoProviderError):
            await other.call(hold, "a")
        provider = await coord.provide(hold)
        assert await online(other) == [provider]
        assert await other.call(hold, "b") == "b!"


@pytest.mark.parametrize("number", [0, 1, 2])
async def test_wherever_a_withdraw_fails_its_repetition_moves_what_was_pinned_there(world: World, number: int) -> None:
    coord, other = await world.open(), await world.open()
    hold, gate = held(limit=1)
    provider = await coord.provide(hold)
    running = await other.submit(hold, "runs", sticky="one")
    await gate.saw()
    pinned = await other.submit(hold, "pinned", sticky="two")
    await other.provide(hold)
    async with soon():
        with FaultAt(coord, number):
            try:
                await coord.withdraw(hold)
            except StoreUnavailableError:
                await coord.withdraw(hold)
        assert provider not in await online(other)
        await gate.saw(2)
        gate.release.set()
        assert [await running.result(), await pinned.result()] == ["runs!", "pinned!"]


async def test_after_a_goodbye_no_provider_of_the_session_is_online_whoever_knew_of_it(world: World) -> None:
    """Also one that the process itself had lost track of: what was pinned to it runs elsewhere."""
    leaving, staying = await world.open(drain=0.05), await world.open()
    hold, gate = held(limit=1)
    provider = await leaving.provide(hold)
    ghost = (await provider_of(leaving, provider))._replace(id="ghost")
    await process_of(leaving).line.put(registry.announce, Announce(leaving.session, [], [ghost]))
    handles = [await staying.submit(hold, str(number), sticky=str(number)) for number in range(12)]  # some for each of the two
    session = leaving.session
    async with soon():
        await leaving.close()
        assert (await session_of(staying, session)).state == "closed"
        (rows,) = await process_of(staying).store.read(Range(PROVIDER, "by_session", (session,)))
        assert {row.id: row.status for row in rows} == {provider: "offline", "ghost": "offline"}
        gate.release.set()
        await staying.provide(hold)
        assert await asyncio.gather(*(handle.result() for handle in handles)) == [f"{number}!" for number in range(12)]


async def test_what_was_sticky_to_a_provider_whose_provide_was_cancelled_runs_elsewhere_after_the_close(world: World) -> None:
    leaving, staying = await world.open(), await world.open()
    hold, gate = held()
    gate.release.set()
    async with soon():
        await staying.provide(hold)
        await staying.withdraw(hold)
        with Slow(leaving, "after") as slow:
            providing = asyncio.create_task(leaving.provide(hold))
            await slow.reached.wait()  # it is announced, and does not know it
            handle = await staying.submit(hold, "a", sticky="k")
            providing.cancel()
            slow.release.set()
            with pytest.raises(asyncio.CancelledError):
                await providing
        await leaving.close()
        await nobody(staying)
        await staying.provide(hold)
        assert await handle.result() == "a!"


# a loop that fails


@pytest.mark.faults
@pytest.mark.parametrize("which", ["feed", "line"])
async def test_a_process_whose_loop_failed_stops_its_handlers_and_gives_its_session_up(world: World, which: str) -> None:
    broken, other = await world.open(**MORTAL), await world.open(**MORTAL)
    hold, gate = held()
    await broken.provide(hold)
    handle = await other.submit(hold, "a")
    await gate.saw()
    session, process = broken.session, process_of(broken)
    parts: Any = process

    async def breaks(*args: Any) -> Any:
        raise RuntimeError("broken, says the test")

    match which:
        case "feed":
            parts.feed.catch_up = breaks
        case "line":
            parts.store.transact = breaks
            async with soon():
                with pytest.raises(ClosedError):
                    await broken.submit(hold, "b")
    await other.provide(hold)
    await until(lambda: gate.ended[:1] == ["a"])  # its handler here was stopped
    with pytest.raises(ClosedError):
        _ = broken.session
    await gate.saw(2)  # the task runs elsewhere after the ttl
    gate.release.set()
    async with soon():
        assert await handle.result() == "a!"
        await ended_session(other, session)
        await broken.close()
    assert gate.most == 1
    assert [one.session for one in (await handle.info()).attempts] == [session, other.session]


@pytest.mark.faults
async def test_a_look_after_sessions_that_failed_does_not_end_the_process(world: World) -> None:
    dying, staying = await world.open(**MORTAL), await world.open(**MORTAL)
    housekeeper: Any = process_of(staying).housekeeper
    look, failed, lost = housekeeper.look_for_dead, [0], dying.session

    async def twice() -> None:
        failed[0] += 1
        if failed[0] <= 2:
            raise RuntimeError("broken, says the test")
        await look()

    housekeeper.look_for_dead = twice
    await vanish(dying)
    await ended_session(staying, lost)
    assert failed[0] > 2
    assert (await session_of(staying, staying.session)).state == "live"


# closing


@pytest.mark.parametrize("phase", ["draining", "leaving"])
async def test_a_close_that_is_cancelled_midway_stops_its_handlers_all_the_same(world: World, phase: str) -> None:
    leaving, staying = await world.open(**MORTAL), await world.open(**MORTAL)
    hold, gate = held()
    await leaving.provide(hold)
    handle = await staying.submit(hold, "a")
    await gate.saw()
    session = leaving.session
    async with soon():
        if phase == "draining":
            closing = asyncio.create_task(leaving.close())
            await asyncio.sleep(0.05)
            closing.cancel()
            with pytest.raises(asyncio.CancelledError):
                await closing
        else:
            with Slow(leaving, "before") as slow:
                closing = asyncio.create_task(leaving.close(drain=0.0))
                await slow.reached.wait()
                closing.cancel()
                slow.release.set()
                with pytest.raises(asyncio.CancelledError):
                    await closing
    await until(lambda: gate.ended == ["a"])
    await staying.provide(hold)
    await gate.saw(2)
    gate.release.set()
    async with soon():
        assert await handle.result() == "a!"
        await leaving.close()
        await ended_session(staying, session)
        assert (await online(staying)) == [(await handle.info()).attempts[-1].provider]
    assert gate.most == 1


async def test_a_coordination_can_be_opened_again_after_its_close(world: World) -> None:
    before, seen = beats(), set()
    hold, gate = held()
    gate.release.set()
    coord = Coordination.open(world.url, settings=Settings(**QUICK))
    for text in "abc":
        async with soon(), coord:
            seen.add(coord.session)
            await coord.provide(hold)
            assert await coord.call(hold, text) == f"{text}!"
        with pytest.raises(ClosedError):
            await coord.submit(hold, "closed")
    assert len(seen) == 3
    assert beats() == before


# rebirth


async def test_a_rebirth_that_fails_midway_leaves_no_handler_of_the_session_in_between(world: World) -> None:
    coord, judge = await world.open(**MORTAL), await world.open(**MORTAL)
    other, other_gate = held("other")
    other_gate.release.set()
    hold, gate = held()
    await coord.provide(other)
    await coord.provide(hold)
    old, line = coord.session, process_of(coord).line
    offer = line.offer
    failed: list[str] = []

    def busy(rule: Any, command: Any, *more: Any) -> asyncio.Future[Any]:
        """The first announcement of the new session finds the store busy, after a while in which tasks are claimed."""
        if rule is not registry.announce or failed:
            return offer(rule, command, *more)
        failed.append(command.session)
        loop = asyncio.get_running_loop()
        future: asyncio.Future[Any] = loop.create_future()

        def refuse() -> None:
            if not future.done():
                future.set_exception(StoreUnavailableError("the store is busy, says the test"))

        loop.call_later(0.2, refuse)
        return future

    setattr(line, "offer", busy)  # noqa: B010
    await murder(judge, old)
    handle = await judge.submit(hold, "a")
    async with soon():
        await until(lambda: bool(failed))
        assert await judge.call(other, "x") == "x!"  # it is back
        await judge.provide(hold)

        async def settled() -> bool:
            """Only the two sessions are live, and one of them runs the task."""
            (live,) = await process_of(judge).store.read(Range(SESSION, "by_state", ("live",)))
            running = (await handle.info()).attempts[-1:]
            own = {coord.session, judge.session}
            return {row.id for row in live} == own and bool(running) and running[0].session in own

        await until(settled)
        await gate.saw()
        gate.release.set()
        assert await handle.result() == "a!"
    await gate.emptied()
    assert gate.most == 1


# trust, and what is kept


async def test_trust_in_a_new_session_counts_from_the_sending_of_its_opening(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """A slow answer (a long fsync, a loaded loop) makes no lease longer."""
    with monkeypatch.context() as patch:
        for kind in (DictionaryStore, SqliteStore):
            original: Any = kind.transact

            async def late(self: Any, *args: Any, original: Any = original) -> Any:
                answer = await original(self, *args)
                await asyncio.sleep(0.5)
                return answer

            patch.setattr(kind, "transact", late)
        coord = await world.open()
    heart, policy = process_of(coord).heart, coord.settings
    row = await session_of(coord, coord.session)
    trusted = heart._renewed + policy.session_ttl - policy.trust_margin - heart._clock()
    left = row.lease_until - await process_of(coord).store.now()
    assert trusted <= left - policy.trust_margin + 0.1


async def test_sessions_and_providers_that_are_gone_are_pruned_by_age_and_living_ones_never(world: World) -> None:
    kept: dict[str, Any] = {"keep_seconds": 0.01, "keep_count": 1_000_000}
    hold, gate = held()
    gate.release.set()
    for _ in range(3):
        leaving = await world.open(**kept)
        await leaving.provide(hold)
        await leaving.close()
    dying, staying = await world.open(**MORTAL), await world.open(**MORTAL, **kept)
    lost, other = dying.session, await world.open()
    await dying.provide(hold)
    own = [await staying.provide(hold), await other.provide(hold)]
    await vanish(dying)
    await ended_session(staying, lost)
    await asyncio.sleep(0.05)
    line = process_of(staying).line
    async with soon():
        while (await line.put(pruning.prune, Prune())).more:
            pass
    sessions, providers = await process_of(staying).store.read(Range(SESSION, "key"), Range(PROVIDER, "key"))
    assert {row.id for row in sessions} == {staying.session, other.session}
    assert {row.id for row in providers} == set(own)
    async with soon():
        assert await other.call(hold, "a") == "a!"


async def test_sessions_and_providers_that_are_gone_are_kept_as_long_as_events(world: World) -> None:
    leaving, staying = await world.open(), await world.open()
    hold, _ = held()
    session, provider = leaving.session, await leaving.provide(hold)
    await leaving.close()
    await process_of(staying).line.put(pruning.prune, Prune())
    assert (await session_of(staying, session)).state == "closed"
    assert (await provider_of(staying, provider)).status == "offline"
