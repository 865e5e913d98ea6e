"""The dispatcher: which pools it asks for, how many it takes, slots, suspects, patience."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from autogen_coord.core import claims, tasks
from autogen_coord.core.claims import Claimed, Finish
from autogen_coord.core.commit import Line
from autogen_coord.core.dispatch import Dispatcher
from autogen_coord.core.store import Keys
from autogen_coord.core.tables import OUTCOME, QUEUE, TaskState
from autogen_coord.core.tasks import Cancel, Submit
from autogen_coord.core.waiting import Waits
from autogen_coord.errors import LeaseLostError, StoreUnavailableError
from autogen_coord.settings import Settings
from autogen_coord.stores.dictionary.store import DictionaryStore
from tests.conftest import Ground, soon, until


class Desk:
    """A dispatcher on a ground, with handlers that the test ends by hand."""

    def __init__(self, ground: Ground, line: Line, dispatcher: Dispatcher) -> None:
        self.ground = ground
        self.line = line
        self.dispatcher = dispatcher
        self.started: list[str] = []
        self.claims: dict[str, Claimed] = {}
        self.lost: list[str] = []

    def start(self, claimed: Claimed) -> None:
        self.started.append(claimed.row.id)
        self.claims[claimed.row.id] = claimed

    def provide(self, provider: str = "p1", label: str = "work", limit: int = 2) -> None:
        self.ground.provide("s1", provider, label, limit)
        self.dispatcher.add_provider(provider, label, limit, self.start)

    async def submit(self, id: str, capability: str = "work", **more: Any) -> None:
        await self.line.put(tasks.submit, Submit(id, capability, '"x"', **more), (Keys(QUEUE, (id,)),))

    async def end(self, id: str, state: TaskState = TaskState.SUCCEEDED) -> None:
        row = self.claims[id].row
        self.dispatcher.ended(id, row.attempt)
        await self.line.put(claims.finish, Finish("s1", id, row.attempt, state, '"y"'))

    async def saw(self, *ids: str) -> None:
        await until(lambda: self.started == list(ids))
        await self.quiet()
        assert self.started == list(ids)

    async def quiet(self) -> None:
        """Until the line has nothing more to do."""
        for _ in range(20):
            await asyncio.sleep(0)
        await self.line.put(lambda rows, command, now, policy: None, None)
        for _ in range(20):
            await asyncio.sleep(0)


@asynccontextmanager
async def opened(**settings: Any) -> AsyncIterator[Desk]:
    ground = Ground()
    ground.settings(**settings)
    ground.session("s1")
    line = Line(ground.store, ground.policy)
    desk: list[Desk] = []
    dispatcher = Dispatcher(line, ground.policy, lambda session: desk[0].lost.append(session))
    desk.append(Desk(ground, line, dispatcher))
    run = asyncio.create_task(line.run())
    dispatcher.start("s1")
    try:
        yield desk[0]
    finally:
        dispatcher.stop()
        async with soon():
            if not run.done():
                await line.close()
            await asyncio.wait([run])
        assert run.exception() is None


@pytest.fixture
async def desk() -> AsyncIterator[Desk]:
    async with opened() as desk:
        yield desk


def crashed(ground: Ground, *ids: str, label: str = "work") -> None:
    """Tasks whose process died."""
    ground.session("dead")
    ground.provide("dead", "pdead", label)
    for id in ids:
        ground.submit(id, label)
    assert sorted(ground.claim_ids("dead", "pdead", len(ids), label)) == sorted(ids)
    ground.kill("dead")


async def test_no_more_are_taken_than_there_are_slots(desk: Desk) -> None:
    desk.provide(limit=2)
    for id in "abcde":
        await desk.submit(id)
    await desk.saw("a", "b")
    await desk.end("a")
    await desk.saw("a", "b", "c")
    await desk.end("b")
    await desk.end("c")
    await desk.saw("a", "b", "c", "d", "e")


async def test_a_submit_is_claimed_in_its_own_transaction(desk: Desk) -> None:
    desk.provide()
    await desk.quiet()
    commits: list[Any] = []
    desk.line.listen(commits.append)
    future = desk.line.offer(tasks.submit, Submit("a", "work", '"x"'), (Keys(QUEUE, ("a",)),))
    desk.dispatcher.heat(("work",))
    await future
    await desk.saw("a")
    assert commits[0].last_event - commits[0].first_event == 2  # delegated, accepted, started: one commit


async def test_work_that_was_there_before_the_provider_is_found(desk: Desk) -> None:
    desk.ground.session("s2")
    desk.ground.provide("s2", "p2")
    desk.ground.submit("a")
    desk.provide()
    await desk.saw("a")


async def test_addressed_work_goes_only_where_it_is_addressed(desk: Desk) -> None:
    desk.provide("p1")
    desk.ground.session("s2")
    desk.ground.provide("s2", "p2")
    await desk.submit("theirs", target="p2")
    await desk.submit("ours", target="p1")
    await desk.saw("ours")


async def test_two_providers_of_a_capability_share_its_work(desk: Desk) -> None:
    desk.provide("p1", limit=2)
    desk.provide("p2", limit=2)
    for id in "abcdef":
        await desk.submit(id)
    await desk.saw("a", "b", "c", "d")
    by = [desk.claims[id].row.provider for id in "abcd"]
    assert sorted(map(str, by)) == ["p1", "p1", "p2", "p2"]
    await desk.end("b")
    await desk.saw("a", "b", "c", "d", "e")
    assert desk.claims["e"].row.provider == by[1]  # whose slot it was


async def test_one_task_at_a_time_goes_to_each_provider_in_turn(desk: Desk) -> None:
    desk.provide("p1", limit=2)
    desk.provide("p2", limit=2)
    for id in "abcd":
        await desk.submit(id)
        await until(lambda id=id: id in desk.claims)
        await desk.end(id)
    by = [desk.claims[id].row.provider for id in "abcd"]
    assert by in (["p1", "p2", "p1", "p2"], ["p2", "p1", "p2", "p1"])


async def test_when_one_of_two_providers_leaves_the_other_goes_on(desk: Desk) -> None:
    desk.provide("p1", limit=1)
    desk.provide("p2", limit=1)
    desk.dispatcher.remove("p1")
    for id in "ab":
        await desk.submit(id)
    await desk.saw("a")
    assert desk.claims["a"].row.provider == "p2"
    await desk.end("a")
    await desk.saw("a", "b")


async def test_what_is_held_is_no_work_a_suspect_runs_beside_it(desk: Desk) -> None:
    desk.ground.provide("s1", "box", "inbox:writer/a")
    desk.dispatcher.add_provider("box", "inbox:writer/a", 1, desk.start, holds=True)
    await desk.line.put(tasks.submit, Submit("letter", "inbox:writer/a", "{}"))
    await desk.saw("letter")
    crashed(desk.ground, "bad")
    desk.provide(limit=2)
    await desk.saw("letter", "bad")
    await desk.end("letter")
    desk.dispatcher.resize("box", 1)
    await desk.line.put(tasks.submit, Submit("next", "inbox:writer/a", "{}"))
    await desk.saw("letter", "bad", "next")  # and is taken beside a lone suspect


async def test_a_provider_without_slots_gets_its_work_when_it_grows(desk: Desk) -> None:
    desk.provide(limit=0)
    await desk.submit("a")
    await desk.quiet()
    assert desk.started == []
    desk.dispatcher.resize("p1", 1)
    await desk.saw("a")


async def test_a_trial_is_answered_by_a_claim_that_began_after_it(desk: Desk) -> None:
    desk.provide(limit=1)
    await desk.quiet()
    async with soon():
        await desk.dispatcher.try_now("p1")
    desk.ground.submit("a")  # by another process: no notice
    async with soon():
        await desk.dispatcher.try_now("p1")
    assert desk.started == ["a"]
    desk.dispatcher.remove("p1")
    async with soon():
        await desk.dispatcher.try_now("p1")  # nobody there: nothing to wait for


async def test_a_stopped_dispatcher_claims_nothing_and_gives_back_what_comes_late(desk: Desk) -> None:
    desk.provide()
    await desk.quiet()
    desk.dispatcher.stop()
    await desk.submit("a")
    await desk.quiet()
    assert desk.started == []
    assert desk.ground.state("a") == "ready"
    desk.dispatcher.start("s1")
    await desk.saw("a")


async def test_a_removed_provider_gets_nothing_more(desk: Desk) -> None:
    desk.provide()
    await desk.submit("a")
    await desk.saw("a")
    desk.dispatcher.remove("p1")
    await desk.submit("b")
    await desk.quiet()
    assert desk.started == ["a"]
    await desk.end("a")
    assert desk.ground.state("b") == "ready"


async def test_an_idle_dispatcher_asks_nothing(desk: Desk) -> None:
    desk.provide()
    await desk.quiet()
    assert desk.dispatcher.idle_slots
    commits: list[Any] = []
    desk.line.listen(commits.append)
    await asyncio.sleep(0.02)
    assert commits == []


async def test_a_waiting_handlers_slot_is_free_and_taken_again_without_asking(desk: Desk) -> None:
    waits = Waits()
    desk.provide(limit=1)
    await desk.submit("parent")
    await desk.saw("parent")
    await desk.submit("child", parent="parent", parent_attempt=1, step_key="c")
    await desk.quiet()
    assert desk.started == ["parent"]
    wait = waits.add("child")
    desk.dispatcher.waits("parent", 1, wait)
    await desk.saw("parent", "child")
    desk.dispatcher.goes_on("parent", 1, wait)  # both run: one more than the bound, by right
    await desk.submit("other")
    await desk.end("child")
    await desk.quiet()
    assert desk.started == ["parent", "child"]  # the parent has its slot
    await desk.end("parent")
    await desk.saw("parent", "child", "other")


async def test_two_children_of_one_handler_free_one_slot(desk: Desk) -> None:
    waits = Waits()
    desk.provide(limit=1)
    await desk.submit("parent")
    await desk.saw("parent")
    both = [waits.add("x"), waits.add("y")]
    for wait in both:
        desk.dispatcher.waits("parent", 1, wait)
    for id in "ab":
        await desk.submit(id)
    await desk.saw("parent", "a")
    desk.dispatcher.goes_on("parent", 1, both[0])
    await desk.end("a")
    await desk.saw("parent", "a", "b")
    desk.dispatcher.goes_on("parent", 1, both[1])
    await desk.end("b")
    await desk.end("parent")
    assert desk.dispatcher._slots["p1"].active == 0


async def test_an_old_attempt_that_still_runs_keeps_its_own_slot(desk: Desk) -> None:
    desk.provide(limit=2)
    await desk.submit("a")
    await desk.saw("a")
    await desk.line.put(claims.give_back, claims.GiveBack("s1", [("a", 1)]))  # it was given up, but did not stop
    await desk.saw("a", "a")
    assert desk.dispatcher._slots["p1"].active == 2
    desk.dispatcher.ended("a", 1)
    assert desk.dispatcher._slots["p1"].active == 1
    await desk.end("a")
    assert desk.dispatcher._slots["p1"].active == 0
    assert desk.ground.outcome("a").attempt == 2


# suspects


async def test_an_empty_process_takes_one_suspect_and_nothing_beside_it(desk: Desk) -> None:
    crashed(desk.ground, "bad1", "bad2")
    desk.ground.submit("good")
    desk.provide(limit=8)
    await until(lambda: len(desk.started) == 1)
    await desk.quiet()
    assert desk.started == ["bad1"]
    await desk.end("bad1")
    await desk.saw("bad1", "bad2")
    await desk.end("bad2")
    await desk.saw("bad1", "bad2", "good")


async def test_nothing_runs_beside_a_lone_suspect_however_long_it_takes() -> None:
    async with opened(suspect_patience=0.02) as desk:
        crashed(desk.ground, "bad")
        desk.provide(limit=8)
        await desk.saw("bad")
        await desk.submit("other")
        await asyncio.sleep(0.15)
        assert desk.started == ["bad"]
        await desk.end("bad")
        await desk.saw("bad", "other")


async def test_new_work_is_held_back_until_the_process_is_empty(desk: Desk) -> None:
    desk.provide("p1", limit=8)
    desk.provide("p2", "busy", 8)
    await desk.submit("long", "busy")
    await desk.saw("long")
    crashed(desk.ground, "bad")
    desk.dispatcher.heat(("work!alone",))
    await desk.submit("new", "busy")
    await desk.quiet()
    assert desk.started == ["long"]
    await desk.end("long")
    await desk.saw("long", "bad")
    await desk.end("bad")
    await desk.saw("long", "bad", "new")


async def test_holding_back_ends_with_its_patience_and_is_then_longer() -> None:
    async with opened(suspect_patience=0.05) as desk:
        desk.provide("p1", limit=8)
        desk.provide("p2", "busy", 8)
        await desk.submit("long", "busy")
        await desk.saw("long")
        crashed(desk.ground, "bad")
        desk.dispatcher.heat(("work!alone",))
        await desk.submit("new", "busy")
        await desk.quiet()
        assert desk.started == ["long"]
        await until(lambda: desk.started == ["long", "new"])
        assert desk.dispatcher._patience == pytest.approx(0.1)
        await desk.end("new")
        await desk.end("long")
        await until(lambda: desk.started[-1] == "bad")


async def test_children_are_claimed_by_name_while_new_work_is_held_back(desk: Desk) -> None:
    waits = Waits()
    desk.provide("p1", limit=8)
    desk.provide("p2", "busy", 8)
    await desk.submit("parent", "busy")
    await desk.saw("parent")
    crashed(desk.ground, "bad")
    desk.dispatcher.heat(("work!alone",))
    await desk.submit("other", "busy")
    wait = waits.add("child")
    await desk.submit("child", "busy", parent="parent", parent_attempt=1, step_key="c")
    desk.dispatcher.waits("parent", 1, wait)
    await desk.saw("parent", "child")


async def test_the_children_of_a_lone_suspect_run_beside_it(desk: Desk) -> None:
    waits = Waits()
    crashed(desk.ground, "bad")
    desk.provide(limit=1)
    await desk.saw("bad")
    await desk.submit("child", parent="bad", parent_attempt=2, step_key="c")
    await desk.submit("other")
    wait = waits.add("child")
    desk.dispatcher.waits("bad", 2, wait)
    await desk.saw("bad", "child")
    desk.dispatcher.goes_on("bad", 2, wait)
    await desk.end("child")
    await desk.end("bad")
    await desk.saw("bad", "child", "other")


async def test_a_child_that_was_there_before_is_claimed_under_its_own_name(desk: Desk) -> None:
    """A repeated attempt asks under a new id and is told the old one: that one is the child it waits for."""
    waits = Waits()
    crashed(desk.ground, "bad")
    desk.provide(limit=1)
    await desk.saw("bad")
    await desk.submit("old", parent="bad", parent_attempt=2, step_key="c")
    wait = waits.add("new")
    desk.dispatcher.waits("bad", 2, wait)
    await desk.quiet()
    waits.move(wait, "old")
    desk.line.wake()
    await desk.saw("bad", "old")


async def test_a_provider_that_leaves_while_a_suspect_waits_for_it_does_no_harm(desk: Desk) -> None:
    desk.provide("p1", limit=8)
    desk.provide("p2", "busy", 1)
    await desk.submit("long", "busy")
    await desk.saw("long")
    crashed(desk.ground, "bad")
    desk.dispatcher.heat(("work!alone",))
    await desk.quiet()
    desk.dispatcher.remove("p1")
    await desk.end("long")
    await desk.submit("next", "busy")
    await desk.saw("long", "next")


# faults


async def test_a_claim_that_failed_is_made_again_and_what_it_took_is_given_back(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The commit went through, and its answer was lost."""
    desk.provide(limit=1)
    await desk.quiet()
    real, lost = DictionaryStore.transact, list[bool]()

    async def lossy(self: DictionaryStore, fold: Any, prefetch: Any = ()) -> Any:
        answer = await real(self, fold, prefetch)
        if not lost:
            lost.append(True)
            raise StoreUnavailableError("the answer was lost")
        return answer

    desk.ground.submit("a")
    monkeypatch.setattr(DictionaryStore, "transact", lossy)
    desk.dispatcher.heat(("work",))
    await until(lambda: desk.started == ["a"])
    assert desk.claims["a"].row.attempt == 2
    assert [one.end for one in desk.ground.attempts("a")] == ["released"]
    await desk.end("a")
    assert desk.ground.get(OUTCOME, "a").attempt == 2


async def test_a_dispatcher_of_a_dead_session_says_so(desk: Desk) -> None:
    desk.provide()
    await desk.quiet()
    desk.ground.submit("a")
    desk.ground.kill("s1")
    desk.dispatcher.heat(("work",))
    await until(lambda: bool(desk.lost))
    await desk.quiet()
    assert desk.lost == ["s1"]  # once: it does not claim on for a session that is refused
    assert desk.started == []


async def test_a_claim_that_is_refused_after_another_session_began_names_its_own(desk: Desk) -> None:
    desk.provide()
    await desk.quiet()
    desk.ground.submit("a")
    desk.ground.kill("s1")
    desk.dispatcher.heat(("work",))
    entry = desk.dispatcher.source()
    assert entry is not None
    desk.ground.session("s2")
    desk.ground.provide("s2", "p2")
    desk.dispatcher.remove("p1")
    desk.dispatcher.start("s2")
    desk.dispatcher.add_provider("p2", "work", 1, desk.start)
    entry.future.set_exception(LeaseLostError("s1 is dead", session="s1"))
    await desk.quiet()
    assert desk.started == ["a"]  # the new session claims all the same
    assert desk.lost == ["s1"]


async def test_a_task_cancelled_before_its_claim_is_not_started(desk: Desk) -> None:
    desk.provide(limit=1)
    await desk.submit("a")
    await desk.saw("a")
    await desk.submit("b")
    await desk.line.put(tasks.cancel, Cancel("b"))
    await desk.end("a")
    await desk.quiet()
    assert desk.started == ["a"]


async def test_children_whose_claim_by_name_was_not_answered_are_asked_for_again(desk: Desk) -> None:
    """That they were asked for in vain is only known from an answer; without one, no timer would ask again."""
    desk.dispatcher._in_vain.add("child")
    desk.dispatcher._refused(StoreUnavailableError("busy"))
    assert not desk.dispatcher._in_vain


async def test_a_look_does_not_heat_the_pools_of_a_provider_that_left_while_its_claim_was_on_its_way() -> None:
    line = Line(DictionaryStore(), Settings())
    dispatcher = Dispatcher(line, Settings(), lambda session: None)
    dispatcher.start("s1")
    for provider, label in (("p1", "work"), ("p2", "other")):
        dispatcher.add_provider(provider, label, 1, lambda claimed: None)
    on_its_way = dispatcher.source()
    assert on_its_way is not None
    dispatcher.remove("p1")
    dispatcher.looks()
    on_its_way.future.cancel()
    await asyncio.sleep(0)
    following = dispatcher.source()
    assert following is not None
    assert all("work" not in pool for want in following.command.wants for pool in want.pools)
