"""Plain gradient descent, and its exact form: on the population loss of the sparse family, without sampling noise."""

from collections.abc import Callable, Collection, Sequence

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

from keepshot.models.roles import Role
from keepshot.theory.preservation import Anchors, anchor_prompts, difference
from keepshot.theory.regression import Regression
from keepshot.theory.risk import Array, Sparse, Term, master
from keepshot.theory.tuning import Budget


def descend(parameters: Sequence[nn.Parameter], loss_at: Callable[[int], Tensor], budget: Budget) -> None:
    """The training loop of this room: `loss_at(step)` is minimised in place."""
    optimizer = torch.optim.SGD(parameters, lr=budget.learning_rate, momentum=0.9)
    for step in range(budget.steps):
        optimizer.zero_grad()
        loss_at(step).backward()
        nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()


def descend_exactly(
    setting: Regression,
    start: Sparse,
    roles: Collection[Role],
    terms_at: Callable[[int], Sequence[Term]],
    budget: Budget,
    anchors: Anchors | None = None,
) -> Sparse:
    """Gradient descent on the exact loss within the sparse family; `batch` and `pool` of the budget are not used.

    Args:
        setting: Covariance and noise.
        start: Where, and what anchors hold it to.
        roles: Value moves v and w; query and key move q and A.
        terms_at: The loss at a step.
        budget: Steps and learning rate.
        anchors: What holds the model to `start`.
    """
    value = "value" in roles
    score = "query" in roles or "key" in roles
    moves = (score, score, value, value)
    q, A, v, w = numbers = [
        nn.Parameter(torch.tensor(number, dtype=torch.float64), requires_grad=moving)
        for number, moving in zip((start.q, start.A, start.v, start.w), moves, strict=True)
    ]
    covariance = torch.from_numpy(setting.covariance)
    base = tuple(number.detach().clone() for number in numbers)

    def loss_at(step: int) -> Tensor:
        parameters = (q, (A + A.mT) / 2, v, w)
        total = _summed(terms_at(step), lambda *at: master(covariance, setting.noise, parameters, *at))
        if anchors is not None and anchors.weight:
            prompts, terms = anchor_prompts(setting, anchors)
            drift = _summed(terms, lambda *at: difference(covariance, prompts.noise, parameters, base, *at))
            total = total + anchors.weight * drift
        return total

    descend([number for number in numbers if number.requires_grad], loss_at, budget)
    with torch.no_grad():
        return Sparse(float(q), ((A + A.mT) / 2).numpy(), v.detach().numpy(), float(w))


def _summed(terms: Sequence[Term], at: Callable[[Array, int], Array]) -> Float[Tensor, ""]:
    """A weighted sum over terms; tasks with the same shots are computed at once."""
    total = torch.zeros((), dtype=torch.float64)
    for shots in {term.shots for term in terms}:
        same = [term for term in terms if term.shots == shots]
        tasks = torch.from_numpy(np.stack([term.task for term in same]))
        weights = torch.tensor([term.weight for term in same], dtype=torch.float64)
        total = total + weights @ torch.vmap(lambda task, shots=shots: at(task, shots))(tasks)
    return total
