"""A restore makes a store of a backup: another incarnation, in the place of what was there, or nothing at all."""

from __future__ import annotations

import asyncio
import os
import random
import signal
import sqlite3
import stat
import sys
import time
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from autogen_coord import Coordination, Settings, TaskContext, capability
from autogen_coord.core.incarnation import BeginAnew, Begun
from autogen_coord.core.lock_queue import INCARNATION, TOKENS
from autogen_coord.core.locks import Guard, require_cover
from autogen_coord.errors import ConfigError, LeaseLostError, SchemaVersionError, StoreError, StoreUnavailableError
from autogen_coord.stores.sqlite import backup as backing_up
from autogen_coord.stores.sqlite import restore as restoring
from autogen_coord.stores.sqlite.backup import DIGEST, backup
from autogen_coord.stores.sqlite.draft import Draft
from autogen_coord.stores.sqlite.restore import KEPT, restore
from autogen_coord.stores.sqlite.store import SqliteStore
from tests.integration.processes import ROOT, Child, started
from tests.integration.test_backup import SEED, WORKER, commits_in, files_in, sql, steps_until_done, written
from tests.integration.test_store_faults import folder_of_nobody as folder_of_nobody
from tests.integration.workers.backup_process import write_once

FAST = Settings(beat=0.1, suspect_after=0.3, session_ttl=0.5, trust_margin=0.1, store_wait=5.0)
INCARNATIONS = f"SELECT namespace, value FROM counter WHERE name = '{INCARNATION}' ORDER BY namespace"


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "coord.db"


@pytest.fixture
def kept(tmp_path: Path) -> Path:
    """Where the backup is."""
    (tmp_path / "kept").mkdir()
    return tmp_path / "kept" / "coord.backup"


def again(kept: Path, path: Path, force: bool = False) -> restoring.Restored:
    return restore(str(kept), str(path), FAST, force=force)


def incarnation(path: Path, namespace: str = "default") -> int:
    return int(dict(sql(path, INCARNATIONS))[namespace])


async def token(path: Path, lock: str = "r", namespace: str = "default") -> int:
    async with Coordination.open(path, namespace=namespace, settings=FAST) as coord, coord.lock(lock) as lease:
        return lease.token


# what comes back


def test_it_has_all_of_the_backup_and_keeps_what_was_there(path: Path, kept: Path) -> None:
    backup(str(written(path)), str(kept))
    written(path)
    made = again(kept, path)
    assert commits_in(path) == 5
    assert made.kept is not None
    assert commits_in(Path(made.kept)) == 10
    assert Path(made.kept).name.startswith("coord.db" + KEPT)
    assert files_in(path.parent) == ["coord.db", "coord.db-gate1", "coord.db-gate2", Path(made.kept).name, "kept"]
    assert (made.path, made.namespaces, made.sessions) == (str(path), ("default",), 0)
    assert sql(path, "PRAGMA journal_mode") == [("wal",)]
    written(path)
    assert commits_in(path) == 10


def test_where_nothing_was_there_is_nothing_to_keep(path: Path, kept: Path, tmp_path: Path) -> None:
    backup(str(written(path)), str(kept))
    new = tmp_path / "new.db"
    assert again(kept, new).kept is None
    assert commits_in(new) == 5
    assert files_in(kept.parent) == ["coord.backup", "coord.backup" + DIGEST]


def test_a_store_is_moved_by_restoring_it_elsewhere(path: Path, tmp_path: Path) -> None:
    moved = tmp_path / "moved.db"
    again(written(path), moved)
    assert commits_in(moved) == 5
    assert incarnation(moved) > time.time() // 60


def test_every_namespace_begins_anew(path: Path, kept: Path) -> None:
    asyncio.run(token(path, namespace="a"))
    asyncio.run(token(path, namespace="b"))
    backup(str(path), str(kept))
    asyncio.run(token(path, namespace="later"))
    before = dict(sql(path, INCARNATIONS))
    assert again(kept, path).namespaces == ("a", "b", "later")
    after = dict(sql(path, INCARNATIONS))
    assert all(after[name] > before[name] for name in ("a", "b", "later"))
    assert asyncio.run(token(path, namespace="later")) >> TOKENS == after["later"]


def test_again_and_again_within_a_minute_each_is_another(path: Path, kept: Path) -> None:
    asyncio.run(token(path))
    backup(str(path), str(kept))
    found = [asyncio.run(token(path))]
    for _ in range(3):
        again(kept, path)
        found.append(asyncio.run(token(path)))
    assert found == sorted(set(found))
    assert len({each >> TOKENS for each in found}) == 4


async def test_a_token_of_before_is_refused_and_the_new_are_greater(path: Path, kept: Path, tmp_path: Path) -> None:
    other = tmp_path / "other.db"
    async with Coordination.open(path, settings=FAST) as original:
        async with original.lock("r") as lease:
            await original.backup(kept)
            await asyncio.to_thread(again, kept, other)
            late = max([await late_token(original) for _ in range(20)])
            store = await SqliteStore.open(other, "default", FAST)
            async with Coordination.open(other, settings=FAST) as copy, copy.lock("r", wait=5) as new:
                assert new.token > late > lease.token
                ((id, session, stored),) = sql(other, f"SELECT id, session, path FROM lock_held WHERE token = {new.token}")
                await store.transact(lambda rows, now: require_cover(rows, Guard(id, session, new.token, (stored,)), stored, "X"))
                for given in (lease.token, late):
                    guard = Guard(id, session, given, (stored,))
                    with pytest.raises(LeaseLostError, match="before it was restored"):
                        await store.transact(lambda rows, now, guard=guard: require_cover(rows, guard, stored, "X"))  # type: ignore[misc]
            await store.close()


async def late_token(coord: Coordination) -> int:
    async with coord.lock("late") as lease:
        return lease.token


def test_a_restore_that_forgets_the_incarnation_would_be_seen(path: Path, kept: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The fault planted: then tokens repeat, which the tests above refuse."""
    asyncio.run(token(path))
    backup(str(path), str(kept))
    old = asyncio.run(token(path))

    def forgets(rows: Any, command: BeginAnew, now: float, policy: Settings) -> Begun:
        return Begun(0, 0)

    monkeypatch.setattr(restoring, "begin_anew", forgets)
    again(kept, path)
    assert asyncio.run(token(path)) == old


@capability
async def halt(name: str, ctx: TaskContext) -> str:
    if ctx.attempt == 1:
        running.set()
        await asyncio.Event().wait()
    return f"{name} in attempt {ctx.attempt}"


running = asyncio.Event()


async def test_what_ran_when_it_was_copied_runs_again_at_once_and_the_old_result_is_refused(
    path: Path, kept: Path, tmp_path: Path
) -> None:
    running.clear()
    other = tmp_path / "other.db"
    lasting = Settings(beat=100, suspect_after=2000, session_ttl=3000, trust_margin=1)  # nobody may be declared dead here
    async with Coordination.open(path, settings=lasting) as original:
        await original.provide(halt)
        handle = await original.submit(halt, "x", key="k")
        await running.wait()
        async with original.lock("held"):
            await original.backup(kept)
        assert (await asyncio.to_thread(again, kept, other)).sessions == 1
        async with Coordination.open(other, settings=lasting) as copy:
            await copy.provide(halt)
            assert await copy.handle(handle.id, str).result(timeout=10) == "x in attempt 2"
            async with copy.lock("held"):
                pass
            info = await copy.task(handle.id)
            assert [each.number for each in info.attempts] == [1, 2]
        await original.cancel(handle.id)


# what is no backup


@pytest.mark.parametrize("size", [0, 1, 100, 4096, 0.5, -1])
def test_a_backup_that_was_cut_off_is_refused_and_nothing_is_changed(size: float, path: Path, kept: Path) -> None:
    backup(str(written(path, 300)), str(kept))
    whole = kept.stat().st_size
    os.truncate(kept, int(whole * size) if size == 0.5 else whole - 1 if size < 0 else int(size))
    refused(kept, path, "empty" if size == 0 else "damaged.*use another backup")
    kept.with_name(kept.name + DIGEST).unlink()  # and without its digest
    refused(kept, path, "empty" if size == 0 else "damaged|another program|nothing in it")


def refused(kept: Path, path: Path, says: str) -> None:
    """By an error that says so, with everything as it was."""
    before, there = path.read_bytes(), {*files_in(path.parent)}
    with pytest.raises((StoreError, ConfigError), match=says) as caught:
        again(kept, path)
    assert "\n" not in str(caught.value)
    assert path.read_bytes() == before
    # SQLite, when it only looks at a file, leaves an empty log there
    assert {*files_in(path.parent)} - {"coord.db-wal", "coord.db-shm"} == there - {"coord.db-wal", "coord.db-shm"}


def test_one_flipped_bit_anywhere_is_seen(path: Path, kept: Path) -> None:
    backup(str(written(path, 50)), str(kept))
    body, draw = kept.read_bytes(), random.Random(SEED)
    for _ in range(40):
        place = draw.randrange(len(body))
        kept.write_bytes(body[:place] + bytes([body[place] ^ 1 << draw.randrange(8)]) + body[place + 1 :])
        refused(kept, path, r"damaged: it is not what .*\.sha256 says")
    kept.write_bytes(body)
    again(kept, path)


def test_without_its_digest_a_damaged_one_is_refused_or_whole_as_a_store(path: Path, kept: Path, tmp_path: Path) -> None:
    """SQLite sees what breaks its structure; whatever it lets pass, no other error than ours comes out."""
    backup(str(written(path, 50)), str(kept))
    kept.with_name(kept.name + DIGEST).unlink()
    body, draw, seen = kept.read_bytes(), random.Random(SEED), 0
    for n in range(60):
        page = draw.randrange(len(body) // 4096) * 4096
        start = page + draw.choice([0, draw.randrange(4096)])
        noise = draw.randbytes(draw.choice([1, 8, 200]))
        kept.write_bytes((body[:start] + noise + body[start + len(noise) :])[: len(body)])
        try:
            again(kept, tmp_path / f"new-{n}.db")
        except (StoreError, ConfigError):
            seen += 1
            assert not (tmp_path / f"new-{n}.db").exists()
    assert seen > 20


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("CREATE TABLE songs (name TEXT)", "another program"),
        ("PRAGMA application_id = 77", "another program"),
        ("VACUUM", "nothing in it|empty"),
    ],
)
def test_a_file_of_another_program_is_no_backup(text: str, says: str, path: Path, kept: Path) -> None:
    written(path)
    sql(kept, text)
    if not kept.exists():
        kept.touch()
    refused(kept, path, says)


def test_a_text_a_folder_and_nothing_are_no_backups(path: Path, kept: Path) -> None:
    written(path)
    refused(kept, path, "there is no such file")
    refused(kept.parent, path, "there is no such file")
    kept.write_text("my diary\n" * 1000)
    refused(kept, path, "damaged")


@pytest.mark.parametrize(
    ("row", "says"), [("(9, 9, 9, 0.0)", "too new.*pip install --upgrade"), ("(9, 0, 0, 0.0)", "too old.*copy it, run .*migrate")]
)
def test_a_backup_of_another_schema_says_what_to_do(row: str, says: str, path: Path, kept: Path) -> None:
    sql(written(path), f"INSERT INTO schema_version (version, oldest, newest, at) VALUES {row}")
    backup(str(path), str(kept))
    sql(path, "DELETE FROM schema_version WHERE version = 9")
    with pytest.raises(SchemaVersionError, match=says) as caught:
        again(kept, path)
    assert caught.value.version == 9
    assert commits_in(path) == 5


# targets that may not be


def test_a_backup_is_not_restored_onto_itself(path: Path, kept: Path) -> None:
    os.link(written(path), kept)
    for source in (path, kept):
        with pytest.raises(ConfigError, match="is the store"):
            again(source, path)


@pytest.mark.parametrize("text", ["CREATE TABLE songs (name TEXT)", None])
def test_a_file_of_another_program_is_not_replaced_even_by_force(text: str | None, path: Path, kept: Path, tmp_path: Path) -> None:
    backup(str(written(path)), str(kept))
    other = tmp_path / "songs.db"
    other.write_text("my diary") if text is None else sql(other, text)
    before = other.read_bytes()
    with pytest.raises(ConfigError, match=r"another program|not an SQLite file"):
        again(kept, other, force=True)
    assert other.read_bytes() == before


async def test_a_store_that_is_open_is_refused_and_goes_on(path: Path, kept: Path) -> None:
    store = await SqliteStore.open(path, "default", FAST)
    await store.transact(write_once)
    await asyncio.to_thread(backup, str(path), str(kept))
    with pytest.raises(StoreUnavailableError, match=r"another process has it open.*--force"):
        await asyncio.to_thread(again, kept, path)
    assert await store.transact(write_once) == 2
    await store.close()
    assert commits_in(path) == 2
    await asyncio.to_thread(again, kept, path)
    assert commits_in(path) == 1


@pytest.mark.process
@pytest.mark.timeout(60)
async def test_a_store_whose_process_was_killed_just_now_wants_force(path: Path, kept: Path) -> None:
    async with started("open", str(path), WORKER) as child:
        assert await child.line() == "open"
        child.process.kill()
        await child.process.wait()
    await asyncio.to_thread(backup, str(path), str(kept))
    with pytest.raises(StoreUnavailableError, match=r"1 of its sessions may be alive"):
        await asyncio.to_thread(again, kept, path)
    assert (await asyncio.to_thread(again, kept, path, True)).sessions == 1
    states = sql(path, "SELECT state FROM session")
    assert states == [("dead",)]


@pytest.mark.process
@pytest.mark.timeout(60)
async def test_by_force_the_old_processes_write_nothing_more_and_harm_nothing(path: Path, kept: Path) -> None:
    await asyncio.to_thread(written, path, 50)
    await asyncio.to_thread(backup, str(path), str(kept))
    async with started("write-on", str(path), WORKER) as child:
        assert int(await child.line()) > 50
        made = await asyncio.to_thread(again, kept, path, True)
        assert made.kept is not None
        assert not path.with_name("coord.db-wal").exists()  # the old one's is still open, and must not be taken for the new one's
        assert not path.with_name("coord.db-shm").exists()
        lines = []
        while (line := await child.line()) != "refused":
            lines.append(int(line))
        in_old = commits_in(Path(made.kept))
        assert not lines or in_old >= lines[-1]  # what was acknowledged is in the file that was kept
        await asyncio.to_thread(written, path, 5)
        assert commits_in(path) == 55
        reader = sqlite3.connect(path)  # keeps the new log there while the old process closes its files
        reader.execute("SELECT count(*) FROM event").fetchone()
        await asyncio.to_thread(written, path, 5)
        await child.end()
        assert reader.execute("SELECT value FROM counter WHERE name = 'n'").fetchone() == (60,)
        reader.close()
    assert commits_in(path) == 60


def test_a_damaged_store_is_replaced_by_force_and_kept_with_its_log(path: Path, kept: Path) -> None:
    backup(str(written(path, 50)), str(kept))
    body = bytearray(path.read_bytes())
    body[100:108] = b"\xff" * 8  # the root of its schema
    path.write_bytes(body)
    with pytest.raises(StoreUnavailableError, match=r"it is damaged.*--force"):
        again(kept, path)
    assert path.read_bytes() == body
    made = again(kept, path, force=True)
    assert made.kept is not None
    assert Path(made.kept).read_bytes() == body
    assert commits_in(path) == 50


def test_rights_are_those_of_what_was_there_and_never_too_few(path: Path, kept: Path, tmp_path: Path) -> None:
    written(path).chmod(0o660)
    backup(str(path), str(kept))
    kept.chmod(0o400)
    again(kept, path)
    assert stat.S_IMODE(path.stat().st_mode) == 0o660
    again(kept, tmp_path / "new.db")
    assert stat.S_IMODE((tmp_path / "new.db").stat().st_mode) == 0o600


def test_a_folder_that_is_not_ours_to_write_is_refused(path: Path, folder_of_nobody: Path) -> None:
    store = written(folder_of_nobody / "coord.db")
    place = folder_of_nobody / "place"
    place.mkdir(mode=0o500)
    with pytest.raises(ConfigError, match="is read-only for us"):
        again(store, place / "new.db")
    store.chmod(0o000)
    place.chmod(0o700)
    with pytest.raises((ConfigError, StoreError)):
        again(store, place / "new.db")
    assert files_in(place) == []


def test_a_full_disk_changes_nothing(path: Path, kept: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    backup(str(written(path, 300)), str(kept))
    real = backing_up.connect_draft

    def tight(draft: Draft) -> sqlite3.Connection:
        connection = real(draft)
        connection.execute("PRAGMA max_page_count = 10")
        return connection

    with monkeypatch.context() as patched:
        patched.setattr(backing_up, "connect_draft", tight)
        refused(kept, path, "free some space")
    again(kept, path)


# whoever opens it meanwhile, and kills


async def test_who_opens_the_store_while_it_is_replaced_gets_the_new_one_or_an_error(
    path: Path, kept: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    await asyncio.to_thread(written, path)
    await asyncio.to_thread(backup, str(path), str(kept))
    loop, connected = asyncio.get_running_loop(), asyncio.Event()
    opening: list[asyncio.Task[SqliteStore]] = []
    real = restoring._begin_anew

    def begin(*args: Any) -> Any:
        # the old file was looked at, and we are behind its gate: now another opens it
        loop.call_soon_threadsafe(lambda: opening.append(asyncio.create_task(SqliteStore.open(path, "default", FAST))))
        loop.call_soon_threadsafe(loop.call_later, 0.2, connected.set)
        asyncio.run_coroutine_threadsafe(connected.wait(), loop).result(10)
        return real(*args)

    monkeypatch.setattr(restoring, "_begin_anew", begin)
    made = await asyncio.to_thread(again, kept, path)
    with pytest.raises(StoreError, match="deleted or replaced"):
        await opening[0]
    store = await SqliteStore.open(path, "default", FAST)
    assert await store.transact(write_once) == 6
    await store.close()
    assert made.kept is not None
    assert (commits_in(path), commits_in(Path(made.kept))) == (6, 5)


@pytest.mark.process
@pytest.mark.timeout(60)
def test_killed_at_any_step_the_store_is_the_old_one_or_the_new_one(path: Path, kept: Path) -> None:
    written(path, 7)
    sql(path, f"INSERT INTO counter (namespace, name, value) VALUES ('default', '{INCARNATION}', 1)")
    backup(str(path), str(kept))
    written(path, 4)
    steps, found, twice = 0, set(), 0
    for _ in steps_until_done("restore", kept, path):
        steps += 1
        count = commits_in(path)
        found.add(count)
        assert count in (7, 11)
        twice += path.stat().st_nlink == 2
        if count == 7 or path.stat().st_nlink == 2:
            last = incarnation(path)
            again(kept, path, force=True)
            assert incarnation(path) > last
            for old in path.parent.glob(f"*{KEPT}*"):
                assert old.stat().st_nlink == 1  # a store with two names has two logs
                old.unlink()
            written(path, 4)
    assert (found, twice > 0) == ({7, 11}, True)
    assert steps > 5
    assert [name for name in files_in(path.parent) if name.endswith(".part")] == []


@pytest.mark.process
@pytest.mark.timeout(60)
async def test_killed_at_random_the_store_is_whole(path: Path, kept: Path) -> None:
    draw = random.Random(SEED)
    await asyncio.to_thread(written, path, 200)
    await asyncio.to_thread(backup, str(path), str(kept))
    for _ in range(10):
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", WORKER, "restore", str(kept), str(path)), cwd=ROOT, stdout=asyncio.subprocess.PIPE
        )
        child = Child(process)
        for _ in range(2):
            assert await child.line() == "begins"
        await asyncio.sleep(draw.random() * 0.05)
        process.send_signal(signal.SIGKILL)
        await process.communicate()
        with closing(sqlite3.connect(path)) as connection:
            assert connection.execute("PRAGMA quick_check").fetchone() == ("ok",)
        assert commits_in(path) == 200
    await asyncio.to_thread(again, kept, path, True)
    assert [name for name in files_in(path.parent) if name.endswith(".part")] == []
