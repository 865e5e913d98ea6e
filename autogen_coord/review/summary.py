"""What the summary agent does with the figures: a grade, the worst files and why, and what to do, by fixed rules.

The mark is the mean of four, each from 0 to 100, times the share of files that parse:

- lint: 100, less 2 for each finding per thousand lines;
- security: 100, less 25, 8 or 1 for each high, medium or low issue per thousand lines;
- complexity: 100, less 5 for each percent of functions that are complex;
- docstrings: the percentage of public definitions that have one.

Fewer lines than `FEWEST_LINES` count as so many; a tool that answered for no file has no mark.
"""

from __future__ import annotations

from .answers import SEVERITIES, Message
from .figures import TROUBLES, WEIGHTS, FileFigures, SummaryJob, Totals
from .file_review import COMPLEX

WORST = 10
"""Files that the summary names."""
FEWEST_LINES = 200
GRADES = ("A", 90), ("B", 75), ("C", 60), ("D", 45), ("E", 0)
"""The letter and its lowest mark."""


class WorstFile(Message):
    path: str
    why: list[str]


class Summary(Message):
    """``mark``: 0 to 100, None when no tool answered; ``marks``: by agent; ``advice``: sentences, the most urgent first."""

    grade: str
    mark: int | None
    marks: dict[str, int]
    worst: list[WorstFile]
    advice: list[str]


def sum_up(job: SummaryJob) -> Summary:
    """The grade, the worst files and why, and what to do: the same for the same figures."""
    marks = _marks(job.totals)
    mark = _mark(marks, job.totals)
    worst = sorted((one for one in job.files if one.points > 0), key=lambda one: (-one.points, one.path))
    return Summary(
        grade="–" if mark is None else next(letter for letter, lowest in GRADES if mark >= lowest),
        mark=mark,
        marks=marks,
        worst=[WorstFile(path=one.path, why=_why(one)) for one in worst[:WORST]],
        advice=_advice(job) or ["Nothing to do: no tool found anything."],
    )


def _marks(totals: Totals) -> dict[str, int]:
    thousands = max(totals.lines, FEWEST_LINES) / 1000
    marks: dict[str, float] = {}
    if totals.findings is not None:
        marks["lint"] = 100 - 2 * totals.findings / thousands
    if totals.issues is not None:
        marks["security"] = 100 - sum(WEIGHTS[one] * count for one, count in totals.issues.items()) / thousands
    if totals.functions is not None:
        marks["complexity"] = 100 - 500 * totals.complex_functions / max(totals.functions, 1)
    if totals.public is not None:
        marks["docstrings"] = 100 * totals.documented / totals.public if totals.public else 100
    return {name: max(0, round(mark)) for name, mark in marks.items()}


def _mark(marks: dict[str, int], totals: Totals) -> int | None:
    if not marks or not totals.files:
        return None
    return round(sum(marks.values()) / len(marks) * (totals.files - totals.broken) / totals.files)


def _why(one: FileFigures) -> list[str]:
    if one.syntax_error:
        return [f"does not parse ({one.syntax_error})"]
    issues = [f"{one.issues[severity]} {severity}" for severity in SEVERITIES if one.issues[severity]]
    words = [
        f"{', '.join(issues)} security {_noun(sum(one.issues.values()), 'issue')} ({one.issue})" if issues else "",
        f"{_many(one.complex_functions, 'complex function')} (`{one.function}` {one.complexity})" if one.function else "",
        f"{_many(one.findings, 'finding')} ({'mostly ' if one.findings > 1 else ''}{one.rule})" if one.findings else "",
        f"{one.undocumented:,} of {_many(one.public, 'public definition')} without docstring" if one.undocumented else "",
    ]
    return [word for word in words if word]


def _advice(job: SummaryJob) -> list[str]:
    totals = job.totals
    broken, issues, complex_, undocumented = (max(job.files, key=of) if job.files else None for of in TROUBLES)
    said = []
    if totals.broken and broken:
        them = f"Mend the {_many(totals.broken, 'file')} that cannot be parsed, first `{broken.path}`"
        said.append(f"{them} ({broken.syntax_error}): no tool can say more of them.")
    severe = [f"{totals.issues[one]:,} {one}" for one in SEVERITIES[:2] if totals.issues and totals.issues[one]]
    if severe and issues:
        count = sum((totals.issues or {})[one] for one in SEVERITIES[:2])
        said.append(
            f"Look at the {' and '.join(severe)} security {_noun(count, 'issue')}, first {issues.issue} of `{issues.path}`."
        )
    if totals.complex_functions and complex_:
        first = f"`{complex_.function}` ({complex_.complexity}) in `{complex_.path}`"
        said.append(f"Split the {_many(totals.complex_functions, 'function')} above complexity {COMPLEX}, first {first}.")
    said += _advice_on_lint(totals)
    if totals.public and undocumented and undocumented.undocumented:
        missing = f"{totals.public - totals.documented:,} of {totals.public:,}"
        first = f"first in `{undocumented.path}` ({undocumented.undocumented:,} missing)"
        said.append(f"Write docstrings: {missing} public definitions have none; {first}.")
    return said + _advice_on_gaps(totals)


def _advice_on_lint(totals: Totals) -> list[str]:
    if not totals.findings:
        return []
    said, fixable = [], sum(one.findings for one in totals.fixing)
    if fixable:
        rules = ",".join(one.rule for one in totals.fixing)
        mended = f"mends {fixable:,} of {_many(totals.findings, 'finding')} by itself"
        said.append(f"Run `ruff check --fix --select {rules}`: it {mended}.")
    if totals.rules:
        rules = ", ".join(f"{one.rule} ({one.findings:,})" for one in totals.rules[:3])
        said.append(f"Decide on the {_many(totals.findings - fixable, 'finding')} left; most of all {rules}.")
    return said


def _advice_on_gaps(totals: Totals) -> list[str]:
    gaps = [_many(totals.skipped, "place") + " could not be reviewed"] if totals.skipped else []
    gaps += [_many(totals.failed, "answer") + " of tools missing"] if totals.failed else []
    return [f"This is not the whole picture: {' and '.join(gaps)}; the report names them."] if gaps else []


def _many(count: int, noun: str) -> str:
    return f"{count:,} {_noun(count, noun)}"


def _noun(count: int, noun: str) -> str:
    return noun if count == 1 else noun + "s"
