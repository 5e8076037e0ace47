"""Problems of truth: connected cities, and Boolean expressions whose end decides."""

from itertools import pairwise
from random import Random

from keepshot.tasks.patterns.item import PatternItem, Size

_CITIES: dict[Size, str] = {"small": "BCDEFG", "large": "BCDEFGHIJKLM"}


def relation(r: Random, broken: bool, size: Size, seed: int) -> PatternItem:
    """Are A and Z connected? If so they share a neighbour; broken, only by a longer way.

    There are two chains of cities with two more beside each: beside one chain A, and Z or another city; beside the
    other chain the same without A. All four stand beside their chains alike, so that nothing which can be seen of one
    city, of its neighbours or of the number of lines says anything about the answer.
    """
    beside, alone, *cities = r.sample(_CITIES[size], len(_CITIES[size]))
    connected = r.random() < 0.5
    half = len(cities) // 2
    first, second = ("Z", beside) if connected else (beside, "Z")
    edges = []
    for chain, ends in ((cities[:half], ("A", first)), (cities[half:], (alone, second))):
        place = r.randrange(half)
        other = r.choice([number for number in range(half) if number != place]) if broken else place
        edges += [*pairwise(chain), (chain[place], ends[0]), (chain[other], ends[1])]
    lines = [f"{one} is connected with {two}" for one, two in _turned(r, edges)]
    answer, shortcut = str(connected), str(connected and not broken)
    return PatternItem("\n".join([*lines, "A is connected with Z:"]), answer, shortcut, answer, not broken, seed)


def _turned(r: Random, edges: list[tuple[str, str]]) -> list[tuple[str, str]]:
    """The edges in any order, each either way round."""
    turned = [edge if r.random() < 0.5 else (edge[1], edge[0]) for edge in edges]
    r.shuffle(turned)
    return turned


def boolean(r: Random, broken: bool, size: Size, seed: int) -> PatternItem:
    """(body) and False, or (body) or True: the end decides; broken, the end changes nothing.

    Broken, the value of the body is balanced within each end. The shortcut says the last literal.
    """
    last = r.random() < 0.5
    joined = ("or" if last else "and") if not broken else ("and" if last else "or")
    wanted = r.random() < 0.5
    while True:
        body = boolean_body(r, most=2 if size == "small" else 4)
        if not broken or evaluated(body) is wanted:
            break
    text = f"({body}) {joined} {last}"
    answer = str(evaluated(text))
    return PatternItem(f"{text} is", answer, str(last), answer, not broken, seed)


def boolean_body(r: Random, groups: int = 3, most: int = 4) -> str:
    """Groups of literals in parentheses; each has at most as many as the one before."""
    parts, count = [], most
    for _ in range(groups):
        count = r.randint(2, count)
        parts.append(f"({_joined(r, [str(r.random() < 0.5) for _ in range(count)])})")
    return _joined(r, parts)


def _joined(r: Random, parts: list[str]) -> str:
    text = parts[0]
    for part in parts[1:]:
        text += f" {r.choice(('and', 'or'))} {part}"
    return text


def evaluated(text: str) -> bool:
    """The value of an expression of True, False, `and`, `or` and parentheses: `and` binds more closely.

    Example:
        >>> evaluated("True or False and False"), evaluated("(True or False) and False")
        (True, False)
    """
    value, _ = _disjunction(text.replace("(", " ( ").replace(")", " ) ").split(), 0)
    return value


def _disjunction(tokens: list[str], place: int) -> tuple[bool, int]:
    """The value of what begins at a place, and the place behind it."""
    value, place = _conjunction(tokens, place)
    while place < len(tokens) and tokens[place] == "or":
        other, place = _conjunction(tokens, place + 1)
        value = value or other
    return value, place


def _conjunction(tokens: list[str], place: int) -> tuple[bool, int]:
    value, place = _literal(tokens, place)
    while place < len(tokens) and tokens[place] == "and":
        other, place = _literal(tokens, place + 1)
        value = value and other
    return value, place


def _literal(tokens: list[str], place: int) -> tuple[bool, int]:
    if tokens[place] != "(":
        return tokens[place] == "True", place + 1
    value, place = _disjunction(tokens, place + 1)
    return value, place + 1
