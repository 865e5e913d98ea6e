"""Rounds of real faults over processes on one store, and the count afterwards.

Which process is struck, how and when is drawn from a seed; what it was doing just then is the machine's affair. So a failure is
looked for again by its seed, with the same faults at the same moments.
"""

from __future__ import annotations

import asyncio
import os
import random
import signal
import sys
import time
from asyncio.subprocess import PIPE, Process
from collections import Counter, defaultdict
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from statistics import median
from typing import Any

from autogen_coord.core.endings import FINISHED
from autogen_coord.core.events import ENDINGS, NUMBER, Kind
from autogen_coord.core.store import Keys, Range
from autogen_coord.core.tables import (
    ATTEMPT,
    COUNTER,
    EVENT,
    OUTCOME,
    PROVIDER,
    QUEUE,
    SESSION,
    TASK,
    EventRow,
    TaskRow,
    TaskState,
)
from autogen_coord.settings import Settings
from autogen_coord.stores.sqlite.store import SqliteStore
from tests.integration.workers.fault_process import Part, answer

ROOT = Path(__file__).parents[3]
QUICK: Mapping[str, Any] = {
    "beat": 0.15,
    "suspect_after": 0.4,
    "session_ttl": 0.6,
    "trust_margin": 0.1,
    "suspect_patience": 1.0,
    "crash_limit": 1000,  # a task may well be struck three times here
    "tries": 1,
}
"""Sessions that die soon, so that many rounds fit into a minute."""


@dataclass(frozen=True)
class Plan:
    """Which faults, over what. ``pause``: seconds between faults, from and to."""

    seed: int
    rounds: int
    workers: int = 3
    submitters: int = 2
    slots: int = 6
    pause: tuple[float, float] = (0.1, 0.9)
    stops: float = 0.15
    """The share of faults that stop a process for a while instead of killing it."""
    longest: float = 0.12
    between: float = 0.02
    """Seconds from one submit to the next, on average."""
    only: str = ""
    """Strike only processes whose name begins so."""
    settings: Mapping[str, Any] = field(default_factory=lambda: QUICK)

    @property
    def policy(self) -> Settings:
        return Settings(**self.settings)


def unhurried(seed: int, rounds: int) -> Plan:
    """Workers killed one after the other under default settings, each when the others are old enough to judge."""
    return Plan(seed, rounds, pause=(3.2, 4.5), stops=0.0, only="worker", settings={})


@dataclass(frozen=True)
class Struck:
    """A fault. ``at``: by the store's clock. ``pinned``: tasks that were ready for this process only."""

    pid: int
    at: float
    killed: bool
    pinned: frozenset[str]


@dataclass
class Tally:
    """What came of it. Times are seconds from a kill, by the store's clock."""

    seed: int
    rounds: int
    kills: int = 0
    stops: int = 0
    tasks: int = 0
    acknowledged: int = 0
    lost: int = 0
    doubled: int = 0
    wrong: int = 0
    executions: int = 0
    repeated: int = 0
    """Executions beyond a task's first: each of a task that ran when its process was struck."""
    refused: int = 0
    """Finishes of stale attempts that the store refused."""
    deaths: int = 0
    unprovoked: int = 0
    """Deaths of processes that were not struck: a machine too slow for the settings."""
    dead: list[float] = field(default_factory=list)
    """From a kill to the declaration of death."""
    first: list[float] = field(default_factory=list)
    """From a kill to the first of its running tasks running elsewhere."""
    suspects: list[float] = field(default_factory=list)
    """The same for all tasks that ran at a kill: they run alone, one after the other."""
    pinned: list[float] = field(default_factory=list)
    """The same for tasks that were ready for the killed process only, and did not run."""
    complaints: list[str] = field(default_factory=list)
    """What must not be; empty when all is well."""

    def facts(self) -> dict[str, Any]:
        """Plain numbers: lists as p50 and max."""
        out: dict[str, Any] = {}
        for name, value in asdict(self).items():
            if isinstance(value, list) and name != "complaints":
                out[f"{name}_p50"] = round(median(value), 3) if value else None
                out[f"{name}_max"] = round(max(value), 3) if value else None
            else:
                out[name] = value
        return out


class Running:
    """One process that may be struck."""

    def __init__(self, part: Part, process: Process) -> None:
        self.part = part
        self.process = process

    @property
    def pid(self) -> int:
        return self.process.pid

    @classmethod
    async def start(cls, part: Part) -> Running:
        return cls(
            part,
            await asyncio.create_subprocess_exec(
                sys.executable, "-m", "tests.integration.workers.fault_process", part.text(), cwd=ROOT, stdin=PIPE, stdout=PIPE
            ),
        )

    async def ready(self) -> None:
        assert self.process.stdout is not None
        assert (await asyncio.wait_for(self.process.stdout.readline(), 20)).strip() == b"ready"

    async def kill(self) -> None:
        if self.process.returncode is None:
            self.process.kill()
        await self.process.communicate()

    async def end(self) -> None:
        """Close its input and see that it ends well."""
        await asyncio.wait_for(self.process.communicate(b""), 20)
        assert self.process.returncode == 0, f"{self.part.name} ended with {self.process.returncode}"


class Faults:
    """One run of a plan in a folder."""

    def __init__(self, plan: Plan, folder: Path) -> None:
        self._plan = plan
        self._folder = folder
        self._draw = random.Random(plan.seed)
        self._running: dict[str, Running] = {}
        self._struck: list[Struck] = []
        self._store: SqliteStore

    async def run(self, settle: float = 30.0) -> Tally:
        """All rounds, then quiet until nothing is left to do (``settle`` seconds at most), then the count."""
        async with self._opened():
            try:
                for part in self._parts():
                    self._running[part.name] = await Running.start(part)
                await asyncio.gather(*(one.ready() for one in self._running.values()))
                for _ in range(self._plan.rounds):
                    await asyncio.sleep(self._draw.uniform(*self._plan.pause))
                    await self._strike()
                await self._come_to_rest(settle)
            finally:
                await asyncio.gather(*(one.kill() for one in self._running.values()))
            return await self._count()

    @asynccontextmanager
    async def _opened(self) -> AsyncIterator[None]:
        self._store = await SqliteStore.open(self._folder / "coord.db", "default", self._plan.policy)
        try:
            yield
        finally:
            await self._store.close()

    def _parts(self) -> list[Part]:
        plan = self._plan
        common = Part(
            "", str(self._folder / "coord.db"), str(self._folder), plan.seed,
            pause=plan.between, longest=plan.longest, settings=dict(plan.settings),
        )  # fmt: skip
        return [
            *(replace(common, name=f"worker{number}", slots=plan.slots) for number in range(plan.workers)),
            *(replace(common, name=f"submitter{number}", series="abcdefgh"[number]) for number in range(plan.submitters)),
        ]

    # faults

    async def _strike(self) -> None:
        """One fault; a killed process is started again at once, or after a while, while the others go on."""
        name = self._draw.choice(sorted(name for name in self._running if name.startswith(self._plan.only)))
        how = self._draw.random()
        after = self._draw.choice((0.0, self._draw.uniform(0, 2 * self._plan.policy.session_ttl)))
        one = self._running[name]
        if how < self._plan.stops:
            os.kill(one.pid, signal.SIGSTOP)
            await self._note(one, killed=False)
            await asyncio.sleep(self._draw.uniform(0.2, 2.5) * self._plan.policy.session_ttl)
            os.kill(one.pid, signal.SIGCONT)
            return
        at = await self._store.now()
        one.process.kill()
        await self._note(one, killed=True, at=at)
        await one.kill()
        if len(self._struck) % 3 == 0:
            await asyncio.sleep(after)
        self._running[name] = await Running.start(one.part)

    async def _note(self, one: Running, killed: bool, at: float | None = None) -> None:
        if at is None:
            at = await self._store.now()
        pinned: set[str] = set()
        (sessions,) = await self._store.read(Range(SESSION, "by_state", ("live",)))
        for session in (row for row in sessions if row.address.endswith(f":{one.pid}")):
            (providers,) = await self._store.read(Range(PROVIDER, "by_session", (session.id,)))
            for provider in providers:
                (ready,) = await self._store.read(Range(QUEUE, "ready", (f"{provider.capability}@{provider.id}",)))
                pinned.update(row.id for row in ready)
        self._struck.append(Struck(one.pid, at, killed, frozenset(pinned)))

    async def _come_to_rest(self, settle: float) -> None:
        submitters = [one for one in self._running.values() if one.part.series]
        await asyncio.gather(*(one.end() for one in submitters))
        until = time.monotonic() + settle
        while (await self._store.read(Range(QUEUE, "key", limit=1)))[0] and time.monotonic() < until:
            await asyncio.sleep(0.05)
        await asyncio.gather(*(one.end() for one in self._running.values() if not one.part.series))

    # the count

    async def _count(self) -> Tally:
        tables = (TASK, QUEUE, OUTCOME, ATTEMPT, EVENT, SESSION)
        rows = await self._store.read(*(Range(table, "key") for table in tables), Keys(COUNTER, (FINISHED, NUMBER)))
        tasks, live, outcomes, attempts, events, sessions, counters = rows
        tally = Tally(self._plan.seed, self._plan.rounds, tasks=len(tasks))
        tally.kills = sum(one.killed for one in self._struck)
        tally.stops = len(self._struck) - tally.kills
        complain = tally.complaints.append
        for row in live:
            complain(f"never ended: {row}")
        if [row.number for row in events] != list(range(1, len(events) + 1)) or counters[1].value != len(events):
            complain("the log has gaps")
        if counters[0].value != len(outcomes) or len(outcomes) != len(tasks) - len(live):
            complain(f"{len(tasks)} tasks, {len(live)} live, {len(outcomes)} outcomes, counted {counters[0].value}")
        self._count_values(tally, {row.id: row for row in tasks}, {row.id: row for row in outcomes})
        endings = Counter(row.subject for row in events if row.kind in ENDINGS)
        for id, times in endings.items():
            if times > 1:
                tally.doubled += 1
                complain(f"{id} ended {times} times")
        of = {row.id: int(row.address.rpartition(":")[2]) for row in sessions}
        self._count_executions(tally, {row.id: row.attempt for row in outcomes}, attempts, of)
        self._count_times(tally, events, of)
        return tally

    def _count_values(self, tally: Tally, tasks: dict[str, TaskRow], outcomes: dict[str, Any]) -> None:
        complain = tally.complaints.append
        keys = Counter(task.key for task in tasks.values() if task.key is not None)
        for key, times in keys.items():
            if times > 1:
                tally.doubled += 1
                complain(f"{times} tasks of the key {key}")
        for (parent, step), times in Counter((task.parent, task.step_key) for task in tasks.values() if task.parent).items():
            if times > 1:
                tally.doubled += 1
                complain(f"{times} children of {parent} at {step}")
        for file in sorted(self._folder.glob("*.acknowledged")):
            for line in file.read_text().splitlines():
                number, id = line.split()
                tally.acknowledged += 1
                outcome = outcomes.get(id)
                if id not in tasks or outcome is None:
                    tally.lost += 1
                    complain(f"acknowledged and lost: {file.stem} {line}")
                elif outcome.state != TaskState.SUCCEEDED or outcome.output != str(answer(int(number))):
                    tally.wrong += 1
                    complain(f"acknowledged, and ended so: {file.stem} {number} {outcome}")

    def _count_executions(self, tally: Tally, last: dict[str, int], attempts: list[Any], of: dict[str, int]) -> None:
        complain = tally.complaints.append
        ran: dict[str, Counter[int]] = defaultdict(Counter)
        for file in self._folder.glob("*.ran"):
            for line in file.read_text().splitlines():
                id, number = line.split()
                ran[id][int(number)] += 1
        for file in self._folder.glob("*.refused"):
            tally.refused += len(file.read_text().splitlines())
        ends = {(row.task, row.number): row for row in attempts}
        struck = {one.pid for one in self._struck}
        for id, times in ran.items():
            tally.executions += times.total()
            tally.repeated += times.total() - 1
            if max(times.values()) > 1:
                complain(f"an attempt of {id} ran twice: {dict(times)}")
            for attempt in times:
                if attempt == last.get(id):
                    continue
                end = ends.get((id, attempt))
                if end is None:
                    complain(f"attempt {attempt} of {id} ran and left no trace")
                elif end.end not in ("crashed", "released"):
                    complain(f"attempt {attempt} of {id} ended {end.end}: {end.error}")
                elif end.end == "crashed" and of.get(end.session or "") not in struck:
                    tally.unprovoked += 1
        if missing := [id for id, attempt in last.items() if attempt and attempt not in ran[id]]:
            complain(f"ended by an attempt that never ran: {missing[:5]}")

    def _count_times(self, tally: Tally, events: list[EventRow], of: dict[str, int]) -> None:
        """What each kill interrupted, and when it ran again."""
        by_task: dict[str, list[EventRow]] = defaultdict(list)
        for event in events:
            by_task[event.subject].append(event)
        tally.deaths = sum(event.kind == Kind.SESSION_DEAD for event in events)
        for kill in (one for one in self._struck if one.killed):
            theirs = {session for session, pid in of.items() if pid == kill.pid}
            again: list[float] = []
            for id, story in by_task.items():
                before = [event for event in story if event.at <= kill.at]
                if id in theirs:
                    tally.dead += [event.at - kill.at for event in story if event.kind == Kind.SESSION_DEAD and event.at > kill.at]
                    continue
                started = [event.at - kill.at for event in story if event.kind == Kind.TASK_STARTED and event.at > kill.at]
                if not started:
                    continue
                if id in kill.pinned:
                    tally.pinned.append(started[0])
                elif before and before[-1].kind == Kind.TASK_STARTED and before[-1].session in theirs:
                    again.append(started[0])
            if again:
                tally.first.append(min(again))
                tally.suspects += again
