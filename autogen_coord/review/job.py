"""The job: files become keyed tasks, their answers become the report.

The key of a task names everything that its answer depends on: tool, version and options, path, content. So an unchanged file is
answered by the store, and a job that was killed goes on where it was: what was done is done, what was on its way is finished by
this process or by any other that runs the same tools. The summary is a task like the others, keyed by the figures it sums up.
What a run found is kept as documents (`past`), so that the next can say what changed.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field, replace
from itertools import islice
from pathlib import Path
from typing import Any, Generic, TypeVar

from autogen_coord import Capability, Coordination, TaskHandle

from ..errors import InvalidInputError, RemoteError, TaskCancelledError, TaskCrashedError, TaskError, TaskExpiredError
from ..settings import DAY, Settings
from . import agents, figures
from .agents import Bench, ComplexityAgent, DocstringAgent, LintAgent, SecurityAgent, SummaryAgent, Tally
from .answers import Complexity, Docstrings, FileJob, Findings, Security
from .board import Board
from .changes import LastRun, compare, findings_in, hidden_by
from .figures import condense
from .file_review import Failed, FileReview
from .files import MAX_SOURCE, Found, Skipped, Source, Target, find_target, read_source, walk
from .past import LEAST_DEPTH, LEAST_VALUE, Ledger, project_of, root_of
from .report import Report
from .summary import Summary
from .tools import TIMEOUT, Measurers, tool_versions
from .writing import WAIT, write_alone

BATCH = 100
"""Files that are read and submitted at once: what bounds the memory for sources."""
ROOM = 16_384
"""Bytes of a task's input that are not source: path, names, quotes."""
DEADLINE = DAY
"""Seconds after which a task is given up that nobody could run, as when its version of the tool is gone."""
SPARE = 60.0
"""Seconds that an attempt gets beside those of its tool: the tool's own end comes first, in words that are always the same."""
LONG_PATH = 100
"""A path longer than this stands in the key as its hash."""

A = TypeVar("A")


@dataclass(frozen=True, slots=True)
class Run:
    """A finished job: its report, how many answers it needed, how many of them this process worked out, and where it is written.

    ``last_at``: when the run before it finished, in epoch seconds; None when this is the first. ``kept``: whether what it found is
    kept, so that the next can say what changed.
    """

    report: Report
    tasks: int
    ran: int
    written: tuple[Path, ...] = ()
    last_at: float | None = None
    kept: bool = True


@dataclass(frozen=True, slots=True)
class Look(Generic[A]):
    """What one agent is asked of each file, and what it said, by path."""

    agent: str
    tool: str
    capability: Capability[FileJob, A]
    answers: dict[str, A] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Answers:
    """What has come in. ``lines``, ``digests``: of each file that was read, by path."""

    skipped: list[Skipped] = field(default_factory=list)
    failed: list[Failed] = field(default_factory=list)
    lines: dict[str, int] = field(default_factory=dict)
    digests: dict[str, str] = field(default_factory=dict)
    lint: Look[Findings] = field(default_factory=lambda: Look(agents.LINT, "ruff", LintAgent.lint))
    security: Look[Security] = field(default_factory=lambda: Look(agents.SECURITY, "bandit", SecurityAgent.inspect))
    complexity: Look[Complexity] = field(default_factory=lambda: Look(agents.COMPLEXITY, "radon", ComplexityAgent.measure))
    docstrings: Look[Docstrings] = field(default_factory=lambda: Look(agents.DOCSTRINGS, "interrogate", DocstringAgent.cover))

    @property
    def looks(self) -> tuple[Look[Any], ...]:
        return self.lint, self.security, self.complexity, self.docstrings

    def reviews(self) -> list[FileReview]:
        lint, security = self.lint.answers, self.security.answers
        complexity, docstrings = self.complexity.answers, self.docstrings.answers
        return [
            FileReview(
                path, lines, lint.get(path), security.get(path), complexity.get(path), docstrings.get(path), self.digests[path]
            )
            for path, lines in self.lines.items()
        ]


@dataclass(frozen=True, slots=True)
class Bounds:
    """``jobs``: files at a time per agent; ``timeout``: seconds that a tool gets for one file."""

    jobs: int = field(default_factory=lambda: max(2, os.cpu_count() or 2))
    timeout: float = TIMEOUT


async def review(
    name: str,
    settings: Settings,
    board: Board,
    bounds: Bounds | None = None,
    tally: Path | None = None,
    out: Path | None = None,
) -> Run:
    """Review the directory, file or package ``name``, and tell the board how it goes; see `Tally` for ``tally``. The report is
    written to ``out`` (see `write`), by one review at a time.

    Findings, unreadable files and tools that fail stand in the report. Killed at any moment, the same call with the same store
    finishes what is left and reports the same. What it found is kept: the next run of this project says what changed since.

    Raises: InvalidInputError when there is nothing to review, ConfigError when a tool is missing, StoreError; LockHeldError,
    LeaseLostError and OSError when the report cannot be written.
    """
    target = find_target(name)
    found, skipped = await asyncio.to_thread(_list, walk(target))
    if not found:
        why = f" ({skipped[0].path}: {skipped[0].why})" if skipped else ""
        raise InvalidInputError(f"no Python files to review in {name!r}{why}; give a directory or package that has .py files")
    bounds = bounds or Bounds()
    versions = {**tool_versions(), "summary": figures.VERSION}
    answers = Answers(skipped)
    board.introduce(_shown(answers, versions))
    board.expect(agents.SUMMARY, 1)
    async with AsyncExitStack() as stack:
        bench = Bench(versions, board, stack.enter_context(Tally(tally)))
        measurers = [Measurers(tool, bounds.jobs, bounds.timeout) for tool in ("bandit", "radon", "interrogate")]
        for one in measurers:
            await stack.enter_async_context(one)
        # opened after, so closed before: handlers that still run at the end keep their tools
        coord = await stack.enter_async_context(Coordination.open(settings.store, settings=settings, namespace=settings.namespace))
        await provide(coord, bench, measurers, bounds)
        await coord.provide(SummaryAgent, factory=lambda: SummaryAgent(bench), type=agents.SUMMARY)
        job = Job(coord, versions, answers, board, bounds.timeout + SPARE)
        await job.ask_files(found, min(MAX_SOURCE, settings.max_input - ROOM))
        summary = await job.ask_summary()
        report = Report(target.name, versions, answers.reviews(), answers.skipped, answers.failed, summary)
        run = Run(report, len(job.tasks), len(job.tasks & bench.ran))
        return await _finish(run, coord, settings, target, out)


async def _finish(run: Run, coord: Coordination, settings: Settings, target: Target, out: Path | None) -> Run:
    """Compare with the last finished run, write the report, and be the last finished run; one review of a project at a time.

    Where the settings let no findings be kept there is no run before: neither this one nor the next says what changed.
    """
    report, ledger = run.report, Ledger(coord, project_of(target))
    if settings.max_value < LEAST_VALUE or settings.max_depth < LEAST_DEPTH:
        return replace(run, written=await _write(report, coord, settings, out), kept=False)
    async with coord.lock(ledger.path, wait=WAIT) as lease:
        past = await ledger.load()
        findings = await asyncio.to_thread(lambda: [findings_in(one, settings.max_value - ROOM) for one in report.files])
        hidden = hidden_by((one.path for one in report.skipped), past.files if past else ())
        totals = report.totals()
        since = None if past is None else await asyncio.to_thread(compare, past, report.tools, totals, findings, hidden)
        report = replace(report, since=since)
        written = await _write(report, coord, settings, out)
        # behind the report: killed before, this run is repeated and says the same
        last = LastRun(root=root_of(target), tools=dict(report.tools), totals=totals)
        await ledger.finish(last, findings, list(hidden), lease)
    return replace(run, report=report, written=written, last_at=past.at if past else None)


async def _write(report: Report, coord: Coordination, settings: Settings, out: Path | None) -> tuple[Path, ...]:
    return () if out is None else await write_alone(coord, settings, report, out)


async def provide(coord: Coordination, bench: Bench, measurers: Sequence[Measurers], bounds: Bounds) -> None:
    """Register those who look at files; ``measurers``: of bandit, radon and interrogate. Raises: ConfigError, StoreError."""
    bandit, radon, interrogate = measurers
    jobs = bounds.jobs
    await coord.provide(LintAgent, factory=lambda: LintAgent(bench, bounds.timeout), type=agents.LINT, max_concurrency=jobs)
    await coord.provide(SecurityAgent, factory=lambda: SecurityAgent(bench, bandit), type=agents.SECURITY, max_concurrency=jobs)
    await coord.provide(
        ComplexityAgent, factory=lambda: ComplexityAgent(bench, radon), type=agents.COMPLEXITY, max_concurrency=jobs
    )
    await coord.provide(
        DocstringAgent, factory=lambda: DocstringAgent(bench, interrogate), type=agents.DOCSTRINGS, max_concurrency=jobs
    )


class Job:
    """One run: its questions to the agents, and what they answered. ``attempt_timeout``: seconds of one attempt.

    ``versions`` are what is asked, by tool; the agents may answer from another process that has the same.
    """

    def __init__(
        self, coord: Coordination, versions: Mapping[str, str], answers: Answers, board: Board, attempt_timeout: float
    ) -> None:
        self._coord = coord
        self._versions = versions
        self._board = board
        self._attempt_timeout = attempt_timeout
        self._answers = answers
        self.tasks: set[str] = set()
        """The ids of all that was asked."""

    async def ask_files(self, found: Sequence[Found], limit: int = MAX_SOURCE) -> None:
        """Ask about each file, and wait for all answers; a file beyond ``limit`` bytes is skipped."""
        looks = self._answers.looks
        for look in looks:
            self._board.expect(look.agent, len(found))
        try:
            async with asyncio.TaskGroup() as waiting:
                for batch in _batches(found):
                    sources = await asyncio.to_thread(_read, batch, limit, self._answers)
                    for look in looks:
                        self._board.expect(look.agent, len(sources) - len(batch))
                        await self._ask(look, sources, waiting)
        except* Exception as group:
            raise group.exceptions[0] from None

    async def ask_summary(self) -> Summary | None:
        """Have the answers summed up. None when that gave no answer."""
        answers = self._answers
        job = await asyncio.to_thread(condense, answers.reviews(), len(answers.skipped), len(answers.failed))
        handle = await self._coord.submit(SummaryAgent.sum_up, job, key=job.key, timeout=DEADLINE, retry_failed=True)
        into: dict[str, Summary] = {}
        await self._await(handle, agents.ALL_FILES, agents.SUMMARY, agents.SUMMARY, into)
        return into.get(agents.ALL_FILES)

    async def _ask(self, look: Look[A], sources: Sequence[Source], waiting: asyncio.TaskGroup) -> None:
        version = self._versions[look.tool]
        handles = await self._coord.submit_many(
            look.capability,
            [FileJob(path=one.path, source=one.text, tool=version) for one in sources],
            keys=[key_of(look.tool, version, one) for one in sources],
            timeout=DEADLINE,
            attempt_timeout=self._attempt_timeout,
            retry_failed=True,
        )
        for handle, one in zip(handles, sources, strict=True):
            waiting.create_task(self._await(handle, one.path, look.agent, look.tool, look.answers))

    async def _await(self, handle: TaskHandle[A], path: str, agent: str, tool: str, into: dict[str, A]) -> None:
        self.tasks.add(handle.id)
        try:
            into[path] = await handle.result()
        except TaskError as error:
            self._answers.failed.append(Failed(path, tool, _reason(error)))
        self._board.settle(agent, failed=path not in into)


def key_of(tool: str, version: str, source: Source) -> str:
    """The task's key; the same for the same content under the same relative path, wherever it lies."""
    path = source.path if len(source.path) <= LONG_PATH else hashlib.sha256(source.path.encode()).hexdigest()
    return f"{tool}:{version}:{path}:{source.digest[:32]}"


def _reason(error: TaskError) -> str:
    """Why, in words that are the same in every run: the error's own message names the task."""
    match error:
        case RemoteError():
            return f"{error.type}: {error.text}"
        case TaskCancelledError():
            return "was cancelled"
        case TaskExpiredError():
            return "was not run in time"
        case TaskCrashedError():
            return "its process died each time"
        case _:
            return error.code


def _list(items: Iterator[Found | Skipped]) -> tuple[list[Found], list[Skipped]]:
    found: dict[str, Found] = {}
    skipped: dict[str, Skipped] = {}
    for item in items:
        if isinstance(item, Found):
            found[item.path] = item
        else:
            skipped[item.path] = item
    return [found[path] for path in sorted(found)], [skipped[path] for path in sorted(skipped)]


def _read(batch: list[Found], limit: int, answers: Answers) -> list[Source]:
    sources = []
    for found in batch:
        item = read_source(found, limit)
        if isinstance(item, Source):
            sources.append(item)
            answers.lines[item.path] = len(item.text.splitlines())
            answers.digests[item.path] = item.digest
        else:
            answers.skipped.append(item)
    return sources


def _batches(found: Sequence[Found]) -> Iterator[list[Found]]:
    rest = iter(found)
    while batch := list(islice(rest, BATCH)):
        yield batch


def _shown(answers: Answers, versions: Mapping[str, str]) -> dict[str, str]:
    """Each agent's tool and its version, without what stands for options."""
    tools = {look.agent: f"{look.tool} {versions[look.tool].partition('-')[0]}" for look in answers.looks}
    return {**tools, agents.SUMMARY: "fixed rules"}
