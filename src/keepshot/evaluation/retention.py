"""How much few-shot ability is left: retention and its companions.

Retention at n shots is the sum over tasks of (after - chance) divided by the sum of (before - chance). All tasks of the
suite that are asked with demonstrations enter, never a choice made by looking at this run's results.
"""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np

from keepshot.errors import RunError
from keepshot.evaluation.curve import Evaluation, few_shot_tasks
from keepshot.evaluation.items import Item
from keepshot.evaluation.statistics import Estimate, mean_estimate, minimum_detectable, ratio_estimate, unseen
from keepshot.tasks.example import Task
from keepshot.tasks.nearness import is_near

# A denominator that may be this small (mean over tasks of accuracy above chance) makes the ratio say nothing.
SMALLEST_DENOMINATOR = 0.1

Groups = Mapping[str, Sequence[str]]


def retention(before: Evaluation, after: Evaluation, tasks: Sequence[str], shots: int) -> Estimate | None:
    """Retention over `tasks` at a shot count.

    Where n questions were asked in all, its interval reaches at least 3/n divided by the mean of (before - chance) to
    either side. Tasks weigh the same, so n is the number of tasks times the fewest questions of one.

    Returns:
        None where the shot count does not fit all tasks, or the base is not clearly above chance (the lower bound of
        the denominator is at most .1 per task), or there are fewer than two demonstration sets.
    """
    base, tuned = _above_chance(before, tasks, shots), _above_chance(after, tasks, shots)
    if base is None or tuned is None:
        return None
    return _ratio(tuned, base, before.plan.sets, least=_unseen(before, tasks, shots))


def difference(before: Evaluation, after: Evaluation, tasks: Sequence[str], shots: int) -> Estimate | None:
    """Accuracy after minus before, the mean over `tasks` at a shot count, paired by demonstration set.

    Its interval reaches at least 3/n to either side, n as in `retention`.

    Returns:
        None where the shot count does not fit all tasks, or there are fewer than two demonstration sets.
    """
    base, tuned = _above_chance(before, tasks, shots), _above_chance(after, tasks, shots)
    if base is None or tuned is None:
        return None
    return mean_estimate((tuned - base).tolist(), first=before.plan.sets, least=_unseen(before, tasks, shots))


def gain_kept(before: Evaluation, after: Evaluation, tasks: Sequence[str], shots: int) -> Estimate | None:
    """How much of the gain from demonstrations (n-shot minus zero-shot accuracy) is left; None as in `retention`."""
    gains = []
    for evaluation in (before, after):
        many, none = _above_chance(evaluation, tasks, shots), _above_chance(evaluation, tasks, 0)
        if many is None or none is None or not shots:
            return None
        gains.append(many - none)
    # Both ends of a gain may have missed as much.
    return _ratio(gains[1], gains[0], before.plan.sets, _unseen(before, tasks, 0) + _unseen(before, tasks, shots))


def headline_shots(before: Evaluation, after: Evaluation, tasks: Sequence[str]) -> int | None:
    """The largest shot count that fits every task; None if only zero-shot does, or there is no task."""
    fits = [
        n
        for n in before.plan.shots
        if n > 0 and tasks and all((task, n) in evaluation.cells for evaluation in (before, after) for task in tasks)
    ]
    return max(fits, default=None)


def retention_report(
    before: Evaluation, after: Evaluation, target: Task | None = None, practised: Collection[str] = ()
) -> dict[str, Any]:
    """The `retention` part of `report.json`: the headline, every shot count, NLL, gain kept, and groups of tasks.

    Tasks that are asked zero-shot alone have no part in these figures; their groups give retention at 0 shots.

    With a target, tasks are grouped by whether answers have its format, and by whether inputs are like its own. With
    `practised`, the families of tasks that training showed in few-shot form, by whether theirs is one of these: what
    is kept of the families that were practised flatters a method.

    `minimum_detectable_drop` is the drop from 1 that would be found significant with 80 % power, at the spread of the
    headline.
    """
    tasks = few_shot_tasks(before.tasks.values())
    shots = headline_shots(before, after, tasks)
    value = retention(before, after, tasks, shots) if shots is not None else None
    report: dict[str, Any] = {**_fields(value), "shots": shots}
    report["minimum_detectable_drop"] = minimum_detectable(value) if value else None
    if value is None:
        report["reason"] = _why_none(before, tasks, shots)
    report["by_shots"] = {
        str(n): asdict(found) if (found := retention(before, after, tasks, n)) else None for n in before.plan.shots
    }
    report["nll"] = _nll(before, after, tasks, shots)
    report["gain_kept"] = None
    report["groups"] = {}
    if shots is not None:
        kept = gain_kept(before, after, tasks, shots)
        report["gain_kept"] = asdict(kept) if kept else None
        asked = {task: before.tasks[task] for task in tasks}
        for name, members in _groups(asked, target, practised).items():
            report["groups"][name] = _part(before, after, members, shots)
    for name, members in _groups_of_instructions(before).items():
        report["groups"][name] = _part(before, after, members, 0)
    return report


def unmeasurable(before: Evaluation) -> str:
    """Why no retention can be told of this base, whatever becomes of it; empty where one can."""
    tasks = few_shot_tasks(before.tasks.values())
    shots = headline_shots(before, before, tasks)
    if shots is not None and retention(before, before, tasks, shots) is not None:
        return ""
    return _why_none(before, tasks, shots)


def check_paired(before: Evaluation, after: Evaluation) -> None:
    """Make sure that both evaluations asked the same prompts, wherever a shot count fitted a task in both.

    Raises:
        RunError: They did not; names the first task, shot count, set and query whose prompts differ.
    """
    for task, shots in (cell for cell in before.cells if cell in after.cells):
        asked, again = _prompts(before.cells[task, shots]), _prompts(after.cells[task, shots])
        for place in asked | again:
            if asked.get(place) != again.get(place):
                raise RunError(
                    f"task {task!r}, {shots} shots, set {place[0]}, query {place[1]}: the two evaluations asked "
                    "different prompts; data, template or tokenizer changed in between; delete the evaluations and the "
                    "tuned model, or start a new run"
                )


def format_matches(task: Task, target: Task | None) -> bool:
    """Whether a task's answers have the target's format: both a finite label set, or both open text."""
    return target is not None and bool(task.labels) == bool(target.labels)


def _groups(tasks: Mapping[str, Task], target: Task | None, practised: Collection[str]) -> dict[str, list[str]]:
    tests: dict[str, Callable[[Task], bool]] = {
        "suite": lambda task: task.group == "suite",
        "own-input": lambda task: task.group == "own-input",
        "knowledge": lambda task: task.group == "knowledge",
    }
    if target is not None:
        tests["format matches target"] = lambda task: format_matches(task, target)
        tests["format differs"] = lambda task: not format_matches(task, target)
        tests["inputs like target"] = lambda task: is_near(task, target)
        tests["inputs unlike target"] = lambda task: not is_near(task, target)
    if practised:
        tests["families practised"] = lambda task: task.family in practised
        tests["other families"] = lambda task: bool(task.family) and task.family not in practised
    found = {name: [t for t, task in tasks.items() if test(task)] for name, test in tests.items()}
    return {name: members for name, members in found.items() if members}


def _groups_of_instructions(before: Evaluation) -> dict[str, list[str]]:
    """Tasks that are asked zero-shot alone, by their group."""
    found: dict[str, list[str]] = {}
    for name, task in before.tasks.items():
        if task.zero_shot:
            found.setdefault(task.group, []).append(name)
    return found


def _part(before: Evaluation, after: Evaluation, tasks: Sequence[str], shots: int) -> dict[str, Any] | None:
    """Retention of a part of the suite."""
    found = retention(before, after, tasks, shots)
    return {**asdict(found), "tasks": len(tasks), "shots": shots} if found else None


def _prompts(items: Sequence[Item]) -> dict[tuple[int, int], str]:
    """What was asked, by set and query."""
    return {(item.set, item.query): item.prompt for item in items}


def _above_chance(evaluation: Evaluation, tasks: Sequence[str], shots: int) -> np.ndarray | None:
    """Per demonstration set, the mean over tasks of accuracy minus chance."""
    values = [evaluation.accuracy(task, shots) for task in tasks]
    if not tasks or any(value is None for value in values):
        return None
    chance = np.array([[evaluation.tasks[task].chance] for task in tasks])
    return np.mean(np.asarray(values, dtype=np.float64) - chance, axis=0)


def _ratio(numerator: np.ndarray, denominator: np.ndarray, first: int, least: float = 0.0) -> Estimate | None:
    size = mean_estimate(denominator.tolist(), first=first)
    if size is None or size.low <= SMALLEST_DENOMINATOR:
        return None
    return ratio_estimate(numerator.tolist(), denominator.tolist(), first, least)


def _unseen(evaluation: Evaluation, tasks: Sequence[str], shots: int) -> float:
    """The change in mean accuracy that all the questions asked may well have missed."""
    return unseen(len(tasks) * min(len(evaluation.cells[task, shots]) for task in tasks))


def _nll(before: Evaluation, after: Evaluation, tasks: Sequence[str], shots: int | None) -> dict[str, float] | None:
    if shots is None:
        return None
    means = {}
    for name, evaluation in (("before", before), ("after", after)):
        means[name] = float(np.mean([evaluation.nll(task, shots) for task in tasks]))
    return means


def _fields(value: Estimate | None) -> dict[str, Any]:
    return asdict(value) if value else dict.fromkeys(("value", "low", "high", "evidence"))


def _why_none(before: Evaluation, tasks: Sequence[str], shots: int | None) -> str:
    if not tasks:
        return "the suite has no tasks that are asked with examples; choose one that has"
    if max(before.plan.shots) == 0:
        return "no shot count above 0 was asked for; add some, such as 4 and 16"
    if shots is None:
        return "no shot count above 0 fits the context in every task; use shorter tasks or fewer shots"
    if before.plan.sets < 2:
        return "one demonstration set shows no spread; evaluate at least 2 (8 by default)"
    base = _above_chance(before, tasks, shots)
    assert base is not None
    size = mean_estimate(base.tolist(), first=before.plan.sets)
    assert size is not None
    able = size.value > SMALLEST_DENOMINATOR
    return (
        f"at {shots} shots the base lies {size.value:+.2f} from chance on average (95 % interval from {size.low:+.2f}; "
        f"more than {SMALLEST_DENOMINATOR:+} is needed); "
        f"{f'ask more than {before.sets} demonstration sets' if able else 'choose a suite that the base can do'}"
    )
