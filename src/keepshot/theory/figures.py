"""The figures of the laboratory as files: PNG and SVG to look at, CSV and `theory.json` to compute with."""

import csv
import io
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, TypeAlias

from keepshot.files import check_replaceable, new_folder, write_json, write_text
from keepshot.theory.beyond import more_charts
from keepshot.theory.chart import Chart, Panel, Series, line, sampled
from keepshot.theory.curves import paper_charts
from keepshot.theory.drawing import draw, save

SCHEMA = "keepshot.theory/1"

Drawn: TypeAlias = Sequence[tuple[Panel, Sequence[Series]]]
"""The panels of a figure with all that is drawn in each."""


@dataclass(frozen=True, slots=True)
class Sampling:
    """What is shown beside the closed forms.

    Attributes:
        prompts: For each Monte-Carlo point, rounded up to whole chunks; 0 for none.
        seeds: Trained models of each method; 0 for none.
        steps: Of each training.
        batch: Prompts in a step of training.
        test_prompts: On which a trained model is tested, for each point.
        seed: Of the sampled prompts; the replicates of training count from 0.
    """

    prompts: int = 0
    seeds: int = 0
    steps: int = 5_000
    batch: int = 5_000
    test_prompts: int = 50_000
    seed: int = 0


def figures(output: Path, sampling: Sampling, say: Callable[[str], None]) -> None:
    """Write all figures to a folder, which appears when all of them are there.

    Args:
        output: A new folder, or one that this wrote before.
        sampling: What is shown beside the closed forms.
        say: Told what is done next, where it takes long.

    Raises:
        RunError: The folder is there and holds something else.
    """
    check_replaceable(output, "theory.json")
    shown, trained = _shown(sampling, say)
    with new_folder(output) as folder:
        for chart, panels in shown:
            save(draw(chart, panels), folder, chart.name)
            write_text(folder / f"{chart.name}.csv", _csv(panels))
        write_json(
            folder / "theory.json",
            {
                "schema": SCHEMA,
                "sampling": asdict(sampling),
                "figures": {chart.name: _record(chart, panels) for chart, panels in shown},
                "trained": trained,
            },
        )


def charts() -> tuple[Chart, ...]:
    """All figures, as closed forms."""
    return (*paper_charts(), *more_charts())


def _shown(sampling: Sampling, say: Callable[[str], None]) -> tuple[list[tuple[Chart, Drawn]], list[Mapping[str, Any]]]:
    """Every figure with its series, and what was trained for them."""
    points, records = _trained(sampling, say) if sampling.seeds else (lambda chart, panel: (), [])
    shown: list[tuple[Chart, Drawn]] = []
    for chart in charts():
        if sampling.prompts:
            say(f"sampling prompts for {chart.name}")
        panels = []
        for panel in chart.panels:
            series = [*(line(curve) for curve in panel.curves), *panel.extra]
            if sampling.prompts:
                series += sampled(panel, sampling.prompts, sampling.seed, f"{chart.name} {panel.title}")
            series += points(chart, panel)
            if series:  # else it shows trained models alone, of which there are none
                panels.append((panel, series))
        shown.append((chart, panels))
    return shown, records


def _trained(
    sampling: Sampling, say: Callable[[str], None]
) -> tuple[Callable[[Chart, Panel], Iterable[Series]], list[Mapping[str, Any]]]:
    """Train: what gives the points of a panel, and what was trained."""
    # Only here, since torch takes seconds to load.
    from keepshot.theory.laboratory import train
    from keepshot.theory.trained_points import Points
    from keepshot.theory.tuning import Budget

    made = train(sampling.seeds, Budget(steps=sampling.steps, batch=sampling.batch), say)
    return Points(made, sampling.test_prompts).of, [trained.record() for trained in made]


def _csv(panels: Drawn) -> str:
    buffer = io.StringIO()
    table = csv.writer(buffer, lineterminator="\n")
    table.writerow(["panel", "label", "kind", "x", "y", "standard_error"])
    for panel, drawn in panels:
        for series in drawn:
            spreads = series.standard_errors or [""] * len(series.x)
            for x, y, spread in zip(series.x, series.y, spreads, strict=True):
                table.writerow([panel.title, series.label, series.kind, x, y, spread])
    return buffer.getvalue()


def _record(chart: Chart, panels: Drawn) -> Mapping[str, Any]:
    return {
        "title": chart.title,
        "x": chart.x_label,
        "panels": [
            {"title": panel.title, "y": panel.y_label, "series": [asdict(series) for series in drawn]}
            for panel, drawn in panels
        ],
    }
