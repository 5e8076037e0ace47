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


def draw(task, index=0, sets=1, shots=8, queries=20, seed=0):
    return demonstration_set(task, index, sets=sets, shots=shots, queries=queries, seed=seed)


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
