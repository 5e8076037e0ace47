"""Trained models for the figures: experiments as values, each training on its own, several at a time."""

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from itertools import repeat
from multiprocessing import get_context
from typing import Any

import torch

from keepshot.models.linear_attention import LinearAttention, Shape
from keepshot.models.roles import Role
from keepshot.theory.beyond import tuned_tasks
from keepshot.theory.curves import CONTEXT, SETTING
from keepshot.theory.preservation import Anchors
from keepshot.theory.regression import target
from keepshot.theory.training import as_dense, finetune, invariants, pretrain
from keepshot.theory.tuning import ALL, Budget, FewShotLoss, Tuning

BEFORE = "pretrained"
SHAPES = {
    "merged": Shape(SETTING.dimension),
    "separate": Shape(SETTING.dimension, separate=True),
    # Softmax weighs no example by less than 0: the difference of two heads does.
    "softmax": Shape(SETTING.dimension, heads=2, softmax=True),
}
FEW_SHOT = " + few-shot"
_VALUE: tuple[Role, ...] = ("value",)
_SETS: Mapping[str, Mapping[str, tuple[Role, ...]]] = {
    "merged": {"all": ALL, "value": _VALUE, "query+key": ("query", "key")},
    "separate": {"all": ALL, "value": _VALUE, "query": ("query",), "key": ("key",)},
    "softmax": {"all": ALL, "value": _VALUE, "query+key": ("query", "key")},
}
CONSTANT_WEIGHTS, ANCHOR_WEIGHTS, COUNTS = (0.1, 1.0), (0.1, 1.0, 10.0), (3, 10)


@dataclass(frozen=True, slots=True)
class Job:
    """One training.

    Attributes:
        shape: Of `SHAPES`.
        label: As in the figures.
        tuning: None before tuning.
        tasks: How many of `tuned_tasks` are tuned on; 0 is the target.
    """

    shape: str
    label: str
    tuning: Tuning | None = None
    tasks: int = 0


@dataclass(frozen=True, slots=True, eq=False)
class Trained:
    """One model."""

    job: Job
    seed: int
    model: LinearAttention

    def record(self) -> Mapping[str, Any]:
        """What it was and, where theory predicts them, its numbers."""
        shape = self.model.shape
        numbers = {} if shape.softmax else asdict(invariants(as_dense(self.model), target(SETTING.dimension)))
        tuning = self.job.tuning and asdict(self.job.tuning)
        named = {"model": self.job.shape, "method": self.job.label, "tasks": self.job.tasks or "target"}
        return {**named, "seed": self.seed, "tuning": tuning, **numbers}


def jobs(shape: str) -> Iterator[Job]:
    """Everything that is tuned from the pretrained model of a shape."""
    for name, roles in _SETS[shape].items():
        yield Job(shape, name, Tuning(roles))
        yield Job(shape, f"{name}{FEW_SHOT}", Tuning(roles, FewShotLoss(CONTEXT)))
    if shape == "separate":
        return
    for name, roles in (("all", ALL), ("value", _VALUE)):
        for weight in ANCHOR_WEIGHTS if (shape, name) == ("merged", "all") else (1.0,):
            yield Job(shape, f"{name} + anchors", Tuning(roles, anchors=Anchors(weight=weight)))
        if shape == "softmax":
            continue
        for weight in CONSTANT_WEIGHTS:
            loss = FewShotLoss(CONTEXT, weight, annealed=False)
            yield Job(shape, f"{name} + constant few-shot", Tuning(roles, loss))
        for count in COUNTS:
            yield Job(shape, f"{name}{FEW_SHOT}", Tuning(roles, FewShotLoss(CONTEXT)), count)
    yield Job(shape, "all + self-anchors", Tuning(anchors=Anchors("arbitrary")))


def train(seeds: int, budget: Budget, say: Callable[[str], None]) -> list[Trained]:
    """Pretrain once per shape and seed, then tune a copy by every job.

    Processes of one thread each take a training at a time: its matrices are too small for more.

    Args:
        seeds: How many replicates.
        budget: Of each training.
        say: Told what has been trained.
    """
    before = [(Job(shape, BEFORE), seed) for shape in SHAPES for seed in range(seeds)]
    made: list[Trained] = []
    with ProcessPoolExecutor(_cores(), get_context("spawn"), torch.set_num_threads, (1,)) as pool:

        def keep(what: Sequence[tuple[Job, int]], models: Iterator[LinearAttention]) -> None:
            for (job, seed), model in zip(what, models, strict=True):
                made.append(Trained(job, seed, model))
                say(f"seed {seed}: {job.shape}, {job.label}")

        keep(before, pool.map(_pretrained, before, repeat(budget)))
        after = [(job, seed) for one, seed in before for job in jobs(one.shape)]
        bases = {(trained.job.shape, trained.seed): trained.model for trained in made}
        starts = [bases[job.shape, seed] for job, seed in after]
        keep(after, pool.map(_tuned, after, starts, repeat(budget)))
    return made


def _cores() -> int:
    """Those that this process may use, which a scheduler can have restricted."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _pretrained(what: tuple[Job, int], budget: Budget) -> LinearAttention:
    job, seed = what
    return pretrain(SETTING, SHAPES[job.shape], CONTEXT, budget, seed)


def _tuned(what: tuple[Job, int], base: LinearAttention, budget: Budget) -> LinearAttention:
    job, seed = what
    tasks = tuned_tasks(job.tasks) if job.tasks else [target(SETTING.dimension)]
    assert job.tuning is not None, job
    return finetune(base, SETTING, tasks, job.tuning, budget, seed)
