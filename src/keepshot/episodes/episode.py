"""What a model sees in one row: demonstrations and a query."""

from dataclasses import dataclass
from typing import Literal

from keepshot.tasks.example import Example

Scored = Literal["last", "all", "later"]


@dataclass(frozen=True, slots=True)
class Episode:
    """Demonstrations and a query.

    Attributes:
        stream: The stream that it belongs to.
        name: Says where it came from, for messages about it.
        examples: Demonstrations in order, then the query.
        scored: Whether the query's answer alone is trained on, every answer, or every answer but the first.
    """

    stream: str
    name: str
    examples: tuple[Example, ...]
    scored: Scored = "last"

    def without_demonstrations(self, count: int) -> "Episode":
        """The episode without its first `count` examples; the query always stays."""
        assert 0 <= count < len(self.examples)
        return Episode(self.stream, self.name, self.examples[count:], self.scored)
