"""Figures 1 to 5 of arXiv 2602.23197, as closed forms."""

from keepshot.theory.chart import Chart, Curve, Panel, Series, over_shots
from keepshot.theory.full import full
from keepshot.theory.label_weight import task_label_weight
from keepshot.theory.pretrained import pretrained, pretrained_paper
from keepshot.theory.regression import Geometry, Regression, Vector, isotropic, target, task_at
from keepshot.theory.risk import Sparse
from keepshot.theory.value import value_only

SETTING = isotropic(5, 0.1)
"""Of figures 2 to 5."""
CONTEXT = 20
"""m, demonstrations in pretraining; also those of the few-shot loss."""
MEASURED_W = 0.52
"""v^T theta_0 / V_yy of fully fine-tuned trained models, which theory leaves free."""
_ON = {"target": "the target", "orthogonal": "an orthogonal task", "opposite": "the opposite task"}
LABELS = ("pretrained", "all", "value", "value + few-shot")


def paper_charts() -> tuple[Chart, ...]:
    """All five."""
    return (_figure_1(), _figure_2(), _figure_3(), _figure_4(), _figure_5())


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


def tasks_by_name() -> dict[str, Vector]:
    """The target, and two tasks that it has nothing or everything against."""
    angles = {"target": 0.0, "orthogonal": 90.0, "opposite": 180.0}
    return {name: task_at(SETTING, target(5), angle) for name, angle in angles.items()}


def by_task() -> tuple[Panel, ...]:
    """Every method on the target, an orthogonal and the opposite task."""
    made = models(SETTING, target(5))
    return tuple(
        Panel(_ON[name], tuple(Curve(label, SETTING, model, points) for label, model in made.items()))
        for name, points in ((name, over_shots(task, 20)) for name, task in tasks_by_name().items())
    )


def _figure_5() -> Chart:
    return Chart("figure5", "What each method does to tasks that it was not tuned on", by_task(), logarithmic=True)
