"""The figures of all files: what the summary agent is given. Their size does not grow with the number of files."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

from .answers import SEVERITIES, Finding, Message
from .file_review import FileReview

VERSION = "1"
"""Of these figures and of the rules over them: what was summed up by others is summed up again."""
KEPT = 20
"""Files that are described: the worst, and the first of each kind of trouble."""
RULES = 10
"""Rules of ruff that are counted."""
PATH = 120
"""Letters of a path; a longer one keeps its end."""
WEIGHTS = {"high": 25, "medium": 8, "low": 1}
"""Of security issues."""


class RuleCount(Message):
    rule: str
    findings: int


class Totals(Message):
    """Over all files. A count whose tool answered for no file is None."""

    files: int
    lines: int
    findings: int | None
    fixing: list[RuleCount]
    """Findings that ruff mends by itself, the most frequent first."""
    rules: list[RuleCount]
    """The other findings."""
    issues: dict[str, int] | None
    functions: int | None
    complex_functions: int
    public: int | None
    documented: int
    broken: int
    skipped: int
    failed: int


class FileFigures(Message):
    """One file as numbers, and the worst of each kind in words."""

    path: str
    findings: int
    rule: str
    issues: dict[str, int]
    issue: str
    complex_functions: int
    function: str
    complexity: int
    public: int
    undocumented: int
    syntax_error: str

    @property
    def points(self) -> float:
        """How bad it is, to set it beside others."""
        issues = sum(WEIGHTS[severity] * count for severity, count in self.issues.items())
        return 100 * bool(self.syntax_error) + issues + 5 * self.complex_functions + self.findings + self.undocumented / 2


class SummaryJob(Message):
    """The summary agent's input; ``tool`` is the version of the rules that are asked."""

    tool: str
    totals: Totals
    files: list[FileFigures]

    @property
    def key(self) -> str:
        """Names the task: the same figures and rules are the same task."""
        return f"summary:{self.tool}:{hashlib.sha256(self.model_dump_json().encode()).hexdigest()[:32]}"


def condense(files: Sequence[FileReview], skipped: int, failed: int) -> SummaryJob:
    """The figures of all files; ``skipped``, ``failed``: files that were not reviewed, answers that are missing."""
    figures = sorted(map(_figures, files), key=lambda one: (-one.points, one.path))
    leaders = [max(figures, key=of) for of in TROUBLES if figures]  # of equals the worse file: it comes first
    kept = {one.path: one for one in (*figures[:KEPT], *leaders)}
    return SummaryJob(tool=VERSION, totals=_totals(files, skipped, failed), files=list(kept.values()))


def _totals(files: Sequence[FileReview], skipped: int, failed: int) -> Totals:
    findings = [finding for file in files for finding in file.findings]
    issues = sum((file.severities() for file in files), Counter[str]())
    return Totals(
        files=len(files),
        lines=sum(file.lines for file in files),
        findings=_known(files, "lint", lambda file: file.finding_count),
        fixing=_rules([finding for finding in findings if finding.fixable]),
        rules=_rules([finding for finding in findings if not finding.fixable]),
        issues={one: issues[one] for one in SEVERITIES} if any(file.security for file in files) else None,
        functions=_known(files, "complexity", lambda file: len(file.functions)),
        complex_functions=sum(len(file.complex_functions) for file in files),
        public=_known(files, "docstrings", lambda file: file.public),
        documented=sum(file.documented for file in files),
        broken=sum(file.syntax_error is not None for file in files),
        skipped=skipped,
        failed=failed,
    )


def _known(files: Sequence[FileReview], answer: str, count: Callable[[FileReview], int]) -> int | None:
    there = [file for file in files if getattr(file, answer) is not None]
    return sum(map(count, there)) if there else None


def _rules(findings: Sequence[Finding]) -> list[RuleCount]:
    counts = Counter(finding.rule for finding in findings)
    ordered = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    return [RuleCount(rule=rule, findings=count) for rule, count in ordered[:RULES]]


def _figures(file: FileReview) -> FileFigures:
    rules = _rules(file.findings)
    issue = file.issues[0] if file.issues else None
    function = file.complex_functions[0] if file.complex_functions else None
    return FileFigures(
        path=_quotable(file.path),
        findings=file.finding_count,
        rule=rules[0].rule if rules else "",
        issues={one: file.severities()[one] for one in SEVERITIES},
        issue=f"{issue.rule}, line {issue.line}" if issue else "",
        complex_functions=len(file.complex_functions),
        function=function.name if function else "",
        complexity=function.complexity if function else 0,
        public=file.public,
        undocumented=file.public - file.documented,
        syntax_error=file.syntax_error or "",
    )


def _quotable(path: str) -> str:
    """Short enough, and without what would end a quotation."""
    return (path if len(path) <= PATH else "…" + path[1 - PATH :]).replace("`", "'")


TROUBLES: tuple[Callable[[FileFigures], Any], ...] = (
    lambda one: bool(one.syntax_error),
    lambda one: tuple(one.issues[severity] for severity in SEVERITIES),
    lambda one: one.complexity,
    lambda one: one.undocumented,
)
"""Each kind of trouble, the larger the worse: broken, issues, complexity, undocumented."""
