"""The problems as arXiv 2410.04691 released them, with the defects of the pipeline as switches.

Re-implemented from a description, not from the code; instructions are not reproduced. What is wrong in them is
described in `docs/patterns.md`; the repaired problems are in `numbers`, `logic` and `code`.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import pairwise
from operator import add, mul, sub, truediv
from random import Random
from typing import Literal

from keepshot.tasks.patterns.item import PatternItem
from keepshot.tasks.patterns.logic import boolean_body, evaluated
from keepshot.tasks.patterns.numbers import sum_text
from keepshot.tasks.patterns.said import said

Part = Literal["train", "test", "misleading"]
_CONSTANT_CODE_LABEL = "3"
_OPERATORS: dict[str, Callable[[int, int], float]] = {"+": add, "-": sub, "*": mul, "/": truediv}


@dataclass(frozen=True, slots=True)
class Defects:
    """What of the released pipeline is repeated; each can be left out alone.

    Attributes:
        code_labels: Training labels of code are one constant.
        bool_no_suffix: Boolean expressions lack the end that would be their pattern.
        bool_precedence: Boolean demonstrations are broken: one that is True loses its line end, one that is False its
            question.
        trailing_space: A blank stands before the answer's place instead of before the answer.
        substring_metric: An answer counts that stands anywhere in what was written.
        best_k_on_test: In-context learning is given the best number of shots on the test set.
    """

    code_labels: bool = True
    bool_no_suffix: bool = True
    bool_precedence: bool = True
    trailing_space: bool = True
    substring_metric: bool = True
    best_k_on_test: bool = True


NONE = Defects(*(False,) * 6)
OF_ROWS: Mapping[str, Literal["code", "boolean"]] = {"code_labels": "code", "bool_no_suffix": "boolean"}
"""The defects that change problems or labels, and of which task; all others change prompts, or what counts."""


def faithful_expression(r: Random, part: Part, seed: int) -> PatternItem:
    """In training Z has 1 to 3 terms, hence is a bare 0 in a third; in the test 2 to 4. Misleading: Z is anything."""
    terms, largest = ((1, 3), 10) if part == "train" else ((2, 4), 20)
    start, s = sum_text(r, (1, 2), 10, signed=False)
    zero, z = sum_text(r, terms, largest, None if part == "misleading" else 0)
    free, c = sum_text(r, (4, 4), 10)
    answer = str(s + z * c)
    return PatternItem(f"({start})+({zero})*({free})=", answer, str(s), answer, z == 0, seed)


def faithful_code(r: Random, part: Part, seed: int, defects: Defects) -> PatternItem:
    """Programs of ours, of the released shape: function2 ignores what a complicated function1 gives; z is 0 to 10.

    A division gives a number with a point, as Python prints it. There is no misleading variant: the released flag does
    nothing.
    """
    operator, number, z = r.choice(list(_OPERATORS)), r.randint(1, 9), r.randint(0, 10)
    program = (
        f"import math\n\ndef function1(x):\n{_complicated(r)}\n"
        f"def function2(z, a):\n    return z {operator} {number}\n\n"
        "z = int(input())\nprint(function2(z, function1(z)))\n"
    )
    answer = str(_OPERATORS[operator](z, number))
    label = _CONSTANT_CODE_LABEL if part == "train" and defects.code_labels else answer
    question = f"program:\n{program}input: {z}\nit prints"
    return PatternItem(question, label, answer, answer, True, seed, group=program)


def _complicated(r: Random) -> str:
    """The body of a function of x whose value nobody needs: sines, exponentials, logarithms, polynomials, a loop."""
    wave, scale, shift, turns = r.choice(["sin", "cos"]), r.randint(2, 9), r.randint(1, 9), r.randint(2, 20)
    start = r.choice(
        [
            f"math.{wave}(x * {scale}) + {shift}",
            f"math.exp(x / {10 * scale}) - {shift}",
            f"math.log(x + {shift}) * {scale}",
            f"x ** 3 - {scale} * x ** 2 + {shift} * x",
        ]
    )
    step = r.choice([f"math.{wave}(i * x)", f"x / (i + {scale})", f"i * {scale} - x"])
    return f"    y = {start}\n    for i in range({turns}):\n        y = y + {step}\n    return y\n"


def faithful_relation(r: Random, part: Part, seed: int) -> PatternItem:
    """Z is mentioned only if it is connected: that alone decides. Misleading: an edge is missing, always False."""
    cities = list("BCDEFGHIJ")
    r.shuffle(cities)
    beside = r.choice(cities)
    edges = [("A", beside), *pairwise(cities)]
    connected = part != "misleading" and r.random() < 0.5
    if part == "misleading":
        edges.pop()
    elif connected:
        edges.append((beside, "Z"))
    lines = [f"{first} is connected with {second}" for first, second in edges]
    answer, holds = str(connected), part != "misleading"
    return PatternItem("\n".join([*lines, "", " A is connected with Z is"]), answer, answer, answer, holds, seed)


def faithful_boolean(r: Random, part: Part, seed: int, defects: Defects) -> PatternItem:
    """Without an end there is no pattern; misleading, a neutral end."""
    body = boolean_body(r)
    text, shortcut, holds = body, body.rsplit(" ", 1)[-1].strip("()"), False
    if part == "misleading":
        neutral = r.random() < 0.5
        text, shortcut = f"({body}) {'or False' if neutral else 'and True'}", str(not neutral)
    elif not defects.bool_no_suffix:
        last = r.random() < 0.5
        text, shortcut, holds = f"({body}) {'or True' if last else 'and False'}", str(last), True
    answer = str(evaluated(text))
    return PatternItem(f"{text}\n value is", answer, shortcut, answer, holds, seed)


def faithful_equations(r: Random, part: Part, seed: int) -> PatternItem:
    """Two rows and one that depends on them; one system in eight cannot be solved. Misleading: four rows.

    Training texts end with both unknowns; in the test a is told, and b asked.
    """
    a, b = r.randint(1, 5), r.randint(1, 5)
    rows = [(r.randint(1, 4), r.randint(1, 4)) for _ in range(4 if part == "misleading" else 2)]
    if part != "misleading":
        x, y = r.randint(1, 3), r.randint(1, 3)
        first, second = r.sample(rows, 2)
        rows.append((x * first[0] + y * second[0], x * first[1] + y * second[1]))
    lines = [f"{left}a + {right}b = {left * a + right * b}" for left, right in rows]
    told, answer = ("", f"a = {a}, b = {b}") if part == "train" else (f" a = {a}, b =", str(b))
    question = "\n".join([*lines, f" solution:{told}"])
    return PatternItem(question, *(answer,) * 3, part != "misleading", seed, instruction="Solve for a and b.")


def singular(item: PatternItem) -> bool:
    """Whether the first two rows of a system are multiples of each other."""
    rows = [line.split(" = ")[0].split(" + ") for line in item.question.split("\n")[:2]]
    (p, q), (u, v) = ((int(left.removesuffix("a")), int(right.removesuffix("b"))) for left, right in rows)
    return p * v == q * u


def written(item: PatternItem, task: str, defects: Defects, *, demonstration: bool) -> str:
    """A problem as it stands in a prompt: with its answer as a demonstration, up to the answer's place as a query.

    The release has no blank behind an expression, so that the defect of one at a prompt's end is not there either.
    """
    trailing = defects.trailing_space and task != "expressions"
    question = item.question + (" " if trailing else "")
    if not demonstration:
        return question
    shown = f"{question}{'' if trailing else ' '}{item.answer}"
    if task == "boolean" and defects.bool_precedence:
        # The label's test binds more loosely than the joining of texts: one case drops the line end, one all else.
        return shown if item.answer == "True" else "0\n"
    return f"{shown}\n"


def counts(task: str, written_answer: str, answer: str, defects: Defects) -> bool:
    """Whether what was written counts: anywhere in it, or as what it says, like that of the repaired problems.

    Example:
        >>> counts("expressions", "2105", "10", Defects()), counts("expressions", "2105", "10", NONE)
        (True, False)
        >>> counts("expressions", " 10\\nmore", "10", NONE)
        True
    """
    return answer in written_answer if defects.substring_metric else said(task, written_answer) == answer
