"""Which of an agent's two inboxes a message lies in, and how it gets to the other.

An agent may pull from an inbox of its own (``inbox:type/key``) and may be pushed to through that of its type (``inbox:type``); one
of them is chosen when a message is sent. Whoever opens an inbox later, that one closes, or a message comes back to one that closed
meanwhile: then it moves to the one that is open. The live row (``queue``) says where it lies now; its request says where it was
sent to.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from ..errors import NotFoundError
from ..settings import MAX_SECONDS, Settings
from . import pools
from .addresses import INBOX, REPLY, Address, is_inbox, is_pulled
from .registry import DRAINING, OFFLINE, ONLINE, all_online, split_label
from .store import Range, Rows
from .tables import CAPABILITY, PROVIDER, QUEUE, READY, TASK, CapabilityRow, ProviderRow, QueueRow

_STATES = (OFFLINE, ONLINE, DRAINING)
"""Of a provider; one that is online may be of a session that died just now."""
HELD = MAX_SECONDS
"""The attempt timeout of what is pulled: it may be held for as long as its session lives."""


class Redirect(NamedTuple):
    """Messages that wait for an inbox; a slice of them at most."""

    messages: Sequence[str]


def known_row(label: str) -> CapabilityRow:
    """What keeps an inbox known when nobody has it open."""
    return CapabilityRow(INBOX, split_label(label)[1], "", "{}", "{}", None, 0.0)


def choose(rows: Rows, addresses: Sequence[Address]) -> list[str | None]:
    """The inbox of each agent: the one that is open, its own before its type's; else the one that was opened last (its type's,
    where that is not known); None where there never was one."""
    labels = list(dict.fromkeys(label for one in addresses for label in (one.label, one.type_label)))
    is_open = {label: bool(found) for label, found in zip(labels, all_online(rows, labels), strict=True)}
    shut = [one for one in addresses if not is_open[one.label] and not is_open[one.type_label]]
    opened = _opened(rows, list(dict.fromkeys(label for one in shut for label in (one.type_label, one.label))))

    def choice(one: Address) -> str | None:
        for label in (one.label, one.type_label):
            if is_open[label]:
                return label
        ever = [label for label in (one.type_label, one.label) if label in opened]
        return max(ever, key=lambda label: opened[label], default=None)

    return [choice(one) for one in addresses]


def find(rows: Rows, addresses: Sequence[Address], only_known: bool = False) -> list[str]:
    """`choose`; where there never was one, its own from now on: it waits there for a receiver.

    Raises: NotFoundError where there never was one, if it must be known.
    """
    found = []
    for one, label in zip(addresses, choose(rows, addresses), strict=True):
        if label is None and only_known:
            raise NotFoundError(f"no agent {str(one)!r} was ever seen here", recipient=str(one), near=[])
        if label is None and one.type != REPLY:
            rows.put(CAPABILITY, known_row(one.label))
        found.append(label or one.label)
    return found


def _opened(rows: Rows, labels: Sequence[str]) -> dict[str, float]:
    """When inboxes were opened last, of those that ever were, whatever became of who had them open."""
    known = rows.get(CAPABILITY, [split_label(label) for label in labels])
    opened = {label: row.announced_at for label, row in zip(labels, known, strict=True) if row is not None}
    rest = [label for label in labels if label not in opened]
    traces = rows.scan_many([_trace(label, status) for label in rest for status in _STATES])
    for found in traces:
        for row in found:
            opened[row.capability] = max(opened.get(row.capability, 0.0), row.registered_at)
    return opened


def _trace(label: str, status: str) -> Range[ProviderRow]:
    return Range(PROVIDER, "by_capability", (label, status), limit=1)


def redirect(rows: Rows, command: Redirect, now: float, policy: Settings) -> int:
    """Move what waits in an inbox that nobody has open to the other one of its agent. Returns how many moved."""
    found = [row for row in rows.get(QUEUE, tuple(command.messages)) if row is not None and row.state == READY]
    return _move(rows, found, policy)


def leave(rows: Rows, labels: Sequence[str], most: int, policy: Settings) -> bool:
    """The same of what waits in inboxes that were just closed, some ``most`` at once. True when there is more."""
    places = [place for label in dict.fromkeys(labels) if is_inbox(label) for place in (label, pools.alone(label))]
    heads = rows.scan_many([Range(QUEUE, "ready", (place,), limit=1) for place in places])
    full = [place for place, head in zip(places, heads, strict=True) if head]
    share = max(1, most // max(1, len(full)))
    found = rows.scan_many([Range(QUEUE, "ready", (place,), limit=share) for place in full])
    moved = _move(rows, [row for some in found for row in some], policy)
    return moved > 0 and any(len(some) == share for some in found)


def _move(rows: Rows, found: Sequence[QueueRow], policy: Settings) -> int:
    expect(rows, found)
    moved = [(row, there) for row in found if (there := settled(rows, row, policy)) is not row]
    for _, there in moved:
        rows.put(QUEUE, there)
    return len(moved)


def forget(rows: Rows, labels: Iterable[str]) -> None:
    """Inboxes whose last traces were pruned are no longer known, unless something is ready there."""
    closed = list(dict.fromkeys(label for label in labels if is_inbox(label)))
    known = rows.get(CAPABILITY, [split_label(label) for label in closed])
    traces = rows.scan_many([_trace(label, status) for label in closed for status in _STATES])
    ready = rows.scan_many([Range(QUEUE, "ready", (pool,), limit=1) for label in closed for pool in (label, pools.alone(label))])
    for number, row in enumerate(known):
        if row is not None and not any(traces[3 * number : 3 * number + 3]) and not any(ready[2 * number : 2 * number + 2]):
            rows.drop(CAPABILITY, row)


def expect(rows: Rows, found: Sequence[QueueRow]) -> None:
    """Ask at once for what `settled` reads of each."""
    lying = [row for row in found if is_inbox(row.capability)]
    if not lying:
        return
    tasks = rows.get(TASK, [row.id for row in lying])
    choose(rows, list(dict.fromkeys(Address.parse(task.recipient) for task in tasks if task is not None)))


def settled(rows: Rows, row: QueueRow, policy: Settings) -> QueueRow:
    """A message that nobody has, where it should lie now: it stays where it is while somebody has that inbox open."""
    if all_online(rows, (row.capability,))[0]:
        return row
    task = rows.one(TASK, row.id)
    assert task is not None, "a live task has its request"
    address = Address.parse(task.recipient)
    (label,) = choose(rows, (address,))
    if label is None and address.type != REPLY:
        rows.put(CAPABILITY, known_row(row.capability))  # forgotten, for it was not seen waiting: who opens the other looks here
    if label in (None, row.capability):
        return row
    return _into(row, label or "", policy)


def _into(row: QueueRow, label: str, policy: Settings) -> QueueRow:
    """In another inbox: what is pulled has no timeout, and must not run alone, for nothing runs."""
    pulled = is_pulled(label)
    suspect = 0 if pulled else row.suspect
    pool = pools.alone(label) if suspect else label
    timeout = HELD if pulled else policy.timeout
    return row._replace(capability=label, pool=pool, suspect=suspect, timeout=timeout, avoid=None)
