"""Whose clock decides what: the *store's* clock decides leases, ranks and deadlines (rules get it as ``now``); a process's own
*trust clock* only decides how long it may believe that its lease still stands, so it must run on while the machine sleeps."""

from __future__ import annotations

import time
from collections.abc import Callable

Clock = Callable[[], float]

if hasattr(time, "CLOCK_BOOTTIME"):

    def boottime() -> float:
        """Seconds since boot, the time asleep included; never steps."""
        return time.clock_gettime(time.CLOCK_BOOTTIME)

else:  # pragma: no cover - macOS, Windows: a suspend is noticed by the late renewal instead

    def boottime() -> float:
        """Seconds on a clock that never steps."""
        return time.monotonic()
