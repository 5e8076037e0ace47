"""Tasks that are answered from memory: of the examples, or of what is known by heart."""

from random import Random

from keepshot.tasks.universe.facts import KIND_INSTRUCTIONS, KINDS, RELATIONS
from keepshot.tasks.universe.task import SyntheticTask
from keepshot.tasks.universe.words import LETTERS, any_word, labels

_MOST_KEYS = 6


def lookup(random: Random) -> SyntheticTask:
    """A table of 2 to 6 words with arbitrary values; half of the time its words come misspelt.

    A misspelt word keeps the value of the word that it is made of, so that near inputs have the same answer.
    """
    keys = [any_word(random) for _ in range(random.randint(2, _MOST_KEYS))]
    values = dict(zip(keys, labels(random, len(keys)), strict=True))
    if random.random() < 0.5:
        return SyntheticTask("lookup", f"lookup({len(keys)})", lambda random: random.choice(keys), values.__getitem__)

    def draw(random: Random) -> str:
        key = random.choice(keys)
        text = misspelt(random, key) if random.random() < 0.7 else key
        return text if nearest(text, keys) == key else key

    return SyntheticTask("lookup", f"misspelt({len(keys)})", draw, lambda text: values[nearest(text, keys)])


def misspelt(random: Random, text: str) -> str:
    """`text` with one letter replaced (three times in five), added or left out.

    Example:
        >>> misspelt(Random(1), "lemon")
        'lmon'
    """
    place, letter, kind = random.randrange(len(text)), random.choice(LETTERS), random.random()
    if kind < 0.6:
        return text[:place] + letter + text[place + 1 :]
    return text[:place] + letter + text[place:] if kind < 0.8 else text[:place] + text[place + 1 :]


def nearest(text: str, keys: list[str]) -> str:
    """The key that `text` is, or is one edit away from; the first of several.

    Raises:
        LookupError: There is none.
    """
    if text in keys:
        return text
    for key in keys:
        if _one_edit_apart(text, key):
            return key
    raise LookupError(f"{text!r} is near none of {keys}")


def relation(random: Random, heldout: bool = False, instructed: bool = False) -> SyntheticTask:
    """Words are answered by a relation that is known by heart; held out: one that training never shows uninstructed."""
    names = [name for name, relation in RELATIONS.items() if instructed or relation.held_out is heldout]
    name = random.choice(names)
    pairs = RELATIONS[name].pairs
    words = tuple(pairs)
    instruction = random.choice(RELATIONS[name].instructions) if instructed else ""
    return SyntheticTask("relation", name, lambda random: random.choice(words), pairs.__getitem__, instruction)


def category(random: Random, heldout: bool = False) -> SyntheticTask:
    """Words of 2 to 4 kinds are answered with the name of their kind, or with an arbitrary label for each."""
    names = [name for name, kind in KINDS.items() if kind.held_out is heldout]
    kinds = random.sample(names, random.randint(2, min(4, len(names))))
    told = {kind: kind for kind in kinds}
    if heldout or random.random() < 0.6:
        told = dict(zip(kinds, labels(random, len(kinds)), strict=True))
    answers = {member: told[kind] for kind in kinds for member in KINDS[kind].members}
    words = tuple(answers)
    return SyntheticTask("category", "/".join(kinds), lambda random: random.choice(words), answers.__getitem__)


def kind(random: Random) -> SyntheticTask:
    """Words of all kinds are answered with the name of their kind, as an instruction says."""
    answers = {member: name for name, kind in KINDS.items() for member in kind.members}
    words = tuple(answers)
    instruction = random.choice(KIND_INSTRUCTIONS)
    return SyntheticTask("category", "kind", lambda random: random.choice(words), answers.__getitem__, instruction)


def _one_edit_apart(text: str, other: str) -> bool:
    """Whether one letter replaced, added or left out turns one into the other."""
    short, long = sorted((text, other), key=len)
    if len(long) - len(short) > 1:
        return False
    place = next((i for i, (a, b) in enumerate(zip(short, long, strict=False)) if a != b), len(short))
    return short[place + (len(short) == len(long)) :] == long[place + 1 :]
