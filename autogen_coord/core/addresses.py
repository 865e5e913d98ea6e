"""Addresses: whom a message is for, and the names under which inboxes and subscriptions stand in the registry.

An **inbox** is announced like a capability, under a reserved name: ``inbox:type/key`` for one agent, which pulls its messages;
``inbox:type`` for agents of a type, to whom they are pushed, whatever the key. A **subscription** is announced as ``topic:type``
(all sources) or ``topic:type/source``; every inbox that "everyone" means stands under ``topic:*`` too. Keys and sources are
percent-quoted in labels, so that a label never holds what `pools` reads.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import StrEnum
from typing import NamedTuple
from urllib.parse import quote, unquote

from ..errors import InvalidInputError

INBOX, TOPIC = "inbox", "topic"
RESERVED = frozenset({INBOX, TOPIC})
"""Names that no capability may have."""
DEFAULT_KEY = "default"
ALL = f"{TOPIC}:*"
"""What every inbox that "everyone" means is subscribed to."""
NOBODY = f"{INBOX}:*"
"""Where a message to a group with nobody there is kept: no address is written so."""
REPLY = "coord.reply"
"""The agent type of the inboxes that requests are answered to."""
LONGEST = 500

_TYPE = re.compile(r"[\w\-.]+")
_TOPIC = re.compile(r"[\w\-.:=]+")
_KEY = re.compile(r"[\x20-\x7e]+")
_PLAIN = "/:=+,"


class Address(NamedTuple):
    """An agent, as AutoGen's ``AgentId`` names it."""

    type: str
    key: str

    def __str__(self) -> str:
        return f"{self.type}/{self.key}"

    @property
    def label(self) -> str:
        """Of its own inbox."""
        return f"{INBOX}:{self.type}/{quote(self.key, safe=_PLAIN)}"

    @property
    def type_label(self) -> str:
        """Of its type's inbox."""
        return f"{INBOX}:{self.type}"

    @classmethod
    def parse(cls, text: object) -> Address:
        """``type/key``; ``type`` means ``type/default``. Raises: InvalidInputError for what cannot be an address."""
        type, slash, key = text.partition("/") if isinstance(text, str) else ("", "", "")
        if not _TYPE.fullmatch(type) or (slash and not _KEY.fullmatch(key)) or len(type) + len(key) >= LONGEST:
            raise InvalidInputError(
                f"{text!r:.100} is no agent's address: type/key is wanted, the type of letters, digits and _ . -, the key of "
                "printable ASCII (a capability, a topic or everyone: see Recipient)"
            )
        return cls(type, key if slash else DEFAULT_KEY)


def is_reserved(label: str) -> bool:
    """Whether a label is that of an inbox or a subscription."""
    return label.partition(":")[0] in RESERVED


def is_inbox(label: str) -> bool:
    """Whether messages to agents lie there, and may move to the other inbox of their agent."""
    return label.startswith("inbox:") and label != NOBODY


def is_pulled(label: str) -> bool:
    """Whether it is one agent's own inbox: what is claimed from it is held for somebody, and no handler runs."""
    return label.startswith("inbox:") and "/" in label


def owner_of(label: str) -> str:
    """Whose inbox this is, for people: ``type/key`` or ``type``."""
    return unquote(label.partition(":")[2])


def topic_label(type: str, source: str | None) -> str:
    """Of the subscriptions to a topic; without a source: to the topic, whatever its source."""
    return f"{TOPIC}:{type}" if source is None else f"{TOPIC}:{type}/{quote(source, safe=_PLAIN)}"


def check_topic(type: object, source: object = None) -> None:
    """Raises: InvalidInputError for what cannot be a topic; a source becomes the key of addresses."""
    if not isinstance(type, str) or not _TOPIC.fullmatch(type) or len(type) >= LONGEST // 2:
        raise InvalidInputError(f"{type!r:.100} is no topic's type: letters, digits and _ - . : = are wanted")
    if source is not None and (not isinstance(source, str) or not _KEY.fullmatch(source) or len(source) >= LONGEST // 2):
        raise InvalidInputError(f"{source!r:.100} is no topic's source: printable ASCII is wanted, at least one character")


class Reach(StrEnum):
    """How many a message is for."""

    AGENT = "agent"
    CAPABILITY = "capability"
    TOPIC = "topic"
    EVERYONE = "everyone"


@dataclass(frozen=True, slots=True)
class Recipient:
    """Whom a message is for: an agent, every agent that provides a capability, a topic's subscribers, or everyone.

    ``name`` is the agent's ``type/key``, the capability's label, or the topic's ``type/source``. A group is what is online at the
    moment of the send.
    """

    reach: Reach
    name: str = ""

    @classmethod
    def agent(cls, address: str) -> Recipient:
        """One agent: ``type/key``, or ``type`` for ``type/default``. Raises: InvalidInputError."""
        return cls(Reach.AGENT, str(Address.parse(address)))

    @classmethod
    def capability(cls, name: str) -> Recipient:
        """Every agent that provides ``name`` (or ``name:version``). Raises: InvalidInputError."""
        if not isinstance(name, str) or not 0 < len(name) < LONGEST or is_reserved(name):
            raise InvalidInputError(f"{name!r:.100} is no capability's name")
        return cls(Reach.CAPABILITY, name.removesuffix(":1"))

    @classmethod
    def topic(cls, type: str, source: str = DEFAULT_KEY) -> Recipient:
        """Every subscriber of a topic. Raises: InvalidInputError."""
        check_topic(type, source)
        return cls(Reach.TOPIC, f"{type}/{source}")

    @classmethod
    def everyone(cls) -> Recipient:
        """Every inbox that is online."""
        return cls(Reach.EVERYONE)

    @classmethod
    def parse(cls, text: str) -> Recipient:
        """From text: ``type/key`` or ``type``, ``capability:NAME``, ``topic:TYPE`` or ``topic:TYPE/SOURCE``, ``everyone``.

        Raises: InvalidInputError.
        """
        what, colon, rest = text.partition(":")
        if text == Reach.EVERYONE:
            return cls.everyone()
        if colon and what == Reach.CAPABILITY:
            return cls.capability(rest)
        if colon and what == Reach.TOPIC:
            type, slash, source = rest.partition("/")
            return cls.topic(type, source if slash else DEFAULT_KEY)
        return cls.agent(text)

    def __str__(self) -> str:
        return {Reach.AGENT: self.name, Reach.EVERYONE: "everyone"}.get(self.reach, f"{self.reach}:{self.name}")


EVERYONE = Recipient.everyone()
