"""The job: files become keyed tasks, their answers become the report.

The key of a task names everything that its answer depends on: tool, version and options, path, content. So an unchanged file is
answered by the store, and a job that was killed goes on where it was: what was done is done, what was on its way is finished by
this process or by any other that runs the same tools.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
from collections.abc import Iterator
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from itertools import islice
from typing import Protocol, TypeVar

from autogen_coord import Coordination

from ..errors import InvalidInputError, RemoteError, TaskCancelledError, TaskCrashedError, TaskError, TaskExpiredError
from ..settings import DAY, Settings
from .capabilities import Complexity, FileJob, Findings, ReviewTools
from .files import MAX_SOURCE, Found, Skipped, Source, find_target, read_source, walk
from .progress import Progress
from .report import Failed, FileReview, Report
from .tools import Measurers

BATCH = 100
"""Files that are read and submitted at once: what bounds the memory for sources."""
ROOM = 16_384
"""Bytes of a task's input that are not source: path, names, quotes."""
DEADLINE = DAY
"""Seconds after which a task is given up that nobody could run, as when its version of the tool is gone."""
LONG_PATH = 100
"""A path longer than this stands in the key as its hash."""

A = TypeVar("A")
A_co = TypeVar("A_co", covariant=True)


class Handle(Protocol[A_co]):
    """What the job needs of a task's handle."""

    async def result(self, timeout: float | None = None) -> A_co: ...


@dataclass(frozen=True, slots=True)
class Run:
    """A finished job: its report, how many answers it needed, and how many of them this process worked out."""

    report: Report
    tasks: int
    ran: int


@dataclass(slots=True)
class Answers:
    """What has come in, by path."""

    files: dict[str, int] = field(default_factory=dict)
    """path -> lines"""
    lint: dict[str, Findings] = field(default_factory=dict)
    complexity: dict[str, Complexity] = field(default_factory=dict)
    skipped: list[Skipped] = field(default_factory=list)
    failed: list[Failed] = field(default_factory=list)

    def reviews(self) -> list[FileReview]:
        return [FileReview(path, lines, self.lint.get(path), self.complexity.get(path)) for path, lines in self.files.items()]


async def review(name: str, settings: Settings, progress: Progress, jobs: int | None = None) -> Run:
    """Review the directory, file or package ``name`` with ``jobs`` files at a time per tool (None: one per processor).

    Findings, unreadable files and tools that fail stand in the report. Killed at any moment, the same call with the same store
    finishes what is left and reports the same.

    Raises: InvalidInputError when there is nothing to review, ConfigError when a tool is missing, StoreError.
    """
    target = find_target(name)
    found, skipped = await asyncio.to_thread(_list, walk(target))
    if not found:
        why = f" ({skipped[0].path}: {skipped[0].why})" if skipped else ""
        raise InvalidInputError(f"no Python files to review in {name!r}{why}; give a directory or package that has .py files")
    size = jobs or max(2, os.cpu_count() or 2)
    async with AsyncExitStack() as stack:
        tools = ReviewTools(await stack.enter_async_context(Measurers(size)), size)
        # opened after, so closed before: handlers that still run at the end keep their tools
        coord = await stack.enter_async_context(Coordination.open(settings.store, settings=settings, namespace=settings.namespace))
        answers = Answers(skipped=skipped)
        tasks = await collect(coord, tools, found, answers, progress, min(MAX_SOURCE, settings.max_input - ROOM))
    report = Report(target.name, tools.versions, answers.reviews(), answers.skipped, answers.failed)
    return Run(report, tasks, tools.ran)


async def collect(
    coord: Coordination, tools: ReviewTools, found: list[Found], answers: Answers, progress: Progress, limit: int = MAX_SOURCE
) -> int:
    """Provide the tools, submit two tasks for each file, and wait for all answers. Returns the number of tasks."""
    await coord.provide(tools.lint)
    await coord.provide(tools.complexity)
    progress.expect(2 * len(found))
    tasks = 0
    try:
        async with asyncio.TaskGroup() as waiting:
            for batch in _batches(found):
                sources = await asyncio.to_thread(_read, batch, limit, answers)
                progress.expect(2 * (len(sources) - len(batch)))
                linted = await coord.submit_many(
                    tools.lint,
                    [FileJob(path=one.path, source=one.text, tool=tools.versions["ruff"]) for one in sources],
                    keys=[key_of("ruff", tools.versions["ruff"], one) for one in sources],
                    timeout=DEADLINE,
                    retry_failed=True,
                )
                measured = await coord.submit_many(
                    tools.complexity,
                    [FileJob(path=one.path, source=one.text, tool=tools.versions["radon"]) for one in sources],
                    keys=[key_of("radon", tools.versions["radon"], one) for one in sources],
                    timeout=DEADLINE,
                    retry_failed=True,
                )
                for one, lint, complexity in zip(sources, linted, measured, strict=True):
                    waiting.create_task(_await(lint, one.path, "ruff", answers.lint, answers, progress))
                    waiting.create_task(_await(complexity, one.path, "radon", answers.complexity, answers, progress))
                tasks += 2 * len(sources)
    except* Exception as group:
        raise group.exceptions[0] from None
    return tasks


def key_of(tool: str, version: str, source: Source) -> str:
    """The task's key; the same for the same content under the same relative path, wherever it lies."""
    path = source.path if len(source.path) <= LONG_PATH else hashlib.sha256(source.path.encode()).hexdigest()
    return f"{tool}:{version}:{path}:{source.digest[:32]}"


async def _await(handle: Handle[A], path: str, tool: str, into: dict[str, A], answers: Answers, progress: Progress) -> None:
    try:
        into[path] = await handle.result()
    except TaskError as error:
        answers.failed.append(Failed(path, tool, _reason(error)))
    progress.advance()


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
            answers.files[item.path] = len(item.text.splitlines())
        else:
            answers.skipped.append(item)
    return sources


def _batches(found: list[Found]) -> Iterator[list[Found]]:
    rest = iter(found)
    while batch := list(islice(rest, BATCH)):
        yield batch
