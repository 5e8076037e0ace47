"""The law of contexts: shares, hygiene, order of visits, and what a row that is too long loses first."""

from collections import Counter
from math import sqrt

import pytest

from keepshot.episodes import Bm25, Contexts, Neighbours, ZeroShot
from keepshot.episodes.contexts import Kind
from keepshot.errors import DataError
from keepshot.keys import generator
from keepshot.tasks.example import Example

PARAPHRASE = " please"


def examples(count: int = 200) -> list[Example]:
    """Sequences of eight words; each of the second half is one of the first with a word changed."""
    random = generator("test", "contexts")
    words = [f"w{i}" for i in range(60)]
    first = [random.choices(words, k=8) for _ in range(count // 2)]
    second = [[*text[:3], random.choice(words), *text[4:]] for text in first]
    return [Example(" ".join(text), " ".join(text).upper()) for text in (*first, *second)]


POOL = [*examples(), Example(examples()[0].input, "THE SAME INPUT")]
SAID = {row: (Example(one.input + PARAPHRASE, one.output + " PLEASE"),) for row, one in enumerate(POOL)}
NEAR = Neighbours(POOL, Bm25([one.input for one in POOL]))


def contexts(kind: Kind = "contrastive", **options: object) -> Contexts:
    return Contexts("target", POOL, NEAR, 0, kind, paraphrases=SAID, **options)  # type: ignore[arg-type]


def test_shares_of_grades() -> None:
    sampler = contexts()
    drawn = Counter(sampler.context(row, turn).grade for turn in range(20) for row in range(200))
    for grade, share in (("near", 0.45), ("paraphrase", 0.10), ("random", 0.45)):
        assert abs(drawn[grade] / 4_000 - share) < 3 * sqrt(share * (1 - share) / 4_000)


@pytest.mark.parametrize("kind", ["random", "similar", "contrastive", "across", "within"])
def test_nothing_gives_the_answer_away(kind: Kind) -> None:
    sampler = contexts(kind)
    for row in (0, 1, 100, 200):
        for turn in range(100):
            drawn = sampler.context(row, turn)
            rows = [other for other in drawn.rows if other is not None]
            assert len(drawn.examples) == len(drawn.rows) == 5
            assert len(set(rows)) == len(rows)
            assert row not in rows
            assert POOL[row].input not in [shown.input for shown in drawn.examples]


def test_the_similar_slot_stands_anywhere() -> None:
    sampler = contexts("within", shots=(5, 5))
    places = Counter(sampler.context(row, turn).chosen for turn in range(10) for row in range(200))
    expected = 2_000 / 5
    assert sum((count - expected) ** 2 / expected for count in places.values()) < 13.28  # 99 % of 4 degrees of freedom
    assert set(places) == {(place,) for place in range(5)}


def test_each_kind_shows_what_it_says() -> None:
    for row in range(20):
        nearest = [other for other, _ in NEAR.of(row)]
        assert contexts("random").context(row).grade == "random"
        similar = contexts("similar").context(row)
        assert sorted(similar.rows) == sorted(nearest[:5])  # type: ignore[type-var]
        assert [similar.rows[place] for place in similar.chosen] == nearest[:5]
        within = contexts("within").context(row)
        assert within.rows[within.chosen[0]] == nearest[0]
        assert len(within.chosen) == 1
        forced = contexts().context(row, grade="paraphrase")
        assert forced.examples[forced.chosen[0]].input == POOL[row].input + PARAPHRASE
        assert forced.rows[forced.chosen[0]] is None
    grades = Counter(len(contexts("across").context(row, turn).chosen) for row in range(100) for turn in range(4))
    assert set(grades) == {0, 5}
    assert 150 < grades[5] < 250
    third = {contexts("within", nearest=3).context(0, turn).rows for turn in range(40)}
    shown = {row for rows in third for row in rows} & {other for other, _ in NEAR.of(0)[:3]}
    assert len(shown) == 3


def test_without_probabilities_it_is_random() -> None:
    for row in range(50):
        drawn = contexts(near=0.0, paraphrase=0.0).context(row)
        assert (drawn.grade, drawn.chosen) == ("random", ())


def test_what_is_lacking_falls_back() -> None:
    bare = Contexts("target", POOL, NEAR, 0)
    assert bare.context(3, grade="paraphrase").grade == "near"
    lone = [*POOL, Example("nothing like it", "x")]
    apart = Contexts("target", lone, Neighbours(lone, Bm25([one.input for one in lone])), 0)
    assert apart.context(len(POOL), grade="paraphrase").grade == "random"


def test_draws_are_keyed_and_in_the_order_of_the_zero_shot_rows() -> None:
    sampler, again, zero_shot = contexts(), contexts(), ZeroShot("target", POOL, 0)
    backwards = {index: again.draw(index) for index in reversed(range(300))}
    for index in range(300):
        episode = sampler.draw(index)
        assert episode == backwards[index]
        assert episode.examples[-1] == zero_shot.draw(index).examples[-1]
        assert episode.scored == "last"
    seen = [sampler.context(5, turn).rows for turn in range(5)]
    assert len(set(seen)) == 5  # drawn anew at every visit
    assert contexts(shots=(2, 6)).size == len(POOL)
    assert {len(contexts(shots=(2, 6)).draw(index).examples) for index in range(60)} == {3, 4, 5, 6, 7}


def test_a_long_row_loses_chance_first() -> None:
    sampler = contexts("within")
    index = 7
    episode = sampler.draw(index)
    similar = POOL[NEAR.of(_row(episode))[0][0]]
    assert similar in episode.examples[:-1]
    for count in range(1, 5):
        left = episode.without_demonstrations(count)
        assert len(left.examples) == 6 - count
        assert similar in left.examples
        assert left.examples[-1] == episode.examples[-1]
        assert left == episode.without_demonstrations(1).without_demonstrations(count - 1)
    assert episode.without_demonstrations(5).examples == episode.examples[-1:]
    farthest = contexts("similar").draw(index)
    order = [NEAR.of(_row(farthest))[place][0] for place in range(5)]
    assert [POOL[row] for row in order[:2]] == sorted(
        farthest.without_demonstrations(3).examples[:-1], key=lambda shown: order.index(POOL.index(shown))
    )


def _row(episode: object) -> int:
    return POOL.index(episode.examples[-1])  # type: ignore[attr-defined]


def test_summary() -> None:
    found = contexts().summary(400)
    assert sum(found["grades"].values()) == pytest.approx(1)
    assert found["mean_similarity"]["chosen"] > 0.5 > 0.2 > found["mean_similarity"]["others"]
    assert contexts("random").summary(10)["mean_similarity"]["chosen"] is None


def test_what_cannot_be_drawn() -> None:
    with pytest.raises(DataError, match="at most 1 together"):
        contexts(near=0.7, paraphrase=0.4)
    few = POOL[:3]
    near = Neighbours(few, Bm25([one.input for one in few]))
    with pytest.raises(DataError, match="need 6 different inputs; there are 3"):
        Contexts("target", few, near, 0)
