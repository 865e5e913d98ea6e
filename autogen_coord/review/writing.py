"""The report as files, of one review each: two that write to one place do not mix theirs."""

from __future__ import annotations

import asyncio
import hashlib
import os
import re
from pathlib import Path

from autogen_coord import Coordination, FileFence

from ..settings import Settings
from .markdown import to_markdown
from .report import Report, to_json

WAIT = 30.0
"""Seconds that a review waits for another to write; one that was killed as it wrote is declared dead long before."""


async def write_alone(coord: Coordination, settings: Settings, report: Report, base: Path) -> tuple[Path, Path]:
    """`write`, under a lock on the place and past its fence: both files are of one review, though another was paused meanwhile.

    Raises: LockHeldError, LeaseLostError (another has held the lock since, and this report was not written), OSError.
    """
    async with coord.lock(f"report/{_name(base)}", wait=WAIT) as lease:
        return await asyncio.to_thread(_write_fenced, report, base, fence_of(base, settings), lease.token)


def fence_of(base: Path, settings: Settings) -> FileFence:
    """One for each store that writes there: the tokens of different ones do not compare."""
    store = settings.store if "://" in settings.store else str(Path(settings.store).resolve())
    return FileFence(base.with_name(f"{base.name}-{_digest(f'{store} {settings.namespace}')}"))


def _name(base: Path) -> str:
    """The place as part of a lock's path: to be known again, and no two alike."""
    return f"{re.sub(r'[^a-zA-Z0-9_-]', '-', base.name)[:100]}-{_digest(str(base.resolve()))}"


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:8]


def write(report: Report, base: Path) -> tuple[Path, Path]:
    """Write ``base.md`` and ``base.json``, each at once or not at all; the directory is made. Returns both paths."""
    return _write(_texts(report), base)


def _write_fenced(report: Report, base: Path, fence: FileFence, token: int) -> tuple[Path, Path]:
    texts = _texts(report)  # before the fence: whoever is paused inside it keeps the others waiting
    base.parent.mkdir(parents=True, exist_ok=True)
    with fence.guarded(token):
        return _write(texts, base)


def _texts(report: Report) -> tuple[str, str]:
    return to_markdown(report), to_json(report)


def _write(texts: tuple[str, str], base: Path) -> tuple[Path, Path]:
    base.parent.mkdir(parents=True, exist_ok=True)
    paths = base.with_name(base.name + ".md"), base.with_name(base.name + ".json")
    for path, text in zip(paths, texts, strict=True):
        draft = path.with_name(f"{path.name}.{os.getpid()}.tmp")
        try:
            draft.write_text(text, encoding="utf-8", newline="\n")
            draft.replace(path)
        finally:
            draft.unlink(missing_ok=True)
    return paths
