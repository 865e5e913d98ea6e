"""``call``: what goes in, what comes out, and how it ends."""

from __future__ import annotations

import asyncio
import io
import json
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from pydantic import BaseModel, Field

from autogen_coord import Coordination, InvalidInputError, capability
from autogen_coord.cli.bodies import read_input
from autogen_coord.core.discovery import CapabilityInfo
from tests.acceptance.desk import Desk, providing


class Article(BaseModel):
    title: str = Field(min_length=2)
    words: int = 0


@capability
async def shout(text: str) -> str:
    return text.upper()


@capability("measure", version="2")
async def measure(article: Article) -> Article:
    return Article(title=article.title, words=len(article.title.split()))


@capability
async def now_and_then(nothing: None) -> list[str]:
    return ["now", "then"]


@capability
async def draw(nothing: None) -> str:
    return "\x1b[31mred\x1b[0m\tline\nnext ß\n"


@capability
async def explode(text: str) -> str:
    raise ValueError(f"cannot\nread {text}")


@pytest.fixture
def coord(desk: Desk) -> Iterator[Coordination]:
    with providing(desk.path, shout, measure, now_and_then, draw, explode) as coord:
        yield coord


def trace(desk: Desk) -> int:
    """How many events the store has."""
    return len(desk.json("events", "--since", "0", "--limit", "1000"))


@pytest.mark.usefixtures("coord")
class TestValues:
    def test_a_text_goes_in_and_out_as_it_is(self, desk: Desk) -> None:
        assert desk.run("call", "shout", "two words") == (0, "TWO WORDS\n", "")
        assert desk.run("call", "shout:1", "x").out == "X\n"

    def test_json_goes_in_and_out(self, desk: Desk) -> None:
        said = desk.run("call", "measure:2", '{"title": "a long one"}')
        assert (said.code, json.loads(said.out)) == (0, {"title": "a long one", "words": 3})
        assert said.out.count("\n") > 1

    def test_json_on_one_line_when_asked_for(self, desk: Desk) -> None:
        assert desk.run("call", "shout", "x", "--json").out == '"X"\n'
        assert desk.run("call", "measure:2", '{"title": "ab"}', "--json").out == '{"title": "ab", "words": 1}\n'

    def test_what_takes_nothing_needs_no_input(self, desk: Desk) -> None:
        assert desk.json("call", "now_and_then") == ["now", "then"]

    def test_a_file_or_standard_input(self, desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
        Path("in.json").write_bytes(b'\xef\xbb\xbf{\n  "title":\n  "one two"\n}\n')
        assert desk.json("call", "measure:2", "--input-file", "in.json")["words"] == 2
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO("zwei\nwörter".encode())))
        assert desk.run("call", "shout", "--input-file", "-").out == "ZWEI\nWÖRTER\n"

    def test_a_text_cannot_steer_the_terminal_and_is_whole_elsewhere(self, desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
        assert desk.run("call", "draw").out == "\x1b[31mred\x1b[0m\tline\nnext ß\n"
        monkeypatch.setattr("autogen_coord.cli.bodies.sys.stdout.isatty", lambda: True)
        assert desk.run("call", "draw").out == "\\x1b[31mred\\x1b[0m\tline\nnext ß\n"

    def test_options_reach_the_task(self, desk: Desk) -> None:
        desk.run("call", "shout", "x", "--key", "k-1", "--priority", "urgent", "--timeout", "90")
        (task,) = desk.json("tasks", "list")
        assert (task["key"], task["priority"], task["state"]) == ("k-1", 9.0, "succeeded")
        assert task["deadline"] - task["submitted_at"] == pytest.approx(90, abs=1)
        desk.run("call", "shout", "x", "--priority", "2.5", "--timeout", "2m")
        task, _ = desk.json("tasks", "list")
        assert (task["key"], task["priority"]) == (None, 2.5)
        assert task["deadline"] - task["submitted_at"] == pytest.approx(120, abs=1)

    def test_a_key_that_was_used_answers_from_the_store(self, desk: Desk) -> None:
        for _ in range(2):
            assert desk.run("call", "shout", "x", "--key", "k").out == "X\n"
        assert len(desk.json("tasks", "list")) == 1
        said = desk.run("call", "shout", "y", "--key", "k")
        assert (said.code, said.out, said.err.count("\n")) == (1, "", 1)
        assert "another input" in said.err


class TestReadingInput:
    def info(self, schema: dict[str, object]) -> CapabilityInfo:
        return CapabilityInfo("work", "1", "", schema, {}, ())

    @pytest.mark.parametrize(
        ("schema", "text", "value"),
        [
            ({"type": "string"}, "plain", "plain"),
            ({"type": "string"}, '"quoted"', "quoted"),
            ({"type": "string"}, '"half', '"half'),
            ({"type": "string"}, "12", "12"),
            ({"type": "string"}, "null", "null"),
            ({"type": "string"}, "", ""),
            ({"type": "integer"}, " 12 ", 12),
            ({"type": "array"}, "[1]", [1]),
            ({"anyOf": [{"type": "string"}, {"type": "integer"}]}, "12", 12),
            ({"anyOf": [{"type": "string"}, {"type": "integer"}]}, "12a", "12a"),
            ({"enum": ["a", "b"]}, "a", "a"),
            ({"type": "null"}, None, None),
            ({"type": "null"}, "null", None),
        ],
    )
    def test_json_that_fits_else_the_text_that_fits(self, schema: dict[str, object], text: str | None, value: object) -> None:
        assert read_input(text, self.info(schema)) == value

    @pytest.mark.parametrize(
        ("schema", "text", "words"),
        [
            ({"type": "integer"}, "x", "no JSON: Expecting value in line 1, column 1"),
            ({"type": "integer"}, "1.5", "does not fit its schema (type 'integer')"),
            ({"type": "number"}, "NaN", "no JSON: a number that is none"),
            ({"type": "array"}, "[" * 100_000, "nested too deep"),
            ({"type": "string", "maxLength": 2}, "abc", "(maxLength 2)"),
            ({"type": "string", "pattern": "^a"}, "12", "(pattern '^a')"),
            ({"type": "integer"}, None, "work wants an input: give INPUT or --input-file"),
        ],
    )
    def test_what_does_not_fit_says_why_and_where_to_look(self, schema: dict[str, object], text: str | None, words: str) -> None:
        with pytest.raises(InvalidInputError) as raised:
            read_input(text, self.info(schema))
        assert words in str(raised.value)
        assert str(raised.value).endswith("`autogen-coord agents show work` tells what it takes")


@pytest.mark.usefixtures("coord")
class TestRefusals:
    @pytest.mark.parametrize(
        ("args", "words"),
        [
            (("shuot", "x"), "no capability 'shuot' was ever announced here: did you mean shout?"),
            (("measure", "{}"), "did you mean measure:2?"),
            (("two words", "x"), "capability name 'two words'"),
            (("measure:2", "{}"), "does not fit its schema (required ['title']); `autogen-coord agents show measure:2`"),
            (("measure:2", '{"title": "a-secret"'), "the input of measure:2: no JSON: "),
            (("measure:2", '{"title": "s"}'), "$.title: does not fit its schema (minLength 2)"),
            (("measure:2",), "measure:2 wants an input"),
            (("shout", "--input-file", "nope.txt"), "'nope.txt': No such file or directory"),
            (("shout", "--input-file", "."), "'.': Is a directory"),
            (("shout", "--input-file", "binary"), "'binary' is no text in UTF-8"),
            (("shout", "--input-file", "large"), "'large' is larger than 16,777,216 bytes"),
        ],
    )
    def test_what_cannot_be_asked_is_one_line_and_leaves_no_trace(self, args: tuple[str, ...], words: str, desk: Desk) -> None:
        Path("binary").write_bytes(b"\xff\xfe\x00")
        Path("large").write_bytes(b" " * (17 << 20))
        before = trace(desk)
        said = desk.run("call", *args)
        assert (said.code, said.out, said.err.count("\n")) == (1, "", 1)
        assert said.err.startswith("error: ")
        assert words in said.err
        assert "a-secret" not in said.err
        assert trace(desk) == before

    def test_a_body_above_the_limit_is_not_stored(self, desk: Desk) -> None:
        Path("in.txt").write_text("x" * (1 << 20))
        said = desk.run("call", "shout", "--input-file", "in.txt")
        assert (said.code, said.out, said.err.count("\n")) == (1, "", 1)
        assert "1,048,578 bytes of JSON, the limit is 1,048,576" in said.err
        assert desk.json("tasks", "list") == []

    @pytest.mark.parametrize(
        "args",
        [
            (),
            ("shout", "x", "--input-file", "y"),
            ("shout", "x", "--priority", "11"),
            ("shout", "x", "--priority", "nan"),
            ("shout", "x", "--priority", "soon"),
            ("shout", "x", "--timeout", "-1"),
            ("shout", "x", "--timeout", "nan"),
            ("shout", "x", "--timeout", "5y"),
        ],
    )
    def test_wrong_usage_is_code_2_and_one_line(self, args: tuple[str, ...], desk: Desk) -> None:
        said = desk.run("call", *args)
        assert (said.code, said.out, said.err.count("\n")) == (2, "", 1)


class TestFailures:
    @pytest.mark.usefixtures("coord")
    def test_a_handler_that_raises_is_one_line_that_names_the_task(self, desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("AUTOGEN_COORD_TRIES", "1")
        monkeypatch.setenv("AUTOGEN_COORD_BACKOFF", "0.001")
        said = desk.run("call", "explode", "it")
        (task,) = desk.json("tasks", "list")
        assert (said.code, said.out, said.err.count("\n")) == (1, "", 1)
        assert said.err.startswith(f"error: task {task['id']} of explode failed: ValueError: cannot read it; ")
        assert f"`autogen-coord tasks show {task['id']}`" in said.err
        assert "Traceback" in desk.run("call", "explode", "it", "--debug").err

    def test_nobody_there_is_said_at_once_and_ends_the_call(self, desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
        with providing(desk.path, shout):
            pass
        monkeypatch.setenv("AUTOGEN_COORD_NO_PROVIDER_WAIT", "0.2")
        said = desk.run("call", "shout", "x")
        note, error = said.err.splitlines()
        assert (said.code, note) == (1, "nobody provides shout now; waiting for 200 ms at most")
        assert error == "error: nobody provides shout: start a program that does (it must keep running), then call again"
        assert [one["state"] for one in desk.json("tasks", "list")] == ["cancelled"]

    def test_a_deadline_ends_the_call(self, desk: Desk) -> None:
        ended = threading.Event()

        @capability
        async def idle(text: str) -> str:
            try:
                await asyncio.Event().wait()
            finally:
                ended.set()
            return text

        with providing(desk.path, idle):
            said = desk.run("call", "idle", "x", "--timeout", "0.2")
            assert ended.wait(10)
        assert (said.code, said.err.count("\n")) == (1, 1)
        assert "passed its deadline" in said.err

    def test_another_namespace_is_another_application(self, desk: Desk) -> None:
        with providing(desk.path, shout, namespace="loud"):
            assert desk.run("call", "shout", "x").code == 1
            assert desk.run("call", "shout", "x", "--namespace", "loud").out == "X\n"


@pytest.mark.process
@pytest.mark.timeout(60)
@pytest.mark.parametrize(
    ("sent", "code", "args", "state", "words"),
    [
        (signal.SIGINT, 130, (), "cancelled", "stopped, and the task with it\n"),
        (signal.SIGTERM, 143, (), "cancelled", "stopped, and the task with it\n"),
        (signal.SIGINT, 130, ("--key", "k"), "running", "stopped; the task goes on, as others may wait for its key\n"),
    ],
)
def test_stopping_the_command_cancels_its_task_but_not_one_that_has_a_key(
    sent: int, code: int, args: tuple[str, ...], state: str, words: str, desk: Desk
) -> None:
    began, ended = threading.Event(), threading.Event()

    @capability
    async def idle(text: str) -> str:
        began.set()
        try:
            await asyncio.Event().wait()
        finally:
            ended.set()
        return text

    command = [sys.executable, "-m", "autogen_coord", "call", "idle", "x", "--store", str(desk.path), *args]
    with providing(desk.path, idle) as coord:
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as calling:
            assert began.wait(30)
            calling.send_signal(sent)
            out, err = calling.communicate(timeout=20)
        assert (calling.returncode, out, err) == (code, "", words)
        if state == "cancelled":
            assert ended.wait(10)
            assert [event["kind"] for event in desk.json("events", "--kind", "task.cancelled", "--since", "0")] == [
                "task.cancelled"
            ]
        (task,) = desk.json("tasks", "list")
        assert task["state"] == state
        desk.run("tasks", "cancel", task["id"])
        assert coord.settings.drain > 0
