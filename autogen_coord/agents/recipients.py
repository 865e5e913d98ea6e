"""Recipients, topics and addresses as callers write them: as text, as AutoGen's ids, as capabilities."""

from __future__ import annotations

from typing import Any

from autogen_core import AgentId, AgentType, TopicId

from ..core.addresses import REPLY, Address, Recipient, check_topic, topic_label
from ..errors import InvalidInputError
from .capability import Capability

To = str | AgentId | AgentType | TopicId | Recipient | Capability[Any, Any]
"""What a message's recipient may be written as; text is an agent's address, ``type/key`` or ``type``."""


def recipient_of(to: object) -> Recipient:
    """Whom a message is for, from what callers write. Raises: InvalidInputError."""
    if isinstance(to, Recipient):
        return Recipient.parse(str(to))
    if isinstance(to, TopicId):
        return Recipient.topic(to.type, to.source)
    if isinstance(to, Capability):
        return Recipient.capability(to.label)
    return Recipient.agent(str(address_of(to)))


def address_of(agent: object) -> Address:
    """An agent's address, from what callers write. Raises: InvalidInputError."""
    if isinstance(agent, AgentId):
        return Address.parse(f"{agent.type}/{agent.key}")
    return Address.parse(agent.type if isinstance(agent, AgentType) else agent)


def own_address_of(agent: object) -> Address:
    """The address of an inbox that may be opened, or subscribed. Raises: InvalidInputError."""
    address = address_of(agent)
    if address.type == REPLY:
        raise InvalidInputError(f"{address}: the inboxes of {REPLY} are for answers to request(), which receives them itself")
    return address


def topic_of(topic: object) -> str:
    """The label of subscriptions to ``type`` (all its sources), ``type/source``, or a TopicId. Raises: InvalidInputError."""
    if isinstance(topic, TopicId):
        check_topic(topic.type, topic.source)
        return topic_label(topic.type, topic.source)
    type, slash, source = topic.partition("/") if isinstance(topic, str) else ("", "", "")
    check_topic(type, source if slash else None)
    return topic_label(type, source if slash else None)


def subscriber_of(recipient: object) -> Address | str:
    """An agent, or an agent type whose key is the topic's source. Raises: InvalidInputError."""
    address = own_address_of(recipient)
    return address.type if isinstance(recipient, AgentType) else address
