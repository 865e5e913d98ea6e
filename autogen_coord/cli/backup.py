"""``autogen-coord backup`` and ``restore``: a whole store into a file, while it is in use, and a store out of it again."""

from __future__ import annotations

import asyncio
from dataclasses import asdict
from typing import Annotated

import typer

from ..errors import ConfigError
from ..settings import Settings
from ..stores import backup_store
from ..stores.sqlite import restore as restoring
from .options import DebugOption, JsonOption, StoreOption, file_of, require_made
from .printing import amount, print_json, say, size, span


def backup(
    target: Annotated[str, typer.Argument(metavar="TARGET", help="The file that the backup goes to.")],
    force: Annotated[bool, typer.Option("--force", help="Replace the file that is there.")] = False,
    as_json: JsonOption = False,
    store: StoreOption = None,
    debug: DebugOption = False,
) -> None:
    """Copy a whole store, all its namespaces, to a file, while it is in use; verified before it gets its name."""
    settings = Settings.load(store=store)
    require_made(_file(settings, "backup"))
    made = asyncio.run(backup_store(settings.store, target, settings, replace=force))
    if as_json:
        print_json(asdict(made))
        return
    spaces = amount(len(made.namespaces), "namespace")
    said = f"{size(made.size)}, {amount(made.rows, 'row')}, {spaces}, schema {made.schema}; verified, in {span(made.seconds)}"
    say(f"{made.path}: {said}")


def restore(
    backup: Annotated[str, typer.Argument(metavar="BACKUP", help="A file that `backup` made.")],
    force: Annotated[
        bool, typer.Option("--force", help="Also while processes seem to use the store: they must be started again.")
    ] = False,
    as_json: JsonOption = False,
    store: StoreOption = None,
    debug: DebugOption = False,
) -> None:
    """Make a backup the store again. Stop its programs first. The file that was there is kept beside it.

    No session of the backup lives in the restored store: what they ran is run again. Tokens of before are refused there.
    """
    settings = Settings.load(store=store)
    made = restoring.restore(backup, _file(settings, "restore"), settings, force=force)
    if as_json:
        print_json(asdict(made))
        return
    spaces, ended = amount(len(made.namespaces), "namespace"), amount(made.sessions, "session")
    say(f"{made.path}: restored from {backup}: {amount(made.rows, 'row')}, {spaces}; {ended} ended, what they ran is run again")
    if made.kept is not None:
        say(f"{made.kept}: what was there before; delete it when it is no longer wanted")


def _file(settings: Settings, command: str) -> str:
    path = file_of(settings.store)
    if path is None:
        raise ConfigError(f"{command}: only a store in a file; name a path with --store")
    return path
