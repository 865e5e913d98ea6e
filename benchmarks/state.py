"""Puts per second, durable, each with history, event and compare-and-set; gets and watching; one process on SQLite FULL.

put-1, -64, -256      callers, each on another document, expecting its version; against bare one-row SQLite FULL commits
put-pruned-64         the same where each put drops the oldest version of its document
get-uncached          a document, one get at a time, p50; against a bare SELECT by key
get-cached            the same through `coord.state.cached`; against get-uncached
watch-1, watch-2      from the call of put to the watcher's hearing of it, p50, in one process and across two; against bare commits
put-1m-64, get-1m-64  10,000 documents anywhere among 1,000,000, against a store that has no others
put-1m-new-64         documents that are new, beside 1,000,000, against a store that was empty
"""

from __future__ import annotations

import asyncio
import itertools
import json
import random
import sqlite3
import sys
import time
from collections import deque
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from statistics import median
from typing import Any

from autogen_coord import Coordination
from autogen_coord.core import bodies, documents, events
from autogen_coord.core.store import Table
from autogen_coord.core.tables import COUNTER, DOCUMENT, CounterRow, DocumentRow
from autogen_coord.settings import Settings
from autogen_coord.stores import open_store
from benchmarks._load import Call, durations, interleaved, percentile, spread
from benchmarks._report import Figure, Report, arguments, say
from benchmarks.tasks import folder

Case = Callable[[], Coroutine[None, None, Sequence[Figure]]]

ROUNDS = 5
SECONDS = 0.6
FEW = 1_000
"""Documents of a small store."""
MANY = 1_000_000
GETS = 1_000
"""Of one round, where each is timed."""
WATCHED = 300
SHORT = 4
"""Versions that are kept where each put prunes."""
BARE = "bare one-row SQLite FULL commits"
SOME = 10_000
"""Documents among the many that are written and read."""
ALONE = f"a store with these {SOME:,} documents alone"
TEXT = "a line of some length that a document may well have. " * 4


def key_of(number: int) -> str:
    return f"project-{number % 100}/document-{number}"


def value_of(number: int) -> dict[str, Any]:
    return {"title": f"document {number}", "status": "draft", "words": number, "text": TEXT}


async def made(coord: Coordination, numbers: Sequence[int] = range(FEW)) -> None:
    for start in range(0, len(numbers), FEW):
        await coord.state.put_many({key_of(number): value_of(number) for number in numbers[start : start + FEW]})


def some_of(total: int, count: int) -> list[int]:
    return random.Random(1).sample(range(total), count)


@asynccontextmanager
async def putting(store: str, chosen: Sequence[int], settings: Settings | None = None) -> AsyncIterator[Call]:
    """A put on one of these documents that nobody else is writing, which expects the version that is there."""
    async with Coordination.open(store, settings=settings or Settings()) as coord:
        free = deque((key_of(number), 1) for number in chosen)
        numbers = itertools.count()

        async def call() -> None:
            key, version = free.popleft()
            written = await coord.state.put(key, value_of(next(numbers)), expected_version=version)
            free.append((key, written.version))

        yield call


@asynccontextmanager
async def adding(store: str) -> AsyncIterator[Call]:
    """A put of a document that is new, somewhere among the others."""
    numbers = itertools.count(MANY)
    async with Coordination.open(store, settings=Settings()) as coord:

        async def call() -> None:
            number = next(numbers)
            await coord.state.put(f"{key_of(number * 7_919 % MANY)}-{number}", value_of(number), expected_version=0)

        yield call


@asynccontextmanager
async def getting(store: str, chosen: Sequence[int]) -> AsyncIterator[Call]:
    """A get of one of these documents."""
    draw = random.Random(1)
    async with Coordination.open(store, settings=Settings()) as coord:

        async def call() -> None:
            assert await coord.state.get(key_of(draw.choice(chosen))) is not None

        yield call


def bare(path: Path) -> sqlite3.Connection:
    connection = sqlite3.connect(path, isolation_level=None)
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("PRAGMA synchronous = FULL")
    connection.execute("CREATE TABLE document (key TEXT PRIMARY KEY, value TEXT) WITHOUT ROWID")
    connection.execute("BEGIN")
    connection.executemany(
        "INSERT INTO document VALUES (?, ?)", [(key_of(number), bodies.encode(value_of(number))) for number in range(FEW)]
    )
    connection.execute("COMMIT")
    return connection


def one_commit(connection: sqlite3.Connection) -> Call:
    numbers = itertools.count()

    async def call() -> None:
        number = next(numbers)
        connection.execute("BEGIN IMMEDIATE")
        connection.execute(
            "UPDATE document SET value = ? WHERE key = ?", (bodies.encode(value_of(number)), key_of(number % FEW))
        )  # fmt: skip
        connection.execute("COMMIT")

    return call


# puts


def puts(name: str, concurrency: int, settings: Settings | None = None, documents: int = FEW) -> Case:
    async def case() -> Sequence[Figure]:
        chosen = some_of(documents, documents)
        async with folder() as at:
            async with Coordination.open(at / "coord.db") as coord:
                await made(coord, range(documents))
            async with putting(str(at / "coord.db"), chosen, settings) as call:
                mine, other = await interleaved(call, one_commit(bare(at / "bare.db")), concurrency, ROUNDS, SECONDS)
        return [_rate(name, mine, other, "puts/s", BARE)]

    return case


def _rate(case: str, mine: list[float], other: list[float], unit: str, against: str) -> Figure:
    return Figure(case, median(mine), unit, against, median(other), {"spread": spread(mine), "spread_theirs": spread(other)})


# gets


async def in_turns(one: Call, other: Call, count: int) -> tuple[list[float], list[float]]:
    """Seconds of each call of both, in rounds; the first round of each only warms up."""
    ones: list[float] = []
    others: list[float] = []
    for number in range(ROUNDS + 1):
        some, more = await durations(one, count), await durations(other, count)
        if number:
            ones += some
            others += more
    return ones, others


def _latency(case: str, mine: list[float], other: list[float] | None, against: str, **notes: object) -> Figure:
    more = {f"p{share}": round(percentile(mine, share / 100), 7) for share in (50, 95, 99)}
    theirs = {} if other is None else {f"p{share}_theirs": round(percentile(other, share / 100), 7) for share in (95, 99)}
    return Figure(case, median(mine), "s", against, None if other is None else median(other), {**more, **theirs, **notes})


async def get_uncached() -> Sequence[Figure]:
    draw = random.Random(2)
    async with folder() as at, getting(str(at / "coord.db"), range(FEW)) as call:
        async with Coordination.open(at / "coord.db") as coord:
            await made(coord)
        connection = bare(at / "bare.db")

        async def select() -> None:
            key = key_of(draw.randrange(FEW))
            (text,) = connection.execute("SELECT value FROM document WHERE key = ?", (key,)).fetchone()
            json.loads(text)

        mine, other = await in_turns(call, select, GETS)
    return [_latency("get-uncached", mine, other, "a bare SELECT")]


async def get_cached() -> Sequence[Figure]:
    draw = random.Random(3)
    async with folder() as at, Coordination.open(at / "coord.db") as coord:
        cached = getattr(coord.state, "cached", None)
        if cached is None:
            say("get-cached: there is no cache yet")
            return []
        await made(coord)
        async with cached("immediate", size=2 * FEW) as reader:
            for number in range(FEW):
                await reader.get(key_of(number))

            async def call() -> None:
                assert await reader.get(key_of(draw.randrange(FEW))) is not None

            async def uncached() -> None:
                assert await coord.state.get(key_of(draw.randrange(FEW))) is not None

            mine, other = await in_turns(call, uncached, GETS)
    return [_latency("get-cached", mine, other, "get-uncached")]


# watching


async def watch_in_one() -> Sequence[Figure]:
    async with folder() as at, Coordination.open(at / "coord.db") as coord:
        heard: list[float] = []
        every = asyncio.create_task(_watch(coord, heard))
        try:
            await _until(lambda: coord.state.put("watched/ready", 0), lambda: bool(heard))
            await asyncio.sleep(0.2)  # until all of these were heard of
            heard.clear()
            commit = one_commit(bare(at / "bare.db"))
            puts, other = await _write(coord, lambda: len(heard), commit)
        finally:
            every.cancel()
    return [_latency("watch-1", heard, other, BARE, **_after(heard, puts))]


async def _watch(coord: Coordination, heard: list[float]) -> None:
    async for change in coord.state.watch("watched"):
        heard.append(time.monotonic() - change.value)  # noqa: PERF401


async def _until(again: Callable[[], Coroutine[Any, Any, object]], holds: Callable[[], bool]) -> None:
    async with asyncio.timeout(30):
        while not holds():
            await again()
            await asyncio.sleep(0.02)


def _after(heard: list[float], puts: list[float]) -> dict[str, object]:
    """From the put's answer to the watcher, without what the commit took; below 0 where the watcher was quicker."""
    times = [one - other for one, other in zip(heard, puts, strict=True)]
    return {f"after_put_p{share}": round(percentile(times, share / 100), 7) for share in (50, 95, 99)}


async def _write(coord: Coordination, heard: Callable[[], int], commit: Call) -> tuple[list[float], list[float]]:
    """One put after another, each when the one before was heard of and a random moment has passed, and bare commits between.

    Returns the seconds that each of both took.
    """
    draw, puts, bare_ones = random.Random(4), [], []
    for number in range(WATCHED):
        await asyncio.sleep(draw.uniform(0, 0.02))  # so that they do not fall in step with whoever polls
        began = time.monotonic()
        await coord.state.put(f"watched/{number % 10}", began)
        puts.append(time.monotonic() - began)
        async with asyncio.timeout(10):
            while heard() <= number:
                await asyncio.sleep(0.001)
        bare_ones += await durations(commit, 1)
    return puts, bare_ones


async def watch_across_two() -> Sequence[Figure]:
    """The clock that both read is the machine's."""
    async with folder() as at, Coordination.open(at / "coord.db") as coord:
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "benchmarks.state", "--watch", str(at / "coord.db"), stdout=asyncio.subprocess.PIPE
        )
        heard: list[float] = []
        listening = asyncio.create_task(_listen(process, heard))
        try:
            await _until(lambda: coord.state.put("watched/ready", 0), lambda: bool(heard))
            await asyncio.sleep(0.2)
            heard.clear()
            puts, other = await _write(coord, lambda: len(heard), one_commit(bare(at / "bare.db")))
        finally:
            listening.cancel()
            process.kill()
            await process.wait()
    return [_latency("watch-2", heard, other, BARE, **_after(heard, puts), poll=Settings().poll)]


async def _listen(process: asyncio.subprocess.Process, heard: list[float]) -> None:
    assert process.stdout is not None
    while line := await process.stdout.readline():
        heard.append(float(line))


async def _watcher(store: str) -> None:
    """The other process: says how long each change was on its way."""
    async with Coordination.open(store) as coord:
        async for change in coord.state.watch("watched"):
            print(time.monotonic() - change.value, flush=True)


# many documents


async def beside_a_million() -> Sequence[Figure]:
    chosen = some_of(MANY, SOME)
    async with folder() as at:
        full, few, empty = (str(at / f"{name}.db") for name in ("full", "few", "empty"))
        await fill(full, MANY)
        async with Coordination.open(few) as coord:
            await made(coord, chosen)
        async with getting(full, chosen) as get, getting(few, chosen) as other_get:
            mine, other = await interleaved(get, other_get, 64, ROUNDS, SECONDS)
        figures = [_rate("get-1m-64", mine, other, "gets/s", ALONE)]
        async with putting(full, chosen) as put, putting(few, chosen) as other_put:
            mine, other = await interleaved(put, other_put, 64, ROUNDS, SECONDS)
        figures.append(_rate("put-1m-64", mine, other, "puts/s", ALONE))
        async with adding(full) as add, adding(empty) as other_add:
            mine, other = await interleaved(add, other_add, 64, ROUNDS, SECONDS)
    return [*figures, _rate("put-1m-new-64", mine, other, "puts/s", "a store that was empty")]


async def fill(url: str, count: int) -> None:
    """So many documents in their first version. Their events were pruned."""
    store = await open_store(url, "default", Settings())
    began = time.perf_counter()
    try:
        await store.fill(_filled(count, await store.now()))
    finally:
        await store.close()
    say(f"filled {count:,} documents in {time.perf_counter() - began:.0f} s")


def _filled(count: int, now: float) -> Iterator[tuple[Table[Any], Any]]:
    yield COUNTER, CounterRow(events.NUMBER, count)
    yield COUNTER, CounterRow(events.FLOOR, count)
    for place, number in enumerate(sorted(range(count), key=key_of)):
        text = bodies.encode(value_of(number))
        yield DOCUMENT, DocumentRow(
            key_of(number), 1, text, None, documents.PUT, None, place + 1, now, now, "elsewhere", None, None, None, 0, None
        )  # fmt: skip


CASES: dict[str, Case] = {
    "put-1": puts("put-1", 1),
    "put-64": puts("put-64", 64),
    "put-256": puts("put-256", 256),
    "put-pruned-64": puts("put-pruned-64", 64, Settings(history=SHORT), 100),
    "get-uncached": get_uncached,
    "get-cached": get_cached,
    "watch-1": watch_in_one,
    "watch-2": watch_across_two,
    "documents-1m": beside_a_million,
}


def main() -> None:
    parser = arguments(__doc__, list(CASES))
    parser.add_argument("--watch", metavar="STORE", help="internal: the watcher, in a process of its own")
    options = parser.parse_args()
    if options.watch:
        asyncio.run(_watcher(options.watch))
        return
    report = Report("state", options.json)
    for name in options.case or CASES:
        for figure in asyncio.run(CASES[name]()):
            report.add(figure)


if __name__ == "__main__":
    main()
