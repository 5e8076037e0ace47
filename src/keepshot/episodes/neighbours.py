"""The nearest examples of a pool: for one of its own, or for an input from outside."""

from collections.abc import Sequence
from functools import lru_cache

from keepshot.episodes.similarity import Similarity, normalised
from keepshot.errors import DataError
from keepshot.tasks.example import Example

DUPLICATE = 0.98
"""A similarity from which an example counts as a duplicate: it would give the answer away and reward copying."""
DEPTH = 50
_REMEMBERED = 100_000


class Neighbours:
    """Who stands near whom.

    Nothing is searched before it is asked for, and the nearest of an example are kept.

    Args:
        examples: The pool.
        similarity: Over the inputs of `examples`, in their order.
        duplicate: Similarity from which another example counts as the same, and is passed over, as one with an equal
            input is; None passes over nothing but the example itself.
        depth: The most neighbours of one example.

    Raises:
        DataError: The measure is over another number of texts.

    Example:
        >>> from keepshot.episodes.similarity import Bm25
        >>> texts = ["book a table for two", "book a table for six", "play some music now", "Book a table for two"]
        >>> near = Neighbours([Example(text, "x") for text in texts], Bm25(texts))
        >>> [row for row, _ in near.of(0)]                  # not itself, and not its duplicate
        [1]
    """

    def __init__(
        self,
        examples: Sequence[Example],
        similarity: Similarity,
        duplicate: float | None = DUPLICATE,
        depth: int = DEPTH,
    ) -> None:
        if similarity.size != len(examples):
            raise DataError(f"the similarity is over {similarity.size} inputs; the pool has {len(examples)}")
        self.examples, self.similarity = examples, similarity
        self._duplicate, self._depth = duplicate, depth
        self._same = [normalised(example.input) for example in examples]
        self._remembered = lru_cache(maxsize=_REMEMBERED)(self._of)

    def of(self, row: int) -> tuple[tuple[int, float], ...]:
        """Rows of the nearest examples with their similarity, nearest first; without itself and its duplicates."""
        return self._remembered(row)

    def _of(self, row: int) -> tuple[tuple[int, float], ...]:
        return self.to(self.examples[row].input, apart_from=row)

    def to(self, text: str, apart_from: int | None = None) -> tuple[tuple[int, float], ...]:
        """The same for any input: what is equal to it or nearly so is passed over, unless duplicates are welcome.

        Only examples that share something with it are neighbours. Of equally near ones the earlier comes first.
        """
        size = self.similarity.size
        most = min(size, self._depth + 64)  # room for what is passed over
        same = normalised(text)
        while True:
            rows, found = self.similarity.nearest(text, most)
            usable = (
                (row, similarity)
                for row, similarity in zip(rows.tolist(), found.tolist(), strict=True)
                if similarity > 0 and row != apart_from and not self._passed_over(similarity, row, same)
            )
            near = tuple(pair for pair, _ in zip(usable, range(self._depth), strict=False))
            there_is_more = len(found) == most < size and found[-1] > 0
            if len(near) == self._depth or not there_is_more:
                return near
            most = min(size, 4 * most)

    def _passed_over(self, similarity: float, row: int, same: str) -> bool:
        return self._duplicate is not None and (similarity >= self._duplicate or self._same[row] == same)

    def between(self, row: int, others: Sequence[int]) -> list[float]:
        """Similarities of an example to others of the pool."""
        return [float(found) for found in self.similarity.between(self.examples[row].input, others)]
