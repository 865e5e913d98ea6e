"""`review` killed by SIGKILL at ten moments of its run, and started again each time: same report, nothing acknowledged runs twice.

A kill behind the moment at which a run finishes leaves its whole report; the next run then compares with that one.

Executions are counted outside the store: the command appends a line to the file of its hidden option ``--tally`` when one begins.
"""

from __future__ import annotations

import json
import os
import random
import sqlite3
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

COMMAND = (sys.executable, "-m", "autogen_coord", "review")
SHORT = {"BEAT": "0.2", "SUSPECT_AFTER": "0.6", "SESSION_TTL": "1.2", "TRUST_MARGIN": "0.2", "SUSPECT_PATIENCE": "1"}
"""A killed process's tasks come back soon."""
FILES, KILLS = 16, 10
TASKS = 4 * FILES + 1
AGENTS = {"ruff": "lint", "bandit": "security", "radon": "complexity", "interrogate": "docstrings", "summary": "summary"}
Execution = tuple[str, str]
"""(agent, path)"""


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """Files that are worth some milliseconds, all different, one of them broken."""
    root = tmp_path / "tree"
    root.mkdir()
    for n in range(FILES - 1):
        body = "".join(f"        if x > {line}:\n            assert x != {n}\n" for line in range(40))
        methods = "".join(f"    def f{method}(self, x):\n{body}        return x\n\n" for method in range(6))
        (root / f"m{n}.py").write_text(f"import os\n\n\nclass C{n}:\n{methods}")
    (root / "broken.py").write_text("def f(:\n")
    return root


@dataclass
class Stand:
    """What the store says after a kill, and what had been begun by then."""

    running: set[Execution]
    acknowledged: set[Execution]
    begun: Counter[Execution]


@dataclass
class Victim:
    """The command, its store and its tally."""

    tree: Path
    home: Path
    stands: list[Stand] = field(default_factory=list)
    midway: int = 0

    @property
    def store(self) -> Path:
        return self.home / "coord.db"

    @property
    def tally(self) -> Path:
        return self.home / "tally"

    def start(self) -> subprocess.Popen[str]:
        named = "--store", str(self.store), "--out", str(self.home / "report"), "--tally", str(self.tally)
        command = [*COMMAND, str(self.tree), *named, "--jobs", "2", "--json"]
        settings = {f"AUTOGEN_COORD_{name}": value for name, value in SHORT.items()}
        pipe = subprocess.PIPE
        return subprocess.Popen(command, stdout=pipe, stderr=pipe, text=True, env={**os.environ, **settings})

    def finish(self) -> dict[str, Any]:
        running = self.start()
        out, err = running.communicate(timeout=30)
        assert running.returncode == 0, err
        figures: dict[str, Any] = json.loads(out)
        return figures

    def kill_after(self, ended: int, moment: float) -> None:
        """Start, wait until so many tasks are ended in the store and ``moment`` seconds more, kill."""
        alive = self.kill_when(lambda: self.ended() >= ended, moment)
        stand = self.stand()
        self.stands.append(stand)
        self.midway += alive and 0 < len(stand.acknowledged) < TASKS

    def kill_when(self, is_time: Callable[[], bool], moment: float = 0.0) -> bool:
        """Start, wait for the time and ``moment`` seconds more, kill. Returns whether it was still running."""
        running = self.start()
        while running.poll() is None and not is_time():
            time.sleep(0.003)
        time.sleep(moment)
        alive = running.poll() is None
        running.kill()
        running.communicate(timeout=10)
        return alive

    def finished_runs(self) -> int:
        """By what is kept of the last of them."""
        return sum(version for (version,) in self.ask("SELECT version FROM document WHERE key LIKE 'review/%/last'"))

    def ended(self) -> int:
        return int(self.ask("SELECT count(*) FROM outcome")[0][0]) if self.store.exists() else 0

    def stand(self) -> Stand:
        running = self.ask("SELECT t.key FROM queue q JOIN task t ON t.id = q.id WHERE q.state = 'running'")
        ended = self.ask("SELECT t.key FROM outcome o JOIN task t ON t.id = o.id WHERE o.state = 'succeeded'")
        return Stand({execution(key) for (key,) in running}, {execution(key) for (key,) in ended}, self.begun())

    def begun(self) -> Counter[Execution]:
        if not self.tally.exists():
            return Counter()
        lines = [line.split("\t") for line in self.tally.read_text().splitlines()]
        return Counter((agent, path) for agent, path in lines)

    def ask(self, question: str) -> list[Any]:
        """A look from beside; nothing before the tables are made."""
        try:
            with closing(sqlite3.connect(f"file:{self.store}?mode=ro", uri=True, timeout=5)) as connection:
                return connection.execute(question).fetchall()
        except sqlite3.OperationalError:
            return [(0,)] if "count" in question else []

    def reports(self) -> tuple[bytes, bytes]:
        return (self.home / "report.md").read_bytes(), (self.home / "report.json").read_bytes()


def execution(key: str) -> Execution:
    tool, _, path, *_ = key.split(":")
    return AGENTS[tool], "(all files)" if tool == "summary" else path


def moments(seed: int) -> list[tuple[int, float]]:
    """One in each tenth of the run: after so many tasks, and so many seconds more."""
    draw = random.Random(seed)
    tenth = TASKS / KILLS
    return [(draw.randrange(int(number * tenth), int((number + 1) * tenth)), draw.uniform(0.0, 0.03)) for number in range(KILLS)]


@pytest.mark.process
@pytest.mark.timeout(60)
@pytest.mark.parametrize("seed", [1])
def test_killed_at_ten_moments_it_reports_as_an_undisturbed_run_and_repeats_nothing_acknowledged(
    seed: int, tree: Path, tmp_path: Path
) -> None:
    (tmp_path / "killed").mkdir()
    (tmp_path / "whole").mkdir()
    victim, whole = Victim(tree, tmp_path / "killed"), Victim(tree, tmp_path / "whole")
    for ended, moment in moments(seed):
        victim.kill_after(ended, moment)
        if victim.finished_runs():
            break
    finished = victim.reports() if victim.finished_runs() else None
    figures = victim.finish()
    assert (figures["tasks"], figures["failed"], figures["syntax_errors"]) == (TASKS, 0, 1)

    assert whole.finish()["ran"] == TASKS
    assert (finished or victim.reports()) == whole.reports()
    assert set(whole.begun().values()) == {1}
    assert victim.midway >= KILLS // 2, f"{victim.midway} of {KILLS} kills hit midway: this shows too little"
    at_kills = Counter(one for stand in victim.stands for one in stand.running)
    assert at_kills, "no kill hit a running task: this shows nothing"

    begun = victim.begun()
    assert set(begun) == set(whole.begun())
    for one, times in begun.items():
        assert times <= 1 + at_kills[one], f"{one} ran {times} times, and ran at {at_kills[one]} kills"
    for stand in victim.stands:
        for one in stand.acknowledged:
            assert begun[one] == stand.begun[one], f"{one} was acknowledged and ran again"


@pytest.mark.process
@pytest.mark.timeout(60)
def test_a_second_run_killed_at_any_moment_says_what_changed_since_the_first(tree: Path, tmp_path: Path) -> None:
    for n in range(6, FILES - 1):
        (tree / f"m{n}.py").unlink()
    (tmp_path / "killed").mkdir()
    (tmp_path / "whole").mkdir()
    victim, whole = Victim(tree, tmp_path / "killed"), Victim(tree, tmp_path / "whole")
    assert (victim.finish()["since"], whole.finish()["since"]) == (None, None)
    first, ended = victim.reports(), victim.ended()
    (tree / "broken.py").write_text("import os\n")
    (tree / "m1.py").write_text("x = 1\n")
    (tree / "m2.py").unlink()
    (tree / "new.py").write_text("import re\n")

    midway = 0
    for is_time in (
        lambda: victim.ended() >= ended + 1,
        lambda: victim.ended() >= ended + 9,
        lambda: (victim.home / "report.md").read_bytes() != first[0],
        lambda: (victim.home / "report.json").read_bytes() != first[1],
    ):
        midway += victim.kill_when(is_time)
        if victim.finished_runs() > 1:
            break
        assert victim.finished_runs() == 1
    else:
        victim.finish()
    assert midway >= 2, "this shows too little"
    since = whole.finish()["since"]
    assert (since["files_new"], since["files_changed"], since["files_gone"]) == (1, 2, 1)
    assert since["new"] > 0
    assert since["gone"] > 0
    assert victim.reports() == whole.reports()

    victim.finish()
    markdown, data = victim.reports()
    assert b"## Since the last run\n\n- Nothing changed.\n" in markdown
    assert (json.loads(data)["since"]["new"], victim.finished_runs()) == ([], 3)
