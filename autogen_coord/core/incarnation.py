"""A store's incarnation: which life of it this is. A copy that is restored, or moved to another place, begins another.

The original may have gone on after the copy was made, and processes that knew it may still run. So in the copy no session lives:
what they ran and held is returned as after any death, and what they write is refused. And the copy's tokens are greater than all
that the original gave until then, and than all that it will give where it had given one before; a token of before is refused.
"""

from __future__ import annotations

from typing import NamedTuple

from ..settings import Settings
from . import bodies, events
from .burial import BURIED
from .events import Kind
from .lock_queue import INCARNATION
from .sessions import DEAD, LIVE
from .store import Range, Rows
from .tables import COUNTER, SESSION, CounterRow


class BeginAnew(NamedTuple):
    """``floor``: a minute since the epoch, or the greatest incarnation of another copy, that the new one must exceed."""

    floor: int = 0


class Begun(NamedTuple):
    incarnation: int
    sessions: int
    """How many were live in the original when it was copied."""


def begin_anew(rows: Rows, command: BeginAnew, now: float, policy: Settings) -> Begun:
    """Begin another incarnation of a namespace: greater than any before, and greater than the present minute."""
    counter = rows.one(COUNTER, INCARNATION)
    # Beyond the present minute: where no token had been given yet, the original may have given its first in this very minute.
    incarnation = 1 + max(int(now // 60), command.floor, counter.value if counter else 0)
    rows.put(COUNTER, CounterRow(INCARNATION, incarnation))
    living = rows.scan(Range(SESSION, "by_state", (LIVE,)))
    for row in living:
        # As if its burial had begun: what it ran alone is not blamed for a crash that there was not.
        rows.put(SESSION, row._replace(state=DEAD, lease_until=now, meta=bodies.encode({BURIED: ""})))
        data = events.facts(overdue=0.0, address=row.address, incarnation=incarnation)
        events.append(rows, now, Kind.SESSION_DEAD, row.id, None, data)
    return Begun(incarnation, len(living))
