"""Tasks about the letters of a word: string functions, alone and in turn, and predicates with labels."""

import hashlib
from collections.abc import Sequence
from functools import cache, reduce
from itertools import pairwise
from random import Random

from keepshot.tasks.universe.functions import (
    EDITS,
    HELD_OUT_PREDICATES,
    HELD_OUT_STRINGS,
    JOINED,
    PREDICATES,
    WHOLE,
    Function,
)
from keepshot.tasks.universe.task import SyntheticTask
from keepshot.tasks.universe.words import any_word, labels

_HELD_OUT_SHARE = 7  # one ordered pair of functions in seven is held out
_STEPS, _STEP_WEIGHTS = (1, 2, 3), (10, 9, 2)
_TABLES, _TABLE_WEIGHTS = (WHOLE, EDITS, JOINED), (5, 4, 2)
_INSTRUCTED, _INSTRUCTED_HELD_OUT = (
    tuple(row for row in rows if row(Random(0)).instruction) for rows in ((*WHOLE, *EDITS), HELD_OUT_STRINGS)
)


def strings(random: Random, heldout: bool = False) -> SyntheticTask:
    """A word is rewritten by one to three string functions in turn; held out: by one that training never showed."""
    if heldout:
        return _in_turn("strings", [random.choice(HELD_OUT_STRINGS)(random)])
    count = random.choices(_STEPS, _STEP_WEIGHTS)[0]
    while True:
        steps = [_step(random) for _ in range(count)]
        if not any(held_out_pair(left.name, right.name) for left, right in pairwise(steps)):
            return _in_turn("strings", steps)


def compositions(random: Random) -> SyntheticTask:
    """Two string functions in turn that training showed, but never the second right after the first."""
    while True:
        left, right = _step(random), _step(random)
        if held_out_pair(left.name, right.name):
            return _in_turn("compositions", [left, right])


def held_out_pair(first: str, second: str) -> bool:
    """Whether training never shows the second function right after the first, whatever their constants.

    Example:
        >>> held_out_pair("reverse", "append(ta)") == held_out_pair("reverse", "append(o)")
        True
    """
    return _held_out_pair(first.partition("(")[0], second.partition("(")[0])


def classify(random: Random, heldout: bool = False) -> SyntheticTask:
    """A word gets one of two labels by a predicate; in training also one of three or four by two predicates."""
    first = random.choice(HELD_OUT_PREDICATES if heldout else PREDICATES)(random)
    if heldout or random.random() < 0.8:
        yes, no = labels(random, 2)
        return SyntheticTask("classify", first.name, any_word, lambda text: yes if first.apply(text) else no)
    second = random.choice(PREDICATES)(random)
    names = labels(random, random.choice((3, 4)))

    def answer(text: str) -> str:
        return names[(2 * first.apply(text) + second.apply(text)) % len(names)]

    return SyntheticTask("classify", f"{first.name}&{second.name}", any_word, answer)


def instructed(random: Random, heldout: bool = False) -> SyntheticTask:
    """A word is rewritten by one function, which an instruction names; held out: by one of `HELD_OUT_EDITS`."""
    step = random.choice(_INSTRUCTED_HELD_OUT if heldout else _INSTRUCTED)(random)
    return _in_turn("strings", [step], step.instruction)


def _step(random: Random) -> Function[str, str]:
    return random.choice(random.choices(_TABLES, _TABLE_WEIGHTS)[0])(random)


def _in_turn(family: str, steps: Sequence[Function[str, str]], instruction: str = "") -> SyntheticTask:
    def answer(text: str) -> str:
        return reduce(lambda done, step: step.apply(done), steps, text)

    return SyntheticTask(family, "+".join(step.name for step in steps), any_word, answer, instruction)


@cache
def _held_out_pair(first: str, second: str) -> bool:
    digest = hashlib.blake2b(f"{first}+{second}".encode(), digest_size=4).digest()
    return int.from_bytes(digest, "big") % _HELD_OUT_SHARE == 0
