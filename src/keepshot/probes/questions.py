"""The prompts of the probes: the same query behind contexts that differ in one thing.

| context | demonstrations |
|---|---|
| `none` | no examples |
| `random` | k examples at random |
| `similar` | a paraphrase of the query (or its nearest neighbour) among k - 1 at random |
| `counterfactual` | `similar`, with an edit written into the label of the similar example |
| `leak` | `random`, with an edit written into the first label |
| `percentile 25`, `50`, `75` | the neighbour at that percentile of the query's neighbours, and k - 1 at random |
| `nearest` | the nearest neighbour, and k - 1 at random |
| `all nearest` | the k nearest neighbours |

Every draw is keyed by the query: all models are asked the same.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from random import Random
from typing import Literal

from keepshot.episodes import Neighbours
from keepshot.episodes.paraphrases import Edits, Paraphrases
from keepshot.errors import DataError
from keepshot.keys import generator
from keepshot.tasks.example import Example
from keepshot.tasks.universe import word

Context = Literal[
    "none", "random", "similar", "counterfactual", "leak", "percentile 25", "percentile 50", "percentile 75", "nearest",
    "all nearest",
]  # fmt: skip
GRADES: tuple[Context, ...] = (
    "none", "random", "percentile 25", "percentile 50", "percentile 75", "nearest", "similar", "all nearest",
)  # fmt: skip
"""Of the similarity sweep, least similar first."""
_PERCENTILES: dict[Context, int] = {"percentile 25": 25, "percentile 50": 50, "percentile 75": 75}


@dataclass(frozen=True, slots=True)
class Question:
    """One prompt.

    Attributes:
        query: Number of the query.
        context: What stands before it.
        examples: Demonstrations, then the query.
        marker: What an edited label holds, or would hold; empty where nothing is edited.
        whole: Whether the marker is a label of its own, so that an answer has it by being equal to it.
        similarity: Of the most similar demonstration; 0 without any.
    """

    query: int
    context: Context
    examples: tuple[Example, ...]
    marker: str
    whole: bool
    similarity: float


@dataclass(frozen=True, slots=True)
class Pool:
    """Where demonstrations come from.

    Attributes:
        neighbours: Over the pool.
        labels: All answers where the set is finite; else empty.
        paraphrases: Of the queries, by number; small edits unless given.
        shots: k.
        seed: Of every draw.
    """

    neighbours: Neighbours
    labels: tuple[str, ...] = ()
    paraphrases: Paraphrases | None = None
    shots: int = 5
    seed: int = 0

    @property
    def examples(self) -> Sequence[Example]:
        """The pool."""
        return self.neighbours.examples


def questions(pool: Pool, queries: Sequence[Example]) -> list[Question]:
    """All prompts of all queries.

    Args:
        pool: Demonstrations.
        queries: Asked; none of their inputs is shown.

    Raises:
        DataError: There are no queries, or too few examples for a context.
    """
    if not queries:
        raise DataError("there are no queries to probe with")
    if len({example.input for example in pool.examples}) <= pool.shots:
        raise DataError(
            f"contexts of {pool.shots} examples need {pool.shots + 1} different inputs; lower the number of shots"
        )
    said = Edits(queries, pool.seed, pool.labels) if pool.paraphrases is None else pool.paraphrases
    return [question for number in range(len(queries)) for question in _of(pool, queries[number], number, said)]


def _of(pool: Pool, query: Example, number: int, said: Paraphrases) -> list[Question]:
    r = generator(pool.seed, "probe", number)
    near = pool.neighbours.to(query.input)
    shown = pool.examples
    rows = _random(pool, query, r)
    others = [shown[row] for row in rows]
    variants = said.get(number, ())
    if variants:
        similar, alike = r.choice(variants), 1.0
    else:
        similar, alike = (shown[near[0][0]], near[0][1]) if near else (others[0], 0.0)
    place = r.randrange(pool.shots)
    edited, marker = _edited(similar, query, pool.labels, r)
    leaked, leak_marker = _edited(others[0], query, pool.labels, r, apart_from=[one.output for one in others])
    whole = bool(pool.labels)
    chance = float(pool.neighbours.similarity.between(query.input, rows).max())

    def asked(context: Context, demonstrations: Sequence[Example], similarity: float, mark: str = "") -> Question:
        return Question(number, context, (*demonstrations, query), mark, whole, float(similarity))

    def among(one: Example) -> list[Example]:
        rest = [other for other in others if other.input != one.input][: pool.shots - 1]
        return [*rest[:place], one, *rest[place:]]

    found = [
        asked("none", (), 0.0),
        asked("random", others, chance, leak_marker),
        asked("similar", among(similar), alike, marker),
        asked("counterfactual", among(edited), alike, marker),
        asked("leak", [leaked, *others[1:]], chance, leak_marker),
    ]
    for context, percent in _PERCENTILES.items():
        if near:
            row, similarity = near[round((len(near) - 1) * (1 - percent / 100))]
            found.append(asked(context, among(shown[row]), similarity))
    if near:
        found.append(asked("nearest", among(shown[near[0][0]]), near[0][1]))
        nearest = [shown[row] for row, _ in near[: pool.shots]]
        r.shuffle(nearest)
        found.append(asked("all nearest", nearest, near[0][1]))
    return found


def _random(pool: Pool, query: Example, r: Random) -> list[int]:
    """Rows with different inputs, none of them the query's."""
    found: list[int] = []
    taken = {query.input}
    while len(found) < pool.shots:
        row = r.randrange(len(pool.examples))
        if pool.examples[row].input not in taken:
            taken.add(pool.examples[row].input)
            found.append(row)
    return found


def _edited(
    example: Example, query: Example, labels: Sequence[str], r: Random, apart_from: Sequence[str] = ()
) -> tuple[Example, str]:
    """The example with an identifiable edit in its label.

    That is another label, a fresh word where there is no third one, or a fresh word behind a free text.
    """
    if labels:
        others = [label for label in labels if label not in (example.output, *query.answers, *apart_from)]
        others = others or [label for label in labels if label not in (example.output, *query.answers)]
        while not others:
            others = [fresh for fresh in (word(r),) if fresh not in labels]
        marker = r.choice(others)
        return replace(example, output=marker, aliases=()), marker
    marker = word(r)
    while marker in query.output or marker in example.output or marker in query.input:
        marker = word(r)
    return replace(example, output=f"{example.output} {marker}", aliases=()), marker
