"""Sessions across coordinations of one store: death, who may judge, trust, rebirth, goodbye, a store that was away."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from autogen_coord import Coordination, StoreUnavailableError, TaskContext, capability
from autogen_coord.core import sessions
from autogen_coord.core.sessions import Declare
from autogen_coord.core.store import Keys
from autogen_coord.core.tables import PROVIDER, SESSION, ProviderRow, SessionRow
from tests.conftest import MORTAL, Fault, World, held, process_of, soon, until, vanish


async def session_of(coord: Coordination, id: str) -> SessionRow:
    ((row,),) = await process_of(coord).store.read(Keys(SESSION, (id,)))
    assert row is not None
    return row  # type: ignore[no-any-return]


async def provider_of(coord: Coordination, id: str) -> ProviderRow:
    ((row,),) = await process_of(coord).store.read(Keys(PROVIDER, (id,)))
    assert row is not None
    return row  # type: ignore[no-any-return]


async def kinds(coord: Coordination, subject: str) -> list[str]:
    return [event.kind async for event in coord.events(0, follow=False) if event.subject == subject]


async def murder(judge: Coordination, victim: str) -> None:
    """Let a living session's lease end, and declare it dead, as a judge would who did not hear of it for long."""

    by = judge.session  # a rule may run in the store's thread, where no coordination may be asked

    def late(rows: Any, command: str, now: float, policy: Any) -> bool:
        (own, row) = rows.get(SESSION, (by, command))
        rows.put(SESSION, own._replace(steady_since=now - 2 * own.ttl))
        rows.put(SESSION, row._replace(lease_until=now - 1))
        return sessions.declare_dead(rows, Declare(by, command), now, policy)

    assert await process_of(judge).line.put(late, victim)


async def test_a_living_session_is_kept_without_any_work(world: World) -> None:
    coord = await world.open(**MORTAL)
    first = await session_of(coord, coord.session)
    await asyncio.sleep(1.0)
    later = await session_of(coord, coord.session)
    assert later.state == "live"
    assert later.lease_until > first.lease_until + 0.5
    assert later.steady_since == first.steady_since


async def test_any_commit_of_a_process_renews_its_lease(world: World) -> None:
    coord = await world.open()
    process_of(coord).heart._stop.set()  # no beats
    hold, gate = held()
    gate.release.set()
    before = (await session_of(coord, coord.session)).lease_until
    await asyncio.sleep(0.3)  # longer than a quarter of a beat
    await coord.provide(hold)
    assert (await session_of(coord, coord.session)).lease_until >= before + 0.25


async def test_a_session_that_is_late_is_declared_dead_once_and_buried(world: World) -> None:
    dying, one, other = await world.open(**MORTAL), await world.open(**MORTAL), await world.open(**MORTAL)
    hold, gate = held()
    provider = await dying.provide(hold)
    lost = dying.session
    handle = await one.submit(hold, "a")
    await gate.saw()
    await vanish(dying)

    async def gone() -> bool:
        return (await session_of(one, lost)).state == "gone"

    await until(gone)
    assert await kinds(one, lost) == ["session.opened", "session.dead"]
    assert (await provider_of(one, provider)).status == "offline"
    assert (await handle.info()).state == "ready"
    assert {(await session_of(one, coord.session)).state for coord in (one, other)} == {"live"}


async def test_a_session_that_said_goodbye_is_not_declared_dead(world: World) -> None:
    leaving, staying = await world.open(**MORTAL), await world.open(**MORTAL)
    session = leaving.session
    await leaving.close()
    assert (await session_of(staying, session)).state == "closed"
    await asyncio.sleep(0.9)
    assert await kinds(staying, session) == ["session.opened", "session.closed"]


async def test_a_process_that_just_came_declares_nobody_dead(world: World) -> None:
    dying = await world.open(**MORTAL)
    watcher_id = dying.session
    await vanish(dying)
    await asyncio.sleep(0.7)  # its lease is over; nobody was there to see
    young = await world.open(**MORTAL)
    answer = await process_of(young).line.put(sessions.declare_dead, Declare(young.session, watcher_id))
    assert answer is False

    async def gone() -> bool:
        return (await session_of(young, watcher_id)).state == "gone"

    await until(gone)  # after a whole ttl of its own
    events = [event async for event in young.events(0, follow=False)]
    opened = next(event.at for event in events if event.subject == young.session)
    dead = next(event.at for event in events if event.kind == "session.dead")
    assert dead - opened >= 0.6


async def test_after_a_store_was_away_nobody_is_declared_dead(world: World) -> None:
    one, other = await world.open(**MORTAL), await world.open(**MORTAL)
    hold, gate = held()
    gate.release.set()
    await one.provide(hold)
    ids = [one.session, other.session]
    await asyncio.sleep(0.7)  # both are steady: either could judge
    with Fault(one, reads=True), Fault(other, reads=True):
        await asyncio.sleep(1.2)  # two ttls
        with pytest.raises(StoreUnavailableError):
            await one.submit(hold, "x")
    await asyncio.sleep(0.9)
    assert [one.session, other.session] == ids
    assert {(await session_of(one, id)).state for id in ids} == {"live"}
    async with soon():
        assert await other.call(hold, "a") == "a!"


async def test_a_store_that_is_away_for_a_moment_loses_nothing(world: World) -> None:
    coord = await world.open()
    hold, gate = held()
    await coord.provide(hold)
    handle = await coord.submit(hold, "a")
    await gate.saw()
    with Fault(coord):
        gate.release.set()  # it ends while nothing can be written
        await gate.emptied()
        with pytest.raises(StoreUnavailableError):
            await coord.submit(hold, "b")
        await asyncio.sleep(0.05)
    async with soon():
        assert await handle.result() == "a!"
    assert gate.seen == ["a"]


async def test_a_process_whose_trust_ran_out_stops_its_own_work_first(world: World) -> None:
    coord, watcher = await world.open(**MORTAL), await world.open(**MORTAL)
    hold, gate = held()
    await coord.provide(hold)
    handle = await watcher.submit(hold, "a")
    await gate.saw()
    with Fault(coord, reads=True):
        await gate.emptied()  # its handler was stopped ...
        assert (await session_of(watcher, coord.session)).state == "live"  # ... before anybody declared it dead
    gate.release.set()
    async with soon():
        assert await handle.result() == "a!"
    assert (await handle.info()).failures == 0


async def test_a_late_renewal_is_fine_while_nobody_declared_it_dead(world: World) -> None:
    coord = await world.open(**MORTAL)
    hold, gate = held()
    gate.release.set()
    await coord.provide(hold)
    session = coord.session
    with Fault(coord, reads=True):
        await asyncio.sleep(1.0)
    async with soon():
        assert await coord.call(hold, "a") == "a!"
    assert coord.session == session
    assert (await session_of(coord, session)).state == "live"


async def test_who_was_declared_dead_and_lives_takes_a_new_session_and_goes_on(world: World) -> None:
    coord, judge = await world.open(), await world.open()
    hold, gate = held()
    provider = await coord.provide(hold)
    old = coord.session
    handle = await judge.submit(hold, "a")
    await gate.saw()
    await murder(judge, old)
    await gate.emptied()  # the old attempt was cancelled
    await until(lambda: coord.session != old)
    assert coord.session != old
    assert (await session_of(judge, coord.session)).state == "live"
    gate.release.set()
    async with soon():
        assert await handle.result() == "a!"  # here or elsewhere; nobody but it provides this
        assert await coord.call(hold, "b") == "b!"
        assert await judge.call(hold, "c") == "c!"
    info = await handle.info()
    assert [(one.end, one.session) for one in info.attempts] == [("crashed", old), ("succeeded", coord.session)]
    assert (await provider_of(judge, provider)).status == "offline"


async def test_a_result_of_before_the_death_is_dropped_after_it(world: World) -> None:
    coord, judge = await world.open(cancel_grace=5), await world.open()
    started, go, said = asyncio.Event(), asyncio.Event(), []

    @capability
    async def stubborn(text: str, ctx: TaskContext) -> str:
        started.set()
        if ctx.attempt == 1:
            while not go.is_set():
                try:
                    await go.wait()
                except asyncio.CancelledError:
                    said.append("cancelled")
        return f"attempt {ctx.attempt}"

    await coord.provide(stubborn)
    handle = await judge.submit(stubborn, "x")
    await started.wait()
    old = coord.session
    await murder(judge, old)
    await until(lambda: said == ["cancelled"])
    await until(lambda: coord.session != old)
    go.set()
    async with soon():
        assert await handle.result() == "attempt 2"


@pytest.mark.faults
async def test_a_reborn_process_whose_capability_was_taken_meanwhile_stays_usable(world: World) -> None:
    """While it was dead another announced the same name with another form: that one stays, and this process goes on without."""
    coord, judge = await world.open(), await world.open()
    hold, gate = held("work")
    gate.release.set()

    @capability("work")
    async def numbers(number: int) -> int:
        return number + 1

    await coord.provide(hold)
    third, third_gate = held("third")
    third_gate.release.set()
    await coord.provide(third)
    old = coord.session
    await murder(judge, old)
    await judge.provide(numbers)
    await until(lambda: coord.session != old)
    async with soon():
        assert await coord.call(numbers, 1) == 2
        assert await judge.call(third, "a") == "a!"
    other, other_gate = held("other")
    other_gate.release.set()
    await coord.provide(other)
    async with soon():
        assert await judge.call(other, "a") == "a!"


async def test_a_client_without_providers_is_reborn_too(world: World) -> None:
    client, judge = await world.open(), await world.open()
    hold, gate = held()
    gate.release.set()
    await judge.provide(hold)
    old = client.session
    await murder(judge, old)
    async with soon():
        assert await client.call(hold, "a") == "a!"
    await until(lambda: client.session != old)


async def test_two_deaths_in_a_row_are_survived(world: World) -> None:
    coord, judge = await world.open(), await world.open()
    hold, gate = held()
    gate.release.set()
    await coord.provide(hold)
    for text in "ab":
        old = coord.session
        await murder(judge, old)
        await until(lambda old=old: coord.session != old)
        async with soon():
            assert await judge.call(hold, text) == f"{text}!"


async def test_a_claim_of_the_dead_session_that_is_refused_late_does_not_end_the_new_one(world: World) -> None:
    coord, judge = await world.open(), await world.open()
    hold, gate = held()
    gate.release.set()
    await coord.provide(hold)
    process, old = process_of(coord), coord.session
    announce, opened = process.hooks.announce, []

    async def after_a_late_claim(session: str) -> None:
        opened.append(session)
        process.dispatcher.start(old)
        await process.line.put(lambda rows, command, now, policy: None, None)  # the claim goes along
        await process.dispatcher.settled()
        await announce(session)

    process.hooks.announce = after_a_late_claim
    await murder(judge, old)
    async with soon():
        await until(lambda: bool(opened))
        await process.reborn()
        assert await judge.call(hold, "a") == "a!"
    assert opened == [coord.session]


async def test_who_listens_and_waits_goes_on_through_a_rebirth(world: World) -> None:
    coord, judge = await world.open(), await world.open()
    hold, gate = held()
    await judge.provide(hold)
    waiting = asyncio.create_task(coord.call(hold, "a"))
    await gate.saw()
    old = coord.session
    await murder(judge, old)
    await until(lambda: coord.session != old)
    gate.release.set()
    async with soon():
        assert await waiting == "a!"


async def test_what_is_submitted_by_a_process_that_dies_survives_it(world: World) -> None:
    dying, healthy = await world.open(**MORTAL), await world.open(**MORTAL)
    hold, gate = held()
    gate.release.set()
    await healthy.provide(hold)
    await healthy.withdraw(hold)
    handle = await dying.submit(hold, "a")
    await vanish(dying)
    await healthy.provide(hold)
    async with soon():
        assert await healthy.handle(handle.id, str).result() == "a!"


async def test_a_late_session_gets_no_new_sticky_or_rejected_work(world: World) -> None:
    """Suspect: not dead yet, but nobody sends it anything."""
    late = await world.open(**{**MORTAL, "suspect_after": 0.2, "session_ttl": 5.0})
    healthy = await world.open(**{**MORTAL, "suspect_after": 0.2, "session_ttl": 5.0})
    hold, gate = held()
    gate.release.set()
    await late.provide(hold)
    await vanish(late)
    await asyncio.sleep(0.4)
    own = await healthy.provide(hold)
    handles = [await healthy.submit(hold, str(number), sticky=str(number)) for number in range(8)]
    async with soon():
        await asyncio.gather(*(handle.result() for handle in handles))
    assert {(await handle.info()).attempts[0].provider for handle in handles} == {own}
