"""What a model sees in one row: demonstrations and a query."""

from dataclasses import dataclass
from typing import Literal

from keepshot.tasks.example import Example

Scored = Literal["last", "all"]


@dataclass(frozen=True, slots=True)
class Episode:
    """Demonstrations and a query.

    Attributes:
        stream: The stream that it belongs to.
        name: Says where it came from, for messages about it.
        examples: Demonstrations in order, then the query.
        scored: Whether only the query's answer is trained on, or every answer.
    """

    stream: str
    name: str
    examples: tuple[Example, ...]
    scored: Scored = "last"

    def without_demonstrations(self, count: int) -> "Episode":
        """The episode without its first `count` examples; the query always stays."""
        assert 0 <= count < len(self.examples)
        return Episode(self.stream, self.name, self.examples[count:], self.scored)
