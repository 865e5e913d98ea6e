"""A failing program made small: batches and operations are left out as long as the same check still fails."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from .programs import Batch, Program


def shrink(program: Program, fails: Callable[[Program], bool], most: int = 400) -> Program:
    """The smallest program found in ``most`` trials; each operation that is left is needed."""
    trials = 0
    smaller = True
    while smaller:
        smaller = False
        for candidate in _without(program):
            trials += 1
            if trials > most:
                return program
            if fails(candidate):
                program, smaller = candidate, True
                break
    return program


def _without(program: Program) -> Iterator[Program]:
    batches = program.batches
    for size in (len(batches) // 2, len(batches) // 4, 2, 1):
        for start in range(len(batches) - size, -1, -1) if size else ():
            yield program._replace(batches=(*batches[:start], *_later(batches[start + size :], batches[start : start + size])))
    for number in range(len(batches) - 1, -1, -1):
        batch = batches[number]
        for place in range(len(batch.ops)):
            fewer = batch._replace(ops=(*batch.ops[:place], *batch.ops[place + 1 :]))
            yield program._replace(batches=(*batches[:number], fewer, *batches[number + 1 :]))


def _later(rest: tuple[Batch, ...], left_out: tuple[Batch, ...]) -> tuple[Batch, ...]:
    """What is left out still takes its time."""
    if not rest:
        return rest
    return (rest[0]._replace(wait=rest[0].wait + sum(batch.wait for batch in left_out)), *rest[1:])
