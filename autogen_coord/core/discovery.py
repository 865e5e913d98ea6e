"""Looking into the registry: which capabilities there are, and who provides them. Reads only; each answer is two snapshots.

A provider counts as its session does: while that lives it is *online*, *late* when the session has not renewed for a while (it
gets no new work until it does), or *draining*; once the session's lease is over it is *offline*, declared dead and buried or not.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from itertools import chain
from typing import Any, Final, Protocol

from ..errors import InvalidInputError
from ..settings import Settings
from . import bodies, registry, sessions
from .addresses import is_reserved
from .store import Keys, Range, Store
from .tables import CAPABILITY, PROVIDER, QUEUE, SESSION, CapabilityRow, ProviderRow, QueueRow, SessionRow


class ProviderStatus(StrEnum):
    """Whether a provider may be given work: only one that is online is."""

    ONLINE = "online"
    LATE = "late"
    DRAINING = "draining"
    OFFLINE = "offline"


HERE: Final = (ProviderStatus.ONLINE, ProviderStatus.LATE)
"""Announced on a live session, and not leaving."""


@dataclass(frozen=True, slots=True)
class ProviderInfo:
    """A provider as it stands. ``registered_at`` is epoch seconds of the store's clock."""

    id: str
    capability: str
    """Its label; ``inbox:...`` and ``topic:...`` of who takes messages (see `addresses`)."""
    kind: str
    """function, agent, chat, inbox, subscription"""
    agent: str | None
    """The agent's ``type``, or ``type/key``."""
    status: ProviderStatus
    session: str
    address: str
    """Where its process is: ``host:pid``; empty once its session is pruned."""
    max_concurrency: int
    running: int
    """How many tasks its handlers are at."""
    waiting: int
    """How many of these wait for a child, and take no slot meanwhile."""
    labels: tuple[str, ...]
    registered_at: float


@dataclass(frozen=True, slots=True)
class CapabilityInfo:
    """A capability as it was announced last. ``input_schema`` and ``output_schema`` are JSON Schemas."""

    name: str
    version: str
    description: str
    input_schema: dict[str, Any]
    output_schema: dict[str, Any]
    providers: tuple[ProviderInfo, ...]
    """Who provides it now: online, late or draining."""

    @property
    def label(self) -> str:
        """As tasks name it: ``name``, or ``name:version`` for any version but 1."""
        return registry.label_of(self.name, self.version)


class Labelled(Protocol):
    """What knows its label, as a `Capability` does."""

    @property
    def label(self) -> str: ...


class Registry:
    """Who provides what, as the store says now. A look: it may be out of date by the time you use it."""

    def __init__(self, store: Store, policy: Settings) -> None:
        self._store = store
        self._policy = policy

    async def discover(self, capability: str | Labelled) -> list[ProviderInfo]:
        """Who provides it on a live session (``"name"``, ``"name:version"``, or a capability), the longest there first.

        Nobody is an empty list, also for a name that was never announced: it may still come.
        Raises: InvalidInputError for what cannot be a name; StoreError.
        """
        rows, live = await self._store.read(_announced(_label(capability), registry.ONLINE), _LIVE)
        return [info for info in await self._infos(rows, live) if info.status in HERE]

    async def describe(self, capability: str | Labelled) -> CapabilityInfo:
        """What it takes, what it gives, and who provides it now.

        Raises: NoProviderError with near names when it was never announced; InvalidInputError; StoreError.
        """
        label = _label(capability)
        online, draining = (_announced(label, status) for status in (registry.ONLINE, registry.DRAINING))
        found, *rows, live = await self._store.read(Keys(CAPABILITY, (registry.split_label(label),)), online, draining, _LIVE)
        if found[0] is None:
            raise registry.unknown(label, await self._labels())
        return _capability_info(found[0], await self._infos([*chain(*rows)], live))

    async def capabilities(self) -> list[CapabilityInfo]:
        """Every capability that was ever announced, by name and version; inboxes and topics are none. Raises: StoreError."""
        found, live = await self._store.read(Range(CAPABILITY, "key"), _LIVE)
        by_label: dict[str, list[ProviderInfo]] = {}
        for info in await self._of_sessions(live):
            by_label.setdefault(info.capability, []).append(info)
        return [_capability_info(row, by_label.get(_label_of(row), ())) for row in found if not is_reserved(row.name)]

    async def providers(self, status: ProviderStatus | str | None = None) -> list[ProviderInfo]:
        """All that the store still knows, also those offline, or those of one status; the longest there first.

        Raises: InvalidInputError, StoreError.
        """
        if status is not None and status not in list(ProviderStatus):
            raise InvalidInputError(f"status {status!r:.80}: there are {', '.join(ProviderStatus)}")
        if status in (None, ProviderStatus.OFFLINE):
            found = await self._infos(*await self._store.read(Range(PROVIDER, "key"), _LIVE))
        else:
            (live,) = await self._store.read(_LIVE)
            found = await self._of_sessions(live)
        return [info for info in found if status in (None, info.status)]

    async def _labels(self) -> list[str]:
        (rows,) = await self._store.read(Range(CAPABILITY, "key"))
        return [_label_of(row) for row in rows]

    async def _of_sessions(self, live: Sequence[SessionRow]) -> list[ProviderInfo]:
        """All on these sessions: whoever is not offline is on a live one."""
        ids = [row.id for row in live]
        found = await self._store.read(
            *(Range(PROVIDER, "by_session", (id,)) for id in ids), *(Range(QUEUE, "by_session", (id,)) for id in ids)
        )
        rows, claims = chain(*found[: len(ids)]), chain(*found[len(ids) :])
        return _infos([*rows], {row.id: row for row in live}, [*claims], await self._store.now(), self._policy)

    async def _infos(self, rows: Sequence[ProviderRow], live: Sequence[SessionRow]) -> list[ProviderInfo]:
        """The sessions that are over are read for their addresses; claims count on live ones alone."""
        there = {row.id: row for row in live}
        over = sorted({row.session for row in rows} - there.keys())
        dispatchers = sorted({row.via for row in rows} & there.keys())
        ended, *claims = await self._store.read(
            Keys(SESSION, over), *(Range(QUEUE, "by_session", (session,)) for session in dispatchers)
        )
        there |= {row.id: row for row in ended if row is not None}
        return _infos(rows, there, [*chain(*claims)], await self._store.now(), self._policy)


_LIVE: Final = Range(SESSION, "by_state", (sessions.LIVE,))


def _announced(label: str, status: str) -> Range[ProviderRow]:
    return Range(PROVIDER, "by_capability", (label, status))


def _label(capability: str | Labelled) -> str:
    """Raises: InvalidInputError."""
    label = capability if isinstance(capability, str) else getattr(capability, "label", None)
    if not isinstance(label, str):
        raise InvalidInputError(f'{capability!r:.100}: pass a capability, or its name as "name" or "name:version"')
    name, version = registry.split_label(label)
    registry.check_name(name, version)
    return registry.label_of(name, version)


def _label_of(row: CapabilityRow) -> str:
    return registry.label_of(row.name, row.version)


def _capability_info(row: CapabilityRow, providers: Sequence[ProviderInfo]) -> CapabilityInfo:
    schemas = bodies.decode(row.input_schema), bodies.decode(row.output_schema)
    there = tuple(info for info in providers if info.status != ProviderStatus.OFFLINE)
    return CapabilityInfo(row.name, row.version, row.description, *schemas, there)


def _infos(
    rows: Sequence[ProviderRow], there: Mapping[str, SessionRow], claims: Sequence[QueueRow], now: float, policy: Settings
) -> list[ProviderInfo]:
    alive = {id for id, row in there.items() if row.state == sessions.LIVE and row.lease_until >= now}
    held = [row for row in claims if row.session in alive]  # the others are taken over
    running = Counter(row.provider for row in held)
    waiting = Counter(row.provider for row in held if row.waits_for is not None)

    def info(row: ProviderRow) -> ProviderInfo:
        session = there.get(row.session)
        status = ProviderStatus.OFFLINE if row.session not in alive else _status(row, there[row.session], now, policy)
        return ProviderInfo(
            row.id, row.capability, row.kind, _agent(row), status, row.session, "" if session is None else session.address,
            row.max_concurrency, running[row.id], waiting[row.id], _labels(row), row.registered_at,
        )  # fmt: skip

    return [info(row) for row in sorted(rows, key=lambda row: (row.registered_at, row.id))]


def _agent(row: ProviderRow) -> str | None:
    return row.agent_type if row.agent_key is None else f"{row.agent_type}/{row.agent_key}"


def _labels(row: ProviderRow) -> tuple[str, ...]:
    return tuple(bodies.decode(row.labels)) if row.labels else ()


def _status(row: ProviderRow, session: SessionRow, now: float, policy: Settings) -> ProviderStatus:
    status = ProviderStatus(row.status)
    if status == ProviderStatus.ONLINE and sessions.is_late(session, now, policy):
        return ProviderStatus.LATE
    return status
