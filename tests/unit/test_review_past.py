"""What a review keeps in the store: the last finished run, whatever happened to one behind it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from autogen_coord import Coordination, Document, Settings
from autogen_coord.core.shared_state import State
from autogen_coord.review import past
from autogen_coord.review.changes import FileFindings, Item, LastRun, Past
from autogen_coord.review.files import Target
from autogen_coord.review.past import Ledger, project_of

BEFORE, AFTER = "before", "after"


class KilledError(Exception):
    """Instead of a SIGKILL, behind a transaction."""


def found(path: str, message: str) -> FileFindings:
    return FileFindings(path=path, digest="d", found={"lint": [Item(line=1, rule="B1", message=message)], "security": None})


def run_of(word: str) -> LastRun:
    return LastRun(root="/r", tools={"ruff": word}, totals={"grade": "A", "mark": 90})


async def finish(coord: Coordination, word: str, names: Sequence[str], project: str = "p", keep: Sequence[str] = ()) -> Past | None:
    """A run that found ``word`` in each of the files. Returns its predecessor."""
    ledger = Ledger(coord, project)
    async with coord.lock(ledger.path) as lease:
        before = await ledger.load()
        await ledger.finish(run_of(word), [found(name, word) for name in names], keep, lease)
    return before


async def look(coord: Coordination, project: str = "p") -> Past | None:
    ledger = Ledger(coord, project)
    async with coord.lock(ledger.path):
        return await ledger.load()


def words(one: Past | None) -> dict[str, str]:
    """By path, what lint said."""
    assert one is not None
    said = {path: findings.found["lint"] if findings else None for path, findings in one.files.items()}
    return {path: items[0].message if items else "?" for path, items in said.items()}


def kill_behind(monkeypatch: pytest.MonkeyPatch, count: int) -> None:
    """Let so many transactions be written, and raise behind the last of them."""
    put_many, left = State.put_many, [count]

    async def putting(self: State, *args: Any, **kwargs: Any) -> list[Document | None]:
        written = await put_many(self, *args, **kwargs)
        left[0] -= 1
        if left[0] == 0:
            raise KilledError
        return written

    monkeypatch.setattr(State, "put_many", putting)


@pytest.fixture
async def coord() -> AsyncIterator[Coordination]:
    async with Coordination.open("dict://") as coord:
        yield coord


async def test_a_run_is_read_back_as_it_finished(coord: Coordination) -> None:
    assert await finish(coord, BEFORE, ["a.py", "pkg/b.py"]) is None
    last = await look(coord)
    assert last is not None
    assert (last.run, words(last)) == (run_of(BEFORE), {"a.py": BEFORE, "pkg/b.py": BEFORE})
    assert last.files["a.py"] == found("a.py", BEFORE)


async def test_what_is_gone_from_the_tree_is_deleted_but_not_what_could_not_be_read(coord: Coordination) -> None:
    await finish(coord, BEFORE, ["a.py", "b.py", "closed.py"])
    await finish(coord, AFTER, ["a.py"], keep=["closed.py"])
    assert words(await look(coord)) == {"a.py": AFTER, "closed.py": BEFORE}
    await finish(coord, AFTER, ["a.py", "b.py"])
    assert words(await look(coord)) == {"a.py": AFTER, "b.py": AFTER}


async def test_what_did_not_change_is_not_written_again(coord: Coordination) -> None:
    await finish(coord, BEFORE, ["a.py", "b.py"])
    await finish(coord, BEFORE, ["a.py", "b.py"])
    versions = {one.key: one.version for one in await coord.state.list("review/p")}
    assert versions == {"review/p/files/a.py": 1, "review/p/files/b.py": 1, "review/p/last": 2}


@pytest.mark.parametrize("kills", [[1], [2], [3], [4], [1, 1, 2], [3, 1]])
async def test_a_run_killed_between_its_transactions_leaves_its_predecessor_as_it_was(
    kills: Sequence[int], coord: Coordination, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nine changes, two at a time: the fifth transaction has `last`. The repeated run has less to do."""
    monkeypatch.setattr(past, "SLICE", 2)
    before, after = ["a.py", "b.py", "c.py", "gone1.py", "gone2.py"], ["a.py", "b.py", "c.py", "new1.py", "new2.py", "new3.py"]
    await finish(coord, BEFORE, before)
    predecessor = await look(coord)
    for killed in kills:
        with monkeypatch.context() as patches:
            kill_behind(patches, killed)
            with pytest.raises(KilledError):
                await finish(coord, AFTER, after)
        assert await look(coord) == predecessor
    assert await finish(coord, AFTER, after) == predecessor
    assert words(await look(coord)) == dict.fromkeys(after, AFTER)


async def test_a_first_run_that_was_killed_is_no_predecessor(coord: Coordination, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(past, "SLICE", 2)
    with monkeypatch.context() as patches:
        kill_behind(patches, 1)
        with pytest.raises(KilledError):
            await finish(coord, BEFORE, ["a.py", "b.py", "c.py"])
    assert await finish(coord, BEFORE, ["a.py", "b.py", "c.py"]) is None


async def test_where_no_earlier_versions_are_kept_a_killed_run_leaves_what_cannot_be_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(past, "SLICE", 2)
    async with Coordination.open("dict://", settings=Settings(history=0)) as coord:
        await finish(coord, BEFORE, ["a.py", "b.py", "c.py"])
        with monkeypatch.context() as patches:
            kill_behind(patches, 1)
            with pytest.raises(KilledError):
                await finish(coord, AFTER, ["a.py", "new.py", "c.py"])
        assert words(await look(coord)) == {"a.py": "?", "b.py": BEFORE, "c.py": BEFORE}


async def test_two_projects_in_one_store_do_not_mix(coord: Coordination) -> None:
    await finish(coord, BEFORE, ["a.py"], "p")
    assert await finish(coord, AFTER, ["b.py"], "p2") is None
    assert words(await look(coord, "p")) == {"a.py": BEFORE}
    assert words(await look(coord, "p2")) == {"b.py": AFTER}


async def test_what_another_version_wrote_is_not_told(coord: Coordination) -> None:
    await finish(coord, BEFORE, ["a.py", "b.py"])
    await coord.state.put("review/p/files/a.py", {"other": 1}, force=True)
    await finish(coord, AFTER, ["b.py"], keep=["a.py"])
    assert words(await look(coord)) == {"a.py": "?", "b.py": AFTER}
    await coord.state.put("review/p/last", {"other": 1}, force=True)
    assert await look(coord) is None


async def test_a_path_that_is_no_key_is_kept_as_well(coord: Coordination) -> None:
    names = ["d/" * 40 + "a.py", "d/" * 40 + "b.py", "x" * 400 + ".py", "*?{[ a b.py", " a.py", "..x.py"]
    await finish(coord, BEFORE, names)
    assert words(await look(coord)) == dict.fromkeys(names, BEFORE)


def test_a_project_is_named_by_its_place(tmp_path: Path) -> None:
    def named(name: str, *roots: Path) -> str:
        return project_of(Target(name, tmp_path, roots))

    one, other = tmp_path / "one" / "pkg", tmp_path / "other" / "pkg"
    one.mkdir(parents=True)
    (tmp_path / "link").symlink_to(one, target_is_directory=True)
    assert named("pkg", one) == named("pkg", tmp_path / "link") == named("pkg", one / ".." / "pkg")
    assert len({named("pkg", one), named("pkg", other), named("pkg", one, other)}) == 3
    assert named("a b/ü", one).startswith("a-b--")
