"""Evaluations in the schema of lm-evaluation-harness's result files, for the tables and dashboards that read those.

The harness has one shot count per file. Its `stderr` is that of the mean over questions; here it is that of the mean
over demonstration sets, which holds the chance of which demonstrations are shown as well.
"""

import re
import time
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

from keepshot.errors import RunError
from keepshot.evaluation import Evaluation, mean_estimate
from keepshot.files import write_json
from keepshot.runs.folder import versions
from keepshot.tasks.example import Task

# The harness's names, where it has the metric. Its BLEU and chrF go from 0 to 100.
_METRICS = {
    ("exact_match", ""): "exact_match",
    ("options", ""): "acc",
    ("options", "sum"): "acc",
    ("options", "per_token"): "acc_per_token",
    ("options", "per_byte"): "acc_bytes",
    ("options", "pmi"): "acc_mutual_info",
    ("generate", ""): "exact_match",
    ("generate", "exact"): "exact_match",
}
_PERCENT = ("bleu", "chrf")

_OUTPUT_TYPES = {"options": "multiple_choice", "exact_match": "generate_until", "generate": "generate_until"}

# What the harness replaces in the name of a model to make that of a folder.
_NOT_IN_NAMES = re.compile(r'["<>:/|\\?*\[\]]+')


def lm_eval_results(evaluation: Evaluation, shots: int) -> dict[str, Any]:
    """The content of a result file of lm-evaluation-harness: every task that was asked with so many demonstrations.

    Keys whose values are not known here, such as the tokenizer's, are left out.

    Raises:
        RunError: No task was.
    """
    tasks = {name: task for name, task in evaluation.tasks.items() if (name, shots) in evaluation.cells}
    if not tasks:
        fitting = sorted({n for _, n in evaluation.cells})
        raise RunError(f"no task was asked with {shots} demonstrations; shot counts with results: {fitting or 'none'}")
    return {
        "results": {name: _metrics(evaluation, task, shots) for name, task in tasks.items()},
        "group_subtasks": {},
        "configs": {name: _config(task, shots) for name, task in tasks.items()},
        "versions": dict.fromkeys(tasks, "N/A"),
        "n-shot": dict.fromkeys(tasks, shots),
        "higher_is_better": {name: {_metric(task): True} for name, task in tasks.items()},
        "n-samples": {
            name: {"original": len(task.examples), "effective": len(evaluation.cells[name, shots])}
            for name, task in tasks.items()
        },
        "config": {
            "model": "keepshot",
            "model_args": {"pretrained": evaluation.model},
            "limit": None,
            "fewshot_seed": evaluation.plan.seed,
            "demonstration_sets": evaluation.sets,
        },
        "git_hash": None,
        "date": time.time(),
        "transformers_version": versions()["transformers"],
        "keepshot_version": versions()["keepshot"],
        "task_hashes": {},
        "model_source": "keepshot",
        "model_name": evaluation.model,
        "model_name_sanitized": _sanitised(evaluation.model),
    }


def write_lm_eval_results(evaluation: Evaluation, folder: Path) -> list[Path]:
    """Write a result file for every shot count that fits a task, where the harness's own tools look for them.

    They are `<folder>/<model>/results_<n>-shot_<time>.json`; nothing is overwritten.

    Returns:
        The files, fewest shots first.

    Raises:
        RunError: No shot count fits a task.
    """
    shots = sorted({n for _, n in evaluation.cells})
    if not shots:
        raise RunError("the evaluation has no results: no shot count fits a task")
    now = datetime.now().isoformat(timespec="microseconds").replace(":", "-")
    inner = folder / _sanitised(evaluation.model)
    paths = [inner / f"results_{n}-shot_{now}.json" for n in shots]
    for path, n in zip(paths, shots, strict=True):
        write_json(path, lm_eval_results(evaluation, n))
    return paths


def _metrics(evaluation: Evaluation, task: Task, shots: int) -> Mapping[str, Any]:
    values = evaluation.accuracy(task.name, shots)
    assert values, "a cell has items"
    scale = 100.0 if task.metric in _PERCENT else 1.0
    estimate = mean_estimate(values, first=evaluation.plan.sets)
    error = estimate.evidence.standard_error * scale if estimate and estimate.evidence else "N/A"
    name = _metric(task)
    return {
        "name": task.name,
        "alias": task.name,
        "sample_len": len(evaluation.cells[task.name, shots]),
        f"{name},none": scale * sum(values) / len(values),
        f"{name}_stderr,none": error,
    }


def _metric(task: Task) -> str:
    return _METRICS.get((task.scoring, task.metric), task.metric.rpartition(":")[2])


def _config(task: Task, shots: int) -> dict[str, Any]:
    config: dict[str, Any] = {
        "task": task.name,
        "output_type": _OUTPUT_TYPES[task.scoring],
        "num_fewshot": shots,
        "metric_list": [{"metric": _metric(task), "aggregation": "mean", "higher_is_better": True}],
        "repeats": 1,
        "should_decontaminate": False,
    }
    if task.wording:
        config["description"] = task.wording.description
        config["target_delimiter"] = task.wording.delimiter
        config["fewshot_delimiter"] = task.wording.separator
    if task.scoring == "generate":
        until = {"until": list(task.stop)} if task.stop else {}
        most = {"max_gen_toks": task.max_new_tokens} if task.max_new_tokens else {}
        config["generation_kwargs"] = {**until, **most, "do_sample": False}
    return config


def _sanitised(model: str) -> str:
    return _NOT_IN_NAMES.sub("__", model)
