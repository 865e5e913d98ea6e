"""``locks list``, ``locks show`` and ``locks release``: who holds what and who waits for whom, as an operator sees it."""

from __future__ import annotations

import asyncio
import os
import re
import socket
import subprocess
import sys
from contextvars import Context
from pathlib import Path

import pytest

from autogen_coord import Coordination, LeaseLostError
from autogen_coord.core import locks, sessions
from autogen_coord.core.lock_modes import stored
from autogen_coord.core.lock_queue import Want
from autogen_coord.core.locks import Acquire, Answer, Convert
from autogen_coord.core.sessions import OpenSession
from autogen_coord.core.store import Transaction
from autogen_coord.core.tables import SESSION
from tests.acceptance.desk import LASTING, Desk


def ask(
    desk: Desk, id: str, *wants: tuple[str, str], session: str = "s1", owner: str | None = None, task: str | None = None
) -> Answer:
    """Take a lock, or wait for it, in a session of its own host."""

    def fold(rows: Transaction, now: float) -> Answer:
        sessions.open_session(rows, OpenSession(session, "process", f"host-{session}:1"), now, LASTING)
        places = tuple(sorted(Want(stored(path), mode) for path, mode in wants))
        return locks.acquire(rows, Acquire(id, session, places, True, owner=owner, task=task, attempt=1), now, LASTING)

    return desk.write(fold)


def die(desk: Desk, session: str) -> None:
    """It was declared dead, and nobody has cleared what it left."""

    def fold(rows: Transaction, now: float) -> None:
        row = rows.one(SESSION, session)
        assert row is not None
        rows.put(SESSION, row._replace(state=sessions.DEAD))

    desk.write(fold)


def table(out: str) -> list[list[str]]:
    return [re.split(r"  +", line) for line in out.splitlines()]


def drawn(desk: Desk, path: str) -> list[str]:
    """The tree, without what differs from run to run."""
    said = desk.run("locks", "show", path)
    assert said.code == 0, said.err
    return [re.sub(r", token \d+|,? for [\d.]+ m?s", "", line) for line in said.out.splitlines()]


@pytest.fixture(autouse=True)
def lasting(monkeypatch: pytest.MonkeyPatch) -> None:
    """The looker judges lateness by the ttl that the sessions of these tests have."""
    monkeypatch.setenv("AUTOGEN_COORD_SESSION_TTL", str(LASTING.session_ttl))
    monkeypatch.setenv("AUTOGEN_COORD_SUSPECT_AFTER", str(LASTING.suspect_after))


class TestList:
    def test_a_line_for_each_path_the_holders_before_those_who_wait(self, desk: Desk) -> None:
        ask(desk, "l1", ("repo/b", "X"), ("repo/a", "S"), owner="alice")
        ask(desk, "l2", ("repo/a", "S"), session="s2")
        ask(desk, "l3", ("repo/a", "X"), session="s3")
        head, *lines = table(desk.run("locks", "list").out)
        assert head == ["path", "mode", "state", "holder", "where", "since", "token", "lease"]
        shown = [(*line[:5], line[-1]) for line in lines]
        assert shown == [
            ("repo/a", "S", "held", "alice", "host-s1:1", "l1"),
            ("repo/a", "S", "held", "session s2", "host-s2:1", "l2"),
            ("repo/a", "X", "waits", "session s3", "host-s3:1", "l3"),
            ("repo/b", "X", "held", "alice", "host-s1:1", "l1"),
        ]
        assert all(re.fullmatch(r"\d.* ago", line[5]) for line in lines)
        first, second, waits, last = desk.json("locks", "list")
        assert first["token"] == last["token"] < second["token"]
        assert (waits["token"], waits["state"], waits["holder"]) == (None, "waits", "session s3")

    def test_a_lock_of_a_handler_names_its_task_and_capability(self, desk: Desk) -> None:
        desk.provide()
        desk.submit("t1")
        desk.claim()
        ask(desk, "l1", ("a", "X"), task="t1")
        assert table(desk.run("locks", "list").out)[1][3] == "task t1 of work"
        assert [(one["task"], one["attempt"], one["capability"]) for one in desk.json("locks", "list")] == [("t1", 1, "work")]

    def test_json_has_every_field(self, desk: Desk) -> None:
        ask(desk, "l1", ("a", "SIX"))
        (one,) = desk.json("locks", "list")
        assert one.pop("since") > 1e9
        assert one.pop("token") > 0
        assert one == {
            "path": "a",
            "mode": "SIX",
            "state": "held",
            "lease": "l1",
            "owner": None,
            "task": None,
            "attempt": 1,
            "capability": None,
            "session": "s1",
            "address": "host-s1:1",
            "session_state": "live",
            "priority": 5.0,
            "holder": "session s1",
        }

    def test_what_a_dead_session_left_is_marked(self, desk: Desk) -> None:
        ask(desk, "l1", ("a", "X"))
        ask(desk, "l2", ("b", "X"), session="s2")
        die(desk, "s1")
        desk.sql("UPDATE session SET lease_until = 1 WHERE id = 's2'")
        assert [line[2] for line in table(desk.run("locks", "list").out)[1:]] == ["dead", "overdue"]

    def test_more_than_the_limit_are_told_on_standard_error(self, desk: Desk) -> None:
        for number in range(4):
            ask(desk, f"l{number}", (f"p{number}", "X"))
        said = desk.run("locks", "list", "--limit", "3")
        assert (len(said.out.splitlines()), said.err) == (4, "there are more than 3: --limit shows them\n")
        said = desk.run("locks", "list", "--limit", "4")
        assert (len(said.out.splitlines()), said.err) == (5, "")

    @pytest.mark.parametrize(
        ("args", "words"),
        [
            ((), "no locks held or waited for in namespace 'default'"),
            (("--namespace", "other"), "nothing was ever stored there; there are 'default'"),
        ],
    )
    def test_none_is_no_error_and_says_so(self, args: tuple[str, ...], words: str, desk: Desk) -> None:
        desk.provide()
        said = desk.run("locks", "list", *args)
        assert (said.code, said.out, said.err.count("\n")) == (0, "", 1)
        assert words in said.err
        assert desk.json("locks", "list", *args) == []


class TestShow:
    def test_who_waits_for_whom_and_why(self, desk: Desk) -> None:
        ask(desk, "l1", ("repo/src/a.py", "X"), owner="alice")
        ask(desk, "l2", ("repo", "IS"), session="s2")
        ask(desk, "l3", ("repo/src", "S"), session="s3")
        ask(desk, "l4", ("repo/docs", "X"), ("repo/src/b.py", "X"), session="s4")
        ask(desk, "l5", ("repo", "X"), session="s5")
        assert drawn(desk, "repo/src") == [
            "repo/src",
            "├─ held",
            "│  ├─ IS on repo (above) by session s2 (host-s2:1), lease l2",
            "│  └─ X on repo/src/a.py (below) by alice (host-s1:1), lease l1",
            "└─ waited for",
            "   ├─ 1. session s3 (host-s3:1) wants S on repo/src",
            "   │  └─ X is held below it, on repo/src/a.py, by alice (host-s1:1)",
            "   ├─ 2. session s4 (host-s4:1) wants X on repo/docs, X on repo/src/b.py",
            "   │  └─ S is waited for above it, on repo/src, by session s3 (host-s3:1), who came before",
            "   └─ 3. session s5 (host-s5:1) wants X on repo",
            "      ├─ IS is held on repo, by session s2 (host-s2:1)",
            "      ├─ X is held below it, on repo/src/a.py, by alice (host-s1:1)",
            "      ├─ X is waited for below it, on repo/docs, by session s4 (host-s4:1), who came before",
            "      ├─ S is waited for below it, on repo/src, by session s3 (host-s3:1), who came before",
            "      └─ X is waited for below it, on repo/src/b.py, by session s4 (host-s4:1), who came before",
        ]
        view = desk.json("locks", "show", "repo/src")
        assert [one["lease"] for one in view["holders"]] == ["l2", "l1"]
        assert [[(each["lease"], each["place"], each["wanted"]) for each in one["behind"]] for one in view["waiters"][:2]] == [
            [("l1", "below", "repo/src")],
            [("l3", "above", "repo/src/b.py")],
        ]
        assert view["waiters"][1]["wants"] == [["repo/docs", "X"], ["repo/src/b.py", "X"]]

    def test_what_lies_beside_is_left_out(self, desk: Desk) -> None:
        ask(desk, "l1", ("repo/src", "X"))
        ask(desk, "l2", ("repo/src2", "X"))
        ask(desk, "l3", ("repo/src2", "X"), session="s2")
        assert drawn(desk, "repo/src") == ["repo/src", "└─ held", "   └─ X by session s1 (host-s1:1), lease l1"]

    def test_an_obstacle_elsewhere_is_seen_when_the_request_wants_that_too(self, desk: Desk) -> None:
        ask(desk, "l1", ("far/away", "X"))
        ask(desk, "l2", ("near", "X"), ("far/away", "X"), session="s2")
        assert drawn(desk, "near") == [
            "near",
            "├─ held",
            "│  └─ by nobody",
            "└─ waited for",
            "   └─ 1. session s2 (host-s2:1) wants X on far/away, X on near",
            "      └─ X is held on far/away, by session s1 (host-s1:1)",
        ]

    def test_a_conversion_goes_before_who_came_earlier(self, desk: Desk) -> None:
        for number in (1, 2):
            ask(desk, f"l{number}", ("a", "S"), session=f"s{number}")
        ask(desk, "l3", ("a", "X"), session="s3")
        command = Convert("c1", "l2", "s2", ("a/",), "X", True)
        desk.write(lambda rows, now: locks.convert(rows, command, now, LASTING))
        lines = drawn(desk, "a")
        assert lines[5:7] == [
            "   ├─ 1. session s2 (host-s2:1) would hold X on a",
            "   │  └─ S is held on a, by session s1 (host-s1:1)",
        ]
        assert "   │  └─" not in lines[7]
        assert [one["state"] for one in desk.json("locks", "show", "a")["waiters"]] == ["converts", "waits"]

    def test_a_dead_sessions_remains_are_marked_and_stand_in_nobodys_way(self, desk: Desk) -> None:
        ask(desk, "l1", ("a", "X"))
        ask(desk, "l2", ("a", "X"), session="s2")
        ask(desk, "l3", ("a", "X"), session="s3")
        die(desk, "s1")
        remains = " [remains of a dead session: they count for nothing, a live process clears them]"
        assert drawn(desk, "a") == [
            "a",
            "├─ held",
            "│  └─ X by session s1 (host-s1:1), lease l1" + remains,
            "└─ waited for",
            "   ├─ 1. session s2 (host-s2:1) wants X on a",
            "   │  └─ nothing stands in its way that counts: it is granted when the dead session's remains are cleared",
            "   └─ 2. session s3 (host-s3:1) wants X on a",
            "      └─ X is waited for on a, by session s2 (host-s2:1), who came before",
        ]
        die(desk, "s2")
        assert drawn(desk, "a")[4:6] == [
            "   ├─ 1. session s2 (host-s2:1) wants X on a" + remains,
            "   │  └─ nobody waits here any more: its session is over",
        ]

    def test_a_silent_session_is_marked(self, desk: Desk) -> None:
        ask(desk, "l1", ("a", "X"))
        desk.sql("UPDATE session SET lease_until = 1")
        assert drawn(desk, "a")[-1].endswith("lease l1 [its session is overdue: a live process will declare it dead]")

    def test_of_many_obstacles_some_are_named(self, desk: Desk) -> None:
        for number in range(10):
            ask(desk, f"l{number}", (f"a/{number}", "X"))
        ask(desk, "late", ("a", "X"), session="s2")
        lines = drawn(desk, "a")
        assert (lines[-1], sum("is held below it" in line for line in lines)) == ("      └─ and more", 8)
        assert desk.json("locks", "show", "a")["waiters"][0]["more"]

    def test_a_free_path_is_no_error(self, desk: Desk) -> None:
        ask(desk, "l1", ("a", "X"))
        said = desk.run("locks", "show", "b/c")
        assert (said.code, said.out, said.err) == (0, "", "no locks at, above or below 'b/c' in namespace 'default'\n")
        assert desk.json("locks", "show", "b/c") == {"path": "b/c", "holders": [], "waiters": [], "more": False}

    @pytest.mark.parametrize("path", ["/a", "a//b", "..", "", "a/"])
    def test_an_absurd_path_is_one_line(self, path: str, desk: Desk) -> None:
        desk.provide()
        said = desk.run("locks", "show", path)
        assert (said.code, said.out, said.err.count("\n")) == (1, "", 1)
        assert said.err.startswith(f"error: path {path!r}: ")

    def test_words_chosen_by_others_cannot_steer_the_terminal(self, desk: Desk) -> None:
        ask(desk, "l\x1b[31m", ("a", "X"), owner="ali\x1b[31mce")
        ask(desk, "l2", ("a", "X"), session="s2\x1b[31m")
        for args in (("list",), ("show", "a")):
            said = desk.run("locks", *args)
            assert "\x1b" not in said.out + said.err


class TestRelease:
    def test_a_lock_is_taken_and_the_next_is_granted(self, desk: Desk) -> None:
        ask(desk, "l1", ("a", "X"), owner="alice")
        ask(desk, "l2", ("a", "X"), session="s2")
        said = desk.run("locks", "release", "a", "--yes")
        assert (said.code, said.out) == (0, "a was taken from alice (host-s1:1)\n")
        assert [(one["lease"], one["state"]) for one in desk.json("locks", "list")] == [("l2", "held")]
        lost = [one for one in desk.json("events", "--since", "0") if one["kind"] == "resource.lost"]
        assert [(one["subject"], one["session"], one["data"]["lease"]) for one in lost] == [("a", "s1", "l1")]

    def test_it_is_taken_with_all_paths_of_its_lease(self, desk: Desk) -> None:
        ask(desk, "l1", ("a", "X"), ("b/c", "S"))
        said = desk.run("locks", "release", "b/c", "-y")
        assert said.out == "a was taken from session s1 (host-s1:1)\nb/c was taken from session s1 (host-s1:1)\n"
        assert desk.json("locks", "list") == []

    def test_of_several_holders_one_must_be_named(self, desk: Desk) -> None:
        for number in (1, 2):
            ask(desk, f"l{number}", ("a", "S"), session=f"s{number}")
        said = desk.run("locks", "release", "a", "--yes")
        assert (said.code, said.out) == (1, "")
        assert "'a' is held by 2 leases, name one with --lease: l1 (S by session s1), l2 (S by session s2)" in said.err
        said = desk.run("locks", "release", "a", "--lease", "l3", "--yes")
        assert (said.code, said.err) == (1, "error: lease l3 does not hold 'a': it is held by l1, l2\n")
        assert desk.run("locks", "release", "a", "--lease", "l2", "--yes").code == 0
        assert [one["lease"] for one in desk.json("locks", "list")] == ["l1"]

    @pytest.mark.parametrize("path", ["a/b", "c"])
    def test_what_is_not_held_itself_is_not_taken(self, path: str, desk: Desk) -> None:
        ask(desk, "l1", ("a", "X"))
        said = desk.run("locks", "release", path, "--yes")
        assert (said.code, said.out) == (1, "")
        assert said.err.startswith(f"error: '{path}' is not held: `autogen-coord locks show {path}`")
        assert len(desk.json("locks", "list")) == 1

    def test_where_nobody_can_say_yes_nothing_is_done(self, desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
        ask(desk, "l1", ("a", "X"), owner="alice")
        monkeypatch.setattr("sys.stdin.isatty", lambda: False, raising=False)
        said = desk.run("locks", "release", "a")
        assert (said.code, said.out) == (1, "")
        assert re.search(
            r"would take X on a from alice \(host-s1:1\), who has held it for .*: nobody is here .* pass --yes", said.err
        )
        assert len(desk.json("locks", "list")) == 1

    @pytest.mark.parametrize(("answer", "left"), [(True, 0), (False, 1)])
    def test_it_asks_before(self, answer: bool, left: int, desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
        ask(desk, "l1", ("a", "X"))
        monkeypatch.setattr("sys.stdin", _Terminal("y\n" if answer else "n\n"))
        said = desk.run("locks", "release", "a")
        assert said.code == (0 if answer else 1)
        assert "Take X on a from session s1 (host-s1:1)" in said.out + said.err
        assert len(desk.json("locks", "list")) == left

    @pytest.mark.process
    @pytest.mark.timeout(60)
    async def test_the_holder_in_another_process_hears_that_it_is_lost(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        for name in ("SESSION_TTL", "SUSPECT_AFTER"):
            monkeypatch.delenv(f"AUTOGEN_COORD_{name}")
        store = str(tmp_path / "coord.db")
        next_one, said = asyncio.Event(), list[str]()

        async def wait_for_it(coord: Coordination) -> None:
            async with coord.lock("report", wait=None):
                next_one.set()

        async def take_it() -> None:
            command = [sys.executable, "-m", "autogen_coord", "locks", "release", "report", "--yes", "--store", store]
            taken = await asyncio.create_subprocess_exec(*command, stdout=subprocess.PIPE)
            out, _ = await taken.communicate()
            said.append(out.decode())

        async with asyncio.timeout(30), Coordination.open(store) as coord, Coordination.open(store) as other:
            async with asyncio.TaskGroup() as group:
                with pytest.raises(LeaseLostError, match="taken away"):
                    async with coord.lock("report") as lease:
                        group.create_task(wait_for_it(other), context=Context())
                        group.create_task(take_it())
                        await asyncio.Event().wait()  # until the block is cancelled
                assert lease.lost.is_set()
                await next_one.wait()
        assert said == [f"report was taken from session {lease.session} ({socket.gethostname()}:{os.getpid()})\n"]


class _Terminal:
    """Standard input with somebody at it."""

    def __init__(self, text: str) -> None:
        self._lines = text.splitlines(keepends=True)

    def isatty(self) -> bool:
        return True

    def readline(self, *size: int) -> str:
        return self._lines.pop(0)


@pytest.mark.parametrize("args", [("locks", "list"), ("locks", "show", "a")])
def test_looking_leaves_no_trace(args: tuple[str, ...], desk: Desk) -> None:
    ask(desk, "l1", ("a", "X"))
    before = desk.json("events", "--since", "0")
    assert desk.run(*args).code == 0
    assert desk.json("events", "--since", "0") == before


@pytest.mark.parametrize(
    "args", [("locks", "show"), ("locks", "list", "x"), ("locks", "nope"), ("locks", "release"), ("locks", "list", "--limit", "0")]
)
def test_wrong_usage_is_code_2(args: tuple[str, ...], desk: Desk) -> None:
    said = desk.run(*args)
    assert (said.code, said.out, said.err.count("\n")) == (2, "", 1)
