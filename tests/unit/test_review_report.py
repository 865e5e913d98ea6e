"""The report is a function of the answers, and no text in it can break its form."""

from __future__ import annotations

import io
import json
import random
from pathlib import Path

from autogen_coord.review.capabilities import Block, Complexity, Finding, Findings
from autogen_coord.review.files import Skipped
from autogen_coord.review.progress import PlainProgress, progress_on
from autogen_coord.review.report import Failed, FileReview, Report, to_json, to_markdown, write

TOOLS = {"ruff": "1", "radon": "2"}


def finding(rule: str, line: int = 1, message: str = "is bad") -> Finding:
    return Finding(line=line, column=1, rule=rule, message=message)


def block(name: str, complexity: int, kind: str = "function") -> Block:
    return Block(name=name, kind=kind, line=1, complexity=complexity)


def file(path: str, rules: list[str], *blocks: Block, index: float = 50.0) -> FileReview:
    lint = Findings(findings=[finding(rule) for rule in rules])
    return FileReview(path, 10, lint, Complexity(blocks=list(blocks), maintainability=index))


def test_the_order_in_which_answers_came_changes_nothing() -> None:
    files = [file(f"f{n}.py", ["B1"] * (n % 3), block(f"f{n}", n)) for n in range(30)]
    skipped = [Skipped(f"s{n}.py", "why") for n in range(5)]
    failed = [Failed(f"x{n % 2}.py", f"tool{n}", "why") for n in range(5)]
    first = Report("t", TOOLS, files, skipped, failed)
    for items in (files, skipped, failed):
        random.Random(7).shuffle(items)
    second = Report("t", dict(reversed(TOOLS.items())), files, skipped, failed)
    assert to_json(first) == to_json(second)
    assert to_markdown(first) == to_markdown(second)


def test_the_summary_counts() -> None:
    report = Report(
        "t",
        TOOLS,
        [
            file("a.py", ["B1", "B2"], block("f", 12), block("C", 30, "class")),
            file("b.py", ["B1"], block("g", 2), index=100.0),
            FileReview("c.py", 1, Findings(syntax_error="line 1: no"), Complexity(syntax_error="line 1: other words")),
            FileReview("d.py", 1, None, None),
        ],
        [Skipped("e.py", "cannot be read")],
        [Failed("d.py", "ruff", "ToolError: it hung")],
    )
    assert report.summary() == {
        "files": 4,
        "lines": 22,
        "findings": 3,
        "functions": 2,
        "complex_functions": 1,
        "mean_complexity": 7.0,
        "mean_maintainability": 75.0,
        "syntax_errors": 1,
        "skipped": 1,
        "failed": 1,
    }
    assert report.rules() == [{"rule": "B1", "findings": 2, "files": 2}, {"rule": "B2", "findings": 1, "files": 1}]
    text = to_markdown(report)
    assert "| `c.py` | line 1: no |" in text
    assert "| `d.py` | ruff | ToolError: it hung |" in text
    assert "| `e.py` | cannot be read |" in text
    value = json.loads(to_json(report))
    assert value["files"][3]["findings"] is None
    assert value["failed"] == [{"path": "d.py", "tool": "ruff", "why": "ToolError: it hung"}]


def test_no_text_leaves_its_cell() -> None:
    nasty = "a|b\n# <script>*x* ``` _y_ [z](u)"
    report = Report(nasty, TOOLS, [file("we|ird`.py", ["B1"])], [Skipped("s.py", nasty)], [Failed("f.py", nasty, nasty)])
    rows = [line for line in to_markdown(report).splitlines() if line.startswith("|")]
    assert all(row.replace("\\|", "").count("|") in (3, 4) for row in rows)
    assert "<script>" not in to_markdown(report)


def test_an_empty_report_can_be_written() -> None:
    text = to_markdown(Report("t", TOOLS, []))
    assert "| mean complexity | – |" in text
    assert "Findings by rule" not in text


def test_both_files_are_written_whole_and_replace_older_ones(tmp_path: Path) -> None:
    for rules in (["B1"], ["B2"]):
        report = Report("t", TOOLS, [file("a.py", rules)])
        markdown, data = write(report, tmp_path / "new" / "v1.2")
    assert (markdown.name, data.name) == ("v1.2.md", "v1.2.json")
    assert markdown.read_text(encoding="utf-8") == to_markdown(report)
    assert data.read_text(encoding="utf-8") == to_json(report)
    assert sorted(path.name for path in markdown.parent.iterdir()) == ["v1.2.json", "v1.2.md"]


def test_progress_away_from_a_terminal_is_plain_lines() -> None:
    out = io.StringIO()
    assert isinstance(progress_on(out), PlainProgress)
    with PlainProgress(out, every=0.0) as progress:
        progress.expect(2)
        progress.advance()
        progress.advance()
    lines = out.getvalue().splitlines()
    assert [line.split(" tasks, ")[0] for line in lines] == ["review: 1 of 2", "review: 2 of 2", "review: 2 of 2"]
    assert lines[-1].endswith(" 0 s left")
