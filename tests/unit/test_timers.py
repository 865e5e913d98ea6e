"""What time alone does: each thing once, at its moment, whoever turns the clock."""

from __future__ import annotations

import pytest

from autogen_coord.core import claims, tasks, timers
from autogen_coord.core.claims import Reject
from autogen_coord.core.tasks import Cancel
from autogen_coord.core.timers import Turn
from tests.conftest import Ground


def test_a_delayed_task_is_ready_at_its_moment_and_not_before(work: Ground) -> None:
    work.submit("t", delay=10)
    work.wait(9.999)
    work.turn()
    assert work.state("t") == "delayed"
    assert work.claim_ids() == []
    work.wait(0.001)
    work.turn()
    assert work.state("t") == "ready"
    assert work.claim_ids() == ["t"]


def test_turning_twice_at_one_moment_does_nothing_more(work: Ground) -> None:
    work.submit("t", ttl=5)
    work.wait(5)
    work.turn()
    events = work.events()
    work.turn()
    assert work.events() == events


@pytest.mark.parametrize("state", ["ready", "delayed", "waiting", "running"])
def test_a_deadline_ends_a_task_in_any_state(work: Ground, state: str) -> None:
    if state == "waiting":
        work.submit("holder", lane="l")
    work.submit("t", deadline=10, lane="l" if state == "waiting" else None)
    if state in ("delayed", "running"):
        work.claim()
    if state == "delayed":
        work.fail("t", retry_after=1000.0)
    assert work.state("t") == state
    work.wait(10)
    work.turn()
    if state == "running":  # its own runner comes first; then anyone may
        assert work.state("t") == "running"
        work.wait(work.policy.cancel_grace)
        work.turn()
    assert work.state("t") == "expired"
    assert work.events("t")[-1] == "task.expired"


def test_anyone_may_end_an_attempt_past_its_deadline_and_grace(work: Ground) -> None:
    work.submit("t", deadline=10)
    work.claim()
    work.session("other")
    work.wait(15)
    work.do(timers.turn, Turn())
    assert work.state("t") == "expired"
    assert work.outcome("t").attempt == 1


def test_an_attempt_that_its_runner_forgot_times_out_and_is_retried(work: Ground) -> None:
    work.submit("t", timeout=10)
    work.claim()
    work.wait(10 + 2 * work.policy.cancel_grace - 0.1)
    work.turn()
    assert work.state("t") == "running"
    work.wait(0.2)
    work.turn()
    row = work.queue("t")
    assert (row.state, row.failures) == ("delayed", 1)
    assert [one.end for one in work.attempts("t")] == ["timeout"]


def test_the_ttl_is_the_latest_first_claim(work: Ground) -> None:
    work.submit("claimed", ttl=5)
    work.claim()
    work.submit("late", ttl=5)
    work.wait(5)
    work.turn()
    assert work.state("claimed") == "running"
    assert work.state("late") == "expired"


def test_a_cancel_is_forced_after_its_grace(work: Ground) -> None:
    work.submit("t")
    work.claim()
    work.do(tasks.cancel, Cancel("t"))
    work.wait(work.policy.cancel_grace - 0.1)
    work.turn()
    assert work.state("t") == "running"
    work.wait(0.1)
    work.turn()
    assert work.state("t") == "cancelled"


def test_one_turn_does_one_slice_and_says_that_there_is_more(work: Ground) -> None:
    work.settings(slice=10)
    for number in range(25):
        work.submit(f"t{number:02}", delay=1)
    work.wait(1)
    done = []
    while True:
        more = work.do(timers.turn, Turn())
        done.append(sum(work.state(f"t{number:02}") == "ready" for number in range(25)))
        if not more:
            break
    assert done == [10, 20, 25]


def test_many_retries_at_once_are_spread(work: Ground) -> None:
    for number in range(50):
        work.submit(f"t{number:02}", timeout=1)
    work.claim(slots=50)
    work.wait(1 + 2 * work.policy.cancel_grace)
    work.do(timers.turn, Turn(0.5))
    assert len({work.queue(f"t{number:02}").ready_at for number in range(50)}) == 50


def test_a_clock_that_steps_back_only_makes_things_late(work: Ground) -> None:
    work.submit("t", delay=10)
    work.wait(-3600)
    work.turn()
    assert work.state("t") == "delayed"
    work.submit("u")
    assert work.claim_ids() == ["u"]
    work.finish("u")
    work.wait(3611)
    work.turn()
    assert work.claim_ids() == ["t"]


def test_a_clock_that_jumps_forward_ends_what_is_due_and_no_more(work: Ground) -> None:
    work.submit("dated", deadline=60)
    work.submit("patient")
    work.wait(10 * 365 * 86_400)
    work.turn()
    assert work.state("dated") == "expired"
    assert work.state("patient") == "ready"


def test_the_pause_of_a_rejection_ends_by_itself(work: Ground) -> None:
    work.submit("t")
    work.claim()
    work.do(claims.reject, Reject("s1", "t", 1))
    assert work.state("t") == "delayed"
    work.wait(5)
    work.turn()
    assert work.claim_ids() == ["t"]
