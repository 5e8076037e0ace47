"""The figures' files hold the closed forms, the samples and the trained models."""

import csv
import json
from pathlib import Path

import pytest
from matplotlib import image
from tests.unit.theory import golden

from keepshot.errors import RunError
from keepshot.theory.chart import line, sampled
from keepshot.theory.figures import Sampling, charts, figures

NAMES = [
    "figure1",
    "figure2",
    "figure3",
    "figure4",
    "figure5",
    "separate",
    "softmax",
    "angle",
    "several",
    "weight",
    "keeping",
]


def quiet(line: str) -> None:
    """Say nothing."""


def test_lines_are_the_specified_numbers() -> None:
    by_name = {chart.name: chart for chart in charts()}
    assert list(by_name) == NAMES
    curves = {curve.label: line(curve).y for curve in by_name["figure2"].panels[0].curves}
    assert [round(curves["w = 0.3"][n], 4) for n in golden.FIGURE_SHOTS] == list(golden.FIGURE_2[0.3])
    curves = {curve.label: line(curve).y for curve in by_name["figure3"].panels[0].curves}
    assert [round(curves["w = 0.6"][n], 4) for n in golden.FIGURE_SHOTS] == list(golden.FIGURE_3[0.6])
    dimension_6 = line(by_name["figure1"].panels[0].curves[0]).y
    assert [round(dimension_6[n], 4) for n in (0, 1, 4, 5, 20)] == list(golden.FIGURE_1[6][:5])
    best = {series.label: series.y[19] for series in by_name["figure3"].panels[1].extra}
    assert best == pytest.approx(
        dict(zip(("target", "opposite", "orthogonal"), golden.LABEL_WEIGHT[20], strict=True)), abs=5.1e-5
    )


def test_several_tasks_lead_to_the_best_on_average() -> None:
    panels = {panel.title: {series.label: series.y for series in panel.extra} for panel in charts()[8].panels}
    elsewhere = panels["20 examples, all tasks"]
    # Ten tasks, the axes and their opposites, stand for all tasks: nothing is left to lose.
    assert elsewhere["value + few-shot"][-1] == pytest.approx(elsewhere["pretrained"][0], abs=1e-9)
    harm = [error - elsewhere["pretrained"][0] for error in elsewhere["value + few-shot"]]
    assert harm[:5] == sorted(harm[:5], reverse=True)
    assert harm[0] > 4 * harm[4]


@pytest.mark.parametrize("name", ["figure4", "angle"])
def test_samples_lie_on_the_lines(name: str) -> None:
    panel = next(chart for chart in charts() if chart.name == name).panels[1]
    lines = {curve.label: dict(zip(line(curve).x, line(curve).y, strict=True)) for curve in panel.curves}
    for series in sampled(panel, 20_000, 0, "test"):
        assert series.kind == "monte carlo"
        assert series.x[0] == 0
        assert len(series.x) > 7
        for x, y, error in zip(series.x, series.y, series.standard_errors or (), strict=True):
            assert abs(y - lines[series.label][x]) < 4 * error


def test_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    output = tmp_path / "theory"
    figures(output, Sampling(seeds=1, steps=2, batch=8, test_prompts=200), quiet)
    expected = {f"{name}.{ending}" for name in NAMES for ending in ("png", "svg", "csv")} | {"theory.json"}
    assert {file.name for file in output.iterdir()} == expected
    record = json.loads((output / "theory.json").read_text())
    assert record["schema"] == "keepshot.theory/1"
    assert list(record["figures"]) == NAMES
    assert {(entry["model"], entry["method"]) for entry in record["trained"]} >= {
        ("merged", "query+key + few-shot"),
        ("separate", "key"),
        ("softmax", "all + self-anchors"),
    }
    panels = {name: figure["panels"] for name, figure in record["figures"].items()}
    assert [len(panels[name]) for name in ("several", "weight", "keeping")] == [3, 3, 1]
    kinds = {(series["label"], series["kind"]) for series in panels["keeping"][0]["series"]}
    assert kinds >= {("value + anchors", "theory"), ("value + anchors", "trained"), ("all + anchors", "trained")}
    [several] = [series for series in panels["several"][2]["series"] if series["label"] == "all + few-shot"]
    assert several["x"] == [1.0, 3.0, 10.0]
    rows = list(csv.DictReader((output / "figure4.csv").read_text().splitlines()))
    trained = [row for row in rows if row["kind"] == "trained" and row["panel"] == "tuned: value"]
    assert {row["label"] for row in trained} == {"pretrained", "value"}
    assert all(float(row["standard_error"]) > 0 for row in trained)
    assert image.imread(output / "figure5.png").shape[0] > 400
    first_four = charts()[:4]
    monkeypatch.setattr("keepshot.theory.figures.charts", lambda: first_four)
    figures(output, Sampling(), quiet)
    assert {file.stem for file in output.iterdir()} == {*NAMES[:4], "theory"}
    assert "trained" not in {row["kind"] for row in csv.DictReader((output / "figure4.csv").read_text().splitlines())}


def test_other_folders_are_left_alone(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("years of work")
    with pytest.raises(RunError, match=r"holds no theory\.json"):
        figures(tmp_path, Sampling(), quiet)
    assert (tmp_path / "thesis.tex").exists()
