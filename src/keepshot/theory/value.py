"""Only the value matrix fine-tuned: less gained at zero shots, few-shot ability kept (4.6 to 4.9).

Query and key stay, so q and A stay. In what may move, (v, w), the error is a quadratic: with z = (v, w), k = n/(n+1),
p = 1/(n+1), phi = n/(n+1)^2 and

    D = [p q I + k A Sigma, k A Sigma theta]    U = [I, theta]    J = [I, 0]
    N = t_1 S + 2 SAS    M = (t_1^2 + 2 t_2) S + 4 t_1 SAS + 8 SASAS    K = (q^2 + t_2) S + SASAS

    E = sigma^2 + S_theta - b^T z + z^T H z / 2,    b = 2 D'S theta + 2 p J'N theta
    H = 2 D'SD + 2 p (D'NJ + J'ND) + 2 p^2 J'MJ + 2 phi (U'KU + (q^2 + t_2) sigma^2 e_w e_w')

(the master formula, sorted by powers of z). `error_in_value` gives it for any covariance, frozen A, q, task and n; the
optima are linear systems in it. The paper's closed forms are those for A = Sigma^-1 and q = 0.

For someone who fine-tunes: the zero-shot loss sets v and never sees w, the weight on the labels of examples, and the
attention that finds similar examples is frozen. So few-shot ability stays. The price: 2/(d+4) of the signal stays
unexplained at zero shots, since the frozen attention also lets the query's own length into its score.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from keepshot.theory.regression import Geometry, Matrix, Regression, Vector
from keepshot.theory.risk import Sparse, Term


@dataclass(frozen=True, slots=True, eq=False)
class ErrorInValue:
    """constant - linear^T z + z^T hessian z / 2, with z = (v, w)."""

    constant: float
    linear: Float[np.ndarray, " numbers"]
    hessian: Float[np.ndarray, "numbers numbers"]


def error_in_value(setting: Regression, q: float, A: Matrix, terms: Sequence[Term]) -> ErrorInValue:
    """A loss as a quadratic in (v, w), query and key frozen.

    Args:
        setting: Covariance and noise.
        q: Frozen constant score; 0 after pretraining.
        A: Frozen score matrix.
        terms: The loss: any tasks, shots and weights.
    """
    size = setting.dimension + 1
    constant, linear, hessian = 0.0, np.zeros(size), np.zeros((size, size))
    for term in terms:
        one = _one(setting, q, A, term.task, term.shots)
        constant += term.weight * one.constant
        linear += term.weight * one.linear
        hessian += term.weight * one.hessian
    return ErrorInValue(constant, linear, hessian)


def _one(setting: Regression, q: float, A: Matrix, task: Vector, shots: int) -> ErrorInValue:
    S, identity = setting.covariance, np.eye(setting.dimension)
    p, k = 1 / (shots + 1), shots / (shots + 1)
    SA = S @ A
    SAS, SASAS = SA @ S, SA @ SA @ S
    t1, t2 = np.trace(SA), np.trace(SA @ SA)
    D = np.column_stack([p * q * identity + k * A @ S, k * A @ S @ task])
    U = np.column_stack([identity, task])
    J = np.column_stack([identity, np.zeros(setting.dimension)])
    N = t1 * S + 2 * SAS
    M = (t1**2 + 2 * t2) * S + 4 * t1 * SAS + 8 * SASAS
    K = (q**2 + t2) * S + SASAS
    crossed = D.T @ N @ J
    spread = U.T @ K @ U
    spread[-1, -1] += (q**2 + t2) * setting.noise
    hessian = 2 * (D.T @ S @ D + p * (crossed + crossed.T) + p**2 * J.T @ M @ J + k * p * spread)
    return ErrorInValue(setting.noise + setting.power(task), 2 * (D.T @ S @ task + p * J.T @ N @ task), hessian)


def zero_shot_value(setting: Regression, A: Matrix, target_task: Vector, q: float = 0.0) -> Vector:
    """The v that minimises the zero-shot loss for any frozen query and key; theta_0 / (a (d+4)) for A = a Sigma^-1.

    Example:
        >>> from keepshot.theory.regression import isotropic
        >>> zero_shot_value(isotropic(5, noise=0.1), np.eye(5), np.array([9.0, 0.0, 0.0, 0.0, 0.0])).round(9)
        array([1., 0., 0., 0., 0.])
    """
    error = error_in_value(setting, q, A, [Term(target_task, 0)])
    return np.linalg.solve(error.hessian[:-1, :-1], error.linear[:-1])


def value_only(setting: Regression, target_task: Vector, w: float) -> Sparse:
    """Theorem 4.6: the zero-shot optimum over V with A = Sigma^-1 (a long pretraining context); w is free."""
    dimension = setting.dimension
    return Sparse(q=0.0, A=np.linalg.inv(setting.covariance), v=target_task / (dimension + 4), w=w)


def value_only_from(setting: Regression, base: Sparse, target_task: Vector) -> Sparse:
    """The same from any pretrained model: v at its optimum, and w where it was (Proposition 4.7).

    The zero-shot loss has no slope in w, so that gradient descent leaves it at its pretrained value. Rescaled to
    A = Sigma^-1 that is w = a: m / (m + 1 + d) in the paper's form.
    """
    v = zero_shot_value(setting, base.A, target_task, base.q)
    return Sparse(q=base.q, A=base.A, v=v, w=base.w)


def value_risk(shots: int, tasks: Geometry, dimension: int, noise: float, w: float) -> float:
    """Theorem 4.6: the error on any task after value-only tuning with A = Sigma^-1, sigma^2 + c_0 + c_1 w + c_2 w^2.

        c_2 = n [(n+d+1) S + d sigma^2] / (n+1)^2
        c_1 = -2n/(n+1)^2 [(n+1) S - (n+2d+3) R/(d+4)]
        c_0 = S - 2R (n+d+2) / ((n+1)(d+4)) + S_0 [n^2 + (3d+5) n + (d+2)(d+4)] / ((n+1)^2 (d+4)^2)

    At n = 0 on the target it is sigma^2 + 2 S_0/(d+4); for n -> inf it is sigma^2 + |(1-w) theta - theta_0/(d+4)|^2.

    Example:
        >>> same = Geometry(target_power=1.0, power=1.0, overlap=1.0)
        >>> [round(value_risk(n, same, 5, 0.1, 0.66), 4) for n in (0, 1, 20)]
        [0.3222, 1.1405, 0.3243]
    """
    n, d, tokens = shots, dimension, shots + 1
    S0, S, R = tasks.target_power, tasks.power, tasks.overlap
    c2 = n * ((n + d + 1) * S + d * noise) / tokens**2
    c1 = -2 * n / tokens**2 * (tokens * S - (n + 2 * d + 3) * R / (d + 4))
    c0 = S - 2 * R * (n + d + 2) / (tokens * (d + 4))
    c0 += S0 * (n**2 + (3 * d + 5) * n + (d + 2) * (d + 4)) / (tokens**2 * (d + 4) ** 2)
    return noise + c0 + c1 * w + c2 * w**2


def value_risk_limit(tasks: Geometry, dimension: int, noise: float, w: float) -> float:
    """The error with very many examples, sigma^2 + |(1-w) theta - theta_0/(d+4)|^2 in the norm of Sigma."""
    rest, pull = 1 - w, 1 / (dimension + 4)
    return noise + rest**2 * tasks.power - 2 * rest * pull * tasks.overlap + pull**2 * tasks.target_power
