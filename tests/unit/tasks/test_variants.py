import inspect
from collections import Counter
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from keepshot.episodes import demonstration_set
from keepshot.errors import ConfigError, DataError
from keepshot.tasks.builtin import builtin_suite
from keepshot.tasks.example import Example, Suite, Task
from keepshot.tasks.read import as_task
from keepshot.tasks.split import input_key
from keepshot.tasks.variants import LABEL_VARIANTS, relabelled, relabelled_suite

MOODS = ("angry", "calm", "glad", "sad")
CHANGED = ("flipped", "random", "symbols")


def mood(count=60, name="mood", pool=0, options=MOODS):
    def examples(kind, number):
        return tuple(
            Example(f"{kind} no bad {i}", MOODS[i % 7 % 4], "Which mood?", options=options) for i in range(number)
        )

    return Task(name, examples("text", count), examples("pool", pool), scoring="options", labels=MOODS)


OPEN = Task("sum", (Example("1+1", "2"), Example("1+2", "3")))
CHOICE = as_task("choice", [Example(f"q{i}", f"right {i}", options=(f"wrong {i}", f"right {i}")) for i in range(9)])


def maps(before, after):
    """Which outputs stand for which."""
    pairs = zip((*before.examples, *before.pool), (*after.examples, *after.pool), strict=True)
    return {(one.output, other.output) for one, other in pairs}


@pytest.mark.parametrize("task", [mood(), OPEN, CHOICE])
def test_true_labels_are_the_task_itself(task):
    assert relabelled(task, "true", 0) is task


@given(st.integers(2, 9), st.integers(0, 50), st.booleans())
def test_flipped_labels_are_a_permutation_that_leaves_no_label_alone(count, seed, with_pool):
    labels = tuple(f"label {i}" for i in range(count))
    examples = tuple(Example(str(i), labels[i % count]) for i in range(40))
    task = Task("t", examples, pool=examples[:20] if with_pool else (), labels=labels)
    flipped = relabelled(task, "flipped", seed)
    pairs = maps(task, flipped)
    assert len(pairs) == count
    assert {other for _, other in pairs} == set(labels)
    assert all(one != other for one, other in pairs)
    assert set(flipped.labels) == set(labels)
    assert len(flipped.pool) == len(task.pool)


@pytest.mark.parametrize("labels", CHANGED)
@pytest.mark.parametrize("pool", [0, 30])
def test_only_the_answers_change(labels, pool):
    task = mood(pool=pool)
    changed = relabelled(task, labels, 0)
    assert changed.name == f"mood [{labels}]"
    assert changed.chance == task.chance > 1 / 4
    assert replace(changed, name="mood", drawn_as="", examples=(), pool=(), labels=()) == replace(
        task, examples=(), pool=(), labels=()
    )
    pairs = list(zip(task.examples, changed.examples, strict=True))
    if changed.pool:
        pairs += zip(task.pool or task.examples, changed.pool, strict=True)
    for one, other in pairs:
        assert (one.input, one.instruction, len(one.options)) == (other.input, other.instruction, len(other.options))
        assert other.output in other.options
        # The n-th option still stands for the same mood; with random labels only the answer shown is new.
        assert labels == "random" or one.options.index(one.output) == other.options.index(other.output)
    assert all(example.output in changed.labels for example in (*changed.examples, *changed.pool))


@pytest.mark.parametrize("labels", CHANGED)
def test_variants_are_asked_about_the_same_inputs(labels):
    task = mood()
    for index in range(2):
        one, other = (
            demonstration_set(one, index, sets=2, shots=16, queries=20, seed=0)
            for one in (task, relabelled(relabelled(task, "symbols", 3), labels, 0))
        )
        assert [e.input for e in one.demonstrations] == [e.input for e in other.demonstrations]
        assert [e.input for e in one.queries] == [e.input for e in other.queries]


def test_random_labels_are_the_demonstrations_only_and_as_good_as_a_guess():
    task = mood(600)
    random = relabelled(task, "random", 0)
    assert (random.examples, random.labels) == (task.examples, task.labels)
    drawn = Counter(example.output for example in random.pool)
    assert all(110 < drawn[label] < 190 for label in MOODS)  # 150 expected, spread 10.6
    true = sum(one.output == other.output for one, other in zip(task.examples, random.pool, strict=True))
    assert 110 < true < 190


def test_random_labels_depend_on_input_task_and_seed_only():
    task = mood(200, options=())
    label = {example.input: example.output for example in relabelled(task, "random", 0).pool}
    reverse = replace(task, examples=task.examples[::-1], labels=MOODS[::-1])
    assert {example.input: example.output for example in relabelled(reverse, "random", 0).pool} == label
    again = replace(task, examples=tuple(replace(e, input=e.input.upper()) for e in task.examples))
    assert [example.output for example in relabelled(again, "random", 0).pool] == list(label.values())
    for other in (relabelled(task, "random", 1), relabelled(replace(task, name="other"), "random", 0)):
        assert 20 < sum(label[example.input] == example.output for example in other.pool) < 80  # 50 expected


def test_a_query_never_stands_among_its_randomly_labelled_demonstrations():
    random = relabelled(mood(40), "random", 0)
    for index in range(4):
        drawn = demonstration_set(random, index, sets=4, shots=16, queries=10, seed=0)
        assert len(drawn.demonstrations) == 16
        asked = {input_key(query) for query in drawn.queries}
        assert asked.isdisjoint(input_key(example) for example in drawn.demonstrations)
        assert set(drawn.queries) <= set(random.examples)
        assert set(drawn.demonstrations) <= set(random.pool)


@given(st.integers(0, 200))
def test_symbols_are_distinct_and_no_words_of_the_task(seed):
    task = mood(pool=30)
    changed = relabelled(task, "symbols", seed)
    pairs = maps(task, changed)
    assert len(pairs) == len({other for _, other in pairs}) == len({other.casefold() for _, other in pairs}) == 4
    assert set(changed.labels) == {other for _, other in pairs}
    words = {"text", "pool", "no", "bad", "which", "mood", *MOODS, *map(str, range(60))}
    assert not words & {label.casefold() for label in changed.labels}


def test_symbols_of_many_labels_are_distinct_too():
    labels = tuple(f"label {i}" for i in range(150))
    task = Task("t", tuple(Example(f"input {i}", labels[i % 150]) for i in range(300)), labels=labels)
    symbols = relabelled(task, "symbols", 0).labels
    assert len({symbol.casefold() for symbol in symbols}) == 150


def test_symbols_stand_for_options_that_are_never_right_too():
    task = mood(options=(*MOODS, "mad"))
    symbols = relabelled(task, "symbols", 0)
    assert all(len(set(example.options)) == 5 and "mad" not in example.options for example in symbols.examples)
    assert len({example.options for example in symbols.examples}) == 1
    flipped = relabelled(task, "flipped", 0)
    assert all(set(example.options) == {*MOODS, "mad"} and example.options[4] == "mad" for example in flipped.examples)


def test_options_of_a_question_s_own_hold_its_random_label():
    examples = tuple(Example(f"q{i}", MOODS[i % 4], options=(MOODS[i % 4], MOODS[(i + 1) % 4])) for i in range(80))
    task = as_task("own options", examples)
    assert set(task.labels) == set(MOODS)
    drawn = relabelled(task, "random", 0).pool
    assert all(example.output in example.options for example in drawn)
    assert 20 < sum(one == other for one, other in zip(drawn, examples, strict=True)) < 60


def test_aliases_follow_the_label_or_fall_away():
    examples = tuple(Example(f"q{i}", MOODS[i % 2], aliases=(MOODS[2], f"very {MOODS[i % 2]}")) for i in range(10))
    task = Task("t", examples, labels=MOODS[:3])
    for labels in ("flipped", "symbols"):
        changed = relabelled(task, labels, 0)
        assert {example.aliases for example in changed.examples} == {(changed.labels[2],)}
    random = relabelled(task, "random", 0)
    assert random.examples == examples
    assert {example.aliases for example in random.pool} == {()}


def test_what_is_written_is_compared_to_the_letter_where_labels_are_symbols():
    stars = Task(
        "stars",
        tuple(Example(f"text {i}", str(i % 5)) for i in range(50)),
        scoring="generate",
        metric="numeric",
        labels=tuple("01234"),
    )
    assert {labels: relabelled(stars, labels, 0).metric for labels in LABEL_VARIANTS} == {
        "true": "numeric",
        "flipped": "numeric",
        "random": "numeric",
        "symbols": "",
    }
    assert relabelled(replace(mood(), metric="per_byte"), "symbols", 0).metric == "per_byte"


@pytest.mark.parametrize("labels", CHANGED)
def test_new_labels_are_keyed_by_task_and_seed_and_not_by_order(labels):
    task = mood(pool=40)
    reverse = replace(task, examples=task.examples[::-1], labels=MOODS[::-1])
    for seed in range(8):
        changed, turned = relabelled(task, labels, seed), relabelled(reverse, labels, seed)
        assert changed == relabelled(task, labels, seed)
        assert (turned.examples[::-1], turned.pool) == (changed.examples, changed.pool)
    others = [relabelled(task, labels, seed).pool for seed in range(8)]
    others += [relabelled(replace(task, name=name), labels, 0).pool for name in "abcdefgh"]
    assert len(set(others)) > 4


@pytest.mark.parametrize(
    "task",
    [
        OPEN,
        CHOICE,
        Task("one", (Example("x", "glad"), Example("y", "glad")), labels=("glad",)),
        replace(mood(), labels=MOODS[:3]),
        replace(mood(pool=20), labels=MOODS[:3], examples=mood(3).examples),
    ],
    ids=["open", "own options", "one label", "an answer that is no label", "one in the pool"],
)
@pytest.mark.parametrize("labels", CHANGED)
def test_a_task_without_a_finite_set_of_labels_cannot_have_others(task, labels):
    with pytest.raises(DataError, match=f"task '{task.name}' has no finite set of labels.*{labels} labels; leave it"):
        relabelled(task, labels, 0)


def test_unknown_labels_are_an_error():
    with pytest.raises(ConfigError, match="no 'wrong' labels; choose true, flipped, random, symbols"):
        inspect.unwrap(relabelled)(mood(), "wrong", 0)  # Outside tests no type checker stands before it.


@pytest.mark.parametrize("labels", CHANGED)
def test_a_suite_keeps_its_classification_tasks_and_says_which_it_left_out(labels):
    suite, left_out = relabelled_suite(builtin_suite(), labels, 0)
    assert suite.name == f"mini [{labels}]"
    assert len(suite.tasks) == 9
    assert len(left_out) == 11
    assert left_out[0] == "sort-upper-append"
    assert suite.tasks[0].name == f"last-digit [{labels}]"
    names = [task.name for task in builtin_suite().tasks]
    assert {*left_out, *(task.name.removesuffix(f" [{labels}]") for task in suite.tasks)} == set(names)


def test_a_suite_of_true_labels_stays_whole_and_one_without_labels_is_an_error():
    assert relabelled_suite(builtin_suite(), "true", 0) == (builtin_suite(), ())
    with pytest.raises(DataError, match="no task of suite 's' has a finite set of labels, which symbols labels need"):
        relabelled_suite(Suite("s", (OPEN, CHOICE)), "symbols", 0)
