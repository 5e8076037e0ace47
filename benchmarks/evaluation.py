"""Scoring time against its floor: tokens that must be computed x 2 x parameters / the machine's matrix rate.

    python -m benchmarks.evaluation

The tokens that must be computed are those of every growing context once, and of every query and answer once per shot
count. Rows without any sharing are timed beside it, on the first set of each task.
"""

import time

import torch

from benchmarks.machine import matrix_rate
from keepshot.episodes import demonstration_set
from keepshot.evaluate import EvaluationPlan, score_levels, score_rows
from keepshot.evaluate.scorer import shared_lengths
from keepshot.prompts import PLAIN, Row, encode
from keepshot.runs.evaluation import load_subject
from keepshot.tasks.builtin import builtin_suite

PLAN = EvaluationPlan(sets=1)


def _levels(subject, task) -> list[list[Row]]:
    drawn = demonstration_set(task, 0, sets=PLAN.sets, shots=max(PLAN.shots), queries=PLAN.queries, seed=0)
    return [
        encode([PLAIN.render([*drawn.demonstrations[:n], query]) for query in drawn.queries], subject.tokenizer)
        for n in PLAN.shots
    ]


def _needed(levels: list[list[Row]]) -> int:
    lengths = shared_lengths(levels)
    own = sum(row.answers[-1][1] - 1 - n for rows, n in zip(levels, lengths, strict=True) for row in rows)
    return own + lengths[-1]


def main() -> None:
    """Print times, the floor, and their ratio."""
    subject = load_subject("mini", "plain")
    parameters = sum(p.numel() for n, p in subject.model.named_parameters() if "embed" not in n)
    levels = [_levels(subject, task) for task in builtin_suite().tasks]
    score_levels(subject.model, levels[0])
    rate = matrix_rate()
    start = time.perf_counter()
    for task in levels:
        score_levels(subject.model, task)
    shared_s = time.perf_counter() - start
    start = time.perf_counter()
    for task in levels:
        for rows in task:
            score_rows(subject.model, rows)
    whole_s = time.perf_counter() - start
    floor_s = sum(map(_needed, levels)) * 2 * parameters / rate
    print(f"threads: {torch.get_num_threads()}, matrix rate {rate / 1e9:.0f} GFLOP/s")
    print(f"suite mini, one set, shots {PLAN.shots}: {shared_s:.2f} s; nothing shared: {whole_s:.2f} s")
    print(f"floor: {floor_s:.2f} s")
    print(f"ratio to rows without sharing: {whole_s / shared_s:.2f}")
    print(f"ratio: {shared_s / floor_s:.2f}")


if __name__ == "__main__":
    main()
