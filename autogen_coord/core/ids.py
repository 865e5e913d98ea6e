"""Ids that sort by the time they were drawn (so that rows are appended, not scattered) and never repeat.

Drawn by the caller, before a command goes on the line: rules draw nothing.
Source: the layout of UUIDv7, RFC 9562 section 5.7: milliseconds, then a counter, then random bits; here as base-32 text.
"""

from __future__ import annotations

import os
import time

_ALPHABET = "0123456789abcdefghjkmnpqrstvwxyz"
_PAIRS = [a + b for a in _ALPHABET for b in _ALPHABET]


class Ids:
    """Draws ids for one process; `new` is cheap: time and random part are drawn anew each millisecond, a counter runs within it."""

    def __init__(self) -> None:
        self._last = 0
        self._count = 0
        self._process = os.getpid()
        self._head = self._tail = ""

    def new(self) -> str:
        """A new id: 10 characters of time, 4 of counter, 12 random ones."""
        now = time.time_ns() // 1_000_000
        if now > self._last or self._count >= 0xFFFFF or self._process != os.getpid():
            self._last = max(now, self._last + 1)
            self._count, self._process = 0, os.getpid()
            self._head = _text(self._last, 5)
            self._tail = _text(int.from_bytes(os.urandom(8)) >> 4, 6)
        self._count = count = self._count + 1
        return self._head + _PAIRS[count >> 10] + _PAIRS[count & 1023] + self._tail


def _text(number: int, pairs: int) -> str:
    return "".join([_PAIRS[(number >> (10 * place)) & 1023] for place in range(pairs - 1, -1, -1)])


_ids = Ids()


def new_id(prefix: str = "") -> str:
    """A new id that sorts after the ones drawn before by this process."""
    return prefix + _ids.new()
