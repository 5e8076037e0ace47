import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from keepshot.evaluate import Estimate, mean_estimate, ratio_estimate
from keepshot.keys import key

REPLICATIONS, SETS = 2_000, 8
VALUES = st.lists(st.floats(-1, 1), min_size=2, max_size=12)


def bounds(estimate):
    return (estimate.low, estimate.high)


@given(VALUES)
def test_mean_is_the_t_interval(values):
    estimate = mean_estimate(values)
    if np.std(values) < 1e-6:
        assert bounds(estimate) == pytest.approx((estimate.value,) * 2, abs=1e-4)
        return
    expected = stats.ttest_1samp(values, 0.0).confidence_interval(0.95)
    assert estimate.value == pytest.approx(np.mean(values))
    assert bounds(estimate) == pytest.approx((expected.low, expected.high), abs=1e-9)


def test_mean_by_hand():
    # Deviation sqrt(.02 / 2) = .1; t(2) = 4.302653; half width 4.302653 x .1 / sqrt(3) = .248414.
    estimate = mean_estimate([0.4, 0.5, 0.6])
    assert (estimate.value, *bounds(estimate)) == pytest.approx((0.5, 0.251586, 0.748414), abs=1e-6)


def test_an_interval_is_clipped_to_its_bounds():
    assert mean_estimate([0.1, 0.9], bounds=(0.0, 1.0)) == Estimate(0.5, 0.0, 1.0)
    assert mean_estimate([0.1, 0.9]).low < 0


def test_ratio_by_hand():
    # R = 6 / 10; residuals -.2, -.4, .6 with deviation sqrt(.56 / 2) = .529150; over sqrt(3) and the mean 10 / 3 of b
    # the standard error is .091652; times t(2) = 4.302653 the half width is .394345.
    estimate = ratio_estimate([1.0, 2.0, 3.0], [2.0, 4.0, 4.0])
    assert (estimate.value, *bounds(estimate)) == pytest.approx((0.6, 0.205655, 0.994345), abs=1e-6)


@given(VALUES, st.floats(0.1, 10))
def test_a_constant_denominator_scales_the_mean(values, size):
    mean, ratio = mean_estimate(values), ratio_estimate(values, [size] * len(values))
    assert (ratio.value, *bounds(ratio)) == pytest.approx([v / size for v in (mean.value, *bounds(mean))], abs=1e-6)


@given(st.lists(st.floats(0.1, 1), min_size=2, max_size=12), st.floats(-2, 2))
def test_a_constant_ratio_has_no_spread(values, factor):
    estimate = ratio_estimate([factor * value for value in values], values)
    assert (estimate.value, *bounds(estimate)) == pytest.approx((factor,) * 3, abs=1e-9)


def test_pairs_belong_together():
    base, tuned = [0.4, 0.6, 0.8], [0.3, 0.5, 0.8]
    paired, crossed = ratio_estimate(tuned, base), ratio_estimate(tuned[::-1], base)
    assert paired.value == pytest.approx(crossed.value)
    assert paired.high - paired.low < (crossed.high - crossed.low) / 3


@pytest.mark.parametrize("denominators", [[0.5, -0.5], [-1.0, -2.0], [0.0, 0.0]])
def test_no_ratio_to_a_mean_that_is_not_positive(denominators):
    assert ratio_estimate([1.0, 1.0], denominators) is None


def test_one_set_shows_no_spread():
    assert mean_estimate([0.5]) is None
    assert mean_estimate([]) is None
    assert ratio_estimate([0.5], [1.0]) is None


def coverage(estimates, truth):
    return np.mean([estimate.low <= truth <= estimate.high for estimate in estimates])


def test_the_mean_s_interval_covers_95_percent():
    draws = np.random.default_rng(key("mean coverage")).normal(0.6, 0.1, (REPLICATIONS, SETS))
    assert 0.93 <= coverage([mean_estimate(draw.tolist()) for draw in draws], 0.6) <= 0.97


def test_the_ratio_s_interval_covers_95_percent():
    generator = np.random.default_rng(key("ratio coverage"))
    before = generator.normal(0.6, 0.06, (REPLICATIONS, SETS))
    after = 0.2 + 0.5 * before + generator.normal(0.0, 0.05, before.shape)  # mean .5, correlated
    estimates = [ratio_estimate(a.tolist(), b.tolist()) for a, b in zip(after, before, strict=True)]
    assert 0.93 <= coverage(estimates, 0.5 / 0.6) <= 0.97
