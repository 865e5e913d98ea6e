"""``desk``: a store and the command line on it, in a folder and an environment of its own."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.acceptance.desk import Desk


@pytest.fixture
def desk(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Desk:
    monkeypatch.chdir(tmp_path)
    for name in [name for name in os.environ if name.startswith("AUTOGEN_COORD_")]:
        monkeypatch.delenv(name)
    return Desk(tmp_path / "coord.db", capsys)
