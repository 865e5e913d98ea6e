"""The store's clock: the same for all processes on a file, and never stepped.

On Linux it is the time since boot (``CLOCK_BOOTTIME``, which goes on while the machine sleeps) plus an anchor. The anchor is drawn
once a boot, from the wall clock but not below any time the store has seen, and kept in the file; from then on a stepped wall clock
changes nothing. Elsewhere it is the wall clock, never below what this process has seen.
"""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Callable
from pathlib import Path

Clock = Callable[[], float]
BOOT_ID = Path("/proc/sys/kernel/random/boot_id")

_NEWEST_EVENT = """
WITH RECURSIVE space (name) AS (
    SELECT min(namespace) FROM event
    UNION ALL
    SELECT (SELECT min(namespace) FROM event WHERE namespace > space.name) FROM space WHERE space.name IS NOT NULL
)
SELECT max((SELECT at FROM event WHERE namespace = space.name ORDER BY number DESC LIMIT 1)) FROM space WHERE space.name IS NOT NULL
"""


def boot_id() -> str | None:
    """Which boot of the machine this is; None where there is no clock that counts from it."""
    if not hasattr(time, "CLOCK_BOOTTIME"):
        return None
    try:
        return BOOT_ID.read_text(encoding="ascii").strip() or None
    except OSError:
        return None


def since_boot() -> float:
    return time.clock_gettime(time.CLOCK_BOOTTIME)


def wall() -> float:
    return time.time()


def anchored(connection: sqlite3.Connection) -> Clock:
    """The clock of the file, anchored when this boot is new to it. Call it inside a write transaction."""
    found = connection.execute("SELECT boot_id, anchor, high FROM clock").fetchone()
    boot = boot_id()
    if boot is not None and found is not None and found[0] == boot:
        return _steady(float(found[1]))
    floor = max(found[2] if found else 0.0, connection.execute(_NEWEST_EVENT).fetchone()[0] or 0.0)
    if boot is None:
        return _not_back(floor)
    high = max(wall(), floor)
    anchor = high - since_boot()
    connection.execute("DELETE FROM clock")
    connection.execute("INSERT INTO clock (boot_id, anchor, high) VALUES (?, ?, ?)", (boot, anchor, high))
    return _steady(anchor)


def keep_high(connection: sqlite3.Connection, now: float) -> None:
    """Remember that the store has seen ``now``. Call it inside a write transaction."""
    if connection.execute("UPDATE clock SET high = max(high, ?)", (now,)).rowcount == 0:
        connection.execute("INSERT INTO clock (boot_id, anchor, high) VALUES ('', 0.0, ?)", (now,))


def _steady(anchor: float) -> Clock:
    return lambda: since_boot() + anchor


def _not_back(floor: float) -> Clock:
    last = floor

    def now() -> float:
        nonlocal last
        last = max(last, wall())
        return last

    return now
