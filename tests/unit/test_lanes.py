"""Lanes and sticky keys: one at a time, in order of rank, then submit."""

from __future__ import annotations

import pytest

from autogen_coord.core import claims, tasks
from autogen_coord.core.claims import GiveBack
from autogen_coord.core.store import Range
from autogen_coord.core.tables import QUEUE
from autogen_coord.core.tasks import Cancel
from tests.conftest import Ground


def holders(ground: Ground, lane: str = "l") -> list[str]:
    return [row.id for row in ground.scan(Range(QUEUE, "by_lane", (lane, 0)))]


def run(ground: Ground, id: str) -> None:
    assert ground.claim_ids(slots=9) == [id]
    ground.finish(id)


def test_one_of_a_lane_is_ready_and_the_others_wait(work: Ground) -> None:
    for id in "abc":
        work.submit(id, lane="l")
    work.submit("other", lane="m")
    work.submit("free")
    assert [work.state(id) for id in "abc"] == ["ready", "waiting", "waiting"]
    assert work.claim_ids(slots=9) == ["a", "other", "free"]


def test_a_lane_goes_in_order_of_rank_then_submit(work: Ground) -> None:
    work.submit("a", lane="l")
    work.claim()
    for id, priority in (("b", 5), ("c", 9), ("d", 5), ("e", 9)):
        work.submit(id, lane="l", priority=priority)
    work.finish("a")
    for id in "cebd":
        assert holders(work) == [id]
        run(work, id)
    assert holders(work) == []


def test_a_better_rank_overtakes_a_holder_that_was_never_claimed(work: Ground) -> None:
    work.submit("a", lane="l", priority=5)
    work.submit("b", lane="l", priority=9)
    assert holders(work) == ["b"]
    assert [work.state(id) for id in "ab"] == ["waiting", "ready"]
    run(work, "b")
    run(work, "a")


def test_a_holder_that_was_claimed_is_not_overtaken(work: Ground) -> None:
    work.submit("a", lane="l")
    work.claim()
    work.do(claims.give_back, GiveBack("s1", [("a", 1)]))
    work.submit("b", lane="l", priority=10)
    assert holders(work) == ["a"]


def test_a_delayed_retry_keeps_its_lane(work: Ground) -> None:
    work.submit("a", lane="l")
    work.submit("b", lane="l", priority=10)
    work.submit("c", lane="l")
    work.claim()
    work.fail("b")
    assert work.state("b") == "delayed"
    assert holders(work) == ["b"]
    assert work.claim_ids(slots=9) == []
    work.wait(8)
    work.turn()
    run_again = work.claim(slots=9)
    assert [(one.row.id, one.row.attempt) for one in run_again] == [("b", 2)]
    work.finish("b", 2)
    run(work, "a")
    run(work, "c")


def test_what_is_not_due_does_not_take_part(work: Ground) -> None:
    work.submit("later", lane="l", delay=10, priority=10)
    work.submit("now", lane="l")
    assert holders(work) == ["now"]
    work.claim()
    work.wait(10)
    work.turn()
    assert work.state("later") == "waiting"
    work.finish("now")
    run(work, "later")


@pytest.mark.parametrize("end", ["finish", "fail", "cancel ready", "cancel running", "expire", "crash"])
def test_however_the_holder_ends_the_next_is_promoted_in_its_transaction(work: Ground, end: str) -> None:
    work.session("s2")
    work.provide("s2", "p2")
    work.submit("a", lane="l", deadline=10 if end == "expire" else None)
    work.submit("b", lane="l")
    if end not in ("cancel ready", "expire"):
        work.claim()
    if end == "finish":
        work.finish("a")
    elif end == "fail":
        work.fail("a", retryable=False)
    elif end.startswith("cancel"):
        work.settings(cancel_grace=0.0)
        work.do(tasks.cancel, Cancel("a"))
        work.turn()
    elif end == "expire":
        work.wait(10)
        work.turn()
    else:
        work.kill("s1")
        assert holders(work) == ["a"]  # it keeps its place, as a suspect
        assert work.claim_ids("s2", "p2", 1, "work!alone") == ["a"]
        work.finish("a", 2, "s2")
    assert holders(work) == ["b"]
    assert work.state("b") == "ready"


def test_a_waiting_task_that_ends_promotes_nobody(work: Ground) -> None:
    for id in "abc":
        work.submit(id, lane="l")
    work.do(tasks.cancel, Cancel("b"))
    assert holders(work) == ["a"]
    assert work.state("c") == "waiting"
    run(work, "a")
    run(work, "c")


# sticky


def test_sticky_tasks_of_one_key_are_pinned_to_one_provider_and_are_a_lane(work: Ground) -> None:
    work.session("s2")
    work.provide("s2", "p2")
    for number in range(3):
        work.submit(f"t{number}", sticky="k")
    pools = {work.queue(f"t{number}").pool for number in range(3)}
    assert len(pools) == 1
    assert pools <= {"work@p1", "work@p2"}
    assert [work.state(f"t{number}") for number in range(3)] == ["ready", "waiting", "waiting"]


def test_sticky_keys_spread_over_the_providers(work: Ground) -> None:
    work.session("s2")
    work.provide("s2", "p2")
    for number in range(40):
        work.submit(f"t{number:02}", sticky=str(number))
    counts = [len(work.scan(Range(QUEUE, "ready", (f"work@{provider}",)))) for provider in ("p1", "p2")]
    assert sum(counts) == 40
    assert min(counts) > 5


def test_one_that_leaves_takes_no_other_keys_with_it(work: Ground) -> None:
    for number in range(2, 5):
        work.session(f"s{number}")
        work.provide(f"s{number}", f"p{number}")
    for number in range(40):
        work.submit(f"t{number:02}", sticky=str(number))
    before = {f"t{number:02}": work.queue(f"t{number:02}").pool for number in range(40)}
    work.kill("s4")
    after = {id: work.queue(id).pool for id in before}
    assert all(after[id] == pool for id, pool in before.items() if pool != "work@p4")
    assert all(after[id] != "work@p4" for id in before)


# nested


def test_a_child_in_the_lane_of_its_caller_has_a_lane_of_its_own(work: Ground) -> None:
    work.submit("p", lane="l")
    work.submit("next", lane="l")
    work.claim()
    for id in ("c1", "c2"):
        work.submit(id, lane="l", parent="p", parent_attempt=1, step_key=id)
    assert [work.state(id) for id in ("c1", "c2", "next")] == ["ready", "waiting", "waiting"]
    assert work.claim_ids(slots=9) == ["c1"]
    work.submit("g", lane="l", parent="c1", parent_attempt=1, step_key="g")
    assert work.claim_ids(slots=9) == ["g"]
    work.finish("g")
    work.finish("c1")
    run(work, "c2")
    assert work.state("next") == "waiting"
    work.finish("p")
    run(work, "next")


def test_a_child_in_another_lane_waits_its_turn_there(work: Ground) -> None:
    work.submit("p", lane="l")
    work.submit("m1", lane="m")
    work.claim(slots=9)
    work.submit("c", lane="m", parent="p", parent_attempt=1, step_key="c")
    assert work.state("c") == "waiting"
    work.finish("m1")
    assert work.state("c") == "ready"


def test_a_sticky_child_of_a_sticky_caller_is_nested_too(work: Ground) -> None:
    work.submit("p", sticky="k")
    work.claim()
    work.submit("c", sticky="k", parent="p", parent_attempt=1, step_key="c")
    assert work.claim_ids() == ["c"]
