"""Leases against a line that the test answers: whatever order the answers and the log's events come in, and however often."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from contextvars import Context
from types import SimpleNamespace
from typing import Any, cast

import pytest

from autogen_coord import (
    ClosedError,
    CoordError,
    DeadlockError,
    Lease,
    LeaseLostError,
    LockHeldError,
    LockMode,
    StoreUnavailableError,
)
from autogen_coord.core import leases, locks
from autogen_coord.core.events import Kind
from autogen_coord.core.leases import Leases
from autogen_coord.core.lock_handles import ENCLOSING, Block
from autogen_coord.core.lock_queue import Want
from autogen_coord.core.lock_requests import asked
from autogen_coord.core.locks import Deadlocked, Granted, Waits
from autogen_coord.core.process import Process
from autogen_coord.core.tables import EventRow, LockHeldRow
from tests.conftest import soon, until

S, X = LockMode.SHARED, LockMode.EXCLUSIVE
HELD = LockHeldError("'a' is held: X since 1.000 by ann; pass wait= to wait for it", path="a", mode="X", holder="ann", since=1.0)


def say(asked: asyncio.Future[Any], answer: Any) -> None:
    """As the line answers: whoever has left, or knows already, is not told."""
    if asked.done():
        return
    if isinstance(answer, BaseException):
        asked.set_exception(answer)
    else:
        asked.set_result(answer)


class FakeProcess:
    """A session, and a line and a store that say what the test tells them to."""

    def __init__(self) -> None:
        self.session = "s1"
        self.heart = SimpleNamespace(trusted=True)
        self.feed = SimpleNamespace(cursor=0)
        self.is_being_reborn = self.is_full = False
        self.line = self.store = self
        self.asked: list[tuple[Callable[..., Any], Any, asyncio.Future[Any]]] = []
        self.closed = False
        self.rows: list[list[Any]] = []
        self.ready = asyncio.Event()
        """When it has a session again, and room on its line."""
        self.away = 0
        """How many reads fail."""

    def offer(self, rule: Callable[..., Any], command: Any, reads: Any) -> asyncio.Future[Any]:
        if self.closed:
            raise ClosedError("closed")
        future: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self.asked.append((rule, command, future))
        return future

    async def room(self) -> None:
        if self.is_full:
            await self.ready.wait()

    async def reborn(self) -> None:
        if self.is_being_reborn:
            await self.ready.wait()

    def check(self) -> None: ...

    async def read(self, *loads: Any) -> list[list[Any]]:
        if self.away:
            self.away -= 1
            raise StoreUnavailableError("away, says the test")
        return self.rows

    def spawn(self, work: Any) -> None:
        self.looking = asyncio.ensure_future(work)

    async def command(self, rule: Callable[..., Any]) -> tuple[Any, asyncio.Future[Any]]:
        """The next command of this rule, and the future of its answer."""
        await until(lambda: any(each is rule for each, _, _ in self.asked))
        number = next(number for number, (each, _, _) in enumerate(self.asked) if each is rule)
        _, command, future = self.asked.pop(number)
        return command, future


class Ground:
    def __init__(self) -> None:
        self.process = FakeProcess()
        self.leases = Leases(cast(Process, self.process))

    def block(self, path: str = "a", mode: LockMode = X, wait: float | None = None) -> Block:
        return Block(self.leases, asked(path, mode, wait, None, 5.0))

    def enter(self, *options: Any) -> asyncio.Task[Lease]:
        """Somebody who enters a block, and stays."""

        async def inside() -> Lease:
            return await self.block(*options).__aenter__()

        task = asyncio.get_running_loop().create_task(inside(), context=Context())
        task.add_done_callback(lambda done: done.cancelled() or done.exception())  # a test need not look at all of them
        return task

    async def lease(self, mode: LockMode = X, token: int = 7) -> Lease:
        entering = self.enter("a", mode)
        command, answer = await self.process.command(locks.acquire)
        say(answer, Granted(command.id, token, command.wants, 1.0))
        return await entering

    def tell(self, kind: Kind, subject: str = "a", **data: Any) -> None:
        self.leases.happened([EventRow(1, 2.0, kind.value, subject, "s1", json.dumps(data))])


@pytest.fixture
def ground() -> Ground:
    return Ground()


async def test_a_grant_that_is_read_from_the_log_before_its_own_answer_is_not_overlooked(ground: Ground) -> None:
    entering = ground.enter()
    command, answer = await ground.process.command(locks.acquire)
    ground.tell(Kind.RESOURCE_LOCKED, lease=command.id, token=9, mode="X")
    say(answer, Waits(command.id))
    async with soon():
        lease = await entering
    assert (lease.token, lease.since) == (9, 2.0)
    ground.tell(Kind.RESOURCE_LOCKED, lease=command.id, token=9, mode="X")  # and once more
    lease.require()


async def test_a_refusal_that_is_read_from_the_log_before_its_own_answer_is_not_overlooked(ground: Ground) -> None:
    entering = ground.enter()
    command, answer = await ground.process.command(locks.acquire)
    ground.tell(Kind.RESOURCE_DEADLOCKED, victim=command.id, cycle=["one", "two"])
    say(answer, Waits(command.id))
    with pytest.raises(DeadlockError, match="one -> two"):
        async with soon():
            await entering


async def test_a_lock_that_was_granted_and_taken_away_before_anybody_heard_of_it_is_not_held(ground: Ground) -> None:
    entering = ground.enter()
    command, answer = await ground.process.command(locks.acquire)
    say(answer, Waits(command.id))
    await until(lambda: ground.leases._waiting[command.id].waits)
    ground.tell(Kind.RESOURCE_LOCKED, lease=command.id, token=9, mode="X")
    ground.tell(Kind.RESOURCE_LOST, lease=command.id, token=9, mode="X")
    with pytest.raises(LeaseLostError, match="taken away"):
        async with soon():
            await entering
    assert len(ground.leases) == 0


async def test_a_session_that_dies_between_a_grant_and_its_hearing_leaves_no_lease(ground: Ground) -> None:
    entering = ground.enter()
    command, answer = await ground.process.command(locks.acquire)
    say(answer, Waits(command.id))
    await until(lambda: ground.leases._waiting[command.id].waits)
    ground.tell(Kind.RESOURCE_LOCKED, lease=command.id, token=9, mode="X")
    ground.leases.lose_all()
    with pytest.raises(LeaseLostError):
        async with soon():
            await entering
    taken_back, _ = await ground.process.command(locks.release)
    assert taken_back.id == command.id


async def test_a_lock_granted_under_a_session_that_is_not_trusted_is_given_back(ground: Ground) -> None:
    entering = ground.enter()
    command, answer = await ground.process.command(locks.acquire)
    ground.process.heart.trusted = False
    say(answer, Waits(command.id))
    await until(lambda: ground.leases._waiting[command.id].waits)
    ground.tell(Kind.RESOURCE_LOCKED, lease=command.id, token=9, mode="X")
    with pytest.raises(LeaseLostError, match="while the lock was granted"):
        async with soon():
            await entering
    taken_back, _ = await ground.process.command(locks.release)
    assert (taken_back.id, taken_back.session) == (command.id, "s1")


async def test_a_request_of_a_session_that_was_dead_already_is_made_again_under_the_next(ground: Ground) -> None:
    entering = ground.enter()
    command, answer = await ground.process.command(locks.acquire)
    ground.process.session = "s2"
    say(answer, LeaseLostError("session s1 was declared dead or closed: its claims are void", session="s1"))
    again, answer = await ground.process.command(locks.acquire)
    assert again.id != command.id
    assert again.session == "s2"
    say(answer, Granted(again.id, 5, again.wants, 1.0))
    async with soon():
        assert (await entering).session == "s2"


async def test_a_conversion_is_not_granted_by_the_old_event_of_its_lease(ground: Ground) -> None:
    """Another process wrote in between, so the log is read again from before our own grant."""
    lease = await ground.lease(S, token=7)
    converting = asyncio.ensure_future(lease.convert(X, wait=None))
    command, answer = await ground.process.command(locks.convert)
    say(answer, Waits(command.id))
    ground.tell(Kind.RESOURCE_LOCKED, lease=lease.id, token=7, mode="S")
    ground.tell(Kind.RESOURCE_LOCKED, lease=lease.id, conversion="c-another", token=8, mode="X")
    ground.tell(Kind.RESOURCE_DEADLOCKED, victim="c-another", cycle=["of long ago"])
    await asyncio.sleep(0.01)
    assert not converting.done()
    assert lease.mode == S
    ground.tell(Kind.RESOURCE_LOCKED, lease=lease.id, conversion=command.id, token=9, mode="X")
    async with soon():
        await converting
    assert (lease.mode, lease.token) == (X, 9)
    assert (command.lease, command.within) == (lease.id, (("a/", lease.id),))


async def test_a_conversion_that_is_cancelled_does_not_stand_in_the_way_of_the_next(ground: Ground) -> None:
    """Its giving up is late, and finds nothing that is the next one's."""
    lease = await ground.lease(S, token=7)
    first = asyncio.ensure_future(lease.convert(X, wait=None))
    command, answer = await ground.process.command(locks.convert)
    say(answer, Waits(command.id))
    await until(lambda: ground.leases._waiting[command.id].waits)
    first.cancel()
    given_up, late = await ground.process.command(locks.give_up)
    assert (given_up.id, given_up.lease) == (command.id, lease.id)
    second = asyncio.ensure_future(lease.convert(X, wait=None))
    again, answer = await ground.process.command(locks.convert)
    assert again.id != command.id
    say(answer, Waits(again.id))
    say(late, None)
    ground.tell(Kind.RESOURCE_LOCKED, lease=lease.id, conversion=again.id, token=8, mode="X")
    async with soon():
        await second
    assert (lease.mode, lease.token) == (X, 8)


async def test_a_conversion_that_was_granted_as_it_was_cancelled_is_known_to_the_lease(ground: Ground) -> None:
    lease = await ground.lease(S, token=7)
    converting = asyncio.ensure_future(lease.convert(X, wait=None))
    command, answer = await ground.process.command(locks.convert)
    say(answer, Waits(command.id))
    await until(lambda: ground.leases._waiting[command.id].waits)
    converting.cancel()
    _, answer = await ground.process.command(locks.give_up)
    answer.set_result(Granted(lease.id, 8, (), 3.0))
    await until(lambda: (lease.token, lease.mode) == (8, X))


async def test_patience_that_ends_as_it_is_granted_is_a_grant(ground: Ground) -> None:
    entering = ground.enter("a", X, 0.01)
    command, answer = await ground.process.command(locks.acquire)
    say(answer, Waits(command.id))
    _, answer = await ground.process.command(locks.give_up)
    say(answer, Granted(command.id, 9, (), 3.0))
    async with soon():
        lease = await entering
    assert (lease.token, lease.path, lease.mode) == (9, "a", X)


async def test_a_conversion_whose_patience_ended_and_that_was_refused_meanwhile_is_not_granted(ground: Ground) -> None:
    """Its rows are there, as they were before: that is no grant."""
    lease = await ground.lease(S, token=7)
    converting = asyncio.ensure_future(lease.convert(X, wait=0.01))
    command, answer = await ground.process.command(locks.convert)
    say(answer, Waits(command.id))
    _, answer = await ground.process.command(locks.give_up)
    say(answer, None)
    await asyncio.sleep(0.01)
    ground.tell(Kind.RESOURCE_DEADLOCKED, victim=command.id, cycle=["one", "two"])
    with pytest.raises(DeadlockError, match="one -> two"):
        async with soon():
            await converting
    assert (lease.mode, lease.token) == (S, 7)


async def test_patience_that_ends_names_who_was_in_the_way(ground: Ground) -> None:
    entering = ground.enter("a", X, 0.01)
    command, answer = await ground.process.command(locks.acquire)
    say(answer, Waits(command.id))
    _, answer = await ground.process.command(locks.give_up)
    answer.set_result(HELD)
    with pytest.raises(LockHeldError) as refused:
        await entering
    assert (refused.value.holder, refused.value.waited, refused.value.since) == ("ann", 0.01, 1.0)


async def test_patience_that_ends_before_the_store_answers_hears_what_the_store_says(ground: Ground) -> None:
    entering = ground.enter("a", X, 0.01)
    command, answer = await ground.process.command(locks.acquire)
    await asyncio.sleep(0.03)
    assert not entering.done()
    say(answer, StoreUnavailableError("away"))
    with pytest.raises(StoreUnavailableError):
        async with soon():
            await entering
    taken_back, _ = await ground.process.command(locks.release)
    assert taken_back.id == command.id


async def test_patience_that_ended_before_a_place_in_the_line_was_stored_is_given_up_at_once(ground: Ground) -> None:
    entering = ground.enter("a", X, 0.01)
    command, answer = await ground.process.command(locks.acquire)
    await asyncio.sleep(0.03)
    say(answer, Waits(command.id))
    _, answer = await ground.process.command(locks.give_up)
    answer.set_result(HELD)
    with pytest.raises(LockHeldError):
        async with soon():
            await entering


# patience, whatever it is that takes so long


@pytest.fixture
def brief(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(leases, "SLACK", 0.05)


@pytest.mark.usefixtures("brief")
@pytest.mark.parametrize("wait", [0, 0.02, 0.1])
@pytest.mark.parametrize(("what", "error"), [("is_being_reborn", LeaseLostError), ("is_full", StoreUnavailableError)])
async def test_patience_ends_also_where_a_session_or_room_on_the_line_is_waited_for(
    ground: Ground, wait: float, what: str, error: type[CoordError]
) -> None:
    setattr(ground.process, what, True)
    with pytest.raises(error, match="try again"):
        async with soon():
            await ground.enter("a", X, wait)
    assert ground.process.asked == []


@pytest.mark.parametrize("what", ["is_being_reborn", "is_full"])
async def test_what_is_left_of_its_patience_is_for_the_lock(ground: Ground, what: str) -> None:
    setattr(ground.process, what, True)
    entering = ground.enter("a", X, 0.3)
    await asyncio.sleep(0.1)
    assert ground.process.asked == []
    setattr(ground.process, what, False)
    ground.process.session = "s2"
    ground.process.ready.set()
    command, answer = await ground.process.command(locks.acquire)
    assert (command.session, command.wait) == ("s2", True)
    say(answer, Waits(command.id))
    _, answer = await ground.process.command(locks.give_up)
    answer.set_result(HELD)
    with pytest.raises(LockHeldError) as refused:
        async with soon():
            await entering
    assert 0 < refused.value.waited <= 0.2


@pytest.mark.usefixtures("brief")
@pytest.mark.parametrize("has_place", [False, True])
async def test_patience_ends_also_when_the_store_does_not_answer(ground: Ground, has_place: bool) -> None:
    entering = ground.enter("a", X, 0.02)
    command, answer = await ground.process.command(locks.acquire)
    if has_place:
        say(answer, Waits(command.id))
        await ground.process.command(locks.give_up)
    with pytest.raises(StoreUnavailableError, match=r"did not answer within 0\.07 s"):
        async with soon():
            await entering
    taken_back, _ = await ground.process.command(locks.release)
    assert taken_back.id == command.id
    assert len(ground.leases) == 0


@pytest.mark.usefixtures("brief")
@pytest.mark.parametrize("wait", [0, 0.02])
async def test_patience_ends_also_while_every_session_is_found_dead(ground: Ground, wait: float) -> None:
    entering = ground.enter("a", X, wait)
    asked = 0
    async with soon():
        while not entering.done():
            for _, _, answer in ground.process.asked:
                say(answer, LeaseLostError("session s1 was declared dead or closed: its claims are void", session="s1"))
                asked += 1
            ground.process.asked.clear()
            await asyncio.sleep(0.005)
    with pytest.raises(LeaseLostError, match="declared dead"):
        await entering
    assert asked > 1


async def test_what_was_pruned_unread_is_looked_up(ground: Ground) -> None:
    lease = await ground.lease()
    granted, refused, going_on = ground.enter("b"), ground.enter("c"), ground.enter("d")
    ids = []
    for _ in range(3):
        command, answer = await ground.process.command(locks.acquire)
        say(answer, Waits(command.id))
        ids.append(command.id)
    on_its_way = ground.enter("e")
    await ground.process.command(locks.acquire)
    await until(lambda: all(ground.leases._waiting[id].waits for id in ids))
    row = LockHeldRow("b/", ids[0], "X", None, 9, "s1", None, 0, 5.0, 3.0, 3.0)
    ground.process.rows = [[None], [row, None, None], [None, None, cast(Any, "a place")]]
    ground.leases.missed()
    async with soon():
        assert (await granted).token == 9
        with pytest.raises(LeaseLostError, match="place in the line"):
            await refused
        assert lease.lost.is_set()
    assert not going_on.done()
    assert not on_its_way.done()  # it may not even be written: no row of it says nothing
    for task in (going_on, on_its_way):
        task.cancel()
        await asyncio.wait([task])


async def test_a_look_that_failed_is_repeated_until_the_store_answers(ground: Ground) -> None:
    granted = ground.enter("b")
    command, answer = await ground.process.command(locks.acquire)
    say(answer, Waits(command.id))
    await until(lambda: ground.leases._waiting[command.id].waits)
    ground.process.away = 2
    ground.process.rows = [[], [LockHeldRow("b/", command.id, "X", None, 9, "s1", None, 0, 5.0, 3.0, 3.0)], [None]]
    ground.leases.missed()
    async with soon():
        assert (await granted).token == 9
    assert ground.process.away == 0


async def test_a_release_is_tried_until_the_store_takes_it_and_the_close_ends_that(ground: Ground) -> None:
    lease = await ground.lease()
    releasing = asyncio.ensure_future(lease.release())
    for _ in range(2):
        _, answer = await ground.process.command(locks.release)
        say(answer, StoreUnavailableError("away"))
    _, answer = await ground.process.command(locks.release)
    assert not releasing.done()
    ground.process.closed = True
    say(answer, StoreUnavailableError("away"))
    with pytest.raises(ClosedError):
        async with soon():
            await releasing


async def test_a_release_that_finds_nothing_says_that_the_lease_was_lost(ground: Ground) -> None:
    lease = await ground.lease()
    releasing = asyncio.ensure_future(lease.release())
    _, answer = await ground.process.command(locks.release)
    say(answer, False)
    with pytest.raises(LeaseLostError, match="was gone when it was given back"):
        await releasing
    assert lease.lost.is_set()


async def test_a_refusal_in_the_answer_itself_has_the_cycle(ground: Ground) -> None:
    entering = ground.enter()
    command, answer = await ground.process.command(locks.acquire)
    say(answer, Deadlocked(("one", "two")))
    with pytest.raises(DeadlockError, match="one -> two") as refused:
        await entering
    assert refused.value.cycle == ["one", "two"]
    assert command.wants == (Want("a/", "X"),)
    assert ground.process.asked == []  # the store has taken it back


async def test_a_request_names_the_locks_inside_whose_blocks_it_is_made(ground: Ground) -> None:
    seen: list[tuple[tuple[str, str], ...]] = []

    async def inside() -> None:
        async with asyncio.TaskGroup() as group:
            outer = group.create_task(ground.block("a").__aenter__())
            command, answer = await ground.process.command(locks.acquire)
            say(answer, Granted(command.id, 7, command.wants, 1.0))
            lease = await outer
        assert ENCLOSING.get() == ()  # that was another `asyncio.Task`'s block
        one, two = ground.block("b"), ground.block("c")
        for block in (one, two):
            entering = asyncio.ensure_future(ground.process.command(locks.acquire))
            entering.add_done_callback(
                lambda done: done.result()[1].set_result(Granted("l" + str(len(seen)), 8, (Want("b/", "X"),), 1.0))
            )
            await block.__aenter__()
            seen.append(ENCLOSING.get())
        assert lease.path == "a"

    async with soon():
        await asyncio.create_task(inside(), context=Context())
    assert [len(keys) for keys in seen] == [1, 2]
