"""The end of an attempt with what it wrote: one rule, one transaction."""

from __future__ import annotations

from typing import Any

import pytest

from autogen_coord.core import effects
from autogen_coord.core.claims import Finish
from autogen_coord.core.documents import Author
from autogen_coord.core.effects import FinishWith
from autogen_coord.core.locks import Release
from autogen_coord.core.state import Edit, Write
from autogen_coord.core.store import Range
from autogen_coord.core.tables import ATTEMPT, EVENT, LOCK_HELD, OutcomeRow, TaskState
from autogen_coord.core.tasks import Cancel, cancel
from autogen_coord.errors import StaleClaimError
from tests.conftest import Ground
from tests.unit.resources import Resources
from tests.unit.shelf import Shelf, edit


@pytest.fixture
def shelf(work: Ground) -> Shelf:
    work.submit("t")
    work.claim()
    return Shelf(work)


@pytest.fixture
def res(work: Ground) -> Resources:
    return Resources(work)


def command(*edits: Edit, attempt: int = 1, releases: tuple[Release, ...] = ()) -> FinishWith:
    success = Finish("s1", "t", attempt, TaskState.SUCCEEDED, '"y"', None, 0.5)
    return FinishWith(success, Write("w", edits, Author("s1", "work", "t")), releases)


def finish(shelf: Shelf, given: FinishWith) -> OutcomeRow | None:
    return shelf.ground.do(effects.finish, given)


def told(shelf: Shelf) -> int:
    return len(shelf.ground.scan(Range(EVENT, "key")))


def errors(shelf: Shelf) -> list[Any]:
    return [(row.end, row.error) for row in shelf.ground.scan(Range(ATTEMPT, "by_task", ("t",)))]


def test_a_success_writes_all(shelf: Shelf) -> None:
    outcome = finish(shelf, command(edit("a", 1), edit("b", 2)))
    assert outcome is not None
    assert (outcome.state, shelf.value("a"), shelf.value("b")) == ("succeeded", 1, 2)
    assert (shelf.row("a").actor, shelf.row("a").cause) == ("work", "t")


def test_the_same_success_again_hears_the_same_and_writes_nothing(shelf: Shelf) -> None:
    given = command(edit("a", 1))
    outcome, before = finish(shelf, given), told(shelf)
    assert finish(shelf, given) == outcome
    assert (shelf.row("a").version, told(shelf)) == (1, before)


def test_a_conflict_fails_the_attempt_and_writes_nothing_of_it(shelf: Shelf) -> None:
    shelf.put("b", 0)
    given = command(edit("a", 1), edit("b", 2, 0))
    assert finish(shelf, given) is None
    assert (shelf.value("a"), shelf.value("b"), shelf.ground.state("t")) == (None, 0, "delayed")
    ((end, error),) = errors(shelf)
    assert end == "failed"
    assert '"version_conflict"' in error
    before = told(shelf)
    assert finish(shelf, given) is None  # its answer was lost: the same again
    assert told(shelf) == before


def test_a_conflict_in_the_last_attempt_ends_the_task_and_the_same_again_hears_it(shelf: Shelf) -> None:
    shelf.ground.settings(tries=1)
    shelf.put("b", 0)
    given = command(edit("b", 2, 0))
    outcome = finish(shelf, given)
    assert outcome is not None
    assert outcome.state == "failed"
    assert finish(shelf, given) == outcome
    assert shelf.row("b").version == 1


@pytest.mark.parametrize("bad", [Edit("none", "patch", "{}"), Edit("b", "patch", '[{"op":"remove","path":"/x"}]')])
def test_what_no_longer_applies_is_tried_again(shelf: Shelf, bad: Edit) -> None:
    """It did when the handler wrote it: the document has changed since."""
    shelf.put("b", {})
    assert finish(shelf, command(edit("a", 1), bad)) is None
    assert (shelf.value("a"), shelf.ground.state("t")) == (None, "delayed")


def test_a_write_that_asks_ends_the_task_and_is_kept_once(shelf: Shelf) -> None:
    shelf.put("b", 0)
    given = command(edit("a", 1), edit("b", 2, 0, policy="ask"))
    outcome = finish(shelf, given)
    assert outcome is not None
    assert (outcome.state, shelf.conflicts, shelf.value("a"), shelf.value("b")) == ("failed", ["w"], None, 0)
    assert finish(shelf, given) == outcome
    assert shelf.conflicts == ["w"]
    assert shelf.decide("w", "mine").text == "2"


def test_a_conflict_of_a_task_that_was_cancelled_cancels_it(shelf: Shelf) -> None:
    shelf.put("b", 0)
    shelf.ground.do(cancel, Cancel("t"))
    outcome = finish(shelf, command(edit("a", 1), edit("b", 2, 0)))
    assert outcome is not None
    assert (outcome.state, shelf.value("a")) == ("cancelled", None)


@pytest.mark.parametrize("how", ["another attempt", "dead", "ended"])
def test_a_late_finish_writes_nothing(shelf: Shelf, how: str) -> None:
    attempt = 1
    if how == "another attempt":
        attempt = 2
    elif how == "dead":
        shelf.ground.kill("s1")
    else:
        shelf.ground.finish("t", output='"other"')
    before = told(shelf)
    with pytest.raises(StaleClaimError):
        finish(shelf, command(edit("a", 1), attempt=attempt))
    assert (shelf.value("a"), told(shelf)) == (None, before)


def test_the_locks_go_with_the_writes_that_name_them_and_the_next_in_line_is_granted(shelf: Shelf, res: Resources) -> None:
    guard = shelf.guard(res.hold("l", "a X"))
    res.ask("next", "a X", session="s1", wait=True)
    finish(shelf, command(edit("a", 1, fence=guard), releases=(Release("l", "s1", guard.paths),)))
    assert (shelf.value("a"), shelf.row("a").token) == (1, guard.token)
    assert [row.id for row in shelf.ground.scan(Range(LOCK_HELD, "key"))] == ["next"]


def test_a_lock_that_was_lost_fails_the_attempt(shelf: Shelf, res: Resources) -> None:
    guard = shelf.guard(res.hold("l", "a X"))
    res.release("l")
    assert finish(shelf, command(edit("a", 1, fence=guard), releases=(Release("l", "s1", guard.paths),))) is None
    ((_, error),) = errors(shelf)
    assert '"lease_lost"' in error
    assert shelf.value("a") is None
