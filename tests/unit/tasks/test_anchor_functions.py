import pytest

from keepshot.tasks.anchor_functions import ANCHOR_TRANSFORMATIONS, anchor_predicates
from keepshot.tasks.own_inputs import OWN_PREDICATES, OWN_TRANSFORMATIONS
from keepshot.tasks.text_functions import input_kind

INPUTS = {
    "characters": ["kite", " Moor", "a", "Straße", "two words", "x-y"],
    "words": ["what is it", "one", "  a  b\nc ", "Ä ö, ü!"],
    "digits": ["0", "007", " 42", "9" * 40, "1 2", "10"],
    "numbers": ["1 2", "3", "10 20 30", " 5\n5 "],
}


@pytest.mark.parametrize("kind", INPUTS)
def test_every_function_of_a_kind_takes_every_input_of_it(kind):
    inputs = INPUTS[kind]
    assert input_kind(inputs) == kind
    for text in inputs:
        for function in (*ANCHOR_TRANSFORMATIONS[kind], *OWN_TRANSFORMATIONS[kind]):
            answer = function.apply(text)
            assert answer == answer.strip() != "", function.name
        predicates = (*OWN_PREDICATES[kind], *(f for group in anchor_predicates(kind, inputs) for f in group))
        assert {type(function.apply(text)) for function in predicates} == {bool}


@pytest.mark.parametrize("kind", INPUTS)
def test_names_are_unique_and_the_tables_have_none_in_common(kind):
    anchors = [function.name for function in ANCHOR_TRANSFORMATIONS[kind]]
    predicates = [function.name for group in anchor_predicates(kind, INPUTS[kind]) for function in group]
    own = [function.name for function in (*OWN_TRANSFORMATIONS[kind], *OWN_PREDICATES[kind])]
    names = [*anchors, *predicates, *own]
    assert len(set(names)) == len(names)


def test_predicates_read_their_own_constants():
    groups = anchor_predicates("characters", ["ba", "bab", "baba", "ababa", "bababo"])
    holds = {function.name: function.apply for group in groups for function in group}
    assert (holds["contains a"]("BAT"), holds["contains b"]("kit")) == (True, False)
    assert (holds["even number of a"]("banana"), holds["even number of b"]("banana")) == (False, False)
    assert [holds["longer than 4"](text) for text in ("four", "fiver")] == [False, True]
    assert [holds["even length"](text) for text in (" four ", "fiver")] == [True, False]
    assert [holds["second last before m"](text) for text in ("kale", "kane")] == [True, False]


def test_medians_and_sums_of_numbers():
    inputs = ["1 9", "2 6", "3 3"]
    holds = {function.name: function.apply for group in anchor_predicates("numbers", inputs) for function in group}
    assert [holds["spread above 4"](text) for text in inputs] == [True, False, False]
    assert [holds["sum above 8"](text) for text in inputs] == [True, False, False]
    assert [holds["last divisible by 3"](text) for text in ("3 1", "1 3")] == [False, True]
    assert [f.apply("007") for f in ANCHOR_TRANSFORMATIONS["digits"] if f.name == "next-number"] == ["008"]
