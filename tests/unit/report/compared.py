"""A comparison as `keepshot compare` leaves it, small and with chosen peculiarities."""

import json
from copy import deepcopy
from pathlib import Path
from typing import Any


def estimate(value: float, width: float, over: str = "seeds") -> dict[str, Any]:
    return {"value": value, "low": round(value - width, 4), "high": round(value + width, 4), "over": over}


def method(name: str, accuracy: float, kept: float | None, **changes: Any) -> dict[str, Any]:
    return {
        "method": name,
        "matched": True,
        "accuracy": estimate(accuracy, 0.01),
        "retention": None if kept is None else estimate(kept, 0.03),
        "groups": {
            "own-input": None if kept is None else estimate(kept - 0.1, 0.05),
            "suite": None if kept is None else estimate(kept + 0.02, 0.05),
            "inputs like target": None if kept is None else estimate(kept - 0.1, 0.05),
            "inputs unlike target": None if kept is None else estimate(kept + 0.02, 0.05),
            "format matches target": None,
            "format differs": None if kept is None else estimate(kept, 0.05),
        },
        "gate": "pass",
        "cost": {
            "train_seconds": 74.0,
            "tokens": 1000.0,
            "time_ratio": 1.0,
            "token_ratio": 1.0,
            "within": True,
        },
        "on_front": False,
        "learning_rate": 2e-4,
        "steps": 100,
        "trainable_parameters": 100,
        "reason": None,
        "runs": [f"cells/t/{name}/0.0002-100-{seed}" for seed in (0, 1)],
    } | changes


def tried(name: str, rate: float, accuracy: float | None, kept: float | None) -> dict[str, Any]:
    return {"method": name, "learning_rate": rate, "steps": 100, "accuracy": accuracy, "retention": kept}


METHODS = [
    method("full", 0.985, 0.70),
    method("value", 0.93, 0.55, matched=False),
    method("value+icl-mix", 0.975, 0.97, on_front=True),
    method("full+icl-kl", 0.988, 0.95, on_front=True),
    method("lora <b>|", 0.98, None),
]
ADVICE = {"verdict": "insufficient", "method": "value+icl-mix", "next": "full+icl-kl", "reason": "they <overlap>"}
TARGET = {
    "name": "reverse words",
    "metric": "exact_match",
    "chance": 0.0,
    "before": 0.02,
    "shots": 16,
    "threshold": 0.965,
    "methods": METHODS,
    "recommendation": ADVICE,
    "tried": [
        tried("full", 1e-4, 0.91, 0.83),
        tried("full", 2e-4, 0.98, 0.72),
        tried("full", 4e-4, None, None),
        tried("value", 2e-4, 0.94, 0.52),
        tried("value+icl-mix", 2e-4, 0.97, 0.98),
        tried("full+icl-kl", 2e-4, 0.985, 0.96),
    ],
    "failed": {"attention": "the loss is not finite"},
}
COMPARISON: dict[str, Any] = {
    "schema": "keepshot.compare/1",
    "name": "which",
    "created": "2025-03-14T09:26:53+00:00",
    "base": "mini",
    "baseline": "full",
    "suite": "universe",
    "validation_suite": None,
    "match": 0.99,
    "max_cost": 1.25,
    "cost_by": "time",
    "max_drop": 0.05,
    "seeds": [0, 1],
    "methods": [{**entry, "learning_rate": None, "steps": None, "runs": []} for entry in METHODS],
    "recommendation": ADVICE,
    "targets": [TARGET],
    "settings": {},
    "versions": {"keepshot": "0.1.0"},
    "notes": ["The test was <small>."],
}


def written(folder: Path, **changes: Any) -> Path:
    """The folder with that comparison, and with changes to it."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "compare.json").write_text(json.dumps(deepcopy(COMPARISON) | changes), encoding="utf-8")
    return folder
