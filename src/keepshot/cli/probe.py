"""`keepshot probe`: learning in context, in the weights, or copying."""

from pathlib import Path
from typing import Annotated, Literal

import typer

from keepshot.cli import show
from keepshot.cli.reading import Column, Format, OnBadRow, named_columns
from keepshot.errors import ConfigError


def probe(
    model: Annotated[str, typer.Argument(help="mini, a model or adapter folder, or a hub id.")],
    data: Annotated[
        str, typer.Option("--data", help="Training data of the target: a file, a hub id or mini:NAME; the pool.")
    ],
    test: Annotated[
        str | None, typer.Option("--test", help="Queries; a part of --data is set aside unless given.")
    ] = None,
    queries: Annotated[int, typer.Option("--queries", min=1, help="The most queries.")] = 200,
    shots: Annotated[int, typer.Option("--shots", min=2, help="Demonstrations in a context.")] = 5,
    similarity: Annotated[
        str, typer.Option("--similarity", help="auto, words or characters (BM25), or a sentence-transformers model.")
    ] = "auto",
    metric: Annotated[
        str, typer.Option("--metric", help="exact, numeric, set, f1, bleu, chrf or module:function.")
    ] = "exact",
    template: Annotated[
        Literal["auto", "plain", "instruction", "chat", "verbatim"],
        typer.Option("--template", help="How prompts are written."),
    ] = "auto",
    format: Format = "auto",
    column: Column = None,
    on_bad_row: OnBadRow = "raise",
    seed: Annotated[int, typer.Option("--seed", min=0, help="Of every draw.")] = 0,
    against: Annotated[
        str | None, typer.Option("--against", help="The base that it was tuned from: shows what the training moved.")
    ] = None,
    circuits: Annotated[
        bool, typer.Option("--circuits", help="With --against, also which heads and MLPs carry the answer; minutes.")
    ] = False,
    output: Annotated[Path | None, typer.Option("--output", help="A .json path.")] = None,
) -> None:
    """Tell whether a model learns from its context, ignores it, or copies it.

    Example: keepshot probe runs/intents/model --data intents.jsonl --output probe.json
    """
    from keepshot.config import DataConfig
    from keepshot.runs.moving import circuits_moved, moved
    from keepshot.runs.probing import build_probes, probe_model

    if output is not None and output.is_dir():
        raise ConfigError(f"--output {output} is a folder; name a .json file")
    if circuits and against is None:
        raise ConfigError("--circuits compares two models; name the base with --against")
    asked = build_probes(
        DataConfig(train=data, test=test, format=format, columns=named_columns(column), on_bad_row=on_bad_row),
        count=queries,
        shots=shots,
        seed=seed,
        similarity=similarity,
        metric=metric,
    )
    drift = None if against is None else moved(against, model, asked, template=template)
    shifts = circuits_moved(against, model, asked, template=template) if circuits and against else None
    record = probe_model(model, asked, template=template, output=output, about=data, drift=drift, circuits=shifts)
    for line in show.probe_lines(record):
        show.say(line)
    if output:
        show.say(f"written: {output}")
