"""Words and labels: what the synthetic tasks are about and what they answer."""

import string
from random import Random

VOWELS = "aeiou"
LETTERS = string.ascii_lowercase
CONSONANTS = "".join(letter for letter in LETTERS if letter not in VOWELS)


def word(random: Random, shortest: int = 3, longest: int = 6) -> str:
    """A pronounceable word: lower-case vowels and consonants in turn, of uniform length.

    Example:
        >>> len(word(Random(0), 4, 4))
        4
    """
    length = random.randint(shortest, longest)
    vowel_first = random.random() < 0.5
    return "".join(random.choice(VOWELS if (place % 2 == 0) == vowel_first else CONSONANTS) for place in range(length))


def labels(random: Random, count: int) -> tuple[str, ...]:
    """`count` different label words that mean nothing: a short word, a capitalised syllable or a number below 100.

    Example:
        >>> len(set(labels(Random(0), 3)))
        3
    """
    kinds = (_short_word, _capitalised, _small_number)
    drawn: list[str] = []
    while len(drawn) < count:
        label = random.choice(kinds)(random)
        if label not in drawn:
            drawn.append(label)
    return tuple(drawn)


def _short_word(random: Random) -> str:
    return word(random, 2, 4)


def _capitalised(random: Random) -> str:
    return random.choice(LETTERS).upper() + word(random, 1, 2)


def _small_number(random: Random) -> str:
    return str(random.randint(0, 99))
