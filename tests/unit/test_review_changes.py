"""What changed between two runs: known again, new, gone, and what nobody can tell."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import pytest

from autogen_coord.review.answers import Complexity, Docstrings, Finding, Findings, Security
from autogen_coord.review.changes import (
    AGENTS,
    FileFindings,
    Item,
    LastRun,
    Past,
    Since,
    Totals,
    compare,
    findings_in,
    hidden_by,
    unmatched,
)
from autogen_coord.review.file_review import FileReview

TOOLS = {"ruff": "1", "radon": "2"}
TOTALS: Totals = {"grade": "B", "mark": 80}
PLENTY = 1 << 20


def item(line: int, message: str = "is bad", rule: str = "B1") -> Item:
    return Item(line=line, rule=rule, message=message)


def found(path: str, *items: Item, digest: str = "d", untold: Sequence[str] = ()) -> FileFindings:
    """All of it said by ruff; ``untold``: agents that gave no answer."""
    said: dict[str, list[Item] | None] = {agent: [] for agent in AGENTS}
    said |= {"lint": list(items), **dict.fromkeys(untold)}
    return FileFindings(path=path, digest=digest, found=said)


def past(*files: FileFindings, tools: Mapping[str, str] = TOOLS, totals: Totals = TOTALS) -> Past:
    run = LastRun(root="/r", tools=dict(tools), totals=dict(totals))
    return Past(run=run, at=1.0, files={one.path: one for one in files})


def since(before: Past, *now: FileFindings, hidden: frozenset[str] = frozenset(), mark: int = 80) -> Since:
    return compare(before, TOOLS, {"grade": "B", "mark": mark}, now, hidden)


def lines(these: Sequence[Item]) -> list[int]:
    return [one.line for one in these]


class TestOneFile:
    @pytest.mark.parametrize(
        ("before", "after", "gone", "new"),
        [
            ([item(3)], [item(3)], [], []),
            ([item(3)], [item(9)], [], []),
            ([item(3, "first in line 3")], [item(9, "first in line 9")], [], []),
            ([item(3)], [item(3, rule="B2")], [3], [3]),
            ([item(3)], [item(3, "is worse")], [3], [3]),
            ([item(3)], [item(3), item(9)], [], [9]),  # the one in its place is the one that was
            ([item(3), item(9)], [item(9)], [3], []),
            ([item(3), item(4)], [item(13), item(14), item(15)], [], [15]),
            ([item(3), item(3)], [item(3)], [3], []),
            ([], [item(1)], [], [1]),
            ([item(1)], [], [1], []),
        ],
    )
    def test_a_finding_is_known_again_by_rule_and_words_wherever_it_moved(
        self, before: list[Item], after: list[Item], gone: list[int], new: list[int]
    ) -> None:
        was, came = unmatched(before, after)
        assert (lines(was), lines(came)) == (gone, new)

    def test_a_name_that_ends_in_a_number_is_not_another_name(self) -> None:
        was, came = unmatched([item(1, "`f1` is unused")], [item(1, "`f2` is unused")])
        assert (lines(was), lines(came)) == ([1], [1])

    def test_an_answer_that_is_missing_or_cut_or_of_broken_source_is_kept_as_unknown(self) -> None:
        finding = Finding(line=1, column=1, rule="B1", message="is bad")
        lint, bare = Findings(findings=[finding], left_off=1), Docstrings(total=0, covered=0, missing=[])
        review = FileReview("a.py", 1, lint, None, Complexity(syntax_error="line 4: no"), bare)
        kept = findings_in(review, PLENTY).found
        assert (kept["lint"], kept["security"], kept["complexity"], kept["docstrings"]) == (None, None, None, [])
        assert kept["syntax"] == [Item(line=4, rule="syntax error", message="no")]
        assert findings_in(FileReview("a.py", 1), PLENTY).found == dict.fromkeys(AGENTS)

    def test_what_is_too_long_to_be_kept_is_unknown_the_longest_first(self) -> None:
        findings = [Finding(line=n, column=1, rule="B1", message="x" * 100) for n in range(50)]
        bare = Docstrings.model_validate({"total": 1, "covered": 0, "missing": [{"name": "f", "kind": "function", "line": 1}]})
        review = FileReview("a.py", 1, Findings(findings=findings), Security(issues=[]), Complexity(), bare, "d")
        whole, cut = findings_in(review, PLENTY), findings_in(review, 1_000)
        assert len(whole.found["lint"] or ()) == 50
        assert {agent for agent in AGENTS if whole.found[agent] != cut.found[agent]} == {"lint"}
        assert len(cut.model_dump_json()) <= 1_000


class TestARun:
    def test_the_same_is_nothing(self) -> None:
        one = since(past(found("a.py", item(1))), found("a.py", item(1)))
        assert one.is_nothing
        assert one.sentences() == []

    def test_what_is_new_and_gone_is_named_with_its_place(self) -> None:
        before = past(found("a.py", item(1)), found("gone.py", item(2)))
        one = since(before, found("a.py", item(7, "is new"), digest="e"), found("new.py", item(3)), mark=70)
        assert [(place.path, place.line, place.agent) for place in one.gone] == [("a.py", 1, "lint"), ("gone.py", 2, "lint")]
        assert [(place.path, place.line, place.message) for place in one.new] == [("a.py", 7, "is new"), ("new.py", 3, "is bad")]
        assert (one.files_new, one.files_changed, one.files_gone, one.untold) == (1, 1, 1, 0)
        assert one.sentences() == [
            "2 new findings, 2 gone",
            "grade B (80) before, B (70) now",
            "1 file new, 1 file changed, 1 file gone",
        ]

    def test_a_changed_file_with_the_same_findings_is_said_with_the_grade_as_it_was(self) -> None:
        one = since(past(found("a.py", item(1))), found("a.py", item(2), digest="e"))
        assert one.sentences() == ["0 new findings, 0 gone", "grade B (80) as before", "1 file changed"]

    def test_without_an_answer_nothing_is_gone_or_new_but_that_is_counted(self) -> None:
        well, silent = found("a.py", item(1)), found("a.py", untold=("lint",))
        for before, now in ((well, silent), (silent, well)):
            one = since(past(before), now)
            assert (one.new, one.gone, one.untold, one.is_nothing) == ([], [], 1, False)
            assert "1 answer not to be compared" in one.sentences()

    def test_what_no_agent_can_tell_of_an_unchanged_file_is_not_a_change(self) -> None:
        silent = found("a.py", untold=("lint", "security"))
        assert since(past(silent), silent).is_nothing
        assert since(past(silent), found("a.py", untold=("lint", "security"), digest="e")).untold == 2
        assert since(past(silent, tools={"ruff": "0"}), silent).untold == 2

    def test_a_file_that_cannot_be_read_this_time_is_not_gone(self) -> None:
        one = since(past(found("a.py", item(1)), found("b.py")), found("b.py"), hidden=frozenset({"a.py"}))
        assert (one.gone, one.files_gone, one.untold) == ([], 0, 1)

    def test_a_file_whose_findings_can_no_longer_be_read_is_not_compared(self) -> None:
        before = Past(run=past().run, at=1.0, files={"a.py": None})
        one = since(before, found("a.py", item(1)))
        assert (one.new, one.files_new, one.untold) == ([], 0, len(AGENTS))

    def test_other_versions_of_tools_are_named(self) -> None:
        one = since(past(tools={"ruff": "0", "old": "3"}))
        assert [(change.tool, change.before, change.after) for change in one.tools] == [
            ("old", "3", None),
            ("radon", None, "2"),
            ("ruff", "0", "1"),
        ]
        assert "old 3 before, – now, radon – before, 2 now, ruff 0 before, 1 now" in one.sentences()


def test_a_skipped_directory_hides_what_lies_in_it() -> None:
    paths = ["a.py", "closed/b.py", "closed/deep/c.py", "closed2/d.py"]
    assert hidden_by(["closed", "a.py"], paths) == {"a.py", "closed/b.py", "closed/deep/c.py"}
    assert hidden_by([], paths) == set()
