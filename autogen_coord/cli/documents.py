"""Documents on the command line: read without a session, and shown; values from arguments; refusals in this place's words."""

from __future__ import annotations

import difflib
import getpass
import json
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from datetime import datetime
from typing import Annotated, Any, TypeVar

import typer

from ..core.documents import Document
from ..core.events import Event
from ..core.inspect import stamp
from ..core.prefixes import ranges
from ..core.state_policies import MergePolicy
from ..core.state_reads import Snapshot, StateReads
from ..core.store import Store
from ..core.tables import DOCUMENT
from ..errors import CoordError, InvalidInputError, NotFoundError, OpenConflictError
from ..settings import Settings
from .bodies import read_json, read_text
from .events import ends, pages
from .options import on_store
from .printing import clean, span

T = TypeVar("T")
LIMIT_MOST = 10_000
NEAR_MOST = 1_000
"""Keys that are looked through for near names."""
PREVIEW = 200
"""Characters of a value in a line of a table."""
FILE = "@"
STDIN = "-"
QUOTES = "quote a text as JSON ('\"a text\"'), or pass --text"

KeyArgument = Annotated[str, typer.Argument(metavar="KEY", help="The document's key, such as notes/tides.")]
PrefixOption = Annotated[
    str, typer.Option("--prefix", metavar="PREFIX", help="This key, and what lies below it. Default: everything.")
]
LimitOption = Annotated[int, typer.Option(min=1, max=LIMIT_MOST, help="At most so many.")]
ValueArgument = Annotated[str, typer.Argument(metavar="VALUE", help="JSON; @FILE reads it from a file, - from standard input.")]
TextOption = Annotated[bool, typer.Option("--text", help="VALUE is a text, not JSON.")]
ExpectedOption = Annotated[
    int | None,
    typer.Option("--expected", metavar="N", min=0, help="Only if this is the newest version; 0: only if there is none."),
]
PolicyOption = Annotated[
    MergePolicy | None, typer.Option("--policy", case_sensitive=False, help="What becomes of it if another version is there.")
]
ReducerOption = Annotated[
    list[str] | None,
    typer.Option("--reducer", metavar="FIELD=HOW", help="HOW: append, add, union, max. May be given several times."),
]
ForceOption = Annotated[bool, typer.Option("--force", help="Also what is written under a lock.")]
ActorOption = Annotated[str | None, typer.Option("--actor", metavar="NAME", help="Who writes. Default: the user's name.")]
CauseOption = Annotated[str | None, typer.Option("--cause", metavar="TEXT", help="What for.")]


# reading


class Looked:
    """A store as documents are read from it: no session, and the log is looked at now and then."""

    def __init__(self, store: Store) -> None:
        self.store = store

    @property
    def feed(self) -> Looked:
        return self

    def check(self) -> None:
        """It is open as long as its command runs."""

    async def pages(self, since: int | None, kinds: Iterable[str] | None, follow: bool) -> AsyncGenerator[list[Event], None]:
        """Raises: EventsPrunedError."""
        wanted = None if kinds is None else frozenset(kinds)
        newest, _ = await ends(self.store)
        async for page in pages(self.store, newest if since is None else since, follow):
            yield [event for event in page if wanted is None or event.kind in wanted]


def on_documents(store: str | None, namespace: str | None, work: Callable[[StateReads, Store, Settings], Awaitable[T]]) -> T:
    """Run ``work`` on the documents that options and settings name; it only reads."""
    with our_words():
        return on_store(store, namespace, lambda there, settings: work(StateReads(Looked(there)), there, settings))


async def unknown(store: Store, key: str) -> NotFoundError:
    """There is no such document: with near names, or what lies below it."""
    said = f"there is no document {key!r} in namespace {store.namespace!r}"
    at, below = await store.read(*ranges(DOCUMENT, key, limit=1))
    if below and not at:
        return NotFoundError(f"{said}, but some lie below it: `autogen-coord state list --prefix {key}`", key=key)
    names: dict[str, None] = {}
    for prefix in (key.rpartition("/")[0], ""):
        found = await store.read(*ranges(DOCUMENT, prefix, limit=NEAR_MOST))
        names |= {row.key: None for rows in found for row in rows if row.deleted_at is None}
    near = difflib.get_close_matches(key, names, n=3, cutoff=0.6)
    hint = f"did you mean {' or '.join(map(repr, near))}?" if near else "`autogen-coord state list` shows what is there"
    return NotFoundError(f"{said}: {hint}", key=key, near=near)


async def snapshot_of(reads: StateReads, name: str) -> Snapshot:
    """Raises: NotFoundError that names those that there are."""
    known = {one.name: one for one in await reads.snapshots()}
    if name not in known:
        near = difflib.get_close_matches(name, known, n=3, cutoff=0.5) or list(known)[:5]
        hint = f"there are {', '.join(map(repr, near))}" if near else "none was ever taken, or all were dropped"
        raise NotFoundError(f"there is no snapshot {name!r}: {hint}", snapshot=name)
    return known[name]


# what is given


def read_value(text: str, key: str, limit: int, is_text: bool = False, hint: str = QUOTES) -> Any:
    """The value of a VALUE argument. ``limit``: bytes of JSON. Raises: InvalidInputError, PayloadTooLargeError."""
    given = text
    if text == STDIN:
        given = read_text(STDIN, limit)
    elif text.startswith(FILE):
        given = read_text(text.removeprefix(FILE), limit)
    if is_text:
        return given
    try:
        return read_json(given)
    except InvalidInputError as error:
        raise InvalidInputError(f"{key!r}: the value is {error.message}; {hint}", key=key) from None


def read_reducers(given: Sequence[str] | None) -> dict[str, str] | None:
    """``field=add`` as reducers; None when none are given."""
    if not given:
        return None
    reducers: dict[str, str] = {}
    for one in given:
        field, equals, how = one.rpartition("=")
        if not equals:
            raise typer.BadParameter(f"{one!r}: --reducer wants FIELD=HOW, such as --reducer count=add")
        if field in reducers:
            raise typer.BadParameter(f"--reducer: {field!r} is given twice")
        reducers[field] = how
    return reducers


def moment(text: str) -> float:
    """A moment, as epoch seconds: ``2026-11-20T17:24:07Z``, with any zone, or the seconds themselves."""
    try:
        return float(text)
    except ValueError:
        pass
    try:
        at = datetime.fromisoformat(text)
    except ValueError:
        at = None
    if at is None or at.tzinfo is None:
        raise typer.BadParameter(f"{text!r} is no moment: with its zone, such as 2026-11-20T17:24:07Z, or epoch seconds")
    return at.timestamp()


def user() -> str:
    """Who sits here, as an actor."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a process without a user's name
        return "autogen-coord"


# what is told


def line(value: Any, deleted: bool = False) -> str:
    """A value on one line, cut."""
    return "(deleted)" if deleted else clean(json.dumps(value, ensure_ascii=False), PREVIEW)


def facts(document: Document) -> dict[str, Any]:
    """A document as JSON has it."""
    return asdict(document)


def written(document: Document, now: float) -> str:
    """When and by whom a version was written."""
    by = f" by {document.actor}" if document.actor else ""
    return f"{stamp(document.at)} ({span(max(0.0, now - document.at))} ago){by}"


_WORDS: Mapping[str, str] = {
    "pass fence=lease, or force=True if nobody can hold it": "stop who holds it, or pass --force",
    "pass missing_ok=True if that is as well": "pass --missing-ok if that is as well",
    "reducers=, such as {'count': 'add'}": "--reducer, such as --reducer count=add",
    "reducers= have no meaning under policy": "--reducer has no meaning under --policy",
    "leave them out, or pass policy='reduce'": "leave it out, or pass --policy reduce",
    "history() says": "`autogen-coord state history` says",
    "drop some with drop_snapshot": "drop some with `autogen-coord state drop-snapshot`",
    "drop it, or take another name": "drop it (`autogen-coord state drop-snapshot`), or take another name",
    "it was decided": "it was decided, or never was; `autogen-coord state conflicts` lists them",
}
"""What errors tell a program to do, and what somebody at a terminal does."""


@contextmanager
def our_words() -> Iterator[None]:
    """Errors say what to do here, not in a program."""
    try:
        yield
    except OpenConflictError as error:
        id = error.conflict
        said = (
            f"{error.key!r}: version {error.expected} was expected, but {error.found} is there: nothing was changed, the write "
            f"is kept as conflict {id}; `autogen-coord state conflicts show {id}` shows it, `autogen-coord state decide {id}` "
            "settles it"
        )
        raise OpenConflictError(said, **error.facts) from error
    except CoordError as error:
        message = error.message
        for theirs, ours in _WORDS.items():
            message = message.replace(theirs, ours)
        if message == error.message:
            raise
        raise type(error)(message, **error.facts) from error
