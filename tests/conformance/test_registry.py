"""The registry as several processes see it: who is there, what it takes, and that nobody stays who is gone."""

from __future__ import annotations

import pytest
from pydantic import BaseModel

from autogen_coord import (
    ClosedError,
    Coordination,
    InvalidInputError,
    NoProviderError,
    ProviderInfo,
    ProviderStatus,
    capability,
)
from tests.conftest import MORTAL, World, held, soon, until, vanish


class Article(BaseModel):
    title: str
    words: int = 0


@capability
async def shorten(text: str) -> str:
    """Cuts a text."""
    return text[:3]


@capability("summarize", version="2", max_concurrency=3)
async def summarize(article: Article) -> list[str]:
    return [article.title]


async def by_session(coord: Coordination, name: str) -> dict[str, ProviderInfo]:
    return {info.session: info for info in await coord.registry.discover(name)}


async def test_every_process_sees_what_the_others_provide(world: World) -> None:
    here, there = await world.open(), await world.open()
    await here.provide(shorten, labels=["fast"])
    id = await there.provide(shorten, max_concurrency=2)
    found = await by_session(here, "shorten")
    assert list(found) == [here.session, there.session]
    assert found[here.session].labels == ("fast",)
    assert (found[there.session].id, found[there.session].max_concurrency) == (id, 2)
    assert found == await by_session(there, "shorten")
    assert {info.kind for info in found.values()} == {"function"}


async def test_a_capability_is_described_as_its_annotations_say(world: World) -> None:
    here, there = await world.open(), await world.open()
    await there.provide(summarize)
    for asked in (summarize, "summarize:2"):
        info = await here.registry.describe(asked)
        assert (info.name, info.version, info.label) == ("summarize", "2", "summarize:2")
        assert info.input_schema["properties"]["title"] == {"title": "Title", "type": "string"}
        assert info.output_schema == {"type": "array", "items": {"type": "string"}}
        assert [one.max_concurrency for one in info.providers] == [3]
    with pytest.raises(NoProviderError, match="did you mean summarize:2"):
        await here.registry.describe("summarize")
    await there.provide(shorten)
    assert [(one.label, one.description) for one in await here.registry.capabilities()] == [
        ("shorten", "Cuts a text."),
        ("summarize:2", ""),
    ]


async def test_who_withdraws_or_closes_is_offline(world: World) -> None:
    here, there = await world.open(), await world.open()
    for coord in (here, there):
        await coord.provide(shorten)
    await here.withdraw(shorten)
    assert list(await by_session(here, "shorten")) == [there.session]
    await there.close()
    assert await here.registry.discover(shorten) == []
    assert [info.status for info in await here.registry.providers()] == [ProviderStatus.OFFLINE] * 2
    assert (await here.registry.describe(shorten)).providers == ()


async def test_who_vanishes_is_offline_when_its_lease_ends(world: World) -> None:
    here, there = await world.open(**MORTAL), await world.open(**MORTAL)
    await here.provide(shorten)
    await there.provide(shorten)
    lost = there.session
    await vanish(there)

    async def told() -> bool:
        status = {info.session: info.status for info in await here.registry.providers()}
        found = await by_session(here, "shorten")
        return status == {here.session: "online", lost: "offline"} and list(found) == [here.session]

    await until(told)


async def test_what_runs_now_is_counted(world: World) -> None:
    here, there = await world.open(), await world.open()
    hold, gate = held(limit=4)
    await there.provide(hold)
    handles = [await here.submit(hold, text) for text in ("a", "b", "c")]
    async with soon():
        await gate.saw(3)
    (info,) = await here.registry.discover(hold)
    assert (info.running, info.waiting, info.max_concurrency) == (3, 0, 4)
    gate.release.set()
    async with soon():
        for handle in handles:
            await handle.result()
    (info,) = await here.registry.discover(hold)
    assert info.running == 0


async def test_another_namespace_is_another_registry(world: World) -> None:
    here, other = await world.open(), await world.open(namespace="other")
    await here.provide(shorten)
    assert await other.registry.capabilities() == []
    assert await other.registry.providers() == []
    assert await other.registry.discover(shorten) == []


async def test_bad_questions_are_refused(coord: Coordination) -> None:
    with pytest.raises(InvalidInputError):
        await coord.registry.discover("two words")
    with pytest.raises(InvalidInputError):
        await coord.registry.providers("gone")


async def test_a_closed_coordination_has_no_registry(world: World) -> None:
    coord = await world.open()
    there = coord.registry
    await coord.close()
    with pytest.raises(ClosedError):
        coord.registry  # noqa: B018 - the property raises
    with pytest.raises(ClosedError):
        await there.providers()
