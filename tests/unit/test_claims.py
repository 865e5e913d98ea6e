"""Claim, finish, give back, reject, crash, death: the rules, one command at a time."""

from __future__ import annotations

from typing import Any

import pytest

from autogen_coord.core import burial, claims, endings, tasks
from autogen_coord.core.claims import Claim, Disown, Finish, GiveBack, Progress, Reject, Serves, Want
from autogen_coord.core.tables import PROVIDER, QUEUE, TaskState
from autogen_coord.core.tasks import Cancel
from autogen_coord.errors import LeaseLostError, StaleClaimError
from tests.conftest import Ground

ALONE = ("work!alone", "work@p1!alone", "work@p2!alone")


@pytest.fixture
def two(work: Ground) -> Ground:
    """Sessions ``s1`` and ``s2`` with the providers ``p1`` and ``p2``."""
    work.session("s2")
    work.provide("s2", "p2")
    return work


def test_a_claim_takes_the_best_and_no_more_than_its_slots(work: Ground) -> None:
    for number in range(5):
        work.submit(f"t{number}", priority=number)
    assert work.claim_ids(slots=2) == ["t4", "t3"]
    row = work.queue("t4")
    assert (row.state, row.attempt, row.session, row.provider, row.started_at) == ("running", 1, "s1", "p1", work.now)
    assert work.events("t4") == ["task.delegated", "task.accepted", "task.started"]


def test_a_task_is_claimed_once(two: Ground) -> None:
    two.submit("t")
    assert two.claim_ids("s1", "p1") == ["t"]
    assert two.claim_ids("s2", "p2") == []


def test_a_claim_says_which_pools_are_dry(work: Ground) -> None:
    work.submit("t")
    answer = work.do(claims.claim, Claim("s1", [Want.of(("work", "work@p1"), "p1", 1)]))
    assert "work@p1" in answer.dry
    assert "work" in work.do(claims.claim, Claim("s1", [Want.of(("work",), "p1", 1)])).dry


def test_a_dead_session_claims_nothing(work: Ground) -> None:
    work.submit("t")
    work.kill("s1")
    with pytest.raises(LeaseLostError):
        work.claim()
    assert work.state("t") == "ready"


@pytest.mark.parametrize("what", ["deadline", "ttl"])
def test_what_is_too_late_expires_instead_of_being_claimed(work: Ground, what: str) -> None:
    options: dict[str, Any] = {what: 5}
    work.submit("t", **options)
    work.submit("u")
    work.wait(5)
    assert work.claim_ids(slots=2) == ["u"]
    assert work.state("t") == "expired"
    assert work.outcome("t").attempt == 0


def test_after_the_first_claim_the_ttl_is_over(work: Ground) -> None:
    work.submit("t", ttl=5)
    work.claim()
    work.wait(4)
    work.fail("t")
    work.wait(50)
    work.turn()
    assert work.claim_ids() == ["t"]


# finish


def test_a_finish_writes_the_outcome_with_its_attempt(work: Ground) -> None:
    work.submit("t")
    work.claim()
    work.wait(2)
    outcome = work.finish("t")
    assert outcome is not None
    assert (outcome.state, outcome.output, outcome.attempt, outcome.session, outcome.provider) == (
        "succeeded", '"y"', 1, "s1", "p1",
    )  # fmt: skip
    assert (outcome.started_at, outcome.finished_at) == (work.now - 2, work.now)
    assert work.get(QUEUE, "t") is None


def test_the_same_finish_once_more_hears_the_same_outcome(work: Ground) -> None:
    work.submit("t")
    work.claim()
    first = work.finish("t")
    work.wait(1)
    assert work.finish("t") == first
    assert work.events("t").count("task.completed") == 1


def test_a_stale_worker_cannot_finish_a_reclaimed_task(two: Ground) -> None:
    two.submit("t")
    two.claim("s1", "p1")
    two.kill("s1")
    with pytest.raises(StaleClaimError):
        two.finish("t", 1, "s1")
    assert two.claim_ids("s2", "p2", 1, *ALONE) == ["t"]
    with pytest.raises(StaleClaimError):
        two.finish("t", 1, "s1")
    with pytest.raises(StaleClaimError):
        two.finish("t", 2, "s1")  # the right number, another's claim
    with pytest.raises(StaleClaimError):
        two.finish("t", 1, "s2")  # the right session, an old number
    assert two.finish("t", 2, "s2") is not None
    with pytest.raises(StaleClaimError):
        two.finish("t", 1, "s1")


def test_another_living_session_cannot_end_or_report_my_attempt(two: Ground) -> None:
    two.submit("t")
    two.claim("s2", "p2")
    with pytest.raises(StaleClaimError):
        two.finish("t", 1, "s1")
    with pytest.raises(StaleClaimError):
        two.do(claims.reject, Reject("s1", "t", 1))
    with pytest.raises(StaleClaimError):
        two.do(claims.progress, Progress("s1", "t", 1, "{}"))
    assert two.do(claims.give_back, GiveBack("s1", [("t", 1)])) == 0
    assert two.state("t") == "running"


@pytest.mark.parametrize("state", ["ready", "delayed", "ended", "none"])
def test_a_finish_requires_a_running_task(work: Ground, state: str) -> None:
    if state != "none":
        work.submit("t")
        work.claim()
    if state == "ready":
        work.do(claims.give_back, GiveBack("s1", [("t", 1)]))
    elif state == "delayed":
        work.fail("t")
    elif state == "ended":
        work.do(claims.finish, Finish("s1", "t", 1, TaskState.CANCELLED))
    if state != "none":
        assert work.state("t") == {"ready": "ready", "delayed": "delayed", "ended": "cancelled"}[state]
    with pytest.raises(StaleClaimError):
        work.finish("t")


def test_a_claim_of_a_session_that_was_declared_dead_is_void_before_it_is_buried(work: Ground) -> None:
    work.submit("t")
    work.claim()
    work.session("judge")
    work.wait(work.policy.session_ttl + 1)
    work.renew("judge")

    assert not work.declare("s1", "judge")  # it was late itself
    for _ in range(8):
        work.wait(0.5)
        work.renew("judge")
    assert work.declare("s1", "judge")
    assert work.state("t") == "running"  # not buried yet
    with pytest.raises(StaleClaimError):
        work.finish("t")


def test_attempts_only_grow(two: Ground) -> None:
    two.submit("t")
    seen = []
    session, provider = "s1", "p1"
    for end in ("fail", "give back", "reject", "crash", "finish"):
        (one,) = two.claim(session, provider, 1, "work", f"work@{provider}", *ALONE)
        row = one.row
        seen.append(row.attempt)
        if end == "fail":
            two.fail("t", row.attempt, session)
        elif end == "give back":
            two.do(claims.give_back, GiveBack(session, [("t", row.attempt)]))
        elif end == "reject":
            two.do(claims.reject, Reject(session, "t", row.attempt))
        elif end == "crash":
            two.kill(session)
            session, provider = "s2", "p2"
        else:
            two.finish("t", row.attempt, session)
        two.wait(20)
        two.turn()
    assert seen == [1, 2, 3, 4, 5]
    outcome = two.outcome("t")
    assert (outcome.attempt, outcome.failures, outcome.crashes) == (5, 1, 0)
    assert [(one.number, one.end) for one in two.attempts("t")] == [
        (1, "failed"), (2, "released"), (3, "rejected"), (4, "crashed"),
    ]  # fmt: skip


# failures


def test_a_failure_with_tries_left_is_delayed_by_a_drawn_share_of_the_backoff(work: Ground) -> None:
    work.submit("t")
    for attempt, most in ((1, 1.0), (2, 2.0)):
        assert work.claim_ids() == ["t"]
        assert work.fail("t", attempt, draw=0.25) is None
        row = work.queue("t")
        assert (row.state, row.failures, row.session) == ("delayed", attempt, None)
        assert row.ready_at == work.now + most * 0.25
        work.wait(most)
        work.turn()
    work.claim()
    outcome = work.fail("t", 3)
    assert outcome is not None
    assert (outcome.state, outcome.failures) == ("failed", 3)


def test_what_another_try_would_only_meet_again_is_not_retried(work: Ground) -> None:
    work.submit("t")
    work.claim()
    outcome = work.fail("t", retryable=False)
    assert outcome is not None
    assert outcome.state == "failed"


def test_retry_after_takes_the_place_of_the_backoff(work: Ground) -> None:
    work.submit("t")
    work.claim()
    work.fail("t", retry_after=77.0)
    assert work.queue("t").ready_at == work.now + 77


def test_errors_are_bounded(work: Ground) -> None:
    work.submit("t")
    work.claim()
    work.fail("t", text="x" * 1_000_000, traceback="y" * 1_000_000, type="z" * 1_000_000)
    (attempt,) = work.attempts("t")
    assert attempt.error is not None
    assert len(attempt.error) < endings.ERROR_BYTES


# giving back


def test_what_is_given_back_is_neither_a_failure_nor_a_crash(work: Ground) -> None:
    work.submit("t")
    work.claim()
    assert work.do(claims.give_back, GiveBack("s1", [("t", 1), ("none", 1), ("t", 7)])) == 1
    row = work.queue("t")
    assert (row.state, row.failures, row.crashes, row.suspect, row.attempt) == ("ready", 0, 0, 0, 1)


def test_disown_returns_what_the_process_does_not_know_of(work: Ground) -> None:
    for id in "abc":
        work.submit(id)
    work.claim(slots=3)
    assert work.do(claims.disown, Disown("s1", [("b", 1)])) == 2
    assert [work.state(id) for id in "abc"] == ["ready", "running", "ready"]


# reject


def test_a_rejected_task_goes_to_another_and_back_after_the_pause(two: Ground) -> None:
    two.submit("t")
    two.claim("s1", "p1")
    two.do(claims.reject, Reject("s1", "t", 1, "no"))
    assert two.claim_ids("s1", "p1") == []
    row = two.queue("t")
    assert (row.failures, row.crashes, row.state) == (0, 0, "ready")
    two.wait(4.9)
    two.turn()
    assert two.claim_ids("s1", "p1") == []
    two.wait(0.2)
    two.turn()
    two.renew("s1")
    two.renew("s2")
    assert two.claim_ids("s1", "p1") == ["t"]
    two.do(claims.reject, Reject("s1", "t", 2, "no"))
    assert two.claim_ids("s2", "p2") == ["t"]
    assert two.events("t").count("task.rejected") == 2


def test_whom_all_reject_waits_for_the_first_pause_to_end(two: Ground) -> None:
    two.submit("t")
    two.claim("s1", "p1")
    two.do(claims.reject, Reject("s1", "t", 1))
    two.wait(2)
    two.claim("s2", "p2")
    two.do(claims.reject, Reject("s2", "t", 2))
    row = two.queue("t")
    assert (row.state, row.ready_at) == ("delayed", two.now + 3)
    two.wait(3)
    two.turn()
    assert two.claim_ids("s2", "p2") == ["t"]  # whoever comes first


def test_a_rejected_task_finds_its_way_when_the_other_provider_leaves(two: Ground) -> None:
    two.submit("t")
    two.claim("s1", "p1")
    two.do(claims.reject, Reject("s1", "t", 1))
    assert two.queue("t").pool == "work@p2"
    two.kill("s2")
    two.wait(6)
    two.turn()
    assert two.claim_ids("s1", "p1", 1, "work", "work@p1") == ["t"]


def test_only_a_claim_that_stands_may_reject_or_report(work: Ground) -> None:
    work.submit("t")
    work.claim()
    work.do(claims.progress, Progress("s1", "t", 1, '{"fraction":0.5}'))
    assert work.queue("t").progress == '{"fraction":0.5}'
    work.fail("t")
    assert work.queue("t").progress is None
    with pytest.raises(StaleClaimError):
        work.do(claims.progress, Progress("s1", "t", 1, "{}"))
    with pytest.raises(StaleClaimError):
        work.do(claims.reject, Reject("s1", "t", 1))


# death


def test_a_death_makes_suspects_of_what_ran_and_of_nothing_else(two: Ground) -> None:
    two.submit("ran")
    two.claim("s1", "p1")
    two.submit("waits")
    two.kill("s1")
    ran, waits = two.queue("ran"), two.queue("waits")
    assert (ran.state, ran.pool, ran.suspect, ran.crashes, ran.attempt) == ("ready", "work!alone", 1, 0, 1)
    assert (waits.pool, waits.suspect) == ("work", 0)
    assert two.events("ran")[-1] == "task.retried"


def test_only_a_crash_while_alone_counts_and_three_end_the_task(two: Ground) -> None:
    two.submit("t")
    two.claim("s1", "p1")
    two.kill("s1")
    for life in range(1, 4):
        assert two.queue("t").crashes == life - 1
        session = two.session(f"x{life}")
        two.provide(session, f"q{life}")
        assert two.claim_ids(session, f"q{life}", 1, *ALONE) == ["t"]
        two.kill(session)
    outcome = two.outcome("t")
    assert (outcome.state, outcome.crashes, outcome.failures, outcome.attempt) == ("failed", 3, 0, 4)
    assert '"crashed"' in (outcome.error or "")


def test_a_suspect_that_succeeds_or_fails_alone_is_no_suspect_any_more(two: Ground) -> None:
    two.submit("t")
    two.claim("s1", "p1")
    two.kill("s1")
    two.claim("s2", "p2", 1, *ALONE)
    two.fail("t", 2, "s2")
    row = two.queue("t")
    assert (row.suspect, row.pool) == (0, "work")


def test_burial_takes_slices_and_comes_to_an_end(two: Ground) -> None:
    two.settings(slice=30)
    for number in range(95):
        two.submit(f"t{number:02}")
    assert len(two.claim("s1", "p1", 95)) == 95

    def dead(rows: object, command: str, now: float, policy: object) -> None:
        from autogen_coord.core.tables import SESSION

        (row,) = rows.get(SESSION, (command,))  # type: ignore[attr-defined]
        rows.put(SESSION, row._replace(state="dead"))  # type: ignore[attr-defined]

    two.do(dead, "s1")
    more, rounds = True, 0
    while more:
        left = sum(two.state(f"t{number:02}") == "running" for number in range(95))
        more = two.do(burial.bury, burial.Bury("s1"))
        assert left - sum(two.state(f"t{number:02}") == "running" for number in range(95)) <= 30
        rounds += 1
        assert rounds < 20
    assert {two.state(f"t{number:02}") for number in range(95)} == {"ready"}
    assert two.session_row("s1").state == "gone"
    assert two.get(PROVIDER, "p1").status == "offline"
    assert two.do(burial.bury, burial.Bury("s1")) is False


def test_a_cancelled_task_of_a_dead_process_is_cancelled(work: Ground) -> None:
    work.submit("t")
    work.claim()
    work.do(tasks.cancel, Cancel("t"))
    work.kill("s1")
    assert work.state("t") == "cancelled"


def test_a_late_task_of_a_dead_process_is_expired(work: Ground) -> None:
    work.submit("t", deadline=1)
    work.claim()
    work.wait(2)
    work.kill("s1")
    assert work.state("t") == "expired"


def test_an_addressed_task_of_a_dead_provider_ends(two: Ground) -> None:
    two.submit("ran", target="p1")
    two.claim("s1", "p1")
    two.submit("waits", target="p1")
    two.kill("s1")
    assert two.state("ran") == two.state("waits") == "failed"
    assert '"crashed"' in (two.outcome("ran").error or "")
    assert '"no_provider"' in (two.outcome("waits").error or "")


# by name


def test_a_claim_by_name_takes_a_child_whatever_its_rank(work: Ground) -> None:
    work.submit("first", priority=10)
    work.submit("child", priority=0)
    command = Claim("s1", [], ("child", "none"), (Serves.of("work", "p1"),))
    assert [one.row.id for one in work.do(claims.claim, command).claimed] == ["child"]
    assert work.do(claims.claim, command).claimed == []


def test_a_suspect_child_is_claimed_by_name_only_where_nobody_works(two: Ground) -> None:
    two.submit("a")
    two.submit("b")
    two.claim("s1", "p1", 2)
    two.kill("s1")
    serves = (Serves.of("work", "p2"),)
    assert two.do(claims.claim, Claim("s2", [], ("a", "b"), serves, alone=False)).claimed == []
    assert [one.row.id for one in two.do(claims.claim, Claim("s2", [], ("a", "b"), serves, alone=True)).claimed] == ["a"]


def test_a_child_for_another_provider_is_not_claimed_by_name(two: Ground) -> None:
    two.submit("t", target="p1")
    assert two.do(claims.claim, Claim("s2", [], ("t",), (Serves.of("work", "p2"),))).claimed == []
