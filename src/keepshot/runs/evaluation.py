"""Evaluations of a model by name, as files."""

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any, get_args

from transformers import PreTrainedTokenizerBase

from keepshot.errors import ConfigError, RunError
from keepshot.evaluate import (
    Evaluation,
    EvaluationPlan,
    Item,
    Subject,
    curve_points,
    evaluate_tasks,
    read_items,
    write_items,
)
from keepshot.files import read_json, write_json
from keepshot.models.load import CausalLM, context_length, load_model, load_tokenizer
from keepshot.prompts import TemplateName, choose_template
from keepshot.runs.data import load_suites
from keepshot.tasks.example import Suite

Say = Callable[[str], None]
Progress = Callable[[str, int, int], None]
SCHEMA = "keepshot.eval/1"
# Goes up when the same settings draw other questions than before.
DRAWING = 2


def silent(line: str) -> None:
    """Say nothing."""


def load_subject(name: str, template: Any, *, shown_as: str | None = None, max_length: int | None = None) -> Subject:
    """A model ready to be asked.

    Args:
        name: `mini`, a folder, an adapter folder, or a hub id.
        template: How prompts are written.
        shown_as: Its name in results; `name` if None.
        max_length: Cap on the context, in tokens; None is the model's own.
    """
    tokenizer = load_tokenizer(name)
    return as_subject(load_model(name), tokenizer, template, shown_as or name, max_length)


def as_subject(
    model: CausalLM,
    tokenizer: PreTrainedTokenizerBase,
    template: TemplateName,
    name: str,
    max_length: int | None = None,
) -> Subject:
    """A loaded model ready to be asked; puts it into evaluation mode."""
    longest = context_length(model)
    return Subject(
        name, model.eval(), tokenizer, choose_template(template, tokenizer), min(longest, max_length or longest)
    )


def evaluate(
    model: str,
    *,
    suite: str | Suite = "mini",
    plan: EvaluationPlan | None = None,
    template: str = "auto",
    output: Path | None = None,
    progress: Progress | None = None,
) -> Evaluation:
    """Measure the n-shot curve of a model on a suite.

    Args:
        model: `mini`, a model or adapter folder, or a hub id.
        suite: `mini`, a folder of task files, or a `Suite` (such as `keepshot.read_suite(…).suite`).
        plan: Shot counts, demonstration sets, queries, seed; None is the default plan.
        template: `auto`, `plain`, `instruction` or `chat`.
        output: A `.json` path for the result; the items go beside it as `.items.parquet`.
        progress: Called with the task's name, sets done and sets in all.

    Raises:
        KeepshotError: The model or the suite cannot be used.

    Example:
        >>> from keepshot.evaluate import EvaluationPlan
        >>> found = evaluate("mini", plan=EvaluationPlan(shots=(0, 4), sets=2, queries=5))
        >>> len(found.items) == 2 * 2 * 5 * len(found.tasks)
        True
    """
    plan = plan or EvaluationPlan()
    if list(plan.shots) != sorted(set(plan.shots)) or not plan.shots or plan.shots[0] < 0:
        raise ConfigError(f"shots must be ascending whole numbers from 0, each once; got {list(plan.shots)}")
    if output is not None and output.suffix != ".json":
        raise ConfigError(f"--output {output} must end in .json")
    if template not in get_args(TemplateName):
        raise ConfigError(f"template {template!r} is unknown; use one of {', '.join(get_args(TemplateName))}")
    if isinstance(suite, str):
        suite, _ = load_suites(suite)  # of a folder, only files that are no data are left out
    subject = load_subject(model, template)
    found = evaluate_tasks(subject, suite, plan, progress)
    if output is not None:
        asked = asked_digest(suite, plan, subject.template.name, subject.context_length)
        save_evaluation(found, asked, output, output.with_suffix(".items.parquet"))
    return found


def asked_digest(suite: Suite, plan: EvaluationPlan, template: str, context_length: int) -> str:
    """Identifies what an evaluation asks: equal digests make equal prompts, for models with the same tokenizer."""
    return digest((DRAWING, suite.tasks, plan, template, context_length))


def digest(value: object) -> str:
    """A digest of records of plain values."""
    return hashlib.blake2b(repr(value).encode(), digest_size=16).hexdigest()


def evaluation_json(evaluation: Evaluation) -> dict[str, Any]:
    """An evaluation as the contract `keepshot.eval/1` has it."""
    return {
        "schema": SCHEMA,
        "model": evaluation.model,
        "tasks": {
            name: {
                "chance": task.chance,
                "metric": task.scoring,
                "group": task.group,
                "shots": curve_points(evaluation, [name]),
            }
            for name, task in evaluation.tasks.items()
        },
        "mean": curve_points(evaluation, list(evaluation.tasks)),
        "sets": evaluation.plan.sets,
        "queries": evaluation.plan.queries,
        "shots": list(evaluation.plan.shots),
        "seed": evaluation.plan.seed,
        "shared_context": evaluation.shared_context,
    }


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
        {task.name: task for task in suite.tasks},
        {cell: tuple(found) for cell, found in cells.items()},
        bool(summary.get("shared_context", True)),
    )
