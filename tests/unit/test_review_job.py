"""The names of the job's tasks, and the words for those that failed."""

from __future__ import annotations

from pathlib import Path

import pytest

from autogen_coord.errors import RemoteError, TaskCancelledError, TaskCrashedError, TaskError, TaskExpiredError
from autogen_coord.review.files import Found, Skipped, Source
from autogen_coord.review.job import BATCH, _batches, _list, _reason, key_of

SOURCE = Source("pkg/a.py", "x = 1", "d" * 64)


def test_a_key_names_all_that_the_answer_depends_on() -> None:
    keys = {
        key_of("ruff", "1", SOURCE),
        key_of("radon", "1", SOURCE),
        key_of("ruff", "2", SOURCE),
        key_of("ruff", "1", Source("pkg/b.py", SOURCE.text, SOURCE.digest)),
        key_of("ruff", "1", Source(SOURCE.path, "x = 2", "e" * 64)),
    }
    assert len(keys) == 5
    assert key_of("ruff", "1", SOURCE) == key_of("ruff", "1", Source("pkg/a.py", "x = 1", "d" * 64))


def test_a_long_path_makes_no_long_key() -> None:
    one, other = (key_of("ruff", "1", Source(f"{'deep/' * 500}{name}.py", "", "d" * 64)) for name in "ab")
    assert one != other
    assert len(one) < 200


@pytest.mark.parametrize(
    "error",
    [
        RemoteError("task 17 failed", task_id="17", type="ToolError", text="ruff ended with code 2"),
        TaskCancelledError("task 17 was cancelled", task_id="17"),
        TaskExpiredError("task 17 expired", task_id="17"),
        TaskCrashedError("task 17 crashed", task_id="17"),
        TaskError("task 17", task_id="17"),
    ],
)
def test_the_reason_in_a_report_names_no_task(error: TaskError) -> None:
    assert "17" not in _reason(error)
    assert _reason(error)


def test_what_was_found_twice_counts_once_and_is_sorted() -> None:
    a, b, gone = Found("a.py", Path("a")), Found("b.py", Path("b")), Skipped("c.py", "gone")
    assert _list(iter([b, a, gone, b, gone])) == ([a, b], [gone])
    assert [len(batch) for batch in _batches([a] * (BATCH + 1))] == [BATCH, 1]
