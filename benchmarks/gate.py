"""Two processes on one file, one committing without pause: how late are the other's beats?

beat-p99   seconds from the moment a beat is due to the end of its commit, at p99; aim 0.1. A beat is what `core.beating` does: the
           renewal of a session by `transact_blocking`, in a thread. Against the same without the gate, SQLite's own lock alone.
"""

from __future__ import annotations

import asyncio
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import median

from autogen_coord import Coordination
from autogen_coord.core import sessions
from autogen_coord.core.ids import new_id
from autogen_coord.core.sessions import OpenSession
from autogen_coord.errors import StoreUnavailableError
from autogen_coord.settings import Settings
from autogen_coord.stores.sqlite.gate import Gate
from autogen_coord.stores.sqlite.store import SqliteStore
from benchmarks._load import percentile
from benchmarks._report import Figure, Report, arguments
from benchmarks.tasks import INPUT, shorten

EVERY = 0.05
BEATS = 120
IN_FLIGHT = 256
AIM = 0.1


def without_gate() -> None:
    """Let everybody of this process pass at once; SQLite's lock still guards the file."""

    @contextmanager
    def passed(self: Gate, until: float) -> Iterator[None]:
        yield

    Gate.passed = passed  # type: ignore[method-assign]


async def busy(path: str) -> None:
    """Submit and work without pause until the input ends."""
    ended = threading.Thread(target=sys.stdin.read, daemon=True)
    ended.start()
    async with Coordination.open(path, settings=Settings()) as coord:
        await coord.provide(shorten, max_concurrency=IN_FLIGHT)
        print("ready", flush=True)
        calls = 0

        async def caller() -> None:
            nonlocal calls
            while ended.is_alive():
                await coord.call(shorten, INPUT)
                calls += 1

        began = time.monotonic()
        async with asyncio.TaskGroup() as group:
            for _ in range(IN_FLIGHT):
                group.create_task(caller())
        print(calls / (time.monotonic() - began), flush=True)


def beats(store: SqliteStore, session: str, policy: Settings) -> list[float]:
    """How late each beat was, in seconds. One that the store refused took all of its wait."""
    late = []
    due = time.monotonic()
    for _ in range(BEATS):
        due = max(due + EVERY, time.monotonic())
        time.sleep(max(0.0, due - time.monotonic()))
        try:
            assert store.transact_blocking(lambda rows, now: sessions.renew(rows, session, now, policy))
        except StoreUnavailableError:
            pass
        late.append(time.monotonic() - due)
    return late


async def measure(path: Path, gate: bool) -> tuple[list[float], float]:
    """Lateness of the beats, and what the busy process did beside them."""
    policy = Settings()
    flags = [] if gate else ["--no-gate"]
    child = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "benchmarks.gate", "--busy", str(path), *flags,
        stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE,
    )  # fmt: skip
    assert child.stdout is not None
    assert (await asyncio.wait_for(child.stdout.readline(), 30)).strip() == b"ready"
    store = await SqliteStore.open(path, "default", policy)
    try:
        session = new_id("s")
        await store.transact(lambda rows, now: sessions.open_session(rows, OpenSession(session, "process", "bench"), now, policy))
        late = await asyncio.to_thread(beats, store, session, policy)
        output, _ = await asyncio.wait_for(child.communicate(b""), 60)
    finally:
        if child.returncode is None:
            child.kill()
        await store.close()
    return late, float(output)


def figure(gated: tuple[list[float], float], bare: tuple[list[float], float]) -> Figure:
    late, rate = gated
    late_bare, rate_bare = bare
    notes = {
        "p50": round(median(late), 5),
        "max": round(max(late), 5),
        "p50_theirs": round(median(late_bare), 5),
        "max_theirs": round(max(late_bare), 5),
        "busy_rate": round(rate),
        "busy_rate_theirs": round(rate_bare),
        "aim": AIM,
    }
    return Figure("beat-p99", percentile(late, 0.99), "s", "without the gate", percentile(late_bare, 0.99), notes)


def main() -> None:
    parser = arguments(__doc__, ["beat-p99"])
    parser.add_argument("--busy", metavar="STORE", help="internal: be the busy process")
    parser.add_argument("--no-gate", action="store_true", help="internal: pass no gate")
    options = parser.parse_args()
    if options.no_gate:
        without_gate()
    if options.busy:
        asyncio.run(busy(options.busy))
        return
    with tempfile.TemporaryDirectory(prefix=".bench-", dir=Path.cwd()) as folder:
        gated = asyncio.run(measure(Path(folder) / "gated.db", gate=True))
        without_gate()
        bare = asyncio.run(measure(Path(folder) / "bare.db", gate=False))
    Report("gate", options.json).add(figure(gated, bare))


if __name__ == "__main__":
    main()
