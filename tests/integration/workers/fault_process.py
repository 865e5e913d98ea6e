"""A process that submits and works, made to be killed: ``python -m tests.integration.workers.fault_process <json>``.

It notes what it did in files that outlive it, a whole line at a time: each acknowledged task, each execution, each refused finish.
It goes on until its input ends.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import random
import sys
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from autogen_coord import Coordination, TaskContext, capability
from autogen_coord.errors import NoProviderError, StoreUnavailableError
from autogen_coord.settings import Settings

LANES = 5


@dataclass(frozen=True)
class Part:
    """What one process does: works with so many slots, submits the tasks of a series (each after a pause), or both."""

    name: str
    store: str
    folder: str
    seed: int
    slots: int = 0
    series: str = ""
    pause: float = 0.01
    longest: float = 0.03
    settings: Mapping[str, Any] = field(default_factory=dict)

    def text(self) -> str:
        return json.dumps(asdict(self))


@dataclass
class Job:
    number: int
    seconds: float
    child: bool = False


def answer(number: int) -> int:
    return number * 7 + 3


class Notes:
    """Lines appended to one file of this process: each is one write, so a kill leaves whole lines."""

    def __init__(self, folder: str, name: str) -> None:
        self._descriptor = os.open(Path(folder) / name, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)

    def add(self, *words: object) -> None:
        os.write(self._descriptor, (" ".join(map(str, words)) + "\n").encode())


class _Refusals(logging.Handler):
    """Notes each finish that the store refused as stale."""

    def __init__(self, notes: Notes) -> None:
        super().__init__(logging.INFO)
        self._notes = notes

    def emit(self, record: logging.LogRecord) -> None:
        if record.msg.startswith("a result was dropped"):
            self._notes.add(record.getMessage())


async def provide(coord: Coordination, part: Part) -> None:
    ran = Notes(part.folder, f"{part.name}.{os.getpid()}.ran")
    refused = logging.getLogger("autogen_coord.agents.runner")
    refused.setLevel(logging.INFO)
    refused.addHandler(_Refusals(Notes(part.folder, f"{part.name}.{os.getpid()}.refused")))

    @capability
    async def piece(job: Job, ctx: TaskContext) -> int:
        ran.add(ctx.task_id, ctx.attempt)
        await asyncio.sleep(job.seconds)
        return job.number * 7

    @capability
    async def work(job: Job, ctx: TaskContext) -> int:
        ran.add(ctx.task_id, ctx.attempt)
        await asyncio.sleep(job.seconds)
        if job.child:
            return await ctx.call(piece, Job(job.number, job.seconds)) + 3
        return answer(job.number)

    await coord.provide(piece, max_concurrency=part.slots)
    await coord.provide(work, max_concurrency=part.slots)


async def submit(coord: Coordination, part: Part) -> None:
    """Go on behind the last acknowledged task: the one after it may be stored or not, its key tells."""
    acknowledged = Notes(part.folder, f"{part.series}.acknowledged")
    done = (Path(part.folder) / f"{part.series}.acknowledged").read_text().splitlines()
    number = int(done[-1].split()[0]) + 1 if done else 0
    while True:
        draw = random.Random(f"{part.seed}/{part.series}/{number}")
        job = Job(number, draw.uniform(0, part.longest), draw.random() < 0.1)
        name = f"{part.series}{draw.randrange(LANES)}"
        where = draw.choices(("", "lane", "sticky"), (8, 1, 1))[0]
        try:
            handle = await coord.submit(
                "work",
                job,
                key=f"{part.series}-{number}",
                lane=name if where == "lane" else None,
                sticky=name if where == "sticky" else None,
            )
        except (NoProviderError, StoreUnavailableError):  # no worker has announced itself as yet; another is stopped inside
            await asyncio.sleep(0.02)
            continue
        acknowledged.add(number, handle.id)
        number += 1
        await asyncio.sleep(draw.uniform(0, 2 * part.pause))


async def main(part: Part) -> None:
    async with Coordination.open(part.store, settings=Settings(**part.settings)) as coord:
        if part.slots:
            await provide(coord, part)
        submits = asyncio.create_task(submit(coord, part)) if part.series else None
        print("ready", flush=True)
        reads = asyncio.create_task(asyncio.to_thread(sys.stdin.read))
        await asyncio.wait([reads] if submits is None else [reads, submits], return_when=asyncio.FIRST_COMPLETED)
        if submits is not None:
            if submits.done():
                submits.result()
            submits.cancel()


if __name__ == "__main__":
    asyncio.run(main(Part(**json.loads(sys.argv[1]))))
