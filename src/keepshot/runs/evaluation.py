"""Evaluations of models by name."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import get_args

from keepshot.errors import ConfigError
from keepshot.evaluation import Evaluation, EvaluationPlan, Subject, check_paired, evaluate_tasks
from keepshot.prompts import Row, TemplateName, encode
from keepshot.runs.data import load_suites
from keepshot.runs.digests import asked_digest
from keepshot.runs.evaluation_files import save_against
from keepshot.runs.processes import processes
from keepshot.runs.progress import Progress
from keepshot.runs.subjects import remembering, subjects
from keepshot.strategies.soft_prompt import load_prompt
from keepshot.tasks.example import Suite


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
        for index, subject in subjects(models, template, prompt):
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


def _first_prompts(subject: Subject, suite: Suite) -> list[Row]:
    """One prompt of every task: what tells tokenizers and templates apart before a model is asked."""
    return [encode([subject.template_of(task).render(task.examples[:1])], subject.tokenizer)[0] for task in suite.tasks]
