"""Several runs on one target, side by side: a table for the terminal and a page."""

import os
from collections.abc import Sequence
from pathlib import Path
from urllib.parse import quote

import rich.table
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from rich.text import Text

from keepshot.errors import RunError
from keepshot.files import write_text
from keepshot.report.drawing import (
    AFTER,
    INK,
    METHOD_WIDTH,
    MUTED,
    PAPER,
    as_svg,
    cut,
    label_ends,
    panel,
    percent_axis,
    style,
)
from keepshot.report.page import fill
from keepshot.report.record import Estimate, Report, read_report
from keepshot.report.tables import Table
from keepshot.report.wording import ABSENT, DEFINITION, VERDICTS, count, duration, estimate, learning_rate, percent

HEADER = ("", "method", "learning rate", "target zero-shot", "few-shot kept", "gate", "trainable", "training")
STYLES = {"pass": "green", "fail": "red", "insufficient": "yellow"}
NUM_NAMED = 12
"""Names that fit beside the figure; of more runs the points only show their numbers."""


def compare_table(folders: Sequence[str | Path]) -> rich.table.Table:
    """Runs side by side, for the terminal.

    Args:
        folders: Run folders with the same target.

    Raises:
        RunError: There is no run, one cannot be read, or they differ in their target.
    """
    reports = _same_target(folders)
    table = rich.table.Table(title=Text(f"Target: {reports[0].target.name}"), title_justify="left")
    for number, words in enumerate(HEADER):
        table.add_column(words, justify="left" if number in (1, 5) else "right", overflow="fold")
    for number, report in enumerate(reports, start=1):
        cells = [Text(cell) for cell in _row(number, report)]
        cells[5].stylize(STYLES[report.gate.verdict])
        table.add_row(*cells)
    return table


def compare_page(folders: Sequence[str | Path], output: str | Path) -> Path:
    """Write a page with the table, and one figure of what was gained against what was kept.

    Args:
        folders: Run folders with the same target.
        output: The HTML file to write; it links to the runs' own pages by relative paths.

    Returns:
        The page.

    Raises:
        RunError: There is no run, one cannot be read, or they differ in their target.
    """
    reports, output = _same_target(folders), Path(output)
    shown = _placed(reports)
    description = "What each run gained on the target against what it kept of its few-shot ability"
    page = fill(
        "compare.html.j2",
        {
            "target": reports[0].target,
            "suite": reports[0].held_out.name,
            "bases": sorted({report.base for report in reports}),
            "num_runs": len(reports),
            "num_hidden": len(reports) - len(shown),
            "figure": as_svg(_trade_off(reports, shown), "compare", description) if shown else "",
            "table": Table(HEADER, tuple(_row(number, report) for number, report in enumerate(reports, start=1))),
            "links": [_link(report.folder, output) for report in reports],
            "verdicts": [report.gate.verdict for report in reports],
            "definition": DEFINITION,
        },
    )
    write_text(output, page)
    return output


def _same_target(folders: Sequence[str | Path]) -> list[Report]:
    reports = [read_report(folder) for folder in folders]
    if not reports:
        raise RunError("no run was given to compare; give at least one run folder")
    for report in reports:
        if report.target.name != reports[0].target.name:
            raise RunError(
                f"{report.folder} has the target {report.target.name!r} and {reports[0].folder} "
                f"{reports[0].target.name!r}; only runs with the same target can be compared"
            )
    return reports


def _row(number: int, report: Report) -> tuple[str, ...]:
    """The cells of a run; retention carries its shot count, since runs may differ in it."""
    target = [
        ABSENT if point is None else percent(point.accuracy.value, 1)
        for point in (report.target.before.get(0), report.target.after.get(0))
    ]
    kept = report.retention.estimate
    return (
        str(number),
        report.method,
        _learning_rate(report),
        ABSENT if report.gain is None else " → ".join(target),
        estimate(kept) + ("" if kept is None else f" at {report.shots}"),
        VERDICTS[report.gate.verdict].lower(),
        count(report.cost.trainable_parameters),
        duration(report.cost.train_seconds),
    )


def _learning_rate(report: Report) -> str:
    rate = report.settings.get("learning_rate")  # that was used, whether the config said it or the method
    return learning_rate(rate) if isinstance(rate, float) else ABSENT if rate is None else str(rate)


def _link(folder: Path, output: Path) -> str:
    """The way from the page to a run's own; empty where it has none."""
    page = folder / "report.html"
    return quote(Path(os.path.relpath(page, output.parent)).as_posix()) if page.is_file() else ""


def _placed(reports: Sequence[Report]) -> list[tuple[str, Estimate, Estimate]]:
    """Label, gain and retention of the runs that have both; a label starts with the run's row in the table."""
    return [
        (f"{number} {cut(report.method, METHOD_WIDTH)}", report.gain, report.retention.estimate)
        for number, report in enumerate(reports, start=1)
        if report.gain is not None and report.retention.estimate is not None
    ]


def _trade_off(reports: Sequence[Report], shown: Sequence[tuple[str, Estimate, Estimate]]) -> Figure:
    """Gain to the right, retention upwards, with both intervals: the best runs are at the upper right."""
    with style():
        figure, axis = panel(3.9)
        ends, sides = [1.0, 0.0], [0.0]
        for _, gain, kept in shown:
            ends += [kept.value] if kept.interval is None else [kept.interval.low, kept.interval.high]
            sides.append(gain.value)
        percent_axis(axis, max(min(ends), -0.5), min(max(ends), 2.0))
        axis.set_ylabel("few-shot ability kept")
        axis.set_xlim(min(sides) - 0.08, max(sides) + 0.12)
        axis.xaxis.set_major_formatter(lambda value, _: f"{100 * value:+.0f}".replace("-", "−").replace("+0", "0"))
        axis.set_xlabel("gain on the target without examples, in points")
        axis.axhline(1, color=MUTED, linewidth=1)
        for label, gain, kept in shown:
            _run_point(axis, label.split()[0], gain, kept)
        limits = {report.gate.max_drop for report in reports}
        if len(limits) == 1:
            axis.axhline(1 - limits.pop(), color=MUTED, linewidth=1, linestyle=(0, (4, 3)))
        labels = [(kept.value, label, INK) for label, _, kept in shown]
        label_ends(axis, labels if len(reports) <= NUM_NAMED else [], axis.get_xlim()[1])
    return figure


def _run_point(axis: Axes, number: str, gain: Estimate, kept: Estimate) -> None:
    """A numbered point; the number is the run's row in the table."""
    if kept.interval is not None:
        axis.vlines(gain.value, kept.interval.low, kept.interval.high, color=AFTER, linewidth=1.6, alpha=0.55)
    if gain.interval is not None:
        axis.hlines(kept.value, gain.interval.low, gain.interval.high, color=AFTER, linewidth=1.6, alpha=0.55)
    axis.plot(gain.value, kept.value, "o", color=AFTER, markersize=11)
    axis.text(
        gain.value, kept.value, number, color=PAPER, fontsize=7.5, fontweight="bold", ha="center",
        va="center_baseline",
    )  # fmt: skip
