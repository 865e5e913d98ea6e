"""Durable tasks per second, end to end, against AutoGen's in-process `send_message` to the same handler.

sqlite-1, -64, -256   calls in flight; submit, claim, handler and finish with their events, SQLite FULL, one process
agent-1, -256         the same with the handler in a CapabilityAgent on AutoGen's runtime, against send_message to that very agent
old-agent-256         the same with a RoutedAgent that knows nothing of us, provided by its AgentId
null-256              the same over the dictionary store, so that the difference is what the database costs
latency-1             one call at a time, p50, against three bare one-row SQLite FULL commits on the same disk
backlog-256           beside 1,000,000 finished and 300,000 waiting tasks, against an empty store
prune-256             that store at its limits: pruning as much as comes in (default limits), against no pruning
start-100k            from open to the first handler, with 100,000 ready tasks against one; and memory (memory-100k)
"""

from __future__ import annotations

import asyncio
import json
import os
import sqlite3
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import median

from autogen_core import AgentId, MessageContext, RoutedAgent, SingleThreadedAgentRuntime, message_handler

from autogen_coord import CapabilityAgent, Coordination, capability
from autogen_coord.core import housekeeping
from autogen_coord.core.pruning import Prune, prune
from autogen_coord.settings import Settings
from autogen_coord.stores import open_store
from benchmarks._backlog import Backlog, fill
from benchmarks._load import Call, durations, interleaved, percentile, rate, spread
from benchmarks._report import Figure, Report, arguments, say

Case = Callable[[], Coroutine[None, None, Sequence[Figure]]]

ROUNDS = 5
SECONDS = 0.6
"""Of one round; a case takes rounds x seconds x 2."""
SLOTS = 256
USED = Backlog(finished=1_000_000, delayed=100_000, ready=100_000, laned=100_000)
SEND_MESSAGE = "SingleThreadedAgentRuntime.send_message"


@dataclass
class Text:
    text: str


def shortened(text: Text) -> Text:
    return Text(text.text[:10])


@capability
async def shorten(text: Text) -> Text:
    return shortened(text)


class Shortener(RoutedAgent):
    def __init__(self) -> None:
        super().__init__("shortens a text")

    @message_handler
    async def on_text(self, message: Text, ctx: MessageContext) -> Text:
        return shortened(message)


class ShorteningAgent(CapabilityAgent):
    """The same by both ways: a capability, and a message handler."""

    def __init__(self) -> None:
        super().__init__("shortens a text")

    @capability(max_concurrency=SLOTS)
    async def shorten(self, text: Text) -> Text:
        return shortened(text)

    @message_handler
    async def on_text(self, message: Text, ctx: MessageContext) -> Text:
        return shortened(message)


INPUT = Text("a long text")


@asynccontextmanager
async def ours(store: str, settings: Settings | None = None) -> AsyncIterator[Call]:
    """A durable call of `shorten`, provided by this process."""
    async with Coordination.open(store, settings=settings or Settings()) as coord:
        await coord.provide(shorten, max_concurrency=SLOTS)
        yield lambda: coord.call(shorten, INPUT)


@asynccontextmanager
async def theirs() -> AsyncIterator[Call]:
    """The same by a message to an agent."""
    runtime = SingleThreadedAgentRuntime()
    await Shortener.register(runtime, "shortener", Shortener)
    runtime.start()
    recipient = AgentId("shortener", "default")
    yield lambda: runtime.send_message(INPUT, recipient)
    await runtime.stop_when_idle()


@asynccontextmanager
async def both(store: str, agent: type[Shortener] | type[ShorteningAgent]) -> AsyncIterator[tuple[Call, Call]]:
    """A durable call of an agent on a runtime, and a message to it over that runtime."""
    runtime = SingleThreadedAgentRuntime()
    await agent.register(runtime, "shortener", agent)  # type: ignore[arg-type]
    runtime.start()
    recipient = AgentId("shortener", "default")
    async with Coordination.open(store, runtime=runtime, settings=Settings()) as coord:
        if agent is Shortener:
            await coord.provide(recipient, "shorten", input=Text, output=Text, max_concurrency=SLOTS)
            yield lambda: coord.call("shorten", INPUT, returns=Text), lambda: runtime.send_message(INPUT, recipient)
        else:
            yield lambda: coord.call(ShorteningAgent.shorten, INPUT), lambda: runtime.send_message(INPUT, recipient)
    await runtime.stop_when_idle()


@asynccontextmanager
async def folder() -> AsyncIterator[Path]:
    """A new folder on the working directory's disk (/tmp may be memory, where a commit costs nothing)."""
    with tempfile.TemporaryDirectory(prefix=".bench-", dir=Path.cwd()) as path:
        yield Path(path)


def _tasks(store: str, concurrency: int) -> Case:
    async def case() -> Sequence[Figure]:
        async with folder() as path, theirs() as send:
            url = str(path / "coord.db") if store == "sqlite" else "dict://"
            async with ours(url) as call:
                mine, other = await interleaved(call, send, concurrency, ROUNDS, SECONDS)
        notes = {"spread": spread(mine), "spread_theirs": spread(other)}
        return [Figure(f"{store}-{concurrency}", median(mine), "tasks/s", SEND_MESSAGE, median(other), notes)]

    return case


def _agents(name: str, agent: type[Shortener] | type[ShorteningAgent], concurrency: int) -> Case:
    async def case() -> Sequence[Figure]:
        async with folder() as path, both(str(path / "coord.db"), agent) as (call, send):
            mine, other = await interleaved(call, send, concurrency, ROUNDS, SECONDS)
        notes = {"spread": spread(mine), "spread_theirs": spread(other)}
        return [Figure(name, median(mine), "tasks/s", f"{SEND_MESSAGE} to the same agent", median(other), notes)]

    return case


async def latency() -> Sequence[Figure]:
    async with folder() as path, ours(str(path / "coord.db")) as call:
        three_commits = _three_commits(path / "bare.db")
        mine: list[float] = []
        other: list[float] = []
        for number in range(ROUNDS + 1):
            some, more = await durations(call, 200), await durations(three_commits, 200)
            if number:
                mine += some
                other += more
    notes = {"p99": round(percentile(mine, 0.99), 6), "p99_theirs": round(percentile(other, 0.99), 6)}
    return [Figure("latency-1", median(mine), "s", "three bare one-row SQLite FULL commits", median(other), notes)]


def _three_commits(path: Path) -> Call:
    connection = sqlite3.connect(path, isolation_level=None)
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("PRAGMA synchronous = FULL")
    connection.execute("CREATE TABLE line (number INTEGER PRIMARY KEY, body TEXT)")

    async def call() -> None:
        for _ in range(3):
            connection.execute("BEGIN IMMEDIATE")
            connection.execute("INSERT INTO line (body) VALUES ('a long text')")
            connection.execute("COMMIT")

    return call


async def _filled(path: Path, backlog: Backlog) -> str:
    store = await open_store(str(path), "default", Settings())
    began = time.perf_counter()
    try:
        rows = await fill(store, backlog, shorten.label, Settings())
    finally:
        await store.close()
    size = os.stat(path).st_size >> 20
    say(f"filled {rows:,} rows, {size:,} MiB, in {time.perf_counter() - began:.0f} s")
    return str(path)


async def backlog() -> Sequence[Figure]:
    """Beside the backlog with default settings, and then what pruning takes once the limits are reached."""
    figures = []
    async with folder() as path:
        used = await _filled(path / "used.db", USED)
        async with ours(used) as busy, ours(str(path / "empty.db")) as empty:
            mine, other = await interleaved(busy, empty, SLOTS, ROUNDS, 2 * SECONDS)
        notes: dict[str, object] = {"spread": spread(mine), "spread_theirs": spread(other)}
        figures.append(Figure("backlog-256", median(mine), "tasks/s", "an empty store", median(other), notes))
        figures.append(await _prune(used))
    return figures


async def _prune(used: str) -> Figure:
    """In turns: rounds that prune as much as comes in, and rounds that keep all (what they leave is pruned before the next)."""
    mine: list[float] = []
    other: list[float] = []
    behind = 0
    keep_all = Settings(keep_count=1 << 60)
    often, housekeeping.PRUNE_EVERY = housekeeping.PRUNE_EVERY, 0.25
    try:
        await _catch_up(used)
        for _ in range(4):
            for settings, rates in ((Settings(), mine), (keep_all, other)):
                async with ours(used, settings) as call:
                    await rate(call, SLOTS, SECONDS)
                    rates.append(await rate(call, SLOTS, 3 * SECONDS))
                left = await _catch_up(used)
                behind = left if rates is mine else behind
    finally:
        housekeeping.PRUNE_EVERY = often
    notes = {"spread": spread(mine), "spread_theirs": spread(other), "events_behind": behind}
    return Figure("prune-256", median(mine), "tasks/s", "the same store without pruning", median(other), notes)


async def _catch_up(used: str) -> int:
    """Prune what is over the limits, and return how many events that were."""
    store = await open_store(used, "default", Settings())
    gone = 0
    more = True
    try:
        while more:
            slice = await store.transact(lambda rows, now: prune(rows, Prune(), now, Settings()))
            gone, more = gone + slice.events, slice.more
    finally:
        await store.close()
    return gone


async def start() -> Sequence[Figure]:
    async with folder() as path:
        used = await _filled(path / "used.db", Backlog(open=100_000))
        mine, other = [], []
        for number in range(3):
            mine.append(await _started(used))
            other.append(await _started(await _filled(path / f"{number}.db", Backlog(open=1))))
    seconds, megabytes = zip(*mine, strict=True)
    seconds_theirs, megabytes_theirs = zip(*other, strict=True)
    return [
        Figure("start-100k", median(seconds), "s", "one ready task", median(seconds_theirs)),
        Figure("memory-100k", median(megabytes), "MiB", "one ready task", median(megabytes_theirs)),
    ]


async def _started(store: str) -> tuple[float, float]:
    """In a process of its own: seconds from open to the first handler, and MiB that it grew by, one second later."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "benchmarks.tasks", "--start", store, stdout=asyncio.subprocess.PIPE
    )
    output, _ = await asyncio.wait_for(process.communicate(), 60)
    assert process.returncode == 0
    seconds, megabytes = json.loads(output)
    return seconds, megabytes


async def _start(store: str) -> None:
    first = asyncio.Event()

    @capability("shorten")
    async def once(text: Text) -> Text:
        first.set()
        return shortened(text)

    _ = once.form
    before = _resident()
    began = time.perf_counter()
    async with AsyncExitStack() as stack:
        coord = await stack.enter_async_context(Coordination.open(store, settings=Settings(drain=0)))
        await coord.provide(once, max_concurrency=8)
        await first.wait()
        seconds = time.perf_counter() - began
        await asyncio.sleep(1)
        grown = (_resident() - before) / (1 << 20)
        print(json.dumps([seconds, grown]))


def _resident() -> int:
    """Bytes of memory that this process holds now."""
    for line in Path("/proc/self/status").read_text(encoding="ascii").splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) << 10
    return 0


CASES: dict[str, Case] = {
    "sqlite-1": _tasks("sqlite", 1),
    "sqlite-64": _tasks("sqlite", 64),
    "sqlite-256": _tasks("sqlite", 256),
    "agent-1": _agents("agent-1", ShorteningAgent, 1),
    "agent-256": _agents("agent-256", ShorteningAgent, 256),
    "old-agent-256": _agents("old-agent-256", Shortener, 256),
    "null-256": _tasks("null", 256),
    "latency-1": latency,
    "backlog-256": backlog,
    "start-100k": start,
}


def main() -> None:
    parser = arguments(__doc__, list(CASES))
    parser.add_argument("--start", metavar="STORE", help="internal: one start, in a process of its own")
    options = parser.parse_args()
    if options.start:
        asyncio.run(_start(options.start))
        return
    report = Report("tasks", options.json)
    for name in options.case or CASES:
        for figure in asyncio.run(CASES[name]()):
            report.add(figure)


if __name__ == "__main__":
    main()
