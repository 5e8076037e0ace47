"""The figures of one run. Grey is the base model, colour the tuned one; bands and bars are the intervals."""

from collections.abc import Mapping, Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from keepshot.report.drawing import (
    AFTER,
    BEFORE,
    INK,
    MUTED,
    absent,
    cut,
    label_ends,
    panel,
    percent_axis,
    shots_axis,
    style,
)
from keepshot.report.record import Curve, Estimate, Report, TaskCurves
from keepshot.report.training import TrainingLog
from keepshot.report.wording import kept_at

SECTIONS = {
    "suite": "with inputs of their own",
    "knowledge": "what is known by heart",
    "own-input": "over the target's own inputs",
    "zero-shot": "with an instruction and no examples",
}
LINES = ((AFTER, "-"), (BEFORE, "-"), (INK, "--"), (AFTER, ":"), (MUTED, "-."))
"""Colour and dash of the streams' losses; the labels at their ends tell them apart, not the colour alone."""


def draw(report: Report, log: TrainingLog | None) -> dict[str, Figure]:
    """The figures of a run by name: `target`, `held_out`, and `tasks`, `retention`, `loss` where there is data."""
    with style():
        figures = {"target": _curves(report.target), "held_out": _curves(report.held_out)}
        if report.tasks:
            figures["tasks"] = _tasks(report.tasks, report.shots)
        if any(report.retention.by_shots.values()):
            figures["retention"] = _retention(report)
        if log is not None and log.series:
            figures["loss"] = _loss(log)
    return figures


def ordered_tasks(tasks: Sequence[TaskCurves], shots: int) -> list[TaskCurves]:
    """Tasks by their section, those with inputs of their own first, and in each the greatest loss first."""

    def rank(task: TaskCurves) -> tuple[int, float, str]:
        before, after = (curve.get(task.asked_at(shots)) for curve in (task.before, task.after))
        change = 1.0 if before is None or after is None else after.accuracy.value - before.accuracy.value
        return tuple(SECTIONS).index(_section(task)), change, task.name

    return sorted(tasks, key=rank)


def _section(task: TaskCurves) -> str:
    return "zero-shot" if task.zero_shot else task.group if task.group in SECTIONS else "suite"


def _curves(task: TaskCurves) -> Figure:
    figure, axis = panel()
    percent_axis(axis)
    shots = sorted({*task.before, *task.after})
    shots_axis(axis, shots)
    axis.set_ylabel("accuracy")
    labels = []
    for curve, colour, name in ((task.before, BEFORE, "before"), (task.after, AFTER, "after")):
        last = _curve(axis, curve, shots, colour)
        if last is not None:
            labels.append((last, name, colour if colour == AFTER else MUTED))
    for place, count in enumerate(shots):
        if task.before.get(count) is None and task.after.get(count) is None:
            absent(axis, place, "does not fit")
    if task.chance:
        axis.axhline(task.chance, color=MUTED, linewidth=0.9, linestyle=(0, (1, 3)))
        labels.append((task.chance, "chance", MUTED))
    label_ends(axis, labels, len(shots) - 0.8)
    return figure


def _curve(axis: Axes, curve: Curve, shots: Sequence[int], colour: str) -> float | None:
    """Draw a curve with its band; its accuracy at the largest shot count that fits."""
    known = [(place, point) for place, count in enumerate(shots) if (point := curve.get(count)) is not None]
    if not known:
        return None
    places, values = [place for place, _ in known], [point.accuracy.value for _, point in known]
    banded = [(place, point.accuracy.interval) for place, point in known if point.accuracy.interval is not None]
    axis.fill_between(
        [place for place, _ in banded], [band.low for _, band in banded], [band.high for _, band in banded],
        color=colour, alpha=0.18, linewidth=0,
    )  # fmt: skip
    if len(banded) == 1:
        axis.vlines(banded[0][0], banded[0][1].low, banded[0][1].high, color=colour, alpha=0.5)
    axis.plot(places, values, color=colour, linewidth=2, marker="o", markersize=4.5, clip_on=False)
    return values[-1]


def _tasks(tasks: Sequence[TaskCurves], shots: int) -> Figure:
    """A dumbbell for each task, from before to after; the upright ticks are chance."""
    ordered = ordered_tasks(tasks, shots)
    sections = [_section(task) for task in ordered]
    heads = len(set(sections)) if len(set(sections)) > 1 else 0
    figure, axis = panel(1.0 + 0.27 * (len(tasks) + heads))
    row = 0
    names: list[tuple[int, str]] = []
    for number, task in enumerate(ordered):
        if heads and (number == 0 or sections[number] != sections[number - 1]):
            axis.text(0, row, SECTIONS[sections[number]], color=MUTED, fontsize=8.5, va="center", fontstyle="italic")
            row += 1
        names.append((row, cut(task.name, 24)))
        _dumbbell(axis, task, task.asked_at(shots), row)
        row += 1
    axis.set_yticks([place for place, _ in names], [name for _, name in names])
    axis.tick_params(axis="y", labelcolor=INK)
    axis.set_ylim(row - 0.3, -0.8)
    axis.set_xlim(-0.03, 1.03)
    axis.set_xticks([0, 0.25, 0.5, 0.75, 1], ["0%", "25%", "50%", "75%", "100%"])
    axis.grid(axis="x")
    axis.spines["left"].set_visible(False)
    words = f"accuracy with {shots} examples: grey before, blue after, tick chance"
    figure.supxlabel(words, fontsize=9.5, color=MUTED)
    return figure


def _dumbbell(axis: Axes, task: TaskCurves, shots: int, row: int) -> None:
    before, after = task.before.get(shots), task.after.get(shots)
    if before is None or after is None:
        axis.text(0.02, row, "does not fit", color=MUTED, fontsize=8.5, va="center")
        return
    axis.vlines(task.chance, row - 0.3, row + 0.3, color=MUTED, linewidth=1.2)
    axis.hlines(row, before.accuracy.value, after.accuracy.value, color=BEFORE, linewidth=1.2)
    for point, colour, offset in ((before, BEFORE, -0.2), (after, AFTER, 0.2)):
        if point.accuracy.interval is not None:
            band = point.accuracy.interval
            axis.hlines(row + offset, band.low, band.high, color=colour, linewidth=2.2, alpha=0.35)
        axis.plot(point.accuracy.value, row, "o", color=colour, markersize=6, clip_on=False)


def _retention(report: Report) -> Figure:
    by_shots: Mapping[int, Estimate | None] = report.retention.by_shots
    figure, axis = panel()
    shots = sorted(count for count, entry in by_shots.items() if count or entry)  # nothing to keep without examples
    ends = [1.0, 0.0]
    for entry in by_shots.values():
        if entry is not None:
            ends += [entry.value] if entry.interval is None else [entry.interval.low, entry.interval.high]
    percent_axis(axis, max(min(ends), -0.5), min(max(ends), 2.0))  # a ratio's interval can be very wide at few shots
    shots_axis(axis, shots)
    axis.set_ylabel("few-shot ability kept")
    limit = 1 - report.gate.max_drop
    axis.axhline(1, color=BEFORE, linewidth=1.4)
    axis.axhline(limit, color=MUTED, linewidth=1, linestyle=(0, (4, 3)))
    for place, count in enumerate(shots):
        entry = by_shots[count]
        if entry is None:
            absent(axis, place, kept_at(report, count))
            continue
        if entry.interval is not None:
            axis.vlines(place, entry.interval.low, entry.interval.high, color=AFTER, linewidth=2, alpha=0.6)
        axis.plot(place, entry.value, "o", color=AFTER, markersize=8 if count == report.retention.shots else 5.5)
    label_ends(axis, [(1.0, "before", MUTED), (limit, "gate", MUTED)], len(shots) - 0.8)
    return figure


def _loss(log: TrainingLog) -> Figure:
    figure, axis = panel()
    axis.grid(axis="y")
    axis.set_xlabel("step")
    axis.set_ylabel("answer NLL, nats" if "loss" not in log.series else "loss")
    labels = []
    last = max(points[-1][0] for points in log.series.values())
    for number, (name, points) in enumerate(log.series.items()):
        colour, dash = LINES[number % len(LINES)]
        axis.plot(*zip(*points, strict=True), color=colour, linestyle=dash, linewidth=1.5)
        labels.append((points[-1][1], cut(name, 16), colour))
    axis.set_ylim(bottom=min(0.0, axis.get_ylim()[0]))
    axis.xaxis.get_major_locator().set_params(integer=True)
    label_ends(axis, labels, last)
    return figure
