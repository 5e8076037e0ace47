"""What an evaluation asks."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TypeVar

from keepshot.errors import ConfigError
from keepshot.evaluation.metrics import OPTION_METRICS, TEXT_METRICS, check_metric, text_metric
from keepshot.tasks.example import Suite, Task
from keepshot.tasks.variants import LabelVariant, relabelled_suite

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class EvaluationPlan:
    """What is asked.

    Attributes:
        shots: Numbers of demonstrations, ascending.
        sets: Demonstration sets per task; with `until`, those of the first stage.
        queries: Queries per set; fewer for a task with fewer than `sets` x `queries` distinct inputs.
        seed: Of the draws; the same seed asks the same questions.
        balanced: Whether the first n demonstrations hold every label as evenly as possible.
        until: Ask more sets until half the 95 % interval of the mean accuracy at the largest shot count is at most
            this; None asks `sets`.
        most_sets: With `until`, the most sets; the questions of a task are dealt out to so many.
        labels: What classification tasks show and ask: `true`, `flipped`, `random` or `symbols`; with another than
            `true`, tasks without labels are left out. See `keepshot.tasks.variants`.
        metric: Instead of the tasks' own, for those that it goes with: one of options (such as `per_byte`) for tasks
            with options, one of texts (such as `f1`) for all others, whose answers are then written freely.
    """

    shots: tuple[int, ...] = (0, 1, 2, 4, 8, 16)
    sets: int = 8
    queries: int = 40
    seed: int = 0
    balanced: bool = False
    until: float | None = None
    most_sets: int = 32
    labels: LabelVariant = "true"
    metric: str = ""

    def __post_init__(self) -> None:
        if list(self.shots) != sorted(set(self.shots)) or not self.shots or self.shots[0] < 0:
            raise ConfigError(f"shots must be ascending whole numbers from 0, each once; got {list(self.shots)}")
        if min(self.sets, self.queries, self.most_sets) < 1:
            raise ConfigError(
                f"sets, queries and most_sets must be 1 or more; got {self.sets}, {self.queries} and {self.most_sets}"
            )
        if self.until is not None and not 0 < self.until < 1:
            raise ConfigError(f"until is half an interval of an accuracy, between 0 and 1; got {self.until}")
        if self.until is not None and self.sets < 2:
            raise ConfigError("until needs at least 2 sets, whose spread tells how many more to ask")
        if self.metric and self.metric not in (*OPTION_METRICS, *TEXT_METRICS) and ":" not in self.metric:
            raise ConfigError(
                f"there is no metric {self.metric!r}; choose {', '.join(OPTION_METRICS)} for options, or "
                f"{', '.join(TEXT_METRICS)} or package.module:function for written answers"
            )

    def suite(self, suite: Suite) -> Suite:
        """The tasks as they are asked.

        Raises:
            ConfigError: `labels` are unknown, `metric` goes with no task, or a task's metric cannot be used.
            DataError: No task is left.
        """
        asked, _ = relabelled_suite(suite, self.labels, self.seed)
        if self.metric and not any(_goes_with(task, self.metric) for task in asked.tasks):
            kind = "options" if self.metric in OPTION_METRICS else "answers to write"
            raise ConfigError(f"no task of suite {suite.name!r} has {kind}, which metric {self.metric!r} compares")
        tasks = tuple(with_metric(task, self.metric) for task in asked.tasks)
        for task in tasks:
            check_metric(task.scoring, task.metric)
            if task.scoring == "generate":
                text_metric(task.metric)
        return Suite(asked.name, tasks)

    def left_out(self, suite: Suite) -> tuple[str, ...]:
        """Names of the tasks that cannot be asked with these `labels`."""
        return relabelled_suite(suite, self.labels, self.seed)[1]

    @property
    def dealt_sets(self) -> int:
        """How many sets share a task's questions, asked or not."""
        return self.sets if self.until is None else max(self.sets, self.most_sets)


def with_metric(task: Task, metric: str) -> Task:
    """The task, judged by another metric if that goes with it; see `EvaluationPlan.metric`."""
    if not metric or not _goes_with(task, metric):
        return task
    return replace(task, metric=metric, scoring="options" if task.scoring == "options" else "generate")


def _goes_with(task: Task, metric: str) -> bool:
    return (task.scoring == "options") == (metric in OPTION_METRICS)


def _alone(found: list[T]) -> list[T]:
    return found


@dataclass(frozen=True, slots=True)
class Processes:
    """Processes that share an evaluation: each asks its part, all have the whole.

    Attributes:
        index: Which of them this is.
        count: How many there are.
        gather: From this process's list to the lists of all, one after the other.
    """

    index: int = 0
    count: int = 1
    gather: Callable[[list], list] = _alone

    def mine(self, units: Sequence[T]) -> list[T]:
        """Every `count`-th unit, from this process's own on."""
        return list(units[self.index :: self.count])
