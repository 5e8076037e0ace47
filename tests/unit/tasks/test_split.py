import pytest
from hypothesis import given
from hypothesis import strategies as st

from keepshot.errors import ConfigError, DataError
from keepshot.tasks.example import Example, Turn
from keepshot.tasks.split import input_key, shared_inputs, split_validation


def examples_of(inputs):
    return [Example(text, f"output {index}") for index, text in enumerate(inputs)]


def test_input_key_tells_apart_what_a_model_would():
    same = [Example("A  b\n", "x"), Example("a B", "y", options=("y", "z"))]
    assert len({input_key(example) for example in same}) == 1
    different = [
        Example("a b", "x"),
        Example("ab", "x"),
        Example("b", "x", instruction="a"),
        Example("a b", "x", history=(Turn("user", "q"),)),
        Example("a b", "x", history=(Turn("system", "q"),)),
        Example("a b", "x", instruction="user", history=()),
    ]
    assert len({input_key(example) for example in different}) == len(different)


@given(st.lists(st.sampled_from("abcdefghij"), min_size=2, max_size=60), st.floats(0.01, 0.99), st.integers(1, 9))
def test_a_split_is_a_partition_that_keeps_equal_inputs_together(inputs, fraction, most):
    examples = examples_of(inputs)
    if len(set(inputs)) < 2:
        with pytest.raises(DataError, match="cannot be split"):
            split_validation(examples, fraction=fraction, most=most, seed=0)
        return
    train, validation = split_validation(examples, fraction=fraction, most=most, seed=0)
    assert train
    assert validation
    assert sorted([*train, *validation], key=examples.index) == examples
    assert not {example.input for example in train} & {example.input for example in validation}
    smallest = min(inputs.count(text) for text in inputs)
    assert len(validation) <= max(smallest, min(most, max(1, round(fraction * len(inputs)))))


def test_size_and_order():
    examples = examples_of(map(str, range(1000)))
    train, validation = split_validation(examples, seed=0)
    assert (len(train), len(validation)) == (900, 100)
    assert list(validation) == sorted(validation, key=examples.index)
    assert len(split_validation(examples, most=7, seed=0)[1]) == 7


def test_the_seed_decides_and_the_order_of_rows_does_not():
    examples = examples_of(map(str, range(200)))
    sides = [set(split_validation(rows, seed=seed)[1]) for rows, seed in ((examples, 0), (examples[::-1], 0))]
    assert sides[0] == sides[1]
    assert sides[0] != set(split_validation(examples, seed=1)[1])


@pytest.mark.parametrize("settings", [{"fraction": 0.0}, {"fraction": 1.0}, {"most": 0}])
def test_settings_that_split_nothing(settings):
    with pytest.raises(ConfigError):
        split_validation(examples_of("ab"), seed=0, **settings)


def test_shared_inputs_are_train_rows_in_order():
    train = [*examples_of(["One two", "three", "ONE  TWO"]), Example("three", "x", instruction="count")]
    assert shared_inputs(train, examples_of(["one two", "four"])) == (train[0], train[2])
    assert shared_inputs(train, [Example("three", "y", instruction="Count")]) == (train[3],)
