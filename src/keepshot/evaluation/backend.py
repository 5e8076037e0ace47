"""What an evaluation asks of a model: three things. Another engine stands behind the same three methods."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from keepshot.prompts import Row


@dataclass(frozen=True, slots=True)
class Score:
    """What a model says to a row's last answer.

    Attributes:
        log_likelihood: Sum over the answer's tokens, in nats.
        num_tokens: Tokens of the answer, terminator included.
        exact: Whether every token is the most likely one: greedy decoding would write this answer.
        written: The most likely tokens up to and including the first that differs from the answer.
    """

    log_likelihood: float
    num_tokens: int
    exact: bool
    written: tuple[int, ...]


@runtime_checkable
class Backend(Protocol):
    """A model that answers."""

    @property
    def shares(self) -> bool:
        """Whether prompts that begin alike are computed once; the numbers are the same without."""

    def identity(self) -> str:
        """A digest of all that its answers depend on: weights, adapter, dtype. Equal digests make equal answers."""

    def score(self, levels: Sequence[Sequence[Row]]) -> Iterator[list[Score]]:
        """Score the last answer of every row, level by level, as soon as a level is done.

        Args:
            levels: Rows by shot count, ascending; each level's context continues the one before.

        Raises:
            RunError: The model gives NaN or infinite logits, or a single row does not fit the memory.
        """

    def generate(self, rows: Sequence[Row], stop: Sequence[str], max_new_tokens: int) -> list[str]:
        """What greedy decoding writes in place of each row's last answer.

        Args:
            rows: Prompts; the last answer and what follows is left out.
            stop: Writing ends before the first of these that follows something else than white space.
            max_new_tokens: The most that is written.
        """
