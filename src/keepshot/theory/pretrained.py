"""The pretrained model, and when examples in its prompt do harm (Corollaries 4.1 and 4.2).

Pretraining minimises the mean error at m demonstrations over tasks with mean 0 and covariance tau I. The optimum reads
only labels, by similarity of inputs: q = 0, v = 0, w = 1, and with Sigma = U diag(lambda) U^T

    paper:  A = U diag( m / ((m+1) lambda_i + tr Sigma) ) U^T
    exact:  A = U diag( (m+1) / ((m+1) lambda_i + tr Sigma + sigma^2 / tau) ) U^T

The paper's form leaves the noise out and divides by m instead of the m + 1 tokens; both tend to Sigma^-1. Training
finds the exact one (.7925 against .7692 at d = 5, m = 20, sigma^2 = .1, tau = 1/d).

For someone who fine-tunes: this is the base model. It knows nothing of the target, so its zero-shot error is the full
signal, and it learns any task from examples; but with fewer examples than about the number of features, what it learns
is mostly noise, and it would do better with none. Compare a model at several shot counts, not at one.
"""

import math

import numpy as np

from keepshot.theory.regression import Matrix, Regression, Vector
from keepshot.theory.risk import Sparse


def pretrained(setting: Regression, context: int, variance: float | None = None) -> Sparse:
    """The exact optimum of pretraining.

    Args:
        setting: Covariance and noise.
        context: m, the demonstrations in a pretraining prompt.
        variance: tau of the tasks; 1/d, that of the unit sphere, unless told.

    Example:
        >>> from keepshot.theory.regression import isotropic
        >>> round(float(pretrained(isotropic(5, noise=0.1), context=20).A[0, 0]), 4)
        0.7925
    """
    tau = 1 / setting.dimension if variance is None else variance
    return _reading_labels(setting, context + 1, context + 1, setting.noise / tau)


def pretrained_paper(setting: Regression, context: int) -> Sparse:
    """The optimum as Corollary 4.1 prints it: without noise, and for a large context.

    Example:
        >>> from keepshot.theory.regression import isotropic
        >>> round(float(pretrained_paper(isotropic(5, noise=0.1), context=20).A[0, 0]), 4)   # m / (m + 1 + d)
        0.7692
    """
    return _reading_labels(setting, context, context + 1, 0.0)


def _reading_labels(setting: Regression, numerator: int, factor: int, extra: float) -> Sparse:
    eigenvalues, axes = np.linalg.eigh(setting.covariance)
    scores = numerator / (factor * eigenvalues + eigenvalues.sum() + extra)
    dimension = setting.dimension
    return Sparse(q=0.0, A=(axes * scores) @ axes.T, v=np.zeros(dimension), w=1.0)


def pretrained_risk(setting: Regression, A: Matrix, task: Vector, shots: int) -> float:
    """Corollary 4.2: the error of a model that reads only labels (q = 0, v = 0, w = 1), for any covariance.

        E = sigma^2 + ||(I - n/(n+1) A Sigma) theta||^2 + n/(n+1)^2 [t_2 (S + sigma^2) + theta' S A S A S theta]

    The norm is Sigma's. The first part falls with n: learning. The last first rises: n random examples.
    """
    n, S = shots, setting.covariance
    SA = S @ A
    rest = task - n / (n + 1) * (A @ S @ task)
    spread = np.trace(SA @ SA) * (setting.power(task) + setting.noise) + task @ SA @ SA @ S @ task
    return float(setting.noise + setting.power(rest) + n / (n + 1) ** 2 * spread)


def scaled_risk(shots: int, dimension: int, noise: float, power: float, scale: float) -> float:
    """The same for A = a Sigma^-1, which depends on covariance and task only through S.

        E = sigma^2 + S (1 - a n/(n+1))^2 + n a^2/(n+1)^2 [(d+1) S + d sigma^2]

    For n -> inf it tends to sigma^2 + S (1 - a)^2.

    Args:
        shots: n.
        dimension: d.
        noise: sigma^2.
        power: S.
        scale: a; m / (m + 1 + d) after pretraining on Sigma = I in the paper's form.

    Example:
        >>> [round(scaled_risk(n, 5, 0.1, 1.0, 20 / 26), 4) for n in (0, 1, 20)]   # one example is worse than none
        [1.1, 1.4402, 0.3459]
    """
    n, d, a = shots, dimension, scale
    spread = (d + 1) * power + d * noise
    return noise + power * (1 - a * n / (n + 1)) ** 2 + n * a**2 / (n + 1) ** 2 * spread


def harmful_shots(setting: Regression, A: Matrix, task: Vector) -> float:
    """Few shots are worse than none exactly for 1 <= n < this: Corollary 4.2.

        n + 1 < t_2 (S + sigma^2) / (2 theta' S A S theta - theta' S A S A S theta)
              = a d (1 + sigma^2 / S) / (2 - a)    for A = a Sigma^-1

    Without noise and with a long pretraining context this is n <= d - 2.

    Returns:
        Infinite where no number of examples helps.

    Example:
        >>> from keepshot.theory.regression import isotropic, target
        >>> setting = isotropic(5, noise=0.1)
        >>> round(harmful_shots(setting, pretrained_paper(setting, 20).A, target(5)), 9)   # so n = 1 and 2
        2.4375
    """
    SA = setting.covariance @ A
    gained = 2 * (task @ SA @ setting.covariance @ task) - task @ SA @ SA @ setting.covariance @ task
    spread = np.trace(SA @ SA) * (setting.power(task) + setting.noise)
    return float(spread / gained - 1) if gained > 0 else math.inf
