"""The functions that the synthetic tasks compute, as tables: one row for each, with the constant that it draws.

A row is a draw: given a generator it returns a `Function`, its constant (a letter, an affix, a number) filled in. Most
tables are products, such as *what to do* x *at which place of the word*. Of a product some cells are held out: no model
is trained on them, but on all that they are made of, so that they ask for in-context learning of something new that
can be learned. The order of the rows is part of the definition of the universe, since a seed picks a row by its place.
"""

from collections.abc import Callable, Sequence, Sized
from dataclasses import dataclass
from random import Random
from typing import Generic, TypeVar

from keepshot.tasks.universe.words import LETTERS, VOWELS, word

Argument = TypeVar("Argument")
Result = TypeVar("Result")
Constant = TypeVar("Constant")


@dataclass(frozen=True, slots=True)
class Function(Generic[Argument, Result]):
    """A function with the name that it is reported by, such as `prepend(ta)`.

    `instruction` asks for it in words, where that can be said without its constant; else it is empty.
    """

    name: str
    apply: Callable[[Argument], Result]
    instruction: str = ""


Draw = Callable[[Random], Function[Argument, Result]]


def plain(name: str, apply: Callable[[Argument], Result], instruction: str = "") -> Draw[Argument, Result]:
    """A row without a constant: its draw takes nothing from the generator."""
    function = Function(name, apply, instruction)
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


def prepended(start: str) -> Function[str, str]:
    """Puts `start` before a word."""
    return Function(f"prepend({start})", lambda text: start + text)


def appended(end: str) -> Function[str, str]:
    """Puts `end` after a word."""
    return Function(f"append({end})", lambda text: text + end)


def shift(text: str, steps: int) -> str:
    """Each letter `steps` further in the alphabet, z before a; in lower case.

    Example:
        >>> shift("haz", 1)
        'iba'
    """
    return "".join(
        LETTERS[(LETTERS.index(letter) + steps) % len(LETTERS)] if letter in LETTERS else letter
        for letter in text.lower()
    )


def swap_ends(text: str) -> str:
    """First and last character change places."""
    return text[-1] + text[1:-1] + text[0] if len(text) > 1 else text


def vowels(text: str) -> str:
    """The lower-case vowels of `text` in their order."""
    return "".join(letter for letter in text if letter in VOWELS)


def consonants(text: str) -> str:
    """`text` without its lower-case vowels."""
    return "".join(letter for letter in text if letter not in VOWELS)


# Where a character of a text or a word of a list stands: its index, at most the last; of two middles the right one.
PLACES: dict[str, Callable[[Sized], int]] = {
    "first": lambda text: 0,
    "second": lambda text: min(1, len(text) - 1),
    "third": lambda text: min(2, len(text) - 1),
    "middle": lambda text: len(text) // 2,
    "second-last": lambda text: max(len(text) - 2, 0),
    "last": lambda text: len(text) - 1,
}

# What is done with the character at a place, and how it is asked for.
_EDITS: dict[str, tuple[str, Callable[[str, int], str]]] = {
    "take": ("Give the {} letter.", lambda text, i: text[i]),
    "drop": ("Leave out the {} letter.", lambda text, i: text[:i] + text[i + 1 :]),
    "double": ("Double the {} letter.", lambda text, i: text[:i] + text[i] * 2 + text[i + 1 :]),
    "capitalise": ("Capitalise the {} letter.", lambda text, i: text[:i] + text[i].upper() + text[i + 1 :]),
    "mask": ("Hide the {} letter.", lambda text, i: text[:i] + "*" + text[i + 1 :]),
    "front": ("Move the {} letter to the front.", lambda text, i: text[i] + text[:i] + text[i + 1 :]),
    "back": ("Move the {} letter to the end.", lambda text, i: text[:i] + text[i + 1 :] + text[i]),
}
# One cell of each edit.
HELD_OUT_EDITS = frozenset(
    {
        ("take", "third"),
        ("drop", "middle"),
        ("double", "second"),
        ("capitalise", "last"),
        ("mask", "second-last"),
        ("front", "third"),
        ("back", "second"),
    }
)
_NO_EDITS = frozenset({("front", "first"), ("back", "last")})  # leave the text as it is

# What two parts of an answer can be, one after the other.
_PARTS: dict[str, Callable[[str], str]] = {
    "word": lambda text: text,
    "reversed": lambda text: text[::-1],
    "capitals": str.upper,
    "first": lambda text: text[0],
    "last": lambda text: text[-1],
    "first-two": lambda text: text[:2],
    "last-two": lambda text: text[-2:],
}
HELD_OUT_PARTS = frozenset(
    {
        ("word", "reversed"),
        ("capitals", "word"),
        ("first", "last-two"),
        ("last", "first"),
        ("reversed", "capitals"),
        ("last-two", "last"),
        ("first-two", "reversed"),
    }
)


def _edit(edit: str, place: str) -> Draw[str, str]:
    (asked, apply), at = _EDITS[edit], PLACES[place]
    instruction = asked.format(place.replace("-", " "))
    return plain(f"{edit}-{place}", lambda text: apply(text, at(text)) or text, instruction)


def _joined(first: str, second: str) -> Draw[str, str]:
    left, right = _PARTS[first], _PARTS[second]
    return with_constant(
        f"{first}-{second}", one_of(("", "", "-", "_")), lambda text, between: left(text) + between + right(text)
    )


# Where nothing would be left, a string function returns its argument, so that no answer is ever empty.
WHOLE: tuple[Draw[str, str], ...] = (
    plain("reverse", lambda text: text[::-1], "Write it backwards."),
    plain("upper", str.upper, "Use capitals."),
    plain("swap-ends", swap_ends, "Swap the ends."),
    with_constant("shift", one_of((1, -1)), shift),
    lambda random: prepended(affix(random)),
    lambda random: appended(affix(random)),
    plain("consonants", lambda text: consonants(text) or text, "Remove the vowels."),
    plain("sort", lambda text: "".join(sorted(text)), "Sort the letters."),
    plain("vowels", lambda text: vowels(text) or text, "Keep the vowels."),
    plain("twice", lambda text: text + text, "Say it twice."),
    plain("spell", "-".join, "Spell it."),
    plain("count", lambda text: str(len(text)), "Count the letters."),
    with_constant(
        "vowels-to", one_of("aeiou*"), lambda text, to: "".join(to if letter in VOWELS else letter for letter in text)
    ),
    with_constant("enclose", one_of(("()", "[]", "<>", "**", "{}")), lambda text, pair: pair[0] + text + pair[1]),
)
EDITS: tuple[Draw[str, str], ...] = tuple(
    _edit(edit, place)
    for edit in _EDITS
    for place in PLACES
    if (edit, place) not in HELD_OUT_EDITS and (edit, place) not in _NO_EDITS
)
JOINED: tuple[Draw[str, str], ...] = tuple(
    _joined(first, second) for first in _PARTS for second in _PARTS if (first, second) not in HELD_OUT_PARTS
)
HELD_OUT_STRINGS: tuple[Draw[str, str], ...] = (
    *(_edit(edit, place) for edit, place in sorted(HELD_OUT_EDITS)),
    *(_joined(first, second) for first, second in sorted(HELD_OUT_PARTS)),
)

_LETTER_IN_THE_MIDDLE_OF_THE_ALPHABET = one_of("gjmp")
_LEFT_OUT = frozenset({("vowel", "second"), ("before", "middle")})


def _vowel(place: str) -> Draw[str, bool]:
    at = PLACES[place]
    return plain(f"{place}-is-vowel", lambda text: text[at(text)] in VOWELS)


def _before(place: str) -> Draw[str, bool]:
    at = PLACES[place]
    return with_constant(
        f"{place}-before", _LETTER_IN_THE_MIDDLE_OF_THE_ALPHABET, lambda text, letter: text[at(text)] < letter
    )


def _less(place: str, other: str) -> Draw[str, bool]:
    left, right = PLACES[place], PLACES[other]
    return plain(f"{place}-before-{other}", lambda text: text[left(text)] < text[right(text)])


PREDICATES: tuple[Draw[str, bool], ...] = (
    with_constant("contains", one_of("aeiourtnsl"), lambda text, letter: letter in text),
    plain("even-length", lambda text: len(text) % 2 == 0),
    with_constant("at-least-letters", one_of((4, 5)), lambda text, least: len(text) >= least),
    with_constant("at-least-vowels", one_of((2, 3)), lambda text, least: len(vowels(text)) >= least),
    *(_vowel(place) for place in PLACES if ("vowel", place) not in _LEFT_OUT),
    *(_before(place) for place in PLACES if ("before", place) not in _LEFT_OUT),
    *(_less(*pair) for pair in (("first", "last"), ("first", "second"), ("second", "third"), ("second-last", "last"))),
)
HELD_OUT_PREDICATES: tuple[Draw[str, bool], ...] = (
    _vowel("second"),
    _before("middle"),
    _less("second", "last"),
)

# Bit functions look at a string of zeros and ones and at two places in it.
BITS: tuple[tuple[str, Callable[[str, int, int], bool]], ...] = (
    ("bit", lambda bits, i, j: bits[i] == "1"),
    ("and", lambda bits, i, j: bits[i] == "1" and bits[j] == "1"),
    ("or", lambda bits, i, j: bits[i] == "1" or bits[j] == "1"),
    ("xor", lambda bits, i, j: bits[i] != bits[j]),
    ("majority", lambda bits, i, j: bits.count("1") * 2 > len(bits)),
    ("parity", lambda bits, i, j: bits.count("1") % 2 == 1),
    ("two-ones-in-a-row", lambda bits, i, j: "11" in bits),
)
# With arbitrary labels a function and its opposite are one task: none of these is the opposite of one above.
HELD_OUT_BITS: tuple[tuple[str, Callable[[str, int, int], bool]], ...] = (
    ("and-not", lambda bits, i, j: bits[i] == "1" and bits[j] == "0"),
    ("two-zeros-in-a-row", lambda bits, i, j: "00" in bits),
)
