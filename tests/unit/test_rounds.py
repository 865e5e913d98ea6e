"""Every rule asks set-wise: on a store that loads in rounds, three hundred of a thing take no more rounds than a few."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from autogen_coord.core import burial, claims, messages, pruning, registry, sessions, tasks, timers
from autogen_coord.core.addresses import EVERYONE, Address
from autogen_coord.core.balancing import Candidate
from autogen_coord.core.burial import Bury, Settle
from autogen_coord.core.claims import Claim, Disown, GiveBack, Serves, Want
from autogen_coord.core.messages import Send
from autogen_coord.core.pruning import Prune
from autogen_coord.core.registry import Announce, Withdraw
from autogen_coord.core.sessions import CloseSession, OpenSession
from autogen_coord.core.state import Edit
from autogen_coord.core.store import Range, each
from autogen_coord.core.tables import (
    DOCUMENT,
    FAILED,
    FINAL,
    OUTCOME,
    PROVIDER,
    QUEUE,
    RUNNING,
    SESSION,
    TASK,
    CapabilityRow,
    ProviderRow,
)
from autogen_coord.core.tasks import Broadcast, Cancel, Submit
from autogen_coord.core.timers import Turn
from autogen_coord.errors import DeadlockError
from tests.conftest import Ground
from tests.unit.shelf import Shelf, edit

MANY = 300
LABELS = [f"cap{number}" for number in range(MANY)]


@pytest.fixture
def ground() -> Ground:
    """On the store that loads in rounds, and gives up after twenty."""
    ground = Ground(collecting=True)
    ground.settings(slice=2 * MANY)
    ground.session("s1")
    ground.session("s2")
    return ground


def announcement(session: str, labels: list[str]) -> Announce:
    capabilities = [CapabilityRow(label, "1", "", '{"type":"string"}', '{"type":"string"}', "", 0.0) for label in labels]
    providers = [
        ProviderRow(f"{session}-{label}", session, session, label, "1", "function", None, None, registry.ONLINE, 8, None, 0.0)
        for label in labels
    ]
    return Announce(session, capabilities, providers)


def inboxes(session: str) -> Announce:
    owners = [Address("worker", str(number)) for number in range(MANY)]
    rows = [row for n, owner in enumerate(owners) for row in messages.inbox_providers(f"{session}-i{n}", session, owner, 1)]
    return Announce(session, [messages.inbox_row(owner) for owner in owners], rows)


def submitted(ground: Ground, commands: list[Submit]) -> None:
    """In one transaction: a submit is small, and they are many."""

    def all_of_them(rows: Any, now: float) -> None:
        each(commands, lambda command: tasks.create(rows, command, None, now, ground.policy))

    ground.store.transact_blocking(all_of_them)


def claimed(ground: Ground, pools: list[str], session: str = "s1") -> list[tuple[str, int]]:
    wants = [Want.of((pool,), f"{session}-{pool.partition('@')[0]}", MANY) for pool in pools]
    return [(one.row.id, one.row.attempt) for one in ground.do(claims.claim, Claim(session, wants)).claimed]


def states(ground: Ground) -> set[str]:
    """Where all tasks stand."""
    return {row.state for table in (QUEUE, OUTCOME) for row in ground.scan(Range(table, "key"))}


def die(ground: Ground, session: str) -> None:
    def dead(rows: Any, now: float) -> None:
        row = rows.one(SESSION, session)
        rows.put(SESSION, row._replace(state=sessions.DEAD))

    ground.store.transact_blocking(dead)


def bury(ground: Ground, session: str) -> None:
    while ground.do(burial.bury, Bury(session)):
        pass
    assert ground.session_row(session).state == sessions.GONE


@pytest.mark.parametrize("make", [lambda session: announcement(session, LABELS), inboxes], ids=["capabilities", "inboxes"])
def test_many_are_announced_withdrawn_and_announced_elsewhere(ground: Ground, make: Callable[[str], Announce]) -> None:
    announced = make("s1")
    ground.do(registry.announce, announced)
    ground.do(registry.announce, make("s2"))
    ids = tuple(row.id for row in announced.providers)
    ground.do(registry.withdraw, Withdraw("s1", ids))
    assert ground.do(burial.settle, Settle(ids)) is False
    assert {row.status for row in ground.scan(Range(PROVIDER, "by_session", ("s1",)))} == {registry.OFFLINE}
    assert {row.status for row in ground.scan(Range(PROVIDER, "by_session", ("s2",)))} == {registry.ONLINE}


def test_an_agent_with_many_topics_is_announced(ground: Ground) -> None:
    rows = [messages.subscription(f"i.{number}", "s1", f"topic:t{number}", "Worker") for number in range(MANY)]
    ground.do(registry.announce, Announce("s1", [messages.inbox_row("Worker")], rows))
    assert len(ground.scan(Range(PROVIDER, "by_session", ("s1",)))) == MANY


def test_many_hot_capabilities_are_claimed_for_at_once(ground: Ground) -> None:
    ground.do(registry.announce, announcement("s1", LABELS))
    submitted(ground, [Submit(f"t{label}", label, '"x"') for label in LABELS])
    assert len(claimed(ground, LABELS)) == MANY


def test_many_children_are_claimed_by_name(ground: Ground) -> None:
    ground.do(registry.announce, announcement("s1", LABELS))
    submitted(ground, [Submit(f"t{label}", label, '"x"', lane=label) for label in LABELS])
    serves = [Serves(label, (Candidate(f"s1-{label}", 0, 1),)) for label in LABELS]
    command = Claim("s1", (), tuple(f"t{label}" for label in LABELS), serves)
    assert len(ground.do(claims.claim, command).claimed) == MANY


@pytest.mark.parametrize("way", ["claim", "by name", "turn"])
def test_many_that_expired_promote_those_behind_them(ground: Ground, way: str) -> None:
    ground.do(registry.announce, announcement("s1", LABELS))
    late = [Submit(f"a{label}", label, '"x"', lane=label, deadline=1.0) for label in LABELS]
    submitted(ground, late + [Submit(f"b{label}", label, '"x"', lane=label) for label in LABELS])
    ground.wait(2)
    if way == "claim":
        assert claimed(ground, LABELS) == []
    elif way == "by name":
        serves = [Serves.of(label, f"s1-{label}") for label in LABELS]
        assert ground.do(claims.claim, Claim("s1", (), tuple(one.id for one in late), serves)).claimed == []
    else:
        ground.turn()
    assert {ground.state(one.id) for one in late} == {"expired"}
    assert {row.state for row in ground.scan(Range(QUEUE, "key"))} == {"ready"}


def test_a_long_lane_expires_at_once(ground: Ground) -> None:
    ground.provide("s1")
    submitted(ground, [Submit(f"t{number:03}", "work", '"x"', lane="one", deadline=1.0) for number in range(MANY)])
    ground.wait(2)
    ground.turn()
    assert states(ground) == {"expired"}


@pytest.mark.parametrize("form", ["plain", "lanes", "sticky", "addressed", "children"])
def test_a_process_dies_that_held_many(ground: Ground, form: str) -> None:
    for session in ("s1", "s2"):
        ground.do(registry.announce, announcement(session, LABELS))
        ground.do(registry.announce, inboxes(session))
    more: dict[str, Callable[[str], dict[str, Any]]] = {
        "lanes": lambda label: {"lane": label},
        "sticky": lambda label: {"sticky": label},
        "addressed": lambda label: {"target": f"s1-{label}"},
    }
    options = more.get(form)
    more_of = {label: {} if options is None else options(label) for label in LABELS}
    submitted(ground, [Submit(f"{n}{label}", label, '"x"', **more_of[label]) for label in LABELS for n in "ab"])
    held = claimed(ground, [pool for label in LABELS for pool in (label, f"{label}@s1-{label}")])
    if form == "children":
        parents = [id for id, _ in held]
        for id in parents:
            ground.submit(f"child-{id}", id[1:], parent=id, parent_attempt=1, step_key="1")
            ground.do(tasks.cancel, Cancel(id))
    assert held
    die(ground, "s1")
    bury(ground, "s1")
    running = [row for row in ground.scan(Range(QUEUE, "key")) if row.state == RUNNING]
    assert not running
    pinned = [row for row in ground.scan(Range(QUEUE, "key")) if "@s1-" in row.pool]
    assert not [row for row in pinned if row.state == "ready"]


def test_a_slice_of_a_burial_is_bounded_by_providers_too(ground: Ground) -> None:
    ground.do(registry.announce, announcement("s1", LABELS))
    ground.do(registry.announce, inboxes("s1"))
    submitted(ground, [Submit(f"{n}{label}", label, '"x"', target=f"s1-{label}") for label in LABELS for n in "ab"])
    ground.settings(slice=40)
    die(ground, "s1")

    def taken_down() -> int:
        return sum(row.status == registry.OFFLINE for row in ground.scan(Range(PROVIDER, "by_session", ("s1",))))

    def ended() -> int:
        return len(ground.scan(Range(OUTCOME, "key")))

    more = True
    while more:
        offline, failed = taken_down(), ended()
        more = ground.do(burial.bury, Bury("s1"))
        assert taken_down() - offline <= 40
        assert ended() - failed <= 40
    assert states(ground) == {"failed"}
    assert {row.status for row in ground.scan(Range(PROVIDER, "by_session", ("s1",)))} == {registry.OFFLINE}
    session = ground.session_row("s1")
    assert (session.state, session.meta) == (sessions.GONE, None)


@pytest.mark.parametrize("form", ["sticky", "addressed"])
def test_many_pools_of_who_left_are_emptied(ground: Ground, form: str) -> None:
    announced = announcement("s1", LABELS)
    ground.do(registry.announce, announced)
    options: Callable[[str], dict[str, Any]] = (
        (lambda label: {"sticky": "k"}) if form == "sticky" else (lambda label: {"target": f"s1-{label}"})
    )
    submitted(ground, [Submit(f"t{label}", label, '"x"', **options(label)) for label in LABELS])
    ids = tuple(row.id for row in announced.providers)
    ground.do(registry.withdraw, Withdraw("s1", ids))
    while ground.do(burial.settle, Settle(ids)):
        pass
    rows = ground.scan(Range(QUEUE, "key"))
    assert not [row for row in rows if "@" in row.pool]
    assert len(rows) == (MANY if form == "sticky" else 0)


@pytest.mark.parametrize("disown", [False, True])
def test_many_claims_are_given_back(ground: Ground, disown: bool) -> None:
    ground.do(registry.announce, announcement("s1", LABELS))
    ground.do(registry.announce, announcement("s2", LABELS))
    submitted(ground, [Submit(f"t{label}", label, '"x"', sticky="k") for label in LABELS])
    held = claimed(ground, [pool for label in LABELS for pool in (label, f"{label}@s1-{label}")])
    ground.do(registry.withdraw, Withdraw("s1", tuple(f"s1-{label}" for label in LABELS)))
    back = ground.do(claims.disown, Disown("s1", ())) if disown else ground.do(claims.give_back, GiveBack("s1", held))
    assert back == len(held) > 0
    assert states(ground) == {"ready"}


@pytest.mark.parametrize("lane", ["own", "one"])
@pytest.mark.parametrize("end", ["fail", "cancel"])
def test_many_children_end_with_their_parent(ground: Ground, end: str, lane: str) -> None:
    ground.provide("s1")
    ground.submit("parent")
    ground.claim("s1")
    for number in range(MANY):
        lanes = {"lane": f"lane{number}" if lane == "own" else "lane"}
        ground.submit(f"child{number:03}", parent="parent", parent_attempt=1, step_key=str(number), **lanes)
        if lane == "own":
            ground.submit(f"other{number:03}", **lanes)
    if end == "fail":
        ground.fail("parent", retryable=False)
    else:
        ground.do(tasks.cancel, Cancel("parent"))
    assert {ground.state(f"child{number:03}") for number in range(MANY)} == {"cancelled"}
    if lane == "own":
        assert {ground.state(f"other{number:03}") for number in range(MANY)} == {"ready"}


def test_a_cycle_is_looked_for_among_many_children(ground: Ground) -> None:
    ground.provide("s1")
    ground.submit("outer", key="k")
    ground.submit("other")
    ground.claim("s1", slots=2)
    for number in range(MANY):
        ground.submit(f"child{number}", parent="outer", parent_attempt=1, step_key=str(number))
    ground.claim("s1", slots=MANY)
    for number in range(MANY):
        ground.submit(f"grandchild{number}", parent=f"child{number}", parent_attempt=1, step_key="1")
    assert ground.submit("again", key="k", parent="other", parent_attempt=1, step_key="1").id == "outer"
    with pytest.raises(DeadlockError):
        ground.submit("again", key="k", parent="child7", parent_attempt=1, step_key="2")


def test_a_broadcast_reaches_many(ground: Ground) -> None:
    for number in range(MANY):
        ground.provide("s1", f"p{number}")
    ids = tuple(f"t{number}" for number in range(MANY))
    sent = ground.do(tasks.broadcast, Broadcast(Submit("t", "work", '"x"', correlation="b", lane="one"), ids))
    assert len(sent.tasks) == MANY


def test_many_timeouts_fail_their_attempts(ground: Ground) -> None:
    ground.do(registry.announce, announcement("s1", LABELS))
    submitted(ground, [Submit(f"t{label}", label, '"x"', timeout=1.0, lane=label) for label in LABELS])
    claimed(ground, LABELS)
    ground.wait(100)
    ground.do(timers.turn, Turn())
    assert states(ground) == {"delayed"}
    ground.wait(100)
    ground.turn()
    assert states(ground) == {"ready"}


@pytest.mark.parametrize("purge", [False, True])
def test_much_that_is_over_is_pruned(ground: Ground, purge: bool) -> None:
    ground.settings(blob_from=10, keep_seconds=50.0)
    ground.do(registry.announce, announcement("s1", LABELS))
    submitted(ground, [Submit(f"t{label}", label, f'"a large {label}"') for label in LABELS])
    for id, attempt in claimed(ground, LABELS):
        ground.fail(id, attempt)
    ground.wait(20)
    ground.turn()
    for id, attempt in claimed(ground, LABELS):
        ground.fail(id, attempt, retryable=False)
    for number in range(MANY):
        ground.do(sessions.open_session, OpenSession(f"over{number}", "process", "test"))
        ground.do(sessions.close_session, CloseSession(f"over{number}"))
    assert len(ground.scan(Range(OUTCOME, "by_state", (FAILED,)))) == MANY
    ground.wait(100)
    if purge:
        ground.do(pruning.purge, pruning.Purge(FINAL, ground.now))
    else:
        while ground.do(pruning.prune, pruning.Prune()).more:
            pass
        assert [row.id for row in ground.scan(Range(SESSION, "key"))] == ["s1", "s2"]
    assert ground.scan(Range(TASK, "key")) == ground.scan(Range(OUTCOME, "key")) == []


def test_a_message_reaches_many_and_comes_back_from_a_dead_process(ground: Ground) -> None:
    announced = inboxes("s1")
    ground.do(registry.announce, announced)
    message = Submit("m", "a message", '{"kind":"task","topic":null,"body":1}', kind="message", ttl=100.0)
    assert len(ground.do(messages.send, Send(message, EVERYONE, "s1"))) == MANY
    own = [row for row in announced.providers if row.kind == messages.INBOX_KIND]
    wants = [Want.of((row.capability,), row.id, 1) for row in own]
    assert len(ground.do(claims.claim, Claim("s1", wants)).claimed) == MANY
    die(ground, "s1")
    bury(ground, "s1")
    assert states(ground) == {"ready"}


def test_three_hundred_documents_are_written_restored_and_forgotten_in_few_rounds(ground: Ground) -> None:
    ground.settings(history=0, blob_from=10, keep_seconds=10.0)
    shelf, keys = Shelf(ground), [f"d/{number}" for number in range(MANY)]
    shelf.policy("d", "last_writer")
    shelf.write(*(edit(key, "x" * 20) for key in keys))
    shelf.take("s")
    shelf.write(*(edit(key, "y" * 20, 0) for key in keys))
    shelf.write(*(edit(key, {"n": number}) for number, key in enumerate(keys)))
    assert shelf.restore("s", *keys).documents == MANY
    shelf.write(*(Edit(key, "delete", None, 4) for key in keys))
    shelf.drop("s")
    ground.wait(20)
    ground.do(pruning.prune, Prune())
    assert len(ground.scan(Range(DOCUMENT, "key"))) == MANY - pruning.TOMBSTONES
