"""The suite and the targets that come with keepshot: small tasks that the bundled model reads byte by byte.

Both are fixed by name. Their inputs are drawn by key and their functions are written out here, so that a curve of one
run can be laid over that of another. None can be solved by copying: a query never stands among its demonstrations.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from itertools import pairwise, product
from random import Random

from keepshot import keys
from keepshot.errors import ConfigError
from keepshot.tasks.example import Example, Scoring, Suite, Task
from keepshot.tasks.universe import VOWELS, word
from keepshot.tasks.universe.functions import shift, vowels

_SUITE_EXAMPLES = 400  # per task, where the inputs suffice: 8 sets of 16 demonstrations and 40 queries hardly overlap
_TRAIN_EXAMPLES = 2_000
_TEST_EXAMPLES = 400


@dataclass(frozen=True, slots=True)
class Target:
    """A task to fine-tune for, divided into examples to train on and examples to test with.

    Attributes:
        name: Unique among the targets.
        description: The relation of input and output, in words.
        train: Examples to fine-tune on.
        test: Examples whose inputs are not in `train`.
    """

    name: str
    description: str
    train: tuple[Example, ...]
    test: tuple[Example, ...]


@dataclass(frozen=True, slots=True)
class _Relation:
    """A task before its examples are drawn."""

    draw: Callable[[Random], str]
    answer: Callable[[str], str]
    labels: tuple[str, ...] = ()
    scoring: Scoring = "exact_match"


def builtin_suite(name: str = "mini") -> Suite:
    """A suite that comes with keepshot.

    `mini` holds twelve tasks that the bundled model can do from 16 examples and hardly from none: combinations of three
    string functions where it was trained on two at most, held-out members of its families, and new functions and labels
    in the families that it knows. Two of them are scored by `options`, the others by exact match.

    Raises:
        ConfigError: There is no such suite.

    Example:
        >>> suite = builtin_suite()
        >>> suite.tasks[0].name, suite.tasks[0].examples[0].input
        ('sort-upper-append', 'qole')
    """
    if name != "mini":
        raise ConfigError(f"there is no built-in suite {name!r}; the built-in suites are: mini")
    return _mini()


def builtin_targets() -> tuple[str, ...]:
    """The names that `builtin_target` knows.

    Example:
        >>> builtin_targets()[0]
        'word-rule'
    """
    return tuple(_TARGETS)


@cache
def builtin_target(name: str) -> Target:
    """A task to fine-tune the bundled model for: 2,000 examples to train on and 400 to test with.

    A target with fewer inputs than that has a sixth of them to test with.

    Raises:
        ConfigError: There is no such target.

    Example:
        >>> target = builtin_target("word-rule")
        >>> len(target.train), len(target.test)
        (2000, 400)
    """
    if name not in _TARGETS:
        raise ConfigError(f"there is no built-in target {name!r}; the built-in targets are: {', '.join(_TARGETS)}")
    description, relation = _TARGETS[name]
    examples = _examples(relation, _TRAIN_EXAMPLES + _TEST_EXAMPLES, "target", name)
    test = min(_TEST_EXAMPLES, len(examples) // 6)
    return Target(name, description, train=examples[test:], test=examples[:test])


@cache
def _mini() -> Suite:
    tasks = (
        Task(
            name,
            _examples(relation, _SUITE_EXAMPLES, "suite", "mini", name),
            scoring=relation.scoring,
            labels=relation.labels,
            family=_FAMILIES[name],
        )
        for name, relation in _MINI.items()
    )
    return Suite("mini", tuple(tasks))


def _examples(relation: _Relation, count: int, *purpose: str) -> tuple[Example, ...]:
    """`count` examples with different inputs, or all of them where there are fewer."""
    generator = keys.generator(*purpose)
    options = relation.labels if relation.scoring == "options" else ()
    examples: dict[str, Example] = {}
    for _ in range(40 * count):  # ends the search where the inputs do not suffice
        text = relation.draw(generator)
        examples.setdefault(text, Example(text, relation.answer(text), options=options))
        if len(examples) == count:
            break
    return tuple(examples.values())


def _either(yes: str, no: str, holds: Callable[[str], bool], draw: Callable[[Random], str] = word) -> _Relation:
    """One of two labels, by whether `holds`."""
    return _Relation(draw, lambda text: yes if holds(text) else no, (yes, no))


def _number(random: Random) -> str:
    return str(random.randint(0, 99))


def _three_digits(random: Random) -> str:
    return " ".join(str(random.randint(0, 9)) for _ in range(3))


def _seven_bits(random: Random) -> str:
    return "".join(random.choice("01") for _ in range(7))


def _weighted_digits(text: str) -> str:
    first, second, third = map(int, text.split())
    return "ti" if 2 * first + second - 2 * third > 4 else "Ro"


def _two_numbers(random: Random) -> str:
    return f"{random.randint(0, 99)} {random.randint(0, 99)}"


def _four_digits(random: Random) -> str:
    return " ".join(str(random.randint(0, 9)) for _ in range(4))


def _ten_bits(random: Random) -> str:
    return "".join(random.choice("01") for _ in range(10))


def _mostly_early(text: str) -> bool:
    return sum(letter < "n" for letter in text) * 2 > len(text)


def _inflected(text: str) -> str:
    return text[::-1] + ("na" if text[-1] in VOWELS else "o")


def _sum_and_seven(text: str) -> str:
    first, second = map(int, text.split())
    return str(first + second + 7)


def _first_vowel_label(text: str) -> str:
    return {"a": "Vor", "e": "Vor", "i": "lun", "o": "Sek", "u": "Sek"}[vowels(text)[0]]


def _changes_often(text: str) -> bool:
    return sum(left != right for left, right in pairwise(text)) > 4


def _greater_first(text: str) -> bool:
    first, second = map(int, text.split())
    return first > second


# Ten labels: by the first vowel, and by whether the word ends with a vowel.
_TEN = {
    (vowel, ends): label
    for (vowel, ends), label in zip(
        product(VOWELS, (True, False)),
        ("bal", "Cim", "dop", "Fe", "gur", "Hin", "jot", "Ka", "lem", "Nus"),
        strict=True,
    )
}


_MINI: dict[str, _Relation] = {
    "sort-upper-append": _Relation(word, lambda text: "".join(sorted(text)).upper() + "be"),
    "reverse-drop-append": _Relation(word, lambda text: text[::-1][1:] + "du"),
    "upper-prepend-append": _Relation(word, lambda text: "te" + text.upper() + "an"),
    "reverse-shift": _Relation(word, lambda text: shift(text[::-1], 1)),
    "first-and-last": _Relation(word, lambda text: text[0] + text[-1]),
    "subtract-17": _Relation(_number, lambda text: str(int(text) - 17)),
    "last-digit": _Relation(_number, lambda text: text[-1], tuple("0123456789")),
    "second-is-vowel": _either("lot", "86", lambda text: text[1] in VOWELS),
    "ends-with-vowel": _either("Kab", "31", lambda text: text[-1] in VOWELS),
    "bit-majority": _either("Za", "pel", lambda text: text.count("1") > 3, _seven_bits),
    "number-thirds": _Relation(
        _number, lambda text: ("Lo", "mek", "53")[min(int(text) // 33, 2)], ("Lo", "mek", "53"), "options"
    ),
    "weighted-digits": _Relation(_three_digits, _weighted_digits, ("ti", "Ro"), "options"),
}

# Of the universe: what asks for the same kind of thing, with whatever function and labels.
_FAMILIES = {
    **dict.fromkeys(
        ("sort-upper-append", "reverse-drop-append", "upper-prepend-append", "reverse-shift", "first-and-last"),
        "strings",
    ),
    **dict.fromkeys(("subtract-17", "last-digit", "number-thirds"), "numbers"),
    **dict.fromkeys(("second-is-vowel", "ends-with-vowel"), "classify"),
    "bit-majority": "bits",
    "weighted-digits": "linear",
}

_TARGETS: dict[str, tuple[str, _Relation]] = {
    "word-rule": (
        "Mil where more than half of the word's letters come from a to m, else Tar",
        _either("Mil", "Tar", _mostly_early),
    ),
    "word-suffix": (
        "the word backwards, then na where the word ends with a vowel, o where it ends with a consonant",
        _Relation(word, _inflected),
    ),
    "number-sum": ("the sum of the two numbers and 7", _Relation(_two_numbers, _sum_and_seven)),
    "word-kind": (
        "by the first vowel of the word: Vor for a and e, lun for i, Sek for o and u",
        _Relation(word, _first_vowel_label, ("Vor", "lun", "Sek")),
    ),
    "word-class": (
        "one of ten labels, by the first vowel of the word and whether it ends with a vowel",
        _Relation(word, lambda text: _TEN[vowels(text)[0], text[-1] in VOWELS], tuple(_TEN.values())),
    ),
    "bit-changes": (
        "Ru where neighbouring bits differ in more than four places, else fen",
        _either("Ru", "fen", _changes_often, _ten_bits),
    ),
    "digit-order": (
        "the digits in ascending order",
        _Relation(_four_digits, lambda text: " ".join(sorted(text.split()))),
    ),
    # Elicited: the bundled model does these from a few examples; the others but word-suffix it must learn.
    "word-reverse": ("the word backwards, then k", _Relation(word, lambda text: text[::-1] + "k")),
    "word-third": (
        "Dak where the third letter of the word is a vowel, else rus",
        _either("Dak", "rus", lambda text: text[2] in VOWELS),
    ),
    "number-order": (
        "Gol where the first of the two numbers is the larger, else nip",
        _either("Gol", "nip", _greater_first, _two_numbers),
    ),
}
