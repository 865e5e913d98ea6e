"""The lock rules, on a store whose clock only the test moves."""

from __future__ import annotations

from typing import Any

import pytest

from autogen_coord.core import locks, messages, registry
from autogen_coord.core.addresses import Address, Recipient
from autogen_coord.core.lock_modes import shown, stored
from autogen_coord.core.lock_queue import INCARNATION, TOKENS, Want, waiting
from autogen_coord.core.locks import Acquire, Answer, Convert, Deadlocked, Evict, Granted, Guard, Handler, Leave, Release, Waits
from autogen_coord.core.messages import Send
from autogen_coord.core.registry import Announce
from autogen_coord.core.store import Range
from autogen_coord.core.tables import COUNTER, EVENT, LOCK_HELD, LOCK_WAIT, SESSION, CounterRow, EventRow
from autogen_coord.core.tasks import Submit
from autogen_coord.errors import ConflictError, LeaseLostError, LockHeldError, StaleClaimError
from tests.conftest import Ground


class Resources:
    """Locks by short names: ``ask("l1", "repo/a X")``."""

    def __init__(self, ground: Ground) -> None:
        self.ground = ground
        self.asked: dict[str, Acquire] = {}

    def ask(
        self, id: str, *wants: str, session: str = "s1", wait: bool = True, within: tuple[str, ...] = (), **more: Any
    ) -> Answer:
        pairs = tuple(Want(stored(path), mode) for path, mode in (want.split() for want in wants))
        keys = tuple((want.path, lease) for lease in within for want in self.asked[lease].wants)
        self.asked[id] = Acquire(id, session, pairs, wait, within=keys, **more)
        return self.ground.do(locks.acquire, self.asked[id])

    def hold(self, id: str, *wants: str, **more: Any) -> Granted:
        answer = self.ask(id, *wants, **more)
        assert isinstance(answer, Granted), answer
        return answer

    def queue(self, id: str, *wants: str, **more: Any) -> None:
        assert self.ask(id, *wants, **more) == Waits(id)

    def paths(self, id: str) -> tuple[str, ...]:
        return tuple(want.path for want in self.asked[id].wants)

    def convert(self, id: str, mode: str, *, wait: bool = True, session: str = "s1", within: tuple[str, ...] = ()) -> Answer:
        keys = tuple((path, lease) for lease in within for path in self.paths(lease))
        return self.ground.do(locks.convert, Convert(id, session, self.paths(id), mode, wait, keys))

    def release(self, id: str, session: str = "s1") -> bool:
        return self.ground.do(locks.release, Release(id, session, self.paths(id)))

    def give_up(self, id: str, session: str = "s1") -> Any:
        return self.ground.do(locks.give_up, Release(id, session, self.paths(id)))

    def evict(self, id: str) -> int:
        return self.ground.do(locks.evict, Evict(id, self.paths(id)))

    def guard(self, granted: Granted, session: str = "s1") -> Guard:
        return Guard(granted.id, session, granted.token, tuple(want.path for want in granted.wants))

    def write(self, guard: Guard, path: str, mode: str = "X") -> None:
        """As a fenced write begins. Raises: LeaseLostError."""
        self.ground.store.transact_blocking(lambda rows, now: locks.require_cover(rows, guard, stored(path), mode))

    # looking

    @property
    def held(self) -> list[str]:
        return [f"{row.id} {shown(row.path)} {row.mode}" for row in self.ground.scan(Range(LOCK_HELD, "key"))]

    @property
    def holders(self) -> list[str]:
        return sorted({row.id for row in self.ground.scan(Range(LOCK_HELD, "key"))})

    @property
    def waiters(self) -> list[str]:
        rows = self.ground.scan(Range(LOCK_WAIT, "key"))
        assert self.ground.store.transact_blocking(lambda all, now: waiting(all)) == len({row.id for row in rows})
        return sorted({row.id for row in rows})

    def told(self, kind: str) -> list[EventRow]:
        return [row for row in self.ground.scan(Range(EVENT, "key")) if row.kind == f"resource.{kind}"]


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
        with pytest.raises(LeaseLostError, match=f"does not hold {mode} on '{path}'") as caught:
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


# conversion


def test_a_reader_that_is_alone_becomes_a_writer(res: Resources) -> None:
    res.hold("a", "x S", "y IX")
    answer = res.convert("a", "IX")
    assert isinstance(answer, Granted)
    assert res.held == ["a x SIX", "a y IX"]
    assert answer.wants == (Want("x/", "SIX"), Want("y/", "IX"))


def test_a_conversion_keeps_what_it_has_while_it_waits_and_goes_before_others(res: Resources) -> None:
    res.hold("a", "x S")
    res.hold("b", "x S")
    res.queue("c", "x X", priority=10.0)
    assert res.convert("a", "X") == Waits("a")
    assert "a x S" in res.held
    res.release("b")
    assert res.held == ["a x X"]
    assert res.waiters == ["c"]


def test_a_conversion_that_gives_up_keeps_what_it_had(res: Resources) -> None:
    granted = res.hold("a", "x S")
    res.hold("b", "x S", session="s2")
    with pytest.raises(LockHeldError):
        res.convert("a", "X", wait=False)
    assert res.convert("a", "X") == Waits("a")
    assert res.convert("a", "X") == Waits("a"), "once more is the same"
    refusal = res.give_up("a")
    assert isinstance(refusal, LockHeldError)
    assert refusal.facts["holder"] == "session s2"
    assert (res.waiters, res.holders) == ([], ["a", "b"])
    res.write(res.guard(granted), "x", "S")


def test_a_lease_waits_for_one_conversion_at_a_time(res: Resources) -> None:
    res.hold("a", "x IS")
    res.hold("b", "x S")
    assert res.convert("a", "IX") == Waits("a")
    with pytest.raises(ConflictError, match="another conversion") as caught:
        res.convert("a", "X")
    assert caught.value.facts == {"lease": "a"}


def test_of_two_readers_that_both_convert_the_second_is_refused_at_once(res: Resources) -> None:
    res.hold("a", "x S")
    res.ground.wait(1)
    res.hold("b", "x S", session="s2")
    assert res.convert("a", "X") == Waits("a")
    answer = res.convert("b", "X", session="s2")
    assert isinstance(answer, Deadlocked)
    assert answer.cycle == (
        "session s2 waits for X on x", "session s1 holds S on x", "session s1 waits for X on x", "session s2 holds S on x",
    )  # fmt: skip
    assert (res.holders, res.waiters) == (["a", "b"], ["a"])
    res.release("b", "s2")
    assert res.held == ["a x X"]


def test_conversions_that_wait_are_granted_in_their_order(res: Resources) -> None:
    for id in "abc":
        res.hold(id, "x IS")
    res.hold("d", "x IX")
    assert res.convert("c", "S") == Waits("c")
    assert res.convert("a", "SIX") == Waits("a")
    res.release("d")
    assert res.held == ["a x IS", "b x IS", "c x S"]
    res.release("c")
    assert res.held == ["a x SIX", "b x IS"]


def test_behind_a_conversion_that_cannot_be_granted_others_are(res: Resources) -> None:
    res.hold("a", "x IS")
    res.hold("b", "x IS")
    res.hold("d", "x IX")
    assert res.convert("a", "X") == Waits("a")
    assert res.convert("b", "S") == Waits("b")
    res.release("d")
    assert res.held == ["a x IS", "b x S"]


# owners


def test_what_an_owner_holds_is_never_in_its_own_way(res: Resources) -> None:
    res.hold("a", "repo X", owner="ann")
    res.hold("b", "repo/x X", owner="ann", session="s2")
    res.hold("c", "repo S", owner="ann")
    with pytest.raises(LockHeldError):
        res.ask("d", "repo/x S", owner="bob", wait=False)
    with pytest.raises(LockHeldError):
        res.ask("e", "repo/x S", wait=False)


def test_an_owner_takes_again_what_it_has_though_others_wait_for_it(res: Resources) -> None:
    res.hold("a", "repo X", owner="ann")
    res.queue("b", "repo/x X", session="s2")
    res.hold("c", "repo/x X", owner="ann")
    assert res.told("deadlocked") == []
    res.release("a")
    assert res.waiters == ["b"]
    res.release("c")
    assert res.holders == ["b"]


def test_two_waiters_of_one_owner_are_granted_together(res: Resources) -> None:
    res.hold("a", "x X")
    for number in range(40):
        res.queue(f"w{number}", "x X", owner="ann")
    res.release("a")
    assert len(res.holders) == 40


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
    assert res.convert("a", "X") == Waits("a")
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


# deadlocks


@pytest.mark.parametrize("count", [2, 3, 10])
def test_a_circle_of_owners_is_broken_when_it_closes(res: Resources, count: int) -> None:
    for number in range(count):
        res.ground.wait(0.01)
        res.hold(f"has{number}", f"x/{number} X", owner=f"o{number}")
    for number in range(count - 1):
        res.queue(f"asks{number}", f"x/{number + 1} X", owner=f"o{number}")
    answer = res.ask(f"asks{count - 1}", "x/0 X", owner=f"o{count - 1}")
    assert isinstance(answer, Deadlocked)
    assert len(answer.cycle) == 2 * count
    assert answer.cycle[0] == f"o{count - 1} waits for X on x/0"
    assert answer.cycle[1] == "o0 holds X on x/0"
    assert answer.cycle[-1] == f"o{count - 1} holds X on x/{count - 1}"
    assert len(res.waiters) == count - 1
    (event,) = res.told("deadlocked")
    assert event.session == "s1"
    res.release(f"has{count - 1}")
    assert f"asks{count - 2}" in res.holders


@pytest.mark.parametrize("count", [2, 3, 10])
def test_a_circle_of_blocks_inside_blocks_is_broken(res: Resources, count: int) -> None:
    for number in range(count):
        res.hold(f"has{number}", f"x{number} X")
    for number in range(count - 1):
        res.queue(f"asks{number}", f"x{number + 1} S", within=(f"has{number}",))
    answer = res.ask(f"asks{count - 1}", "x0 IX", within=(f"has{count - 1}",))
    assert isinstance(answer, Deadlocked)
    assert len(answer.cycle) == 2 * count


def test_a_chain_that_does_not_close_is_no_deadlock(res: Resources) -> None:
    for number in range(10):
        res.hold(f"has{number}", f"x{number} X")
    for number in range(9):
        res.queue(f"asks{number}", f"x{number + 1} X", within=(f"has{number}",))
    res.queue("last", "x0 X")
    assert res.told("deadlocked") == []


def test_who_asks_inside_its_own_block_for_the_same_is_refused_at_once(res: Resources) -> None:
    res.hold("a", "x X")
    answer = res.ask("b", "x/y S", within=("a",))
    assert answer == Deadlocked(("session s1 waits for S on x/y", "session s1 holds X on x"))


def test_the_victim_is_the_youngest_task_of_the_lowest_priority(res: Resources) -> None:
    ground = res.ground
    for id in ("old", "young", "younger"):
        ground.submit(id)
        ground.wait(1)
    ground.claim(slots=3)
    lines = {"younger": 7.0, "young": 5.0, "old": 5.0}
    for number, task in enumerate(lines):
        res.hold(f"{task} has", f"x{number} X", task=task, attempt=1)
    for number, (task, priority) in enumerate(lines.items()):
        answer = res.ask(f"{task} asks", f"x{(number + 1) % 3} X", within=(f"{task} has",), task=task, attempt=1, priority=priority)
        ground.wait(1)
    assert answer == Waits("old asks")
    (event,) = res.told("deadlocked")
    assert '"victim":"young asks"' in (event.data or "")
    assert "task young waits for X on x2" in (event.data or "")
    assert res.waiters == ["old asks", "younger asks"]


def test_whom_a_victim_kept_waiting_is_granted(res: Resources) -> None:
    res.hold("a", "x X")
    res.hold("b", "y X", priority=9.0)
    res.queue("c", "y X", "z X", within=("a",), priority=1.0)
    res.queue("d", "z X", priority=0.0)
    assert res.ask("e", "x X", within=("b",), priority=9.0) == Waits("e")
    assert res.holders == ["a", "b", "d"]


def test_a_circle_may_run_behind_an_earlier_waiter(res: Resources) -> None:
    """Who waits behind a writer waits for that writer, though the reader that holds the lock is not in its way."""
    res.hold("reads", "x S")
    res.hold("other", "y X")
    res.queue("writer", "x X", within=("other",))
    answer = res.ask("more", "y S", within=("reads",))
    assert isinstance(answer, Deadlocked)
    res.hold("third", "z X")
    res.queue("behind", "x S", within=("third",))
    answer = res.ask("writer's", "z X", owner="w", within=("other",))
    assert answer == Waits("writer's")
    assert isinstance(res.ask("holder's", "z S", within=("reads",)), Deadlocked)


def family(ground: Ground) -> None:
    """A handler waits for its child, that one for its own."""
    ground.submit("parent")
    ground.claim()
    ground.submit("child", parent="parent", parent_attempt=1)
    ground.claim()
    ground.submit("grandchild", parent="child", parent_attempt=1)
    ground.claim()


@pytest.mark.parametrize("holder", ["parent", "child"])
def test_a_child_that_wants_what_its_waiting_parent_holds_is_refused(res: Resources, holder: str) -> None:
    family(res.ground)
    res.hold("a", "x X", task=holder, attempt=1)
    answer = res.ask("b", "x/y S", task="grandchild", attempt=1)
    assert answer == Deadlocked(("task grandchild waits for S on x/y", f"task {holder} holds X on x"))


def test_a_circle_may_run_through_a_parent_that_waits_for_its_child(res: Resources) -> None:
    family(res.ground)
    res.hold("parent has", "x X", task="parent", attempt=1)
    res.hold("other has", "y X")
    res.queue("other asks", "x X", within=("other has",))
    answer = res.ask("child asks", "y X", task="child", attempt=1, priority=4.0)
    assert isinstance(answer, Deadlocked)
    assert answer.cycle == (
        "task child waits for X on y", "session s1 holds X on y", "session s1 waits for X on x", "task parent holds X on x",
    )  # fmt: skip


def test_a_parents_earlier_attempt_does_not_wait_for_its_child(res: Resources) -> None:
    ground = res.ground
    family(ground)
    res.hold("a", "x X", task="parent", attempt=1)
    ground.fail("parent")
    ground.wait(1)
    ground.turn()
    assert ground.claim_ids() == ["parent"]
    res.queue("b", "x X", task="child", attempt=1)  # its handler is stopping, and will let go


def test_who_sent_a_message_does_not_wait_for_its_handler(res: Resources) -> None:
    ground = res.ground
    ground.submit("sender")
    ground.claim()
    inbox = Address("box", "a")
    row = messages.inbox_row(inbox)
    ground.do(registry.announce, Announce("s2", [row], messages.inbox_providers("i1", "s2", inbox, 1)))
    message = Submit("m1", "", '"hello"', kind="message", parent="sender", parent_attempt=1, step_key="!send 1")
    ground.do(messages.send, Send(message, Recipient.parse("box/a"), "s1"))
    assert ground.claim_ids("s2", "i1", 1, messages.inbox_label(inbox)) == ["m1"]
    res.hold("a", "x X", task="sender", attempt=1)
    res.queue("b", "x X", task="m1", attempt=1, session="s2")
    assert res.told("deadlocked") == []


def test_a_conversion_that_passes_a_waiter_may_close_a_circle(res: Resources) -> None:
    res.hold("a", "x IS")
    res.hold("b", "y X")
    res.hold("c", "x IX")
    res.queue("reader", "x S", within=("b",))
    res.queue("inside", "y X", within=("a",))
    answer = res.convert("a", "IX")
    assert isinstance(answer, Granted)
    (event,) = res.told("deadlocked")
    assert '"victim":"inside"' in (event.data or "")
    assert res.waiters == ["reader"]


def test_a_conversion_asked_for_inside_another_block_holds_that_up(res: Resources) -> None:
    res.hold("a", "x S")
    res.hold("b", "x S")
    res.hold("outer", "y X")
    res.queue("c", "y X", within=("b",))
    answer = res.convert("a", "X", within=("outer",))
    assert isinstance(answer, Deadlocked)


def test_a_grant_may_close_a_circle(res: Resources) -> None:
    """A better rank passes who waits: since then that one waits for another lock, inside of which somebody waits for it."""
    res.hold("h", "p X")
    res.hold("q", "q X")
    res.queue("w", "p X", "p2 X", within=("q",))
    res.queue("first", "q X", owner="ann")
    res.hold("second", "p2 X", owner="ann", priority=10.0)
    (event,) = res.told("deadlocked")
    assert '"victim":"first"' in (event.data or "")
    assert res.waiters == ["w"]


def test_the_locks_of_a_dead_session_close_no_circle(res: Resources) -> None:
    res.hold("a", "x X", owner="ann", session="s2")
    res.hold("b", "y X")

    def dead(rows: Any, now: float) -> None:
        row = rows.one(SESSION, "s2")
        rows.put(SESSION, row._replace(state="dead"))

    res.ground.store.transact_blocking(dead)
    res.queue("c", "y X", owner="ann")
    res.hold("d", "z X")
    res.queue("e", "z X", within=("b",))
    assert res.told("deadlocked") == []
    res.hold("f", "x X")
