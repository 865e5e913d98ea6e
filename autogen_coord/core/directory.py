"""Agents by their addresses, as reads find them, beside the writers: who was ever seen, and what waits for whom."""

from __future__ import annotations

import difflib
import logging
from collections.abc import AsyncIterator, Iterator, Sequence
from typing import TypeVar

from ..errors import CoordError, NotFoundError
from . import inboxes, pools
from .addresses import INBOX, REPLY, Address, owner_of
from .commit import Line
from .inboxes import Redirect
from .registry import ONLINE
from .store import Keys, Range, Store
from .tables import CAPABILITY, PROVIDER, QUEUE, TASK, QueueRow

log = logging.getLogger(__name__)

T = TypeVar("T")
PAGE = 256
_INBOXES = Range(CAPABILITY, "key", (), low=INBOX, high=f"{INBOX}!")


async def require_seen(store: Store, address: Address) -> None:
    """Raises: NotFoundError with near names, unless an agent of this type was ever announced here; StoreError."""
    providers, labels = await store.read(Range(PROVIDER, "key"), _INBOXES)
    types = {row.agent_type for row in providers if row.agent_type not in (None, REPLY)}
    if address.type in types:
        return
    known = sorted({owner_of(f"{INBOX}:{row.version}") for row in labels} | types)
    near = difflib.get_close_matches(str(address), known, n=3, cutoff=0.5)
    near = near or difflib.get_close_matches(address.type, known, n=3, cutoff=0.5)
    hint = f"did you mean {', '.join(near)}?" if near else "nobody received for it or provided anything as such an agent"
    raise NotFoundError(f"no agent {str(address)!r} was ever seen here: {hint}", recipient=str(address), near=near)


async def gather(store: Store, line: Line, owner: Address | str) -> None:
    """Fetch what waits for an inbox, of an agent or an agent type, that was just opened: it may lie in the other one of its agent.

    What comes from now on is sent to the inbox that is open. Raises: StoreError, ClosedError.
    """
    for label in await _others(store, owner):
        async for page in _waiting(store, label):
            found = page if isinstance(owner, str) else await _of(store, page, owner)
            if found:
                await line.put(inboxes.redirect, Redirect([row.id for row in found]))


async def gather_quietly(store: Store, line: Line, owner: Address | str) -> None:
    """`gather` in the background: what it could not fetch is fetched when the inbox is opened again."""
    try:
        await gather(store, line, owner)
    except CoordError as error:
        log.warning("what waits for %s elsewhere could not be fetched (%s)", owner, error.code)


async def _others(store: Store, owner: Address | str) -> list[str]:
    """The pools of the other inboxes of these agents, where something is ready and nobody has them open."""
    if isinstance(owner, Address):
        labels = [owner.type_label]
    else:
        (known,) = await store.read(_INBOXES)
        labels = [f"{INBOX}:{row.version}" for row in known if row.version.startswith(f"{owner}/")]
    shut: list[str] = []
    for some in _slices(labels):
        there = await store.read(*[Range(PROVIDER, "by_capability", (label, ONLINE), limit=1) for label in some])
        places = [place for label, found in zip(some, there, strict=True) if not found for place in (label, pools.alone(label))]
        ready = await store.read(*[Range(QUEUE, "ready", (place,), limit=1) for place in places])
        shut += [place for place, found in zip(places, ready, strict=True) if found]
    return shut


async def _waiting(store: Store, pool: str) -> AsyncIterator[list[QueueRow]]:
    """What is ready in a pool, in pages by rank; some may come twice."""
    low, most = None, PAGE
    while True:
        (page,) = await store.read(Range(QUEUE, "ready", (pool,), low=low, limit=most))
        for some in _slices(page):
            yield some
        if len(page) < most:
            return
        if page[-1].rank == page[0].rank:  # all of one rank: only a larger page reaches beyond
            most *= 2
        low = page[-1].rank


async def _of(store: Store, page: Sequence[QueueRow], owner: Address) -> list[QueueRow]:
    (sent,) = await store.read(Keys(TASK, [row.id for row in page]))
    return [row for row, task in zip(page, sent, strict=True) if task is not None and task.recipient == str(owner)]


def _slices(some: Sequence[T]) -> Iterator[list[T]]:
    for start in range(0, len(some), PAGE):
        yield list(some[start : start + PAGE])
