"""The main job as a user runs it: by the command, again, killed and again."""

from __future__ import annotations

import json
import os
import random
import signal
import sqlite3
import subprocess
import sys
import time
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from autogen_coord import Coordination, capability
from autogen_coord.review.capabilities import LINT, FileJob, Findings, ReviewTools
from autogen_coord.review.files import Found
from autogen_coord.review.job import Answers, collect
from autogen_coord.review.progress import PlainProgress
from autogen_coord.review.tools import Measurers, ToolError

process = [pytest.mark.process, pytest.mark.timeout(60)]
COMMAND = (sys.executable, "-c", "from autogen_coord.cli import main; main()", "review")
FILES = 60
SYNTAX_ERROR = "broken.py"
MUCH = "        return 1 if x else 2\n" * 20


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """Sixty files, one with a syntax error, and one that cannot be read as text."""
    root = tmp_path / "tree"
    (root / "pkg").mkdir(parents=True)
    for n in range(FILES - 1):
        (root / "pkg" / f"m{n}.py").write_text(f"import os\n\n\ndef f{n}(x):\n    if x:\n{MUCH}    return undefined_{n}\n")
    (root / SYNTAX_ERROR).write_text("def f(:\n")
    (root / "bytes.py").write_bytes(b"x = '\xff'\n")
    return root


def start(tree: Path, store: Path, out: Path, *more: str) -> subprocess.Popen[str]:
    command = [*COMMAND, str(tree), "--store", str(store), "--out", str(out), *more]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def finish(running: subprocess.Popen[str]) -> tuple[int, str, str]:
    out, err = running.communicate(timeout=50)
    return running.returncode, out, err


def run(tree: Path, store: Path, out: Path) -> dict[str, Any]:
    code, said, err = finish(start(tree, store, out, "--json"))
    assert code == 0, err
    value: dict[str, Any] = json.loads(said)
    return value


def both(out: Path) -> tuple[bytes, bytes]:
    return out.with_name(out.name + ".md").read_bytes(), out.with_name(out.name + ".json").read_bytes()


def ended(store: Path) -> int:
    """How many tasks have their outcome in the file, seen from beside."""
    try:
        with closing(sqlite3.connect(f"file:{store}?mode=ro", uri=True, timeout=5)) as connection:
            return int(connection.execute("SELECT count(*) FROM outcome").fetchone()[0])
    except sqlite3.OperationalError:  # not made yet
        return 0


class TestByCommand:
    pytestmark = process

    def test_a_second_run_is_answered_by_the_store_and_reports_the_same(self, tree: Path, tmp_path: Path) -> None:
        first = run(tree, tmp_path / "coord.db", tmp_path / "one")
        assert (first["files"], first["tasks"], first["ran"], first["stored"]) == (FILES, 2 * FILES, 2 * FILES, 0)
        assert (first["syntax_errors"], first["skipped"], first["failed"]) == (1, 1, 0)
        second = run(tree, tmp_path / "coord.db", tmp_path / "two")
        assert (second["ran"], second["stored"]) == (0, 2 * FILES)
        assert both(tmp_path / "one") == both(tmp_path / "two")
        assert str(tmp_path).encode() not in b"".join(both(tmp_path / "one"))

    def test_only_a_changed_file_is_run_again(self, tree: Path, tmp_path: Path) -> None:
        run(tree, tmp_path / "coord.db", tmp_path / "report")
        (tree / "pkg" / "m0.py").write_text("x = 1\n")
        again = run(tree, tmp_path / "coord.db", tmp_path / "report")
        assert (again["ran"], again["stored"]) == (2, 2 * FILES - 2)

    @pytest.mark.parametrize("seed", [1, 2])
    def test_killed_and_started_again_it_reports_as_an_undisturbed_run(self, seed: int, tree: Path, tmp_path: Path) -> None:
        moment = random.Random(seed).randrange(1, FILES)
        store = tmp_path / "killed.db"
        running = start(tree, store, tmp_path / "killed", "--jobs", "1")
        while running.poll() is None and ended(store) < moment:
            time.sleep(0.002)
        os.kill(running.pid, signal.SIGKILL)
        finish(running)
        done = ended(store)
        assert moment <= done < 2 * FILES, f"seed {seed}: killed after {done} tasks, wanted {moment}"
        assert not (tmp_path / "killed.md").exists()

        rest = run(tree, store, tmp_path / "killed")
        run(tree, tmp_path / "whole.db", tmp_path / "whole")
        assert both(tmp_path / "killed") == both(tmp_path / "whole")
        assert rest["stored"] >= done, f"seed {seed}"
        assert ended(store) == 2 * FILES

    def test_sigterm_gives_everything_back_so_that_the_next_run_need_not_wait(self, tree: Path, tmp_path: Path) -> None:
        store = tmp_path / "coord.db"
        running = start(tree, store, tmp_path / "report", "--jobs", "1")
        while running.poll() is None and ended(store) < 10:
            time.sleep(0.002)
        running.terminate()
        code, _, err = finish(running)
        assert (code, err.strip().splitlines()[-1]) == (143, "stopped; the same command finishes what is left")
        with closing(sqlite3.connect(f"file:{store}?mode=ro", uri=True)) as connection:
            (left,) = connection.execute("SELECT count(*) FROM queue WHERE state = 'running' OR suspect = 1").fetchone()
            (state,) = connection.execute("SELECT state FROM session").fetchone()
        assert (left, state) == (0, "closed")

        run(tree, store, tmp_path / "report")
        with closing(sqlite3.connect(f"file:{store}?mode=ro", uri=True)) as connection:
            (crashed,) = connection.execute("SELECT count(*) FROM attempt WHERE \"end\" = 'crashed'").fetchone()
        assert crashed == 0

    @pytest.mark.parametrize(
        ("name", "words"),
        [("nothing", "no Python files"), ("no/such", "no file or directory"), ("no_such_name", "installed package")],
    )
    def test_nothing_to_review_is_one_line_that_says_what_to_do(self, name: str, words: str, tmp_path: Path) -> None:
        (tmp_path / "nothing").mkdir()
        target = tmp_path / name if name == "nothing" else Path(name)
        code, said, err = finish(start(target, tmp_path / "coord.db", tmp_path / "report"))
        line = err.strip().splitlines()[-1]
        assert (code, said) == (1, "")
        assert line.startswith("error: ")
        assert words in line
        assert "Traceback" not in err
        assert not (tmp_path / "coord.db").exists()


async def test_a_tool_that_fails_is_a_line_in_the_report_and_the_job_goes_on(tmp_path: Path) -> None:
    answers, found = Answers(), []
    for name in ("good.py", "bad.py"):
        (tmp_path / name).write_text("x = 1\n")
        found.append(Found(name, tmp_path / name))

    async with Measurers(1) as measurers:
        tools = ReviewTools(measurers, 2)

        @capability(LINT, description="fails for one file")
        async def lint(job: FileJob) -> Findings:
            if job.path == "bad.py":
                raise ToolError("ruff gave no answer in 30 s")
            return Findings()

        tools.lint = lint
        async with Coordination.open(str(tmp_path / "coord.db")) as coord:
            tasks = await collect(coord, tools, found, answers, PlainProgress(sys.stderr))
    assert tasks == 4
    assert [(one.path, one.tool, one.why) for one in answers.failed] == [
        ("bad.py", "ruff", "ToolError: ruff gave no answer in 30 s")
    ]
    assert [(one.path, one.lint is None, one.complexity is None) for one in answers.reviews()] == [
        ("good.py", False, False),
        ("bad.py", True, False),
    ]
