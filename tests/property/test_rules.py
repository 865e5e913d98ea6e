"""Random programs: SQLite = dictionary = collecting = one by one, and the invariants hold; each planted fault is found.

``TEST_PROGRAMS=5000`` runs more of them, ``TEST_SEED=1000`` others. A failing program is made small
and printed; its seed alone runs it again: ``TEST_SEED=<seed> TEST_PROGRAMS=1 pytest tests/property``.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from autogen_coord.settings import Settings
from autogen_coord.stores.dictionary import store as dictionary
from autogen_coord.stores.sqlite.store import SqliteStore

from .faults import FAULTS, Fault, plant
from .invariants import Violation
from .programs import Program, program
from .shrink import shrink
from .variants import Clock, Play, Variant, in_memory

PROGRAMS = int(os.environ.get("TEST_PROGRAMS", "400"))
SEED = int(os.environ.get("TEST_SEED", "0"))
CHUNKS = 8
ON_DISK = 5
"""One in so many programs runs on SQLite too."""
MOST = 200
"""How many programs a planted fault may survive: fewer than run in each `make test`."""

Others = Callable[[Settings, Clock], list[Variant]]


@pytest.fixture(autouse=True)
def _long_chains(monkeypatch: pytest.MonkeyPatch) -> None:
    """A batch here may hold a command and all that follows from it, each step of which asks for rows of its own."""
    monkeypatch.setattr(dictionary, "ROUNDS", 5_000)


def play(program: Program, others: Others = in_memory) -> Play:
    clock = Clock()
    played = Play(program, others(program.policy, clock), clock)
    played.run()
    return played


def explain(seed: int, violation: Violation) -> str:
    """The smallest program that fails in the same way, as it went."""

    def fails(candidate: Program) -> bool:
        return violation_of(candidate) == violation.check

    small = shrink(program(seed), fails)
    clock = Clock()
    played = Play(small, in_memory(small.policy, clock), clock)
    try:
        played.run()
    except Violation as last:
        return "\n".join([f"seed {seed}: {last}", f"policy: {small.policy!r}", *played.log])
    return f"seed {seed}: {violation}"


def violation_of(candidate: Program) -> str | None:
    try:
        play(candidate)
    except Violation as violation:
        return violation.check
    return None


@pytest.mark.timeout(600)
@pytest.mark.parametrize("chunk", range(CHUNKS))
def test_a_batch_equals_its_commands_one_by_one_and_the_invariants_hold(chunk: int) -> None:
    for seed in range(SEED + chunk, SEED + PROGRAMS, CHUNKS):
        try:
            play(program(seed))
        except Violation as violation:
            pytest.fail(explain(seed, violation), pytrace=False)


@pytest.mark.timeout(600)
async def test_sqlite_equals_the_dictionary(tmp_path: Path) -> None:
    for seed in range(SEED, SEED + PROGRAMS, ON_DISK):
        clock, one = Clock(), program(seed)
        store = await SqliteStore.open(tmp_path / "coord.db", f"program-{seed}", one.policy, clock)
        try:
            play_on = Play(one, [Variant("sqlite", store, one.policy)], clock)
            play_on.run()
        except Violation as violation:
            pytest.fail("\n".join([f"seed {seed}: {violation}", *play_on.log]), pytrace=False)
        finally:
            await store.close()


@pytest.mark.timeout(60)
@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.name)
def test_a_planted_fault_is_found(fault: Fault, monkeypatch: pytest.MonkeyPatch) -> None:
    plant(fault, monkeypatch)
    assert any(violation_of(program(seed)) in fault.checks for seed in range(MOST)), f"{MOST} programs did not notice"


def test_a_program_is_drawn_from_its_seed_alone() -> None:
    assert program(7) == program(7)
    assert play(program(7)).log == play(program(7)).log


def test_a_failing_program_is_made_small(monkeypatch: pytest.MonkeyPatch) -> None:
    plant(next(fault for fault in FAULTS if fault.name == "key ignored"), monkeypatch)
    seed = next(seed for seed in range(MOST) if violation_of(program(seed)) == "keys")
    small = shrink(program(seed), lambda candidate: violation_of(candidate) == "keys")
    assert sum(len(batch.ops) for batch in small.batches) <= 6
