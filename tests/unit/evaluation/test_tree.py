from itertools import takewhile

import pytest
import torch
from hypothesis import example, given
from hypothesis import strategies as st

from keepshot.evaluation.tree import agreement, grow_tree, own_order, tree_mask
from keepshot.prompts import Row

TOKENS = st.integers(0, 1)
"""Two tokens, so that rows often begin alike, are equal, or begin others."""


LEVELS = st.tuples(
    st.lists(TOKENS, max_size=9),
    st.lists(
        st.tuples(
            st.lists(TOKENS, min_size=1, max_size=6), st.lists(TOKENS, min_size=1, max_size=4), st.integers(0, 2)
        ),
        min_size=1,
        max_size=8,
    ),
)
"""A context; and for every row a query, an answer, and how many tokens stand behind the answer."""


def rows_of(level):
    """Rows that continue one context, and the context's length."""
    context, added = level
    rows = []
    for query, answer, behind in added:
        first = len(context) + len(query)
        rows.append(Row((*context, *query, *answer, *(1,) * behind), ((first, first + len(answer)),)))
    return rows, len(context)


def own(row, done):
    """What a row adds to the context: all that it computes."""
    return row.ids[done : row.answers[-1][1] - 1]


def prefixes(rows, done):
    return {own(row, done)[:n] for row in rows for n in range(1, len(own(row, done)) + 1)}


def lineage(tree, node):
    """A node with its ancestors, oldest first, by the depths alone: the parent is the nearest node before, one up."""
    line = [node]
    while tree.depths[line[0]]:
        line.insert(0, max(n for n in range(line[0]) if tree.depths[n] == tree.depths[line[0]] - 1))
    return line


def spelt(tree, node):
    return tuple(tree.ids[n] for n in lineage(tree, node))


def trees_of(rows, done, budget):
    order = own_order(rows, done)
    while order:
        tree = grow_tree(rows, order, done, budget)
        yield tree, order
        order = order[len(tree.rows) :]


@given(LEVELS, st.integers(1, 30))
# An answer that ends earlier, between two rows that go on alike.
@example(([], [([0, 1], [0, 0], 0), ([0], [1], 1), ([0, 1], [1, 1], 0)]), 30)
def test_every_row_s_path_spells_its_tokens_and_no_prefix_stands_twice(level, budget):
    rows, done = rows_of(level)
    for tree, _ in trees_of(rows, done, budget):
        mine = [rows[i] for i in tree.rows]
        texts = [spelt(tree, node) for node in range(len(tree.ids))]
        assert len(set(texts)) == len(texts)
        assert set(texts) == prefixes(mine, done)
        for row, predicting, target in zip(mine, tree.predicting, tree.targets, strict=True):
            first, last = row.answers[-1]
            assert target == row.ids[first:last]
            assert [texts[node] for node in predicting] == [row.ids[done:place] for place in range(first, last)]


@given(LEVELS, st.integers(1, 30))
def test_trees_hold_every_row_once_and_as_many_as_the_budget_allows(level, budget):
    rows, done = rows_of(level)
    held = []
    for tree, order in trees_of(rows, done, budget):
        assert list(tree.rows) == order[: len(tree.rows)]
        assert len(tree.ids) <= budget or len(tree.rows) == 1
        if len(tree.rows) < len(order):
            assert len(prefixes([rows[i] for i in order[: len(tree.rows) + 1]], done)) > budget
        held += tree.rows
    assert sorted(held) == list(range(len(rows)))


@given(LEVELS)
def test_one_tree_that_holds_all_has_a_node_for_every_prefix(level):
    rows, done = rows_of(level)
    [(tree, _)] = trees_of(rows, done, 1000)
    assert len(tree.ids) == len(prefixes(rows, done))


@given(LEVELS, st.integers(1, 30))
def test_the_nodes_up_to_a_node_s_end_are_those_that_descend_from_it(level, budget):
    rows, done = rows_of(level)
    for tree, _ in trees_of(rows, done, budget):
        for node, end in enumerate(tree.ends):
            assert [n for n in range(len(tree.ids)) if node in lineage(tree, n)] == list(range(node, end))


@given(LEVELS, st.sampled_from([None, 1, 2, 3, 5, 8, 100]), st.sampled_from([torch.float32, torch.bfloat16]))
def test_a_node_sees_the_context_its_ancestors_and_itself(level, window, dtype):
    rows, done = rows_of(level)
    [(tree, _)] = trees_of(rows, done, 1000)
    mask = tree_mask(tree, done, window, dtype)
    reach = window or 1000
    held = range(max(0, done - (reach - 1)), done)  # positions that a layer's cache still has
    assert mask.shape == (1, 1, len(tree.ids), len(held) + len(tree.ids))
    assert mask.dtype == dtype
    assert set(mask.unique().tolist()) <= {0.0, torch.finfo(dtype).min}
    for node, seen in enumerate((mask[0, 0] == 0).tolist()):
        place = done + tree.depths[node]
        ancestors = {n for n in lineage(tree, node) if place - (done + tree.depths[n]) < reach}
        assert seen[: len(held)] == [place - position < reach for position in held]
        assert {n for n, sees in enumerate(seen[len(held) :]) if sees} == ancestors


def test_the_last_token_of_an_answer_is_no_node():
    rows = [Row((7, 1, 2, 3), ((2, 4),)), Row((7, 1, 2, 4), ((2, 4),)), Row((7, 1, 5), ((2, 3),))]
    tree = grow_tree(rows, own_order(rows, 1), 1, 100)
    assert tree.ids == (1, 2)
    assert dict(zip(tree.rows, tree.predicting, strict=True)) == {0: (0, 1), 1: (0, 1), 2: (0,)}


def test_rows_that_add_the_same_are_one_path():
    rows = [Row((1, 2, 3), ((1, 3),))] * 3
    tree = grow_tree(rows, own_order(rows, 0), 0, 1)
    assert (tree.ids, tree.rows, tree.predicting) == ((1, 2), (0,), ((0, 1),))
    tree = grow_tree(rows, own_order(rows, 0), 0, 2)
    assert (tree.ids, len(tree.rows), tree.predicting) == ((1, 2), 3, ((0, 1),) * 3)


@given(st.lists(TOKENS, max_size=6), st.lists(TOKENS, max_size=6))
def test_agreement_is_the_length_of_the_common_beginning(a, b):
    alike = takewhile(lambda pair: pair[0] == pair[1], zip(a, b, strict=False))
    assert agreement(a, b) == len(list(alike))


@pytest.mark.parametrize("budget", [1, 3])
def test_a_row_beyond_the_budget_is_a_tree_of_its_own(budget):
    rows = [Row((1, 2, 3, 4, 5, 6), ((4, 6),)), Row((2, 3, 4), ((1, 3),))]
    assert [len(tree.ids) for tree, _ in trees_of(rows, 0, budget)] == [5, 2]
