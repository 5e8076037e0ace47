"""Suites to choose by ask nothing that is reported on, whatever it is called there."""

import pytest

from keepshot.errors import ConfigError
from keepshot.keys import generator
from keepshot.tasks.builtin import builtin_suite, builtin_target
from keepshot.tasks.example import Example, Suite, Task
from keepshot.tasks.own_inputs import own_input_tasks
from keepshot.tasks.read import as_task
from keepshot.tasks.universe import VOWELS, word
from keepshot.tasks.validation import halves, other_own_input_tasks, universe_suite

WORDS = tuple(dict.fromkeys(word(generator("test", i), 4, 7) for i in range(300)))
TARGET = tuple(Example(text, "ja" if "a" in text else "nein") for text in WORDS)


def renamed(task: Task) -> Task:
    """The task under another name and, where it has labels, other labels."""
    labels = {label: f"label {i}" for i, label in enumerate(task.labels)}
    examples = [Example(e.input, labels.get(e.output, e.output)) for e in task.examples]
    return as_task("another", examples)


def test_the_universe_gives_the_same_tasks_each_time() -> None:
    first, again = universe_suite([]), universe_suite([])
    assert first == again
    assert len({task.name for task in first.tasks}) == 8
    for task in first.tasks:
        assert len({example.input for example in task.examples}) == len(task.examples) >= 80
        assert not task.name.startswith("lookup")


def test_what_is_reported_makes_way_under_whatever_name_and_labels() -> None:
    before = universe_suite([])
    kinds = {bool(task.labels) for task in before.tasks}
    assert kinds == {True, False}
    for task in before.tasks:
        after = universe_suite([renamed(task)])
        assert task.name not in {other.name for other in after.tasks}
        assert len(after.tasks) == 8
        kept = [other for other in before.tasks if other.name in {o.name for o in after.tasks}]
        assert len(kept) >= 5


def test_tasks_of_the_bundled_suite_do_not_drive_unlike_tasks_away() -> None:
    found = universe_suite(builtin_suite().tasks)
    assert {task.name.partition("/")[0] for task in found.tasks} >= {"strings", "classify", "numbers"}


@pytest.mark.parametrize("name", ["word-rule", "number-sum"])
def test_no_target_is_chosen_by(name: str) -> None:
    target = builtin_target(name)
    reported = (*builtin_suite().tasks, as_task(name, target.test))
    answers = {(e.input, e.output) for task in reported for e in task.examples}
    for task in universe_suite(reported).tasks:
        assert sum((e.input, e.output) in answers for e in task.examples) < len(task.examples) / 4


def test_halves_are_keyed_and_make_up_the_whole() -> None:
    suite = Suite("s", tuple(Task(str(i), (Example("a", "b"),)) for i in range(9)))
    drawn = set()
    for seed in range(20):
        chosen_by, reported = halves(suite, seed)
        assert (len(chosen_by.tasks), len(reported.tasks)) == (4, 5)
        assert {*chosen_by.tasks, *reported.tasks} == set(suite.tasks)
        assert halves(suite, seed) == (chosen_by, reported)
        drawn.add(tuple(task.name for task in chosen_by.tasks))
    assert len(drawn) > 10


def test_one_task_cannot_be_halved() -> None:
    with pytest.raises(ConfigError, match="suite s has 1 task"):
        halves(Suite("s", (Task("t", ()),)), 0)


@pytest.mark.parametrize(
    "inputs", [WORDS, [str(i) for i in range(10, 99)], [f"{a} {b}" for a, b in zip(WORDS, WORDS[3:], strict=False)]]
)
def test_own_inputs_are_asked_about_otherwise_than_in_the_report(inputs: list[str]) -> None:
    examples = tuple(Example(text, "x") for text in inputs)
    reported = own_input_tasks(examples, 0)
    found = other_own_input_tasks(examples, reported, 0)
    assert len(found) >= 3
    assert not {task.name for task in found} & {task.name for task in reported}
    for task in found:
        assert task.group == "own-input"
        assert tuple(example.input for example in task.examples) == tuple(inputs)
        for other in reported:
            known = {e.input: e.output for e in other.examples}
            agreement = sum(known[e.input] == e.output for e in task.examples) / len(task.examples)
            assert agreement <= 0.6


def test_an_own_function_that_the_suite_asks_is_passed_over() -> None:
    ends = as_task("of the suite", [Example(t, "Kab" if t[-1] in VOWELS else "31") for t in reversed(WORDS)])
    found = [task.name for task in other_own_input_tasks(TARGET, own_input_tasks(TARGET, 0), 0)]
    assert "own/ends-with-vowel" in found
    again = other_own_input_tasks(TARGET, (*own_input_tasks(TARGET, 0), ends), 0)
    assert "own/ends-with-vowel" not in {task.name for task in again}


def test_label_words_are_no_answers_of_the_target() -> None:
    reserved = {
        label for task in other_own_input_tasks(TARGET, (), 0) for label in task.labels if len(task.labels) == 2
    }
    assert reserved
    taken = tuple(Example(text, "x", aliases=tuple(label.upper() for label in reserved)) for text in WORDS)
    again = {label for task in other_own_input_tasks(taken, (), 0) for label in task.labels if len(task.labels) == 2}
    assert again
    assert not again & reserved


def test_few_inputs_are_not_asked_about() -> None:
    assert other_own_input_tasks(TARGET[:39], (), 0) == ()
    assert other_own_input_tasks(TARGET[:40], (), 0)


def test_a_task_that_asks_for_some_of_the_same_intents_makes_way() -> None:
    reported = builtin_suite().tasks
    asked = {example.input for task in reported if task.family == "utterances" for example in task.examples}
    found = [task for task in universe_suite(reported).tasks if task.family == "utterances"]
    assert found
    for task in found:
        assert sum(example.input in asked for example in task.examples) < 0.05 * len(task.examples), task.name
    assert any(
        sum(example.input in asked for example in task.examples) > 0.1 * len(task.examples)
        for task in universe_suite([]).tasks
    ), "without the suite one of them would be there"
