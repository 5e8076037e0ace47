"""The test error of sparse linear attention, exactly: the one formula that every other result is tested against.

**Prompt.** Tokens z_i = (1, x_i, y_i) for the n demonstrations, and z_{n+1} = (1, x, 0) for the query. The layer adds
to the query's label slot

    f = 1/(n+1) sum over M = 1..n+1 of (z_{n+1}^T Q z_M) (V_last z_M)

without softmax and without a causal mask; the query attends to itself.

**Sparse family.** V_last = (0, v, w), Q = blockdiag(q, A, 0) with A symmetric, hence

    f = 1/(n+1) sum of (q + x^T A x_M) (v^T x_M + w y_M),    y_{n+1} := 0.

| symbol | meaning | shape | here |
|---|---|---|---|
| q | attention that does not look at the input | | `Sparse.q` |
| A = Q_11 | attention by similarity of inputs: this is what learns from examples | (d, d) | `Sparse.A` |
| v | what the value reads from a token's input: knowledge in the weights | (d,) | `Sparse.v` |
| w = V_yy | what the value reads from a demonstration's label: learning in context | | `Sparse.w` |
| n | demonstrations in the prompt ("shots") | | `shots` |
| E(n; theta) | mean squared error on the query's noisy label | | `risk` |
| t_1, t_2 | tr(A Sigma), tr(A Sigma A Sigma) | | |
| u, g | v + w theta, theta - (q v + n A Sigma u) / (n+1) | (d,) | |

**Master formula**, for any Sigma, theta, n >= 0:

    E = sigma^2 + g'Sg - 2/(n+1) [t_1 g'Sv + 2 g'SASv]
        + 1/(n+1)^2 [(t_1^2 + 2 t_2) v'Sv + 4 t_1 v'SASv + 8 v'SASASv]
        + n/(n+1)^2 [(q^2 + t_2) (u'Su + w^2 sigma^2) + u'SASASu]        (S = Sigma, ' = transposed)

The first line is bias, the second the query reading itself, the third the variance of n random demonstrations.
At n = 0 the label weight w has dropped out: **a zero-shot loss cannot see how a model reads demonstrations**.

Reference:
    Model: arXiv 2602.23197. The formula is derived from the fourth moments of a Gaussian (Isserlis).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
from jaxtyping import Float

from keepshot.errors import ConfigError
from keepshot.theory.regression import Matrix, Regression, Vector

# An array of numpy (real or complex) or a tensor of torch: the formula uses only operators that all of them have, so
# that a complex step and autograd differentiate the very expression that is evaluated.
Array: TypeAlias = Any


@dataclass(frozen=True, slots=True, eq=False)
class Dense:
    """What the prediction of one head of one layer depends on; nothing in it need be 0.

    Attributes:
        value: The last row of V.
        score: The merged query-key matrix Q.
    """

    value: Float[np.ndarray, " width"]
    score: Float[np.ndarray, "width width"]


@dataclass(frozen=True, slots=True, eq=False)
class Sparse:
    """A member of the sparse family. (V, Q) -> (c V, Q / c) changes nothing: only products have a meaning."""

    q: float
    A: Matrix
    v: Vector
    w: float

    def dense(self) -> Dense:
        """The same model in the coordinates (1, x, y)."""
        width = len(self.v) + 2
        value, score = np.zeros(width), np.zeros((width, width))
        value[1:-1], value[-1] = self.v, self.w
        score[0, 0], score[1:-1, 1:-1] = self.q, self.A
        return Dense(value, score)


@dataclass(frozen=True, slots=True, eq=False)
class Term:
    """A part of a loss: `weight` times the error on one task at one number of shots."""

    task: Vector
    shots: int
    weight: float = 1.0


def risk(setting: Regression, model: Sparse, task: Vector, shots: int) -> float:
    """E(n; theta), the expected squared error on the query's noisy label: the master formula.

    Args:
        setting: Covariance and noise.
        model: q, A, v, w.
        task: theta, the task that all labels of the prompt come from.
        shots: n, the demonstrations in the prompt.

    Raises:
        ConfigError: Fewer than 0 shots.

    Example:
        >>> from keepshot.theory.regression import isotropic
        >>> untrained = Sparse(q=0.0, A=np.zeros((5, 5)), v=np.zeros(5), w=0.0)
        >>> risk(isotropic(5, noise=0.1), untrained, np.eye(5)[0], shots=3)   # always 0: sigma^2 + S
        1.1
    """
    return float(objective(setting, model, [Term(task, shots)]))


def objective(setting: Regression, model: Sparse, terms: Sequence[Term]) -> float:
    """A loss made of several errors, such as E(0; theta_0) + lambda E(n; theta_0)."""
    return float(expression(setting, (model.q, model.A, model.v, model.w), terms))


def expression(setting: Regression, parameters: tuple[Array, Array, Array, Array], terms: Sequence[Term]) -> Array:
    """The same from raw (q, A, v, w), which may be complex: for whoever differentiates it."""
    total = 0.0
    for term in terms:
        total = total + term.weight * master(setting.covariance, setting.noise, parameters, term.task, term.shots)
    return total


def master(
    covariance: Array, noise: float, parameters: tuple[Array, Array, Array, Array], task: Array, shots: int
) -> Array:
    """The master formula on arrays of any kind; see the top of the module."""
    if shots < 0:
        raise ConfigError(f"the number of shots is at least 0, not {shots}")
    q, A, v, w = parameters
    n, tokens = shots, shots + 1
    SA = covariance @ A
    SAS, SASAS = SA @ covariance, SA @ SA @ covariance
    t1, t2 = SA.trace(), (SA @ SA).trace()
    u = v + w * task
    g = task - (q * v + n * (A @ covariance @ u)) / tokens
    bias = g @ covariance @ g - 2 / tokens * (t1 * (g @ covariance @ v) + 2 * (g @ SAS @ v))
    itself = (t1**2 + 2 * t2) * (v @ covariance @ v) + 4 * t1 * (v @ SAS @ v) + 8 * (v @ SASAS @ v)
    spread = (q**2 + t2) * (u @ covariance @ u + w**2 * noise) + u @ SASAS @ u
    return noise + bias + itself / tokens**2 + n * spread / tokens**2


def prior_terms(dimension: int, shots: int, variance: float | None = None) -> tuple[Term, ...]:
    """The error averaged over tasks with mean 0 and covariance `variance` I, as a sum of 2 d errors.

    E(n; theta) is quadratic in theta, so that its mean over any such prior is its mean over the 2 d tasks
    +-sqrt(d variance) e_i: exact, without sampling.

    Args:
        dimension: d.
        shots: m in pretraining.
        variance: tau; 1/d, that of tasks on the unit sphere, unless told.
    """
    tau = 1 / dimension if variance is None else variance
    axes = np.sqrt(dimension * tau) * np.eye(dimension)
    return tuple(Term(task, shots, 1 / (2 * dimension)) for task in (*axes, *-axes))
