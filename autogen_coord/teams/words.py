"""Word search: how well texts fit a question, by the words that they share."""

from __future__ import annotations

import math
import re
import unicodedata
from collections import Counter
from collections.abc import Sequence

SATURATION = 1.2
LENGTH = 0.75
_WORD = re.compile(r"\w+")


def words(text: str) -> list[str]:
    """The words of a text, in their order, without regard to case and to how its characters are written."""
    return _WORD.findall(unicodedata.normalize("NFKC", text).casefold())


def scores(question: str, texts: Sequence[str]) -> list[float]:
    """How well each text fits: Okapi BM25 over these texts. 0 where no word is shared; greater is better.

    A word counts the more the fewer texts have it, less each further time in one text, and less in long texts. Words are whole
    words: "moons" is not "moon".

    Source: Robertson and Zaragoza, The Probabilistic Relevance Framework: BM25 and Beyond (2009), k1 = 1.2, b = 0.75; the weight of
    a word as in Lucene, ln(1 + (N - n + 0.5) / (n + 0.5)), which is never negative.
    """
    counts = [Counter(words(text)) for text in texts]
    lengths = [count.total() for count in counts]
    mean = sum(lengths) / len(lengths) if any(lengths) else 1.0
    found = [0.0] * len(texts)
    for word in dict.fromkeys(words(question)):
        having = [place for place, count in enumerate(counts) if word in count]
        weight = math.log(1 + (len(texts) - len(having) + 0.5) / (len(having) + 0.5))
        for place in having:
            often = counts[place][word]
            damped = often + SATURATION * (1 - LENGTH + LENGTH * lengths[place] / mean)
            found[place] += weight * often * (SATURATION + 1) / damped
    return found
