"""Rules over the questions of the pattern problems: which have two answers, and which give a number."""

import re
from collections.abc import Callable
from dataclasses import dataclass

from keepshot.tasks.patterns.logic import evaluated


def _digits(text: str) -> list[int]:
    return [int(digit) for digit in text.split()]


def _literals(text: str) -> list[str]:
    return re.findall("True|False", text)


def _joiners(text: str) -> list[str]:
    return re.findall("and|or", text)


def _parts(text: str) -> list[list[int]]:
    """The terms of S, Z and C in `(S)+(Z)*(C)=`."""
    return [[int(term) for term in re.findall(r"[+-]?\d+", part)] for part in re.findall(r"\(([^)]*)\)", text)]


def _rows(text: str) -> list[list[int]]:
    """Both coefficients and the right side of every equation."""
    return [[int(number) for number in re.findall(r"\d+", line)] for line in text.splitlines()[:-1]]


def _value(text: str) -> int:
    start, zero, free = (sum(part) for part in _parts(text))
    return start + zero * free


def _solved(text: str) -> int:
    """a, by Cramer's rule."""
    (p, q, first), (u, v, second), _ = _rows(text)
    return (first * v - q * second) // (p * v - q * u)


def _lines(text: str) -> list[tuple[str, str]]:
    """The two cities of every line of a relation."""
    return re.findall(r"(\w) is connected with (\w)\n", text)


def _line_of(text: str, city: str) -> int:
    """The first line in which a city stands."""
    return next(number for number, pair in enumerate(_lines(text)) if city in pair)


def _neighbours(text: str, cities: set[str]) -> set[str]:
    return {city for pair in _lines(text) if cities & {*pair} for city in pair} - cities


def _connected(text: str) -> bool:
    reached = {"A"}
    while new := _neighbours(text, reached):
        reached |= new
    return "Z" in reached


@dataclass(frozen=True, slots=True)
class _Program:
    """The numbers in a program: `(x * factor + shift) % modulus`, `z operator number`, `z = z`."""

    factor: int
    shift: int
    modulus: int
    number: int
    z: int
    value: int  # of z, the operator and the number
    used: bool  # whether function2 adds a

    @classmethod
    def read(cls, text: str) -> "_Program":
        found = re.search(r"x \* (\d+) \+ (\d+)\) % (\d+).*return z (.) (\d+)( \+ a)?\nz = (\d+)", text, re.DOTALL)
        assert found is not None, text
        factor, shift, modulus, number, z = (int(found[group]) for group in (1, 2, 3, 5, 7))
        value = {"+": z + number, "-": z - number, "*": z * number}[found[4]]
        return cls(factor, shift, modulus, number, z, value, found[6] is not None)

    @property
    def function1(self) -> int:
        return (self.z * self.factor + self.shift) % self.modulus

    @property
    def printed(self) -> int:
        return self.value + (self.function1 if self.used else 0)


PROPERTIES: dict[str, dict[str, Callable[[str], bool]]] = {
    "parity": {
        "sum-even": lambda text: sum(_digits(text)) % 2 == 0,
        "last-even": lambda text: _digits(text)[-1] % 2 == 0,
        "first-even": lambda text: _digits(text)[0] % 2 == 0,
        "second-even": lambda text: _digits(text)[1] % 2 == 0,
        "last-but-one-even": lambda text: _digits(text)[-2] % 2 == 0,
        "first-high": lambda text: _digits(text)[0] >= 5,
        "last-high": lambda text: _digits(text)[-1] >= 5,
        "rises": lambda text: _digits(text)[0] < _digits(text)[-1],
        "largest-even": lambda text: max(_digits(text)) % 2 == 0,
    },
    "boolean": {
        "value": lambda text: evaluated(re.sub(r"(\n value)? is$", "", text)),
        "last-true": lambda text: _literals(text)[-1] == "True",
        "first-true": lambda text: _literals(text)[0] == "True",
        "last-but-one-true": lambda text: _literals(text)[-2] == "True",
        "ends-with-and": lambda text: _joiners(text)[-1] == "and",
        "starts-with-and": lambda text: _joiners(text)[0] == "and",
        "mostly-true": lambda text: 2 * _literals(text).count("True") > len(_literals(text)),
        "first-two-alike": lambda text: _literals(text)[0] == _literals(text)[1],
    },
    "relations": {
        "connected": _connected,
        "shared-neighbour": lambda text: _neighbours(text, {"A"}) == _neighbours(text, {"Z"}),
        "a-in-first-line": lambda text: _line_of(text, "A") == 0,
        "a-before-z": lambda text: _line_of(text, "A") < _line_of(text, "Z"),
        "a-stands-first": lambda text: _lines(text)[_line_of(text, "A")][0] == "A",
        "z-stands-first": lambda text: _lines(text)[_line_of(text, "Z")][0] == "Z",
    },
}
NUMBERS: dict[str, dict[str, Callable[[str], int]]] = {
    "expressions": {
        "first-term": lambda text: _parts(text)[0][0],
        "second-sum-first-term": lambda text: _parts(text)[1][0],
        "last-term": lambda text: _parts(text)[2][-1],
        "first-sum": lambda text: sum(_parts(text)[0]),
        "value": _value,
        "second-sum": lambda text: sum(_parts(text)[1]),
        "third-sum": lambda text: sum(_parts(text)[2]),
        "first-and-third-sum": lambda text: sum(_parts(text)[0]) + sum(_parts(text)[2]),
        "terms": lambda text: sum(map(len, _parts(text))),
    },
    "equations": {
        "first-right": lambda text: _rows(text)[0][2],
        "last-right": lambda text: _rows(text)[-1][2],
        "first-coefficient": lambda text: _rows(text)[0][0],
        "second-coefficient": lambda text: _rows(text)[0][1],
        "first-coefficients": lambda text: sum(_rows(text)[0][:2]),
        "first-right-less-coefficients": lambda text: _rows(text)[0][2] - sum(_rows(text)[0][:2]),
        "first-rights": lambda text: _rows(text)[0][2] + _rows(text)[1][2],
        "a": _solved,
        "first-quotient": lambda text: _rows(text)[0][2] // sum(_rows(text)[0][:2]),
    },
    "code": {
        "z": lambda text: _Program.read(text).z,
        "factor": lambda text: _Program.read(text).factor,
        "shift": lambda text: _Program.read(text).shift,
        "modulus": lambda text: _Program.read(text).modulus,
        "number": lambda text: _Program.read(text).number,
        "function1": lambda text: _Program.read(text).function1,
        "printed": lambda text: _Program.read(text).printed,
        "without-a": lambda text: _Program.read(text).value,
    },
}
PLAIN = "{}"
LEFT_OUT: dict[str, list[tuple[str, str]]] = {
    "parity": [("sum-even", "even/odd"), ("last-even", "even/odd")],
    "boolean": [("value", "True/False"), ("last-true", "True/False"), ("ends-with-and", "False/True")],
    "relations": [("connected", "True/False"), ("shared-neighbour", "True/False")],
    "expressions": [("value", PLAIN), ("first-sum", PLAIN)],
    "equations": [("a", PLAIN), ("first-quotient", PLAIN)],
    "code": [("printed", PLAIN), ("without-a", PLAIN)],
}
"""What is right wherever a problem's pattern holds, as the problem writes it; written otherwise it is practised.

These are its rule and its shortcut, and of Boolean expressions the last `and` or `or`: it goes with the last literal.
"""
