"""Where each kind of context leads: a table, and a figure over the similarity of the best example."""

import csv
import io
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from keepshot.files import check_replaceable, new_folder, write_json, write_text
from keepshot.report.drawing import BEFORE, INK, MUTED, style
from keepshot.theory.contexts import KINDS, MODELS, NOISE, ONE_PARAPHRASE, RANDOM, context, on_test, trained
from keepshot.theory.drawing import save

SCHEMA = "keepshot.contexts/1"
MARK = "contexts.json"
"""The file that tells a folder of these figures from any other."""
EndPoints = dict[str, np.ndarray]
"""Parameters by model: kinds x 3."""
SIMILARITIES = np.linspace(0.0, 1.0, 41)
_COLOURS = (BEFORE, "#c2410c", "#0f766e", "#7e22ce", "#0b64c0", "#6aa5e8")
_LABELS = {"R": "Model R (binding and matching)", "B": "Model B (choice and gate)"}


def end_points() -> EndPoints:
    """Where training on each kind of context ends, by model; some seconds."""
    return {name: trained(model) for name, model in MODELS.items()}


def context_table(ends: EndPoints) -> Iterator[str]:
    """Markdown: of every kind of context, what training on it leads to, in both models."""
    of_each = " | ".join(f"{name}: unrelated | {name}: one paraphrase | its weight" for name in MODELS)
    yield f"| trained on | {of_each} |"
    yield "|---|---|---|---|---|---|---|"
    columns = []
    for name, parameters in ends.items():
        apart, _ = on_test(MODELS[name], parameters, RANDOM)
        mixed, weights = on_test(MODELS[name], parameters, ONE_PARAPHRASE)
        columns += [(apart, 3), (mixed, 3), (weights[:, 1], 2)]
    for place, kind in enumerate(KINDS.names):
        cells = [f"{values[place]:.{digits}f}".removeprefix("0") for values, digits in columns]
        yield f"| {kind} | {' | '.join(cells)} |"


def write_contexts(output: Path, ends: EndPoints) -> None:
    """Write the figure (PNG, SVG), its data (CSV) and the end points (`contexts.json`) to a new folder.

    Raises:
        RunError: The folder is there and holds something else.
    """
    check_replaceable(output, MARK)
    with new_folder(output) as folder:
        save(_figure(ends), folder, "contexts")
        write_text(folder / "contexts.csv", _csv(ends))
        write_json(
            folder / MARK,
            {
                "schema": SCHEMA,
                "noise": NOISE,
                "kinds": list(KINDS.names),
                "end_points": {name: parameters.tolist() for name, parameters in ends.items()},
            },
        )


def _sweep(name: str, parameters: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Errors, and weights of the similar example: kinds x similarities."""
    found = [on_test(MODELS[name], parameters, context(1, float(s))) for s in SIMILARITIES]
    return np.array([errors for errors, _ in found]).T, np.array([weights[:, 1] for _, weights in found]).T


def _figure(ends: EndPoints) -> Figure:
    with style():
        figure = Figure(figsize=(9.2, 6.2), layout="constrained")
        axes = figure.subplots(len(ends), 2, squeeze=False)
        for row, (name, parameters) in zip(axes, ends.items(), strict=True):
            for axis, values, words in zip(row, _sweep(name, parameters), ("error", "its weight"), strict=True):
                for line, kind, colour in zip(values, KINDS.names, _COLOURS, strict=True):
                    axis.plot(SIMILARITIES, line, color=colour, linewidth=1.7, label=kind)
                axis.set_title(f"{_LABELS[name]}: {words}", fontsize=9.5, color=INK, loc="left")
                axis.grid(axis="y")
                axis.set_ylim(bottom=0)
            row[0].axhline(NOISE, color=MUTED, linewidth=0.9, linestyle=(0, (1, 3)))
        handles, labels = axes[0][0].get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside right center", frameon=False, fontsize=8.5, title="trained on")
        figure.supxlabel(
            "similarity of one example, the other four unrelated    (dotted: the estimate in the weights alone)",
            fontsize=9.5,
            color=MUTED,
        )
    return figure


def _csv(ends: EndPoints) -> str:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(("model", "trained on", "similarity", "error", "weight of the similar example"))
    for name, parameters in ends.items():
        errors, weights = _sweep(name, parameters)
        for place, kind in enumerate(KINDS.names):
            for column, similarity in enumerate(SIMILARITIES):
                numbers = (similarity, errors[place, column], weights[place, column])
                writer.writerow((name, kind, *(f"{number:.6g}" for number in numbers)))
    return text.getvalue()
