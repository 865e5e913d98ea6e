"""The report, as a function of what the tools said and of nothing else.

No time, duration, absolute path or task id stands in it, and everything is sorted: a run that was killed and started again
gives the same bytes as an undisturbed one.
"""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .capabilities import Block, Complexity, Finding, Findings
from .files import Skipped

COMPLEX = 10
"""A function above it is called complex (radon's rank C and worse)."""
WORST = 20
"""Lines of each "worst" table."""


@dataclass(frozen=True, slots=True)
class Failed:
    """A tool that gave no answer for a file, after all its attempts."""

    path: str
    tool: str
    why: str


@dataclass(frozen=True, slots=True)
class FileReview:
    """One file; what a tool did not answer is None."""

    path: str
    lines: int
    lint: Findings | None
    complexity: Complexity | None

    @property
    def findings(self) -> list[Finding]:
        return self.lint.findings if self.lint else []

    @property
    def count(self) -> int:
        return len(self.findings) + (self.lint.left_off if self.lint else 0)

    @property
    def functions(self) -> list[Block]:
        return [block for block in self.complexity.blocks if block.kind != "class"] if self.complexity else []

    @property
    def syntax_error(self) -> str | None:
        """ruff's word first: it knows newer syntax than the running Python."""
        said = (self.lint, self.complexity)
        return next((answer.syntax_error for answer in said if answer and answer.syntax_error), None)


@dataclass(frozen=True)
class Report:
    """What a review found. ``tools``: name to version. Sorted on construction."""

    target: str
    tools: Mapping[str, str]
    files: Sequence[FileReview]
    skipped: Sequence[Skipped] = ()
    failed: Sequence[Failed] = ()

    def __post_init__(self) -> None:
        object.__setattr__(self, "files", sorted(self.files, key=lambda one: one.path))
        object.__setattr__(self, "skipped", sorted(self.skipped))
        object.__setattr__(self, "failed", sorted(self.failed, key=lambda one: (one.path, one.tool)))

    def summary(self) -> dict[str, int | float | None]:
        functions = [block.complexity for file in self.files for block in file.functions]
        indexes = [
            file.complexity.maintainability
            for file in self.files
            if file.complexity and file.complexity.maintainability is not None
        ]
        return {
            "files": len(self.files),
            "lines": sum(file.lines for file in self.files),
            "findings": sum(file.count for file in self.files),
            "functions": len(functions),
            "complex_functions": sum(value > COMPLEX for value in functions),
            "mean_complexity": _mean(functions),
            "mean_maintainability": _mean(indexes),
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


def write(report: Report, base: Path) -> tuple[Path, Path]:
    """Write ``base.md`` and ``base.json``, each at once or not at all; the directory is made. Returns both paths."""
    base.parent.mkdir(parents=True, exist_ok=True)
    paths = base.with_name(base.name + ".md"), base.with_name(base.name + ".json")
    for path, text in zip(paths, (to_markdown(report), to_json(report)), strict=True):
        draft = path.with_name(f"{path.name}.{os.getpid()}.tmp")
        try:
            draft.write_text(text, encoding="utf-8", newline="\n")
            draft.replace(path)
        finally:
            draft.unlink(missing_ok=True)
    return paths


def to_json(report: Report) -> str:
    value = {
        "target": report.target,
        "tools": dict(sorted(report.tools.items())),
        "summary": report.summary(),
        "rules": report.rules(),
        "files": [_file(file) for file in report.files],
        "skipped": [{"path": one.path, "why": one.why} for one in report.skipped],
        "failed": [{"path": one.path, "tool": one.tool, "why": one.why} for one in report.failed],
    }
    return json.dumps(value, indent=1, ensure_ascii=False) + "\n"


def to_markdown(report: Report) -> str:
    tools = ", ".join(f"{name} {version}" for name, version in sorted(report.tools.items()))
    parts = [
        f"# Review of {_cell(report.target)}\n\nBy {tools}.\n",
        _table("Summary", ("what", "value"), [(name.replace("_", " "), value) for name, value in report.summary().items()]),
        _table("Findings by rule", ("rule", "findings", "files"), [tuple(row.values()) for row in report.rules()]),
        _table("Files with most findings", ("file", "findings", "lines"), _most_findings(report)),
        _table("Most complex functions", ("function", "complexity", "place"), _most_complex(report)),
        _table("Least maintainable files", ("file", "index", "lines"), _least_maintainable(report)),
        _table(
            "Syntax errors",
            ("file", "error"),
            [(_Code(file.path), file.syntax_error) for file in report.files if file.syntax_error],
        ),
        _table("Not reviewed", ("file", "why"), [(_Code(one.path), one.why) for one in report.skipped]),
        _table("Tools without an answer", ("file", "tool", "why"), [(_Code(one.path), one.tool, one.why) for one in report.failed]),
        _table("All findings", ("place", "rule", "message"), _all_findings(report)),
    ]
    return "\n".join(part for part in parts if part)


def _file(file: FileReview) -> dict[str, Any]:
    return {
        "path": file.path,
        "lines": file.lines,
        "syntax_error": file.syntax_error,
        "findings": None if file.lint is None else [finding.model_dump() for finding in file.findings],
        "findings_left_off": file.lint.left_off if file.lint else 0,
        "maintainability": file.complexity.maintainability if file.complexity else None,
        "blocks": None if file.complexity is None else [block.model_dump() for block in file.complexity.blocks],
        "blocks_left_off": file.complexity.left_off if file.complexity else 0,
    }


Row = tuple[object, ...]


def _most_findings(report: Report) -> list[Row]:
    worst = sorted((file for file in report.files if file.count), key=lambda file: (-file.count, file.path))
    return [(_Code(file.path), file.count, file.lines) for file in worst[:WORST]]


def _most_complex(report: Report) -> list[Row]:
    blocks = [(file.path, block) for file in report.files for block in file.functions if block.complexity > COMPLEX]
    blocks.sort(key=lambda pair: (-pair[1].complexity, pair[0], pair[1].line))
    return [(_Code(block.name), block.complexity, _Code(f"{path}:{block.line}")) for path, block in blocks[:WORST]]


def _least_maintainable(report: Report) -> list[Row]:
    rows = [(file.complexity.maintainability, file) for file in report.files if file.complexity]
    known = [(index, file) for index, file in rows if index is not None]
    known.sort(key=lambda pair: (pair[0], pair[1].path))
    return [(_Code(file.path), index, file.lines) for index, file in known[:WORST]]


def _all_findings(report: Report) -> list[Row]:
    return [
        (_Code(f"{file.path}:{one.line}:{one.column}"), one.rule, one.message) for file in report.files for one in file.findings
    ]


def _table(title: str, head: tuple[str, ...], rows: Iterable[Row]) -> str:
    """A section, or nothing when it would be empty."""
    lines = ["| " + " | ".join(_cell(value) for value in row) + " |" for row in rows]
    if not lines:
        return ""
    rule = "|" + "---|" * len(head)
    return "\n".join([f"## {title}\n", "| " + " | ".join(head) + " |", rule, *lines, ""])


class _Code(str):
    """A name or a path: shown as it is."""

    __slots__ = ()


def _cell(value: object) -> str:
    """Any value as one cell: it cannot leave its line, its column or its table."""
    if value is None:
        return "–"
    if isinstance(value, int):
        return f"{value:,}"
    text = " ".join(str(value).split()).replace("|", "\\|")
    if isinstance(value, _Code) and "`" not in text:
        return f"`{text}`"
    parts = text.split("`")
    if len(parts) % 2 == 0:  # a backtick without its partner
        return _escaped(text).replace("`", "\\`")
    return "`".join(part if number % 2 else _escaped(part) for number, part in enumerate(parts))


def _escaped(text: str) -> str:
    for letter in "*_[":
        text = text.replace(letter, "\\" + letter)
    return text.replace("<", "&lt;")


def _mean(values: Sequence[float]) -> float | None:
    return round(sum(values) / len(values), 2) if values else None
