"""Messages: tasks whose outcome nobody awaits. Who gets one is frozen when it is sent.

The input of such a task is an envelope, ``{"kind": ..., "topic": ..., "body": ...}``; its capability is the label of the inbox that
it lies in (see `addresses`). To claim it is to receive it, to finish it is to acknowledge it; the rest is as for any task: ranks by
priority, ttl, dead letters, and what a dead process held comes back.
"""

from __future__ import annotations

from collections.abc import Iterable
from enum import StrEnum
from typing import NamedTuple

from ..errors import InvalidInputError
from ..settings import Settings
from . import bodies, endings, inboxes, tasks
from .addresses import ALL, DEFAULT_KEY, INBOX, NOBODY, REPLY, Address, Reach, Recipient, is_pulled, owner_of, topic_label
from .bodies import Kept
from .endings import Failure
from .inboxes import HELD
from .registry import ONLINE, all_online, online, require_known
from .store import Range, Rows
from .tables import FAILED, QUEUE, TASK, CapabilityRow, ProviderRow, QueueRow, TaskRow
from .tasks import Submit

GROUP_MOST = 1_000
"""What one transaction stores in less than 100 ms (measured: 60 to 75 of processor time): nobody waits longer for the writer."""
NO_RECIPIENT = "no_recipient"
INBOX_KIND, SUBSCRIPTION_KIND = "inbox", "subscription"
"""Kinds of provider rows."""


class MessageKind(StrEnum):
    """What a message is about."""

    TASK = "task"
    RESULT = "result"
    STATUS = "status"
    ERROR = "error"
    FEEDBACK = "feedback"
    CONTROL = "control"


class Send(NamedTuple):
    """A message to be. ``message`` has all but capability and recipient; with its ``parent`` (the task whose handler sends) and
    ``step_key``, a repeated attempt does not send it twice. More than one recipient: ids are its own, then ``id.1``, ``id.2``...

    ``blob``: the key of its body where that is large. ``seen``: an agent of that type was seen here, which a rule cannot look for.
    """

    message: Submit
    to: Recipient
    session: str
    blob: str | None = None
    seen: bool = False


class Posted(NamedTuple):
    """One recipient of a message, and the id of the message to it."""

    recipient: str
    id: str


class Place(NamedTuple):
    """A recipient and the label of its inbox."""

    address: Address
    label: str


def envelope(kind: MessageKind, topic: str | None, body: str, group: bool = False) -> str:
    """The input of a message's task; ``body`` is JSON text already. ``group``: it was sent to whoever is there."""
    told = f'"kind":"{kind.value}","topic":{bodies.encode(topic)}' + (',"group":true' if group else "")
    return f'{{{told},"body":{body}}}'


def inbox_label(owner: Address | str) -> str:
    """Of one agent's own inbox, or of that of an agent type."""
    return owner.label if isinstance(owner, Address) else f"{INBOX}:{owner}"


def inbox_row(owner: Address | str) -> CapabilityRow:
    """What keeps an inbox known when nobody has it open."""
    return inboxes.known_row(inbox_label(owner))


def inbox_providers(id: str, session: str, owner: Address | str, limit: int) -> list[ProviderRow]:
    """An inbox that is open in a session: the provider ``id`` that is claimed for, and its place among everyone."""
    type, key = owner if isinstance(owner, Address) else (owner, None)
    inbox = ProviderRow(id, session, session, inbox_label(owner), "1", INBOX_KIND, type, key, ONLINE, limit, None, 0.0)
    return [inbox, subscription(f"{id}.all", session, ALL, owner)]


def subscription(id: str, session: str, label: str, owner: Address | str) -> ProviderRow:
    """A subscription of an agent, or of an agent type (its key is then the topic's source)."""
    type, key = owner if isinstance(owner, Address) else (owner, None)
    return ProviderRow(id, session, session, label, "1", SUBSCRIPTION_KIND, type, key, ONLINE, 0, None, 0.0)


def send(rows: Rows, command: Send, now: float, policy: Settings) -> list[Posted]:
    """Store a message for each recipient there is now; for a group with nobody there, one dead letter, and an empty answer.

    Raises: NotFoundError (no such inbox is known; see ``Send.seen``), NoProviderError (a capability that was never announced),
    StaleClaimError (the sending handler's claim is over), InvalidInputError (a group too large).
    """
    message = command.message
    if rows.one(TASK, message.id) is not None:  # the same command once more, after a commit whose answer was lost
        return _posted(rows.scan(Range(TASK, "key", (), low=message.id, high=f"{message.id}/")))
    if message.parent is not None:
        tasks.require_parent(rows, message.parent, message.parent_attempt)
        if message.step_key is not None:
            before = rows.scan(Range(TASK, "by_step", (message.parent, message.step_key)))
            if before:
                return _posted(before)
    places = _places(rows, command)
    kept = bodies.keep(rows, message.input, policy.blob_from, command.blob, max(1, len(places)))  # once, whoever gets it
    if not places:
        _no_recipient(rows, command, kept, now, policy)
    return [_post(rows, command, number, place, kept, now, policy) for number, place in enumerate(places)]


def _post(rows: Rows, command: Send, number: int, place: Place, kept: Kept, now: float, policy: Settings) -> Posted:
    message, recipient = command.message, str(place.address)
    id = message.id if number == 0 else f"{message.id}.{number}"
    timeout = HELD if is_pulled(place.label) else message.timeout
    each = message._replace(id=id, capability=place.label, recipient=recipient, timeout=timeout)
    if place.address.type == REPLY:  # an answer that was taken and came back would wait for ever: its inbox is never opened again
        each = each._replace(deadline=each.ttl)
    tasks.create(rows, each, None, now, policy, command.session, kept)
    return Posted(recipient, id)


def _posted(rows: Iterable[TaskRow]) -> list[Posted]:
    return [Posted(row.recipient or "", row.id) for row in sorted(rows, key=lambda row: row.seq) if row.capability != NOBODY]


def _no_recipient(rows: Rows, command: Send, kept: Kept, now: float, policy: Settings) -> None:
    to, message = command.to, command.message
    tasks.create(rows, message._replace(capability=NOBODY, recipient=str(to)), None, now, policy, command.session, kept)
    row = rows.one(QUEUE, message.id)
    assert row is not None
    who = {
        Reach.CAPABILITY: f"no agent that provides {to.name!r} was online",
        Reach.TOPIC: f"nobody who is subscribed to {to.name!r} was online",
    }
    text = f"{who.get(to.reach, 'no inbox was online')} when this was sent"
    endings.end(rows, row, FAILED, now, policy, error=Failure(NO_RECIPIENT, "NotFoundError", text).stored())


def reason(task: TaskRow, row: QueueRow, is_open: bool, behind: str) -> str:
    """Why a message that could be taken waits, for people."""
    if not is_open:
        return f"no receiver: nobody has the inbox of {owner_of(row.capability)} open{behind}"
    taken = "the next receive() takes it" if is_pulled(row.capability) else "its handler is about to get it"
    return f"in the inbox of {task.recipient}{behind}: {taken}"


# who gets it


def _places(rows: Rows, command: Send) -> list[Place]:
    """The recipients, each once, with the inboxes where they will find it."""
    to, sender = command.to, command.message.sender
    match to.reach:
        case Reach.AGENT:
            found = [Address.parse(to.name)]
        case Reach.CAPABILITY:
            require_known(rows, to.name)
            found = [_address(row) for row in online(rows, to.name) if row.agent_type is not None]
        case Reach.TOPIC:
            type, _, source = to.name.partition("/")
            of_all, of_source = all_online(rows, (topic_label(type, None), topic_label(type, source)))
            found = [_address(row, source) for row in of_all + of_source]
            found = [address for address in found if str(address) != sender]
        case Reach.EVERYONE:
            found = [address for address in map(_address, online(rows, ALL)) if str(address) != sender]
    unique = list(dict.fromkeys(found))
    if len(unique) > GROUP_MOST:
        raise InvalidInputError(f"{to} means {len(unique)} agents: a message reaches {GROUP_MOST} at most; use narrower topics")
    only_known = to.reach is Reach.AGENT and not command.seen
    return list(map(Place, unique, inboxes.find(rows, unique, only_known)))


def _address(row: ProviderRow, key: str = DEFAULT_KEY) -> Address:
    return Address(row.agent_type or "", row.agent_key or key)
