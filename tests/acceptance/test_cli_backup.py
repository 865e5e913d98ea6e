"""``backup`` and ``restore`` as an operator uses them."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from autogen_coord import Coordination, capability
from tests.acceptance.desk import SECRET, Desk, providing


@capability
async def idle(text: str) -> str:
    return text


@pytest.fixture
def kept(tmp_path: Path) -> str:
    """Where the backup is."""
    return str(tmp_path / "coord.backup")


def test_a_store_is_backed_up_and_restored(desk: Desk, kept: str) -> None:
    desk.provide()
    desk.submit("a")
    assert desk.claim() == ["a"]
    said = desk.run("backup", kept)
    assert said.code == 0
    assert re.fullmatch(rf"{kept}: \d+ KiB, \d+ rows, 1 namespace, schema \d+; verified, in .*s\n", said.out)
    desk.submit("b")
    refused = desk.run("restore", kept)
    assert (refused.code, refused.out, refused.err.count("\n")) == (1, "", 1)
    assert "1 of its sessions may be alive; nothing was changed: stop its programs" in refused.err
    assert desk.run("tasks", "show", "b").code == 0
    first, second = desk.run("restore", kept, "--force").out.splitlines()
    assert re.fullmatch(
        rf"{desk.path}: restored from {kept}: \d+ rows, 1 namespace; 1 session ended, what they ran is run again", first
    )
    old = second.partition(": what was there before; ")[0]
    assert desk.run("tasks", "show", "b").code == 1
    assert desk.bare("tasks", "show", "b", "--store", old).code == 0
    assert " offline " in desk.run("agents", "list", "--all").out


def test_in_json(desk: Desk, kept: str) -> None:
    desk.provide()
    made = desk.json("backup", kept)
    assert sorted(made) == ["namespaces", "path", "rows", "schema", "seconds", "sha256", "size"]
    assert Path(kept + ".sha256").read_text() == f"{made['sha256']}  coord.backup\n"
    made = desk.json("restore", kept, "--force")
    assert sorted(made) == ["kept", "namespaces", "path", "rows", "schema", "sessions"]
    assert (made["path"], made["namespaces"], made["sessions"]) == (str(desk.path), ["default"], 1)


def test_while_a_program_uses_it(desk: Desk, kept: str) -> None:
    async def work(coord: Coordination) -> None:
        assert await coord.call(idle, "x") == "x"

    with providing(desk.path, idle, begin=work):
        assert desk.run("backup", kept).code == 0
        said = desk.run("restore", kept)
        assert (said.code, said.err.count("\n")) == (1, 1)
        assert "another process has it open" in said.err
        assert desk.run("call", "idle", "y").out == "y\n"
    assert [one["state"] for one in desk.json("tasks", "list")] == ["succeeded", "succeeded"]
    assert desk.run("restore", kept).code == 0
    assert [one["state"] for one in desk.json("tasks", "list")] == ["succeeded"]


def test_what_is_there_is_replaced_only_by_force(desk: Desk, kept: str) -> None:
    desk.provide()
    Path(kept).write_text("my diary")
    said = desk.run("backup", kept)
    assert (said.code, said.out, said.err.count("\n")) == (1, "", 1)
    assert "--force" in said.err
    assert Path(kept).read_text() == "my diary"
    assert desk.run("backup", kept, "--force").code == 0


def test_a_store_that_is_not_there_makes_no_backup_and_no_store(desk: Desk, kept: str) -> None:
    said = desk.run("backup", kept)
    assert (said.code, said.err.count("\n")) == (1, 1)
    assert "the first program that opens it makes it" in said.err
    said = desk.run("restore", kept)
    assert (said.code, said.err.count("\n")) == (1, 1)
    assert "there is no such file" in said.err
    assert list(desk.path.parent.iterdir()) == []


def test_a_file_that_is_no_store_is_left_as_it_is(desk: Desk, kept: str) -> None:
    desk.path.write_text("my diary\n" * 100)
    for args in (("backup", kept), ("restore", str(desk.path))):
        said = desk.run(*args)
        assert (said.code, said.err.count("\n")) == (1, 1)
    assert "not an SQLite file" in desk.run("backup", kept).err
    assert [one.name for one in desk.path.parent.iterdir()] == ["coord.db"]


@pytest.mark.parametrize("command", ["backup", "restore"])
def test_a_server_or_a_memory_is_no_file(command: str, desk: Desk, kept: str) -> None:
    for url, says in (("postgresql://me:hunter2@host/db", "only a store in a file"), ("dict://x", "name a path with --store")):
        said = desk.bare(command, kept, "--store", url)
        assert (said.code, said.err.count("\n")) == (1, 1)
        assert says in said.err
        assert "hunter2" not in said.err


def test_no_body_is_printed_of_a_backup_that_is_broken(desk: Desk, kept: str) -> None:
    desk.provide()
    for n in range(50):
        desk.submit(f"t{n}", input=json.dumps(SECRET * 50))
    assert desk.run("backup", kept).code == 0
    body = bytearray(Path(kept).read_bytes())
    body[8192:12288] = bytes(4096)
    Path(kept).write_bytes(body)
    for _ in range(2):
        said = desk.run("restore", kept)
        assert (said.code, said.err.count("\n")) == (1, 1)
        assert said.err.startswith(f"error: backup {kept}: it is damaged: ")
        assert said.err.endswith("; nothing was changed: use another backup\n")
        assert SECRET not in said.err
        Path(kept + ".sha256").unlink(missing_ok=True)


@pytest.mark.process
@pytest.mark.timeout(60)
def test_ctrl_c_leaves_nothing(desk: Desk, kept: str) -> None:
    desk.provide()
    script = (
        "import autogen_coord.stores.sqlite.backup as b; b.PAGES = 1; import sys, os, signal; from autogen_coord.cli import main\n"
        "real = b.Draft.flush\n"
        "def flush(draft):\n    os.kill(os.getpid(), signal.SIGINT); real(draft)\n"
        "b.Draft.flush = flush; main(sys.argv[1:])"
    )
    command = [sys.executable, "-c", script, "backup", kept, "--store", str(desk.path)]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=30, preexec_fn=_interruptible)
    assert ended.returncode == 130, ended.stderr
    assert [one.name for one in Path(kept).parent.iterdir() if one.name.startswith((".coord.backup", "coord.backup"))] == []


def _interruptible() -> None:
    signal.signal(signal.SIGINT, signal.default_int_handler)
