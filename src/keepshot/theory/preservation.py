"""Held to the base on few-shot prompts: KL terms and self-anchors, where what they do can be computed exactly.

Let a model with prediction f stand for the labels' distribution N(f, sigma^2). Then KL(base || tuned) on a prompt is
(f_0 - f)^2 / (2 sigma^2), and a KL term on anchor prompts is their mean squared difference of both predictions, the
*drift* here:

    loss = E(0; theta_0) + lambda E_prompts (f - f_0)^2

No label of an anchor prompt's query is needed. Two kinds of prompts:

- **other tasks**: demonstrations of tasks of the prior, as in pretraining (`icl-kl` among the methods);
- **arbitrary labels**: inputs with labels that they have nothing to do with, as self-anchors give the target's own
  inputs arbitrary answers. Here all inputs are alike, so that a task of 0 with noise of the labels' whole variance is
  the barest form of it (`self-anchor`).

**Formula.** For two members of the sparse family on the same prompts, u_j = v_j + w_j theta, N = n + 1,
b_j = (n A_j S u_j + q_j v_j) / N (S = Sigma, ' = transposed),

    E f_1 f_2 = b_1'S b_2
        + 1/N   sum over both orders of [tr(A_j S) b_i'S v_j + 2 b_i'S A_j S v_j]
        + 1/N^2 v_1' M v_2
        + n/N^2 [(q_1 q_2 + t_12) (u_1'S u_2 + w_1 w_2 sigma^2) + u_2'S A_1 S A_2 S u_1]

    t_12 = tr(A_1 S A_2 S),  M = (tr(A_1 S) tr(A_2 S) + 2 t_12) S + 2 tr(A_1 S) S A_2 S + 2 tr(A_2 S) S A_1 S
                                 + 4 (S A_1 S A_2 S + S A_2 S A_1 S)

by the second, fourth and sixth moments of a Gaussian (Isserlis). With both the same and E y f it gives the master
formula again, which is tested.

For someone who fine-tunes: values alone can be held exactly where they were without losing what they were trained for
only in part; see docs/theory.md for what each trainable set pays.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

import numpy as np

from keepshot.errors import ConfigError
from keepshot.theory.regression import Regression
from keepshot.theory.risk import Array, Sparse, Term, objective, prior_terms
from keepshot.theory.value import error_in_value

Parameters: TypeAlias = tuple[Array, Array, Array, Array]
"""q, A, v, w."""


@dataclass(frozen=True, slots=True)
class Anchors:
    """A term that holds a model to its base.

    Attributes:
        labels: Those of tasks of the prior, or arbitrary ones.
        shots: n, the demonstrations of an anchor prompt.
        weight: lambda, of the mean squared difference of both predictions.

    Raises:
        ConfigError: A negative or infinite weight, or negative shots.
    """

    labels: Literal["tasks", "arbitrary"] = "tasks"
    shots: int = 20
    weight: float = 1.0

    def __post_init__(self) -> None:
        if self.shots < 0 or not 0 <= self.weight < math.inf:
            raise ConfigError(f"anchors have at least 0 shots and a finite weight of at least 0; got {self}")


def anchor_prompts(setting: Regression, anchors: Anchors) -> tuple[Regression, tuple[Term, ...]]:
    """What anchor prompts are drawn from: the setting that holds for them, and terms whose weights sum to 1.

    Arbitrary labels have the variance that labels have on average over tasks of the unit sphere.
    """
    dimension = setting.dimension
    if anchors.labels == "tasks":
        return setting, prior_terms(dimension, anchors.shots)
    variance = setting.noise + float(np.trace(setting.covariance)) / dimension
    return Regression(setting.covariance, variance), (Term(np.zeros(dimension), anchors.shots),)


def moment(covariance: Array, noise: float, first: Parameters, second: Parameters, task: Array, shots: int) -> Array:
    """E f_1 f_2 of two models on the same prompts, on arrays of any kind; see the top of the module."""
    q1, A1, v1, w1 = first
    q2, A2, v2, w2 = second
    n, tokens, S = shots, shots + 1, covariance
    u1, u2 = v1 + w1 * task, v2 + w2 * task
    SA1, SA2 = S @ A1, S @ A2
    t1, t2, t12 = SA1.trace(), SA2.trace(), (SA1 @ SA2).trace()
    b1, b2 = (n * (A1 @ S @ u1) + q1 * v1) / tokens, (n * (A2 @ S @ u2) + q2 * v2) / tokens
    SAS1, SAS2 = SA1 @ S, SA2 @ S
    crossed = t2 * (b1 @ S @ v2) + 2 * (b1 @ SAS2 @ v2) + t1 * (b2 @ S @ v1) + 2 * (b2 @ SAS1 @ v1)
    M = (t1 * t2 + 2 * t12) * S + 2 * t1 * SAS2 + 2 * t2 * SAS1 + 4 * (SA1 @ SAS2 + SA2 @ SAS1)
    spread = (q1 * q2 + t12) * (u1 @ S @ u2 + w1 * w2 * noise) + u2 @ SA1 @ SAS2 @ u1
    return b1 @ S @ b2 + crossed / tokens + (v1 @ M @ v2) / tokens**2 + n * spread / tokens**2


def difference(
    covariance: Array, noise: float, first: Parameters, second: Parameters, task: Array, shots: int
) -> Array:
    """E (f_1 - f_2)^2, on arrays of any kind."""
    mixed = moment(covariance, noise, first, second, task, shots)
    alone = [moment(covariance, noise, one, one, task, shots) for one in (first, second)]
    return alone[0] - 2 * mixed + alone[1]


def drift(setting: Regression, model: Sparse, base: Sparse, anchors: Anchors) -> float:
    """The mean squared difference of both predictions on anchor prompts, without its weight.

    Divided by 2 sigma^2 it is KL(base || tuned), in nats.

    Example:
        >>> from keepshot.theory.regression import isotropic
        >>> base = Sparse(q=0.0, A=np.eye(5), v=np.zeros(5), w=0.8)
        >>> drift(isotropic(5, noise=0.1), base, base, Anchors())
        0.0
    """
    prompts, terms = anchor_prompts(setting, anchors)
    first, second = ((one.q, one.A, one.v, one.w) for one in (model, base))

    def apart(term: Term) -> float:
        return float(difference(prompts.covariance, prompts.noise, first, second, term.task, term.shots))

    return sum(term.weight * apart(term) for term in terms)


def held_value(setting: Regression, base: Sparse, terms: Sequence[Term], anchors: Anchors) -> Sparse:
    """The minimiser over (v, w) of a loss with anchors, query and key frozen: a linear system.

    With the same scores, f - f_0 is the family's member with v - v_0 and w - w_0, hence quadratic in these.

    Args:
        setting: Covariance and noise.
        base: What is tuned, and what it is held to.
        terms: The target's loss, such as E(0; theta_0).
        anchors: Of positive weight and with demonstrations, since a zero-shot loss does not see w.

    Raises:
        ConfigError: Anchors that leave w undetermined.

    Example:
        >>> from keepshot.theory.regression import isotropic, target
        >>> from keepshot.theory.pretrained import pretrained
        >>> setting = isotropic(5, noise=0.1)
        >>> held = held_value(setting, pretrained(setting, 20), [Term(target(5), 0)], Anchors(weight=10.0))
        >>> round(held.w, 3)
        1.0
    """
    if anchors.shots == 0 or anchors.weight == 0:
        raise ConfigError(f"anchors need demonstrations and a weight to determine the value matrix; got {anchors}")
    error = error_in_value(setting, base.q, base.A, terms)
    prompts, anchor_terms = anchor_prompts(setting, anchors)
    pull = anchors.weight * error_in_value(prompts, base.q, base.A, anchor_terms).hessian
    best = np.linalg.solve(error.hessian + pull, error.linear + pull @ np.append(base.v, base.w))
    return Sparse(base.q, base.A, best[:-1], float(best[-1]))


def mean_error(setting: Regression, model: Sparse, shots: int) -> float:
    """E(n; theta) averaged over tasks of the unit sphere: what is left of learning from examples."""
    return objective(setting, model, prior_terms(setting.dimension, shots))
