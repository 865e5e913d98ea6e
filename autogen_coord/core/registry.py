"""The registry: who provides what. Announced by a process for its session, soft state: gone with the session.

A capability's *label* is its name, with ``:version`` behind it unless the version is "1": tasks, pools and providers name it so.
"""

from __future__ import annotations

import difflib
import hashlib
import re
from collections.abc import Sequence
from typing import NamedTuple

from ..errors import ConfigError, InvalidInputError, NoProviderError
from ..settings import Settings
from . import events, pools
from .addresses import INBOX, TOPIC, is_reserved
from .events import Kind
from .sessions import LIVE, is_late, is_live, require
from .store import Range, Rows
from .tables import CAPABILITY, PROVIDER, SESSION, CapabilityRow, ProviderRow, SessionRow

ONLINE = "online"
DRAINING = "draining"
OFFLINE = "offline"

_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_.\-/]{0,199}")
_VERSION = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.\-]{0,49}")


class Announce(NamedTuple):
    session: str
    capabilities: Sequence[CapabilityRow]
    providers: Sequence[ProviderRow]


class Withdraw(NamedTuple):
    session: str
    providers: Sequence[str]
    status: str = OFFLINE


def check_name(name: str, version: str = "1") -> None:
    """Raises: InvalidInputError."""
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        raise InvalidInputError(
            f"capability name {name!r}: letters, digits and _ . - / only, beginning with a letter or _, at most 200", name=name
        )
    if not isinstance(version, str) or not _VERSION.fullmatch(version):
        raise InvalidInputError(f"capability version {version!r}: letters, digits and _ . - only, at most 50", name=name)
    refuse_reserved(name)


def refuse_reserved(label: str) -> None:
    """Raises: InvalidInputError for the labels of inboxes and subscriptions."""
    if is_reserved(label):
        raise InvalidInputError(f"{label!r} is no capability: the names {INBOX} and {TOPIC} are kept for messages", name=label)


def label_of(name: str, version: str = "1") -> str:
    return name if version == "1" else f"{name}:{version}"


def split_label(label: str) -> tuple[str, str]:
    name, _, version = label.partition(":")
    return name, version or "1"


def announce(rows: Rows, command: Announce, now: float, policy: Settings) -> None:
    """Put providers online. One with another schema than a live provider of the same name and version is refused.

    Raises: ConfigError, LeaseLostError.
    """
    require(rows, command.session)
    labels = [label_of(row.name, row.version) for row in command.capabilities]
    before = rows.get(CAPABILITY, [(row.name, row.version) for row in command.capabilities])
    there = all_online(rows, labels)
    for capability, label, known, found in zip(command.capabilities, labels, before, there, strict=True):
        others = [row for row in found if row.session != command.session]
        if known is not None and others and _schemas(known) != _schemas(capability):
            raise ConfigError(
                f"capability {label!r} is provided already with other input or output: give the new form a version of its own",
                capability=label,
            )
        rows.put(CAPABILITY, capability._replace(announced_at=now))
    earlier = rows.get(PROVIDER, [row.id for row in command.providers])
    for provider, was in zip(command.providers, earlier, strict=True):
        rows.put(PROVIDER, provider._replace(registered_at=was.registered_at if was else now))
        if was is None or was.status != ONLINE:
            events.append(rows, now, Kind.AGENT_ONLINE, provider.id, provider.session, events.facts(capability=provider.capability))


def _schemas(row: CapabilityRow) -> tuple[str, str]:
    return row.input_schema, row.output_schema


def withdraw(rows: Rows, command: Withdraw, now: float, policy: Settings) -> None:
    """Put providers offline, or let them drain; what was addressed to them finds its way again (see `pools.leave`)."""
    for row in rows.get(PROVIDER, tuple(command.providers)):
        if row is not None and row.session == command.session and row.status not in (command.status, OFFLINE):
            retire(rows, row, command.status, now)


def retire(rows: Rows, row: ProviderRow, status: str, now: float) -> None:
    """One provider takes no new work from now on."""
    rows.put(PROVIDER, row._replace(status=status))
    kind = Kind.AGENT_DRAINING if status == DRAINING else Kind.AGENT_OFFLINE
    events.append(rows, now, kind, row.id, row.session, events.facts(capability=row.capability))


def online(rows: Rows, label: str) -> list[ProviderRow]:
    """The providers that may be given work: online, on a live session."""
    return all_online(rows, (label,))[0]


def all_online(rows: Rows, labels: Sequence[str]) -> list[list[ProviderRow]]:
    """`online` of each label, asked for together."""
    found = rows.scan_many([Range(PROVIDER, "by_capability", (label, ONLINE)) for label in labels])
    on = dict.fromkeys(row.session for each in found for row in each)
    live = {row.id for row in rows.get(SESSION, list(on)) if row is not None and row.state == LIVE}
    return [[row for row in each if row.session in live] for each in found]


def candidates(rows: Rows, label: str, now: float, policy: Settings) -> list[ProviderRow]:
    """The providers that may be *chosen* for new work: online, and their session is not late."""
    found = rows.scan(Range(PROVIDER, "by_capability", (label, ONLINE)))
    live = {row.id for row in rows.get(SESSION, [row.session for row in found]) if row is not None and _fit(row, now, policy)}
    return [row for row in found if row.session in live]


def _fit(row: SessionRow, now: float, policy: Settings) -> bool:
    return row.state == LIVE and not is_late(row, now, policy)


def is_online(rows: Rows, provider: str) -> bool:
    """Whether this provider may be given work."""
    row = rows.one(PROVIDER, provider)
    return row is not None and row.status == ONLINE and is_live(rows, row.session)


def require_known(rows: Rows, label: str) -> CapabilityRow:
    """Raises: NoProviderError with near names, for a capability that nobody ever announced here."""
    row = rows.one(CAPABILITY, split_label(label))
    if row is None:
        raise unknown(label, [label_of(row.name, row.version) for row in rows.scan(Range(CAPABILITY, "key"))])
    return row


def unknown(label: str, known: Sequence[str]) -> NoProviderError:
    near = difflib.get_close_matches(label, sorted({each for each in known if not is_reserved(each)}), n=3, cutoff=0.5)
    hint = f"did you mean {', '.join(near)}?" if near else "start a process that provides it, or check the store and the namespace"
    return NoProviderError(f"no capability {label!r} was ever announced here: {hint}", capability=label, near=near)


def rendezvous(providers: Sequence[ProviderRow], key: str) -> ProviderRow | None:
    """The provider that a sticky key belongs to.

    Source: Thaler and Ravishankar, "A name-based mapping scheme for rendezvous", 1996 (highest random weight).
    """

    def weight(row: ProviderRow) -> bytes:
        return hashlib.blake2b(f"{row.id}\0{key}".encode("utf-8", "surrogatepass"), digest_size=8).digest()

    return max(providers, key=weight, default=None)


def pool_for(rows: Rows, label: str, target: str | None, sticky: str | None, now: float, policy: Settings) -> str:
    """Where a task that becomes ready now waits for its claim."""
    if target is not None:
        return pools.addressed(label, target)
    if sticky is not None:
        pinned = rendezvous(candidates(rows, label, now, policy), sticky)
        if pinned is not None:
            return pools.addressed(label, pinned.id)
    return label
