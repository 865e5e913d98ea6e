"""The report, as a function of what the tools said, now and at the last finished run, and of nothing else.

No time, duration, absolute path or task id stands in it, and everything is sorted: a run that was killed and started again
gives the same bytes as an undisturbed one. `markdown` has its form for people.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from .answers import SEVERITIES
from .changes import Since, Totals
from .file_review import COMPLEX, Failed, FileReview
from .files import Skipped
from .summary import Summary


@dataclass(frozen=True)
class Report:
    """What a review found. ``tools``: name to version; ``since``: what changed since the last run, None at the first. Sorted."""

    target: str
    tools: Mapping[str, str]
    files: Sequence[FileReview]
    skipped: Sequence[Skipped] = ()
    failed: Sequence[Failed] = ()
    summary: Summary | None = None
    since: Since | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "files", sorted(self.files, key=lambda one: one.path))
        object.__setattr__(self, "skipped", sorted(self.skipped))
        object.__setattr__(self, "failed", sorted(self.failed, key=lambda one: (one.path, one.tool)))

    def totals(self) -> Totals:
        """The figures that the command prints, too."""
        functions = [block.complexity for file in self.files for block in file.functions]
        indexes = [file.maintainability for file in self.files if file.maintainability is not None]
        public, documented = (sum(getattr(file, name) for file in self.files) for name in ("public", "documented"))
        return {
            "grade": self.summary.grade if self.summary else None,
            "mark": self.summary.mark if self.summary else None,
            "files": len(self.files),
            "lines": sum(file.lines for file in self.files),
            "findings": sum(file.finding_count for file in self.files),
            "security_issues": sum(file.issue_count for file in self.files),
            **{f"{one}_severity": sum(file.severities()[one] for file in self.files) for one in SEVERITIES},
            "functions": len(functions),
            "complex_functions": sum(value > COMPLEX for value in functions),
            "mean_complexity": _mean(functions),
            "mean_maintainability": _mean(indexes),
            "public_definitions": public,
            "documented": documented,
            "docstring_coverage": round(100 * documented / public, 1) if public else None,
            "syntax_errors": sum(file.syntax_error is not None for file in self.files),
            "skipped": len(self.skipped),
            "failed": len(self.failed),
        }

    def rules(self) -> list[dict[str, Any]]:
        """Findings by rule, the most frequent first."""
        counts: Counter[str] = Counter()
        files: dict[str, set[str]] = {}
        for file in self.files:
            for finding in file.findings:
                counts[finding.rule] += 1
                files.setdefault(finding.rule, set()).add(file.path)
        ordered = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
        return [{"rule": rule, "findings": count, "files": len(files[rule])} for rule, count in ordered]


def to_json(report: Report) -> str:
    value = {
        "target": report.target,
        "tools": dict(sorted(report.tools.items())),
        "totals": report.totals(),
        "summary": report.summary.model_dump() if report.summary else None,
        "since": report.since.model_dump() if report.since else None,
        "rules": report.rules(),
        "files": [_file(file) for file in report.files],
        "skipped": [{"path": one.path, "why": one.why} for one in report.skipped],
        "failed": [{"path": one.path, "tool": one.tool, "why": one.why} for one in report.failed],
    }
    return json.dumps(value, indent=1, ensure_ascii=False) + "\n"


def _file(file: FileReview) -> dict[str, Any]:
    """None where a tool gave no answer."""
    lint, security, complexity, docstrings = file.lint, file.security, file.complexity, file.docstrings
    return {
        "path": file.path,
        "lines": file.lines,
        "syntax_error": file.syntax_error,
        "findings": None if lint is None else [finding.model_dump() for finding in lint.findings],
        "findings_left_off": lint.left_off if lint else 0,
        "security_issues": None if security is None else [issue.model_dump() for issue in security.issues],
        "security_issues_left_off": security.left_off if security else 0,
        "maintainability": file.maintainability,
        "blocks": None if complexity is None else [block.model_dump() for block in complexity.blocks],
        "blocks_left_off": complexity.left_off if complexity else 0,
        "public_definitions": None if docstrings is None else docstrings.total,
        "undocumented": None if docstrings is None else [one.model_dump() for one in docstrings.missing],
        "undocumented_left_off": docstrings.left_off if docstrings else 0,
    }


def _mean(values: Sequence[float]) -> float | None:
    return round(sum(values) / len(values), 2) if values else None
