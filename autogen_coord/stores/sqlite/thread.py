"""A database on the thread of an aiosqlite connection: a whole batch runs there as one function."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from typing import Any, TypeVar, cast

import aiosqlite

T = TypeVar("T")


class DatabaseThread:
    """An aiosqlite connection that runs our functions. Whoever opened it closes it."""

    def __init__(self, connection: aiosqlite.Connection) -> None:
        self._connection = connection

    @classmethod
    async def open(cls, connect: Callable[[], sqlite3.Connection]) -> DatabaseThread:
        """``connect`` is called on the new thread."""
        connection = aiosqlite.Connection(connect, 64)
        # A store that nobody closed must not keep the process from ending. (Before 0.22 the connection was itself the thread.)
        cast(Any, getattr(connection, "_thread", connection)).daemon = True
        return cls(await connection)

    async def run(self, function: Callable[..., T], *args: Any) -> T:
        """Call ``function`` on the thread, after what was put before it. Cancelling the wait does not stop it."""
        # aiosqlite's public methods hop to the thread and back for each statement: a third of the speed (measured). This private
        # one takes any function. It stands here only; pyproject pins the versions that were looked at, and a test calls it.
        return cast(T, await cast(Any, self._connection)._execute(function, *args))

    async def close(self) -> None:
        await self._connection.close()
