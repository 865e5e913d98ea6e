"""``autogen-coord state``: the shared state as somebody at a terminal reads, writes, restores and decides it."""

from __future__ import annotations

import asyncio
import io
import json
import re
import threading
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, TypeVar

import pytest
from rich.cells import cell_len

from autogen_coord import Coordination, MergePolicy, OpenConflictError
from autogen_coord.core.shared_state import State
from tests.acceptance.desk import Desk, providing

T = TypeVar("T")
TIDES = {"title": "Tides", "words": 900}


@pytest.fixture(autouse=True)
def ann(monkeypatch: pytest.MonkeyPatch) -> None:
    """The user who sits here."""
    monkeypatch.setattr("getpass.getuser", lambda: "ann")


def program(desk: Desk, work: Callable[[State], Awaitable[T]]) -> T:
    """What a program does with the state."""

    async def run() -> T:
        async with Coordination.open(desk.path) as coord:
            return await work(coord.state)

    return asyncio.run(run())


def write(desk: Desk, key: str, *values: Any, actor: str = "bob", cause: str | None = None) -> None:
    """One version after another."""

    async def work(state: State) -> None:
        for value in values:
            await state.put(key, value, actor=actor, cause=cause)

    program(desk, work)


def lose(desk: Desk, key: str, mine: Any, expected: int) -> str:
    """A stale write that asks; the conflict's id."""

    async def work(state: State) -> str:
        with pytest.raises(OpenConflictError) as lost:
            if mine is None:
                await state.delete(key, expected_version=expected, policy=MergePolicy.ASK, actor="cleo")
            else:
                await state.put(key, mine, expected_version=expected, policy=MergePolicy.ASK, actor="cleo")
        return str(lost.value.conflict)

    return program(desk, work)


def table(out: str) -> list[list[str]]:
    return [re.split(r"  +", line) for line in out.splitlines()]


def refused(desk: Desk, *args: str, code: int = 1) -> str:
    """The one line that says why not."""
    said = desk.run("state", *args)
    assert (said.code, said.out, said.err.count("\n")) == (code, "", 1), said
    assert said.err.startswith("error: ")
    return said.err.removeprefix("error: ").rstrip("\n")


def typed(monkeypatch: pytest.MonkeyPatch, text: str, terminal: bool = False) -> None:
    """What standard input has."""
    stdin = io.TextIOWrapper(io.BytesIO(text.encode()))
    monkeypatch.setattr(stdin, "isatty", lambda: terminal, raising=False)
    monkeypatch.setattr("sys.stdin", stdin)


class TestGet:
    def test_a_value_is_printed_as_json_and_a_text_as_it_is(self, desk: Desk) -> None:
        write(desk, "notes/tides", TIDES)
        write(desk, "notes/text", "two\nlines")
        assert json.loads(desk.run("state", "get", "notes/tides").out) == TIDES
        assert desk.run("state", "get", "notes/text").out == "two\nlines\n"

    def test_json_is_the_whole_document(self, desk: Desk) -> None:
        write(desk, "notes/tides", TIDES, cause="a whim")
        found = desk.json("state", "get", "notes/tides")
        assert (found.pop("at"), found.pop("number")) > (1e9, 0)
        assert found.pop("created_at") > 1e9
        assert found == {
            "key": "notes/tides",
            "version": 1,
            "value": TIDES,
            "actor": "bob",
            "cause": "a whim",
            "kind": "put",
            "base": None,
            "token": None,
            "deleted": False,
        }

    def test_as_it_was_by_version_time_and_snapshot(self, desk: Desk) -> None:
        async def work(state: State) -> float:
            first = await state.put("a", "first")
            await state.snapshot("then")
            await state.put("a", "second")
            return first.at

        at = program(desk, work)
        for args in (("--version", "1"), ("--at", repr(at)), ("--snapshot", "then")):
            assert desk.run("state", "get", "a", *args).out == "first\n"
        assert desk.run("state", "get", "a", "--at", "2999-01-01T00:00:00+02:00").out == "second\n"

    def test_an_unknown_key_has_near_names(self, desk: Desk) -> None:
        write(desk, "notes/tides", TIDES)
        write(desk, "other", 1)
        assert refused(desk, "get", "notes/tide") == (
            "there is no document 'notes/tide' in namespace 'default': did you mean 'notes/tides'?"
        )
        assert "`autogen-coord state list` shows what is there" in refused(desk, "get", "zzzzzz")

    def test_of_a_folder_the_documents_below_are_named(self, desk: Desk) -> None:
        write(desk, "notes/tides", TIDES)
        assert refused(desk, "get", "notes").endswith("but some lie below it: `autogen-coord state list --prefix notes`")

    def test_a_deleted_one_says_by_whom_and_how_it_comes_back(self, desk: Desk) -> None:
        write(desk, "a", 1)
        assert desk.run("state", "delete", "a").code == 0
        said = refused(desk, "get", "a")
        assert re.fullmatch(r"'a': version 2 is a deletion, .* ago\) by ann; `autogen-coord state revert a 1` brings it back", said)
        assert desk.run("state", "revert", "a", "1").out == "a: version 3 (restore, made from version 1)\n"
        assert desk.run("state", "get", "a").out == "1\n"

    def test_the_hint_of_a_deletion_holds_when_it_is_not_the_newest(self, desk: Desk) -> None:
        write(desk, "a", 1)
        desk.run("state", "delete", "a")
        write(desk, "a", 2)
        assert "version 2 is a deletion" in refused(desk, "get", "a", "--version", "2")

    @pytest.mark.parametrize(
        ("args", "words"),
        [
            (("--version", "9"), "'a': there is no version 9, the newest is 1"),
            (("--at", "2001-01-01T00:00:00Z"), "there was no document 'a' at 2001-01-01 00:00:00Z"),
            (("--snapshot", "monday"), "there is no snapshot 'monday': none was ever taken, or all were dropped"),
        ],
    )
    def test_a_state_that_is_not_there(self, args: tuple[str, ...], words: str, desk: Desk) -> None:
        write(desk, "a", 1)
        assert refused(desk, "get", "a", *args).startswith(words)

    def test_a_key_that_is_not_in_a_snapshot(self, desk: Desk) -> None:
        write(desk, "a", 1)
        assert desk.run("state", "snapshot", "monday", "--prefix", "notes").code == 0
        assert "'a' is not in snapshot 'monday', which was taken of 'notes'" in refused(desk, "get", "a", "--snapshot", "monday")
        assert refused(desk, "get", "a", "--snapshot", "mondy").endswith("there are 'monday'")

    @pytest.mark.parametrize(
        "args", [("--at", "yesterday"), ("--at", "2026-11-20T17:24:07"), ("--version", "0"), ("--version", "1", "--snapshot", "s")]
    )
    def test_wrong_usage(self, args: tuple[str, ...], desk: Desk) -> None:
        write(desk, "a", 1)
        refused(desk, "get", "a", *args, code=2)


class TestPut:
    def test_versions_count_and_are_told(self, desk: Desk) -> None:
        write(desk, "other", 1)
        assert desk.run("state", "put", "a", '{"n": 1}').out == "a: version 1 (put)\n"
        assert desk.run("state", "put", "a", "[2]", "--expected", "1").out == "a: version 2 (put, made from version 1)\n"
        found = desk.json("state", "put", "a", "3", "--actor", "desk", "--cause", "why not")
        assert (found["version"], found["value"], found["actor"], found["cause"]) == (3, 3, "desk", "why not")
        assert [one["actor"] for one in desk.json("state", "history", "a")] == ["desk", "ann", "ann"]

    def test_a_value_from_standard_input_and_from_a_file(self, desk: Desk, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        write(desk, "other", 1)
        (tmp_path / "v.json").write_text('{"n": 7}')
        typed(monkeypatch, "[1, 2]")
        desk.run("state", "put", "a", "-")
        desk.run("state", "put", "b", "@v.json")
        desk.run("state", "put", "c", "@v.json", "--text")
        assert [one["value"] for one in desk.json("state", "list")] == [[1, 2], {"n": 7}, '{"n": 7}', 1]

    @pytest.mark.parametrize(
        ("value", "words"),
        [
            ("{title: 1}", "'a': the value is no JSON: Expecting property name"),
            ("tides", "quote a text as JSON ('\"a text\"'), or pass --text"),
            ("NaN", "'a': the value is no JSON: a number that is none"),
            ("1e999", "'a'"),
            ("@nowhere.json", "'nowhere.json': No such file or directory; name a file that can be read"),
            ("[" * 70 + "]" * 70, "nested too deep: at most 64"),
        ],
    )
    def test_what_is_no_value_is_refused_and_nothing_is_written(self, value: str, words: str, desk: Desk) -> None:
        write(desk, "other", 1)
        assert words in refused(desk, "put", "a", value)
        assert [one["key"] for one in desk.json("state", "list")] == ["other"]

    def test_a_value_too_large_is_refused(self, desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
        write(desk, "other", 1)
        monkeypatch.setenv("AUTOGEN_COORD_MAX_VALUE", "1000")
        assert "the limit is 1,000" in refused(desk, "put", "a", json.dumps("x" * 1001))

    @pytest.mark.parametrize("key", ["/a", "a//b", "..", "", "a/", "a\x00b"])
    def test_an_absurd_key_is_one_line(self, key: str, desk: Desk) -> None:
        write(desk, "other", 1)
        assert refused(desk, "put", key, "1").startswith("key ")

    def test_stale_and_from_the_future_name_both_versions(self, desk: Desk) -> None:
        write(desk, "a", 1, 2)
        assert refused(desk, "put", "a", "3", "--expected", "1").startswith("'a': version 1 was expected, but version 2 is there")
        assert refused(desk, "put", "a", "3", "--expected", "0").startswith("'a': version 0 was expected, but version 2 is there")
        assert "version 9 does not exist: the newest is version 2" in refused(desk, "put", "a", "3", "--expected", "9")

    def test_the_policies_of_a_call(self, desk: Desk) -> None:
        write(desk, "a", {"x": 1, "y": 1}, {"x": 2, "y": 1})
        assert desk.run("state", "put", "a", '{"x": 1, "y": 3}', "--expected", "1", "--policy", "merge").out == (
            "a: version 3 (merge, made from version 1)\n"
        )
        assert desk.json("state", "get", "a")["value"] == {"x": 2, "y": 3}
        desk.run("state", "put", "a", '{"x": 10}', "--reducer", "x=add")
        assert desk.json("state", "get", "a")["value"] == {"x": 12, "y": 3}
        assert desk.run("state", "put", "a", "0", "--expected", "1", "--policy", "LAST_WRITER").code == 0

    def test_one_that_asks_says_how_it_is_settled(self, desk: Desk) -> None:
        write(desk, "a", 1, 2)
        said = refused(desk, "put", "a", "3", "--expected", "1", "--policy", "ask")
        (conflict,) = desk.json("state", "conflicts")
        id = conflict["id"]
        assert said == (
            f"'a': version 1 was expected, but 2 is there: nothing was changed, the write is kept as conflict {id}; "
            f"`autogen-coord state conflicts show {id}` shows it, `autogen-coord state decide {id}` settles it"
        )

    def test_a_fenced_document_wants_force(self, desk: Desk) -> None:
        async def work() -> None:
            async with Coordination.open(desk.path) as coord, coord.lock("a") as lease:
                await coord.state.put("a", 1, fence=lease)

        asyncio.run(work())
        assert refused(desk, "put", "a", "2").endswith("stop who holds it, or pass --force")
        assert desk.run("state", "put", "a", "2", "--force").code == 0

    @pytest.mark.parametrize(
        "args",
        [
            ("put", "a"),
            ("put", "a", "1", "--policy", "nope"),
            ("put", "a", "1", "--reducer", "n"),
            ("put", "a", "1", "--reducer", "n=add", "--reducer", "n=max"),
            ("put", "a", "1", "--expected", "-1"),
            ("nope",),
            ("list", "--limit", "0"),
            ("diff", "a"),
        ],
    )
    def test_wrong_usage_is_code_2(self, args: tuple[str, ...], desk: Desk) -> None:
        write(desk, "a", 1)
        refused(desk, *args, code=2)

    @pytest.mark.parametrize(
        ("args", "words"),
        [
            (("--reducer", "n=sum"), "reducer 'sum': one of append, add, union, max"),
            (("--policy", "reduce"), "policy reduce needs --reducer, such as --reducer count=add"),
            (("--policy", "merge", "--reducer", "n=add"), "--reducer has no meaning under --policy merge"),
        ],
    )
    def test_reducers_that_do_not_fit(self, args: tuple[str, ...], words: str, desk: Desk) -> None:
        write(desk, "a", 1)
        assert words in refused(desk, "put", "a", '{"n": 1}', *args)

    def test_a_store_that_is_not_there_is_not_made(self, desk: Desk) -> None:
        for args in (("put", "a", "1"), ("get", "a"), ("list",)):
            assert "there is no such store" in refused(desk, *args)
        assert not desk.path.exists()


class TestPatchAndDelete:
    def test_a_merge_patch_and_operations(self, desk: Desk) -> None:
        write(desk, "a", TIDES)
        assert desk.run("state", "patch", "a", '{"words": null, "by": "bob"}').out == "a: version 2 (patch)\n"
        desk.run("state", "patch", "a", '[{"op": "replace", "path": "/title", "value": "Winds"}]', "--expected", "2")
        assert desk.json("state", "get", "a")["value"] == {"title": "Winds", "by": "bob"}

    def test_what_diff_prints_is_what_patch_takes(self, desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
        write(desk, "a", TIDES, {"title": "Winds", "tags": [1, 2]})
        operations = desk.run("state", "diff", "a", "2", "1", "--json").out
        typed(monkeypatch, operations)
        assert desk.run("state", "patch", "a", "-").code == 0
        assert desk.json("state", "get", "a")["value"] == TIDES

    @pytest.mark.parametrize(
        ("key", "patch", "words"),
        [
            ("a", "1", "a patch is an object"),
            ("a", "words=1", "a patch is an object"),
            ("a", '[{"op": "remove", "path": "/nope"}]', "operation 1 of the patch, path '/nope', does not apply"),
            ("a", '[{"op": "test", "path": "/words", "value": 1}]', "its test fails"),
            ("b", "{}", "there is no document 'b' to patch: put one first"),
        ],
    )
    def test_a_patch_that_does_not_apply(self, key: str, patch: str, words: str, desk: Desk) -> None:
        write(desk, "a", TIDES)
        said = refused(desk, "patch", key, patch)
        assert words in said
        assert f"'{key}'" in said
        assert [one["version"] for one in desk.json("state", "list")] == [1]

    def test_a_deletion_and_one_of_nothing(self, desk: Desk) -> None:
        write(desk, "a", 1)
        assert refused(desk, "delete", "a", "--expected", "2").startswith("'a': version 2 does not exist")
        assert desk.run("state", "delete", "a").out == "a: deleted\n"
        assert refused(desk, "delete", "a").endswith("pass --missing-ok if that is as well")
        assert desk.run("state", "delete", "a", "--missing-ok").out == "a: there was none\n"

    def test_a_version_to_go_back_to_that_is_not_there(self, desk: Desk) -> None:
        write(desk, "a", 1)
        assert refused(desk, "revert", "a", "5").startswith("'a': version 5 was named, but 1 is the newest")
        assert refused(desk, "revert", "b", "1") == "there is no document 'b'"


class TestList:
    def test_by_key_with_the_beginning_of_the_value(self, desk: Desk) -> None:
        write(desk, "notes/tides", TIDES)
        write(desk, "notes", "x" * 1000)
        write(desk, "notesbook", None)
        head, *lines = table(desk.run("state", "list", "--prefix", "notes").out)
        assert head == ["key", "version", "when", "who", "value"]
        assert [(line[0], line[1], line[3]) for line in lines] == [("notes", "1", "bob"), ("notes/tides", "1", "bob")]
        assert lines[0][4] == '"' + "x" * 198 + "…"
        assert lines[1][4] == '{"title": "Tides", "words": 900}'

    def test_pages(self, desk: Desk) -> None:
        for key in "abcd":
            write(desk, key, key)
        said = desk.run("state", "list", "--limit", "2")
        assert [line[0] for line in table(said.out)[1:]] == ["a", "b"]
        assert said.err == "there are more than 2: --limit, or --after b, shows them\n"
        said = desk.run("state", "list", "--limit", "2", "--after", "b")
        assert [line[0] for line in table(said.out)[1:]] == ["c", "d"]
        assert said.err == ""

    def test_the_deleted_ones_when_asked_for(self, desk: Desk) -> None:
        write(desk, "a", 1)
        write(desk, "b", 1)
        desk.run("state", "delete", "a")
        assert [one["key"] for one in desk.json("state", "list")] == ["b"]
        assert [(one["key"], one["deleted"]) for one in desk.json("state", "list", "--deleted")] == [("a", True), ("b", False)]
        assert table(desk.run("state", "list", "--deleted").out)[1][4] == "(deleted)"

    @pytest.mark.parametrize(
        ("args", "words"),
        [
            (("list",), "no documents in namespace 'default'"),
            (("list", "--prefix", "x"), "no documents at or below 'x' in namespace 'default'"),
            (("list", "--namespace", "other"), "nothing was ever stored there; there are 'default'"),
            (("snapshots",), "no snapshots in namespace 'default'"),
            (("conflicts",), "no open conflicts in namespace 'default'"),
            (("policies",), "no policies in namespace 'default'; stale writes are refused (reject)"),
        ],
    )
    def test_none_is_no_error_and_says_so(self, args: tuple[str, ...], words: str, desk: Desk) -> None:
        desk.provide()
        said = desk.run("state", *args)
        assert (said.code, said.out, said.err.count("\n")) == (0, "", 1)
        assert words in said.err
        assert desk.json("state", *args) == []


class TestHistoryAndDiff:
    def test_each_version_with_who_and_why(self, desk: Desk) -> None:
        write(desk, "a", 1, cause="task 7")
        desk.run("state", "put", "a", "2", "--expected", "1")
        desk.run("state", "delete", "a")
        head, *lines = table(desk.run("state", "history", "a").out)
        assert head == ["version", "kind", "from", "when", "who", "why"]
        assert [(line[0], line[1], line[-1]) for line in lines] == [
            ("3", "delete", "ann"),
            ("2", "put", "ann"),
            ("1", "put", "task 7"),
        ]
        assert lines[1][2] == "1"
        assert [one["version"] for one in desk.json("state", "history", "a", "--before", "3", "--limit", "1")] == [2]
        assert "did you mean 'abc'" not in refused(desk, "history", "b")

    def test_only_what_is_kept_is_there(self, desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("AUTOGEN_COORD_HISTORY", "2")
        write(desk, "a", *range(9))
        assert [one["version"] for one in desk.json("state", "history", "a")] == [9, 8, 7]
        assert desk.run("state", "history", "a", "--before", "7").err == "no version of 'a' older than 7 is kept\n"
        assert refused(desk, "get", "a", "--version", "2") == (
            "'a': version 2 is not kept: `autogen-coord state history` says which are"
        )

    def test_lines_that_differ(self, desk: Desk) -> None:
        write(desk, "a", TIDES, {"title": "Winds", "words": 900})
        lines = desk.run("state", "diff", "a", "1").out.splitlines()
        assert [line.split(",")[0] for line in lines[:2]] == ["--- version 1", "+++ version 2"]
        assert lines[2:] == ["@@ -1,4 +1,4 @@", " {", '-  "title": "Tides",', '+  "title": "Winds",', '   "words": 900', " }"]
        assert desk.json("state", "diff", "a", "1", "2") == [{"op": "replace", "path": "/title", "value": "Winds"}]

    def test_a_text_is_compared_by_its_lines(self, desk: Desk) -> None:
        write(desk, "a", "one\ntwo", "one\nthree")
        assert desk.run("state", "diff", "a", "1").out.splitlines()[3:] == [" one", "-two", "+three"]

    def test_the_same_value_has_no_difference(self, desk: Desk) -> None:
        write(desk, "a", {"x": 1, "y": 2}, {"y": 2, "x": 1})
        said = desk.run("state", "diff", "a", "1")
        assert (said.code, said.out, said.err) == (0, "", "'a': versions 1 and 2 have the same value\n")

    def test_what_cannot_be_compared(self, desk: Desk) -> None:
        write(desk, "a", 1)
        assert refused(desk, "diff", "a", "1", "4") == "'a': there is no version 4, the newest is 1"
        desk.run("state", "delete", "a")
        assert "name the version to compare with" in refused(desk, "diff", "a", "1")
        assert "is deleted in one of these versions" in refused(desk, "diff", "a", "1", "2")


class TestSnapshots:
    def test_one_is_taken_listed_and_dropped(self, desk: Desk) -> None:
        write(desk, "notes/tides", TIDES)
        assert re.fullmatch(
            r"monday: notes as of event \d+\n", desk.run("state", "snapshot", "monday", "--prefix", "notes/", "--note", "x").out
        )
        assert refused(desk, "snapshot", "monday").startswith("there is a snapshot 'monday' already: drop it (`autogen-coord state")
        (line,) = table(desk.run("state", "snapshots").out)[1:]
        assert (line[0], line[1], line[3], line[5]) == ("monday", "notes", "ann", "x")
        assert refused(desk, "drop-snapshot", "tuesday").startswith("there is no snapshot 'tuesday': there are 'monday'")
        assert desk.run("state", "drop-snapshot", "monday").out == "monday: dropped\n"
        assert desk.json("state", "snapshots") == []

    def before_and_after(self, desk: Desk) -> None:
        for key in ("a/1", "a/2", "b"):
            write(desk, key, "old")
        desk.run("state", "snapshot", "monday")
        write(desk, "a/1", "new")
        write(desk, "a/2", "new", "old")
        write(desk, "a/3", "new")
        desk.run("state", "delete", "b")

    def values(self, desk: Desk) -> dict[str, Any]:
        return {one["key"]: one["value"] for one in desk.json("state", "list")}

    def test_it_says_what_differs_and_asks(self, desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
        self.before_and_after(desk)
        typed(monkeypatch, "y\n", terminal=True)
        said = desk.run("state", "restore", "monday")
        assert re.search(
            r"3 documents differ from snapshot 'monday' of .* ago\): a/1, a/3, b; 1 document made since would be deleted", said.out
        )
        assert said.out.endswith("monday: 3 documents restored\n")
        assert self.values(desk) == {"a/1": "old", "a/2": "old", "b": "old"}
        assert [one["kind"] for one in desk.json("state", "history", "b")] == ["restore", "delete", "put"]
        assert desk.run("state", "restore", "monday").out == "monday: nothing differs, nothing was changed\n"

    def test_a_no_changes_nothing(self, desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
        self.before_and_after(desk)
        before = self.values(desk)
        typed(monkeypatch, "n\n", terminal=True)
        said = desk.run("state", "restore", "monday")
        assert (said.code, self.values(desk)) == (1, before)
        assert "nothing was changed" in said.err

    def test_where_nobody_can_say_yes_it_wants_yes(self, desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
        self.before_and_after(desk)
        before = self.values(desk)
        typed(monkeypatch, "y\n")
        assert refused(desk, "restore", "monday").endswith("nobody is here to say yes, pass --yes")
        assert self.values(desk) == before

    def test_a_part_of_it(self, desk: Desk) -> None:
        self.before_and_after(desk)
        assert desk.run("state", "restore", "monday", "--prefix", "a", "--yes").out == "monday: 2 documents restored\n"
        assert self.values(desk) == {"a/1": "old", "a/2": "old"}

    def test_what_is_not_in_it_or_not_there(self, desk: Desk) -> None:
        write(desk, "a", 1)
        desk.run("state", "snapshot", "monday", "--prefix", "notes")
        assert "'a' is not in snapshot 'monday'" in refused(desk, "restore", "monday", "--prefix", "a", "--yes")
        assert refused(desk, "restore", "sunday", "--yes").startswith("there is no snapshot 'sunday'")
        assert refused(desk, "restore", "x", "--namespace", "other").startswith("there is no snapshot 'x'")


class TestConflicts:
    def test_they_are_listed_by_key(self, desk: Desk) -> None:
        for key in ("b", "a/1"):
            write(desk, key, 1, 2)
        second, first = (lose(desk, key, 3, expected=1) for key in ("b", "a/1"))
        head, *lines = table(desk.run("state", "conflicts").out)
        assert head == ["id", "key", "kind", "expected", "found", "when", "who"]
        shown = [(*line[:5], line[6]) for line in lines]
        assert shown == [(first, "a/1", "put", "1", "2", "cleo"), (second, "b", "put", "1", "2", "cleo")]
        assert [one["id"] for one in desk.json("state", "conflicts", "--prefix", "a")] == [first]
        assert desk.run("state", "conflicts", "--limit", "1").err == "there may be more than 1: --limit shows them\n"

    def test_side_by_side_where_they_differ(self, desk: Desk) -> None:
        base = {"title": "Tides", "words": 900, "by": {"name": "bob"}, "same": "same in all"}
        write(desk, "a", base, base | {"title": "Tides and winds of the northern sea", "tags": []})
        id = lose(desk, "a", base | {"title": "High tides", "by": {}}, expected=1)
        lines = desk.run("state", "conflicts", "show", id).out.splitlines()
        assert re.fullmatch(r"a: put by cleo, .* ago", lines[0])
        assert lines[1:] == [
            "it was made from version 1, and found version 2",
            "",
            "  place            base (version 1)    theirs (version 2)  mine",
            '! /title           "Tides"             "Tides and winds of "High tides"',
            '                                        the northern sea"',
            '  /by/name         "bob"               "bob"               -',
            "  /tags            -                   []                  -",
            "",
            "! both changed it, and not alike",
            f"settle it: autogen-coord state decide {id} --mine, --theirs or --value VALUE",
        ]
        assert desk.json("state", "conflicts", "show", id)["theirs"]["version"] == 2

    def test_any_value_fits_eighty_columns(self, desk: Desk) -> None:
        wide = "潮" * 300
        write(desk, "a", {"x": 1}, {"x": wide, "y" * 50: list(range(500))})
        id = lose(desk, "a", "\x1b[31mred\n" * 50, expected=1)
        out = desk.run("state", "conflicts", "show", id).out
        assert "\x1b" not in out
        assert max(cell_len(line) for line in out.splitlines() if id not in line) <= 80

    def test_a_deletion_and_a_base_that_is_not_kept(self, desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
        write(desk, "a", {"x": 1}, {"x": 2})
        id = lose(desk, "a", None, expected=1)
        assert '! (all of it)      {"x": 1}            {"x": 2}            -' in desk.run("state", "conflicts", "show", id).out
        monkeypatch.setenv("AUTOGEN_COORD_HISTORY", "1")
        write(desk, "a", *({"x": number} for number in range(5)))
        out = desk.run("state", "conflicts", "show", id).out
        assert "base (not kept)" in out
        assert "nobody knows who changed what" in out

    @pytest.mark.parametrize(
        ("how", "value", "version"),
        [(("--mine",), 3, 3), (("--theirs",), 2, 2), (("--value", "[4]"), [4], 3), (("--value", "x", "--text"), "x", 3)],
    )
    def test_it_is_decided_once(self, how: tuple[str, ...], value: Any, version: int, desk: Desk) -> None:
        write(desk, "a", 1, 2)
        id = lose(desk, "a", 3, expected=1)
        word = how[0].removeprefix("--")
        assert desk.run("state", "decide", id, *how).out == f"{id}: decided ({word}), a is at version {version}\n"
        assert (desk.json("state", "get", "a")["value"], desk.json("state", "conflicts")) == (value, [])
        for args in (("decide", id, *how), ("conflicts", "show", id)):
            assert refused(desk, *args) == (
                f"there is no open conflict {id!r}: it was decided, or never was; `autogen-coord state conflicts` lists them"
            )

    def test_one_that_moved_on_is_looked_at_again(self, desk: Desk) -> None:
        write(desk, "a", 1, 2)
        id = lose(desk, "a", 3, expected=1)
        write(desk, "a", 5)
        assert "version 2 was looked at, but 3 is there by now" in refused(desk, "decide", id, "--mine", "--expected", "2")
        assert len(desk.json("state", "conflicts")) == 1

    @pytest.mark.parametrize("how", [(), ("--mine", "--theirs"), ("--mine", "--value", "1")])
    def test_one_way_must_be_named(self, how: tuple[str, ...], desk: Desk) -> None:
        write(desk, "a", 1)
        assert "one of --mine, --theirs and --value" in refused(desk, "decide", "c1", *how, code=2)

    def test_options_before_show_are_not_lost(self, desk: Desk) -> None:
        write(desk, "a", 1, 2)
        id = lose(desk, "a", 3, expected=1)
        said = desk.bare("state", "conflicts", "--store", str(desk.path), "show", id)
        assert (said.code, said.out) == (2, "")
        assert "options of `conflicts show` go behind it" in said.err


class TestPolicies:
    def test_one_is_set_listed_obeyed_and_taken_away(self, desk: Desk) -> None:
        write(desk, "other", 1)
        assert (
            desk.run("state", "set-policy", "reduce", "--prefix", "counts", "--reducer", "n=add").out == "counts: policy reduce\n"
        )
        assert desk.run("state", "set-policy", "merge").out == "everything: policy merge\n"
        assert table(desk.run("state", "policies").out)[1:] == [["(everything)", "merge"], ["counts", "reduce", "n=add"]]
        for _ in range(2):
            desk.run("state", "put", "counts/a", '{"n": 2}')
        assert desk.json("state", "get", "counts/a")["value"] == {"n": 4}
        assert desk.run("state", "set-policy", "none", "--prefix", "counts").out == "counts: no policy\n"
        assert [one["prefix"] for one in desk.json("state", "policies")] == [""]
        assert "no policy is set at 'counts'" in refused(desk, "set-policy", "none", "--prefix", "counts")
        assert "--reducer count=add" in refused(desk, "set-policy", "reduce")


class TestWatch:
    def test_what_was_written_since_an_event(self, desk: Desk) -> None:
        write(desk, "notes/tides", TIDES)
        write(desk, "other", 1)
        desk.run("state", "delete", "notes/tides")
        lines = table(desk.run("state", "watch", "notes", "--since", "0", "--limit", "2").out)
        shown = [line[-6:] for line in lines]
        assert shown == [
            [lines[0][-6], "put", "notes/tides", "version 1", "bob", '{"title": "Tides", "words": 900}'],
            [lines[1][-6], "delete", "notes/tides", "version 2", "ann", "(deleted)"],
        ]
        first = int(lines[0][-7] or lines[0][1])
        (rest,) = desk.run("state", "watch", "notes", "--since", str(first), "--limit", "1", "--json").out.splitlines()
        assert (json.loads(rest)["version"], json.loads(rest)["deleted"]) == (2, True)

    def test_what_another_process_writes_is_printed_as_it_comes(self, desk: Desk) -> None:
        async def begin(coord: Coordination) -> None:
            await coord.state.put("a", 0)

        with providing(desk.path, begin=begin) as coord:
            loop = coord.state._process._loop

            def later() -> None:
                asyncio.run_coroutine_threadsafe(coord.state.put("a", "now"), loop)

            since = desk.json("state", "get", "a")["number"]
            timer = threading.Timer(0.3, later)
            timer.start()
            said = desk.run("state", "watch", "a", "--since", str(since), "--limit", "1", "--json")
            timer.join()
        assert json.loads(said.out)["value"] == "now"

    def test_an_absurd_start(self, desk: Desk) -> None:
        write(desk, "a", 1)
        refused(desk, "watch", "--since", "-1", code=2)
        refused(desk, "watch", "a//b")


@pytest.mark.parametrize(
    "args",
    [("get", "a"), ("list",), ("history", "a"), ("diff", "a", "1", "1"), ("snapshots",), ("conflicts",), ("policies",)],
)
def test_looking_leaves_no_trace(args: tuple[str, ...], desk: Desk) -> None:
    write(desk, "a", 1)
    before = desk.json("events", "--since", "0")
    assert desk.run("state", *args).code == 0
    assert desk.json("events", "--since", "0") == before


def test_words_chosen_by_others_cannot_steer_the_terminal(desk: Desk) -> None:
    evil = "\x1b[31m"
    write(desk, "a", {"v": evil}, {"v": evil * 2}, actor=f"bob{evil}", cause=evil)
    desk.run("state", "snapshot", f"s{evil}", "--note", evil)
    for args in (
        ("list",), ("history", "a"), ("diff", "a", "1"), ("snapshots",), ("watch", "--since", "0", "--limit", "1"), ("get", "a"),
    ):  # fmt: skip
        said = desk.run("state", *args)
        assert said.code == 0
        assert "\x1b" not in said.out + said.err
