"""Tasks in the layout of the pattern problems, under other rules or otherwise written: for a base that reads those.

The problems that a model is asked to solve later are `keepshot.tasks.patterns`; their own rule and their own shortcut,
written as there, are never drawn here. Repaired problems are of their training part alone; released ones, which have
no parts but numbers, are drawn by no number.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from random import Random
from typing import Literal, get_args

from keepshot.tasks.patterns.draw import INSTRUCTIONS, REPAIRED, PatternName, split_of
from keepshot.tasks.patterns.faithful import Defects, faithful_boolean, faithful_expression
from keepshot.tasks.universe.problem_rules import LEFT_OUT, NUMBERS, PLAIN, PROPERTIES
from keepshot.tasks.universe.task import QUESTIONS, Form, SyntheticTask

Written = Literal["repaired", "released"]
LAYOUTS: dict[Written, tuple[PatternName, ...]] = {
    "repaired": get_args(PatternName),
    "released": ("boolean", "expressions"),
}
_WEIGHTS: dict[PatternName, int] = {
    "code": 1,
    "relations": 1,
    "boolean": 2,
    "parity": 2,
    "expressions": 3,
    "equations": 3,
}
"""Code and relations fill rows with few examples, and numbers take longer to learn than labels."""
_PAIRS = ("even/odd", "True/False", "yes/no", "high/low", "A/B", "1/0")
_WORDS = (*_PAIRS, *("/".join(reversed(pair.split("/"))) for pair in _PAIRS))
_FORMATS = (PLAIN, "{}.", "#{}", "[{}]", "n{}")
_INSTRUCTED_SHARE = 0.5  # of tasks, whatever their rule: examples decide, the instruction does not
_FORMS: dict[Written, Form] = {"repaired": QUESTIONS, "released": Form("{}", "{}\n")}


@dataclass(frozen=True, slots=True)
class ProblemShares:
    """Shares of rows about problems, by how these are written.

    Attributes:
        repaired: Drawn as `repaired` draws them, as questions and answers.
        released: As the paper's pipeline draws and writes them, without its defects.
    """

    repaired: float = 0.0
    released: float = 0.0

    def drawn(self, random: Random) -> Written | None:
        """What a row is about; without a share nothing is drawn, so that rows are what they would be without problems.

        Example:
            >>> ProblemShares(0.5, 0.5).drawn(Random(0)), ProblemShares().drawn(Random(0))
            ('released', None)
        """
        if not self.repaired + self.released:
            return None
        place = random.random()
        if place < self.repaired:
            return "repaired"
        return "released" if place < self.repaired + self.released else None


NO_PROBLEMS = ProblemShares()


def problem_task(random: Random, layout: PatternName | None = None, written: Written = "repaired") -> SyntheticTask:
    """A task over questions of one problem: a property of them under two labels, or a number that they tell.

    Args:
        random: Its state moves on.
        layout: The problem; drawn unless told.
        written: How questions are drawn and documents written.

    Example:
        >>> task = problem_task(Random(0), "parity")
        >>> task.name, task.answer("3 8 2")
        ('parity largest-even high/low', 'high')
    """
    layouts = LAYOUTS[written]
    chosen = layout or random.choices(layouts, [_WEIGHTS[one] for one in layouts])[0]
    instruction = INSTRUCTIONS[chosen] if random.random() < _INSTRUCTED_SHARE else ""
    rules, ways = (PROPERTIES[chosen], _WORDS) if chosen in PROPERTIES else (NUMBERS[chosen], _FORMATS)
    name, way = random.choice([(name, way) for name in rules for way in ways if (name, way) not in LEFT_OUT[chosen]])
    answer = partial(_answer, rules[name], way)
    question = partial({"repaired": _repaired, "released": _released}[written], layout=chosen)
    return SyntheticTask("problems", f"{chosen} {name} {way}", question, answer, instruction, _FORMS[written])


def _answer(rule: Callable[[str], bool | int], way: str, text: str) -> str:
    """In the words of a task, or as it writes numbers."""
    found = rule(text)
    return way.format(found) if "{}" in way else way.split("/")[0 if found else 1]


def _repaired(random: Random, layout: PatternName) -> str:
    """Of the training part; its regularity holds as often as not, so that examples tell rule and shortcut apart."""
    while True:
        item = REPAIRED[layout](random, random.random() < 0.5, "small", 0)
        if split_of(item) == "train":
            return item.question


def _released(random: Random, layout: PatternName) -> str:
    """Ordinary as often as misleading, a Boolean expression with and without an end."""
    part: Literal["test", "misleading"] = "test" if random.random() < 0.5 else "misleading"
    if layout == "expressions":
        return faithful_expression(random, part, 0).question
    return faithful_boolean(random, part, 0, Defects(bool_no_suffix=random.random() < 0.5)).question
