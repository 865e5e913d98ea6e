"""A closed loop of callers: so many calls in flight, each followed by the next, for so many seconds."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from statistics import median

Call = Callable[[], Awaitable[object]]


async def rate(call: Call, concurrency: int, seconds: float) -> float:
    """Calls per second that ended, all of them: the last ones count with the time they took."""
    done = 0
    began = time.perf_counter()
    until = began + seconds

    async def caller() -> None:
        nonlocal done
        while time.perf_counter() < until:
            await call()
            done += 1

    async with asyncio.TaskGroup() as group:
        for _ in range(concurrency):
            group.create_task(caller())
    return done / (time.perf_counter() - began)


async def interleaved(one: Call, other: Call, concurrency: int, rounds: int, seconds: float) -> tuple[list[float], list[float]]:
    """Rates of both, in turns, so that what else the machine does strikes both. The first turn of each only warms up."""
    ones: list[float] = []
    others: list[float] = []
    for number in range(rounds + 1):
        for call, rates in ((one, ones), (other, others)):
            measured = await rate(call, concurrency, seconds if number else seconds / 4)
            if number:
                rates.append(measured)
    return ones, others


async def durations(call: Call, count: int) -> list[float]:
    """Seconds of each of so many calls, one at a time."""
    out = []
    for _ in range(count):
        began = time.perf_counter()
        await call()
        out.append(time.perf_counter() - began)
    return out


def percentile(values: list[float], share: float) -> float:
    """The value that ``share`` of the values do not exceed."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]


def spread(values: list[float]) -> float:
    """How far the rounds lie apart, as a share of their median."""
    return round((max(values) - min(values)) / median(values), 3)
