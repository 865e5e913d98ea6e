"""The tools, each in a process of its own: off the event loop, stopped for good when its attempt is cancelled or out of time.

ruff is started per file (4 ms). bandit, radon and interrogate are Python and slow to load, so a few processes of each (`Measurers`)
stay and take one file after another; one that hangs, crashes or is cancelled in mid-file is killed and replaced. Sources go in by
pipe: the tools read what was hashed, and never the disk.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import logging
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from importlib.metadata import PackageNotFoundError, entry_points, version
from types import TracebackType
from typing import Any, Self, TypeVar

from ..errors import ConfigError
from . import measure

logger = logging.getLogger(__name__)

K = TypeVar("K", list[dict[str, Any]], dict[str, Any])

TIMEOUT = 30.0
"""Seconds that a tool gets for one file, unless told otherwise."""
ORPHANED = 5.0
"""Seconds more after which a measuring process that hangs ends by itself, when whoever would have killed it was killed."""
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
FORM = 2
"""Raised when we keep more of ruff's answer than before: what older stores hold is asked again."""
BANDIT_PLUGINS = "bandit.plugins", "bandit.blacklists"
"""Where bandit finds its tests: other packages may bring some."""


class ToolError(Exception):
    """The tool crashed, hung or gave no answer. The text is the same each time: it stands in the report."""


def tool_versions() -> dict[str, str]:
    """What is asked, by tool: everything that its answer depends on besides the file.

    Raises: ConfigError when a tool is not installed.
    """
    python = f"py{sys.version_info[0]}.{sys.version_info[1]}"  # whose grammar the tools parse by that are Python themselves
    plugins = [(one.name, one.value) for group in BANDIT_PLUGINS for one in entry_points(group=group)]
    return {
        "ruff": f"{_version('ruff')}-{_digest(RUFF_OPTIONS, FORM)}",
        "bandit": f"{_version('bandit')}-{_digest(sorted(plugins))}-{python}",
        "radon": f"{_version('radon')}-{_digest(measure.LONGEST)}-{python}",
        "interrogate": f"{_version('interrogate')}-{_digest(sorted(measure.INTERROGATE_OPTIONS.items()))}-{python}",
    }


def _digest(*options: object) -> str:
    return hashlib.sha256(repr(options).encode()).hexdigest()[:8]


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
    async with _process("ruff", start) as process:
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

    try:
        return str(find_ruff_bin())
    except FileNotFoundError as error:
        raise ToolError("ruff's program is not where its package puts it; install ruff again") from error


async def _started(tool: str, command: Sequence[str], stderr: int, limit: int) -> asyncio.subprocess.Process:
    pipe = asyncio.subprocess.PIPE
    try:
        return await asyncio.create_subprocess_exec(
            *command, stdin=pipe, stdout=pipe, stderr=stderr, limit=limit, start_new_session=True
        )  # Ctrl-C is for us: a tool that it ended would count as one that crashed
    except OSError as error:
        raise ToolError(f"{tool} could not be started: {error.strerror or type(error).__name__}") from error


@asynccontextmanager
async def _process(tool: str, command: Sequence[str]) -> AsyncIterator[asyncio.subprocess.Process]:
    """A process that does not outlive its block."""
    process = await _started(tool, command, asyncio.subprocess.PIPE, MAX_LINE)
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
    """At most ``size`` measuring processes of one tool, started when needed. Whoever opens it closes it, and they end with it."""

    def __init__(self, tool: str, size: int, timeout: float = TIMEOUT, command: Sequence[str] | None = None) -> None:
        # -P: this directory, whose modules have common names, does not go on the path of the new process
        self._command = command or (sys.executable, "-P", "-W", "ignore", measure.__file__, tool, str(timeout + ORPHANED))
        self._tool = tool
        self._timeout = timeout
        self._free = asyncio.Semaphore(size)
        self._idle: list[asyncio.subprocess.Process] = []

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        while self._idle:
            await _end(self._idle.pop())

    async def measure(self, source: str) -> dict[str, Any]:
        """The tool's answer, see `measure.measurer`; waits for a free process.

        Raises: ToolError.
        """
        async with self._free:
            process = self._take() or await _started(self._tool, self._command, asyncio.subprocess.DEVNULL, MAX_LINE)
            try:
                async with asyncio.timeout(self._timeout):
                    answer = await _ask(self._tool, process, source)
            except TimeoutError:
                raise ToolError(f"{self._tool} gave no answer in {self._timeout:g} s") from None
            else:
                self._idle.append(process)
            finally:
                if process not in self._idle:
                    await _end(process)
        if "failed" in answer:
            raise ToolError(f"{self._tool}: {answer['failed']}")
        return answer

    def _take(self) -> asyncio.subprocess.Process | None:
        while self._idle:
            process = self._idle.pop()
            if process.returncode is None:
                return process
        return None


async def _ask(tool: str, process: asyncio.subprocess.Process, source: str) -> dict[str, Any]:
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        process.stdin.write(json.dumps({"source": source}).encode() + b"\n")
        await process.stdin.drain()
        line = await process.stdout.readline()
    except (ConnectionError, ValueError) as error:  # it died while we wrote; its answer was beyond MAX_LINE
        raise ToolError(f"{tool}'s process ended in mid-file") from error
    if not line:
        raise ToolError(f"{tool}'s process ended with code {await process.wait()}")
    return _parsed(tool, line, dict)


def _parsed(tool: str, out: bytes, kind: type[K]) -> K:
    try:
        value = json.loads(out)
    except ValueError as error:
        raise ToolError(f"{tool}'s answer is not JSON") from error
    if not isinstance(value, kind):
        raise ToolError(f"{tool}'s answer has another form than expected")
    return value
