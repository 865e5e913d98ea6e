"""The public surface: what `__all__` promises is there, is found where it is said to be, and costs nothing before it is used."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import autogen_coord
import autogen_coord.teams


def test_every_public_name_is_there_and_only_those() -> None:
    assert sorted(autogen_coord._HOME_OF) == sorted(autogen_coord.__all__)
    assert all(hasattr(autogen_coord, name) for name in autogen_coord.__all__)
    assert set(dir(autogen_coord)) == {*autogen_coord.__all__, "__version__"}


def test_what_mypy_sees_is_what_is_loaded() -> None:
    tree = ast.parse(Path(autogen_coord.__file__ or "").read_text(encoding="utf-8"))
    imported = {
        alias.name: node.module
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom) and node.level
        for alias in node.names
    }
    assert imported == autogen_coord._HOME_OF


def test_the_public_names_of_teams_are_there_and_cost_nothing_before_they_are_used() -> None:
    teams = autogen_coord.teams
    assert sorted(teams._HOME_OF) == sorted(teams.__all__) == dir(teams)
    assert all(getattr(teams, name).component_provider_override == f"autogen_coord.teams.{name}" for name in teams.__all__)
    script = "import sys; import autogen_coord.teams; print([name for name in sys.modules if name.startswith('autogen_core')])"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=20, check=True)
    assert done.stdout.strip() == "[]"


def test_the_command_line_loads_no_autogen_for_a_command_that_does_without_it() -> None:
    script = "import sys; import autogen_coord.cli; print([name for name in sys.modules if name.startswith('autogen_core')])"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=20, check=True)
    assert done.stdout.strip() == "[]"
