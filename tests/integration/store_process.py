"""What a test lets another process do with a store: ``python -m tests.integration.store_process <verb> <path>``.

A process says on its output how far it has come, a line each time, and ends when its input does.
"""

from __future__ import annotations

import asyncio
import gc
import os
import sys
import threading
from collections.abc import Callable

from autogen_coord.core.store import Keys, Rows
from autogen_coord.core.tables import COUNTER, CounterRow
from autogen_coord.errors import ConfigError
from autogen_coord.settings import Settings
from autogen_coord.stores.sqlite.store import SqliteStore


def count(rows: Rows, now: float) -> int:
    (row,) = rows.get(COUNTER, ["n"])
    row = CounterRow("n", row.value + 1 if row else 1)
    rows.put(COUNTER, row)
    return row.value


def say(text: object) -> None:
    print(text, flush=True)


async def commit(store: SqliteStore) -> None:
    """Commit without pause; say the number of each commit once it is acknowledged."""
    ended = threading.Thread(target=sys.stdin.read, daemon=True)
    ended.start()
    while ended.is_alive():
        say(await store.transact(count))


async def hold(store: SqliteStore) -> None:
    """Stay inside a transaction until a line comes."""

    def fold(rows: Rows, now: float) -> int:
        say("inside")
        sys.stdin.readline()
        return count(rows, now)

    say(await store.transact(fold))


def fork(path: str) -> None:
    """Use the store in a child, which must be refused at once, and after it in the parent."""
    with asyncio.Runner() as runner:
        store = runner.run(SqliteStore.open(path, "default", Settings()))
        runner.run(store.transact(count))
        store.transact_blocking(count)
        child = os.fork()
        if child == 0:
            status = 1
            try:
                in_child(store)
                del store
                gc.collect()
                status = 0
            finally:
                os._exit(status)  # to take the loop down would take the parent's away: they share its selector
        _, status = os.waitpid(child, 0)
        say(os.waitstatus_to_exitcode(status))
        say(runner.run(store.transact(count)))
        say(store.transact_blocking(count))
        runner.run(store.close())


def in_child(store: SqliteStore) -> None:
    uses: tuple[Callable[[], object], ...] = (
        lambda: store.transact(count).send(None),
        lambda: store.read(Keys(COUNTER, ["n"])).send(None),
        lambda: store.now().send(None),
        lambda: store.fill([(COUNTER, CounterRow("m", 1))]).send(None),
        lambda: store.transact_blocking(count),
        lambda: store.changes(lambda: True),
    )
    for use in uses:
        try:
            use()
        except ConfigError as error:
            if "fork" in str(error):
                continue
        raise AssertionError(use)
    asyncio.run(store.close())
    asyncio.run(count_again(store.path))


async def count_again(path: str) -> None:
    store = await SqliteStore.open(path, "default", Settings())
    await store.transact(count)
    await store.close()


async def leave(store: SqliteStore) -> None:
    """End without closing."""
    say(await store.transact(count))
    kept.append(store)


kept: list[SqliteStore] = []


async def main(verb: str, path: str) -> None:
    store = await SqliteStore.open(path, "default", Settings())
    say("open")
    await {"commit": commit, "hold": hold, "leave": leave}[verb](store)
    if store not in kept:
        await store.close()


if __name__ == "__main__":
    if sys.argv[1] == "fork":
        fork(sys.argv[2])
    else:
        asyncio.run(main(sys.argv[1], sys.argv[2]))
