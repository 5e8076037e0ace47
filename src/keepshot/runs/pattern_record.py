"""What an experiment on implicit patterns came to, as JSON and CSV."""

import csv
import io
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Any

import numpy as np

from keepshot.runs.folder import versions
from keepshot.runs.pattern_intervals import difference, half_over_seeds, rate
from keepshot.runs.pattern_questions import best_constant, hits
from keepshot.runs.patterns_config import PatternCell, PatternsConfig
from keepshot.tasks.patterns import PatternItem, PatternName

SCHEMA = "keepshot.patterns/1"
SHARES = ("holds", "broken", "pattern_use")
Found = Mapping[PatternCell, Mapping[str, Any]]
Setting = tuple[float, int]


def patterns_record(
    config: PatternsConfig,
    base: Mapping[PatternName, Mapping[str, Any]],
    found: Found,
    test: Mapping[PatternName, Sequence[PatternItem]],
) -> dict[str, Any]:
    """The record (schema `keepshot.patterns/1`).

    Args:
        config: The experiment's.
        base: By task, what the base answered on validation and test, by number of shots.
        found: What every finished cell came to.
        test: The items.
    """
    chosen = chosen_cells(found)
    tasks = {}
    for task in config.tasks:
        methods = []
        for method, examples in dict.fromkeys((one.method, one.examples) for one in found if one.task == task):
            cells = [one for one in chosen if one.group == (task, method, examples)]
            methods.append(_method(method, examples, cells, found, base[task], test[task]))
        tasks[task] = {"base": base[task]["test"], "constant": asdict(best_constant(test[task])), "methods": methods}
    return {
        "schema": SCHEMA,
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "model": config.model,
        "size": config.size,
        "shots": {task: best_shots(base[task]) for task in config.tasks},
        "items": {"validation": config.validation, "test": config.test},
        "suite": config.suite_name,
        "seeds": list(config.seeds),
        "versions": versions(),
        "tasks": tasks,
    }


def chosen_cells(found: Found) -> tuple[PatternCell, ...]:
    """The cells of the settings that represent a method at a number of examples: best on validation, over all seeds.

    Of equally good ones the first counts; a setting of which a training failed does not.
    """
    groups: dict[tuple[str, str, int], dict[Setting, list[PatternCell]]] = {}
    for one in found:
        settings = groups.setdefault(one.group, {})
        settings.setdefault((one.learning_rate, one.steps), []).append(one)
    chosen: list[PatternCell] = []
    for settings in groups.values():
        usable = {name: cells for name, cells in settings.items() if not any(found[one]["failed"] for one in cells)}
        if usable:
            chosen += max(usable.values(), key=lambda cells: np.mean([_validation(found[one]) for one in cells]))
    return tuple(chosen)


def best_shots(base: Mapping[str, Any]) -> int:
    """The number of examples that serves the base best on validation; of equally good ones the fewest."""
    asked = {int(shots): found for shots, found in base["validation"].items() if found is not None and shots != "0"}
    curve = {shots: found["holds"]["value"] for shots, found in asked.items()}
    return max(sorted(curve), key=lambda shots: curve[shots])


def patterns_rows(found: Found) -> str:
    """One row for every training, with Wilson 95 % intervals over its items."""
    text = io.StringIO()
    shots = ("zero", "few")
    figures = [f"{name}_{share}" for name in shots for share in SHARES]
    names = ["task", "method", "examples", "learning_rate", "steps", "seed", "shots", "failed", "retention"]
    table = csv.writer(text, lineterminator="\n")
    table.writerow([*names, "validation", *(f"{name}{end}" for name in figures for end in ("", "_low", "_high"))])
    for cell, asked in found.items():
        row: list[Any] = [
            cell.task, cell.method, cell.examples, f"{cell.learning_rate:g}", cell.steps, cell.seed, asked["shots"],
            asked["failed"], asked["retention"],
        ]  # fmt: skip
        if not asked["failed"]:
            row.append(_validation(asked))
            for one in (asked["test"][place][share] for place in ("0", str(asked["shots"])) for share in SHARES):
                row += [f"{one[end]:.4f}" for end in ("value", "low", "high")] if one else [""] * 3
        table.writerow(row)
    return text.getvalue()


def _method(
    method: str,
    examples: int,
    cells: Sequence[PatternCell],
    found: Found,
    base: Mapping[str, Any],
    test: Sequence[PatternItem],
) -> dict[str, Any]:
    """A method at a number of examples: means over seeds."""
    if not cells:
        return {"method": method, "examples": examples, "failed": "every setting failed with some seed"}
    asked, task = [found[one] for one in cells], cells[0].task
    seen = [hits(task, test, one["written"]["0"]) for one in asked]
    against, shown = _against(examples, asked[0]["shots"], base)
    return {
        "method": method,
        "examples": examples,
        "failed": "",
        "learning_rate": cells[0].learning_rate,
        "steps": cells[0].steps,
        "seeds": len(cells),
        "validation": over_seeds([_validation(one) for one in asked]),
        "retention": over_seeds([one["retention"] for one in asked]),
        "test": {
            str(shots): {share: _share([one["test"][str(shots)][share] for one in asked]) for share in SHARES}
            for shots in (0, asked[0]["shots"])
        },
        "beyond_context": {
            "shots": against,
            **{
                share: difference(np.array([one[share] for one in seen]), np.array(right)) if right else None
                for share, right in hits(task, test, shown).items()
            },
        },
    }


def _against(examples: int, best: int, base: Mapping[str, Any]) -> tuple[int, Sequence[str]]:
    """What the base wrote behind as many examples as the training saw, else behind as many as serve it best."""
    written = base["written"]["test"]
    shots = examples if written.get(str(examples)) is not None else best
    return shots, written[str(shots)]


def _share(rates: Sequence[Mapping[str, Any] | None]) -> dict[str, Any] | None:
    """With the interval over problems and seeds."""
    known = [one for one in rates if one is not None]
    if len(known) < len(rates) or not known:
        return None
    return {**rate([one["value"] for one in known], known[0]["n"]), "n": known[0]["n"]}


def over_seeds(values: Sequence[float | None]) -> dict[str, float | None] | None:
    """Mean and 95 % t interval, of what no problems stand behind; none of a single value."""
    known = [value for value in values if value is not None]
    if not known or len(known) < len(values):
        return None
    mean = float(np.mean(known))
    if len(known) == 1:
        return {"value": mean, "low": None, "high": None}
    half = half_over_seeds(known)
    return {"value": mean, "low": mean - half, "high": mean + half}


def _validation(asked: Mapping[str, Any]) -> float:
    return float(asked["validation"]["holds"]["value"])
