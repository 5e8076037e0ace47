"""Problems of truth: connected cities, and Boolean expressions whose end decides."""

from itertools import pairwise
from random import Random

from keepshot.tasks.patterns.item import PatternItem, Size

_CITIES: dict[Size, str] = {"small": "BCDEFG", "large": "BCDEFGHIJKL"}


def relation(r: Random, broken: bool, size: Size, seed: int) -> PatternItem:
    """Are A and Z connected? If so they share a neighbour; broken, only by a longer way.

    All cities but two form one chain with A beside one of them; the two are connected with each other alone. Z is
    beside one of the chain or one of the two. Which two is drawn, so that letters, pairs of them and the number of
    lines say nothing.
    """
    apart, other, *chain = r.sample(_CITIES[size], len(_CITIES[size]))
    beside_a = r.choice(chain)
    connected = r.random() < 0.5
    edges = [("A", beside_a), *pairwise(chain), (apart, other)]
    if not connected:
        beside_z = apart
    else:
        beside_z = r.choice([city for city in chain if city != beside_a]) if broken else beside_a
    edges.append((beside_z, "Z"))
    lines = [f"{first} is connected with {second}" for first, second in _turned(r, edges)]
    answer = str(connected)
    shortcut = str(beside_z == beside_a)
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
