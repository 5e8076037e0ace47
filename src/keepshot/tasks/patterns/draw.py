"""Items of a pattern task by their number, in parts that share nothing."""

from collections.abc import Callable, Iterator
from itertools import count as numbers
from random import Random
from typing import Literal

from keepshot.errors import ConfigError
from keepshot.keys import generator, key
from keepshot.tasks.example import Example, Task
from keepshot.tasks.patterns import faithful
from keepshot.tasks.patterns.code import code
from keepshot.tasks.patterns.item import PatternItem, Size
from keepshot.tasks.patterns.logic import boolean, relation
from keepshot.tasks.patterns.numbers import equations, expression, parity

PatternName = Literal["expressions", "code", "relations", "boolean", "parity", "equations"]
Split = Literal["train", "validation", "test"]
Generator = Callable[[Random, bool, Size, int], PatternItem]

REPAIRED: dict[PatternName, Generator] = {
    "expressions": expression,
    "code": code,
    "relations": relation,
    "boolean": boolean,
    "parity": parity,
    "equations": equations,
}
INSTRUCTIONS: dict[PatternName, str] = {
    "expressions": "Calculate.",
    "code": "What does the program print?",
    "relations": "Are A and Z connected, directly or through others? True or False.",
    "boolean": "What is the value? True or False.",
    "parity": "Is the sum of the digits even or odd?",
    "equations": "Solve for a.",
}
LABELS: dict[PatternName, tuple[str, ...]] = {
    "relations": ("False", "True"),
    "boolean": ("False", "True"),
    "parity": ("even", "odd"),
}
_SHARES = {"train": 80, "validation": 85}
_TRIES = 50_000
"""Numbers that are looked at without anything new before a part counts as exhausted."""


def repaired(name: PatternName, seed: int, *, broken: bool = False, size: Size = "large") -> PatternItem:
    """The item of a number; the same wherever and whenever it is asked for.

    Example:
        >>> item = repaired("parity", 3)
        >>> item.answer == item.shortcut_answer == item.formal_answer, item.pattern_holds
        (True, True)
    """
    r = generator("patterns", "repaired", name, size, int(broken), seed)
    return _generator(name)(r, broken, size, seed)


def released(
    name: PatternName, seed: int, *, part: faithful.Part = "test", defects: faithful.Defects | None = None
) -> PatternItem:
    """The same as the paper's released pipeline draws it.

    Raises:
        ConfigError: There is no such task in the release.
    """
    defects = faithful.Defects() if defects is None else defects
    r = generator("patterns", "released", name, part, seed)
    match name:
        case "expressions":
            return faithful.faithful_expression(r, part, seed)
        case "code":
            return faithful.faithful_code(r, part, seed, defects)
        case "relations":
            return faithful.faithful_relation(r, part, seed)
        case "boolean":
            return faithful.faithful_boolean(r, part, seed, defects)
        case "equations":
            return faithful.faithful_equations(r, part, seed)
        case _:
            raise ConfigError(f"the release has no {name}; it has expressions, code, relations, boolean and equations")


def split_of(item: PatternItem) -> Split:
    """The part that an item belongs to, by a hash of its question (of its program, for code): parts share nothing."""
    place = key("patterns", "split", item.apart) % 100
    return "train" if place < _SHARES["train"] else "validation" if place < _SHARES["validation"] else "test"


def items(
    name: PatternName, split: Split, count: int, *, broken: bool = False, size: Size = "large"
) -> list[PatternItem]:
    """The first items of a part, every question once; of code every program.

    Raises:
        ConfigError: There are not so many.
    """
    found: dict[str, PatternItem] = {}
    newest = 0
    for seed in numbers():
        if len(found) == count:
            return list(found.values())
        if seed - newest > _TRIES:
            raise ConfigError(f"{name} has {len(found)} different items in its {split} part; asked for {count}")
        item = repaired(name, seed, broken=broken, size=size)
        if split_of(item) == split and item.apart not in found:
            found[item.apart] = item
            newest = seed
    raise AssertionError("numbers do not end")


def halves(
    name: PatternName, split: Split, count: int, pattern: Literal["holds", "broken", "both"], size: Size = "large"
) -> list[PatternItem]:
    """Items whose pattern holds, is broken, or as many of either."""
    broken = {"holds": 0, "broken": count, "both": count // 2}[pattern]
    return [
        item
        for flag, wanted in ((False, count - broken), (True, broken))
        for item in items(name, split, wanted, broken=flag, size=size)
    ]


def item_row(name: PatternName, item: PatternItem) -> dict[str, str | bool | int]:
    """An item as a row of a data file, with what rule and shortcut say."""
    return {
        "input": item.question,
        "output": item.answer,
        "instruction": instruction_of(name, item),
        "shortcut_answer": item.shortcut_answer,
        "formal_answer": item.formal_answer,
        "pattern_holds": item.pattern_holds,
        "seed": item.seed,
    }


def pattern_task(name: PatternName, drawn: list[PatternItem], shown: list[PatternItem]) -> Task:
    """An ordinary task: items to ask, and items to show."""
    told = LABELS.get(name, ())
    return Task(
        name, tuple(as_examples(name, drawn)), tuple(as_examples(name, shown)), labels=told, family=f"pattern {name}"
    )


def as_examples(name: PatternName, drawn: list[PatternItem]) -> Iterator[Example]:
    """Items as examples, with the instruction of their task."""
    for item in drawn:
        yield Example(item.question, item.answer, instruction_of(name, item))


def instruction_of(name: PatternName, item: PatternItem) -> str:
    """What stands before a question."""
    return item.instruction or INSTRUCTIONS[name]


def _generator(name: PatternName) -> Generator:
    if name not in REPAIRED:
        raise ConfigError(f"there is no pattern task {name!r}; there are {', '.join(REPAIRED)}")
    return REPAIRED[name]
