"""A store with the command line on it, and what a process provides meanwhile."""

from __future__ import annotations

import asyncio
import json
import sqlite3
import threading
from collections.abc import Awaitable, Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import pytest

from autogen_coord import Capability, Coordination, Settings, TaskState
from autogen_coord.cli import main
from autogen_coord.core import burial, claims, registry, sessions, tasks
from autogen_coord.core.burial import Bury
from autogen_coord.core.claims import Claim, Finish, Want
from autogen_coord.core.endings import Failure
from autogen_coord.core.registry import Announce
from autogen_coord.core.sessions import OpenSession
from autogen_coord.core.store import Transaction
from autogen_coord.core.tables import SESSION, CapabilityRow, ProviderRow
from autogen_coord.core.tasks import Submit
from autogen_coord.stores import open_store

T = TypeVar("T")
LASTING = Settings(session_ttl=3000.0, suspect_after=2000.0)
"""Sessions that need no beat while a test looks."""
SECRET = "a-secret-body"


class Said(NamedTuple):
    code: int
    out: str
    err: str


class Desk:
    """A store and the command line on it."""

    def __init__(self, path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        self.path = path
        self._capsys = capsys

    def write(self, fold: Callable[[Transaction, float], T], settings: Settings = LASTING, namespace: str = "default") -> T:
        """Run rules on the store, as a process would."""

        async def run() -> T:
            store = await open_store(str(self.path), namespace, settings)
            try:
                return await store.transact(fold)
            finally:
                await store.close()

        return asyncio.run(run())

    def run(self, *args: str) -> Said:
        """Run a command with ``--store``."""
        return self.bare(*args, "--store", str(self.path))

    def bare(self, *args: str) -> Said:
        self._capsys.readouterr()
        with pytest.raises(SystemExit) as ended:
            main(args)
        out, err = self._capsys.readouterr()
        code = ended.value.code
        return Said(code if isinstance(code, int) else 0, out, err)

    def json(self, *args: str) -> Any:
        said = self.run(*args, "--json")
        assert said.code == 0, said.err
        return json.loads(said.out)

    # a small world: a process with a provider, and tasks

    def provide(self, session: str = "s1", slots: int = 1, settings: Settings = LASTING) -> None:
        def fold(rows: Transaction, now: float) -> None:
            sessions.open_session(rows, OpenSession(session, "process", "host:1"), now, settings)
            capability = CapabilityRow("work", "1", "", "{}", "{}", None, 0.0)
            provider = ProviderRow(
                f"p-{session}", session, session, "work", "1", "function", None, None, "online", slots, None, 0.0
            )
            registry.announce(rows, Announce(session, [capability], [provider]), now, settings)

        self.write(fold, settings)

    def submit(self, id: str, settings: Settings = LASTING, **options: Any) -> None:
        command = Submit(id, "work", options.pop("input", json.dumps(SECRET)), **options)
        self.write(lambda rows, now: tasks.submit(rows, command, now, settings), settings)

    def claim(self, session: str = "s1", slots: int = 1) -> list[str]:
        want = Want.of(("work", "work!alone"), f"p-{session}", slots)
        answer = self.write(lambda rows, now: claims.claim(rows, Claim(session, [want]), now, LASTING))
        return [one.row.id for one in answer.claimed]

    def finish(self, id: str, output: str | None = '"done"', error: str = "") -> None:
        failure = Failure("remote", "ValueError", error, 'File "x.py", line 1', retryable=False) if error else None
        command = Finish("s1", id, 1, TaskState.SUCCEEDED, None if error else output, failure)
        self.write(lambda rows, now: claims.finish(rows, command, now, LASTING))

    def fail(self, id: str, error: str = "no such article") -> None:
        self.submit(id)
        assert self.claim() == [id]
        self.finish(id, error=error)

    def kill(self, session: str) -> None:
        """As if the process had died and another had noticed."""

        def fold(rows: Transaction, now: float) -> None:
            row = rows.get(SESSION, (session,))[0]
            assert row is not None
            rows.put(SESSION, row._replace(state=sessions.DEAD))
            burial.bury(rows, Bury(session), now, LASTING)

        self.write(fold)

    def sql(self, statement: str) -> None:
        with closing(sqlite3.connect(self.path)) as connection, connection:
            connection.execute(statement)


@contextmanager
def providing(
    path: Path,
    *capabilities: Capability[Any, Any],
    namespace: str = "default",
    begin: Callable[[Coordination], Awaitable[None]] | None = None,
) -> Iterator[Coordination]:
    """A coordination with an event loop of its own, in a thread: the command line has the main one, and its signals.

    ``begin`` is run on it, before the block is.
    """
    loop, ready, stop = asyncio.new_event_loop(), threading.Event(), asyncio.Event()
    opened: list[Coordination] = []

    async def work() -> None:
        try:
            async with Coordination.open(path, namespace=namespace) as coord:
                opened.append(coord)
                for each in capabilities:
                    await coord.provide(each)
                if begin is not None:
                    await begin(coord)
                ready.set()
                await stop.wait()
        finally:
            ready.set()

    thread = threading.Thread(target=lambda: loop.run_until_complete(work()), name="provider")
    thread.start()
    try:
        assert ready.wait(10)
        yield opened[0]
    finally:
        loop.call_soon_threadsafe(stop.set)
        thread.join(20)
        assert not thread.is_alive()
        loop.close()
