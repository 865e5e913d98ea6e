"""Processes around a backup: ``python -m tests.integration.workers.backup_process <verb> <store> ...``

- ``write <store>``: commits without pause, each time a count and three events; says the count once it is acknowledged. It ends
  when its input does.
- ``write-on <store>``: the same; says ``refused`` once the store does not take it any more, and stays.
- ``open <store>``: opens a coordination and says ``open``; it ends when its input does.
- ``backup <store> <target>``, ``restore <backup> <store>``: again and again; a line each time.
- ``die <n> backup|restore <from> <to>``: once, and dies, as by SIGKILL, at the n-th call that changes names or flushes; says
  ``done`` when there were not so many.
"""

from __future__ import annotations

import asyncio
import glob
import os
import sys
import threading
from collections.abc import Callable
from typing import Any

from autogen_coord import Coordination
from autogen_coord.core import events
from autogen_coord.core.events import Kind
from autogen_coord.core.store import Rows
from autogen_coord.errors import StoreError
from autogen_coord.settings import Settings
from autogen_coord.stores.sqlite.backup import backup
from autogen_coord.stores.sqlite.restore import KEPT, restore
from autogen_coord.stores.sqlite.store import SqliteStore
from tests.integration.store_process import count, say

EVENTS = 3
"""Of each commit."""
CALLS = "link", "rename", "replace", "unlink", "fsync", "chmod"


def write_once(rows: Rows, now: float) -> int:
    number = count(rows, now)
    for place in range(EVENTS):
        events.append(rows, now, Kind.TASK_PROGRESSED, f"{number}.{place}", data=events.facts(note="x" * 200))
    return number


async def write(path: str) -> None:
    store = await SqliteStore.open(path, "default", Settings())
    ended = threading.Thread(target=sys.stdin.read, daemon=True)
    ended.start()
    while ended.is_alive():
        say(await store.transact(write_once))
    await store.close()


async def write_on(path: str) -> None:
    store = await SqliteStore.open(path, "default", Settings())
    try:
        while True:
            say(await store.transact(write_once))
    except StoreError as error:
        say("refused" if error.facts.get("gone") else error)
    await asyncio.to_thread(sys.stdin.read)
    await store.close()


async def stay_open(path: str) -> None:
    async with Coordination.open(path):
        say("open")
        await asyncio.to_thread(sys.stdin.read)


def again_and_again(work: Callable[[], None]) -> None:
    while True:
        say("begins")
        work()


def backup_once(source: str, target: str) -> None:
    backup(source, target, replace=True)


def restore_once(source: str, target: str) -> None:
    for kept in glob.glob(f"{target}{KEPT}*"):
        os.unlink(kept)
    restore(source, target, Settings(), force=True)


def die_at(number: int) -> None:
    """From now on, the n-th call that matters is the last."""
    left = number

    def counted(real: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **more: Any) -> Any:
            nonlocal left
            left -= 1
            if left == 0:
                os._exit(9)
            return real(*args, **more)

        return call

    for name in CALLS:
        setattr(os, name, counted(getattr(os, name)))


def main(verb: str, *args: str) -> None:
    works = {"backup": backup_once, "restore": restore_once}
    loops = {"write": write, "write-on": write_on, "open": stay_open}
    if verb in loops:
        asyncio.run(loops[verb](*args))
    elif verb == "die":
        work = works[args[1]]
        die_at(int(args[0]))
        work(*args[2:])
        say("done")
    else:
        again_and_again(lambda: works[verb](*args))


if __name__ == "__main__":
    main(*sys.argv[1:])
