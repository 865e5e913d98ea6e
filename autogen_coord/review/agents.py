"""The five agents of the job. Four look at one file each with their tool, the fifth sums up what they said.

They are AutoGen agents as anybody would write them: a class, its capabilities, AutoGen's registration. What the agents of a process
share is their `Bench`.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Self

from autogen_coord import CapabilityAgent, TaskContext, capability

from ..errors import RejectedError
from .answers import Complexity, Docstrings, FileJob, Findings, Security, complexity_of, docstrings_of, findings_of, security_of
from .board import Board
from .figures import SummaryJob
from .summary import Summary, sum_up
from .tools import Measurers, run_ruff

LINT, SECURITY, COMPLEXITY, DOCSTRINGS, SUMMARY = "lint", "security", "complexity", "docstrings", "summary"
"""The agents' types, in the order in which they are shown."""
ALL_FILES = "(all files)"
"""What stands for a path where the answers of all files are meant."""


class Tally:
    """Counts executions outside the store: a line ``agent<tab>path`` is appended to ``place`` when one begins. For tests that kill.

    Nothing depends on it: a line that cannot be written is left out. Raises: OSError when the file cannot be opened.
    """

    def __init__(self, place: Path | None) -> None:
        self._file = None if place is None else os.open(place, os.O_APPEND | os.O_CREAT | os.O_WRONLY, 0o644)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        if self._file is not None:
            os.close(self._file)

    def note(self, agent: str, path: str) -> None:
        if self._file is not None:
            with contextlib.suppress(OSError):
                os.write(self._file, f"{agent}\t{path}\n".encode())


class Bench:
    """What the agents of one process share: the versions they may answer for, and where they tell what they do.

    ``ran`` are the ids of the tasks whose answers were worked out here; the others came from the store or from another process.
    """

    def __init__(self, versions: Mapping[str, str], board: Board, tally: Tally) -> None:
        self._versions = versions
        self._board = board
        self._tally = tally
        self.ran: set[str] = set()

    @contextmanager
    def work(self, task: str, agent: str, path: str, tool: str, version: str) -> Iterator[None]:
        """One execution, told where it is wanted.

        Raises: RejectedError for a version that is not here: the task waits for a process that has it, since its answer is kept
        under that version.
        """
        if version != self._versions[tool]:
            raise RejectedError(f"this process has {tool} {self._versions[tool]}, the task asks for {version}")
        self._tally.note(agent, path)
        with self._board.running(agent, path):
            yield
        self.ran.add(task)


class LintAgent(CapabilityAgent):
    """Lints with ruff, a fresh process a file."""

    def __init__(self, bench: Bench, timeout: float) -> None:
        super().__init__("Lints Python files with ruff")
        self._bench = bench
        self._timeout = timeout

    @capability("review.lint", description="Lints one Python file with ruff")
    async def lint(self, job: FileJob, ctx: TaskContext) -> Findings:
        """ruff's findings in one file. Raises: ToolError, RejectedError."""
        with self._bench.work(ctx.task_id, LINT, job.path, "ruff", job.tool):
            return findings_of(await run_ruff(job.path, job.source, self._timeout))


class SecurityAgent(CapabilityAgent):
    """Looks for security issues with bandit."""

    def __init__(self, bench: Bench, measurers: Measurers) -> None:
        super().__init__("Looks for security issues with bandit")
        self._bench = bench
        self._measurers = measurers

    @capability("review.security", description="Looks for security issues in one Python file with bandit")
    async def inspect(self, job: FileJob, ctx: TaskContext) -> Security:
        """bandit's issues in one file. Raises: ToolError, RejectedError."""
        with self._bench.work(ctx.task_id, SECURITY, job.path, "bandit", job.tool):
            return security_of(await self._measurers.measure(job.source))


class ComplexityAgent(CapabilityAgent):
    """Measures complexity with radon."""

    def __init__(self, bench: Bench, measurers: Measurers) -> None:
        super().__init__("Measures complexity with radon")
        self._bench = bench
        self._measurers = measurers

    @capability("review.complexity", description="Measures the complexity of one Python file with radon")
    async def measure(self, job: FileJob, ctx: TaskContext) -> Complexity:
        """radon's figures of one file. Raises: ToolError, RejectedError."""
        with self._bench.work(ctx.task_id, COMPLEXITY, job.path, "radon", job.tool):
            return complexity_of(await self._measurers.measure(job.source))


class DocstringAgent(CapabilityAgent):
    """Looks for missing docstrings with interrogate."""

    def __init__(self, bench: Bench, measurers: Measurers) -> None:
        super().__init__("Looks for missing docstrings with interrogate")
        self._bench = bench
        self._measurers = measurers

    @capability("review.docstrings", description="Finds what has no docstring in one Python file with interrogate")
    async def cover(self, job: FileJob, ctx: TaskContext) -> Docstrings:
        """interrogate's count of one file. Raises: ToolError, RejectedError."""
        with self._bench.work(ctx.task_id, DOCSTRINGS, job.path, "interrogate", job.tool):
            return docstrings_of(await self._measurers.measure(job.source))


class SummaryAgent(CapabilityAgent):
    """Sums up what the others said, by fixed rules."""

    def __init__(self, bench: Bench) -> None:
        super().__init__("Sums up what the other agents said of all files")
        self._bench = bench

    @capability("review.summary", description="Grades a review and says where to begin")
    async def sum_up(self, job: SummaryJob, ctx: TaskContext) -> Summary:
        """The grade, the worst files and why, and what to do. Raises: RejectedError."""
        with self._bench.work(ctx.task_id, SUMMARY, ALL_FILES, "summary", job.tool):
            return sum_up(job)
