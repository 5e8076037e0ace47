"""The main job: fine-tune for a task, keep few-shot ability, and prove it."""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from keepshot.config import RunConfig, load_config
from keepshot.errors import RunError
from keepshot.evaluate import Evaluation, EvaluationPlan, evaluate_tasks
from keepshot.files import read_json, write_json
from keepshot.models.load import base_dtype, load_model
from keepshot.report import render
from keepshot.runs.data import TargetData, evaluation_suite, load_target
from keepshot.runs.evaluation import (
    Progress,
    Say,
    asked_digest,
    default_cache,
    load_evaluation,
    load_subject,
    remembering,
    save_evaluation,
    silent,
)
from keepshot.runs.folder import RunFolder, in_use, open_run
from keepshot.runs.preparation import Preparation, prepare
from keepshot.runs.record import Result, run_report
from keepshot.runs.training import save_trained, steps_in_all, stream_lines, train, training_dtype
from keepshot.strategies import Lora, apply_trainable, fingerprint, verify_frozen
from keepshot.tasks.example import Suite
from keepshot.train import checkpoints


@dataclass(frozen=True, slots=True)
class _Run:
    """A run with everything that its stages share."""

    config: RunConfig
    folder: RunFolder
    target: TargetData
    suite: Suite
    plan: EvaluationPlan
    prepared: Preparation

    @property
    def questions(self) -> Suite:
        """The target's test part, then the held-out tasks."""
        return Suite(self.suite.name, (self.target.task, *self.suite.tasks))

    @property
    def asked(self) -> str:
        """Identifies the questions and how they are written."""
        encoder = self.prepared.encoder
        return asked_digest(self.questions, self.plan, encoder.template.name, self.prepared.context_length)

    @property
    def model_path(self) -> Path:
        return self.folder.saved_model(isinstance(self.prepared.strategy.trainable, Lora))


def tune(
    config: RunConfig | Mapping[str, Any] | Path | str,
    *,
    output: Path | str | None = None,
    resume: bool = False,
    base_evaluation: Path | None = None,
    say: Say = silent,
    progress: Progress | None = None,
) -> RunFolder:
    """Evaluate the base, fine-tune, evaluate the saved result, and write the report.

    Everything that can be wrong in config, data and model is looked at before the run folder is made. Every stage
    leaves a file or folder that is complete or absent, so that a run which was killed at any moment continues with
    `resume` and ends with the same weights.

    Args:
        config: A config, its values as a mapping, or the path of a YAML file.
        output: Run folder; replaces the config's.
        resume: Continue the run that is in the folder.
        base_evaluation: A run folder that asked the base the same questions; its `eval_before` is taken over.
        say: Called with each line worth showing.
        progress: Called with a task's name, sets done and sets in all during evaluations.

    Raises:
        KeepshotError: The config, the data or the model cannot be used, or training diverged.
    """
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        raise RunError("tune runs in one process; start it without torchrun or accelerate launch")
    if not isinstance(config, RunConfig):
        config = load_config(Path(config) if isinstance(config, str) else config)
    if output is not None:
        config = config.model_copy(update={"output": str(output)})
    target = load_target(config.data, config.seed)
    suite, skipped, suite_notes = evaluation_suite(config, target)
    folder = RunFolder(Path(config.output))
    prepared = prepare(config, target, suite, folder)
    run = _Run(config, folder, target, suite, config.evaluate.plan(config.seed), prepared)
    notes = (*target.notes, *suite_notes, *prepared.notes)
    for row in (*target.skipped, *skipped):
        say(f"left out: {row}")
    for note in notes:
        say(f"note: {note}")
    if resume and not folder.config.exists():
        say(f"no run in {folder.path} yet: starting one")
    open_run(config, {"questions": run.asked} | prepared.digests, resume=resume)
    with in_use(folder):
        before = _stage_before(run, base_evaluation, say, progress)
        cost = _stage_train(run, say)
        after = _stage_after(run, say, progress)
        bad_rows = sum(row.line > 0 for row in (*target.skipped, *skipped))
        template = prepared.encoder.template
        prompt = {"template": template.name, "example": template.render(target.train[:2]).text}
        result = Result(config, target, suite, before, after, cost, run.model_path.name, notes, bad_rows, prompt)
        write_json(folder.report, run_report(result))
        render(folder.path)
    return folder


def _stage_before(run: _Run, base_evaluation: Path | None, say: Say, progress: Progress | None) -> Evaluation:
    path, items = run.folder.evaluation("before")
    if not path.exists() and base_evaluation is not None:
        found = load_evaluation(*RunFolder(base_evaluation).evaluation("before"), run.questions, run.plan, run.asked)
        if found.model != run.config.model:
            raise RunError(f"{base_evaluation} evaluated the base {found.model}, not {run.config.model}")
        save_evaluation(found, run.asked, path, items)
    if path.exists():
        return load_evaluation(path, items, run.questions, run.plan, run.asked)
    say(f"evaluating the base {run.config.model} on {run.target.name} and {len(run.suite.tasks)} held-out tasks")
    return _evaluate(run, run.config.model, path, items, progress)


def _stage_after(run: _Run, say: Say, progress: Progress | None) -> Evaluation:
    path, items = run.folder.evaluation("after")
    if path.exists():
        return load_evaluation(path, items, run.questions, run.plan, run.asked)
    say(f"evaluating the tuned {run.model_path.name}, loaded from its files")
    return _evaluate(run, str(run.model_path), path, items, progress)


def _evaluate(run: _Run, model: str, path: Path, items: Path, progress: Progress | None) -> Evaluation:
    data = run.config.data
    shown_as = run.config.model if model == run.config.model else Path(model).name
    subject = load_subject(model, data.template, shown_as=shown_as, max_length=data.max_length)
    subject = remembering(subject, default_cache())
    found = evaluate_tasks(subject, run.questions, run.plan, progress)
    save_evaluation(found, run.asked, path, items)
    return found


def _stage_train(run: _Run, say: Say) -> dict[str, Any]:
    """Train unless the tuned model is there; returns `training.json`."""
    if run.model_path.exists():
        return read_json(run.folder.training)
    config, prepared = run.config, run.prepared
    dtype = base_dtype(config.model)
    model = load_model(config.model, dtype=training_dtype(prepared.arguments))
    trainable = apply_trainable(model, prepared.strategy.trainable, config.seed)
    frozen = fingerprint(trainable.model, trainable.parts, dtype)
    steps = steps_in_all(config, prepared.planner)
    say(f"tuning with {prepared.method}: {steps} steps, learning rate {prepared.arguments.learning_rate:g}")
    for line in (*trainable.lines(), *stream_lines(prepared.planner, prepared.strategy)):
        say(f"  {line}")
    if found := checkpoints(run.folder.checkpoints):
        say(f"  going on from {found[-1].name}")
    cost = train(
        trainable,
        prepared.planner,
        prepared.arguments,
        strategy=prepared.strategy,
        validation=run.target.validation,
        folder=run.folder,
    )
    cost |= {"method": prepared.method, "learning_rate": prepared.arguments.learning_rate}
    write_json(run.folder.training, cost)

    def unchanged(saved: Path) -> None:
        """Every number outside the trainable set is the base's, bit for bit, in the files as a user will load them."""
        verify_frozen(frozen, fingerprint(load_model(str(saved)), trainable.parts, dtype))

    save_trained(trainable, prepared.encoder.tokenizer, run.model_path, dtype, check=unchanged)
    if frozen:
        say(f"  every number outside the trainable set is bit-identical to the base ({len(frozen)} tensors)")
    return cost
