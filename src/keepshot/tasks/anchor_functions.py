"""What self-anchors ask for: functions that own-input tasks leave alone, so that these measure ability and no practice.

Transformations are a fixed list, which own-input tasks avoid. Predicates have constants that are taken from the inputs,
so here it is the anchors that avoid the others' list (`keepshot.episodes.SelfAnchors`). For that reason none compares
the first or the last character with a letter: own-input tasks compare just these.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from statistics import median_low

from keepshot.tasks.text_functions import (
    MAJORITY,
    InputKind,
    TextFunction,
    if_characters,
    if_numbers,
    if_words,
    on_characters,
    on_numbers,
    on_words,
)
from keepshot.tasks.universe import VOWELS

Predicates = tuple[TextFunction[bool], ...]

_MOST_PARTS = 40  # of a text: letters, words; more would only slow down the search for those that tell inputs apart

_FIRST_CHARACTER = on_characters("first-character", lambda text: text[0])
_LAST_CHARACTER = on_characters("last-character", lambda text: text[-1])
_FIRST_TWO = on_characters("first-two-characters", lambda text: text[:2])
_REVERSE = on_characters("reverse", lambda text: text[::-1])
_UPPER = on_characters("upper", str.upper)
_LENGTH = on_characters("length", lambda text: str(len(text)))
_REPEATED_END = on_characters("repeated-end", lambda text: text + text[-1])
_TWICE = on_characters("twice", lambda text: text + text)
_FIRST_WORD = on_words("first-word", lambda words: words[0])
_LAST_WORD = on_words("last-word", lambda words: words[-1])
_WORD_COUNT = on_words("word-count", lambda words: str(len(words)))
_REPEATED_LAST_WORD = on_words("repeated-last-word", lambda words: " ".join((*words, words[-1])))

ANCHOR_TRANSFORMATIONS: Mapping[InputKind, tuple[TextFunction[str], ...]] = {
    "characters": (
        _FIRST_CHARACTER,
        _LAST_CHARACTER,
        _FIRST_TWO,
        _REVERSE,
        _UPPER,
        on_characters("capitalised", lambda text: text[0].upper() + text[1:]),
        _LENGTH,
        _REPEATED_END,
        _TWICE,
    ),
    "words": (
        _FIRST_WORD,
        _LAST_WORD,
        on_words("first-two-words", lambda words: " ".join(words[:2])),
        on_words("last-two-words", lambda words: " ".join(words[-2:])),
        on_words("reversed-first-word", lambda words: words[0][::-1]),
        on_words("upper-last-word", lambda words: words[-1].upper()),
        on_words("last-word-twice", lambda words: f"{words[-1]} {words[-1]}"),
        _WORD_COUNT,
        _REPEATED_LAST_WORD,
        _FIRST_CHARACTER,
        _LAST_CHARACTER,
        _FIRST_TWO,
        _UPPER,
    ),
    "digits": (
        _FIRST_CHARACTER,
        _LAST_CHARACTER,
        _FIRST_TWO,
        _REVERSE,
        _LENGTH,
        _REPEATED_END,
        _TWICE,
        on_words("next-number", lambda words: str(int(words[0]) + 1).zfill(len(words[0]))),
    ),
    "numbers": (
        _FIRST_WORD,
        _LAST_WORD,
        on_words("first-two-numbers", lambda words: " ".join(words[:2])),
        on_words("first-number-twice", lambda words: f"{words[0]} {words[0]}"),
        on_numbers("after-the-first", lambda numbers: numbers[0] + 1),
        on_numbers("before-the-last", lambda numbers: numbers[-1] - 1),
        _WORD_COUNT,
        _REPEATED_LAST_WORD,
    ),
}


def anchor_predicates(kind: InputKind, inputs: Sequence[str]) -> tuple[Predicates, ...]:
    """Candidates with constants that suit `inputs`: groups of one idea each, such as `contains a letter`.

    Args:
        kind: Of the inputs.
        inputs: Where letters, words and medians come from.

    Example:
        >>> [group[0].name for group in anchor_predicates("digits", ["41", "7", "38", "14"])][:3]
        ['contains 1', 'even number of 1', 'above 14']
    """
    letters = _frequent_parts(inputs, lambda text: "".join(text.casefold().split()))
    of_letters = (
        tuple(_contains(letter) for letter in letters),
        tuple(_even_number(letter) for letter in letters),
    )
    match kind:
        case "characters":
            return (*of_letters, *_of_spelling(inputs))
        case "words":
            words = _frequent_parts(inputs, lambda text: text.casefold().split())
            return (tuple(_contains_word(word) for word in words), *of_letters, *_of_length(inputs))
        case "digits":
            return (*of_letters, *_of_number(inputs))
        case "numbers":
            return (*of_letters, *_of_several_numbers(inputs))


def _frequent_parts(inputs: Sequence[str], parts: Callable[[str], Iterable[str]]) -> list[str]:
    """The commonest parts; rarer ones are in too few of the inputs to tell them apart."""
    counts = Counter(part for text in inputs for part in sorted(set(parts(text))))
    return [part for part, count in counts.most_common(_MOST_PARTS) if count >= (1 - MAJORITY) * len(inputs)]


def _contains(letter: str) -> TextFunction[bool]:
    return if_characters(f"contains {letter}", lambda text: letter in text)


def _even_number(letter: str) -> TextFunction[bool]:
    return if_characters(f"even number of {letter}", lambda text: text.count(letter) % 2 == 0)


def _contains_word(word: str) -> TextFunction[bool]:
    return if_words(f"contains the word {word}", lambda words: word in words)


def _of_spelling(inputs: Sequence[str]) -> tuple[Predicates, ...]:
    middle = median_low(len(text.strip()) for text in inputs)
    return (
        (if_characters(f"longer than {middle}", lambda text: len(text) > middle),),
        (if_characters("even length", lambda text: len(text) % 2 == 0),),
        (if_characters("even number of vowels", lambda text: sum(letter in VOWELS for letter in text) % 2 == 0),),
        tuple(_second_last_before(letter) for letter in "gms"),
    )


def _second_last_before(letter: str) -> TextFunction[bool]:
    return if_characters(f"second last before {letter}", lambda text: text[-2:-1] < letter)


def _of_length(inputs: Sequence[str]) -> tuple[Predicates, ...]:
    length, words = median_low(len(text.strip()) for text in inputs), median_low(len(text.split()) for text in inputs)
    return (
        (
            if_characters(f"longer than {length}", lambda text: len(text) > length),
            if_words(f"more than {words} words", lambda parts: len(parts) > words),
        ),
        (if_words("even number of words", lambda parts: len(parts) % 2 == 0),),
    )


def _of_number(inputs: Sequence[str]) -> tuple[Predicates, ...]:
    middle = median_low(int(text.split()[0]) for text in inputs)
    return (
        (if_numbers(f"above {middle}", lambda numbers: numbers[0] > middle),),
        (if_numbers("divisible by 3", lambda numbers: numbers[0] % 3 == 0),),
        (if_characters("even sum of digits", lambda text: sum(map(int, text.split()[0])) % 2 == 0),),
    )


def _of_several_numbers(inputs: Sequence[str]) -> tuple[Predicates, ...]:
    numbers = [[int(part) for part in text.split()] for text in inputs]
    total, spread = median_low(map(sum, numbers)), median_low(max(row) - min(row) for row in numbers)
    return (
        (if_numbers(f"sum above {total}", lambda row: sum(row) > total),),
        (if_numbers(f"spread above {spread}", lambda row: max(row) - min(row) > spread),),
        (if_numbers("even sum", lambda row: sum(row) % 2 == 0),),
        (
            if_numbers("first divisible by 3", lambda row: row[0] % 3 == 0),
            if_numbers("last divisible by 3", lambda row: row[-1] % 3 == 0),
            if_numbers("sum divisible by 3", lambda row: sum(row) % 3 == 0),
        ),
    )
