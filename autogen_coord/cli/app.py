"""The commands put together, and the one place where an error becomes a line and an exit code."""

from __future__ import annotations

import io
import logging
import os
import sys
import traceback
from collections.abc import Sequence
from typing import Annotated, Any, NoReturn

import typer

from .. import __version__
from ..errors import CoordError
from ..settings import plain
from . import agents, backup, call, doctor, events, locks, messages, migrate, review, state, tasks
from .options import DebugOption, Shown
from .printing import clean

NAME = "autogen-coord"
FAILED, WRONG, STOPPED = 1, 2, 130
UsageError: type[Exception] = typer.BadParameter.__mro__[1]
"""The base of what Typer raises for wrong usage; newer ones bring a Click of their own, so it is found, not imported."""

app = typer.Typer(
    name=NAME,
    help="Durable coordination for AutoGen: look at a store, steer its tasks, locks and state, call its agents, run the demo job.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)
app.command("review")(review.review)
app.add_typer(agents.app, name="agents")
app.command("call")(call.call)
app.command("send")(messages.send)
app.command("receive")(messages.receive)
app.add_typer(tasks.app, name="tasks")
app.add_typer(locks.app, name="locks")
app.add_typer(state.app, name="state")
app.command("events")(events.events)
app.command("doctor")(doctor.doctor)
app.command("migrate")(migrate.migrate)
app.command("backup")(backup.backup)
app.command("restore")(backup.restore)


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
    """Durable coordination for AutoGen: look at a store, steer its tasks, locks and state, call its agents, run the demo job."""


def main(args: Sequence[str] | None = None) -> NoReturn:
    """Run a command (None: the one of ``sys.argv``) and exit: 0 done, 1 failed, 2 wrong usage, 130 stopped.

    An error is one line on standard error that says what to do; ``--debug`` puts its traceback before it.
    """
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # a terminal that cannot show a character gets its escape, not an error
            stream.reconfigure(errors="backslashreplace")
    if logging.lastResort is not None:  # it writes to what standard error is at the time: above a progress line, not into it
        logging.lastResort.setFormatter(_Lines("%(levelname)s: %(message)s"))
    shown = Shown()
    try:
        code = app(args=None if args is None else list(args), prog_name=NAME, obj=shown, standalone_mode=False)
    except KeyboardInterrupt:
        sys.exit(STOPPED)
    except typer.Abort:
        typer.echo("stopped: nothing was changed", err=True)
        sys.exit(FAILED)
    except UsageError as error:
        _tell_usage(error)
        sys.exit(WRONG)
    except BrokenPipeError:  # whoever read our output has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(FAILED)
    except Exception as error:
        if shown.tracebacks:
            traceback.print_exc()
        typer.echo(f"error: {_line(error)}", err=True)
        sys.exit(FAILED)
    sys.exit(code if isinstance(code, int) else 0)


class _Lines(logging.Formatter):
    """A log line that looks like our others: one line, its level in small letters."""

    def format(self, record: logging.LogRecord) -> str:
        return clean(super().format(record).replace(record.levelname, record.levelname.lower(), 1))


def _tell_usage(error: Any) -> None:
    context = error.ctx
    if type(error).__name__ == "NoArgsIsHelpError":  # nothing was asked for: the help is the answer
        typer.echo(context.get_help(), err=True)
        return
    text = clean(plain(error.format_message())).rstrip(".")
    typer.echo(f"error: {text}; see `{NAME if context is None else context.command_path} --help`", err=True)


def _line(error: Exception) -> str:
    if isinstance(error, CoordError | OSError):
        return clean(str(error))
    return clean(f"{type(error).__name__}: {error} (this is a fault of autogen-coord; `{NAME} --debug ...` shows where)")
