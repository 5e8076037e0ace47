from dataclasses import replace
from pathlib import Path

import pytest
from matplotlib.figure import Figure
from tests.unit.report.compared import written

from keepshot.report.comparison import Comparison, read_comparison
from keepshot.report.pareto import front_figure


@pytest.fixture
def found(tmp_path: Path) -> Comparison:
    return read_comparison(written(tmp_path))


def lines(figure: Figure, marker: str) -> list[list[tuple[float, float]]]:
    [axis] = figure.axes
    return [
        list(zip(line.get_xdata(), line.get_ydata(), strict=True)) for line in axis.lines if line.get_marker() == marker
    ]


def test_points_are_the_reported_figures_and_dots_the_tried_settings(found: Comparison) -> None:
    [target] = found.targets
    points = lines(front_figure(found, target, target.methods), "o")
    dots, placed = points[0], [point for line in points[1:] for point in line]
    assert dots == [(0.91, 0.83), (0.98, 0.72), (0.94, 0.52), (0.97, 0.98), (0.985, 0.96)]
    assert placed == [(0.985, 0.70), (0.93, 0.55), (0.975, 0.97), (0.988, 0.95)]


def test_the_front_joins_what_no_other_beats_in_order_of_accuracy(found: Comparison) -> None:
    [target] = found.targets
    joined = [line for line in lines(front_figure(found, target, tuple(reversed(target.methods))), "None") if line]
    assert [(0.975, 0.97), (0.988, 0.95)] in joined
    alone = [replace(method, on_front=method.name == "full+icl-kl") for method in target.methods]
    assert [(0.988, 0.95)] not in lines(front_figure(found, target, alone), "None")


def test_means_over_targets_have_no_tried_settings(found: Comparison) -> None:
    points = lines(front_figure(found, None, found.methods), "o")
    assert [len(line) for line in points] == [1, 1, 1, 1]
