"""Repair: the model between a base and a broken fine-tune that gives few-shot ability back at the least cost."""

import math
import os
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from peft import PeftModel

from keepshot.config import DataConfig
from keepshot.errors import RunError
from keepshot.evaluation import (
    Estimate,
    Evaluation,
    EvaluationPlan,
    Subject,
    curve_points,
    evaluate_tasks,
    few_shot_tasks,
    retention,
    unmeasurable,
)
from keepshot.files import new_folder, write_json
from keepshot.models.interpolate import Group, Interpolation
from keepshot.models.load import CausalLM, load_model, quiet
from keepshot.report.rescue import point_line, render_rescue
from keepshot.runs.digests import asked_digest
from keepshot.runs.evaluation_files import save_evaluation
from keepshot.runs.progress import Progress, Say, silent
from keepshot.runs.rescue_record import Rescue, point_json, rescue_json
from keepshot.runs.rescue_search import Found, Measured, search
from keepshot.runs.rescue_setup import RescueSettings, Setup, set_up
from keepshot.runs.subjects import as_subject, default_cache, remembering
from keepshot.runs.validation import zero_shot_plan
from keepshot.tasks.example import Suite

__all__ = ["RescueSettings", "Rescued", "rescue"]


@dataclass(frozen=True, slots=True)
class Rescued:
    """Where a rescue lies, and what it found.

    Attributes:
        path: The folder.
        model: The model or adapter in it, ready to use.
        result: The content of `rescue.json`.
    """

    path: Path
    model: Path
    result: dict[str, Any]


def rescue(
    base: str,
    tuned: str,
    *,
    output: Path | str,
    data: DataConfig | str | None = None,
    settings: RescueSettings = RescueSettings(),  # noqa: B008 (frozen)
    say: Say = silent,
    progress: Progress | None = None,
) -> Rescued:
    """Find, write and measure the point between a base and a tuned model that keeps most at hardly any loss.

    The point is chosen by validation rows of the target and a validation suite, and reported on test rows and a suite
    that had no part in the choice. Answers are remembered: a rescue that was killed goes on where it was.

    Args:
        base: `mini`, a model folder, or a hub id.
        tuned: What was tuned from it: a run folder, which knows the data; or a model folder, adapter folder or hub id.
        output: A new folder: `model/` or `adapter/`, `rescue.json`, `README.md`, a figure and the evaluations.
        data: The target's examples, best those that it was not tuned on; None takes the run folder's.
        settings: Of the search.
        say: Called with each line worth showing.
        progress: Called with a task's name, sets done and sets in all during evaluations.

    Raises:
        KeepshotError: The models do not fit each other, data or suite cannot be used, or `output` holds something.
    """
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        raise RunError("rescue runs in one process; start it without torchrun or accelerate launch")
    output = Path(output)
    if output.is_file() or (output.is_dir() and any(output.iterdir())):
        raise RunError(f"{output} already holds something; choose another --output")
    setup = set_up(base, tuned, data, settings)
    judge = _Judge(setup, progress)
    for note in setup.questions.notes:
        say(f"note: {note}")
    with new_folder(output) as aside:
        found, evaluations, saved = _choose(judge, aside, say)
        say(f"evaluating the rescued {saved.name}, loaded from its files")
        evaluations["rescued"] = judge.report(load_model(str(saved)), "rescued", aside)
        result = rescue_json(Rescue(setup, tuned, saved.name, found, evaluations))
        write_json(aside / "rescue.json", result)
        render_rescue(result, aside)
    return Rescued(output, output / saved.name, result)


@dataclass(frozen=True, slots=True)
class _Judge:
    """Asks models."""

    setup: Setup
    progress: Progress | None

    def report(self, model: CausalLM, name: str, folder: Path) -> Evaluation:
        """All answers to the test part and the suite that is reported on, written to the folder."""
        questions, plan = self.setup.questions, self.setup.plan
        suite = replace(questions.report_suite, tasks=(questions.report_target, *questions.report_suite.tasks))
        subject = self._subject(model, name)
        found = evaluate_tasks(subject, suite, plan, self.progress)
        asked = asked_digest(suite, plan, subject.template.name, subject.context_length)
        save_evaluation(found, asked, folder / f"eval_{name}.json", folder / f"items_{name}.parquet")
        return found

    def base(self, model: CausalLM) -> Evaluation:
        """The base's answers to what is chosen by, at the largest shot count that fits every task.

        Raises:
            RunError: None fits, or the base cannot do the tasks.
        """
        settings = self.setup.settings
        for shots in sorted((n for n in self.setup.plan.shots if n), reverse=True):
            plan = replace(self.setup.plan, shots=(shots,), sets=settings.search_sets, queries=settings.search_queries)
            found = self._ask(model, "base", self.setup.questions.suite, plan)
            if all((task, shots) in found.cells for task in few_shot_tasks(found.tasks.values())):
                break
        if reason := unmeasurable(found):
            raise RunError(f"nothing can be chosen by the validation suite: {reason}")
        return found

    def target(self, model: CausalLM) -> Evaluation:
        """Every validation row, zero-shot.

        Raises:
            RunError: One does not fit the context.
        """
        target = self.setup.questions.target
        plan = zero_shot_plan(target, self.setup.settings.search_sets, self.setup.plan.seed)
        found = self._ask(model, "point", Suite("target", (target,)), plan)
        if not found.items:
            raise RunError(f"a validation row of {target.name} is longer than the model's context; leave it out")
        return found

    def measure(self, model: CausalLM, base: Evaluation, tuned: Evaluation) -> Measured:
        """What validation data and suite say of a model.

        Args:
            model: Between base and tuned.
            base: Of `base`.
            tuned: Of `target`.
        """
        found = self.target(model)
        point = curve_points(found, list(found.tasks))["0"]
        assert point is not None, "its rows fit"
        lost = np.array([before.score - after.score for before, after in zip(tuned.items, found.items, strict=True)])
        error = float(lost.std(ddof=1)) / math.sqrt(lost.size) if lost.size > 1 else 0.0
        others = self._ask(model, "point", self.setup.questions.suite, base.plan)
        kept = retention(base, others, few_shot_tasks(base.tasks.values()), base.plan.shots[0])
        assert kept is not None, "the base can do the tasks"
        return Measured(Estimate(point["accuracy"], point["low"], point["high"]), float(lost.mean()) + error, kept)

    def _ask(self, model: CausalLM, name: str, suite: Suite, plan: EvaluationPlan) -> Evaluation:
        return evaluate_tasks(self._subject(model, name), suite, plan, self.progress)

    def _subject(self, model: CausalLM, name: str) -> Subject:
        data = self.setup.config.data
        subject = as_subject(model, self.setup.tokenizer, data.template, name, data.max_length)
        return remembering(subject, default_cache())


def _choose(judge: _Judge, folder: Path, say: Say) -> tuple[Found, dict[str, Evaluation], Path]:
    """Search, write the chosen point, and ask base and tuned model for the report."""
    setup = judge.setup
    between = Interpolation(setup.base, setup.tuned)
    say(f"groups that were tuned: {', '.join(between.groups)}")
    base = judge.base(between.base)
    say(
        f"choosing by {len(setup.questions.target.examples)} validation rows and {len(base.tasks)} tasks at "
        f"{base.plan.shots[0]} shots: target accuracy, retention"
    )

    with between.at(1.0) as model:
        tuned = judge.target(model)

    def measure(coefficients: Mapping[Group, float]) -> Measured:
        with between.at(coefficients) as model:
            return judge.measure(model, base, tuned)

    settings = setup.settings
    found = search(
        measure,
        between.groups,
        steps=settings.steps,
        max_loss=settings.max_loss,
        by_group=settings.by_group,
        seen=lambda point: say(f"  {point_line(point_json(point))}"),
    )
    say(f"chosen: {found.reason}")
    path = folder / ("adapter" if between.is_adapter else "model")
    with between.at(found.chosen.coefficients) as model, quiet():
        if isinstance(model, PeftModel):
            model.save_pretrained(path, save_embedding_layers=False)  # PEFT would look the base up on the hub
        else:
            model.to(between.dtype).save_pretrained(path)
    setup.tokenizer.save_pretrained(path)
    (path / "README.md").unlink(missing_ok=True)  # PEFT's empty card
    say(f"evaluating base and tuned model on the test part and {len(setup.questions.report_suite.tasks)} tasks")
    evaluations = {"base": judge.report(between.base, "base", folder)}
    with between.at(1.0) as model:
        evaluations["tuned"] = judge.report(model, "tuned", folder)
    return found, evaluations, path
