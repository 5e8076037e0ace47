"""Intervals that know what was drawn: tasks are fixed, the demonstration set is the unit that could have been another.

Every number below takes one value per demonstration set. No two sets ask the same query, so the spread between sets
holds the chance of both draws. With S sets the interval uses the t distribution with S - 1 degrees of freedom.

**More sets where an interval is still wide.** To look after every set and stop once the interval is narrow is to stop
where the spread happens to look small; such intervals cover less than they say. Two stages do not (Stein 1945, Ann.
Math. Stat. 16:243): the spread of the S first sets fixes the number N of all sets, and the interval is the mean over
all N ± t(S - 1) · the *first* sets' deviation / √N. For normal values that is exact, and for every quantity of the
evaluation, whichever of them asked for more sets: the first sets' means are independent of their covariance matrix.
Given that matrix, which is all that N depends on, the mean over N sets is normal with variance σ²/N. So it is
independent of the first sets' variance, and their ratio has the t distribution.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cache

import numpy as np
from scipy import stats

CONFIDENCE = 0.95
POWER = 0.8


@dataclass(frozen=True, slots=True)
class Evidence:
    """What an interval rests on.

    Attributes:
        standard_error: Of the value.
        sets: Demonstration sets in all.
        degrees: Degrees of freedom of the t interval: the sets that gave the spread, less one.
    """

    standard_error: float
    sets: int
    degrees: int


@dataclass(frozen=True, slots=True)
class Estimate:
    """A value with its 95 % interval, and what that rests on (None where it was not recorded)."""

    value: float
    low: float
    high: float
    evidence: Evidence | None = field(default=None, repr=False)


def mean_estimate(
    values: Sequence[float],
    bounds: tuple[float, float] = (-np.inf, np.inf),
    first: int | None = None,
    least: float = 0.0,
) -> Estimate | None:
    """Mean over sets, its interval clipped to `bounds`.

    Args:
        values: One per set, those of the first stage first.
        bounds: What a value can be.
        first: Sets of the first stage, which alone give the spread; None is all of them.
        least: What the half-width is at least; see `unseen`.

    Returns:
        None for a first stage of fewer than two sets, which shows no spread.

    Example:
        >>> mean_estimate([0.4, 0.5, 0.6])
        Estimate(value=0.5, low=0.251586..., high=0.748413...)
        >>> mean_estimate([0.4, 0.5, 0.6, 0.5], first=3)
        Estimate(value=0.5, low=0.284867..., high=0.715132...)
    """
    sample = np.asarray(values, dtype=np.float64)
    if _num_first(sample, first) < 2:
        return None
    half, evidence = _half_width(sample, first, least)
    center = float(sample.mean())
    return Estimate(center, max(center - half, bounds[0]), min(center + half, bounds[1]), evidence)


def ratio_estimate(
    numerators: Sequence[float], denominators: Sequence[float], first: int | None = None, least: float = 0.0
) -> Estimate | None:
    """Ratio of two paired means over sets.

    The interval is the t interval of the linearised ratio: with R = sum(a) / sum(b), the residuals a - R b have mean
    zero, and the standard error of R is that of their mean divided by mean(b). With a first stage, R and mean(b) are
    over all sets; the residuals' spread is the first sets' own, around their own mean. It then depends on the first
    sets' covariance matrix only, as the argument above needs.

    Args:
        numerators: One per set, those of the first stage first.
        denominators: The same.
        first: Sets of the first stage, which alone give the spread; None is all of them.
        least: What the half-width of the mean numerator is at least; see `unseen`.

    Returns:
        None for a first stage of fewer than two sets or a mean denominator that is not positive.

    Example:
        >>> ratio_estimate([0.5, 0.4], [1.0, 0.8])
        Estimate(value=0.5, low=0.5, high=0.5)
    """
    a, b = np.asarray(numerators, dtype=np.float64), np.asarray(denominators, dtype=np.float64)
    assert a.shape == b.shape, "paired means have one value per set each"
    if _num_first(a, first) < 2 or b.mean() <= 0:
        return None
    ratio = float(a.sum() / b.sum())
    half, evidence = _half_width(a - ratio * b, first, least, scale=float(b.mean()))
    return Estimate(ratio, ratio - half, ratio + half, evidence)


def unseen(num_questions: int) -> float:
    """The share of questions that may well have changed where none of so many did: the rule of three.

    What happens to 3/n of the questions or fewer goes unseen in n of them with a probability of (1 - 3/n)^n = 5 %, and
    sets that show no change show no spread either (Hanley & Lippman-Hand 1983, JAMA 249:1743).

    Example:
        >>> unseen(60)
        0.05
    """
    return 3 / num_questions


def sets_needed(values: Sequence[float], half_width: float, most: int) -> int:
    """How many sets in all give an interval of ± `half_width`, by Stein's two stages.

    Args:
        values: One per set of the first stage, at least two.
        half_width: What is asked for, in the unit of the values; above 0.
        most: The most sets that may be asked; the interval stays wider where more were needed.

    Returns:
        At least the sets of the first stage.

    Example:
        >>> sets_needed([0.4, 0.5, 0.6], 0.1, most=64)
        19
    """
    assert len(values) > 1, "one set shows no spread"
    assert half_width > 0, "no number of sets gives an interval of no width"
    root = _quantile(0.5 + CONFIDENCE / 2, len(values) - 1) * float(np.std(values, ddof=1)) / half_width
    return max(len(values), math.ceil(min(root * root, most)))


def minimum_detectable(estimate: Estimate) -> float:
    """The effect that would be found significant with 80 % power at the measured spread.

    (t(.975) + t(.80)) standard errors (Bloom 1995, Evaluation Review 19:547); where the interval was widened, its
    half-width stands for the first term. The sum approximates the noncentral t distribution: at 8 sets the power is
    .798, at 4 .78, at 2 .73.

    Args:
        estimate: With its evidence, and an interval that is not clipped.

    Example:
        >>> round(minimum_detectable(ratio_estimate([0.5, 0.4, 0.5], [1.0, 0.9, 0.9])), 3)
        0.166
    """
    assert estimate.evidence is not None, "only an estimate from sets can say what it could detect"
    evidence = estimate.evidence
    return (estimate.high - estimate.low) / 2 + _quantile(POWER, evidence.degrees) * evidence.standard_error


def sets_for(estimate: Estimate, half_width: float, most: int) -> int | None:
    """How many sets a new evaluation would need for an interval of ± `half_width`, at the measured spread.

    A t interval narrows with the root of the number of sets, and with its quantile; one that was widened, because its
    questions can hide more than the sets show, narrows with the number itself.

    Args:
        estimate: With its evidence, and an interval that is not clipped.
        half_width: What is asked for, in the unit of the value.
        most: The most sets to think of.

    Returns:
        More than the estimate has; None if it takes more than `most`.

    Example:
        >>> sets_for(mean_estimate([0.4, 0.5, 0.6]), 0.1, most=64)
        7
    """
    assert estimate.evidence is not None, "only an estimate from sets can say what more of them would show"
    evidence, shown = estimate.evidence, (estimate.high - estimate.low) / 2
    deviation = evidence.standard_error * math.sqrt(evidence.sets)
    widened = shown > _quantile(0.5 + CONFIDENCE / 2, evidence.degrees) * evidence.standard_error * (1 + 1e-9)
    for sets in range(evidence.sets + 1, most + 1):
        half = _quantile(0.5 + CONFIDENCE / 2, sets - 1) * deviation / math.sqrt(sets)
        if max(half, shown * evidence.sets / sets if widened else 0.0) <= half_width:
            return sets
    return None


def _num_first(values: np.ndarray, first: int | None) -> int:
    assert first is None or first <= values.size, "the first stage is part of the evaluation"
    return values.size if first is None else first


def _half_width(values: np.ndarray, first: int | None, least: float, scale: float = 1.0) -> tuple[float, Evidence]:
    """Half the t interval of mean(values) / scale, the spread taken from the first stage."""
    degrees = _num_first(values, first) - 1
    quantile = _quantile(0.5 + CONFIDENCE / 2, degrees)
    half = float(quantile * float(values[:first].std(ddof=1)) / np.sqrt(values.size) / scale)
    return max(half, least / scale), Evidence(half / quantile, values.size, degrees)


@cache
def _quantile(probability: float, degrees: int) -> float:
    """Of the t distribution."""
    return float(stats.t.ppf(probability, degrees))
