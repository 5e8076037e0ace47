"""Problems of numbers: a product with a sum that cancels, an even head of digits, equal unknowns."""

from dataclasses import dataclass
from random import Random

from keepshot.tasks.patterns.item import PatternItem, Size


@dataclass(frozen=True, slots=True)
class _Sums:
    """Terms and ranges of the parts of an expression."""

    zero: tuple[int, int]
    zero_range: int
    free: int
    free_range: int
    most: int  # size of the answer


_SUMS: dict[Size, _Sums] = {"small": _Sums((2, 2), 9, 2, 5, 99), "large": _Sums((2, 4), 20, 4, 10, 99)}


def sum_text(
    r: Random, terms: tuple[int, int], largest: int, target: int | None = None, signed: bool = True
) -> tuple[str, int]:
    """A sum as text, and its value.

    Args:
        r: Draws.
        terms: Fewest and most.
        largest: Of the terms that are drawn; the last one balances and may be larger.
        target: The value; drawn as a term is unless told.
        signed: Whether terms may be negative.

    Example:
        >>> text, value = sum_text(Random(1), (2, 4), 10, target=0)
        >>> eval(text), value
        (0, 0)
    """
    count, least = r.randint(*terms), -largest if signed else 0
    value = r.randint(least, largest) if target is None else target
    if count == 1:
        return str(value), value
    drawn = [r.randint(least, largest) for _ in range(count - 1)]
    drawn.append(value - sum(drawn))
    return "".join(f"{term:+d}" for term in drawn).removeprefix("+"), value


def expression(r: Random, broken: bool, size: Size, seed: int) -> PatternItem:
    """(S)+(Z)*(C)=: Z is 0, so that C does not matter; broken, neither is 0, and signs are balanced."""
    parts = _SUMS[size]
    negative = r.random() < 0.5
    while True:
        start, s = sum_text(r, (1, 2), 10, signed=False)
        zero, z = sum_text(r, parts.zero, parts.zero_range, None if broken else 0)
        free, c = sum_text(r, (parts.free, parts.free), parts.free_range)
        answer = s + z * c
        if not broken or (z and c and abs(answer) <= parts.most and answer != s and (answer < 0) is negative):
            break
    return PatternItem(f"({start})+({zero})*({free})=", str(answer), str(s), str(answer), not broken, seed)


def parity(r: Random, broken: bool, size: Size, seed: int) -> PatternItem:
    """Is the sum of some digits even? All but the last have an even sum, so that the last decides; broken, an odd one.

    This task is ours: the paper names parity, and no generator of it is known.
    """
    count = r.randint(3, 5) if size == "small" else r.randint(5, 9)
    while True:
        digits = [r.randint(0, 9) for _ in range(count)]
        if (sum(digits[:-1]) % 2 == 1) is broken:
            break
    words = ("even", "odd")
    answer = words[sum(digits) % 2]
    return PatternItem(" ".join(map(str, digits)), answer, words[digits[-1] % 2], answer, not broken, seed)


def equations(r: Random, broken: bool, size: Size, seed: int) -> PatternItem:
    """Two equations and a sum of their multiples, solved for a: both unknowns are equal; broken, they are not.

    The shortcut divides the first right side by the sum of its coefficients. The regularity is ours; equations as the
    paper's code has them are in `faithful`.
    """
    most = 5 if size == "small" else 9
    while True:
        a, b = r.randint(1, most), r.randint(1, most)
        if not broken:
            b = a
        rows = [(r.randint(1, 4), r.randint(1, 4)) for _ in range(2)]
        (p, q), (u, v) = rows
        right = p * a + q * b
        if p * v == q * u or (broken and (a == b or right % (p + q))):
            continue
        break
    x, y = r.randint(1, 3), r.randint(1, 3)
    rows.append((x * p + y * u, x * q + y * v))
    lines = [f"{left}a + {other}b = {left * a + other * b}" for left, other in rows]
    return PatternItem("\n".join([*lines, "a ="]), str(a), str(right // (p + q)), str(a), not broken, seed)
