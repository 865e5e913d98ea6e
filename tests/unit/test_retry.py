"""RetryPolicy."""

from __future__ import annotations

import math
from typing import Any

import pytest

from autogen_coord import InvalidInputError, RetryPolicy, Settings


def test_delays_grow_by_the_factor_up_to_the_cap() -> None:
    policy = RetryPolicy(tries=9, backoff=0.5, factor=2, cap=3, jitter=False)
    assert [policy.delay(failures, 0.1) for failures in range(1, 6)] == [0.5, 1.0, 2.0, 3.0, 3.0]


def test_jitter_is_full() -> None:
    policy = RetryPolicy(backoff=4, factor=1)
    assert [policy.delay(1, draw) for draw in (0.0, 0.25, 0.999)] == [0.0, 1.0, pytest.approx(3.996)]


def test_a_huge_number_of_failures_is_still_the_cap() -> None:
    assert RetryPolicy(tries=1_000_000, factor=1000, jitter=False).delay(999_999, 0.5) == 60.0


@pytest.mark.parametrize(
    "values",
    [
        {"tries": 0}, {"tries": -1}, {"tries": math.nan}, {"tries": 10**9}, {"backoff": -1}, {"backoff": math.nan},
        {"backoff": math.inf}, {"factor": -1}, {"factor": math.nan}, {"cap": -1}, {"cap": math.inf}, {"cap": 1e300},
    ],
    ids=str,
)  # fmt: skip
def test_absurd_values_are_refused_by_name(values: dict[str, Any]) -> None:
    with pytest.raises(InvalidInputError, match=next(iter(values))):
        RetryPolicy(**values)


def test_a_policy_is_stored_and_found_again() -> None:
    policy = RetryPolicy(tries=7, backoff=1.5, factor=3, cap=9, jitter=False)
    assert RetryPolicy.of(Settings(), policy.stored()) == policy


def test_without_one_the_settings_are_the_policy() -> None:
    settings = Settings(tries=5, backoff=2, backoff_factor=3, backoff_cap=4)
    assert RetryPolicy.of(settings, None) == RetryPolicy(5, 2, 3, 4)
