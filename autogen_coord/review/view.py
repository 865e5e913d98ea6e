"""The board as a picture: live on a terminal, or one moment of it as an SVG file."""

from __future__ import annotations

import io
import threading
from pathlib import Path
from types import TracebackType
from typing import Self

from rich import box
from rich.console import Console, Group, RenderableType
from rich.constrain import Constrain
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from .board import Board, Running, Snapshot

REFRESH = 8
"""Pictures a second."""
LINES = 8
"""Executions that are shown; the others are counted."""
WIDTH = 96
"""Columns, at most."""
MIDWAY = 0.3, 0.7
"""How much is done in the moment that the SVG file shows."""
STATES = ("waiting", "dim"), ("running", "cyan"), ("done", "green"), ("failed", "red")
BAR = 28
TURNS = "⠋⠙⠹⠸⠼⠴⠦⠧⠇⠏"
"""So that one sees that it lives."""


def frame(now: Snapshot) -> RenderableType:
    """Agents with their tasks by state, how far it all is, and what runs: that comes last, where a low terminal cuts."""
    return Constrain(Group(_agents(now), "", _total(now), "", _executions(now)), WIDTH)


class LiveView:
    """The view on a terminal, drawn from a thread of its own; gone when it is closed."""

    def __init__(self, board: Board, console: Console) -> None:
        self._live = Live(
            get_renderable=lambda: frame(board.snapshot()), console=console, refresh_per_second=REFRESH, transient=True
        )

    def __enter__(self) -> Self:
        self._live.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._live.stop()


class Photographer:
    """Keeps the moment `MIDWAY` at which most was running, and writes it to ``place`` as SVG when it is closed."""

    def __init__(self, board: Board, place: Path, title: str) -> None:
        self._board = board
        self._place = place
        self._title = title
        self._closed = threading.Event()
        self._best: Snapshot | None = None
        self._looking = threading.Thread(target=self._look, name="review-picture", daemon=True)

    def __enter__(self) -> Self:
        self._looking.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._closed.set()
        self._looking.join()
        if kind is None:
            self._place.write_text(svg(self._best or self._board.snapshot(), self._title), encoding="utf-8", newline="\n")

    def _look(self) -> None:
        while not self._closed.wait(1 / (4 * REFRESH)):
            now = self._board.snapshot()
            if MIDWAY[0] * now.total <= now.done <= MIDWAY[1] * now.total:
                self._best = max(self._best or now, now, key=lambda one: len(one.running))


def svg(now: Snapshot, title: str) -> str:
    """The view of one moment as an SVG picture."""
    console = Console(record=True, width=WIDTH, file=io.StringIO(), force_terminal=True, color_system="truecolor", highlight=False)
    console.print(frame(now))
    return console.export_svg(title=title)


def _agents(now: Snapshot) -> Table:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False, show_footer=True, expand=True)
    table.add_column("agent", "all", style="bold", no_wrap=True)
    table.add_column("tool", no_wrap=True, style="dim", overflow="ellipsis", ratio=1)
    for state, style in STATES:
        total = sum(getattr(row, state) for row in now.rows)
        table.add_column(state, f"{total:,}", justify="right", style=style, no_wrap=True, min_width=7)
    for row in now.rows:
        table.add_row(row.agent, row.tool, *(_count(getattr(row, state)) for state, _ in STATES))
    return table


def _count(count: int) -> Text:
    """Nothing is not worth a colour."""
    return Text(f"{count:,}") if count else Text("·", style="dim white")


def _executions(now: Snapshot) -> RenderableType:
    table = Table.grid(padding=(0, 2), expand=True)
    table.add_column(no_wrap=True, style="cyan", min_width=10)
    table.add_column(no_wrap=True, overflow="ellipsis", ratio=1)
    table.add_column(no_wrap=True, justify="right", style="dim")
    for one in now.running[:LINES]:
        table.add_row(one.agent, Text(one.path), _since(one))
    more = len(now.running) - LINES
    return Group(table, Text(f"and {more:,} more", style="dim")) if more > 0 else table


def _since(one: Running) -> str:
    return f"{one.seconds:.1f} s"


def _total(now: Snapshot) -> RenderableType:
    line = Table.grid(padding=(0, 2))
    line.add_column(no_wrap=True)
    line.add_column(no_wrap=True)
    line.add_column(no_wrap=True)
    line.add_column(overflow="fold")
    turn = TURNS[int(now.elapsed * REFRESH) % len(TURNS)]
    bar = ProgressBar(total=max(now.total, 1), completed=now.done, width=BAR, complete_style="green")
    line.add_row(Text(turn, style="green"), bar, f"{now.done:,}/{now.total:,}", Text(now.pace, style="dim"))
    return line
