"""What the commands share: their common options, and how they get at a store without making one."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Annotated, TypeVar

import typer

from ..core import running
from ..core.requests import Priority
from ..core.store import Store
from ..errors import ConfigError
from ..settings import DAY, MAX_SECONDS, Settings
from ..stores import DICTIONARY, SQLITE, open_store
from ..stores.sqlite import checkup

if TYPE_CHECKING:
    from ..coordination import Coordination

T = TypeVar("T")

UNITS = {"s": 1.0, "m": 60.0, "h": 3_600.0, "d": DAY, "w": 7 * DAY}
_SPAN = re.compile(r"(\d+(?:\.\d+)?)\s*([smhdw])")


class Shown:
    """What a run of the command line shows of an error."""

    tracebacks = False


def _note_debug(context: typer.Context, wanted: bool) -> bool:
    if wanted and isinstance(context.obj, Shown):
        context.obj.tracebacks = True
    return wanted


def seconds(text: str) -> float:
    """``90s``, ``15m``, ``1.5h``, ``7d``, ``2w`` as seconds; a unit is wanted, as what is purged is gone."""
    match = _SPAN.fullmatch(text.strip())
    if match is None or float(match[1]) * UNITS[match[2]] > MAX_SECONDS:
        raise typer.BadParameter(
            f"{text!r} is no span of time: a number with its unit s, m, h, d or w, such as 7d, a hundred years at most"
        )
    return float(match[1]) * UNITS[match[2]]


def time_span(text: str) -> float:
    """`seconds`, where a number without a unit is seconds: of waiting, nothing is lost by it."""
    try:
        return seconds(text if text.strip()[-1:].isalpha() else f"{text}s")
    except typer.BadParameter:
        raise typer.BadParameter(f"{text!r} is no span of time: such as 30s, 5m, 2h, or 0.5 (seconds)") from None


def priority(text: str) -> float:
    """A priority by its name, or as a number from 0 to 10."""
    named = Priority.__members__.get(text.upper())
    try:
        number = float(text) if named is None else float(named)
    except ValueError:
        number = -1.0
    if not 0 <= number <= 10:
        raise typer.BadParameter(f"{text!r} is no priority: a number from 0 to 10, or {', '.join(Priority.__members__).lower()}")
    return number


StoreOption = Annotated[
    str | None,
    typer.Option("--store", metavar="PATH|URL", help="The store: a path or sqlite:///path. Default: settings, else coord.db."),
]
NamespaceOption = Annotated[
    str | None, typer.Option("--namespace", metavar="NAME", help="The application in the store. Default: settings, else default.")
]
DebugOption = Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.", callback=_note_debug)]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON.")]
PriorityOption = Annotated[
    float | None,
    typer.Option(parser=priority, metavar="P", help="0 to 10, or low, normal, high, urgent, critical. Default: normal."),
]
CapabilityOption = Annotated[str | None, typer.Option("--capability", metavar="NAME", help="Only tasks of this capability.")]


def file_of(url: str) -> str | None:
    """The path of a store that is a file, None for one on a server.

    Raises: ConfigError for a store that lives in the memory of one process.
    """
    if url.startswith(DICTIONARY):
        raise ConfigError(f"store: {DICTIONARY} is the memory of one process, seen by nobody else; name a path with --store")
    path = url.removeprefix(SQLITE)
    return None if "://" in path else path


def require_made(path: str) -> None:
    """Raises: ConfigError when opening this file would make a new store: looking must not."""
    if not checkup.is_made(path):
        raise ConfigError(
            f"store {path}: there is no such store; the first program that opens it makes it. "
            "Name another with --store or AUTOGEN_COORD_STORE"
        )


@asynccontextmanager
async def opened(settings: Settings) -> AsyncIterator[Store]:
    """A store that was there before; no session is opened on it.

    Raises: ConfigError, SchemaVersionError, StoreUnavailableError.
    """
    path = file_of(settings.store)
    if path is not None:
        require_made(path)
    store = await open_store(settings.store, settings.namespace, settings)
    try:
        yield store
    finally:
        await store.close()


def on_store(store: str | None, namespace: str | None, work: Callable[[Store, Settings], Awaitable[T]]) -> T:
    """Run ``work`` on the store that options and settings name."""
    settings = Settings.load(store=store, namespace=namespace)

    async def run() -> T:
        async with opened(settings) as there:
            return await work(there, settings)

    return asyncio.run(run())


def with_coordination(settings: Settings, work: Callable[[Coordination], Awaitable[T]]) -> T:
    """Run ``work`` in a session of its own, on a store that was there before; a stop is the exit code of its signal.

    Raises: ConfigError, SchemaVersionError, StoreUnavailableError.
    """
    path = file_of(settings.store)
    if path is not None:
        require_made(path)
    from ..coordination import Coordination  # AutoGen is loaded by the commands that need it, not by every other

    async def run() -> T:
        async with Coordination.open(settings=settings) as coord:
            return await work(coord)

    try:
        return running.run(run())
    except (KeyboardInterrupt, running.Terminated) as stop:
        raise typer.Exit(130 if isinstance(stop, KeyboardInterrupt) else 143) from None
