"""What a model sees in one row: demonstrations and a query."""

from dataclasses import dataclass, replace
from typing import Literal

from keepshot.tasks.example import Example

Scored = Literal["last", "all", "later", "row"]


@dataclass(frozen=True, slots=True)
class Episode:
    """Demonstrations and a query.

    Attributes:
        stream: The stream that it belongs to.
        name: Says where it came from, for messages about it.
        examples: Demonstrations in order, then the query.
        scored: What is trained on: the query's answer alone, every answer, every answer but the first, or every token.
        expendable: Places of the demonstrations in the order in which they may be left out; empty means from the first.
    """

    stream: str
    name: str
    examples: tuple[Example, ...]
    scored: Scored = "last"
    expendable: tuple[int, ...] = ()

    def without_demonstrations(self, count: int) -> "Episode":
        """The episode without `count` demonstrations; the query always stays.

        Example:
            >>> from keepshot.tasks.example import Example
            >>> shown = Episode("s", "n", tuple(Example(text, "y") for text in "abcq"), expendable=(1, 0, 2))
            >>> [example.input for example in shown.without_demonstrations(2).examples]
            ['c', 'q']
        """
        assert 0 <= count < len(self.examples)
        order = self.expendable or tuple(range(len(self.examples) - 1))
        gone, left = set(order[:count]), order[count:]
        kept = [place for place in range(len(self.examples)) if place not in gone]
        return replace(
            self,
            examples=tuple(self.examples[place] for place in kept),
            expendable=tuple(kept.index(place) for place in left) if self.expendable else (),
        )
