"""Tasks in the layout of the pattern problems, under other rules: for a base that reads examples of such problems.

The problems that a model is asked to solve later are `keepshot.tasks.patterns`; their own rule and their own shortcut,
with their own labels, are never drawn here, and inputs are of the problems' training part alone.
"""

from collections.abc import Callable
from functools import partial
from random import Random
from typing import get_args

from keepshot.tasks.patterns.draw import INSTRUCTIONS, REPAIRED, PatternName, split_of
from keepshot.tasks.universe.problem_rules import LEFT_OUT, NUMBERS, PROPERTIES
from keepshot.tasks.universe.task import SyntheticTask

LAYOUTS: tuple[PatternName, ...] = get_args(PatternName)
_PAIRS = (("even", "odd"), ("True", "False"), ("yes", "no"), ("high", "low"), ("A", "B"), ("1", "0"))
_WORDS = (*_PAIRS, *((second, first) for first, second in _PAIRS))
_INSTRUCTED_SHARE = 0.5  # of tasks, whatever their rule: examples decide, the instruction does not


def problem_task(random: Random, layout: PatternName | None = None) -> SyntheticTask:
    """A task over questions of one problem: a property of them under two labels, or a number that stands in them.

    Args:
        random: Its state moves on.
        layout: The problem; drawn unless told.

    Example:
        >>> task = problem_task(Random(0), "parity")
        >>> task.name, task.answer("3 8 2")
        ('parity largest-even high/low', 'high')
    """
    chosen = random.choice(LAYOUTS) if layout is None else layout
    instruction = INSTRUCTIONS[chosen] if random.random() < _INSTRUCTED_SHARE else ""
    name, answer = _labelled(random, chosen) if chosen in PROPERTIES else _counted(random, chosen)
    return SyntheticTask("problems", f"{chosen} {name}", partial(_question, layout=chosen), answer, instruction)


def _question(random: Random, layout: PatternName) -> str:
    """Of the training part; its regularity holds as often as not, so that examples tell rule and shortcut apart."""
    while True:
        item = REPAIRED[layout](random, random.random() < 0.5, "small", 0)
        if split_of(item) == "train":
            return item.question


def _labelled(random: Random, layout: PatternName) -> tuple[str, Callable[[str], str]]:
    properties = PROPERTIES[layout]
    allowed = [(name, words) for name in properties for words in _WORDS if (name, words) not in LEFT_OUT[layout]]
    name, (yes, no) = random.choice(allowed)
    holds = properties[name]
    return f"{name} {yes}/{no}", lambda text: yes if holds(text) else no


def _counted(random: Random, layout: PatternName) -> tuple[str, Callable[[str], str]]:
    numbers = NUMBERS[layout]
    name = random.choice(tuple(numbers))
    return name, lambda text: str(numbers[name](text))
