from collections import Counter
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from keepshot.errors import DataError
from keepshot.tasks.builtin import builtin_target
from keepshot.tasks.example import Example, Task
from keepshot.tasks.own_inputs import own_input_tasks

WORDS = builtin_target("word-rule").test
FIRST_NAMES = ["John", "Mary", "Anna", "Otto", "Peter", "Irene", "Olga", "Max", "Eve", "Sam"]
LAST_NAMES = ["Smith", "Jones", "Adams", "Olsen", "Evans", "Brown", "Iverson", "Clark"]


def examples(inputs: list[str], output: str = "z") -> list[Example]:
    return [Example(text, output) for text in inputs]


def sentences() -> list[str]:
    random = Random(0)
    words = ["the", "a", "big", "small", "cat", "dog", "eats", "apple", "runs", "away", "over", "under", "old", "house"]
    return [" ".join(random.choice(words) for _ in range(random.randint(4, 9))) for _ in range(200)]


def by_name(tasks: tuple[Task, ...]) -> dict[str, dict[str, str]]:
    return {task.name.removeprefix("own/"): {e.input: e.output for e in task.examples} for task in tasks}


def test_words_are_asked_about_their_characters() -> None:
    tasks = by_name(own_input_tasks(WORDS, seed=0))
    assert list(tasks) == ["drop-first", "second", "swap-ends", "vowels", "starts-with-vowel", "first-before-last"]
    for text in tasks["second"]:
        assert tasks["drop-first"][text] == text[1:]
        assert tasks["second"][text] == text[1]
        assert tasks["swap-ends"][text] == text[-1] + text[1:-1] + text[0]
        assert tasks["vowels"][text] == "".join(letter for letter in text if letter in "aeiou")
    yes = {text for text in tasks["starts-with-vowel"] if text[0] in "aeiou"}
    assert len({tasks["starts-with-vowel"][text] for text in yes}) == 1
    assert {tasks["starts-with-vowel"][text] for text in yes}.isdisjoint(
        tasks["starts-with-vowel"][text] for text in tasks["starts-with-vowel"] if text not in yes
    )


def test_texts_are_asked_about_their_words() -> None:
    tasks = by_name(own_input_tasks(examples(sentences()), seed=0))
    assert list(tasks)[:3] == ["second-word", "last-then-first-word", "longest-word"]
    for text, answer in tasks["last-then-first-word"].items():
        assert answer == f"{text.split()[-1]} {text.split()[0]}"


def test_numbers_are_asked_about_their_values() -> None:
    tasks = by_name(own_input_tasks(builtin_target("number-sum").test, seed=0))
    assert {"largest", "smallest", "first-below-last"} <= set(tasks)
    assert all(int(answer) == max(map(int, text.split())) for text, answer in tasks["largest"].items())


@pytest.mark.parametrize(
    "inputs",
    [
        [example.input for example in WORDS],
        sentences(),
        [f"{first} {last}" for first in FIRST_NAMES for last in LAST_NAMES],
        [str(number) for number in range(100)],
        [f"{number:06b}" for number in range(64)],
        [f"{left} {right}" for left in range(0, 100, 7) for right in range(0, 100, 9)],
    ],
    ids=["words", "sentences", "names", "numbers", "bits", "pairs"],
)
def test_six_tasks_that_tell_inputs_apart(inputs: list[str]) -> None:
    tasks = own_input_tasks(examples(inputs), seed=0)
    assert len(tasks) == 6
    for task in tasks:
        assert task.group == "own-input"
        assert task.scoring == "exact_match"
        assert Counter(e.output for e in task.examples).most_common(1)[0][1] <= 0.85 * len(task.examples)
        few = 5 * len({e.output for e in task.examples}) <= len(task.examples)
        assert set(task.labels) == ({e.output for e in task.examples} if few else set())
    assert [len(task.labels) for task in tasks[4:]] == [2, 2]
    assert len({tuple(e.output for e in task.examples) for task in tasks}) == 6


def test_a_transformation_of_few_answers_can_be_guessed() -> None:
    bits = {task.name: task for task in own_input_tasks(examples([f"{number:06b}" for number in range(64)]), seed=0)}
    second = bits["own/second"]
    assert set(second.labels) == {"0", "1"}
    assert second.chance >= 0.5
    assert bits["own/drop-first"].chance == 0.0


def test_no_task_is_what_an_anchor_asks_for() -> None:
    names = [f"{first} {last}" for first in FIRST_NAMES for last in LAST_NAMES]
    for task in own_input_tasks(examples(names), seed=0):
        pairs = [(e.input.split(), e.output) for e in task.examples]
        assert sum(answer in words for words, answer in pairs) <= 0.6 * len(pairs)
    for task in own_input_tasks(examples([str(number) for number in range(10, 99)]), seed=0):
        same = sum(e.output in (e.input[::-1], e.input[0], e.input[1]) for e in task.examples)
        assert max(sum(e.output == e.input[place] for e in task.examples) for place in (0, 1)) <= 0.6 * len(
            task.examples
        ), (task.name, same)


def test_a_lopsided_predicate_makes_way() -> None:
    inputs = [example.input for example in WORDS if example.input[0] not in "aeiou"]
    names = [task.name for task in own_input_tasks(examples(inputs), seed=0)]
    assert names[4:] == ["own/first-before-last", "own/ends-with-vowel"]


def test_a_predicate_and_its_opposite_are_not_both_taken() -> None:
    inputs = [f"{left} {right}" for left in range(0, 100, 7) for right in range(1, 100, 9)]
    names = {task.name for task in own_input_tasks(examples(inputs), seed=0)}
    assert "own/first-below-last" in names
    assert "own/second-below-first" not in names


def test_the_seed_and_the_task_key_the_labels() -> None:
    first, again, other = (own_input_tasks(WORDS, seed) for seed in (0, 0, 1))
    assert first == again
    assert first[4].labels != other[4].labels
    assert first[4].labels != first[5].labels
    assert [e.input for e in first[0].examples] != [e.input for e in other[0].examples]


def test_labels_are_no_answers_of_the_target() -> None:
    drawn = own_input_tasks(WORDS, seed=0)[4].labels
    taken = [*WORDS, Example("zzz", drawn[0].upper()), Example("zzy", "x", aliases=(drawn[1],))]
    labels = {label for task in own_input_tasks(taken, seed=0) for label in task.labels}
    assert not labels & set(drawn)


def test_at_most_four_hundred_distinct_inputs() -> None:
    target = builtin_target("word-rule")
    tasks = own_input_tasks((*target.train, *target.train), seed=0)
    assert all(len({e.input for e in task.examples}) == len(task.examples) == 400 for task in tasks)
    assert len({tuple(e.input for e in task.examples) for task in tasks}) == 1


def test_too_few_inputs() -> None:
    with pytest.raises(DataError, match=r"39 different inputs.*at least 40.*add"):
        own_input_tasks(examples([f"w{number}" for number in range(39)] * 3), seed=0)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.text(min_size=0, max_size=12), min_size=45, max_size=60, unique=True))
def test_any_text_gets_answers_that_can_be_scored(inputs: list[str]) -> None:
    for task in own_input_tasks([*examples(inputs), *examples([f"word{number}" for number in range(40)])], seed=0):
        assert all(example.output == example.output.strip() != "" for example in task.examples)
