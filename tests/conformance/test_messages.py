"""Messages as agents see them: sent, received, acknowledged, asked for and answered, on every store."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Any

import pytest
from autogen_core import AgentId, AgentType, TopicId
from pydantic import BaseModel

from autogen_coord import (
    EVERYONE,
    CallTimeoutError,
    CapabilityAgent,
    ClosedError,
    Coordination,
    InvalidInputError,
    Message,
    MessageKind,
    NoProviderError,
    NotFoundError,
    PayloadTooLargeError,
    Priority,
    Recipient,
    RemoteError,
    StaleClaimError,
    StoreUnavailableError,
    TaskCancelledError,
    TaskContext,
    capability,
)
from autogen_coord.core import messages, tasks
from autogen_coord.core.claims import Claimed
from autogen_coord.core.messages import Posted
from autogen_coord.core.store import Keys, Range
from autogen_coord.core.tables import OUTCOME, PROVIDER, QUEUE, TASK
from autogen_coord.core.tasks import Cancel
from tests.conformance.test_sessions import murder
from tests.conftest import MORTAL, Fault, World, process_of, soon, until, vanish


class Note(BaseModel):
    text: str
    pages: int = 1


class Coder(CapabilityAgent):
    @capability("code")
    async def code(self, text: str) -> str:
        return text


@dataclass
class Place:
    city: str


async def received(coord: Coordination, recipient: str | AgentId = "writer", timeout: float | None = None) -> Message:
    async with soon():
        message = await coord.receive(recipient, timeout)
    assert message is not None
    return message


async def waiting(coord: Coordination, count: int = 1) -> None:
    """Until so many receivers wait."""
    assert coord._parts is not None
    inboxes = coord._parts.messaging.inboxes
    await until(lambda: sum(len(inbox._waiting) for inbox in inboxes._inboxes.values()) >= count)
    await process_of(coord).line.put(lambda rows, command, now, policy: None, None)


async def tasks_of(coord: Coordination) -> list[Any]:
    (rows,) = await process_of(coord).store.read(Range(TASK, "key"))
    return rows


async def state_of(coord: Coordination, id: str) -> str:
    return (await coord.task(id)).state


@pytest.fixture
async def two(world: World) -> tuple[Coordination, Coordination]:
    return await world.open(), await world.open()


# there and back


async def test_a_message_goes_from_one_process_to_another_and_is_acknowledged(two: tuple[Coordination, Coordination]) -> None:
    here, there = two
    receiving = asyncio.create_task(received(there, "writer/a"))
    await waiting(there)
    (posted,) = await here.send(
        "writer/a", {"n": [1, None, "ä"]}, kind=MessageKind.FEEDBACK, sender="boss", correlation="c-1", causation="t-1", priority=7
    )
    message = await receiving
    assert posted == Posted("writer/a", message.id)
    assert (message.kind, message.body, message.topic) == (MessageKind.FEEDBACK, {"n": [1, None, "ä"]}, None)
    assert (message.sender, message.recipient, message.priority) == ("boss/default", "writer/a", 7)
    assert (message.correlation, message.causation, message.attempt) == ("c-1", "t-1", 1)
    assert message.sent_at == (await here.task(message.id)).submitted_at
    assert (await here.task(message.id)).why.startswith("held for")
    await message.ack()
    await message.ack()
    assert await state_of(here, message.id) == "succeeded"
    assert await there.receive("writer/a", timeout=0) is None


@pytest.mark.parametrize("kind", list(MessageKind))
async def test_each_kind_arrives_as_it_was_sent(coord: Coordination, kind: MessageKind) -> None:
    await coord.receive("writer", timeout=0)
    await coord.send("writer", "x", kind=kind.value)
    assert (await received(coord)).kind is kind


@pytest.mark.parametrize("body", [None, 0, "", "text", [1, {"a": None}], {"x": "\x00"}, "x" * 40_000])
async def test_a_body_is_any_json_value(coord: Coordination, body: Any) -> None:
    await coord.receive("writer", timeout=0)
    await coord.send("writer", body)
    message = await received(coord)
    assert message.body == body
    await message.ack()


async def test_bodies_may_be_models_and_are_read_as_such(coord: Coordination) -> None:
    await coord.receive("writer", timeout=0)
    await coord.send("writer", Note(text="hi"))
    await coord.send("writer", Place("Rome"))
    first, second = await received(coord), await received(coord)
    assert first.read(Note) == Note(text="hi")
    assert second.read(Place) == Place("Rome")
    with pytest.raises(InvalidInputError, match="text") as caught:
        second.read(Note)
    assert "Rome" not in str(caught.value)


async def test_messages_of_one_inbox_come_by_priority_then_as_they_were_sent(coord: Coordination) -> None:
    await coord.receive("writer", timeout=0)
    for body, priority in (("low", Priority.LOW), ("one", 5), ("two", 5), ("urgent", Priority.URGENT)):
        await coord.send("writer", body, priority=priority)
    got = []
    while (message := await coord.receive("writer", timeout=0)) is not None:
        got.append(message.body)
        await message.ack()
    assert got == ["urgent", "one", "two", "low"]


async def test_a_message_may_be_sent_long_before_it_is_received(two: tuple[Coordination, Coordination]) -> None:
    here, there = two
    await there.receive(AgentId("writer", "default"), timeout=0)
    for number in range(5):
        await here.send(AgentId("writer", "default"), number)
    got = [await received(there, "writer", 0) for _ in range(5)]
    assert [message.body for message in got] == [0, 1, 2, 3, 4]


async def test_a_delayed_message_comes_when_it_is_due(coord: Coordination) -> None:
    await coord.receive("writer", timeout=0)
    await coord.send("writer", "later", delay=0.2)
    assert await coord.receive("writer", timeout=0) is None
    assert (await received(coord, "writer", 5)).body == "later"


async def test_several_receivers_share_an_inbox_and_each_message_comes_once(world: World) -> None:
    coords = [await world.open() for _ in range(3)]
    for coord in coords:
        await coord.receive("writer", timeout=0)
    got: list[int] = []

    async def receive(coord: Coordination) -> None:
        while (message := await coord.receive("writer", timeout=0.3)) is not None:
            got.append(message.body)
            await message.ack()

    receivers = [asyncio.create_task(receive(coord)) for coord in coords for _ in range(2)]
    for number in range(30):
        await coords[0].send("writer", number)
    async with soon():
        await asyncio.gather(*receivers)
    assert sorted(got) == list(range(30))


# waiting


async def test_nothing_there_is_none_at_once_and_after_the_timeout(coord: Coordination) -> None:
    async with soon():
        assert await coord.receive("writer", timeout=0) is None
        assert await coord.receive("writer", timeout=0.05) is None


async def test_a_look_finds_what_another_process_just_sent(two: tuple[Coordination, Coordination]) -> None:
    here, there = two
    await there.receive("writer", timeout=0)
    for number in range(10):
        await here.send("writer", number)
        message = await there.receive("writer", timeout=0)
        assert message is not None
        await message.ack()


async def test_a_receiver_that_leaves_takes_nothing_along(coord: Coordination) -> None:
    leaving = asyncio.create_task(coord.receive("writer"))
    await waiting(coord)
    leaving.cancel()
    await asyncio.wait([leaving])
    (posted,) = await coord.send("writer", "x")
    assert await state_of(coord, posted.id) == "ready"
    assert (await received(coord)).attempt == 1


async def test_a_message_that_came_as_its_receiver_left_comes_again(coord: Coordination) -> None:
    assert coord._parts is not None
    leaving = asyncio.create_task(coord.receive("writer"))
    await waiting(coord)
    (inbox,) = coord._parts.messaging.inboxes._inboxes.values()
    arrived = inbox.arrived

    def arrive_and_cancel(claimed: Any) -> None:
        arrived(claimed)
        leaving.cancel()

    process_of(coord).dispatcher._slots[inbox.id].start = arrive_and_cancel
    (posted,) = await coord.send("writer", "x")
    await asyncio.wait([leaving])
    assert leaving.cancelled()
    process_of(coord).dispatcher._slots[inbox.id].start = arrived
    message = await received(coord)
    assert (message.id, message.attempt) == (posted.id, 1)  # nobody had it
    assert (await coord.task(posted.id)).attempts[0].end == "unbegun"


async def test_a_message_that_nobody_had_keeps_its_ttl(coord: Coordination) -> None:
    leaving = asyncio.create_task(coord.receive("writer"))
    await waiting(coord)
    (inbox,) = process_of(coord).dispatcher._slots.values()
    start = inbox.start

    def cancel_and_start(claimed: Claimed) -> None:
        leaving.cancel()
        start(claimed)

    inbox.start = cancel_and_start
    (posted,) = await coord.send("writer", "x", ttl=0.2)
    await asyncio.wait([leaving])
    assert leaving.cancelled()
    await until(lambda: _is(coord, posted.id, "expired"))


@pytest.mark.parametrize("timeout", [0, 2.0])
@pytest.mark.parametrize("recipient", ["writer", "new"])
async def test_a_look_just_after_its_session_was_declared_dead_finds_what_is_there(
    world: World, timeout: float, recipient: str
) -> None:
    coord, judge = await world.open(), await world.open()
    await coord.receive("writer", timeout=0)
    await judge.receive("new", timeout=0)
    (inbox,) = process_of(judge).dispatcher._slots
    process_of(judge).dispatcher.remove(inbox)  # it is known, and nobody takes from it
    await judge.send(recipient, "x")
    await murder(judge, coord.session)
    message = await received(coord, recipient, timeout)
    assert message.body == "x"


async def test_receiving_and_asking_are_bounded_while_no_new_session_can_be_had(world: World) -> None:
    coord, judge = await world.open(store_wait=1.0), await world.open()
    await coord.receive("writer", timeout=0)
    process = process_of(coord)
    with Fault(coord):
        process._lost(process.session)
        async with soon():
            assert await coord.receive("writer", timeout=0.1) is None
            with pytest.raises(StoreUnavailableError, match="no claim"):
                await coord.receive("writer", timeout=0)
            with pytest.raises((CallTimeoutError, StoreUnavailableError)):
                await coord.request("writer", "?", timeout=0.1)
    await judge.send("writer", "x")
    assert (await received(coord)).body == "x"


async def test_who_waits_for_a_message_is_told_of_the_close(world: World) -> None:
    coord = await world.open()
    waits = asyncio.create_task(coord.receive("writer"))
    await waiting(coord)
    await coord.close()
    async with soon():
        with pytest.raises(ClosedError):
            await waits
    with pytest.raises(ClosedError):
        await coord.receive("writer", timeout=0)


async def test_a_look_while_the_store_is_away_is_an_error_a_wait_goes_on(coord: Coordination) -> None:
    await coord.receive("writer", timeout=0)
    with Fault(coord):
        with pytest.raises(StoreUnavailableError):
            await coord.receive("writer", timeout=0)
        waits = asyncio.create_task(received(coord))
        await asyncio.sleep(0.05)
        assert not waits.done()
    await coord.send("writer", "x")
    assert (await waits).body == "x"


# settling


async def test_a_block_acknowledges_at_its_end_and_gives_back_on_an_exception(coord: Coordination) -> None:
    await coord.receive("writer", timeout=0)
    (posted,) = await coord.send("writer", "x")
    with pytest.raises(ZeroDivisionError):
        async with await received(coord):
            raise ZeroDivisionError
    async with await received(coord) as message:
        assert (message.id, message.attempt) == (posted.id, 2)
    assert await state_of(coord, posted.id) == "succeeded"


async def test_a_block_that_settled_its_message_itself_is_left_quietly(coord: Coordination) -> None:
    await coord.receive("writer", timeout=0)
    await coord.send("writer", "x")
    await coord.send("writer", "y")
    async with await received(coord) as message:
        await message.reject("no", requeue=False)
    with pytest.raises(ZeroDivisionError):
        async with await received(coord) as other:
            await other.ack()
            raise ZeroDivisionError
    assert [await state_of(coord, one.id) for one in (message, other)] == ["failed", "succeeded"]


async def test_a_message_rejected_for_good_is_a_dead_letter(coord: Coordination) -> None:
    await coord.receive("writer", timeout=0)
    await coord.send("writer", "x")
    message = await received(coord)
    await message.reject("not mine", requeue=False)
    info = await coord.task(message.id)
    assert info.error is not None
    assert (info.state, info.error["code"], info.error["text"]) == ("failed", "rejected", "not mine")
    with pytest.raises(StaleClaimError):
        await message.ack()


async def test_a_rejected_message_goes_to_another_receiver(world: World) -> None:
    here, there = await world.open(), await world.open()
    await there.receive("writer", timeout=0)
    await here.receive("writer", timeout=0)
    await here.send("writer", "x")
    message = await received(here)
    await message.reject("busy")
    assert (await received(there)).id == message.id


async def test_a_rejected_message_comes_again_after_the_pause_where_nobody_else_is(world: World) -> None:
    coord = await world.open(reject_pause=0.1)
    await coord.receive("writer", timeout=0)
    await coord.send("writer", "x")
    await (await received(coord)).reject()
    assert (await received(coord)).attempt == 2


async def test_a_message_given_back_frees_its_place(coord: Coordination) -> None:
    await coord.receive("writer", timeout=0)
    for number in range(3):
        await coord.send("writer", number)
    held = [await received(coord) for _ in range(3)]
    assert await coord.receive("writer", timeout=0) is None
    for message in held:
        await message.ack()
    dispatcher = process_of(coord).dispatcher
    assert not dispatcher.running
    assert not any(slot.active or slot.limit for slot in dispatcher._slots.values())


async def test_an_acknowledgement_that_could_not_be_written_can_be_repeated(coord: Coordination) -> None:
    await coord.receive("writer", timeout=0)
    await coord.send("writer", "x")
    message = await received(coord)
    with Fault(coord), pytest.raises(StoreUnavailableError):
        await message.ack()
    assert await state_of(coord, message.id) == "running"
    await message.ack()
    assert await state_of(coord, message.id) == "succeeded"


async def test_who_leaves_an_acknowledgement_has_given_it_all_the_same(coord: Coordination) -> None:
    await coord.receive("writer", timeout=0)
    await coord.send("writer", "x")
    message = await received(coord)
    acking = asyncio.create_task(message.ack())
    await asyncio.sleep(0)
    acking.cancel()
    await asyncio.wait([acking])
    await until(lambda: not process_of(coord).dispatcher.running)
    assert await state_of(coord, message.id) == "succeeded"


async def test_a_cancelled_message_is_lost_to_who_holds_it(two: tuple[Coordination, Coordination]) -> None:
    here, there = two
    await there.receive("writer", timeout=0)
    await here.send("writer", "x")
    message = await received(there)
    assert await here.cancel(message.id)
    await until(lambda: not process_of(there).dispatcher.running)
    assert await state_of(here, message.id) == "cancelled"
    with pytest.raises(StaleClaimError):
        await message.ack()


async def test_what_is_held_at_the_close_comes_again_elsewhere(world: World) -> None:
    first, second = await world.open(), await world.open()
    await first.receive("writer", timeout=0)
    await first.send("writer", "x")
    message = await received(first)
    await first.close()
    again = await received(second)
    assert (again.id, again.attempt) == (message.id, 2)
    with pytest.raises((StaleClaimError, ClosedError)):
        await message.ack()
    await again.ack()


async def test_what_a_dead_process_held_comes_again_and_its_acknowledgement_is_refused(world: World) -> None:
    first, second = await world.open(**MORTAL), await world.open(**MORTAL)
    await first.receive("writer", timeout=0)
    await second.send("writer", "x")
    message = await received(first)
    await vanish(first)
    again = await received(second)
    assert (again.id, again.attempt) == (message.id, 2)
    assert not (await second.task(message.id)).suspect
    await again.ack()


async def test_a_process_taken_for_dead_receives_on_and_cannot_acknowledge_what_it_had(world: World) -> None:
    coord, judge = await world.open(), await world.open()
    await coord.receive("writer", timeout=0)
    await coord.subscribe("news", "writer")
    await coord.send("writer", "x")
    message = await received(coord)
    waits = asyncio.create_task(received(coord))
    await waiting(coord)
    old = coord.session
    await murder(judge, old)
    again = await waits
    assert coord.session != old
    assert (again.id, again.attempt) == (message.id, 2)
    with pytest.raises(StaleClaimError):
        await message.ack()
    await again.ack()
    assert await judge.send(TopicId("news", "x"), "y") != []
    assert (await received(coord)).body == "y"


async def test_an_unheard_message_expires_and_is_a_dead_letter(world: World) -> None:
    coord = await world.open(message_ttl=0.05)
    await coord.receive("writer", timeout=0)
    (posted,) = await coord.send("writer", "x")
    (lasting,) = await coord.send("writer", "y", ttl=60)
    await until(lambda: _is(coord, posted.id, "expired"))
    assert (await received(coord)).id == lasting.id
    again = await coord.requeue(posted.id)
    assert (await received(coord)).id == again.id


async def _is(coord: Coordination, id: str, state: str) -> bool:
    return await state_of(coord, id) == state


# groups


async def test_everyone_are_the_inboxes_of_all_processes_but_the_senders(two: tuple[Coordination, Coordination]) -> None:
    here, there = two
    await here.receive("writer/a", timeout=0)
    await there.receive("writer/b", timeout=0)
    await there.receive("boss", timeout=0)
    await _ask_and_be_answered(here, there)  # the inbox for answers is not among everyone
    sent = await here.send(EVERYONE, "x", sender="boss")
    assert sorted(one.recipient for one in sent) == ["writer/a", "writer/b"]
    assert (await received(there, "writer/b")).body == "x"
    assert await there.receive("boss", timeout=0) is None


async def _ask_and_be_answered(here: Coordination, there: Coordination) -> None:
    asking = asyncio.create_task(here.request("boss", "?"))
    async with await received(there, "boss") as message:
        await message.reply("!")
    async with soon():
        assert await asking == "!"


async def test_a_topic_reaches_its_subscribers_of_that_moment(two: tuple[Coordination, Coordination]) -> None:
    here, there = two
    await here.subscribe("news", "writer/a")
    await there.subscribe(TopicId("news", "de"), AgentId("writer", "b"))
    await there.subscribe("news", AgentType("clerk"))
    sent = await here.send(TopicId("news", "de"), "x")
    assert sorted(one.recipient for one in sent) == ["clerk/de", "writer/a", "writer/b"]
    await here.subscribe("news", "late")
    message = await received(there, "clerk/de", 0)
    assert (message.topic, message.recipient) == ("news/de", "clerk/de")
    assert await here.receive("late", timeout=0) is None
    await here.unsubscribe("news", "late")
    sent = await here.send(Recipient.topic("news", "fr"), "x")
    assert sorted(one.recipient for one in sent) == ["clerk/fr", "writer/a"]
    with pytest.raises(NotFoundError):
        await here.unsubscribe("news", "late")


async def test_a_subscription_that_could_not_be_ended_can_be_ended_again(coord: Coordination) -> None:
    await coord.receive("writer", timeout=0)
    await coord.subscribe("news", "writer")
    with Fault(coord), pytest.raises(StoreUnavailableError):
        await coord.unsubscribe("news", "writer")
    assert len(await coord.send(Recipient.topic("news"), "x")) == 1
    await coord.unsubscribe("news", "writer")
    assert await coord.send(Recipient.topic("news"), "x") == []
    with pytest.raises(NotFoundError, match="did not subscribe"):
        await coord.unsubscribe("news", "writer")


async def test_a_subscription_ends_with_its_process(world: World) -> None:
    here, there = await world.open(), await world.open()
    await there.subscribe("news", "writer")
    await there.subscribe("news", "writer")
    await there.close()
    assert await here.send(Recipient.topic("news"), "x") == []


async def test_a_capability_that_functions_provide_has_no_agent_to_write_to(coord: Coordination) -> None:
    @capability
    async def work(text: str) -> str:
        return text

    await coord.provide(work)
    assert await coord.send(work, "x") == []
    (dead,) = await tasks_of(coord)
    info = await coord.task(dead.id)
    assert info.error is not None
    assert (info.state, info.error["code"]) == ("failed", "no_recipient")
    with pytest.raises(InvalidInputError, match="sent again"):
        await coord.requeue(dead.id)


# what is refused


@pytest.mark.parametrize(
    ("recipient", "error"),
    [
        ("nobody", NotFoundError),
        ("wri ter", InvalidInputError),
        ("writer/ä", InvalidInputError),
        ("", InvalidInputError),
        (7, InvalidInputError),
        (None, InvalidInputError),
        ("topic:news", InvalidInputError),
        (Recipient.capability("nothing"), NoProviderError),
        (TopicId("news", "süd"), InvalidInputError),
    ],
)
async def test_who_cannot_be_reached_is_an_error_and_no_row(coord: Coordination, recipient: Any, error: type[Exception]) -> None:
    with pytest.raises(error):
        await coord.send(recipient, "x")
    with pytest.raises((error, InvalidInputError)):
        await coord.request(recipient, "x")
    assert await tasks_of(coord) == []


async def test_an_address_never_seen_is_refused_with_near_names(coord: Coordination) -> None:
    await coord.receive("writer/a", timeout=0)
    await coord.provide(Coder)
    for wrong, near in (("writre/a", "writer/a"), ("Codr", "Coder"), ("zzzzzzzz", None)):
        said = f"did you mean {near}" if near else "nobody received for it"
        with pytest.raises(NotFoundError, match=said) as caught:
            await coord.send(wrong, "x")
        assert near is None or near in caught.value.near
    assert await tasks_of(coord) == []
    await coord.send("Coder/seven", "x")  # one of its kind was seen: it waits for a receiver
    await coord.send("Coder/seven", "y")
    assert [(await received(coord, "Coder/seven")).body for _ in range(2)] == ["x", "y"]


@pytest.mark.parametrize(
    "options",
    [
        {"kind": "gossip"},
        {"kind": None},
        {"sender": "a b"},
        {"sender": 7},
        {"correlation": ""},
        {"correlation": "\x00"},
        {"causation": "x" * 501},
        {"priority": 11},
        {"ttl": 0},
        {"ttl": -1},
        {"ttl": "soon"},
        {"delay": float("nan")},
        {"delay": 1, "at": 2_000_000_000},
        {"at": "tomorrow"},
        {"key": "x"},
        {"timeout": 3},
    ],
)
async def test_options_that_mean_nothing_are_refused_by_name(coord: Coordination, options: dict[str, Any]) -> None:
    await coord.receive("writer", timeout=0)
    with pytest.raises(InvalidInputError):
        await coord.send("writer", "x", **options)
    assert await tasks_of(coord) == []


async def test_a_body_without_json_form_or_too_large_is_refused(world: World) -> None:
    coord = await world.open(max_input=1_000)
    await coord.receive("writer", timeout=0)
    for body in (object(), float("nan"), {1, object()}):
        with pytest.raises(InvalidInputError):
            await coord.send("writer", body)
    with pytest.raises(PayloadTooLargeError):
        await coord.send("writer", "x" * 1_000)
    assert await tasks_of(coord) == []


@pytest.mark.parametrize("recipient", ["", "a b", 7, "coord.reply/x", TopicId("news", "x")])
async def test_what_cannot_be_an_inbox_cannot_be_received_for(coord: Coordination, recipient: Any) -> None:
    with pytest.raises(InvalidInputError):
        await coord.receive(recipient, timeout=0)
    for timeout in (-1, "x", float("nan"), True):
        with pytest.raises(InvalidInputError):
            await coord.receive("writer", timeout=timeout)  # type: ignore[arg-type]


@pytest.mark.parametrize("label", ["inbox:writer/default", "inbox:writer", "topic:*", "inbox", "topic"])
async def test_an_inbox_is_no_capability(coord: Coordination, label: str) -> None:
    await coord.receive("writer", timeout=0)
    asks: tuple[Any, ...] = (coord.call, coord.submit, coord.broadcast)
    for ask in asks:
        with pytest.raises(InvalidInputError, match="no capability"):
            await ask(label, "x")
    with pytest.raises(InvalidInputError):
        capability(label)(_anything)


async def _anything(text: str) -> str:
    return text


# requests


async def test_a_request_is_answered_by_who_received_it(two: tuple[Coordination, Coordination]) -> None:
    here, there = two
    await there.receive("writer", timeout=0)
    asking = asyncio.create_task(here.request("writer", "how many?", returns=int, causation="because", priority=9))
    message = await received(there)
    assert (message.kind, message.body, message.causation, message.priority) == (MessageKind.TASK, "how many?", "because", 9)
    posted = await message.reply(42)
    async with soon():
        assert await asking == 42
    await message.ack()
    answer = next(row for row in await tasks_of(here) if row.id == posted.id)
    assert (answer.sender, answer.recipient, answer.causation) == ("writer/default", message.sender, message.id)
    assert answer.correlation == message.correlation
    await until(lambda: _is(here, posted.id, "succeeded"))


async def test_many_requests_at_once_each_get_their_own_answer(two: tuple[Coordination, Coordination]) -> None:
    here, there = two
    await there.receive("writer", timeout=0)

    async def answer() -> None:
        while (message := await there.receive("writer", timeout=0.5)) is not None:
            async with message:
                await message.reply(message.body * 2)

    answering = [asyncio.create_task(answer()) for _ in range(3)]
    async with soon():
        assert await asyncio.gather(*(here.request("writer", n) for n in range(25))) == [n * 2 for n in range(25)]
        await asyncio.gather(*answering)


async def test_processes_ask_each_other(two: tuple[Coordination, Coordination]) -> None:
    here, there = two
    await here.receive("left", timeout=0)
    await there.receive("right", timeout=0)

    async def left() -> str:
        async with await received(here, "left") as message:
            answer = await here.request("right", message.body + "-left")
            await message.reply(answer)
        return str(answer)

    async def right() -> None:
        async with await received(there, "right") as message:
            await message.reply(message.body + "-right")

    async with soon():
        answer, *_ = await asyncio.gather(there.request("left", "x"), left(), right())
    assert answer == "x-left-right"


async def test_an_answer_of_kind_error_is_raised(two: tuple[Coordination, Coordination]) -> None:
    here, there = two
    await there.receive("writer", timeout=0)
    for body, said in (("no paper", "no paper"), ({"why": "no ink"}, "no ink")):
        asking = asyncio.create_task(here.request("writer", "write"))
        async with await received(there) as message:
            await message.reply(body, MessageKind.ERROR)
        async with soon():
            with pytest.raises(RemoteError, match=said):
                await asking


async def test_only_a_result_or_an_error_ends_a_request(two: tuple[Coordination, Coordination]) -> None:
    here, there = two
    await there.receive("writer", timeout=0)
    asking = asyncio.create_task(here.request("writer", "?"))
    async with await received(there) as message:
        for kind in (MessageKind.STATUS, MessageKind.FEEDBACK, MessageKind.CONTROL, MessageKind.TASK):
            said = await message.reply("half of it", kind)
            await until(lambda id=said.id: _is(here, id, "succeeded"))
        assert not asking.done()
        await message.reply("all of it")
    async with soon():
        assert await asking == "all of it"


async def test_a_process_that_has_its_answer_looks_for_no_more(two: tuple[Coordination, Coordination]) -> None:
    here, there = two
    await there.receive("writer", timeout=0)
    await _ask_and_be_answered_by(here, there)
    await until(lambda: not process_of(here).dispatcher.running)
    assert not process_of(here).dispatcher.idle_slots


async def test_an_answer_that_is_not_what_was_asked_for_is_refused(two: tuple[Coordination, Coordination]) -> None:
    here, there = two
    await there.receive("writer", timeout=0)
    asking = asyncio.create_task(here.request("writer", "?", returns=Note))
    async with await received(there) as message:
        await message.reply({"secret": "body"})
    async with soon():
        with pytest.raises(InvalidInputError, match="answer of writer/default") as caught:
            await asking
    assert "secret" not in str(caught.value)


async def test_a_request_that_nobody_takes_ends_with_its_timeout_and_so_does_its_message(coord: Coordination) -> None:
    await coord.receive("writer", timeout=0)
    async with soon():
        with pytest.raises(CallTimeoutError):
            await coord.request("writer", "?", timeout=0.1)
    (row,) = await tasks_of(coord)
    await until(lambda: _is(coord, row.id, "expired"))
    assert await coord.receive("writer", timeout=0) is None


async def test_an_answer_after_the_timeout_is_acknowledged_and_dropped(two: tuple[Coordination, Coordination]) -> None:
    here, there = two
    await there.receive("writer", timeout=0)
    asking = asyncio.create_task(here.request("writer", "?", timeout=0.3))
    message = await received(there)
    with pytest.raises(CallTimeoutError):
        await asking
    posted = await message.reply("too late")
    await message.ack()
    await until(lambda: _is(here, posted.id, "succeeded"))
    await _ask_and_be_answered_by(here, there)


async def _ask_and_be_answered_by(here: Coordination, there: Coordination) -> None:
    asking = asyncio.create_task(here.request("writer", "again"))
    async with await received(there) as message:
        await message.reply("now")
    async with soon():
        assert await asking == "now"


async def test_a_request_that_is_rejected_for_good_is_an_error_at_once(two: tuple[Coordination, Coordination]) -> None:
    here, there = two
    await there.receive("writer", timeout=0)
    asking = asyncio.create_task(here.request("writer", "?"))
    await (await received(there)).reject("not my job", requeue=False)
    async with soon():
        with pytest.raises(RemoteError, match="not my job"):
            await asking


async def test_a_cancelled_request_cancels_its_message(two: tuple[Coordination, Coordination]) -> None:
    here, there = two
    await there.receive("writer", timeout=0)
    asking = asyncio.create_task(here.request("writer", "?"))
    message = await received(there)
    asking.cancel()
    await asyncio.wait([asking])
    assert asking.cancelled()
    await until(lambda: _is(here, message.id, "cancelled"))
    with pytest.raises(StaleClaimError):
        await message.ack()


async def test_a_message_cancelled_by_others_ends_its_request(two: tuple[Coordination, Coordination]) -> None:
    here, there = two
    await there.receive("writer", timeout=0)
    asking = asyncio.create_task(here.request("writer", "?"))
    message = await received(there)
    await there.cancel(message.id)
    async with soon():
        with pytest.raises(TaskCancelledError):
            await asking


async def test_who_waits_for_an_answer_is_told_of_the_close(world: World) -> None:
    here, there = await world.open(), await world.open()
    await there.receive("writer", timeout=0)
    asking = [asyncio.create_task(here.request("writer", "?")) for _ in range(2)]
    async with await received(there):  # one that was taken, and done, without an answer; one that nobody takes
        pass
    await here.close()
    async with soon():
        for one in asking:
            with pytest.raises(ClosedError):
                await one


async def test_a_request_goes_to_one_agent_not_to_a_group(coord: Coordination) -> None:
    for recipient in (EVERYONE, Recipient.capability("work"), TopicId("news", "x")):
        with pytest.raises(InvalidInputError, match="one agent"):
            await coord.request(recipient, "?")
    for options in ({"ttl": 3}, {"sender": "x"}, {"correlation": "x"}):
        with pytest.raises(InvalidInputError, match="unknown option"):
            await coord.request("writer", "?", **options)
    for timeout in (0, -1, "x"):
        with pytest.raises(InvalidInputError):
            await coord.request("writer", "?", timeout=timeout)  # type: ignore[arg-type]


async def test_a_message_without_sender_cannot_be_replied_to(coord: Coordination) -> None:
    await coord.receive("writer", timeout=0)
    await coord.send("writer", "x")
    with pytest.raises(InvalidInputError, match="sender="):
        await (await received(coord)).reply("y")


async def test_a_reply_goes_to_the_sender_with_the_messages_id_as_correlation(coord: Coordination) -> None:
    await coord.receive("writer", timeout=0)
    await coord.receive("boss", timeout=0)
    await coord.send("writer", "x", sender="boss")
    async with await received(coord) as message:
        await message.reply({"done": True}, MessageKind.STATUS)
    answer = await received(coord, "boss")
    assert (answer.kind, answer.body, answer.sender) == (MessageKind.STATUS, {"done": True}, "writer/default")
    assert (answer.correlation, answer.causation) == (message.id, message.id)


async def test_a_reply_waits_for_a_sender_who_never_received_before(coord: Coordination) -> None:
    await coord.receive("writer", timeout=0)
    await coord.send("writer", "x", sender="stranger")
    async with await received(coord) as message:
        await message.reply("well")
    assert (await received(coord, "stranger")).body == "well"


# in handlers


async def test_a_handler_that_is_tried_again_sends_once(coord: Coordination) -> None:
    await coord.receive("writer", timeout=0)

    @capability
    async def work(text: str, ctx: TaskContext) -> str:
        for body in ("same", "same", "other"):
            await ctx.send("writer", body)
        if ctx.attempt < 3:
            raise ValueError("again")
        return ctx.task_id

    await coord.provide(work)
    task = await coord.call(work, "x")
    got = []
    while (message := await coord.receive("writer", timeout=0)) is not None:
        got.append((message.body, message.causation))
        await message.ack()
    assert got == [("same", task), ("same", task), ("other", task)]


async def test_a_handler_that_waits_for_an_answer_gives_its_slot_back(world: World) -> None:
    coord = await world.open()
    await coord.receive("writer", timeout=0)

    @capability("work", max_concurrency=1)
    async def work(text: str, ctx: TaskContext) -> str:
        if text == "inner":
            return "done"
        return str(await ctx.request("writer", "?"))

    await coord.provide(work)

    async def answer() -> None:
        async with await received(coord) as message:
            await message.reply(await coord.call(work, "inner"))

    async with soon():
        value, _ = await asyncio.gather(coord.call(work, "outer"), answer())
    assert value == "done"


async def test_handlers_may_receive_and_ask_while_the_process_closes(world: World) -> None:
    here, there = await world.open(), await world.open()
    begun, go_on = asyncio.Event(), asyncio.Event()
    await there.receive("writer", timeout=0)

    @capability
    async def work(text: str, ctx: TaskContext) -> str:
        begun.set()
        await go_on.wait()
        answer = await ctx.request("writer", "?", returns=str, timeout=5.0)
        message = await here.receive("box", timeout=5)
        assert message is not None
        await message.ack()
        return f"{answer} {message.body}"

    await here.provide(work)
    handle = await there.submit("work", "x")
    async with soon():
        await begun.wait()
        closing = asyncio.create_task(here.close())
        await until(lambda: process_of(here).dispatcher._draining)
        go_on.set()
        async with await received(there) as message:
            await message.reply("yes")
        await until(lambda: _knows(there, "box"))
        await there.send("box", "and this")
        assert await handle.result() == "yes and this"
        await closing


async def _knows(coord: Coordination, owner: str) -> bool:
    (rows,) = await process_of(coord).store.read(Range(PROVIDER, "by_capability", (f"inbox:{owner}/default", "online")))
    return bool(rows)


# unclear commits


async def test_a_send_repeated_after_an_unclear_commit_is_one_message(coord: Coordination) -> None:
    await coord.receive("writer", timeout=0)
    assert coord._parts is not None
    command = coord._parts.messaging._command(Recipient.agent("writer"), "x", {})
    line = process_of(coord).line
    first = await line.put(messages.send, command)
    assert await line.put(messages.send, command) == first
    message = await received(coord)
    await message.ack()
    assert await line.put(messages.send, command) == first
    assert len(await tasks_of(coord)) == 1


async def test_a_message_is_in_one_place_at_any_time(coord: Coordination) -> None:
    await coord.receive("writer", timeout=0)
    (posted,) = await coord.send("writer", "x")
    store = process_of(coord).store
    for step in ("ready", "held", "given back", "cancelled"):
        live, over = await store.read(Keys(QUEUE, (posted.id,)), Keys(OUTCOME, (posted.id,)))
        assert (live[0] is None) != (over[0] is None), step
        if step == "ready":
            message = await received(coord)
        elif step == "held":
            with pytest.raises(ZeroDivisionError):
                async with message:
                    raise ZeroDivisionError
        elif step == "given back":
            assert await process_of(coord).line.put(tasks.cancel, Cancel(posted.id))
