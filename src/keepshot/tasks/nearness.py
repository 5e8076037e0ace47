"""How much the inputs of two tasks look alike: forgetting is worst on inputs like the target's."""

from collections import Counter
from collections.abc import Sequence
from itertools import pairwise
from math import sqrt

from keepshot.tasks.example import Task

NEAR = 0.5
_MOST = 400  # inputs of a task that are looked at


def nearness(task: Task, other: Task) -> float:
    """Likeness of the inputs of two tasks, 0 to 1: 1 where they look alike as much as the inputs of one task do.

    The cosine of their counts of character pairs (beginnings and ends of words are characters), divided by the
    geometric mean of what the halves of each have with each other, so that tasks of few or very different inputs are
    not far from themselves.

    Example:
        >>> from keepshot.tasks.builtin import builtin_suite
        >>> tasks = {task.name: task for task in builtin_suite().tasks}
        >>> same, other = tasks["reverse-shift"], tasks["subtract-17"]
        >>> nearness(same, tasks["second-is-vowel"]) > 0.95, nearness(same, other) < 0.05
        (True, True)
    """
    inputs, others = ([example.input for example in one.examples[:_MOST]] for one in (task, other))
    ceiling = sqrt(_halves(inputs) * _halves(others))
    return min(1.0, _cosine(_pairs(inputs), _pairs(others)) / ceiling) if ceiling else 0.0


def is_near(task: Task, other: Task) -> bool:
    """Whether `nearness` is at least .5."""
    return nearness(task, other) >= NEAR


def _halves(inputs: Sequence[str]) -> float:
    return _cosine(_pairs(inputs[::2]), _pairs(inputs[1::2]))


def _pairs(inputs: Sequence[str]) -> Counter[tuple[str, str]]:
    return Counter(pair for text in inputs for word in text.split() for pair in pairwise(f" {word.casefold()} "))


def _cosine(first: Counter[tuple[str, str]], second: Counter[tuple[str, str]]) -> float:
    length = sqrt(sum(n * n for n in first.values()) * sum(n * n for n in second.values()))
    return sum(n * second[pair] for pair, n in first.items()) / length if length else 0.0
