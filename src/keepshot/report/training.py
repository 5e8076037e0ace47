"""The training log: `metrics.jsonl` as a series for what is minimised on each stream."""

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

LOG = "metrics.jsonl"
NUM_POINTS = 120
"""Points that a figure of page width can show; longer logs are averaged over neighbouring steps."""


@dataclass(frozen=True, slots=True)
class TrainingLog:
    """Losses over training.

    Attributes:
        series: Name -> (step, loss) pairs: the target's NLL; of another stream its terms other than the NLL, where it
            has such, else the NLL; or the one loss where streams were not logged.
        averaged: Logged steps behind each point.
        unreadable: Lines that are not a JSON object with a step, such as the last one of a killed run.
    """

    series: Mapping[str, tuple[tuple[float, float], ...]]
    averaged: int
    unreadable: int


def read_training_log(folder: str | Path) -> TrainingLog | None:
    """Read a run folder's `metrics.jsonl`; None where there is none, as after a method without training."""
    file = Path(folder) / LOG
    if not file.is_file():
        return None
    rows, unreadable = _rows(file)
    series: dict[str, list[tuple[float, float]]] = {}
    for row in rows:
        for name, value in row.items():
            if name == "loss" or "/" in name:
                series.setdefault(name, []).append((row["step"], value))
    shown = _minimised(series) or {name: points for name, points in series.items() if name == "loss"}
    averaged = max((math.ceil(len(points) / NUM_POINTS) for points in shown.values()), default=1)
    return TrainingLog({name: _averages(points, averaged) for name, points in shown.items()}, averaged, unreadable)


def _minimised(series: Mapping[str, list[tuple[float, float]]]) -> dict[str, list[tuple[float, float]]]:
    """Series by stream; where a stream has another term, its NLL is only measured (but for the target's)."""
    kinds: dict[str, list[str]] = {}
    for name in series:
        kind, _, stream = name.partition("/")
        if stream:
            kinds.setdefault(stream, []).append(kind)
    shown = {}
    for stream, of_stream in kinds.items():
        for kind in of_stream:
            if kind == "nll" and (stream == "target" or len(of_stream) == 1):
                shown[stream] = series[f"nll/{stream}"]
            elif kind != "nll":
                shown[f"{stream} ({kind})"] = series[f"{kind}/{stream}"]
    return shown


def _rows(file: Path) -> tuple[list[dict[str, float]], int]:
    """The finite numbers of each line, and the number of lines that are no object with a step."""
    rows, unreadable = [], 0
    for line in file.read_text(encoding="utf-8", errors="replace").splitlines():
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except json.JSONDecodeError:
            row = None
        if isinstance(row, dict) and _is_number(row.get("step")):
            rows.append({name: float(value) for name, value in row.items() if _is_number(value)})
        else:
            unreadable += 1
    return rows, unreadable


def _is_number(value: object) -> bool:
    """Whether a figure can show it; a loss that is not finite leaves a gap."""
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _averages(points: list[tuple[float, float]], width: int) -> tuple[tuple[float, float], ...]:
    groups = [points[start : start + width] for start in range(0, len(points), width)]
    return tuple((group[-1][0], math.fsum(loss for _, loss in group) / len(group)) for group in groups)
