"""How far the job is, on standard error: a live view on a terminal, a plain line every few seconds elsewhere."""

from __future__ import annotations

import sys
import threading
from contextlib import AbstractContextManager
from types import TracebackType
from typing import Self, TextIO

from rich.console import Console

from .board import SILENT, Board, Snapshot
from .view import LiveView

PLAIN_EVERY = 2.0
"""Seconds between two plain lines."""


def shown(board: Board, stream: TextIO | None = None) -> AbstractContextManager[object]:
    """The board on the stream (standard error when None), in the form that fits it, while the block lasts."""
    out = stream or sys.stderr
    console = Console(file=out)
    return LiveView(board, console) if out.isatty() and not console.is_dumb_terminal else PlainLines(board, out)


class PlainLines:
    """Lines such as ``review: 40 of 269 tasks, 61/s, 4 s left``, while there is news; and one when answers stay away."""

    def __init__(self, board: Board, stream: TextIO, every: float = PLAIN_EVERY) -> None:
        self._board = board
        self._stream = stream
        self._every = every
        self._said = board.snapshot()
        self._hushed = -1
        self._closed = threading.Event()
        self._looking = threading.Thread(target=self._look, name="review-progress", daemon=True)

    def __enter__(self) -> Self:
        self._looking.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._closed.set()
        self._looking.join()
        if kind is None:
            self._say(self._board.snapshot())

    def _look(self) -> None:
        while not self._closed.wait(min(self._every, SILENT) / 4):
            self.tick()

    def tick(self) -> None:
        """Say what is due: news, after a while; a silence, once."""
        now = self._board.snapshot()
        if now.silent:
            if self._hushed != now.done:
                self._hushed = now.done
                self._say(now)
        elif now.done > self._said.done and now.elapsed - self._said.elapsed >= self._every:
            self._say(now)

    def _say(self, now: Snapshot) -> None:
        self._said = now
        print(f"review: {now.done} of {now.total} tasks, {now.pace}", file=self._stream, flush=True)
