"""Several providers of one capability in one process: who gets the next task."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import pytest

from autogen_coord.core import claims
from autogen_coord.core.balancing import Balance, Candidate, least_busy
from autogen_coord.core.claims import Claim, Serves, Want
from autogen_coord.core.pools import addressed
from autogen_coord.core.slots import Providers, Slot
from tests.conftest import Ground


@pytest.fixture
def pair(work: Ground) -> Ground:
    """Two providers of ``work`` on one session."""
    work.provide("s1", "p2")
    return work


def want(*offers: Candidate, pools: tuple[str, ...] = ("work", "work@p1", "work@p2"), slots: int = 100) -> Want:
    return Want(pools, offers, min(slots, sum(one.free for one in offers)))


def given(ground: Ground, want: Want) -> dict[str, str | None]:
    answer = ground.do(claims.claim, Claim("s1", [want]))
    return {one.row.id: one.row.provider for one in answer.claimed}


# the strategy


def test_the_least_busy_is_the_one_with_the_smallest_share_of_its_slots_taken() -> None:
    big, small = Candidate("big", 4, 16), Candidate("small", 1, 2)
    assert least_busy([small, big]) is big


def test_among_equals_whoever_was_chosen_longest_ago_is_next() -> None:
    assert least_busy([Candidate("a", 0, 4, turn=9), Candidate("b", 0, 4, turn=3)]).provider == "b"
    assert least_busy([Candidate("b", 0, 4), Candidate("a", 0, 4)]).provider == "a"


def test_one_claim_of_many_is_shared_by_size() -> None:
    balance = Balance([Candidate("a", 0, 6), Candidate("b", 0, 3)], least_busy, bounded=True)
    assert Counter(balance.give(None) for _ in range(9)) == {"a": 6, "b": 3}
    assert not balance
    assert balance.give(None) is None


def test_equals_take_turns() -> None:
    balance = Balance([Candidate(name, 0, 4) for name in "abc"], least_busy, bounded=True)
    assert [balance.give(None) for _ in range(6)] == ["a", "b", "c", "a", "b", "c"]


def test_what_is_pinned_goes_to_its_one_provider_or_nowhere() -> None:
    balance = Balance([Candidate("a", 0, 1), Candidate("b", 0, 9)], least_busy, bounded=True)
    assert [balance.give("a"), balance.give("a"), balance.give("elsewhere")] == ["a", None, None]
    assert balance.give(None) == "b"


def test_without_bound_the_full_are_given_more_the_least_full_first() -> None:
    balance = Balance([Candidate("a", 2, 2), Candidate("b", 3, 2)], least_busy, bounded=False)
    assert [balance.give(None) for _ in range(3)] == ["a", "b", "a"]


# in a claim


def test_a_claim_spreads_what_is_ready_over_the_free_slots(pair: Ground) -> None:
    for number in range(6):
        pair.submit(f"t{number}")
    assert Counter(given(pair, want(Candidate("p1", 0, 2), Candidate("p2", 0, 3))).values()) == {"p1": 2, "p2": 3}
    assert pair.state("t5") == "ready"


def test_the_busier_provider_gets_less(pair: Ground) -> None:
    for number in range(3):
        pair.submit(f"t{number}")
    assert Counter(given(pair, want(Candidate("p1", 3, 4), Candidate("p2", 0, 4))).values()) == {"p2": 3}


def test_a_pinned_task_is_given_only_to_its_provider_whatever_the_strategy_says(pair: Ground) -> None:
    pair.submit("mine", target="p1")
    pair.submit("open")
    assert given(pair, want(Candidate("p1", 1, 2), Candidate("p2", 0, 2))) == {"mine": "p1", "open": "p2"}


def test_a_pinned_task_whose_provider_is_full_stays_and_its_pool_is_not_dry(pair: Ground) -> None:
    pair.submit("first", priority=9)
    pair.submit("mine", target="p1")
    pair.submit("last")
    offers = (Candidate("p1", 0, 1), Candidate("p2", 1, 2, turn=5))
    answer = pair.do(claims.claim, Claim("s1", [want(*offers)]))
    assert {one.row.id: one.row.provider for one in answer.claimed} == {"first": "p1", "last": "p2"}
    assert answer.dry == ["work@p2"]
    assert pair.state("mine") == "ready"


def test_a_slice_bounds_the_claim_of_several(pair: Ground) -> None:
    for number in range(6):
        pair.submit(f"t{number}", priority=number)
    assert list(given(pair, want(Candidate("p1", 0, 4), Candidate("p2", 0, 4), slots=3))) == ["t5", "t4", "t3"]


def test_a_strategy_is_a_function_of_the_candidates(pair: Ground) -> None:
    def last(candidates: Sequence[Candidate]) -> Candidate:
        return max(candidates)

    for number in range(3):
        pair.submit(f"t{number}")
    asked = want(Candidate("p1", 0, 4), Candidate("p2", 0, 4))._replace(strategy=last)
    assert Counter(given(pair, asked).values()) == {"p2": 3}


def test_what_is_asked_for_by_name_goes_to_the_least_busy_that_serves_it(pair: Ground) -> None:
    for number in range(3):
        pair.submit(f"t{number}")
    pair.submit("mine", target="p1")
    serves = Serves("work", (Candidate("p1", 5, 5), Candidate("p2", 4, 5)))
    answer = pair.do(claims.claim, Claim("s1", [], ("t0", "t1", "t2", "mine"), [serves]))
    assert [(one.row.id, one.row.provider) for one in answer.claimed] == [
        ("t0", "p2"), ("t1", "p1"), ("t2", "p2"), ("mine", "p1"),
    ]  # fmt: skip


# what the dispatcher asks for


def _providers(*slots: tuple[str, int, int]) -> Providers:
    providers = Providers("work")
    for name, active, limit in slots:
        slot = Slot(name, "work", limit, lambda claimed: None)
        slot.active = active
        providers.slots.append(slot)
    return providers


def test_a_want_offers_the_free_slots_and_leaves_out_the_pools_of_the_full() -> None:
    providers = _providers(("p1", 2, 2), ("p2", 1, 4), ("p3", 0, 2))
    hot = {"work", "work@p1", "work@p3"}
    wanted = providers.want(hot, 256)
    assert wanted is not None
    assert wanted.pools == ("work", "work@p3")
    assert [offer.provider for offer in wanted.offers] == ["p2", "p3"]
    assert wanted.slots == 5
    smaller = providers.want(hot, 4)
    assert smaller is not None
    assert smaller.slots == 4


@pytest.mark.parametrize("hot", [set(), {"work@p1"}, {"other"}])
def test_nothing_is_wanted_of_cold_pools_or_for_the_full(hot: set[str]) -> None:
    assert _providers(("p1", 2, 2), ("p2", 0, 2)).want(hot, 256) is None
    assert _providers(("p1", 2, 2)).want({"work", addressed("work", "p1")}, 256) is None
