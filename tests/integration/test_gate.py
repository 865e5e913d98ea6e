"""The gate: nobody who wants to write is passed over by one who writes without pause."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from autogen_coord.core.store import Keys
from autogen_coord.core.tables import COUNTER
from autogen_coord.errors import ConfigError, StoreUnavailableError
from autogen_coord.settings import Settings
from autogen_coord.stores.sqlite.gate import Gate
from autogen_coord.stores.sqlite.store import SqliteStore
from tests.integration.processes import started
from tests.integration.store_process import count

BOUND = 5.0
"""Seconds; a wait is some milliseconds, and without the gate it was seconds on a quiet machine."""


def soon(seconds: float = 0.05) -> float:
    return time.monotonic() + seconds


def test_one_at_a_time_passes_even_in_one_process(tmp_path: Path) -> None:
    one, other = Gate(f"{tmp_path}/db"), Gate(f"{tmp_path}/db")
    with one.passed(soon()), pytest.raises(StoreUnavailableError, match="db-gate2"), other.passed(soon()):
        pass
    with other.passed(soon()), pytest.raises(StoreUnavailableError), one.passed(soon()):
        pass
    with one.passed(soon()):
        pass
    one.close()
    other.close()


def test_who_waits_is_next(tmp_path: Path) -> None:
    """A waiter holds the first lock, so who has just left the gate finds it taken."""
    busy, waiter = Gate(f"{tmp_path}/db"), Gate(f"{tmp_path}/db")
    with busy.passed(soon()):
        waiter._take(waiter._first, soon())
    with pytest.raises(StoreUnavailableError), busy.passed(soon()):
        pass
    waiter.close()
    with busy.passed(soon()):
        pass
    busy.close()


def test_an_error_inside_gives_the_turn_back(tmp_path: Path) -> None:
    one, other = Gate(f"{tmp_path}/db"), Gate(f"{tmp_path}/db")
    with pytest.raises(ZeroDivisionError), one.passed(soon()):
        _ = 1 / 0
    with other.passed(soon()):
        pass
    one.close()
    other.close()


def test_lock_files_are_not_inherited_and_need_a_folder(tmp_path: Path) -> None:
    gate = Gate(f"{tmp_path}/db")
    assert not os.get_inheritable(gate._first)
    assert not os.get_inheritable(gate._second)
    gate.close()
    gate.close()
    with pytest.raises(ConfigError, match="lock files"):
        Gate(f"{tmp_path}/none/db")


@asynccontextmanager
async def opened(path: Path) -> AsyncIterator[SqliteStore]:
    store = await SqliteStore.open(path, "default", Settings())
    try:
        yield store
    finally:
        await store.close()


@pytest.mark.process
@pytest.mark.timeout(60)
async def test_a_process_that_commits_without_pause_lets_others_in(tmp_path: Path) -> None:
    async with opened(tmp_path / "coord.db") as store, started("commit", store.path) as busy:
        assert await busy.line() == "open"
        await busy.line()
        waits = []
        for turn in range(40):
            before = time.monotonic()
            if turn % 2:
                await store.transact(count)
            else:
                await asyncio.to_thread(store.transact_blocking, count)
            waits.append(time.monotonic() - before)
        ((row,),) = await store.read(Keys(COUNTER, ["n"]))
        assert max(waits) < BOUND
        assert row is not None
        assert row.value > 40  # the busy one went on too
        await busy.end()
