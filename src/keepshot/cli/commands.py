"""Every command: its options, one public call, what it prints."""

import json
from pathlib import Path
from typing import Annotated

import typer

from keepshot.cli import show
from keepshot.cli.compare import compare
from keepshot.cli.evaluation import evaluate
from keepshot.cli.probe import probe
from keepshot.cli.reading import Column, Format, OnBadRowOfConfig, named_columns, on_bad_row_override
from keepshot.cli.reporting import report, show_run
from keepshot.cli.rescue import rescue

# Rooms that need torch are imported inside the commands: `keepshot --help` answers at once.

data_app = typer.Typer(help="Look at data before it is used.", no_args_is_help=True)
mini_app = typer.Typer(help="The bundled model.", no_args_is_help=True)

Output = Annotated[Path | None, typer.Option("--output", help="Run folder; replaces the config's.")]
Seed = Annotated[int, typer.Option("--seed", min=0, help="Of every draw.")]


def register(app: typer.Typer) -> None:
    """Add the top-level commands to `app`."""
    app.command("tune")(tune)
    app.command("eval")(evaluate)
    app.command("rescue")(rescue)
    app.command("compare")(compare)
    app.command("probe")(probe)
    app.command("gate")(gate)
    app.command("report")(report)
    app.command("methods")(methods)
    app.command("demo")(demo)


def tune(
    config: Annotated[Path, typer.Argument(help="YAML file.")],
    overrides: Annotated[list[str] | None, typer.Option("--set", help="a.b=c, any number of times.")] = None,
    output: Output = None,
    resume: Annotated[bool, typer.Option("--resume", help="Continue the run in the folder.")] = False,
    on_bad_row: OnBadRowOfConfig = None,
) -> None:
    """Fine-tune, keep few-shot ability, and prove it.

    Example: keepshot tune config.yaml --set train.learning_rate=1e-4 --output runs/intents
    """
    from keepshot import runs
    from keepshot.config import load_config

    loaded = load_config(config, [*(overrides or []), *on_bad_row_override(on_bad_row)])
    with show.evaluation_progress() as progress:
        folder = runs.tune(loaded, output=output, resume=resume, say=show.say, progress=progress)
    show_run(folder.path)


def gate(
    run: Annotated[Path, typer.Argument(help="Run folder.")],
    max_drop: Annotated[float | None, typer.Option("--max-drop", min=0, max=1, help="Default: the config's.")] = None,
) -> None:
    """Exit 0 if few-shot ability was kept, 2 if it was lost, 3 if the evidence does not suffice.

    Example: keepshot gate runs/intents --max-drop 0.05
    """
    from keepshot.runs.judging import gate as judge

    result = judge(run, max_drop)
    show.say(f"{result.verdict}: {result.reason}")
    raise typer.Exit({"pass": 0, "fail": 2, "insufficient": 3}[result.verdict])


def methods(as_json: Annotated[bool, typer.Option("--json", help="As JSON.")] = False) -> None:
    """List the named methods: what each trains, costs and cites.

    Example: keepshot methods --json
    """
    from keepshot.strategies import ADDITIONS, AUTO, METHODS, RECOMMENDED, resolve_method

    name, _, _ = resolve_method(AUTO)
    first, *additions = RECOMMENDED
    auto = {
        "name": AUTO,
        "kind": "recommended",
        "trains": f"what the comparison of methods supports: {name}",
        "costs": ", ".join([METHODS[first].costs, *(ADDITIONS[one].costs for one in additions)]),
        "cites": "docs/methods.md",
    }
    rows = (
        [auto]
        + [
            {"name": m.name, "kind": "trainable", "trains": m.trains, "costs": m.costs, "cites": m.cites}
            for m in METHODS.values()
        ]
        + [
            {"name": f"+{a.name}", "kind": "addition", "trains": a.does, "costs": a.costs, "cites": a.cites}
            for a in ADDITIONS.values()
        ]
    )
    if as_json:
        typer.echo(json.dumps(rows, indent=2))
    else:
        for line in show.method_lines(rows):
            show.say(line)


def demo(
    output: Annotated[Path, typer.Option("--output", help="One run folder per method goes here.")] = Path("runs/demo"),
    seed: Seed = 0,
) -> None:
    """The main job on the bundled model: three methods side by side, in a few minutes on a CPU.

    Example: keepshot demo --output runs/demo
    """
    from keepshot import runs
    from keepshot.report import compare_table

    with show.evaluation_progress() as progress:
        folders, page = runs.demo(output, seed=seed, say=show.say, progress=progress)
    show.wide(compare_table([folder.path for folder in folders]))
    show.say(f"report: {page}")


@data_app.command("check")
def data_check(
    file: Annotated[str, typer.Argument(help="A data file or hub id.")],
    test: Annotated[str | None, typer.Option("--test", help="Also look for its rows in this test file.")] = None,
    format: Format = "auto",
    column: Column = None,
) -> None:
    """Show what keepshot reads in a file, and what is wrong with it; exit 1 if there is a bad row.

    Example: keepshot data check train.jsonl --test test.jsonl
    """
    from keepshot.tasks.check import check_data

    found = check_data(file, format=format, columns=named_columns(column), test=test)
    for line in found.lines():
        show.say(line)
    if not found.usable:
        raise typer.Exit(1)


@mini_app.command("pretrain")
def mini_pretrain(
    output: Annotated[Path, typer.Option("--output", help="Model folder.")],
    minutes: Annotated[float, typer.Option("--minutes", min=0.01, help="Time for training.")] = 8.0,
    size: Annotated[
        str, typer.Option("--size", help="small, middle or large: 1.6, 6.5 or 25.7 M parameters.")
    ] = "middle",
    start: Annotated[str, typer.Option("--start", help="A model of this size to go on from. [default: none]")] = "",
    problems: Annotated[
        float, typer.Option("--problems", min=0, max=1, help="Share of rows in the layout of the pattern problems.")
    ] = 0.0,
    released: Annotated[
        float, typer.Option("--released", min=0, max=1, help="Share of rows in that of the released problems.")
    ] = 0.0,
    rows: Annotated[int, typer.Option("--rows", min=1, help="Rows of 1,024 tokens in a step.")] = 256,
    steps: Annotated[
        int | None, typer.Option("--steps", min=1, help="End after so many, whatever the time. [default: by minutes]")
    ] = None,
    rate: Annotated[float, typer.Option("--rate", min=0, help="Share of the recipe's learning rates.")] = 1.0,
    seed: Seed = 0,
    resume: Annotated[bool, typer.Option("--resume", help="Continue from the newest checkpoint.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="The same code in a minute on a CPU.")] = False,
) -> None:
    """Pretrain the bundled model anew, from its universe of tasks (8 minutes on one H200), or go on from a model.

    Example: keepshot mini pretrain --dry-run --output /tmp/mini
    """
    from dataclasses import replace

    from keepshot.models.pretrain import RECIPE, PretrainProgress, pretrain
    from keepshot.models.pretrain_state import size_of

    def tell(at: PretrainProgress) -> None:
        of = f" of {steps}" if steps and not dry_run else ""
        show.say(f"step {at.step}{of}: loss {at.loss_nats:.4f}, {at.elapsed_s:.0f} s")

    recipe = replace(
        RECIPE,
        size=size_of(size),
        rows=rows,
        steps=steps,
        warmup_steps=max(1, min(RECIPE.warmup_steps, steps // 10)) if steps else RECIPE.warmup_steps,
        peak_rate=RECIPE.peak_rate * rate,
        embedding_rate=RECIPE.embedding_rate * rate,
        start=start,
        problems=problems,
        released=released,
    )
    pretrain(output, minutes=minutes, recipe=recipe, seed=seed, dry_run=dry_run, resume=resume, report=tell)
    show.say(f"written: {output}")


@mini_app.command("card")
def mini_card(
    folder: Annotated[Path | None, typer.Argument(help="Of a pretrained model; the bundled one without it.")] = None,
) -> None:
    """What a model of the universe can do, by family and number of examples, as its pretraining measured it.

    Example: keepshot mini card
    """
    from keepshot.files import read_json
    from keepshot.models.mini_card import CARD, card_tables
    from keepshot.models.source import model_source

    card = read_json((folder or Path(model_source("mini"))) / CARD)
    show.say(
        f"loss {card['loss']['nats']:.4f} [{card['loss']['low']:.4f}, {card['loss']['high']:.4f}] nats per answer byte"
    )
    show.say(card_tables(card))
