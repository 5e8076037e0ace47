"""The n-shot curve of a model on tasks."""

import math
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from keepshot.episodes import DemonstrationSet, demonstration_set
from keepshot.evaluation.asking import Subject, ask
from keepshot.evaluation.items import Item
from keepshot.evaluation.metrics import text_metric
from keepshot.evaluation.plan import EvaluationPlan, Processes
from keepshot.evaluation.statistics import mean_estimate, sets_needed, unseen
from keepshot.tasks.example import Suite, Task

Progress = Callable[[str, int, int], None]
"""Takes a task's name, sets done and sets in all."""


@dataclass(frozen=True, slots=True)
class Evaluation:
    """Everything that was asked and answered.

    Attributes:
        model: Name of the model.
        plan: What was asked.
        tasks: By name.
        cells: Items by task and shot count; a shot count that does not fit the context, or that a task which is asked
            zero-shot alone does not have, is absent.
        shared_context: Whether contexts and queries were computed once; false where the architecture does not allow it.
    """

    model: str
    plan: EvaluationPlan
    tasks: Mapping[str, Task]
    cells: Mapping[tuple[str, int], tuple[Item, ...]]
    shared_context: bool = True

    @property
    def sets(self) -> int:
        """Demonstration sets that were asked: more than the plan's where `until` asked for more."""
        return max((1 + item.set for cell in self.cells.values() for item in cell), default=self.plan.sets)

    @property
    def items(self) -> list[Item]:
        """All items in order of task and shots."""
        return [item for cell in self.cells.values() for item in cell]

    def only(self, tasks: Collection[str]) -> "Evaluation":
        """The part that is about these tasks."""
        asked = {name: task for name, task in self.tasks.items() if name in tasks}
        cells = {cell: items for cell, items in self.cells.items() if cell[0] in tasks}
        return replace(self, tasks=asked, cells=cells)

    def accuracy(self, task: str, shots: int) -> list[float] | None:
        """Accuracy (or what else the task's metric gives) in every set; None where the shot count does not fit."""
        asked = self.tasks[task]
        corpus = text_metric(asked.metric).corpus if asked.scoring == "generate" else None

        def value(items: Sequence[Item]) -> float:
            if corpus is None:
                return float(np.mean([item.score for item in items]))
            return corpus([item.predicted for item in items], [(item.answer, *item.aliases) for item in items])

        return self._by_set(task, shots, value)

    def nll(self, task: str, shots: int) -> list[float] | None:
        """Answer NLL per token in every set, in nats; None where the shot count does not fit."""
        return self._by_set(task, shots, lambda items: float(np.mean([item.nll for item in items])))

    def _by_set(self, task: str, shots: int, value: Callable[[Sequence[Item]], float]) -> list[float] | None:
        groups: dict[int, list[Item]] = {}
        for item in self.cells.get((task, shots), ()):
            groups.setdefault(item.set, []).append(item)
        return [value(groups[index]) for index in sorted(groups)] or None


@dataclass(frozen=True, slots=True)
class _Answered:
    """One demonstration set of a task with its items by shot count."""

    task: int
    set: int
    items: Mapping[int, list[Item]]


def evaluate_tasks(
    subject: Subject,
    suite: Suite,
    plan: EvaluationPlan,
    progress: Progress | None = None,
    processes: Processes = Processes(),  # noqa: B008 (frozen)
    sets: int | None = None,
) -> Evaluation:
    """Ask a model about every task of a suite at every shot count.

    Args:
        subject: Who is asked.
        suite: The tasks.
        plan: What is asked about each.
        progress: Called with a task's name, sets done and sets in all, of this process.
        processes: Who else asks a part; every one of them returns the whole evaluation.
        sets: With `plan.until`, ask so many instead of finding out: another model is asked as many.

    Raises:
        DataError: A task has fewer distinct inputs than there are sets.
        RunError: The model gives NaN or infinite logits.
    """
    suite = plan.suite(suite)

    def ask_sets(first: int, end: int) -> list[_Answered]:
        units = processes.mine([(task, index) for task in range(len(suite.tasks)) for index in range(first, end)])
        answered = []
        fits = {task: _asked_shots(suite.tasks[task], plan) for task, _ in units}
        for done, (task, index) in enumerate(units, start=1):
            drawn = _draw(suite.tasks[task], index, plan)
            found = ask(subject, suite.tasks[task], drawn, fits[task]) if fits[task] else {}
            fits[task] = tuple(found)  # a curve is over all sets or it is none
            answered.append(_Answered(task, index, found))
            if progress:
                progress(suite.tasks[task].name, done, len(units))
        return sorted(processes.gather(answered), key=lambda unit: (unit.task, unit.set))

    answered = ask_sets(0, plan.sets)
    found = _evaluation(subject, suite, plan, answered)
    if plan.until is None:
        return found
    wanted = sets or _sets_wanted(found, plan.until)
    return _evaluation(subject, suite, plan, [*answered, *ask_sets(plan.sets, wanted)])


def few_shot_tasks(tasks: Iterable[Task]) -> list[str]:
    """Names of the tasks that are asked with demonstrations: those that few-shot ability is measured on."""
    return [task.name for task in tasks if not task.zero_shot]


def _asked_shots(task: Task, plan: EvaluationPlan) -> tuple[int, ...]:
    return tuple(n for n in plan.shots if not n) if task.zero_shot else plan.shots


def _draw(task: Task, index: int, plan: EvaluationPlan) -> DemonstrationSet:
    return demonstration_set(
        task,
        index,
        sets=plan.dealt_sets,
        shots=max(_asked_shots(task, plan), default=0),
        queries=plan.queries,
        seed=plan.seed,
        balanced=plan.balanced,
    )


def _sets_wanted(first: Evaluation, half_width: float) -> int:
    """Sets after which the mean accuracy at the largest shot count that fits all tasks is known well enough."""
    tasks = few_shot_tasks(first.tasks.values())
    fits = [n for n in first.plan.shots if tasks and all((task, n) in first.cells for task in tasks)]
    if not fits:
        return first.plan.sets
    per_set = len(tasks) * min(len(first.cells[task, max(fits)]) for task in tasks) / first.plan.sets
    at_least = math.ceil(unseen(1) / per_set / half_width)  # fewer questions could hide a change of that size
    by_spread = sets_needed(_mean_by_set(first, tasks, max(fits)), half_width, first.plan.dealt_sets)
    return min(max(at_least, by_spread), first.plan.dealt_sets)


def _evaluation(subject: Subject, suite: Suite, plan: EvaluationPlan, answered: Sequence[_Answered]) -> Evaluation:
    cells: dict[tuple[str, int], tuple[Item, ...]] = {}
    for index, task in enumerate(suite.tasks):
        sets = [unit.items for unit in answered if unit.task == index]
        for shots in plan.shots:
            if all(shots in items for items in sets):
                cells[task.name, shots] = tuple(item for items in sets for item in items[shots])
    return Evaluation(subject.name, plan, {task.name: task for task in suite.tasks}, cells, subject.backend.shares)


def curve_points(evaluation: Evaluation, tasks: Sequence[str]) -> dict[str, dict[str, Any] | None]:
    """The curve of the mean over `tasks`, as the JSON contract has it: null where a shot count does not fit them all.

    Returns:
        Per shot count `accuracy`, `nll` (nats per answer token), `low` and `high` (95 % interval of the accuracy over
        demonstration sets; equal to the accuracy's bounds 0 and 1 for a single set), and `n` (questions asked).
    """
    curve: dict[str, dict[str, Any] | None] = {}
    for shots in evaluation.plan.shots:
        if not tasks or any((task, shots) not in evaluation.cells for task in tasks):
            curve[str(shots)] = None
            continue
        by_set = _mean_by_set(evaluation, tasks, shots)
        nlls = [evaluation.nll(task, shots) for task in tasks]
        asked = sum(len(evaluation.cells[task, shots]) for task in tasks)
        least = unseen(len(tasks) * min(len(evaluation.cells[task, shots]) for task in tasks))
        estimate = mean_estimate(by_set, bounds=(0.0, 1.0), first=evaluation.plan.sets, least=least)
        curve[str(shots)] = {
            "accuracy": float(np.mean(by_set)),
            "nll": float(np.mean(np.asarray(nlls, dtype=np.float64))),
            "low": estimate.low if estimate else 0.0,
            "high": estimate.high if estimate else 1.0,
            "n": asked,
        }
    return curve


def _mean_by_set(evaluation: Evaluation, tasks: Sequence[str], shots: int) -> list[float]:
    """Mean accuracy over tasks in every demonstration set."""
    values = np.asarray([evaluation.accuracy(task, shots) for task in tasks], dtype=np.float64)
    return [float(mean) for mean in values.mean(axis=0)]
