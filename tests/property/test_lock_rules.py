"""Random programs of locks: SQLite = dictionary = collecting = one by one, and the invariants hold; each planted fault is found.

``TEST_PROGRAMS=20000`` runs more of them, ``TEST_SEED=10000`` others. A failing program is made small
and printed; its seed alone runs it again: ``TEST_SEED=<seed> TEST_PROGRAMS=1 pytest tests/property/test_lock_rules.py``.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from unittest import mock

import pytest

from autogen_coord.core import deadlocks, lock_queue
from autogen_coord.core.tables import LOCK_HELD, LOCK_WAIT
from autogen_coord.settings import Settings
from autogen_coord.stores.dictionary import store as dictionary
from autogen_coord.stores.sqlite.store import SqliteStore

from .faults import Fault, plant
from .invariants import Violation, require
from .lock_faults import FAULTS
from .lock_invariants import LockWatch
from .lock_programs import LockWorld, farewells, make, program
from .programs import Program
from .shrink import shrink
from .variants import Clock, Play, Step, Variant, in_memory

PROGRAMS = int(os.environ.get("TEST_PROGRAMS", "2000"))
SEED = int(os.environ.get("TEST_SEED", "0"))
CHUNKS = 8
IN_MEMORY, ON_DISK = 10, 50
"""One in so many programs runs on the other stores in memory too; on SQLite."""
MOST = 300
"""How many programs a planted fault may survive."""

Others = Callable[[Settings, Clock], list[Variant]]


class LockPlay(Play):
    """Before the end that all programs have, whoever lives gives back what it holds."""

    worlds = LockWorld
    watches = LockWatch
    make = staticmethod(make)

    def _epilogue(self) -> Iterator[Step]:
        assert isinstance(self.world, LockWorld)
        for command in farewells(self.world, self.program.seed):
            yield Step(0.0, lambda world: None, [lambda world, command=command: command])  # type: ignore[misc]
        yield from super()._epilogue()
        left = [*self.world.mirror.rows(LOCK_HELD), *self.world.mirror.rows(LOCK_WAIT)]
        require(not left, "leak", "nobody is there, and these are held or waited for:", left)


@pytest.fixture(autouse=True)
def _long_chains(monkeypatch: pytest.MonkeyPatch) -> None:
    """A search for circles asks for the rows of each step when it takes it."""
    monkeypatch.setattr(dictionary, "ROUNDS", 5_000)
    monkeypatch.setattr(lock_queue, "PAGE", 2)  # what is read in pages has several here


def alone(policy: Settings, clock: Clock) -> list[Variant]:
    """No other store beside the one that is watched."""
    return []


def play(program: Program, others: Others = in_memory, log: list[LockPlay] | None = None) -> LockPlay:
    """``log`` gets the play also when it fails."""
    clock = Clock()
    played = LockPlay(program, others(program.policy, clock), clock)
    if log is not None:
        log.append(played)
    with few_or_many(program):
        played.run()
    return played


def few_or_many(program: Program) -> AbstractContextManager[object]:
    """Those who wait are read as a whole in one program, and where they are needed in the next."""
    return mock.patch.object(deadlocks, "FEW", program.seed % 2 * 256)


def explain(seed: int, violation: Violation) -> str:
    """The smallest program that fails in the same way, as it went."""
    small = shrink(program(seed), lambda candidate: violation_of(candidate) == violation.check)
    played: list[LockPlay] = []
    try:
        play(small, log=played)
    except Violation as last:
        return "\n".join([f"seed {seed}: {last}", f"policy: {small.policy!r}", *played[0].log])
    return f"seed {seed}: {violation}"


def violation_of(candidate: Program, others: Others = in_memory) -> str | None:
    try:
        play(candidate, others)
    except Violation as violation:
        return violation.check
    return None


@pytest.mark.timeout(600)
@pytest.mark.parametrize("chunk", range(CHUNKS))
def test_locks_in_a_batch_equal_those_one_by_one_and_the_invariants_hold(chunk: int) -> None:
    for seed in range(SEED + chunk, SEED + PROGRAMS, CHUNKS):
        try:
            play(program(seed), in_memory if seed // CHUNKS % IN_MEMORY == 0 else alone)
        except Violation as violation:
            pytest.fail(explain(seed, violation), pytrace=False)


@pytest.mark.timeout(600)
async def test_sqlite_locks_like_the_dictionary(tmp_path: Path) -> None:
    for seed in range(SEED, SEED + PROGRAMS, ON_DISK):
        clock, one = Clock(), program(seed)
        store = await SqliteStore.open(tmp_path / "coord.db", f"program-{seed}", one.policy, clock)
        try:
            play_on = LockPlay(one, [Variant("sqlite", store, one.policy)], clock)
            with few_or_many(one):
                play_on.run()
        except Violation as violation:
            pytest.fail("\n".join([f"seed {seed}: {violation}", *play_on.log]), pytrace=False)
        finally:
            await store.close()


@pytest.mark.timeout(60)
@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.name)
def test_a_planted_fault_of_locks_is_found(fault: Fault, monkeypatch: pytest.MonkeyPatch) -> None:
    plant(fault, monkeypatch)
    others = in_memory if {"rows", "answers"} & set(fault.checks) else alone  # the others must follow, to see that they differ
    found = (violation_of(program(seed), others) for seed in range(MOST))
    assert any(check in fault.checks for check in found), f"{MOST} programs did not notice"


def test_a_program_of_locks_is_drawn_from_its_seed_alone() -> None:
    assert program(7) == program(7)
    assert play(program(7)).log == play(program(7)).log


def test_a_failing_program_of_locks_is_made_small(monkeypatch: pytest.MonkeyPatch) -> None:
    plant(next(fault for fault in FAULTS if fault.name == "a token is given twice"), monkeypatch)
    seed = next(seed for seed in range(MOST) if violation_of(program(seed)) == "tokens")
    small = shrink(program(seed), lambda candidate: violation_of(candidate) == "tokens")
    assert sum(len(batch.ops) for batch in small.batches) <= 4
