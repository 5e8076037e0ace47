"""The families of synthetic tasks: which inputs a task has, which function, which labels."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from random import Random

from keepshot.tasks.universe import functions
from keepshot.tasks.universe.functions import Draw, Numbers, one_of, plain, with_constant
from keepshot.tasks.universe.words import labels, word


@dataclass(frozen=True, slots=True)
class SyntheticTask:
    """One input-output relation of the universe.

    Attributes:
        family: The name of the family, such as `strings`.
        name: The function with its constants, such as `reverse+append(ta)`.
        draw: Draws an input.
        answer: The answer to an input that `draw` can return.
    """

    family: str
    name: str
    draw: Callable[[Random], str]
    answer: Callable[[str], str]


TaskDraw = Callable[[Random], SyntheticTask]


def strings(random: Random, heldout: bool = False) -> SyntheticTask:
    """A word is rewritten by one string function, or by two in turn (each case half the time; held out: by one)."""
    table = functions.HELD_OUT_STRINGS if heldout else functions.STRINGS
    count = 1 if heldout or random.random() < 0.5 else 2
    steps = [random.choice(table)(random) for _ in range(count)]

    def answer(text: str) -> str:
        for step in steps:
            text = step.apply(text)
        return text

    return SyntheticTask("strings", "+".join(step.name for step in steps), word, answer)


def classify(random: Random, heldout: bool = False) -> SyntheticTask:
    """A word gets one of two labels by a predicate."""
    table = functions.HELD_OUT_PREDICATES if heldout else functions.PREDICATES
    predicate = random.choice(table)(random)
    yes, no = labels(random, 2)
    return SyntheticTask("classify", predicate.name, word, lambda text: yes if predicate.apply(text) else no)


def numbers(random: Random, heldout: bool = False) -> SyntheticTask:
    """One or two numbers below 100 are mapped to a number, or to one of two labels."""
    return random.choice(_HELD_OUT_NUMBERS if heldout else _NUMBERS)(random)


def bits(random: Random, heldout: bool = False) -> SyntheticTask:
    """A string of 3 to 6 bits gets one of two labels by a Boolean function, often of two of its places."""
    length = random.randint(3, 6)
    yes, no = labels(random, 2)
    name, apply = random.choice(functions.HELD_OUT_BITS if heldout else functions.BITS)
    i, j = random.sample(range(length), 2)
    return SyntheticTask(
        "bits",
        f"{name}({i},{j} of {length})",
        lambda random: "".join(random.choice("01") for _ in range(length)),
        lambda text: yes if apply(text, i, j) else no,
    )


def lookup(random: Random) -> SyntheticTask:
    """A table of 2 to 8 words with arbitrary values; its queries return to words that were shown before."""
    keys = [word(random) for _ in range(random.randint(2, 8))]
    table = {key: random.choice((word(random, 2, 4), _one_number(random))) for key in keys}
    return SyntheticTask("lookup", f"lookup({len(keys)})", lambda random: random.choice(keys), table.__getitem__)


def linear(random: Random) -> SyntheticTask:
    """2 or 3 digits get one of two labels by whether a weighted sum of them is above its mean."""
    count = random.randint(2, 3)
    weights = [random.choice((-2, -1, 0, 1, 2)) for _ in range(count)]
    if not any(weights):
        weights[0] = 1
    yes, no = labels(random, 2)
    mean = sum(weights) * 4.5  # a digit's mean is 4.5

    def answer(text: str) -> str:
        total = sum(weight * int(digit) for weight, digit in zip(weights, text.split(), strict=True))
        return yes if total > mean else no

    return SyntheticTask(
        "linear",
        f"linear({','.join(map(str, weights))})",
        lambda random: " ".join(str(random.randint(0, 9)) for _ in range(count)),
        answer,
    )


_TRAINING_MIX: dict[str, tuple[TaskDraw, int]] = {
    "strings": (strings, 3),
    "classify": (classify, 2),
    "numbers": (numbers, 2),
    "bits": (bits, 1),
    "lookup": (lookup, 1),
    "linear": (linear, 1),
}
FAMILIES = tuple(_TRAINING_MIX)


def draw_task(generator: Random, heldout: bool = False, families: Sequence[str] = FAMILIES) -> SyntheticTask:
    """A task of a random family: one that the bundled model was trained on, or a held-out member.

    Args:
        generator: Its state moves on.
        heldout: Whether members that no model is trained on are drawn, of the first four families.
        families: Those to draw from; out of `FAMILIES`.

    Example:
        >>> task = draw_task(Random(0))
        >>> task.family, task.name, task.answer("30 12")
        ('numbers', 'difference', '18')
    """
    if heldout:
        return generator.choice((strings, classify, numbers, bits))(generator, True)
    # Strings count three times, words with labels and numbers twice: they are the richest families.
    mix = [draw for family, (draw, times) in _TRAINING_MIX.items() if family in families for _ in range(times)]
    return generator.choice(mix)(generator)


def _one_number(random: Random) -> str:
    return str(random.randint(0, 99))


def _two_numbers(random: Random) -> str:
    return f"{_one_number(random)} {_one_number(random)}"


def _read(text: str) -> Numbers:
    return tuple(map(int, text.split()))


def _computed(inputs: Callable[[Random], str], draw: Draw[Numbers, int | str]) -> TaskDraw:
    """Number tasks that are answered with what the function returns."""

    def task(random: Random) -> SyntheticTask:
        function = draw(random)
        return SyntheticTask("numbers", function.name, inputs, lambda text: str(function.apply(_read(text))))

    return task


def _labelled(inputs: Callable[[Random], str], draw: Draw[Numbers, bool]) -> TaskDraw:
    """Number tasks that are answered with one of two labels."""

    def task(random: Random) -> SyntheticTask:
        yes, no = labels(random, 2)
        function = draw(random)
        return SyntheticTask("numbers", function.name, inputs, lambda text: yes if function.apply(_read(text)) else no)

    return task


def _last_digit(random: Random) -> SyntheticTask:
    labels(random, 2)  # unused, but what a seed means rests on these draws
    return SyntheticTask("numbers", "last-digit", _one_number, lambda text: text[-1])


_NUMBERS: tuple[TaskDraw, ...] = (
    _computed(_one_number, with_constant("add", one_of(range(1, 21)), lambda n, k: n[0] + k)),
    _computed(_one_number, with_constant("subtract", one_of(range(1, 21)), lambda n, k: n[0] - k)),
    _computed(_one_number, with_constant("multiply", one_of(range(2, 6)), lambda n, k: n[0] * k)),
    _computed(_one_number, with_constant("modulo", one_of((2, 3, 4, 5, 10)), lambda n, k: n[0] % k)),
    _computed(_two_numbers, plain("larger", max)),
    _computed(_two_numbers, plain("smaller", min)),
    _computed(_one_number, plain("digits-reversed", lambda n: str(n[0])[::-1])),
    _computed(_one_number, plain("digit-sum", lambda n: sum(map(int, str(n[0]))))),
    _labelled(_two_numbers, plain("first-is-larger", lambda n: n[0] > n[1])),
    _labelled(_one_number, plain("odd", lambda n: n[0] % 2 == 1)),
    _labelled(_one_number, with_constant("above", one_of(range(20, 81)), lambda n, k: n[0] > k)),
    _computed(_two_numbers, plain("sum", sum)),
    _computed(_two_numbers, plain("difference", lambda n: abs(n[0] - n[1]))),
)
_HELD_OUT_NUMBERS: tuple[TaskDraw, ...] = (
    _last_digit,
    _labelled(_two_numbers, plain("apart-by-over-33", lambda n: abs(n[0] - n[1]) > 33)),
    _labelled(_two_numbers, plain("sum-over-99", lambda n: sum(n) > 99)),
)
