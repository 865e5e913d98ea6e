"""How far a workflow is: its stages, which of them are begun and completed in this iteration, and what they were judged.

One document, ``progress/<name>``. Every step is applied to what stands there in the writing transaction, so that steps of any
number of processes add up. Earlier iterations are kept in short, the last hundred of them.
"""

from __future__ import annotations

import difflib
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from ..errors import InvalidInputError, NotFoundError
from ..settings import Settings
from . import bodies, documents, values
from .documents import REDUCED, Author, New, checked_fence, text_of
from .process import Process
from .requests import checked_name
from .state_edits import checked_version
from .store import Keys, Rows
from .tables import DOCUMENT

if TYPE_CHECKING:
    from .state_reads import StateReads
    from .threads import Signing

ROOT: Final = "progress/"
STAGES_MOST = 1_000
PAST_MOST = 100
SCORES_MOST = 1_000
"""Of one stage in one iteration; the oldest go first."""

PLAN: Final = "plan"
START: Final = "start"
COMPLETE: Final = "complete"
SCORE: Final = "score"
NEXT: Final = "next"


class Step(NamedTuple):
    """One thing that happened. ``stages``: those it is about."""

    name: str
    act: str
    by: Author
    stages: tuple[str, ...] = ()
    score: float | None = None
    iteration: int | None = None
    """The one that ends, so that who comes second ends no other."""


@dataclass(frozen=True, slots=True)
class Iteration:
    """An earlier iteration: the stages that were completed, and all scores."""

    number: int
    completed: tuple[str, ...]
    scores: Mapping[str, tuple[float, ...]]


@dataclass(frozen=True, slots=True)
class ProgressView:
    """How far a workflow was at one moment. Stages are in the order of the plan."""

    name: str
    version: int
    """Of the document."""
    iteration: int
    """From 1."""
    stages: tuple[str, ...]
    running: tuple[str, ...]
    """Started and not completed."""
    completed: tuple[str, ...]
    pending: tuple[str, ...]
    """Neither started nor completed."""
    scores: Mapping[str, tuple[float, ...]]
    """Of this iteration, in the order in which they came; a stage without any is not in it."""
    past: tuple[Iteration, ...]
    """Earlier iterations, the oldest first, a hundred at most."""

    @property
    def done(self) -> bool:
        """Whether every stage is completed."""
        return len(self.completed) == len(self.stages)

    def score(self, stage: str) -> float | None:
        """The last score of a stage in this iteration."""
        return self.scores[stage][-1] if stage in self.scores else None

    @classmethod
    def of(cls, name: str, version: int, value: dict[str, Any]) -> ProgressView:
        stages, state = value["stages"], value["state"]
        running, completed, pending = (
            tuple(stage for stage in stages if state.get(stage) == wanted) for wanted in (START, COMPLETE, None)
        )
        past = tuple(Iteration(one["iteration"], tuple(one["completed"]), _scores(one["scores"])) for one in value["past"])
        return cls(
            name, version, value["iteration"], tuple(stages), running, completed, pending, _scores(value["scores"]), past
        )  # fmt: skip


def _scores(scores: dict[str, list[float]]) -> Mapping[str, tuple[float, ...]]:
    return {stage: tuple(some) for stage, some in scores.items()}


class Progress:
    """A workflow's progress, told and read by any process. `State.progress` makes it. Every step returns the view behind it.

    Each may raise NotFoundError (no plan, or no such stage), InvalidInputError, StoreError, ClosedError.
    """

    def __init__(self, reads: StateReads, process: Process, author: Signing, name: str) -> None:
        self._reads, self._process, self._author = reads, process, author
        self.name = values.checked_key(name)
        self._key = values.checked_key(ROOT + self.name)

    async def plan(self, *stages: str) -> ProgressView:
        """Say which stages there are, in their order; those that are planned already stay where they are."""
        for stage in stages:
            if checked_name(stage, "stage") is None:
                raise InvalidInputError("stage: a text is wanted")
        return await self._step(PLAN, tuple(stages))

    async def start(self, stage: str) -> ProgressView:
        """A stage is begun; or begun again, when it was completed in this iteration."""
        return await self._step(START, (stage,))

    async def complete(self, stage: str, score: float | None = None) -> ProgressView:
        """A stage is completed, started or not, and perhaps judged."""
        return await self._step(COMPLETE, (stage,), None if score is None else _checked_score(score))

    async def score(self, stage: str, score: float) -> ProgressView:
        """Judge a stage: one more score behind those it has."""
        return await self._step(SCORE, (stage,), _checked_score(score))

    async def next_iteration(self, after: int | None = None) -> ProgressView:
        """Begin anew: all stages are pending, and scores begin empty.

        ``after``: the iteration that ends; when it has ended already nothing is done, so that two who see it end begin one.
        """
        return await self._step(NEXT, (), None, checked_version(after, self._key))

    async def view(self) -> ProgressView:
        """How far it is. Raises: NotFoundError when nothing was planned."""
        found = await self._reads.get(self._key)
        if found is None:
            raise _unplanned(self.name)
        return ProgressView.of(self.name, found.version, found.value)

    async def _step(
        self, act: str, stages: tuple[str, ...], score: float | None = None, iteration: int | None = None
    ) -> ProgressView:
        self._process.check()
        command = Step(self.name, act, self._author(None, None), stages, score, iteration)
        version, text = await self._process.line.put(step, command, (Keys(DOCUMENT, (self._key,)),))
        return ProgressView.of(self.name, version, bodies.decode(text))


# the rule


def step(rows: Rows, command: Step, now: float, policy: Settings) -> tuple[int, str]:
    """The version behind the step, and its text. Raises: NotFoundError, InvalidInputError, FencedError, PayloadTooLargeError."""
    key = ROOT + command.name
    row = rows.one(DOCUMENT, key)
    checked_fence(rows, key, row, None, False)
    known = text_of(rows, row)
    value = applied(None if known is None else bodies.decode(known), command)
    if value is None:
        assert row is not None
        assert known is not None
        return row.version, known
    text = values.checked(value, key, policy.max_value, policy.max_depth)
    return documents.write(rows, key, row, New(text, REDUCED), command.by, now, policy).version, text


def applied(value: dict[str, Any] | None, command: Step) -> dict[str, Any] | None:
    """A progress with one step more; None when it changes nothing. The given one may be changed."""
    if command.act == PLAN:
        return _planned(value, command.stages)
    if value is None:
        raise _unplanned(command.name)
    if command.act == NEXT:
        return _next(value, command.iteration)
    (stage,) = command.stages
    if stage not in value["stages"]:
        near = difflib.get_close_matches(str(stage), value["stages"], n=1)
        hint = f"did you mean {near[0]!r}?" if near else "plan it first"
        raise NotFoundError(f"progress {command.name!r} has no stage {stage!r:.80}; {hint}", name=command.name, stage=stage)
    if command.act != SCORE:
        if command.score is None and value["state"].get(stage) == command.act:
            return None
        value["state"][stage] = command.act
    if command.score is not None:
        value["scores"][stage] = [*value["scores"].get(stage, ()), command.score][-SCORES_MOST:]
    return value


def _planned(value: dict[str, Any] | None, stages: tuple[str, ...]) -> dict[str, Any] | None:
    if value is None:
        value = {"iteration": 1, "stages": [], "state": {}, "scores": {}, "past": []}
    elif all(stage in value["stages"] for stage in stages):
        return None
    value["stages"] = list(dict.fromkeys((*value["stages"], *stages)))
    if len(value["stages"]) > STAGES_MOST:
        raise InvalidInputError(f"more than {STAGES_MOST:,} stages: plan coarser ones")
    return value


def _next(value: dict[str, Any], after: int | None) -> dict[str, Any] | None:
    iteration = value["iteration"]
    if after is not None and after != iteration:
        if after > iteration:
            raise InvalidInputError(f"after={after}: that iteration is yet to come, this is {iteration}")
        return None
    completed = [stage for stage in value["stages"] if value["state"].get(stage) == COMPLETE]
    ended = {"iteration": iteration, "completed": completed, "scores": value["scores"]}
    return {**value, "iteration": iteration + 1, "state": {}, "scores": {}, "past": [*value["past"], ended][-PAST_MOST:]}


def _checked_score(score: object) -> float:
    if isinstance(score, bool) or not isinstance(score, int | float) or not math.isfinite(score):
        raise InvalidInputError(f"score={score!r:.50}: a finite number")
    return float(score)


def _unplanned(name: str) -> NotFoundError:
    return NotFoundError(f"progress {name!r} has no plan: say which stages there are with plan(...)", name=name)
