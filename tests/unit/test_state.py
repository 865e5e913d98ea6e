"""The rules of documents, on a store whose clock only the test moves."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest

from autogen_coord.core import documents, open_conflicts, pruning, snapshots
from autogen_coord.core.documents import FEW, MANY, Author, spread
from autogen_coord.core.pruning import Prune
from autogen_coord.core.snapshots import Restore
from autogen_coord.core.state import Edit, Opened, Written
from autogen_coord.core.store import Range, Rows
from autogen_coord.core.tables import DOCUMENT, DOCUMENT_CHANGE, EVENT
from autogen_coord.errors import (
    ConflictError,
    FencedError,
    InvalidInputError,
    LeaseLostError,
    NotFoundError,
    PayloadTooLargeError,
    VersionConflictError,
)
from tests.conftest import Ground
from tests.unit.resources import Resources
from tests.unit.shelf import Shelf, edit


@pytest.fixture
def shelf(work: Ground) -> Shelf:
    return Shelf(work)


@pytest.fixture
def res(work: Ground) -> Resources:
    work.session("s2")
    return Resources(work)


# versions


class Looked:
    """What a rule looks through, with what it found."""

    def __init__(self) -> None:
        self.ranges: list[tuple[Range[Any], list[Any]]] = []

    def at(self, rows: Rows) -> Any:
        self.rows = rows
        return self

    def __getattr__(self, name: str) -> Any:
        return getattr(self.rows, name)

    def scan_many(self, ranges: Sequence[Range[Any]]) -> list[list[Any]]:
        found = self.rows.scan_many(ranges)
        self.ranges += zip(ranges, found, strict=True)
        return found


def test_versions_count_from_one_and_the_document_says_who_wrote_it_and_when(shelf: Shelf) -> None:
    first = shelf.put("a", 1)
    shelf.ground.wait(5)
    second = shelf.put("a", 2)
    assert (first.version, second.version, second.kind, second.base) == (1, 2, "put", None)
    assert (second.actor, second.cause, second.at, second.created_at) == ("ann", "t1", first.at + 5, first.at)
    assert (shelf.value("a"), shelf.kept("a"), second.changes) == (2, [1], 1)


def test_the_same_value_again_is_a_new_version(shelf: Shelf) -> None:
    shelf.put("a", 1)
    assert shelf.put("a", 1).version == 2


def test_each_version_is_an_event_in_the_order_of_commit_and_without_the_value(shelf: Shelf) -> None:
    first, second = shelf.put("a", "secret"), shelf.put("a", "secret", 1)
    shelf.delete("a")
    assert shelf.told("a") == [
        ("state.changed", {"version": 1, "kind": "put"}),
        ("state.changed", {"version": 2, "kind": "put", "base": 1}),
        ("state.changed", {"version": 3, "kind": "delete", "deleted": True}),
    ]
    assert first.number < second.number
    assert [row.number for row in shelf.ground.scan(Range(EVENT, "key")) if row.subject == "a"][:2] == [first.number, second.number]


def test_versions_go_on_behind_a_deletion(shelf: Shelf) -> None:
    shelf.put("a", 1)
    shelf.ground.wait(1)
    gone = shelf.delete("a")
    again = shelf.put("a", 3, 0)
    assert (gone.version, gone.deleted_at, again.version, again.deleted_at) == (2, gone.at, 3, None)
    assert again.created_at == again.at
    assert shelf.kept("a") == [1, 2]


def test_deleting_what_is_not_there_is_refused_unless_that_is_as_well(shelf: Shelf) -> None:
    with pytest.raises(NotFoundError, match="missing_ok"):
        shelf.delete("a")
    answer = shelf.write(Edit("a", "delete", None, missing_ok=True))
    assert answer == Written((None,), (None,))
    shelf.put("a", 1)
    shelf.delete("a")
    with pytest.raises(NotFoundError):
        shelf.delete("a")
    assert shelf.row("a").version == 2


def test_several_are_written_together_or_not_at_all(shelf: Shelf) -> None:
    shelf.put("b", 1)
    with pytest.raises(VersionConflictError):
        shelf.write(edit("a", 1), edit("b", 2, 0))
    assert (shelf.value("a"), shelf.value("b")) == (None, 1)
    assert isinstance(shelf.write(edit("a", 1), edit("b", 2, 1), Edit("c", "delete", None, missing_ok=True)), Written)
    assert (shelf.value("a"), shelf.value("b")) == (1, 2)


def test_one_write_changes_a_document_once(shelf: Shelf) -> None:
    with pytest.raises(InvalidInputError, match="'a' is changed twice"):
        shelf.write(edit("a", 1), edit("b", 1), edit("a", 2))
    assert shelf.value("a") is None


@pytest.mark.parametrize("policy", ["reject", "last_writer", "merge", "reduce", "ask"])
def test_a_version_from_the_future_is_refused_under_every_policy(shelf: Shelf, policy: str) -> None:
    shelf.put("a", {"n": 1})
    with pytest.raises(VersionConflictError) as caught:
        shelf.put("a", {"n": 2}, 7, policy=policy, reducers={"n": "add"} if policy == "reduce" else None)
    assert (caught.value.key, caught.value.expected, caught.value.found) == ("a", 7, 1)
    assert (shelf.value("a"), shelf.conflicts) == ({"n": 1}, [])


# policies


def test_a_stale_write_is_refused_and_the_error_names_both_versions(shelf: Shelf) -> None:
    shelf.put("a", 1)
    shelf.put("a", 2)
    with pytest.raises(VersionConflictError, match="'a': version 1 was expected, but version 2") as caught:
        shelf.put("a", 3, 1)
    assert (caught.value.key, caught.value.expected, caught.value.found) == ("a", 1, 2)
    assert shelf.row("a").version == 2


def test_none_must_be_there_when_nothing_is_expected(shelf: Shelf) -> None:
    assert shelf.put("a", 1, 0).version == 1
    with pytest.raises(VersionConflictError):
        shelf.put("a", 2, 0)
    shelf.delete("a")
    assert shelf.put("a", 3, 0).version == 3


def test_the_last_writer_writes_and_says_what_it_knew(shelf: Shelf) -> None:
    shelf.put("a", 1)
    shelf.put("a", 2)
    assert shelf.put("a", 3, 1, policy="last_writer")[1:] == shelf.row("a")[1:]
    assert (shelf.row("a").version, shelf.row("a").base, shelf.value("a")) == (3, 1, 3)


def test_a_merge_brings_both_changes_together(shelf: Shelf) -> None:
    shelf.put("a", {"x": 1, "y": 1})
    shelf.put("a", {"x": 2, "y": 1})
    row = shelf.put("a", {"x": 1, "y": 2}, 1, policy="merge")
    assert (shelf.value("a"), row.kind, row.base, row.version) == ({"x": 2, "y": 2}, "merge", 1, 3)


def test_a_merge_that_cannot_be_names_the_places(shelf: Shelf) -> None:
    shelf.put("a", {"x": 1, "y": 1})
    shelf.put("a", {"x": 2, "y": 1})
    with pytest.raises(VersionConflictError, match="/x") as caught:
        shelf.put("a", {"x": 3, "y": 2}, 1, policy="merge")
    assert caught.value.paths == ["/x"]
    assert shelf.value("a") == {"x": 2, "y": 1}


def test_a_merge_whose_base_was_pruned_says_so(shelf: Shelf) -> None:
    shelf.ground.settings(history=1)
    for number in range(4):
        shelf.put("a", {"x": number})
    with pytest.raises(VersionConflictError, match="was pruned") as caught:
        shelf.put("a", {"y": 1}, 1, policy="merge")
    assert caught.value.pruned


def test_a_merge_of_two_creations_has_nothing_as_its_base(shelf: Shelf) -> None:
    shelf.put("a", {"x": 1})
    shelf.put("a", {"y": 1}, 0, policy="merge")
    assert shelf.value("a") == {"x": 1, "y": 1}


def test_a_stale_deletion_is_merged_only_when_nobody_changed_the_value(shelf: Shelf) -> None:
    shelf.put("a", 1)
    shelf.put("a", 1)
    assert shelf.delete("a", 1, policy="merge").deleted_at is not None
    shelf.put("a", 2)
    shelf.put("a", 3)
    with pytest.raises(VersionConflictError):
        shelf.delete("a", 4, policy="merge")
    assert shelf.value("a") == 3


def test_a_change_of_what_was_deleted_since_cannot_be_merged(shelf: Shelf) -> None:
    shelf.put("a", {"x": 1})
    shelf.delete("a")
    with pytest.raises(VersionConflictError):
        shelf.put("a", {"x": 2}, 1, policy="merge")


def test_a_value_that_is_still_the_base_is_not_lost_unnoticed_when_others_deleted_it(shelf: Shelf) -> None:
    shelf.put("a", 1)
    shelf.delete("a")
    with pytest.raises(VersionConflictError, match="deleted since") as caught:
        shelf.put("a", 1, 1, policy="merge")
    assert caught.value.paths == [""]
    with pytest.raises(NotFoundError):
        shelf.delete("a", 1, policy="merge")
    assert shelf.row("a").version == 2


def test_updates_are_reduced_also_when_nothing_was_expected(shelf: Shelf) -> None:
    terms: dict[str, Any] = {"policy": "reduce", "reducers": {"n": "add", "seen": "union"}}
    shelf.put("a", {"n": 1, "seen": ["x"]}, **terms)
    row = shelf.put("a", {"n": 2, "seen": ["y"], "last": "b"}, **terms)
    shelf.put("a", {"n": 3}, 1, **terms)
    assert shelf.value("a") == {"n": 6, "seen": ["x", "y"], "last": "b"}
    assert (row.kind, row.version) == ("reduce", 2)


def test_a_stale_deletion_or_patch_is_no_update_and_refused_under_reduce(shelf: Shelf) -> None:
    shelf.policy("n", "reduce", count="add")
    for _ in range(3):
        shelf.put("n/a", {"count": 1})
    with pytest.raises(VersionConflictError) as caught:
        shelf.delete("n/a", 1)
    assert (caught.value.expected, caught.value.found) == (1, 3)
    with pytest.raises(VersionConflictError):
        shelf.patch("n/a", {"count": 7}, 2)
    assert shelf.value("n/a") == {"count": 3}
    assert shelf.put("n/a", {"count": 1}, 1).kind == "reduce"
    shelf.patch("n/a", {"count": 0}, 4)
    assert shelf.delete("n/a", 5).version == 6


def test_an_update_that_cannot_be_reduced_names_the_key_and_the_field(shelf: Shelf) -> None:
    shelf.put("a", {"n": "text"})
    with pytest.raises(InvalidInputError, match="'a': ") as caught:
        shelf.put("a", {"n": 1}, policy="reduce", reducers={"n": "add"})
    assert (caught.value.key, caught.value.field) == ("a", "/n")


def test_the_longest_prefix_says_the_policy_and_the_call_beats_it(shelf: Shelf) -> None:
    shelf.policy("", "last_writer")
    shelf.policy("notes", "reduce", n="add")
    for key in ("other", "notesbook", "notes/a", "notes"):
        shelf.put(key, {"n": 1})
        shelf.put(key, {"n": 1})
        shelf.put(key, {"n": 1}, 1)
    assert [shelf.value(key)["n"] for key in ("other", "notesbook", "notes/a", "notes")] == [1, 1, 3, 3]
    with pytest.raises(VersionConflictError):
        shelf.put("notes/a", {"n": 1}, 1, policy="reject")
    shelf.put("notes/a", {"n": 5}, policy="reduce")  # by the prefix's reducers
    assert shelf.value("notes/a") == {"n": 8}
    shelf.policy("notes", None)
    shelf.policy("", None)
    with pytest.raises(VersionConflictError):
        shelf.put("notes/a", {"n": 1}, 1)
    with pytest.raises(NotFoundError):
        shelf.policy("notes", None)
    with pytest.raises(InvalidInputError, match="reducers"):
        shelf.put("notes/a", {"n": 1}, policy="reduce")


# patches


def test_a_patch_is_applied_to_what_is_there(shelf: Shelf) -> None:
    shelf.put("a", {"x": 1, "y": 1})
    shelf.put("a", {"x": 2, "y": 1})
    assert shelf.patch("a", {"y": None, "z": 3}).kind == "patch"
    assert shelf.value("a") == {"x": 2, "z": 3}
    shelf.patch("a", [{"op": "test", "path": "/x", "value": 2}, {"op": "add", "path": "/l", "value": [1]}])
    assert shelf.value("a") == {"x": 2, "z": 3, "l": [1]}


def test_a_patch_that_does_not_apply_names_the_key_and_changes_nothing(shelf: Shelf) -> None:
    with pytest.raises(NotFoundError, match="put one first"):
        shelf.patch("a", {"x": 1})
    shelf.put("a", {"x": 1})
    with pytest.raises(InvalidInputError, match="'a': ") as caught:
        shelf.patch("a", [{"op": "add", "path": "/y", "value": 1}, {"op": "remove", "path": "/q"}])
    assert (caught.value.key, caught.value.operation) == ("a", 2)
    with pytest.raises(VersionConflictError) as refused:
        shelf.patch("a", [{"op": "test", "path": "/x", "value": 2}])
    assert refused.value.key == "a"
    assert (shelf.value("a"), shelf.row("a").version) == ({"x": 1}, 1)


def test_a_stale_patch_is_merged_as_its_writer_meant_it(shelf: Shelf) -> None:
    shelf.put("a", {"x": 1, "l": [1, 2]})
    shelf.patch("a", {"x": 2})
    shelf.patch("a", [{"op": "remove", "path": "/l/0"}], 1, policy="merge")
    assert shelf.value("a") == {"x": 2, "l": [2]}


def test_what_a_patch_or_a_reducer_makes_is_checked_like_any_value(shelf: Shelf) -> None:
    shelf.ground.settings(max_value=60, max_depth=2)
    shelf.put("a", {"l": ["x" * 30]})
    with pytest.raises(PayloadTooLargeError) as caught:
        shelf.put("a", {"l": ["y" * 30]}, policy="reduce", reducers={"l": "append"})
    assert caught.value.key == "a"
    with pytest.raises(InvalidInputError, match="deep"):
        shelf.patch("a", {"q": {"r": {}}})
    assert shelf.row("a").version == 1


# open conflicts


def test_a_stale_write_that_asks_is_kept_beside_the_document(shelf: Shelf) -> None:
    shelf.put("a", 1)
    shelf.put("a", 2)
    conflict = shelf.asks("a", 3, 1)
    assert (conflict.key, conflict.base, conflict.found, conflict.value, conflict.kind) == ("a", 1, 2, "3", "put")
    assert (shelf.value("a"), shelf.row("a").version, shelf.conflicts) == (2, 2, [conflict.id])
    assert shelf.told("a")[-1] == ("state.conflict", {"conflict": conflict.id, "base": 1, "found": 2})


def test_nothing_of_a_write_is_applied_when_a_part_of_it_asks(shelf: Shelf) -> None:
    shelf.put("a", 1)
    shelf.put("a", 2)
    answer = shelf.write(edit("b", 1), edit("a", 3, 1, policy="ask"))
    assert isinstance(answer, Opened)
    assert (shelf.value("b"), shelf.value("a"), len(shelf.conflicts)) == (None, 2, 1)


def test_mine_is_written_as_a_version_made_from_its_base(shelf: Shelf) -> None:
    shelf.put("a", 1)
    shelf.put("a", 2)
    conflict = shelf.asks("a", 3, 1)
    decided = shelf.decide(conflict.id, "mine")
    assert decided.row is not None
    assert (decided.row.kind, decided.row.base, decided.text, shelf.value("a"), shelf.conflicts) == ("decide", 1, "3", 3, [])
    assert shelf.told("a")[-1] == ("state.decided", {"conflict": conflict.id, "how": "mine", "version": 3})
    with pytest.raises(NotFoundError):
        shelf.decide(conflict.id, "mine")


def test_theirs_stays_and_another_value_may_be_written(shelf: Shelf) -> None:
    shelf.put("a", 1)
    shelf.put("a", 2)
    first, second = shelf.asks("a", 3, 1), shelf.asks("a", 4, 1)
    assert shelf.decide(first.id, "theirs").text == "2"
    assert shelf.row("a").version == 2
    shelf.decide(second.id, "value", 9)
    assert (shelf.value("a"), shelf.row("a").version, shelf.conflicts) == (9, 3, [])


def test_who_decides_over_a_newer_version_than_it_saw_is_told(shelf: Shelf) -> None:
    shelf.put("a", 1)
    shelf.put("a", 2)
    conflict = shelf.asks("a", 3, 1)
    shelf.put("a", 4)
    with pytest.raises(VersionConflictError):
        shelf.decide(conflict.id, "mine", expected=2)
    assert (shelf.value("a"), shelf.conflicts) == (4, [conflict.id])
    assert shelf.decide(conflict.id, "mine", expected=3).text == "3"


def test_a_deletion_may_ask_too(shelf: Shelf) -> None:
    shelf.put("a", 1)
    shelf.put("a", 2)
    answer = shelf.write(Edit("a", "delete", None, 1, policy="ask"))
    assert isinstance(answer, Opened)
    assert shelf.decide(answer.conflicts[0].id, "mine").text is None
    assert (shelf.value("a"), shelf.row("a").version) == (None, 3)


# fences


def test_a_write_under_a_lease_carries_its_token_and_fences_the_document(shelf: Shelf, res: Resources) -> None:
    granted = res.hold("l", "a X")
    row = shelf.put("a/b", 1, fence=shelf.guard(granted))
    assert (row.token, row.fenced) == (granted.token, granted.token)
    with pytest.raises(FencedError, match="fence=lease") as caught:
        shelf.put("a/b", 2)
    assert (caught.value.key, caught.value.token) == ("a/b", granted.token)
    forced = shelf.put("a/b", 3, force=True)
    assert (forced.token, forced.fenced) == (None, granted.token)
    with pytest.raises(FencedError):
        shelf.delete("a/b")
    with pytest.raises(FencedError):
        shelf.revert("a/b", 1)


def test_a_lease_that_is_gone_writes_nothing(shelf: Shelf, res: Resources) -> None:
    guard = shelf.guard(res.hold("l", "a X"))
    res.release("l")
    with pytest.raises(LeaseLostError):
        shelf.put("a", 1, fence=guard)
    res.hold("m", "a X", session="s2")
    with pytest.raises(LeaseLostError):
        shelf.put("a", 1, fence=guard)
    assert shelf.value("a") is None


def test_a_lease_on_the_key_must_hold_it_exclusively_one_on_something_else_must_stand(shelf: Shelf, res: Resources) -> None:
    reader, other = shelf.guard(res.hold("l", "a S")), shelf.guard(res.hold("m", "elsewhere S"))
    with pytest.raises(LeaseLostError, match="X on 'a/b' is wanted: convert it"):
        shelf.put("a/b", 1, fence=reader)
    assert shelf.put("a/b", 1, fence=other).token == other.token
    with pytest.raises(LeaseLostError):
        shelf.put("a/b", 2, fence=other._replace(token=other.token + 1))
    res.release("m")
    with pytest.raises(LeaseLostError):
        shelf.put("a/b", 2, fence=other)


def test_the_greatest_token_is_remembered(shelf: Shelf, res: Resources) -> None:
    older, newer = shelf.guard(res.hold("l", "x X")), shelf.guard(res.hold("m", "y X"))
    shelf.put("a", 1, fence=newer)
    row = shelf.put("a", 2, fence=older, force=True)  # both stand, and neither says anything of "a"
    assert (row.token, row.fenced) == (older.token, newer.token)


def test_an_older_lease_on_something_else_does_not_pass_the_fence(shelf: Shelf, res: Resources) -> None:
    bystander, holder = shelf.guard(res.hold("l", "other S")), shelf.guard(res.hold("m", "a X"))
    assert shelf.put("free", 1, fence=bystander).fenced == bystander.token
    shelf.put("a/b", 1, fence=holder)
    with pytest.raises(FencedError, match=f"token {holder.token}.*token {bystander.token}") as caught:
        shelf.put("a/b", 2, fence=bystander)
    assert (caught.value.token, caught.value.given) == (holder.token, bystander.token)
    with pytest.raises(FencedError):
        shelf.delete("a/b", fence=bystander)
    assert shelf.value("a/b") == 1
    assert shelf.put("a/b", 3, fence=shelf.guard(res.hold("n", "third S"))).version == 2  # taken since


def test_who_holds_the_document_passes_a_fence_of_a_newer_lease_on_something_else(shelf: Shelf, res: Resources) -> None:
    holder, other = shelf.guard(res.hold("l", "a X")), shelf.guard(res.hold("m", "other X"))
    shelf.put("a", 1, fence=other)
    row = shelf.put("a", 2, fence=holder)
    assert (row.token, row.fenced) == (holder.token, other.token)


def test_all_of_a_write_stands_or_falls_with_its_fence(shelf: Shelf, res: Resources) -> None:
    guard = shelf.guard(res.hold("l", "a X"))
    res.release("l")
    with pytest.raises(LeaseLostError):
        shelf.write(edit("b", 1), edit("a", 1, fence=guard))
    assert shelf.value("b") is None


# history


def test_the_history_is_bounded_and_keeps_the_newest(shelf: Shelf) -> None:
    shelf.ground.settings(history=3)
    for number in range(10):
        shelf.put("a", number)
    assert (shelf.kept("a"), shelf.row("a").changes) == ([7, 8, 9], 3)


def test_without_history_nothing_is_kept_but_the_document(shelf: Shelf) -> None:
    shelf.ground.settings(history=0)
    for number in range(4):
        shelf.put("a", number)
    assert (shelf.kept("a"), shelf.value("a"), shelf.row("a").version) == ([], 3, 4)


def test_a_history_that_grew_longer_than_it_may_shrinks_with_each_write(shelf: Shelf) -> None:
    for number in range(40):
        shelf.put("a", number)
    shelf.ground.settings(history=3)
    shelf.put("a", 40)
    assert len(shelf.kept("a")) == 40 - FEW
    for number in range(15):
        shelf.put("a", number)
    assert shelf.kept("a") == [53, 54, 55]


def test_what_a_snapshot_needs_is_kept_until_it_is_dropped(shelf: Shelf) -> None:
    shelf.ground.settings(history=2)
    for number in range(3):
        shelf.put("a", number)
    shelf.put("b", 1)
    shelf.take("s")
    shelf.take("of b", "b")
    for number in range(6):
        shelf.put("a", number)
        shelf.put("b", number)
    assert (shelf.kept("a"), shelf.kept("b")) == ([3, 7, 8], [1, 5, 6])
    shelf.drop("s")
    shelf.put("a", 1)
    shelf.put("b", 1)
    assert (shelf.kept("a"), shelf.kept("b")) == ([8, 9], [1, 6, 7])


def test_a_write_looks_at_the_snapshots_of_its_own_prefixes_alone(shelf: Shelf) -> None:
    for prefix in ("", "a", "a/b", "a/b/c", "a/bc", "b"):
        shelf.take(f"of {prefix}", prefix)
    looked = Looked()
    points = shelf.ground.do(lambda rows, command, now, policy: documents.points_of(looked.at(rows), "a/b"), None)
    assert {one.prefix for one, _ in looked.ranges} == {("",), ("a",), ("a/b",)}
    assert len(points) == 3


def test_with_very_many_snapshots_the_history_shrinks_all_the_same(shelf: Shelf) -> None:
    shelf.ground.settings(history=1)
    for number in range(MANY + 40):
        shelf.put("a", number)
        shelf.take(f"s{number}")
    assert len(shelf.kept("a")) == MANY + 39
    for number in range(MANY + 39):
        if number % 10:
            shelf.drop(f"s{number}")
    for number in range(400):
        shelf.put("a", number)
    needed = [number + 1 for number in range(MANY + 39) if number % 10 == 0]
    assert set(needed) <= set(shelf.kept("a"))
    assert len(shelf.kept("a")) <= len(needed) + 3


def test_with_very_many_late_snapshots_the_history_does_not_overshoot(shelf: Shelf) -> None:
    shelf.ground.settings(history=10)
    for number in range(300):
        shelf.put("a", number)
    for number in range(MANY + 12):
        shelf.take(f"s{number}")
        shelf.put("a", number)
        shelf.put("a", number)
        assert len(shelf.kept("a")) <= 10 + number + 1
    for number in range(150):
        shelf.put("a", number)
        assert len(shelf.kept("a")) <= 10 + MANY + 12


def test_every_place_is_come_by(shelf: Shelf) -> None:
    assert {spread(version, 50) for version in range(1_000, 1_200)} == set(range(50))


def test_large_values_stand_once_and_go_with_their_last_version(shelf: Shelf) -> None:
    shelf.ground.settings(history=1, blob_from=20)
    large = "x" * 50
    shelf.put("a", large)
    shelf.put("b", large)
    assert list(shelf.blobs.values()) == [2]
    shelf.put("a", 1)
    assert list(shelf.blobs.values()) == [2]
    assert shelf.revert("a", 1).value is None
    assert (shelf.value("a"), list(shelf.blobs.values())) == (large, [2])  # the first version fell out
    shelf.put("b", 1)
    conflict = shelf.asks("b", large, 1)
    assert list(shelf.blobs.values()) == [3]
    shelf.decide(conflict.id, "theirs")
    for key in "ab":
        for number in range(2):
            shelf.put(key, number)
    assert shelf.blobs == {}


# snapshots


def test_a_restore_is_a_change_and_deletes_what_was_made_since(shelf: Shelf) -> None:
    for key in ("a", "b", "same"):
        shelf.put(key, key)
    shelf.take("s")
    shelf.put("a", 2)
    shelf.delete("b")
    shelf.put("c", 1)
    shelf.put("same", "same")
    assert shelf.restore("s", "a", "b", "c", "same").documents == 3
    assert [shelf.value(key) for key in ("a", "b", "c", "same")] == ["a", "b", None, "same"]
    row = shelf.row("a")
    assert (row.kind, row.base, row.version, shelf.row("c").kind, shelf.row("same").version) == ("restore", 1, 3, "restore", 2)
    assert shelf.restore("s", "a", "b", "c", "same").documents == 0


def test_a_restore_loads_one_version_of_each_document(shelf: Shelf) -> None:
    shelf.put("a", 0)
    shelf.take("s")
    for number in range(1, 30):
        shelf.put("a", number)
    looked, command = Looked(), Restore("s", "", ("a",), None, Author("s1", None))
    shelf.ground.do(lambda rows, command, now, policy: snapshots.restore(looked.at(rows), command, now, policy), command)
    assert {len(found) for one, found in looked.ranges if one.table is DOCUMENT_CHANGE} == {1}
    assert shelf.value("a") == 0


def test_a_restore_takes_along_what_was_written_meanwhile(shelf: Shelf) -> None:
    shelf.put("p/a", 1)
    seen = shelf.take("s", "p")
    shelf.put("p/a", 2)
    shelf.put("p/b", 1)
    shelf.put("q", 1)
    assert shelf.restore("s", prefix="p", seen=seen).documents == 2
    assert [shelf.value(key) for key in ("p/a", "p/b", "q")] == [1, None, 1]


def test_a_restore_that_cannot_know_what_was_written_meanwhile_does_nothing(shelf: Shelf) -> None:
    shelf.put("a", 1)
    shelf.take("s")
    shelf.put("a", 2)
    shelf.ground.settings(keep_count=0)
    shelf.ground.do(pruning.prune, Prune())
    assert shelf.restore("s", seen=1).again
    assert shelf.value("a") == 2


def test_a_snapshot_of_something_else_is_refused_by_name(shelf: Shelf) -> None:
    shelf.take("s", "p")
    with pytest.raises(InvalidInputError, match="'q' is not in snapshot 's'"):
        shelf.restore("s", "q", prefix="q")
    with pytest.raises(InvalidInputError):
        shelf.restore("s", prefix="")
    with pytest.raises(NotFoundError):
        shelf.restore("t")
    with pytest.raises(ConflictError):
        shelf.take("s")


def test_what_lies_beside_a_prefix_is_not_in_its_snapshot(shelf: Shelf) -> None:
    shelf.ground.settings(history=0)
    for key in ("p", "p/a", "px", "p-a"):
        shelf.put(key, 1)
    seen = shelf.take("s", "p")
    for key in ("p", "p/a", "px", "p-a"):
        shelf.put(key, 2)
    assert [shelf.kept(key) for key in ("p", "p/a", "px", "p-a")] == [[1], [1], [], []]
    with pytest.raises(InvalidInputError):
        shelf.restore("s", "px", prefix="px")
    assert shelf.restore("s", prefix="p", seen=seen).documents == 2


def test_a_fenced_document_is_restored_by_force_alone(shelf: Shelf, res: Resources) -> None:
    shelf.put("a", 1, fence=shelf.guard(res.hold("l", "a X")))
    shelf.put("b", 1)
    shelf.take("s")
    shelf.put("a", 2, force=True)
    shelf.put("b", 2)
    with pytest.raises(FencedError):
        shelf.restore("s", "a", "b")
    assert (shelf.value("a"), shelf.value("b")) == (2, 2)
    assert shelf.restore("s", "a", "b", force=True).documents == 2


def test_an_earlier_version_is_written_once_more(shelf: Shelf) -> None:
    for number in range(3):
        shelf.put("a", number)
    row = shelf.revert("a", 1)
    assert (row.version, row.kind, row.base, shelf.value("a")) == (4, "restore", 1, 0)
    with pytest.raises(VersionConflictError):
        shelf.revert("a", 9)
    with pytest.raises(VersionConflictError):
        shelf.revert("a", 1, expected=3)
    with pytest.raises(NotFoundError):
        shelf.revert("b", 1)
    shelf.delete("a")
    with pytest.raises(InvalidInputError, match="is a deletion"):
        shelf.revert("a", 5)
    shelf.ground.settings(history=1)
    shelf.put("a", 7)
    with pytest.raises(NotFoundError, match="not kept"):
        shelf.revert("a", 1)


# tombstones


def test_a_tombstone_goes_by_age_and_new_documents_begin_above_it(shelf: Shelf) -> None:
    shelf.ground.settings(keep_seconds=100.0, blob_from=20)
    shelf.put("a", "x" * 50)
    shelf.delete("a")
    shelf.ground.wait(99)
    shelf.ground.do(pruning.prune, Prune())
    assert shelf.row("a").version == 2
    shelf.ground.wait(2)
    shelf.ground.do(pruning.prune, Prune())
    assert (shelf.kept("a"), shelf.blobs) == ([], {})
    assert shelf.put("a", 1, 0).version == 3
    with pytest.raises(VersionConflictError):  # who knows version 1 knows another document
        shelf.put("a", 2, 1)
    assert (shelf.put("b", 1).version, shelf.put("b", 1).version) == (3, 4)
    shelf.delete("b")
    shelf.ground.wait(101)
    shelf.ground.do(pruning.prune, Prune())
    assert shelf.put("c", 1).version == 6
    shelf.delete("a")
    shelf.ground.wait(101)
    shelf.ground.do(pruning.prune, Prune())  # at version 4, less than what was forgotten before
    assert shelf.put("d", 1).version == 6


def test_a_fence_outlives_the_tombstone_and_its_history(shelf: Shelf, res: Resources) -> None:
    shelf.ground.settings(keep_seconds=100.0, blob_from=20)
    token = shelf.put("a", "x" * 50, fence=shelf.guard(res.hold("l", "a X"))).token
    shelf.delete("a", force=True)
    shelf.ground.wait(101)
    shelf.ground.do(pruning.prune, Prune())
    assert (shelf.kept("a"), shelf.blobs, shelf.row("a").changes) == ([], {}, 0)
    assert shelf.ground.do(pruning.prune, Prune()).more is False
    with pytest.raises(FencedError):
        shelf.put("a", 1, 0)
    row = shelf.put("a", 1, 0, force=True)
    assert (row.version, row.fenced, row.changes) == (3, token, 1)


def test_a_tombstone_stays_while_a_conflict_of_it_is_open_and_holds_up_no_other(shelf: Shelf) -> None:
    shelf.ground.settings(keep_seconds=100.0)
    keys = [f"a/{number:02}" for number in range(pruning.TOMBSTONES)]
    for key in keys:
        shelf.put(key, 1)
        shelf.put(key, 2)
    asked = [shelf.asks(key, 3, 1).id for key in keys]
    for key in [*keys, "b"]:
        shelf.put(key, 4)
        shelf.delete(key)
    shelf.ground.wait(101)
    assert shelf.ground.do(pruning.prune, Prune()).more
    shelf.ground.do(pruning.prune, Prune())
    assert shelf.ground.get(DOCUMENT, "b") is None
    assert shelf.kept("a/00") == [1, 2, 3]
    assert shelf.decide(asked[0], "mine", expected=4).text == "3"
    for id in asked[1:]:
        shelf.decide(id, "theirs")
    shelf.ground.wait(101)
    shelf.ground.do(pruning.prune, Prune())
    assert [shelf.kept(key) for key in keys[:2]] == [[1, 2, 3, 4], []]


def test_a_tombstone_stays_while_a_snapshot_needs_its_history(shelf: Shelf) -> None:
    shelf.ground.settings(keep_seconds=100.0)
    shelf.put("a", 1)
    shelf.take("s")
    shelf.delete("a")
    shelf.take("later")
    shelf.ground.wait(200)
    shelf.ground.do(pruning.prune, Prune())
    assert shelf.restore("s", "a").documents == 1
    shelf.delete("a")
    shelf.drop("s")
    shelf.ground.wait(200)
    shelf.ground.do(pruning.prune, Prune())
    assert shelf.kept("a") == [1, 2, 3]  # version 2, the deletion, was the newest when "later" was taken
    shelf.drop("later")
    shelf.ground.wait(200)
    shelf.ground.do(pruning.prune, Prune())
    assert shelf.kept("a") == []


def test_mine_is_not_written_over_what_nobody_looked_at(shelf: Shelf) -> None:
    shelf.put("a", 1)
    shelf.put("a", 2)
    first, second = shelf.asks("a", "mine", 1), shelf.asks("a", "mine too", 1)
    shelf.put("a", 99)
    with pytest.raises(VersionConflictError, match="expected_version=3") as caught:
        shelf.decide(first.id, "mine")
    assert (caught.value.expected, caught.value.found, shelf.value("a")) == (2, 3, 99)
    assert shelf.decide(first.id, "mine", expected=3).text == '"mine"'
    assert shelf.decide(second.id, "mine", force=True).text == '"mine too"'


def test_open_conflicts_of_a_document_are_bounded(shelf: Shelf, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(open_conflicts, "MOST", 2)
    for key in ("a", "a/b"):
        shelf.put(key, 1)
        shelf.put(key, 2)
        asked = [shelf.asks(key, 3, 1) for _ in range(2)]
    with pytest.raises(VersionConflictError, match="2 conflicts of it are open") as caught:
        shelf.asks("a/b", 3, 1)
    assert (caught.value.key, caught.value.expected, caught.value.found) == ("a/b", 1, 2)
    shelf.decide(asked[0].id, "theirs")
    shelf.asks("a/b", 3, 1)


def test_a_tombstone_without_any_history_is_pruned(shelf: Shelf) -> None:
    shelf.ground.settings(history=0, keep_seconds=100.0)
    shelf.put("a", 1)
    shelf.delete("a")
    shelf.ground.wait(101)
    shelf.ground.do(pruning.prune, Prune())
    assert shelf.ground.get(DOCUMENT, "a") is None
    assert shelf.put("a", 1, 0).version == 3
