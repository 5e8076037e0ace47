"""The third witness: the same model trained, on sampled prompts and by its exact loss.

Both stages are plain stochastic gradient descent (authors' code): momentum .9, learning rate .01, gradient norm clipped
at 1 over what is trained, 5,000 steps of 5,000 prompts.

- **Pretraining**: fresh prompts of m demonstrations in every step, each with a task of its own on the unit sphere.
- **Fine-tuning**: one task; a fixed pool of 100,000 pairs (x, y), drawn from with replacement. The zero-shot prompt is
  the query alone. With a few-shot loss, the same query also stands behind n demonstrations, and the loss is
  E(0) + lambda_t E(n) with lambda_t falling from 1 to 0: what remains is what the zero-shot loss does not see.

`descend_exactly` does the same within the sparse family by its population loss, autograd through the master formula: no
prompts, no sampling noise.
"""

import copy
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

from keepshot.keys import Part, key
from keepshot.models.linear_attention import LinearAttention, Shape, train_only
from keepshot.models.roles import Role
from keepshot.theory.regression import Regression, Vector
from keepshot.theory.risk import Dense, Sparse, Term, master

ALL: tuple[Role, ...] = ("query", "key", "value")
"""The roles of full fine-tuning."""


@dataclass(frozen=True, slots=True)
class Budget:
    """How long to train; the defaults are the authors'.

    Attributes:
        steps: Of each stage.
        batch: Prompts in a step.
        pool: Pairs (x, y) that fine-tuning draws from.
        learning_rate: Constant.
    """

    steps: int = 5_000
    batch: int = 5_000
    pool: int = 100_000
    learning_rate: float = 0.01


@dataclass(frozen=True, slots=True)
class FewShotLoss:
    """An added loss on prompts with demonstrations of the target.

    Attributes:
        shots: n.
        weight: lambda at the first step.
        annealed: Whether lambda falls to 0 in equal steps; else it stays.
    """

    shots: int = 20
    weight: float = 1.0
    annealed: bool = True

    def at(self, step: int, steps: int) -> float:
        """lambda at a step, counted from 0."""
        return self.weight * ((steps - 1 - step) / max(1, steps - 1) if self.annealed else 1.0)


def descend(parameters: Sequence[nn.Parameter], loss_at: Callable[[int], Tensor], budget: Budget) -> None:
    """The training loop of this room: `loss_at(step)` is minimised in place."""
    optimizer = torch.optim.SGD(parameters, lr=budget.learning_rate, momentum=0.9)
    for step in range(budget.steps):
        optimizer.zero_grad()
        loss_at(step).backward()
        nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()


def pretrain(setting: Regression, shape: Shape, context: int, budget: Budget, seed: int) -> LinearAttention:
    """A model that learns tasks of the unit sphere from `context` demonstrations."""
    model = LinearAttention(shape, seed)

    def loss_at(step: int) -> Tensor:
        random = torch.Generator().manual_seed(key(seed, "theory pretraining", step))
        tasks = torch.randn(budget.batch, setting.dimension, 1, generator=random)
        tasks = tasks / tasks.norm(dim=1, keepdim=True)
        return _squared_error(model, *_pairs(setting, tasks, (budget.batch, context + 1), random))

    descend(train_only(model, ALL), loss_at, budget)
    return model


def finetune(
    base: LinearAttention,
    setting: Regression,
    task: Vector,
    roles: Collection[Role],
    few_shot: FewShotLoss | None,
    budget: Budget,
    seed: int,
) -> LinearAttention:
    """A copy of `base`, tuned on one task.

    Args:
        base: The pretrained model; it stays as it is.
        setting: Covariance and noise.
        task: theta_0.
        roles: What may move; everything else stays bit-identical and is left out of the clipped norm.
        few_shot: The added loss, None for the zero-shot loss alone.
        budget: How long.
        seed: Of the pool and of what is drawn from it.
    """
    model = copy.deepcopy(base)
    random = torch.Generator().manual_seed(key(seed, "theory pool"))
    column = torch.as_tensor(task, dtype=torch.float32)[:, None]
    inputs, labels = _pairs(setting, column, (budget.pool, 1), random)
    tokens = few_shot.shots + 1 if few_shot else 1

    def loss_at(step: int) -> Tensor:
        random = torch.Generator().manual_seed(key(seed, "theory fine-tuning", step))
        drawn = torch.randint(budget.pool, (budget.batch, tokens), generator=random)
        x, y = inputs[drawn, 0], labels[drawn, 0]
        loss = _squared_error(model, x[:, -1:], y[:, -1:])
        weight = few_shot.at(step, budget.steps) if few_shot else 0.0
        return loss + weight * _squared_error(model, x, y) if weight else loss

    descend(train_only(model, roles), loss_at, budget)
    return model


def trained_risks(
    model: LinearAttention, setting: Regression, task: Vector, shots: Sequence[int], prompts: int, *purpose: Part
) -> list[tuple[float, float]]:
    """The test error of any trained model at every number of shots, with its standard error.

    The query and the first n demonstrations of one prompt are the n-shot prompt.
    """
    random = torch.Generator().manual_seed(key("theory test", *purpose))
    column = torch.as_tensor(task, dtype=torch.float32)[:, None]
    x, y = _pairs(setting, column, (prompts, max(shots) + 1), random)
    found = []
    with torch.no_grad():
        for count in shots:
            last = slice(x.shape[1] - 1 - count, None)
            squares = _squares(model, x[:, last], y[:, last]).double()
            found.append((float(squares.mean()), float(squares.std()) / prompts**0.5))
    return found


def as_dense(model: LinearAttention) -> Dense:
    """What the prediction of a model of one layer and one head depends on."""
    assert (model.shape.layers, model.shape.heads, model.shape.softmax) == (1, 1, False), model.shape
    [layer] = model.layers
    with torch.no_grad():
        return Dense(layer.value[0, -1].double().numpy(), layer.scores[0].double().numpy())


@dataclass(frozen=True, slots=True)
class Invariants:
    """Products of a model's numbers that do not depend on its scale.

    Attributes:
        product: V_yy tr(Q_11) / d, the pretrained a*.
        known: q v^T theta_0, 1 after full fine-tuning.
        w: v^T theta_0 / V_yy, the free scale of full fine-tuning.
        value: v^T theta_0 tr(Q_11) / d (d + 4), 1 after value-only fine-tuning of a task of norm 1.
    """

    product: float
    known: float
    w: float
    value: float


def invariants(model: Dense, task: Vector) -> Invariants:
    """See `Invariants`."""
    dimension = len(task)
    mean_score = float(np.trace(model.score[1:-1, 1:-1])) / dimension
    read, label = float(model.value[1:-1] @ task), float(model.value[-1])
    return Invariants(
        label * mean_score, float(model.score[0, 0]) * read, read / label, read * mean_score * (dimension + 4)
    )


def descend_exactly(
    setting: Regression,
    start: Sparse,
    roles: Collection[Role],
    terms_at: Callable[[int], Sequence[Term]],
    budget: Budget,
) -> Sparse:
    """Gradient descent on the exact loss within the sparse family; `batch` and `pool` of the budget are not used.

    Args:
        setting: Covariance and noise.
        start: Where.
        roles: Value moves v and w; query and key move q and A.
        terms_at: The loss at a step.
        budget: Steps and learning rate.
    """
    value = "value" in roles
    score = "query" in roles or "key" in roles
    moves = (score, score, value, value)
    q, A, v, w = numbers = [
        nn.Parameter(torch.tensor(number, dtype=torch.float64), requires_grad=moving)
        for number, moving in zip((start.q, start.A, start.v, start.w), moves, strict=True)
    ]
    covariance = torch.from_numpy(setting.covariance)

    def loss_at(step: int) -> Tensor:
        total = torch.zeros((), dtype=torch.float64)
        terms = terms_at(step)
        for shots in {term.shots for term in terms}:
            same = [term for term in terms if term.shots == shots]
            tasks = torch.from_numpy(np.stack([term.task for term in same]))
            weights = torch.tensor([term.weight for term in same], dtype=torch.float64)
            parameters = (q, (A + A.mT) / 2, v, w)
            total = total + weights @ _errors(covariance, setting.noise, parameters, tasks, shots)
        return total

    descend([number for number in numbers if number.requires_grad], loss_at, budget)
    with torch.no_grad():
        return Sparse(float(q), ((A + A.mT) / 2).numpy(), v.numpy(), float(w))


def _errors(
    covariance: Tensor, noise: float, parameters: tuple[Tensor, ...], tasks: Tensor, shots: int
) -> Float[Tensor, " tasks"]:
    """The master formula on several tasks at once."""
    q, A, v, w = parameters
    found: Tensor = torch.vmap(lambda task: master(covariance, noise, (q, A, v, w), task, shots))(tasks)
    return found


def _pairs(
    setting: Regression, tasks: Float[Tensor, "*prompts d 1"], size: tuple[int, int], random: torch.Generator
) -> tuple[Float[Tensor, "prompts tokens d"], Float[Tensor, "prompts tokens"]]:
    """Inputs and noisy labels, float32: sampling noise is far above its rounding."""
    root = torch.as_tensor(np.linalg.cholesky(setting.covariance), dtype=torch.float32)
    x = torch.randn(*size, setting.dimension, generator=random) @ root.mT
    return x, (x @ tasks)[..., 0] + setting.noise**0.5 * torch.randn(size, generator=random)


def _squares(
    model: LinearAttention, x: Float[Tensor, "prompts tokens d"], y: Float[Tensor, "prompts tokens"]
) -> Float[Tensor, " prompts"]:
    """Squared errors on the last pair's label, which the model is not shown."""
    shown = torch.cat([y[:, :-1], torch.zeros(len(y), 1)], dim=1)
    tokens = torch.cat([torch.ones_like(shown)[..., None], x, shown[..., None]], dim=2)
    return (model(tokens) - y[:, -1]) ** 2


def _squared_error(
    model: LinearAttention, x: Float[Tensor, "prompts tokens d"], y: Float[Tensor, "prompts tokens"]
) -> Float[Tensor, ""]:
    return _squares(model, x, y).mean()
