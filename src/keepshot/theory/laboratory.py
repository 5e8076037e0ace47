"""Trained models for the figures: every method, from the same pretrained model, over several seeds."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from keepshot.models.linear_attention import LinearAttention, Shape
from keepshot.models.roles import Role
from keepshot.theory.curves import CONTEXT, SETTING, Panel, Series
from keepshot.theory.regression import target
from keepshot.theory.training import (
    ALL,
    Budget,
    FewShotLoss,
    Invariants,
    as_dense,
    finetune,
    invariants,
    pretrain,
    trained_risks,
)

_PARTS: dict[str, tuple[Role, ...]] = {"all": ALL, "value": ("value",), "query+key": ("query", "key")}
_SEPARATE: dict[str, tuple[Role, ...]] = {"all": ALL, "value": ("value",), "query": ("query",), "key": ("key",)}
_SHOTS = (0, 1, 2, 3, 5, 8, 12, 16, 20)


@dataclass(frozen=True, slots=True, eq=False)
class Trained:
    """One model."""

    method: str
    seed: int
    model: LinearAttention

    @property
    def invariants(self) -> Invariants:
        """Its numbers that theory predicts."""
        return invariants(as_dense(self.model), target(SETTING.dimension))


def train(separate: bool, seeds: int, budget: Budget, say: Callable[[str], None]) -> list[Trained]:
    """Pretrain once per seed, then tune a copy by every method with and without a few-shot loss.

    Args:
        separate: Whether query and key are matrices of their own.
        seeds: How many replicates.
        budget: Of each training.
        say: Told what is trained next.
    """
    made = []
    shape = Shape(SETTING.dimension, separate=separate)
    for seed in range(seeds):
        say(f"seed {seed}: pretraining")
        base = pretrain(SETTING, shape, CONTEXT, budget, seed)
        made.append(Trained("pretrained", seed, base))
        for name, roles in (_SEPARATE if separate else _PARTS).items():
            for few_shot in (None, FewShotLoss(CONTEXT)):
                method = f"{name} + few-shot" if few_shot else name
                say(f"seed {seed}: {method}")
                tuned = finetune(base, SETTING, target(SETTING.dimension), roles, few_shot, budget, seed)
                made.append(Trained(method, seed, tuned))
    return made


def trained_series(made: Sequence[Trained], panel: Panel, prompts: int, only: Sequence[str] | None) -> Iterator[Series]:
    """The mean over seeds of each method's test errors on the task of a panel.

    Args:
        made: Models.
        panel: Its first curve names the task.
        prompts: For each error.
        only: Methods to show; all unless told.

    Yields:
        Standard errors are those of the mean over seeds; with one seed, of the mean over prompts.
    """
    task = panel.curves[0].points[0].task
    for method in dict.fromkeys(trained.method for trained in made):
        if only is not None and method not in only:
            continue
        found = np.array(
            [
                trained_risks(trained.model, SETTING, task, _SHOTS, prompts, trained.seed, panel.title)
                for trained in made
                if trained.method == method
            ]
        )
        means, seeds = found[..., 0].mean(axis=0), len(found)
        errors = found[0, :, 1] if seeds == 1 else found[..., 0].std(axis=0, ddof=1) / seeds**0.5
        yield Series(method, "trained", tuple(map(float, _SHOTS)), tuple(means.tolist()), tuple(errors.tolist()))
