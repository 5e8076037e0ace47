from itertools import combinations, pairwise

from hypothesis import given
from hypothesis import strategies as st

from keepshot.prompts import group_by_length

LENGTHS = st.lists(st.integers(1, 40), min_size=1, max_size=30)
BUDGETS = st.integers(1, 200)
OVERHEADS = st.integers(0, 60)


def padded(batch, lengths):
    return len(batch) * max(lengths[i] for i in batch)


def cost(batches, lengths, overhead):
    return sum(padded(batch, lengths) + overhead for batch in batches)


def allowed(batches, lengths, budget):
    return all(len(batch) == 1 or padded(batch, lengths) <= budget for batch in batches)


@given(LENGTHS, BUDGETS, OVERHEADS)
def test_batches_are_a_partition_within_the_budget(lengths, budget, overhead):
    batches = group_by_length(lengths, budget, overhead)
    assert sorted(i for batch in batches for i in batch) == list(range(len(lengths)))
    assert allowed(batches, lengths, budget)
    flat = [lengths[i] for batch in batches for i in batch]
    assert flat == sorted(flat)


@given(LENGTHS, BUDGETS, OVERHEADS)
def test_never_dearer_than_one_batch_or_one_row_each(lengths, budget, overhead):
    found = cost(group_by_length(lengths, budget, overhead), lengths, overhead)
    assert found <= cost([[i] for i in range(len(lengths))], lengths, overhead)
    if allowed([range(len(lengths))], lengths, budget):
        assert found <= cost([range(len(lengths))], lengths, overhead)


@given(st.lists(st.integers(1, 12), min_size=1, max_size=8), st.integers(1, 60), st.integers(0, 20))
def test_equal_to_the_best_of_all_splits_by_length(lengths, budget, overhead):
    order = sorted(range(len(lengths)), key=lambda i: lengths[i])
    splits = (
        [order[a:b] for a, b in pairwise((0, *cuts, len(order)))]
        for count in range(len(order))
        for cuts in combinations(range(1, len(order)), count)
    )
    best = min(cost(split, lengths, overhead) for split in splits if allowed(split, lengths, budget))
    assert cost(group_by_length(lengths, budget, overhead), lengths, overhead) == best


def test_no_rows_are_no_batches():
    assert group_by_length([], budget=10) == []
