"""A run's result as the contract `keepshot.report/1` has it."""

from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from keepshot.config import RunConfig
from keepshot.evaluation import (
    Evaluation,
    check_paired,
    curve_points,
    few_shot_tasks,
    format_matches,
    gate_report,
    mean_estimate,
    retention_report,
)
from keepshot.evaluation.statistics import unseen
from keepshot.runs.data import TargetData
from keepshot.runs.folder import versions
from keepshot.runs.references import reference_notes
from keepshot.tasks.example import Suite
from keepshot.tasks.nearness import nearness

SCHEMA = "keepshot.report/1"


@dataclass(frozen=True, slots=True)
class Result:
    """What a run found.

    Attributes:
        config: Of the run.
        target: Its data.
        suite: The held-out tasks.
        before: Of the base: the target and the suite.
        after: Of the tuned model: the same.
        cost: Of the training, with its notes.
        model_path: Name of the saved model inside the run folder.
        notes: What a reader should know.
        bad_rows: Bad rows that were left out.
        practised: Families of tasks that training showed in few-shot form.
        prompt: Name of the template, a one-shot prompt with its answer as the model sees it, and what ends an answer.
        prompt_path: Name of the soft prompt's folder inside the run folder; None where the method has none.
    """

    config: RunConfig
    target: TargetData
    suite: Suite
    before: Evaluation
    after: Evaluation
    cost: dict[str, Any]
    model_path: str
    notes: tuple[str, ...]
    bad_rows: int
    practised: frozenset[str]
    prompt: dict[str, Any]
    prompt_path: str | None = None


def run_report(result: Result) -> dict[str, Any]:
    """The content of `report.json`."""
    config, target, before, after = result.config, result.target, result.before, result.after
    check_paired(before, after)
    held_out = [task.name for task in result.suite.tasks]
    few_shot_names = few_shot_tasks(result.suite.tasks)
    retention = retention_report(before.only(held_out), after.only(held_out), target.task, result.practised)
    cost = {name: value for name, value in result.cost.items() if name not in ("method", "learning_rate")}
    return {
        "schema": SCHEMA,
        "name": Path(config.output).name,
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "base": config.model,
        "method": result.cost["method"],
        "model_path": result.model_path,
        **({} if result.prompt_path is None else {"prompt_path": result.prompt_path}),
        "target": {
            "task": target.name,
            "metric": target.task.metric or target.task.scoring,
            "chance": target.task.chance,
            "before": curve_points(before, [target.name]),
            "after": curve_points(after, [target.name]),
        },
        "held_out": {
            "suite": result.suite.name,
            "tasks": {
                task.name: {
                    "group": task.group,
                    "zero_shot": task.zero_shot,
                    "family": task.family,
                    "nearness": nearness(task, target.task),
                    "chance": task.chance,
                    "metric": task.metric or task.scoring,
                    "format_matches_target": format_matches(task, target.task),
                    "before": curve_points(before, [task.name]),
                    "after": curve_points(after, [task.name]),
                }
                for task in result.suite.tasks
            },
            "before": curve_points(before, few_shot_names),
            "after": curve_points(after, few_shot_names),
        },
        "retention": retention,
        **_gain(result),
        "gate": asdict(gate_report(retention, config.gate.max_drop)),
        "cost": cost,
        "prompt": result.prompt,
        "settings": config.model_dump(mode="json") | {"learning_rate": result.cost["learning_rate"]},
        "data": {
            "train_rows": len(target.train),
            "validation_rows": len(target.validation),
            "test_rows": len(target.task.examples),
            "skipped_rows": result.bad_rows,
            "shared_with_test": target.shared_with_test,
        },
        "seed": config.seed,
        "versions": versions(),
        "notes": _notes(result),
    }


def _gain(result: Result) -> dict[str, Any]:
    """Zero-shot accuracy on the target, after minus before, paired by demonstration set."""
    name, first = result.target.name, result.before.plan.shots[0]
    before, after = result.before.accuracy(name, first), result.after.accuracy(name, first)
    if first != 0 or before is None or after is None:
        return {"gain": None, "gain_interval": None}
    differences = np.asarray(after) - np.asarray(before)
    estimate = mean_estimate(differences.tolist(), (-1.0, 1.0), least=unseen(len(result.before.cells[name, first])))
    return {
        "gain": float(differences.mean()),
        "gain_interval": {"low": estimate.low, "high": estimate.high} if estimate else None,
    }


def _notes(result: Result) -> list[str]:
    notes = [*result.notes, *reference_notes(result.cost.get("reference", {}))]
    if result.bad_rows:
        notes.append(f"{result.bad_rows} bad rows of data and suite were left out (on_bad_row: skip).")
    if not (result.before.shared_context and result.after.shared_context):
        notes.append("This architecture cannot share contexts: every prompt was computed whole, with equal numbers.")
    if result.config.model == "mini":
        notes.append(
            "Measured on the bundled 6.5 M-parameter model; what it shows of a method need not hold for a large one."
        )
    return notes
