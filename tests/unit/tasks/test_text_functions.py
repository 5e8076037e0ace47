from random import Random

import pytest

from keepshot.tasks.text_functions import guessable, input_kind, likeness, on_characters, same


def test_the_kind_is_what_most_inputs_are():
    assert input_kind(["a b", "c d", "e"]) == "words"
    assert input_kind(["a b", "c d", "e", "f"]) == "characters"
    assert input_kind(["1 2", "3 4", "5"]) == "numbers"
    assert input_kind(["1 2", "3", "5"]) == "digits"
    assert input_kind(["1", "2", "3.5"]) == "characters"


def test_likeness_leaves_chance_out():
    random = Random(0)
    rare, other = ([random.random() < 0.1 for _ in range(4000)] for _ in range(2))
    assert sum(a == b for a, b in zip(rare, other, strict=True)) > 0.8 * 4000
    assert likeness(rare, other) < 0.53
    half = [place % 2 == 0 for place in range(4000)]
    changed = [value != (place % 8 < 2) for place, value in enumerate(half)]
    assert likeness(half, changed) == likeness(half, [not value for value in changed]) == pytest.approx(0.75)
    assert (likeness(half, half), likeness(half, [True] * 4000)) == (1.0, 0.5)


def test_when_two_functions_are_one():
    texts = [str(place) for place in range(100)]
    for shared, one in ((60, False), (61, True)):
        assert same(texts, [*texts[:shared], *["-"] * (100 - shared)]) is one
    holds = [place % 2 == 0 for place in range(100)]
    for shared, one in ((85, False), (86, True), (15, False), (14, True)):
        assert same(holds, [value == (place < shared) for place, value in enumerate(holds)]) is one
    for common, all_but in ((85, False), (86, True)):
        assert guessable(["x"] * common + texts[common:]) is all_but


def test_where_nothing_would_be_left_the_answer_is_the_input():
    assert on_characters("none", lambda text: " ").apply(" a b ") == "a b"
