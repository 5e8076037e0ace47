"""All parameters fine-tuned on the zero-shot loss: the target learnt, the examples turned into noise (4.3, 4.4).

    q = 1/w,    A = 0,    v = w theta_0,    V_yy = 1,    w > 0 free

At zero shots f = theta_0^T x: the best there is. Within the sparse family that is the only way: zero-shot optimality
needs q v = theta_0 and x^T A x = 0, which erases A, the part that learns from examples. With examples in the prompt

    f = 1/(n+1) [theta_0^T x + sum over i of ((1 + 1/w) theta_0^T x_i + eps_i / w)]

so that what the model knows is diluted by 1/(n+1) and the examples average to nothing: f -> 0 and E -> sigma^2 + S, the
error of always saying 0. The paper's caption says the limit is S alone; it leaves the noise out.

For someone who fine-tunes: training on prompts without examples rewards attention that ignores content. The model is
then perfect without examples and gets worse with every one that it is shown, on the target as on any other task.
"""

import math

import numpy as np

from keepshot.theory.regression import Geometry, Vector
from keepshot.theory.risk import Dense, Sparse


def full(target_task: Vector, w: float) -> Sparse:
    """Theorem 4.3: the zero-shot optimum of all parameters, with its free scale w > 0."""
    dimension = len(target_task)
    return Sparse(q=1 / w, A=np.zeros((dimension, dimension)), v=w * target_task, w=1.0)


def full_risk(shots: int, tasks: Geometry, noise: float, w: float) -> float:
    """Corollary 4.4, for any evaluated task and covariance.

        E = sigma^2 + S - 2R/(n+1) + S_0/(n+1)^2 + n/(n+1)^2 [S_0 + 2R/w + (S + sigma^2)/w^2]

    On the target itself (S = R = S_0) it is sigma^2 + S_0 (n/(n+1))^2 + n/(n+1)^2 [(1 + 1/w)^2 S_0 + sigma^2/w^2].

    Example:
        >>> same = Geometry(target_power=1.0, power=1.0, overlap=1.0)
        >>> [round(full_risk(n, same, 0.1, 0.52), 4) for n in (0, 1, 20)]
        [0.1, 2.5786, 1.4113]
    """
    n, tokens = shots, shots + 1
    S0, S, R = tasks.target_power, tasks.power, tasks.overlap
    spread = S0 + 2 * R / w + (S + noise) / w**2
    return noise + S - 2 * R / tokens + S0 / tokens**2 + n / tokens**2 * spread


def full_risk_limit(tasks: Geometry, noise: float) -> float:
    """The error with very many examples, sigma^2 + S: as if the model always said 0."""
    return noise + tasks.power


def balanced_w(dimension: int, product: float) -> float:
    """Which w gradient descent ends at, by a heuristic: .504 at d = 5; trained models have .52.

    Gradient flow conserves |V_last|^2 - |Q|_F^2. From a small initialisation both are equal throughout, and before
    fine-tuning w A has the trace d a*; this gives w^2 = (-1 + sqrt(1 + 4 / (d a*^2))) / 2.

    Args:
        dimension: d.
        product: a*, the pretrained V_yy Q_11.

    Example:
        >>> round(balanced_w(5, 0.7925), 3)
        0.504
    """
    return math.sqrt((math.sqrt(1 + 4 / (dimension * product**2)) - 1) / 2)


def best_sparse_risk(shots: int, target_power: float, noise: float) -> float:
    """The least n-shot error on the target within the sparse family once q v = theta_0.

        sigma^2 + S_0 (n/(n+1))^2 + n/(n+1)^2 sigma^2 S_0 / (S_0 + sigma^2),    at q = 1, v = theta_0,
        w = -S_0 / (S_0 + sigma^2)

    Trained models with an added few-shot loss reach far less (.21 against 1.01): they leave the sparse family, with
    scores q + x^T Q_xy y_M. There the theory stops.

    Example:
        >>> round(best_sparse_risk(20, 1.0, 0.1), 4)
        1.0112
    """
    n, S0 = shots, target_power
    return noise + S0 * (n / (n + 1)) ** 2 + n / (n + 1) ** 2 * noise * S0 / (S0 + noise)


def harmless(target_task: Vector) -> Dense:
    """A dense model with the best zero-shot error at *every* number of shots on the target.

    V_last = (1, 0, 0) and Q_x1 = theta_0 give f = theta_0^T x whatever the examples. So "full fine-tuning destroys
    few-shot ability" is true of the branch that gradient descent takes from the pretrained model, not of every optimum.
    """
    width = len(target_task) + 2
    value, score = np.zeros(width), np.zeros((width, width))
    value[0] = 1.0
    score[1:-1, 0] = target_task
    return Dense(value, score)
