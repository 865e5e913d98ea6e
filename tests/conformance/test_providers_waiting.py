"""Handlers that wait for others: their slot is free meanwhile, in whichever `asyncio.Task` they run."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from typing import Any

import pytest

from autogen_coord import CapabilityAgent, Coordination, Message, MessageKind, Settings, TaskContext, capability, on_message
from tests.conftest import QUICK, soon

SETTINGS = Settings(**QUICK)

ways = pytest.mark.parametrize("via_runtime", [False, True], ids=["direct", "via"])


class Deep(CapabilityAgent):
    """One at a time; each asks for the next."""

    @capability(max_concurrency=1)
    async def down(self, depth: int, ctx: TaskContext) -> int:
        return 0 if depth == 0 else 1 + await ctx.call(Deep.down, depth - 1)


class Oracle(CapabilityAgent):
    """Answers messages by asking itself, with one slot for all."""

    @on_message(MessageKind.TASK)
    async def asked(self, message: Message, ctx: TaskContext) -> None:
        depth = message.read(int)
        await message.reply(0 if depth == 0 else 1 + await ctx.request("Oracle", depth - 1, returns=int))


@ways
async def test_a_method_that_waits_for_a_child_gives_its_slot_back(via_runtime: bool) -> None:
    async with soon(), Coordination.open("dict://", settings=SETTINGS) as coord:
        await coord.provide(Deep, via_runtime=via_runtime)
        assert await coord.call(Deep.down, 3) == 3


@ways
async def test_a_message_handler_that_waits_for_an_answer_gives_its_slot_back(via_runtime: bool) -> None:
    async with soon(), Coordination.open("dict://", settings=SETTINGS) as coord:
        await coord.provide(Oracle, via_runtime=via_runtime, max_concurrency=1)
        assert await coord.request("Oracle", 3, returns=int) == 3


@ways
async def test_a_handler_may_finish_its_work_while_the_coordination_closes(via_runtime: bool) -> None:
    started, go, seen = asyncio.Event(), asyncio.Event(), list[str]()

    class Last(CapabilityAgent):
        @capability
        async def look(self, text: str) -> str:
            started.set()
            await go.wait()
            seen.extend(one.name for one in await coord.registry.capabilities())
            return text

    async with AsyncExitStack() as stack, soon():
        coord = await stack.enter_async_context(Coordination.open("dict://", settings=SETTINGS))
        await coord.provide(Last, via_runtime=via_runtime)
        await coord.submit(Last.look, "x")
        await started.wait()
        closing = asyncio.create_task(stack.aclose())
        while not coord._closing:
            await asyncio.sleep(0)
        go.set()
        await closing
    assert seen == ["look"]


async def test_a_child_that_another_task_asks_for_is_waited_for_in_its_handlers_name() -> None:
    """A pool of the user's, which was there before the handler, knows nothing of it but its context."""
    jobs: asyncio.Queue[tuple[TaskContext, asyncio.Future[Any]]] = asyncio.Queue()

    @capability(max_concurrency=1)
    async def work(depth: int, ctx: TaskContext) -> int:
        if depth == 0:
            return 0
        answer: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        await jobs.put((ctx, answer))
        return 1 + int(await answer)

    async def pool() -> None:
        ctx, answer = await jobs.get()
        answer.set_result(await ctx.call(work, 0))

    async with soon(), Coordination.open("dict://", settings=SETTINGS) as coord, asyncio.TaskGroup() as group:
        group.create_task(pool())
        await coord.provide(work)
        assert await coord.call(work, 1) == 1
