"""What this process provides, and how it is announced: now, and again under a new session."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any

from autogen_core import AgentId, AgentRuntime, AgentType

from ..core import burial, claims, messages, registry
from ..core.burial import Settle
from ..core.claims import Claimed, Disown
from ..core.ids import new_id
from ..core.process import Process
from ..core.registry import Announce, Withdraw
from ..core.store import Range
from ..core.tables import PROVIDER
from ..errors import ConfigError, CoordError, LeaseLostError, NotFoundError
from . import offers
from .agent import CapabilityAgent
from .agent_states import AgentStates
from .calling import Calling
from .capability import Capability
from .chat import Factory
from .context import TaskContext
from .message import Message
from .offers import Offer
from .registration import Registration, registrations_on
from .runner import Provider, Runner
from .terms import Terms

log = logging.getLogger(__name__)


class _Local:
    """A provider of this process; its ``id`` is another under another session."""

    def __init__(self, offer: Offer, limit: int, labels: tuple[str, ...]) -> None:
        self.offer = offer
        self.limit = limit
        self.labels = labels
        self.id = ""
        self.ids: tuple[str, ...] = ()
        """Of all its rows: an inbox has one for each subscription."""
        self.leaving = False
        self.adopted = False
        """Whether it was found on the runtime when the coordination was opened."""

    def announcement(self, session: str) -> Announce:
        """Its rows under a session."""
        return self.offer.announcement(self.id, session, self.limit, self.labels)


class Providing:
    """The providers of one process: one for a capability and agent type (functions and factories have none)."""

    def __init__(self, process: Process, runner: Runner, open_message: Callable[[Claimed, TaskContext], Message]) -> None:
        self._process = process
        self._runner = runner
        self._open_message = open_message
        self._locals: dict[tuple[str, str], _Local] = {}
        self._calling: Calling | None = None
        self.announced: list[Callable[[str], Awaitable[None]]] = []
        """Who else announces something under a new session."""

    # in its forms

    async def adopt(self, runtime: AgentRuntime) -> None:
        """Provide what is registered on a runtime, now and from now on. Raises: ConfigError."""
        states = AgentStates(self._process)
        self._calling = Calling(runtime, self._process.policy.cancel_grace, states)
        registrations = registrations_on(runtime)
        registrations.keepers.append(states)
        registrations.listeners.append(self._registered)
        for registration in list(registrations.known):
            await self._registered(registration)
        for local in self._locals.values():
            local.adopted = True

    def abandon(self) -> None:
        """Hear of no more registrations."""
        if self._calling is not None:
            registrations, states = registrations_on(self._calling.runtime), self._calling.states
            if self._registered in registrations.listeners:
                registrations.listeners.remove(self._registered)
            if states in registrations.keepers:
                registrations.keepers.remove(states)

    async def _registered(self, registration: Registration) -> None:
        calling = self._require_calling()
        known = registrations_on(calling.runtime)
        terms = known.terms.get(registration.agent_type, Terms())
        if registration.key is not None and registration.key != known.keys_of(registration.agent_type)[0]:
            await self._one_more(registration.agent_type)  # of a type that is provided already
            return
        await self._provide_all(self._offers_of(registration, terms), terms)

    def _offers_of(self, registration: Registration, terms: Terms) -> list[Offer]:
        calling = self._require_calling()
        wanted = offers.of_agent(registration, registrations_on(calling.runtime), calling, terms.via_runtime)
        inbox = offers.of_inbox(registration, calling, terms.via_runtime, self._open_message)
        return wanted if inbox is None else [*wanted, inbox]

    async def _one_more(self, agent_type: str) -> None:
        """If the type takes messages, the new instance is among everyone, and subscribed, from now on."""
        await self._process.reborn()
        local = self._locals.get((messages.inbox_label(agent_type), agent_type))
        if local is None or local.leaving:
            return
        announcement = local.announcement(self._process.session)
        local.ids = tuple(row.id for row in announcement.providers)
        try:
            await self._process.line.put(registry.announce, announcement)
        except LeaseLostError:  # this process was declared dead just now: its next session announces all that it provides
            await self._process.reborn()

    async def _provide_all(self, wanted: Sequence[Offer], terms: Terms) -> None:
        """All of them or none: an agent of which another provides one capability with other schemas is not provided in part."""
        done: list[_Local] = []
        try:
            for offer in wanted:
                await self.provide(offer, terms)
                done += [local] if (local := self._locals.get(offer.key)) else []
        except BaseException:
            for local in done:
                self._give_up(local)
            raise

    async def provide_function(self, capability: Capability[Any, Any], terms: Terms) -> str:
        """Raises: InvalidInputError, ConfigError."""
        return await self.provide(offers.of_function(capability), terms)

    async def provide_class(
        self, agent_class: type[CapabilityAgent], agent_type: str, factory: Callable[[], Any], terms: Terms
    ) -> list[str]:
        """Register a class on the runtime, if it is not; the ids of its providers.

        Raises: InvalidInputError, ConfigError, ValueError (the type is another's).
        """
        calling = self._require_calling()
        if terms.via_runtime:
            calling.require_sound()
        known = registrations_on(calling.runtime)
        noted, before = known.of_class(agent_type, agent_class), known.terms.get(agent_type)
        known.terms[agent_type] = terms
        try:
            if noted is None:
                await agent_class.register(calling.runtime, agent_type, factory)
            else:
                await self._provide_again(noted, terms)
        except BaseException:
            if noted is not None or known.of_class(agent_type, agent_class) is None:
                known.terms.pop(agent_type)
                known.terms.update({} if before is None else {agent_type: before})
            raise
        return [local.id for (_, name), local in self._locals.items() if name == agent_type]

    async def _provide_again(self, registration: Registration, terms: Terms) -> None:
        """What is registered already: what of it is not provided (it failed, or was withdrawn), and what was found at the opening,
        which nobody gave terms to here. Raises: ConfigError when all of it is provided."""
        wanted = self._offers_of(registration, terms)
        await self._withdraw({offer.key: local for offer in wanted if (local := self._locals.get(offer.key)) and local.adopted})
        missing = [offer for offer in wanted if offer.key not in self._locals]
        await self._provide_all(missing or wanted, terms)

    async def provide_agent(self, agent: AgentId | AgentType, described: offers.Described, terms: Terms) -> str:
        """Raises: InvalidInputError, ConfigError."""
        calling = self._require_calling()
        calling.require(agent.type)
        if terms.via_runtime:
            calling.require_sound()
        return await self.provide(offers.of_message_handler(agent, described, calling, terms.via_runtime), terms)

    async def provide_factory(self, factory: Factory, described: offers.Described, terms: Terms) -> str:
        """Raises: InvalidInputError, ConfigError."""
        return await self.provide(offers.of_factory(factory, described), terms)

    def _require_calling(self) -> Calling:
        assert self._calling is not None, "a coordination has a runtime before it provides agents"
        return self._calling

    # in one form

    async def provide(self, offer: Offer, terms: Terms) -> str:
        """Announce an offer, and claim for it from then on; returns the provider's id.

        Raises: ConfigError (provided already, or with other schemas, here or elsewhere).
        """
        self._refuse_twice(offer)
        limit = terms.max_concurrency or offer.limit or self._process.policy.max_concurrency
        local = self._locals[offer.key] = _Local(offer, limit, terms.labels)
        try:
            try:
                await self._announce(local)
            except LeaseLostError:  # this process was declared dead just now: its next session announces all that it provides
                await self._process.reborn()
                self._require_provided(local)
        except BaseException:  # also a cancellation: it may have been announced, and nobody would serve it
            self._give_up(local)
            raise
        return local.id

    def _require_provided(self, local: _Local) -> None:
        if self._locals.get(local.offer.key) is not local:
            raise ConfigError(
                f"{local.offer.label!r} is not provided: it was withdrawn meanwhile, or another process provides it with other "
                "input or output: give this form a version of its own"
            )

    def _give_up(self, local: _Local) -> None:
        if self._locals.get(local.offer.key) is local:
            del self._locals[local.offer.key]
        self._process.dispatcher.remove(local.id)
        self._process.spawn(self._retire_quietly(local.ids))

    def _refuse_twice(self, offer: Offer) -> None:
        for (label, agent_type), local in self._locals.items():
            if label != offer.label:
                continue
            if local.offer.schemas != offer.schemas:
                raise ConfigError(
                    f"this process provides {label!r} already, with other input or output: give the new form a version of its own"
                )
            if agent_type == (offer.agent_type or ""):
                mend = (
                    "raise its max_concurrency instead"
                    if local.offer.source is offer.source
                    else f"by another {offer.kind}: give one of them a name or version of its own"
                )
                raise ConfigError(f"this process provides {label!r} already; {mend}")

    async def withdraw(self, what: Capability[Any, Any] | str) -> None:
        """Provide a capability, or one provider of it by its id, no more; what runs of it goes on. Raises: NotFoundError."""
        label = what if isinstance(what, str) else what.label
        found = {key: local for key, local in self._locals.items() if key[0] == label or local.id == label}
        if not found:
            raise NotFoundError(f"this process does not provide {label!r}")
        await self._withdraw(found)

    async def _withdraw(self, found: Mapping[tuple[str, str], _Local]) -> None:
        for local in found.values():
            local.leaving = True  # a session that is taken meanwhile does not announce it again
            self._process.dispatcher.remove(local.id)
        await self._retire(tuple(id for local in found.values() for id in local.ids))
        for key, local in found.items():
            if self._locals.get(key) is local:
                del self._locals[key]

    async def leave(self) -> None:
        """Before a goodbye: every claim of the session is given back, every provider withdrawn."""
        process = self._process
        await process.line.put(claims.disown, Disown(process.session, ()))
        (own,) = await process.store.read(Range(PROVIDER, "by_session", (process.session,)))
        if own:  # what the store says, not what we remember
            await self._retire(tuple(row.id for row in own))

    async def _retire_quietly(self, ids: tuple[str, ...]) -> None:
        try:
            await self._retire(ids)
        except CoordError as error:
            log.warning("a provider that was given up is still announced (%s): it goes with the session", error.code)

    async def _retire(self, ids: tuple[str, ...]) -> None:
        line, slice = self._process.line, self._process.policy.slice
        some = [ids[start : start + slice] for start in range(0, len(ids), slice)]
        for part in some:
            await line.put(registry.withdraw, Withdraw(self._process.session, part))
        for part in some:
            while await line.put(burial.settle, Settle(part)):
                pass

    async def announce_all(self, session: str) -> None:
        """The process has a new session: all that it provides hangs on that one now."""
        for key, local in list(self._locals.items()):
            if self._has_left(local):
                continue
            try:
                await self._announce(local)
            except ConfigError as error:
                self._process.check()
                # while we were dead, another took the name with another form: the others stay
                log.error("%s is provided here no more: %s", local.offer.label, error)
                self._locals.pop(key, None)
        for more in self.announced:
            await more(session)

    async def _announce(self, local: _Local) -> None:
        process, offer = self._process, local.offer
        if local.id:
            process.dispatcher.remove(local.id)
        local.id = new_id("p")
        announcement = local.announcement(process.session)
        local.ids = tuple(row.id for row in announcement.providers)
        await process.line.put(registry.announce, announcement)
        if self._has_left(local):  # while the answer was on its way
            await self._retire_quietly(local.ids)
            return
        provider = Provider(offer.label, offer.read, offer.output, offer.handle)
        process.dispatcher.add_provider(local.id, offer.label, local.limit, self._starter(provider))
        offer.opened(process)

    def _has_left(self, local: _Local) -> bool:
        return local.leaving or self._locals.get(local.offer.key) is not local

    def _starter(self, provider: Provider) -> Callable[[Claimed], None]:
        return lambda claimed: self._runner.start(provider, claimed)
