"""What the figures show, as numbers: closed forms, sampled prompts and trained models over shots or angles.

A figure is panels, a panel is curves, a curve is a model and the (task, shots) that it is asked at. From the same curve
come its line (the master formula) and its points (Monte Carlo). Figures 1 to 5 are those of arXiv 2602.23197;
`separate` is the experiment with separate query, key and value matrices, `angle` looks at tasks between the target and
its opposite.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from keepshot.theory.full import full
from keepshot.theory.label_weight import task_label_weight
from keepshot.theory.pretrained import pretrained, pretrained_paper
from keepshot.theory.regression import Geometry, Regression, Vector, isotropic, target, task_at
from keepshot.theory.risk import Sparse, risk
from keepshot.theory.simulate import simulate
from keepshot.theory.value import value_only

Kind = Literal["theory", "monte carlo", "trained"]

SETTING = isotropic(5, 0.1)
"""Of figures 2 to 5."""
CONTEXT = 20
"""m, demonstrations in pretraining; also those of the few-shot loss."""
MEASURED_W = 0.52
"""v^T theta_0 / V_yy of fully fine-tuned trained models, which theory leaves free."""
LABELS = ("pretrained", "all", "value", "value + few-shot")


@dataclass(frozen=True, slots=True, eq=False)
class Point:
    """One place of a curve: what it is drawn over, and what is asked there."""

    x: float
    task: Vector
    shots: int


@dataclass(frozen=True, slots=True, eq=False)
class Curve:
    """The errors of one model."""

    label: str
    setting: Regression
    model: Sparse
    points: tuple[Point, ...]


@dataclass(frozen=True, slots=True)
class Series:
    """Numbers to draw.

    Attributes:
        label: Those of the same model have the same.
        kind: Line, hollow or filled points.
        x: Shots, or degrees.
        y: Test errors (or the best w, in the second panel of figure 3).
        standard_errors: Of `y` where it was sampled.
    """

    label: str
    kind: Kind
    x: tuple[float, ...]
    y: tuple[float, ...]
    standard_errors: tuple[float, ...] | None = None


@dataclass(frozen=True, slots=True, eq=False)
class Panel:
    """One pair of axes.

    Attributes:
        title: Says what differs from the other panels.
        curves: Drawn as lines, and as points where prompts are sampled.
        extra: Other lines.
        marks: Places of upright dashed lines, each in the colour of a label.
        y_label: What is drawn.
    """

    title: str
    curves: tuple[Curve, ...] = ()
    extra: tuple[Series, ...] = ()
    marks: tuple[tuple[float, str], ...] = ()
    y_label: str = "test error"


@dataclass(frozen=True, slots=True, eq=False)
class Chart:
    """One figure.

    Attributes:
        name: Of its files.
        title: What it shows, in a sentence.
        panels: Side by side.
        x_label: What it is drawn over.
        logarithmic: Whether the errors' axis is.
        shared: Whether all panels have the same errors' axis.
    """

    name: str
    title: str
    panels: tuple[Panel, ...]
    x_label: str = "examples in the prompt"
    logarithmic: bool = False
    shared: bool = True


def over_shots(task: Vector, largest: int) -> tuple[Point, ...]:
    """Every number of shots from 0."""
    return tuple(Point(float(shots), task, shots) for shots in range(largest + 1))


def line(curve: Curve) -> Series:
    """The closed form of a curve."""
    errors = tuple(risk(curve.setting, curve.model, point.task, point.shots) for point in curve.points)
    return Series(curve.label, "theory", tuple(point.x for point in curve.points), errors)


def sampled(panel: Panel, prompts: int, seed: int, name: str) -> Iterator[Series]:
    """Monte-Carlo points of a panel's curves, about a dozen each, the first two always among them.

    Curves over the same points are asked on the same prompts.
    """
    together: dict[int, list[Curve]] = {}
    for curve in panel.curves:
        together.setdefault(id(curve.points), []).append(curve)
    for curves in together.values():
        points = curves[0].points
        step = 1 + len(points) // 14
        points = (points[0], *points[1:step:step], *points[step::step])
        tasks = {id(point.task): point.task for point in points}
        shots = sorted({point.shots for point in points})
        models, places = [curve.model.dense() for curve in curves], list(tasks)
        by_model = simulate(curves[0].setting, models, list(tasks.values()), shots, prompts, seed, name)
        for curve, rows in zip(curves, by_model, strict=True):
            found = [rows[places.index(id(point.task))][shots.index(point.shots)] for point in points]
            yield Series(
                curve.label,
                "monte carlo",
                tuple(point.x for point in points),
                tuple(estimate.mean for estimate in found),
                tuple(estimate.standard_error for estimate in found),
            )


def charts() -> tuple[Chart, ...]:
    """All figures, as closed forms."""
    return (_figure_1(), _figure_2(), _figure_3(), _figure_4(), _figure_5(), _separate(), _angle())


def models(setting: Regression, task: Vector) -> dict[str, Sparse]:
    """Before and after fine-tuning by each method that the sparse theory describes."""
    same = Geometry(1.0, 1.0, 1.0)
    best = task_label_weight(CONTEXT, same, setting.dimension, setting.noise)
    kept = pretrained(setting, CONTEXT).A[0, 0]
    made = (
        pretrained(setting, CONTEXT),
        full(task, MEASURED_W),
        value_only(setting, task, float(kept)),
        value_only(setting, task, best),
    )
    return dict(zip(LABELS, made, strict=True))


def _figure_1() -> Chart:
    curves = []
    for dimension in (6, 11, 16, 21):
        setting, label = isotropic(dimension, 0.0), f"d = {dimension}"
        curves.append(Curve(label, setting, pretrained_paper(setting, 1_000), over_shots(target(dimension), 20)))
    nothing = Series("no examples", "theory", (0.0, 20.0), (1.0, 1.0))
    marks = tuple((float(curve.setting.dimension - 1), curve.label) for curve in curves)
    title = "Before tuning: fewer examples than features do harm"
    return Chart("figure1", title, (Panel("any task (m = 1000, no noise)", tuple(curves), (nothing,), marks),))


def _figure_2() -> Chart:
    task = target(5)
    points = over_shots(task, 40)
    curves = tuple(Curve(f"w = {w:g}", SETTING, full(task, w), points) for w in (0.3, 1.0, 3.0, 10.0, 30.0, 100.0))
    title = "All parameters tuned: perfect with no examples, lost with any"
    return Chart("figure2", title, (Panel("on the target", curves),))


def _figure_3() -> Chart:
    task = target(5)
    points = over_shots(task, 40)
    weights = [tenths / 10 for tenths in range(2, 11)]
    curves = tuple(Curve(f"w = {w:g}", SETTING, value_only(SETTING, task, w), points) for w in weights)
    shots = range(1, 41)
    lines = []
    for label, overlap in (("target", 1.0), ("orthogonal", 0.0), ("opposite", -1.0)):
        best = tuple(task_label_weight(n, Geometry(1.0, 1.0, overlap), 5, SETTING.noise) for n in shots)
        lines.append(Series(label, "theory", tuple(map(float, shots)), best))
    marks = ((20.0, ""),)
    panels = (
        Panel("error on the target, by w", curves, marks=marks),
        Panel("the best w, by task", (), tuple(lines), marks, "w"),
    )
    return Chart("figure3", "Only values tuned: at zero shots w does not matter", panels, shared=False)


def _figure_4() -> Chart:
    task = target(5)
    points = over_shots(task, 20)
    made = models(SETTING, task)
    before = Curve("pretrained", SETTING, made["pretrained"], points)
    panels = [Panel("before tuning", (before,))]
    for label in LABELS[1:]:
        panels.append(Panel(f"tuned: {label}", (before, Curve(label, SETTING, made[label], points))))
    return Chart("figure4", "Theory and trained models on the target", tuple(panels))


def _tasks() -> dict[str, Vector]:
    angles = {"the target": 0.0, "an orthogonal task": 90.0, "the opposite task": 180.0}
    return {name: task_at(SETTING, target(5), angle) for name, angle in angles.items()}


def _by_task() -> tuple[Panel, ...]:
    made = models(SETTING, target(5))
    return tuple(
        Panel(name, tuple(Curve(label, SETTING, model, points) for label, model in made.items()))
        for name, points in ((name, over_shots(task, 20)) for name, task in _tasks().items())
    )


def _figure_5() -> Chart:
    return Chart("figure5", "What each method does to tasks that it was not tuned on", _by_task(), logarithmic=True)


def _separate() -> Chart:
    title = "Separate query, key and value matrices (lines: theory of the merged model)"
    return Chart("separate", title, _by_task(), logarithmic=True)


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
