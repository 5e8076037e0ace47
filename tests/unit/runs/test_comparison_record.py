import csv
import io
import json
from pathlib import Path
from typing import Any

import pytest

from keepshot.files import write_json
from keepshot.report.comparison import read_comparison
from keepshot.runs.cells import Tried
from keepshot.runs.choice import Setting
from keepshot.runs.comparison_config import Cell, CompareConfig, load_comparison
from keepshot.runs.comparison_record import COLUMNS, comparison_report, comparison_table
from keepshot.runs.comparison_results import Measured, TargetResult

SEEDS = (0, 4)


def config(**changes: Any) -> CompareConfig:
    return load_comparison(
        {
            "model": "mini",
            "targets": [{"name": "a", "data": {"train": "a.jsonl"}}, {"name": "b", "data": {"train": "b.jsonl"}}],
            "methods": ["full", "value", "lora"],
            "learning_rates": [1e-4],
            "steps": [10],
            "seeds": list(SEEDS),
            "output": "runs/which",
        }
        | changes
    )


def part(value: float | None) -> dict[str, Any]:
    return {"value": value, "low": value and value - 0.01, "high": value and value + 0.01}


def report(accuracy: float, kept: float | None, seconds: float, tokens: int = 100) -> dict[str, Any]:
    point = {"0": {"accuracy": accuracy, "low": accuracy - 0.02, "high": accuracy + 0.02}}
    return {
        "target": {"metric": "exact_match", "chance": 0.5, "before": point, "after": point},
        "retention": {**part(kept), "shots": 16, "reason": "weak", "groups": {"own-input": part(kept), "suite": None}},
        "cost": {"train_seconds": seconds, "tokens": tokens, "trainable_parameters": 7},
    }


def result(name: str, figures: dict[str, list[dict[str, Any]]], matched: tuple[str, ...]) -> TargetResult:
    settings = {method: Setting(method, 1e-4, 10, 0.9, 0.8) for method in figures}
    cells = [
        (Tried(Cell(name, method, 1e-4, 10, seed), 0.9, {"train_seconds": 1.5, "tokens": 100}), 0.8)
        for method in figures
        for seed in SEEDS
    ]
    cells.append((Tried(Cell(name, "full", 3e-4, 10, 0), None, {}, "not finite"), None))
    methods = {
        method: Measured(settings[method], method in matched, tuple(reports), tuple(f"cells/{s}" for s in SEEDS))
        for method, reports in figures.items()
    }
    return TargetResult(name, 0.891, tuple(settings.values()), tuple(cells), methods, {"x": "not finite"}, ("seen",))


@pytest.fixture
def results() -> list[TargetResult]:
    one = {
        "full": [report(0.98, 0.6, 10), report(0.98, 0.7, 10)],
        "value": [report(0.97, 0.9, 11, 110), report(0.97, 0.9, 13, 110)],
        "lora": [report(0.97, None, 5), report(0.97, 0.9, 5)],
    }
    other = one | {"value": [report(0.99, 0.8, 12, 110), report(0.99, 0.8, 12, 110)]}
    return [result("a", one, ("full", "value", "lora")), result("b", other, ("full", "lora"))]


def methods(entries: list[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    return {entry["method"]: entry for entry in entries}


def test_figures_are_means_over_seeds_and_costs_are_relative(results: list[TargetResult]) -> None:
    found = methods(comparison_report(config(), results)["targets"][0]["methods"])
    assert found["full"]["retention"]["value"] == pytest.approx(0.65)
    assert found["full"]["retention"]["over"] == "seeds"
    assert found["value"]["retention"] == pytest.approx({"value": 0.9, "low": 0.89, "high": 0.91, "over": "sets"})
    assert found["value"]["cost"]["time_ratio"] == pytest.approx(1.2)
    assert found["value"]["cost"]["token_ratio"] == pytest.approx(1.1)
    assert found["full"]["accuracy"]["high"] == pytest.approx(1.0)
    assert (found["lora"]["retention"], found["lora"]["reason"]) == (None, "weak")
    assert found["value"]["groups"]["suite"] is None
    assert found["value"]["on_front"]
    assert found["full"]["gate"] == "insufficient"


def test_over_targets_a_method_must_match_on_each(results: list[TargetResult]) -> None:
    report = comparison_report(config(), results)
    assert report["targets"][0]["recommendation"]["method"] == "value"
    assert report["targets"][1]["recommendation"]["method"] == "full"
    found = methods(report["methods"])
    assert found["value"]["retention"]["value"] == pytest.approx(0.85)
    assert not found["value"]["matched"]
    assert (report["recommendation"]["method"], report["recommendation"]["verdict"]) == ("full", "clear")


def test_a_method_that_is_too_costly_is_not_recommended(results: list[TargetResult]) -> None:
    dear = comparison_report(config(max_cost=1.15), results)["targets"][0]
    assert dear["recommendation"]["method"] == "full"
    assert not methods(dear["methods"])["value"]["cost"]["within"]
    tokens = comparison_report(config(max_cost=1.15, cost="tokens"), results)["targets"][0]
    assert tokens["recommendation"]["method"] == "value"
    assert "1.10 x the tokens" in tokens["recommendation"]["reason"]


def test_the_reason_has_the_figures(results: list[TargetResult]) -> None:
    a = comparison_report(config(), results)["targets"][0]["recommendation"]
    assert a["verdict"] == "insufficient"  # two seeds of full say little
    assert a["reason"].startswith(
        "value and full cannot be told apart, since their intervals overlap: the former keeps"
    )
    assert "90.0% [89.0, 91.0] of the few-shot ability at a target accuracy of 97.0% and 1.20 x the" in a["reason"]
    lonely = [result("a", {"full": [report(0.9, 0.5, 1)] * 2}, ("full",))]
    reason = comparison_report(config(), lonely)["recommendation"]["reason"]
    assert reason.endswith(
        "no other method reaches 99% of the validation accuracy of full at 1.25 x its training time or less"
    )
    blind = [result("a", {"full": [report(0.9, None, 1)] * 2}, ("full",))]
    found = comparison_report(config(), blind)["recommendation"]
    assert (found["verdict"], found["method"]) == ("none", None)
    assert "could not be measured" in found["reason"]


def test_what_is_written_is_what_the_report_reads(results: list[TargetResult], tmp_path: Path) -> None:
    report = comparison_report(config(), results)
    write_json(tmp_path / "compare.json", report)
    found = read_comparison(tmp_path)
    assert [target.name for target in found.targets] == ["a", "b"]
    assert found.targets[0].methods[1].runs == ("cells/0", "cells/4")
    assert found.targets[0].failed == {"x": "not finite"}
    assert found.notes == ("seen",)
    assert found.advice.method == "full"
    assert json.loads((tmp_path / "compare.json").read_text())["schema"] == "keepshot.compare/1"


def test_the_table_has_a_row_for_every_cell(results: list[TargetResult]) -> None:
    rows = list(csv.DictReader(io.StringIO(comparison_table(config(), results))))
    assert tuple(rows[0]) == COLUMNS
    assert len(rows) == 14
    first, last = rows[0], rows[6]
    assert (first["chosen"], first["matched"], first["retention"], first["accuracy"]) == ("1", "1", "0.6", "0.98")
    assert (first["retention_own_input"], first["retention_suite"]) == ("0.6", "")
    assert rows[1]["retention"] == "0.7"
    assert (last["chosen"], last["matched"], last["retention"], last["validation_accuracy"]) == ("0", "", "", "")
    assert rows[4]["retention"] == ""
