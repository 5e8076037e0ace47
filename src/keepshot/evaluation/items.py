"""One record per asked question, and their Parquet file."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from keepshot.errors import RunError


@dataclass(frozen=True, slots=True)
class Item:
    """One question and what became of it.

    Attributes:
        task: Name of the task.
        set: Index of the demonstration set.
        shots: Number of demonstrations.
        query: Index of the query within the set.
        prompt: Identifies the token ids before the answer; equal prompts make paired items.
        answer: The right answer.
        aliases: Other answers that count as right.
        predicted: What the model says: the chosen option, what it wrote, or greedy text up to its first deviation from
            the answer.
        score: How right that is, from 0 to 1; only 0 or 1 unless the task's metric is graded.
        nll: Negative log-likelihood of the answer per token, in nats, terminator included.
    """

    task: str
    set: int
    shots: int
    query: int
    prompt: str
    answer: str
    aliases: tuple[str, ...]
    predicted: str
    score: float
    nll: float


SCHEMA = pa.schema(
    [
        ("task", pa.string()),
        ("set", pa.int32()),
        ("shots", pa.int32()),
        ("query", pa.int32()),
        ("prompt", pa.string()),
        ("answer", pa.string()),
        ("aliases", pa.list_(pa.string())),
        ("predicted", pa.string()),
        ("score", pa.float64()),
        ("nll", pa.float64()),
    ]
)


def write_items(path: Path, items: Sequence[Item]) -> None:
    """Write items as Parquet; `path` is complete or absent."""
    aside = path.with_name(f".{path.name}.part")
    pq.write_table(pa.Table.from_pylist([asdict(item) for item in items], schema=SCHEMA), aside)
    aside.replace(path)


def read_items(path: Path) -> list[Item]:
    """Read what `write_items` wrote.

    Raises:
        RunError: The file is missing or holds something else.
    """
    try:
        table = pq.read_table(path)
    except (FileNotFoundError, pa.ArrowInvalid, pa.ArrowTypeError) as error:
        raise RunError(f"{path} is not a file of evaluation items: {error}") from None
    if table.schema != SCHEMA:
        raise RunError(
            f"{path} is not a file of evaluation items: its columns are {', '.join(table.column_names)}; "
            f"expected {', '.join(SCHEMA.names)}"
        )
    return [Item(**row | {"aliases": tuple(row["aliases"])}) for row in table.to_pylist()]
