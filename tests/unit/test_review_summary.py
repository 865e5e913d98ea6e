"""The summary: the same for the same figures, right about the worst, and no larger for more files."""

from __future__ import annotations

import random

import pytest

from autogen_coord.review.answers import Block, Complexity, Docstrings, Finding, Findings, Issue, Security, Severity
from autogen_coord.review.figures import KEPT, PATH, condense
from autogen_coord.review.file_review import FileReview
from autogen_coord.review.summary import GRADES, WORST, Summary, sum_up

LOW: tuple[Severity, ...] = ("low", "low", "low")


def lint(count: int, rule: str = "E1", fixable: bool = False) -> Findings:
    return Findings(findings=[Finding(line=1, column=1, rule=rule, message="m", fixable=fixable)] * count)


def security(*severities: Severity) -> Security:
    issues = [Issue(line=7, column=1, rule=f"B-{one}", severity=one, confidence="high", message="m") for one in severities]
    return Security(issues=issues)


def complexity(*values: int) -> Complexity:
    blocks = [Block(name=f"f{value}", kind="function", line=1, complexity=value) for value in values]
    return Complexity(blocks=blocks, maintainability=50.0)


def docstrings(total: int, covered: int) -> Docstrings:
    return Docstrings(total=total, covered=covered)


def clean(path: str, lines: int = 1000) -> FileReview:
    return FileReview(path, lines, lint(0), security(), complexity(1), docstrings(1, 1))


def summary(*files: FileReview, skipped: int = 0, failed: int = 0) -> Summary:
    return sum_up(condense(files, skipped, failed))


def test_what_no_tool_complains_of_has_the_best_grade_and_nothing_to_do() -> None:
    said = summary(clean("a.py"), clean("b.py"))
    assert (said.grade, said.mark, said.worst) == ("A", 100, [])
    assert said.marks == {"lint": 100, "security": 100, "complexity": 100, "docstrings": 100}
    assert said.advice == ["Nothing to do: no tool found anything."]


def test_marks_are_what_the_rules_say() -> None:
    one = FileReview("a.py", 2000, lint(10), security("high", "medium", "low"), complexity(11, 2, 2, 2), docstrings(4, 1))
    said = summary(one)
    assert said.marks == {"lint": 90, "security": 83, "complexity": 0, "docstrings": 25}
    assert (said.mark, said.grade) == (round((90 + 83 + 0 + 25) / 4), "D")


def test_a_small_file_is_not_condemned_for_one_finding() -> None:
    assert summary(FileReview("a.py", 1, lint(1))).marks == {"lint": 90}


def test_files_that_do_not_parse_take_their_share_of_the_mark() -> None:
    broken = FileReview("b.py", 1, Findings(syntax_error="line 3: no"))
    said = summary(clean("a.py"), broken)
    assert said.mark == 50
    assert (said.worst[0].path, said.worst[0].why) == ("b.py", ["does not parse (line 3: no)"])
    assert said.advice[0] == "Mend the 1 file that cannot be parsed, first `b.py` (line 3: no): no tool can say more of them."


def test_the_worst_files_come_first_with_their_reasons() -> None:
    few = FileReview("few.py", 100, lint(2, "E9"))
    unsafe = FileReview("unsafe.py", 100, lint(1), security("high", "low", "low"))
    bare = FileReview("bare.py", 100, None, None, None, docstrings(9, 5))
    knotted = FileReview("knotted.py", 100, None, None, complexity(30, 12, 3))
    said = summary(few, bare, unsafe, knotted, clean("clean.py"))
    assert [(one.path, one.why) for one in said.worst] == [
        ("unsafe.py", ["1 high, 2 low security issues (B-high, line 7)", "1 finding (E1)"]),
        ("knotted.py", ["2 complex functions (`f30` 30)"]),
        ("bare.py", ["4 of 9 public definitions without docstring"]),
        ("few.py", ["2 findings (mostly E9)"]),
    ]


def test_each_sentence_names_a_place_or_a_command() -> None:
    mended, rest = lint(3, "E1", fixable=True), lint(2, "E2")
    both = Findings(findings=[*mended.findings, *rest.findings])
    one = FileReview("a.py", 100, both, security("medium"), complexity(15), docstrings(3, 1))
    assert summary(one, clean("b.py"), skipped=2, failed=1).advice == [
        "Look at the 1 medium security issue, first B-medium, line 7 of `a.py`.",
        "Split the 1 function above complexity 10, first `f15` (15) in `a.py`.",
        "Run `ruff check --fix --select E1`: it mends 3 of 5 findings by itself.",
        "Decide on the 2 findings left; most of all E2 (2).",
        "Write docstrings: 2 of 4 public definitions have none; first in `a.py` (2 missing).",
        "This is not the whole picture: 2 places could not be reviewed and 1 answer of tools missing; the report names them.",
    ]


def test_low_issues_alone_are_no_advice() -> None:
    assert summary(FileReview("a.py", 1000, None, security("low"))).advice == ["Nothing to do: no tool found anything."]


def test_a_tool_without_any_answer_has_no_mark() -> None:
    assert summary(FileReview("a.py", 1000, lint(0))).marks == {"lint": 100}
    nothing = summary(FileReview("a.py", 10), failed=4)
    assert (nothing.grade, nothing.mark, nothing.marks) == ("–", None, {})
    assert summary(skipped=1).mark is None


def test_the_first_of_each_trouble_is_known_however_many_files_are_worse() -> None:
    many = [FileReview(f"w{n:03}.py", 100, lint(500)) for n in range(100)]
    knotted = FileReview("knotted.py", 100, lint(0), None, complexity(40))
    bare = FileReview("bare.py", 100, lint(0), None, None, docstrings(30, 0))
    unsafe = FileReview("unsafe.py", 100, lint(0), security("high"))
    job = condense([*many, knotted, bare, unsafe], 0, 0)
    assert len(job.files) == KEPT + 3
    advice = " ".join(sum_up(job).advice)
    for words in ("line 7 of `unsafe.py`", "in `knotted.py`", "in `bare.py` (30 missing)"):
        assert words in advice
    assert len(sum_up(job).worst) == WORST


def test_the_input_grows_neither_with_files_nor_with_names() -> None:
    few, many = (
        len(condense([FileReview(f"{'deep/' * 900}{n:05}.py", 10, lint(3)) for n in range(count)], 0, 0).model_dump_json())
        for count in (KEPT, 100 * KEPT)
    )
    assert many < few + 100
    assert few < 500 * KEPT
    (only,) = condense([FileReview("x" * 900 + ".py", 10, lint(1))], 0, 0).files
    assert (len(only.path), only.path[0], only.path[-3:]) == (PATH, "…", ".py")


def test_order_changes_nothing_and_any_figure_changes_the_key() -> None:
    files = [FileReview(f"f{n}.py", 10 * n, lint(n % 4), security(*LOW[: n % 3]), complexity(n)) for n in range(1, 40)]
    first = condense(files, 1, 0)
    random.Random(3).shuffle(files)
    assert condense(files, 1, 0) == first
    assert condense(files, 1, 0).key == first.key
    assert sum_up(condense(files, 1, 0)) == sum_up(first)
    others = [condense(files, 0, 0), condense(files, 1, 1), condense(files[1:], 1, 0), condense([*files, clean("z.py")], 1, 0)]
    assert len({first.key, *(one.key for one in others)}) == 5
    assert first.model_copy(update={"tool": "0"}).key != first.key


@pytest.mark.parametrize(("findings", "grade"), [(0, "A"), (5, "A"), (6, "B"), (13, "C"), (21, "D"), (28, "E"), (5000, "E")])
def test_grades_have_their_lowest_mark(findings: int, grade: str) -> None:
    said = summary(FileReview("a.py", 1000, lint(findings)))
    marks = dict(GRADES)
    assert said.mark is not None
    assert said.grade == next(letter for letter, lowest in marks.items() if said.mark >= lowest)
    assert said.grade == grade
