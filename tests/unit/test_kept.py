"""What a connection keeps of locks and documents between batches is what it would read: in whatever order it and others write."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from autogen_coord.core import locks, sessions, state
from autogen_coord.core.documents import Author
from autogen_coord.core.lock_modes import stored
from autogen_coord.core.lock_queue import Want
from autogen_coord.core.locks import Acquire, Granted, Release, Waits
from autogen_coord.core.sessions import OpenSession
from autogen_coord.core.state import Edit, Write, Written
from autogen_coord.core.tables import DOCUMENT
from autogen_coord.errors import LockHeldError, VersionConflictError
from autogen_coord.settings import Settings
from autogen_coord.stores.sqlite import database as sqlite
from autogen_coord.stores.sqlite import kept
from autogen_coord.stores.sqlite.store import SqliteStore

POLICY = Settings(session_ttl=3000.0, suspect_after=2000.0)


class Process:
    """One handle of the file, with a session."""

    def __init__(self, store: SqliteStore, session: str) -> None:
        self.store = store
        self.session = session

    async def open(self) -> None:
        command = OpenSession(self.session, "process", "host:1")
        await self.store.transact(lambda rows, now: sessions.open_session(rows, command, now, POLICY))

    async def take(self, id: str, path: str, mode: str = "X") -> bool:
        command = Acquire(id, self.session, (Want(stored(path), mode),), False)
        try:
            answer = await self.store.transact(lambda rows, now: locks.acquire(rows, command, now, POLICY))
        except LockHeldError:
            return False
        assert isinstance(answer, Granted)
        return True

    async def wait(self, id: str, path: str) -> bool:
        command = Acquire(id, self.session, (Want(stored(path), "X"),), True)
        return isinstance(await self.store.transact(lambda rows, now: locks.acquire(rows, command, now, POLICY)), Waits)

    async def put(self, key: str, expected: int) -> int:
        """The version that was written."""
        command = Write("c", (Edit(key, "put", "1", expected),), Author(self.session, None))
        answer = await self.store.transact(lambda rows, now: state.write(rows, command, now, POLICY))
        assert isinstance(answer, Written)
        assert answer.rows[0] is not None
        return answer.rows[0].version

    def documents(self) -> dict[str, object]:
        return self.store._writer._kept._rows[DOCUMENT.name]

    async def give(self, id: str, path: str) -> bool:
        command = Release(id, self.session, (stored(path),))
        return await self.store.transact(lambda rows, now: locks.release(rows, command, now, POLICY))


@pytest.fixture
async def two(tmp_path: Path) -> AsyncIterator[tuple[Process, Process]]:
    """Two processes on one file, both of which have asked what is held above ``a/b`` when nothing was."""
    there = [Process(await SqliteStore.open(tmp_path / "coord.db", "default", POLICY), session) for session in ("s1", "s2")]
    for each in there:
        await each.open()
        assert await each.take("first", "a/b")
        assert await each.give("first", "a/b")
    yield there[0], there[1]
    for each in there:
        await each.store.close()


@pytest.mark.parametrize("mode", ["S", "SIX", "X"])
async def test_a_lock_above_is_seen_though_none_was_there_before(mode: str, two: tuple[Process, Process]) -> None:
    one, other = two
    for taker in (one, other):
        assert await taker.take("above", "a", mode)
        assert not await one.take("late", "a/b")
        assert not await other.take("late", "a/b")
        assert await taker.give("above", "a")
        for each in two:
            assert await each.take("again", "a/b")
            assert await each.give("again", "a/b")


async def test_a_lock_above_is_seen_by_the_next_command_of_its_batch(two: tuple[Process, Process]) -> None:
    one, _ = two

    def fold(rows: object, now: float) -> None:
        locks.acquire(rows, Acquire("above", "s1", (Want("a/", "X"),), False), now, POLICY)  # type: ignore[arg-type]
        with pytest.raises(LockHeldError):
            locks.acquire(rows, Acquire("late", "s1", (Want("a/b/", "X"),), False), now, POLICY)  # type: ignore[arg-type]

    await one.store.transact(fold)
    assert not await one.take("late", "a/b")


async def test_what_a_failed_transaction_wrote_is_not_kept(two: tuple[Process, Process]) -> None:
    one, _ = two

    def fold(rows: object, now: float) -> None:
        locks.acquire(rows, Acquire("above", "s1", (Want("a/", "X"),), False), now, POLICY)  # type: ignore[arg-type]
        raise RuntimeError("before its commit")

    with pytest.raises(RuntimeError):
        await one.store.transact(fold)
    assert await one.take("late", "a/b")
    assert await one.give("late", "a/b")
    assert not await one.give("above", "a")


async def test_a_lock_that_another_took_away_is_not_kept(two: tuple[Process, Process]) -> None:
    one, other = two
    assert await one.take("mine", "a/b")
    await other.store.transact(lambda rows, now: locks.evict(rows, locks.Evict("mine", ("a/b/",)), now, POLICY))
    assert not await one.give("mine", "a/b")


async def test_a_pair_reads_its_own_place_only(two: tuple[Process, Process], monkeypatch: pytest.MonkeyPatch) -> None:
    """One walk: what lies at the path and below it. Above it, and at the release, nothing is read again."""
    one, _ = two
    read: list[str] = []
    select: Callable[..., list[object]] = sqlite.Database._select

    def noting(self: sqlite.Database, sql: str, values: tuple[object, ...]) -> list[object]:
        read.append(sql)
        return select(self, sql, values)

    monkeypatch.setattr(sqlite.Database, "_select", noting)
    await one.take("warm", "a/c")
    read.clear()
    assert await one.give("warm", "a/c")
    assert await one.take("next", "a/d")
    assert await one.give("next", "a/d")
    assert len(read) == 1


async def test_a_request_above_is_seen_though_none_waited_there_before(two: tuple[Process, Process]) -> None:
    one, other = two
    assert await one.take("z", "z")
    assert await other.wait("zz", "z")  # somebody waits: so each release looks who is next
    for each in two:
        assert await each.take("reader", "a/b", "S")
        assert await each.give("reader", "a/b")
    for waits, asks in ((one, other), (other, one)):
        assert await one.take("reader", "a/b", "S")
        assert await waits.wait("writer", "a")
        assert not await asks.take("late", "a/c", "S")
        assert await waits.give("writer", "a")
        assert await asks.take("late", "a/c", "S")
        assert await asks.give("late", "a/c")
        assert await one.give("reader", "a/b")


async def test_a_document_that_another_process_wrote_meanwhile_is_read_again(two: tuple[Process, Process]) -> None:
    one, other = two
    for version in range(1, 7):
        writer = (one, one, other, other, one, other)[version - 1]
        assert await writer.put("a", version - 1) == version
    with pytest.raises(VersionConflictError):
        await one.put("a", 5)
    assert await one.put("a", 6) == 7


async def test_documents_are_kept_up_to_a_number(two: tuple[Process, Process], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kept, "DOCUMENTS", 3)
    one, _ = two
    for version in (0, 1):
        for number in range(10):
            assert await one.put(f"a/{number}", version) == version + 1
            assert len(one.documents()) <= 4
