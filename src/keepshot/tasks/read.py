"""Sources as examples and tasks."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Literal

from keepshot.errors import ConfigError, DataError
from keepshot.tasks.example import Example, Task, ending_alike, hold_line_ends
from keepshot.tasks.formats import TRAILING_TURNS, Detection, Parsed, check_format, column_names, detect, parse
from keepshot.tasks.rows import ALL_AS_NAMED, BadRow, RawRow, raw_rows

OnBadRow = Literal["raise", "skip"]

# Rows that the format is detected from.
_LOOK_AT = 20

# Answers count as a finite set if each occurs this often on average; then the rows show nearly all that there are.
_OUTPUTS_PER_LABEL = 5

SKIP_HINT = "--on-bad-row skip (config: data.on_bad_row: skip)"
"""What an error says to whoever would rather leave bad rows out."""


@dataclass(frozen=True, slots=True)
class Dataset:
    """The examples of one source.

    Attributes:
        source: As it was given.
        format: The format that its rows were read as.
        examples: In the order of the source; at least one.
        skipped: Bad rows that were left out.
        unused: Columns that the format has no use for.
        cut: Rows whose turns after the last of the assistant were left out.
    """

    source: str
    format: str
    examples: tuple[Example, ...]
    skipped: tuple[BadRow, ...] = ()
    unused: tuple[str, ...] = ()
    cut: int = 0


def read_examples(
    source: str | Path,
    *,
    format: str = "auto",
    columns: Mapping[str, str] = ALL_AS_NAMED,
    on_bad_row: OnBadRow = "raise",
) -> Dataset:
    """Read a JSONL, JSON, CSV or Parquet file, or a hub data set; see `docs/data.md`.

    Args:
        source: A path, or `[org/]name[:config][@split]` on the Hugging Face hub; a path that exists wins.
        format: One of `formats.FORMATS`, or `auto` to detect it from the first rows.
        columns: Where the source calls a column otherwise: the format's name to the source's.
        on_bad_row: `raise` if a row is bad, or `skip` bad rows and list them in the result.

    Raises:
        DataError: The source cannot be read, a row is bad, or no row is left.
        ConfigError: `format`, a name in `columns` or `on_bad_row` is not known.
    """
    if on_bad_row not in ("raise", "skip"):
        raise ConfigError(f"on_bad_row {on_bad_row!r} is not known; choose raise or skip")
    detection, rows = parsed_rows(source, format, columns)
    examples: list[Example] = []
    bad: list[BadRow] = []
    unused: dict[str, None] = {}
    cut = 0
    for row in rows:
        if isinstance(row, BadRow):
            bad.append(row)
        else:
            examples.append(row.example)
            unused.update(dict.fromkeys(row.extra))
            cut += TRAILING_TURNS in row.changes
    if not examples:
        raise _all_bad(source, bad)
    if on_bad_row == "raise":
        refuse(bad)
    return Dataset(str(source), detection.format, tuple(examples), tuple(bad), tuple(unused), cut)


def parsed_rows(
    source: str | Path, format: str = "auto", columns: Mapping[str, str] = ALL_AS_NAMED
) -> tuple[Detection, Iterator[Parsed | BadRow]]:
    """The format of a source, and its rows in order, read as that format.

    Raises:
        DataError: The source cannot be read, is empty, lacks a column of `columns`, or its format cannot be told.
        ConfigError: `format` or a name in `columns` is not known.
    """
    check_format(format, columns)
    rows = raw_rows(source, columns)
    head: list[RawRow | BadRow] = []
    looked_at = 0
    for row in rows:
        head.append(row)
        looked_at += isinstance(row, RawRow)
        if looked_at == _LOOK_AT:
            break
    if not head:
        raise DataError(f"{source} holds no rows")
    if not looked_at:
        raise _all_bad(source, [row for row in head if isinstance(row, BadRow)])
    seen = [row.values for row in head if isinstance(row, RawRow)]
    for name, own in columns.items():
        if not any(name in values for values in seen):
            theirs = [{columns.get(column, column): value for column, value in values.items()} for values in seen]
            raise DataError(
                f"{source}: columns says that {name} stands in {own!r}; the first rows have the columns "
                f"{column_names(theirs)}"
            )
    detection = Detection(format, "as given")
    if format == "auto":
        try:
            detection = detect(seen, columns)
        except DataError as error:
            raise DataError(f"{source}: {error}") from None
    return detection, _parse_all(str(source), chain(head, rows), detection.format)


def _parse_all(source: str, rows: Iterator[RawRow | BadRow], format: str) -> Iterator[Parsed | BadRow]:
    for row in rows:
        if isinstance(row, BadRow):
            yield row
            continue
        try:
            yield parse(row.line, row.values, format)
        except DataError as error:
            yield BadRow(source, row.line, str(error))


def _all_bad(source: str | Path, bad: Sequence[BadRow]) -> DataError:
    return DataError(f"{source}: all {len(bad)} rows are bad, the first ({bad[0].place}) because: {bad[0].reason}")


def refuse(bad: Sequence[BadRow]) -> None:
    """An error that names the first of these rows, if there is one.

    Raises:
        DataError: There is a bad row.
    """
    if bad:
        further = f"; {len(bad) - 1} further bad rows" if len(bad) > 2 else "; 1 further bad row" * (len(bad) - 1)
        raise DataError(f"{bad[0]}{further}; mend the file, or leave bad rows out with {SKIP_HINT}")


def read_task(
    source: str | Path,
    *,
    name: str | None = None,
    format: str = "auto",
    columns: Mapping[str, str] = ALL_AS_NAMED,
    on_bad_row: OnBadRow = "raise",
) -> Task:
    """A source as a task; see `as_task`. To learn which rows were skipped, use `read_examples` and `as_task`.

    Args:
        source: As in `read_examples`.
        name: Unless given, the file's name up to its suffix, or the hub data set's name.
        format: As in `read_examples`.
        columns: As in `read_examples`.
        on_bad_row: As in `read_examples`.

    Raises:
        DataError: As in `read_examples`.
        ConfigError: As in `read_examples`.
    """
    dataset = read_examples(source, format=format, columns=columns, on_bad_row=on_bad_row)
    return as_task(name or task_name(source), dataset.examples)


def as_task(name: str, examples: Sequence[Example], pool: Sequence[Example] = ()) -> Task:
    """Examples as a task.

    Scored by `options` if every row has options, else by `exact_match`. Labels are the options if they are the same in
    every row; else the distinct outputs (see `finite_labels`).

    Example:
        >>> task = as_task("sign", [Example(str(i), "odd" if i % 2 else "even") for i in range(10)])
        >>> task.scoring, task.labels
        ('exact_match', ('even', 'odd'))
    """
    rows = [*examples, *pool]
    lines = hold_line_ends(rows)
    choices = {frozenset(example.options) for example in rows}
    if len(choices) == 1 and rows[0].options:
        labels = rows[0].options
    else:
        labels = finite_labels(Counter(example.output for example in rows))
    scoring: Literal["options", "exact_match"] = "exact_match" if frozenset() in choices else "options"
    return Task(name, ending_alike(examples, lines), ending_alike(pool, lines), scoring, labels)


def finite_labels(outputs: Counter[str]) -> tuple[str, ...]:
    """The distinct outputs, sorted, if there are at least 2 and each occurs 5 times on average; else none.

    Example:
        >>> finite_labels(Counter(yes=9, no=1)), finite_labels(Counter(yes=8, no=1))
        (('no', 'yes'), ())
    """
    finite = len(outputs) >= 2 and outputs.total() >= _OUTPUTS_PER_LABEL * len(outputs)
    return tuple(sorted(outputs)) if finite else ()


def task_name(source: str | Path) -> str:
    """The name of a task file, or of a hub data set, without folder, suffix and part."""
    path = Path(source).expanduser()
    if path.is_dir():
        return path.resolve().name
    if not path.exists():
        return str(source).split("@")[0].split(":")[0].rpartition("/")[2]
    return path.stem.removesuffix(".train").removesuffix(".test")
