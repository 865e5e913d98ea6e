"""What a process can offer, brought to one form: a capability with its schemas, and a way to call it."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

from autogen_core import AgentId, AgentType

from ..core import bodies, directory, messages, registry
from ..core.addresses import INBOX, Address
from ..core.claims import Claimed
from ..core.messages import INBOX_KIND
from ..core.process import Process
from ..core.registry import Announce
from ..core.schemas import Schema
from ..core.tables import CapabilityRow, ProviderRow
from ..errors import InvalidInputError
from .agent import CapabilityAgent
from .calling import Calling
from .capability import Capability
from .chat import Chat, Factory
from .context import TaskContext
from .message import Message
from .on_message import choose, handlers_of, unhandled
from .recipients import topic_of
from .registration import Registration, Registrations, registrations_on

log = logging.getLogger(__name__)

FUNCTION, AGENT, CHAT = "function", "agent", "chat"
DEFAULT_KEY = "default"


@dataclass(frozen=True, slots=True)
class Offer:
    """A capability as one process can serve it. ``source`` is what the user passed; ``agent_key`` None: the task's sticky key."""

    name: str
    version: str
    description: str
    input: Schema[Any]
    output: Schema[Any]
    kind: str
    handle: Callable[[Any, TaskContext], Awaitable[Any]]
    source: object
    limit: int | None = None
    agent_type: str | None = None
    agent_key: str | None = None

    @property
    def label(self) -> str:
        return registry.label_of(self.name, self.version)

    @property
    def key(self) -> tuple[str, str]:
        """What it is in its process: one for a capability and agent type (functions and factories have none)."""
        return self.label, self.agent_type or ""

    @property
    def schemas(self) -> tuple[str, str]:
        return self.input.json, self.output.json

    def read(self, claimed: Claimed, context: TaskContext) -> Any:
        """What the handler is given. Raises: InvalidInputError."""
        return self.input.decode(claimed.input)

    def announcement(self, id: str, session: str, limit: int, labels: tuple[str, ...]) -> Announce:
        """What stands in the registry while it is provided."""
        said = f"{self.name} {self.description}".replace(".", " ").lower()
        words = " ".join(sorted(set(said.split())))
        capability = CapabilityRow(self.name, self.version, self.description, self.input.json, self.output.json, words, 0.0)
        provider = ProviderRow(
            id, session, session, self.label, self.version, self.kind, self.agent_type, self.agent_key,
            registry.ONLINE, limit, bodies.encode(list(labels)) if labels else None, 0.0,
        )  # fmt: skip
        return Announce(session, [capability], [provider])

    def opened(self, process: Process) -> None:
        """It was announced, and is claimed for."""


@dataclass(frozen=True, slots=True, kw_only=True)
class InboxOffer(Offer):
    """Messages that are pushed to the `on_message` handlers of an agent type; ``topics`` are the labels it is subscribed to.

    ``keys``: of its instances, where there is no factory that makes an agent of any key.
    """

    open: Callable[[Claimed, TaskContext], Message]
    topics: tuple[str, ...]
    keys: Callable[[], list[str]]

    def read(self, claimed: Claimed, context: TaskContext) -> Any:
        """The message."""
        return self.open(claimed, context)

    def announcement(self, id: str, session: str, limit: int, labels: tuple[str, ...]) -> Announce:
        """The inbox, its place among everyone, and its subscriptions; the latter two of each instance, where there are such."""
        owner = self.agent_type or ""
        inbox, everyone = messages.inbox_providers(id, session, owner, limit)
        labels, keys = (everyone.capability, *self.topics), self.keys()
        agents: list[Address | str] = [Address(owner, key) for key in keys] or [owner]
        places = [(label, agent) for agent in agents for label in labels]
        rows = [messages.subscription(f"{id}.{number}", session, *place) for number, place in enumerate(places)]
        return Announce(session, [messages.inbox_row(owner)], [inbox, *rows])

    def opened(self, process: Process) -> None:
        """What waits for its agents in inboxes of their own, which nobody has open, is fetched."""
        process.spawn(directory.gather_quietly(process.store, process.line, self.agent_type or ""))


@dataclass(frozen=True, slots=True)
class Described:
    """A capability that its code does not describe: what the user said of it."""

    name: str
    input: Any
    output: Any
    version: str = "1"
    description: str = ""

    def schemas(self) -> tuple[Schema[Any], Schema[Any]]:
        """Raises: InvalidInputError that names what cannot be used."""
        registry.check_name(self.name, self.version)
        if not isinstance(self.description, str):
            raise InvalidInputError(f"provide(..., {self.name!r}): description={self.description!r:.100}: a text")
        label = registry.label_of(self.name, self.version)
        for what, annotation in (("input", self.input), ("output", self.output)):
            if annotation is ...:
                raise InvalidInputError(f"provide(..., {self.name!r}): {what}= is missing: the type of its {what}")
        output = type(None) if self.output is None else self.output
        return Schema(self.input, f"the input of {label}"), Schema(output, f"the output of {label}")


def of_function(capability: Capability[Any, Any]) -> Offer:
    """Raises: InvalidInputError for unusable annotations, and for a method: its agent is provided, not it."""
    if capability.method is not None:
        owner = capability.function.__qualname__.rpartition(".")[0]
        raise InvalidInputError(f"{capability.label!r} is a method of {owner}: provide or register that agent")
    form = capability.form
    return Offer(
        capability.name, capability.version, capability.description, form.input, form.output, FUNCTION, capability.handle,
        capability, capability.max_concurrency,
    )  # fmt: skip


def of_agent(registration: Registration, known: Registrations, calling: Calling, via_runtime: bool) -> list[Offer]:
    """The capabilities of a registered `CapabilityAgent`."""
    agent_type, call = registration.agent_type, calling.invoke if via_runtime else calling.method

    def id_for(context: TaskContext) -> AgentId:
        key = context.sticky or DEFAULT_KEY
        if registration.key is not None:  # instances: the one that is named, else the first
            keys = known.keys_of(agent_type)
            key = key if key in keys else keys[0]
        return AgentId(agent_type, key)

    def offer(capability: Capability[Any, Any]) -> Offer:
        form, method = capability.form, capability.handle_on
        return Offer(
            capability.name, capability.version, capability.description, form.input, form.output, AGENT,
            lambda input, context: call(method, id_for(context), input, context),
            registration.agent_class, capability.max_concurrency, agent_type, registration.key,
        )  # fmt: skip

    return [offer(one) for one in registration.agent_class.capabilities()]


def of_inbox(
    registration: Registration, calling: Calling, via_runtime: bool, open: Callable[[Claimed, TaskContext], Message]
) -> InboxOffer | None:
    """The `on_message` handlers of a registered `CapabilityAgent`, if it has any. Raises: InvalidInputError."""
    handlers = handlers_of(registration.agent_class)
    if not handlers:
        return None
    agent_type, call = registration.agent_type, calling.invoke if via_runtime else calling.method
    known = registrations_on(calling.runtime)

    async def push(agent: CapabilityAgent, message: Message, context: TaskContext) -> None:
        handler = choose(handlers, message)
        if handler is not None:
            await handler.handle(agent, message, context)
        elif message.group:  # it was for whoever wants it
            log.debug("agent %s takes no %s messages: passed over", agent.id, message.kind, extra={"task_id": message.id})
        else:
            raise unhandled(str(agent.id), message)

    async def handle(message: Message, context: TaskContext) -> None:
        id = AgentId(agent_type, Address.parse(message.recipient).key)
        keys = known.keys_of(agent_type)
        if registration.key is not None and id.key not in keys:
            raise InvalidInputError(f"no agent {id} is registered: the instances of {agent_type} are {', '.join(keys)}")
        await call(push, id, message, context)

    nothing: Schema[Any] = Schema(type(None), f"a handler of {agent_type}'s messages")
    return InboxOffer(
        INBOX, agent_type, "", nothing, nothing, INBOX_KIND, handle, registration.agent_class, None, agent_type, None,
        open=open, topics=tuple(sorted({topic_of(one.topic) for one in handlers if one.topic is not None})),
        keys=lambda: known.keys_of(agent_type),
    )  # fmt: skip


def of_message_handler(agent: AgentId | AgentType, described: Described, calling: Calling, via_runtime: bool) -> Offer:
    """Any agent of the runtime, whose handler takes the input as its message and answers with the output."""
    input, output = described.schemas()
    call = calling.send if via_runtime else calling.message
    agent_type, key = agent.type, agent.key if isinstance(agent, AgentId) else None

    def handle(input: Any, context: TaskContext) -> Awaitable[Any]:
        return call(AgentId(agent_type, key or context.sticky or DEFAULT_KEY), input, context)

    return Offer(
        described.name, described.version, described.description, input, output, AGENT, handle, agent, None, agent_type, key
    )


def of_factory(factory: Factory, described: Described) -> Offer:
    """A factory of AgentChat agents or teams."""
    input, output = described.schemas()
    chat = Chat(factory, registry.label_of(described.name, described.version), input, output)
    return Offer(described.name, described.version, described.description, input, output, CHAT, chat.handle, factory)
