"""Processes that tests start, talk to, and are sure to end."""

from __future__ import annotations

import asyncio
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

ROOT = Path(__file__).parents[2]
PATIENCE = 20.0


class Child:
    def __init__(self, process: Process) -> None:
        self.process = process

    async def line(self) -> str:
        """The next line of its output, "" at its end."""
        assert self.process.stdout is not None
        return (await asyncio.wait_for(self.process.stdout.readline(), PATIENCE)).decode().strip()

    async def rest(self) -> list[str]:
        assert self.process.stdout is not None
        return (await asyncio.wait_for(self.process.stdout.read(), PATIENCE)).decode().split()

    async def tell(self, text: str) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(f"{text}\n".encode())
        await self.process.stdin.drain()

    async def end(self) -> list[str]:
        """Close its input, read the rest of its output, and see that it ended well."""
        assert self.process.stdin is not None
        self.process.stdin.close()
        lines = await self.rest()
        assert await asyncio.wait_for(self.process.wait(), PATIENCE) == 0
        return lines


@asynccontextmanager
async def started(verb: str, path: str, module: str = "tests.integration.store_process") -> AsyncIterator[Child]:
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", module, verb, path, cwd=ROOT, stdin=PIPE, stdout=PIPE, limit=1 << 24
    )
    try:
        yield Child(process)
    finally:
        if process.returncode is None:
            process.kill()
        await process.communicate()
