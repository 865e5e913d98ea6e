"""The samples, each run as its reader would, and the programs of the guide and the README."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SAMPLES = ROOT / "samples"
PATIENCE = 50
BLOCK = re.compile(r"^```python\n(.*?)^```$", re.MULTILINE | re.DOTALL)
SAID = {
    "first_program": "a long tex\n",
    "retries_and_dead_letters": """\
done on attempt 3
InvalidInputError after 1 attempt
dead letter: the service is down
attempts: ['failed', 'failed', 'failed']
sent letter True
""",
    "priorities_and_lanes": """\
by priority: ['critical', 'normal', 'low']
lane a: ['a1', 'a2', 'a3']
lane b: ['b1', 'b2', 'b3']
two of one lane at once: False
both lanes at once: True
""",
    "children": """\
total: 13
attempts: 2
pages fetched: 3
""",
    "cancel_and_deadlines": """\
timeout ends the task: TaskExpiredError
attempt_timeout fails the attempt: RemoteError attempt 2 did not end within 0.1 s
result(timeout=) ends only the wait: done
cancel: True
its result: TaskCancelledError
cancel once more: False
ttl ends what nobody began: TaskExpiredError
handlers stopped: 4
""",
    "two_processes": """\
killed a worker while it ran a task
[0, 1, 4, 9, 16, 25, 36, 49, 64, 81, 100, 121, 144, 169, 196, 225, 256, 289, 324, 361]
interrupted and run again: {'crashed'}
ended with: [-9, 143]
""",
    "broadcast_and_events": """\
error: eve abstains
ann: yes
bob: no
1 task.delegated
2 task.accepted
3 task.started
4 task.progressed thinking
5 task.completed
""",
}


def run(program: Path, *arguments: str, cwd: Path) -> str:
    """What a program says; it ends well, and leaves nothing unclosed."""
    done = subprocess.run(
        [sys.executable, "-W", "error", str(program), *arguments], cwd=cwd, capture_output=True, text=True, timeout=PATIENCE
    )
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr
    return "".join(f"{line.rstrip()}\n" for line in done.stdout.splitlines())


def blocks(page: str) -> list[str]:
    return BLOCK.findall((ROOT / page).read_text(encoding="utf-8"))


def test_every_sample_is_run() -> None:
    assert {path.stem for path in SAMPLES.glob("*.py")} == set(SAID)


@pytest.mark.process
@pytest.mark.timeout(60)
@pytest.mark.parametrize("name", SAID)
def test_a_sample_says_what_it_promises_on_a_file(name: str, tmp_path: Path) -> None:
    assert run(SAMPLES / f"{name}.py", str(tmp_path / "coord.db"), cwd=tmp_path) == SAID[name]


def test_the_first_program_of_the_readme_is_the_sample() -> None:
    _, _, code = (SAMPLES / "first_program.py").read_text(encoding="utf-8").partition("\n\n")
    assert blocks("README.md")[0] == code


@pytest.mark.process
@pytest.mark.timeout(60)
@pytest.mark.parametrize("number", range(len(blocks("docs/guide.md"))))
def test_a_program_of_the_guide_runs(number: int, tmp_path: Path) -> None:
    code = blocks("docs/guide.md")[number]
    first = code.partition("\n")[0]
    if first.startswith("# samples/"):
        sample = ROOT / first.removeprefix("# ").strip()
        assert code.partition("\n")[2].strip() in sample.read_text(encoding="utf-8")
        return
    assert first == "# runs", "a block of the guide is an excerpt of a sample, or runs"
    program = tmp_path / "program.py"
    program.write_text(code, encoding="utf-8")
    run(program, cwd=tmp_path)
