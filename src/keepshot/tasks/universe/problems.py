"""Tasks in the layout of the pattern problems, under other rules or otherwise written: for a base that reads those.

The problems that a model is asked to solve later are `keepshot.tasks.patterns`; their own rule and their own shortcut,
written as there, are never drawn here, and inputs are of the problems' training part alone.
"""

from collections.abc import Callable
from functools import partial
from random import Random
from typing import get_args

from keepshot.tasks.patterns.draw import INSTRUCTIONS, REPAIRED, PatternName, split_of
from keepshot.tasks.universe.problem_rules import LEFT_OUT, NUMBERS, PLAIN, PROPERTIES
from keepshot.tasks.universe.task import SyntheticTask

LAYOUTS: tuple[PatternName, ...] = get_args(PatternName)
_WEIGHTS = {"code": 1, "relations": 1, "boolean": 2, "parity": 2, "expressions": 3, "equations": 3}
"""Code and relations fill rows with few examples, and numbers take longer to learn than labels."""
_PAIRS = ("even/odd", "True/False", "yes/no", "high/low", "A/B", "1/0")
_WORDS = (*_PAIRS, *("/".join(reversed(pair.split("/"))) for pair in _PAIRS))
_FORMATS = (PLAIN, "{}.", "#{}", "[{}]", "n{}")
_INSTRUCTED_SHARE = 0.5  # of tasks, whatever their rule: examples decide, the instruction does not


def problem_task(random: Random, layout: PatternName | None = None) -> SyntheticTask:
    """A task over questions of one problem: a property of them under two labels, or a number that they tell.

    Args:
        random: Its state moves on.
        layout: The problem; drawn unless told.

    Example:
        >>> task = problem_task(Random(0), "parity")
        >>> task.name, task.answer("3 8 2")
        ('parity largest-even high/low', 'high')
    """
    chosen = layout or random.choices(LAYOUTS, [_WEIGHTS[one] for one in LAYOUTS])[0]
    instruction = INSTRUCTIONS[chosen] if random.random() < _INSTRUCTED_SHARE else ""
    rules, ways = (PROPERTIES[chosen], _WORDS) if chosen in PROPERTIES else (NUMBERS[chosen], _FORMATS)
    name, way = random.choice([(name, way) for name in rules for way in ways if (name, way) not in LEFT_OUT[chosen]])
    answer = partial(_written, rules[name], way)
    return SyntheticTask("problems", f"{chosen} {name} {way}", partial(_question, layout=chosen), answer, instruction)


def _written(rule: Callable[[str], bool | int], way: str, text: str) -> str:
    """The answer in the words of a task, or as it writes numbers."""
    found = rule(text)
    return way.format(found) if "{}" in way else way.split("/")[0 if found else 1]


def _question(random: Random, layout: PatternName) -> str:
    """Of the training part; its regularity holds as often as not, so that examples tell rule and shortcut apart."""
    while True:
        item = REPAIRED[layout](random, random.random() < 0.5, "small", 0)
        if split_of(item) == "train":
            return item.question
