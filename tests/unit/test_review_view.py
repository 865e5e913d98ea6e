"""What is shown while the job runs: the numbers of the board, a view on a terminal, plain lines elsewhere, a picture."""

from __future__ import annotations

import io
import threading
import xml.etree.ElementTree as ET
from contextlib import ExitStack
from pathlib import Path

import pytest
from rich.console import Console

from autogen_coord.review.board import WAITING, Board, Pace, Row, Running
from autogen_coord.review.progress import PlainLines, shown
from autogen_coord.review.view import LINES, LiveView, Photographer, frame, svg


class Watch:
    """A clock that only the test moves."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def watch() -> Watch:
    return Watch()


@pytest.fixture
def board(watch: Watch) -> Board:
    board = Board(watch)
    board.introduce({"lint": "ruff 1.0", "security": "bandit 2.0"})
    return board


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def drawn(board: Board, width: int = 100) -> str:
    console = Console(file=io.StringIO(), width=width, color_system=None)
    with console.capture() as capture:
        console.print(frame(board.snapshot()))
    return capture.get()


class TestPace:
    def test_what_the_store_answers_at_once_is_no_rate(self) -> None:
        pace = Pace(0.0)
        pace.total = 200
        for _ in range(100):
            pace.advance(0.1)
        assert pace.words(0.5) == "no rate yet"
        for tenth in range(20, 40):
            pace.advance(tenth / 10)
        assert pace.words(4.0) == "7/s, 12 s left"

    def test_silence_is_told_and_ends(self) -> None:
        pace = Pace(0.0)
        pace.total = 2
        pace.advance(0.1)
        assert not pace.is_silent(1.0)
        assert pace.words(1.2).startswith("waiting for an answer (a killed run's tasks come back")
        pace.advance(3.0)
        assert pace.words(9.0).endswith("0 s left")

    def test_a_silence_while_something_runs_needs_no_word(self) -> None:
        pace = Pace(0.0)
        pace.total = 2
        assert pace.words(5.0, busy=True) == "no rate yet"


class TestBoard:
    def test_a_task_goes_from_waiting_by_running_to_done_or_failed(self, board: Board) -> None:
        board.expect("lint", 3)
        assert board.snapshot().rows[0] == Row("lint", "ruff 1.0", 3, 0, 0, 0)
        with board.running("lint", "a.py"):
            assert board.snapshot().rows[0] == Row("lint", "ruff 1.0", 2, 1, 0, 0)
        board.settle("lint")
        board.settle("lint", failed=True)
        assert board.snapshot().rows[0] == Row("lint", "ruff 1.0", 1, 0, 1, 1)
        assert board.snapshot().rows[1] == Row("security", "bandit 2.0", 0, 0, 0, 0)
        assert (board.snapshot().done, board.snapshot().total) == (2, 3)

    def test_what_is_not_to_be_after_all_waits_no_more(self, board: Board) -> None:
        board.expect("lint", 3)
        board.expect("lint", -1)
        assert (board.snapshot().rows[0].waiting, board.snapshot().total) == (2, 2)

    def test_what_runs_is_told_the_longest_first(self, board: Board, watch: Watch) -> None:
        with board.running("security", "b.py"):
            watch.now += 2
            with board.running("lint", "a.py"), board.running("lint", "a.py"):
                watch.now += 1
                assert board.snapshot().running == (
                    Running("security", "b.py", 3.0),
                    Running("lint", "a.py", 1.0),
                    Running("lint", "a.py", 1.0),
                )
        assert board.snapshot().running == ()

    def test_an_execution_that_fails_runs_no_more(self, board: Board) -> None:
        with pytest.raises(ValueError), board.running("lint", "a.py"):
            raise ValueError
        assert board.snapshot().running == ()
        assert board.snapshot().rows[0].running == 0

    def test_an_answer_from_the_store_leaves_nothing_below_zero(self, board: Board) -> None:
        board.expect("lint", 1)
        with board.running("lint", "a.py"):
            board.settle("lint")  # another process was faster
            assert board.snapshot().rows[0].waiting == 0

    def test_it_can_be_looked_at_from_another_thread_while_it_changes(self, board: Board) -> None:
        stop, seen = threading.Event(), []

        def look() -> None:
            while not stop.is_set():
                seen.append(board.snapshot())

        looking = threading.Thread(target=look)
        looking.start()
        for n in range(2_000):
            board.expect("lint", 1)
            with board.running("lint", f"{n}.py"):
                pass
            board.settle("lint")
        stop.set()
        looking.join()
        assert all(one.done <= one.total for one in seen)
        assert [one.done for one in seen] == sorted(one.done for one in seen)
        assert board.snapshot().done == 2_000


class TestView:
    def test_it_shows_agents_states_executions_and_how_far_it_is(self, board: Board, watch: Watch) -> None:
        board.expect("lint", 10)
        board.settle("lint")
        board.settle("lint", failed=True)
        with board.running("lint", "pkg/a.py"):
            watch.now += 1.5
            lines = drawn(board).splitlines()
        assert lines[0].split() == ["agent", "tool", "waiting", "running", "done", "failed"]
        (row,) = (line.split() for line in lines if line.startswith("lint") and "ruff" in line)
        assert row == ["lint", "ruff", "1.0", "7", "1", "1", "1"]
        (total,) = (line.split() for line in lines if line.startswith("all"))
        assert total == ["all", "7", "1", "1", "1"]
        (running,) = (line.split() for line in lines if "pkg/a.py" in line)
        assert running == ["lint", "pkg/a.py", "1.5", "s"]
        assert any("2/10  no rate yet" in line for line in lines)

    def test_what_stands_above_stays_in_its_place_and_what_does_not_fit_is_counted(self, board: Board) -> None:
        places = set()
        for count in (0, 1, LINES, LINES + 5):
            with ExitStack() as running:
                for n in range(count):
                    running.enter_context(board.running("lint", f"{n}.py"))
                lines = drawn(board).splitlines()
            places.add(next(number for number, line in enumerate(lines) if "0/0" in line))
            assert sum(".py" in line for line in lines) == min(count, LINES)
            assert any("and 5 more" in line for line in lines) == (count > LINES)
        assert len(places) == 1

    @pytest.mark.parametrize("width", [20, 40, 60, 200])
    def test_no_line_is_wider_than_the_terminal(self, board: Board, width: int) -> None:
        board.expect("lint", 1_000_000)
        with board.running("lint", "deep/" * 60 + "[bold]a.py"):
            assert all(len(line) <= width for line in drawn(board, width).splitlines())

    def test_a_path_is_no_markup(self, board: Board) -> None:
        with board.running("lint", "[red]a[/red].py"):
            assert "[red]a[/red].py" in drawn(board)

    def test_on_a_terminal_it_lives_and_is_gone_at_the_end(self, board: Board, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("TERM", "xterm-256color")
        monkeypatch.delenv("NO_COLOR", raising=False)
        out = Terminal()
        view = shown(board, out)
        assert isinstance(view, LiveView)
        with view:
            board.expect("lint", 1)
        assert "ruff 1.0" in out.getvalue()
        assert out.getvalue().rstrip().endswith("\x1b[2K")  # its lines are cleared

    def test_a_terminal_that_cannot_go_back_gets_plain_lines(self, board: Board, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("TERM", "dumb")
        assert isinstance(shown(board, Terminal()), PlainLines)


class TestPlainLines:
    def test_news_are_told_when_they_are_due(self, board: Board, watch: Watch) -> None:
        out = io.StringIO()
        assert isinstance(shown(board, out), PlainLines)
        lines = PlainLines(board, out, every=2.0)
        board.expect("lint", 2)
        board.settle("lint")
        lines.tick()
        assert out.getvalue() == ""
        watch.now += 2.0
        with board.running("lint", "a.py"):
            lines.tick()
            lines.tick()
        assert out.getvalue() == "review: 1 of 2 tasks, no rate yet\n"

    def test_a_silence_is_told_once(self, board: Board, watch: Watch) -> None:
        out = io.StringIO()
        lines = PlainLines(board, out)
        board.expect("lint", 2)
        for _ in range(3):
            watch.now += 2.0
            lines.tick()
        assert out.getvalue() == f"review: 0 of 2 tasks, {WAITING}\n"
        board.settle("lint")
        for _ in range(3):
            watch.now += 2.0
            lines.tick()
        assert out.getvalue().count("waiting") == 2

    def test_the_end_is_told_but_for_an_error(self, board: Board) -> None:
        out = io.StringIO()
        with PlainLines(board, out):
            board.expect("lint", 1)
            board.settle("lint")
        assert out.getvalue() == "review: 1 of 1 tasks, 0 s left\n"
        out = io.StringIO()
        with pytest.raises(KeyboardInterrupt), PlainLines(board, out):
            raise KeyboardInterrupt
        assert out.getvalue() == ""

    def test_its_own_thread_tells(self) -> None:
        board, said = Board(), threading.Event()

        class Out(io.StringIO):
            def write(self, text: str) -> int:
                said.set()
                return super().write(text)

        out = Out()
        with PlainLines(board, out, every=0.01):
            board.expect("lint", 2)
            board.settle("lint")
            assert said.wait(5)
            assert out.getvalue().startswith("review: 1 of 2 tasks")


class TestPicture:
    def test_it_is_an_svg_of_the_view(self, board: Board) -> None:
        board.expect("lint", 2)
        with board.running("lint", "pkg/<a>&.py"):
            text = svg(board.snapshot(), "a title")
        words = "".join(ET.fromstring(text).itertext()).replace("\xa0", " ")
        assert "pkg/<a>&.py" in words
        assert "ruff 1.0" in words
        assert "a title" in words

    def test_it_shows_a_moment_midway(self, board: Board, tmp_path: Path) -> None:
        place = tmp_path / "view.svg"
        with Photographer(board, place, "a title") as photographer:
            board.expect("lint", 2)
            board.settle("lint")
            with board.running("lint", "midway.py"):
                looked = threading.Event()
                while photographer._best is None or not photographer._best.running:
                    looked.wait(0.005)
            board.settle("lint")
        assert "midway.py" in place.read_text(encoding="utf-8")

    def test_a_job_that_was_too_quick_shows_its_end_and_one_that_failed_shows_nothing(self, board: Board, tmp_path: Path) -> None:
        with Photographer(board, tmp_path / "end.svg", "a title"):
            pass
        assert (tmp_path / "end.svg").exists()
        with pytest.raises(KeyboardInterrupt), Photographer(board, tmp_path / "none.svg", "a title"):
            raise KeyboardInterrupt
        assert not (tmp_path / "none.svg").exists()
