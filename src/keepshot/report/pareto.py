"""The figure of a comparison: target accuracy against few-shot ability kept, and the front that no method beats."""

from collections.abc import Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from keepshot.report.comparison import Comparison, MethodFigures, TargetFigures
from keepshot.report.drawing import AFTER, INK, METHOD_WIDTH, MUTED, PAPER, cut, label_ends, panel, percent_axis, style

NUM_NAMED = 12
"""Names that fit beside the figure; of more methods the points only show their numbers."""


def front_figure(found: Comparison, target: TargetFigures | None, methods: Sequence[MethodFigures]) -> Figure:
    """Target accuracy to the right, retention upwards; faint dots are the settings that were tried, on validation.

    Args:
        found: The comparison.
        target: Whose settings and threshold are shown; None shows means over all targets.
        methods: The points, numbered from 1; those without retention have no place.
    """
    tried = [] if target is None else target.tried
    dots = [(one.accuracy, one.retention) for one in tried if one.accuracy is not None and one.retention is not None]
    placed = [(n, method) for n, method in enumerate(methods, start=1) if method.retention is not None]
    with style():
        figure, axis = panel(3.9)
        sides = [x for x, _ in dots] + [method.accuracy.value for _, method in placed]
        ends = [1.0, *(y for _, y in dots)]
        for _, method in placed:
            assert method.retention is not None
            interval = method.retention.interval
            ends += [method.retention.value] if interval is None else [interval.low, interval.high]
        percent_axis(axis, max(min(ends), -0.5), min(max(ends), 1.5))
        axis.set_ylabel("few-shot ability kept")
        margin = max(0.02, 0.08 * (max(sides) - min(sides)))
        axis.set_xlim(min(sides) - margin, max(sides) + margin)
        axis.xaxis.set_major_formatter(lambda value, _: f"{100 * value:.0f}%".replace("-", "−"))
        axis.set_xlabel("accuracy on the target without examples")
        axis.axhline(1 - found.max_drop, color=MUTED, linewidth=1, linestyle=(0, (4, 3)))
        if target is not None:
            axis.axvline(target.threshold, color=MUTED, linewidth=1, linestyle=(0, (1, 3)))
        if dots:
            axis.plot(*zip(*dots, strict=True), "o", color=MUTED, markersize=4, alpha=0.35, linestyle="none")
        _front(axis, [method for _, method in placed if method.on_front])
        for number, method in placed:
            _point(axis, number, method)
        names = [(_kept(method), f"{number} {cut(method.name, METHOD_WIDTH)}", INK) for number, method in placed]
        label_ends(axis, names if len(methods) <= NUM_NAMED else [], axis.get_xlim()[1])
    return figure


def _front(axis: Axes, methods: Sequence[MethodFigures]) -> None:
    """A line along the methods that no other beats: what accuracy costs in retention."""
    ordered = sorted((method.accuracy.value, _kept(method)) for method in methods)
    if len(ordered) > 1:
        axis.plot(*zip(*ordered, strict=True), color=AFTER, linewidth=1, alpha=0.6)


def _point(axis: Axes, number: int, method: MethodFigures) -> None:
    """A numbered point with both intervals; hollow where the accuracy was not matched."""
    x, y = method.accuracy.value, _kept(method)
    for value, line in ((method.retention, axis.vlines), (method.accuracy, axis.hlines)):
        if value is not None and value.interval is not None:
            at = x if line == axis.vlines else y
            line(at, value.interval.low, value.interval.high, color=AFTER, linewidth=1.6, alpha=0.45)
    axis.plot(x, y, "o", color=AFTER, markersize=11, markerfacecolor=AFTER if method.matched else PAPER)
    colour = PAPER if method.matched else AFTER
    axis.text(x, y, str(number), color=colour, fontsize=7.5, fontweight="bold", ha="center", va="center_baseline")


def _kept(method: MethodFigures) -> float:
    assert method.retention is not None, "what has no retention has no place in the figure"
    return method.retention.value
