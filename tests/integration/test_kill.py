"""Processes that submit and work are killed at random moments: nothing acknowledged is lost, nothing ends twice.

The long form, with more rounds and any seed: ``python -m benchmarks.kill --rounds N --seed S``.
"""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.integration.workers.faults import Faults, Plan, Tally, unhurried

IN_TIME = 8.0
"""Seconds from a kill to its task running elsewhere; 4 is the aim, measured by the benchmark on a quiet machine."""


def sound(tally: Tally) -> None:
    """What holds whatever was struck, and when."""
    print(json.dumps(tally.facts()))
    assert not tally.complaints, f"seed {tally.seed}, {tally.rounds} rounds: {tally.complaints[:10]}"
    assert tally.lost == tally.doubled == tally.wrong == 0
    assert 0 < tally.acknowledged <= tally.tasks
    assert tally.executions == tally.tasks + tally.repeated


@pytest.mark.process
@pytest.mark.timeout(60)
@pytest.mark.parametrize("seed", [2, 3])
async def test_what_was_acknowledged_ends_exactly_once_whoever_is_killed(seed: int, tmp_path: Path) -> None:
    tally = await Faults(Plan(seed, rounds=14), tmp_path).run()
    sound(tally)
    assert tally.kills >= 10
    assert tally.repeated > 0, "no fault struck a running task: this shows nothing"


@pytest.mark.process
@pytest.mark.timeout(60)
async def test_a_killed_workers_tasks_soon_run_elsewhere_with_default_settings(tmp_path: Path) -> None:
    tally = await Faults(unhurried(seed=5, rounds=3), tmp_path).run()
    sound(tally)
    assert tally.kills == 3
    assert tally.dead
    assert tally.first
    assert max(tally.first) < IN_TIME
