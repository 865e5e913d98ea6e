"""What is printed: text that a terminal can bear, tables, JSON, times."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterable, Sequence
from typing import Any

import typer
from rich.cells import cell_len, set_cell_size
from rich.console import Console
from rich.text import Text

from ..core.inspect import stamp

UNBOUNDED = 100_000
"""Columns of an output that is no terminal: nothing is cut or wrapped there."""
GAP = 2
SHORTEST_CELL = 12
STYLES = {
    "ok": "green",
    "warn": "yellow",
    "fail": "bold red",
    "running": "cyan",
    "succeeded": "green",
    "cancelled": "yellow",
    "failed": "red",
    "expired": "red",
    "online": "green",
    "late": "yellow",
    "draining": "yellow",
    "offline": "red",
    "held": "cyan",
    "waits": "yellow",
    "converts": "yellow",
    "overdue": "yellow",
    "dead": "red",
}
_BREAK = re.compile(r"\s*[\r\n\t\v\f]\s*")
MINUTE, HOUR, DAY = 60, 3_600, 86_400


def clean(text: str, most: int | None = None) -> str:
    """One line without control characters: names and error texts are chosen by others, and a terminal obeys escapes."""
    line = _BREAK.sub(" ", text.strip("\r\n"))
    if most is not None and len(line) > most:
        line = line[: most - 1] + "…"
    return "".join(char if char.isprintable() else char.encode("unicode_escape").decode("ascii") for char in line)


def say(text: str = "") -> None:
    """Print a line, after `clean`."""
    typer.echo(clean(text))


def complain(text: str) -> None:
    """Print a line on standard error, after `clean`."""
    typer.echo(f"error: {clean(text)}", err=True)


def say_note(text: str) -> None:
    """Print a line on standard error that is no error, after `clean`."""
    typer.echo(clean(text), err=True)


def print_json(value: Any) -> None:
    typer.echo(json.dumps(value))


def print_table(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """Columns side by side. On a terminal the last one is cut at its width; the others, which have ids, are whole anywhere."""
    lines = [[clean(cell) for cell in row] for row in rows]
    widths = [max(cell_len(row[number]) for row in (columns, *lines)) for number in range(len(columns) - 1)]
    console = _console()
    room = max(SHORTEST_CELL, console.width - sum(width + GAP for width in widths))
    for head, cells in ((True, columns), *((False, line) for line in lines)):
        padded = [cell + " " * (width - cell_len(cell) + GAP) for cell, width in zip(cells, widths, strict=False)]
        last = cells[-1] if cell_len(cells[-1]) <= room else set_cell_size(cells[-1], room - 1) + "…"
        text = Text.assemble(
            *((cell, "bold" if head else STYLES.get(cell.strip(), "")) for cell in (*padded, last)), no_wrap=True, overflow="ignore"
        )
        text.rstrip()
        console.print(text, soft_wrap=True)


def print_pairs(pairs: Iterable[tuple[str, str]], width: int = 14) -> None:
    """A name and a value on each line; an empty value leaves its line out."""
    for name, value in pairs:
        if value:
            say_styled(f"{name:<{width}}", value)


def say_styled(head: str, text: str) -> None:
    """A line whose head is coloured by its word."""
    style = STYLES.get(head.strip(), "bold")
    _console().print(Text.assemble((head, style), clean(text)), soft_wrap=True)


def span(seconds: float) -> str:
    """Seconds as people say them, in one unit."""
    if seconds < 0.9995:
        return f"{seconds * 1000:.0f} ms"
    for unit, name in ((DAY, "d"), (HOUR, "h"), (MINUTE, "min")):
        if seconds >= 2 * unit:
            return f"{seconds / unit:.0f} {name}"
    return f"{seconds:.1f} s" if seconds < 10 else f"{seconds:.0f} s"


def moment(at: float | None, now: float) -> str:
    """A moment of the store's clock, and how far off it is."""
    if at is None:
        return ""
    return f"{stamp(at)} ({span(now - at)} ago)" if at <= now else f"{stamp(at)} (in {span(at - now)})"


def amount(count: int, noun: str) -> str:
    return f"{count:,} {noun}{'' if count == 1 else 's'}"


def size(count: float) -> str:
    """Bytes as people say them."""
    for unit in ("B", "KiB", "MiB"):
        if count < 1024:
            return f"{count:.0f} {unit}"
        count /= 1024
    return f"{count:.1f} GiB"


def _console() -> Console:
    terminal = sys.stdout.isatty()
    return Console(file=sys.stdout, width=None if terminal else UNBOUNDED, highlight=False, markup=False, emoji=False)
