"""`keepshot compare`: which method, at which setting, for this model and data."""

from pathlib import Path
from typing import Annotated

import typer

from keepshot.cli import show
from keepshot.cli.reading import OnBadRowOfConfig, on_bad_row_override
from keepshot.cli.reporting import show_comparison
from keepshot.errors import ConfigError


def compare(
    config: Annotated[Path, typer.Argument(help="YAML file: methods, learning_rates, steps, seeds, and a run's keys.")],
    overrides: Annotated[list[str] | None, typer.Option("--set", help="a.b=c, any number of times.")] = None,
    output: Annotated[Path | None, typer.Option("--output", help="Folder; replaces the config's.")] = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Continue the comparison in the folder; its grid may have grown.")
    ] = False,
    cell: Annotated[
        int | None, typer.Option("--cell", help="Run this cell alone, from 1; for a cluster's scheduler.")
    ] = None,
    on_bad_row: OnBadRowOfConfig = None,
    as_list: Annotated[bool, typer.Option("--list", help="List the cells, and which of them are there.")] = False,
) -> None:
    """Compare methods x learning rates x steps x seeds, and recommend one.

    Example: keepshot compare compare.yaml --output runs/compare
    """
    from keepshot.runs.cells import tried
    from keepshot.runs.comparison import compare as run
    from keepshot.runs.comparison_config import load_comparison

    if as_list and cell is not None:
        raise ConfigError("--list and --cell contradict each other; give one of them")
    loaded = load_comparison(config, [*(overrides or []), *on_bad_row_override(on_bad_row)])
    if output is not None:
        loaded = loaded.model_copy(update={"output": str(output)})
    if as_list:
        for number, one in enumerate(loaded.cells(), start=1):
            found = tried(loaded, one)
            state = "open" if found is None else "failed" if found.failed else "done"
            show.say(f"{number:>4}  {state:<6}  {one}")
        return
    with show.evaluation_progress() as progress:
        folder = run(loaded, resume=resume, cell=cell, say=show.say, progress=progress)
    if cell is not None:
        return
    show_comparison(folder)
