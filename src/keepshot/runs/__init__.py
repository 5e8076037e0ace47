"""Whole jobs: the only room that knows both training and evaluation."""

from keepshot.evaluate import EvaluationPlan
from keepshot.runs.data import load_suites
from keepshot.runs.evaluation import evaluate, evaluation_json, load_evaluation, save_evaluation
from keepshot.runs.folder import RunFolder
from keepshot.runs.judging import gate
from keepshot.runs.tour import demo
from keepshot.runs.tuning import tune

__all__ = [
    "EvaluationPlan",
    "RunFolder",
    "demo",
    "evaluate",
    "evaluation_json",
    "gate",
    "load_evaluation",
    "load_suites",
    "save_evaluation",
    "tune",
]
