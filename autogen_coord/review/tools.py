"""The tools, each in a process of its own: off the event loop, stopped for good when its attempt is cancelled or out of time.

ruff is started per file (4 ms). radon is Python and slow to load, so a few processes (`Measurers`) stay and take one file after
another; one that hangs, crashes or is cancelled in mid-file is killed and replaced. Sources go in by pipe: the tools read what was
hashed, and never the disk.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import logging
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeVar

from ..errors import ConfigError

logger = logging.getLogger(__name__)

K = TypeVar("K", list[dict[str, Any]], dict[str, Any])

TIMEOUT = 30.0
"""Seconds that a tool gets for one file."""
MAX_LINE = 64 << 20
"""Bytes of one answer of a measuring process."""

RUFF_OPTIONS = (
    "--isolated",  # the same answer whatever configuration lies around
    "--no-cache",
    "--quiet",
    "--select=E4,E7,E9,F,B,ASYNC,C4,PIE,PLE,RET,SIM",
    "--target-version=py313",  # accepts every syntax; older ones are a matter for the author's own configuration
    "--output-format=json",
)


class ToolError(Exception):
    """The tool crashed, hung or gave no answer. The text is the same each time: it stands in the report."""


def tool_versions() -> dict[str, str]:
    """What is asked, by tool: everything that its answer depends on besides the file.

    Raises: ConfigError when a tool is not installed.
    """
    options = hashlib.sha256(" ".join(RUFF_OPTIONS).encode()).hexdigest()[:8]
    return {"ruff": f"{_version('ruff')}-{options}", "radon": f"{_version('radon')}-py{sys.version_info[0]}.{sys.version_info[1]}"}


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError as error:
        raise ConfigError(f"{package} is not installed; pip install 'autogen-coord[review]'") from error


async def run_ruff(path: str, source: str, timeout: float = TIMEOUT, command: Sequence[str] | None = None) -> list[dict[str, Any]]:
    """ruff's findings in ``source`` as its JSON gives them; ``path`` only tells it what kind of file it is.

    Raises: ToolError.
    """
    start = command or (_ruff(), "check", *RUFF_OPTIONS, f"--stdin-filename={path}", "-")
    async with _process(start) as process:
        try:
            async with asyncio.timeout(timeout):
                out, err = await process.communicate(source.encode())
        except TimeoutError:
            raise ToolError(f"ruff gave no answer in {timeout:g} s") from None
    if process.returncode not in (0, 1):
        logger.warning("ruff ended with code %s: %s", process.returncode, err.decode(errors="replace")[-500:])
        raise ToolError(f"ruff ended with code {process.returncode}")
    return _parsed("ruff", out, list)


def _ruff() -> str:
    from ruff import find_ruff_bin

    return str(find_ruff_bin())


@asynccontextmanager
async def _process(command: Sequence[str]) -> AsyncIterator[asyncio.subprocess.Process]:
    """A process that does not outlive its block."""
    pipe = asyncio.subprocess.PIPE
    process = await asyncio.create_subprocess_exec(*command, stdin=pipe, stdout=pipe, stderr=pipe)
    try:
        yield process
    finally:
        await _end(process)


async def _end(process: asyncio.subprocess.Process) -> None:
    if process.returncode is None:
        try:
            process.kill()
        except ProcessLookupError:
            pass
        await process.wait()


class Measurers:
    """At most ``size`` measuring processes, started when needed. Whoever opens it closes it, and they end with it."""

    def __init__(self, size: int, timeout: float = TIMEOUT, command: Sequence[str] | None = None) -> None:
        # -P: this directory, whose modules have common names, does not go on the path of the new process
        self._command = command or (sys.executable, "-P", "-W", "ignore", str(Path(__file__).with_name("measure.py")))
        self._timeout = timeout
        self._free = asyncio.Semaphore(size)
        self._idle: list[asyncio.subprocess.Process] = []

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        while self._idle:
            await _end(self._idle.pop())

    async def measure(self, source: str) -> dict[str, Any]:
        """The answer of `autogen_coord.review.measure.measure`; waits for a free process.

        Raises: ToolError.
        """
        async with self._free:
            process = self._take() or await self._start()
            try:
                async with asyncio.timeout(self._timeout):
                    answer = await _ask(process, source)
            except TimeoutError:
                raise ToolError(f"radon gave no answer in {self._timeout:g} s") from None
            else:
                self._idle.append(process)
            finally:
                if process not in self._idle:
                    await _end(process)
        if "failed" in answer:
            raise ToolError(f"radon: {answer['failed']}")
        return answer

    def _take(self) -> asyncio.subprocess.Process | None:
        while self._idle:
            process = self._idle.pop()
            if process.returncode is None:
                return process
        return None

    async def _start(self) -> asyncio.subprocess.Process:
        pipe, nowhere = asyncio.subprocess.PIPE, asyncio.subprocess.DEVNULL
        return await asyncio.create_subprocess_exec(*self._command, stdin=pipe, stdout=pipe, stderr=nowhere, limit=MAX_LINE)


async def _ask(process: asyncio.subprocess.Process, source: str) -> dict[str, Any]:
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        process.stdin.write(json.dumps({"source": source}).encode() + b"\n")
        await process.stdin.drain()
        line = await process.stdout.readline()
    except (ConnectionError, ValueError) as error:  # it died while we wrote; its answer was beyond MAX_LINE
        raise ToolError("radon's process ended in mid-file") from error
    if not line:
        raise ToolError(f"radon's process ended with code {await process.wait()}")
    return _parsed("radon", line, dict)


def _parsed(tool: str, out: bytes, kind: type[K]) -> K:
    try:
        value = json.loads(out)
    except ValueError as error:
        raise ToolError(f"{tool}'s answer is not JSON") from error
    if not isinstance(value, kind):
        raise ToolError(f"{tool}'s answer has another form than expected")
    return value
