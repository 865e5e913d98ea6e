"""Leases: who lives, who is late, who may declare whom dead; and the heart that keeps one, on a clock that the test moves."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from autogen_coord.core import sessions
from autogen_coord.core.beating import Heart
from autogen_coord.core.sessions import CloseSession
from autogen_coord.core.tables import SESSION
from autogen_coord.errors import StoreUnavailableError
from autogen_coord.settings import Settings
from tests.conftest import Ground, until

# default settings: beat 1 s, suspect 2 s, dead 3 s, margin 0.5 s


def beat(ground: Ground, seconds: float, *ids: str, step: float = 1.0) -> None:
    """Time passes, and these renew on time."""
    end = ground.now + seconds
    while ground.now < end:
        ground.wait(min(step, end - ground.now))
        for id in ids:
            assert ground.renew(id)


@pytest.fixture
def pair(ground: Ground) -> Ground:
    ground.session("judge")
    ground.session("other")
    return ground


def test_a_session_is_live_for_one_ttl(ground: Ground) -> None:
    ground.session("s")
    row = ground.session_row("s")
    assert (row.state, row.lease_until) == ("live", ground.now + 3)
    assert ground.events() == ["session.opened"]


@pytest.mark.parametrize(("age", "status"), [(0.0, "live"), (0.9, "live"), (2.1, "suspect"), (3.1, "overdue")])
def test_what_people_are_told_of_a_lease(ground: Ground, age: float, status: str) -> None:
    ground.session("s")
    ground.wait(age)
    assert sessions.status(ground.session_row("s"), ground.now, ground.policy) == status


def test_who_is_steady_declares_dead_whose_lease_ended(pair: Ground) -> None:
    beat(pair, 2.9, "judge")
    assert not pair.declare("other", "judge")
    beat(pair, 0.2, "judge")
    assert pair.declare("other", "judge")
    assert pair.session_row("other").state == "dead"
    assert pair.events("other") == ["session.opened", "session.dead"]
    assert pair.declare("other", "judge")  # told again, not done again
    assert pair.events("other").count("session.dead") == 1


def test_a_lease_that_runs_is_nobodys_to_end(pair: Ground) -> None:
    beat(pair, 30, "judge", "other")
    assert not pair.declare("other", "judge")


def test_a_process_younger_than_one_ttl_declares_nobody_dead(ground: Ground) -> None:
    ground.session("other")
    ground.wait(10)
    ground.session("judge")
    assert not ground.declare("other", "judge")
    beat(ground, 2.9, "judge")
    assert not ground.declare("other", "judge")
    beat(ground, 0.1, "judge")
    assert ground.declare("other", "judge")


def test_a_process_that_was_late_itself_declares_nobody_dead_for_one_ttl(pair: Ground) -> None:
    """A store that was away, a machine that slept: everybody is late, and nobody may judge."""
    beat(pair, 10, "judge", "other")
    pair.wait(20)  # nobody could write
    assert pair.renew("judge")
    assert not pair.declare("other", "judge")
    assert pair.renew("other")  # a late renewal is fine: nobody declared it dead
    beat(pair, 30, "judge", "other")
    assert not pair.declare("other", "judge")
    assert pair.session_row("other").state == "live"


def test_a_clock_that_jumps_forward_kills_nobody_who_goes_on_renewing(pair: Ground) -> None:
    beat(pair, 10, "judge", "other")
    pair.wait(86_400)
    assert pair.renew("judge")
    assert not pair.declare("other", "judge")
    beat(pair, 2, "judge")
    assert not pair.declare("other", "judge")
    assert pair.renew("other")
    beat(pair, 10, "judge", "other")
    assert not pair.declare("other", "judge")


def test_a_clock_that_steps_back_kills_nobody(pair: Ground) -> None:
    beat(pair, 10, "judge", "other")
    pair.wait(-3_600)
    assert not pair.declare("other", "judge")
    beat(pair, 10, "judge", "other")
    assert not pair.declare("other", "judge")
    assert {pair.session_row(id).state for id in ("judge", "other")} == {"live"}


def test_after_a_step_back_a_lease_ends_one_ttl_after_its_last_renewal(pair: Ground) -> None:
    beat(pair, 10, "judge", "other")
    pair.wait(-3_600)
    beat(pair, 1, "other")
    beat(pair, 10, "judge")
    assert pair.declare("other", "judge")


def test_a_renewal_within_the_margin_keeps_one_steady(ground: Ground) -> None:
    ground.session("s")
    since = ground.session_row("s").steady_since
    ground.wait(2.4)
    ground.renew("s")
    assert ground.session_row("s").steady_since == since
    ground.wait(2.6)
    ground.renew("s")
    assert ground.session_row("s").steady_since == ground.now


def test_the_dead_cannot_judge_renew_or_say_goodbye(pair: Ground) -> None:
    beat(pair, 4, "judge")
    assert pair.declare("other", "judge")
    assert not pair.renew("other")
    assert not pair.declare("judge", "other")
    assert not pair.do(sessions.close_session, CloseSession("other"))
    assert pair.session_row("other").state == "dead"


def test_a_closed_session_is_no_death(pair: Ground) -> None:
    assert pair.do(sessions.close_session, CloseSession("other"))
    beat(pair, 10, "judge")
    assert not pair.declare("other", "judge")
    assert pair.session_row("other").state == "closed"
    assert not pair.renew("other")


def test_nobody_can_be_declared_dead_who_never_was(pair: Ground) -> None:
    beat(pair, 4, "judge")
    assert not pair.declare("none", "judge")
    assert not pair.declare("other", "none")


# the heart


class Told:
    def __init__(self) -> None:
        self.lost: list[str] = []
        self.distrust = 0
        self.trust = 0


class Body:
    """A heart on a ground; its clock and the store's are moved by the test."""

    def __init__(self, ground: Ground) -> None:
        self.ground = ground
        self.now = 50.0
        self.told = Told()
        self.away = False
        self.beats = 0
        policy = Settings(beat=1.0, suspect_after=2.0, session_ttl=3.0, trust_margin=0.5, loop_tick=10.0)
        self.heart = Heart(self._store(), policy, self.told.lost.append, self._distrust, self._trust, clock=lambda: self.now)
        self.heart._pause = 0.002  # the thread looks often; what it sees is the test's clock

    def _store(self) -> Any:
        body = self

        class Store:
            def transact_blocking(self, fold: Any) -> Any:
                if body.away:
                    raise StoreUnavailableError("away")
                body.beats += 1
                return body.ground.store.transact_blocking(fold)

        return Store()

    def _distrust(self) -> None:
        self.told.distrust += 1

    def _trust(self) -> None:
        self.told.trust += 1

    def wait(self, seconds: float) -> None:
        self.now += seconds
        self.ground.wait(seconds)


@pytest.fixture
async def body(ground: Ground) -> Any:
    body = Body(ground)
    ground.session("s")
    body.heart.start("s", body.heart._clock())
    watch = asyncio.create_task(body.heart.watch())
    yield body
    watch.cancel()
    await body.heart.stop()


@pytest.fixture(autouse=True)
def no_threads_left() -> Iterator[None]:
    yield
    assert not [thread for thread in threading.enumerate() if thread.name == "autogen-coord-beat"]


async def test_a_heart_beats_when_no_commit_did(body: Body) -> None:
    await asyncio.sleep(0.03)
    assert body.beats == 0
    body.wait(1.0)
    await until(lambda: body.beats == 1)
    assert body.ground.session_row("s").lease_until == body.ground.now + 3
    assert body.heart.trusted


async def test_trust_ends_before_the_lease_and_comes_back_with_a_late_renewal(body: Body) -> None:
    body.away = True
    body.wait(2.4)
    await asyncio.sleep(0.03)
    assert (body.told.distrust, body.heart.trusted) == (0, True)
    body.wait(0.2)
    await until(lambda: body.told.distrust == 1)
    assert not body.heart.trusted
    assert body.ground.session_row("s").lease_until > body.ground.now  # the lease still stands
    body.away = False
    await until(lambda: body.told.trust == 1)
    assert body.heart.trusted
    assert body.told.lost == []


async def test_a_heart_does_not_beat_for_a_loop_that_stands_still(body: Body) -> None:
    await until(lambda: body.heart._ticked == body.now)
    body.heart._tick = lambda: None  # type: ignore[method-assign]  # the loop's ticks do not come through
    body.wait(9.0)
    await until(lambda: body.beats == 1)
    body.wait(2.0)
    await asyncio.sleep(0.05)
    assert body.beats == 1


async def test_a_heart_that_finds_its_session_dead_says_so_once(body: Body) -> None:
    body.ground.kill("s")
    body.wait(1.0)
    await until(lambda: body.told.lost == ["s"])
    body.wait(1.0)
    await asyncio.sleep(0.03)
    assert body.told.lost == ["s"]


async def test_a_commit_of_the_line_is_as_good_as_a_beat(body: Body) -> None:
    from autogen_coord.core.commit import committed

    def commit(rows: Any, now: float) -> Any:
        body.heart.renew(rows, now)
        return committed(rows.changes())

    for _ in range(8):
        body.wait(0.6)
        body.heart.committed(body.ground.store.transact_blocking(commit))
    await asyncio.sleep(0.02)
    assert body.beats == 0
    assert body.heart.trusted
    assert body.ground.get(SESSION, "s").lease_until == body.ground.now + 3
