"""The functions that the synthetic tasks compute, as tables: one row for each, with the constant that it draws.

A row is a draw: given a generator it returns a `Function`, its constant (a letter, an affix, a number) filled in. The
order of the rows is part of the definition of the universe, since a seed picks a row by its place. The `HELD_OUT`
tables are the members that the bundled model was not trained on.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from random import Random
from typing import Generic, TypeVar

from keepshot.tasks.universe.words import LETTERS, VOWELS, word

Argument = TypeVar("Argument")
Result = TypeVar("Result")
Constant = TypeVar("Constant")

Numbers = tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Function(Generic[Argument, Result]):
    """A function with the name that it is reported by, such as `prepend(ta)`."""

    name: str
    apply: Callable[[Argument], Result]


Draw = Callable[[Random], Function[Argument, Result]]


def plain(name: str, apply: Callable[[Argument], Result]) -> Draw[Argument, Result]:
    """A row without a constant: its draw takes nothing from the generator."""
    function = Function(name, apply)
    return lambda random: function


def with_constant(
    name: str, constant: Callable[[Random], Constant], apply: Callable[[Argument, Constant], Result]
) -> Draw[Argument, Result]:
    """A row whose second argument is drawn once for each task."""

    def draw(random: Random) -> Function[Argument, Result]:
        value = constant(random)
        return Function(f"{name}({value})", lambda argument: apply(argument, value))

    return draw


def one_of(values: Sequence[Constant]) -> Callable[[Random], Constant]:
    """Draws a constant uniformly from `values`."""
    return lambda random: random.choice(values)


def affix(random: Random) -> str:
    """One or two letters to put before or after a word."""
    return word(random, 1, 2)


def shift(text: str, steps: int) -> str:
    """Each letter `steps` further in the alphabet, z before a; in lower case.

    Example:
        >>> shift("haz", 1)
        'iba'
    """
    return "".join(LETTERS[(LETTERS.index(letter) + steps) % len(LETTERS)] for letter in text.lower())


def swap_ends(text: str) -> str:
    """First and last character change places."""
    return text[-1] + text[1:-1] + text[0] if len(text) > 1 else text


def vowels(text: str) -> str:
    """The lower-case vowels of `text` in their order."""
    return "".join(letter for letter in text if letter in VOWELS)


def consonants(text: str) -> str:
    """`text` without its lower-case vowels."""
    return "".join(letter for letter in text if letter not in VOWELS)


def drop_middle(text: str) -> str:
    """`text` without its middle character, the right one of two."""
    middle = len(text) // 2
    return text[:middle] + text[middle + 1 :]


# Where nothing would be left, a string function returns its argument, so that no answer is ever empty.
STRINGS: tuple[Draw[str, str], ...] = (
    plain("reverse", lambda text: text[::-1]),
    plain("first", lambda text: text[0]),
    plain("last", lambda text: text[-1]),
    plain("second", lambda text: text[1] if len(text) > 1 else text),
    plain("upper", str.upper),
    plain("double-first", lambda text: text[0] + text),
    plain("drop-first", lambda text: text[1:] or text),
    plain("drop-last", lambda text: text[:-1] or text),
    plain("swap-ends", swap_ends),
    plain("rotate", lambda text: text[1:] + text[0]),
    with_constant("shift", one_of((1, -1)), shift),
    with_constant("prepend", affix, lambda text, start: start + text),
    with_constant("append", affix, lambda text, end: text + end),
    plain("consonants", lambda text: consonants(text) or text),
    plain("sort", lambda text: "".join(sorted(text))),
    plain("vowels", lambda text: vowels(text) or text),
)
HELD_OUT_STRINGS: tuple[Draw[str, str], ...] = (
    plain("mirror", lambda text: text + text[::-1]),
    plain("drop-middle", drop_middle),
    plain("capitalise-last", lambda text: text[:-1] + text[-1].upper()),
)

_FREQUENT_LETTERS = one_of("aeiourtnsl")
_MIDDLE_OF_THE_ALPHABET = one_of("gjmp")

PREDICATES: tuple[Draw[str, bool], ...] = (
    with_constant("contains", _FREQUENT_LETTERS, lambda text, letter: letter in text),
    plain("starts-with-vowel", lambda text: text[0] in VOWELS),
    plain("ends-with-vowel", lambda text: text[-1] in VOWELS),
    plain("even-length", lambda text: len(text) % 2 == 0),
    with_constant("at-least-letters", one_of((4, 5)), lambda text, least: len(text) >= least),
    with_constant("at-least-vowels", one_of((2, 3)), lambda text, least: len(vowels(text)) >= least),
    plain("first-before-last", lambda text: text[0] < text[-1]),
    with_constant("first-before", _MIDDLE_OF_THE_ALPHABET, lambda text, letter: text[0] < letter),
    with_constant("last-before", _MIDDLE_OF_THE_ALPHABET, lambda text, letter: text[-1] < letter),
)
HELD_OUT_PREDICATES: tuple[Draw[str, bool], ...] = (
    plain("repeated-letter", lambda text: len(set(text)) < len(text)),
    plain("second-is-vowel", lambda text: text[1] in VOWELS),
    with_constant("middle-before", _MIDDLE_OF_THE_ALPHABET, lambda text, letter: text[len(text) // 2] < letter),
)

# Bit functions look at a string of zeros and ones and at two places in it.
BITS: tuple[tuple[str, Callable[[str, int, int], bool]], ...] = (
    ("bit", lambda bits, i, j: bits[i] == "1"),
    ("and", lambda bits, i, j: bits[i] == "1" and bits[j] == "1"),
    ("or", lambda bits, i, j: bits[i] == "1" or bits[j] == "1"),
    ("xor", lambda bits, i, j: bits[i] != bits[j]),
    ("majority", lambda bits, i, j: bits.count("1") * 2 > len(bits)),
    ("parity", lambda bits, i, j: bits.count("1") % 2 == 1),
)
HELD_OUT_BITS: tuple[tuple[str, Callable[[str, int, int], bool]], ...] = (
    ("nand", lambda bits, i, j: not (bits[i] == "1" and bits[j] == "1")),
    ("equal-ends", lambda bits, i, j: bits[0] == bits[-1]),
)
