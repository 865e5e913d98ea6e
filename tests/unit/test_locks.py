"""The lock rules, on a store whose clock only the test moves."""

from __future__ import annotations

from typing import Any

import pytest

from autogen_coord.core import locks
from autogen_coord.core.lock_modes import stored
from autogen_coord.core.lock_queue import INCARNATION, TOKENS
from autogen_coord.core.locks import Evict, Granted, Handler, Leave, Waits
from autogen_coord.core.store import Range
from autogen_coord.core.tables import COUNTER, LOCK_HELD, CounterRow
from autogen_coord.errors import LeaseLostError, LockHeldError, StaleClaimError
from autogen_coord.stores.dictionary import store as dictionary
from tests.conftest import Ground
from tests.unit.resources import Resources


@pytest.fixture
def res(work: Ground) -> Resources:
    work.session("s2")
    work.session("s3")
    return Resources(work)


# taking, waiting, giving back


def test_a_free_lock_is_granted_at_once(res: Resources) -> None:
    granted = res.hold("a", "repo/x X")
    assert granted.since == res.ground.now
    assert res.held == ["a repo/x X"]
    assert res.ground.events("repo/x") == ["resource.locked"]


def test_who_will_not_wait_is_told_who_holds_it_how_and_since_when(res: Resources) -> None:
    res.hold("a", "repo SIX", session="s2")
    since = res.ground.now
    res.ground.wait(5)
    with pytest.raises(LockHeldError, match=r"'repo' is held: SIX since .* by session s2; pass wait=") as caught:
        res.ask("b", "repo/x X", wait=False)
    assert caught.value.facts == {"path": "repo", "mode": "SIX", "holder": "session s2", "since": since}
    assert res.waiters == []
    assert res.holders == ["a"]


def test_who_will_not_wait_is_told_who_came_before(res: Resources) -> None:
    res.hold("a", "x S")
    res.queue("b", "x X", session="s2")
    with pytest.raises(LockHeldError, match="waited for by session s2, who came before") as caught:
        res.ask("c", "x S", wait=False, session="s3")
    assert caught.value.facts == {"path": "x", "mode": "X", "holder": "session s2", "since": res.ground.now}


def test_a_holder_is_named_by_its_task_or_its_owner(res: Resources) -> None:
    res.hold("a", "x X", owner="ann")
    with pytest.raises(LockHeldError) as caught:
        res.ask("b", "x X", wait=False)
    assert caught.value.facts["holder"] == "ann"
    res.ground.submit("t1")
    res.ground.claim()
    res.hold("c", "y X", task="t1", attempt=1, owner="ann")
    with pytest.raises(LockHeldError) as caught:
        res.ask("d", "y X", wait=False)
    assert caught.value.facts["holder"] == "task t1"


def test_those_who_wait_are_granted_in_their_order(res: Resources) -> None:
    res.hold("a", "x X")
    for id in "bcd":
        res.ground.wait(1)
        res.queue(id, "x X")
    for before, after in (("a", "b"), ("b", "c"), ("c", "d")):
        assert res.release(before)
        assert res.holders == [after]
    assert res.release("d")
    assert (res.holders, res.waiters) == ([], [])


def test_readers_that_wait_are_granted_together_and_the_writer_behind_them_is_not(res: Resources) -> None:
    res.hold("a", "x X")
    for id, mode in (("b", "S"), ("c", "S"), ("d", "X"), ("e", "S")):
        res.queue(id, f"x {mode}")
    res.release("a")
    assert (res.holders, res.waiters) == (["b", "c"], ["d", "e"])


def test_a_reader_does_not_pass_a_writer_that_waits(res: Resources) -> None:
    res.hold("a", "x S")
    res.queue("b", "x X")
    res.queue("c", "x S")
    res.release("a")
    assert (res.holders, res.waiters) == (["b"], ["c"])


@pytest.mark.parametrize(("earlier", "later"), [("repo X", "repo/x S"), ("repo/x X", "repo S"), ("repo/x/y S", "repo/x X")])
def test_nobody_passes_an_earlier_waiter_above_or_below_that_it_conflicts_with(res: Resources, earlier: str, later: str) -> None:
    res.hold("a", "repo/x/y IX")
    res.hold("c", "repo/x IS")
    res.queue("b", earlier)
    res.queue("d", later)
    assert res.release("a")
    assert res.release("c")
    assert (res.holders, res.waiters) == (["b"], ["d"])


def test_who_conflicts_with_nobody_passes(res: Resources) -> None:
    res.hold("a", "repo/x X")
    res.queue("b", "repo/x X")
    res.hold("c", "repo/y X")
    res.hold("d", "repo IX")
    assert res.waiters == ["b"]


def test_a_priority_is_worth_some_seconds_of_waiting(res: Resources) -> None:
    res.hold("a", "x X")
    res.queue("b", "x X", priority=5.0)
    res.ground.wait(59)
    res.queue("c", "x X", priority=7.0)
    res.ground.wait(2)
    res.queue("d", "x X", priority=7.0)
    res.release("a")
    assert res.holders == ["c"]
    res.release("c")
    assert res.holders == ["b"]


def test_several_paths_are_granted_as_a_whole_under_one_token(res: Resources) -> None:
    res.hold("a", "x X")
    res.hold("b", "y X")
    res.queue("c", "x X", "y S", "z X")
    with pytest.raises(LockHeldError, match="who came before"):
        res.ask("d", "z S", wait=False)
    res.release("a")
    assert res.waiters == ["c"], "a waiter holds nothing"
    res.release("b")
    assert res.held == ["c x X", "c y S", "c z X"]
    assert len({row.token for row in res.ground.scan(Range(LOCK_HELD, "key"))}) == 1


def test_each_grant_has_a_greater_token(res: Resources) -> None:
    tokens = [res.hold("a", "x S").token, res.hold("b", "x S").token]
    answer = res.convert("a", "S")
    assert isinstance(answer, Granted)
    assert answer.token == tokens[0], "it had that already"
    res.release("b")
    answer = res.convert("a", "X")
    assert isinstance(answer, Granted)
    tokens += [answer.token, res.hold("c", "y X").token]
    assert tokens == sorted(set(tokens))
    assert tokens[-1] >> TOKENS == int(res.ground.now // 60)


def test_the_same_request_is_the_same_lock(res: Resources) -> None:
    granted = res.hold("a", "x X")
    assert res.ask("a", "x X") == granted
    res.queue("b", "x X")
    res.queue("c", "x X")
    res.ground.wait(3)
    res.queue("b", "x X")
    res.release("a")
    assert (res.holders, res.waiters) == (["b"], ["c"])


def test_a_request_of_which_a_part_was_taken_away_is_not_granted_anew(res: Resources) -> None:
    res.hold("a", "x X", "y X")
    res.ground.do(locks.evict, Evict("a", (stored("x"),)))
    with pytest.raises(LeaseLostError, match="x, y"):
        res.ask("a", "x X", "y X")
    assert res.held == ["a y X"]


# bad input


def test_a_lock_that_is_not_ones_own_is_not_released(res: Resources) -> None:
    res.hold("a", "x X")
    res.queue("b", "x X")
    assert not res.release("a", session="s2")
    assert not res.release("b", session="s2")
    assert res.give_up("b", session="s2") is None
    assert (res.holders, res.waiters) == (["a"], ["b"])
    assert res.told("unlocked") == []


def test_a_second_release_frees_nothing(res: Resources) -> None:
    res.hold("a", "x X")
    assert res.release("a")
    res.hold("b", "x X")
    assert not res.release("a")
    assert res.holders == ["b"]
    assert len(res.told("unlocked")) == 1


def test_a_lease_that_was_released_or_lost_converts_no_more(res: Resources) -> None:
    res.hold("a", "x S")
    res.release("a")
    with pytest.raises(LeaseLostError, match="the lock on x is not held by this lease") as caught:
        res.convert("a", "X")
    assert caught.value.facts == {"lease": "a"}
    res.hold("b", "x S", session="s2")
    with pytest.raises(LeaseLostError):
        res.convert("b", "X")
    res.ground.kill("s2")
    with pytest.raises(LeaseLostError):
        res.convert("b", "X", session="s2")


def test_a_session_that_is_dead_gets_no_lock(res: Resources) -> None:
    res.ground.kill("s2")
    for session in ("s2", "never-was"):
        with pytest.raises(LeaseLostError, match="declared dead or closed") as caught:
            res.ask("a", "x X", session=session)
        assert caught.value.facts == {"session": session}


def test_a_handler_whose_claim_is_over_gets_no_lock(res: Resources) -> None:
    res.ground.submit("t1")
    res.ground.claim()
    for task, attempt, session in (("t1", 2, "s1"), ("t1", 1, "s2"), ("nothing", 1, "s1")):
        with pytest.raises(StaleClaimError):
            res.ask("a", "x X", task=task, attempt=attempt, session=session)
    assert res.held == []


def test_a_write_names_a_lease_that_stands_and_covers_it(res: Resources) -> None:
    guard = res.guard(res.hold("a", "repo/src X", "docs S"))
    res.write(guard, "repo/src")
    res.write(guard, "repo/src/a.py", "S")
    res.write(guard, "docs/x", "S")
    for path, mode in (("repo", "X"), ("docs", "X"), ("repo/srcs", "X"), ("else", "IS")):
        with pytest.raises(LeaseLostError, match=f"{mode} on '{path}' is wanted") as caught:
            res.write(guard, path, mode)
        assert caught.value.facts == {"lease": "a", "token": guard.token}


def test_a_write_under_a_lease_that_is_not_held_any_more_is_refused(res: Resources) -> None:
    guard = res.guard(res.hold("a", "x X"))
    res.evict("a")
    later = res.guard(res.hold("b", "x X"))
    with pytest.raises(LeaseLostError):
        res.write(guard, "x")
    res.write(later, "x")
    with pytest.raises(LeaseLostError):
        res.write(later._replace(session="s2"), "x")
    with pytest.raises(LeaseLostError):
        res.write(later._replace(token=guard.token), "x")
    res.ground.kill("s1")
    with pytest.raises(LeaseLostError):
        res.write(later, "x")


def test_a_write_with_the_token_from_before_a_conversion_is_refused(res: Resources) -> None:
    guard = res.guard(res.hold("a", "x S"))
    granted = res.convert("a", "X")
    assert isinstance(granted, Granted)
    with pytest.raises(LeaseLostError, match="does not hold S on 'x' any more"):
        res.write(guard, "x", "S")
    res.write(res.guard(granted), "x")


def test_a_token_of_another_store_is_refused(res: Resources) -> None:
    other = Resources(Ground())
    other.ground.now += 3_600
    other.ground.session()
    guard = other.guard(other.hold("a", "x X"))
    with pytest.raises(LeaseLostError):
        res.write(guard, "x")
    res.hold("a", "x X")
    with pytest.raises(LeaseLostError, match="of another store, or of this one before it was restored"):
        res.write(guard, "x")


def test_a_token_from_before_the_store_was_restored_is_refused_and_later_ones_are_greater(res: Resources) -> None:
    granted = res.hold("a", "x X")

    def restored(rows: Any, now: float) -> None:
        row = rows.one(COUNTER, INCARNATION)
        rows.put(COUNTER, CounterRow(INCARNATION, row.value + 1))
        rows.put(COUNTER, CounterRow("lock_token", 0)) if rows.one(COUNTER, "lock_token") else None

    res.ground.store.transact_blocking(restored)
    with pytest.raises(LeaseLostError, match="before it was restored"):
        res.write(res.guard(granted), "x")
    assert res.hold("b", "y X").token > granted.token


def test_a_token_fits_into_the_integers_of_a_database() -> None:
    ground = Ground()
    ground.now = 4_000_000_000.0  # the year 2096
    ground.session()
    assert 0 < Resources(ground).hold("a", "x X").token < 1 << 63


# patience, force, the end of a handler, of a session


def test_who_gives_up_lets_those_behind_it_through(res: Resources) -> None:
    res.hold("a", "repo S")
    res.queue("b", "repo/x X", "repo/y X", session="s2")
    res.queue("c", "repo/y/z S")
    refusal = res.give_up("b", "s2")
    assert isinstance(refusal, LockHeldError)
    assert refusal.facts["path"] == "repo"
    assert (res.holders, res.waiters) == (["a", "c"], [])
    assert res.give_up("b", "s2") is None


def test_who_gives_up_too_late_has_it(res: Resources) -> None:
    res.hold("a", "x X")
    res.queue("b", "x X")
    res.release("a")
    answer = res.give_up("b")
    assert isinstance(answer, Granted)
    assert answer.token == res.ground.scan(Range(LOCK_HELD, "key"))[0].token


def test_an_evicted_holder_hears_of_it_and_the_next_is_granted(res: Resources) -> None:
    res.hold("a", "x X", "y X", session="s2")
    res.queue("b", "x X")
    assert res.evict("a") == 2
    assert res.holders == ["b"]
    assert [(row.subject, row.session) for row in res.told("lost")] == [("x", "s2"), ("y", "s2")]
    assert not res.release("a", "s2")
    assert res.evict("a") == 0


def test_an_evicted_lease_is_not_converted_later(res: Resources) -> None:
    res.hold("a", "x S")
    res.hold("b", "x S")
    assert res.convert("a", "X") == Waits("a+")
    res.evict("a")
    res.release("b")
    assert (res.holders, res.waiters) == ([], [])


def test_when_a_handler_has_stopped_its_locks_and_requests_are_gone(res: Resources) -> None:
    for id in ("t1", "t2"):
        res.ground.submit(id)
    res.ground.claim(slots=2)
    res.hold("a", "x X", task="t1", attempt=1)
    res.hold("b", "y X", task="t2", attempt=1)
    res.queue("c", "y X", "z X", task="t1", attempt=1)
    res.queue("d", "x X")
    assert res.ground.do(locks.stop, Handler("s2", "t1", 1)) == 0
    assert res.ground.do(locks.stop, Handler("s1", "t1", 2)) == 0
    assert res.ground.do(locks.stop, Handler("s1", "t1", 1)) == 1
    assert (res.holders, res.waiters) == (["b", "d"], [])


def test_a_claim_that_ends_early_keeps_its_locks_until_its_handler_has_stopped(res: Resources) -> None:
    res.ground.submit("t1", deadline=10.0)
    res.ground.claim()
    res.hold("a", "x X", task="t1", attempt=1)
    res.queue("b", "x X")
    res.ground.wait(60)
    for session in ("s1", "s2"):
        res.ground.renew(session)
    res.ground.turn()
    assert res.ground.state("t1") == "expired"
    assert (res.holders, res.waiters) == (["a"], ["b"])
    res.ground.do(locks.stop, Handler("s1", "t1", 1))
    assert res.holders == ["b"]


def test_the_locks_of_a_dead_session_count_for_nothing_and_are_lost_slice_by_slice(res: Resources) -> None:
    res.ground.settings(slice=2)
    for number in range(5):
        res.hold(f"a{number}", f"x/{number} X", session="s2")
    res.queue("b", "x X")
    res.ground.kill("s2")
    assert res.held == ["b x X"]
    assert {row.session for row in res.told("lost")} == {"s2"}
    assert len(res.told("lost")) == 5


def test_a_dead_session_is_in_nobodys_way_before_it_is_buried(res: Resources) -> None:
    res.hold("a", "x X", session="s2")
    res.queue("b", "x X", session="s2")
    res.ground.wait(2.5)
    for session in ("s1", "s3"):
        res.ground.renew(session)
    res.ground.wait(2.4)
    for session in ("s1", "s3"):
        res.ground.renew(session)
    assert res.ground.declare("s2", "s1")
    res.hold("c", "x X")
    assert res.holders == ["a", "c"]


def test_behind_the_request_of_a_dead_session_others_are_granted(res: Resources) -> None:
    res.hold("a", "x S")
    res.queue("b", "x X", "y X", "z X", session="s2")
    for id, path in (("c", "x X"), ("d", "y/1 X"), ("e", "z X")):
        res.queue(id, path)
    res.ground.settings(slice=1)
    res.ground.kill("s2")
    assert (res.holders, res.waiters) == (["a", "d", "e"], ["c"])


def test_a_session_that_leaves_gives_back_all_and_is_granted_nothing(res: Resources) -> None:
    res.ground.settings(slice=1)
    res.hold("a", "x X", session="s2")
    res.queue("b", "x X", "y X", session="s2")
    res.queue("c", "x X")
    slices = 0
    while res.ground.do(locks.leave, Leave("s2")):
        slices += 1
    assert slices == 2  # the request, with both its rows; the lock
    assert (res.holders, res.waiters) == (["c"], [])
    assert len(res.told("locked")) == 2
    assert res.told("lost") == []


# a store that loads in rounds


def test_a_lock_takes_few_rounds_however_deep_and_many_its_paths_are(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dictionary, "ROUNDS", 10)
    res = Resources(Ground(collecting=True))
    for session in ("s1", "s2"):
        res.ground.session(session)
    deep = "/".join("d" * 32)
    res.hold("a", f"{deep} X")
    res.hold("b", *(f"p/{number} S" for number in range(8)))
    res.queue("c", f"{deep} S", "p/0 X")
    for number in range(40):
        res.queue(f"w{number}", "p/0 IS", session=("s1", "s2")[number % 2])
    res.release("b")
    assert len(res.waiters) == 41
    res.give_up("c")
    assert len(res.holders) == 41
