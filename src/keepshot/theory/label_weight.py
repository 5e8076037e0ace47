"""How much a value-only tuned model should trust the labels of examples: the best w (4.7 to 4.9; few-shot loss).

Zero-shot tuning leaves w at its pretrained value, which is about the best on average over tasks (Corollary 4.8): that
is why it preserves few-shot ability. The best w for the target alone is smaller (Theorem 4.9), since v already knows a
part of it. An auxiliary few-shot loss on the target moves w there: better on the target, worse on other tasks.

For someone who fine-tunes: add few-shot prompts of the *target* only if few-shot quality on the target matters more
than few-shot quality elsewhere. To keep the latter, the few-shot prompts have to come from many tasks.
"""

import math
from collections.abc import Sequence

import numpy as np

from keepshot.errors import ConfigError
from keepshot.theory.regression import Geometry, Matrix, Regression, Vector
from keepshot.theory.risk import Sparse, Term
from keepshot.theory.value import error_in_value, zero_shot_value


def best_label_weight(setting: Regression, frozen: Sparse, terms: Sequence[Term]) -> float:
    """The w that minimises a loss when q, A and v stay as they are; for any covariance, tasks and shots.

    Args:
        setting: Covariance and noise.
        frozen: Its w is not read.
        terms: At least one with a demonstration, else the loss does not see w.
    """
    error = error_in_value(setting, frozen.q, frozen.A, terms)
    return float((error.linear[-1] - error.hessian[-1, :-1] @ frozen.v) / error.hessian[-1, -1])


def task_label_weight(shots: int, tasks: Geometry, dimension: int, noise: float) -> float:
    """Theorem 4.9: the best w for one task at n shots, after value-only tuning with A = Sigma^-1.

        w = [(n+1) S - (n+2d+3) R/(d+4)] / [(n+d+1) S + d sigma^2]    ->    1 - R / ((d+4) S)

    Example:
        >>> same = Geometry(target_power=1.0, power=1.0, overlap=1.0)
        >>> [round(task_label_weight(n, same, 5, 0.1), 4) for n in (20, 21)]   # the paper's .66 is that of 21 shots
        [0.6541, 0.6626]
    """
    n, d, S, R = shots, dimension, tasks.power, tasks.overlap
    return ((n + 1) * S - (n + 2 * d + 3) * R / (d + 4)) / ((n + d + 1) * S + d * noise)


def task_label_weight_limit(tasks: Geometry, dimension: int) -> float:
    """Its limit for many examples: (d+3)/(d+4) on the target, 1 on an orthogonal task, (d+5)/(d+4) on the opposite."""
    return 1 - tasks.overlap / ((dimension + 4) * tasks.power)


def mean_label_weight(shots: int, dimension: int, noise: float, mean_power: float) -> float:
    """Corollary 4.8: the best w on average over tasks of mean 0.

        w = (n+1) S / [(n+d+1) S + d sigma^2],    S = E[theta' Sigma theta]

    With n = m and unit-norm tasks it equals the exact pretrained product: zero-shot value tuning leaves w at its best.

    Example:
        >>> round(mean_label_weight(20, 5, 0.1, 1.0), 4)
        0.7925
    """
    n, d = shots, dimension
    return (n + 1) * mean_power / ((n + d + 1) * mean_power + d * noise)


def paper_label_weight(context: int, dimension: int) -> float:
    """Proposition 4.7 as printed: zero-shot value tuning keeps w = m / (m + 1 + d), for Sigma = I."""
    return context / (context + 1 + dimension)


def few_shot_optimum(setting: Regression, A: Matrix, tasks: Sequence[Vector], shots: int, weight: float) -> Sparse:
    """The minimiser over (v, w) of E(0) + lambda E(n), averaged over the tuned tasks; query and key frozen, q = 0.

    On one task with A = Sigma^-1, v = c theta_0. With lambda -> 0 it tends to `few_shot_limit`: even a small few-shot
    loss decides w, since nothing else does. It hardly depends on lambda.

    Args:
        setting: Covariance and noise.
        A: Frozen score matrix.
        tasks: theta_0, or several.
        shots: n >= 1.
        weight: lambda > 0.

    Raises:
        ConfigError: No shots or no weight: w would be undetermined.

    Example:
        >>> from keepshot.theory.regression import isotropic
        >>> tuned = few_shot_optimum(isotropic(5, noise=0.1), np.eye(5), [np.eye(5)[0]], shots=20, weight=1.0)
        >>> round(float(tuned.v[0]), 5), round(tuned.w, 5)
        (0.11253, 0.65232)
    """
    if shots < 1 or not 0 < weight < math.inf:
        raise ConfigError(f"a few-shot loss has at least 1 shot and a positive weight, not {shots} and {weight:g}")
    terms = [Term(task, n, each) for task in tasks for n, each in ((0, 1.0), (shots, weight))]
    error = error_in_value(setting, 0.0, A, terms)
    best = np.linalg.solve(error.hessian, error.linear)
    return Sparse(q=0.0, A=A, v=best[:-1], w=float(best[-1]))


def few_shot_limit(setting: Regression, A: Matrix, tasks: Sequence[Vector], shots: int) -> Sparse:
    """Where a few-shot loss leads whose weight falls to 0: v by the zero-shot loss, then the best w for that v.

    At zero shots several tasks are one, their mean m. With A = Sigma^-1 and tasks of one power S, w is that of Theorem
    4.9 with R = S_0 = m' Sigma m: for K orthogonal tasks R = S / K, so that what the loss takes from other tasks falls
    like 1 / K, and with a mean of 0 w is the best on average over all tasks (Corollary 4.8).

    Example:
        >>> from keepshot.theory.regression import isotropic
        >>> setting = isotropic(5, noise=0.1)
        >>> [round(few_shot_limit(setting, np.eye(5), list(np.eye(5)[:k]), 20).w, 4) for k in (1, 2, 5)]
        [0.6541, 0.7233, 0.7648]
    """
    v = zero_shot_value(setting, A, np.mean(tasks, axis=0))
    terms = [Term(task, shots) for task in tasks]
    return Sparse(0.0, A, v, best_label_weight(setting, Sparse(0.0, A, v, 0.0), terms))
