"""Evaluations of a model by name, as files."""

import hashlib
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, get_args

from jaxtyping import Float
from peft import PeftModel
from torch import Tensor
from transformers import PreTrainedTokenizerBase

from keepshot.errors import ConfigError, RunError
from keepshot.evaluation import (
    AnswerStore,
    Evaluation,
    EvaluationPlan,
    Item,
    LocalModel,
    StoredAnswers,
    Subject,
    check_paired,
    curve_points,
    difference,
    evaluate_tasks,
    few_shot_tasks,
    read_items,
    retention_report,
    write_items,
)
from keepshot.files import read_json, write_json
from keepshot.models.load import CausalLM, attach_adapter, context_length, detach_adapter, load_model, load_tokenizer
from keepshot.models.source import adapter_base, base_name
from keepshot.prompts import Row, TemplateName, choose_template, encode
from keepshot.runs.data import TargetData, load_suites
from keepshot.runs.processes import processes
from keepshot.strategies.soft_prompt import load_prompt
from keepshot.tasks.example import Suite, hold_line_ends

Say = Callable[[str], None]
Progress = Callable[[str, int, int], None]
SCHEMA = "keepshot.eval/1"
# Goes up when the same settings draw other questions than before.
DRAWING = 2


def silent(line: str) -> None:
    """Say nothing."""


def load_subject(
    name: str,
    template: TemplateName,
    *,
    shown_as: str | None = None,
    max_length: int | None = None,
    prompt: Path | None = None,
) -> Subject:
    """A model ready to be asked.

    Args:
        name: `mini`, a folder, an adapter folder, or a hub id.
        template: How prompts are written.
        shown_as: Its name in results; `name` if None.
        max_length: Cap on the context, in tokens; None is the model's own.
        prompt: Folder of a soft prompt that stands before all that it reads.
    """
    tokenizer = load_tokenizer(name)
    soft = None if prompt is None else load_prompt(prompt)
    return as_subject(load_model(name), tokenizer, template, shown_as or name, max_length, soft)


def as_subject(
    model: CausalLM,
    tokenizer: PreTrainedTokenizerBase,
    template: TemplateName,
    name: str,
    max_length: int | None = None,
    prompt: Float[Tensor, "tokens width"] | None = None,
) -> Subject:
    """A loaded model ready to be asked; puts it into evaluation mode.

    Args:
        model: Who answers.
        tokenizer: The model's.
        template: How prompts are written.
        name: In results.
        max_length: Cap on the context, in tokens; None is the model's own.
        prompt: A soft prompt before all that it reads, which takes its part of the model's context.

    Raises:
        ModelError: The soft prompt was trained on another model.
    """
    longest = context_length(model) - (0 if prompt is None else len(prompt))
    return Subject(
        name,
        LocalModel(model, tokenizer, prompt),
        tokenizer,
        choose_template(template, tokenizer),
        min(longest, max_length or longest),
    )


def default_cache() -> Path | None:
    """Where answers are remembered: `answers.sqlite` in `$KEEPSHOT_CACHE` or `~/.cache/keepshot`; None if it is off."""
    folder = os.environ.get("KEEPSHOT_CACHE", "~/.cache/keepshot")
    return None if folder == "off" else Path(folder).expanduser() / "answers.sqlite"


def remembering(subject: Subject, cache: Path | None) -> Subject:
    """The subject, asked only what the cache of answers does not know."""
    return subject if cache is None else replace(subject, backend=StoredAnswers(subject.backend, AnswerStore(cache)))


def evaluate(
    model: str,
    *,
    suite: str | Suite = "mini",
    plan: EvaluationPlan | None = None,
    template: TemplateName = "auto",
    output: Path | None = None,
    cache: Path | None = None,
    progress: Progress | None = None,
    prompt: Path | str | None = None,
) -> Evaluation:
    """Measure the n-shot curve of a model on a suite.

    Under `accelerate launch` or torchrun, every process asks a part and returns the whole.

    Args:
        model: `mini`, a model or adapter folder, or a hub id.
        suite: `mini`, a folder of task files, or a `Suite` (such as `keepshot.read_suite(…).suite`).
        plan: Shot counts, demonstration sets, queries, seed; None is the default plan.
        template: `auto`, `plain`, `instruction` or `chat`.
        output: A `.json` path for the result; the items go beside it as `.items.parquet`.
        cache: A SQLite file that remembers answers, such as `default_cache()`; what it knows is not computed again.
        progress: Called with the task's name, sets done and sets in all.
        prompt: Folder of a soft prompt, such as `prompt/` of a run: the model is asked behind it, about every task.

    Raises:
        KeepshotError: The model, the soft prompt or the suite cannot be used.

    Example:
        >>> from keepshot.evaluation import EvaluationPlan
        >>> found = evaluate("mini", plan=EvaluationPlan(shots=(0, 4), sets=2, queries=5))
        >>> len(found.items) == 2 * 5 * (2 * 17 + 3)    # seventeen tasks at 0 and 4 shots, three at 0 alone
        True
    """
    asking = _Asking(suite, plan, template, output, cache, progress, None if prompt is None else Path(prompt))
    [found] = _evaluated([model], asking)
    return found


def evaluate_against(
    models: Sequence[str],
    *,
    suite: str | Suite = "mini",
    plan: EvaluationPlan | None = None,
    template: TemplateName = "auto",
    output: Path | None = None,
    cache: Path | None = None,
    progress: Progress | None = None,
) -> list[Evaluation]:
    """Measure a base and tuned models on the same prompts, in one process.

    The base is loaded once: adapters on it are attached and detached again. Other models follow one at a time.

    Args:
        models: The base, then those that are measured against it.
        suite: As for `evaluate`.
        plan: As for `evaluate`; with `until`, the base decides on the number of sets.
        template: As for `evaluate`.
        output: A `.json` path for the base's result, with retention and differences of the others under `against`;
            items go beside it as `.items.parquet`, `.items.1.parquet`, and so on.
        cache: As for `evaluate`.
        progress: As for `evaluate`.

    Returns:
        The evaluations in the order of `models`.

    Raises:
        KeepshotError: A model or the suite cannot be used, or a model reads the prompts otherwise than the base.
    """
    return _evaluated(models, _Asking(suite, plan, template, output, cache, progress))


@dataclass(frozen=True, slots=True)
class _Asking:
    """How models are asked; see `evaluate`."""

    suite: str | Suite
    plan: EvaluationPlan | None
    template: TemplateName
    output: Path | None
    cache: Path | None
    progress: Progress | None
    prompt: Path | None = None


def _evaluated(models: Sequence[str], asking: _Asking) -> list[Evaluation]:
    plan, template, output = asking.plan or EvaluationPlan(), asking.template, asking.output
    if output is not None and output.suffix != ".json":
        raise ConfigError(f"--output {output} must end in .json")
    if template not in get_args(TemplateName):
        raise ConfigError(f"template {template!r} is unknown; use one of {', '.join(get_args(TemplateName))}")
    # Of a folder, only files that are no data are left out.
    suite = load_suites(asking.suite)[0] if isinstance(asking.suite, str) else asking.suite
    plan.suite(suite)
    prompt = None if asking.prompt is None else load_prompt(asking.prompt)
    found: dict[int, Evaluation] = {}
    asked = ""
    read: list[Row] = []
    with processes() as launched:
        for index, subject in _subjects(models, template, prompt):
            sets = found[0].sets if found else None
            asked = asked or asked_digest(suite, plan, subject.template.name, subject.context_length)
            prompts = _first_prompts(subject, suite)
            read = read or prompts
            if prompts != read:
                raise ConfigError(
                    f"{subject.name} reads other prompts than {models[0]}: its tokenizer or chat template is another; "
                    "choose one template for both (--template plain), or evaluate it by itself"
                )
            shown = asking.progress if launched.index == 0 else None
            found[index] = evaluate_tasks(remembering(subject, asking.cache), suite, plan, shown, launched, sets)
            check_paired(found[0], found[index])
            del subject  # the next model is loaded into its place
        results = [found[index] for index in range(len(models))]
        if output is not None and launched.index == 0:
            save_against(results, asked, output, asking.prompt)
    return results


def _subjects(
    models: Sequence[str], template: TemplateName, prompt: Float[Tensor, "tokens width"] | None
) -> Iterator[tuple[int, Subject]]:
    """The base, the adapters on it, then all others; never two models in memory. A soft prompt is the first's."""
    base, *others = models
    bases = [adapter_base(name) for name in others]  # a mistaken name is found before anything is asked
    model: CausalLM | None = load_model(base)
    fits = not isinstance(model, PeftModel)
    on_base = [index for index, found in enumerate(bases, start=1) if fits and found == base_name(base)]
    yield 0, as_subject(model, load_tokenizer(base), template, base, prompt=prompt)
    for index in on_base:
        model = attach_adapter(model, models[index])
        yield index, as_subject(model, load_tokenizer(models[index]), template, models[index])
        model = detach_adapter(model)
    model = None
    for index in range(1, len(models)):
        if index not in on_base:
            yield index, load_subject(models[index], template)


def _first_prompts(subject: Subject, suite: Suite) -> list[Row]:
    """One prompt of every task: what tells tokenizers and templates apart before a model is asked."""
    return [encode([subject.template_of(task).render(task.examples[:1])], subject.tokenizer)[0] for task in suite.tasks]


def asked_digest(suite: Suite, plan: EvaluationPlan, template: str, context_length: int) -> str:
    """Identifies what an evaluation asks: equal digests make equal prompts, for models with the same tokenizer."""
    several = [task.name for task in suite.tasks if hold_line_ends((*task.examples, *task.pool))]
    return digest((DRAWING, suite.tasks, plan, template, context_length, *_ending_otherwise(several)))


def digest(value: object) -> str:
    """A digest of records of plain values."""
    return hashlib.blake2b(repr(value).encode(), digest_size=16).hexdigest()


def training_digest(target: TargetData) -> str:
    """A digest of the rows that a run trains on and watches."""
    return digest((target.train, target.validation, *_ending_otherwise(any(row.several_lines for row in target.train))))


def _ending_otherwise(several_lines: object) -> tuple[object, ...]:
    """What tells folders apart whose answers of several lines ended with a line; all other folders stay as they are."""
    return ("answers end where the next block begins", several_lines) if several_lines else ()


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


def half_width(evaluation: Evaluation) -> float:
    """Half the 95 % interval of the mean accuracy at the largest shot count that fits all tasks; inf without one."""
    curve = curve_points(evaluation, few_shot_tasks(evaluation.tasks.values()))
    points = [point for point in curve.values() if point is not None]
    return (points[-1]["high"] - points[-1]["low"]) / 2 if points else float("inf")


def against_json(base: Evaluation, tuned: Evaluation) -> dict[str, Any]:
    """What became of the base: the tuned model's evaluation, retention, and the difference at every shot count."""
    tasks = few_shot_tasks(base.tasks.values())
    differences = {n: difference(base, tuned, tasks, n) for n in base.plan.shots}
    return {
        **evaluation_json(tuned),
        "retention": retention_report(base, tuned),
        "difference": {str(n): found and asdict(found) for n, found in differences.items()},
    }


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


def save_evaluation(evaluation: Evaluation, asked: str, path: Path, items: Path) -> None:
    """Write the items, then the summary with `asked_digest`: where the summary is, the items are."""
    path.parent.mkdir(parents=True, exist_ok=True)
    write_items(items, evaluation.items)
    write_json(path, evaluation_json(evaluation) | {"asked": asked})


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
