"""Submit, cancel, requeue, broadcast, children: the rules, one command at a time."""

from __future__ import annotations

from typing import Any

import pytest

from autogen_coord.core import bodies, tasks
from autogen_coord.core.tables import BLOB, TASK
from autogen_coord.core.tasks import Broadcast, Cancel, Requeue, Submit
from autogen_coord.errors import (
    DeadlockError,
    DuplicateTaskError,
    InvalidInputError,
    NoProviderError,
    NotFoundError,
    StaleClaimError,
)
from tests.conftest import Ground

HASH = bodies.digest('"x"')


def test_a_submit_is_ready_at_once_with_its_event(work: Ground) -> None:
    answer = work.submit("t")
    assert (answer.id, answer.created) == ("t", True)
    row = work.queue("t")
    assert (row.state, row.pool, row.attempt) == ("ready", "work", 0)
    assert row.seq == work.get(TASK, "t").seq
    assert work.events("t") == ["task.delegated"]


def test_a_submit_repeated_after_a_lost_answer_is_the_same_task(work: Ground) -> None:
    work.submit("t")
    again = work.submit("t")
    assert (again.id, again.created, again.outcome) == ("t", False, None)
    work.claim()
    work.finish("t")
    outcome = work.submit("t").outcome
    assert outcome is not None
    assert outcome.output == '"y"'
    assert work.events("t").count("task.delegated") == 1


def test_an_unknown_capability_is_refused_with_near_names(work: Ground) -> None:
    with pytest.raises(NoProviderError) as caught:
        work.submit("t", "wrok")
    assert caught.value.near == ["work"]
    assert work.get(TASK, "t") is None


def test_a_refused_submit_changes_no_row(work: Ground) -> None:
    before = work.events()
    with pytest.raises(NoProviderError):
        work.submit("t", target="p9")
    assert work.events() == before


def test_rank_is_the_moment_less_what_priority_is_worth(work: Ground) -> None:
    work.submit("low", priority=0)
    work.submit("high", priority=10)
    assert work.queue("low").rank == work.now
    assert work.queue("high").rank == work.now - 10 * work.policy.priority_weight
    work.submit("later", priority=0, delay=50)
    assert work.queue("later").rank == work.now + 50


def test_waiting_makes_up_for_priority(work: Ground) -> None:
    work.submit("old", priority=4)
    work.wait(30.5)  # a point is worth 30 s
    work.submit("young", priority=5)
    work.submit("urgent", priority=9)
    assert work.claim_ids(slots=3) == ["urgent", "old", "young"]


def test_times_count_from_the_moment_a_task_may_start(work: Ground) -> None:
    work.submit("t", delay=10, deadline=20, ttl=5, timeout=3)
    row = work.queue("t")
    assert (row.state, row.ready_at, row.deadline, row.expires_at, row.timeout) == (
        "delayed", work.now + 10, work.now + 30, work.now + 15, 3,
    )  # fmt: skip
    work.submit("u", at=work.now + 7, deadline=1)
    assert work.queue("u").deadline == work.now + 8


# keys


def test_a_key_finds_the_task_live_and_finished(work: Ground) -> None:
    work.submit("t1", key="k", input_hash=HASH)
    assert work.submit("t2", key="k", input_hash=HASH) == ("t1", False, None)
    work.claim()
    work.finish("t1")
    found = work.submit("t3", key="k", input_hash=HASH)
    assert (found.id, found.created) == ("t1", False)
    assert found.outcome is not None
    assert found.outcome.state == "succeeded"


def test_another_input_under_a_key_is_a_duplicate(work: Ground) -> None:
    work.submit("t1", key="k", input_hash=HASH)
    with pytest.raises(DuplicateTaskError) as caught:
        work.submit("t2", key="k", input='"z"', input_hash=bodies.digest('"z"'))
    assert caught.value.task_id == "t1"


def test_retry_failed_makes_a_new_task_and_the_key_is_its(work: Ground) -> None:
    work.submit("t1", key="k", input_hash=HASH)
    work.claim()
    work.fail("t1", retryable=False)
    assert work.submit("t2", key="k", input_hash=HASH).id == "t1"
    assert work.submit("t3", key="k", input_hash=HASH, retry_failed=True).created
    assert work.submit("t4", key="k", input_hash=HASH, retry_failed=True).id == "t3"


def test_keys_of_two_capabilities_are_apart(work: Ground) -> None:
    work.provide(provider="p2", label="other")
    assert work.submit("t1", key="k", input_hash=HASH).created
    assert work.submit("t2", "other", key="k", input_hash=HASH).created


# cancel


@pytest.mark.parametrize("how", ["ready", "delayed", "waiting"])
def test_what_does_not_run_is_cancelled_at_once(work: Ground, how: str) -> None:
    if how == "waiting":
        work.submit("holder", lane="l")
    work.submit("t", delay=5 if how == "delayed" else 0, lane="l" if how == "waiting" else None)
    assert work.state("t") == how
    assert work.do(tasks.cancel, Cancel("t")) is True
    assert work.state("t") == "cancelled"
    assert work.events("t")[-1] == "task.cancelled"
    assert work.do(tasks.cancel, Cancel("t")) is False


def test_a_running_task_is_asked_first(work: Ground) -> None:
    work.submit("t")
    work.claim()
    assert work.do(tasks.cancel, Cancel("t")) is True
    assert work.state("t") == "running"
    assert work.queue("t").cancel_at == work.now + work.policy.cancel_grace
    assert work.events("t")[-1] == "task.cancelling"
    work.wait(2)
    work.do(tasks.cancel, Cancel("t"))
    assert work.queue("t").cancel_at == work.now + work.policy.cancel_grace - 2  # the grace does not begin anew
    assert work.events("t").count("task.cancelling") == 1


def test_the_first_terminal_write_wins(work: Ground) -> None:
    work.submit("t")
    work.claim()
    work.do(tasks.cancel, Cancel("t"))
    work.finish("t")
    assert work.state("t") == "succeeded"
    work.wait(100)
    work.turn()
    assert work.state("t") == "succeeded"
    assert work.events("t")[-1] == "task.completed"


def test_a_task_nobody_submitted_cannot_be_cancelled(work: Ground) -> None:
    with pytest.raises(NotFoundError):
        work.do(tasks.cancel, Cancel("none"))


# children


def child(work: Ground, id: str, parent: str, attempt: int = 1, step: str | None = None, **more: Any) -> tasks.Submitted:
    return work.submit(id, parent=parent, parent_attempt=attempt, step_key=step or id, **more)


def test_a_childs_deadline_is_at_most_its_parents(work: Ground) -> None:
    work.submit("p", deadline=100)
    work.claim()
    child(work, "c1", "p")
    child(work, "c2", "p", deadline=500)
    child(work, "c3", "p", deadline=10)
    assert [work.queue(id).deadline - work.now for id in ("c1", "c2", "c3")] == [100, 100, 10]  # type: ignore[operator]


def test_only_a_claim_that_stands_may_have_children(work: Ground) -> None:
    work.submit("p")
    with pytest.raises(StaleClaimError):
        child(work, "c", "p")
    work.claim()
    work.fail("p")
    with pytest.raises(StaleClaimError):
        child(work, "c", "p")
    work.wait(10)
    work.turn()
    work.claim()
    with pytest.raises(StaleClaimError):
        child(work, "c", "p", attempt=1)
    child(work, "c", "p", attempt=2)
    work.kill("s1")
    with pytest.raises(StaleClaimError):
        child(work, "d", "p", attempt=2)


def test_a_repeated_attempt_finds_its_children(work: Ground) -> None:
    work.submit("p")
    work.claim()
    child(work, "good", "p", step="1")
    child(work, "bad", "p", step="2")
    child(work, "runs", "p", step="3")
    assert work.claim_ids(slots=3) == ["good", "bad", "runs"]
    work.finish("good")
    work.fail("bad", retryable=False)
    work.fail("p")
    work.wait(10)
    work.turn()
    work.claim()
    assert child(work, "g2", "p", 2, step="1").id == "good"
    assert child(work, "b2", "p", 2, step="2") == ("b2", True, None)
    assert child(work, "r2", "p", 2, step="3") == ("runs", False, None)
    assert work.queue("p").waits_for == "runs"


@pytest.mark.parametrize("end", ["cancel", "fail", "expire"])
def test_live_children_end_with_their_parent_in_the_same_transaction(work: Ground, end: str) -> None:
    work.submit("p", deadline=10 if end == "expire" else None)
    work.claim()
    child(work, "queued", "p")
    child(work, "runs", "p", priority=10)
    work.claim()
    child(work, "grandchild", "runs")
    assert [work.state(id) for id in ("queued", "runs", "grandchild")] == ["ready", "running", "ready"]
    if end == "cancel":
        work.do(tasks.cancel, Cancel("p"))
    elif end == "fail":
        work.fail("p", retryable=False)
    else:
        work.settings(cancel_grace=0.0)
        work.wait(10)
        work.turn()
    assert work.state("queued") in (("cancelled",) if end != "expire" else ("cancelled", "expired"))
    assert work.state("grandchild") in (("cancelled",) if end != "expire" else ("cancelled", "expired"))
    if end != "expire":
        assert work.queue("runs").cancel_at is not None


def test_children_outlive_the_success_of_their_parent(work: Ground) -> None:
    work.submit("p")
    work.claim()
    child(work, "c", "p")
    work.finish("p")
    assert work.state("c") == "ready"


def test_a_key_that_names_a_caller_is_a_deadlock(work: Ground) -> None:
    work.submit("a", key="a", input_hash=HASH)
    work.claim()
    child(work, "b", "a", key="b", input_hash=HASH)
    work.claim()
    with pytest.raises(DeadlockError) as caught:
        child(work, "c", "b", step="x", key="a", input_hash=HASH)
    assert caught.value.cycle == ["b", "a", "b"]
    assert work.queue("b").waits_for is None


# requeue


def test_requeue_makes_a_new_task_of_a_dead_letter_only(work: Ground) -> None:
    work.submit("t", key="k", input_hash=HASH, deadline=50, ttl=20, priority=8, timeout=7, lane="l")
    with pytest.raises(InvalidInputError):
        work.do(tasks.requeue, Requeue("t", "u"))
    work.claim()
    work.fail("t", retryable=False)
    work.wait(1_000)
    assert work.do(tasks.requeue, Requeue("t", "u")) == ("u", True, None)
    task, row = work.get(TASK, "u"), work.queue("u")
    assert (task.requeued_from, task.key, task.lane, task.priority, task.timeout) == ("t", "k", "l", 8, 7)
    assert (row.deadline, row.expires_at, row.attempt) == (work.now + 50, work.now + 20, 0)
    assert work.state("t") == "failed"
    assert work.do(tasks.requeue, Requeue("t", "u")).created is False  # the command once more
    with pytest.raises(NotFoundError):
        work.do(tasks.requeue, Requeue("none", "v"))


# broadcast


def test_a_broadcast_is_one_addressed_task_for_each_provider_online_now(work: Ground) -> None:
    work.session("s2")
    work.provide("s2", "p2")
    work.session("s3")
    work.provide("s3", "p3")
    work.kill("s3")
    template = Submit("b", "work", '"x"', correlation="b")
    sent = work.do(tasks.broadcast, Broadcast(template, ("t1", "t2", "t3", "t4")))
    assert sent.tasks == [("p1", "t1"), ("p2", "t2")]
    work.session("s4")
    work.provide("s4", "p4")
    assert work.do(tasks.broadcast, Broadcast(template, ("t5", "t6", "t7"))).tasks == sent.tasks  # the command once more
    assert work.claim_ids("s4", "p4", 9) == []
    assert work.claim_ids("s2", "p2", 9) == ["t2"]
    assert work.claim_ids("s1", "p1", 9) == ["t1"]


def test_a_broadcast_to_nobody_is_refused(work: Ground) -> None:
    work.kill("s1")
    with pytest.raises(NoProviderError):
        work.do(tasks.broadcast, Broadcast(Submit("b", "work", '"x"', correlation="b"), ("t1",)))


# bodies


def test_a_large_input_is_one_blob_with_a_count(work: Ground) -> None:
    big = '"' + "a" * 20_000 + '"'
    work.submit("t", input=big)
    work.submit("u", input=big)
    task = work.get(TASK, "t")
    assert task.input is None
    assert work.get(BLOB, task.input_blob).refs == 2
    assert [one.input for one in work.claim(slots=2)] == [big, big]
