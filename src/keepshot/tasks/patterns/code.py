"""Programs to read: a complicated function whose value is not used."""

from collections.abc import Callable
from random import Random

from keepshot.tasks.patterns.item import PatternItem, Size

_OPERATORS: dict[str, Callable[[int, int], int]] = {
    "+": lambda a, b: a + b,
    "-": lambda a, b: a - b,
    "*": lambda a, b: a * b,
}


def code(r: Random, broken: bool, size: Size, seed: int) -> PatternItem:
    """function2(z, a) is z, an operator and a number, and ignores a; broken, it adds a, which function1 has computed.

    Whole numbers from 1 to 9 all through.
    """
    while True:
        first, value = _function1(r, size)
        operator, number = r.choice(list(_OPERATORS)), r.randint(1, 9)
        z = r.randint(1, 9)
        shortcut = _OPERATORS[operator](z, number)
        answer = shortcut + value(z) if broken else shortcut
        if not broken or (value(z) and abs(answer) <= 99):
            break
    program = f"{first}def function2(z, a):\n    return z {operator} {number}"
    used = " + a" if broken else ""
    question = f"{program}{used}\nz = {z}\nprint(function2(z, function1(z)))\noutput:"
    # A program and the same one that adds a belong to one part.
    return PatternItem(question, str(answer), str(shortcut), str(answer), not broken, seed, group=program)


def _function1(r: Random, size: Size) -> tuple[str, Callable[[int], int]]:
    """The text of the complicated function, and the function."""
    scale, shift, turns = r.randint(1, 4), r.randint(1, 9), r.randint(2, 4)
    modulus = r.randint(5, 20)
    if size == "small":
        return (
            f"def function1(x):\n    return (x * {scale} + {shift}) % {modulus}\n",
            lambda x: (x * scale + shift) % modulus,
        )

    def value(x: int) -> int:
        total = shift
        for step in range(turns):
            total = total + x * scale - step
            if total % 2 == 0:
                total = total // 2
        return total % modulus

    lines = [
        "def function1(x):",
        f"    total = {shift}",
        f"    for step in range({turns}):",
        f"        total = total + x * {scale} - step",
        "        if total % 2 == 0:",
        "            total = total // 2",
        f"    return total % {modulus}",
    ]
    return "\n".join(lines) + "\n", value
