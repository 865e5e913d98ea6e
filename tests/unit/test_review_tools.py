"""The tools in their processes: what they answer, and that nothing of them stays behind."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

import pytest

from autogen_coord.review.capabilities import MAX_ITEMS, complexity_of, findings_of
from autogen_coord.review.measure import measure
from autogen_coord.review.tools import Measurers, ToolError, run_ruff, tool_versions

HANGS = (sys.executable, "-c", "import time; time.sleep(600)")
CRASHES = (sys.executable, "-c", "import os, sys; sys.stdin.readline(); os.abort()")
BABBLES = (sys.executable, "-c", "import sys; sys.stdin.readline(); print('not json')")
FAILS = (sys.executable, "-c", "import sys; sys.exit('a path: /secret'); ")


def alive(marker: Path) -> bool:
    """Is the process that wrote its id there still there? (A zombie is not: it was ended, and is waited for.)"""
    state = Path(f"/proc/{marker.read_text()}/stat")
    return state.exists() and state.read_text().rsplit(")", 1)[1].split()[0] != "Z"


def that_writes_its_id(marker: Path) -> tuple[str, ...]:
    code = f"import os, pathlib, time; pathlib.Path({str(marker) + '.new'!r}).write_text(str(os.getpid()))"
    return (sys.executable, "-c", f"{code}; os.rename({str(marker) + '.new'!r}, {str(marker)!r}); time.sleep(600)")


async def appears(marker: Path) -> None:
    async with asyncio.timeout(10):
        while not marker.exists():
            await asyncio.sleep(0.01)


async def test_ruff_finds_by_place_and_the_path_says_what_kind_of_file_it_is() -> None:
    found = findings_of(await run_ruff("pkg/a.py", "import os\nx = undefined\n"))
    assert [(one.line, one.rule) for one in found.findings] == [(1, "F401"), (2, "F821")]


async def test_ruff_ignores_configuration_that_lies_around(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "ruff.toml").write_text('[lint.per-file-ignores]\n"*.py" = ["F401"]\n')
    monkeypatch.chdir(tmp_path)
    assert findings_of(await run_ruff("a.py", "import os\n")).findings[0].rule == "F401"


async def test_a_syntax_error_is_an_answer_of_both_tools() -> None:
    lint = findings_of(await run_ruff("a.py", "def f(:\n"))
    assert lint.findings == []
    assert (lint.syntax_error or "").startswith("line 1: ")
    assert (complexity_of(measure("def f(:\n")).syntax_error or "").startswith("line 1: ")


@pytest.mark.parametrize("source", ["", "\x00", "x = '\\d'\n", "\ufeffx = 1\n", "#" * 100_000, "x = " + "(" * 500 + ")" * 500])
async def test_odd_sources_get_an_answer(source: str) -> None:
    findings_of(await run_ruff("a.py", source))
    async with Measurers(1) as measurers:
        complexity_of(await measurers.measure(source))


async def test_complexity_is_measured_in_another_process_that_serves_many_files() -> None:
    async with Measurers(2) as measurers:
        answers = await asyncio.gather(*(measurers.measure(f"def f{n}(a):\n    return 1 if a else 2\n") for n in range(20)))
    blocks = [complexity_of(answer).blocks[0] for answer in answers]
    assert [(block.name, block.kind, block.complexity) for block in blocks] == [(f"f{n}", "function", 2) for n in range(20)]


def test_blocks_come_the_most_complex_first_and_methods_by_their_class() -> None:
    answer = complexity_of(measure("class A:\n    def g(self, a):\n        return 1 if a else 2\n\ndef f():\n    pass\n"))
    assert [(block.name, block.kind) for block in answer.blocks] == [("A", "class"), ("A.g", "method"), ("f", "function")]


def test_an_answer_stays_below_the_limit_of_an_output() -> None:
    place = {"row": 1, "column": 1}
    found = findings_of([{"code": "E1", "location": place, "message": "m" * 9_000}] * (MAX_ITEMS + 7))
    assert (len(found.findings), found.left_off) == (MAX_ITEMS, 7)
    assert len(found.model_dump_json()) < 1 << 20
    blocks = [{"name": "n" * 9_000, "kind": "function", "line": n, "complexity": 1} for n in range(MAX_ITEMS + 7)]
    measured = complexity_of({"blocks": blocks, "maintainability": 1.0})
    assert (len(measured.blocks), measured.left_off) == (MAX_ITEMS, 7)
    assert len(measured.model_dump_json()) < 1 << 20


async def test_a_tool_that_hangs_is_ended_and_the_next_file_gets_a_fresh_process() -> None:
    with pytest.raises(ToolError, match=r"ruff gave no answer in 0.1 s"):
        await run_ruff("a.py", "", timeout=0.1, command=HANGS)
    async with Measurers(1, timeout=0.1, command=HANGS) as measurers:
        for _ in range(2):
            with pytest.raises(ToolError, match=r"radon gave no answer in 0.1 s"):
                await measurers.measure("x = 1\n")


async def test_a_tool_that_crashes_is_an_error_without_paths_or_ids() -> None:
    with pytest.raises(ToolError, match=r"^ruff ended with code 1?-?\d+$|not JSON"):
        await run_ruff("a.py", "", command=CRASHES)
    with pytest.raises(ToolError, match=r"^ruff's answer is not JSON$"):
        await run_ruff("a.py", "", command=FAILS)
    async with Measurers(1, command=CRASHES) as measurers:
        for _ in range(2):
            with pytest.raises(ToolError, match=r"^radon's process ended with code -6$"):
                await measurers.measure("x = 1\n")
    async with Measurers(1, command=BABBLES) as measurers:
        with pytest.raises(ToolError, match=r"^radon's answer is not JSON$"):
            await measurers.measure("x = 1\n")


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="looks at processes by /proc")
async def test_a_cancelled_tool_is_killed(tmp_path: Path) -> None:
    command = that_writes_its_id(tmp_path / "ruff")
    running = asyncio.create_task(run_ruff("a.py", "", command=command))
    await appears(tmp_path / "ruff")
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    assert not alive(tmp_path / "ruff")

    async with Measurers(1, command=that_writes_its_id(tmp_path / "radon")) as measurers:
        measuring = asyncio.create_task(measurers.measure("x = 1\n"))
        await appears(tmp_path / "radon")
        measuring.cancel()
        with pytest.raises(asyncio.CancelledError):
            await measuring
        assert not alive(tmp_path / "radon")


def test_a_version_says_options_and_python_too() -> None:
    versions = tool_versions()
    assert versions["ruff"].count("-") == 1
    assert versions["radon"].endswith(f"-py{sys.version_info[0]}.{sys.version_info[1]}")
