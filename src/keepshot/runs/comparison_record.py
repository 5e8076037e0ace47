"""The result of a comparison as the contract `keepshot.compare/1` has it, and as a table for other programs."""

import csv
import io
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from keepshot.evaluation import Estimate, gate_verdict
from keepshot.report import record, wording
from keepshot.runs.choice import Pooled, Recommendation, Standing, averaged, front, pooled, recommend
from keepshot.runs.comparison_config import CompareConfig
from keepshot.runs.comparison_results import Measured, TargetResult
from keepshot.runs.folder import versions

SCHEMA = "keepshot.compare/1"
COLUMNS = (
    "target", "method", "learning_rate", "steps", "seed", "chosen", "matched", "validation_accuracy",
    "validation_retention", "accuracy", "accuracy_few_shot", "retention", "retention_low", "retention_high",
    "retention_own_input", "retention_suite", "retention_inputs_like", "retention_inputs_unlike",
    "retention_format_matches", "retention_format_differs", "retention_families_practised", "retention_other_families",
    "retention_knowledge", "retention_instructed_knowledge", "retention_instructed", "train_seconds", "tokens",
)  # fmt: skip
GROUPS = {
    "retention_own_input": "own-input",
    "retention_suite": "suite",
    "retention_inputs_like": "inputs like target",
    "retention_inputs_unlike": "inputs unlike target",
    "retention_format_matches": "format matches target",
    "retention_format_differs": "format differs",
    "retention_families_practised": "families practised",
    "retention_other_families": "other families",
    "retention_knowledge": "knowledge",
    "retention_instructed_knowledge": "instructed knowledge",
    "retention_instructed": "instructed",
}


def comparison_report(config: CompareConfig, targets: Sequence[TargetResult]) -> dict[str, Any]:
    """The content of `compare.json`."""
    everywhere = [name for name in targets[0].methods if all(name in target.methods for target in targets)]
    overall = {name: [target.methods[name] for target in targets] for name in everywhere}
    bases = [target.methods[config.baseline] for target in targets]
    entries, recommendation = _entries(config, overall, bases)
    return {
        "schema": SCHEMA,
        "name": Path(config.output).name,
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "base": config.model,
        "baseline": config.baseline,
        "suite": config.suite_name,
        "validation_suite": config.validation_suite,
        "match": config.match,
        "max_cost": config.max_cost,
        "cost_by": config.cost,
        "max_drop": config.gate.max_drop,
        "seeds": list(config.seeds),
        "methods": entries,
        "recommendation": recommendation,
        "targets": [_target(config, target) for target in targets],
        "settings": config.model_dump(mode="json"),
        "versions": versions(),
        "notes": list(dict.fromkeys(note for target in targets for note in target.notes)),
    }


def comparison_table(config: CompareConfig, targets: Sequence[TargetResult]) -> str:
    """A row for every cell, as CSV; what was not measured is empty."""
    text = io.StringIO()
    writer = csv.DictWriter(text, COLUMNS, restval="", lineterminator="\n")
    writer.writeheader()
    for target in targets:
        for found, kept in target.cells:
            cell = found.cell
            row: dict[str, Any] = asdict(cell) | {"validation_accuracy": found.accuracy, "validation_retention": kept}
            row |= {name: found.cost.get(name) for name in ("train_seconds", "tokens")}
            measured = target.methods.get(cell.method)
            chosen = measured and (measured.setting.learning_rate, measured.setting.steps)
            row["chosen"] = int(chosen == (cell.learning_rate, cell.steps))
            if measured is not None and row["chosen"]:
                row |= _reported(measured.reports[config.seeds.index(cell.seed)]) | {"matched": int(measured.matched)}
            writer.writerow(row)
    return text.getvalue()


def _reported(report: Mapping[str, Any]) -> dict[str, Any]:
    kept = report["retention"]
    few_shot = report["target"]["after"].get(str(kept["shots"]))
    groups = {column: kept["groups"].get(group) for column, group in GROUPS.items()}
    return {
        "accuracy": report["target"]["after"]["0"]["accuracy"],
        "accuracy_few_shot": few_shot and few_shot["accuracy"],
        "retention": kept["value"],
        "retention_low": kept["low"],
        "retention_high": kept["high"],
        **{column: found and found["value"] for column, found in groups.items()},
    }


def _target(config: CompareConfig, target: TargetResult) -> dict[str, Any]:
    base = target.methods[config.baseline]
    entries, recommendation = _entries(config, {name: [found] for name, found in target.methods.items()}, [base])
    for entry in entries:
        found = target.methods[entry["method"]]
        entry |= {
            "learning_rate": found.setting.learning_rate,
            "steps": found.setting.steps,
            "trainable_parameters": found.reports[0]["cost"]["trainable_parameters"],
            "reason": found.reports[0]["retention"].get("reason"),
            "runs": list(found.folders),
        }
    report = base.reports[0]
    return {
        "name": target.name,
        "metric": report["target"]["metric"],
        "chance": report["target"]["chance"],
        "before": report["target"]["before"]["0"]["accuracy"],
        "shots": report["retention"]["shots"],
        "threshold": target.threshold,
        "methods": entries,
        "recommendation": recommendation,
        "tried": [asdict(setting) for setting in target.settings],
        "failed": dict(target.failed),
    }


def _entries(
    config: CompareConfig, methods: Mapping[str, Sequence[Measured]], bases: Sequence[Measured]
) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """Every method with its figures over some targets, and which of them to take."""
    standings, entries = [], []
    for name, measured in methods.items():
        time = float(np.mean([one.seconds / base.seconds for one, base in zip(measured, bases, strict=True)]))
        tokens = float(np.mean([one.tokens / base.tokens for one, base in zip(measured, bases, strict=True)]))
        accuracy = _over_seeds([one.accuracies for one in measured], (0.0, 1.0))
        kept = _over_seeds([one.kept() for one in measured])
        few_shot = _over_seeds([one.few_shot for one in measured], (0.0, 1.0))
        assert accuracy is not None, "every report has a zero-shot accuracy"
        cost = time if config.cost == "time" else tokens
        standings.append(Standing(name, all(one.matched for one in measured), accuracy, kept, cost))
        estimate = None if kept is None else Estimate(kept.value, kept.low, kept.high)
        entries.append(
            {
                "method": name,
                "matched": standings[-1].matched,
                "accuracy": asdict(accuracy),
                "few_shot": few_shot and asdict(few_shot),
                "retention": kept and asdict(kept),
                "groups": {group: _group(measured, group) for group in GROUPS.values()},
                "gate": gate_verdict(estimate, config.gate.max_drop).verdict,
                "cost": {
                    "train_seconds": float(np.mean([one.seconds for one in measured])),
                    "tokens": float(np.mean([one.tokens for one in measured])),
                    "time_ratio": time,
                    "token_ratio": tokens,
                    "within": cost <= config.max_cost,
                },
            }
        )
    best = front(standings)
    for entry in entries:
        entry["on_front"] = entry["method"] in best
    found = recommend(standings, config.max_cost)
    return entries, {
        "verdict": found.verdict,
        "method": found.method and found.method.method,
        "next": found.next and found.next.method,
        "reason": _reason(config, found, standings),
    }


def _over_seeds(
    by_target: Sequence[Sequence[Estimate] | None], bounds: tuple[float, float] = (-np.inf, np.inf)
) -> Pooled | None:
    known = [estimates for estimates in by_target if estimates is not None]
    if len(known) < len(by_target):
        return None
    return pooled([averaged(of_seed) for of_seed in zip(*known, strict=True)], bounds)


def _group(measured: Sequence[Measured], group: str) -> dict[str, Any] | None:
    found = _over_seeds([one.kept(group) for one in measured])
    return None if found is None else asdict(found)


def _reason(config: CompareConfig, found: Recommendation, standings: Sequence[Standing]) -> str:
    """The recommendation's reason in one sentence."""
    bound = f"{config.match:.0%} of the validation accuracy of {config.baseline}"
    limit = f"{config.max_cost:g} x its {_unit(config)}"
    if found.method is None:
        if all(one.retention is None for one in standings):
            return "Retention could not be measured with this suite, so nothing speaks for any method"
        return f"No method reaches {bound} on every target at {limit} or less with a measurable retention"
    base = next(one for one in standings if one.method == config.baseline)
    first = _told(config, found.method)
    if found.method.method != config.baseline:
        first += f"; {config.baseline} has {wording.percent(base.accuracy.value, 1)}"
    if found.next is None:
        return f"{found.method.method} {first}; no other method reaches {bound} at {limit} or less"
    if found.verdict == "clear":
        return f"{found.method.method} {first}; the next, {found.next.method}, {_told(config, found.next)}"
    return (
        f"{found.method.method} and {found.next.method} cannot be told apart, since their intervals overlap: the "
        f"former {first}, the latter {_told(config, found.next)}; more seeds or demonstration sets would narrow them"
    )


def _told(config: CompareConfig, standing: Standing) -> str:
    assert standing.retention is not None
    kept = standing.retention
    shown = wording.estimate(record.Estimate(kept.value, record.Interval(kept.low, kept.high)), 1)
    return (
        f"keeps {shown} of the few-shot ability at a target accuracy of {wording.percent(standing.accuracy.value, 1)} "
        f"and {standing.cost:.2f} x the {_unit(config)}"
    )


def _unit(config: CompareConfig) -> str:
    return "training time" if config.cost == "time" else "tokens"
