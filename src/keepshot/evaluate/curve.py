"""The n-shot curve of a model on tasks."""

import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from transformers import PreTrainedTokenizerBase

from keepshot.episodes import DemonstrationSet, demonstration_set
from keepshot.evaluate.items import Item
from keepshot.evaluate.scorer import Score, score_levels
from keepshot.evaluate.statistics import mean_estimate
from keepshot.models.load import CausalLM
from keepshot.prompts import Row, Template, encode
from keepshot.tasks.example import Example, Suite, Task

Progress = Callable[[str, int, int], None]


@dataclass(frozen=True, slots=True)
class EvaluationPlan:
    """What is asked.

    Attributes:
        shots: Numbers of demonstrations, ascending.
        sets: Demonstration sets per task.
        queries: Queries per set; fewer for a task with fewer than `sets` x `queries` distinct inputs.
        seed: Of the draws; the same seed asks the same questions.
    """

    shots: tuple[int, ...] = (0, 1, 2, 4, 8, 16)
    sets: int = 8
    queries: int = 40
    seed: int = 0


@dataclass(frozen=True, slots=True)
class Subject:
    """Who is asked: a model with its tokenizer, template and context length in tokens."""

    name: str
    model: CausalLM
    tokenizer: PreTrainedTokenizerBase
    template: Template
    context_length: int


@dataclass(frozen=True, slots=True)
class Evaluation:
    """Everything that was asked and answered.

    Attributes:
        model: Name of the model.
        plan: What was asked.
        tasks: By name.
        cells: Items by task and shot count; a shot count that does not fit the context is absent.
        shared_context: Whether contexts were computed once; false where the architecture's cache cannot be forked.
    """

    model: str
    plan: EvaluationPlan
    tasks: Mapping[str, Task]
    cells: Mapping[tuple[str, int], tuple[Item, ...]]
    shared_context: bool = True

    @property
    def items(self) -> list[Item]:
        """All items in order of task and shots."""
        return [item for cell in self.cells.values() for item in cell]

    def accuracy(self, task: str, shots: int) -> list[float] | None:
        """Accuracy of a task in every set; None where the shot count does not fit."""
        return self._by_set(task, shots, lambda item: float(item.correct))

    def nll(self, task: str, shots: int) -> list[float] | None:
        """Answer NLL per token in every set, in nats; None where the shot count does not fit."""
        return self._by_set(task, shots, lambda item: item.nll)

    def _by_set(self, task: str, shots: int, value: Callable[[Item], float]) -> list[float] | None:
        groups: dict[int, list[float]] = {}
        for item in self.cells.get((task, shots), ()):
            groups.setdefault(item.set, []).append(value(item))
        return [float(np.mean(groups[s])) for s in sorted(groups)] or None


def evaluate_tasks(
    subject: Subject, suite: Suite, plan: EvaluationPlan, progress: Progress | None = None
) -> Evaluation:
    """Ask a model about every task of a suite at every shot count.

    Raises:
        DataError: A task has fewer distinct inputs than there are sets.
        RunError: The model gives NaN or infinite logits.
    """
    cells: dict[tuple[str, int], list[Item]] = {}
    shared = True
    done = 0
    for task in suite.tasks:
        fits = set(plan.shots)
        for index in range(plan.sets):
            drawn = demonstration_set(
                task, index, sets=plan.sets, shots=max(plan.shots), queries=plan.queries, seed=plan.seed
            )
            items, was_shared = _ask(subject, task, drawn, sorted(fits))
            shared &= was_shared
            fits &= set(items)
            for shots, found in items.items():
                cells.setdefault((task.name, shots), []).extend(found)
            done += 1
            if progress:
                progress(task.name, done, plan.sets * len(suite.tasks))
        for shots in set(plan.shots) - fits:  # a curve is over all sets or it is none
            cells.pop((task.name, shots), None)
    order = sorted(cells, key=lambda cell: ([task.name for task in suite.tasks].index(cell[0]), cell[1]))
    return Evaluation(
        subject.name, plan, {task.name: task for task in suite.tasks}, {c: tuple(cells[c]) for c in order}, shared
    )


def _ask(
    subject: Subject, task: Task, drawn: DemonstrationSet, shot_counts: Sequence[int]
) -> tuple[dict[int, list[Item]], bool]:
    """Items of one demonstration set by shot count, for the shot counts whose every prompt fits the context."""
    candidates = [_candidates(task, query) for query in drawn.queries]
    flat = [(query, answer) for query, answers in zip(drawn.queries, candidates, strict=True) for answer in answers]
    counts = [n for n in shot_counts if n <= len(drawn.demonstrations)]
    prompts = [
        subject.template.render([*drawn.demonstrations[:n], _answered(query, answer)])
        for n in counts
        for query, answer in flat
    ]
    rows = encode(prompts, subject.tokenizer)
    levels = {n: rows[i * len(flat) : (i + 1) * len(flat)] for i, n in enumerate(counts)}
    levels = {n: level for n, level in levels.items() if max(len(r.ids) for r in level) <= subject.context_length}
    if not levels:
        return {}, True
    # Not the padding token: some models would warn of a missing mask, which padding on the right does not need.
    filler = int(subject.tokenizer.pad_token_id == 0)
    scores, shared = score_levels(subject.model, list(levels.values()), pad_id=filler)
    return {
        n: list(_items(subject, task, drawn, n, levels[n], found)) for n, found in zip(levels, scores, strict=True)
    }, shared


def _candidates(task: Task, query: Example) -> tuple[str, ...]:
    """The answers to score: all options with the right one first, or every answer that counts."""
    if task.scoring == "options":
        return (query.output, *(option for option in query.options if option != query.output))
    return query.answers


def _answered(query: Example, answer: str) -> Example:
    return query if answer == query.output else replace(query, output=answer)


def _items(
    subject: Subject,
    task: Task,
    drawn: DemonstrationSet,
    shots: int,
    rows: Sequence[Row],
    scores: Sequence[Score],
) -> Iterator[Item]:
    at = 0
    for index, query in enumerate(drawn.queries):
        answers = _candidates(task, query)
        mine = scores[at : at + len(answers)]
        gold, row = mine[0], rows[at]
        at += len(answers)
        if task.scoring == "options":
            # Equal likelihoods (16-bit logits are coarse) go to the option that the question names first: the right
            # one stands first among `answers`, and must not win by that.
            likelihood = {answer: score.log_likelihood for answer, score in zip(answers, mine, strict=True)}
            predicted = max(dict.fromkeys((*query.options, *answers)), key=lambda option: likelihood[option])
            correct = predicted == query.output
        else:
            hit = next((i for i, score in enumerate(mine) if score.exact), None)
            correct = hit is not None
            predicted = answers[hit] if hit is not None else subject.tokenizer.decode(list(gold.written)).strip()
        prompt = hashlib.blake2b(repr(row.ids[: row.answers[-1][0]]).encode(), digest_size=8).hexdigest()
        yield Item(
            task.name,
            drawn.index,
            shots,
            index,
            prompt,
            query.output,
            predicted,
            correct,
            -gold.log_likelihood / gold.num_tokens,
        )


def curve_points(evaluation: Evaluation, tasks: Sequence[str]) -> dict[str, dict[str, Any] | None]:
    """The curve of the mean over `tasks`, as the JSON contract has it: null where a shot count does not fit them all.

    Returns:
        Per shot count `accuracy`, `nll` (nats per answer token), `low` and `high` (95 % interval of the accuracy over
        demonstration sets; equal to the accuracy's bounds 0 and 1 for a single set), and `n` (questions asked).
    """
    curve: dict[str, dict[str, Any] | None] = {}
    for shots in evaluation.plan.shots:
        accuracies = [evaluation.accuracy(task, shots) for task in tasks]
        nlls = [evaluation.nll(task, shots) for task in tasks]
        if not tasks or any(values is None for values in accuracies):
            curve[str(shots)] = None
            continue
        by_set = np.mean(np.asarray(accuracies, dtype=np.float64), axis=0)
        estimate = mean_estimate(by_set.tolist(), bounds=(0.0, 1.0))
        curve[str(shots)] = {
            "accuracy": float(by_set.mean()),
            "nll": float(np.mean(np.asarray(nlls, dtype=np.float64))),
            "low": estimate.low if estimate else 0.0,
            "high": estimate.high if estimate else 1.0,
            "n": sum(len(evaluation.cells[task, shots]) for task in tasks),
        }
    return curve
