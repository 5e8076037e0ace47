"""Words and labels: what the synthetic tasks are about and what they answer."""

import string
from random import Random

from keepshot.tasks.universe.facts import VOCABULARY

VOWELS = "aeiou"
LETTERS = string.ascii_lowercase
CONSONANTS = "".join(letter for letter in LETTERS if letter not in VOWELS)

_SHORT_REAL_WORDS = tuple(word for word in VOCABULARY if 3 <= len(word) <= 6)


def word(random: Random, shortest: int = 3, longest: int = 6) -> str:
    """A pronounceable word: lower-case vowels and consonants in turn, of uniform length.

    Example:
        >>> len(word(Random(0), 4, 4))
        4
    """
    length = random.randint(shortest, longest)
    vowel_first = random.random() < 0.5
    return "".join(random.choice(VOWELS if (place % 2 == 0) == vowel_first else CONSONANTS) for place in range(length))


def any_word(random: Random) -> str:
    """A word of 3 to 6 letters: a drawn one, or a real one (every fourth), or any letters at all (every tenth).

    Example:
        >>> 3 <= len(any_word(Random(0))) <= 6
        True
    """
    kind = random.random()
    if kind < 0.25:
        return random.choice(_SHORT_REAL_WORDS)
    if kind < 0.35:
        return "".join(random.choices(LETTERS, k=random.randint(3, 6)))
    return word(random)


def labels(random: Random, count: int) -> tuple[str, ...]:
    """`count` different label words: drawn words, numbers below 100, letters, real words, and two words in one.

    Example:
        >>> len(set(labels(Random(0), 3)))
        3
    """
    drawn: list[str] = []
    while len(drawn) < count:
        label = random.choices(_LABEL_KINDS, _LABEL_WEIGHTS)[0](random)
        if label not in drawn:
            drawn.append(label)
    return tuple(drawn)


def _drawn_word(random: Random) -> str:
    return word(random, 2, 6)


def _capitalised(random: Random) -> str:
    return random.choice(LETTERS).upper() + word(random, 1, 4)


def _small_number(random: Random) -> str:
    return str(random.randint(0, 99))


def _letter(random: Random) -> str:
    return random.choice(LETTERS).upper()


def _real_word(random: Random) -> str:
    return random.choice(VOCABULARY)


def _two_words(random: Random) -> str:
    return random.choice(" _-").join(random.choice((_drawn_word, _real_word))(random) for _ in range(2))


_LABEL_KINDS = (_drawn_word, _capitalised, _small_number, _letter, _real_word, _two_words)
_LABEL_WEIGHTS = (3, 2, 2, 1, 2, 1)
