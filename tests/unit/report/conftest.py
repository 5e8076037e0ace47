"""Run folders as `keepshot tune` leaves them, small and with chosen peculiarities."""

import json
from collections.abc import Callable
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest

SHOTS = (0, 1, 2, 4, 8, 16)
MakeRun = Callable[..., Path]


def curve(values: tuple[float, ...], width: float = 0.04) -> dict[str, Any]:
    return {
        str(shots): {
            "accuracy": value,
            "nll": round(2.5 * (1 - value), 4),
            "low": round(max(0.0, value - width), 4),
            "high": round(min(1.0, value + width), 4),
            "n": 320,
        }
        for shots, value in zip(SHOTS, values, strict=True)
    }


def held_out_task(
    chance: float, top: float, kept: float, group: str = "suite", matches: bool = False
) -> dict[str, Any]:
    rise = (0.0, 0.3, 0.5, 0.7, 0.9, 1.0)
    before = [chance + (top - chance) * part for part in rise]
    after = [chance + (top - chance) * part * kept for part in rise]
    return {
        "group": group,
        "chance": chance,
        "metric": "options" if chance else "exact_match",
        "format_matches_target": matches,
        "before": curve(tuple(before)),
        "after": curve(tuple(after)),
    }


def estimate(value: float, width: float) -> dict[str, float]:
    return {"value": value, "low": round(value - width, 4), "high": round(value + width, 4)}


REPORT: dict[str, Any] = {
    "schema": "keepshot.report/1",
    "name": "reversal-value",
    "created": "2025-03-14T09:26:53+00:00",
    "base": "mini",
    "method": "value+icl-mix",
    "model_path": "model",
    "target": {
        "task": "reverse words",
        "metric": "exact_match",
        "chance": 0.0,
        "before": curve((0.06, 0.11, 0.19, 0.24, 0.31, 0.36)),
        "after": curve((0.94, 0.95, 0.94, 0.95, 0.96, 0.95), 0.02),
    },
    "held_out": {
        "suite": "universe",
        "tasks": {
            "successor": held_out_task(0.0, 0.94, 0.97),
            "antonym": held_out_task(0.0, 0.71, 0.93),
            "larger-of-two": held_out_task(0.5, 0.88, 0.95),
            "sentiment": held_out_task(0.25, 0.81, 0.88, matches=True),
            "plural": held_out_task(0.0, 0.66, 1.03, matches=True),
            "first letter of the input": held_out_task(0.0, 0.9, 0.82, "own-input"),
            "number of words": held_out_task(0.2, 0.76, 0.71, "own-input"),
        },
        "before": curve((0.14, 0.33, 0.48, 0.61, 0.74, 0.81)),
        "after": curve((0.14, 0.31, 0.45, 0.57, 0.68, 0.74)),
    },
    "retention": {
        **estimate(0.914, 0.066),
        "shots": 16,
        "reason": "",
        "by_shots": {
            "0": None,
            "1": estimate(0.88, 0.3),
            "2": estimate(0.9, 0.17),
            "4": estimate(0.91, 0.12),
            "8": estimate(0.905, 0.08),
            "16": estimate(0.914, 0.066),
        },
        "nll": {"before": 0.48, "after": 0.61},
        "gain_kept": estimate(0.9, 0.07),
        "groups": {
            "suite": {**estimate(0.953, 0.05), "tasks": 4},
            "own-input": {**estimate(0.77, 0.11), "tasks": 2},
            "format matches target": {**estimate(0.944, 0.09), "tasks": 3},
            "format differs": {**estimate(0.9, 0.08), "tasks": 3},
        },
    },
    "gain": 0.88,
    "gain_interval": {"low": 0.85, "high": 0.91},
    "gate": {"verdict": "pass", "max_drop": 0.2, "reason": ""},
    "cost": {
        "train_seconds": 74.2,
        "peak_memory_bytes": 812_000_000,
        "tokens": 1_310_720,
        "trainable_parameters": 393_216,
        "total_parameters": 6_541_312,
        "steps": 200,
        "streams": {
            "target": {"tokens": 1_048_576, "share": 0.8, "episodes": 25_600},
            "icl-mix": {"tokens": 262_144, "share": 0.2, "episodes": 1_820},
        },
    },
    "settings": {
        "model": "mini",
        "data": {"train": "/data/private/train.jsonl", "max_length": 512},
        "train": {"learning_rate": 0.0003, "max_steps": 200},
        "learning_rate": 0.0003,
        "sources": {"icl": [{"path": "bundled", "weight": 1.0}]},
        "evaluate": {"shots": [0, 1, 2, 4, 8, 16], "sets": 8, "queries": 40},
    },
    "data": {"train_rows": 1800, "test_rows": 200, "skipped_rows": 3, "shared_with_test": 0},
    "seed": 0,
    "versions": {"keepshot": "0.1.0", "torch": "2.13.0"},
    "notes": ["3 rows were left out: they have no output."],
}


@pytest.fixture
def numbers() -> dict[str, Any]:
    """A realistic report, to be changed at will."""
    return deepcopy(REPORT)


@pytest.fixture
def without_zero_shots(numbers: dict[str, Any]) -> dict[str, Any]:
    """The report of a run whose `evaluate.shots` lack 0."""
    for pair in (numbers["target"], numbers["held_out"], *numbers["held_out"]["tasks"].values()):
        del pair["before"]["0"], pair["after"]["0"]
    del numbers["retention"]["by_shots"]["0"]
    return numbers | {"gain": None, "gain_interval": None}


@pytest.fixture
def make_run(tmp_path: Path) -> MakeRun:
    """Write a report, and a training log of so many steps, as a run folder."""

    def make(report: dict[str, Any], name: str = "run", steps: int = 200) -> Path:
        folder = tmp_path / name
        folder.mkdir(parents=True)
        (folder / "report.json").write_text(json.dumps(report), encoding="utf-8")
        lines = [
            json.dumps({"step": n, "loss": 3 / n + 0.1, "nll/target": 3 / n, "nll/icl-mix": 0.7 + 0.3 / n})
            for n in range(1, steps + 1)
        ]
        if lines:
            (folder / "metrics.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")
        return folder

    return make
