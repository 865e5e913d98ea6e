"""Locks that grow: conversions, and what an owner holds already."""

from __future__ import annotations

import pytest

from autogen_coord.core.lock_queue import Want
from autogen_coord.core.locks import Deadlocked, Granted, Waits
from autogen_coord.errors import LockHeldError
from tests.conftest import Ground
from tests.unit.resources import Resources


@pytest.fixture
def res(work: Ground) -> Resources:
    work.session("s2")
    work.session("s3")
    return Resources(work)


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
    assert res.convert("a", "X") == Waits("a+")
    assert "a x S" in res.held
    res.release("b")
    assert res.held == ["a x X"]
    assert res.waiters == ["c"]


def test_a_conversion_that_gives_up_keeps_what_it_had(res: Resources) -> None:
    granted = res.hold("a", "x S")
    res.hold("b", "x S", session="s2")
    with pytest.raises(LockHeldError):
        res.convert("a", "X", wait=False)
    assert res.convert("a", "X") == Waits("a+")
    assert res.convert("a", "X") == Waits("a+"), "once more is the same"
    refusal = res.give_up("a+")
    assert isinstance(refusal, LockHeldError)
    assert refusal.facts["holder"] == "session s2"
    assert (res.waiters, res.holders) == ([], ["a", "b"])
    res.write(res.guard(granted), "x", "S")


def test_a_conversion_takes_the_place_of_one_that_nobody_awaits_any_more(res: Resources) -> None:
    res.hold("a", "x IS")
    res.hold("b", "x S")
    assert res.convert("a", "IX", request="first") == Waits("first")
    assert res.convert("a", "X", request="second") == Waits("second")
    assert res.waiters == ["second"]
    assert res.give_up("first", lease="a") is None, "it comes late, and takes nothing from the second"
    res.release("b")
    assert res.held == ["a x X"]


def test_who_waited_behind_a_conversion_that_was_replaced_is_granted(res: Resources) -> None:
    res.hold("a", "x IS")
    res.hold("b", "x IX")
    res.convert("a", "S", request="first")
    res.queue("c", "x IX")
    assert isinstance(res.convert("a", "IX", request="second"), Granted)
    assert res.held == ["a x IX", "b x IX", "c x IX"]


def test_a_conversion_that_was_granted_answers_to_its_own_request_only(res: Resources) -> None:
    res.hold("a", "x S")
    res.hold("b", "x S")
    res.convert("a", "X", request="first")
    res.release("b")
    assert res.give_up("other", lease="a") is None
    granted = res.give_up("first", lease="a")
    assert isinstance(granted, Granted)
    assert granted.id == "a"


def test_of_two_readers_that_both_convert_the_second_is_refused_at_once(res: Resources) -> None:
    res.hold("a", "x S")
    res.ground.wait(1)
    res.hold("b", "x S", session="s2")
    assert res.convert("a", "X") == Waits("a+")
    answer = res.convert("b", "X", session="s2")
    assert isinstance(answer, Deadlocked)
    assert answer.cycle == (
        "session s2 waits for X on x", "session s1 holds S on x", "session s1 waits for X on x", "session s2 holds S on x",
    )  # fmt: skip
    assert (res.holders, res.waiters) == (["a", "b"], ["a+"])
    res.release("b", "s2")
    assert res.held == ["a x X"]


def test_conversions_that_wait_are_granted_in_their_order(res: Resources) -> None:
    for id in "abc":
        res.hold(id, "x IS")
    res.hold("d", "x IX")
    assert res.convert("c", "S") == Waits("c+")
    assert res.convert("a", "SIX") == Waits("a+")
    res.release("d")
    assert res.held == ["a x IS", "b x IS", "c x S"]
    res.release("c")
    assert res.held == ["a x SIX", "b x IS"]


def test_behind_a_conversion_that_cannot_be_granted_others_are(res: Resources) -> None:
    res.hold("a", "x IS")
    res.hold("b", "x IS")
    res.hold("d", "x IX")
    assert res.convert("a", "X") == Waits("a+")
    assert res.convert("b", "S") == Waits("b+")
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
