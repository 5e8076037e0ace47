"""Evaluations as files: a summary (`keepshot.eval/1`), and the items beside it."""

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from keepshot.errors import RunError
from keepshot.evaluation import (
    Evaluation,
    EvaluationPlan,
    Item,
    curve_points,
    difference,
    few_shot_tasks,
    read_items,
    retention_report,
    write_items,
)
from keepshot.files import read_json, write_json
from keepshot.tasks.example import Suite

SCHEMA = "keepshot.eval/1"


def evaluation_json(evaluation: Evaluation) -> dict[str, Any]:
    """An evaluation as the contract `keepshot.eval/1` has it."""
    return {
        "schema": SCHEMA,
        "model": evaluation.model,
        "tasks": {
            name: {
                "chance": task.chance,
                "metric": task.metric or task.scoring,
                "group": task.group,
                "zero_shot": task.zero_shot,
                "shots": curve_points(evaluation, [name]),
            }
            for name, task in evaluation.tasks.items()
        },
        "mean": curve_points(evaluation, few_shot_tasks(evaluation.tasks.values())),
        "sets": evaluation.sets,
        "queries": evaluation.plan.queries,
        "shots": list(evaluation.plan.shots),
        "seed": evaluation.plan.seed,
        "labels": evaluation.plan.labels,
        "balanced": evaluation.plan.balanced,
        "until": evaluation.plan.until,
        "first_sets": evaluation.plan.sets,
        "shared_context": evaluation.shared_context,
    }


def against_json(base: Evaluation, tuned: Evaluation) -> dict[str, Any]:
    """What became of the base: the tuned model's evaluation, retention, and the difference at every shot count."""
    tasks = few_shot_tasks(base.tasks.values())
    differences = {n: difference(base, tuned, tasks, n) for n in base.plan.shots}
    return {
        **evaluation_json(tuned),
        "retention": retention_report(base, tuned),
        "difference": {str(n): found and asdict(found) for n, found in differences.items()},
    }


def half_width(evaluation: Evaluation) -> float:
    """Half the 95 % interval of the mean accuracy at the largest shot count that fits all tasks; inf without one."""
    curve = curve_points(evaluation, few_shot_tasks(evaluation.tasks.values()))
    points = [point for point in curve.values() if point is not None]
    return (points[-1]["high"] - points[-1]["low"]) / 2 if points else float("inf")


def save_evaluation(evaluation: Evaluation, asked: str, path: Path, items: Path) -> None:
    """Write the items, then the summary with `asked_digest`: where the summary is, the items are."""
    path.parent.mkdir(parents=True, exist_ok=True)
    write_items(items, evaluation.items)
    write_json(path, evaluation_json(evaluation) | {"asked": asked})


def save_against(evaluations: Sequence[Evaluation], asked: str, output: Path, prompt: Path | None = None) -> None:
    """Write the items of all, then the base's summary with those of the others under `against`.

    Args:
        evaluations: The base's, then the others.
        asked: Of `asked_digest`.
        output: A `.json` path.
        prompt: The soft prompt that the first was asked behind.
    """
    base, *others = evaluations
    output.parent.mkdir(parents=True, exist_ok=True)
    for index, found in enumerate(evaluations):
        write_items(output.with_suffix(f".items.{index}.parquet" if index else ".items.parquet"), found.items)
    against = {"against": [against_json(base, tuned) for tuned in others]} if others else {}
    behind = {} if prompt is None else {"prompt": str(prompt)}
    write_json(output, evaluation_json(base) | {"asked": asked} | behind | against)


def load_evaluation(path: Path, items: Path, suite: Suite, plan: EvaluationPlan, asked: str) -> Evaluation:
    """Read what `save_evaluation` wrote.

    Raises:
        RunError: It asked something else.
    """
    summary = read_json(path)
    if summary.get("asked") != asked:
        raise RunError(
            f"{path} asked something else: other tasks, data, shots, sets, queries, seed, template or context length; "
            "delete it and resume again"
        )
    cells: dict[tuple[str, int], list[Item]] = {}
    for item in read_items(items):
        cells.setdefault((item.task, item.shots), []).append(item)
    return Evaluation(
        summary["model"],
        plan,
        {task.name: task for task in plan.suite(suite).tasks},
        {cell: tuple(found) for cell, found in cells.items()},
        bool(summary.get("shared_context", True)),
    )
