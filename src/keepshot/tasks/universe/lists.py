"""Tasks about the words of a list."""

from collections.abc import Callable
from random import Random

from keepshot.tasks.universe.functions import PLACES
from keepshot.tasks.universe.task import SyntheticTask
from keepshot.tasks.universe.words import any_word

Words = list[str]

_PLACES = ("first", "second", "last")
# What is said of the word at a place.
_SAID: dict[str, Callable[[str], str]] = {
    "word": lambda word: word,
    "initial": lambda word: word[0],
    "last-letter": lambda word: word[-1],
    "capitals": str.upper,
    "reversed": lambda word: word[::-1],
}
HELD_OUT_WORDS = frozenset({("initial", "second"), ("capitals", "last"), ("reversed", "first")})
_OF_ALL: dict[str, Callable[[Words], str]] = {
    "reversed-order": lambda words: " ".join(words[::-1]),
    "initials": lambda words: "".join(word[0] for word in words),
    "alphabetical-first": min,
    "alphabetical-order": lambda words: " ".join(sorted(words)),
    "longest": lambda words: max(words, key=len),
    "shortest": lambda words: min(words, key=len),
    "without-first": lambda words: " ".join(words[1:]),
    "joined": "-".join,
}
_CELLS = tuple((said, place) for said in _SAID for place in _PLACES if (said, place) not in HELD_OUT_WORDS)


def word_list(count: int) -> Callable[[Random], str]:
    """Draws so many words."""
    return lambda random: " ".join(any_word(random) for _ in range(count))


def lists(random: Random, heldout: bool = False) -> SyntheticTask:
    """2 to 4 words are answered with one of them, a part of it, or all of them in some way."""
    count = random.randint(3 if heldout else 2, 4)  # of two words the second is the last

    draw = word_list(count)
    if not heldout and random.random() < 0.45:
        name = random.choice(tuple(_OF_ALL))
        of_all = _OF_ALL[name]
        return SyntheticTask("lists", f"{name} of {count}", draw, lambda text: of_all(text.split()))
    said, place = random.choice(sorted(HELD_OUT_WORDS) if heldout else _CELLS)
    say, at = _SAID[said], PLACES[place]

    def answer(text: str) -> str:
        words = text.split()
        return say(words[at(words)])

    return SyntheticTask("lists", f"{said}-{place} of {count}", draw, answer)
