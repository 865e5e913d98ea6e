"""The programs of docs/providers.md run, and say what their comments promise."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.acceptance.test_samples import blocks, run

PROGRAMS = blocks("docs/providers.md")


def test_every_program_of_the_page_is_run() -> None:
    assert len(PROGRAMS) == 4
    assert all(program.startswith("# runs\n") for program in PROGRAMS)


@pytest.mark.process
@pytest.mark.timeout(60)
@pytest.mark.parametrize("number", range(len(PROGRAMS)))
def test_a_program_of_the_page_says_what_it_promises(number: int, tmp_path: Path) -> None:
    program = tmp_path / "program.py"
    program.write_text(PROGRAMS[number], encoding="utf-8")
    promised = re.findall(r"^ +print\(.*\)  # (.*)$", PROGRAMS[number], re.MULTILINE)
    assert promised
    assert run(program, cwd=tmp_path).splitlines() == promised
