"""Intervals of what tuned models answer: problems and trainings are both drawn, so that both err.

    rate         sqrt(t interval over seeds ^ 2 + Wilson's over problems ^ 2), each side by itself
    difference   the same with Newcombe's interval for pairs, as all models are asked the same problems

Each side of a sum of independent errors from the limits of each is the method of variance estimates recovery (Zou and
Donner 2008); a t interval has part of the problems' error in it, so that these are rather too wide.
"""

from collections.abc import Sequence
from math import hypot, sqrt

import numpy as np
from jaxtyping import Bool, Float
from scipy import stats

Limits = dict[str, float]
Shares = Float[np.ndarray, " problems"] | Bool[np.ndarray, " problems"]
_Z = float(stats.norm.ppf(0.975))


def wilson(rate: float, count: int) -> tuple[float, float]:
    """Wilson's 95 % interval of a share, also of one that is a mean over several trainings.

    Example:
        >>> [round(limit, 2) for limit in wilson(0.9, 10)]
        [0.6, 0.98]
    """
    scale = 1 + _Z**2 / count
    middle = (rate + _Z**2 / (2 * count)) / scale
    half = _Z * sqrt(rate * (1 - rate) / count + _Z**2 / (4 * count**2)) / scale
    return max(0.0, middle - half), min(1.0, middle + half)


def half_over_seeds(values: Sequence[float]) -> float:
    """Half of the 95 % t interval of a mean; 0 of a single value."""
    if len(values) < 2:
        return 0.0
    return float(stats.t.ppf(0.975, len(values) - 1) * stats.sem(values))


def rate(values: Sequence[float], count: int) -> Limits:
    """A share of so many problems, by seed.

    Example:
        >>> {name: round(value, 2) for name, value in rate([1.0, 1.0, 1.0], 100).items()}
        {'value': 1.0, 'low': 0.96, 'high': 1.0}
    """
    mean, seeds = float(np.mean(values)), half_over_seeds(values)
    low, high = wilson(mean, count)
    return {
        "value": mean,
        "low": max(0.0, mean - hypot(seeds, mean - low)),
        "high": min(1.0, mean + hypot(seeds, high - mean)),
    }


def difference(tuned: Bool[np.ndarray, "seeds problems"], base: Bool[np.ndarray, " problems"]) -> Limits:
    """How much more often tuned models are right than the base, on the same problems.

    Example:
        >>> never, always = np.zeros((3, 100), bool), np.ones(100, bool)
        >>> {name: round(value, 2) for name, value in difference(never, always).items()}
        {'value': -1.0, 'low': -1.0, 'high': -0.95}
    """
    value, down, up = of_pairs(tuned.mean(axis=0), base)
    seeds = half_over_seeds(tuned.mean(axis=1).tolist())
    return {"value": value, "low": max(-1.0, value - hypot(seeds, down)), "high": min(1.0, value + hypot(seeds, up))}


def of_pairs(one: Shares, other: Shares) -> tuple[float, float, float]:
    """How much more often one is right than the other on the same problems, and how far down and up its limits are.

    Two that answer alike on all of them may differ on others: as often as Wilson's interval of none among so many says,
    where Newcombe's has no width at shares of a half.

    Args:
        one: By problem, how often it is right.
        other: The same.

    Example:
        >>> always = np.ones(100)
        >>> [round(value, 3) for value in of_pairs(always, always)]
        [0.0, 0.037, 0.037]

    Reference:
        Newcombe 1998, method 10.
    """
    first, second = float(one.mean()), float(other.mean())
    if np.array_equal(one, other):
        _, unseen = wilson(0.0, len(one))
        return 0.0, unseen, unseen
    (low, high), (other_low, other_high) = (wilson(share, len(one)) for share in (first, second))
    alike = float(np.corrcoef(one, other)[0, 1]) if one.std() and other.std() else 0.0
    down = _less_common(first - low, other_high - second, alike)
    return first - second, down, _less_common(high - first, second - other_low, alike)


def _less_common(first: float, second: float, alike: float) -> float:
    """Both distances to a limit, less what both shares have in common."""
    return sqrt(max(0.0, first**2 - 2 * alike * first * second + second**2))
