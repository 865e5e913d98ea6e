"""What a benchmark prints: one JSON object a line, or a table for people."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Figure:
    """One measurement. ``theirs`` is what ``against`` did in the same run, None where there is nothing to compare with."""

    case: str
    ours: float
    unit: str
    against: str
    theirs: float | None = None
    notes: Mapping[str, object] | None = None
    """Facts beside the figure: spread, sizes, counts."""

    @property
    def ratio(self) -> float | None:
        return self.ours / self.theirs if self.theirs else None


class Report:
    """Prints the figures of one benchmark as they come."""

    def __init__(self, bench: str, as_json: bool) -> None:
        self.bench = bench
        self._json = as_json

    def add(self, figure: Figure) -> None:
        if self._json:
            print(json.dumps(self.fields(figure)), flush=True)
            return
        theirs = "" if figure.theirs is None else f"against {_short(figure.theirs)} ({figure.against})"
        ratio = "" if figure.ratio is None else f"ratio {figure.ratio:.3f}"
        notes = ", ".join(f"{name} {_short(value)}" for name, value in (figure.notes or {}).items())
        print(f"{figure.case:<16} {_short(figure.ours):>10} {figure.unit:<8} {theirs:<52} {ratio:<12} {notes}".rstrip(), flush=True)

    def fields(self, figure: Figure) -> dict[str, object]:
        fields: dict[str, object] = {
            "bench": self.bench,
            "case": figure.case,
            "ours": round(figure.ours, 6),
            "unit": figure.unit,
            "against": figure.against,
            "theirs": None if figure.theirs is None else round(figure.theirs, 6),
            "ratio": None if figure.ratio is None else round(figure.ratio, 4),
        }
        return {**fields, **(figure.notes or {})}


def arguments(doc: str | None, cases: Sequence[str] = ()) -> argparse.ArgumentParser:
    """The options that all benchmarks have: ``--json``, and ``--case`` where there are several."""
    parser = argparse.ArgumentParser(description=(doc or "").partition("\n\n")[0], formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--json", action="store_true", help="one JSON object a line")
    if cases:
        parser.add_argument("--case", action="append", choices=list(cases), help="only this one (may be repeated)")
    return parser


def say(text: str) -> None:
    """Progress, for whoever waits; not part of the result."""
    print(text, file=sys.stderr, flush=True)


def _short(value: object) -> str:
    if isinstance(value, float):
        return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.4g}"
    return f"{value:,}" if isinstance(value, int) else str(value)
