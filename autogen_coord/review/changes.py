"""What changed between two runs: findings that are new, findings that are gone, the grade before and after.

A finding is known again by its file, agent, rule and words, not by its line or another number in its words: what only moved did not
change. Where an agent could not tell, then or now, nothing is compared, and that is counted, unless it was asked
the same both times.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from typing import TypeVar

from .answers import Answer, Message
from .file_review import FileReview

K = TypeVar("K")
Totals = dict[str, int | float | str | None]
"""A run's figures, by name."""
LINT, SECURITY, COMPLEXITY, DOCSTRINGS, SYNTAX = "lint", "security", "complexity", "docstrings", "syntax"
NUMBER = re.compile(r"\b\d+\b")
AGENTS = LINT, SECURITY, COMPLEXITY, DOCSTRINGS, SYNTAX
PLACED = re.compile(r"line (\d+): (.*)", re.DOTALL)


class Item(Message):
    """One finding in a file; the line counts from 1."""

    line: int
    rule: str
    message: str

    @property
    def identity(self) -> tuple[str, str]:
        """What it is known again by."""
        return self.rule, NUMBER.sub("", self.message)


class FileFindings(Message):
    """What a run found in one file, by agent, as it is kept; ``digest`` is of its text.

    None where an agent could not tell all: it gave no answer, the file does not parse, there was more than is kept.
    """

    path: str
    digest: str
    found: dict[str, list[Item] | None]


class LastRun(Message):
    """A finished run: where, by which versions of the tools, and its figures."""

    root: str
    tools: dict[str, str]
    totals: Totals


class Past(Message):
    """The last finished run, when it finished (epoch seconds), and what it found by path; None what cannot be read any more."""

    run: LastRun
    at: float
    files: dict[str, FileFindings | None]


class Place(Message):
    """A finding with its file and agent."""

    path: str
    line: int
    agent: str
    rule: str
    message: str


class ToolChange(Message):
    """A tool whose version is another now; None: it was not there."""

    tool: str
    before: str | None
    after: str | None


class Since(Message):
    """What changed since the last finished run. ``grade``, ``mark``: before and now; ``untold``: what could not be compared."""

    grade: tuple[str | None, str | None]
    mark: tuple[int | None, int | None]
    files_new: int
    files_changed: int
    files_gone: int
    tools: list[ToolChange]
    new: list[Place]
    gone: list[Place]
    untold: int

    @property
    def is_nothing(self) -> bool:
        """Whether all is as it was, and could be told."""
        files = self.files_new + self.files_changed + self.files_gone
        same = self.grade[0] == self.grade[1] and self.mark[0] == self.mark[1]
        return same and not (files or self.tools or self.new or self.gone or self.untold)

    def sentences(self) -> list[str]:
        """It in words, the most important first; none when nothing changed."""
        if self.is_nothing:
            return []
        then, now = (_graded(grade, mark) for grade, mark in zip(self.grade, self.mark, strict=True))
        files = [(self.files_new, "new"), (self.files_changed, "changed"), (self.files_gone, "gone")]
        said = [
            f"{_many(len(self.new), 'new finding')}, {len(self.gone):,} gone",
            f"grade {then} before, {now} now" if then != now else f"grade {now} as before",
            ", ".join(f"{_many(count, 'file')} {word}" for count, word in files if count),
            ", ".join(f"{one.tool} {one.before or '–'} before, {one.after or '–'} now" for one in self.tools),
            f"{_many(self.untold, 'answer')} not to be compared" if self.untold else "",
        ]
        return [sentence for sentence in said if sentence]


def findings_in(review: FileReview, limit: int) -> FileFindings:
    """What is kept of one file: at most ``limit`` bytes of JSON."""
    found = {
        LINT: _told(review.lint, [Item(line=one.line, rule=one.rule, message=one.message) for one in review.findings]),
        SECURITY: _told(review.security, [Item(line=one.line, rule=one.rule, message=one.message) for one in review.issues]),
        COMPLEXITY: _told(
            review.complexity,
            [Item(line=one.line, rule="complex", message=f"`{one.name}` {one.complexity}") for one in review.complex_functions],
        ),
        DOCSTRINGS: _told(
            review.docstrings,
            [
                Item(line=one.line, rule="no docstring", message=f"{one.kind} `{one.name}`")
                for one in (review.docstrings.missing if review.docstrings else ())
            ],
        ),
        SYNTAX: _syntax(review),
    }
    return _fitting(FileFindings(path=review.path, digest=review.digest, found=found), limit)


def compare(past: Past, tools: Mapping[str, str], totals: Totals, now: Sequence[FileFindings], hidden: AbstractSet[str]) -> Since:
    """What changed. ``hidden``: paths of before that could not be read this time; they are not gone."""
    after, before, old = {one.path: one for one in now}, past.files, past.run
    same_tools = old.tools == dict(tools)
    new: list[Place] = []
    gone: list[Place] = []
    untold = len(hidden)
    for path in sorted((after.keys() | before.keys()) - hidden):
        lost, added, unknown = _compare_file(path, before, after, same_tools)
        gone += lost
        new += added
        untold += unknown
    both = after.keys() & before.keys()
    return Since(
        grade=(_text(old.totals.get("grade")), _text(totals.get("grade"))),
        mark=(_whole(old.totals.get("mark")), _whole(totals.get("mark"))),
        files_new=len(after.keys() - before.keys()),
        files_changed=sum(_digest(before[path]) != _digest(after[path]) for path in both),
        files_gone=len(before.keys() - after.keys() - hidden),
        tools=[
            ToolChange(tool=name, before=old.tools.get(name), after=tools.get(name))
            for name in sorted(old.tools.keys() | tools.keys())
            if old.tools.get(name) != tools.get(name)
        ],
        new=new,
        gone=gone,
        untold=untold,
    )


def hidden_by(skipped: Iterable[str], paths: Iterable[str]) -> set[str]:
    """The paths that are skipped, or lie in a directory that is."""
    places = set(skipped)
    return {path for path in paths if places and any(above in places for above in _upwards(path))}


def unmatched(before: Sequence[Item], after: Sequence[Item]) -> tuple[list[Item], list[Item]]:
    """What is gone, and what is new. Of several that are alike those in the same line are the same, then the first ones."""
    gone, new = _left(before, after), _left(after, before)
    moved = Counter(one.identity for one in gone) & Counter(one.identity for one in new)
    return _without(gone, moved), _without(new, moved)


def _compare_file(
    path: str, before: Mapping[str, FileFindings | None], after: Mapping[str, FileFindings], same_tools: bool
) -> tuple[list[Place], list[Place], int]:
    """Gone, new, and how many agents' words could not be compared. A file that was not there had nothing to be found."""
    then, now = before.get(path), after.get(path)
    asked_the_same = same_tools and then is not None and now is not None and then.digest == now.digest
    gone: list[Place] = []
    new: list[Place] = []
    untold = 0
    for agent in AGENTS:
        old = (then.found.get(agent) if then else None) if path in before else []
        fresh = now.found.get(agent) if now else []
        if old is None or fresh is None:
            untold += not (asked_the_same and old is fresh)
            continue
        lost, added = unmatched(old, fresh)
        gone += [_place(path, agent, one) for one in lost]
        new += [_place(path, agent, one) for one in added]
    return gone, new, untold


def _left(these: Sequence[Item], those: Sequence[Item]) -> list[Item]:
    """What has no partner in its own line among the others."""
    there = Counter((one.identity, one.line) for one in those)
    return [one for one in these if not _take(there, (one.identity, one.line))]


def _without(items: Sequence[Item], moved: Counter[tuple[str, str]]) -> list[Item]:
    """All but so many of each kind, the first ones."""
    counts = Counter(moved)
    return [one for one in items if not _take(counts, one.identity)]


def _take(counts: Counter[K], key: K) -> bool:
    """Whether there was one left to be taken."""
    there = counts[key] > 0
    counts[key] -= there
    return there


def _told(answer: Answer | None, items: list[Item]) -> list[Item] | None:
    if answer is None or answer.syntax_error is not None or answer.left_off:
        return None
    return sorted(items, key=lambda one: (one.line, one.rule, one.message))


def _syntax(review: FileReview) -> list[Item] | None:
    if all(answer is None for answer in (review.lint, review.security, review.complexity, review.docstrings)):
        return None
    error = review.syntax_error
    if error is None:
        return []
    placed = PLACED.fullmatch(error)
    line, message = (int(placed[1]), placed[2]) if placed else (1, error)
    return [Item(line=line, rule="syntax error", message=message)]


def _fitting(findings: FileFindings, limit: int) -> FileFindings:
    """The longest go first."""
    found = dict(findings.found)
    sizes = {agent: len(json.dumps([one.model_dump() for one in items or ()])) for agent, items in found.items()}
    left = sum(sizes.values()) + len(json.dumps([findings.path, findings.digest, [*sizes]])) + 20 * len(sizes)
    for agent in sorted(sizes, key=lambda one: -sizes[one]):
        if left > limit:
            found[agent] = None
            left -= sizes[agent]
    return findings.model_copy(update={"found": found})


def _upwards(path: str) -> Iterable[str]:
    parts = path.split("/")
    return ("/".join(parts[:count]) for count in range(1, len(parts) + 1))


def _place(path: str, agent: str, one: Item) -> Place:
    return Place(path=path, line=one.line, agent=agent, rule=one.rule, message=one.message)


def _digest(one: FileFindings | None) -> str | None:
    return one.digest if one else None


def _text(value: object) -> str | None:
    return value if isinstance(value, str) else None


def _whole(value: object) -> int | None:
    return value if isinstance(value, int) else None


def _graded(grade: str | None, mark: int | None) -> str:
    return (grade or "–") + ("" if mark is None else f" ({mark})")


def _many(count: int, noun: str) -> str:
    return f"{count:,} {noun if count == 1 else noun + 's'}"
