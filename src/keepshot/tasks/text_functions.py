"""Functions of a text: what can be asked about inputs of a kind, and when two functions ask the same.

Own-input tasks and self-anchors are both made of them, over tables that have nothing in common.
"""

import re
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import sqrt
from typing import Generic, Literal, TypeVar

Value = TypeVar("Value", str, bool)

InputKind = Literal["characters", "words", "digits", "numbers"]
"""Inputs of one word are asked about characters, of several about words, one number about digits, several as such."""

Form = Literal["transformation", "predicate"]

MAJORITY = 0.85  # a commoner answer could be guessed, and a function that agrees more often is the same function
LIKENESS = 0.6  # the larger of two numbers is the first half of the time: these two functions are still two


@dataclass(frozen=True, slots=True)
class TextFunction(Generic[Value]):
    """A transformation (its value is a text) or a predicate (true or false), with the name it is reported by."""

    name: str
    apply: Callable[[str], Value]


def input_kind(inputs: Sequence[str]) -> InputKind:
    """What the inputs can be asked about.

    Example:
        >>> input_kind(["red", "blue"]), input_kind(["a red car", "blue"]), input_kind(["10", "7"]), input_kind(["1 2"])
        ('characters', 'characters', 'digits', 'numbers')
    """
    several = sum(len(text.split()) > 1 for text in inputs) * 2 > len(inputs)
    if all(re.fullmatch(r"\s*[0-9]+(\s+[0-9]+)*\s*", text) for text in inputs):
        return "numbers" if several else "digits"
    return "words" if several else "characters"


def family(kind: InputKind, form: Form) -> str:
    """The family of tasks of one form over one kind of input, named as in the bundled universe where that has it.

    Example:
        >>> family("characters", "transformation"), family("words", "predicate"), family("digits", "predicate")
        ('strings', 'classify texts', 'numbers')
    """
    if kind in ("digits", "numbers"):
        return "numbers"
    names = {"transformation": "strings", "predicate": "classify"}
    return names[form] if kind == "characters" else {"transformation": "texts", "predicate": "classify texts"}[form]


def guessable(values: Sequence[Value]) -> bool:
    """Whether one value is so common that nothing need be read."""
    return Counter(values).most_common(1)[0][1] > MAJORITY * len(values)


def same(values: Sequence[Value], others: Sequence[Value]) -> bool:
    """Whether two functions are one for these inputs; a predicate and its opposite are.

    Example:
        >>> same([True, True, False], [False, False, True])
        True
    """
    agreement = sum(value == other for value, other in zip(values, others, strict=True)) / len(values)
    if isinstance(values[0], bool):
        return max(agreement, 1 - agreement) > MAJORITY
    return agreement > LIKENESS


def likeness(values: Sequence[bool], others: Sequence[bool]) -> float:
    """How far one predicate tells another, from .5 to 1: (1 + |correlation|) / 2.

    For predicates that hold half of the time it is how often they agree, or disagree where that is more. Rare ones
    agree by chance, which this leaves out.

    Example:
        >>> likeness([True, True, False, False], [True, True, True, False])
        0.7886751345948129
    """
    p, q = sum(values) / len(values), sum(others) / len(others)
    both = sum(value and other for value, other in zip(values, others, strict=True)) / len(values)
    spread = sqrt(p * (1 - p) * q * (1 - q))
    return 0.5 + abs(both - p * q) / spread / 2 if spread else 0.5


def on_characters(name: str, apply: Callable[[str], str]) -> TextFunction[str]:
    """A transformation of the characters; where nothing would be left, the answer is the input."""
    return TextFunction(name, lambda text: apply(text.strip()).strip() or text.strip())


def on_words(name: str, apply: Callable[[list[str]], str]) -> TextFunction[str]:
    """A transformation of the words."""
    return TextFunction(name, lambda text: apply(text.split()))


def on_numbers(name: str, apply: Callable[[list[int]], int]) -> TextFunction[str]:
    """A computation with the numbers."""
    return TextFunction(name, lambda text: str(apply([int(part) for part in text.split()])))


def if_characters(name: str, holds: Callable[[str], bool]) -> TextFunction[bool]:
    """A predicate of the characters, in lower case."""
    return TextFunction(name, lambda text: holds(text.strip().casefold()))


def if_words(name: str, holds: Callable[[list[str]], bool]) -> TextFunction[bool]:
    """A predicate of the words, in lower case."""
    return TextFunction(name, lambda text: holds(text.casefold().split()))


def if_numbers(name: str, holds: Callable[[list[int]], bool]) -> TextFunction[bool]:
    """A predicate of the numbers."""
    return TextFunction(name, lambda text: holds([int(part) for part in text.split()]))
