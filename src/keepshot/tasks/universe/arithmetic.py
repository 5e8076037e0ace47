"""Tasks about numbers, bits and weighted digits."""

from collections.abc import Callable
from random import Random

from keepshot.tasks.universe.functions import BITS, HELD_OUT_BITS
from keepshot.tasks.universe.task import SyntheticTask
from keepshot.tasks.universe.words import labels

Numbers = tuple[int, ...]

# From the numbers of an input to one; `only` reads inputs of one number, the others inputs of two.
_READ: dict[str, Callable[[Numbers], int]] = {
    "only": lambda n: n[0],
    "first": lambda n: n[0],
    "second": lambda n: n[1],
    "larger": max,
    "smaller": min,
    "sum": sum,
    "difference": lambda n: abs(n[0] - n[1]),
}
# From that number to an answer; the second argument is the task's constant.
_COMPUTED: dict[str, tuple[range | tuple[int, ...], Callable[[int, int], str]]] = {
    "same": ((0,), lambda n, k: str(n)),
    "add": (range(1, 21), lambda n, k: str(n + k)),
    "subtract": (range(1, 21), lambda n, k: str(n - k)),
    "multiply": (range(2, 6), lambda n, k: str(n * k)),
    "modulo": ((2, 3, 4, 5, 10), lambda n, k: str(n % k)),
    "digits-reversed": ((0,), lambda n, k: str(n)[::-1]),
    "digit-sum": ((0,), lambda n, k: str(sum(map(int, str(n))))),
    "first-digit": ((0,), lambda n, k: str(n)[0]),
    "last-digit": ((0,), lambda n, k: str(n)[-1]),
}
# From that number to a label's index, the number of labels being given in front.
_LABELLED: dict[str, tuple[int, range | tuple[int, ...], Callable[[int, int], int]]] = {
    "odd": (2, (0,), lambda n, k: n % 2),
    "above": (2, (20, 30, 40, 50, 60, 70, 80), lambda n, k: int(n > k)),
    "thirds": (3, (0,), lambda n, k: min(n // 34, 2)),
    "modulo-three": (3, (0,), lambda n, k: n % 3),
}
_THRESHOLDS = {"sum": (60, 80, 100, 120, 140), "difference": (20, 30, 40)}  # where a number's own would tell little
# What training shows of two numbers beside the plain reading, and never: (how it is read, what is made of it).
_OF_TWO = ("add", "subtract", "odd", "above", "last-digit", "first-digit")
HELD_OUT_NUMBERS = (
    ("only", "first-digit"),
    ("sum", "above"),
    ("difference", "above"),
    ("larger", "odd"),
    ("second", "add"),
    ("smaller", "last-digit"),
)
# Left out of training with those, but `modulo` with 10 is the same function of a number below 100.
_LEFT_OUT = (*HELD_OUT_NUMBERS, ("only", "last-digit"), ("only", "same"))


def numbers(random: Random, heldout: bool = False) -> SyntheticTask:
    """One or two numbers below 100 are mapped to a number, or to one of two or three labels."""
    if heldout:
        return _number_task(random, *random.choice(HELD_OUT_NUMBERS))
    while True:
        kind = random.random()
        if kind < 0.45:
            cell = ("only", random.choice((*_COMPUTED, *_LABELLED)))
        elif kind < 0.75:
            cell = (random.choice(_OF_TWO_NUMBERS), "same")
        elif kind < 0.95:
            cell = (random.choice(_OF_TWO_NUMBERS), random.choice(_OF_TWO))
        else:
            return _first_is_larger(random)
        if cell not in _LEFT_OUT:
            return _number_task(random, *cell)


_OF_TWO_NUMBERS = tuple(name for name in _READ if name != "only")
_INSTRUCTIONS = {
    "sum": ("Add the numbers.", "Give the sum."),
    "difference": ("How far are they apart?", "Give the difference."),
    "larger": ("Which is larger?", "Give the larger number."),
    "smaller": ("Which is smaller?", "Give the smaller number."),
}


def instructed(random: Random) -> SyntheticTask:
    """Two numbers are mapped to a number, as an instruction says."""
    read = random.choice(tuple(_INSTRUCTIONS))
    return _number_task(random, read, "same", random.choice(_INSTRUCTIONS[read]))


def bits(random: Random, heldout: bool = False) -> SyntheticTask:
    """A string of 3 to 6 bits gets one of two labels by a Boolean function, often of two of its places."""
    length = random.randint(3, 6)
    yes, no = labels(random, 2)
    name, apply = random.choice(HELD_OUT_BITS if heldout else BITS)
    i, j = random.sample(range(length), 2)
    return SyntheticTask(
        "bits",
        f"{name}({i},{j} of {length})",
        lambda random: "".join(random.choice("01") for _ in range(length)),
        lambda text: yes if apply(text, i, j) else no,
    )


def linear(random: Random) -> SyntheticTask:
    """2 or 3 digits get one of two labels by whether a weighted sum of them is above its mean."""
    count = random.randint(2, 3)
    weights = [random.choice((-1, 0, 1, 2)) for _ in range(count)]
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


def _number_task(random: Random, read: str, make: str, instruction: str = "") -> SyntheticTask:
    reading = _READ[read]
    if make in _COMPUTED:
        constants, compute = _COMPUTED[make]
        constant = random.choice(constants)

        def answer(text: str) -> str:
            return compute(reading(_numbers(text)), constant)
    else:
        count, constants, choose = _LABELLED[make]
        constants = _THRESHOLDS.get(read, constants) if make == "above" else constants
        constant, names = random.choice(constants), labels(random, count)

        def answer(text: str) -> str:
            return names[choose(reading(_numbers(text)), constant)]

    made = "" if make == "same" else f"{make}({constant})" if len(constants) > 1 else make
    name = "-".join(part for part in (read if read != "only" else "", made) if part)
    return SyntheticTask("numbers", name, one_number if read == "only" else two_numbers, answer, instruction)


def _first_is_larger(random: Random) -> SyntheticTask:
    yes, no = labels(random, 2)

    def answer(text: str) -> str:
        first, second = _numbers(text)
        return yes if first > second else no

    return SyntheticTask("numbers", "first-is-larger", two_numbers, answer)


def one_number(random: Random) -> str:
    """A number below 100."""
    return str(random.randint(0, 99))


def two_numbers(random: Random) -> str:
    """Two numbers below 100."""
    return f"{one_number(random)} {one_number(random)}"


def _numbers(text: str) -> Numbers:
    return tuple(map(int, text.split()))
