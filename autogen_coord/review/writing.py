"""The report as files."""

from __future__ import annotations

import os
from pathlib import Path

from .markdown import to_markdown
from .report import Report, to_json


def write(report: Report, base: Path) -> tuple[Path, Path]:
    """Write ``base.md`` and ``base.json``, each at once or not at all; the directory is made. Returns both paths."""
    base.parent.mkdir(parents=True, exist_ok=True)
    paths = base.with_name(base.name + ".md"), base.with_name(base.name + ".json")
    for path, text in zip(paths, (to_markdown(report), to_json(report)), strict=True):
        draft = path.with_name(f"{path.name}.{os.getpid()}.tmp")
        try:
            draft.write_text(text, encoding="utf-8", newline="\n")
            draft.replace(path)
        finally:
            draft.unlink(missing_ok=True)
    return paths
