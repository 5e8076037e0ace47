"""The main job: fine-tune for a task, keep few-shot ability, and prove it."""

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from keepshot.config import RunConfig, load_config
from keepshot.errors import RunError
from keepshot.evaluation import Evaluation, EvaluationPlan, Subject, evaluate_tasks, unmeasurable
from keepshot.files import read_json, write_json
from keepshot.models.digest import model_digest
from keepshot.models.interpolate import pull_back
from keepshot.models.load import base_dtype, load_model, load_tokenizer
from keepshot.report import render
from keepshot.runs.data import TargetData, evaluation_suite, load_target
from keepshot.runs.digests import asked_digest
from keepshot.runs.evaluation_files import load_evaluation, save_evaluation
from keepshot.runs.folder import RunFolder, in_use, open_run
from keepshot.runs.preparation import Preparation, answers_end, prepare
from keepshot.runs.progress import Progress, Say, silent
from keepshot.runs.prompting import cost_of_stages, trained_prompt
from keepshot.runs.record import Result, run_report
from keepshot.runs.references import reference_notes
from keepshot.runs.retrieval import keep_index
from keepshot.runs.subjects import as_subject, default_cache, remembering
from keepshot.runs.training import save_trained, steps_in_all, stream_lines, train, training_dtype
from keepshot.strategies import Lora, apply_trainable, fingerprint, verify_frozen
from keepshot.strategies.soft_prompt import load_prompt, prompt_digest
from keepshot.tasks.example import Suite
from keepshot.train import Earlier, checkpoints


@dataclass(frozen=True, slots=True)
class Run:
    """A run with everything that its stages share.

    Attributes:
        config: Of the run.
        folder: Where the stages leave their files.
        target: The target's examples.
        suite: The held-out tasks that are asked.
        plan: How many questions are asked.
        prepared: What training needs.
        notes: What a reader of the report should know.
        bad_rows: Bad rows of data and suite that were left out.
    """

    config: RunConfig
    folder: RunFolder
    target: TargetData
    suite: Suite
    plan: EvaluationPlan
    prepared: Preparation
    notes: tuple[str, ...] = ()
    bad_rows: int = 0

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
        """The tuned model, there or not."""
        return self.folder.saved_model(isinstance(self.prepared.strategy.trainable, Lora))

    @property
    def prompt_path(self) -> Path | None:
        """The soft prompt, there or not; None where the method has none."""
        return None if self.prepared.first is None else self.folder.prompt


@dataclass(frozen=True, slots=True)
class Subjects:
    """A model of a run, ready to be asked.

    Attributes:
        target: Asked about the target: behind the run's soft prompt, where it has one.
        others: Asked about all else: the model alone.
    """

    target: Subject
    others: Subject


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
    notes = (*target.notes, *suite_notes, *prepared.notes)
    bad_rows = sum(row.line > 0 for row in (*target.skipped, *skipped))
    run = Run(config, folder, target, suite, config.evaluate.plan(config.seed), prepared, notes, bad_rows)
    for row in (*target.skipped, *skipped):
        say(f"left out: {row}")
    for note in notes:
        say(f"note: {note}")
    if resume and not folder.config.exists():
        say(f"no run in {folder.path} yet: starting one")
    inputs = {"model": model_digest(config.model), "questions": run.asked} | prepared.digests
    open_run(config, inputs, resume=resume)
    with in_use(folder):
        finish(run, base_evaluation, say, progress)
    return folder


def finish(run: Run, base_evaluation: Path | None, say: Say, progress: Progress | None) -> None:
    """Do the stages of an opened run that are not there yet: base, training, tuned model, report.

    Args:
        run: Opened, and in use by nobody else.
        base_evaluation: As for `tune`.
        say: As for `tune`.
        progress: As for `tune`.

    Raises:
        RunError: Training diverged, or an evaluation that is there asked something else.
    """
    before = _stage_before(run, base_evaluation, say, progress)
    if reason := unmeasurable(before.only([task.name for task in run.suite.tasks])):
        say(f"note: what is kept of few-shot ability will not be measurable: {reason}")
    keep_index(run.prepared.strategy.streams[0], run.prepared.planner.streams[0].sampler, run.folder.index)
    cost = train_stage(run, say)
    after = _stage_after(run, say, progress)
    template = run.prepared.encoder.template
    shown = run.target.train
    prompt = {
        "template": template.name,
        "example": template.render(shown[:2]).text,
        "stop": list(template.stop(shown[0].several_lines)) if answers_end(template, shown) else [],
    }
    name = run.model_path.name
    practised = frozenset().union(*(stream.sampler.families for stream in run.prepared.planner.streams))
    notes = run.notes
    if run.prompt_path is not None:
        notes = (
            *notes,
            "The tuned model was asked about the target behind the soft prompt in prompt/, and about all other tasks "
            "without it; the base was asked without it.",
        )
    soft_prompt = None if run.prompt_path is None else run.prompt_path.name
    result = Result(
        run.config,
        run.target,
        run.suite,
        before,
        after,
        cost,
        name,
        notes,
        run.bad_rows,
        practised,
        prompt,
        soft_prompt,
    )
    write_json(run.folder.report, run_report(result))
    render(run.folder.path)


def _stage_before(run: Run, base_evaluation: Path | None, say: Say, progress: Progress | None) -> Evaluation:
    path, items = run.folder.evaluation("before")
    if not path.exists() and base_evaluation is not None:
        found = load_evaluation(*RunFolder(base_evaluation).evaluation("before"), run.questions, run.plan, run.asked)
        if found.model != run.config.model:
            raise RunError(f"{base_evaluation} evaluated the base {found.model}, not {run.config.model}")
        save_evaluation(found, run.asked, path, items)
    if not path.exists():
        say(f"evaluating the base {run.config.model} on {run.target.name} and {len(run.suite.tasks)} held-out tasks")
    return answered(run, "before", lambda: subjects_of(run, run.config.model), progress)


def _stage_after(run: Run, say: Say, progress: Progress | None) -> Evaluation:
    if not run.folder.evaluation("after")[0].exists():
        say(f"evaluating the tuned {run.model_path.name}, loaded from its files")
    return answered(run, "after", lambda: subjects_of(run, str(run.model_path)), progress)


def subjects_of(run: Run, model: str) -> Subjects:
    """A model of a run, its base or its own, loaded and ready to be asked."""
    own = model != run.config.model
    loaded, tokenizer = load_model(model), load_tokenizer(model)
    name = Path(model).name if own else run.config.model
    # The room of a soft prompt is left free in all questions, so that both models are asked the same.
    longest, template = run.prepared.context_length, run.config.data.template
    alone = remembering(as_subject(loaded, tokenizer, template, name, longest), default_cache())
    if not own or run.prompt_path is None:
        return Subjects(alone, alone)
    prompted = as_subject(loaded, tokenizer, template, name, longest, load_prompt(run.prompt_path))
    return Subjects(remembering(prompted, default_cache()), alone)


def answered(run: Run, when: str, subjects: Callable[[], Subjects], progress: Progress | None = None) -> Evaluation:
    """What a model answers to a run's questions.

    Args:
        run: Whose questions.
        when: Names the files in the run's folder; where they are, nobody is asked.
        subjects: Loads the model.
        progress: As for `tune`.

    Raises:
        RunError: The files are there and asked something else.
    """
    path, items = run.folder.evaluation(when)
    if path.exists():
        return load_evaluation(path, items, run.questions, run.plan, run.asked)
    found = _asked(run, subjects(), progress)
    save_evaluation(found, run.asked, path, items)
    return found


def _asked(run: Run, subjects: Subjects, progress: Progress | None) -> Evaluation:
    if subjects.target is subjects.others:
        return evaluate_tasks(subjects.others, run.questions, run.plan, progress)
    found = evaluate_tasks(subjects.target, replace(run.questions, tasks=(run.target.task,)), run.plan, progress)
    if not run.suite.tasks:
        return found
    others = evaluate_tasks(subjects.others, run.suite, run.plan, progress)
    both = found.shared_context and others.shared_context
    return Evaluation(found.model, run.plan, {**found.tasks, **others.tasks}, {**found.cells, **others.cells}, both)


def train_stage(run: Run, say: Say) -> dict[str, Any]:
    """Train unless the tuned model is there, the soft prompt first if there is one; returns `training.json`.

    Raises:
        RunError: Training diverged.
    """
    if run.model_path.exists():
        return read_json(run.folder.training)
    config, prepared = run.config, run.prepared
    dtype = base_dtype(config.model)
    prompt, before, earlier = None, None, Earlier()
    if prepared.first is not None:
        prompt, before = trained_prompt(config, prepared.first, run.target.validation, run.folder, say)
        earlier = Earlier(before["steps"], before["tokens"])
    model = load_model(config.model, dtype=training_dtype(prepared.arguments))
    trainable = apply_trainable(model, prepared.strategy.trainable, config.seed, prepared.start)
    trainable = replace(trainable, prompt=prompt)
    frozen = fingerprint(trainable.model, trainable.parts, dtype)
    steps = steps_in_all(config, prepared.planner)
    say(f"tuning with {prepared.method}: {steps} steps, learning rate {prepared.arguments.learning_rate:g}")
    for line in (*trainable.lines(), *stream_lines(prepared.planner, prepared.strategy)):
        say(f"  {line}")
    if found := checkpoints(run.folder.checkpoints):
        say(f"  going on from {found[-1].name}")
    cost = train(
        trainable,
        prepared.stage,
        validation=run.target.validation,
        folder=run.folder,
        prompts=prepared.prompts,
        earlier=earlier,
    )
    for note in reference_notes(cost["reference"]):
        say(f"note: {note}")
    cost |= {"method": prepared.method, "learning_rate": prepared.arguments.learning_rate}
    if before is not None:
        cost = cost_of_stages(before, cost)
    write_json(run.folder.training, cost)

    def unchanged(saved: Path) -> None:
        """Every number outside the trainable set is the base's, bit for bit, in the files as a user will load them."""
        verify_frozen(frozen, fingerprint(load_model(str(saved)), trainable.parts, dtype))
        if prompt is not None:
            verify_frozen(
                {"soft prompt": prompt_digest(load_prompt(run.folder.prompt))}, {"soft prompt": prompt_digest(prompt)}
            )

    if (merge := prepared.strategy.merge) is not None:
        pull_back(trainable.model, config.model, merge.coefficient)
    save_trained(trainable, prepared.encoder.tokenizer, run.model_path, dtype, check=unchanged)
    if frozen:
        say(f"  every number outside the trainable set is bit-identical to the base ({len(frozen)} tensors)")
    return cost
