"""From what a caller wrote to a `Submit` command: every value is checked here, before anything is stored."""

from __future__ import annotations

import math
from datetime import datetime
from enum import IntEnum
from typing import Any, TypedDict

from ..errors import InvalidInputError
from ..settings import MAX_SECONDS, Settings
from . import bodies
from .ids import new_id
from .queue import SUBLANE
from .retry import RetryPolicy
from .tasks import Submit

MAX_NAME = 500
EPOCH_MIN, EPOCH_MAX = 0.0, 4_102_444_800.0 + MAX_SECONDS


class Priority(IntEnum):
    """0 to 10; a point is worth 30 s of waiting (`priority_weight`), so that low ones are late, never forgotten."""

    LOW = 2
    NORMAL = 5
    HIGH = 7
    URGENT = 9
    CRITICAL = 10


class Options(TypedDict, total=False):
    """What `submit` and `call` take besides capability and input, all by name. Times are seconds.

    ``key`` (names the task: the same key and input is the same task), ``retry_failed`` (with a key: make a failed one anew),
    ``priority`` (0 to 10), ``timeout`` (deadline of the whole task), ``attempt_timeout`` (of one attempt), ``ttl`` (latest first
    claim), ``delay`` or ``at`` (not before), ``retry`` (a `RetryPolicy`), ``lane`` (one at a time, in order), ``sticky`` (the same,
    at one provider), ``provider`` (the id of the only one that may run it).
    """

    key: str | None
    """Names the task within its capability: the same key and input again is the same task, finished or not."""
    retry_failed: bool
    """With ``key``: if the task of that key failed, make a new one."""
    priority: float
    timeout: float | None
    """The whole task's deadline, counted from the moment it may start; then it is expired, in any state."""
    attempt_timeout: float | None
    """Of one attempt; one that takes longer has failed, and is retried."""
    ttl: float | None
    """The latest first claim: who gets to it later need not begin."""
    delay: float
    at: datetime | float | None
    """Not before: an aware datetime, or epoch seconds."""
    retry: RetryPolicy | None
    lane: str | None
    """Tasks of one lane run one at a time, in order."""
    sticky: str | None
    """Tasks of one sticky key go to one provider, one at a time, in order."""
    provider: str | None
    """The id of the one provider that may run it."""


def build(label: str, text: str, policy: Settings, options: Options, **more: Any) -> Submit:
    """A checked command with a fresh id.

    Raises: InvalidInputError, PayloadTooLargeError.
    """
    bodies.check_size(text, policy.max_input, f"the input of {label}")
    if not options:
        return Submit(new_id(), label, text, **more)
    known = Options.__annotations__
    for name in options:
        if name not in known:
            raise InvalidInputError(f"unknown option {name!r}; there are {', '.join(sorted(known))}")
    key, retry = options.get("key"), options.get("retry")
    lane, sticky = checked_name(options.get("lane"), "lane"), checked_name(options.get("sticky"), "sticky")
    if lane is not None and sticky is not None:
        raise InvalidInputError("lane and sticky: a sticky key is a lane already, pass one of them")
    for name, value in (("lane", lane), ("sticky", sticky)):
        if value is not None and SUBLANE in value:
            raise InvalidInputError(f"{name}={value!r}: must not contain {SUBLANE!r}")
    if options.get("at") is not None and options.get("delay"):
        raise InvalidInputError("at and delay: both say when it may start, pass one of them")
    if retry is not None and not isinstance(retry, RetryPolicy):
        raise InvalidInputError(f"retry={retry!r}: a RetryPolicy")
    return Submit(
        new_id(), label, text,
        input_hash="" if key is None else bodies.digest(text),
        key=checked_name(key, "key"),
        retry_failed=bool(options.get("retry_failed", False)),
        priority=checked_priority(options.get("priority", Priority.NORMAL)),
        target=checked_name(options.get("provider"), "provider"),
        lane=lane, sticky=sticky,
        at=_moment(options.get("at")),
        delay=checked_seconds(options.get("delay"), "delay") or 0.0,
        deadline=checked_seconds(options.get("timeout"), "timeout", above_zero=True),
        ttl=checked_seconds(options.get("ttl"), "ttl", above_zero=True),
        timeout=checked_seconds(options.get("attempt_timeout"), "attempt_timeout", above_zero=True),
        retry=None if retry is None else retry.stored(),
        **more,
    )  # fmt: skip


def checked_name(value: object, what: str) -> str | None:
    """A key or a name as it may be stored. Raises: InvalidInputError."""
    if value is None:
        return None
    if not isinstance(value, str) or not 0 < len(value) <= MAX_NAME:
        raise InvalidInputError(f"{what}={value!r:.80}: a text of 1 to {MAX_NAME} characters")
    if "\0" in value or any("\ud800" <= char <= "\udfff" for char in value):
        raise InvalidInputError(f"{what}={value!r:.80}: NUL and lone surrogates are not allowed in names")
    return value


def checked_seconds(value: object, what: str, above_zero: bool = False) -> float | None:
    """A time as it may be waited. Raises: InvalidInputError."""
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise InvalidInputError(f"{what}={value!r:.80}: a number of seconds")
    if not 0 <= value <= MAX_SECONDS or (above_zero and value == 0):
        raise InvalidInputError(
            f"{what}={value}: {'more than 0' if above_zero else 'not negative'}, at most a hundred years of seconds"
        )
    return float(value)


def _moment(value: object) -> float | None:
    if value is None:
        return None
    if isinstance(value, datetime):
        if value.tzinfo is None:
            raise InvalidInputError(f"at={value}: a datetime without a time zone; use datetime.now(timezone.utc) + ...")
        return value.timestamp()
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise InvalidInputError(f"at={value!r:.80}: an aware datetime or epoch seconds")
    if not EPOCH_MIN <= value <= EPOCH_MAX:
        raise InvalidInputError(f"at={value}: not a moment of our time; epoch seconds are wanted, not milliseconds")
    return float(value)


def checked_priority(value: object) -> float:
    """A priority as it may be given. Raises: InvalidInputError."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= 10:
        raise InvalidInputError(f"priority={value!r:.80}: a number from 0 to 10, see Priority")
    return float(value)
