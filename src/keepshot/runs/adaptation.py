"""Continuous adaptation: examples that arrive after training, kept in a store and retrieved into the prompt.

No weight moves. A query is asked three times: with no examples, behind its k nearest examples of the training data, and
behind its k nearest of training data and store together. A query is *near* the store where the most similar example of
all is in it, *away* elsewhere: near it answers should improve, away from it nothing should get worse.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from keepshot.config import DataConfig
from keepshot.episodes import Neighbours
from keepshot.errors import DataError
from keepshot.evaluation.metrics import text_metric
from keepshot.files import write_json
from keepshot.keys import generator, permutation
from keepshot.probes.context_use import Interval, interval
from keepshot.prompts import TemplateName
from keepshot.runs.answering import answers
from keepshot.runs.data import load_target
from keepshot.runs.retrieval import similarity_over
from keepshot.runs.subjects import load_subject
from keepshot.tasks.example import Example, hold_line_ends
from keepshot.tasks.read import read_examples

SCHEMA = "keepshot.adaptation/1"


@dataclass(frozen=True, slots=True)
class Change:
    """What a store did to some queries.

    Attributes:
        zero_shot: Right with no examples.
        without: Right behind the nearest training examples.
        with_store: Right behind the nearest of both.
        difference: `with_store` - `without`, query by query.
    """

    zero_shot: Interval
    without: Interval
    with_store: Interval
    difference: Interval


@dataclass(frozen=True, slots=True)
class Retrieved:
    """What is asked, and behind what.

    Attributes:
        shots: k, examples that are retrieved.
        count: The most queries.
        seed: Keys queries and order.
        similarity: As for the methods `ic-*`.
        metric: How an answer is compared; the same text unless told.
    """

    shots: int = 5
    count: int = 400
    seed: int = 0
    similarity: str = "auto"
    metric: str = ""


def adaptation(
    model: str,
    data: DataConfig,
    store: Path,
    how: Retrieved | None = None,
    *,
    template: TemplateName = "auto",
    output: Path | None = None,
) -> dict[str, Any]:
    """Ask a model with and without a store.

    Args:
        model: `mini`, a folder, an adapter folder, or a hub id.
        data: What it was trained on, and the test part that is asked.
        store: A file of examples that arrived since, in the format of the data.
        how: What is asked.
        template: How prompts are written.
        output: A JSON file.

    Returns:
        The record (schema `keepshot.adaptation/1`): `all`, `near` and `away`, of which the last two may be null.

    Raises:
        KeepshotError: The data cannot be used, or a context does not fit the model.
    """
    how = how or Retrieved()
    target = load_target(data, how.seed)
    trained = (*target.train, *target.validation)
    arrived = read_examples(str(store), format=data.format, columns=data.columns, on_bad_row=data.on_bad_row).examples
    test = target.task.examples
    queries = [test[place] for place in permutation(len(test), how.seed, "adaptation queries")[: how.count]]
    if not queries:
        raise DataError("there are no test examples to ask")
    prompts, near = _prompts(queries, trained, arrived, how)
    lines = hold_line_ends([*trained, *arrived, *queries])
    written = answers(load_subject(model, template), prompts, lines)
    compare = text_metric(how.metric).score
    correct = [compare(text, prompt[-1].answers) for text, prompt in zip(written, prompts, strict=True)]
    rows = [correct[place : place + 3] for place in range(0, len(correct), 3)]
    parts = {
        "all": rows,
        "near": [row for row, close in zip(rows, near, strict=True) if close],
        "away": [row for row, close in zip(rows, near, strict=True) if not close],
    }
    record = {
        "schema": SCHEMA,
        "model": model,
        "data": data.train,
        "store": str(store),
        "stored": len(arrived),
        "shots": how.shots,
        "seed": how.seed,
        "metric": how.metric or "exact",
        **{name: asdict(_change(part)) if part else None for name, part in parts.items()},
    }
    if output is not None:
        write_json(output, record)
    return record


def _prompts(
    queries: Sequence[Example], trained: Sequence[Example], arrived: Sequence[Example], how: Retrieved
) -> tuple[list[tuple[Example, ...]], list[bool]]:
    """Three prompts for every query, and whether the most similar example of all is in the store."""
    before, after = (_nearest(pool, how.similarity) for pool in (trained, (*trained, *arrived)))
    prompts: list[tuple[Example, ...]] = []
    near = []
    for number, query in enumerate(queries):
        found = after.to(query.input)
        near.append(bool(found) and found[0][0] >= len(trained))
        contexts = [(), *(_context(pool, query, how.shots, how.seed, number) for pool in (before, after))]
        prompts += [(*context, query) for context in contexts]
    return prompts, near


def _nearest(pool: Sequence[Example], similarity: str) -> Neighbours:
    # What was corrected once may be asked again in the same words: no duplicate is passed over.
    return Neighbours(pool, similarity_over([one.input for one in pool], similarity), None)


def _context(pool: Neighbours, query: Example, shots: int, seed: int, number: int) -> list[Example]:
    chosen = [pool.examples[row] for row, _ in pool.to(query.input)[:shots]]
    generator(seed, "adaptation order", number).shuffle(chosen)
    return chosen


def _change(rows: Sequence[Sequence[float]]) -> Change:
    zero, without, stored = zip(*rows, strict=True)
    gained = [after - before for before, after in zip(without, stored, strict=True)]
    return Change(interval(zero), interval(without), interval(stored), interval(gained, (-1.0, 1.0)))
