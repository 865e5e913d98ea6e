"""What goes wrong around an SQLite file, each with the typed error that says what to do, and that all goes on afterwards."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import sqlite3
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from autogen_coord.core.store import Keys, Range, Rows
from autogen_coord.core.tables import COUNTER, EVENT, LOCK_HELD, CounterRow
from autogen_coord.errors import ConfigError, SchemaVersionError, StoreError, StoreUnavailableError
from autogen_coord.settings import Settings
from autogen_coord.stores import open_store
from autogen_coord.stores.dictionary.store import DictionaryStore
from autogen_coord.stores.sqlite import clock, files, schema
from autogen_coord.stores.sqlite.store import SqliteStore
from autogen_coord.stores.sqlite.thread import DatabaseThread
from tests.conformance.rows import event
from tests.integration.processes import started
from tests.integration.store_process import count

SHORT = Settings(store_wait=0.3)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "coord.db"


@pytest.fixture
async def store(path: Path) -> AsyncIterator[SqliteStore]:
    store = await SqliteStore.open(path, "default", SHORT)
    yield store
    await store.close()


async def opened_and_closed(path: Path | str) -> None:
    await (await SqliteStore.open(path, "default", SHORT)).close()


async def value(store: SqliteStore) -> int:
    ((row,),) = await store.read(Keys(COUNTER, ["n"]))
    return row.value if row else 0


def sql(path: Path, text: str) -> list[Any]:
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        return connection.execute(text).fetchall()


# addresses


async def test_an_address_chooses_the_store(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(path.parent)
    for url in (str(path), "coord.db", "sqlite:///coord.db", f"sqlite:///{path}"):
        store = await open_store(url, "default", SHORT)
        await store.transact(count)
        await store.close()
    assert sql(path, "SELECT value FROM counter") == [(4,)]
    memory = await open_store("dict://", "default", SHORT)
    assert isinstance(memory, DictionaryStore)
    assert await memory.transact(count) == await (await open_store("dict://", "default", SHORT)).transact(count) == 1
    named = [await open_store("dict://here", "default", SHORT) for _ in range(2)]
    assert [await store.transact(count) for store in named] == [1, 2]


@pytest.mark.parametrize(("url", "says"), [("postgresql://h/db", r"\[postgres\]"), ("mysql://h/db", "not known"), ("", "dict://")])
async def test_an_address_without_a_store_says_what_to_use(url: str, says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        await open_store(url, "default", SHORT)


# files that cannot be a store


async def test_a_folder_a_missing_folder_and_memory_are_refused(tmp_path: Path) -> None:
    for path, says in ((tmp_path, "this is a folder"), (tmp_path / "no" / "coord.db", "create it first"), (":memory:", "dict://")):
        with pytest.raises(ConfigError, match=says):
            await opened_and_closed(path)
    assert list(tmp_path.iterdir()) == []


async def test_a_file_that_is_not_sqlite_is_left_as_it_is(path: Path) -> None:
    path.write_bytes(b"Dear diary, this is no database at all.")
    with pytest.raises(ConfigError, match="not an SQLite file"):
        await opened_and_closed(path)
    assert [file.name for file in path.parent.iterdir()] == ["coord.db"]
    assert path.read_bytes().startswith(b"Dear diary")


@pytest.mark.parametrize("text", ["CREATE TABLE songs (name TEXT)", "PRAGMA application_id = 77"])
async def test_a_file_of_another_program_is_left_as_it_is(path: Path, text: str) -> None:
    sql(path, text)
    before = path.read_bytes()
    with pytest.raises(ConfigError, match="another program"):
        await opened_and_closed(path)
    with pytest.raises(ConfigError, match="another program"):
        schema.migrate(str(path))
    assert path.read_bytes() == before
    assert [file.name for file in path.parent.iterdir()] == ["coord.db"]


@pytest.mark.process
@pytest.mark.timeout(60)
async def test_a_second_store_in_a_process_does_not_take_the_files_locks_from_the_first(path: Path, store: SqliteStore) -> None:
    """Closing any descriptor of a file gives back all of a process's locks on it, SQLite's too: then the next process that closes
    the file believes itself alone, and takes the write-ahead log away from under us."""
    await store.transact(count)
    other = await SqliteStore.open(path, "default", SHORT)
    script = f"import sqlite3; c = sqlite3.connect({str(path)!r}); c.execute('SELECT count(*) FROM counter').fetchall(); c.close()"
    elsewhere = await asyncio.create_subprocess_exec(sys.executable, "-c", script)
    assert await asyncio.wait_for(elsewhere.wait(), 20) == 0
    assert path.with_name("coord.db-wal").exists()
    for each in (store, other, store):
        await each.transact(count)
    await other.close()
    assert (await value(store), sql(path, "PRAGMA integrity_check")) == (4, [("ok",)])


async def test_an_empty_file_becomes_a_store(path: Path) -> None:
    path.touch()
    await opened_and_closed(path)
    assert sql(path, "SELECT max(version) FROM schema_version") == [(schema.SCHEMA,)]


async def test_many_may_open_a_new_file_at_once(path: Path) -> None:
    stores = await asyncio.gather(*(SqliteStore.open(path, "default", Settings()) for _ in range(8)))
    assert sorted(await asyncio.gather(*(store.transact(count) for store in stores))) == list(range(1, 9))
    assert sql(path, "SELECT count(*) FROM schema_version") == [(schema.SCHEMA,)]
    for store in stores:
        await store.close()


@pytest.fixture
def folder_of_nobody() -> Iterator[Path]:
    """A folder whose rights count: for root they do not, so as root the test goes on as another user."""
    folder = Path(tempfile.mkdtemp(prefix="coord-"))
    root = os.geteuid() == 0
    if root:
        os.chown(folder, 65534, 65534)
        os.seteuid(65534)
    try:
        yield folder
    finally:
        if root:
            os.seteuid(0)
        folder.chmod(0o700)
        shutil.rmtree(folder)


async def test_a_read_only_file_and_a_read_only_folder_are_refused(folder_of_nobody: Path) -> None:
    path = folder_of_nobody / "coord.db"
    await opened_and_closed(path)
    path.chmod(0o400)
    with pytest.raises(ConfigError, match="file is read-only"):
        await opened_and_closed(path)
    path.chmod(0o600)
    folder_of_nobody.chmod(0o500)
    with pytest.raises(ConfigError, match="is read-only for us; SQLite"):
        await opened_and_closed(path)
    folder_of_nobody.chmod(0o700)
    await opened_and_closed(path)


MOUNTS = r"""
21 1 8:1 / / rw,relatime shared:1 - ext4 /dev/sda1 rw
30 21 0:25 / /home rw,relatime - nfs4 server:/home rw
31 30 8:3 / /home/me/local\040disk rw - xfs /dev/sdb1 rw
32 21 0:30 / /mnt/share rw master:2 propagate_from:1 - fuse.sshfs me@host: rw
33 21 0:31 / /twice rw - ext4 /dev/sdc1 rw
34 21 0:32 / /twice rw - cifs //server/share rw
broken line
"""


@pytest.mark.parametrize(
    ("path", "kind"),
    [
        ("/var/coord.db", "ext4"),
        ("/home/coord.db", "nfs4"),
        ("/homestead/coord.db", "ext4"),
        ("/home/me/local disk/coord.db", "xfs"),
        ("/mnt/share/a/coord.db", "fuse.sshfs"),
        ("/twice/coord.db", "cifs"),
    ],
)
def test_the_file_system_is_that_of_the_nearest_mount(path: str, kind: str) -> None:
    assert files.kind_of(path, MOUNTS) == kind


async def test_a_network_file_system_is_refused(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mounts = path.parent / "mountinfo"
    mounts.write_text(f"21 1 8:1 / / rw - ext4 /dev/sda1 rw\n30 21 0:25 / {path.parent} rw - nfs4 server:/ rw\n")
    monkeypatch.setattr(files, "MOUNTS", mounts)
    with pytest.raises(ConfigError, match="nfs4"):
        await opened_and_closed(path)
    monkeypatch.setattr(files, "MOUNTS", path.parent / "none")
    await opened_and_closed(path)


# versions


@pytest.mark.parametrize(
    ("row", "says"),
    [
        ("(9, 9, 9, 0.0)", "too new.*pip install --upgrade"),
        ("(9, 0, 0, 0.0)", "too old.*autogen-coord migrate --store .*coord.db"),
    ],
)
async def test_a_schema_that_does_not_fit_names_the_command_that_mends_it(path: Path, row: str, says: str) -> None:
    await opened_and_closed(path)
    sql(path, f"INSERT INTO schema_version (version, oldest, newest, at) VALUES {row}")
    with pytest.raises(SchemaVersionError, match=says) as caught:
        await opened_and_closed(path)
    assert (caught.value.version, caught.value.supported) == (9, schema.SCHEMA)


async def test_a_newer_schema_that_allows_this_code_is_used(path: Path) -> None:
    await opened_and_closed(path)
    sql(path, f"INSERT INTO schema_version (version, oldest, newest, at) VALUES (9, {schema.SCHEMA}, 9, 0.0)")
    await opened_and_closed(path)
    assert schema.migrate(str(path)) == (9, 9)


async def test_migrate_brings_an_old_file_to_this_code(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    await opened_and_closed(path)
    old, new = schema.SCHEMA, schema.SCHEMA + 1
    assert schema.migrate(str(path)) == (old, old)
    more = "-- one more\nCREATE TABLE extra (namespace TEXT NOT NULL);\nALTER TABLE counter ADD COLUMN note TEXT;\n"
    migrations = [*schema.migrations(), (new, more)]
    monkeypatch.setattr(schema, "migrations", lambda: migrations)
    monkeypatch.setattr(schema, "SCHEMA", new)
    monkeypatch.setattr(schema, "USERS", {**schema.USERS, new: (old, new)})
    with pytest.raises(SchemaVersionError, match="migrate"):
        await opened_and_closed(path)
    migrations[-1] = (new, more + "CREATE TABLE extra (again TEXT);\n")
    with pytest.raises(StoreError, match="already exists"):
        schema.migrate(str(path))
    assert sql(path, "SELECT name FROM sqlite_master WHERE name = 'extra'") == []
    migrations[-1] = (new, more)
    assert schema.migrate(str(path)) == (old, new)
    await opened_and_closed(path)
    fresh = path.with_name("fresh.db")
    await opened_and_closed(fresh)
    ddl = "SELECT sql FROM sqlite_master WHERE sql IS NOT NULL ORDER BY name"
    assert sql(path, ddl) == sql(fresh, ddl)


async def test_locks_that_an_older_version_wrote_are_held_after_the_migration(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    columns = "namespace, path, id, mode, token, session, attempt, priority, since, born"
    rows = [("default", f"repo/{mode}/", f"l-{token}", mode, token, "s1", 0, 5.0, 1.0, 1.0) for token, mode in ((2, "X"), (1, "S"))]
    with sqlite3.connect(path, isolation_level=None) as connection, monkeypatch.context() as older:
        older.setattr(schema, "migrations", partial(_up_to, schema.migrations(), 2))
        schema.create(connection)
        connection.executemany(f"INSERT INTO lock_held ({columns}) VALUES ({', '.join('?' * 10)})", rows)
    connection.close()
    with pytest.raises(SchemaVersionError, match="migrate"):
        await opened_and_closed(path)
    assert schema.migrate(str(path)) == (2, schema.SCHEMA)
    store = await SqliteStore.open(path, "default", Settings())
    ranges = (
        Range(LOCK_HELD, "by_session", ("s1",)),
        Range(LOCK_HELD, "by_mode", ("S",)),
        Range(LOCK_HELD, "by_mode", ("X",)),
        Range(LOCK_HELD, "exclusive"),
    )
    found = [[row.id for row in rows] for rows in await store.read(*ranges)]
    await store.close()
    assert found == [["l-1", "l-2"], ["l-1"], [], ["l-2"]]


def _up_to(migrations: list[tuple[int, str]], newest: int) -> list[tuple[int, str]]:
    return [(number, text) for number, text in migrations if number <= newest]


async def test_migrate_makes_no_file(path: Path) -> None:
    with pytest.raises(ConfigError, match="no such file"):
        schema.migrate(str(path))
    assert not path.exists()


# while it is open


async def test_a_full_disk_writes_nothing_and_goes_on_when_there_is_room(store: SqliteStore) -> None:
    await store.transact(count)
    connection = store._writer._connection
    (pages,) = connection.execute("PRAGMA page_count").fetchone()
    connection.execute(f"PRAGMA max_page_count = {pages + 2}")
    many = [(EVENT, event(number, data="x" * 1000)) for number in range(1, 200)]
    for _ in range(2):
        with pytest.raises(StoreError, match="full") as caught:
            await store.fill(many)
        assert caught.value.full
        assert isinstance(caught.value.__cause__, sqlite3.OperationalError)
    assert await store.read(Range(EVENT, "key")) == [[]]
    connection.execute("PRAGMA max_page_count = 1000000")
    assert await store.fill(many) == 199
    assert await store.transact(count) == 2


@pytest.mark.parametrize("replaced", [False, True])
async def test_a_file_that_goes_while_open_is_noticed(store: SqliteStore, replaced: bool) -> None:
    await store.transact(count)
    store.transact_blocking(count)
    for suffix in ("", "-wal", "-shm"):
        os.unlink(store.path + suffix)
    if replaced:
        await opened_and_closed(store.path)
    for _ in range(2):
        with pytest.raises(StoreError, match="deleted or replaced") as caught:
            await store.transact(count)
        assert caught.value.gone
    with pytest.raises(StoreError, match="lost"):
        await store.read(Range(COUNTER, "key"))
    with pytest.raises(StoreError, match="lost"):
        store.transact_blocking(count)


@pytest.mark.parametrize("lock", ["IMMEDIATE", "EXCLUSIVE"])
async def test_another_program_that_holds_the_file_is_waited_for_so_long(store: SqliteStore, lock: str) -> None:
    await store.transact(count)
    with closing(sqlite3.connect(store.path, isolation_level=None)) as other:
        other.execute(f"BEGIN {lock}")
        before = time.monotonic()
        with pytest.raises(StoreUnavailableError, match="another program"):
            await store.transact(count)
        with pytest.raises(StoreUnavailableError):
            await asyncio.to_thread(store.transact_blocking, count)
        assert time.monotonic() - before < 10
        assert await value(store) == 1
        other.execute("ROLLBACK")
    assert await store.transact(count) == 2


async def test_a_short_hold_by_another_program_is_waited_out(path: Path) -> None:
    store = await SqliteStore.open(path, "default", Settings())
    with closing(sqlite3.connect(store.path, isolation_level=None, check_same_thread=False)) as other:
        other.execute("BEGIN EXCLUSIVE")
        waiting = asyncio.create_task(store.transact(count))
        await asyncio.sleep(0.15)
        assert not waiting.done()
        other.execute("COMMIT")
        assert await waiting == 1
    await store.close()


async def test_a_file_held_by_another_program_cannot_be_opened_yet(path: Path) -> None:
    await opened_and_closed(path)
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("PRAGMA locking_mode = EXCLUSIVE")
        other.execute("BEGIN EXCLUSIVE")
        with pytest.raises(StoreUnavailableError):
            await opened_and_closed(path)
        other.execute("ROLLBACK")
    await opened_and_closed(path)


@pytest.mark.parametrize("row", [CounterRow("n", 2**63), CounterRow("\ud800", 1)])
async def test_a_value_that_sqlite_does_not_hold_spoils_nothing(store: SqliteStore, row: CounterRow) -> None:
    for fold in (lambda rows, now: rows.put(COUNTER, row), lambda rows, now: rows.get(COUNTER, ["\ud800"])):
        with pytest.raises(StoreError, match="does not hold"):
            await store.transact(fold)
    assert await store.transact(count) == 1


async def test_a_driver_error_reaches_the_fold_as_ours_and_spoils_nothing(store: SqliteStore) -> None:
    await store.transact(count)
    connection = store._writer._connection

    def fold(rows: Rows, now: float) -> None:
        rows.put(EVENT, event(1))
        connection.set_progress_handler(lambda: 1, 1)
        try:
            rows.get(EVENT, [99])
        finally:
            connection.set_progress_handler(None, 0)

    def catching(rows: Rows, now: float) -> None:
        with pytest.raises(StoreError, match="interrupted"):
            fold(rows, now)
        connection.execute("ROLLBACK")  # what SQLite does by itself after the worse of its errors

    with pytest.raises(StoreError, match="interrupted"):
        await store.transact(fold)
    with pytest.raises(StoreError, match="ended inside its fold"):
        await store.transact(catching)
    assert await store.read(Range(EVENT, "key")) == [[]]
    assert await store.transact(count) == 2


async def test_a_damaged_file_is_called_damaged(path: Path) -> None:
    store = await SqliteStore.open(path, "default", SHORT)
    await store.fill((EVENT, event(number, data="x" * 500)) for number in range(1, 500))
    await store.close()
    with path.open("r+b") as file:
        file.seek(4096)
        file.write(b"\xff" * (path.stat().st_size - 4096))
    with pytest.raises(StoreError, match="damaged") as caught:
        await opened_and_closed(path)
    assert caught.value.damaged


async def test_the_private_call_of_aiosqlite_is_still_there() -> None:
    """When this fails, aiosqlite has changed: look at `autogen_coord.stores.sqlite.thread`, and at the pin in pyproject."""
    thread = await DatabaseThread.open(lambda: sqlite3.connect(":memory:"))
    assert await thread.run(lambda one, two: one + two, 1, 2) == 3
    with pytest.raises(KeyError):
        await thread.run({}.__getitem__, 1)
    await thread.close()


# the clock


class Machine:
    """A machine's clocks, turned by hand."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.boot: str | None = "boot-1"
        self.uptime = 100.0
        self.wall = 1_000_000.0
        monkeypatch.setattr(clock, "boot_id", lambda: self.boot)
        monkeypatch.setattr(clock, "since_boot", lambda: self.uptime)
        monkeypatch.setattr(clock, "wall", lambda: self.wall)


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> Machine:
    return Machine(monkeypatch)


async def test_a_stepped_wall_clock_changes_nothing(path: Path, machine: Machine) -> None:
    one = await SqliteStore.open(path, "default", SHORT)
    assert await one.now() == 1_000_000.0
    machine.wall, machine.uptime = 5.0, 110.0
    other = await SqliteStore.open(path, "other", SHORT)
    assert await one.now() == await other.now() == 1_000_010.0
    assert await other.transact(lambda rows, now: now) == one.transact_blocking(lambda rows, now: now) == 1_000_010.0
    machine.wall = 9e9
    assert await one.now() == 1_000_010.0
    await one.close()
    await other.close()


async def test_a_new_boot_takes_the_wall_clock_but_never_an_earlier_time(path: Path, machine: Machine) -> None:
    store = await SqliteStore.open(path, "default", SHORT)
    machine.uptime += 50
    await store.close()
    machine.boot, machine.uptime, machine.wall = "boot-2", 3.0, 7.0
    store = await SqliteStore.open(path, "default", SHORT)
    assert await store.now() == 1_000_050.0
    await store.close()
    machine.boot, machine.wall = "boot-3", 2_000_000.0
    store = await SqliteStore.open(path, "default", SHORT)
    assert await store.now() == 2_000_000.0
    await store.close()


async def test_the_newest_events_of_all_namespaces_bound_a_new_boot(path: Path, machine: Machine) -> None:
    for space, at in (("a", 1_000_100.0), ("b", 1_000_900.0), ("c", 1_000_200.0)):
        store = await SqliteStore.open(path, space, SHORT)
        await store.fill([(EVENT, event(1, at=5e9)), (EVENT, event(2, at=at))])
        await store.close()
    machine.boot, machine.wall = "boot-2", 7.0
    store = await SqliteStore.open(path, "d", SHORT)
    assert await store.now() == 1_000_900.0
    await store.close()


async def test_without_a_boot_clock_the_wall_clock_never_runs_back(path: Path, machine: Machine) -> None:
    machine.boot = None
    for wall, shown in ((1_000_000.0, 1_000_000.0), (5.0, 1_000_000.0), (1_000_001.0, 1_000_001.0)):
        machine.wall = wall
        store = await SqliteStore.open(path, "default", SHORT)
        assert await store.now() == shown
        machine.wall -= 1
        assert await store.now() == shown
        await store.close()


# processes


@pytest.mark.process
@pytest.mark.timeout(60)
async def test_a_process_stopped_inside_its_transaction_freezes_the_others_for_a_bound(store: SqliteStore) -> None:
    async with started("hold", store.path) as child:
        assert [await child.line(), await child.line()] == ["open", "inside"]
        os.kill(child.process.pid, signal.SIGSTOP)
        before = time.monotonic()
        with pytest.raises(StoreUnavailableError, match="continue or kill it"):
            await store.transact(count)
        with pytest.raises(StoreUnavailableError, match="gate2"):
            await asyncio.to_thread(store.transact_blocking, count)
        assert time.monotonic() - before < 10
        assert await value(store) == 0
        os.kill(child.process.pid, signal.SIGCONT)
        await child.tell("go")
        assert await child.line() == "1"
        assert await store.transact(count) == 2
        await child.end()


@pytest.mark.process
@pytest.mark.timeout(60)
async def test_a_process_killed_inside_its_transaction_leaves_nothing_behind(store: SqliteStore) -> None:
    async with started("hold", store.path) as child:
        assert [await child.line(), await child.line()] == ["open", "inside"]
        child.process.kill()
        await child.process.wait()
    assert await store.transact(count) == 1


@pytest.mark.process
@pytest.mark.timeout(60)
async def test_what_a_killed_process_was_acknowledged_is_there(store: SqliteStore) -> None:
    async with started("commit", store.path) as child:
        assert await child.line() == "open"
        for _ in range(20):
            acknowledged = int(await child.line())
        child.process.kill()
        # The last line may be cut short by the kill: a smaller number then.
        acknowledged = max(acknowledged, *map(int, await child.rest()), 0)
    assert await value(store) >= acknowledged >= 20


@pytest.mark.process
@pytest.mark.timeout(60)
async def test_a_child_of_a_fork_is_refused_at_once_and_the_parent_goes_on(path: Path) -> None:
    async with started("fork", str(path)) as child:
        assert await child.end() == ["0", "4", "5"]
    assert sql(path, "PRAGMA integrity_check") == [("ok",)]


@pytest.mark.process
@pytest.mark.timeout(60)
async def test_a_store_that_nobody_closed_does_not_keep_its_process(path: Path) -> None:
    async with started("leave", str(path)) as child:
        assert await child.end() == ["open", "1"]
