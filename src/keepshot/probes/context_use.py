"""Learning in context, in the weights, or copying: scores that tell them apart.

With M the task metric, f(x | C) what the model answers, y_i the labels of the context and e an edit of one of them,

    IWL     = E M(f(x | random), y)                                     right when the context is irrelevant
    ZERO    = E M(f(x | none), y),   SIMILAR = E M(f(x | similar), y)
    ICL     = P(e in f(x | counterfactual)) - P(e in f(x | similar))    follows a relevant example against the weights
    COPY    = E max(0, max_i ov(f(x | random), y_i) - max_i ov(y, y_i)) takes over an irrelevant label
    LEAK    = P(e in f(x | leak)) - P(e in f(x | random))               follows an irrelevant example

ov is the F-score of the longest common subsequence of tokens. A model that knows and looks has IWL and ICL high, COPY
and LEAK at 0; one that only knows has ICL 0; one that copies has COPY and LEAK high.

Reference:
    The names are those of arXiv 2604.01601, whose formulas are not known; these are this project's.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import TypeAlias

import numpy as np
from scipy import stats

from keepshot.episodes.similarity import words
from keepshot.errors import DataError
from keepshot.evaluation.statistics import unseen
from keepshot.keys import key
from keepshot.probes.questions import GRADES, Context, Question
from keepshot.tasks.example import Example

Answer: TypeAlias = Callable[[Sequence[tuple[Example, ...]]], Sequence[str]]
"""What is answered to prompts: demonstrations, and a query whose answer is not to be looked at."""
Compare: TypeAlias = Callable[[str, Sequence[str]], float]
"""An answer against all that count as right: 0 to 1."""
_BINS = 8
_RESAMPLES = 2_000


@dataclass(frozen=True, slots=True)
class Asked:
    """A question and what the model answered."""

    question: Question
    answer: str
    correct: float


@dataclass(frozen=True, slots=True)
class Interval:
    """A mean over queries with its 95 % interval.

    Attributes:
        value: The mean.
        low: By the percentile bootstrap over queries.
        high: The same.
        n: Queries.
    """

    value: float
    low: float
    high: float
    n: int


@dataclass(frozen=True, slots=True)
class Step:
    """A point of the similarity sweep: a grade of context, or a range of similarities.

    Attributes:
        name: The grade, or the range.
        similarity: Mean similarity of the most similar demonstration.
        correct: The task metric.
    """

    name: str
    similarity: float
    correct: Interval


@dataclass(frozen=True, slots=True)
class Scores:
    """What a model does with its context; see the top of the module."""

    iwl: Interval
    icl: Interval
    copy: Interval
    leak: Interval
    zero_shot: Interval
    similar: Interval
    grades: tuple[Step, ...]
    bins: tuple[Step, ...]


def probe(found: Sequence[Question], answer: Answer, compare: Compare) -> tuple[Scores, list[Asked]]:
    """Ask a model all questions, and score it.

    Args:
        found: From `questions`.
        answer: The model.
        compare: The task metric.

    Returns:
        The scores, and every answer.

    Raises:
        DataError: There are no questions.
    """
    if not found:
        raise DataError("there are no questions to probe with")
    answers = answer([question.examples for question in found])
    asked = [
        Asked(question, text, compare(text, question.examples[-1].answers))
        for question, text in zip(found, answers, strict=True)
    ]
    return scores(asked), asked


def scores(asked: Sequence[Asked]) -> Scores:
    """The scores of answers that are there."""
    by_query: dict[int, dict[Context, Asked]] = {}
    for one in asked:
        by_query.setdefault(one.question.query, {})[one.question.context] = one
    rows = list(by_query.values())
    by_grade = {grade: [row[grade] for row in rows if grade in row] for grade in GRADES}

    def over(value: Callable[[dict[Context, Asked]], float]) -> Interval:
        return interval([value(row) for row in rows])

    return Scores(
        iwl=over(lambda row: row["random"].correct),
        icl=over(lambda row: _has(row["counterfactual"]) - _has(row["similar"])),
        copy=over(lambda row: _copied(row["random"])),
        leak=over(lambda row: _has(row["leak"]) - _has(row["random"])),
        zero_shot=over(lambda row: row["none"].correct),
        similar=over(lambda row: row["similar"].correct),
        grades=tuple(_step(grade, found) for grade, found in by_grade.items() if found),
        bins=_bins([one for grade, found in by_grade.items() for one in found if grade != "none"]),
    )


def overlap(first: str, second: str) -> float:
    """The F-score of the longest common subsequence of words: 2 LCS / (|a| + |b|).

    Example:
        >>> overlap("play some music", "play music now")
        0.6666666666666666
    """
    a, b = words(first), words(second)
    if not a or not b:
        return 0.0
    longest = [0] * (len(b) + 1)
    for one in a:
        before = 0
        for place, other in enumerate(b, 1):
            before, longest[place] = (
                longest[place],
                before + 1 if one == other else max(longest[place], longest[place - 1]),
            )
    return 2 * longest[-1] / (len(a) + len(b))


def interval(values: Sequence[float], bounds: tuple[float, float] = (0.0, 1.0)) -> Interval:
    """The mean of values of independent queries; where all are alike it reaches 3/n to either side, within `bounds`.

    The same values have the same interval: resampling is keyed by their number.
    """
    sample = np.asarray(values, dtype=np.float64)
    mean = float(sample.mean())
    if np.ptp(sample) == 0:
        reach = unseen(len(sample))
        return Interval(mean, max(mean - reach, bounds[0]), min(mean + reach, bounds[1]), len(sample))
    random = np.random.default_rng(key("probe interval", len(sample)))
    found = stats.bootstrap((sample,), np.mean, n_resamples=_RESAMPLES, method="percentile", rng=random)
    return Interval(mean, float(found.confidence_interval.low), float(found.confidence_interval.high), len(sample))


def _has(one: Asked) -> float:
    """Whether an answer holds the marker of its question."""
    marker = one.question.marker
    return float(one.answer.strip() == marker if one.question.whole else marker in one.answer)


def _copied(one: Asked) -> float:
    shown = [example.output for example in one.question.examples[:-1]]
    right = one.question.examples[-1].output
    taken = max(overlap(one.answer, label) for label in shown)
    return max(0.0, taken - max(overlap(right, label) for label in shown))


def _step(name: str, asked: Sequence[Asked]) -> Step:
    by_query: dict[int, list[float]] = {}
    for one in asked:
        by_query.setdefault(one.question.query, []).append(one.correct)
    values = [float(np.mean(correct)) for correct in by_query.values()]
    similarity = float(np.mean([one.question.similarity for one in asked])) if asked else 0.0
    return Step(name, similarity, interval(values))


def _bins(asked: Sequence[Asked]) -> tuple[Step, ...]:
    """Ranges of similarity with about as many questions each."""
    order = sorted(asked, key=lambda one: one.question.similarity)
    edges = np.linspace(0, len(order), _BINS + 1).round().astype(int)
    parts = [order[low:high] for low, high in pairwise(edges) if high > low]
    return tuple(
        _step(f"{part[0].question.similarity:.2f} to {part[-1].question.similarity:.2f}", part) for part in parts
    )
