"""What this process provides, and how it is announced: now, and again under a new session."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from typing import Any

from ..core import bodies, burial, claims, registry
from ..core.burial import Settle
from ..core.claims import Claimed, Disown
from ..core.ids import new_id
from ..core.process import Process
from ..core.registry import Announce, Withdraw
from ..core.store import Range
from ..core.tables import PROVIDER, CapabilityRow, ProviderRow
from ..errors import ConfigError, CoordError, InvalidInputError, LeaseLostError, NotFoundError
from .capability import Capability, check_limit
from .runner import Provider, Runner

log = logging.getLogger(__name__)


class _Local:
    """A provider of this process; its ``id`` is another under another session."""

    def __init__(self, capability: Capability[Any, Any], limit: int, labels: tuple[str, ...]) -> None:
        self.capability = capability
        self.limit = limit
        self.labels = labels
        self.id = ""
        self.leaving = False


class Providing:
    """The providers of one process, one for a capability."""

    def __init__(self, process: Process, runner: Runner) -> None:
        self._process = process
        self._runner = runner
        self._locals: dict[str, _Local] = {}

    async def provide(self, capability: Capability[Any, Any], max_concurrency: int | None, labels: Sequence[str]) -> str:
        """Announce a capability, and claim for it from then on; returns the provider's id.

        Raises: InvalidInputError, ConfigError (provided already, here, or elsewhere with other schemas).
        """
        if not isinstance(capability, Capability):
            raise InvalidInputError(f"provide() wants a function decorated with @capability, not {capability!r:.100}")
        label, default = capability.label, self._process.policy.max_concurrency
        if label in self._locals:
            other = self._locals[label].capability is not capability
            mend = (
                "by another function: give one of them a name or version of its own"
                if other
                else "raise its max_concurrency instead"
            )
            raise ConfigError(f"this process provides {label!r} already; {mend}")
        limit = check_limit(max_concurrency, "provide()") or capability.max_concurrency or default
        capability.form  # noqa: B018 - unusable annotations are refused here, by name
        local = self._locals[label] = _Local(capability, limit, tuple(labels))
        try:
            await self._announce(local)
        except LeaseLostError:  # this process was declared dead just now: its next session announces all that it provides
            await self._process.reborn()
        except BaseException:  # also a cancellation: it may have been announced, and nobody would serve it
            del self._locals[label]
            self._process.dispatcher.remove(local.id)
            self._process.spawn(self._retire_quietly(local.id))
            raise
        return local.id

    async def withdraw(self, capability: Capability[Any, Any] | str) -> None:
        """Provide it no more; what runs of it goes on. Raises: NotFoundError."""
        label = capability if isinstance(capability, str) else capability.label
        local = self._locals.get(label)
        if local is None:
            raise NotFoundError(f"this process does not provide {label!r}")
        local.leaving = True  # a session that is taken meanwhile does not announce it again
        self._process.dispatcher.remove(local.id)
        await self._retire((local.id,))
        self._locals.pop(label, None)

    async def leave(self) -> None:
        """Before a goodbye: every claim of the session is given back, every provider withdrawn."""
        process = self._process
        await process.line.put(claims.disown, Disown(process.session, ()))
        (own,) = await process.store.read(Range(PROVIDER, "by_session", (process.session,)))
        if own:  # what the store says, not what we remember
            await self._retire(tuple(row.id for row in own))

    async def _retire_quietly(self, id: str) -> None:
        try:
            await self._retire((id,))
        except CoordError as error:
            log.warning("a provider that was given up is still announced (%s): it goes with the session", error.code)

    async def _retire(self, ids: tuple[str, ...]) -> None:
        line = self._process.line
        await line.put(registry.withdraw, Withdraw(self._process.session, ids))
        while await line.put(burial.settle, Settle(ids)):
            pass

    async def announce_all(self, session: str) -> None:
        """The process has a new session: all that it provides hangs on that one now."""
        for label, local in list(self._locals.items()):
            if local.leaving:
                continue
            try:
                await self._announce(local)
            except ConfigError as error:
                self._process.check()
                # while we were dead, another took the name with another form: the others stay
                log.error("%s is provided here no more: %s", label, error)
                self._locals.pop(label, None)

    async def _announce(self, local: _Local) -> None:
        process, capability = self._process, local.capability
        if local.id:
            process.dispatcher.remove(local.id)
        local.id = new_id("p")
        announce = Announce(process.session, [_capability_row(capability)], [_provider_row(local, process.session)])
        await process.line.put(registry.announce, announce)
        form = capability.form
        provider = Provider(capability.label, form.input, form.output, capability.handle)
        process.dispatcher.add_provider(local.id, capability.label, local.limit, self._starter(provider))

    def _starter(self, provider: Provider) -> Callable[[Claimed], None]:
        return lambda claimed: self._runner.start(provider, claimed)


def _capability_row(capability: Capability[Any, Any]) -> CapabilityRow:
    form = capability.form
    words = " ".join(sorted({word.lower() for word in f"{capability.name} {capability.description}".replace(".", " ").split()}))
    return CapabilityRow(capability.name, capability.version, capability.description, form.input.json, form.output.json, words, 0.0)


def _provider_row(local: _Local, session: str) -> ProviderRow:
    labels = bodies.encode(list(local.labels)) if local.labels else None
    return ProviderRow(
        local.id, session, session, local.capability.label, local.capability.version, "function", None, None,
        registry.ONLINE, local.limit, labels, 0.0,
    )  # fmt: skip
