"""Dead letters that were messages, among those that were tasks."""

from __future__ import annotations

from autogen_coord import Coordination, capability
from tests.acceptance.desk import Desk, providing


@capability
async def idle(text: str) -> str:
    return text


async def open_inbox(coord: Coordination) -> None:
    assert await coord.receive("writer", timeout=0) is None


def test_a_message_to_nobody_is_passed_over_by_requeue_all_and_refused_by_name(desk: Desk) -> None:
    with providing(desk.path, begin=open_inbox):
        pass
    assert desk.run("send", "topic:news", "x").code == 1  # a dead letter that can only be sent again
    expiring = desk.run("send", "writer", "y", "--ttl", "1s")
    assert expiring.code == 0
    with providing(desk.path, idle):  # which turns the clock
        dead = desk.run("tasks", "dead")
        while "inbox:writer/default" not in dead.out:
            dead = desk.run("tasks", "dead")
    assert "inbox:*" in dead.out
    (nobody,) = [line.split()[0] for line in dead.out.splitlines() if "inbox:*" in line]
    said = desk.run("tasks", "requeue", "--all")
    assert said.code == 0
    assert [line.split()[0] for line in said.out.splitlines()] == [expiring.out.split()[0]]
    assert "1 to nobody" in said.out + said.err
    said = desk.run("tasks", "requeue", nobody)
    assert said.code == 1
    assert "sent again" in said.err


def test_a_waiting_message_says_why_it_waits(desk: Desk) -> None:
    with providing(desk.path, begin=open_inbox):
        id = desk.run("send", "writer", "x").out.split()[0]
        assert "the next receive() takes it" in desk.run("tasks", "show", id).out
    assert "no receiver: nobody has the inbox of writer/default open" in desk.run("tasks", "show", id).out
