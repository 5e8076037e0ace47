"""Which examples stand together in a row. A sampler is a function of an index: order of visit cannot change a row."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from random import Random
from typing import Protocol, runtime_checkable

from keepshot.episodes.episode import Episode, Scored
from keepshot.errors import DataError
from keepshot.keys import generator, permutation
from keepshot.tasks.example import Example, Task
from keepshot.tasks.split import input_key
from keepshot.tasks.universe import (
    FAMILIES,
    INSTRUCTED_FAMILIES,
    SyntheticTask,
    draw_instructed,
    draw_task,
)

_LOOKS = 100  # for an input that is not asked, before another task is drawn


@runtime_checkable
class Sampler(Protocol):
    """An endless, random-access sequence of episodes."""

    @property
    def size(self) -> int | None:
        """Episodes in one pass over the source; None where every episode is new."""

    @property
    def families(self) -> frozenset[str]:
        """The families of its tasks, where they are known; see `Task.family`."""

    def draw(self, index: int) -> Episode:
        """The episode at `index`; the same for the same sampler, whatever was drawn before."""


@dataclass(frozen=True, slots=True)
class ZeroShot:
    """Every example by itself, each once in a pass, every pass in a new order."""

    stream: str
    examples: Sequence[Example]
    seed: int
    scored: Scored = "all"

    @property
    def size(self) -> int | None:
        """Examples in one pass."""
        return len(self.examples)

    @property
    def families(self) -> frozenset[str]:
        """None: examples by themselves are no few-shot task."""
        return frozenset()

    def draw(self, index: int) -> Episode:
        """The `index % size`-th example of pass `index // size`."""
        _, row = visit(len(self.examples), self.seed, self.stream, index)
        return Episode(self.stream, f"{self.stream} example {row + 1}", (self.examples[row],), self.scored)


@dataclass(frozen=True, slots=True)
class KShot:
    """Episodes of many tasks: a task, then a number of shots, then demonstrations and a query without repetition.

    Attributes:
        stream: Name of the stream.
        tasks: Each needs at least two different questions; none stands twice in an episode, or its answer would be
            copied.
        shots: Fewest and most demonstrations; drawn evenly.
        seed: Of the run.
        scored: Which answers are trained on.
    """

    stream: str
    tasks: Sequence[Task]
    shots: tuple[int, int]
    seed: int
    scored: Scored = "all"

    def __post_init__(self) -> None:
        for task in self.tasks:
            if (different := len({input_key(example) for example in task.examples})) < 2:
                raise DataError(f"task {task.name!r} has {different} example; few-shot rows need at least 2 different")

    @property
    def size(self) -> int | None:
        """Examples in all tasks: after that many episodes each has been a query once on average."""
        return sum(len(task.examples) for task in self.tasks)

    @property
    def families(self) -> frozenset[str]:
        """Those of the tasks."""
        return frozenset(task.family for task in self.tasks if task.family)

    def draw(self, index: int) -> Episode:
        """The episode at `index`."""
        r = generator(self.seed, "k-shot", self.stream, index)
        task = r.choice(self.tasks)
        count = min(r.randint(*self.shots), len(task.examples) - 1)
        examples = r.sample(task.examples, count + 1)
        if len({input_key(example) for example in examples}) < len(examples):
            others = {input_key(example): example for example in r.sample(task.examples, len(task.examples))}
            examples = list(others.values())[: count + 1]
        return Episode(self.stream, f"{self.stream} episode {index} ({task.name})", tuple(examples), self.scored)


@dataclass(frozen=True, slots=True)
class Universe:
    """Episodes of the bundled synthetic universe: a new task of its training families in every episode.

    Attributes:
        stream: Name of the stream.
        shots: Fewest and most demonstrations; drawn evenly.
        seed: Of the run.
        apart_from: Tasks that must not be drawn: a draw that answers one of these as it does is drawn again.
        scored: Which answers are trained on.
        drawn_from: Families of the universe.
        asked: Inputs with answers that must not be drawn; keys in an order, by which a run's folder knows the sampler.
    """

    stream: str
    shots: tuple[int, int]
    seed: int
    apart_from: Sequence[Task] = ()
    scored: Scored = "all"
    drawn_from: Sequence[str] = FAMILIES
    asked: Mapping[tuple[str, str], None] = field(default_factory=dict)

    @property
    def size(self) -> int | None:
        """None: every episode is new."""
        return None

    @property
    def families(self) -> frozenset[str]:
        """Those that are drawn from."""
        return frozenset(self.drawn_from)

    def draw(self, index: int) -> Episode:
        """The episode at `index`."""
        r = generator(self.seed, "universe", self.stream, index)
        while True:
            task = draw_task(r, families=self.drawn_from)
            if any(_answers_as(task, other) for other in self.apart_from):
                continue
            examples = tuple(self._example(r, task) for _ in range(r.randint(*self.shots) + 1))
            if None not in examples:
                break
        found = tuple(example for example in examples if example is not None)
        return Episode(self.stream, f"{self.stream} episode {index} ({task.name})", found, self.scored)

    def _example(self, r: Random, task: SyntheticTask) -> Example | None:
        """One that is not asked; None where none is found."""
        drawn = (task.example(r) for _ in range(_LOOKS))
        return next((example for example in drawn if (example.input, example.output) not in self.asked), None)


@dataclass(frozen=True, slots=True)
class InstructedUniverse:
    """Single examples with an instruction, of the bundled universe: its general instruction data.

    Attributes:
        stream: Name of the stream.
        seed: Of the run.
        asked: Inputs with answers that must not be drawn, as keys: another example is drawn instead.
        drawn_from: Families of the universe, out of `INSTRUCTED_FAMILIES`.
        scored: What is trained on.
    """

    stream: str
    seed: int
    asked: Mapping[tuple[str, str], None] = field(default_factory=dict)
    drawn_from: Sequence[str] = INSTRUCTED_FAMILIES
    scored: Scored = "all"

    @property
    def size(self) -> int | None:
        """None: every example is new."""
        return None

    @property
    def families(self) -> frozenset[str]:
        """None: examples by themselves are no few-shot task."""
        return frozenset()

    def draw(self, index: int) -> Episode:
        """The example at `index`."""
        r = generator(self.seed, "universe", self.stream, index)
        while True:
            task = draw_instructed(r, families=self.drawn_from)
            example = task.example(r)
            if (example.input, example.output) not in self.asked:
                break
        return Episode(self.stream, f"{self.stream} example {index} ({task.name})", (example,), self.scored)


@dataclass(frozen=True, slots=True)
class Mixture:
    """Several samplers in one stream, each drawn from as often as its weight says."""

    stream: str
    parts: Sequence[Sampler]
    weights: Sequence[float]
    seed: int

    @property
    def size(self) -> int | None:
        """Sum of the parts; None if one of them is endless."""
        sizes = [part.size for part in self.parts]
        return None if None in sizes else sum(size for size in sizes if size is not None)

    @property
    def families(self) -> frozenset[str]:
        """Those of all parts."""
        return frozenset().union(*(part.families for part in self.parts))

    def draw(self, index: int) -> Episode:
        """The episode at `index` of the part that the key of `index` chooses."""
        chosen = generator(self.seed, "mixture", self.stream, index).choices(self.parts, self.weights)[0]
        return chosen.draw(index)


@dataclass(frozen=True, slots=True)
class Bank:
    """The first episodes of another sampler, again and again, every pass in a new order: rows that stay the same.

    Attributes:
        stream: Name of the stream.
        sampler: Draws the episodes; those from `rows` on are never visited.
        rows: How many are visited.
        seed: Of the run.
    """

    stream: str
    sampler: Sampler
    rows: int
    seed: int

    @property
    def size(self) -> int | None:
        """Of the other sampler: a bank is a part of its source, and a pass over it is no epoch."""
        return self.sampler.size

    @property
    def families(self) -> frozenset[str]:
        """Of the other sampler."""
        return self.sampler.families

    def row(self, place: int) -> Episode:
        """The fixed episode at `place`, under a name of its own: a sampler may give two draws the same."""
        episode = self.sampler.draw(place)
        return replace(episode, name=f"{episode.name}, fixed row {place + 1}")

    def draw(self, index: int) -> Episode:
        """The `index % rows`-th episode of pass `index // rows`."""
        turn, place = divmod(index, self.rows)
        return self.row(_order(self.rows, self.seed, f"{self.stream} bank", turn)[place])


def _answers_as(drawn: SyntheticTask, task: Task, looks: int = 12) -> bool:
    """Whether `drawn` gives the answers of `task` to its first inputs."""
    try:
        return all(drawn.answer(example.input) == example.output for example in task.examples[:looks])
    except (ValueError, LookupError):  # inputs of another kind than the drawn task's
        return False


def visit(length: int, seed: int, stream: str, index: int) -> tuple[int, int]:
    """Which pass, and which of `length` rows, is visited at `index`: each once in a pass, every pass in a new order."""
    turn, place = divmod(index, length)
    return turn, _order(length, seed, stream, turn)[place]


@lru_cache(maxsize=8)
def _order(length: int, seed: int, stream: str, turn: int) -> tuple[int, ...]:
    return tuple(permutation(length, seed, "zero-shot", stream, turn))
