"""Monte Carlo: test errors from sampled prompts, independent of every closed form.

Prompts have all demonstrations that were asked for; the n-shot prompt is the query with the first n of them. So one
sample serves all shot counts, models and tasks, and their errors are compared on the same draws. Sums over tokens are
running sums, hence the cost of all shot counts is that of the largest.

Draws are keyed by seed, purpose and chunk (`keepshot.keys`): asking for more prompts repeats the first ones.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from keepshot.keys import Part, key
from keepshot.theory.regression import Regression, Vector
from keepshot.theory.risk import Dense

CHUNK = 20_000
"""Prompts at a time: small enough for the cache of a processor core."""


@dataclass(frozen=True, slots=True)
class Estimate:
    """A mean over sampled prompts.

    Attributes:
        mean: Of the squared errors.
        standard_error: Of the mean.
        prompts: How many were sampled.
    """

    mean: float
    standard_error: float
    prompts: int

    def deviation(self, expected: float) -> float:
        """How many standard errors `expected` lies above the mean."""
        return (expected - self.mean) / self.standard_error


def simulate(
    setting: Regression,
    models: Sequence[Dense],
    tasks: Sequence[Vector],
    shots: Sequence[int],
    prompts: int,
    *purpose: Part,
) -> list[list[list[Estimate]]]:
    """Test errors of models, each on every task at every number of shots.

    Args:
        setting: Covariance and noise.
        models: One head, one layer; see `Sparse.dense`.
        tasks: Each draws its labels from the same inputs and noises.
        shots: Any numbers of demonstrations.
        prompts: Rounded up to whole chunks of `CHUNK`, at least one.
        *purpose: Of the draws: the seed, and what they are for.

    Returns:
        Estimates by model, task and position in `shots`.

    Example:
        >>> from keepshot.theory.full import harmless
        >>> from keepshot.theory.regression import isotropic, target
        >>> [[[found]]] = simulate(isotropic(5, noise=0.1), [harmless(target(5))], [target(5)], [3], 20_000, 0, "doc")
        >>> abs(found.deviation(0.1)) < 4
        True
    """
    chunks = max(1, math.ceil(prompts / CHUNK))
    sums = np.zeros((2, len(models), len(tasks), len(shots)))
    root = np.linalg.cholesky(setting.covariance)
    for chunk in range(chunks):
        random = np.random.default_rng(key("theory", *purpose, chunk))
        inputs = random.standard_normal((CHUNK, max(shots) + 1, setting.dimension)) @ root.T
        noises = math.sqrt(setting.noise) * random.standard_normal(inputs.shape[:2])
        for place, task in enumerate(tasks):
            tokens, labels = prompts_of(inputs, inputs @ task + noises)
            for number, model in enumerate(models):
                squares = (labels[:, None] - predictions(tokens, model, shots)) ** 2
                sums[:, number, place] += squares.sum(axis=0), (squares**2).sum(axis=0)
    total = chunks * CHUNK
    means = sums[0] / total
    errors = np.sqrt((sums[1] / total - means**2) / total)
    return [
        [[Estimate(float(mean), float(error), total) for mean, error in zip(*row, strict=True)] for row in rows]
        for rows in (list(zip(*pair, strict=True)) for pair in zip(means, errors, strict=True))
    ]


def prompts_of(
    inputs: Float[np.ndarray, "prompts tokens d"], labels: Float[np.ndarray, "prompts tokens"]
) -> tuple[Float[np.ndarray, "prompts tokens width"], Float[np.ndarray, " prompts"]]:
    """Tokens (1, x, y) with the query first and its label hidden, and the queries' labels."""
    tokens = np.empty((*labels.shape, inputs.shape[2] + 2))
    tokens[..., 0], tokens[..., 1:-1], tokens[..., -1] = 1.0, inputs, labels
    tokens[:, 0, -1] = 0.0
    return tokens, labels[:, 0]


def predictions(
    tokens: Float[np.ndarray, "prompts tokens width"], model: Dense, shots: Sequence[int]
) -> Float[np.ndarray, "prompts shots"]:
    """1/(n+1) times the running sum over tokens of score times value."""
    query = tokens[:, 0] @ model.score
    products = np.matmul(tokens, query[:, :, None])[..., 0] * (tokens @ model.value)
    counts = np.asarray(shots)
    return np.cumsum(products, axis=1)[:, counts] / (counts + 1)
