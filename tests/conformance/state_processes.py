"""Processes on every store, each with its `State`: for what does not need a whole `Coordination`."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest

from autogen_coord.core.process import Process
from autogen_coord.core.shared_state import State
from autogen_coord.settings import Settings
from tests.conformance.stores import Place

Opening = Callable[..., Awaitable[State]]


def process_under(state: State) -> Process:
    return state._process


@pytest.fixture
async def opening(place: Place) -> AsyncIterator[Opening]:
    """Opens a state of one more process on the place, under these settings."""
    processes: list[Process] = []

    async def open(namespace: str = "default", **changes: Any) -> State:
        settings = Settings(**{"poll": 0.005, **changes})
        process = Process(await place.open(namespace, settings), settings)
        await process.start()
        processes.append(process)
        return State(process)

    yield open
    for process in processes:
        await process.stop()


@pytest.fixture
async def state(opening: Opening) -> State:
    return await opening()
