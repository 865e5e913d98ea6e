"""The tools in their processes: what they answer, and that nothing of them stays behind."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from importlib.metadata import PackageNotFoundError
from pathlib import Path
from typing import Any

import pytest

from autogen_coord.errors import ConfigError
from autogen_coord.review.answers import MAX_ITEMS, complexity_of, docstrings_of, findings_of, security_of
from autogen_coord.review.measure import measurer
from autogen_coord.review.tools import Measurers, ToolError, run_ruff, tool_versions

pytestmark = pytest.mark.filterwarnings("ignore:The verify_requirements argument:DeprecationWarning")  # bandit's own
HANGS = (sys.executable, "-c", "import time; time.sleep(600)")
CRASHES = (sys.executable, "-c", "import os, sys; sys.stdin.readline(); os.abort()")
BABBLES = (sys.executable, "-c", "import sys; sys.stdin.readline(); print('not json')")
MEASURED = ["bandit", "radon", "interrogate"]
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


async def test_a_syntax_error_is_an_answer_of_every_tool() -> None:
    lint = findings_of(await run_ruff("a.py", "x = 1\ndef f(:\n"))
    assert lint.findings == []
    security, complexity, docstrings = (measurer(tool)("x = 1\ndef f(:\n") for tool in MEASURED)
    for answer in (lint, security_of(security), complexity_of(complexity), docstrings_of(docstrings)):
        assert (answer.syntax_error or "").startswith("line 2: ")


@pytest.mark.parametrize("source", ["", "\x00", "x = '\\d'\n", "\ufeffx = 1\n", "#" * 100_000, "x = " + "(" * 500 + ")" * 500])
async def test_odd_sources_get_an_answer(source: str) -> None:
    findings_of(await run_ruff("a.py", source))
    for tool, read in (("bandit", security_of), ("radon", complexity_of), ("interrogate", docstrings_of)):
        async with Measurers(tool, 1) as measurers:
            read(await measurers.measure(source))


async def test_complexity_is_measured_in_another_process_that_serves_many_files() -> None:
    async with Measurers("radon", 2) as measurers:
        answers = await asyncio.gather(*(measurers.measure(f"def f{n}(a):\n    return 1 if a else 2\n") for n in range(20)))
    blocks = [complexity_of(answer).blocks[0] for answer in answers]
    assert [(block.name, block.kind, block.complexity) for block in blocks] == [(f"f{n}", "function", 2) for n in range(20)]


def test_blocks_come_the_most_complex_first_and_methods_by_their_class() -> None:
    answer = complexity_of(measurer("radon")("class A:\n    def g(self, a):\n        return 1 if a else 2\n\ndef f():\n    pass\n"))
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
    item: dict[str, Any] = {"line": 1, "column": 1, "severity": "low", "confidence": "low"}
    issues = security_of({"issues": [{**item, "rule": "B1", "message": "m" * 9_000}] * (MAX_ITEMS + 7)})
    assert (len(issues.issues), issues.left_off) == (MAX_ITEMS, 7)
    assert len(issues.model_dump_json()) < 1 << 20
    names = [{"name": "n" * 9_000, "kind": "function", "line": n} for n in range(MAX_ITEMS + 7)]
    bare = docstrings_of({"total": MAX_ITEMS + 9, "covered": 2, "missing": names})
    assert (len(bare.missing), bare.left_off, bare.total) == (MAX_ITEMS, 7, MAX_ITEMS + 9)
    assert len(bare.model_dump_json()) < 1 << 20


def test_issues_come_the_most_severe_first_and_know_their_place() -> None:
    source = "import subprocess, hashlib\n\n\ndef f(a):\n    assert a\n    eval(a)\n    hashlib.md5(a)\n"
    issues = security_of(measurer("bandit")(source)).issues
    assert [(one.severity, one.rule, one.line, one.column) for one in issues] == [
        ("high", "B324", 7, 5),
        ("medium", "B307", 6, 5),
        ("low", "B404", 1, 1),
        ("low", "B101", 5, 5),
    ]
    assert all(one.confidence == "high" for one in issues)


def test_what_its_author_allowed_is_no_issue() -> None:
    assert security_of(measurer("bandit")("assert True  # nosec B101\n")).issues == []


def test_a_severity_that_bandit_cannot_tell_is_the_least() -> None:
    item = {"line": 1, "column": 1, "rule": "B1", "severity": "undefined", "confidence": "undefined", "message": "m"}
    assert security_of({"issues": [item]}).issues[0].severity == "low"


@pytest.mark.parametrize("encoding", ["latin-1", "cp1252", "utf-8", "unicode_escape"])
def test_a_declared_encoding_does_not_mislead_the_security_check(encoding: str) -> None:
    answer = security_of(measurer("bandit")(f"# coding: {encoding}\nname = 'Ýé'\nassert name\n"))
    assert answer.syntax_error is None
    assert [(one.rule, one.line) for one in answer.issues] == [("B101", 3)]


def test_only_what_readers_see_wants_a_docstring() -> None:
    source = """
class Open:
    'It has one.'

    def __init__(self): pass
    def bare(self):
        def inner(): pass
    async def also(self):
        def inner(): pass
    def _own(self): pass
    @overload
    def told(self): pass

class _Closed:
    def bare(self): pass

def f(): pass
"""
    answer = docstrings_of(measurer("interrogate")(source))
    assert [(one.kind, one.name, one.line) for one in answer.missing] == [
        ("module", "module", 1),
        ("method", "Open.bare", 6),
        ("method", "Open.also", 8),
        ("function", "f", 17),
    ]
    assert (answer.total, answer.covered) == (5, 1)


def test_an_empty_file_wants_no_docstring() -> None:
    assert docstrings_of(measurer("interrogate")("")).total == 0


@pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="there is no alarm")
async def test_a_process_that_hangs_ends_by_itself_when_nobody_is_left_to_kill_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "sitecustomize.py").write_text(
        "import radon.complexity\n\ndef hangs(code):\n    while True: pass\nradon.complexity.cc_visit = hangs\n"
    )
    monkeypatch.setattr("autogen_coord.review.tools.ORPHANED", -9.8)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    async with Measurers("radon", 1, timeout=10.0) as measurers:
        with pytest.raises(ToolError, match=rf"^radon's process ended with code {-signal.SIGALRM}$"):
            await measurers.measure("x = 1\n")


async def test_what_a_tool_prints_is_not_taken_for_its_answer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "sitecustomize.py").write_text(
        "import radon.complexity\nwas = radon.complexity.cc_visit\n"
        "def loud(code):\n    print('look at me', flush=True)\n    return was(code)\nradon.complexity.cc_visit = loud\n"
    )
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    async with Measurers("radon", 1) as measurers:
        for _ in range(2):
            assert complexity_of(await measurers.measure("def f(): pass\n")).blocks[0].name == "f"


async def test_a_tool_that_raises_is_an_error_with_its_type_and_its_process_serves_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "sitecustomize.py").write_text(
        "import radon.complexity\nwas = radon.complexity.cc_visit\n"
        "def picky(code):\n    if 'bad' in code:\n        raise KeyError('no')\n    return was(code)\n"
        "radon.complexity.cc_visit = picky\n"
    )
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    async with Measurers("radon", 1) as measurers:
        with pytest.raises(ToolError, match=r"^radon: KeyError: 'no'$"):
            await measurers.measure("bad = 1\n")
        (served,) = measurers._idle
        assert complexity_of(await measurers.measure("def f(): pass\n")).blocks[0].name == "f"
        assert measurers._idle == [served]


def test_a_file_that_bandit_gives_up_is_its_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    def breaks(self: object, data: object) -> None:
        raise RuntimeError("inside")

    monkeypatch.setattr("bandit.core.node_visitor.BanditNodeVisitor.process", breaks)
    assert measurer("bandit")("x = 1\n") == {"failed": "exception while scanning file"}


async def test_a_program_that_cannot_be_started_is_an_error_without_paths() -> None:
    nothing = ("/no/such/program",)
    with pytest.raises(ToolError, match=r"^ruff could not be started: No such file or directory$"):
        await run_ruff("a.py", "", command=nothing)
    async with Measurers("radon", 1, command=nothing) as measurers:
        for _ in range(2):  # and its place is free again
            with pytest.raises(ToolError, match=r"^radon could not be started: No such file or directory$"):
                await measurers.measure("")


def test_a_long_table_is_measured_soon_and_has_no_index() -> None:
    table = "TABLE = {\n" + "".join(f"    {n}: ({n}, {n}),\n" for n in range(6_000)) + "}\n"
    measured = complexity_of(measurer("radon")(f"{table}\n\ndef f(a):\n    return 1 if a else 2\n"))
    assert ([block.complexity for block in measured.blocks], measured.maintainability) == ([2], None)
    assert complexity_of(measurer("radon")("x = (\n    1,\n    2,\n)\n")).maintainability is not None


def test_valid_code_whose_lines_radon_cannot_count_is_no_syntax_error(monkeypatch: pytest.MonkeyPatch) -> None:
    def gives_up(source: str, multi: bool) -> float:
        raise SyntaxError("SyntaxError at line: 355")

    monkeypatch.setattr("radon.metrics.mi_visit", gives_up)
    measured = complexity_of(measurer("radon")("def f(): pass\n"))
    assert (len(measured.blocks), measured.maintainability, measured.syntax_error) == (1, None, None)
    assert complexity_of(measurer("radon")("def f(:\n")).syntax_error


async def test_a_tool_is_out_of_reach_of_the_terminals_signals(tmp_path: Path) -> None:
    async with Measurers("radon", 1, command=that_writes_its_id(tmp_path / "radon")) as measurers:
        measuring = asyncio.create_task(measurers.measure("x = 1\n"))
        await appears(tmp_path / "radon")
        assert os.getpgid(int((tmp_path / "radon").read_text())) != os.getpgid(0)
        measuring.cancel()
        with pytest.raises(asyncio.CancelledError):
            await measuring


async def test_a_tool_that_hangs_is_ended_and_the_next_file_gets_a_fresh_process() -> None:
    with pytest.raises(ToolError, match=r"ruff gave no answer in 0.1 s"):
        await run_ruff("a.py", "", timeout=0.1, command=HANGS)
    async with Measurers("radon", 1, timeout=0.1, command=HANGS) as measurers:
        for _ in range(2):
            with pytest.raises(ToolError, match=r"radon gave no answer in 0.1 s"):
                await measurers.measure("x = 1\n")


async def test_a_tool_that_crashes_is_an_error_without_paths_or_ids() -> None:
    with pytest.raises(ToolError, match=r"^ruff ended with code 1?-?\d+$|not JSON"):
        await run_ruff("a.py", "", command=CRASHES)
    with pytest.raises(ToolError, match=r"^ruff's answer is not JSON$"):
        await run_ruff("a.py", "", command=FAILS)
    async with Measurers("radon", 1, command=CRASHES) as measurers:
        for _ in range(2):
            with pytest.raises(ToolError, match=r"^radon's process ended with code -6$"):
                await measurers.measure("x = 1\n")
    async with Measurers("radon", 1, command=BABBLES) as measurers:
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

    async with Measurers("radon", 1, command=that_writes_its_id(tmp_path / "radon")) as measurers:
        measuring = asyncio.create_task(measurers.measure("x = 1\n"))
        await appears(tmp_path / "radon")
        measuring.cancel()
        with pytest.raises(asyncio.CancelledError):
            await measuring
        assert not alive(tmp_path / "radon")


def test_a_version_says_options_and_python_too() -> None:
    versions = tool_versions()
    assert versions["ruff"].count("-") == 1
    assert versions["bandit"].count("-") == 2
    for tool in MEASURED:
        assert versions[tool].endswith(f"-py{sys.version_info[0]}.{sys.version_info[1]}")


def test_a_tool_that_is_not_installed_is_an_error_that_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    def lost(package: str) -> str:
        raise PackageNotFoundError(package)

    monkeypatch.setattr("autogen_coord.review.tools.version", lost)
    with pytest.raises(ConfigError, match=r"^ruff is not installed; pip install 'autogen-coord\[review\]'$"):
        tool_versions()
