"""What is said when there is nothing to show: what was looked for, and what there is instead."""

from __future__ import annotations

from collections.abc import Sequence

import typer

from ..core import inspect
from ..core.addresses import is_reserved
from ..core.store import Range, Store
from ..core.tables import FINAL, LIVE, OUTCOME
from ..settings import Settings
from ..stores.sqlite import checkup
from .options import file_of
from .printing import clean

COUNT_MOST = 1_000
"""How far ended tasks are counted."""
NAME_MOST = 10


def complain_of_none(text: str) -> None:
    """Print a note on standard error: an empty list is no error."""
    typer.echo(clean(text), err=True)


async def nothing(
    store: Store, settings: Settings, what: str, which: str = "", states: Sequence[str] = (), capability: str | None = None
) -> str:
    """The sentence: ``no <what> <which> in namespace ...``, and what exists where a filter may be the reason."""
    filters = [which] if which else []
    if states:
        filters.append(f"that are {' or '.join(states)}")
    if capability is not None:
        filters.append(f"of capability {capability!r}")
    said = " ".join([f"no {what}", *filters, f"in namespace {store.namespace!r}"])
    path = file_of(settings.store)
    counts = None if path is None else checkup.count(path, store.namespace)
    if counts is not None and counts.namespaces and store.namespace not in counts.namespaces:
        return f"{said}: nothing was ever stored there; there are {_names(counts.namespaces)}"
    if capability is not None:
        known = await inspect.known_capabilities(store)
        if capability not in known:
            known = [label for label in known if not is_reserved(label)]
            return f"{said}: nobody ever announced it; known are {_names(known)}" if known else f"{said}: none was ever announced"
    if states:
        there = {} if counts is None else {state: f"{counts.states[state]:,}" for state in LIVE if state in counts.states}
        there |= await _ended(store)
        return f"{said}; there are {', '.join(f'{count} {state}' for state, count in there.items()) or 'none at all'}"
    return said


async def _ended(store: Store) -> dict[str, str]:
    found = await store.read(*(Range(OUTCOME, "by_state", (state,), limit=COUNT_MOST) for state in FINAL))
    counts = zip(FINAL, map(len, found), strict=True)
    return {state: f"{COUNT_MOST:,} or more" if count >= COUNT_MOST else f"{count:,}" for state, count in counts if count}


def _names(names: Sequence[str]) -> str:
    return ", ".join(repr(name) for name in names[:NAME_MOST]) + (", ..." if len(names) > NAME_MOST else "")
