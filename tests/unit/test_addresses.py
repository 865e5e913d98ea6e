"""Addresses, recipients and the labels of inboxes: what can be one, and what is refused."""

from __future__ import annotations

from typing import Any

import pytest
from autogen_core import AgentId, AgentType, TopicId

from autogen_coord import EVERYONE, InvalidInputError, Recipient, capability
from autogen_coord.agents.recipients import address_of, recipient_of, subscriber_of, topic_of
from autogen_coord.core import pools, registry
from autogen_coord.core.addresses import Address, is_pulled, is_reserved, owner_of


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("writer", Address("writer", "default")),
        ("writer/a", Address("writer", "a")),
        ("wri-ter.x_2/a/b c", Address("wri-ter.x_2", "a/b c")),
        ("schreiberü/1", Address("schreiberü", "1")),
        (AgentId("writer", "k"), Address("writer", "k")),
        (AgentType("writer"), Address("writer", "default")),
    ],
)
def test_what_an_address_may_be_written_as(text: Any, address: Address) -> None:
    assert address_of(text) == address


@pytest.mark.parametrize(
    "text", ["", "/", "writer/", "/a", "wri ter", "writer/ä", "writer/a\n", "writer\n", "a:b", "w/" + "x" * 600, 7, None, b"writer"]
)
def test_what_cannot_be_an_address_is_refused(text: Any) -> None:
    with pytest.raises(InvalidInputError, match="no agent's address"):
        address_of(text)


@pytest.mark.parametrize("key", ["a@p1", "x!alone", "a b", '"', "%40", "a:b/c", "~", "{}", "'"])
def test_a_label_quotes_what_a_pool_would_read(key: str) -> None:
    label = Address("writer", key).label
    assert pools.provider_in(label) is None
    assert not pools.is_alone(label)
    assert not set('" ') & set(label)
    assert owner_of(label) == f"writer/{key}"
    assert registry.label_of(*registry.split_label(label)) == label
    assert is_pulled(label)
    assert is_reserved(label)


def test_the_inbox_of_a_type_is_not_pulled() -> None:
    assert not is_pulled(Address("writer", "a").type_label)
    assert not is_pulled("summarize/fast")


@pytest.mark.parametrize(
    ("text", "recipient"),
    [
        ("writer", Recipient.agent("writer/default")),
        ("everyone", EVERYONE),
        ("everyone/default", Recipient.agent("everyone/default")),
        ("capability:summarize", Recipient.capability("summarize")),
        ("capability:summarize:2", Recipient.capability("summarize:2")),
        ("capability:summarize:1", Recipient.capability("summarize")),
        ("topic:news", Recipient.topic("news", "default")),
        ("topic:news/de/sud", Recipient.topic("news", "de/sud")),
    ],
)
def test_a_recipient_is_read_from_text_and_written_as_such(text: str, recipient: Recipient) -> None:
    assert Recipient.parse(text) == recipient
    assert Recipient.parse(str(recipient)) == recipient


@pytest.mark.parametrize(
    "text", ["capability:", "capability:inbox:x", "topic:", "topic:/x", "topic:a b", "topic:x/", "other:x", ""]
)
def test_text_that_names_nobody_is_refused(text: str) -> None:
    with pytest.raises(InvalidInputError):
        Recipient.parse(text)


def test_recipients_may_be_written_as_autogens_ids_and_as_capabilities() -> None:
    @capability("summarize", version="2")
    async def summarize(text: str) -> str:
        return text

    assert recipient_of(TopicId("news", "de")) == Recipient.topic("news", "de")
    assert recipient_of(summarize) == Recipient.capability("summarize:2")
    assert recipient_of(AgentType("writer")) == recipient_of("writer")
    with pytest.raises(InvalidInputError):
        recipient_of("topic:news")  # text is an address
    with pytest.raises(InvalidInputError):
        recipient_of(7)


def test_a_topic_is_a_type_with_or_without_a_source() -> None:
    assert topic_of("news") == "topic:news"
    assert topic_of("news/de 1") == topic_of(TopicId("news", "de 1")) == "topic:news/de%201"
    for wrong in ("", "news/", "ne ws", 7, TopicId("news", ""), TopicId("news", "süd")):
        with pytest.raises(InvalidInputError):
            topic_of(wrong)


def test_a_type_is_subscribed_without_a_key_an_agent_with_its_own() -> None:
    assert subscriber_of(AgentType("writer")) == "writer"
    assert subscriber_of("writer") == Address("writer", "default")
    with pytest.raises(InvalidInputError, match="answers"):
        subscriber_of("coord.reply/x")


@pytest.mark.parametrize("name", ["inbox", "topic"])
def test_no_capability_may_have_a_reserved_name(name: str) -> None:
    with pytest.raises(InvalidInputError, match="kept for messages"):
        registry.check_name(name)
    registry.check_name(f"{name}es")
    registry.check_name(f"{name}/a")
