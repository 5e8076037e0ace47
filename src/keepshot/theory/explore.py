"""One question to the closed forms: what error has which model, on which task, at how many shots?"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Literal, get_args

import numpy as np

from keepshot.errors import ConfigError
from keepshot.theory.full import balanced_w, full
from keepshot.theory.label_weight import few_shot_optimum
from keepshot.theory.pretrained import harmful_shots, pretrained
from keepshot.theory.regression import Regression, Vector, geometry, target, task_at
from keepshot.theory.risk import Sparse, risk
from keepshot.theory.value import value_only_from

Method = Literal["pretrained", "full", "value", "value+few-shot"]
METHODS: tuple[Method, ...] = get_args(Method)

_VERY_MANY = 10**9
_LOOKED_AT = 1_000
"""Shots up to which a model is asked whether examples help it."""


@dataclass(frozen=True, slots=True, eq=False)
class Question:
    """What is asked.

    Attributes:
        setting: Covariance and noise.
        context: m, demonstrations in pretraining.
        shots: n, demonstrations in the prompt; also those of the few-shot loss.
        angle: Of the evaluated task to the fine-tuned one, in degrees; see `task_at`.
        w: Instead of the w that each method leads to: for `full` its free scale, for the value methods and the
            pretrained model the product V_yy tr(A Sigma) / d.
        few_shot_weight: lambda of the few-shot loss.
    """

    setting: Regression
    context: int = 20
    shots: int = 20
    angle: float = 0.0
    w: float | None = None
    few_shot_weight: float = 1.0

    def __post_init__(self) -> None:
        if self.context < 1 or self.shots < 0:
            raise ConfigError(f"m is at least 1 and n at least 0, not {self.context} and {self.shots}")
        if self.w is not None and not 0 < self.w < np.inf:
            raise ConfigError(f"w is positive, not {self.w:g}")


@dataclass(frozen=True, slots=True)
class Answer:
    """The errors of one model on the evaluated task.

    Attributes:
        method: How it was made.
        w: See `Question.w`.
        zero_shot: E(0).
        few_shot: E(n).
        very_many: E(n) for n -> inf.
        helped_from: The least number of examples that is better than none; None if no number up to 1,000 is.
    """

    method: Method
    w: float
    zero_shot: float
    few_shot: float
    very_many: float
    helped_from: int | None


def model_of(method: Method, question: Question, target_task: Vector) -> Sparse:
    """The model that a method leads to from the exact pretrained optimum."""
    base = pretrained(question.setting, question.context)
    if method == "full":
        return full(target_task, question.w or balanced_w(question.setting.dimension, product(question.setting, base)))
    tuned = base
    if method == "value":
        tuned = value_only_from(question.setting, base, target_task)
    if method == "value+few-shot":
        # At n = 0 the few-shot loss is the zero-shot loss, which leaves w alone.
        shots = question.shots
        tuned = value_only_from(question.setting, base, target_task)
        if shots:
            tuned = few_shot_optimum(question.setting, base.A, [target_task], shots, question.few_shot_weight)
    if question.w is None:
        return tuned
    return replace(tuned, w=question.w / product(question.setting, replace(tuned, w=1.0)))


def product(setting: Regression, model: Sparse) -> float:
    """V_yy tr(A Sigma) / d: w itself where A = Sigma^-1."""
    return float(model.w * np.trace(model.A @ setting.covariance) / setting.dimension)


def ask(question: Question, methods: tuple[Method, ...] = METHODS) -> list[Answer]:
    """The answers for some methods.

    Example:
        >>> from keepshot.theory.regression import isotropic
        >>> base, full, value, few_shot = ask(Question(isotropic(5, noise=0.1), angle=180.0))
        >>> [round(answer.few_shot, 2) for answer in (base, full, value, few_shot)]   # on the opposite of the target
        [0.35, 1.26, 0.39, 0.46]
    """
    setting, target_task = question.setting, target(question.setting.dimension)
    task = task_at(setting, target_task, question.angle)
    answers = []
    for method in methods:
        model = model_of(method, question, target_task)
        # The free scale of full tuning is v / V_yy, along the target.
        w = float(model.v @ target_task) / model.w if method == "full" else product(setting, model)
        none = risk(setting, model, task, 0)
        better = (n for n in range(1, _LOOKED_AT + 1) if risk(setting, model, task, n) < none)
        found = [risk(setting, model, task, shots) for shots in (question.shots, _VERY_MANY)]
        answers.append(Answer(method, w, none, found[0], found[1], next(better, None)))
    return answers


def answer_lines(question: Question, answers: list[Answer]) -> Iterator[str]:
    """The question and its answers, as text."""
    setting, target_task = question.setting, target(question.setting.dimension)
    task = task_at(setting, target_task, question.angle)
    tasks = geometry(setting, target_task, task)
    yield (
        f"d {setting.dimension}, m {question.context}, noise {setting.noise:.4g}, "
        f"S {tasks.power:.4g}, R {tasks.overlap:.4g} (task at {question.angle:g} degrees to the target)"
    )
    yield f"always saying 0: {setting.noise + tasks.power:.4f}; the best there is: {setting.noise:.4f}"
    bound = harmful_shots(setting, pretrained(setting, question.context).A, task)
    yield f"before tuning, n examples are worse than none for 1 <= n < {bound:.4g}"
    yield ""
    yield f"{'method':<16}{'w':>8}{'E(0)':>10}{f'E({question.shots})':>10}{'E(inf)':>10}  examples help from"
    for answer in answers:
        helped = "never" if answer.helped_from is None else f"n = {answer.helped_from}"
        errors = "".join(f"{error:10.4f}" for error in (answer.zero_shot, answer.few_shot, answer.very_many))
        yield f"{answer.method:<16}{answer.w:8.4f}{errors}  {helped}"
