"""Tasks about the letters of a word: string functions, alone and in turn, and predicates with labels."""

import hashlib
from collections.abc import Callable, Sequence
from functools import cache, reduce
from itertools import pairwise
from random import Random

from keepshot.keys import generator
from keepshot.tasks.universe.functions import (
    EDITS,
    HELD_OUT_PREDICATES,
    HELD_OUT_STRINGS,
    JOINED,
    PREDICATES,
    WHOLE,
    Function,
    appended,
    prepended,
)
from keepshot.tasks.universe.task import SyntheticTask
from keepshot.tasks.universe.words import any_word, labels

# These tell functions apart. They are words as tasks have them: functions that differ on others alone are the same.
_PROBES = tuple(any_word(generator("universe", "probes", number)) for number in range(24))
_HELD_OUT_SHARE = 7  # one ordered pair of functions in seven is held out
_STEPS, _STEP_WEIGHTS = (1, 2, 3), (10, 9, 2)
_TABLES, _TABLE_WEIGHTS = (WHOLE, EDITS, JOINED), (5, 4, 2)
_INSTRUCTED, _INSTRUCTED_HELD_OUT = (
    tuple(row for row in rows if row(Random(0)).instruction) for rows in ((*WHOLE, *EDITS), HELD_OUT_STRINGS)
)


def strings(random: Random, heldout: bool = False) -> SyntheticTask:
    """A word is rewritten by one to three string functions in turn; held out: by one that training never showed.

    Held-out functions that two trained ones in turn compute as well are left out.
    """
    if heldout:
        return _new(random, "strings", lambda: [random.choice(HELD_OUT_STRINGS)(random)])
    count = random.choices(_STEPS, _STEP_WEIGHTS)[0]
    while True:
        steps = [_step(random) for _ in range(count)]
        if not any(held_out_pair(left.name, right.name) for left, right in pairwise(steps)):
            return _in_turn("strings", steps)


def compositions(random: Random) -> SyntheticTask:
    """Two string functions in turn that training showed, but never the second right after the first.

    What one trained function, or two in turn that training showed, compute as well is left out.
    """

    def draw() -> list[Function[str, str]]:
        while True:
            left, right = _step(random), _step(random)
            if held_out_pair(left.name, right.name):
                return [left, right]

    return _new(random, "compositions", draw)


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


def _new(random: Random, family: str, draw: Callable[[], list[Function[str, str]]]) -> SyntheticTask:
    """A task of steps that no one or two trained functions compute."""
    while True:
        steps = draw()
        task = _in_turn(family, steps)
        if not _is_practised(task.answer, steps):
            return task


def _is_practised(answer: Callable[[str], str], steps: Sequence[Function[str, str]]) -> bool:
    """Whether one trained function, or two in an order that training showed, give the same answers.

    Functions with an affix are tried with that of the steps, and with parts of it: no other can be the same.
    """
    values = tuple(map(answer, _PROBES))
    if values in _practised():
        return True
    affixes = {step.name.partition("(")[2].removesuffix(")") for step in steps if "pend(" in step.name}
    own = [make for text in affixes for part in {text, *text} for make in (prepended(part), appended(part))]
    pairs = [(left, right) for one in own for other in (*_rows(), *own) for left, right in ((one, other), (other, one))]
    shown = [(left, right) for left, right in pairs if not held_out_pair(left.name, right.name)]
    singles = [tuple(map(one.apply, _PROBES)) for one in own]
    return values in singles or any(
        values == tuple(right.apply(left.apply(text)) for text in _PROBES) for left, right in shown
    )


@cache
def _rows() -> tuple[Function[str, str], ...]:
    """All trained functions without an affix, with each of their constants."""
    found = {}
    for draw in (*WHOLE, *EDITS, *JOINED):
        for seed in range(40):
            function = draw(Random(seed))
            found[function.name] = function
    return tuple(f for name, f in found.items() if name.partition("(")[0] not in ("prepend", "append"))


@cache
def _practised() -> frozenset[tuple[str, ...]]:
    """What trained functions make of the probes, alone and in turn."""
    alone = [(function.name, function, tuple(map(function.apply, _PROBES))) for function in _rows()]
    in_turn = (
        tuple(map(right.apply, values))
        for name, _, values in alone
        for other, right, _ in alone
        if not held_out_pair(name, other)
    )
    return frozenset((*(values for _, _, values in alone), *in_turn))


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
