"""Messages that are pushed to agents' `on_message` handlers, on every store."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from autogen_core import AgentId, SingleThreadedAgentRuntime, TopicId

from autogen_coord import (
    EVERYONE,
    CallTimeoutError,
    CapabilityAgent,
    Coordination,
    InvalidInputError,
    Message,
    MessageKind,
    Recipient,
    RejectedError,
    RemoteError,
    Settings,
    TaskContext,
    capability,
    on_message,
)
from autogen_coord.core.store import Range
from autogen_coord.core.tables import TASK
from tests.conftest import MORTAL, QUICK, World, process_of, soon, until, vanish


class Log:
    """What the agents of a test were given."""

    def __init__(self) -> None:
        self.seen: list[tuple[str, Any]] = []
        self.news = asyncio.Event()

    def add(self, agent: CapabilityAgent, what: Any) -> None:
        self.seen.append((str(agent.id), what))
        self.news.set()

    async def has(self, count: int) -> list[tuple[str, Any]]:
        async with soon():
            while len(self.seen) < count:
                self.news.clear()
                await self.news.wait()
        return self.seen


class Clerk(CapabilityAgent):
    """Takes tasks and what is new; fails on demand."""

    def __init__(self, log: Log) -> None:
        super().__init__("a clerk")
        self.log = log

    @capability("file")
    async def file(self, text: str) -> str:
        return text.upper()

    @on_message(MessageKind.TASK)
    async def work(self, message: Message, ctx: TaskContext) -> None:
        self.log.add(self, message.body)
        match message.body:
            case "answer":
                await message.reply(f"done by {self.id}")
            case "fail":
                raise ValueError("no ink")
            case "twice":  # as a model would: in other words each time
                await message.reply(f"once, in attempt {ctx.attempt}")
                await ctx.send("boss", f"told in attempt {ctx.attempt}")
                if ctx.attempt == 1:
                    raise ValueError("again")
            case "reject" if ctx.attempt == 1:
                raise RejectedError("busy")
            case "ack":
                with pytest.raises(InvalidInputError, match="pushed"):
                    await message.ack()
                with pytest.raises(InvalidInputError, match="pushed"):
                    await message.reject()
            case "ask":
                await message.reply(await ctx.request("helper", "?", returns=str, timeout=5.0))
            case "wait":
                await asyncio.Event().wait()

    @on_message(topic="news")
    async def news(self, message: Message) -> None:
        self.log.add(self, message.topic)


@pytest.fixture
async def office(world: World) -> tuple[Coordination, Log]:
    coord, log = await world.open(), Log()
    await coord.provide(Clerk, type="clerk", factory=lambda: Clerk(log))
    await coord.receive("boss", timeout=0)
    return coord, log


async def ended(coord: Coordination, id: str) -> str:
    async def over() -> bool:
        return (await coord.task(id)).finished_at is not None

    await until(over)
    return (await coord.task(id)).state


async def test_a_message_is_pushed_to_the_agent_it_is_addressed_to(office: tuple[Coordination, Log]) -> None:
    coord, log = office
    (posted,) = await coord.send(AgentId("clerk", "a"), "x")
    await coord.send("clerk", "y")
    assert sorted(await log.has(2)) == [("clerk/a", "x"), ("clerk/default", "y")]
    assert await ended(coord, posted.id) == "succeeded"


async def test_it_is_found_from_another_process_and_answers_there(world: World, office: tuple[Coordination, Log]) -> None:
    other = await world.open()
    async with soon():
        assert await other.request("clerk/a", "answer", returns=str) == "done by clerk/a"


async def test_a_handler_that_raises_is_tried_again_and_then_a_dead_letter(office: tuple[Coordination, Log]) -> None:
    coord, log = office
    (posted,) = await coord.send("clerk", "fail")
    assert await ended(coord, posted.id) == "failed"
    assert len(log.seen) == 3
    assert (await coord.requeue(posted.id)).id != posted.id


async def test_who_asked_hears_of_a_handler_that_failed_for_good(office: tuple[Coordination, Log]) -> None:
    coord, _ = office
    async with soon():
        with pytest.raises(RemoteError, match="no ink"):
            await coord.request("clerk", "fail", timeout=20)


async def test_a_kind_without_handler_fails_at_once_and_who_asked_hears_it(office: tuple[Coordination, Log]) -> None:
    coord, log = office
    async with soon():
        with pytest.raises(RemoteError, match="clerk/default has no handler for STATUS messages"):
            await coord.request("clerk", "x", kind="status", timeout=20)
    assert log.seen == []


async def test_a_repeated_attempt_answers_and_sends_once(office: tuple[Coordination, Log]) -> None:
    coord, log = office
    async with soon():
        assert await coord.request("clerk", "twice", timeout=20) == "once, in attempt 1"
    await log.has(2)
    boss = await coord.receive("boss", timeout=5)
    assert boss is not None
    assert (boss.body, boss.sender) == ("told in attempt 1", "clerk/default")
    await boss.ack()
    (asked,) = [row for row in await _tasks(coord) if row.recipient == "clerk/default"]
    assert boss.causation == asked.id
    assert await ended(coord, asked.id) == "succeeded"
    assert await coord.receive("boss", timeout=0) is None
    assert [row.recipient for row in await _tasks(coord)].count("boss/default") == 1
    assert [row.sender for row in await _tasks(coord)].count("clerk/default") == 2


async def _tasks(coord: Coordination) -> list[Any]:
    (rows,) = await process_of(coord).store.read(Range(TASK, "key"))
    return rows


async def test_a_handler_may_reject_and_gets_it_again_after_a_pause(world: World) -> None:
    coord, log = await world.open(reject_pause=0.1), Log()
    await coord.provide(Clerk, type="clerk", factory=lambda: Clerk(log))
    (posted,) = await coord.send("clerk", "reject")
    await log.has(2)
    assert await ended(coord, posted.id) == "succeeded"
    assert (await coord.task(posted.id)).failures == 0


async def test_a_pushed_message_is_ended_by_the_runner_not_by_its_handler(office: tuple[Coordination, Log]) -> None:
    coord, log = office
    (posted,) = await coord.send("clerk", "ack")
    await log.has(1)
    assert await ended(coord, posted.id) == "succeeded"


async def test_a_cancelled_message_stops_its_handler(office: tuple[Coordination, Log]) -> None:
    coord, log = office
    (posted,) = await coord.send("clerk", "wait")
    await log.has(1)
    assert await coord.cancel(posted.id)
    assert await ended(coord, posted.id) == "cancelled"


async def test_a_request_that_its_handler_does_not_answer_ends_with_its_timeout(office: tuple[Coordination, Log]) -> None:
    coord, _ = office
    async with soon():
        with pytest.raises(CallTimeoutError):
            await coord.request("clerk", "nothing to say", timeout=0.3)


class Helper(CapabilityAgent):
    def __init__(self) -> None:
        super().__init__("a helper")

    @on_message
    async def help(self, message: Message) -> None:
        await message.reply("helped")


async def test_agents_ask_each_other_in_one_process(office: tuple[Coordination, Log]) -> None:
    coord, _ = office
    await coord.provide(Helper, type="helper")
    async with soon():
        assert await coord.request("clerk", "ask", timeout=10) == "helped"


async def test_as_many_handlers_as_there_are_slots_may_wait_for_answers_of_their_own_kind(world: World) -> None:
    """Each waiting handler gives its slot back, or the last question would never be taken."""
    coord = await world.open()

    class Chain(CapabilityAgent):
        def __init__(self) -> None:
            super().__init__("asks the next")

        @on_message
        async def ask(self, message: Message, ctx: TaskContext) -> None:
            left = message.body
            await message.reply(0 if left == 0 else 1 + await ctx.request("chain", left - 1, returns=int))

    await coord.provide(Chain, type="chain", max_concurrency=1)
    async with soon():
        assert await coord.request("chain", 5, timeout=20) == 5


async def test_topics_and_everyone_reach_agents_that_take_messages(office: tuple[Coordination, Log]) -> None:
    coord, log = office
    sent = await coord.send(TopicId("news", "de"), "x")
    assert [one.recipient for one in sent] == ["clerk/de"]
    assert await log.has(1) == [("clerk/de", "news/de")]
    sent = await coord.send(EVERYONE, "all", sender="boss")
    assert [one.recipient for one in sent] == ["clerk/default"]
    sent = await coord.send(Recipient.capability("file"), "you")
    assert [one.recipient for one in sent] == ["clerk/default"]
    assert [what for _, what in await log.has(3)] == ["news/de", "all", "you"]


async def test_a_message_whose_process_died_is_pushed_elsewhere(world: World) -> None:
    first, second, log = await world.open(**MORTAL), await world.open(**MORTAL), Log()
    other = Log()
    await first.provide(Clerk, type="clerk", factory=lambda: Clerk(log))
    (posted,) = await second.send("clerk", "wait")
    await log.has(1)
    await second.provide(Clerk, type="clerk", factory=lambda: Clerk(other))
    await vanish(first)
    await other.has(1)
    info = await second.task(posted.id)
    assert (info.attempt, info.suspect) == (2, True)
    assert await second.cancel(posted.id)
    assert await ended(second, posted.id) == "cancelled"


async def test_a_group_passes_over_who_has_no_handler_for_it(office: tuple[Coordination, Log]) -> None:
    coord, log = office
    groups = (EVERYONE, Recipient.capability("file"), TopicId("other", "default"))
    await coord.subscribe("other", "clerk")
    for group in groups:
        sent = await coord.send(group, "x", kind="status", sender="boss")
        assert [one.recipient for one in sent] == ["clerk/default"]
        assert await ended(coord, sent[0].id) == "succeeded"
    assert log.seen == []
    (direct,) = await coord.send("clerk", "x", kind="status")
    assert await ended(coord, direct.id) == "failed"


async def test_a_look_by_hand_keeps_nothing_from_the_agent_that_is_away(world: World) -> None:
    keep, log = await world.open(), Log()
    worker = await world.open()
    await worker.provide(Clerk, type="clerk", factory=lambda: Clerk(log))
    await worker.close()
    await keep.send("clerk", "1: before the look")
    hand = await world.open()
    assert await hand.receive("other", timeout=0) is None
    looked = await hand.receive("clerk", timeout=0)
    assert looked is not None
    assert looked.body == "1: before the look"
    await keep.send("clerk", "2: while it is open")
    await looked.reject("not mine")
    await hand.close()
    await keep.send("clerk", "3: after it")
    again = await world.open(reject_pause=0.01)
    await again.provide(Clerk, type="clerk", factory=lambda: Clerk(log))
    assert {what[0] for _, what in await log.has(3)} == {"1", "2", "3"}


async def test_what_a_hand_left_in_its_inbox_goes_to_the_agent_that_was_there_all_along(world: World) -> None:
    log = Log()
    worker, hand = await world.open(), await world.open()
    await worker.provide(Clerk, type="clerk", factory=lambda: Clerk(log))
    assert await hand.receive("clerk", timeout=0) is None
    (posted,) = await worker.send("clerk", "x")
    assert (await worker.task(posted.id)).state == "ready"
    await hand.close()
    assert await log.has(1) == [("clerk/default", "x")]


# instances


async def test_groups_reach_each_registered_instance_and_those_that_come_later(world: World) -> None:
    runtime, log = SingleThreadedAgentRuntime(), Log()
    await Clerk(log).register_instance(runtime, AgentId("clerk", "red"))
    async with Coordination.open(world.url, runtime=runtime, settings=Settings(**QUICK)) as coord:
        await Clerk(log).register_instance(runtime, AgentId("clerk", "blue"))
        for group in (EVERYONE, TopicId("news", "europe")):
            sent = await coord.send(group, "x")
            assert sorted(one.recipient for one in sent) == ["clerk/blue", "clerk/red"]
            assert [await ended(coord, one.id) for one in sent] == ["succeeded", "succeeded"]
    assert sorted(agent for agent, _ in log.seen) == ["clerk/blue", "clerk/blue", "clerk/red", "clerk/red"]


async def test_a_key_that_is_no_instance_is_an_error_that_nobody_tries_again(world: World) -> None:
    runtime, log = SingleThreadedAgentRuntime(), Log()
    await Clerk(log).register_instance(runtime, AgentId("clerk", "red"))
    async with Coordination.open(world.url, runtime=runtime, settings=Settings(**QUICK)) as coord:
        with pytest.raises(RemoteError, match="clerk/green is registered: the instances of clerk are red"):
            await coord.request("clerk/green", "answer", timeout=20)
        (row,) = await _tasks(coord)
        assert (await coord.task(row.id)).attempt == 1
    assert log.seen == []
