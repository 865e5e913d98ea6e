"""Deadlocks of locks: each is broken when it closes, and none is seen where there is none."""

from __future__ import annotations

from typing import Any

import pytest

from autogen_coord.core import messages, registry
from autogen_coord.core.addresses import Address, Recipient
from autogen_coord.core.locks import Deadlocked, Granted, Waits
from autogen_coord.core.messages import Send
from autogen_coord.core.registry import Announce
from autogen_coord.core.tables import SESSION
from autogen_coord.core.tasks import Submit
from tests.conftest import Ground
from tests.unit.resources import Resources


@pytest.fixture
def res(work: Ground) -> Resources:
    work.session("s2")
    work.session("s3")
    return Resources(work)


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
