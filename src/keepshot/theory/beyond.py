"""Figures beyond the paper: other tasks and models, and what holds a tuned model to its base.

`separate` and `softmax` ask the same of models that the closed forms do not describe; `angle` looks at tasks between
the target and its opposite, `several` at tuning on more than one task, `weight` at the size of a few-shot loss,
`keeping` at anchors.
"""

from collections.abc import Callable, Sequence

import numpy as np

from keepshot.theory.chart import Chart, Curve, Panel, Point, Series
from keepshot.theory.curves import CONTEXT, LABELS, MEASURED_W, SETTING, by_task, models, tasks_by_name
from keepshot.theory.full import full
from keepshot.theory.label_weight import few_shot_limit, few_shot_optimum
from keepshot.theory.preservation import Anchors, held_value, mean_error
from keepshot.theory.pretrained import pretrained
from keepshot.theory.regression import Vector, target, task_at
from keepshot.theory.risk import Sparse, Term, risk
from keepshot.theory.value import zero_shot_value

_WEIGHTS = np.geomspace(1e-2, 1e2, 41)
_ANCHOR_WEIGHTS = (0.0, *np.geomspace(1e-1, 1e4, 61))


def more_charts() -> tuple[Chart, ...]:
    """All of them."""
    return (_separate(), _softmax(), _angle(), _several(), _weight(), _keeping())


def tuned_tasks(count: int) -> list[Vector]:
    """The first tasks of a list whose mean and spread are known: the axes, then their opposites.

    At 2 d of them their mean is 0 and their second moment that of all tasks on the unit sphere.

    Example:
        >>> [task.round(1).tolist() for task in tuned_tasks(6)][-1]
        [-1.0, -0.0, -0.0, -0.0, -0.0]
    """
    axes = np.eye(SETTING.dimension)
    return list(np.concatenate([axes, -axes])[:count])


def _separate() -> Chart:
    title = "Separate query, key and value matrices (lines: theory of the merged model)"
    return Chart("separate", title, by_task(), logarithmic=True)


def _softmax() -> Chart:
    title = "Softmax attention of two heads (lines: theory of one head without softmax)"
    return Chart("softmax", title, by_task(), logarithmic=True)


def _angle() -> Chart:
    made = models(SETTING, target(5))
    panels = []
    for shots in (0, 20):
        places = [(float(angle), task_at(SETTING, target(5), float(angle))) for angle in range(0, 181, 15)]
        points = tuple(Point(angle, task, shots) for angle, task in places)
        curves = tuple(Curve(label, SETTING, model, points) for label, model in made.items())
        panels.append(Panel("no examples" if shots == 0 else f"{shots} examples", curves))
    title = "Tasks at every angle to the target, of the same power"
    return Chart("angle", title, tuple(panels), x_label="angle of the task to the target, degrees", shared=False)


def tuned_on(tasks: Sequence[Vector]) -> dict[str, Sparse]:
    """The methods tuned on several tasks: at zero shots these are one, their mean."""
    base, mean = pretrained(SETTING, CONTEXT), np.mean(tasks, axis=0)
    return {
        "pretrained": base,
        "all": full(mean, MEASURED_W),
        "value": Sparse(base.q, base.A, zero_shot_value(SETTING, base.A, mean), base.w),
        "value + few-shot": few_shot_limit(SETTING, base.A, tasks, CONTEXT),
    }


def _several() -> Chart:
    counts = range(1, 2 * SETTING.dimension + 1)
    asked: dict[str, Callable[[Sparse, Sequence[Vector]], float]] = {
        "no examples, the tuned tasks": lambda model, tasks: _mean_over(model, tasks, 0),
        "20 examples, the tuned tasks": lambda model, tasks: _mean_over(model, tasks, CONTEXT),
        "20 examples, all tasks": lambda model, _: mean_error(SETTING, model, CONTEXT),
    }
    made = {count: tuned_on(tuned_tasks(count)) for count in counts}
    panels = []
    for title, error in asked.items():
        lines = []
        for label in LABELS:
            # A mean of 0 is what an untuned model says already: nothing moves all parameters.
            over = counts[:-1] if label == "all" else counts
            errors = tuple(error(made[count][label], tuned_tasks(count)) for count in over)
            lines.append(Series(label, "theory", tuple(map(float, over)), errors))
        panels.append(Panel(title, extra=tuple(lines)))
    return Chart("several", "Tuned on several tasks at once", tuple(panels), x_label="tasks that are tuned on")


def _mean_over(model: Sparse, tasks: Sequence[Vector], shots: int) -> float:
    return float(np.mean([risk(SETTING, model, task, shots) for task in tasks]))


def _weight() -> Chart:
    panels = []
    for shots in (0, CONTEXT):
        lines = []
        for name, task in tasks_by_name().items():
            if shots == 0 and name != "target":
                continue
            tuned = [few_shot_optimum(SETTING, pretrained(SETTING, CONTEXT).A, [target(5)], CONTEXT, float(weight))
                     for weight in _WEIGHTS]  # fmt: skip
            errors = tuple(risk(SETTING, model, task, shots) for model in tuned)
            lines.append(Series(name, "theory", tuple(map(float, _WEIGHTS)), errors))
        words = "no examples" if shots == 0 else f"{shots} examples"
        panels.append(Panel(f"value + few-shot: {words}", extra=tuple(lines)))
    panels.append(Panel(f"all + few-shot: {CONTEXT} examples"))
    title = "A few-shot loss on the target: what its weight decides"
    label = "weight of the few-shot loss, constant"
    return Chart("weight", title, tuple(panels), x_label=label, x_axis="logarithmic", shared=False)


def _keeping() -> Chart:
    base = pretrained(SETTING, CONTEXT)
    held = [base, *(_held(base, weight) for weight in reversed(_ANCHOR_WEIGHTS))]
    points = [(risk(SETTING, model, target(5), 0), mean_error(SETTING, model, CONTEXT)) for model in held]
    x, y = zip(*points, strict=True)
    line = Series("value + anchors", "theory", x, y)
    panel = Panel("from the pretrained model (right) to no anchors", extra=(line,), y_label="20 examples, all tasks")
    title = "Held to the base on few-shot prompts: what the target costs"
    return Chart(
        "keeping", title, (panel,), x_label="error on the target with no examples", x_axis="any", logarithmic=True
    )


def _held(base: Sparse, weight: float) -> Sparse:
    if not weight:
        return Sparse(base.q, base.A, zero_shot_value(SETTING, base.A, target(5)), base.w)
    return held_value(SETTING, base, [Term(target(5), 0)], Anchors(weight=float(weight)))
