"""What a figure is, as numbers: panels of curves, each a model and what it is asked, over shots, angles or weights.

A figure is panels, a panel is curves, a curve is a model and the (task, shots) that it is asked at. From the same curve
come its line (the master formula) and its points (Monte Carlo).
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from keepshot.theory.regression import Regression, Vector
from keepshot.theory.risk import Sparse, risk
from keepshot.theory.simulate import simulate

Kind = Literal["theory", "monte carlo", "trained"]


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
        x_axis: Whole numbers from 0, any numbers, or a logarithmic axis.
        logarithmic: Whether the errors' axis is.
        shared: Whether all panels have the same errors' axis.
    """

    name: str
    title: str
    panels: tuple[Panel, ...]
    x_label: str = "examples in the prompt"
    x_axis: Literal["whole", "any", "logarithmic"] = "whole"
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
