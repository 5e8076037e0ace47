"""The target's examples behind demonstrations from the same data: which ones stand there is the whole method.

Random contexts teach a model to ignore them, similar ones alone to copy. The contrastive sampler varies similarity
within a context (one similar example among random ones) and across contexts (in some no example is similar), so that a
model learns when to look and where. See `keepshot.theory.contexts` for models in which this can be computed.

Reference:
    arXiv 2604.01601 proposes the two contrasts; the law below and all its numbers are this project's.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from random import Random
from statistics import fmean
from typing import Any, Literal

from keepshot.episodes.episode import Episode, Scored
from keepshot.episodes.neighbours import Neighbours
from keepshot.episodes.samplers import visit
from keepshot.errors import DataError
from keepshot.keys import generator
from keepshot.tasks.example import Example

Kind = Literal["random", "similar", "contrastive", "across", "within"]
Grade = Literal["paraphrase", "near", "random"]


@dataclass(frozen=True, slots=True)
class Drawn:
    """A context and how it came to be.

    Attributes:
        examples: Demonstrations in the order in which they are shown.
        grade: What the chosen slot holds: a paraphrase, one of the nearest examples, or none that was chosen.
        chosen: Places that hold examples which were chosen for their similarity.
        rows: Of the demonstrations in the pool; None for a paraphrase.
    """

    examples: tuple[Example, ...]
    grade: Grade
    chosen: tuple[int, ...]
    rows: tuple[int | None, ...]


@dataclass(frozen=True, slots=True)
class Contexts:
    """Every example once in a pass, behind a context that is drawn anew at every visit.

    - `random`: all slots are drawn evenly.
    - `similar`: the nearest examples.
    - `contrastive`: one slot holds a paraphrase (probability `paraphrase`), one of the `nearest` nearest examples
      (`near`) or a random one (the rest); the others are random.
    - `across`: the whole context is similar or random, half of the time each.
    - `within`: always one near example among random ones.

    An example never stands in its own context, nor does an equal input; near-duplicates are no neighbours. Without a
    paraphrase a near example takes its place, without a neighbour a random one. Slots are shuffled, since a fixed place
    would be learned instead of similarity.

    Attributes:
        stream: Name of the stream.
        examples: The target's training examples, also the pool.
        neighbours: Over `examples`.
        seed: Of the run.
        kind: Which law.
        shots: Fewest and most demonstrations; drawn evenly.
        near: Probability of a near example.
        paraphrase: Probability of a paraphrase.
        nearest: Of how many nearest examples one is drawn.
        paraphrases: By row: the example said otherwise, with its answer.
        scored: Which answers are trained on.

    Raises:
        DataError: There are too few examples for a context, or the probabilities exceed 1.
    """

    stream: str
    examples: Sequence[Example]
    neighbours: Neighbours
    seed: int
    kind: Kind = "contrastive"
    shots: tuple[int, int] = (5, 5)
    near: float = 0.45
    paraphrase: float = 0.10
    nearest: int = 1
    paraphrases: Mapping[int, Sequence[Example]] = field(default_factory=dict)
    scored: Scored = "last"

    def __post_init__(self) -> None:
        if min(self.near, self.paraphrase) < 0 or self.near + self.paraphrase > 1:
            raise DataError(
                f"near {self.near:g} and paraphrase {self.paraphrase:g} are probabilities, at most 1 together"
            )
        different = len({example.input for example in self.examples})
        if different < self.shots[1] + 1:
            raise DataError(
                f"contexts of {self.shots[1]} examples need {self.shots[1] + 1} different inputs; there are {different}"
            )

    @property
    def size(self) -> int | None:
        """Examples in one pass."""
        return len(self.examples)

    @property
    def families(self) -> frozenset[str]:
        """None: they are all of the target."""
        return frozenset()

    def draw(self, index: int) -> Episode:
        """The `index % size`-th example of pass `index // size`, in the order of `ZeroShot`, behind its context."""
        turn, row = visit(len(self.examples), self.seed, self.stream, index)
        drawn = self.context(row, turn)
        name = f"{self.stream} example {row + 1} behind {len(drawn.examples)} ({drawn.grade})"
        examples = (*drawn.examples, self.examples[row])
        return Episode(self.stream, name, examples, self.scored, _expendable(drawn))

    def context(self, row: int, turn: int = 0, grade: Grade | None = None) -> Drawn:
        """The context of an example at its visit number `turn`; of a given grade if told, else by the law."""
        r = generator(self.seed, "context", self.stream, turn, row)
        shots, grade = r.randint(*self.shots), grade or self._grade(r)
        chosen = self._chosen(r, row, grade, shots)
        others = self._others(r, row, chosen, shots)
        rows = [*(place for place, _ in chosen), *others]
        examples = [*(example for _, example in chosen), *(self.examples[place] for place in others)]
        order = list(range(shots))
        r.shuffle(order)
        found: Grade = "random" if not chosen else "paraphrase" if chosen[0][0] is None else "near"
        return Drawn(
            tuple(examples[place] for place in order),
            found,
            tuple(order.index(place) for place in range(len(chosen))),
            tuple(rows[place] for place in order),
        )

    def summary(self, visits: int) -> dict[str, Any]:
        """What the first visits had: shares of grades, and similarities of the chosen and of the other slots."""
        grades: Counter[str] = Counter()
        similarities: dict[str, list[float]] = {"best": [], "chosen": [], "others": []}
        for index in range(visits):
            turn, row = visit(len(self.examples), self.seed, self.stream, index)
            drawn = self.context(row, turn)
            grades[drawn.grade] += 1
            pooled = [(place, other) for place, other in enumerate(drawn.rows) if other is not None]
            found = self.neighbours.between(row, [other for _, other in pooled])
            for (place, _), similarity in zip(pooled, found, strict=True):
                similarities["chosen" if place in drawn.chosen else "others"].append(similarity)
            similarities["best"].append(max(found, default=0.0))
        return {
            "visits": visits,
            "grades": {name: grades[name] / visits for name in ("paraphrase", "near", "random")},
            "mean_similarity": {name: fmean(found) if found else None for name, found in similarities.items()},
        }

    def _grade(self, r: Random) -> Grade:
        u = r.random()
        match self.kind:
            case "random":
                return "random"
            case "similar" | "within":
                return "near"
            case "across":
                return "near" if u < 0.5 else "random"
            case "contrastive":
                return "paraphrase" if u < self.paraphrase else "near" if u < self.paraphrase + self.near else "random"

    def _chosen(self, r: Random, row: int, grade: Grade, shots: int) -> list[tuple[int | None, Example]]:
        """The slots that are not left to chance, with their rows."""
        if grade == "paraphrase" and self.paraphrases.get(row):
            return [(None, r.choice(self.paraphrases[row]))]
        if grade == "random":
            return []
        near = [place for place, _ in self.neighbours.of(row)]
        if self.kind in ("similar", "across"):
            return [(place, self.examples[place]) for place in near[:shots]]
        return [(place, self.examples[place]) for place in [r.choice(near[: self.nearest])]] if near else []

    def _others(self, r: Random, row: int, chosen: Sequence[tuple[int | None, Example]], shots: int) -> list[int]:
        """Random rows for the slots that are left: none twice, none with the input of the example."""
        taken = {row, *(place for place, _ in chosen if place is not None)}
        found: list[int] = []
        while len(found) < shots - len(chosen):
            place = r.randrange(len(self.examples))
            if place not in taken and self.examples[place].input != self.examples[row].input:
                found.append(place)
            taken.add(place)
        return found


def _expendable(drawn: Drawn) -> tuple[int, ...]:
    """What a row that is too long loses first: what was left to chance, then the farthest of what was chosen."""
    places = range(len(drawn.examples))
    return (*(place for place in places if place not in drawn.chosen), *reversed(drawn.chosen))
