"""BM25 is the formula of its docstring, embeddings are cosines, and both survive a round trip to disk."""

import math
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from keepshot.episodes.similarity import K1, B, Bm25, characters, largest, normalised, unit_of, words
from keepshot.errors import DataError

POOL = ["book a table for two", "book a flight to rome", "play some music, now", "play music", "a a a book"]
TEXT = st.lists(st.sampled_from(["a", "b", "cc", "D", ","]), min_size=1, max_size=6).map(" ".join)


def by_definition(query: str, pool: list[str]) -> list[float]:
    """Okapi BM25 over distinct query words, divided by the query's score against itself, one document at a time."""
    counts = [Counter(words(text)) for text in pool]
    mean = sum(count.total() for count in counts) / len(pool)

    def idf(word: str) -> float:
        found = sum(word in count for count in counts)
        return math.log(1 + (len(pool) - found + 0.5) / (found + 0.5))

    def score(document: Counter[str]) -> float:
        norm = K1 * (1 - B + B * document.total() / mean)
        asked = set(words(query)) & set(document)
        return sum(idf(word) * document[word] * (K1 + 1) / (document[word] + norm) for word in asked)

    itself = score(Counter(words(query)))
    return [score(count) / itself if itself else 0.0 for count in counts]


@pytest.mark.parametrize("query", [*POOL, "a book", "music for two", "nothing here", "Book A TABLE for zwei"])
def test_bm25_is_its_formula(query: str) -> None:
    assert Bm25(POOL, "words").to(query) == pytest.approx(by_definition(query, POOL), abs=1e-6)


@given(pool=st.lists(TEXT, min_size=1, max_size=6), query=TEXT)
@settings(max_examples=60, deadline=None)
def test_bm25_is_its_formula_on_anything(pool: list[str], query: str) -> None:
    assert Bm25(pool, "words").to(query) == pytest.approx(by_definition(query, pool), abs=1e-5)


def test_an_equal_text_is_alike_and_another_is_not() -> None:
    found = Bm25(POOL).to("BOOK a table for two")
    assert found[0] == pytest.approx(1, abs=1e-6)
    assert found[2] == 0
    assert 0 < found[1] < found[0]


def test_single_words_are_compared_by_their_characters() -> None:
    pool = ["lemon", "demon", "lamps"]
    assert (unit_of(pool), unit_of(POOL)) == ("characters", "words")
    found = Bm25(pool).to("lemons")
    assert found[0] > found[1] > 0
    assert Bm25(pool, "words").to("lemons").tolist() == [0, 0, 0]
    assert characters("a") == ["^a$"]


@pytest.mark.parametrize("text", ["", " ", "\t"])
def test_a_text_without_words_is_like_nothing(text: str) -> None:
    assert Bm25(POOL).to(text).tolist() == [0.0] * 5
    assert Bm25([text, "a b c d e"], "words").to("a").tolist()[0] == 0


def test_round_trip(tmp_path: Path) -> None:
    before = Bm25(POOL)
    before.save(tmp_path)
    after = Bm25.load(tmp_path)
    assert (after.size, after.unit) == (5, "words")
    for query in (*POOL, "unseen words"):
        assert np.array_equal(after.to(query), before.to(query))


def test_equal_inputs() -> None:
    assert normalised("Book a  table!") == normalised("book a table !")
    assert normalised("book a table") != normalised("book the table")


def test_an_empty_pool() -> None:
    with pytest.raises(DataError, match="no inputs to retrieve from"):
        Bm25([])


@given(values=st.lists(st.integers(0, 4), min_size=1, max_size=12), count=st.integers(1, 14))
def test_the_largest_are_the_first_of_a_stable_order(values: list[int], count: int) -> None:
    places, found = largest(np.array(values, dtype=np.float64), count)
    assert places.tolist() == sorted(range(len(values)), key=lambda place: -values[place])[:count]
    assert found.tolist() == [values[place] for place in places]
