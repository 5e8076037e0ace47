"""A backend without a model: it answers what it is told to, at once."""

from collections.abc import Callable, Iterator, Sequence

import numpy as np

from keepshot.evaluation import Score, Subject
from keepshot.evaluation.generation import cut
from keepshot.models.load import load_tokenizer
from keepshot.prompts import PLAIN, Row, Template

SURE = 8.0
"""Logit of the token that the backend would write; the other 255 have 0."""
RIGHT_NATS = float(np.log1p(255 * np.exp(-SURE)))
WRONG_NATS = SURE + RIGHT_NATS

Say = Callable[[str, int], str | None]


class Rigged:
    """Reads plain prompts of the bundled tokenizer and is sure of ` answer` and a line end.

    After something that it would not have written, it is sure of `?`.

    Attributes:
        asked: Every row that was scored, in order.
        written: Every prompt that was to be gone on from, with the stop strings and the most tokens.
    """

    def __init__(self, say: Say, *, shares: bool = True, name: str = "rigged") -> None:
        """`say(question, shots)` is the answer; None: it knows nothing, and every token is as likely."""
        self.say, self.shares, self._name = say, shares, name
        self.asked: list[Row] = []
        self.written: list[tuple[str, tuple[str, ...], int]] = []

    def identity(self) -> str:
        return self._name

    def score(self, levels: Sequence[Sequence[Row]]) -> Iterator[list[Score]]:
        for rows in levels:
            self.asked += rows
            yield [self._score(row) for row in rows]

    def generate(self, rows: Sequence[Row], stop: Sequence[str], max_new_tokens: int) -> list[str]:
        prompts = [text_of(row)[0] for row in rows]
        self.written += [(prompt, tuple(stop), max_new_tokens) for prompt in prompts]
        return [cut(self._answer(prompt) or "", stop) for prompt in prompts]

    def _answer(self, prompt: str) -> str | None:
        question = prompt.rpartition("Q: ")[2].partition("\nA:")[0]
        return self.say(question, prompt.count("Q: ") - 1)

    def _score(self, row: Row) -> Score:
        prompt, gold = (part.encode() for part in text_of(row))
        answer = self._answer(prompt.decode())
        if answer is None:
            return Score(-len(gold) * float(np.log(256)), len(gold), False, (0,))
        would = f" {answer}\n".encode()
        unlike = (i for i, pair in enumerate(zip(gold, would, strict=False)) if pair[0] != pair[1])
        right = next(unlike, min(len(gold), len(would)))
        nats = right * RIGHT_NATS + sum(RIGHT_NATS if byte == ord("?") else WRONG_NATS for byte in gold[right:])
        instead = would[right : right + 1] or b"?"
        return Score(-nats, len(gold), right == len(gold), tuple((gold[:right] + instead)[: len(gold)]))


def text_of(row: Row) -> tuple[str, str]:
    """What stands before a row's last answer, and the answer."""
    start, end = row.answers[-1]
    return bytes(row.ids[1:start]).decode(), bytes(row.ids[start:end]).decode()


def rigged(say: Say, *, context_length: int = 4096, template: Template = PLAIN, shares: bool = True) -> Subject:
    """A subject that says what it is told to."""
    return Subject("m", Rigged(say, shares=shares), load_tokenizer("mini"), template, context_length)


def half(text: str, answers: Sequence[str]) -> float:
    """A metric by import path: half right if an answer stands in the text."""
    return 0.5 if any(answer in text for answer in answers) else 0.0
