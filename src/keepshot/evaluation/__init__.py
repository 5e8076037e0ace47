"""n-shot curves with intervals, retention, and the gate."""

from keepshot.evaluation.asking import Subject
from keepshot.evaluation.backend import Backend, Score
from keepshot.evaluation.curve import Evaluation, curve_points, evaluate_tasks, few_shot_tasks
from keepshot.evaluation.gate import GateResult, Verdict, gate_report, gate_verdict
from keepshot.evaluation.items import Item, read_items, write_items
from keepshot.evaluation.local import LocalModel, model_identity
from keepshot.evaluation.metrics import OPTION_METRICS, TEXT_METRICS
from keepshot.evaluation.plan import EvaluationPlan, Processes
from keepshot.evaluation.retention import (
    check_paired,
    difference,
    format_matches,
    gain_kept,
    headline_shots,
    retention,
    retention_report,
    unmeasurable,
)
from keepshot.evaluation.scorer import Scorer, score_levels, score_rows
from keepshot.evaluation.statistics import (
    Estimate,
    Evidence,
    mean_estimate,
    minimum_detectable,
    ratio_estimate,
    sets_for,
    sets_needed,
    unseen,
)
from keepshot.evaluation.store import AnswerStore, StoredAnswers

__all__ = [
    "OPTION_METRICS",
    "TEXT_METRICS",
    "AnswerStore",
    "Backend",
    "Estimate",
    "Evaluation",
    "EvaluationPlan",
    "Evidence",
    "GateResult",
    "Item",
    "LocalModel",
    "Processes",
    "Score",
    "Scorer",
    "StoredAnswers",
    "Subject",
    "Verdict",
    "check_paired",
    "curve_points",
    "difference",
    "evaluate_tasks",
    "few_shot_tasks",
    "format_matches",
    "gain_kept",
    "gate_report",
    "gate_verdict",
    "headline_shots",
    "mean_estimate",
    "minimum_detectable",
    "model_identity",
    "ratio_estimate",
    "read_items",
    "retention",
    "retention_report",
    "score_levels",
    "score_rows",
    "sets_for",
    "sets_needed",
    "unmeasurable",
    "unseen",
    "write_items",
]
