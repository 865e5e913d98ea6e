"""What many tests stand on.

``world`` opens coordinations on one store, each as if it were a process of its own, and can make one vanish as SIGKILL would.
``ground`` folds single rules on a dictionary store whose clock only the test moves.
"""

from __future__ import annotations

import asyncio
import itertools
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any, TypeVar

import pytest

from autogen_coord import Capability, Coordination, Settings, TaskHandle, TaskInfo, TaskState, capability
from autogen_coord.core import burial, claims, registry, sessions, tasks, timers
from autogen_coord.core.burial import Bury
from autogen_coord.core.claims import Claim, Claimed, Finish, Want
from autogen_coord.core.commit import Rule
from autogen_coord.core.endings import Failure
from autogen_coord.core.process import Process
from autogen_coord.core.registry import Announce
from autogen_coord.core.sessions import Declare, OpenSession
from autogen_coord.core.store import Range, Table
from autogen_coord.core.tables import (
    ATTEMPT,
    EVENT,
    OUTCOME,
    QUEUE,
    SESSION,
    AttemptRow,
    CapabilityRow,
    EventRow,
    OutcomeRow,
    ProviderRow,
    QueueRow,
    SessionRow,
)
from autogen_coord.core.tasks import Submit, Submitted
from autogen_coord.core.timers import Turn
from autogen_coord.errors import CoordError, StoreUnavailableError
from autogen_coord.stores.dictionary.data import DictionaryData
from autogen_coord.stores.dictionary.store import DictionaryStore

C = TypeVar("C")
A = TypeVar("A")
PATIENCE = 8.0
MORTAL: dict[str, Any] = {"beat": 0.1, "suspect_after": 0.3, "session_ttl": 0.6, "trust_margin": 0.1}
"""Settings under which a process that vanished is noticed soon."""
QUICK: dict[str, Any] = {"backoff": 0.005, "cancel_grace": 0.2, "poll": 0.005, "drain": 5.0, "no_provider_wait": 20.0}
_names = itertools.count(1)


def soon(seconds: float = PATIENCE) -> asyncio.Timeout:
    """Nothing waits for ever."""
    return asyncio.timeout(seconds)


async def until(true: Callable[[], bool] | Callable[[], Awaitable[bool]], seconds: float = PATIENCE) -> None:
    """Wait for what no event tells."""
    async with asyncio.timeout(seconds):
        while True:
            answer = true()
            if (await answer) if isinstance(answer, Awaitable) else answer:
                return
            await asyncio.sleep(0.005)


def process_of(coord: Coordination) -> Process:
    assert coord._parts is not None
    return coord._parts.process


async def vanish(coord: Coordination) -> None:
    """End a coordination as SIGKILL ends a process: no goodbye, no answer of its handlers, its lease runs out."""
    assert coord._parts is not None
    process, runner = coord._parts.process, coord._parts.runner
    coord._parts = None
    process.dispatcher.stop()
    process.heart._stop.set()
    if process.heart._thread is not None:
        await asyncio.to_thread(process.heart._thread.join)
    process.line._stopped = True
    for attempt in runner._attempts.values():
        attempt.reported = True
        if attempt.timer is not None:
            attempt.timer.cancel()
        if attempt.runs is not None:
            attempt.runs.cancel()
    process._stop.set()
    if process._life is not None:
        await asyncio.wait([process._life])
    await process.store.close()


class Fault:
    """A coordination's store, away for a while; its reads go on or not."""

    def __init__(self, coord: Coordination, reads: bool = False) -> None:
        self._store: Any = process_of(coord).store
        self._names = ["transact", "transact_blocking"] + (["read", "now"] if reads else [])

    def __enter__(self) -> Fault:
        def away(*args: Any, **kwargs: Any) -> Any:
            raise StoreUnavailableError("the store is away, says the test")

        async def away_async(*args: Any, **kwargs: Any) -> Any:
            away()

        for name in self._names:
            setattr(self._store, name, away if name == "transact_blocking" else away_async)
        return self

    def __exit__(self, *exc: object) -> None:
        for name in self._names:
            delattr(self._store, name)


class _Faults(logging.Handler):
    """What the library, or asyncio on its behalf, logs as an error."""

    def __init__(self) -> None:
        super().__init__(logging.ERROR)
        self.records: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.records.append(f"{record.name}: {record.getMessage()} {record.exc_info[1] if record.exc_info else ''}")


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "faults: the library logs an error in it, as it should")


@pytest.fixture(autouse=True)
def no_faults(request: pytest.FixtureRequest) -> Iterator[None]:
    """No loop broke and no exception was lost; a test that wants one is marked ``faults``."""
    handler = _Faults()
    loggers = [logging.getLogger(name) for name in ("autogen_coord", "asyncio")]
    for logger in loggers:
        logger.addHandler(handler)
    yield
    for logger in loggers:
        logger.removeHandler(handler)
    if not request.node.get_closest_marker("faults"):
        assert handler.records == []


class Gate:
    """What a held handler was given, and the event it waits for."""

    def __init__(self) -> None:
        self.seen: list[str] = []
        self.release = asyncio.Event()
        self.ended: list[str] = []
        self.most = 0
        self._news = asyncio.Event()

    async def enter(self, input: str) -> None:
        self.seen.append(input)
        self._news.set()
        self.most = max(self.most, len(self.seen) - len(self.ended))
        try:
            await self.release.wait()
        finally:
            self.ended.append(input)
            self._news.set()

    async def saw(self, count: int = 1) -> None:
        """Until so many handlers were begun."""
        await self._reached(lambda: len(self.seen) >= count)

    async def emptied(self) -> None:
        await self._reached(lambda: len(self.ended) == len(self.seen))

    async def _reached(self, there: Callable[[], bool]) -> None:
        async with soon():
            while not there():
                self._news.clear()
                await self._news.wait()


def held(name: str = "hold", limit: int | None = None) -> tuple[Capability[str, str], Gate]:
    """A capability whose handlers wait for their gate."""
    gate = Gate()

    @capability(name, max_concurrency=limit)
    async def hold(text: str) -> str:
        await gate.enter(text)
        return f"{text}!"

    return hold, gate


class World:
    """One store, and the coordinations that a test opens on it."""

    def __init__(self, url: str, stack: AsyncExitStack) -> None:
        self.url = url
        self._stack = stack

    async def open(self, namespace: str | None = None, **changes: Any) -> Coordination:
        settings = Settings(**{**QUICK, **changes})
        return await self._stack.enter_async_context(Coordination.open(self.url, namespace=namespace, settings=settings))


@pytest.fixture(params=["sqlite", "dict"])
async def world(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[World]:
    async with AsyncExitStack() as stack:
        if request.param == "sqlite":
            yield World(str(tmp_path / "coord.db"), stack)
        else:
            url = f"dict://world-{next(_names)}"
            anchor = DictionaryStore.named(url.removeprefix("dict://"), "anchor", Settings())  # outlives all who open it
            yield World(url, stack)
            await stack.aclose()
            await anchor.close()


@pytest.fixture
async def coord(world: World) -> Coordination:
    return await world.open()


async def state_of(handle: TaskHandle[Any]) -> str:
    return (await handle.info()).state


async def ended(handle: TaskHandle[Any]) -> TaskInfo:
    """How a task ended, whatever it was."""
    async with soon():
        try:
            await handle.result()
        except CoordError:
            pass
    return await handle.info()


class Ground:
    """Rules on a store whose clock only the test moves. Handlers do not exist: the test says what they did."""

    def __init__(self, collecting: bool = False) -> None:
        self.now = 1_000_000.0
        self.policy = Settings(
            backoff=1.0, backoff_factor=2.0, backoff_cap=8.0, cancel_grace=5.0, timeout=300.0, priority_weight=30.0, slice=256
        )
        self.store = DictionaryStore(settings=self.policy, data=DictionaryData(), clock=lambda: self.now, collecting=collecting)

    def settings(self, **changes: Any) -> None:
        self.policy = Settings(**{**self.policy.model_dump(), **changes})

    def do(self, rule: Rule[C, A], command: C) -> A:
        return self.store.transact_blocking(lambda rows, now: rule(rows, command, now, self.policy))

    def wait(self, seconds: float) -> None:
        self.now += seconds

    # who is there

    def session(self, id: str = "s1") -> str:
        self.do(sessions.open_session, OpenSession(id, "process", "test"))
        return id

    def renew(self, id: str) -> bool:
        return self.store.transact_blocking(lambda rows, now: sessions.renew(rows, id, now, self.policy))

    def provide(self, session: str = "s1", provider: str = "p1", label: str = "work", limit: int = 8) -> str:
        name, version = registry.split_label(label)
        row = CapabilityRow(name, version, "", '{"type":"string"}', '{"type":"string"}', "", 0.0)
        there = ProviderRow(provider, session, session, label, version, "function", None, None, registry.ONLINE, limit, None, 0.0)
        self.do(registry.announce, Announce(session, [row], [there]))
        return provider

    def declare(self, session: str, by: str) -> bool:
        return self.do(sessions.declare_dead, Declare(by, session))

    def kill(self, session: str) -> None:
        """Mark a session dead and return all it held, whoever may judge."""

        def dead(rows: Any, now: float) -> None:
            (row,) = rows.get(SESSION, (session,))
            rows.put(SESSION, row._replace(state=sessions.DEAD))

        self.store.transact_blocking(dead)
        self.bury(session)

    def bury(self, session: str) -> None:
        while self.do(burial.bury, Bury(session)):
            pass

    # tasks

    def submit(self, id: str, capability: str = "work", input: str = '"x"', **more: Any) -> Submitted:
        return self.do(tasks.submit, Submit(id, capability, input, **more))

    def claim(self, session: str = "s1", provider: str = "p1", slots: int = 1, *pools: str) -> list[Claimed]:
        own = pools or ("work", f"work@{provider}")
        return self.do(claims.claim, Claim(session, [Want.of(own, provider, slots)])).claimed

    def claim_ids(self, session: str = "s1", provider: str = "p1", slots: int = 1, *pools: str) -> list[str]:
        return [one.row.id for one in self.claim(session, provider, slots, *pools)]

    def finish(self, id: str, attempt: int = 1, session: str = "s1", output: str = '"y"') -> OutcomeRow | None:
        return self.do(claims.finish, Finish(session, id, attempt, TaskState.SUCCEEDED, output))

    def fail(self, id: str, attempt: int = 1, session: str = "s1", draw: float = 0.5, **more: Any) -> OutcomeRow | None:
        failure = Failure(**{"code": "exception", "type": "ValueError", "text": "no", **more})
        return self.do(claims.finish, Finish(session, id, attempt, TaskState.FAILED, None, failure, draw))

    def turn(self) -> None:
        while self.do(timers.turn, Turn(0.5)):
            pass

    # looking

    def get(self, table: Table[Any], key: Any) -> Any:
        return self.store.transact_blocking(lambda rows, now: rows.get(table, (key,)))[0]

    def scan(self, range: Range[Any]) -> list[Any]:
        return self.store.transact_blocking(lambda rows, now: rows.scan(range))

    def queue(self, id: str) -> QueueRow:
        row = self.get(QUEUE, id)
        assert isinstance(row, QueueRow), f"{id} is not live"
        return row

    def state(self, id: str) -> str:
        row = self.get(QUEUE, id) or self.get(OUTCOME, id)
        assert row is not None, f"no task {id}"
        return str(row.state)

    def outcome(self, id: str) -> OutcomeRow:
        row = self.get(OUTCOME, id)
        assert isinstance(row, OutcomeRow), f"{id} has not ended"
        return row

    def attempts(self, id: str) -> list[AttemptRow]:
        return self.scan(Range(ATTEMPT, "by_task", (id,)))

    def session_row(self, id: str) -> SessionRow:
        row = self.get(SESSION, id)
        assert isinstance(row, SessionRow)
        return row

    def events(self, subject: str | None = None) -> list[str]:
        rows: list[EventRow] = self.scan(Range(EVENT, "key"))
        return [row.kind for row in rows if subject in (None, row.subject)]


@pytest.fixture(params=["through", "collecting"])
def ground(request: pytest.FixtureRequest) -> Ground:
    return Ground(collecting=request.param == "collecting")


@pytest.fixture
def work(ground: Ground) -> Ground:
    """A ground with one session ``s1`` and its provider ``p1`` of ``work``."""
    ground.session()
    ground.provide()
    return ground
