"""A workflow's progress: steps of many writers add up."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from autogen_coord import Coordination, InvalidInputError, NotFoundError, ProgressView, capability
from autogen_coord.core.progress import PAST_MOST, SCORES_MOST
from tests.conftest import World


@pytest.fixture
async def other(world: World, coord: Coordination) -> Coordination:
    """Another process on the same store."""
    return await world.open()


async def test_a_workflow_goes_through_its_stages(coord: Coordination) -> None:
    progress = coord.state.progress("report")
    view = await progress.plan("draft", "review", "publish")
    assert (view.iteration, view.stages, view.pending, view.done) == (1, ("draft", "review", "publish"), view.stages, False)
    await progress.start("draft")
    view = await progress.start("review")
    assert (view.running, view.pending) == (("draft", "review"), ("publish",))
    view = await progress.complete("draft", score=0.5)
    assert (view.completed, view.running, view.score("draft"), view.score("review")) == (("draft",), ("review",), 0.5, None)
    await progress.score("draft", 0.75)
    await progress.complete("review")
    view = await progress.complete("publish")
    assert view.done
    assert view.scores == {"draft": (0.5, 0.75)}
    assert view == await progress.view()


async def test_a_new_iteration_begins_anew_and_the_last_one_is_kept_in_short(coord: Coordination) -> None:
    progress = coord.state.progress("report")
    await progress.plan("draft", "review")
    await progress.complete("draft", 1)
    view = await progress.next_iteration()
    assert (view.iteration, view.pending, view.completed, view.scores) == (2, ("draft", "review"), (), {})
    (past,) = view.past
    assert (past.number, past.completed, past.scores) == (1, ("draft",), {"draft": (1.0,)})


async def test_two_who_see_an_iteration_end_begin_one(coord: Coordination, other: Coordination) -> None:
    await coord.state.progress("p").plan("a")
    views = await asyncio.gather(*(one.state.progress("p").next_iteration(after=1) for one in (coord, other) * 5))
    assert {view.iteration for view in views} == {2}
    assert (await coord.state.progress("p").view()).version == 2
    with pytest.raises(InvalidInputError, match="yet to come"):
        await coord.state.progress("p").next_iteration(after=3)


async def test_steps_of_many_writers_in_two_processes_are_all_there(coord: Coordination, other: Coordination) -> None:
    stages = [f"s{number}" for number in range(40)]
    both = [one.state.progress("p") for one in (coord, other)]
    await asyncio.gather(*(both[place % 2].plan(stage) for place, stage in enumerate(stages)))

    async def run(place: int, stage: str) -> None:
        await both[place % 2].start(stage)
        await asyncio.gather(*(both[turn % 2].score(stage, turn) for turn in range(4)))
        await both[(place + 1) % 2].complete(stage, 9)

    await asyncio.gather(*(run(place, stage) for place, stage in enumerate(stages)))
    view = await both[0].view()
    assert sorted(view.stages) == sorted(view.completed) == sorted(stages)
    assert all(sorted(view.scores[stage]) == [0, 1, 2, 3, 9] and view.score(stage) == 9 for stage in stages)
    assert view.version == 40 + 40 * 6


async def test_what_changes_nothing_writes_nothing(coord: Coordination) -> None:
    progress = coord.state.progress("p")
    await progress.plan("a", "b")
    await progress.complete("a")
    for again in (progress.complete("a"), progress.plan("b"), progress.plan()):
        assert (await again).version == 2
    assert (await progress.start("a")).running == ("a",)
    assert (await progress.plan("c", "a")).stages == ("a", "b", "c")


async def test_what_was_not_planned_is_refused_with_what_is_near(coord: Coordination) -> None:
    progress = coord.state.progress("p")
    for step in (progress.view(), progress.start("a"), progress.next_iteration()):
        with pytest.raises(NotFoundError, match="plan"):
            await step
    await progress.plan("review")
    with pytest.raises(NotFoundError, match="did you mean 'review'"):
        await progress.complete("reveiw")
    with pytest.raises(NotFoundError, match="plan it first"):
        await progress.score("x", 1)
    assert (await progress.view()).version == 1


async def test_bad_input_is_refused(coord: Coordination) -> None:
    for name in ("", "a//b", 7, "x" * 500):
        with pytest.raises(InvalidInputError):
            coord.state.progress(name)  # type: ignore[arg-type]
    progress = coord.state.progress("p")
    for stage in ("", None, 7, "x" * 501):
        with pytest.raises(InvalidInputError):
            await progress.plan(stage)  # type: ignore[arg-type]
    with pytest.raises(InvalidInputError, match="coarser"):
        await progress.plan(*map(str, range(1_001)))
    await progress.plan("a")
    scores: list[Any] = [float("nan"), float("inf"), "1", True, None]
    for score in scores:
        with pytest.raises(InvalidInputError):
            await progress.score("a", score)


async def test_it_stays_bounded(coord: Coordination) -> None:
    progress = coord.state.progress("p")
    await progress.plan("a")
    await asyncio.gather(*(progress.score("a", number) for number in range(SCORES_MOST + 3)))
    assert len((await progress.view()).scores["a"]) == SCORES_MOST
    await asyncio.gather(*(progress.next_iteration() for _ in range(PAST_MOST + 3)))
    view = await progress.view()
    assert (view.iteration, len(view.past), view.past[-1].number) == (PAST_MOST + 4, PAST_MOST, PAST_MOST + 3)


async def test_handlers_tell_it_and_the_history_says_who(coord: Coordination) -> None:
    await coord.state.progress("p").plan("a")

    @capability
    async def work(stage: str) -> float | None:
        view: ProgressView = await coord.state.progress("p").complete(stage, 1)
        return view.score(stage)

    await coord.provide(work)
    handle = await coord.submit(work, "a")
    assert await handle.result(timeout=10) == 1
    (newest, _) = await coord.state.history("progress/p")
    assert (newest.actor, newest.cause) == ("work", handle.id)
