"""Everything that a rescue needs and that can be wrong, before a model is loaded."""

from dataclasses import dataclass
from pathlib import Path

from transformers import PreTrainedTokenizerBase

from keepshot.config import DataConfig, RunConfig, load_config
from keepshot.errors import ConfigError, ModelError, RunError
from keepshot.evaluation import EvaluationPlan
from keepshot.files import read_json
from keepshot.models.load import load_tokenizer
from keepshot.models.source import base_name
from keepshot.runs.data import TargetData, load_target
from keepshot.runs.digests import training_digest
from keepshot.runs.folder import RunFolder
from keepshot.runs.validation import Questions, validation_questions


@dataclass(frozen=True, slots=True)
class RescueSettings:
    """How a point between base and tuned model is chosen, and on what it is reported.

    Attributes:
        suite: Reported on; None takes the one of the run, or `mini` for the model `mini`.
        validation_suite: Chosen by; None takes tasks of the bundled universe for `mini`, else half of `suite`.
        max_loss: The loss of target accuracy, against the tuned model, that is accepted on the validation part, one
            standard error included.
        steps: From base to tuned, of the coefficient that all groups share.
        by_group: Whether each group of roles then gets its own.
        shots: Numbers of demonstrations in the report, the largest of which is chosen by; None takes the run's.
        sets: Demonstration sets per task in the report; None takes the run's, or 8.
        queries: Queries per set in the report; None takes the run's, or 40.
        search_sets: Demonstration sets per task to choose by.
        search_queries: Queries per set to choose by; of the target, all validation rows are asked.
        seed: Of every draw, where `tuned` is no run folder.
    """

    suite: str | None = None
    validation_suite: str | None = None
    max_loss: float = 0.01
    steps: int = 10
    by_group: bool = True
    shots: tuple[int, ...] | None = None
    sets: int | None = None
    queries: int | None = None
    search_sets: int = 4
    search_queries: int = 20
    seed: int = 0

    def __post_init__(self) -> None:
        if not 0 <= self.max_loss < 1:
            raise ConfigError(f"max_loss is a fraction of the target's answers, from 0 to below 1; got {self.max_loss}")
        if self.steps < 1:
            raise ConfigError(f"steps lead from the base to the tuned model, at least 1; got {self.steps}")
        if self.search_sets < 2 or self.search_queries < 1:
            raise ConfigError(
                "to choose takes at least 2 demonstration sets of 1 query; "
                f"got {self.search_sets} and {self.search_queries}"
            )


@dataclass(frozen=True, slots=True)
class Setup:
    """What a rescue needs, checked.

    Attributes:
        config: Data, suite and seed as a run has them.
        base: Name of the base.
        tuned: Name of the model or adapter.
        tokenizer: Of both.
        questions: What is chosen by and reported on.
        plan: What is asked for the report.
        settings: Of the search.
    """

    config: RunConfig
    base: str
    tuned: str
    tokenizer: PreTrainedTokenizerBase
    questions: Questions
    plan: EvaluationPlan
    settings: RescueSettings


def set_up(base: str, tuned: str, data: DataConfig | str | None, settings: RescueSettings) -> Setup:
    """Find model, data and suites.

    Raises:
        KeepshotError: Something cannot be used.
    """
    config, model = _resolve(base, tuned, data, settings)
    target = load_target(config.data, config.seed)
    if data is None:
        _check_training_rows(RunFolder(Path(tuned).expanduser()), target)
    questions = validation_questions(config, target, settings.validation_suite)
    asked = config.evaluate.plan(config.seed)
    plan = EvaluationPlan(
        settings.shots or asked.shots, settings.sets or asked.sets, settings.queries or asked.queries, asked.seed
    )
    if max(plan.shots) == 0:
        raise ConfigError("there is nothing to rescue without examples in the prompt; ask for shots above 0 as well")
    return Setup(config, base, model, _tokenizer(base, model, questions), questions, plan, settings)


def _resolve(base: str, tuned: str, data: DataConfig | str | None, settings: RescueSettings) -> tuple[RunConfig, str]:
    """The config, of the run or made for this, and the name of the tuned model."""
    folder = RunFolder(Path(tuned).expanduser())
    given = DataConfig(train=data) if isinstance(data, str) else data
    if not folder.config.is_file():
        if given is None:
            raise ConfigError(
                f"{tuned} is no run folder of keepshot, which would name the target's data; give --data, best with "
                "examples that it was not tuned on"
            )
        values = {"model": base, "data": given.model_dump(), "suite": settings.suite, "seed": settings.seed}
        return load_config(values), tuned
    run = load_config(folder.config)
    model = next((path for path in map(folder.saved_model, (False, True)) if path.is_dir()), None)
    if model is None:
        raise RunError(f"{tuned} holds neither model nor adapter; end its run first (keepshot tune --resume)")
    if folder.prompt.is_dir():
        raise RunError(
            f"{tuned} was tuned behind a soft prompt (promot), which fits its own weights and none between them and "
            "the base; rescue takes a run without one"
        )
    if run.model != base and not _same_model(run.model, base):
        raise ModelError(f"{tuned} was tuned from {run.model}, not from {base}; name {run.model} as the base")
    return run.model_copy(update={"data": given or run.data, "suite": settings.suite or run.suite}), str(model)


def _check_training_rows(folder: RunFolder, target: TargetData) -> None:
    """Whether a run was trained on these rows, so that it was not on those that choose and those that report.

    Raises:
        RunError: On others.
    """
    begun = read_json(folder.inputs) if folder.inputs.is_file() else {}
    if begun.get("training data", now := training_digest(target)) != now:
        raise RunError(
            f"{folder.path} was trained on other rows than its data give now, so that rows it knows could be asked: "
            "the file has changed, or an older version split it by another seed; bring the file back, name that seed "
            "(data.split_seed), or give --data with examples that it was not tuned on"
        )


def _same_model(name: str, other: str) -> bool:
    try:
        return base_name(name) == base_name(other)
    except ModelError:  # a folder that is not here: the run was begun elsewhere
        return False


def _tokenizer(base: str, tuned: str, questions: Questions) -> PreTrainedTokenizerBase:
    """The tuned model's: its chat template is the one to ask with."""
    ours, theirs = load_tokenizer(base), load_tokenizer(tuned)
    texts = [text for task in questions.suite.tasks for text in (task.examples[0].input, task.examples[0].output)]
    if ours.get_vocab() != theirs.get_vocab() or ours(texts).input_ids != theirs(texts).input_ids:
        raise ModelError(
            f"the tokenizers of {base} and {tuned} differ, so that their numbers do not mean the same; name the model "
            "that it was tuned from"
        )
    return theirs
