"""n-shot curves with intervals, retention, and the gate."""

from keepshot.evaluate.curve import Evaluation, EvaluationPlan, Subject, curve_points, evaluate_tasks
from keepshot.evaluate.gate import GateResult, Verdict, gate_verdict
from keepshot.evaluate.items import Item, read_items, write_items
from keepshot.evaluate.retention import (
    check_paired,
    format_matches,
    gain_kept,
    headline_shots,
    retention,
    retention_report,
)
from keepshot.evaluate.scorer import Score, score_levels, score_rows
from keepshot.evaluate.statistics import Estimate, mean_estimate, ratio_estimate

__all__ = [
    "Estimate",
    "Evaluation",
    "EvaluationPlan",
    "GateResult",
    "Item",
    "Score",
    "Subject",
    "Verdict",
    "check_paired",
    "curve_points",
    "evaluate_tasks",
    "format_matches",
    "gain_kept",
    "gate_verdict",
    "headline_shots",
    "mean_estimate",
    "ratio_estimate",
    "read_items",
    "retention",
    "retention_report",
    "score_levels",
    "score_rows",
    "write_items",
]
