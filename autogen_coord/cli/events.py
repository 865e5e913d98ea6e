"""``autogen-coord events``: the log."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Sequence
from dataclasses import asdict
from typing import Annotated

import typer

from ..core.events import FLOOR, NUMBER, Event, Kind
from ..core.inspect import stamp
from ..core.store import Keys, Range, Store
from ..core.tables import COUNTER, EVENT
from ..errors import EventsPrunedError
from ..settings import Settings
from .nothing import complain_of_none, nothing
from .options import DebugOption, JsonOption, NamespaceOption, StoreOption, on_store
from .printing import clean, print_json, say

LIMIT = 50
PAGE = 500
FOLLOW_EVERY = 0.2
"""Seconds between two looks for what is new."""


def events(
    since: Annotated[int | None, typer.Option(min=0, help="Begin after this number. Default: the last events.")] = None,
    kind: Annotated[list[Kind] | None, typer.Option(help="Only this kind; may be given several times.")] = None,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on with what comes, until stopped.")] = False,
    limit: Annotated[int | None, typer.Option(min=1, help=f"At most so many. Default: {LIMIT}; with --follow, no limit.")] = None,
    as_json: JsonOption = False,
    store: StoreOption = None,
    namespace: NamespaceOption = None,
    debug: DebugOption = False,
) -> None:
    """Print the log: what happened to tasks, sessions and agents, in the order of commit.

    With --follow, --json prints one object a line instead of one array.
    """
    kinds = frozenset(one.value for one in kind or Kind)

    async def work(there: Store, settings: Settings) -> None:
        newest, _ = await ends(there)
        if since is not None and since > newest:
            typer.echo(f"nothing after {since} yet: the newest event is {newest}", err=True)
        if follow:
            await _follow(there, since, kinds, limit, as_json)
            return
        found = await listed(there, since, kinds, limit or LIMIT)
        if as_json:
            print_json([asdict(one) for one in found])
            return
        for one in found:
            say(_line(one))
        if not found and (since is None or since <= newest):
            complain_of_none(await nothing(there, settings, "events", _which(since, kind)))

    on_store(store, namespace, work)


async def _follow(store: Store, since: int | None, kinds: frozenset[str], limit: int | None, as_json: bool) -> None:
    printed = 0
    newest, _ = await ends(store)
    async for one in after(store, newest if since is None else since, follow=True):
        if one.kind in kinds:
            typer.echo(json.dumps(asdict(one)) if as_json else clean(_line(one)))  # echo flushes
            printed += 1
            if printed == limit:
                return


async def listed(store: Store, since: int | None, kinds: frozenset[str], limit: int) -> list[Event]:
    """The first events after ``since``, or the last ones; in order. Raises: EventsPrunedError."""
    found: list[Event] = []
    if since is not None:
        async for one in after(store, since):
            if one.kind in kinds:
                found.append(one)
            if len(found) == limit:
                break
        return found
    high = None
    while len(found) < limit:
        (rows,) = await store.read(Range(EVENT, "key", (), high=high, limit=PAGE, reverse=True))
        if not rows:
            break
        high = rows[-1].number
        found += [Event.of(row) for row in rows if row.kind in kinds]
    return found[:limit][::-1]


async def after(store: Store, cursor: int, follow: bool = False) -> AsyncIterator[Event]:
    """All events after a number, without gaps. Raises: EventsPrunedError when the log no longer reaches back so far."""
    async for page in pages(store, cursor, follow):
        for one in page:
            yield one


async def pages(store: Store, cursor: int, follow: bool = False) -> AsyncIterator[list[Event]]:
    """The same, as many at a time as there are."""
    _, floor = await ends(store)
    if cursor < floor:
        raise _pruned(cursor, floor)
    while True:
        (rows,) = await store.read(Range(EVENT, "key", (), low=cursor + 1, limit=PAGE))
        whole = [row for place, row in enumerate(rows, 1) if row.number == cursor + place]
        if whole:
            yield [Event.of(row) for row in whole]
        cursor += len(whole)
        if len(whole) < len(rows):
            raise _pruned(cursor, rows[len(whole)].number - 1)
        if not rows:
            if not follow:
                return
            await asyncio.sleep(FOLLOW_EVERY)


async def ends(store: Store) -> tuple[int, int]:
    """The newest number, and the highest that was pruned."""
    (counters,) = await store.read(Keys(COUNTER, (NUMBER, FLOOR)))
    newest, floor = (row.value if row is not None else 0 for row in counters)
    return newest, floor


def _pruned(since: int, floor: int) -> EventsPrunedError:
    return EventsPrunedError(f"events up to {floor} were pruned; begin with --since {floor}", since=since, floor=floor)


def _line(event: Event) -> str:
    data = " ".join(f"{name}={value}" for name, value in event.data.items())
    return f"{event.number:>8}  {stamp(event.at)}  {event.kind:<16}  {event.subject}  {data}".rstrip()


def _which(since: int | None, kinds: Sequence[Kind] | None) -> str:
    said = [f"of kind {' or '.join(kinds)}"] if kinds else []
    return " ".join([*said, *([] if since is None else [f"after {since}"])])
