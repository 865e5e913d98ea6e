"""A process that writes a review's report, and stops at a place until it is told to go on: ``store out target [midway|before]``.

It says ``there`` when it stands at that place, goes on with the next line of its input, and says what became of the write.
"""

from __future__ import annotations

import asyncio
import os
import sys
from pathlib import Path
from typing import Any
from unittest.mock import patch

from autogen_coord import CoordError, Coordination, Settings
from autogen_coord.review import writing
from autogen_coord.review.report import Report, to_json


def stop() -> None:
    print("there", flush=True)
    sys.stdin.readline()


def stop_before_the_fence() -> None:
    def stopping(report: Report) -> str:
        text = to_json(report)
        stop()
        return text

    patch.object(writing, "to_json", stopping).start()


def stop_between_the_files() -> None:
    replace = Path.replace

    def stopping(self: Path, target: str | os.PathLike[str]) -> Path:
        path = replace(self, target)
        if path.suffix == ".md":
            stop()
        return path

    patch.object(Path, "replace", stopping).start()


def tell_of_the_write() -> None:
    write = writing._write_fenced

    def telling(*arguments: Any) -> tuple[Path, Path]:
        try:
            paths = write(*arguments)
        except CoordError as error:
            print("refused:", error.message, flush=True)
            raise
        print("written", flush=True)
        return paths

    patch.object(writing, "_write_fenced", telling).start()


async def main(store: str, out: str, target: str) -> None:
    settings = Settings.load(store=store)
    async with Coordination.open(store, settings=settings) as coord:
        try:
            await writing.write_alone(coord, settings, Report(target, {}, []), Path(out))
        except CoordError as error:
            print(type(error).__name__, flush=True)


if __name__ == "__main__":
    place = sys.argv[4] if sys.argv[4:] else ""
    if place == "before":
        stop_before_the_fence()
    if place == "midway":
        stop_between_the_files()
    tell_of_the_write()
    asyncio.run(main(*sys.argv[1:4]))
