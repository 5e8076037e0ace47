"""One training of a comparison: a run folder that is trained, then asked what chooses between settings."""

import shutil
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

from keepshot.errors import RunError
from keepshot.evaluation import Evaluation, curve_points
from keepshot.files import read_json, write_json
from keepshot.runs.comparison_config import Cell, CompareConfig
from keepshot.runs.folder import RunFolder, in_use, open_run
from keepshot.runs.ground import Ground
from keepshot.runs.preparation import prepare
from keepshot.runs.progress import Progress, Say
from keepshot.runs.tuning import Run, answered, subjects_of, train_stage
from keepshot.runs.validation import zero_shot_plan
from keepshot.tasks.example import Suite

TARGET = "target"
VALIDATION = "validation"
DONE = "cell.json"


@dataclass(frozen=True, slots=True)
class Tried:
    """A finished cell.

    Attributes:
        cell: Which one.
        accuracy: Zero-shot, on the target's validation part; None where training failed.
        cost: Of the training; empty where it failed.
        failed: Why, where training failed.
    """

    cell: Cell
    accuracy: float | None
    cost: Mapping[str, Any]
    failed: str = ""


def cell_folder(config: CompareConfig, cell: Cell) -> RunFolder:
    """Where a cell lies."""
    return RunFolder(Path(config.output) / "cells" / cell.folder)


def base_folder(config: CompareConfig, target: str) -> RunFolder:
    """Where the base's answers about a target lie."""
    return RunFolder(Path(config.output) / "base" / target)


def tried(config: CompareConfig, cell: Cell) -> Tried | None:
    """A cell as it was left; None where it is not finished."""
    path = cell_folder(config, cell).path / DONE
    if not path.exists():
        return None
    found = read_json(path)
    return Tried(cell, found["accuracy"], found["cost"], found["failed"])


def cell_run(config: CompareConfig, cell: Cell, ground: Ground) -> Run:
    """A cell as a run that reports as `tune` does.

    Raises:
        KeepshotError: Data, model or method cannot be used.
    """
    folder = cell_folder(config, cell)
    settings = config.run(cell, folder.path)
    prepared = prepare(settings, ground.target, ground.held_out, folder, prompt_tokens=config.prompt_tokens)
    bad_rows = sum(row.line > 0 for row in ground.target.skipped)
    return Run(
        settings,
        folder,
        ground.target,
        ground.questions.report_suite,
        config.evaluate.plan(config.seed),
        prepared,
        (*ground.notes, *prepared.notes),
        bad_rows,
    )


def choosing(config: CompareConfig, run: Run, ground: Ground) -> dict[str, Run]:
    """The run with the questions that choose: the target's whole validation part without examples, then the suite."""
    found = ground.questions.target
    task = replace(found, examples=run.prepared.encoder.fitting(found.examples))
    asked = replace(run, target=replace(ground.target, task=task))
    plan = config.validation.plan(config.seed)
    return {
        TARGET: replace(asked, suite=Suite(VALIDATION, ()), plan=zero_shot_plan(task, plan.sets, config.seed)),
        VALIDATION: replace(asked, suite=ground.questions.suite, plan=plan),
    }


def run_cell(config: CompareConfig, cell: Cell, ground: Ground, say: Say, progress: Progress | None) -> Tried:
    """Train a cell and ask it what chooses between settings, or take up what of that is there.

    A training that breaks off by itself, as at a learning rate that is too high, is a result too.

    Raises:
        KeepshotError: Data, model or method cannot be used, or another process is at this cell.
    """
    run = cell_run(config, cell, ground)
    asked = choosing(config, run, ground)
    inputs = {"questions": run.asked, "validation questions": asked[VALIDATION].asked} | run.prepared.digests
    open_run(run.config, inputs, resume=True)
    with in_use(run.folder):
        if (found := tried(config, cell)) is not None:  # by another process, in the meantime
            return found
        try:
            cost = train_stage(run, say)
        except RunError as error:
            done = Tried(cell, None, {}, str(error))
            say(f"  failed: {error}")
        else:
            subject = cache(lambda: subjects_of(run, str(run.model_path)))
            on_target = answered(asked[TARGET], TARGET, subject, progress)
            answered(asked[VALIDATION], VALIDATION, subject, progress)
            done = Tried(cell, zero_shot(on_target, cell.target), cost)
        shutil.rmtree(run.folder.checkpoints, ignore_errors=True)
        write_json(run.folder.path / DONE, asdict(done))
    return done


def zero_shot(evaluation: Evaluation, task: str) -> float:
    """Mean accuracy without examples."""
    point = curve_points(evaluation, [task])["0"]
    assert point is not None, "rows that fit a training step fit the context"
    return float(point["accuracy"])
