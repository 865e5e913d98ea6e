"""The two capabilities of the job, and what travels to and from them.

A task carries the source itself: it means the same in whichever process and directory it runs, and what is reviewed is what was
hashed, also when the file changes in between.
"""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ConfigDict

from autogen_coord import capability

from ..errors import RejectedError
from .tools import Measurers, run_ruff, tool_versions

LINT, COMPLEXITY = "review.lint", "review.complexity"
MAX_ITEMS = 2_000
"""Findings, or blocks, of one file that are kept; the others are counted."""
MAX_TEXT = 200
"""Letters of a message or of a block's name that are kept. Both bounds keep an answer below the limit of an output."""


class _Message(BaseModel):
    model_config = ConfigDict(frozen=True)


class FileJob(_Message):
    """One file for one tool. ``path`` is relative, with slashes; ``tool`` is the version that is asked."""

    path: str
    source: str
    tool: str


class Finding(_Message):
    """``rule`` is ruff's code; line and column count from 1."""

    line: int
    column: int
    rule: str
    message: str


class Findings(_Message):
    """What ruff says of one file. With a ``syntax_error`` it says nothing else."""

    findings: list[Finding] = []
    left_off: int = 0
    syntax_error: str | None = None


class Block(_Message):
    """A function, method or class with its cyclomatic complexity; ``kind`` is one of these words."""

    name: str
    kind: str
    line: int
    complexity: int


class Complexity(_Message):
    """What radon says of one file; ``maintainability`` is its index, 0 to 100. With a ``syntax_error`` it says nothing else."""

    blocks: list[Block] = []
    left_off: int = 0
    maintainability: float | None = None
    syntax_error: str | None = None


class ReviewTools:
    """The capabilities of this process, `lint` and `complexity`, each for ``jobs`` files at a time.

    ``ran`` counts the answers that were worked out here; the others came from the store or from another process.
    """

    def __init__(self, measurers: Measurers, jobs: int) -> None:
        self.versions = tool_versions()
        self.ran = 0

        @capability(LINT, description="Lints one Python file with ruff", max_concurrency=jobs)
        async def lint(job: FileJob) -> Findings:
            self._check(job, "ruff")
            answer = findings_of(await run_ruff(job.path, job.source))
            self.ran += 1
            return answer

        @capability(COMPLEXITY, description="Measures the complexity of one Python file with radon", max_concurrency=jobs)
        async def complexity(job: FileJob) -> Complexity:
            self._check(job, "radon")
            answer = complexity_of(await measurers.measure(job.source))
            self.ran += 1
            return answer

        self.lint = lint
        self.complexity = complexity

    def _check(self, job: FileJob, tool: str) -> None:
        """A task that another version was asked for waits for a process that has it: its answer is kept under that version."""
        if job.tool != self.versions[tool]:
            raise RejectedError(f"this process has {tool} {self.versions[tool]}, the task asks for {job.tool}")


def findings_of(items: list[dict[str, Any]]) -> Findings:
    """ruff's JSON as `Findings`, in order of place. ruff names a syntax error ``invalid-syntax`` (older ones: null)."""
    found = sorted((_finding(item) for item in items), key=lambda one: (one.line, one.column, one.rule, one.message))
    broken = [one for one in found if one.rule == "invalid-syntax"]
    if broken:
        return Findings(syntax_error=f"line {broken[0].line}: {broken[0].message}")
    return Findings(findings=found[:MAX_ITEMS], left_off=max(0, len(found) - MAX_ITEMS))


def _finding(item: dict[str, Any]) -> Finding:
    place = item["location"]
    rule = item["code"] or "invalid-syntax"
    return Finding(line=place["row"], column=place["column"], rule=rule, message=item["message"][:MAX_TEXT])


def complexity_of(answer: dict[str, Any]) -> Complexity:
    """A measuring process's answer as `Complexity`, the most complex first."""
    if "syntax_error" in answer:
        return Complexity(syntax_error=answer["syntax_error"][:MAX_TEXT])
    blocks = [Block(**{**block, "name": block["name"][:MAX_TEXT]}) for block in answer["blocks"]]
    blocks.sort(key=lambda one: (-one.complexity, one.line, one.name))
    return Complexity(
        blocks=blocks[:MAX_ITEMS], left_off=max(0, len(blocks) - MAX_ITEMS), maintainability=answer["maintainability"]
    )
