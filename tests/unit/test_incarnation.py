"""A copy of a store begins another incarnation: on a store whose clock only the test moves."""

from __future__ import annotations

import asyncio

import pytest

from autogen_coord.core.incarnation import BeginAnew, Begun, begin_anew
from autogen_coord.core.lock_queue import INCARNATION, TOKENS
from autogen_coord.core.locks import Granted
from autogen_coord.core.store import Range
from autogen_coord.core.tables import COUNTER, EVENT, TABLES
from autogen_coord.errors import LeaseLostError, StaleClaimError
from tests.conftest import Ground
from tests.unit.resources import Resources


def a_copy_of(ground: Ground) -> Ground:
    """The same rows on another ground, as a restored backup has them; its clock shows the same."""
    other = Ground(ground.store._collecting)
    other.now, other.policy = ground.now, ground.policy
    rows = [(table, row) for table in TABLES for row in ground.scan(Range(table, "key"))]
    asyncio.run(other.store.fill(rows))
    return other


def restored(ground: Ground, floor: int = 0) -> Ground:
    other = a_copy_of(ground)
    other.do(begin_anew, BeginAnew(floor))
    return other


def lock(ground: Ground, id: str, session: str = "s1") -> Granted:
    return Resources(ground).hold(id, f"r/{id} X", session=session)


def incarnation(ground: Ground) -> int:
    return int(ground.get(COUNTER, INCARNATION).value)


def test_it_is_greater_than_any_before_and_than_the_present_minute(work: Ground) -> None:
    minute = int(work.now // 60)
    assert work.do(begin_anew, BeginAnew()) == Begun(minute + 1, 1)
    assert work.do(begin_anew, BeginAnew()) == Begun(minute + 2, 0)
    work.wait(3600)
    assert work.do(begin_anew, BeginAnew()).incarnation == minute + 61
    assert work.do(begin_anew, BeginAnew(floor=minute + 100)).incarnation == minute + 101


@pytest.mark.parametrize("before", [0, 1])
def test_its_tokens_are_greater_than_all_that_the_original_gives_in_the_same_minute(before: int, work: Ground) -> None:
    for n in range(before):
        lock(work, f"before-{n}")
    other = restored(work)
    late = [lock(work, f"late-{n}").token for n in range(5)]
    other.session("s2")
    assert lock(other, "first", session="s2").token > max(late)


def test_where_the_original_had_given_a_token_it_never_catches_up(work: Ground) -> None:
    lock(work, "a")
    other = restored(work)
    work.wait(7 * 86_400)
    other.session("s2")
    assert lock(other, "first", session="s2").token > lock(work, "b").token


def test_a_token_of_before_is_refused_even_by_a_lock_that_looks_held(work: Ground) -> None:
    res = Resources(work)
    guard = res.guard(lock(work, "a"))
    res.write(guard, "r/a")
    other = restored(work)
    other.session("s2")
    again = Resources(other)
    with pytest.raises(LeaseLostError):
        again.write(guard, "r/a")
    # that it was of the session alone would not do: the row under it may be one's own again
    mine = again.guard(lock(other, "b", session="s2"), session="s2")
    with pytest.raises(LeaseLostError, match="before it was restored"):
        again.write(mine._replace(token=guard.token), "r/b")
    again.write(mine, "r/b")
    res.write(guard, "r/a")  # the original goes on


def test_no_session_lives_and_what_they_ran_and_held_comes_back(work: Ground) -> None:
    work.submit("t")
    work.submit("u")
    assert work.claim_ids(slots=2) == ["t", "u"]
    Resources(work).hold("a", "x X")
    Resources(work).queue("b", "x X")
    other = restored(work)
    for stale in (lambda: other.finish("t"), lambda: other.claim(), lambda: lock(other, "c")):
        with pytest.raises((StaleClaimError, LeaseLostError)):
            stale()
    assert not other.renew("s1")
    other.session("s2")
    assert Resources(other).hold("d", "x X", session="s2").token >> TOKENS == incarnation(other)
    other.bury("s1")
    assert (other.state("t"), other.state("u"), other.session_row("s1").state) == ("ready", "ready", "gone")
    assert (Resources(other).holders, Resources(other).waiters) == (["d"], [])


def test_who_ran_alone_is_not_blamed_for_a_crash_that_there_was_not(work: Ground) -> None:
    work.submit("t")
    work.claim()
    other = restored(work)
    other.bury("s1")
    row = other.queue("t")
    assert (row.state, row.crashes, row.failures) == ("ready", 0, 0)
    other.session("s2")
    other.provide("s2", "p2")
    assert other.claim_ids("s2", "p2", 1, "work", "work!alone") == ["t"]
    assert other.finish("t", attempt=2, session="s2")


def test_the_log_tells_it_and_has_no_gap(work: Ground) -> None:
    work.session("s2")
    other = restored(work)
    rows = other.scan(Range(EVENT, "key"))
    assert [row.number for row in rows] == list(range(1, len(rows) + 1))
    assert [(row.kind, row.subject, row.session) for row in rows[-2:]] == [
        ("session.dead", "s1", None),
        ("session.dead", "s2", None),
    ]
