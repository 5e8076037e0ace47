"""How the figures look: lines are closed forms, hollow points sampled prompts, filled points trained models."""

from collections.abc import Mapping, Sequence, Set
from pathlib import Path
from typing import TypeAlias

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator

from keepshot.report.drawing import AFTER, BEFORE, INK, MUTED, save_png, style
from keepshot.theory.chart import Chart, Panel, Series

_Dashes: TypeAlias = str | tuple[int, tuple[int, int]]
_METHODS: Mapping[str, str] = {
    "pretrained": BEFORE,
    "all": "#c2410c",
    "value": AFTER,
    "query+key": "#7e22ce",
    "query": "#7e22ce",
    "key": "#0f766e",
    "target": AFTER,
    "orthogonal": BEFORE,
    "opposite": "#c2410c",
    "no examples": MUTED,
}
"""Colour of a method, whatever is added to it."""
_ADDITIONS: Mapping[str, tuple[_Dashes, str]] = {
    "": ("-", "o"),
    "few-shot": ((0, (5, 2)), "s"),
    "constant few-shot": ((0, (5, 2)), "D"),
    "anchors": ((0, (1, 1)), "^"),
    "self-anchors": ((0, (1, 1)), "v"),
}
"""Dashes and marks of what is added."""
_RAMP = "viridis"
_PANEL_IN, _HEIGHT_IN = 2.9, 3.3


def draw(chart: Chart, panels: Sequence[tuple[Panel, Sequence[Series]]]) -> Figure:
    """One figure: its panels side by side, one legend for all of them where they show the same."""
    with style():
        figure = Figure(figsize=(max(6.5, _PANEL_IN * len(panels)), _HEIGHT_IN + 0.5), layout="constrained")
        axes = figure.subplots(1, len(panels), squeeze=False, sharey=chart.shared)[0]
        figure.suptitle(chart.title, fontsize=10.5, color=INK, x=0.01, ha="left")
        for axis, (panel, drawn) in zip(axes, panels, strict=True):
            _panel(axis, chart, panel, drawn)
        if not chart.logarithmic:
            for axis in axes:
                axis.set_ylim(bottom=0)  # after all have been drawn: it fixes the top as well
        by_label = [{series.label for series in drawn} for _, drawn in panels]
        if any(labels != by_label[0] for labels in by_label) and chart.name == "figure3":
            for axis, (_, drawn) in zip(axes, panels, strict=True):
                _legend(axis, drawn)
        else:
            _legend(figure, [series for _, drawn in panels for series in drawn])
        kinds = {series.kind for _, drawn in panels for series in drawn}
        figure.supxlabel(f"{chart.x_label}{_key(kinds)}", fontsize=9.5, color=MUTED)
    return figure


def save(figure: Figure, folder: Path, name: str) -> None:
    """Write a figure as `name.png` and `name.svg`."""
    save_png(figure, folder / f"{name}.png")
    with style(), matplotlib.rc_context({"svg.hashsalt": name}):
        figure.savefig(folder / f"{name}.svg", facecolor="white", metadata={"Date": None})


def _key(kinds: Set[str]) -> str:
    """What lines and points are, if there are points."""
    words = {"monte carlo": "hollow: Monte Carlo", "trained": "filled: trained"}
    shown = [text for kind, text in words.items() if kind in kinds]
    return f"    (line: closed form; {'; '.join(shown)})" if shown else ""


def _panel(axis: Axes, chart: Chart, panel: Panel, drawn: Sequence[Series]) -> None:
    axis.set_title(panel.title, fontsize=9.5, color=MUTED, loc="left")
    axis.grid(axis="y")
    if axis.get_subplotspec().is_first_col() or not chart.shared:
        axis.set_ylabel(panel.y_label)
    ramp = [series.label for series in drawn if series.kind == "theory" and _method(series.label) not in _METHODS]
    for place, label in panel.marks:
        axis.axvline(place, color=_colour(label, ramp) if label else MUTED, linewidth=0.9, linestyle=(0, (4, 3)))
    for series in drawn:
        _series(axis, series, _colour(series.label, ramp))
    if chart.logarithmic:
        axis.set_yscale("log")
        axis.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5), numticks=20))
        axis.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        axis.yaxis.set_minor_formatter(FuncFormatter(lambda *_: ""))
    else:
        axis.yaxis.set_major_locator(MaxNLocator(nbins=6))
    if chart.x_axis == "logarithmic":
        axis.set_xscale("log")
        axis.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    else:
        axis.xaxis.set_major_locator(MaxNLocator(nbins=5, integer=chart.x_axis == "whole", steps=[1, 2, 3, 5, 10]))


def _series(axis: Axes, series: Series, colour: str) -> None:
    dashes, mark = _added(series.label)
    if series.kind == "theory":
        axis.plot(series.x, series.y, color=colour, linewidth=1.6, linestyle=dashes)
        return
    hollow = series.kind == "monte carlo"
    axis.errorbar(
        series.x, series.y, yerr=[2 * error for error in series.standard_errors or ()] or None,
        color=colour, linestyle="none", marker=mark, markersize=3.6 if hollow else 4.4,
        markerfacecolor="white" if hollow else colour, markeredgewidth=0.9, elinewidth=0.9,
    )  # fmt: skip


def _legend(where: Axes | Figure, drawn: Sequence[Series]) -> None:
    kinds: dict[str, set[str]] = {}
    for series in drawn:
        kinds.setdefault(series.label, set()).add(series.kind)
    ramp = [label for label in kinds if _method(label) not in _METHODS]
    handles = []
    for label, found in kinds.items():
        dashes, mark = _added(label)
        handles.append(
            Line2D(
                [], [], color=_colour(label, ramp), label=label, linewidth=1.6, markersize=4.4,
                linestyle=dashes if "theory" in found else "none", marker=mark if "trained" in found else "",
            )
        )  # fmt: skip
    place = {"loc": "outside right center"} if isinstance(where, Figure) else {"loc": "best"}
    where.legend(handles=handles, frameon=False, fontsize=8.5, **place)


def _method(label: str) -> str:
    return label.partition(" + ")[0]


def _added(label: str) -> tuple[_Dashes, str]:
    return _ADDITIONS[label.partition(" + ")[2]]


def _colour(label: str, ramp: Sequence[str]) -> str:
    """The method's own, or the place of the label in a family of curves."""
    if _method(label) in _METHODS:
        return _METHODS[_method(label)]
    place = ramp.index(label) / max(1, len(ramp) - 1)
    return matplotlib.colors.to_hex(matplotlib.colormaps[_RAMP](0.85 * (1 - place)))
