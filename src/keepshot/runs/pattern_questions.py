"""What a model is asked about a pattern task, and what its answers say.

    accuracy      P(answer = label), apart for items whose pattern holds and items whose pattern is broken
    pattern use   P(answer = what the shortcut says), over broken items on which rule and shortcut differ

An answer is the first thing in the first line written that could be one, and counts if it is the same text.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from keepshot.evaluation import Subject
from keepshot.keys import generator
from keepshot.runs.answering import answers, fit
from keepshot.runs.pattern_intervals import wilson
from keepshot.tasks.example import Example
from keepshot.tasks.patterns import PatternItem, PatternName, as_examples, said


@dataclass(frozen=True, slots=True)
class Rate:
    """A share of answers with its Wilson 95 % interval.

    Example:
        >>> found = Rate.of([True] * 9 + [False])
        >>> found.value, round(found.low, 2), round(found.high, 2), found.n
        (0.9, 0.6, 0.98, 10)
    """

    value: float
    low: float
    high: float
    n: int

    @classmethod
    def of(cls, hits: Sequence[bool]) -> "Rate":
        """The share of hits.

        Reference:
            Wilson 1927.
        """
        value = sum(hits) / len(hits)
        return cls(value, *wilson(value, len(hits)), len(hits))


@dataclass(frozen=True, slots=True)
class Rates:
    """What the answers to items say; None where there is no such item."""

    holds: Rate | None
    broken: Rate | None
    pattern_use: Rate | None


@dataclass(frozen=True, slots=True)
class Questions:
    """Items, and what stands before them.

    Attributes:
        task: Of all items.
        items: Asked.
        shown: Demonstrations are drawn from these, each query's its own; with more of them the first stay.
        seed: Keys the draw.
    """

    task: PatternName
    items: tuple[PatternItem, ...]
    shown: tuple[PatternItem, ...]
    seed: int

    def prompts(self, shots: int) -> list[tuple[Example, ...]]:
        """Demonstrations and the query, for every item.

        Example:
            >>> from keepshot.tasks.patterns import items
            >>> asked = Questions("parity", tuple(items("parity", "test", 3)), tuple(items("parity", "train", 9)), 0)
            >>> two, four = asked.prompts(2), asked.prompts(4)
            >>> len(four[0]), four[0][:2] == two[0][:2]
            (5, True)
        """
        examples = list(as_examples(self.task, list(self.shown)))
        queries = as_examples(self.task, list(self.items))
        # One draw of all, cut: the first of k demonstrations do not depend on k.
        return [
            (*generator(self.seed, "patterns", "shots", item.question).sample(examples, len(examples))[:shots], query)
            for item, query in zip(self.items, queries, strict=True)
        ]

    def fit(self, subject: Subject, shots: int, prompt_tokens: int = 0) -> bool:
        """Whether all prompts fit the model's context, with a soft prompt of so many tokens before them."""
        return fit(subject, self.prompts(shots), prompt_tokens)

    def ask(self, subject: Subject, shots: int) -> list[str]:
        """What the model writes, item by item.

        Raises:
            ConfigError: A prompt does not fit the model's context.
        """
        return answers(subject, self.prompts(shots), lines=False)


def hits(task: PatternName, items: Sequence[PatternItem], written: Sequence[str]) -> dict[str, list[bool]]:
    """By field of `Rates`, of every item that it is over, whether it counts.

    Example:
        >>> broken = PatternItem("1 2", "odd", "even", "odd", pattern_holds=False, seed=0)
        >>> held = PatternItem("2 1", "odd", "odd", "odd", pattern_holds=True, seed=1)
        >>> hits("parity", [broken, broken, held], ["even", "odd", "odd, I think"])
        {'holds': [True], 'broken': [False, True], 'pattern_use': [True, False]}
    """
    both = [(item, said(task, text)) for item, text in zip(items, written, strict=True)]
    return {
        "holds": [answer == item.answer for item, answer in both if item.pattern_holds],
        "broken": [answer == item.answer for item, answer in both if not item.pattern_holds],
        "pattern_use": [
            answer == item.shortcut_answer
            for item, answer in both
            if not item.pattern_holds and item.shortcut_answer != item.formal_answer
        ],
    }


def rates(task: PatternName, items: Sequence[PatternItem], written: Sequence[str]) -> Rates:
    """What the answers say."""
    found = hits(task, items, written)
    return Rates(**{share: Rate.of(of_items) if of_items else None for share, of_items in found.items()})


def best_constant(items: Sequence[PatternItem]) -> Rates:
    """What the constant answer says that is right most often, apart for items whose pattern holds and is broken."""
    found: list[Rate | None] = []
    for flag in (True, False):
        labels = [item.answer for item in items if item.pattern_holds is flag]
        best = max(sorted(set(labels)), key=labels.count, default=None)
        found.append(None if best is None else Rate.of([label == best for label in labels]))
    return Rates(found[0], found[1], None)


def rates_of(values: Any) -> Rates:
    """`Rates` as JSON made them."""
    return Rates(*(None if values[name] is None else Rate(**values[name]) for name in Rates.__slots__))
