"""Tasks in the layout of the pattern problems, under other rules: for a base that reads examples of such problems.

The problems that a model is asked to solve later are `keepshot.tasks.patterns`; their own rule and their own shortcut,
with their own labels, are never drawn here, and inputs are of the problems' training part alone.
"""

import re
from collections.abc import Callable
from functools import partial
from random import Random
from typing import Literal, get_args

from keepshot.tasks.patterns.draw import INSTRUCTIONS, REPAIRED, split_of
from keepshot.tasks.patterns.logic import evaluated
from keepshot.tasks.universe.task import SyntheticTask

Layout = Literal["parity", "boolean", "expressions", "equations"]
"""The problems whose questions are short enough for examples in a small model's context."""
LAYOUTS: tuple[Layout, ...] = get_args(Layout)
_PAIRS = (("even", "odd"), ("True", "False"), ("yes", "no"), ("high", "low"), ("A", "B"), ("1", "0"))
_WORDS = (*_PAIRS, *((second, first) for first, second in _PAIRS))
_INSTRUCTED_SHARE = 0.5  # of tasks, whatever their rule: examples decide, the instruction does not


def problem_task(random: Random, layout: Layout | None = None) -> SyntheticTask:
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
    name, answer = _labelled(random, chosen) if chosen in _PROPERTIES else _counted(random, chosen)
    return SyntheticTask("problems", f"{chosen} {name}", partial(_question, layout=chosen), answer, instruction)


def _question(random: Random, layout: Layout) -> str:
    """Of the training part; its regularity holds as often as not, so that examples tell rule and shortcut apart."""
    while True:
        item = REPAIRED[layout](random, random.random() < 0.5, "small", 0)
        if split_of(item) == "train":
            return item.question


def _labelled(random: Random, layout: Layout) -> tuple[str, Callable[[str], str]]:
    properties = _PROPERTIES[layout]
    allowed = [(name, words) for name in properties for words in _WORDS if (name, words) not in _LEFT_OUT[layout]]
    name, (yes, no) = random.choice(allowed)
    holds = properties[name]
    return f"{name} {yes}/{no}", lambda text: yes if holds(text) else no


def _counted(random: Random, layout: Layout) -> tuple[str, Callable[[str], str]]:
    numbers = _NUMBERS[layout]
    name = random.choice(tuple(numbers))
    return name, lambda text: str(numbers[name](text))


def _digits(text: str) -> list[int]:
    return [int(digit) for digit in text.split()]


def _literals(text: str) -> list[str]:
    return re.findall("True|False", text)


def _joiners(text: str) -> list[str]:
    return re.findall("and|or", text)


def _parts(text: str) -> list[list[int]]:
    """The terms of S, Z and C in `(S)+(Z)*(C)=`."""
    return [[int(term) for term in re.findall(r"[+-]?\d+", part)] for part in re.findall(r"\(([^)]*)\)", text)]


def _rows(text: str) -> list[list[int]]:
    """Both coefficients and the right side of every equation."""
    return [[int(number) for number in re.findall(r"\d+", line)] for line in text.splitlines()[:-1]]


_PROPERTIES: dict[str, dict[str, Callable[[str], bool]]] = {
    "parity": {
        "sum-even": lambda text: sum(_digits(text)) % 2 == 0,
        "last-even": lambda text: _digits(text)[-1] % 2 == 0,
        "first-even": lambda text: _digits(text)[0] % 2 == 0,
        "second-even": lambda text: _digits(text)[1] % 2 == 0,
        "last-but-one-even": lambda text: _digits(text)[-2] % 2 == 0,
        "first-high": lambda text: _digits(text)[0] >= 5,
        "last-high": lambda text: _digits(text)[-1] >= 5,
        "rises": lambda text: _digits(text)[0] < _digits(text)[-1],
        "largest-even": lambda text: max(_digits(text)) % 2 == 0,
    },
    "boolean": {
        "value": lambda text: evaluated(text.removesuffix(" is")),
        "last-true": lambda text: _literals(text)[-1] == "True",
        "first-true": lambda text: _literals(text)[0] == "True",
        "last-but-one-true": lambda text: _literals(text)[-2] == "True",
        "ends-with-and": lambda text: _joiners(text)[-1] == "and",
        "starts-with-and": lambda text: _joiners(text)[0] == "and",
        "mostly-true": lambda text: 2 * _literals(text).count("True") > len(_literals(text)),
        "first-two-alike": lambda text: _literals(text)[0] == _literals(text)[1],
    },
}
_LEFT_OUT = {
    "parity": [("sum-even", ("even", "odd")), ("last-even", ("even", "odd"))],
    "boolean": [("value", ("True", "False")), ("last-true", ("True", "False"))],
}
# Neither the value of an expression or of S, nor a or what the first equation says where both unknowns are equal.
_NUMBERS: dict[str, dict[str, Callable[[str], int]]] = {
    "expressions": {
        "first-term": lambda text: _parts(text)[0][0],
        "second-sum-first-term": lambda text: _parts(text)[1][0],
        "last-term": lambda text: _parts(text)[2][-1],
        "first-sum-add-one": lambda text: sum(_parts(text)[0]) + 1,
        "second-sum": lambda text: sum(_parts(text)[1]),
        "third-sum": lambda text: sum(_parts(text)[2]),
        "first-and-third-sum": lambda text: sum(_parts(text)[0]) + sum(_parts(text)[2]),
        "terms": lambda text: sum(map(len, _parts(text))),
    },
    "equations": {
        "first-right": lambda text: _rows(text)[0][2],
        "last-right": lambda text: _rows(text)[-1][2],
        "first-coefficient": lambda text: _rows(text)[0][0],
        "second-coefficient": lambda text: _rows(text)[0][1],
        "first-coefficients": lambda text: sum(_rows(text)[0][:2]),
        "first-right-less-coefficients": lambda text: _rows(text)[0][2] - sum(_rows(text)[0][:2]),
        "first-rights": lambda text: _rows(text)[0][2] + _rows(text)[1][2],
    },
}
