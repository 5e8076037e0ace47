"""`keepshot patterns`: problems with an unstated regularity."""

import json
from collections.abc import Sequence
from dataclasses import fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from keepshot.cli import show
from keepshot.cli.reporting import show_confounds, show_patterns
from keepshot.errors import ConfigError

if TYPE_CHECKING:
    from keepshot.tasks.patterns import PatternItem, PatternName

Overrides = Annotated[list[str] | None, typer.Option("--set", help="a.b=c, any number of times.")]
Output = Annotated[Path | None, typer.Option("--output", help="Folder; replaces the config's.")]

patterns_app = typer.Typer(
    help="Implicit patterns: problems that a rule solves, and a shortcut.\n\n"
    "Example: keepshot patterns make boolean --items 1000 --output boolean.jsonl",
    no_args_is_help=True,
)


@patterns_app.command("make")
def make(
    task: Annotated[str, typer.Argument(help="expressions, code, relations, boolean, parity or equations.")],
    mode: Annotated[
        Literal["repaired", "faithful"],
        typer.Option("--mode", help="repaired, or faithful: as the paper's pipeline draws them, defects included."),
    ] = "repaired",
    items: Annotated[int, typer.Option("--items", min=1, help="How many.")] = 1000,
    pattern: Annotated[
        Literal["holds", "broken", "both"], typer.Option("--pattern", help="Whether the shortcut is right.")
    ] = "holds",
    split: Annotated[
        Literal["train", "validation", "test"],
        typer.Option("--split", help="Parts share no question, but with faithful."),
    ] = "train",
    size: Annotated[
        Literal["small", "large"] | None,
        typer.Option("--size", help="small is for models of a few million parameters; else large."),
    ] = None,
    without: Annotated[
        list[str] | None,
        typer.Option("--without", help="With faithful, a defect of rows to leave out; repeatable."),
    ] = None,
    output: Annotated[Path, typer.Option("--output", help="A .jsonl path.")] = Path("items.jsonl"),
) -> None:
    """Write items of a pattern task as a data file: input, output, and what the rule and the shortcut say.

    Example: keepshot patterns make expressions --mode repaired --items 1000 --output train.jsonl
    """
    from keepshot.files import write_text
    from keepshot.tasks.patterns import REPAIRED, PatternName, halves, item_row

    if task not in REPAIRED:
        raise ConfigError(f"there is no pattern task {task!r}; there are {', '.join(REPAIRED)}")
    name: PatternName = task
    if output.suffix != ".jsonl":
        raise ConfigError(f"--output {output} is no .jsonl file, which is what is written; name one")
    if mode == "faithful":
        if size is not None:
            raise ConfigError("--size belongs to --mode repaired: the released items have one size")
        found = _as_released(name, items, pattern, split, without or ())
    elif without:
        raise ConfigError("--without belongs to --mode faithful: the repaired items have no such defect")
    else:
        found = halves(name, split, items, pattern, size or "large")
    rows = [json.dumps(item_row(name, item)) for item in found]
    write_text(output, "\n".join(rows) + "\n")
    show.say(f"{len(rows)} items of {name} ({mode}, {split}): {output}")


def _as_released(
    name: "PatternName", count: int, pattern: str, split: str, without: Sequence[str]
) -> "list[PatternItem]":
    from keepshot.tasks.patterns import OF_ROWS, Defects, released

    known = [field.name for field in fields(Defects)]
    if unknown := [defect for defect in without if defect not in known]:
        raise ConfigError(f"--without {unknown[0]} is no defect of the faithful mode; they are {', '.join(known)}")
    if foreign := [defect for defect in without if OF_ROWS.get(defect) != name]:
        rows_of = ", ".join(f"{defect} of {task}" for defect, task in OF_ROWS.items())
        raise ConfigError(
            f"--without {foreign[0]} changes no row of {name}: in rows are {rows_of}, the others in prompts and in "
            "what counts (keepshot patterns confounds)"
        )
    if pattern == "both" or (pattern == "broken" and split != "test"):
        raise ConfigError("--mode faithful has items whose pattern is broken in its test part alone, and apart")
    if pattern == "broken" and name == "code":
        raise ConfigError("--mode faithful has no code whose pattern is broken: the release has none")
    if split == "validation":
        raise ConfigError("--mode faithful has a train and a test part, as the release; choose one as --split")
    part: Literal["train", "test", "misleading"]
    part = "misleading" if pattern == "broken" else "train" if split == "train" else "test"
    defects = replace(Defects(), **dict.fromkeys(without, False))
    return [released(name, seed, part=part, defects=defects) for seed in range(count)]


@patterns_app.command("run")
def run(
    config: Annotated[Path, typer.Argument(help="YAML file: tasks, methods, examples, learning_rates, steps, seeds.")],
    overrides: Overrides = None,
    output: Output = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Continue the experiment in the folder; its grid may have grown.")
    ] = False,
    cell: Annotated[
        int | None, typer.Option("--cell", help="Run this cell alone, from 1; for a cluster's scheduler.")
    ] = None,
) -> None:
    """Put learning in context beside fine-tuning, on problems whose pattern holds and on broken ones.

    Example: keepshot patterns run recipes/patterns-mini.yaml --output runs/patterns
    """
    from keepshot.runs.patterns import patterns
    from keepshot.runs.patterns_config import load_patterns

    loaded = load_patterns(config, overrides or [])
    with show.evaluation_progress() as progress:
        folder = patterns(loaded, output=output, resume=resume, cell=cell, say=show.say, progress=progress)
    if cell is not None:
        return
    show_patterns(folder)


@patterns_app.command("circuits")
def circuits(
    folder: Annotated[Path, typer.Argument(help="Of an experiment that keepshot patterns run has finished.")],
    pairs: Annotated[int, typer.Option("--pairs", min=2, help="Of problems, for every task.")] = 200,
    corrupt: Annotated[
        Literal["answer", "pattern"],
        typer.Option("--corrupt", help="The problem patched into: with another answer, or a broken pattern as well."),
    ] = "answer",
    batch: Annotated[int, typer.Option("--batch", min=1, help="Most pairs that are computed together.")] = 32,
) -> None:
    """Show which heads and MLPs carry the answer: in the base, in context, and in the tuned models.

    Example: keepshot patterns circuits runs/patterns
    """
    from keepshot.report.circuits import circuit_lines, read_circuits
    from keepshot.runs.circuits import circuits as look

    look(folder, pairs=pairs, corrupt=corrupt, batch=batch, say=show.say)
    for task, found in read_circuits(folder).items():
        show.say(f"{task}: shift from the base without examples (in parentheses: within the noise floor)")
        for line in circuit_lines(found):
            show.say(f"  {line}")
    show.say(f"report: {folder / 'patterns.html'}")


@patterns_app.command("confounds")
def confounds(
    config: Annotated[Path, typer.Argument(help="YAML file: model, tasks, learning_rates, steps, seeds, shots.")],
    overrides: Overrides = None,
    output: Output = None,
    resume: Annotated[bool, typer.Option("--resume", help="Continue the study in the folder.")] = False,
) -> None:
    """Measure how much of the published effect each defect of the released pipeline makes.

    Example: keepshot patterns confounds recipes/confounds-mini.yaml --output runs/confounds
    """
    from keepshot.runs.confounds import confounds as study
    from keepshot.runs.confounds_config import load_confounds

    loaded = load_confounds(config, overrides or [])
    with show.evaluation_progress() as progress:
        folder = study(loaded, output=output, resume=resume, say=show.say, progress=progress)
    show_confounds(folder)
