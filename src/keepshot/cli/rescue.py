"""`keepshot rescue`: few-shot ability given back to a broken fine-tune."""

from pathlib import Path
from typing import Annotated

import typer

from keepshot.cli import show
from keepshot.cli.evaluation import Template, parse_shots
from keepshot.cli.reading import Column, Format, OnBadRow, named_columns
from keepshot.errors import ConfigError


def rescue(
    base: Annotated[str, typer.Argument(help="What it was tuned from: mini, a model folder, or a hub id.")],
    tuned: Annotated[str, typer.Argument(help="A run folder, or a model folder, adapter folder or hub id.")],
    output: Annotated[Path, typer.Option("--output", help="A new folder.")] = Path("runs/rescue"),
    data: Annotated[str | None, typer.Option("--data", help="The target's examples. [default: the run's]")] = None,
    validation: Annotated[
        str | None, typer.Option("--validation", help="Examples to choose by. [default: a part of --data]")
    ] = None,
    test: Annotated[
        str | None, typer.Option("--test", help="Examples to report on. [default: a part of --data]")
    ] = None,
    format: Format = "auto",
    column: Column = None,
    template: Annotated[Template, typer.Option("--template", help="With --data, how prompts are written.")] = "auto",
    on_bad_row: OnBadRow = "raise",
    suite: Annotated[
        str | None, typer.Option("--suite", help="Tasks to report on. [default: the run's, or mini for mini]")
    ] = None,
    validation_suite: Annotated[
        str | None, typer.Option("--validation-suite", help="Tasks to choose by. [default: see docs/rescue.md]")
    ] = None,
    max_loss: Annotated[
        float, typer.Option("--max-loss", min=0, help="Target accuracy that may be given up, as a fraction.")
    ] = 0.01,
    steps: Annotated[int, typer.Option("--steps", min=1, help="From the base to the tuned model.")] = 10,
    by_group: Annotated[bool, typer.Option("--groups/--no-groups", help="Also a coefficient per group.")] = True,
    shots: Annotated[str | None, typer.Option("--shots", help="Comma-separated. [default: the run's]")] = None,
    sets: Annotated[int | None, typer.Option("--sets", min=1, help="To report on. [default: the run's, or 8]")] = None,
    queries: Annotated[
        int | None, typer.Option("--queries", min=1, help="Per set to report on. [default: the run's, or 40]")
    ] = None,
    search_sets: Annotated[int, typer.Option("--search-sets", min=2, help="Demonstration sets to choose by.")] = 4,
    search_queries: Annotated[int, typer.Option("--search-queries", min=1, help="Per set to choose by.")] = 20,
    seed: Annotated[int, typer.Option("--seed", min=0, help="Of every draw; a run folder brings its own.")] = 0,
) -> None:
    """Give few-shot ability back to a fine-tuned model: the best point between it and its base.

    Example: keepshot rescue mini runs/broken --output runs/rescued
    """
    from keepshot.config import DataConfig
    from keepshot.report.rescue import rescue_lines
    from keepshot.runs.rescue import RescueSettings
    from keepshot.runs.rescue import rescue as repair

    if data is None and (validation or test or column or (format, template, on_bad_row) != ("auto", "auto", "raise")):
        raise ConfigError(
            "--validation, --test, --format, --column, --template and --on-bad-row go with --data; give it as well"
        )
    given = data and DataConfig(
        train=data,
        validation=validation,
        test=test,
        format=format,
        columns=named_columns(column),
        template=template,
        on_bad_row=on_bad_row,
    )
    settings = RescueSettings(
        suite=suite,
        validation_suite=validation_suite,
        max_loss=max_loss,
        steps=steps,
        by_group=by_group,
        shots=parse_shots(shots) if shots else None,
        sets=sets,
        queries=queries,
        search_sets=search_sets,
        search_queries=search_queries,
        seed=seed,
    )
    with show.evaluation_progress() as progress:
        done = repair(base, tuned, output=output, data=given, settings=settings, say=show.say, progress=progress)
    for line in rescue_lines(done.result):
        show.say(line)
    show.say(f"written: {done.model}")
