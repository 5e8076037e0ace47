import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from keepshot.evaluation.statistics import (
    mean_estimate,
    minimum_detectable,
    ratio_estimate,
    sets_for,
    sets_needed,
    unseen,
)
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
    assert bounds(mean_estimate([0.1, 0.9], bounds=(0.0, 1.0))) == (0.0, 1.0)
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
    assert mean_estimate([0.5, 0.6, 0.7], first=1) is None
    assert ratio_estimate([0.5, 0.6], [1.0, 1.0], first=1) is None


def test_two_stages_by_hand():
    # The first three have deviation .1; t(2) = 4.302653; half width 4.302653 x .1 / sqrt(4) = .215133.
    estimate = mean_estimate([0.4, 0.5, 0.6, 1.5], first=3)
    assert (estimate.value, *bounds(estimate)) == pytest.approx((0.75, 0.534867, 0.965133), abs=1e-6)
    assert estimate.evidence.standard_error == pytest.approx(0.05)
    assert (estimate.evidence.sets, estimate.evidence.degrees) == (4, 2)
    # R = 7.5 / 15 over all; residuals -.5, -.25, 1 of the first three, around their mean 1/12: deviation .803638; over
    # sqrt(4) and the mean 3.75 of all b the standard error is .107152; times t(2) the half width is .461037.
    ratio = ratio_estimate([1.0, 2.0, 3.0, 1.5], [3.0, 4.5, 4.0, 3.5], first=3)
    assert (ratio.value, *bounds(ratio)) == pytest.approx((0.5, 0.038963, 0.961037), abs=1e-6)


@given(VALUES, st.integers(2, 12))
def test_a_first_stage_of_all_sets_changes_nothing(values, factor):
    assert mean_estimate(values, first=len(values)) == mean_estimate(values)
    sizes = [value / factor + 2 for value in values]
    assert ratio_estimate(values, sizes, first=len(values)) == ratio_estimate(values, sizes)


@given(VALUES, st.floats(0.01, 2), st.integers(2, 200))
def test_as_many_sets_as_the_half_width_needs_and_no_more(values, half_width, most):
    sets = sets_needed(values, half_width, most)
    assert len(values) <= sets <= max(len(values), most)
    padded = [*values, *[0.0] * (sets - len(values))]
    if sets < most:
        reached = mean_estimate(padded, first=len(values)).evidence.standard_error
        assert reached * stats.t.ppf(0.975, len(values) - 1) <= half_width * (1 + 1e-9)
    if sets > len(values):
        one_less = mean_estimate(padded[:-1], first=len(values))
        assert one_less.high - one_less.value > half_width * (1 - 1e-9)


def test_an_interval_is_as_wide_as_what_goes_unseen():
    assert unseen(320) == 3 / 320
    assert bounds(mean_estimate([0.5, 0.5], least=0.1)) == pytest.approx((0.4, 0.6))
    assert bounds(ratio_estimate([0.5, 0.5], [0.5, 0.5], least=0.1)) == pytest.approx((0.8, 1.2))
    wide = mean_estimate([0.4, 0.6], least=0.1)
    assert wide == mean_estimate([0.4, 0.6])
    assert mean_estimate([0.5, 0.5], least=0.1).evidence.standard_error == 0.0


@pytest.mark.parametrize("sets", [4, 8, 16])
def test_the_minimum_detectable_effect_is_found_with_80_percent_power(sets):
    estimate = mean_estimate(np.linspace(0, 1, sets).tolist())
    effect = minimum_detectable(estimate) / estimate.evidence.standard_error
    power = stats.nct.sf(stats.t.ppf(0.975, sets - 1), sets - 1, effect)
    assert power == pytest.approx(0.8, abs=0.02)


def test_without_any_spread_what_goes_unseen_cannot_be_detected():
    assert minimum_detectable(mean_estimate([1.0, 1.0], least=0.05)) == pytest.approx(0.05)


def test_sets_for_a_half_width():
    estimate = mean_estimate([0.4, 0.5, 0.6])
    # Deviation .1: with 6 sets the half width would be 2.570582 x .1 / sqrt(6) = .105, with 7 2.446912 -> .0925.
    assert sets_for(estimate, 0.1, most=64) == 7
    assert sets_for(estimate, 0.1, most=6) is None
    assert sets_for(estimate, 0.0, most=64) is None
    unspread = mean_estimate([1.0, 1.0, 1.0], least=0.12)
    assert sets_for(unspread, 0.05, most=64) == 8  # what goes unseen shrinks with the questions: .12 x 3 / 8 = .045


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
