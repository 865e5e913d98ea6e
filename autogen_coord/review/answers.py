"""What travels: the input of a task over one file, what each tool says of it, and how a tool's own form becomes ours.

A task carries the source itself: it means the same in whichever process and directory it runs, and what is reviewed is what was
hashed, also when the file changes in between.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal, TypeVar

from pydantic import BaseModel, ConfigDict

MAX_ITEMS = 2_000
"""Findings, or blocks, of one file that are kept; the others are counted."""
MAX_TEXT = 200
"""Letters of a message or of a name that are kept. Both bounds keep an answer below the limit of an output."""

T = TypeVar("T")
Severity = Literal["low", "medium", "high"]
SEVERITIES: tuple[Severity, ...] = ("high", "medium", "low")
"""The worst first."""


class Message(BaseModel):
    """The base of all that travels."""

    model_config = ConfigDict(frozen=True)


class FileJob(Message):
    """One file for one tool. ``path`` is relative, with slashes; ``tool`` is the version that is asked."""

    path: str
    source: str
    tool: str


class Answer(Message):
    """What a tool says of one file; ``left_off`` items were counted, not kept. With a ``syntax_error`` it says nothing else."""

    left_off: int = 0
    syntax_error: str | None = None


class Finding(Message):
    """``rule`` is ruff's code; line and column count from 1. ``fixable``: ruff can mend it safely by itself."""

    line: int
    column: int
    rule: str
    message: str
    fixable: bool = False


class Findings(Answer):
    """What ruff says."""

    findings: list[Finding] = []


class Issue(Message):
    """A security issue; ``rule`` is bandit's code; line and column count from 1."""

    line: int
    column: int
    rule: str
    severity: Severity
    confidence: Severity
    message: str


class Security(Answer):
    """What bandit says, the most severe first."""

    issues: list[Issue] = []


class Block(Message):
    """A function, method or class with its cyclomatic complexity; ``kind`` is one of these words."""

    name: str
    kind: str
    line: int
    complexity: int


class Complexity(Answer):
    """What radon says, the most complex first; ``maintainability`` is its index, 0 to 100."""

    blocks: list[Block] = []
    maintainability: float | None = None


class Undocumented(Message):
    """A public module, class, method or function (``kind``) without a docstring."""

    name: str
    kind: str
    line: int


class Docstrings(Answer):
    """What interrogate says: of ``total`` public definitions ``covered`` have a docstring; ``missing`` names the others."""

    total: int = 0
    covered: int = 0
    missing: list[Undocumented] = []


def findings_of(items: list[dict[str, Any]]) -> Findings:
    """ruff's JSON as `Findings`, in order of place. ruff names a syntax error ``invalid-syntax`` (older ones: null)."""
    found = sorted((_finding(item) for item in items), key=lambda one: (one.line, one.column, one.rule, one.message))
    broken = [one for one in found if one.rule == "invalid-syntax"]
    if broken:
        return Findings(syntax_error=f"line {broken[0].line}: {broken[0].message}")
    kept, left_off = _kept(found)
    return Findings(findings=kept, left_off=left_off)


def security_of(answer: dict[str, Any]) -> Security:
    """bandit's answer as `Security`."""
    if "syntax_error" in answer:
        return Security(syntax_error=answer["syntax_error"][:MAX_TEXT])
    issues = [Issue(**{**item, "message": item["message"][:MAX_TEXT], **_levels(item)}) for item in answer["issues"]]
    issues.sort(key=lambda one: (SEVERITIES.index(one.severity), one.line, one.column, one.rule))
    kept, left_off = _kept(issues)
    return Security(issues=kept, left_off=left_off)


def complexity_of(answer: dict[str, Any]) -> Complexity:
    """radon's answer as `Complexity`."""
    if "syntax_error" in answer:
        return Complexity(syntax_error=answer["syntax_error"][:MAX_TEXT])
    blocks = [Block(**{**block, "name": block["name"][:MAX_TEXT]}) for block in answer["blocks"]]
    blocks.sort(key=lambda one: (-one.complexity, one.line, one.name))
    kept, left_off = _kept(blocks)
    return Complexity(blocks=kept, left_off=left_off, maintainability=answer["maintainability"])


def docstrings_of(answer: dict[str, Any]) -> Docstrings:
    """interrogate's answer as `Docstrings`, what is missing in order of place."""
    if "syntax_error" in answer:
        return Docstrings(syntax_error=answer["syntax_error"][:MAX_TEXT])
    missing = [Undocumented(**{**item, "name": item["name"][:MAX_TEXT]}) for item in answer["missing"]]
    missing.sort(key=lambda one: (one.line, one.name))
    kept, left_off = _kept(missing)
    return Docstrings(total=answer["total"], covered=answer["covered"], missing=kept, left_off=left_off)


def _finding(item: dict[str, Any]) -> Finding:
    place, fix = item["location"], item.get("fix") or {}
    rule = item["code"] or "invalid-syntax"
    safe = fix.get("applicability") == "safe"
    return Finding(line=place["row"], column=place["column"], rule=rule, message=item["message"][:MAX_TEXT], fixable=safe)


def _levels(item: dict[str, Any]) -> dict[str, str]:
    """bandit has a fourth word, for what it cannot tell: the least of ours."""
    return {name: item[name] if item[name] in SEVERITIES else "low" for name in ("severity", "confidence")}


def _kept(items: Sequence[T]) -> tuple[list[T], int]:
    return list(items[:MAX_ITEMS]), max(0, len(items) - MAX_ITEMS)
