"""Demonstration sets for evaluation: nested, shared by all queries of a set, and never the query itself."""

from collections import Counter
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from operator import itemgetter

from keepshot.errors import DataError
from keepshot.keys import key, permutation
from keepshot.tasks.example import Example, Task
from keepshot.tasks.split import input_key

# A task without a pool of its own gives up queries for demonstrations down to this many.
FEWEST_QUERIES = 5


@dataclass(frozen=True, slots=True)
class DemonstrationSet:
    """One draw of demonstrations and queries of a task.

    Attributes:
        task: The task's name.
        index: Which draw.
        demonstrations: The n-shot context is the first n of these.
        queries: Distinct inputs, none among the demonstrations.
    """

    task: str
    index: int
    demonstrations: tuple[Example, ...]
    queries: tuple[Example, ...]


def demonstration_set(
    task: Task, index: int, *, sets: int, shots: int, queries: int, seed: int, balanced: bool = False
) -> DemonstrationSet:
    """Draw set `index` of the `sets` of an evaluation.

    Demonstrations and queries have distinct inputs (case and white space aside), and no two sets ask the same query:
    a question asked again says nothing new, and sets that share questions look more alike than they are. A task with
    few inputs gets fewer queries, then fewer demonstrations.

    Args:
        task: What to draw from.
        index: Which set, from 0.
        sets: How many sets share the task's inputs; every one gets as many queries.
        shots: Demonstrations wanted.
        queries: Queries wanted; at most the distinct inputs divided by `sets` are asked.
        seed: Of the evaluation.
        balanced: Whether the first n demonstrations hold every label equally often, as far as n and the pool allow, for
            every n; changes nothing for a task without labels. Queries are the same either way.

    Raises:
        DataError: There are fewer distinct inputs than sets.
    """
    assert 0 <= index < sets, "the sets of an evaluation are numbered from 0"
    drawn_as = task.drawn_as or task.name
    distinct = _distinct(task.examples[i] for i in permutation(len(task.examples), seed, "queries", drawn_as))
    if len(distinct) < sets:
        raise DataError(
            f"task {task.name!r} has {len(distinct)} distinct inputs for {sets} demonstration sets, which all ask "
            "something else; use fewer sets or more examples"
        )
    most = min(queries, len(distinct) // sets)
    if not _has_own_pool(task):
        most = min(most, max(FEWEST_QUERIES, len(distinct) - shots))
    asked = distinct[index::sets][:most]
    pool = task.pool or task.examples
    taken = {input_key(example) for example in asked}
    others = _distinct(
        (pool[i] for i in permutation(len(pool), seed, "demonstrations", drawn_as, index)), without=taken
    )
    if balanced and task.labels:
        others = _balanced(others, task, index, seed)
    return DemonstrationSet(task.name, index, tuple(others[:shots]), tuple(asked))


def _has_own_pool(task: Task) -> bool:
    """Whether demonstrations have inputs of their own: a pool of the same inputs under other labels has none."""
    return [example.input for example in task.pool] not in ([], [example.input for example in task.examples])


def _balanced(examples: Sequence[Example], task: Task, index: int, seed: int) -> list[Example]:
    """Round after round of one example of each label that is left, each round in a keyed order of labels."""
    drawn: Counter[str] = Counter()
    places: list[tuple[int, int]] = []
    for example in examples:
        turn = drawn[example.output]
        drawn[example.output] += 1
        places.append((turn, key(seed, "balanced", task.drawn_as or task.name, index, turn, example.output)))
    return [example for _, example in sorted(zip(places, examples, strict=True), key=itemgetter(0))]


def _distinct(examples: Iterable[Example], without: Collection[int] = ()) -> list[Example]:
    seen = set(without)
    kept = []
    for example in examples:
        if (name := input_key(example)) not in seen:
            seen.add(name)
            kept.append(example)
    return kept
