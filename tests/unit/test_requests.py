"""Options of a submit: what is accepted, and what becomes of it."""

from __future__ import annotations

import math
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest

from autogen_coord import InvalidInputError, PayloadTooLargeError, Priority, RetryPolicy, Settings
from autogen_coord.core import bodies
from autogen_coord.core.requests import build
from autogen_coord.core.tasks import Submit

SETTINGS = Settings(max_input=100)


def made(text: str = '"x"', **options: Any) -> Submit:
    return build("work", text, SETTINGS, options)  # type: ignore[arg-type]


def test_without_options_all_is_default() -> None:
    command = made()
    assert (command.capability, command.input, command.priority, command.delay) == ("work", '"x"', 5.0, 0.0)
    assert (command.key, command.deadline, command.ttl, command.timeout, command.retry, command.at) == (None,) * 6


def test_options_reach_their_fields() -> None:
    retry = RetryPolicy(tries=9)
    command = made(
        key="k", retry_failed=True, priority=Priority.HIGH, timeout=9, attempt_timeout=3, ttl=4, delay=1, retry=retry, lane="l",
        provider="p",
    )  # fmt: skip
    assert (command.key, command.retry_failed, command.priority, command.lane, command.target) == ("k", True, 7.0, "l", "p")
    assert (command.deadline, command.timeout, command.ttl, command.delay) == (9.0, 3.0, 4.0, 1.0)
    assert RetryPolicy.of(SETTINGS, command.retry) == retry
    assert command.input_hash == bodies.digest('"x"')


def test_none_means_not_given() -> None:
    command = made(key=None, timeout=None, at=None, retry=None, lane=None, ttl=None)
    assert (command.key, command.deadline, command.at, command.retry, command.lane, command.ttl) == (None,) * 6


def test_ids_are_new_each_time_and_sort_by_time() -> None:
    ids = [made().id for _ in range(2_000)]
    assert len(set(ids)) == 2_000
    assert ids == sorted(ids)


def test_a_moment_is_epoch_seconds_or_an_aware_datetime() -> None:
    moment = datetime(2030, 1, 1, 12, tzinfo=timezone(timedelta(hours=2)))
    assert made(at=moment).at == datetime(2030, 1, 1, 10, tzinfo=UTC).timestamp()
    assert made(at=1_900_000_000).at == 1_900_000_000.0
    with pytest.raises(InvalidInputError, match="time zone"):
        made(at=datetime(2030, 1, 1))
    with pytest.raises(InvalidInputError, match="milliseconds"):
        made(at=1_900_000_000_000)


@pytest.mark.parametrize("name", ["delay", "timeout", "ttl", "attempt_timeout"])
@pytest.mark.parametrize("value", [-1, -1e-9, math.nan, math.inf, -math.inf, 1e300, "1", True, b"1", [1]])
def test_an_absurd_time_is_refused_by_name(name: str, value: Any) -> None:
    with pytest.raises(InvalidInputError, match=name):
        made(**{name: value})


@pytest.mark.parametrize("name", ["timeout", "ttl", "attempt_timeout"])
def test_no_time_at_all_is_refused_where_it_would_end_the_task(name: str) -> None:
    options: dict[str, Any] = {name: 0}
    with pytest.raises(InvalidInputError, match="more than 0"):
        made(**options)
    assert made(delay=0).delay == 0.0


@pytest.mark.parametrize("value", ["", "\0", "a\0b", "\ud800", "a\udfffb", "x" * 501, 1, b"x", ["x"]])
@pytest.mark.parametrize("name", ["key", "lane", "sticky", "provider"])
def test_a_bad_name_is_refused(name: str, value: Any) -> None:
    with pytest.raises(InvalidInputError, match=name):
        made(**{name: value})


@pytest.mark.parametrize("value", ["x" * 500, "é😀", " ", "a/b:c@d!e", "'; drop table task; --", "\n"])
def test_a_strange_but_sound_name_is_taken(value: str) -> None:
    assert made(key=value).key == value


def test_an_unknown_option_is_told_with_those_that_exist() -> None:
    with pytest.raises(InvalidInputError, match=r"'tiemout'.*attempt_timeout"):
        made(tiemout=1)


def test_the_limit_is_of_the_json() -> None:
    assert made('"' + "a" * 98 + '"').input
    with pytest.raises(PayloadTooLargeError) as caught:
        made('"' + "a" * 99 + '"')
    assert (caught.value.size, caught.value.limit) == (101, 100)
