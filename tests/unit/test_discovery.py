"""Looking into the registry, on rows whose clock only the test moves."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pytest

from autogen_coord.core import registry, sessions
from autogen_coord.core.discovery import ProviderInfo, ProviderStatus, Registry
from autogen_coord.core.pruning import Prune, prune
from autogen_coord.core.registry import Announce, Withdraw
from autogen_coord.core.tables import PROVIDER, QUEUE, SESSION, CapabilityRow, ProviderRow
from autogen_coord.errors import InvalidInputError, NoProviderError
from tests.conftest import Ground


def look(ground: Ground) -> Registry:
    return Registry(ground.store, ground.policy)


def announce(ground: Ground, label: str, session: str = "s1", **changes: Any) -> str:
    """A provider of any kind; its id is ``p-<label>-<session>``."""
    name, version = registry.split_label(label)
    id = f"p-{label}-{session}"
    row = ProviderRow(id, session, session, label, version, "agent", "writer", "eve", registry.ONLINE, 4, None, 0.0)
    described = CapabilityRow(name, version, f"does {name}", '{"type":"string"}', '{"type":"null"}', None, 0.0)
    ground.do(registry.announce, Announce(session, [described], [row._replace(**changes)]))
    return id


def withdraw(ground: Ground, session: str, provider: str, status: str) -> None:
    ground.do(registry.withdraw, Withdraw(session, [provider], status))


def change(ground: Ground, table: Any, key: str, **columns: Any) -> None:
    def fold(rows: Any, now: float) -> None:
        rows.put(table, rows.one(table, key)._replace(**columns))

    ground.store.transact_blocking(fold)


async def only(ground: Ground, status: ProviderStatus | None = None) -> ProviderInfo:
    (info,) = await look(ground).providers(status)
    return info


async def test_a_provider_is_told_with_all_that_was_announced_of_it(ground: Ground) -> None:
    ground.session()
    ground.wait(1.0)
    id = announce(ground, "write", labels='["gpu","de"]')
    assert await look(ground).discover("write") == [
        ProviderInfo(
            id=id,
            capability="write",
            kind="agent",
            agent="writer/eve",
            status=ProviderStatus.ONLINE,
            session="s1",
            address="test",
            max_concurrency=4,
            running=0,
            waiting=0,
            labels=("gpu", "de"),
            registered_at=1_000_001.0,
        )
    ]


@pytest.mark.parametrize(
    ("columns", "agent"),
    [
        ({}, "writer/eve"),
        ({"agent_key": None}, "writer"),
        ({"agent_type": None, "agent_key": None}, None),
    ],
)
async def test_an_agent_is_its_type_and_its_key_where_it_has_one(
    ground: Ground, columns: dict[str, Any], agent: str | None
) -> None:
    ground.session()
    announce(ground, "write", **columns)
    assert (await only(ground)).agent == agent


@pytest.mark.parametrize(
    ("seconds", "status", "found"),
    [
        (0.0, ProviderStatus.ONLINE, True),
        (1.9, ProviderStatus.ONLINE, True),
        (2.5, ProviderStatus.LATE, True),
        (3.5, ProviderStatus.OFFLINE, False),
    ],
)
async def test_a_silent_session_makes_its_providers_late_and_then_offline(
    work: Ground, seconds: float, status: ProviderStatus, found: bool
) -> None:
    work.wait(seconds)
    assert (await only(work)).status == status
    assert bool(await look(work).discover("work")) == found
    assert bool((await look(work).describe("work")).providers) == found
    assert [info.status for info in await look(work).providers(status)] == [status]


async def test_who_drains_is_not_called_late(work: Ground) -> None:
    withdraw(work, "s1", "p1", registry.DRAINING)
    work.wait(2.5)
    assert (await only(work)).status == ProviderStatus.DRAINING


async def test_what_ran_when_the_lease_ended_runs_no_more(work: Ground) -> None:
    work.submit("a")
    work.claim()
    work.wait(2.5)
    assert (await only(work)).running == 1
    work.wait(1.0)
    assert (await only(work)).running == 0


async def test_who_is_offline_is_told_with_where_it_was(work: Ground) -> None:
    work.kill("s1")
    info = await only(work)
    assert (info.status, info.address) == (ProviderStatus.OFFLINE, "test")


async def test_a_late_provider_that_renews_is_online_again(work: Ground) -> None:
    work.wait(2.5)
    work.renew("s1")
    assert (await only(work)).status == ProviderStatus.ONLINE


async def test_a_dead_session_takes_its_providers_along_before_they_are_buried(work: Ground) -> None:
    work.submit("a")
    assert work.claim_ids() == ["a"]
    change(work, SESSION, "s1", state=sessions.DEAD)
    assert work.get(PROVIDER, "p1").status == registry.ONLINE
    info = await only(work)
    assert (info.status, info.running) == (ProviderStatus.OFFLINE, 0)
    assert await look(work).discover("work") == []


@pytest.mark.parametrize(("status", "there"), [(registry.DRAINING, True), (registry.OFFLINE, False)])
async def test_who_leaves_is_not_discovered(work: Ground, status: str, there: bool) -> None:
    withdraw(work, "s1", "p1", status)
    assert (await only(work)).status == status
    assert await look(work).discover("work") == []
    assert bool((await look(work).describe("work")).providers) == there
    assert bool((await look(work).capabilities())[0].providers) == there


async def test_who_was_withdrawn_is_still_at_what_it_began(work: Ground) -> None:
    work.submit("a")
    work.claim()
    withdraw(work, "s1", "p1", registry.OFFLINE)
    info = await only(work)
    assert (info.status, info.running) == (ProviderStatus.OFFLINE, 1)


async def test_a_provider_of_a_session_that_was_pruned_has_no_address(work: Ground) -> None:
    def forget(rows: Any, now: float) -> None:
        rows.drop(SESSION, rows.one(SESSION, "s1"))

    work.store.transact_blocking(forget)
    info = await only(work)
    assert (info.status, info.address, info.session) == (ProviderStatus.OFFLINE, "", "s1")


async def test_who_is_gone_for_long_is_forgotten(work: Ground) -> None:
    work.kill("s1")
    work.session("s2")
    work.provide("s2", "p2")
    work.wait(work.policy.keep_seconds - 1.0)
    work.do(prune, Prune())
    assert [info.id for info in await look(work).providers()] == ["p1", "p2"]
    work.wait(10.0)
    work.do(prune, Prune())
    assert [info.id for info in await look(work).providers()] == ["p2"]


async def test_tasks_are_counted_at_the_provider_that_runs_them(work: Ground) -> None:
    work.provide("s1", "p2", "other")
    work.session("s2")
    work.provide("s2", "p3")
    for n in range(4):
        work.submit(f"t{n}")
    work.claim("s1", "p1", 2)
    work.claim("s2", "p3", 1)
    change(work, QUEUE, "t0", waits_for="t3")
    counts = {info.id: (info.running, info.waiting) for info in await look(work).providers()}
    assert counts == {"p1": (2, 1), "p2": (0, 0), "p3": (1, 0)}
    assert counts == {info.id: (info.running, info.waiting) for info in await look(work).providers("online")}
    assert [info.running for info in await look(work).discover("work")] == [2, 1]


async def test_the_longest_there_stands_first(ground: Ground) -> None:
    for session in ("s3", "s1", "s2"):
        ground.session(session)
        announce(ground, "write", session)
        ground.wait(0.5)
    assert [info.session for info in await look(ground).discover("write")] == ["s3", "s1", "s2"]


@dataclass
class Named:
    label: str


@pytest.mark.parametrize("capability", ["write", "write:1", Named("write")])
async def test_a_capability_is_found_by_name_version_and_reference(ground: Ground, capability: Any) -> None:
    ground.session()
    announce(ground, "write")
    announce(ground, "write:2")
    assert [info.capability for info in await look(ground).discover(capability)] == ["write"]
    assert (await look(ground).describe(capability)).version == "1"
    assert [info.capability for info in await look(ground).discover("write:2")] == ["write:2"]


async def test_a_description_has_the_schemas_and_who_is_there(ground: Ground) -> None:
    ground.session()
    announce(ground, "write:2")
    info = await look(ground).describe("write:2")
    assert (info.name, info.version, info.label, info.description) == ("write", "2", "write:2", "does write")
    assert (info.input_schema, info.output_schema) == ({"type": "string"}, {"type": "null"})
    assert [one.id for one in info.providers] == ["p-write:2-s1"]


async def test_a_capability_outlives_its_providers(work: Ground) -> None:
    work.kill("s1")
    assert (await look(work).describe("work")).providers == ()
    assert [one.label for one in await look(work).capabilities()] == ["work"]


async def test_what_was_never_announced_is_not_found_and_near_names_are_told(ground: Ground) -> None:
    ground.session()
    for label in ("summarize", "summarize:2", "inbox:sumarize"):
        announce(ground, label)
    assert await look(ground).discover("sumarize") == []
    with pytest.raises(NoProviderError, match="did you mean summarize, summarize:2") as raised:
        await look(ground).describe("sumarize")
    assert raised.value.near == ["summarize", "summarize:2"]


async def test_addresses_of_messages_are_providers_but_no_capabilities(ground: Ground) -> None:
    ground.session()
    announce(ground, "write")
    announce(ground, "inbox:writer/eve", kind="inbox")
    announce(ground, "topic:news", kind="subscription")
    assert [one.label for one in await look(ground).capabilities()] == ["write"]
    assert {info.kind for info in await look(ground).providers()} == {"agent", "inbox", "subscription"}


async def test_capabilities_stand_in_order_each_with_its_own_providers(ground: Ground) -> None:
    for session in ("s1", "s2"):
        ground.session(session)
        announce(ground, "write", session)
    announce(ground, "edit", "s2")
    ground.wait(2.5)
    ground.renew("s2")
    found = {one.label: [(info.session, info.status) for info in one.providers] for one in await look(ground).capabilities()}
    assert list(found) == ["edit", "write"]
    assert found == {"edit": [("s2", "online")], "write": [("s1", "late"), ("s2", "online")]}


@pytest.mark.parametrize("capability", ["", "two words", "a:b:c", "a\0b", 7, None, object(), Named("two words")])
async def test_what_cannot_be_a_name_is_refused(ground: Ground, capability: Any) -> None:
    for ask in (look(ground).discover, look(ground).describe):
        with pytest.raises(InvalidInputError):
            await ask(capability)


@pytest.mark.parametrize("status", ["dead", "", 1])
async def test_an_unknown_status_is_refused_and_names_those_that_there_are(ground: Ground, status: Any) -> None:
    with pytest.raises(InvalidInputError, match="online, late, draining, offline"):
        await look(ground).providers(status)


async def test_a_look_takes_two_reads_however_many_there_are(ground: Ground, monkeypatch: pytest.MonkeyPatch) -> None:
    ground.session("s0")
    session, provider = ground.session_row("s0"), ground.get(PROVIDER, announce(ground, "write", "s0"))
    await ground.store.fill((SESSION, session._replace(id=f"s{n}")) for n in range(1, 20))
    await ground.store.fill(
        (PROVIDER, provider._replace(id=f"{label}{n}", session=f"s{n}", via=f"s{n}", capability=label))
        for label in ("write", "edit")
        for n in range(1, 20)
    )
    reads, read = [], ground.store.read

    async def counted(*loads: Any) -> Any:
        reads.append(loads)
        return await read(*loads)

    monkeypatch.setattr(ground.store, "read", counted)
    there = look(ground)
    for ask, count in (
        (lambda: there.discover("write"), 20),
        (lambda: there.providers(), 39),
        (lambda: there.providers("online"), 39),
        (lambda: there.capabilities(), 1),
    ):
        reads.clear()
        assert len(await ask()) == count
        assert len(reads) == 2
    reads.clear()
    assert len((await there.describe("write")).providers) == 20
    assert len(reads) == 2
