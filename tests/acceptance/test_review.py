"""The main job as a user runs it: by the command, again, killed and again."""

from __future__ import annotations

import asyncio
import json
import os
import random
import re
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, closing
from pathlib import Path
from typing import Any

import pytest
from ruff import find_ruff_bin

from autogen_coord import Coordination, Settings, TaskContext
from autogen_coord.review.agents import Bench, LintAgent, SummaryAgent, Tally
from autogen_coord.review.answers import FileJob, Findings
from autogen_coord.review.board import Board
from autogen_coord.review.figures import VERSION, SummaryJob
from autogen_coord.review.file_review import Failed
from autogen_coord.review.files import Found
from autogen_coord.review.job import Answers, Bounds, Job, provide
from autogen_coord.review.markdown import to_markdown
from autogen_coord.review.report import Report
from autogen_coord.review.summary import Summary
from autogen_coord.review.tools import Measurers, ToolError, tool_versions

process = [pytest.mark.process, pytest.mark.timeout(60)]
COMMAND = (sys.executable, "-c", "from autogen_coord.cli import main; main()", "review")
FILES = 60
AGENTS = 4
ALL = AGENTS * FILES + 1
"""Tasks: one per file and agent, and the summary."""
SYNTAX_ERROR = "broken.py"
SINCE = re.compile(r"^## (?:Since the last run|New findings|Gone findings)\n.*?(?=^## )", re.MULTILINE | re.DOTALL)
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


def start(tree: Path, store: Path, out: Path, *more: str, **environment: str) -> subprocess.Popen[str]:
    command = [*COMMAND, str(tree), "--store", str(store), "--out", str(out), *more]
    pipe = subprocess.PIPE
    return subprocess.Popen(command, stdout=pipe, stderr=pipe, text=True, env={**os.environ, **environment})


def finish(running: subprocess.Popen[str]) -> tuple[int, str, str]:
    out, err = running.communicate(timeout=50)
    return running.returncode, out, err


def run(tree: Path, store: Path, out: Path, codes: Sequence[int] = (0,)) -> dict[str, Any]:
    code, said, err = finish(start(tree, store, out, "--json"))
    assert code in codes, err
    value: dict[str, Any] = json.loads(said)
    return value


def both(out: Path) -> tuple[bytes, bytes]:
    return out.with_name(out.name + ".md").read_bytes(), out.with_name(out.name + ".json").read_bytes()


def without_since(out: Path) -> tuple[str, dict[str, Any]]:
    """Both reports but for what they say of the run before."""
    markdown, plain = both(out)
    value: dict[str, Any] = json.loads(plain)
    del value["since"]
    return SINCE.sub("", markdown.decode()), value


def since(out: Path) -> Any:
    return json.loads(both(out)[1])["since"]


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
        assert (first["files"], first["tasks"], first["ran"], first["stored"]) == (FILES, ALL, ALL, 0)
        assert (first["syntax_errors"], first["skipped"], first["failed"]) == (1, 1, 0)
        second = run(tree, tmp_path / "coord.db", tmp_path / "two")
        assert (second["ran"], second["stored"]) == (0, ALL)
        assert without_since(tmp_path / "one") == without_since(tmp_path / "two")
        assert "Since the last run" not in both(tmp_path / "one")[0].decode()
        assert "## Since the last run\n\n- Nothing changed.\n" in both(tmp_path / "two")[0].decode()
        third = run(tree, tmp_path / "coord.db", tmp_path / "three")
        assert both(tmp_path / "two") == both(tmp_path / "three")
        assert (first["since"], second["since"]["untold"]) == (None, 0)  # the file that does not parse is as it was
        assert third["since"]["at"] > second["since"]["at"]
        assert str(tmp_path).encode() not in b"".join(both(tmp_path / "one"))

    def test_only_a_changed_file_is_run_again(self, tree: Path, tmp_path: Path) -> None:
        run(tree, tmp_path / "coord.db", tmp_path / "report")
        (tree / "pkg" / "m0.py").write_text("x = 1\n")
        again = run(tree, tmp_path / "coord.db", tmp_path / "report")
        assert (again["ran"], again["stored"]) == (AGENTS + 1, ALL - AGENTS - 1)  # and the summary of all

    def test_what_changed_between_two_runs_is_said_by_the_second(self, tmp_path: Path) -> None:
        root, store, out = tmp_path / "tree", tmp_path / "coord.db", tmp_path / "report"
        (root / "pkg").mkdir(parents=True)
        same = "".join(f'def f{n}():\n    """Say it."""\n' for n in range(3))
        (root / "mended.py").write_text(f"import os\n\n\n{same}")
        (root / "pkg" / "worse.py").write_text(f"import os\n\n\n{same}")
        (root / "removed.py").write_text("import re\n")
        (root / "same.py").write_text(same)
        first = run(root, store, out)
        (root / "mended.py").write_text(same)
        (root / "pkg" / "worse.py").write_text(f'"""It moved."""\n\nimport os\n\n\n{same}\n\ndef g(a):\n    return eval(a)\n')
        (root / "removed.py").unlink()
        (root / "fresh.py").write_text("import io\n")

        second = run(root, store, out)
        said, markdown = since(out), both(out)[0].decode()
        assert [(one["path"], one["agent"], one["rule"]) for one in said["gone"]] == [
            ("mended.py", "lint", "F401"),
            ("pkg/worse.py", "docstrings", "no docstring"),  # the module's own
            ("removed.py", "lint", "F401"),
            ("removed.py", "docstrings", "no docstring"),
        ]
        assert [(one["path"], one["line"], one["agent"], one["rule"]) for one in said["new"]] == [
            ("fresh.py", 1, "lint", "F401"),
            ("fresh.py", 1, "docstrings", "no docstring"),
            ("pkg/worse.py", 15, "security", "B307"),
            ("pkg/worse.py", 14, "docstrings", "no docstring"),
        ]
        assert (said["files_new"], said["files_changed"], said["files_gone"], said["untold"]) == (1, 2, 1, 0)
        assert (said["grade"], said["mark"]) == ([first["grade"], second["grade"]], [first["mark"], second["mark"]])
        assert first["mark"] != second["mark"]
        assert {name: second["since"][name] for name in ("new", "gone", "grade")} == {"new": 4, "gone": 4, "grade": said["grade"]}
        assert "- 4 new findings, 4 gone.\n" in markdown
        assert f"- grade {first['grade']} ({first['mark']}) before, {second['grade']} ({second['mark']}) now.\n" in markdown
        assert "- 1 file new, 2 files changed, 1 file gone.\n" in markdown
        new, gone = (markdown.partition(f"## {title} findings\n")[2].partition("## ")[0] for title in ("New", "Gone"))
        assert "| `pkg/worse.py:15` | security | B307 |" in new
        assert "| `removed.py:1` | lint | F401 |" in gone

        code, words, _ = finish(start(root, store, out))
        assert (code, words.splitlines()[2].partition(" (")[0]) == (0, "nothing changed since the last run")

    def test_the_same_tree_elsewhere_is_another_project(self, tmp_path: Path) -> None:
        for home in ("one", "two"):
            (tmp_path / home / "pkg").mkdir(parents=True)
            (tmp_path / home / "pkg" / "a.py").write_text("import os\n")
            figures = run(tmp_path / home / "pkg", tmp_path / "coord.db", tmp_path / home / "report")
            assert figures["since"] is None
        assert figures["ran"] == 0
        assert both(tmp_path / "one" / "report") == both(tmp_path / "two" / "report")

    @pytest.mark.parametrize("small", [{"MAX_VALUE": "10"}, {"MAX_DEPTH": "1"}])
    def test_where_findings_are_too_large_to_be_kept_the_review_is_whole_and_says_so(
        self, small: dict[str, str], tmp_path: Path
    ) -> None:
        (tmp_path / "tree").mkdir()
        (tmp_path / "tree" / "a.py").write_text("import os\n")
        settings = {f"AUTOGEN_COORD_{name}": value for name, value in small.items()}
        for _ in range(2):
            code, said, err = finish(start(tmp_path / "tree", tmp_path / "coord.db", tmp_path / "report", "--json", **settings))
            figures = json.loads(said)
            assert (code, figures["findings"], figures["since"], figures["kept"]) == (0, 1, None, False)
            assert [line for line in err.splitlines() if "findings are not kept" in line and "max_value" in line]
        assert since(tmp_path / "report") is None

    @pytest.mark.parametrize("seed", [1, 2])
    def test_killed_and_started_again_it_reports_as_an_undisturbed_run(self, seed: int, tree: Path, tmp_path: Path) -> None:
        moment = random.Random(seed).randrange(1, 2 * FILES)
        store = tmp_path / "killed.db"
        running = start(tree, store, tmp_path / "killed", "--jobs", "1")
        while running.poll() is None and ended(store) < moment:
            time.sleep(0.002)
        os.kill(running.pid, signal.SIGKILL)
        finish(running)
        done = ended(store)
        assert moment <= done < ALL, f"seed {seed}: killed after {done} tasks, wanted {moment}"
        assert not (tmp_path / "killed.md").exists()

        rest = run(tree, store, tmp_path / "killed")
        run(tree, tmp_path / "whole.db", tmp_path / "whole")
        assert both(tmp_path / "killed") == both(tmp_path / "whole")
        assert rest["stored"] >= done, f"seed {seed}"
        assert ended(store) == ALL

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

    def test_every_agent_is_heard_and_summed_up(self, tree: Path, tmp_path: Path) -> None:
        (tree / "pkg" / "unsafe.py").write_text('"""It has one."""\n\n\ndef f(a):\n    return eval(a)\n')
        figures = run(tree, tmp_path / "coord.db", tmp_path / "report")
        report = json.loads((tmp_path / "report.json").read_text())
        by_path = {file["path"]: file for file in report["files"]}
        unsafe, other = by_path["pkg/unsafe.py"], by_path["pkg/m0.py"]
        assert [(one["rule"], one["severity"], one["line"]) for one in unsafe["security_issues"]] == [("B307", "medium", 5)]
        assert [one["name"] for one in unsafe["undocumented"]] == ["f"]
        assert {one["rule"] for one in other["findings"]} >= {"F401", "F821"}
        assert [(one["name"], one["complexity"]) for one in other["blocks"]] == [("f0", 22)]
        assert (figures["security_issues"], figures["complex_functions"]) == (1, FILES - 1)
        assert figures["grade"] == report["summary"]["grade"]
        assert sorted(report["tools"]) == ["bandit", "interrogate", "radon", "ruff", "summary"]
        advice = " ".join(report["summary"]["advice"])
        assert f"first `{SYNTAX_ERROR}`" in advice
        assert "B307, line 5 of `pkg/unsafe.py`" in advice
        markdown = (tmp_path / "report.md").read_text()
        assert f"Grade **{figures['grade']}**" in markdown
        assert "| `pkg/unsafe.py:5:12` | medium | high | B307 |" in markdown

    def test_what_another_run_left_is_finished_and_not_counted(self, tree: Path, tmp_path: Path) -> None:
        store, other = tmp_path / "coord.db", tmp_path / "other"
        other.mkdir()
        (other / "a.py").write_text("x = 1\n")
        running = start(tree, store, tmp_path / "report", "--jobs", "1")
        while running.poll() is None and ended(store) < 10:
            time.sleep(0.002)
        running.terminate()
        finish(running)
        figures = run(other, store, tmp_path / "other" / "report")
        assert (figures["tasks"], figures["ran"], figures["stored"]) == (AGENTS + 1, AGENTS + 1, 0)

    def test_with_one_job_each_tool_has_one_process(self, tree: Path, tmp_path: Path) -> None:
        """Each measuring process notes that it begins."""
        patch = tmp_path / "patch"
        log = tmp_path / "processes"
        patch.mkdir()
        (patch / "sitecustomize.py").write_text(
            "import sys\n"
            "if 'measure.py' in sys.argv[0] or 'measure.py' in ' '.join(sys.orig_argv):\n"
            f"    open({str(log)!r}, 'a').write(sys.orig_argv[-2] + chr(10))\n"
        )
        code, _, err = finish(start(tree, tmp_path / "coord.db", tmp_path / "report", "--jobs", "1", PYTHONPATH=str(patch)))
        assert code == 0, err
        assert sorted(log.read_text().split()) == ["bandit", "interrogate", "radon"]


class TestOneReportOfTwo:
    """Two processes that write to one place."""

    pytestmark = process

    @staticmethod
    async def writer(store: Path, out: Path, target: str, stops: str = "", **settings: str) -> asyncio.subprocess.Process:
        command = [sys.executable, "-m", "tests.acceptance.report_writer", str(store), str(out), target, stops]
        pipe = asyncio.subprocess.PIPE
        environment = {**os.environ, **{f"AUTOGEN_COORD_{name}": value for name, value in settings.items()}}
        return await asyncio.create_subprocess_exec(*command, stdin=pipe, stdout=pipe, env=environment)

    @staticmethod
    async def line(writer: asyncio.subprocess.Process) -> str:
        assert writer.stdout is not None
        return (await asyncio.wait_for(writer.stdout.readline(), 20)).decode().strip()

    @staticmethod
    async def rest(writer: asyncio.subprocess.Process) -> list[str]:
        out, _ = await asyncio.wait_for(writer.communicate(b"go on\n"), 20)
        assert writer.returncode == 0
        return out.decode().splitlines()

    @staticmethod
    def targets(out: Path) -> tuple[str, str]:
        """Whose review each of the files is."""
        markdown, plain = both(out)
        return markdown.decode().splitlines()[0].rpartition(" ")[2].strip("`"), json.loads(plain)["target"]

    async def test_the_second_waits_until_the_first_has_written_both_files(self, tmp_path: Path) -> None:
        store, out = tmp_path / "coord.db", tmp_path / "report"
        first = await self.writer(store, out, "first", "midway")
        assert await self.line(first) == "there"
        second = await self.writer(store, out, "second")
        async with asyncio.timeout(20):
            while not self.waiting(store):
                await asyncio.sleep(0.01)
        assert not out.with_name("report.json").exists()
        assert await self.rest(first) == ["written"]
        assert await self.rest(second) == ["written"]
        assert self.targets(out) == ("second", "second")

    async def test_one_that_was_paused_with_the_lock_writes_nothing_when_it_wakes(self, tmp_path: Path) -> None:
        store, out = tmp_path / "coord.db", tmp_path / "report"
        short = {"BEAT": "0.3", "SUSPECT_AFTER": "0.8", "SESSION_TTL": "1.5"}
        first = await self.writer(store, out, "first", "before", **short)
        assert await self.line(first) == "there"
        first.send_signal(signal.SIGSTOP)
        try:
            second = await self.writer(store, out, "second", **short)
            assert await self.rest(second) == ["written"]
        finally:
            first.send_signal(signal.SIGCONT)
        said = await self.rest(first)
        assert "LeaseLostError" in said
        assert [line for line in said if line.startswith("refused: ") and "another has held the lock since" in line]
        assert "written" not in said
        assert self.targets(out) == ("second", "second")

    @staticmethod
    def waiting(store: Path) -> int:
        with closing(sqlite3.connect(f"file:{store}?mode=ro", uri=True, timeout=5)) as connection:
            return int(connection.execute("SELECT count(*) FROM lock_wait").fetchone()[0])

    def test_reviews_of_two_stores_may_write_to_one_place(self, tmp_path: Path) -> None:
        (tmp_path / "tree").mkdir()
        (tmp_path / "tree" / "a.py").write_text("x = 1\n")
        for store in ("one.db", "two.db", "one.db"):
            run(tmp_path / "tree", tmp_path / store, tmp_path / "report")


SICK = """
import os, sys, time

def sick(name, work):
    def instead(source, *args, **kwargs):
        text = source if isinstance(source, str) else source.decode()
        if f"# {name} hangs" in text:
            time.sleep(600)
        if f"# {name} crashes" in text:
            os._exit(7)
        if f"# {name} raises" in text:
            raise KeyError("no")
        return work(source, *args, **kwargs)
    return instead

tool = sys.orig_argv[-2]
if tool == "radon":
    import radon.complexity
    radon.complexity.cc_visit = sick("radon", radon.complexity.cc_visit)
if tool in ("bandit", "interrogate"):
    import ast
    ast.parse = sick(tool, ast.parse)
"""
RUFF = """#!/bin/sh
input=$(cat)
case "$input" in
    *"# ruff hangs"*) exec sleep 600 ;;
    *"# ruff crashes"*) kill -SEGV $$ ;;
    *"# ruff babbles"*) echo nonsense; exit 0 ;;
esac
printf '%s\\n' "$input" | exec {real} "$@"
"""


class TestBadInput:
    """Each is a line in the report, or an error; whatever it is, the job goes on."""

    pytestmark = process

    @pytest.fixture
    def sick(self, tmp_path: Path) -> str:
        """A PYTHONPATH under which tools hang, crash or raise for files that say so."""
        patch = tmp_path / "sick"
        (patch / "ruff").mkdir(parents=True)
        (patch / "sitecustomize.py").write_text(SICK)
        program = patch / "ruff.sh"
        program.write_text(RUFF.format(real=find_ruff_bin()))
        program.chmod(0o755)
        (patch / "ruff" / "__init__.py").write_text(f"def find_ruff_bin():\n    return {str(program)!r}\n")
        return str(patch)

    def test_tools_that_hang_crash_or_raise_are_lines_in_the_report_and_are_asked_again(self, sick: str, tmp_path: Path) -> None:
        root, store = tmp_path / "tree", tmp_path / "coord.db"
        root.mkdir()
        told = {
            "ruff hangs": "ruff gave no answer in 1 s",
            "ruff crashes": "ruff ended with code -11",
            "ruff babbles": "ruff's answer is not JSON",
            "bandit hangs": "bandit gave no answer in 1 s",
            "bandit crashes": "bandit's process ended with code 7",
            "bandit raises": "bandit: KeyError: 'no'",
            "radon hangs": "radon gave no answer in 1 s",
            "radon crashes": "radon's process ended with code 7",
            "interrogate crashes": "interrogate's process ended with code 7",
        }
        for words in told:
            (root / f"{words.replace(' ', '_')}.py").write_text(f"x = 1\n# {words}\n")
        (root / "well.py").write_text("x = 1\n")
        more = {"PYTHONPATH": sick, "AUTOGEN_COORD_TRIES": "2", "AUTOGEN_COORD_BACKOFF": "0.01"}
        code, said, err = finish(start(root, store, tmp_path / "report", "--timeout", "1", "--json", **more))
        assert (code, "Traceback" in err) == (3, False)
        assert err.splitlines()[-1].startswith(f"error: {len(told)} answers of tools missing")
        figures = json.loads(said)
        assert (figures["files"], figures["failed"]) == (len(told) + 1, len(told))
        report = json.loads((tmp_path / "report.json").read_text())
        failed = {one["path"]: (one["tool"], one["why"]) for one in report["failed"]}
        assert failed == {f"{words.replace(' ', '_')}.py": (words.split()[0], f"ToolError: {why}") for words, why in told.items()}
        markdown = (tmp_path / "report.md").read_text()
        assert "| `radon_hangs.py` | radon | ToolError: radon gave no answer in 1 s |" in markdown
        assert f"{len(told)} answers of tools missing" in markdown

        again = run(root, store, tmp_path / "again")  # the tools are well: only what failed is run, and summed up anew
        assert (again["failed"], again["ran"]) == (0, len(told) + 1)
        run(root, tmp_path / "other.db", tmp_path / "whole")
        assert without_since(tmp_path / "again") == without_since(tmp_path / "whole")
        changed = since(tmp_path / "again")
        assert (changed["untold"], changed["new"], changed["gone"]) == (len(told), [], [])

    def test_files_that_cannot_be_reviewed_are_lines_in_the_report(self, tmp_path: Path) -> None:
        root = tmp_path / "tree"
        (root / "pkg").mkdir(parents=True)
        (root / "good.py").write_text("x = 1\n")
        (root / "broken.py").write_text("def f(:\n")
        (root / "nul.py").write_bytes(b"x = 1\n\x00")
        (root / "bytes.py").write_bytes(b"x = '\xff'\n")
        (root / "enormous.py").write_text("x = 1\n" * 400_000)
        (root / "long.py").write_text("x = [" + "1, " * 60_000 + "]\n")
        (root / "deep.py").write_text("x = " + "-" * 20_000 + "1\n")
        (root / "round.py").symlink_to("round.py")
        (root / "pkg" / "circle").symlink_to(root, target_is_directory=True)
        (root / "locked.py").write_text("x = 1\n")
        (root / "locked.py").chmod(0)
        (root / "closed").mkdir(mode=0)
        os.mkfifo(root / "pipe.py")
        try:
            figures = run(root, tmp_path / "coord.db", tmp_path / "report", codes=(0, 3))
        finally:
            (root / "closed").chmod(0o700)
        report = json.loads((tmp_path / "report.json").read_text())
        skipped = {one["path"]: one["why"] for one in report["skipped"]}
        expected = {
            "bytes.py": "is not text in the encoding it declares",
            "enormous.py": "is larger than 1,000,000 bytes",
            "pipe.py": "is not a regular file",
            "pkg/circle": "is a symbolic link to a directory: not followed",
            "round.py": "cannot be read: Too many levels of symbolic links",
        }
        if os.geteuid():  # nothing is locked to root
            expected |= {"locked.py": "cannot be read: Permission denied", "closed": "cannot be read: Permission denied"}
        assert skipped == expected
        files = {file["path"]: file for file in report["files"]}
        assert set(files) == {"good.py", "broken.py", "nul.py", "long.py", "deep.py"} | ({"locked.py"} - set(expected))
        assert files["broken.py"]["syntax_error"].startswith("line 1: ")
        assert files["nul.py"]["syntax_error"]
        assert files["good.py"]["findings"] == []
        assert len(files["long.py"]["findings"]) <= 2_000
        assert {one["path"] for one in report["failed"]} <= {"deep.py"}  # whose nesting is beyond what Python's own parser can
        assert figures["skipped"] == len(expected)
        markdown = (tmp_path / "report.md").read_text()
        for path, why in expected.items():
            assert f"| `{path}` | {why.replace('_', chr(92) + '_')} |" in markdown

    def test_a_tree_without_a_readable_file_is_reported_as_that(self, tmp_path: Path) -> None:
        root = tmp_path / "tree"
        root.mkdir()
        (root / "bytes.py").write_bytes(b"x = '\xff'\n")
        figures = run(root, tmp_path / "coord.db", tmp_path / "report")
        assert (figures["files"], figures["skipped"], figures["grade"]) == (0, 1, "–")

    @pytest.mark.parametrize("option", [("--timeout", "0"), ("--jobs", "0"), ("--jobs", "65")])
    def test_options_that_make_no_sense_are_wrong_usage(self, option: tuple[str, str], tmp_path: Path) -> None:
        code, said, err = finish(start(tmp_path, tmp_path / "coord.db", tmp_path / "report", *option))
        assert (code, said) == (2, "")
        assert option[0] in err


@pytest.fixture
async def coord(tmp_path: Path) -> AsyncIterator[Coordination]:
    settings = Settings(tries=1, reject_pause=0.05, poll=0.005)
    async with Coordination.open(str(tmp_path / "coord.db"), settings=settings) as coord:
        yield coord


@pytest.fixture
async def bench(coord: Coordination, tmp_path: Path) -> AsyncIterator[Bench]:
    """All agents but the summary, provided."""
    versions = {**tool_versions(), "summary": VERSION}
    async with AsyncExitStack() as stack:
        bench = Bench(versions, Board(), stack.enter_context(Tally(tmp_path / "tally")))
        measurers = [await stack.enter_async_context(Measurers(tool, 1)) for tool in ("bandit", "radon", "interrogate")]
        await provide(coord, bench, measurers, Bounds(1))
        yield bench


async def test_others_can_ask_the_agents_too(coord: Coordination, bench: Bench) -> None:
    job = {"path": "a.py", "source": "import os\n", "tool": tool_versions()["ruff"]}
    assert [one.rule for one in (await coord.call("review.lint", job, returns=Findings)).findings] == ["F401"]


async def test_a_task_for_another_version_is_left_to_a_process_that_has_it(
    coord: Coordination, bench: Bench, tmp_path: Path
) -> None:
    handle = await coord.submit(LintAgent.lint, FileJob(path="a.py", source="import os\n", tool="0.0-other"))
    async with asyncio.timeout(10):
        while (info := await handle.info()).attempt < 2:
            await asyncio.sleep(0.01)
    assert (info.failures, bench.ran, (tmp_path / "tally").read_text()) == (0, set(), "")
    await handle.cancel()


async def test_a_summary_that_fails_is_a_line_in_the_report(coord: Coordination, bench: Bench, tmp_path: Path) -> None:
    class Tired(SummaryAgent):
        async def sum_up(self, job: SummaryJob, ctx: TaskContext) -> Summary:
            raise ToolError("not today")

    await coord.provide(Tired, factory=lambda: Tired(bench), type="summary")
    (tmp_path / "a.py").write_text("x = 1\n")
    answers, board = Answers(), Board()
    job = Job(coord, {**tool_versions(), "summary": VERSION}, answers, board, 30.0)
    await job.ask_files([Found("a.py", tmp_path / "a.py")])
    assert await job.ask_summary() is None
    assert (len(job.tasks), len(bench.ran)) == (5, 4)
    assert answers.failed == [Failed("(all files)", "summary", "ToolError: not today")]
    text = to_markdown(Report("t", {}, answers.reviews(), [], answers.failed, None))
    assert "| `(all files)` | summary | ToolError: not today |" in text
    assert sorted((tmp_path / "tally").read_text().splitlines()) == [
        f"{agent}\ta.py" for agent in ("complexity", "docstrings", "lint", "security")
    ]
    assert [(row.agent, row.done, row.failed) for row in board.snapshot().rows] == [
        *((agent, 1, 0) for agent in ("lint", "security", "complexity", "docstrings")),
        ("summary", 0, 1),
    ]
