"""Neighbours are sorted, never the example itself nor its duplicates, and the same for a pool of any size."""

import numpy as np
import pytest

from keepshot.episodes import Bm25, Neighbours
from keepshot.errors import DataError
from keepshot.keys import generator
from keepshot.tasks.example import Example

TEXTS = [
    "book a table for two people",
    "book a table for six people",
    "Book a table for two people!",
    "play some quiet music in here",
    "book a table for two  people",
]


def pool(texts: list[str]) -> list[Example]:
    return [Example(text, "x") for text in texts]


def test_duplicates_are_no_neighbours() -> None:
    near = Neighbours(pool(TEXTS), Bm25(TEXTS), duplicate=10.0)
    assert [row for row, _ in near.of(0)] == [2, 1]  # another mark is another text, other blanks are not
    assert [row for row, _ in Neighbours(pool(TEXTS), Bm25(TEXTS), duplicate=0.9).of(0)] == [1]
    assert [row for row, _ in near.to("book a table for two people")] == [2, 1]
    assert near.of(3) == ()


def test_of_many_the_nearest_come_first() -> None:
    random = generator("test", "neighbours")
    texts = [" ".join(random.choices("abcdefghijklmnop", k=6)) for _ in range(3_000)]
    measure = Bm25(texts, "words")
    near = Neighbours(pool(texts), measure, depth=20)
    for row in (0, 17, 2_999):
        found = measure.to(texts[row])
        allowed = [
            other
            for other in np.argsort(-found, kind="stable")
            if other != row and found[other] < 0.98 and texts[other] != texts[row]
        ]
        assert [other for other, _ in near.of(row)] == allowed[:20]
        assert near.between(row, [5, row]) == [pytest.approx(found[5]), pytest.approx(1)]


def test_where_most_are_duplicates_the_search_goes_on() -> None:
    texts = ["the same words again here"] * 500 + ["the same words again there", "something else"]
    near = Neighbours(pool(texts), Bm25(texts), duplicate=2.0)
    assert [row for row, _ in near.of(0)] == [500]


def test_a_measure_of_another_pool() -> None:
    with pytest.raises(DataError, match="over 5 inputs; the pool has 4"):
        Neighbours(pool(TEXTS[:4]), Bm25(TEXTS))
