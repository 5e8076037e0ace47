"""The third witness: the same model trained on sampled prompts.

Both stages are plain stochastic gradient descent (authors' code): momentum .9, learning rate .01, gradient norm clipped
at 1 over what is trained, 5,000 steps of 5,000 prompts.

- **Pretraining**: fresh prompts of m demonstrations in every step, each with a task of its own on the unit sphere.
- **Fine-tuning**: one task or several; a fixed pool of 100,000 inputs with a label for each task, drawn from with
  replacement. The zero-shot prompt is the query alone. With a few-shot loss, the same query also stands behind n
  demonstrations of its task, and the loss is E(0) + lambda_t E(n). With anchors, fresh prompts are drawn in every step,
  and the loss has the mean squared difference to the base's predictions on them (`keepshot.theory.preservation`).

`keepshot.theory.descent` does the same within the sparse family by its population loss.
"""

import copy
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from keepshot.keys import Part, key
from keepshot.models.linear_attention import LinearAttention, Shape, train_only
from keepshot.theory.descent import descend
from keepshot.theory.preservation import Anchors, anchor_prompts
from keepshot.theory.regression import Regression, Vector
from keepshot.theory.risk import Dense
from keepshot.theory.tuning import ALL, Budget, Tuning


def pretrain(setting: Regression, shape: Shape, context: int, budget: Budget, seed: int) -> LinearAttention:
    """A model that learns tasks of the unit sphere from `context` demonstrations."""
    model = LinearAttention(shape, seed)

    def loss_at(step: int) -> Tensor:
        random = torch.Generator().manual_seed(key(seed, "theory pretraining", step))
        tasks = _on_the_sphere((budget.batch, setting.dimension), random)
        x, y = _pairs(setting, tasks, (budget.batch, context + 1), random)
        return _squared_error(model, x, y[..., 0])

    descend(train_only(model, ALL), loss_at, budget)
    return model


def finetune(
    base: LinearAttention,
    setting: Regression,
    tasks: Sequence[Vector],
    tuning: Tuning,
    budget: Budget,
    seed: int,
) -> LinearAttention:
    """A copy of `base`, tuned on one task or several.

    Args:
        base: The pretrained model; it stays as it is.
        setting: Covariance and noise.
        tasks: theta_0, or several; each prompt has one of them, drawn evenly.
        tuning: What moves, and what is minimised. What does not move is left out of the clipped norm.
        budget: How long.
        seed: Of the pool and of what is drawn.
    """
    model = copy.deepcopy(base)
    random = torch.Generator().manual_seed(key(seed, "theory pool"))
    inputs, labels = _pairs(setting, _columns(np.stack(tasks, axis=1)), (budget.pool, 1), random)
    few_shot, anchors = tuning.few_shot, tuning.anchors
    tokens = few_shot.shots + 1 if few_shot else 1

    def loss_at(step: int) -> Tensor:
        random = torch.Generator().manual_seed(key(seed, "theory fine-tuning", step))
        drawn = torch.randint(budget.pool, (budget.batch, tokens), generator=random)
        task = torch.randint(len(tasks), (budget.batch, 1), generator=random)
        x, y = inputs[drawn, 0], labels[drawn, 0, task]
        loss = _squared_error(model, x[:, -1:], y[:, -1:])
        if few_shot and (weight := few_shot.at(step, budget.steps)):
            loss = loss + weight * _squared_error(model, x, y)
        if anchors and anchors.weight:
            loss = loss + anchors.weight * _drift(model, base, setting, anchors, budget.batch, key(seed, step))
        return loss

    descend(train_only(model, tuning.roles), loss_at, budget)
    return model


def trained_risks(
    model: LinearAttention, setting: Regression, task: Vector | None, shots: Sequence[int], prompts: int, *purpose: Part
) -> list[tuple[float, float]]:
    """The test error of any trained model at every number of shots, with its standard error.

    The query and the first n demonstrations of one prompt are the n-shot prompt. Without a task, each prompt has one
    of its own from the unit sphere.
    """
    random = torch.Generator().manual_seed(key("theory test", *purpose))
    tasks = _on_the_sphere((prompts, setting.dimension), random) if task is None else _columns(task[:, None])
    x, y = _pairs(setting, tasks, (prompts, max(shots) + 1), random)
    found = []
    with torch.no_grad():
        for count in shots:
            last = slice(x.shape[1] - 1 - count, None)
            squares = _squares(model, x[:, last], y[:, last, 0]).double()
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


def _columns(tasks: Float[np.ndarray, "d tasks"]) -> Float[Tensor, "d tasks"]:
    return torch.as_tensor(tasks, dtype=torch.float32)


def _on_the_sphere(size: tuple[int, int], random: torch.Generator) -> Float[Tensor, "prompts d 1"]:
    tasks = torch.randn(*size, 1, generator=random)
    return tasks / tasks.norm(dim=1, keepdim=True)


def _pairs(
    setting: Regression, tasks: Float[Tensor, "*prompts d tasks"], size: tuple[int, int], random: torch.Generator
) -> tuple[Float[Tensor, "prompts tokens d"], Float[Tensor, "prompts tokens tasks"]]:
    """Inputs and noisy labels, float32: sampling noise is far above its rounding. Tasks share the noise of an input."""
    root = torch.as_tensor(np.linalg.cholesky(setting.covariance), dtype=torch.float32)
    x = torch.randn(*size, setting.dimension, generator=random) @ root.mT
    return x, x @ tasks + setting.noise**0.5 * torch.randn(*size, 1, generator=random)


def _tokens(
    x: Float[Tensor, "prompts tokens d"], y: Float[Tensor, "prompts tokens"]
) -> Float[Tensor, "prompts tokens width"]:
    """(1, x, y), without the last pair's label."""
    shown = torch.cat([y[:, :-1], torch.zeros(len(y), 1)], dim=1)
    return torch.cat([torch.ones_like(shown)[..., None], x, shown[..., None]], dim=2)


def _squares(
    model: LinearAttention, x: Float[Tensor, "prompts tokens d"], y: Float[Tensor, "prompts tokens"]
) -> Float[Tensor, " prompts"]:
    """Squared errors on the last pair's label, which the model is not shown."""
    return (model(_tokens(x, y)) - y[:, -1]) ** 2


def _squared_error(
    model: LinearAttention, x: Float[Tensor, "prompts tokens d"], y: Float[Tensor, "prompts tokens"]
) -> Float[Tensor, ""]:
    return _squares(model, x, y).mean()


def _drift(
    model: LinearAttention, base: LinearAttention, setting: Regression, anchors: Anchors, prompts: int, seed: int
) -> Float[Tensor, ""]:
    """The mean squared difference to the base's predictions on fresh anchor prompts."""
    random = torch.Generator().manual_seed(key(seed, "theory anchors"))
    drawn_from, terms = anchor_prompts(setting, anchors)
    tasks = _on_the_sphere((prompts, setting.dimension), random)
    if anchors.labels == "arbitrary":
        [term] = terms
        tasks = _columns(term.task[:, None])
    x, y = _pairs(drawn_from, tasks, (prompts, anchors.shots + 1), random)
    tokens = _tokens(x, y[..., 0])
    with torch.no_grad():
        held = base(tokens)
    return ((model(tokens) - held) ** 2).mean()
