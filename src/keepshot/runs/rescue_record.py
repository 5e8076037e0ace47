"""What a rescue found, as the contract `keepshot.rescue/1` has it."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any

from keepshot.evaluation import (
    Estimate,
    Evaluation,
    check_paired,
    curve_points,
    difference,
    few_shot_tasks,
    retention_report,
)
from keepshot.runs.folder import versions
from keepshot.runs.rescue_search import Found, Point
from keepshot.runs.rescue_setup import Setup

SCHEMA = "keepshot.rescue/1"


@dataclass(frozen=True, slots=True)
class Rescue:
    """What a rescue found.

    Attributes:
        setup: What it was about.
        tuned: The broken model, as it was named.
        model_path: Name of the rescued one inside the output.
        found: The points and the chosen one.
        evaluations: Of `base`, `tuned` and `rescued` on the test part and the suite that is reported on.
    """

    setup: Setup
    tuned: str
    model_path: str
    found: Found
    evaluations: Mapping[str, Evaluation]


def rescue_json(rescue: Rescue) -> dict[str, Any]:
    """The content of `rescue.json`."""
    questions, settings, found = rescue.setup.questions, rescue.setup.settings, rescue.found
    target, held_out = questions.report_target, [task.name for task in questions.report_suite.tasks]
    with_examples = few_shot_tasks(questions.report_suite.tasks)
    evaluations = rescue.evaluations
    others = {name: _without(evaluation, target.name) for name, evaluation in evaluations.items()}
    after = ("tuned", "rescued")
    for name in after:
        check_paired(evaluations["base"], evaluations[name])
    first = rescue.setup.plan.shots[0]
    return {
        "schema": SCHEMA,
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "base": rescue.setup.base,
        "tuned": rescue.tuned,
        "model_path": rescue.model_path,
        "chosen": point_json(found.chosen) | {"reason": found.reason},
        "target": {
            "task": target.name,
            "metric": target.metric or target.scoring,
            "chance": target.chance,
            **{name: curve_points(evaluation, [target.name]) for name, evaluation in evaluations.items()},
            "shots": first,
            "change": _plain(difference(evaluations["tuned"], evaluations["rescued"], [target.name], first)),
        },
        "held_out": {
            "suite": questions.report_suite.name,
            "tasks": held_out,
            **{name: curve_points(evaluation, with_examples) for name, evaluation in evaluations.items()},
        },
        "retention": {name: retention_report(others["base"], others[name], target) for name in after},
        "validation": {
            "suite": questions.suite.name,
            "tasks": [task.name for task in questions.suite.tasks],
            "target_rows": len(questions.target.examples),
            "max_loss": settings.max_loss,
            "sets": settings.search_sets,
            "queries": settings.search_queries,
            "points": [point_json(point) for point in found.points],
        },
        "seed": rescue.setup.plan.seed,
        "versions": versions(),
        "notes": list(questions.notes),
    }


def point_json(point: Point) -> dict[str, Any]:
    """A point with what the validation data and suite say of it."""
    return {
        "stage": point.stage,
        "coefficients": dict(point.coefficients),
        "target": _plain(point.measured.target),
        "loss": point.measured.loss,
        "retention": _plain(point.measured.retention),
    }


def _without(evaluation: Evaluation, task: str) -> Evaluation:
    tasks = {name: kept for name, kept in evaluation.tasks.items() if name != task}
    cells = {cell: items for cell, items in evaluation.cells.items() if cell[0] != task}
    return replace(evaluation, tasks=tasks, cells=cells)


def _plain(estimate: Estimate | None) -> dict[str, float | None]:
    """Value and interval; nulls where there is none."""
    if estimate is None:
        return dict.fromkeys(("value", "low", "high"))
    return {"value": estimate.value, "low": estimate.low, "high": estimate.high}
