"""A task before its examples are drawn."""

from collections.abc import Callable
from dataclasses import dataclass
from random import Random

from keepshot import keys
from keepshot.tasks.example import Example, Scoring
from keepshot.tasks.split import input_key
from keepshot.tasks.universe import SyntheticTask, word


@dataclass(frozen=True, slots=True)
class Relation:
    """An input-output relation.

    Attributes:
        draw: Draws an input.
        answer: The answer to an input.
        labels: All answers, where the set is finite.
        scoring: How answers are scored.
    """

    draw: Callable[[Random], str]
    answer: Callable[[str], str]
    labels: tuple[str, ...] = ()
    scoring: Scoring = "exact_match"

    def examples(self, count: int, *purpose: str) -> tuple[Example, ...]:
        """`count` examples with different inputs, or all of them where there are fewer; keyed by `purpose`."""
        options = self.labels if self.scoring == "options" else ()

        def example(random: Random) -> Example:
            text = self.draw(random)
            return Example(text, self.answer(text), options=options)

        return distinct(example, count, *purpose)


def distinct(draw: Callable[[Random], Example], count: int, *purpose: str) -> tuple[Example, ...]:
    """`count` drawn examples that ask different things, or all that many draws find where there are fewer."""
    random = keys.generator(*purpose)
    examples: dict[int, Example] = {}
    for _ in range(40 * count):  # ends the search where the inputs do not suffice
        example = draw(random)
        examples.setdefault(input_key(example), example)
        if len(examples) == count:
            break
    return tuple(examples.values())


def either(yes: str, no: str, holds: Callable[[str], bool], draw: Callable[[Random], str] = word) -> Relation:
    """One of two labels, by whether `holds`."""
    return Relation(draw, lambda text: yes if holds(text) else no, (yes, no))


def of_universe(task: SyntheticTask, labels: tuple[str, ...] = ()) -> Relation:
    """A task of the universe."""
    return Relation(task.draw, task.answer, labels)


def letters(count: int, of: str) -> Callable[[Random], str]:
    """Draws a text of so many of these letters."""
    return lambda random: "".join(random.choice(of) for _ in range(count))


def numbers(count: int, below: int) -> Callable[[Random], str]:
    """Draws so many numbers."""
    return lambda random: " ".join(str(random.randint(0, below - 1)) for _ in range(count))
