"""Word search: the score, and what is a word."""

from __future__ import annotations

import math

import pytest

from autogen_coord.teams.words import scores, words


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("Hello, World!", ["hello", "world"]),
        ("STRASSE straße", ["strasse", "strasse"]),
        ("ﬁle caf\u0065\u0301 café", ["file", "café", "café"]),
        ("潮汐 snake_case 12", ["潮汐", "snake_case", "12"]),
        ("?!", []),
        ("", []),
    ],
)
def test_words_are_compared_without_case_and_accents_as_they_are_meant(text: str, found: list[str]) -> None:
    assert words(text) == found


def test_the_score_is_bm25() -> None:
    """By hand: N = 2, n = 1, k1 = 1.2, b = 0.75; lengths 3 and 1, so the mean is 2."""
    weight = math.log(1 + (2 - 1 + 0.5) / (1 + 0.5))
    first = weight * 2 * 2.2 / (2 + 1.2 * (0.25 + 0.75 * 3 / 2))
    assert scores("moon", ["moon moon sea", "sun"]) == pytest.approx([first, 0.0])


def test_a_rare_word_counts_more_than_a_common_one_and_the_same_word_once() -> None:
    common, rare, both, _ = scores("the moon", ["the sea", "moon sea", "the moon", "the sun"])
    assert both > rare > common > 0
    assert scores("moon moon", ["moon"]) == scores("moon", ["moon"])


def test_nothing_fits_nothing() -> None:
    assert scores("moon", []) == []
    assert scores("", ["moon"]) == [0.0]
    assert scores("moon", ["", ""]) == [0.0, 0.0]
