"""In-context linear regression: inputs with a covariance, linear tasks, noisy labels.

    x ~ N(0, Sigma) in R^d,    y = theta^T x + eps,    eps ~ N(0, sigma^2)

| symbol | meaning | shape | here |
|---|---|---|---|
| Sigma | covariance of the inputs, positive definite | (d, d) | `Regression.covariance` |
| sigma^2 | variance of the noise in every label, the query's included: no test error is lower | | `Regression.noise` |
| theta_0, theta | the task that is fine-tuned, the task that is evaluated | (d,) | `target(...)`, `task_at(...)` |
| S_0 = theta_0^T Sigma theta_0 | signal power of the fine-tuned task | | `Geometry.target_power` |
| S = theta^T Sigma theta | signal power of the evaluated task | | `Geometry.power` |
| R = theta_0^T Sigma theta | agreement: S_0 for the target, 0 for an orthogonal task | | `Geometry.overlap` |

For someone who fine-tunes: theta_0 is the target, any other theta is a task that the model should still learn from
examples in the prompt, and R says how much the two have in common.

Reference:
    arXiv 2602.23197, section 2 (general covariance); the experiments have Sigma = I and unit-norm tasks.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from jaxtyping import Float

from keepshot.errors import ConfigError

Vector: TypeAlias = Float[np.ndarray, " d"]
Matrix: TypeAlias = Float[np.ndarray, "d d"]


@dataclass(frozen=True, slots=True, eq=False)
class Regression:
    """What prompts are made of, apart from the task.

    Attributes:
        covariance: Sigma, symmetric and positive definite.
        noise: sigma^2, a variance.

    Raises:
        ConfigError: The covariance is not symmetric and positive definite, or the noise is negative.

    Example:
        >>> setting = Regression(np.diag([2.0, 1.0]), noise=0.1)
        >>> setting.dimension, setting.power(np.array([1.0, 1.0]))
        (2, 3.0)
    """

    covariance: Matrix
    noise: float

    def __post_init__(self) -> None:
        if not (np.isfinite(self.covariance).all() and np.allclose(self.covariance, self.covariance.T)):
            raise ConfigError("the covariance must be finite and symmetric")
        lowest = np.linalg.eigvalsh(self.covariance)[0]
        if not lowest > 0:
            raise ConfigError(f"the covariance must be positive definite; its lowest eigenvalue is {lowest:g}")
        if not 0 <= self.noise < math.inf:
            raise ConfigError(f"the noise is a variance, at least 0 and finite, not {self.noise:g}")

    @property
    def dimension(self) -> int:
        """d, the number of input features."""
        return len(self.covariance)

    def power(self, theta: Vector) -> float:
        """theta^T Sigma theta: the variance of the labels without noise, which is the error of always saying 0."""
        return float(theta @ self.covariance @ theta)


@dataclass(frozen=True, slots=True)
class Geometry:
    """All that the closed forms of fine-tuned models need to know of the two tasks.

    Attributes:
        target_power: S_0.
        power: S.
        overlap: R; |R| is at most the root of S_0 S.
    """

    target_power: float
    power: float
    overlap: float


def isotropic(dimension: int, noise: float) -> Regression:
    """Independent inputs of variance 1, the setting of the paper's experiments."""
    return Regression(np.eye(dimension), noise)


def from_spectrum(spectrum: Sequence[float], noise: float) -> Regression:
    """Independent inputs with these variances; up to a rotation, that is every covariance."""
    return Regression(np.diag(np.asarray(spectrum, dtype=np.float64)), noise)


def geometry(setting: Regression, target_task: Vector, task: Vector) -> Geometry:
    """S_0, S and R of two tasks."""
    overlap = float(target_task @ setting.covariance @ task)
    return Geometry(setting.power(target_task), setting.power(task), overlap)


def target(dimension: int) -> Vector:
    """A unit vector with all features alike, so that S_0 = tr(Sigma) / d is the mean power of a unit-norm task."""
    return np.full(dimension, dimension**-0.5)


def task_at(setting: Regression, target_task: Vector, angle: float) -> Vector:
    """A task of the target's power at an angle to it, R = S_0 cos(angle).

    Args:
        setting: Its covariance says what orthogonal means.
        target_task: theta_0, not 0.
        angle: In degrees: 0 is the target, 90 an orthogonal task, 180 the opposite one.

    Raises:
        ConfigError: In one dimension there is only the target and its opposite.

    Example:
        >>> setting = from_spectrum([2.0, 1.0, 0.5], noise=0.1)
        >>> found = geometry(setting, target(3), task_at(setting, target(3), 60.0))
        >>> [round(value / found.target_power, 9) for value in (found.power, found.overlap)]
        [1.0, 0.5]
    """
    across = np.zeros_like(target_task)
    if angle % 180:
        if setting.dimension == 1:
            raise ConfigError(f"with one input feature a task is at 0 or 180 degrees to the target, not {angle:g}")
        # The axis that the target uses least leaves the longest orthogonal part.
        across[np.abs(target_task).argmin()] = 1.0
        across -= (across @ setting.covariance @ target_task) / setting.power(target_task) * target_task
        across *= math.sqrt(setting.power(target_task) / setting.power(across))
    turn = math.radians(angle)
    return math.cos(turn) * target_task + math.sin(turn) * across
