from collections import Counter
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from keepshot.episodes import demonstration_set
from keepshot.errors import DataError
from keepshot.tasks.example import Example, Task
from keepshot.tasks.split import input_key


def task_of(count, name="t", pool=0):
    examples = tuple(Example(f"{name} {i}", str(i)) for i in range(count))
    return Task(name, examples, pool=tuple(Example(f"pool {i}", str(i)) for i in range(pool)))


def labelled_task(outputs, pool=()):
    examples = tuple(Example(f"input {i}", output) for i, output in enumerate(outputs))
    others = tuple(Example(f"pool {i}", output) for i, output in enumerate(pool))
    return Task("labelled", examples, pool=others, labels=tuple(sorted({*outputs, *pool})))


def draw(task, index=0, sets=1, shots=8, queries=20, seed=0, balanced=False):
    return demonstration_set(task, index, sets=sets, shots=shots, queries=queries, seed=seed, balanced=balanced)


@given(
    st.lists(st.sampled_from(["a b", "A  b", "c", "C ", "d", "e", "f", "g", "H", "h", "i"]), max_size=30),
    st.booleans(),
    st.integers(1, 5),
)
def test_no_input_comes_twice_in_a_set_and_no_query_in_two_whatever_case_and_white_space(inputs, with_pool, sets):
    examples = tuple(Example(text, str(i)) for i, text in enumerate(inputs))
    task = Task("t", examples, pool=examples if with_pool else ())
    distinct = len({input_key(example) for example in examples})
    if distinct < sets:
        with pytest.raises(DataError, match=f"'t' has {distinct} distinct inputs for {sets} demonstration sets"):
            draw(task, sets=sets)
        return
    drawn = [draw(task, index, sets) for index in range(sets)]
    for one in drawn:
        inputs = [input_key(example) for example in (*one.queries, *one.demonstrations)]
        assert len(set(inputs)) == len(inputs)
        assert set(one.queries) | set(one.demonstrations) <= set(examples)
    assert len({len(one.queries) for one in drawn}) == 1
    asked = [input_key(query) for one in drawn for query in one.queries]
    assert len(set(asked)) == len(asked) >= sets


def test_fewer_shots_are_the_first_of_more():
    task = task_of(100)
    longest = draw(task, shots=16)
    assert len(longest.demonstrations) == 16
    for shots in range(16):
        shorter = draw(task, shots=shots)
        assert shorter.demonstrations == longest.demonstrations[:shots]
        assert shorter.queries == longest.queries


def test_fewer_queries_are_the_first_of_more_and_leave_demonstrations_of_a_pool_alone():
    task = task_of(100, pool=40)
    more, fewer = (draw(task, index=1, sets=2, queries=queries) for queries in (40, 10))
    assert fewer.queries == more.queries[:10]
    assert fewer.demonstrations == more.demonstrations


def test_a_set_depends_on_task_index_and_seed_only():
    task = task_of(200)
    first = draw(task, 3, 6)
    draw(task_of(50, "other"), 0, 6)
    draw(task, 5, 6)
    assert draw(task, 3, 6) == first
    for other in (draw(task, 4, 6), draw(task, 3, 6, seed=1), draw(replace(task, name="u"), 3, 6)):
        assert len(set(other.demonstrations) & set(first.demonstrations)) < 4  # of 8; less than 1 by chance
        assert len(set(other.queries) & set(first.queries)) < 8  # of 20; 2 by chance
    assert (first.task, first.index) == ("t", 3)


def test_demonstrations_come_from_the_pool():
    drawn = draw(task_of(30, pool=30))
    assert all(example.input.startswith("pool") for example in drawn.demonstrations)
    assert all(example.input.startswith("t ") for example in drawn.queries)


def test_a_query_never_stands_in_the_pool_s_demonstrations():
    task = Task("t", task_of(10).examples, pool=tuple(Example(f"T  {i}", "leak") for i in range(30)))
    drawn = draw(task, shots=30, queries=10)
    assert {example.input for example in drawn.demonstrations} == {f"T  {i}" for i in range(10, 30)}


@pytest.mark.parametrize(
    ("distinct", "queries", "demonstrations"),
    [(100, 20, 8), (28, 20, 8), (27, 19, 8), (13, 5, 8), (12, 5, 7), (6, 5, 1), (5, 5, 0), (4, 4, 0)],
)
def test_a_small_task_gives_up_queries_first_and_then_demonstrations(distinct, queries, demonstrations):
    drawn = draw(task_of(distinct))
    assert (len(drawn.queries), len(drawn.demonstrations)) == (queries, demonstrations)


@pytest.mark.parametrize(
    ("distinct", "sets", "queries", "demonstrations"),
    [(320, 8, 20, 8), (60, 8, 7, 8), (30, 8, 3, 8), (8, 8, 1, 7), (16, 2, 8, 8), (14, 2, 6, 8), (12, 2, 5, 7)],
)
@pytest.mark.parametrize("index", [0, 1])
def test_sets_share_the_inputs_of_a_small_task_evenly(distinct, sets, queries, demonstrations, index):
    drawn = draw(task_of(distinct), index, sets)
    assert (len(drawn.queries), len(drawn.demonstrations)) == (queries, demonstrations)


@pytest.mark.parametrize(
    ("distinct", "pool", "queries", "demonstrations"), [(40, 3, 20, 3), (12, 9, 12, 8), (5, 8, 5, 8)]
)
def test_a_small_pool_gives_fewer_demonstrations_and_leaves_the_queries_alone(distinct, pool, queries, demonstrations):
    drawn = draw(task_of(distinct, pool=pool))
    assert (len(drawn.queries), len(drawn.demonstrations)) == (queries, demonstrations)


def test_fewer_inputs_than_sets_are_too_few():
    with pytest.raises(DataError, match=r"'t' has 7 distinct inputs for 8 .*fewer sets or more examples"):
        draw(task_of(7, pool=40), sets=8)


def test_draws_stay_as_they_are():  # or a curve could not be laid over one of another version
    task = replace(labelled_task("ab" * 20), name="golden")
    drawn = draw(task, 1, sets=4, shots=6, queries=6, seed=3)
    assert [example.input for example in drawn.demonstrations] == [f"input {i}" for i in (17, 10, 9, 34, 1, 31)]
    assert [example.input for example in drawn.queries] == [f"input {i}" for i in (11, 22, 21, 20, 16, 29)]


LABELS = st.lists(st.sampled_from("abcd"), min_size=1, max_size=60)


@given(LABELS, LABELS | st.just([]), st.integers(1, 3), st.integers(0, 5))
def test_balanced_demonstrations_hold_labels_evenly_at_every_shot_count(outputs, pool, sets, seed):
    task = labelled_task(outputs, pool)
    if len(outputs) < sets:
        return
    one = draw(task, 0, sets, shots=20, queries=10, seed=seed, balanced=True)
    plain = draw(task, 0, sets, shots=20, queries=10, seed=seed)
    assert one.queries == plain.queries
    assert len(one.demonstrations) == len(plain.demonstrations)
    available = Counter(example.output for example in set(task.pool or task.examples) - set(one.queries))
    for n in range(len(one.demonstrations) + 1):
        held = Counter(example.output for example in one.demonstrations[:n])
        assert all(
            held[label] + 1 >= held[other] for label in available if held[label] < available[label] for other in held
        )
    inputs = [input_key(example) for example in (*one.queries, *one.demonstrations)]
    assert len(set(inputs)) == len(inputs)


def test_balanced_demonstrations_are_nested_and_no_label_is_always_first():
    task = labelled_task("aaaaaaab" * 50)
    longest = draw(task, shots=16, balanced=True).demonstrations
    assert all(draw(task, shots=n, balanced=True).demonstrations == longest[:n] for n in range(16))
    pairs = {(longest[i].output, longest[i + 1].output) for i in range(0, 16, 2)}
    assert pairs == {("a", "b"), ("b", "a")}
    firsts = Counter(draw(task, i, sets=20, balanced=True).demonstrations[0].output for i in range(20))
    assert 3 <= firsts["a"] <= 17


def test_without_labels_balanced_changes_nothing():
    task = task_of(100)
    assert draw(task, balanced=True) == draw(task)
    labelled = replace(task, labels=tuple(example.output for example in task.examples))
    assert draw(labelled, balanced=True) != draw(labelled)


def test_a_pool_of_the_same_inputs_leaves_as_many_demonstrations_as_no_pool():
    task = task_of(24)
    relabelled = replace(task, pool=tuple(replace(example, output="x") for example in task.examples))
    drawn, plain = draw(relabelled), draw(task)
    assert drawn.queries == plain.queries
    assert [e.input for e in drawn.demonstrations] == [e.input for e in plain.demonstrations]
    assert len(drawn.demonstrations) == 8
    assert {example.output for example in drawn.demonstrations} == {"x"}
