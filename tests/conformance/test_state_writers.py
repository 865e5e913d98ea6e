"""Two hundred writers on one document, from two processes: what each policy promises them, on every store."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from autogen_coord import Document, OpenConflictError, VersionConflictError
from autogen_coord.core.shared_state import State
from tests.conformance.state_processes import Opening, opening

__all__ = ["opening"]

WRITERS = 200
KEY = "one"


@pytest.fixture
async def both(opening: Opening) -> tuple[State, State]:
    return await opening(), await opening()


async def written(both: tuple[State, State], write: Callable[[State, int], Awaitable[Document]]) -> list[int]:
    """The versions that two hundred writers made, each once."""
    answers = await asyncio.gather(*(write(both[number % 2], number) for number in range(WRITERS)), return_exceptions=True)
    versions = sorted(answer.version for answer in answers if isinstance(answer, Document))
    assert versions == list(range(versions[0], versions[0] + len(versions)))
    refused = [answer for answer in answers if not isinstance(answer, Document)]
    assert all(isinstance(answer, VersionConflictError) for answer in refused), refused
    return versions


async def test_increments_under_reject_with_retry_lose_nothing(both: tuple[State, State]) -> None:
    async def increment(state: State, number: int) -> Document:
        while True:
            document = await state.get(KEY)
            count, version = (0, 0) if document is None else (document.value, document.version)
            try:
                return await state.put(KEY, count + 1, expected_version=version)
            except VersionConflictError:
                continue

    async def some(state: State, number: int) -> Document:
        """Two hundred at once would try each other out twenty thousand times."""
        async with turn:
            return await increment(state, number)

    turn = asyncio.Semaphore(10)
    assert await written(both, some) == list(range(1, WRITERS + 1))
    assert await both[0].value(KEY) == WRITERS


async def test_increments_under_reduce_lose_nothing(both: tuple[State, State]) -> None:
    async def increment(state: State, number: int) -> Document:
        return await state.put(KEY, {"n": 1, "by": [number]}, policy="reduce", reducers={"n": "add", "by": "union"})

    assert await written(both, increment) == list(range(1, WRITERS + 1))
    value = await both[1].value(KEY)
    assert (value["n"], sorted(value["by"])) == (WRITERS, list(range(WRITERS)))


async def test_each_sets_a_field_of_its_own_under_merge_and_none_is_lost(opening: Opening) -> None:
    both = await opening(history=300), await opening(history=300)  # all are made from the first version, which must be kept
    base = await both[0].put(KEY, {"all": True})

    async def set_field(state: State, number: int) -> Document:
        return await state.put(KEY, {**base.value, f"f{number}": number}, expected_version=1, policy="merge")

    assert await written(both, set_field) == list(range(2, WRITERS + 2))
    assert await both[0].value(KEY) == {"all": True, **{f"f{number}": number for number in range(WRITERS)}}


async def test_a_merge_whose_base_fell_out_of_the_history_is_refused_and_loses_nothing(both: tuple[State, State]) -> None:
    await both[0].put(KEY, {})

    async def set_field(state: State, number: int) -> Document:
        return await state.put(KEY, {f"f{number}": number}, expected_version=1, policy="merge")

    versions = await written(both, set_field)
    assert len(versions) == 101  # the last of these is made while version 1 is the oldest of the hundred that are kept
    assert len(await both[0].value(KEY)) == 101


async def test_the_last_writer_wins_and_every_other_is_in_the_history(opening: Opening) -> None:
    both = await opening(history=300), await opening(history=300)
    await both[0].put(KEY, -1)

    async def overwrite(state: State, number: int) -> Document:
        return await state.put(KEY, number, expected_version=1, policy="last_writer")

    assert await written(both, overwrite) == list(range(2, WRITERS + 2))
    history = await both[0].history(KEY, limit=300)
    assert sorted(one.value for one in history) == list(range(-1, WRITERS))
    assert {one.base for one in history} == {None, 1}


async def test_of_those_who_ask_the_first_writes_and_every_other_waits_for_a_decision(both: tuple[State, State]) -> None:
    await both[0].put(KEY, -1)
    opened: list[tuple[str, int, int]] = []

    async def ask(state: State, number: int) -> Document:
        try:
            return await state.put(KEY, number, expected_version=1, policy="ask")
        except OpenConflictError as error:
            opened.append((error.conflict, error.expected, error.found))
            raise

    assert await written(both, ask) == [2]
    conflicts = await both[1].conflicts(limit=300)
    assert sorted((one.id, 1, 2) for one in conflicts) == sorted(opened)
    assert sorted([*(one.mine for one in conflicts), await both[0].value(KEY)]) == list(range(WRITERS))
