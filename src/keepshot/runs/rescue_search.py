"""Which point between a base and a tuned model to take: first one coefficient, then one per group."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from keepshot.evaluation import Estimate
from keepshot.models.interpolate import Group

Stage = Literal["common", "groups"]


@dataclass(frozen=True, slots=True)
class Measured:
    """What validation data and suite say of a model between base and tuned.

    Attributes:
        target: Zero-shot accuracy on the target's validation part.
        loss: What it is below the tuned model's, plus one standard error of the difference.
        retention: Against the base, on the validation suite.
    """

    target: Estimate
    loss: float
    retention: Estimate


Measure = Callable[[Mapping[Group, float]], Measured]

GRID = (0.0, 0.25, 0.5, 0.75, 1.0)
"""What a group's coefficient is tried at: a finer grid would choose by the noise of the validation suite."""

# Groups that may leave the common coefficient: each costs a round of len(groups) x len(GRID) points.
_ROUNDS = 2
_ROUNDING = 1e-9


@dataclass(frozen=True, slots=True)
class Point:
    """A place between base and tuned model.

    Attributes:
        stage: `common`: all groups have one coefficient; `groups`: each its own.
        coefficients: By group; 0 is the base, 1 the tuned model.
        measured: What is known of it.
    """

    stage: Stage
    coefficients: Mapping[Group, float]
    measured: Measured


@dataclass(frozen=True, slots=True)
class Found:
    """The end of a search.

    Attributes:
        points: All that were measured, in order, each once.
        chosen: One of them.
        reason: Why, in one sentence.
    """

    points: tuple[Point, ...]
    chosen: Point
    reason: str


def search(
    measure: Measure,
    groups: Sequence[Group],
    *,
    steps: int,
    max_loss: float,
    by_group: bool = True,
    seen: Callable[[Point], None] = lambda point: None,
) -> Found:
    """The point with the highest retention among those that lose hardly anything of the tuned model's target accuracy.

    First every group has the same coefficient, 0 to 1 in `steps` steps. From the best of these, every group is tried at
    every value of `GRID` while the others stay, and the one move that is best is made, if any is better; then once
    more. (Group after group instead, the first would spend the accuracy that may be lost on next to nothing.) Of points
    that keep the same, the one with the higher target accuracy is taken, then the one nearer to the tuned model. The
    tuned model itself is always allowed, so that there is always an answer.

    Args:
        measure: Called with the coefficients of a point; never twice with the same.
        groups: At least one; with one, the second stage is left out.
        steps: Of the first stage.
        max_loss: The loss that is accepted, one standard error included: of many points, some look harmless by luck,
            and those are the ones that a search would take.
        by_group: Whether there is a second stage.
        seen: Called with every point as soon as it is measured.

    Example:
        >>> def measure(coefficients):
        ...     a = coefficients["all"]
        ...     target = min(1.0, 2 * a)
        ...     return Measured(Estimate(target, 0.0, 1.0), 1.0 - target, Estimate(1 - a * a, 0.0, 1.0))
        >>> search(measure, ["all"], steps=10, max_loss=0.01).chosen.coefficients
        {'all': 0.5}
    """
    points: dict[tuple[float, ...], Point] = {}

    def look(stage: Stage, coefficients: Mapping[Group, float]) -> Point:
        place = tuple(coefficients[group] for group in groups)
        if place not in points:
            points[place] = Point(stage, dict(coefficients), measure(coefficients))
            seen(points[place])
        return points[place]

    common = [look("common", dict.fromkeys(groups, step / steps)) for step in range(steps + 1)]
    tuned = common[-1]

    def worth(point: Point) -> tuple[bool, float, float, float]:
        found = point.measured
        allowed = point is tuned or found.loss <= max_loss + _ROUNDING
        return allowed, found.retention.value, found.target.value, sum(point.coefficients.values())

    best = max(common, key=worth)
    for _ in range(_ROUNDS if by_group and len(groups) > 1 else 0):
        before = best
        tried = [look("groups", {**before.coefficients, group: value}) for group in groups for value in GRID]
        best = max(before, *tried, key=worth)
        if best is before:
            break
    allowed = sum(worth(point)[0] for point in points.values())
    lose = f"lose at most {max_loss:g} of target accuracy, one standard error included"
    return Found(tuple(points.values()), best, _reason(best, tuned, f"{allowed} of {len(points)} points that {lose}"))


def _reason(best: Point, tuned: Point, among: str) -> str:
    kept, by_tuned = best.measured.retention.value, tuned.measured.retention.value
    if best is tuned:
        return f"No point keeps more than the tuned model ({kept:.3f}) among {among}"
    return f"It keeps most ({kept:.3f}, the tuned model {by_tuned:.3f}) among {among}"
