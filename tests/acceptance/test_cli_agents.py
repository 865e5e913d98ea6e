"""``agents list`` and ``agents show``: who is there, as an operator sees it."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest

from autogen_coord.core import registry, sessions
from autogen_coord.core.registry import Announce, Withdraw
from autogen_coord.core.sessions import OpenSession
from autogen_coord.core.store import Transaction
from autogen_coord.core.tables import CapabilityRow, ProviderRow
from tests.acceptance.desk import LASTING, Desk

ARTICLE = {"type": "object", "properties": {name: {"type": "string", "title": name.title()} for name in ("title", "body", "lang")}}


def announce(
    desk: Desk, label: str, agent: str | None = None, *, session: str = "s1", kind: str = "agent", limit: int = 4, takes: Any = None
) -> str:
    """A provider of any kind on a session of its own host; its id is ``p-<label>-<session>``."""
    name, version = registry.split_label(label)
    type, _, key = (agent or "").partition("/")
    id = f"p-{label}-{session}"
    provider = ProviderRow(
        id, session, session, label, version, kind, type or None, key or None, "online", limit, '["gpu","de"]', 0.0
    )
    capability = CapabilityRow(name, version, f"does {name}", json.dumps(takes or {"type": "string"}), '{"type":"null"}', None, 0.0)

    def fold(rows: Transaction, now: float) -> None:
        sessions.open_session(rows, OpenSession(session, "process", f"host-{session}:1"), now, LASTING)
        registry.announce(rows, Announce(session, [capability], [provider]), now, LASTING)

    desk.write(fold)
    return id


def withdraw(desk: Desk, provider: str, session: str = "s1", status: str = "offline") -> None:
    desk.write(lambda rows, now: registry.withdraw(rows, Withdraw(session, [provider], status), now, LASTING))


def table(out: str) -> list[list[str]]:
    return [re.split(r"  +", line) for line in out.splitlines()]


@pytest.fixture(autouse=True)
def lasting(monkeypatch: pytest.MonkeyPatch, desk: Desk) -> None:
    """The looker judges lateness by the ttl that the sessions of these tests have."""
    monkeypatch.setenv("AUTOGEN_COORD_SESSION_TTL", str(LASTING.session_ttl))
    monkeypatch.setenv("AUTOGEN_COORD_SUSPECT_AFTER", str(LASTING.suspect_after))


class TestList:
    def test_a_line_for_each_that_is_there(self, desk: Desk) -> None:
        announce(desk, "write", "writer")
        announce(desk, "translate:2", kind="function", session="s2", limit=8)
        announce(desk, "help", kind="chat", session="s2")
        head, *lines = table(desk.run("agents", "list").out)
        assert head == ["agent", "capability", "state", "running", "where", "since"]
        assert [line[:5] for line in lines] == [
            ["writer", "write", "online", "0/4", "host-s1:1"],
            ["function", "translate:2", "online", "0/8", "host-s2:1"],
            ["chat", "help", "online", "0/4", "host-s2:1"],
        ]
        assert all(re.fullmatch(r"\d.* ago", line[5]) for line in lines)

    def test_what_runs_is_counted_and_who_waits_for_a_child_takes_no_slot(self, desk: Desk) -> None:
        desk.provide(slots=3)
        for id in ("a", "b"):
            desk.submit(id)
        desk.claim(slots=2)
        assert table(desk.run("agents", "list").out)[1][3] == "2/3"
        desk.sql("UPDATE queue SET waits_for = 'c' WHERE id = 'a'")
        assert table(desk.run("agents", "list").out)[1][3] == "1/3 +1 waiting"
        assert [(one["running"], one["waiting"]) for one in desk.json("agents", "list")] == [(2, 1)]

    def test_those_offline_are_listed_only_when_asked_for(self, desk: Desk) -> None:
        announce(desk, "write", "writer")
        announce(desk, "edit", "editor", session="s2")
        announce(desk, "print", "printer", session="s3")
        desk.kill("s2")
        withdraw(desk, "p-write-s1", status="draining")
        desk.sql("UPDATE session SET lease_until = 1 WHERE id = 's3'")
        assert [line[:3] for line in table(desk.run("agents", "list").out)[1:]] == [["writer", "write", "draining"]]
        found = {one["agent"]: one["status"] for one in desk.json("agents", "list", "--all")}
        assert found == {"writer": "draining", "editor": "offline", "printer": "offline"}
        assert len(table(desk.run("agents", "list", "--all").out)) == 4

    def test_a_late_session_is_told(self, desk: Desk) -> None:
        announce(desk, "write", "writer")
        desk.sql(f"UPDATE session SET lease_until = lease_until - {LASTING.suspect_after + 100}")
        assert table(desk.run("agents", "list").out)[1][2] == "late"

    def test_of_one_capability(self, desk: Desk) -> None:
        announce(desk, "write", "writer")
        announce(desk, "edit", "editor")
        for name in ("edit", "edit:1"):
            assert [one["agent"] for one in desk.json("agents", "list", "--capability", name)] == ["editor"]

    def test_who_takes_messages_is_listed_and_subscriptions_are_not(self, desk: Desk) -> None:
        announce(desk, "inbox:writer/eve", "writer/eve", kind="inbox")
        announce(desk, "topic:news", "writer/eve", kind="subscription")
        announce(desk, "inbox:coord.reply/s1", "coord.reply/s1", kind="inbox")
        assert [line[:4] for line in table(desk.run("agents", "list").out)[1:]] == [["writer/eve", "messages", "online", "0"]]

    @pytest.mark.parametrize(
        ("args", "words"),
        [
            ((), "no agents that are online in namespace 'default'; 2 providers offline, see --all"),
            (
                ("--capability", "write"),
                "no agents that are online of capability 'write' in namespace 'default'; 1 provider offline",
            ),
            (("--capability", "wryte"), "nobody ever announced it; known are 'edit', 'write'"),
            (("--namespace", "other"), "nothing was ever stored there; there are 'default'"),
        ],
    )
    def test_nobody_there_is_no_error_and_says_what_there_is(self, args: tuple[str, ...], words: str, desk: Desk) -> None:
        announce(desk, "write", "writer")
        announce(desk, "edit", "editor")
        announce(desk, "inbox:coord.reply/s1", "coord.reply/s1", kind="inbox")
        desk.kill("s1")
        said = desk.run("agents", "list", *args)
        assert (said.code, said.out, said.err.count("\n")) == (0, "", 1)
        assert words in said.err
        assert desk.json("agents", "list", *args) == []

    def test_json_has_every_field(self, desk: Desk) -> None:
        id = announce(desk, "write", "writer/eve")
        (one,) = desk.json("agents", "list")
        assert one.pop("registered_at") > 1e9
        assert one == {
            "id": id,
            "capability": "write",
            "kind": "agent",
            "agent": "writer/eve",
            "status": "online",
            "session": "s1",
            "address": "host-s1:1",
            "max_concurrency": 4,
            "running": 0,
            "waiting": 0,
            "labels": ["gpu", "de"],
        }


class TestShow:
    def test_a_capability_with_its_schemas_and_providers(self, desk: Desk) -> None:
        for session in ("s1", "s2"):
            announce(desk, "write:2", "writer", session=session)
        said = desk.run("agents", "show", "write:2").out
        for name, value in (("capability", "write"), ("version", "2"), ("description", "does write")):
            assert re.search(rf"^{name} +{value}$", said, re.M)
        assert re.search(r'^takes +\{"type": "string"\}$', said, re.M)
        assert re.search(r'^gives +\{"type": "null"\}$', said, re.M)
        assert re.search(r"^p-write:2-s2 +writer +online +0/4 +host-s2:1 ", said, re.M)
        value = desk.json("agents", "show", "write:2")
        assert (value["capability"]["label"], value["capability"]["input_schema"]) == ("write:2", {"type": "string"})
        assert [one["session"] for one in value["capability"]["providers"]] == ["s1", "s2"]
        assert (value["agent"], value["provider"]) == (None, None)

    def test_a_long_schema_stands_in_a_block_of_its_own(self, desk: Desk) -> None:
        announce(desk, "write", takes=ARTICLE)
        said = desk.run("agents", "show", "write").out
        block = said[said.index("takes:\n") + len("takes:\n") :]
        assert json.JSONDecoder().raw_decode(block)[0] == ARTICLE

    def test_a_capability_that_nobody_provides_now(self, desk: Desk) -> None:
        announce(desk, "write", "writer")
        desk.kill("s1")
        assert desk.run("agents", "show", "write").out.endswith("\nnobody provides it now\n")

    @pytest.mark.parametrize("name", ["writer", "writer/eve"])
    def test_an_agent_by_its_type_or_its_address(self, name: str, desk: Desk) -> None:
        announce(desk, "write", "writer/eve")
        announce(desk, "topic:news/a%40b", "writer/eve", kind="subscription")
        announce(desk, "topic:*", "writer/eve", kind="subscription")
        announce(desk, "edit", "editor")
        said = desk.run("agents", "show", name).out
        assert re.search(rf"^agent +{name}$", said, re.M)
        assert re.search(r"^p-write-s1 +write +online +0/4 +host-s1:1 ", said, re.M)
        assert re.search(r"^p-topic:news/a%40b-s1 +messages of topic news/a@b +online +0 ", said, re.M)
        assert "edit" not in said
        assert [one["capability"] for one in desk.json("agents", "show", name)["agent"]["providers"]] == [
            "write",
            "topic:news/a%40b",
        ]

    def test_an_agent_that_is_gone_is_shown_as_it_was_last(self, desk: Desk) -> None:
        for session in ("s1", "s2"):
            announce(desk, "write", "writer", session=session)
            desk.kill(session)
        assert [one["session"] for one in desk.json("agents", "show", "writer")["agent"]["providers"]] == ["s2"]
        assert " offline " in desk.run("agents", "show", "writer").out
        announce(desk, "edit", "writer", session="s3")
        assert [one["session"] for one in desk.json("agents", "show", "writer")["agent"]["providers"]] == ["s3"]

    def test_one_provider(self, desk: Desk) -> None:
        id = announce(desk, "write", "writer")
        said = desk.run("agents", "show", id).out
        for name, value in (("provider", id), ("agent", "writer"), ("state", "online"), ("labels", "gpu, de"), ("session", "s1")):
            assert re.search(rf"^{name} +{value}$", said, re.M)
        assert desk.json("agents", "show", id)["provider"]["id"] == id

    def test_a_name_of_a_capability_and_of_an_agent_shows_both(self, desk: Desk) -> None:
        announce(desk, "write", "write")
        said = desk.run("agents", "show", "write").out
        assert said.index("capability    write\n") < said.index("\n\nagent         write\n")
        value = desk.json("agents", "show", "write")
        assert (value["capability"]["name"], value["agent"]["agent"]) == ("write", "write")

    @pytest.mark.parametrize(
        ("name", "words"),
        [
            ("wryte", "did you mean write"),
            ("editer", "did you mean editor"),
            ("two words", "`autogen-coord agents list --all` shows who was there"),
            ("editor/eve", "editor/bob?"),
        ],
    )
    def test_an_unknown_name_is_one_line_with_near_names(self, name: str, words: str, desk: Desk) -> None:
        announce(desk, "write", "scribe")
        announce(desk, "inbox:editor/bob", "editor/bob", kind="inbox")
        said = desk.run("agents", "show", name)
        assert (said.code, said.out, said.err.count("\n")) == (1, "", 1)
        assert said.err.startswith(f"error: no capability, agent or provider {name!r} in namespace 'default': ")
        assert words in said.err

    def test_words_chosen_by_others_cannot_steer_the_terminal(self, desk: Desk) -> None:
        announce(desk, "write", "wri\x1b[31mter", takes={"type": "string", "description": "\x1b[31m"})
        for args in (("list",), ("show", "write")):
            assert "\x1b" not in desk.run("agents", *args).out


@pytest.mark.parametrize("args", [("agents", "list"), ("agents", "show", "write")])
def test_looking_leaves_no_trace(args: tuple[str, ...], desk: Desk) -> None:
    announce(desk, "write", "writer")
    before = desk.json("events", "--since", "0")
    assert desk.run(*args).code == 0
    assert desk.json("events", "--since", "0") == before


@pytest.mark.parametrize("args", [("agents", "show"), ("agents", "list", "x"), ("agents", "nope")])
def test_wrong_usage_is_code_2(args: tuple[str, ...], desk: Desk) -> None:
    said = desk.run(*args)
    assert (said.code, said.out, said.err.count("\n")) == (2, "", 1)
