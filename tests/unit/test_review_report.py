"""The report is a function of the answers, and no text in it can break its form."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

from autogen_coord.cli import review
from autogen_coord.review.answers import Block, Complexity, Docstrings, Finding, Findings, Issue, Security, Severity, Undocumented
from autogen_coord.review.figures import condense
from autogen_coord.review.file_review import Failed, FileReview
from autogen_coord.review.files import Skipped
from autogen_coord.review.markdown import to_markdown
from autogen_coord.review.report import Report, to_json
from autogen_coord.review.summary import sum_up
from autogen_coord.review.writing import write

TOOLS = {"ruff": "1", "radon": "2"}


def finding(rule: str, line: int = 1, message: str = "is bad") -> Finding:
    return Finding(line=line, column=1, rule=rule, message=message)


def issue(rule: str, severity: Severity = "low", message: str = "is unsafe") -> Issue:
    return Issue(line=3, column=1, rule=rule, severity=severity, confidence="high", message=message)


def block(name: str, complexity: int, kind: str = "function") -> Block:
    return Block(name=name, kind=kind, line=1, complexity=complexity)


def file(path: str, rules: list[str], *blocks: Block, index: float = 50.0, issues: tuple[Issue, ...] = ()) -> FileReview:
    lint = Findings(findings=[finding(rule) for rule in rules])
    bare = [Undocumented(name="f", kind="function", line=1)]
    docstrings = Docstrings(total=4, covered=3, missing=bare)
    return FileReview(
        path, 10, lint, Security(issues=list(issues)), Complexity(blocks=list(blocks), maintainability=index), docstrings
    )


def report(files: list[FileReview], skipped: list[Skipped], failed: list[Failed], tools: dict[str, str] | None = None) -> Report:
    return Report("t", tools or TOOLS, files, skipped, failed, sum_up(condense(files, len(skipped), len(failed))))


def test_the_order_in_which_answers_came_changes_nothing() -> None:
    issues = [issue("B1", "medium"), issue("B2")]
    files = [file(f"f{n}.py", ["B1"] * (n % 3), block(f"f{n}", n), issues=tuple(issues[: n % 3])) for n in range(30)]
    skipped = [Skipped(f"s{n}.py", "why") for n in range(5)]
    failed = [Failed(f"x{n % 2}.py", f"tool{n}", "why") for n in range(5)]
    first = report(files, skipped, failed)
    for items in (files, skipped, failed):
        random.Random(7).shuffle(items)
    second = report(files, skipped, failed, dict(reversed(TOOLS.items())))
    assert to_json(first) == to_json(second)
    assert to_markdown(first) == to_markdown(second)


def test_the_figures_count_what_every_tool_said() -> None:
    broken = FileReview("c.py", 1, Findings(syntax_error="line 1: no"), None, Complexity(syntax_error="line 1: other words"))
    files = [
        file("a.py", ["B1", "B2"], block("f", 12), block("C", 30, "class"), issues=(issue("B324", "high"), issue("B101"))),
        file("b.py", ["B1"], block("g", 2), index=100.0),
        broken,
        FileReview("d.py", 1),
    ]
    whole = report(files, [Skipped("e.py", "cannot be read")], [Failed("d.py", "ruff", "ToolError: it hung")])
    figures = {
        "files": 4,
        "lines": 22,
        "findings": 3,
        "security_issues": 2,
        "high_severity": 1,
        "medium_severity": 0,
        "low_severity": 1,
        "functions": 2,
        "complex_functions": 1,
        "mean_complexity": 7.0,
        "mean_maintainability": 75.0,
        "public_definitions": 8,
        "documented": 6,
        "docstring_coverage": 75.0,
        "syntax_errors": 1,
        "skipped": 1,
        "failed": 1,
    }
    assert whole.summary is not None
    assert whole.totals() == {"grade": whole.summary.grade, "mark": whole.summary.mark, **figures}
    assert whole.rules() == [{"rule": "B1", "findings": 2, "files": 2}, {"rule": "B2", "findings": 1, "files": 1}]
    text = to_markdown(whole)
    for line in (
        "| `c.py` | line 1: no |",
        "| `d.py` | ruff | ToolError: it hung |",
        "| `e.py` | cannot be read |",
        "| `a.py:3:1` | high | high | B324 | is unsafe |",
        "| `a.py` | 1 | 4 |",
    ):
        assert line in text
    for sentence in whole.summary.advice:
        assert f"- {sentence}" in text.replace("\\", "")
    value = json.loads(to_json(whole))
    for name in ("findings", "security_issues", "blocks", "undocumented", "public_definitions"):
        assert value["files"][3][name] is None
    assert value["failed"] == [{"path": "d.py", "tool": "ruff", "why": "ToolError: it hung"}]
    assert value["summary"] == whole.summary.model_dump()


def test_no_text_leaves_its_cell() -> None:
    nasty = "a|b\n# <script>*x* ``` _y_ [z](u)"
    bad = file("we|ird`.py", ["B1"], block("f|`", 30), issues=(issue("B|1", "high", nasty),))
    broken = FileReview("bro|ken`\n.py", 1, Findings(syntax_error=nasty))
    skipped, failed = [Skipped("s.py", nasty)], [Failed("f.py", nasty, nasty)]
    text = to_markdown(Report(nasty, TOOLS, [bad, broken], skipped, failed, sum_up(condense([bad, broken], 1, 1))))
    rows = [line.replace("\\|", "") for line in text.splitlines() if line.startswith("|")]
    columns = [row.count("|") for row in rows]
    heads = [number for number, row in enumerate(rows) if row.startswith("|---")]
    for start, end in zip(heads, [*(head - 1 for head in heads[1:]), len(rows)], strict=True):
        assert len(set(columns[start - 1 : end])) == 1, rows[start - 1 : end]
    assert "<script>" not in text
    assert [line for line in text.splitlines() if line.startswith("# ")] == [text.splitlines()[0]]


def test_an_empty_report_can_be_written() -> None:
    text = to_markdown(Report("t", TOOLS, []))
    assert "| mean complexity | – |" in text
    assert "Findings by rule" not in text
    assert "Summary" not in text
    assert "–" in to_markdown(report([], [], []))


def test_both_files_are_written_whole_and_replace_older_ones(tmp_path: Path) -> None:
    for rules in (["B1"], ["B2"]):
        one = Report("t", TOOLS, [file("a.py", rules)])
        markdown, data = write(one, tmp_path / "new" / "v1.2")
    assert (markdown.name, data.name) == ("v1.2.md", "v1.2.json")
    assert markdown.read_text(encoding="utf-8") == to_markdown(one)
    assert data.read_text(encoding="utf-8") == to_json(one)
    assert sorted(path.name for path in markdown.parent.iterdir()) == ["v1.2.json", "v1.2.md"]


def test_the_command_says_the_figures_with_their_plurals() -> None:
    names = "files", "lines", "findings", "security_issues", "complex_functions", "syntax_errors", "skipped", "failed"
    more: dict[str, Any] = {"grade": "B", "docstring_coverage": 62.5}
    one, two = (review._words({**dict.fromkeys(names, count), **more}) for count in (1, 2))
    assert one == (
        "grade B, 1 file, 1 line, 1 finding, 1 security issue, 1 complex function, 62.5% documented, 1 syntax error, "
        "1 skipped, 1 failed"
    )
    assert two == (
        "grade B, 2 files, 2 lines, 2 findings, 2 security issues, 2 complex functions, 62.5% documented, 2 syntax errors, "
        "2 skipped, 2 failed"
    )
    bare = review._words({**dict.fromkeys(names, 0), "grade": None, "docstring_coverage": None})
    assert bare.startswith("0 files, ")
    assert "nothing to document" in bare
