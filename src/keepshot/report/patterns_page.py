"""An experiment on implicit patterns for people: a page, its figure, and tables for the terminal."""

from collections.abc import Iterator, Sequence
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from keepshot.files import write_text
from keepshot.report.circuits import PARTS, circuit_figure, circuit_table, lens_table, matched_sentence, read_circuits
from keepshot.report.drawing import AFTER, BEFORE, INK, MUTED, as_svg, percent_axis, save_png, style
from keepshot.report.page import fill
from keepshot.report.patterns import SHARES, PatternFigures, PatternsFound, Shares, TunedFigures, read_patterns
from keepshot.report.tables import Table
from keepshot.report.wording import ABSENT, DOES_NOT_FIT, estimate, moment

TERMINAL_TITLE = "right where the pattern holds, right where it is broken, shortcut taken there and beyond the base's"
TERMINAL_HEADER = ("", "labelled", "shots", "holds", "broken", "shortcut", "beyond", "kept", "rate", "steps")
COLOURS = (AFTER, "#c2410c", "#0f766e", "#7e22ce", "#a16207", "#111827", "#be185d")
# How far apart, as a factor, methods stand that saw as many examples: many have the same figures.
_ASIDE = 1.2
HEADER = (
    "",
    "labelled examples",
    "examples in the prompt",
    *SHARES.values(),
    "shortcut, beyond context",
    "few-shot kept",
    "learning rate",
    "steps",
)


def patterns_page(folder: str | Path) -> Path:
    """Write `patterns.html` and its figures from `patterns.json`, and from `circuits.json` where that is.

    Raises:
        RunError: The folder holds no result that can be read.
    """
    found = read_patterns(folder)
    figure = patterns_figure(found)
    save_png(figure, found.folder / "patterns.png")
    circuits = []
    for task, looked_at in read_circuits(found.folder).items():
        map_of_heads = circuit_figure(looked_at.states)
        save_png(map_of_heads, found.folder / f"circuits-{task}.png")
        svg = as_svg(map_of_heads, f"circuits-{task}", "Heads and MLPs that carry the answer, by state of the model")
        tables = [(part, circuit_table(looked_at, part)) for part in PARTS]
        told = (matched_sentence(looked_at), looked_at.broken)
        circuits.append((task, svg, tables, lens_table(looked_at.states), *told))
    page = fill(
        "patterns.html.j2",
        {
            "found": found,
            "created": moment(found.created),
            "figure": as_svg(figure, "patterns", "Accuracy and use of the shortcut by number of labelled examples"),
            "tables": [(task, pattern_table(task)) for task in found.tasks],
            "circuits": circuits,
        },
    )
    write_text(found.folder / "patterns.html", page)
    return found.folder / "patterns.html"


def patterns_tables(folder: str | Path) -> Iterator[tuple[str, Table]]:
    """The result for the terminal: for each task a title and a table.

    Raises:
        RunError: The folder holds no result that can be read.
    """
    for task in read_patterns(folder).tasks:
        yield f"{task.name}: {TERMINAL_TITLE}", Table(TERMINAL_HEADER, pattern_table(task).rows)


def pattern_table(task: PatternFigures) -> Table:
    """The base behind any number of examples, then every method without examples and behind some."""
    rows = [("best constant answer", ABSENT, ABSENT, *_cells(task.constant), *[ABSENT] * 4)]
    for shots, shares in sorted(task.base.items()):
        cells = (DOES_NOT_FIT, ABSENT, ABSENT) if shares is None else _cells(shares)
        rows.append(("base, in context", str(shots), str(shots), *cells, *[ABSENT] * 4))
    for one in task.methods:
        if one.failed:
            rows.append((one.method, str(one.examples), ABSENT, one.failed, *[ABSENT] * 6))
            continue
        kept = ABSENT if one.retention is None else estimate(one.retention)
        setting = (kept, f"{one.learning_rate:g}", str(one.steps))
        for shots, shares, beyond in ((0, one.zero, _beyond(one)), (task.shots, one.few, ABSENT)):
            rows.append((one.method, str(one.examples), str(shots), *_cells(shares), beyond, *setting))
    return Table(HEADER, tuple(rows))


def patterns_figure(found: PatternsFound) -> Figure:
    """A row for each task: both accuracies and the use of the shortcut, against labelled examples.

    The base sees them in its prompt, a tuned model in training; a tuned model is asked without examples.
    """
    with style():
        figure = Figure(figsize=(9.4, 2.6 * len(found.tasks) + 0.6), layout="constrained")
        grid = figure.subplots(len(found.tasks), len(SHARES), squeeze=False, sharex=True)
        for axes, task in zip(grid, found.tasks, strict=True):
            for axis, (share, words) in zip(axes, SHARES.items(), strict=True):
                _panel(axis, task, share)
                axis.set_title(words, fontsize=9.5, color=INK, loc="left")
            axes[0].set_ylabel(task.name, color=INK)
        for axis in grid[-1]:
            axis.set_xlabel("labelled examples seen")
        handles, labels = grid[0][0].get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside lower center", ncols=5, frameon=False, fontsize=8.5)
    return figure


def _panel(axis: Axes, task: PatternFigures, share: str) -> None:
    axis.set_xscale("symlog", linthresh=1)
    percent_axis(axis)
    constant = task.constant[share]
    if constant is not None:
        axis.axhline(constant.value, color=MUTED, linewidth=1, linestyle=(0, (1, 3)))
    asked = [(shots, shares) for shots, shares in sorted(task.base.items()) if shares is not None]
    _line(axis, asked, share, BEFORE, "base, in context")
    methods = tuple(dict.fromkeys(one.method for one in task.methods))
    for number, method in enumerate(methods):
        aside = _ASIDE ** (number - (len(methods) - 1) / 2)
        mine = [(aside * one.examples, one.zero) for one in task.methods if one.method == method and not one.failed]
        _line(axis, sorted(mine, key=lambda point: point[0]), share, COLOURS[number % len(COLOURS)], method)
    most = max([*task.base, *(one.examples for one in task.methods)])
    ticks = [0, *(10**power for power in range(5) if 10**power <= most)]
    axis.set_xticks(ticks, [f"{tick:,}" for tick in ticks])
    axis.minorticks_off()
    axis.set_xlim(-0.2, 1.5 * most)


def _line(axis: Axes, points: Sequence[tuple[float, Shares]], share: str, colour: str, label: str) -> None:
    known = [(x, value) for x, shares in points if (value := shares[share]) is not None]
    if not known:
        return
    axis.plot(
        *zip(*((x, value.value) for x, value in known), strict=True), "o-", color=colour, markersize=4, label=label
    )
    for x, value in known:
        if value.interval is not None:
            axis.vlines(x, value.interval.low, value.interval.high, color=colour, linewidth=1.4, alpha=0.4)


def _beyond(method: TunedFigures) -> str:
    """The difference, with the number of examples in the base's prompt."""
    found = method.beyond["pattern_use"]
    return ABSENT if found is None else f"{estimate(found)} at {method.beyond_shots}"


def _cells(shares: Shares) -> tuple[str, ...]:
    return tuple(ABSENT if shares[share] is None else estimate(shares[share]) for share in SHARES)
