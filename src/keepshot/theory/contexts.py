"""Training with examples in the prompt, in two models of two or three numbers: what a kind of context teaches.

A target y is predicted from an estimate h in the weights and from the labels of k examples:

    y^ = a_0 h + sum_i a_i y_i,  a_0 + sum_i a_i = 1,  h = y + xi,  Var y = 1,  Var xi = sigma_w^2

With y ~ GP(0, s) and s_ij = s_i s_j the expected squared error is exactly

    L = a_0^2 sigma_w^2 + sum_ij a_i a_j (s_ij - s_i - s_j + 1)
      = a_0^2 sigma_w^2 + (sum_i a_i (1 - s_i))^2 + sum_i a_i^2 (1 - s_i^2)

| symbol | meaning | shape | name here |
|---|---|---|---|
| s_i | similarity of example i to the target | k | `Contexts.similarities` |
| sigma_w^2 | error of the estimate in the weights | | `noise` |
| theta | what is learned | 3 | `parameters` |
| a_0, a_i | weights of the estimate and of the labels | 1 + k | what `binding` and `gated` return |

Both models are this project's, not those of arXiv 2604.01601, whose equations are not known; Model R is patterned on
the induction head of Reddy (arXiv 2312.03002).
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Complex, Float

Array = Float[np.ndarray, "..."] | Complex[np.ndarray, "..."]
Weigh = Callable[[Array, Float[np.ndarray, "kinds grades k"]], Array]

SLOTS, NOISE = 5, 0.3
NEAR, PARAPHRASE = 0.7, 0.95
_STEP = 1e-30  # of complex differentiation, which is exact at any size


@dataclass(frozen=True, slots=True)
class Contexts:
    """Kinds of contexts to train on, each a mixture of grades.

    Attributes:
        names: Of the kinds.
        similarities: Of the examples to the target; kinds x grades x slots.
        shares: Of the grades; kinds x grades, each kind's sum to 1.
    """

    names: tuple[str, ...]
    similarities: Float[np.ndarray, "kinds grades k"]
    shares: Float[np.ndarray, "kinds grades"]


@dataclass(frozen=True, slots=True)
class Model:
    """How examples are weighed, where training begins, and how long it takes.

    Attributes:
        weigh: From parameters (… kinds x 3) and similarities to weights (… kinds x grades x (1 + k)), a_0 first.
        start: Of gradient descent.
        steps: At a learning rate of .5, to where hardly anything moves.
    """

    weigh: Weigh
    start: tuple[float, float, float]
    steps: int


def context(similar: int, similarity: float, slots: int = SLOTS) -> Float[np.ndarray, " k"]:
    """Similarities of a context with so many similar examples, the others unrelated."""
    return np.where(np.arange(slots) < similar, similarity, 0.0)


def kinds(mixtures: Mapping[str, Sequence[tuple[float, Float[np.ndarray, " k"]]]]) -> Contexts:
    """Kinds of contexts from mixtures of (share, similarities).

    Example:
        >>> kinds({"random": [(1.0, context(0, 0.0))]}).similarities.shape
        (1, 1, 5)
    """
    most = max(map(len, mixtures.values()))
    padded = [[*mixture, *[(0.0, mixture[0][1])] * (most - len(mixture))] for mixture in mixtures.values()]
    shares = np.array([[share for share, _ in mixture] for mixture in padded])
    return Contexts(tuple(mixtures), np.array([[one for _, one in mixture] for mixture in padded]), shares)


RANDOM, ONE_NEAR, ONE_PARAPHRASE = context(0, 0.0), context(1, NEAR), context(1, PARAPHRASE)
ALL_PARAPHRASES = context(SLOTS, PARAPHRASE)
KINDS = kinds(
    {
        "random": [(1.0, RANDOM)],
        "similar only": [(1.0, ALL_PARAPHRASES)],
        "within only": [(1.0, ONE_PARAPHRASE)],
        "across only": [(0.5, ALL_PARAPHRASES), (0.5, RANDOM)],
        "contrastive": [(0.45, ONE_NEAR), (0.10, ONE_PARAPHRASE), (0.45, RANDOM)],
        "contrastive, evenly": [(1 / 3, ONE_NEAR), (1 / 3, ONE_PARAPHRASE), (1 / 3, RANDOM)],
    }
)


def binding(parameters: Array, similarities: Float[np.ndarray, "kinds grades k"]) -> Array:
    """Model R: a label is bound to its input with strength theta_1, matched with theta_2; c holds the estimate.

    beta = e^theta_1 / (e^theta_1 + k); logits theta_2 (beta s_i + (1 - beta) mean s) of labels, c of the estimate.
    """
    theta_1, theta_2, c = (parameters[..., i, None, None] for i in range(3))
    beta = np.exp(theta_1) / (np.exp(theta_1) + similarities.shape[-1])
    matched = theta_2 * (beta * similarities + (1 - beta) * similarities.mean(-1, keepdims=True))
    return _softmax(np.concatenate([np.broadcast_to(c, (*matched.shape[:-1], 1)), matched], axis=-1))


def gated(parameters: Array, similarities: Float[np.ndarray, "kinds grades k"]) -> Array:
    """Model B: examples are chosen by theta_1, and a gate of theta_2 and theta_3 says how far they are followed.

    b = softmax(theta_1 s), g = sigmoid(theta_2 sum_i b_i s_i + theta_3), a = (1 - g, g b).
    """
    theta_1, theta_2, theta_3 = (parameters[..., i, None, None] for i in range(3))
    chosen = _softmax(theta_1 * similarities)
    gate = 1 / (1 + np.exp(-(theta_2 * (chosen * similarities).sum(-1, keepdims=True) + theta_3)))
    return np.concatenate([1 - gate, gate * chosen], axis=-1)


MODELS = {"R": Model(binding, (0.0, 0.5, 0.0), 15_000), "B": Model(gated, (0.5, 0.5, 0.0), 6_000)}


def errors(weights: Array, similarities: Float[np.ndarray, "... k"], noise: float = NOISE) -> Array:
    """The expected squared error of weights on contexts (the L above).

    Example:
        >>> float(errors(np.array([1.0, 0, 0]), np.zeros(2)))    # the estimate alone
        0.3
    """
    of_labels = weights[..., 1:]
    shared = (of_labels * (1 - similarities)).sum(-1)
    own = (of_labels**2 * (1 - similarities**2)).sum(-1)
    return np.asarray(weights[..., 0] ** 2 * noise + shared**2 + own)


def losses(model: Model, parameters: Array, contexts: Contexts, noise: float = NOISE) -> Array:
    """The expected error of each kind: its grades' by their shares."""
    weights = model.weigh(parameters, contexts.similarities)
    return np.asarray((errors(weights, contexts.similarities, noise) * contexts.shares).sum(-1))


def slopes(
    model: Model, parameters: Float[np.ndarray, "kinds 3"], contexts: Contexts, noise: float = NOISE
) -> Float[np.ndarray, "kinds 3"]:
    """The exact gradient of each kind's loss, by complex differentiation (Squire and Trapp 1998)."""
    moved = parameters + 1j * _STEP * np.eye(3)[:, None, :]
    return np.imag(losses(model, moved, contexts, noise)).T / _STEP


def trained(
    model: Model, contexts: Contexts = KINDS, noise: float = NOISE, rate: float = 0.5
) -> Float[np.ndarray, "kinds 3"]:
    """Where gradient descent ends, on each kind of contexts."""
    parameters = np.tile(np.array(model.start), (len(contexts.names), 1))
    for _ in range(model.steps):
        parameters = parameters - rate * slopes(model, parameters, contexts, noise)
    return parameters


def on_test(
    model: Model, parameters: Float[np.ndarray, "kinds 3"], similarities: Float[np.ndarray, " k"], noise: float = NOISE
) -> tuple[Float[np.ndarray, " kinds"], Float[np.ndarray, "kinds weights"]]:
    """Errors and weights on one context, of what each kind has taught."""
    grade = np.broadcast_to(similarities, (len(parameters), 1, len(similarities)))
    weights = model.weigh(parameters, grade)
    return errors(weights, grade, noise)[:, 0], weights[:, 0]


def estimate_weight(slots: int, similarity: float, noise: float) -> float:
    """The best a_0 where all examples are equally similar: V / (sigma_w^2 + V), V the error of the labels' mean.

    V = 2 (1 - s) / k + (1 - 1/k) (1 - s)^2; for s = 0 it is 1 + 1/k.

    Example:
        >>> round(estimate_weight(5, 0.0, 0.3), 3)
        0.8
    """
    spread = 2 * (1 - similarity) / slots + (1 - 1 / slots) * (1 - similarity) ** 2
    return spread / (noise + spread)


def estimate_logit(slots: int, similarity: float, noise: float) -> float:
    """The same as a logit against k equal ones: log(k a_0 / (1 - a_0)).

    In Model R it is c for random contexts, and c - theta_2 s where all examples are equally similar.

    Example:
        >>> round(estimate_logit(5, 0.0, 0.3), 4), round(estimate_logit(5, 0.95, 0.3), 4)
        (2.9957, -1.0033)
    """
    a_0 = estimate_weight(slots, similarity, noise)
    return float(np.log(slots * a_0 / (1 - a_0)))


def _softmax(logits: Array) -> Array:
    raised = np.exp(logits - np.real(logits).max(-1, keepdims=True))
    return raised / raised.sum(-1, keepdims=True)
