"""Ten agents in three processes edit the files of one directory. One process is killed while it holds a lock; one is paused until
its lease is lost, and writes late. No file is damaged, and the late write is refused by its token."""

import asyncio
import os
import signal
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from autogen_coord import (
    CapabilityAgent,
    Coordination,
    FileFence,
    LeaseLostError,
    Settings,
    StoreError,
    TaskContext,
    capability,
    run,
)

SOON = Settings(beat=0.3, suspect_after=0.8, session_ttl=1.5, trust_margin=0.3)  # the default: dead after 3 s
TEAMS = (4, 3, 3)
FILES = ("a.txt", "b.txt", "c.txt", "d.txt")
EDITS = 60
FOLDER = Path()


@dataclass
class Edit:
    file: str
    number: int
    trouble: str = ""
    """What befalls the process that does it first: killed or paused."""


class Editor(CapabilityAgent):
    """Adds a line to a file: reads it, and writes it as a whole."""

    def __init__(self) -> None:
        super().__init__("edits files")

    @capability(max_concurrency=2)
    async def edit(self, job: Edit, ctx: TaskContext) -> str:
        path, line = FOLDER / job.file, f"edit {job.number}\n"
        async with ctx.lock(f"desk/{job.file}", wait=None) as lease:
            text = path.read_text() if path.exists() else ""
            if line in text:  # an attempt before this one had come so far
                return self.id.type
            if job.trouble and is_first(job.trouble):
                await asyncio.to_thread(write_late, path, text + line, lease.token)
            await asyncio.to_thread(FileFence(path).write, text + line, lease.token)
        return self.id.type


def is_first(trouble: str) -> bool:
    """Tells its process id to whoever brings the trouble."""
    mark = FOLDER / f"{trouble}.pid"
    if mark.exists():
        return False
    mark.with_suffix(".new").write_text(str(os.getpid()))
    mark.with_suffix(".new").replace(mark)
    return True


def write_late(path: Path, text: str, token: int) -> None:
    """A thread that does not hear that its lease is lost."""
    while not (FOLDER / "go").exists():
        time.sleep(0.01)
    try:
        FileFence(path).write(text, token)
        print("the late write went through", flush=True)
    except LeaseLostError as error:
        print("the late write was refused, its token is smaller:", error.facts["token"] < error.facts["seen"], flush=True)
    (FOLDER / "late").touch()


async def worker(store: str, editors: int) -> None:
    async with Coordination.open(store, settings=SOON) as coord:
        for number in range(editors):
            await coord.provide(Editor, type=f"editor-{number}")
        await asyncio.Event().wait()  # until SIGTERM: `run` closes in order


async def exists(name: str) -> Path:
    while not (FOLDER / name).exists():
        await asyncio.sleep(0.01)
    return FOLDER / name


async def pause(coord: Coordination, pid: int) -> None:
    """Stop a process, but not in the middle of its transaction: then nobody could use the store until it goes on."""
    while True:
        os.kill(pid, signal.SIGSTOP)
        try:
            async with asyncio.timeout(1), coord.lock("probe"):
                return
        except (TimeoutError, StoreError):
            os.kill(pid, signal.SIGCONT)
            await asyncio.sleep(0.05)


async def work(store: str) -> None:
    async with Coordination.open(store, settings=SOON) as coord:
        online = coord.events(since=0, kinds=["agent.online"])
        for _ in range(sum(TEAMS)):
            await anext(online)
        print(f"{sum(TEAMS)} editors in {len(TEAMS)} processes", flush=True)

        handles = [await coord.submit(Editor.edit, Edit("a.txt", 0, "killed"))]
        os.kill(int((await exists("killed.pid")).read_text()), signal.SIGKILL)
        print("killed one that held a lock", flush=True)

        handles.append(await coord.submit(Editor.edit, Edit("b.txt", 1, "paused")))
        paused = int((await exists("paused.pid")).read_text())
        await pause(coord, paused)
        print("paused another", flush=True)

        edits = [Edit(FILES[number % len(FILES)], number) for number in range(2, EDITS)]
        handles += await coord.submit_many(Editor.edit, edits)
        await handles[1].result()  # by another agent, once the lock was free
        (FOLDER / "go").touch()
        os.kill(paused, signal.SIGCONT)
        await exists("late")
        await asyncio.gather(*(handle.result() for handle in handles))

        lost = {event.subject async for event in coord.events(since=0, kinds=["resource.lost"], follow=False)}
        print("locks lost:", sorted(lost & {"desk/a.txt", "desk/b.txt"}))
        lines = [line for file in FILES for line in (FOLDER / file).read_text().splitlines()]
        print("every edit is there, once:", sorted(lines) == sorted(f"edit {number}" for number in range(EDITS)))


async def main(store: str) -> None:
    FOLDER.mkdir()
    command = sys.executable, __file__, store
    workers = [await asyncio.create_subprocess_exec(*command, str(editors)) for editors in TEAMS]
    try:
        await work(store)
    finally:
        for each in workers:
            if each.returncode is None:
                each.send_signal(signal.SIGCONT)
                each.terminate()
        print("ended with:", sorted([await each.wait() for each in workers]))


if __name__ == "__main__":
    path = sys.argv[1] if sys.argv[1:] else f"{tempfile.mkdtemp()}/coord.db"
    FOLDER = Path(path).with_name("desk")
    run(worker(path, int(sys.argv[2])) if sys.argv[2:] else main(path))
