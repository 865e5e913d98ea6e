"""The report for people."""

from __future__ import annotations

from collections.abc import Iterable

from .answers import SEVERITIES
from .changes import Place
from .report import Report

WORST = 20
"""Lines of each "worst" table."""

CHANGED = "place", "agent", "rule", "message"
Row = tuple[object, ...]


class _Code(str):
    """A name or a path: shown as it is."""

    __slots__ = ()


def to_markdown(report: Report) -> str:
    """The whole report; a section that would be empty is left out."""
    tools = ", ".join(f"{name} {version}" for name, version in sorted(report.tools.items()))
    totals = [(name.replace("_", " "), value) for name, value in report.totals().items()]
    parts = [
        f"# Review of {_cell(report.target)}\n\nBy {tools}.\n",
        _verdict(report),
        _since(report),
        _table("New findings", CHANGED, _changed(report.since.new if report.since else ())),
        _table("Gone findings", CHANGED, _changed(report.since.gone if report.since else ())),
        _table("Where to begin", ("file", "why"), _worst(report)),
        _table("Figures", ("what", "value"), totals),
        _table("Findings by rule", ("rule", "findings", "files"), [tuple(row.values()) for row in report.rules()]),
        _table("Files with most findings", ("file", "findings", "lines"), _most_findings(report)),
        _table("Security issues", ("place", "severity", "confidence", "rule", "message"), _issues(report)),
        _table("Most complex functions", ("function", "complexity", "place"), _most_complex(report)),
        _table("Least maintainable files", ("file", "index", "lines"), _least_maintainable(report)),
        _table("Least documented files", ("file", "without docstring", "public definitions"), _least_documented(report)),
        _table(
            "Syntax errors", ("file", "error"), [(_Code(one.path), one.syntax_error) for one in report.files if one.syntax_error]
        ),
        _table("Not reviewed", ("file", "why"), [(_Code(one.path), one.why) for one in report.skipped]),
        _table("Tools without an answer", ("file", "tool", "why"), [(_Code(one.path), one.tool, one.why) for one in report.failed]),
        _table("All findings", ("place", "rule", "message"), _all_findings(report)),
    ]
    return "\n".join(part for part in parts if part)


def _verdict(report: Report) -> str:
    """What the summary agent says."""
    summary = report.summary
    if summary is None:
        return ""
    marks = ", ".join(f"{name} {mark}" for name, mark in summary.marks.items())
    grade = f"Grade **{summary.grade}**" + ("" if summary.mark is None else f": {summary.mark} of 100 ({marks})")
    return "\n".join(["## Summary\n", f"{grade}.\n", *(f"- {_cell(sentence)}" for sentence in summary.advice), ""])


def _since(report: Report) -> str:
    """What changed since the last run; nothing at the first."""
    if report.since is None:
        return ""
    said = report.since.sentences() or ["Nothing changed"]
    return "\n".join(["## Since the last run\n", *(f"- {_cell(sentence)}." for sentence in said), ""])


def _changed(places: Iterable[Place]) -> list[Row]:
    return [(_Code(f"{one.path}:{one.line}"), one.agent, one.rule, one.message) for one in places]


def _worst(report: Report) -> list[Row]:
    return [(_Code(one.path), "; ".join(one.why)) for one in report.summary.worst] if report.summary else []


def _most_findings(report: Report) -> list[Row]:
    worst = sorted((file for file in report.files if file.finding_count), key=lambda file: (-file.finding_count, file.path))
    return [(_Code(file.path), file.finding_count, file.lines) for file in worst[:WORST]]


def _issues(report: Report) -> list[Row]:
    """All of them, the most severe first: there is no other place for them here."""
    found = [(file.path, one) for file in report.files for one in file.issues]
    found.sort(key=lambda pair: (SEVERITIES.index(pair[1].severity), pair[0], pair[1].line, pair[1].column, pair[1].rule))
    return [(_Code(f"{path}:{one.line}:{one.column}"), one.severity, one.confidence, one.rule, one.message) for path, one in found]


def _most_complex(report: Report) -> list[Row]:
    blocks = [(file.path, block) for file in report.files for block in file.complex_functions]
    blocks.sort(key=lambda pair: (-pair[1].complexity, pair[0], pair[1].line))
    return [(_Code(block.name), block.complexity, _Code(f"{path}:{block.line}")) for path, block in blocks[:WORST]]


def _least_maintainable(report: Report) -> list[Row]:
    known = [(file.maintainability, file) for file in report.files]
    rows = [(index, file.path, file.lines) for index, file in known if index is not None]
    return [(_Code(path), index, lines) for index, path, lines in sorted(rows)[:WORST]]


def _least_documented(report: Report) -> list[Row]:
    bare = [(file.documented - file.public, file.path, file.public) for file in report.files if file.documented < file.public]
    return [(_Code(path), -less, public) for less, path, public in sorted(bare)[:WORST]]


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


def _cell(value: object) -> str:
    """Any value as one cell: it cannot leave its line, its column or its table."""
    if value is None:
        return "–"
    if isinstance(value, int):
        return f"{value:,}"
    text = " ".join(str(value).split())
    if isinstance(value, _Code) and "`" not in text:
        text = f"`{text}`"
    parts = text.split("`")
    if len(parts) % 2 == 0 or "``" in text:  # a backtick without its partner, or of another kind
        text = _escaped(text).replace("`", "\\`")
    else:
        text = "`".join(part if number % 2 else _escaped(part) for number, part in enumerate(parts))
    return text.replace("|", "\\|")


def _escaped(text: str) -> str:
    for letter in "\\*_[":
        text = text.replace(letter, "\\" + letter)
    return text.replace("<", "&lt;")
