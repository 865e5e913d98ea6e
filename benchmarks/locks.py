"""Pairs of acquire and release per second, durable, one process on SQLite FULL.

uncontended-1                one owner, each time another resource; against two bare one-row SQLite FULL commits a pair
uncontended-64               64 owners, each time other resources; against redis-py's `Lock` on a Redis server (nothing on disk)
held-100k-64                 the same beside 100,000 locks that are held, against an empty store
contended-2, -8, -64         owners of one resource, who all wait without end: pairs, wait, and longest share / shortest share;
                             against one owner, who never waits
"""

from __future__ import annotations

import asyncio
import itertools
import sqlite3
import time
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from statistics import median

from autogen_coord import Coordination
from autogen_coord.core import lock_modes, lock_queue
from autogen_coord.core.ids import new_id
from autogen_coord.core.sessions import LIVE
from autogen_coord.core.tables import COUNTER, LOCK_HELD, SESSION, CounterRow, LockHeldRow, SessionRow
from autogen_coord.settings import Settings
from autogen_coord.stores import open_store
from benchmarks import _redis
from benchmarks._load import Call, interleaved, percentile, spread
from benchmarks._report import Figure, Report, arguments, say
from benchmarks.tasks import folder

Case = Callable[[], Coroutine[None, None, Sequence[Figure]]]

ROUNDS = 5
SECONDS = 0.6
HELD = 100_000
YEAR = 365 * 86_400.0
TTL = 3.0
"""Seconds that a lock of Redis lasts, as a session of ours does."""
TWO_COMMITS = "two bare one-row SQLite FULL commits"


def paths() -> Callable[[], str]:
    """Draws names of resources, each once, two levels below their root."""
    numbers = itertools.count()
    return lambda: f"repo/folder-{(number := next(numbers)) % 100}/file-{number}"


@asynccontextmanager
async def ours(store: str) -> AsyncIterator[Call]:
    """One pair, on another resource each time."""
    async with Coordination.open(store, settings=Settings()) as coord:
        path = paths()

        async def call() -> None:
            async with coord.lock(path()):
                pass

        yield call


@asynccontextmanager
async def redis(at: Path) -> AsyncIterator[tuple[Call, str]]:
    """The same with redis-py, and which Redis that is."""
    async with _redis.running(at) as (client, rival):
        path = paths()

        async def call() -> None:
            async with client.lock(path(), timeout=TTL):
                pass

        yield call, rival


def two_commits(path: Path) -> Call:
    connection = sqlite3.connect(path, isolation_level=None)
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("PRAGMA synchronous = FULL")
    connection.execute("CREATE TABLE lock (number INTEGER PRIMARY KEY, name TEXT)")

    async def call() -> None:
        for _ in range(2):
            connection.execute("BEGIN IMMEDIATE")
            connection.execute("INSERT INTO lock (name) VALUES ('repo/folder/file')")
            connection.execute("COMMIT")

    return call


async def uncontended_1() -> Sequence[Figure]:
    async with folder() as at, ours(str(at / "coord.db")) as call:
        mine, other = await interleaved(call, two_commits(at / "bare.db"), 1, ROUNDS, SECONDS)
    return [_figure("uncontended-1", mine, other, TWO_COMMITS)]


async def uncontended_64() -> Sequence[Figure]:
    async with folder() as at, ours(str(at / "coord.db")) as call, redis(at) as (theirs, rival):
        mine, other = await interleaved(call, theirs, 64, ROUNDS, SECONDS)
    return [_figure("uncontended-64", mine, other, rival)]


async def held() -> Sequence[Figure]:
    async with folder() as at:
        full = str(at / "full.db")
        await fill(full, HELD)
        async with ours(full) as call, ours(str(at / "empty.db")) as theirs:
            mine, other = await interleaved(call, theirs, 64, ROUNDS, SECONDS)
    return [_figure("held-100k-64", mine, other, "an empty store")]


async def fill(url: str, count: int) -> None:
    """Locks that another process holds for a year, among the resources that are asked for: beside them, not in their way."""
    store = await open_store(url, "default", Settings())
    began = time.perf_counter()
    try:
        now = await store.now()
        session = SessionRow("s-elsewhere", "process", "elsewhere:1", LIVE, now + YEAR, now, YEAR, now, None)
        await store.fill([(SESSION, session), (COUNTER, CounterRow(lock_queue.TOKEN, count))])
        await store.fill(
            (
                LOCK_HELD,
                LockHeldRow(
                    lock_modes.stored(f"repo/folder-{number % 100}/held-{number}"), new_id("l"), lock_modes.X, None,
                    number + 1, session.id, None, 0, 5.0, now, now,
                ),
            )
            for number in range(count)
        )  # fmt: skip
    finally:
        await store.close()
    say(f"filled {count:,} locks in {time.perf_counter() - began:.0f} s")


def contended(owners: int) -> Case:
    async def case() -> Sequence[Figure]:
        many, few = Crowd(owners), Crowd(1)
        async with folder() as at, Coordination.open(at / "coord.db", settings=Settings()) as coord:
            for number in range(ROUNDS + 1):
                for crowd in (many, few):
                    await crowd.run(coord, SECONDS if number else SECONDS / 4, counts=number > 0)
        notes: dict[str, object] = {
            "wait_p50": round(percentile(many.waits, 0.5), 6),
            "wait_p99": round(percentile(many.waits, 0.99), 6),
            "fairness": round(max(many.unfair), 3),
        }
        return [_figure(f"contended-{owners}", many.rates, few.rates, "one owner of the resource", notes)]

    return case


class Crowd:
    """Owners of one resource: each takes it, gives it back, and takes it again."""

    def __init__(self, owners: int) -> None:
        self._owners = owners
        self.rates: list[float] = []
        self.waits: list[float] = []
        """Seconds from asking to holding."""
        self.unfair: list[float] = []
        """The longest share of a round by its shortest, in pairs."""

    async def run(self, coord: Coordination, seconds: float, counts: bool) -> None:
        shares = [0] * self._owners
        waits: list[float] = []
        began = time.perf_counter()
        until = began + seconds

        async def owner(number: int) -> None:
            while (asked := time.perf_counter()) < until:
                async with coord.lock("repo/src/a.py", wait=None):
                    waits.append(time.perf_counter() - asked)
                shares[number] += 1

        async with asyncio.TaskGroup() as group:
            for number in range(self._owners):
                group.create_task(owner(number))
        if counts:
            self.rates.append(sum(shares) / (time.perf_counter() - began))
            self.waits += waits
            self.unfair.append(max(shares) / min(shares))


def _figure(case: str, mine: list[float], other: list[float], against: str, notes: dict[str, object] | None = None) -> Figure:
    spreads = {"spread": spread(mine), "spread_theirs": spread(other)}
    return Figure(case, median(mine), "pairs/s", against, median(other), {**spreads, **(notes or {})})


CASES: dict[str, Case] = {
    "uncontended-1": uncontended_1,
    "uncontended-64": uncontended_64,
    "held-100k-64": held,
    "contended-2": contended(2),
    "contended-8": contended(8),
    "contended-64": contended(64),
}


def main() -> None:
    parser = arguments(__doc__, list(CASES))
    options = parser.parse_args()
    report = Report("locks", options.json)
    for name in options.case or CASES:
        for figure in asyncio.run(CASES[name]()):
            report.add(figure)


if __name__ == "__main__":
    main()
