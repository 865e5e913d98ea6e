"""The commands put together, and the one place where an error becomes a line and an exit code."""

from __future__ import annotations

import io
import logging
import os
import sys
import traceback
from collections.abc import Sequence
from typing import Annotated, NoReturn

import typer

from .. import __version__
from ..errors import CoordError
from . import doctor, events, migrate, review, tasks
from .options import DebugOption, Shown
from .printing import clean

NAME = "autogen-coord"
FAILED, STOPPED = 1, 130

app = typer.Typer(
    name=NAME,
    help="Durable coordination for AutoGen: look at a store, steer its tasks, run the demo job.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)
app.command("review")(review.review)
app.add_typer(tasks.app, name="tasks")
app.command("events")(events.events)
app.command("doctor")(doctor.doctor)
app.command("migrate")(migrate.migrate)


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"{NAME} {__version__}")
        raise typer.Exit


@app.callback()
def root(
    version: Annotated[
        bool, typer.Option("--version", help="Print the version and end.", callback=_print_version, is_eager=True)
    ] = False,
    debug: DebugOption = False,
) -> None:
    """Durable coordination for AutoGen: look at a store, steer its tasks, run the demo job."""


def main(args: Sequence[str] | None = None) -> NoReturn:
    """Run a command (None: the one of ``sys.argv``) and exit: 0 done, 1 failed, 2 wrong usage, 130 stopped.

    An error is one line on standard error that says what to do; ``--debug`` puts its traceback before it.
    """
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # a terminal that cannot show a character gets its escape, not an error
            stream.reconfigure(errors="backslashreplace")
    if logging.lastResort is not None:  # it writes to what standard error is at the time: above a progress line, not into it
        logging.lastResort.setFormatter(logging.Formatter("%(levelname)s: %(message)s"))
    shown = Shown()
    try:
        app(args=None if args is None else list(args), prog_name=NAME, obj=shown)
    except KeyboardInterrupt:
        sys.exit(STOPPED)
    except BrokenPipeError:  # whoever read our output has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(FAILED)
    except Exception as error:
        if shown.tracebacks:
            traceback.print_exc()
        typer.echo(f"error: {_line(error)}", err=True)
        sys.exit(FAILED)
    sys.exit(0)


def _line(error: Exception) -> str:
    if isinstance(error, CoordError | OSError):
        return clean(str(error))
    return clean(f"{type(error).__name__}: {error} (this is a fault of autogen-coord; `{NAME} --debug ...` shows where)")
