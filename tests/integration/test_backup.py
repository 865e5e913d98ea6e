"""A backup while the store is in use: whole, of one moment, whoever writes and whoever is killed."""

from __future__ import annotations

import asyncio
import errno
import hashlib
import os
import random
import sqlite3
import stat
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, closing
from pathlib import Path
from typing import Any

import pytest

from autogen_coord import Coordination
from autogen_coord.errors import ClosedError, ConfigError, StoreError, StoreUnavailableError
from autogen_coord.settings import Settings
from autogen_coord.stores import Backup
from autogen_coord.stores.sqlite import backup as backing_up
from autogen_coord.stores.sqlite.backup import DIGEST, backup
from autogen_coord.stores.sqlite.draft import Draft
from autogen_coord.stores.sqlite.store import SqliteStore
from tests.integration.processes import ROOT, Child, started
from tests.integration.test_store_faults import folder_of_nobody as folder_of_nobody
from tests.integration.workers.backup_process import EVENTS, write_once

WORKER = "tests.integration.workers.backup_process"
SEED = int(os.environ.get("BACKUP_SEED", "1"))


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "coord.db"


@pytest.fixture
def target(tmp_path: Path) -> Path:
    (tmp_path / "kept").mkdir()
    return tmp_path / "kept" / "coord.backup"


def written(path: Path, times: int = 5) -> Path:
    """A store with so many commits in it, closed."""

    async def write() -> None:
        store = await SqliteStore.open(path, "default", Settings())
        for _ in range(times):
            await store.transact(write_once)
        await store.close()

    asyncio.run(write())
    return path


def sql(path: Path, text: str) -> list[Any]:
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        return connection.execute(text).fetchall()


def commits_in(path: Path) -> int:
    """How many commits of the writers are in a file; each is there whole or not at all."""
    with closing(sqlite3.connect(f"{path.as_uri()}?mode=rw", uri=True)) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        counters = dict(connection.execute("SELECT name, value FROM counter").fetchall())
        numbers = [number for (number,) in connection.execute("SELECT number FROM event ORDER BY number")]
    assert numbers == list(range(1, counters["event"] + 1))
    assert len(numbers) == EVENTS * counters["n"]
    return int(counters["n"])


def files_in(folder: Path) -> list[str]:
    return sorted(file.name for file in folder.iterdir())


def is_as_noted(path: Path) -> bool:
    return hashlib.sha256(path.read_bytes()).hexdigest() == path.with_name(path.name + DIGEST).read_text().split()[0]


@asynccontextmanager
async def writers(path: Path, number: int) -> AsyncIterator[list[Child]]:
    async with started("write", str(path), WORKER) as first:
        if number == 1:
            yield [first]
        else:
            async with writers(path, number - 1) as others:
                yield [first, *others]


def committed(path: Path) -> int:
    """How many commits there are by now: those that were acknowledged, and perhaps some more."""
    ((number,),) = sql(path, "SELECT value FROM counter WHERE name = 'n'")
    return int(number)


# while it is in use


@pytest.mark.process
@pytest.mark.timeout(60)
async def test_a_copy_has_all_that_was_acknowledged_before_and_nothing_in_part(path: Path, target: Path) -> None:
    await asyncio.to_thread(written, path, 400)
    found = []
    async with writers(path, 2) as children:
        for child in children:
            assert await child.line()
        for _ in range(6):
            before = committed(path)
            made = await asyncio.to_thread(backup, str(path), str(target), replace=True)
            found.append(commits_in(target))
            assert found[-1] >= before
            assert made.rows > EVENTS * found[-1]
            assert is_as_noted(target)
            assert made.sha256 == hashlib.sha256(target.read_bytes()).hexdigest()
        for child in children:
            await child.end()
    assert found == sorted(set(found))  # they did write meanwhile
    assert found[-1] <= commits_in(path)
    assert files_in(target.parent) == ["coord.backup", "coord.backup" + DIGEST]


async def test_a_coordination_backs_up_the_store_it_has_open(path: Path, target: Path) -> None:
    async with Coordination.open(path) as coord:
        made = await coord.backup(target)
        assert isinstance(made, Backup)
        assert (made.path, made.namespaces, made.size) == (str(target), ("default",), target.stat().st_size)
        with pytest.raises(ConfigError, match="there is a file already"):
            await coord.backup(target)
        await coord.backup(target, replace=True)
        async with coord.lock("still/there"):  # the copy took no locks of ours away
            pass
    with pytest.raises(ClosedError):
        await coord.backup(target, replace=True)
    async with Coordination.open("dict://") as coord:
        with pytest.raises(ConfigError, match="only a store in a file"):
            await coord.backup(target)


async def test_one_that_is_cancelled_leaves_nothing(path: Path, target: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    begun, real = asyncio.Event(), Draft.flush
    loop = asyncio.get_running_loop()

    def flush(draft: Draft) -> None:
        loop.call_soon_threadsafe(begun.set)
        real(draft)

    monkeypatch.setattr(backing_up, "PAGES", 1)
    monkeypatch.setattr(Draft, "flush", flush)
    async with Coordination.open(path) as coord:
        work = asyncio.create_task(coord.backup(target))
        await begun.wait()
        work.cancel()
        with pytest.raises(asyncio.CancelledError):
            await work
    assert files_in(target.parent) == []


def test_a_store_of_another_schema_is_backed_up_too(path: Path, target: Path) -> None:
    sql(written(path), "INSERT INTO schema_version (version, oldest, newest, at) VALUES (99, 99, 99, 0)")
    assert backup(str(path), str(target)).schema == 99


def test_the_copy_is_one_file_with_the_rights_of_the_store(path: Path, target: Path) -> None:
    written(path).chmod(0o600)
    backup(str(path), str(target))
    assert stat.S_IMODE(target.stat().st_mode) == 0o600
    assert sql(target, "PRAGMA journal_mode") == [("delete",)]
    assert files_in(target.parent) == ["coord.backup", "coord.backup" + DIGEST]


# targets that cannot be


@pytest.mark.parametrize("side", ["", "-wal", "-shm", "-journal", "-gate1"])
def test_the_store_itself_and_what_belongs_to_it_are_no_targets(side: str, path: Path) -> None:
    before = written(path).read_bytes()
    with pytest.raises(ConfigError, match="the store itself"):
        backup(str(path), f"{path}{side}", replace=True)
    assert path.read_bytes() == before


@pytest.mark.parametrize("make", [os.link, os.symlink])
def test_another_name_of_the_store_is_no_target(make: Any, path: Path, target: Path) -> None:
    make(written(path), target)
    with pytest.raises(ConfigError, match="the store itself"):
        backup(str(path), str(target), replace=True)
    assert commits_in(path) == 5


def test_what_is_there_is_replaced_only_when_that_is_meant(path: Path, target: Path) -> None:
    written(path)
    target.write_text("my diary")
    with pytest.raises(ConfigError, match="there is a file already"):
        backup(str(path), str(target))
    assert target.read_text() == "my diary"
    assert files_in(target.parent) == ["coord.backup"]
    backup(str(path), str(target), replace=True)
    assert commits_in(target) == 5


def test_a_file_that_comes_meanwhile_is_not_replaced(path: Path, target: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = Draft.digest

    def digest(draft: Draft) -> str:
        target.write_text("my diary")
        return real(draft)

    monkeypatch.setattr(Draft, "digest", digest)
    with pytest.raises(ConfigError, match="by now"):
        backup(str(written(path)), str(target))
    assert target.read_text() == "my diary"
    assert files_in(target.parent) == ["coord.backup"]


async def test_another_store_in_use_is_no_target(path: Path, target: Path) -> None:
    await asyncio.to_thread(written, path)
    other = await SqliteStore.open(target, "default", Settings())
    with pytest.raises(ConfigError, match="in use"):
        backup(str(path), str(target), replace=True)
    assert await other.transact(write_once) == 1
    await other.close()


@pytest.mark.parametrize(
    ("name", "says"), [("", "a file is wanted"), (".", "is a folder"), ("no/where", "create it first"), ("pipe", "no.* plain file")]
)
def test_a_target_that_cannot_be_a_file_says_so(name: str, says: str, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(path.parent)
    os.mkfifo(path.parent / "pipe")
    written(path)
    with pytest.raises(ConfigError, match=says.replace("no.*", "not a")):
        backup(str(path), name, replace=True)


def test_a_folder_that_is_not_ours_to_write_is_refused(path: Path, folder_of_nobody: Path) -> None:
    store = written(folder_of_nobody / "coord.db")
    kept = folder_of_nobody / "kept"
    kept.mkdir(mode=0o500)
    with pytest.raises(ConfigError, match="read-only for us"):
        backup(str(store), str(kept / "b"))
    kept.chmod(0o700)
    backup(str(store), str(kept / "b"))


# sources that cannot be


def test_a_source_that_is_no_store_makes_no_backup(path: Path, target: Path) -> None:
    with pytest.raises(ConfigError, match="there is no such store"):
        backup(str(path), str(target))
    path.touch()
    with pytest.raises(ConfigError, match="there is no such store"):
        backup(str(path), str(target))
    sql(path, "CREATE TABLE songs (name TEXT)")
    with pytest.raises(ConfigError, match="another program"):
        backup(str(path), str(target))
    path.write_text("my diary")
    with pytest.raises(ConfigError, match="not an SQLite file"):
        backup(str(path), str(target))
    assert files_in(target.parent) == []


def test_a_damaged_source_is_not_backed_up_as_if_it_were_whole(path: Path, target: Path) -> None:
    body = bytearray(written(path, 300).read_bytes())
    page = 4096 * 20
    body[page : page + 4096] = os.urandom(4096)
    path.write_bytes(body)
    with pytest.raises(StoreError, match=r"coord\.db.*damaged") as caught:
        backup(str(path), str(target))
    assert caught.value.damaged
    assert files_in(target.parent) == []


def test_a_source_that_is_held_is_waited_for_so_long(path: Path, target: Path) -> None:
    sql(written(path), "PRAGMA journal_mode = DELETE")
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN EXCLUSIVE")
        with pytest.raises(StoreUnavailableError, match="another program"):
            backup(str(path), str(target), wait=0.05)
    assert files_in(target.parent) == []
    assert backup(str(path), str(target)).rows


# a full disk, and kills


def test_a_full_disk_leaves_nothing(path: Path, target: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = backing_up.connect_draft

    def tight(draft: Draft) -> sqlite3.Connection:
        connection = real(draft)
        connection.execute("PRAGMA max_page_count = 10")
        return connection

    target.write_text("an older backup")
    with monkeypatch.context() as patched:
        patched.setattr(backing_up, "connect_draft", tight)
        with pytest.raises(StoreError, match="full") as caught:
            backup(str(written(path, 300)), str(target), replace=True)
    assert caught.value.full
    assert target.read_text() == "an older backup"
    assert files_in(target.parent) == ["coord.backup"]
    backup(str(path), str(target), replace=True)


def test_a_file_that_may_not_grow_leaves_nothing(path: Path, target: Path) -> None:
    """The file system says no; in a process of its own: its limit stays."""
    script = (
        "import resource, signal, sys; signal.signal(signal.SIGXFSZ, signal.SIG_IGN);"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 16, 1 << 16));"
        "from autogen_coord.stores.sqlite.backup import backup\n"
        "from autogen_coord.errors import StoreError\n"
        "try: backup(*sys.argv[1:])\n"
        "except StoreError as error: print('StoreError', error)"
    )
    command = [sys.executable, "-c", script, str(written(path, 300)), str(target)]
    said = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=20, check=True).stdout
    assert said.startswith("StoreError ")
    assert files_in(target.parent) == []


@pytest.mark.process
@pytest.mark.timeout(60)
def test_killed_at_any_step_it_leaves_the_old_one_or_the_new_one(path: Path, target: Path) -> None:
    written(path, 20)
    steps = 0
    for _ in steps_until_done("backup", path, target):
        steps += 1
        assert commits_in(target) == 20 if target.exists() else True
        backup(str(path), str(target), replace=True)
        assert is_as_noted(target)
        assert files_in(target.parent) == ["coord.backup", "coord.backup" + DIGEST]  # what the killed one left is swept away
    assert steps > 5


def steps_until_done(verb: str, source: Path, to: Path) -> Iterator[int]:
    """Run it in processes that die at its first, second, ... step; one round each, until it came to its end."""
    for number in range(1, 100):
        command = [sys.executable, "-m", WORKER, "die", str(number), verb, str(source), str(to)]
        ended = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=20)
        if ended.returncode == 0:
            assert ended.stdout == "done\n"
            return
        assert ended.returncode == 9, ended.stderr
        yield number


@pytest.mark.process
@pytest.mark.timeout(60)
async def test_killed_at_random_while_others_write_no_backup_is_broken(path: Path, target: Path) -> None:
    draw = random.Random(SEED)
    await asyncio.to_thread(written, path, 1000)
    async with writers(path, 1) as children:
        for _ in range(10):
            before = committed(path)
            process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-m", WORKER, "backup", str(path), str(target)), cwd=ROOT, stdout=asyncio.subprocess.PIPE
            )
            child = Child(process)
            for _ in range(2):
                assert await child.line() == "begins"
            await asyncio.sleep(draw.random() * 0.1)
            process.kill()
            await process.communicate()
            assert commits_in(target) >= before
        await children[0].end()
    backup(str(path), str(target), replace=True)
    assert files_in(target.parent) == ["coord.backup", "coord.backup" + DIGEST]


def test_a_draft_that_is_still_made_is_not_swept_away(target: Path) -> None:
    with Draft(str(target)) as first, Draft(str(target)) as second:
        assert os.path.exists(first.path)
        assert os.path.exists(second.path)
    assert files_in(target.parent) == []


@pytest.mark.parametrize("name", ["fsync", "chmod"])
def test_what_the_file_system_refuses_is_an_error_of_ours(
    name: str, path: Path, target: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(*args: Any, **more: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    written(path)
    with monkeypatch.context() as patched:
        patched.setattr(os, name, refused)
        with pytest.raises(StoreError, match="free some space") as caught:
            backup(str(path), str(target))
    assert caught.value.full
    assert files_in(target.parent) == []


def test_a_file_system_without_hard_links_will_do(path: Path, target: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(*args: Any, **more: Any) -> None:
        raise PermissionError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr(os, "link", refused)
    backup(str(written(path)), str(target))
    assert commits_in(target) == 5
