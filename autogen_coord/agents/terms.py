"""`Terms`: how something is provided, whatever it is."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

from ..errors import InvalidInputError
from .capability import check_limit


@dataclass(frozen=True, slots=True)
class Terms:
    """How something is provided."""

    max_concurrency: int | None = None
    labels: tuple[str, ...] = ()
    via_runtime: bool = False

    @classmethod
    def of(cls, max_concurrency: int | None, labels: Collection[str], via_runtime: bool = False) -> Terms:
        """Raises: InvalidInputError."""
        if isinstance(labels, str) or not isinstance(labels, Collection) or not all(isinstance(one, str) for one in labels):
            raise InvalidInputError(f'provide(): labels={labels!r:.100}: a list of texts, such as ["gpu"]')
        if not isinstance(via_runtime, bool):
            raise InvalidInputError(f"provide(): via_runtime={via_runtime!r:.100}: True or False")
        return cls(check_limit(max_concurrency, "provide()"), tuple(labels), via_runtime)
