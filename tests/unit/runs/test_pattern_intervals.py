"""Intervals over problems and seeds: coverage where both are drawn, and the closed forms that they are made of."""

import numpy as np
import pytest
from scipy import stats

from keepshot.keys import generator
from keepshot.runs.pattern_intervals import difference, half_over_seeds, of_pairs, rate, wilson


def numbers(*keys: int | str) -> np.random.Generator:
    return np.random.default_rng(generator(*keys).getrandbits(64))


@pytest.mark.parametrize(("hits", "count"), [(0, 7), (6, 20), (20, 20)])
def test_wilson_is_scipy_s(hits: int, count: int) -> None:
    theirs = stats.binomtest(hits, count).proportion_ci(method="wilson")
    assert wilson(hits / count, count) == pytest.approx((theirs.low, theirs.high), abs=1e-12)


def test_one_training_has_the_interval_of_its_problems_and_no_limit_leaves_the_range() -> None:
    assert tuple(rate([0.3], 20).values()) == pytest.approx((0.3, *wilson(0.3, 20)))
    spread = rate([0.2, 0.9, 1.0], 20)
    assert (spread["low"], spread["high"]) == (0, 1)
    values = [0.5, 0.6, 0.55]
    found, half = rate(values, 50), half_over_seeds(values)
    low, high = stats.t.interval(0.95, 2, np.mean(values), stats.sem(values))
    assert half == pytest.approx((high - low) / 2)
    assert found["low"] < min(low, wilson(0.55, 50)[0])
    assert found["high"] > max(high, wilson(0.55, 50)[1])


def test_a_rate_is_covered_over_other_problems_and_seeds() -> None:
    """Problems are hard or not for all seeds, seeds are good or not at all problems."""
    r, covered, trials = numbers("rate"), 0, 400
    for _ in range(trials):
        right = r.random((3, 60)) < np.clip(0.6 + r.normal(0, 0.1, (3, 1)) + r.normal(0, 0.2, 60), 0, 1)
        found = rate(right.mean(axis=1).tolist(), 60)
        covered += found["low"] <= 0.595 <= found["high"]
    assert covered / trials >= 0.95


def test_a_difference_is_covered_and_pairs_make_it_narrower() -> None:
    r, covered, trials, narrower = numbers("difference"), 0, 400, 0
    for _ in range(trials):
        hard = r.normal(0, 0.4, 80)
        tuned = r.random((3, 80)) < np.clip(0.6 + r.normal(0, 0.03, (3, 1)) + hard, 0, 1)
        base = r.random(80) < np.clip(0.6 + hard, 0, 1)
        found, apart = difference(tuned, base), difference(tuned, r.permutation(base))
        covered += found["low"] <= 0 <= found["high"]
        narrower += found["high"] - found["low"] < apart["high"] - apart["low"]
    assert covered / trials >= 0.95
    assert narrower / trials > 0.9


@pytest.mark.parametrize("right", [0, 20, 50, 100])
def test_answers_that_are_all_alike_leave_a_width(right: int) -> None:
    """Where both are right half of the time Newcombe's interval has none; none of n says 3.8415 / (n + 3.8415)."""
    answers = np.arange(100) < right
    value, down, up = of_pairs(answers, answers.copy())
    assert (value, down, up) == (0, pytest.approx(3.8415 / 103.8415, abs=1e-4), pytest.approx(down))
