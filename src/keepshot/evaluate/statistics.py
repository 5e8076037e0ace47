"""Intervals that know what was drawn: tasks are fixed, the demonstration set is the unit that could have been another.

Every number below takes one value per demonstration set. No two sets ask the same query, so the spread between sets
holds the chance of both draws. With S sets the interval uses the t distribution with S - 1 degrees of freedom.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import stats

CONFIDENCE = 0.95


@dataclass(frozen=True, slots=True)
class Estimate:
    """A value with its 95 % interval."""

    value: float
    low: float
    high: float


def mean_estimate(values: Sequence[float], bounds: tuple[float, float] = (-np.inf, np.inf)) -> Estimate | None:
    """Mean over sets, its interval clipped to `bounds`; None for fewer than two sets, which show no spread.

    Example:
        >>> mean_estimate([0.4, 0.5, 0.6])
        Estimate(value=0.5, low=0.251586..., high=0.748413...)
    """
    sample = np.asarray(values, dtype=np.float64)
    if sample.size < 2:
        return None
    center = float(sample.mean())
    half = _t(sample.size) * float(sample.std(ddof=1)) / np.sqrt(sample.size)
    return Estimate(center, float(max(center - half, bounds[0])), float(min(center + half, bounds[1])))


def ratio_estimate(numerators: Sequence[float], denominators: Sequence[float]) -> Estimate | None:
    """Ratio of two paired means over sets.

    The interval is the t interval of the linearised ratio: with R = sum(a) / sum(b), the residuals a - R b have mean
    zero, and the standard error of R is that of their mean divided by mean(b).

    Returns:
        None for fewer than two sets or a denominator that is not positive.

    Example:
        >>> ratio_estimate([0.5, 0.4], [1.0, 0.8])
        Estimate(value=0.5, low=0.5, high=0.5)
    """
    a, b = np.asarray(numerators, dtype=np.float64), np.asarray(denominators, dtype=np.float64)
    assert a.shape == b.shape, "paired means have one value per set each"
    if a.size < 2 or b.mean() <= 0:
        return None
    ratio = float(a.sum() / b.sum())
    residuals = a - ratio * b
    half = _t(a.size) * float(residuals.std(ddof=1)) / np.sqrt(a.size) / float(b.mean())
    return Estimate(ratio, float(ratio - half), float(ratio + half))


def _t(size: int) -> float:
    return float(stats.t.ppf(0.5 + CONFIDENCE / 2, size - 1))
