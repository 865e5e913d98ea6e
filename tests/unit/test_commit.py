"""The line: batches, refusals, poison, backpressure, and nobody who waits for ever."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager
from typing import Any

import pytest

from autogen_coord.core.commit import Committed, Line
from autogen_coord.core.store import Keys, Range, Rows
from autogen_coord.core.tables import COUNTER, EVENT, CounterRow
from autogen_coord.errors import ClosedError, ConflictError, InvalidInputError, StoreError, StoreUnavailableError
from autogen_coord.settings import Settings
from autogen_coord.stores.dictionary.store import DictionaryStore
from tests.conftest import soon, until


class Slow(DictionaryStore):
    """A store whose transactions wait for a gate, and may fail."""

    def __init__(self, **more: Any) -> None:
        super().__init__(**more)
        self.gate = asyncio.Event()
        self.gate.set()
        self.batches = 0
        self.fault: Exception | None = None
        self.reached = asyncio.Event()

    async def transact(self, fold: Any, prefetch: Any = ()) -> Any:
        self.batches += 1
        self.reached.set()
        await self.gate.wait()
        if self.fault is not None:
            raise self.fault
        return await super().transact(fold, prefetch)


def add(rows: Rows, name: str, now: float, policy: Settings) -> int:
    """A rule: count up, and say how far."""
    (row,) = rows.get(COUNTER, [name])
    value = (row.value if row else 0) + 1
    rows.put(COUNTER, CounterRow(name, value))
    return value


def refuse(rows: Rows, name: str, now: float, policy: Settings) -> int:
    add(rows, name, now, policy)
    raise ConflictError("no", name=name)


def broken(rows: Rows, name: str, now: float, policy: Settings) -> int:
    add(rows, name, now, policy)
    raise ZeroDivisionError(name)


def unwritable(rows: Rows, name: str, now: float, policy: Settings) -> int:
    """Puts a row that the store refuses when it is written: blind, over one that is there."""
    rows.put(COUNTER, CounterRow(name, 1))
    return 1


@asynccontextmanager
async def running(store: Slow, **settings: Any) -> AsyncIterator[Line]:
    line = Line(store, Settings(**settings))
    task = asyncio.create_task(line.run())
    try:
        yield line
    finally:
        store.gate.set()
        store.fault = None
        async with soon():
            if not task.done():
                await line.close()
            await asyncio.gather(task, return_exceptions=True)


async def value(store: DictionaryStore, name: str = "n") -> int | None:
    ((row,),) = await store.read(Keys(COUNTER, [name]))
    return None if row is None else int(row.value)


async def gathered(futures: Iterable[asyncio.Future[int]]) -> list[int | BaseException]:
    async with soon():
        return await asyncio.gather(*futures, return_exceptions=True)


async def test_an_idle_line_commits_at_once() -> None:
    store = Slow()
    async with running(store) as line:
        assert await line.put(add, "n") == 1
        assert store.batches == 1


async def test_what_gathers_while_a_batch_is_on_its_way_is_the_next_batch() -> None:
    store = Slow()
    async with running(store) as line:
        store.gate.clear()
        first = line.offer(add, "n")
        await store.reached.wait()
        rest = [line.offer(add, "n") for _ in range(50)]
        store.gate.set()
        assert await gathered([first, *rest]) == list(range(1, 52))
        assert store.batches == 2


async def test_a_batch_is_bounded_by_count() -> None:
    store = Slow()
    async with running(store, batch_commands=10) as line:
        assert await gathered([line.offer(add, "n") for _ in range(35)]) == list(range(1, 36))
        assert store.batches == 4


async def test_a_batch_is_bounded_by_time_and_the_rest_keeps_its_order() -> None:
    store = Slow()

    def slow(rows: Rows, name: str, now: float, policy: Settings) -> int:
        time.sleep(0.004)
        return add(rows, name, now, policy)

    async with running(store, batch_seconds=0.010, batch_commands=100) as line:
        assert await gathered([line.offer(slow, "n") for _ in range(12)]) == list(range(1, 13))
        assert 4 <= store.batches <= 12


async def test_a_command_longer_than_the_bound_is_still_done() -> None:
    store = Slow()

    def slow(rows: Rows, name: str, now: float, policy: Settings) -> int:
        time.sleep(0.02)
        return add(rows, name, now, policy)

    async with running(store, batch_seconds=0.001) as line:
        assert await gathered([line.offer(slow, "n") for _ in range(3)]) == [1, 2, 3]


async def test_a_refused_command_changes_no_row_and_does_not_disturb_its_neighbours() -> None:
    store = Slow()
    async with running(store) as line:
        answers = await gathered([line.offer(add, "n"), line.offer(refuse, "n"), line.offer(refuse, "m"), line.offer(add, "n")])
    assert [answers[0], answers[3]] == [1, 2]
    assert isinstance(answers[1], ConflictError)
    assert isinstance(answers[2], ConflictError)
    assert store.batches == 1
    assert (await value(store), await value(store, "m")) == (2, None)


async def test_a_rule_that_breaks_is_told_to_its_caller_alone() -> None:
    store = Slow()
    async with running(store) as line:
        answers = await gathered([line.offer(add, "n"), line.offer(broken, "n"), line.offer(add, "n")])
        assert [answers[0], answers[2]] == [1, 2]
        assert isinstance(answers[1], ZeroDivisionError)
        assert await line.put(add, "n") == 3


async def test_a_poisoned_command_fails_alone() -> None:
    store = Slow()
    async with running(store) as line:
        await line.put(add, "poison")
        answers = await gathered([line.offer(add, "n"), line.offer(unwritable, "poison"), line.offer(add, "n")])
        assert [answers[0], answers[2]] == [1, 2]
        assert isinstance(answers[1], StoreError)
        assert (await value(store), await value(store, "poison")) == (2, 1)
        assert await line.put(add, "n") == 3


async def test_a_store_that_is_away_is_told_to_all_and_nothing_is_repeated() -> None:
    store = Slow()
    async with running(store) as line:
        store.fault = StoreUnavailableError("away")
        answers = await gathered([line.offer(add, "n") for _ in range(5)])
        assert {type(answer) for answer in answers} == {StoreUnavailableError}
        assert len({id(answer) for answer in answers}) == 5  # each caller raises its own
        assert store.batches == 1
        store.fault = None
        assert await line.put(add, "n") == 1


async def test_a_store_that_breaks_in_a_way_nobody_knows_lets_nobody_wait() -> None:
    store = Slow()
    async with running(store) as line:
        store.fault = RuntimeError("what is this")
        waiting = [line.offer(add, "n") for _ in range(3)]
        answers = await gathered(waiting)
        assert all(isinstance(answer, Exception) for answer in answers)
        later = asyncio.ensure_future(line.put(add, "n"))
        store.fault = None
        (answer,) = await gathered([later])
        assert answer == 1 or isinstance(answer, ClosedError)


async def test_a_line_that_is_ended_in_a_batch_lets_nobody_wait() -> None:
    store = Slow()
    line = Line(store, Settings())
    task = asyncio.create_task(line.run())
    store.gate.clear()
    first = line.offer(add, "n")
    await store.reached.wait()
    second = line.offer(add, "n")
    task.cancel()
    answers = await gathered([first, second])
    assert {type(answer) for answer in answers} == {ClosedError}
    with pytest.raises(ClosedError):
        line.offer(add, "n")


async def test_a_full_line_makes_its_callers_wait_and_lets_them_go_on() -> None:
    store = Slow()
    async with running(store, line_commands=8, batch_commands=4) as line:
        store.gate.clear()
        await asyncio.sleep(0)
        line.offer(add, "n")
        await store.reached.wait()
        for _ in range(8):
            line.offer(add, "n")
        late = [asyncio.ensure_future(line.put(add, "n")) for _ in range(20)]
        await asyncio.sleep(0.02)
        assert line.waiting == 8
        assert not any(one.done() for one in late)
        store.gate.set()
        await gathered(late)
        assert await value(store) == 29


async def test_a_line_never_grows_far_beyond_its_bound() -> None:
    store = Slow()
    most = 0
    async with running(store, line_commands=16, batch_commands=4) as line:

        async def caller() -> None:
            nonlocal most
            for _ in range(10):
                await line.put(add, "n")
                most = max(most, line.waiting)

        async with soon():
            await asyncio.gather(*(caller() for _ in range(100)))
        assert await value(store) == 1_000
    assert most <= 16 + 100  # those who were let go at once


async def test_a_caller_that_left_before_its_turn_is_passed_over() -> None:
    store = Slow()
    async with running(store) as line:
        store.gate.clear()
        first = line.offer(add, "n")
        await store.reached.wait()
        gone = asyncio.ensure_future(line.put(add, "n"))
        await asyncio.sleep(0)
        gone.cancel()
        last = line.offer(add, "n")
        store.gate.set()
        assert await gathered([first, last]) == [1, 2]


async def test_a_caller_that_left_in_its_turn_has_written_all_the_same() -> None:
    store = Slow()
    async with running(store) as line:
        store.gate.clear()
        gone = asyncio.ensure_future(line.put(add, "n"))
        await store.reached.wait()
        gone.cancel()
        last = line.offer(add, "n")
        store.gate.set()
        assert await gathered([last]) == [2]


async def test_closing_commits_what_has_gathered() -> None:
    store = Slow()
    async with running(store, batch_commands=3) as line:
        waiting = [line.offer(add, "n") for _ in range(10)]
        async with soon():
            await line.close()
        assert await gathered(waiting) == list(range(1, 11))
        with pytest.raises(ClosedError):
            await line.put(add, "n")


async def test_listeners_hear_of_a_commit_before_its_callers() -> None:
    store = Slow()
    heard: list[str] = []
    async with running(store) as line:

        def tell(what: Committed) -> None:
            heard.append("listener")

        line.listen(tell)
        await line.put(add, "n")
        heard.append("caller")
    assert heard[:2] == ["listener", "caller"]


async def test_a_batch_equals_its_commands_one_by_one() -> None:
    async def run(size: int) -> tuple[list[Any], list[Any]]:
        store = Slow()
        rules: list[Callable[..., int]] = [add, refuse, broken, add, add, refuse]
        async with running(store, batch_commands=size) as line:
            answers = await gathered([line.offer(rules[number % 6], f"n{number % 4}") for number in range(48)])
            (rows,) = await store.read(Range(COUNTER, "key"))
        return [answer if isinstance(answer, int) else type(answer) for answer in answers], rows

    assert await run(1) == await run(7) == await run(256)


async def test_rules_run_again_from_unchanged_rows_when_something_was_not_loaded() -> None:
    store = Slow(collecting=True)
    runs: list[str] = []

    def noted(rows: Rows, name: str, now: float, policy: Settings) -> int:
        runs.append(name)
        return add(rows, name, now, policy)

    async with running(store) as line:
        answers = await gathered([line.offer(noted, name) for name in "abab"])
    assert answers == [1, 1, 2, 2]
    assert len(runs) > 4


async def test_what_a_command_said_it_will_read_is_loaded_before() -> None:
    store = Slow(collecting=True)
    runs: list[str] = []

    def noted(rows: Rows, name: str, now: float, policy: Settings) -> int:
        runs.append(name)
        return add(rows, name, now, policy)

    async with running(store) as line:
        assert await line.put(noted, "n", (Keys(COUNTER, ["n"]),)) == 1
    assert runs == ["n"]


async def test_a_lease_is_renewed_with_each_batch() -> None:
    store = Slow()
    renewed: list[float] = []

    def renew(rows: Rows, now: float) -> None:
        rows.get(EVENT, [1])
        renewed.append(now)

    line = Line(store, Settings(), renew)
    task = asyncio.create_task(line.run())
    for _ in range(3):
        await line.put(add, "n")
    assert len(renewed) == 3
    await line.close()
    await task


async def test_an_input_error_inside_a_rule_is_that_error() -> None:
    store = Slow()

    def rule(rows: Rows, name: str, now: float, policy: Settings) -> int:
        raise InvalidInputError("bad", name=name)

    async with running(store) as line:
        with pytest.raises(InvalidInputError) as caught:
            await line.put(rule, "x")
        assert caught.value.name == "x"


async def test_sources_may_go_along_with_a_batch() -> None:
    store = Slow()
    async with running(store) as line:
        sent: list[asyncio.Future[int]] = []

        def source() -> Any:
            if not sent:
                entry = line.entry(add, "source")
                sent.append(entry.future)
                return entry
            return None

        line.join(source)
        await line.put(add, "n")
        await until(lambda: bool(sent) and sent[0].done())
        assert store.batches == 1
        assert sent[0].result() == 1


async def test_a_source_that_fails_leaves_nobody_waiting() -> None:
    line = Line(DictionaryStore(), Settings())
    line.join(lambda: 1 // 0)  # type: ignore[arg-type, return-value]
    waiting = line.offer(add, "a")
    async with soon():
        with pytest.raises(ZeroDivisionError):
            await line.run()
        with pytest.raises(ClosedError) as caught:
            await waiting
    assert isinstance(caught.value.__cause__, ZeroDivisionError)
