"""One file, with what each tool said of it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass

from .answers import Answer, Block, Complexity, Docstrings, Finding, Findings, Issue, Security, Severity

COMPLEX = 10
"""A function above it is called complex (radon's rank C and worse)."""


@dataclass(frozen=True, slots=True)
class Failed:
    """A tool that gave no answer for a file, after all its attempts."""

    path: str
    tool: str
    why: str


@dataclass(frozen=True, slots=True)
class FileReview:
    """One file; what a tool did not answer is None. Counts include what was left off. ``digest``: of its text."""

    path: str
    lines: int
    lint: Findings | None = None
    security: Security | None = None
    complexity: Complexity | None = None
    docstrings: Docstrings | None = None
    digest: str = ""

    @property
    def findings(self) -> list[Finding]:
        return self.lint.findings if self.lint else []

    @property
    def finding_count(self) -> int:
        return len(self.findings) + (self.lint.left_off if self.lint else 0)

    @property
    def issues(self) -> list[Issue]:
        return self.security.issues if self.security else []

    @property
    def issue_count(self) -> int:
        return len(self.issues) + (self.security.left_off if self.security else 0)

    def severities(self) -> Counter[Severity]:
        """Issues by severity; those that were left off are of the least."""
        counts = Counter[Severity](issue.severity for issue in self.issues)
        counts["low"] += self.issue_count - len(self.issues)
        return counts

    @property
    def functions(self) -> list[Block]:
        return [block for block in self.complexity.blocks if block.kind != "class"] if self.complexity else []

    @property
    def complex_functions(self) -> list[Block]:
        """The most complex first."""
        return [block for block in self.functions if block.complexity > COMPLEX]

    @property
    def maintainability(self) -> float | None:
        return self.complexity.maintainability if self.complexity else None

    @property
    def public(self) -> int:
        """Definitions that want a docstring."""
        return self.docstrings.total if self.docstrings else 0

    @property
    def documented(self) -> int:
        return self.docstrings.covered if self.docstrings else 0

    @property
    def syntax_error(self) -> str | None:
        """ruff's word first: it knows newer syntax than the running Python."""
        return next((answer.syntax_error for answer in self._answers() if answer.syntax_error), None)

    def _answers(self) -> Iterator[Answer]:
        for answer in (self.lint, self.security, self.complexity, self.docstrings):
            if answer is not None:
                yield answer
