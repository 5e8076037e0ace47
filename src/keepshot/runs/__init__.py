"""Whole jobs: the only room that knows both training and evaluation."""

from keepshot.evaluation import EvaluationPlan
from keepshot.runs.data import load_suites
from keepshot.runs.evaluation import evaluate, evaluate_against
from keepshot.runs.evaluation_files import against_json, evaluation_json, half_width, load_evaluation, save_evaluation
from keepshot.runs.folder import RunFolder
from keepshot.runs.judging import gate
from keepshot.runs.subjects import default_cache
from keepshot.runs.tour import demo
from keepshot.runs.tuning import tune

__all__ = [
    "EvaluationPlan",
    "RunFolder",
    "against_json",
    "default_cache",
    "demo",
    "evaluate",
    "evaluate_against",
    "evaluation_json",
    "gate",
    "half_width",
    "load_evaluation",
    "load_suites",
    "save_evaluation",
    "tune",
]
