"""The command line as an operator uses it: what it prints, what it changes, how it ends."""

from __future__ import annotations

import ast
import json
import logging
import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer

import autogen_coord
from autogen_coord import Settings, TaskState
from autogen_coord.cli import app, doctor
from autogen_coord.cli.printing import clean, moment, print_table, span
from autogen_coord.core import claims, tasks
from autogen_coord.core.claims import Claim, Finish, Want
from autogen_coord.core.endings import Failure
from autogen_coord.core.pruning import Prune, prune
from autogen_coord.core.store import Transaction
from autogen_coord.core.tasks import Submit
from autogen_coord.errors import NotFoundError
from autogen_coord.stores.sqlite import checkup, files
from autogen_coord.stores.sqlite.gate import Gate
from tests.acceptance.desk import LASTING, SECRET, Desk

Group: type[Any] = typer.core.TyperGroup
NFS = "36 35 98:0 / / rw,noatime master:1 - nfs4 server:/export rw\n"


def why(desk: Desk, id: str) -> str:
    lines = desk.run("tasks", "show", id).out.splitlines()
    return next(line.removeprefix("why").strip() for line in lines if line.startswith("why"))


class TestWhyATaskWaits:
    def test_no_provider(self, desk: Desk) -> None:
        desk.provide()
        desk.kill("s1")
        desk.submit("a")
        assert why(desk, "a") == "no provider: a provider of work is not online; start a process that provides it"

    def test_no_provider_of_those_it_is_addressed_to(self, desk: Desk) -> None:
        desk.provide("s1")
        desk.provide("s2")
        desk.submit("a", target="p-s1")
        desk.sql("UPDATE session SET lease_until = 1 WHERE id = 's1'")
        assert why(desk, "a").startswith("no provider: provider p-s1 is not online")

    def test_provider_busy(self, desk: Desk) -> None:
        desk.provide()
        desk.submit("a")
        desk.submit("b")
        assert desk.claim() == ["a"]
        assert why(desk, "b") == "provider busy: it is next; 1 provider, all 1 slots taken"

    def test_about_to_be_claimed(self, desk: Desk) -> None:
        desk.provide(slots=2)
        desk.submit("a")
        assert why(desk, "a") == "next: 1 provider, 0 of 2 slots taken; it is about to be claimed"

    def test_delayed_until_a_moment(self, desk: Desk) -> None:
        desk.provide()
        desk.submit("a", at=4_000_000_000.0)
        assert why(desk, "a").startswith("delayed until 2096-10-02 07:06:40Z (in ")
        assert why(desk, "a").endswith("it was submitted for then")

    def test_delayed_until_the_next_attempt(self, desk: Desk) -> None:
        desk.provide()
        desk.submit("a")
        desk.claim()
        failure = Failure("remote", "OSError", "away", retry_after=100.0)
        command = Finish("s1", "a", 1, TaskState.FAILED, None, failure)
        desk.write(lambda rows, now: claims.finish(rows, command, now, LASTING))
        assert re.fullmatch(r"delayed until .*Z \(in \d+\.\d s\): attempt 1 failed, then it is tried again", why(desk, "a"))

    @pytest.mark.parametrize(("ahead", "words"), [(1, "behind 1 other of work"), (3, "behind 3 others of work")])
    def test_behind_others_also_those_submitted_at_the_same_moment(self, ahead: int, words: str, desk: Desk) -> None:
        desk.provide()

        def fold(rows: Transaction, now: float) -> None:
            for n in range(ahead + 1):
                tasks.submit(rows, Submit(f"t{n}", "work", "1"), now, LASTING)

        desk.write(fold)
        assert why(desk, f"t{ahead}") == f"{words}; 1 provider, 0 of 1 slots taken"

    def test_lane_taken_by(self, desk: Desk) -> None:
        desk.provide()
        for id in ("a", "b", "c"):
            desk.submit(id, lane="row-7")
        desk.claim()
        assert why(desk, "b") == "lane 'row-7' is taken by task a (running); 0 others of the lane before it"
        assert why(desk, "c") == "lane 'row-7' is taken by task a (running); 1 other of the lane before it"

    def test_suspect(self, desk: Desk) -> None:
        desk.provide("s1")
        desk.submit("a")
        desk.claim("s1")
        desk.kill("s1")
        desk.provide("s2")
        assert why(desk, "a").startswith(
            "suspect: the process that ran it died, so it waits for one that runs nothing else (0 of 3"
        )

    def test_running_and_asked_to_stop(self, desk: Desk) -> None:
        desk.provide()
        desk.submit("a")
        desk.claim()
        desk.run("tasks", "cancel", "a")
        assert re.fullmatch(r"running for \d+\.\d s on p-s1 \(session s1\); asked to stop", why(desk, "a"))

    def test_running_and_asked_to_stop_in_a_process_that_is_silent(self, desk: Desk) -> None:
        desk.provide()
        desk.submit("a")
        desk.claim()
        desk.sql("UPDATE session SET lease_until = 1")
        said = desk.run("tasks", "cancel", "a").out
        assert said == "a is asked to stop, but no process is live: it ends when one starts\n"
        end = "asked to stop; its process is silent: it will be cancelled when a process starts, not taken over"
        assert why(desk, "a").endswith(end)
        desk.provide("s2")
        assert why(desk, "a").endswith("it will be cancelled by a live process, not taken over")

    def test_delayed_and_due_but_nobody_is_there(self, desk: Desk) -> None:
        desk.provide()
        desk.submit("a", delay=0.001)
        assert why(desk, "a").startswith("delayed until")
        desk.sql("UPDATE session SET lease_until = 1")
        desk.sql("UPDATE queue SET due = due - 10, ready_at = ready_at - 10")
        assert re.fullmatch(r"due 1\d\.\d s ago, but no process is there to start it", why(desk, "a"))

    def test_expired_but_nobody_is_there(self, desk: Desk) -> None:
        desk.provide()
        desk.submit("a", ttl=0.001)
        desk.sql("UPDATE session SET lease_until = 1")
        time.sleep(0.01)
        assert re.fullmatch(r"expired 0\.\d s ago, but no process is there to end it", why(desk, "a"))

    def test_running_in_a_process_that_is_silent(self, desk: Desk) -> None:
        desk.provide()
        desk.submit("a")
        desk.claim()
        desk.sql("UPDATE session SET lease_until = 1")
        assert why(desk, "a").endswith("its process is silent: the next live process takes the task over, as a suspect")


class TestSeeing:
    @pytest.fixture
    def desk(self, desk: Desk) -> Desk:
        desk.provide()
        for id in ("a", "b"):
            desk.fail(id, f"no article {id}")
        desk.submit("c")
        desk.claim()
        desk.finish("c", json.dumps(SECRET + "-out"))
        desk.submit("d", key="the-key")
        return desk

    def test_lists_are_newest_first_and_filtered(self, desk: Desk) -> None:
        assert [(one["id"], one["state"]) for one in desk.json("tasks", "list")] == [
            ("d", "ready"),
            ("c", "succeeded"),
            ("b", "failed"),
            ("a", "failed"),
        ]
        assert [one["id"] for one in desk.json("tasks", "list", "--limit", "1")] == ["d"]
        assert [one["id"] for one in desk.json("tasks", "list", "--state", "ready", "--state", "failed")] == ["d", "b", "a"]
        assert [one["id"] for one in desk.json("tasks", "list", "--state", "failed", "--limit", "1")] == ["b"]
        assert desk.json("tasks", "list", "--capability", "other") == []
        assert [one["id"] for one in desk.json("tasks", "list", "--capability", "work", "--state", "succeeded")] == ["c"]

    def test_a_list_has_a_line_for_each(self, desk: Desk) -> None:
        head, first, *_ = desk.run("tasks", "list").out.splitlines()
        assert head.split() == ["task", "state", "capability", "attempt", "submitted", "key"]
        assert first.split()[:4] == ["d", "ready", "work", "0"]
        assert first.split()[-1] == "the-key"

    def test_many_that_ended_at_one_moment_are_each_listed_once(self, desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("autogen_coord.core.inspect.PAGE", 2)

        def fold(rows: Transaction, now: float) -> None:
            for n in range(7):
                tasks.submit(rows, Submit(f"x{n}", "work", "1"), now, LASTING)
                tasks.cancel(rows, tasks.Cancel(f"x{n}"), now, LASTING)

        desk.write(fold)
        found = [one["id"] for one in desk.json("tasks", "list", "--state", "cancelled", "--capability", "work")]
        assert found == [f"x{n}" for n in reversed(range(7))]
        assert len(desk.json("tasks", "list", "--state", "cancelled", "--limit", "5")) == 5

    def test_the_dead_say_their_error(self, desk: Desk) -> None:
        assert "ValueError: no article b" in desk.run("tasks", "dead").out.splitlines()[1]
        assert [(one["id"], one["error"]["text"]) for one in desk.json("tasks", "dead")] == [
            ("b", "no article b"),
            ("a", "no article a"),
        ]
        assert desk.json("tasks", "dead", "--capability", "other") == []

    def test_an_expired_task_says_what_passed(self, desk: Desk) -> None:
        desk.submit("e", ttl=1e-6)
        desk.write(lambda rows, now: claims.claim(rows, Claim("s1", [Want.of(("work",), "p-s1", 9)]), now, LASTING))
        assert "its deadline or ttl passed" in desk.run("tasks", "dead").out

    def test_show_tells_the_attempts(self, desk: Desk) -> None:
        said = desk.run("tasks", "show", "a").out
        assert re.search(r"^state +failed$", said, re.M)
        assert re.search(r"^error +ValueError: no article a$", said, re.M)
        assert re.search(r"^1 +failed +\S+ \S+ +\d+ ms +p-s1 +ValueError: no article a$", said, re.M)
        assert 'File "x.py"' not in said
        assert 'File "x.py"' in desk.run("tasks", "show", "a", "--traceback").out
        value = desk.json("tasks", "show", "a")
        assert (value["attempts"][0]["end"], value["error"]["type"]) == ("failed", "ValueError")

    def test_bodies_are_hidden_until_asked_for(self, desk: Desk) -> None:
        for args in (("tasks", "show", "c"), ("tasks", "list"), ("events", "--since", "0"), ("doctor",)):
            for more in ((), ("--json",)):
                assert SECRET not in "".join(map(str, desk.run(*args, *more)))
        assert f'input:\n"{SECRET}"\n' in desk.run("tasks", "show", "c", "--input").out
        assert f'output:\n"{SECRET}-out"\n' in desk.run("tasks", "show", "c", "--output").out
        assert desk.json("tasks", "show", "c", "--input", "--output")["output"] == SECRET + "-out"
        assert desk.json("tasks", "show", "d", "--output")["output"] is None

    def test_a_wrong_id_is_one_line_that_says_what_to_do(self, desk: Desk) -> None:
        said = desk.run("tasks", "show", "nope")
        assert (said.code, said.out, said.err.count("\n")) == (1, "", 1)
        assert said.err.startswith("error: no task 'nope' in namespace 'default'")
        assert "`autogen-coord tasks list`" in said.err

    def test_a_wrong_state_is_wrong_usage_and_names_the_states(self, desk: Desk) -> None:
        said = desk.run("tasks", "list", "--state", "lost")
        assert said.code == 2
        assert "'delayed'" in said.err

    def test_nothing_there_is_no_error(self, desk: Desk) -> None:
        said = desk.run("tasks", "list", "--namespace", "other")
        assert (said.code, said.out, said.err) == (
            0,
            "",
            "no tasks in namespace 'other': nothing was ever stored there; there are 'default'\n",
        )
        assert desk.json("tasks", "list", "--namespace", "other") == []

    @pytest.mark.parametrize(
        ("args", "words"),
        [
            (("list", "--capability", "other"), "no tasks of capability 'other' in namespace 'default': nobody ever announced it"),
            (("list", "--capability", "other"), "; known are 'work'"),
            (
                ("list", "--state", "parked"),
                "no tasks that are parked in namespace 'default'; there are 1 ready, 1 succeeded, 2 failed",
            ),
            (("dead", "--capability", "other"), "no dead letters of capability 'other' in namespace 'default'"),
            (("dead", "--namespace", "other"), "there are 'default'"),
        ],
    )
    def test_nothing_there_says_what_was_looked_for_and_what_exists(self, args: tuple[str, ...], words: str, desk: Desk) -> None:
        said = desk.run("tasks", *args)
        assert (said.code, said.out) == (0, "")
        assert words in said.err

    def test_the_dead_know_their_parent_and_who_stands_for_them(self, desk: Desk) -> None:
        assert "parent" not in desk.run("tasks", "dead").out
        assert "requeued as" not in desk.run("tasks", "dead").out
        new = desk.run("tasks", "requeue", "a").out.split()[-1]
        desk.sql("UPDATE task SET parent = 'gone' WHERE id = 'b'")
        head, first, second = desk.run("tasks", "dead").out.splitlines()
        assert re.split(r"  +", head)[-4:] == ["ended", "parent", "requeued as", "error"]
        assert (" gone " in first, f" {new} " in second) == (True, True)
        found = {one["id"]: (one["parent"], one["requeued_as"]) for one in desk.json("tasks", "dead")}
        assert found == {"b": ("gone", None), "a": (None, new)}
        assert desk.json("tasks", "show", "a")["requeued_as"] == new

    def test_attempts_that_crashed_are_counted_apart_from_those_while_alone(self, desk: Desk) -> None:
        desk.claim()
        desk.kill("s1")
        said = desk.run("tasks", "show", "d").out
        assert re.search(r"^attempts +1 begun, 0 failed, 1 crashed \(0 while alone\)$", said, re.M)

    def test_the_output_of_what_has_none_is_said_to_be_none(self, desk: Desk) -> None:
        assert desk.run("tasks", "show", "a", "--output").out.endswith("\nno output: the task is failed\n")
        assert desk.run("tasks", "show", "d", "--output").out.endswith("\nno output: the task is ready\n")

    def test_looking_leaves_no_trace(self, desk: Desk) -> None:
        before = desk.json("events", "--since", "0", "--limit", "1000")
        for args in (("tasks", "list"), ("tasks", "show", "a"), ("tasks", "dead"), ("events",), ("doctor",), ("migrate",)):
            assert desk.run(*args).code == 0
        assert desk.json("events", "--since", "0", "--limit", "1000") == before


class TestSteering:
    @pytest.fixture
    def desk(self, desk: Desk) -> Desk:
        desk.provide()
        return desk

    def test_cancel_says_of_each_what_became_of_it(self, desk: Desk) -> None:
        desk.submit("runs")
        desk.claim()
        desk.submit("waits")
        assert desk.run("tasks", "cancel", "runs", "waits").out.splitlines() == [
            "runs is asked to stop, and ended by force after 5.0 s",
            "waits cancelled",
        ]
        said = desk.run("tasks", "cancel", "nope", "waits")
        assert (said.code, said.out) == (1, "waits had ended before\n")
        assert said.err.startswith("error: no task 'nope'")
        assert desk.json("tasks", "show", "waits")["state"] == "cancelled"

    def test_requeue_makes_a_new_task(self, desk: Desk) -> None:
        desk.fail("a")
        said = desk.run("tasks", "requeue", "a")
        new = said.out.split()[-1]
        assert said.out == f"a requeued as {new}\n"
        value = desk.json("tasks", "show", new, "--input")
        assert (value["state"], value["requeued_from"], value["input"]) == ("ready", "a", SECRET)

    def test_requeue_refuses_what_is_no_dead_letter_and_does_the_rest(self, desk: Desk) -> None:
        desk.fail("a")
        desk.submit("b")
        said = desk.run("tasks", "requeue", "b", "nope", "a")
        assert said.code == 1
        assert [line.split(":")[0] for line in said.err.splitlines()] == ["error", "error"]
        assert "only failed and expired tasks are requeued" in said.err
        assert said.out.startswith("a requeued as ")

    def test_requeue_all_takes_each_dead_letter_once(self, desk: Desk) -> None:
        for id in ("00a", "00b", "00c"):  # older than ids that are drawn now
            desk.fail(id)
        desk.run("tasks", "requeue", "00b")
        assert [line.split()[0] for line in desk.run("tasks", "requeue", "--all").out.splitlines()] == ["00a", "00c"]
        again = desk.run("tasks", "requeue", "--all")
        said = "no dead letters to requeue in namespace 'default'; skipped 3 dead letters: 3 requeued already\n"
        assert (again.code, again.out, again.err) == (0, "", said)
        assert len(desk.json("tasks", "list", "--state", "ready")) == 3

    def test_requeue_says_when_a_task_stands_for_the_dead_letter_already(self, desk: Desk) -> None:
        desk.submit("a", key="k")
        desk.claim()
        desk.finish("a", error="no")
        new = desk.run("tasks", "requeue", "a").out.split()[-1]
        assert desk.run("tasks", "requeue", "a").out == f"a already requeued as {new}\n"
        desk.sql(f"UPDATE task SET requeued_from = NULL WHERE id = '{new}'")
        assert desk.run("tasks", "requeue", "a").out == f"a superseded by {new}\n"

    def test_requeue_all_takes_only_what_nobody_stands_for(self, desk: Desk) -> None:
        def die(id: str, **options: Any) -> None:
            desk.submit(id, **options)
            assert desk.claim() == [id]
            desk.finish(id, error="no")

        die("00a", key="k")
        die("00b", key="k", retry_failed=True)
        die("00c")
        die("00d")
        desk.run("tasks", "requeue", "00c")
        desk.sql("UPDATE task SET parent = 'gone' WHERE id = '00d'")
        said = desk.run("tasks", "requeue", "--all")
        assert [line.split()[0] for line in said.out.splitlines()] == ["00b"]
        assert said.err.startswith("skipped 3 dead letters: ")
        for words in (
            "1 requeued already",
            "1 superseded by a later task of the same key",
            "1 made by a parent (--children takes these)",
        ):
            assert words in said.err
        said = desk.run("tasks", "requeue", "--all", "--children")
        assert [line.split()[0] for line in said.out.splitlines()] == ["00d"]

    def test_cancel_of_what_runs_in_a_dead_process(self, desk: Desk) -> None:
        desk.submit("a")
        desk.claim()
        desk.sql("UPDATE session SET lease_until = 1")
        desk.provide("s2")
        said = desk.run("tasks", "cancel", "a").out
        assert said == "a is asked to stop, but its process is silent: a live one ends it\n"

    def test_requeue_all_of_a_capability(self, desk: Desk) -> None:
        desk.fail("a")
        assert desk.run("tasks", "requeue", "--all", "--capability", "other").out == ""
        assert desk.run("tasks", "requeue", "--all", "--capability", "work").out.startswith("a requeued as ")

    @pytest.mark.parametrize("args", [(), ("--all", "a"), ("a", "--capability", "work"), ("a", "--children")])
    def test_requeue_of_nothing_or_of_two_things_is_wrong_usage(self, args: tuple[str, ...], desk: Desk) -> None:
        assert desk.run("tasks", "requeue", *args).code == 2

    def test_purge_forgets_what_is_finished_and_old_enough(self, desk: Desk) -> None:
        desk.fail("a")
        desk.submit("b")
        arguments = ("tasks", "purge", "--state", "failed", "--state", "succeeded", "--yes", "--older")
        assert desk.run(*arguments, "7d").out == "purged 0 tasks\n"
        assert desk.run(*arguments, "0s").out == "purged 1 task\n"
        assert [one["id"] for one in desk.json("tasks", "list")] == ["b"]

    def test_purge_goes_on_until_all_is_gone(self, desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("AUTOGEN_COORD_SLICE", "2")
        for n in range(5):
            desk.submit(f"t{n}")
        desk.run("tasks", "cancel", *(f"t{n}" for n in range(5)))
        assert desk.run("tasks", "purge", "--state", "cancelled", "--older", "0s", "--yes").out == "purged 5 tasks\n"

    def test_purge_does_nothing_unless_somebody_says_yes(self, desk: Desk) -> None:
        desk.fail("a")
        said = desk.run("tasks", "purge", "--state", "failed", "--older", "0s")
        assert (said.code, said.out) == (1, "")
        assert said.err == "error: purge would forget 1 task for good: nobody is here to say yes, pass --yes\n"
        assert len(desk.json("tasks", "list")) == 1

    @pytest.mark.parametrize(
        "args",
        [
            ("--state", "running", "--older", "1d"),
            ("--state", "failed"),
            ("--older", "1d"),
            ("--state", "failed", "--older", "x"),
            ("--state", "failed", "--older", "5"),
        ],
    )
    def test_purge_of_live_tasks_or_of_no_stated_age_is_wrong_usage(self, args: tuple[str, ...], desk: Desk) -> None:
        assert desk.run("tasks", "purge", "--yes", *args).code == 2


class TestEvents:
    @pytest.fixture
    def desk(self, desk: Desk) -> Desk:
        desk.provide()
        for id in ("a", "b"):
            desk.submit(id)
        return desk

    def test_the_last_or_those_after_a_number_in_order(self, desk: Desk) -> None:
        assert [one["number"] for one in desk.json("events")] == [1, 2, 3, 4]
        assert [one["number"] for one in desk.json("events", "--limit", "2")] == [3, 4]
        assert [one["number"] for one in desk.json("events", "--since", "1", "--limit", "2")] == [2, 3]
        assert desk.json("events", "--since", "9") == []
        assert [one["subject"] for one in desk.json("events", "--kind", "task.delegated", "--limit", "1")] == ["b"]
        kinds = ("--kind", "session.opened", "--kind", "agent.online")
        assert [one["kind"] for one in desk.json("events", "--since", "0", *kinds)] == ["session.opened", "agent.online"]

    def test_a_line_for_each(self, desk: Desk) -> None:
        line = desk.run("events", "--limit", "1").out
        assert re.fullmatch(r" +4  \S+ \S+Z  task\.delegated    b  capability=work\n", line)

    def test_what_was_pruned_is_said_to_be_so(self, desk: Desk) -> None:
        settings = Settings(keep_count=1)
        desk.write(lambda rows, now: prune(rows, Prune(), now, settings), settings)
        said = desk.run("events", "--since", "0")
        assert (said.code, said.err) == (1, "error: events up to 3 were pruned; begin with --since 3\n")
        assert [one["number"] for one in desk.json("events")] == [4]

    def test_a_number_beyond_the_end_is_said_to_be_so(self, desk: Desk) -> None:
        said = desk.run("events", "--since", "9")
        assert (said.code, said.out, said.err) == (0, "", "nothing after 9 yet: the newest event is 4\n")
        assert desk.run("events", "--since", "4").err == "no events after 4 in namespace 'default'\n"
        assert desk.run("events", "--kind", "task.failed").err == "no events of kind task.failed in namespace 'default'\n"
        assert "there are 'default'" in desk.run("events", "--namespace", "other").err

    def test_an_unknown_kind_is_wrong_usage(self, desk: Desk) -> None:
        assert desk.run("events", "--kind", "task.lost").code == 2

    @pytest.mark.process
    @pytest.mark.timeout(60)
    def test_follow_prints_what_others_commit(self, desk: Desk) -> None:
        command = [sys.executable, "-m", "autogen_coord", "events", "--follow", "--since", "3", "--limit", "2", "--json"]
        with subprocess.Popen([*command, "--store", str(desk.path)], stdout=subprocess.PIPE, text=True) as following:
            assert following.stdout is not None
            assert json.loads(following.stdout.readline())["subject"] == "b"
            desk.submit("c")
            assert json.loads(following.stdout.readline())["subject"] == "c"
            assert following.wait(20) == 0


LOOKING = [
    ("tasks", "list"),
    ("tasks", "show", "a"),
    ("tasks", "dead"),
    ("events",),
    ("events", "--follow"),
    ("doctor",),
    ("migrate",),
    ("agents", "list"),
    ("agents", "show", "work"),
]
CHANGING = [
    ("call", "work", "1"),
    ("send", "writer", "1"),
    ("receive", "writer", "--timeout", "0"),
    ("tasks", "cancel", "a"),
    ("tasks", "requeue", "a"),
    ("tasks", "requeue", "--all"),
    ("tasks", "purge", "--state", "failed", "--older", "0s", "--yes"),
]


class TestStoresThatCannotBeUsed:
    @pytest.mark.parametrize("args", LOOKING + CHANGING)
    def test_a_store_that_is_not_there_is_not_made(self, args: tuple[str, ...], desk: Desk) -> None:
        said = desk.run(*args)
        assert said.code == 1
        assert "the first program that opens it makes it" in said.out + said.err
        assert list(desk.path.parent.iterdir()) == []

    def test_an_empty_file_stays_empty(self, desk: Desk) -> None:
        desk.path.touch()
        assert desk.run("tasks", "list").code == 1
        assert desk.path.stat().st_size == 0

    @pytest.mark.parametrize("args", LOOKING + CHANGING)
    def test_a_store_of_a_newer_schema_is_refused_with_what_mends_it(self, args: tuple[str, ...], desk: Desk) -> None:
        desk.provide()
        desk.sql("INSERT INTO schema_version (version, oldest, newest, at) VALUES (99, 99, 99, 0)")
        said = desk.run(*args)
        assert said.code == 1
        assert "pip install --upgrade autogen-coord" in said.out + said.err
        assert "Traceback" not in said.err

    @pytest.mark.parametrize("args", LOOKING + CHANGING)
    def test_a_file_that_is_no_store_is_left_as_it_is(self, args: tuple[str, ...], desk: Desk) -> None:
        desk.path.write_text("my diary\n" * 100)
        said = desk.run(*args)
        assert said.code == 1
        assert "not an SQLite file" in said.out + said.err
        assert desk.path.read_text() == "my diary\n" * 100

    def test_the_memory_of_one_process_cannot_be_looked_at(self, desk: Desk) -> None:
        said = desk.bare("tasks", "list", "--store", "dict://x")
        assert (said.code, said.err.count("\n")) == (1, 1)
        assert "seen by nobody else" in said.err

    @pytest.mark.parametrize("args", [*LOOKING, *CHANGING])
    def test_no_password_is_printed(self, args: tuple[str, ...], desk: Desk) -> None:
        for scheme in ("postgresql", "mysql"):
            said = desk.bare(*args, "--store", f"{scheme}://me:hunter2@host/db")
            assert said.code == 1
            assert "hunter2" not in said.out + said.err

    def test_a_traceback_is_shown_only_when_asked_for(self, desk: Desk) -> None:
        assert "Traceback" not in desk.run("tasks", "list").err
        for said in (desk.run("tasks", "list", "--debug"), desk.run("--debug", "tasks", "list")):
            assert "Traceback" in said.err
            assert said.err.splitlines()[-1].startswith("error: store ")

    def test_a_fault_of_ours_is_a_line_too(self, desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("autogen_coord.cli.tasks.on_store", lambda *given: 1 / 0)
        said = desk.run("tasks", "list")
        assert (said.code, said.err.count("\n")) == (1, 1)
        assert said.err.startswith("error: ZeroDivisionError: ")
        assert "--debug" in said.err

    def test_the_environment_names_the_store_and_the_option_wins(self, desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
        desk.provide()
        desk.submit("a")
        monkeypatch.setenv("AUTOGEN_COORD_STORE", str(desk.path))
        assert desk.bare("tasks", "show", "a").code == 0
        assert desk.bare("tasks", "show", "a", "--store", "elsewhere.db").code == 1

    def test_by_url(self, desk: Desk) -> None:
        desk.provide()
        assert desk.bare("events", "--store", f"sqlite:///{desk.path}").code == 0


class TestMigrate:
    def test_a_store_at_this_schema_needs_none(self, desk: Desk) -> None:
        desk.provide()
        said = desk.run("migrate")
        assert said.code == 0
        assert re.search(r"schema (\d+) needs no migration \(this version makes schema \1\)", said.out)
        assert [one.name for one in desk.path.parent.iterdir() if one.name.endswith(("-wal", "-shm"))] == []


class TestDoctor:
    def checks(self, desk: Desk, *args: str) -> dict[str, tuple[str, str]]:
        said = desk.run("doctor", "--json", *args)
        found = {one["name"]: (one["level"], f"{one['says']}; {one['do']}") for one in json.loads(said.out)["checks"]}
        assert said.code == int(any(level == "fail" for level, _ in found.values()))
        return found

    def test_a_good_store_is_well_in_every_point(self, desk: Desk) -> None:
        desk.provide()
        found = self.checks(desk)
        assert {level for name, (level, _) in found.items() if name not in ("disk", "packages")} == {"ok"}
        assert {"python", "settings", "file system", "store", "schema", "integrity", "turn to write", "sessions"} <= set(found)
        assert found["durability"][1].startswith("journal wal, synchronous FULL")
        assert found["sessions"][1].startswith("1 live, 0 suspect")
        lines = desk.run("doctor").out.splitlines()
        assert re.fullmatch(r"ok    schema +schema \d+, .*", next(line for line in lines if " schema " in line))

    @pytest.mark.parametrize(("make", "words"), [(True, "an SQLite file of another program"), (False, "not an SQLite file")])
    def test_a_file_of_another_program_fails(self, make: bool, words: str, desk: Desk) -> None:
        if make:
            desk.sql("CREATE TABLE theirs (x)")
        else:
            desk.path.write_bytes(b"%PDF-1.7" * 100)
        before = desk.path.read_bytes()
        level, says = self.checks(desk)["store"]
        assert level == "fail"
        assert words in says
        assert desk.path.read_bytes() == before

    def test_a_network_mount_is_refused(self, desk: Desk, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        desk.provide()
        mounts = tmp_path / "mountinfo"
        mounts.write_text(NFS)
        monkeypatch.setattr(files, "MOUNTS", mounts)
        found = self.checks(desk)
        assert found["file system"][0] == "fail"
        assert "nfs4 is a network mount" in found["file system"][1]
        assert "integrity" not in found
        assert "network file system (nfs4)" in desk.run("tasks", "list").err

    @pytest.mark.parametrize(("free", "level"), [(1 << 20, "fail"), (1 << 29, "warn"), (1 << 40, "ok")])
    def test_little_disk(self, free: int, level: str) -> None:
        assert doctor.check_disk(checkup.Place("/x", "ext4", False, free)).level == level

    def test_a_file_system_that_cannot_be_told_is_worth_a_look(self) -> None:
        assert doctor.check_file_system(checkup.Place("/x", None, False, 1)).level == "warn"

    def test_a_damaged_file_fails(self, desk: Desk) -> None:
        desk.provide()
        for n in range(20):
            desk.submit(f"t{n}", input=json.dumps("x" * 10_000))
        desk.sql("PRAGMA wal_checkpoint(TRUNCATE)")
        size = desk.path.stat().st_size
        with desk.path.open("r+b") as file:
            file.seek(size // 2)
            file.write(os.urandom(size // 4))
        level, says = self.checks(desk)["integrity"]
        assert level == "fail"
        assert "restore a backup" in says

    def test_work_without_a_provider(self, desk: Desk) -> None:
        desk.provide()
        desk.submit("a")
        assert self.checks(desk)["tasks"] == ("ok", "1 live (1 ready); ")
        desk.kill("s1")
        level, says = self.checks(desk)["tasks"]
        assert (level, says) == ("warn", "1 live (1 ready); 1 ready without a provider: work (1); start a program that provides it")

    def test_live_tasks_while_no_process_is_live(self, desk: Desk) -> None:
        desk.provide()
        desk.submit("a", delay=1000.0)
        assert self.checks(desk)["tasks"] == ("ok", "1 live (1 delayed); ")
        desk.kill("s1")
        do = "they wait until a program that provides them starts"
        assert self.checks(desk)["tasks"] == ("warn", f"1 live (1 delayed); no process is live; {do}")

    def test_a_suspect_may_be_slow_or_just_dead(self, desk: Desk) -> None:
        desk.provide(settings=Settings(session_ttl=3000.0, suspect_after=0.01, beat=0.005))
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("AUTOGEN_COORD_SESSION_TTL", "3000")
            desk.sql("UPDATE session SET lease_until = lease_until - 10")
            level, says = self.checks(desk)["sessions"]
        assert level == "warn"
        assert says.endswith("overloaded, or their process has just died")

    def test_the_dead_with_nobody_to_bury_them(self, desk: Desk) -> None:
        desk.provide()
        desk.sql("UPDATE session SET lease_until = 1")
        level, says = self.checks(desk)["sessions"]
        assert level == "warn"
        assert (
            says == "0 live, 0 suspect, 1 overdue, 0 dead; nobody is there to take their work over: start any program on this store"
        )

    def test_a_turn_to_write_that_does_not_come(self, desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
        desk.provide()
        monkeypatch.setenv("AUTOGEN_COORD_STORE_WAIT", "0.2")
        gate = Gate(str(desk.path))
        try:
            with gate.passed(time.monotonic() + 1.0):
                level, says = self.checks(desk)["turn to write"]
        finally:
            gate.close()
        assert level == "fail"
        assert "another process holds" in says

    def test_a_namespace_that_is_not_there(self, desk: Desk) -> None:
        desk.provide()
        level, says = self.checks(desk, "--namespace", "typo")["namespace"]
        assert level == "warn"
        assert "'default'" in says

    def test_settings_say_where_they_come_from(self, desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
        desk.provide()
        Path("autogen-coord.toml").write_text("tries = 5\nbackoff = 1.5\n")
        monkeypatch.setenv("AUTOGEN_COORD_TRIES", "7")
        monkeypatch.setenv("AUTOGEN_COORD_TRYES", "7")
        value = json.loads(desk.run("doctor", "--json").out)
        origins = {one["name"]: (one["value"], one["from"]) for one in value["settings"]}
        assert origins["tries"] == (7, "environment")
        assert origins["backoff"] == (1.5, "file")
        assert origins["store"] == (str(desk.path), "argument")
        assert origins["poll"][1] == "default"
        assert "AUTOGEN_COORD_TRYES" in self.checks(desk)["settings"][1]

    def test_settings_that_cannot_be_used_fail(self, desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
        desk.provide()
        monkeypatch.setenv("AUTOGEN_COORD_TRIES", "many")
        level, says = self.checks(desk)["settings"]
        assert level == "fail"
        assert "tries='many' in AUTOGEN_COORD_TRIES: a whole number is wanted" in says
        assert self.checks(desk)["turn to write"][0] == "ok"

    @pytest.mark.parametrize(
        ("text", "words"),
        [
            ("trys = 1", "unknown setting 'trys' in autogen-coord.toml; did you mean 'tries'?"),
            ("tries = 0", "tries=0 in autogen-coord.toml: must be greater than or equal to 1"),
            ("beat = 9", "beat < suspect_after < session_ttl must hold"),
            ("beat =", "settings file autogen-coord.toml: "),
        ],
    )
    def test_a_settings_file_that_cannot_be_used_is_one_failed_check(self, text: str, words: str, desk: Desk) -> None:
        desk.provide()
        Path("autogen-coord.toml").write_text(f"{text}\n")
        found = self.checks(desk)
        assert found["settings"][0] == "fail"
        assert found["settings"][1].startswith(words)
        assert {"store", "schema", "integrity", "turn to write", "tasks"} <= set(found)
        said = desk.run("tasks", "list")
        assert (said.code, said.err.count("\n")) == (1, 1)
        assert words in said.err


class TestWhatIsWritten:
    """Messages and documents against what there is."""

    def commands(self) -> set[str]:
        group = typer.main.get_command(app)
        assert isinstance(group, Group)
        deep = ((name, command.commands if isinstance(command, Group) else {}) for name, command in group.commands.items())
        return {" ".join(words) for name, below in deep for words in ((name,), *((name, each) for each in below))}

    def texts(self) -> Iterator[tuple[str, str]]:
        root = Path(autogen_coord.__file__).parent
        for path in root.rglob("*.py"):
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
                if isinstance(node, ast.Constant) and isinstance(node.value, str):
                    yield str(path), node.value
        for path in (root.parent / "README.md", *(root.parent / "docs").rglob("*.md")):
            yield str(path), path.read_text(encoding="utf-8")

    def test_no_message_names_a_command_that_does_not_exist(self) -> None:
        there = self.commands()
        assert {"doctor", "tasks list"} <= there
        found = [
            (path, match[1].split())
            for path, text in self.texts()
            for match in re.finditer(r"(?:`|^)autogen-coord ((?:[a-z]+(?:-[a-z]+)*\b[ ]?)+)", text, re.M)
        ]
        found += [(path, match[1].split()) for path, text in self.texts() for match in re.finditer(r"`(tasks [a-z]+)[ `]", text)]
        assert len(found) > 10
        groups = {name.split()[0] for name in there if " " in name}
        named = [(path, " ".join(words[: 2 if words[0] in groups else 1])) for path, words in found]
        assert [(path, name) for path, name in named if name not in there] == []

    def test_every_setting_is_in_the_table(self) -> None:
        text = (Path(autogen_coord.__file__).parent.parent / "docs" / "cli.md").read_text(encoding="utf-8")
        rows = re.findall(r"^\| `(\w+)` \| `?(.*?)`? \| .+ \|$", text[text.index("| setting | default") :], re.M)
        assert rows == [(name, str(field.default)) for name, field in Settings.model_fields.items()]
        assert "AUTOGEN_COORD_CONFIG" in text
        assert "autogen-coord.toml" in text


class TestTheCommandItself:
    @pytest.mark.process
    @pytest.mark.timeout(60)
    def test_as_a_module_it_tells_its_version(self) -> None:
        ended = subprocess.run([sys.executable, "-m", "autogen_coord", "--version"], capture_output=True, text=True, check=True)
        assert re.fullmatch(r"autogen-coord \d+\.\d+\.\d+\n", ended.stdout)

    @pytest.mark.process
    @pytest.mark.timeout(60)
    def test_a_reader_that_has_seen_enough_is_no_traceback(self, desk: Desk) -> None:
        desk.provide()
        for n in range(3):
            desk.submit(f"t{n}", key="k" * 200 + str(n))
        command = f"{sys.executable} -m autogen_coord events --json --since 0 --store {desk.path} | true"
        ended = subprocess.run(command, shell=True, capture_output=True, text=True)
        assert "Traceback" not in ended.stderr
        assert "Exception" not in ended.stderr

    @pytest.mark.parametrize(
        "args", [("nope",), ("tasks", "nope"), ("tasks", "show"), ("events", "--since", "-1"), ("tasks", "list", "--state", "x")]
    )
    def test_wrong_usage_is_code_2_and_a_line_that_names_the_help(self, args: tuple[str, ...], desk: Desk) -> None:
        said = desk.bare(*args)
        assert (said.code, said.out, said.err.count("\n")) == (2, "", 1)
        assert re.fullmatch(r"error: .*; see `autogen-coord[a-z ]* --help`\n", said.err)
        assert "Value error" not in said.err
        assert "Input should" not in said.err

    @pytest.mark.parametrize("args", [(), ("tasks",)])
    def test_nothing_asked_is_the_help(self, args: tuple[str, ...], desk: Desk) -> None:
        said = desk.bare(*args)
        assert said.code == 2
        assert said.err.startswith("Usage: autogen-coord")

    def test_a_log_line_is_a_line_like_ours(self, desk: Desk) -> None:
        record = logging.LogRecord("x", logging.WARNING, "f", 1, "session %s is dead\nnow", ("s1",), None)
        desk.bare("--version")
        assert logging.lastResort is not None
        assert logging.lastResort.format(record) == "warning: session s1 is dead now"

    def test_names_chosen_by_others_cannot_steer_the_terminal(self, desk: Desk) -> None:
        desk.provide()
        desk.fail("a", "\x1b[31mred\x07\nsecond line [bold]not markup[/bold] \ud800")
        said = desk.run("tasks", "dead").out
        assert "\x1b" not in said
        assert "\\x1b[31mred\\x07 second line [bold]not markup[/bold] \\ud800" in said

    @pytest.mark.parametrize(
        ("seconds", "words"),
        [(0.0124, "12 ms"), (1.0, "1.0 s"), (59.0, "59 s"), (600.0, "10 min"), (7200.0, "2 h"), (172_800.0, "2 d")],
    )
    def test_times_are_said_in_one_unit(self, seconds: float, words: str) -> None:
        assert span(seconds) == words
        assert moment(0.0, seconds) == f"1970-01-01 00:00:00Z ({words} ago)"

    def test_a_narrow_terminal_cuts_the_last_column_and_no_other(
        self, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        row = ("x" * 26, "succeeded", "k" * 60)
        print_table(("task", "state", "key"), [row])
        assert capsys.readouterr().out.splitlines()[1] == "  ".join(row)
        monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
        monkeypatch.setenv("COLUMNS", "60")
        monkeypatch.setenv("NO_COLOR", "1")
        monkeypatch.setenv("TERM", "xterm")
        print_table(("task", "state", "key"), [row])
        line = re.sub(r"\x1b\[\d*m", "", capsys.readouterr().out.splitlines()[1])
        assert line == "  ".join((row[0], row[1], "k" * 20 + "…"))
        assert len(line) == 60

    def test_long_texts_are_cut(self) -> None:
        assert clean("x" * 10, 5) == "xxxx…"
        assert NotFoundError("x").code == "not_found"
