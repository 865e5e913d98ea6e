"""Fences: a smaller token than one seen writes nothing, in a file, in a row, behind an HTTP header; whoever comes when."""

from __future__ import annotations

import asyncio
import os
import random
import sqlite3
import stat
import subprocess
import sys
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from autogen_coord import ConfigError, ConflictError, Fence, FileFence, InvalidInputError, LeaseLostError, StoreUnavailableError
from autogen_coord.core.file_locks import open_lock, try_lock

NO_TOKENS: list[Any] = [0, -1, 1.0, True, None, "7", 1 << 63]


# in memory


def test_a_smaller_token_than_one_seen_is_refused_and_the_error_has_both() -> None:
    fence = Fence()
    fence.check(7)
    fence.check(7)
    with pytest.raises(LeaseLostError, match="token 5 is refused, 7 was seen") as refused:
        fence.check(5)
    assert (refused.value.token, refused.value.seen, fence.seen()) == (5, 7, 7)


def test_each_resource_has_its_own_tokens() -> None:
    fence = Fence({"a": 9})
    fence.check(3, "b")
    with pytest.raises(LeaseLostError, match=r"^a: "):
        fence.check(8, "a")
    assert [fence.seen(name) for name in ("a", "b", "c")] == [9, 3, 0]


def test_nobody_passes_a_resource_while_another_writes_there() -> None:
    fence, inside, go_on = Fence(), threading.Event(), threading.Event()

    def slow() -> None:
        with fence.guarded(1, "a"):
            inside.set()
            assert go_on.wait(5)

    with ThreadPoolExecutor(3) as pool:
        first = pool.submit(slow)
        assert inside.wait(5)
        fence.check(1, "b")  # another resource waits for nobody
        second = pool.submit(fence.check, 2, "a")
        assert not second.done()
        go_on.set()
        first.result(5)
        second.result(5)
    assert fence.seen("a") == 2


async def test_a_second_coroutine_that_comes_while_a_guard_is_held_over_an_await_is_refused_and_does_not_freeze_the_loop(
    tmp_path: Path,
) -> None:
    fence, file = Fence(), FileFence(tmp_path / "a")
    inside, go_on = asyncio.Event(), asyncio.Event()

    async def awaits() -> None:
        with fence.guarded(1, "a"), file.guarded(1):
            inside.set()
            await go_on.wait()

    first = asyncio.create_task(awaits())
    await inside.wait()
    with pytest.raises(ConflictError, match=r"^a: this thread is inside .*to_thread"):
        fence.check(2, "a")
    with pytest.raises(ConflictError, match="this thread is inside"):
        FileFence(tmp_path / "a").write("x", 2)
    fence.check(2, "b")
    FileFence(tmp_path / "b").write("x", 2)
    other = asyncio.create_task(asyncio.to_thread(file.write, "late", 2))  # another thread waits for its turn
    go_on.set()
    await asyncio.gather(first, other)
    fence.check(2, "a")
    assert (fence.seen("a"), file.seen, file.path.read_text()) == (2, 2, "late")


def test_a_guard_that_refuses_a_token_leaves_its_thread_outside(tmp_path: Path) -> None:
    for fence in (Fence({"": 5}), FileFence(tmp_path / "a")):
        fence.check(5)
        for _ in range(2):
            with pytest.raises(LeaseLostError):
                fence.check(4)
        fence.check(6)


def test_a_write_that_fails_leaves_its_token_seen_and_the_resource_free() -> None:
    fence = Fence()
    with pytest.raises(OSError, match="disk"), fence.guarded(4):
        raise OSError("disk")
    with pytest.raises(LeaseLostError):
        fence.check(3)
    fence.check(4)


@pytest.mark.parametrize("token", NO_TOKENS)
def test_what_is_no_token_is_refused_everywhere(token: Any, tmp_path: Path) -> None:
    for check in (Fence().check, FileFence(tmp_path / "a").check):
        with pytest.raises(InvalidInputError, match=r"lease\.token"):
            check(token)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("header", [None, "", "x", "-3", "1.5", "0", "٣", "9" * 21, str(1 << 63)])
def test_a_header_without_a_token_is_refused(header: str | None) -> None:
    with pytest.raises(InvalidInputError):
        Fence.token_of(header)


def test_a_header_is_read() -> None:
    assert Fence.token_of(" 4112170326786310145 ") == 4112170326786310145


# a file


def test_a_file_keeps_what_the_greatest_token_wrote(tmp_path: Path) -> None:
    path = tmp_path / "report.md"
    fence = FileFence(path)
    assert fence.seen == 0
    fence.write("one", 10)
    fence.write("two: ß", 10)
    with pytest.raises(LeaseLostError, match=r"report\.md: token 9") as refused:
        fence.write("late", 9)
    assert (refused.value.token, refused.value.seen) == (9, 10)
    assert path.read_text(encoding="utf-8") == "two: ß"
    FileFence(str(path)).write(b"\0three\r\n", 11)
    assert path.read_bytes() == b"\0three\r\n"
    assert fence.seen == 11


def test_the_token_outlives_the_fence_and_the_file(tmp_path: Path) -> None:
    path = tmp_path / "a"
    FileFence(path).write("x", 1 << 62)
    path.unlink()
    with pytest.raises(LeaseLostError):
        FileFence(path).write("late", (1 << 62) - 1)
    assert not path.exists()


def test_a_write_leaves_nothing_beside_but_the_fence_and_keeps_mode_and_link(tmp_path: Path) -> None:
    real = tmp_path / "real" / "script.sh"
    real.parent.mkdir()
    real.write_text("old")
    real.chmod(0o750)
    link = tmp_path / "link.sh"
    link.symlink_to(real)
    FileFence(link).write("new", 3)
    assert link.is_symlink()
    assert real.read_text() == "new"
    assert stat.S_IMODE(real.stat().st_mode) == 0o750
    assert sorted(path.name for path in real.parent.iterdir()) == [".script.sh.fence", "script.sh"]
    with pytest.raises(LeaseLostError):
        FileFence(real).write("late", 2)  # by either name it is one file


def test_a_write_that_fails_leaves_the_old_content_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a"
    fence = FileFence(path)
    fence.write("old", 1)

    def full(*paths: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", full)
    with pytest.raises(OSError, match="No space"):
        fence.write("new", 2)
    monkeypatch.undo()
    assert path.read_text() == "old"
    assert fence.seen == 2  # the newer holder was here: an older one is refused from now on
    with pytest.raises(LeaseLostError):
        fence.write("late", 1)
    fence.write("new", 2)
    assert path.read_text() == "new"


def test_a_change_in_place_is_alone_with_the_file(tmp_path: Path) -> None:
    path = tmp_path / "log"
    with FileFence(path).guarded(5), path.open("a") as file, ThreadPoolExecutor(1) as pool:
        with pytest.raises(StoreUnavailableError, match="another process is writing it"):
            pool.submit(FileFence(path, wait=0.01).write, "other", 6).result(5)
        file.write("line\n")
    assert path.read_text() == "line\n"
    FileFence(path, wait=0.01).write("other", 6)


def test_a_writer_that_was_stopped_inside_its_write_is_waited_for_not_passed(tmp_path: Path) -> None:
    path = tmp_path / "a"
    FileFence(path).write("old", 1)
    descriptor = open_lock(str(tmp_path / ".a.fence"))
    assert try_lock(descriptor)
    with pytest.raises(StoreUnavailableError, match="continue or kill it"):
        FileFence(path, wait=0.02).write("new", 2)
    os.close(descriptor)  # it died
    FileFence(path, wait=0.02).write("new", 2)


def test_a_fence_that_was_changed_by_hand_or_has_no_folder_says_so(tmp_path: Path) -> None:
    (tmp_path / ".a.fence").write_text("not a token")
    with pytest.raises(ConfigError, match="changed by hand"):
        FileFence(tmp_path / "a").write("x", 1)
    with pytest.raises(ConfigError, match="folder must exist"):
        FileFence(tmp_path / "none" / "a").write("x", 1)


WRITER = """
import random, sys
from autogen_coord import FileFence, LeaseLostError
path, seed = sys.argv[1], int(sys.argv[2])
draw, fence, refused = random.Random(seed), FileFence(path), 0
for _ in range(40):
    token = draw.randrange(1, 1000)
    try:
        fence.write(f"{token} " * 2000, token)
    except LeaseLostError as error:
        assert error.seen > token
        refused += 1
print(refused)
"""


@pytest.mark.process
@pytest.mark.timeout(60)
def test_processes_that_write_at_once_leave_one_whole_write_of_the_greatest_token(tmp_path: Path) -> None:
    path = tmp_path / "a"
    writers = [
        subprocess.Popen([sys.executable, "-c", WRITER, str(path), str(seed)], stdout=subprocess.PIPE, text=True)
        for seed in range(4)
    ]
    refused = [int(writer.communicate(timeout=50)[0]) for writer in writers]
    assert [writer.returncode for writer in writers] == [0] * 4
    assert sum(refused) > 0, "nobody was refused: this shows nothing"
    greatest = max(draw.randrange(1, 1000) for draw in map(random.Random, range(4)) for _ in range(40))
    assert path.read_text() == f"{greatest} " * 2000


# an SQL row: the recipe of the guide

PAGES = "CREATE TABLE page (name TEXT PRIMARY KEY, body TEXT NOT NULL, token BIGINT NOT NULL)"
WRITE = """
INSERT INTO page (name, body, token) VALUES (?, ?, ?)
ON CONFLICT (name) DO UPDATE SET body = excluded.body, token = excluded.token
WHERE page.token <= excluded.token
"""


def write_page(database: sqlite3.Connection, name: str, body: str, token: int) -> None:
    with database:
        if database.execute(WRITE, (name, body, token)).rowcount == 0:
            raise LeaseLostError(f"page {name}: another has held the lock since token {token}", token=token)


def test_a_row_keeps_what_the_greatest_token_wrote(tmp_path: Path) -> None:
    token = 4112170326786310145
    with closing(sqlite3.connect(tmp_path / "pages.db")) as one, closing(sqlite3.connect(tmp_path / "pages.db")) as other:
        one.execute(PAGES)
        write_page(one, "a", "one", token)
        write_page(one, "a", "two", token)
        write_page(other, "a", "three", token + 1)
        with pytest.raises(LeaseLostError):
            write_page(one, "a", "late", token)
        write_page(one, "b", "elsewhere", token)
        rows = other.execute("SELECT name, body, token FROM page ORDER BY name").fetchall()
    assert rows == [("a", "three", token + 1), ("b", "elsewhere", token)]


# an HTTP header: the recipe of the guide


class Pages(BaseHTTPRequestHandler):
    """PUT replaces a page, under the token of its `Fence.HEADER`."""

    fence: Fence
    bodies: dict[str, bytes]

    def do_PUT(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        try:
            token = Fence.token_of(self.headers[Fence.HEADER])
            with self.fence.guarded(token, self.path):
                self.bodies[self.path] = body
        except InvalidInputError as error:
            self.send_error(428, error.message)
        except LeaseLostError as error:
            self.send_error(409, error.message)
        else:
            self.send_response(204)
            self.end_headers()

    def log_message(self, format: str, *args: Any) -> None:
        pass


@pytest.fixture
def pages() -> Iterator[str]:
    Pages.fence, Pages.bodies = Fence(), {}
    server = ThreadingHTTPServer(("127.0.0.1", 0), Pages)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


def put(url: str, body: bytes, **headers: str) -> int:
    request = urllib.request.Request(url, data=body, method="PUT", headers=headers)
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(request, timeout=5) as answer:
            return int(answer.status)
    except urllib.error.HTTPError as error:
        error.close()
        return error.code


def test_a_service_refuses_the_header_of_one_who_lost_its_lock(pages: str) -> None:
    old, new = {Fence.HEADER: "4112170326786310145"}, {Fence.HEADER: "4112170326786310146"}
    assert put(f"{pages}/a", b"one", **old) == 204
    assert put(f"{pages}/a", b"two", **new) == 204
    assert put(f"{pages}/a", b"late", **old) == 409
    assert put(f"{pages}/b", b"elsewhere", **old) == 204
    assert put(f"{pages}/a", b"unfenced") == 428
    assert Pages.bodies == {"/a": b"two", "/b": b"elsewhere"}
