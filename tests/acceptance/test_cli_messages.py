"""``send`` and ``receive``: what is sent, who gets it, and what becomes of it."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from autogen_coord import Coordination
from autogen_coord.settings import DAY
from tests.acceptance.desk import Desk, providing


async def open_inboxes(coord: Coordination) -> None:
    """Two agents that take messages, one of them of a topic."""
    for agent in ("writer", "editor/eve"):
        assert await coord.receive(agent, timeout=0) is None
    await coord.subscribe("news", "writer")


@pytest.fixture
def desk(desk: Desk) -> Desk:
    """A store where both agents were seen; nobody is there now."""
    with providing(desk.path, begin=open_inboxes):
        pass
    return desk


def send(desk: Desk, *args: str) -> str:
    """Send to one agent; the message's id."""
    said = desk.run("send", *args)
    assert (said.code, said.err) == (0, "")
    return said.out.split()[0]


def receive(desk: Desk, recipient: str = "writer", *args: str) -> list[dict[str, Any]]:
    """All that is there for an agent."""
    said = desk.run("receive", recipient, "--timeout", "0", "--follow", "--json", *args)
    assert said.code == (0 if said.out else 1)
    return [json.loads(line) for line in said.out.splitlines()]


class TestOneAgent:
    def test_a_message_is_printed_and_never_comes_again(self, desk: Desk) -> None:
        said = desk.run("send", "writer", "hello there", "--kind", "STATUS", "--sender", "editor/eve")
        assert said.code == 0
        assert re.fullmatch(r"\w+ to writer/default\n", said.out)
        said = desk.run("receive", "writer", "--timeout", "5s")
        assert (said.code, said.err) == (0, "")
        assert re.fullmatch(r"\S+ \S+Z  status    from editor/eve  hello there\n", said.out)
        said = desk.run("receive", "writer", "--timeout", "0")
        assert (said.code, said.out, said.err) == (1, "", "nothing came for writer/default\n")

    def test_json_has_every_field(self, desk: Desk) -> None:
        id = send(desk, "editor/eve", '{"page": 3}', "--correlation", "c-1", "--sender", "writer", "--priority", "urgent")
        (one,) = receive(desk, "editor/eve")
        assert one.pop("sent_at") > 1e9
        assert one == {
            "id": id,
            "kind": "task",
            "sender": "writer/default",
            "recipient": "editor/eve",
            "topic": None,
            "body": {"page": 3},
            "priority": 9.0,
            "correlation": "c-1",
            "causation": None,
            "attempt": 1,
        }

    @pytest.mark.parametrize(
        ("body", "value"), [("plain text", "plain text"), ('"quoted"', "quoted"), ("[1, 2]", [1, 2]), ("NaN", "NaN"), ("", "")]
    )
    def test_a_body_is_json_else_the_text_itself(self, body: str, value: object, desk: Desk) -> None:
        send(desk, "writer", body)
        assert [one["body"] for one in receive(desk)] == [value]

    def test_a_body_from_a_file_or_none(self, desk: Desk) -> None:
        Path("body.json").write_text('{\n  "a": "ß"\n}\n', encoding="utf-8")
        send(desk, "writer", "--body-file", "body.json")
        send(desk, "writer")
        assert [one["body"] for one in receive(desk)] == [{"a": "ß"}, None]

    def test_urgent_ones_come_first_and_others_in_the_order_of_sending(self, desk: Desk) -> None:
        for body, priority in (("a", "normal"), ("b", "low"), ("c", "critical"), ("d", "normal")):
            send(desk, "writer", body, "--priority", priority)
        assert [one["body"] for one in receive(desk)] == ["c", "a", "d", "b"]

    def test_without_follow_one_is_received(self, desk: Desk) -> None:
        for body in ("a", "b"):
            send(desk, "writer", body)
        assert desk.run("receive", "writer", "--timeout", "0").out.endswith("  a\n")
        assert [one["body"] for one in receive(desk)] == ["b"]

    def test_what_could_not_be_printed_comes_again(self, desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
        send(desk, "writer", "important")
        with monkeypatch.context() as broken:
            broken.setattr("autogen_coord.cli.messages._line", lambda message: 1 / 0)
            said = desk.run("receive", "writer")
        assert (said.code, said.out, said.err.count("\n")) == (1, "", 1)
        said = desk.run("receive", "writer", "--timeout", "5")
        assert said.out.endswith(" from nobody (attempt 2)  important\n")

    @pytest.mark.parametrize(("args", "seconds"), [((), 7 * DAY), (("--ttl", "2h"), 7200.0)])
    def test_a_message_waits_for_its_ttl(self, args: tuple[str, ...], seconds: float, desk: Desk) -> None:
        task = desk.json("tasks", "show", send(desk, "writer", "x", *args))
        assert task["expires_at"] - task["submitted_at"] == pytest.approx(seconds)

    def test_a_body_cannot_steer_the_terminal(self, desk: Desk) -> None:
        send(desk, "writer", "\x1b[31mred\nline")
        assert desk.run("receive", "writer").out.endswith("  \\x1b[31mred line\n")


class TestGroups:
    def test_everyone_is_who_is_online_and_each_is_told(self, desk: Desk) -> None:
        with providing(desk.path, begin=open_inboxes):
            said = desk.run("send", "everyone", "hello")
            assert sorted(line.split()[-1] for line in said.out.splitlines()) == ["editor/eve", "writer/default"]
            posted = desk.json("send", "everyone", "hello", "--sender", "writer")
            assert [one["recipient"] for one in posted] == ["editor/eve"]
        assert [one["body"] for one in receive(desk, "editor/eve")] == ["hello", "hello"]
        assert len(receive(desk)) == 1

    @pytest.mark.parametrize(("topic", "name"), [("topic:news", "news/default"), ("topic:news/local", "news/local")])
    def test_a_topic_is_its_subscribers(self, topic: str, name: str, desk: Desk) -> None:
        with providing(desk.path, begin=open_inboxes):
            assert desk.run("send", topic, "x").out.endswith(" to writer/default\n")
        assert [one["topic"] for one in receive(desk)] == [name]

    @pytest.mark.parametrize("recipient", ["everyone", "topic:news"])
    def test_nobody_there_is_an_error_and_a_dead_letter(self, recipient: str, desk: Desk) -> None:
        said = desk.run("send", recipient, "x")
        assert (said.code, said.out, said.err.count("\n")) == (1, "", 1)
        assert said.err.startswith(f"error: {recipient}")
        assert "`autogen-coord tasks dead`" in said.err
        assert len(desk.json("tasks", "dead")) == 1
        assert desk.json("tasks", "list", "--state", "ready") == []
        assert desk.run("send", recipient, "x", "--json").out == "[]\n"


class TestRefusals:
    @pytest.mark.parametrize(
        ("args", "words"),
        [
            (("send", "writre", "x"), "did you mean writer"),
            (("send", "two words", "x"), "'two words' is no agent's address"),
            (("send", "capability:shuot", "x"), "no capability 'shuot' was ever announced here"),
            (("send", "topic:", "x"), "is no topic's type"),
            (("send", "writer", "x", "--sender", "two words"), "'two words' is no agent's address"),
            (("send", "writer", "x", "--correlation", ""), "correlation="),
            (("send", "writer", "--body-file", "nope"), "'nope': No such file or directory"),
            (("receive", "two words"), "'two words' is no agent's address"),
            (("receive", "everyone:x"), "is no agent's address"),
            (("receive", "everyone"), "everyone is no single agent"),
            (("receive", "topic:news"), "topic:news/default is no single agent"),
        ],
    )
    def test_what_cannot_be_is_one_line_and_stores_no_message(self, args: tuple[str, ...], words: str, desk: Desk) -> None:
        said = desk.run(*args)
        assert (said.code, said.out, said.err.count("\n")) == (1, "", 1)
        assert said.err.startswith("error: ")
        assert words in said.err
        assert desk.json("tasks", "list") == []

    @pytest.mark.parametrize(
        "args",
        [
            ("send",),
            ("send", "writer", "x", "--body-file", "y"),
            ("send", "writer", "x", "--kind", "gossip"),
            ("send", "writer", "x", "--priority", "11"),
            ("send", "writer", "x", "--ttl", "7"),
            ("receive",),
            ("receive", "writer", "--timeout", "soon"),
        ],
    )
    def test_wrong_usage_is_code_2_and_one_line(self, args: tuple[str, ...], desk: Desk) -> None:
        said = desk.run(*args)
        assert (said.code, said.out, said.err.count("\n")) == (2, "", 1)


@pytest.mark.process
@pytest.mark.timeout(60)
@pytest.mark.parametrize(("sent", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_follow_goes_on_until_it_is_stopped(sent: int, code: int, desk: Desk) -> None:
    command = [sys.executable, "-m", "autogen_coord", "receive", "writer", "--follow", "--json", "--store", str(desk.path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as following:
        assert following.stdout is not None
        for body in ("a", "b"):
            send(desk, "writer", body)
            assert json.loads(following.stdout.readline())["body"] == body
        following.send_signal(sent)
        out, err = following.communicate(timeout=20)
    assert (following.returncode, out, err) == (code, "", "")
    send(desk, "writer", "c")
    assert [one["body"] for one in receive(desk)] == ["c"]
