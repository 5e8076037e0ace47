"""`keepshot eval`: the n-shot curve of a model, and of others against it."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from keepshot.cli import show
from keepshot.cli.reading import Column, Format, OnBadRow, named_columns
from keepshot.errors import ConfigError

if TYPE_CHECKING:
    from keepshot.config import DataConfig

# Written out here: what names them in the rooms below needs torch, which `--help` does not wait for.
Template = Literal["auto", "plain", "instruction", "chat", "verbatim"]
Labels = Literal["true", "flipped", "random", "symbols"]

_SHOTS = "0,1,2,4,8,16"
_RETRIEVED = 5
"""Examples that are retrieved, unless --shots says."""


def evaluate(
    model: Annotated[str, typer.Argument(help="mini, a model or adapter folder, or a hub id.")],
    tuned: Annotated[list[str] | None, typer.Argument(help="More models, after --against.")] = None,
    against: Annotated[
        list[str] | None, typer.Option("--against", help="A tuned model or adapter to measure against MODEL.")
    ] = None,
    prompt: Annotated[
        Path | None, typer.Option("--prompt", help="Folder of a soft prompt, such as prompt/ of a run: ask behind it.")
    ] = None,
    suite: Annotated[
        str, typer.Option("--suite", help="mini, a folder of task files, or an lm-evaluation-harness task YAML.")
    ] = "mini",
    shots: Annotated[str, typer.Option("--shots", "--num_fewshot", help="Comma-separated.")] = _SHOTS,
    sets: Annotated[int, typer.Option("--sets", min=1, help="Demonstration sets per task.")] = 8,
    queries: Annotated[int, typer.Option("--queries", min=1, help="Queries per demonstration set.")] = 40,
    until: Annotated[
        float | None, typer.Option("--until", help="Ask more sets until half the 95 % interval is at most this.")
    ] = None,
    max_sets: Annotated[int, typer.Option("--max-sets", min=1, help="With --until, the most sets.")] = 32,
    balanced: Annotated[bool, typer.Option("--balanced", help="Demonstrations hold all labels evenly.")] = False,
    labels: Annotated[Labels, typer.Option("--labels", help="What classification tasks show and ask.")] = "true",
    metric: Annotated[
        str,
        typer.Option(
            "--metric",
            help="sum, per_token, per_byte or pmi for tasks with options; exact, numeric, set, f1, bleu, chrf or "
            "module:function for written answers.",
        ),
    ] = "",
    seed: Annotated[int, typer.Option("--seed", min=0, help="Of every draw.")] = 0,
    template: Annotated[Template, typer.Option("--template", help="How prompts are written.")] = "auto",
    format: Format = "auto",
    column: Column = None,
    on_bad_row: OnBadRow = "raise",
    context: Annotated[
        Literal["drawn", "retrieved"],
        typer.Option("--context", help="retrieved: ask --data with and without the nearest examples of --store."),
    ] = "drawn",
    data: Annotated[str | None, typer.Option("--data", help="With retrieved, what the model was tuned on.")] = None,
    store: Annotated[Path | None, typer.Option("--store", help="With retrieved, examples that arrived since.")] = None,
    output: Annotated[Path | None, typer.Option("--output", help="A .json path; items go beside it.")] = None,
    lm_eval: Annotated[
        Path | None, typer.Option("--lm-eval", help="A folder for results as lm-evaluation-harness writes them.")
    ] = None,
    cache: Annotated[
        Path | None, typer.Option("--cache", help="File of remembered answers. [default: see docs/evaluation.md]")
    ] = None,
    no_cache: Annotated[bool, typer.Option("--no-cache", help="Compute every answer anew.")] = False,
) -> None:
    """Measure the n-shot curve of a model, and of tuned models on the same prompts.

    Example: keepshot eval mini --against runs/a/model runs/b/adapter --shots 0,4,16 --output eval.json
    """
    from keepshot import runs
    from keepshot.config import DataConfig

    if context == "retrieved":
        if data is None or store is None or against or tuned or prompt:
            raise ConfigError("--context retrieved needs --data and --store, and asks one model alone")
        columns = named_columns(column)
        examples = DataConfig(train=data, format=format, columns=columns, template=template, on_bad_row=on_bad_row)
        _retrieved(model, examples, store, parse_shots(shots), queries * sets, seed, metric, output)
        return
    if data or store:
        raise ConfigError("--data and --store belong to --context retrieved")
    if tuned and not against:
        raise ConfigError(
            f"{tuned[0]!r} is one model too many; put --against before the models to compare with {model}"
        )
    if prompt and against:
        raise ConfigError(
            "--prompt and --against contradict each other: a soft prompt belongs to one model and one task; evaluate "
            f"{model} behind it by itself, and compare the two files"
        )
    if cache and no_cache:
        raise ConfigError("--cache and --no-cache contradict each other; give one of them")
    plan = runs.EvaluationPlan(
        shots=parse_shots(shots),
        sets=sets,
        queries=queries,
        seed=seed,
        balanced=balanced,
        until=until,
        most_sets=max_sets,
        labels=labels,
        metric=metric,
    )
    tasks, skipped = runs.load_suites(suite, format=format, columns=named_columns(column), on_bad_row=on_bad_row)
    for row in skipped:
        show.say(f"left out: {row}")
    for name in plan.left_out(tasks):
        show.say(f"left out: {name} has no finite set of labels, which {labels} labels need")
    with show.evaluation_progress() as progress:
        store = None if no_cache else cache or runs.default_cache()
        if prompt is not None:
            found = [
                runs.evaluate(
                    model,
                    suite=tasks,
                    plan=plan,
                    template=template,
                    output=output,
                    cache=store,
                    progress=progress,
                    prompt=prompt,
                )
            ]
        else:
            found = runs.evaluate_against(
                [model, *(against or ()), *(tuned or ())],
                suite=tasks,
                plan=plan,
                template=template,
                output=output,
                cache=store,
                progress=progress,
            )
    _show(found)
    if output:
        show.say(f"written: {output}")
    if lm_eval and show.is_first_process():
        from keepshot.runs.lm_eval_results import write_lm_eval_results

        for evaluation in found:
            for path in write_lm_eval_results(evaluation, lm_eval):
                show.say(f"written: {path}")


def _retrieved(
    model: str,
    data: "DataConfig",
    store: Path,
    shots: tuple[int, ...],
    count: int,
    seed: int,
    metric: str,
    output: Path | None,
) -> None:
    from keepshot.runs.adaptation import Retrieved, adaptation

    asked = _RETRIEVED if shots == parse_shots(_SHOTS) else max(shots)
    how = Retrieved(shots=asked, count=count, seed=seed, metric=metric)
    record = adaptation(model, data, store, how, template=data.template, output=output)
    for line in show.adaptation_lines(record):
        show.say(line)
    if output:
        show.say(f"written: {output}")


def _show(found: list[Any]) -> None:
    from keepshot import runs

    base, *others = found
    show.wide(show.curve_table(runs.evaluation_json(base)))
    if not base.shared_context:
        show.say(
            "note: this architecture cannot share contexts, every prompt was computed whole (same numbers, slower)"
        )
    if base.plan.until is not None:
        reached = runs.half_width(base)
        more = "" if reached <= base.plan.until + 1e-9 else "; more would need a larger --max-sets, or more examples"
        show.say(f"{base.sets} sets asked: half the interval is {reached:.3f} (asked for {base.plan.until:g}){more}")
    for tuned in others:
        result = runs.against_json(base, tuned)
        show.wide(show.curve_table(result))
        for line in show.against_lines(base.model, result):
            show.say(line)


def parse_shots(text: str) -> tuple[int, ...]:
    """Shot counts of a comma-separated list, ascending."""
    try:
        return tuple(sorted({int(part) for part in text.split(",")}))
    except ValueError:
        raise ConfigError(f"--shots {text!r} is not a comma-separated list of whole numbers such as 0,4,16") from None
