"""What a data source holds, and what is wrong with it, before a run is spent on it."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median

from keepshot.errors import DataError
from keepshot.keys import key
from keepshot.tasks.example import Example
from keepshot.tasks.formats import Detection, Parsed
from keepshot.tasks.read import as_task, parsed_rows
from keepshot.tasks.rows import ALL_AS_NAMED, BadRow
from keepshot.tasks.split import shared_inputs

# Bad rows that `lines` spells out.
_SHOWN = 10


@dataclass(frozen=True, slots=True)
class Lengths:
    """Lengths of texts in characters."""

    median: float
    most: int


@dataclass(frozen=True, slots=True)
class Overlap:
    """What a source and its test source have in common.

    Attributes:
        source: The test source.
        rows: Its usable rows.
        bad: Its bad rows.
        shared: Rows of the checked source whose input stands in the test source, but for case and white space.
    """

    source: str
    rows: int
    bad: tuple[BadRow, ...]
    shared: int


@dataclass(frozen=True, slots=True)
class DataCheck:
    """The findings on one source. All counts but `rows` and `bad` are over usable rows.

    Attributes:
        source: As it was given.
        detection: The format, and why this one.
        rows: All rows, bad ones included.
        bad: Rows that cannot be used.
        duplicates: Rows that repeat an earlier one: same instruction, history, input and output.
        conflicts: Inputs that stand with more than one output.
        distinct_outputs: Number of different outputs.
        majority: The most frequent output and its share.
        labels: All outputs, if they are a finite set (see `read.as_task`).
        scoring: How such a task is scored, `options` or `exact_match`.
        input_characters: Lengths of the inputs.
        output_characters: Lengths of the outputs.
        extra_columns: Columns that are not used.
        changes: In what examples differ from the text of their rows, and in how many rows.
        test: The comparison with a test source, if one was given.
    """

    source: str
    detection: Detection
    rows: int
    bad: tuple[BadRow, ...]
    duplicates: int
    conflicts: int
    distinct_outputs: int
    majority: tuple[str, float]
    labels: tuple[str, ...]
    scoring: str
    input_characters: Lengths
    output_characters: Lengths
    extra_columns: tuple[str, ...]
    changes: tuple[tuple[str, int], ...]
    test: Overlap | None = None

    @property
    def usable(self) -> bool:
        """Whether a run would take the data as it is: no bad row, here or in the test source."""
        return not self.bad and not (self.test and self.test.bad)

    def lines(self) -> list[str]:
        """The findings in words, a line each."""
        answer, share = self.majority
        answers = f"{len(self.labels)} labels" if self.labels else "open answers"
        lines = [
            f"{self.source}: {self.rows} rows, {self.rows - len(self.bad)} usable, {len(self.bad)} bad",
            f"format: {self.detection.format} ({self.detection.reason})",
            f"outputs: {self.distinct_outputs} distinct, the most frequent {_short(answer)} in {share:.1%}; "
            f"{answers}, scored by {self.scoring.replace('_', ' ')}",
            f"length in characters: input {_lengths(self.input_characters)}; output {_lengths(self.output_characters)}",
            f"repeated rows: {self.duplicates}; inputs with more than one output: {self.conflicts}",
        ]
        if self.extra_columns:
            lines.append(f"columns not used: {', '.join(self.extra_columns)}")
        lines += [f"changed: {change} ({count} rows)" for change, count in self.changes]
        if self.test:
            lines.append(
                f"test: {self.test.source}, {self.test.rows} usable rows, {len(self.test.bad)} bad; "
                f"{self.test.shared} of the rows above stand in it too"
            )
        for bad in (self.bad, self.test.bad if self.test else ()):
            lines += [f"bad row: {row}" for row in bad[:_SHOWN]]
            if len(bad) > _SHOWN:
                lines.append(f"bad row: … and {len(bad) - _SHOWN} more in {bad[0].file}")
        return lines


def check_data(
    source: str | Path,
    *,
    format: str = "auto",
    columns: Mapping[str, str] = ALL_AS_NAMED,
    test: str | Path | None = None,
) -> DataCheck:
    """Read a source to its end, and say what it holds. Linear in the number of rows.

    Args:
        source: As in `read.read_examples`.
        format: As in `read.read_examples`; holds for `test` too.
        columns: As in `read.read_examples`; holds for `test` too.
        test: A source that should share no input with `source`.

    Raises:
        DataError: A source cannot be read, its format cannot be told, or none of its rows is usable.
        ConfigError: `format` or a name in `columns` is not known.
    """
    detection, parsed, bad = _read(source, format, columns)
    examples = [row.example for row in parsed]
    task = as_task("", examples)
    outputs = Counter(example.output for example in examples)
    answer, count = outputs.most_common(1)[0]
    duplicates, conflicts = _repeats(examples)
    return DataCheck(
        source=str(source),
        detection=detection,
        rows=len(parsed) + len(bad),
        bad=bad,
        duplicates=duplicates,
        conflicts=conflicts,
        distinct_outputs=len(outputs),
        majority=(answer, count / len(examples)),
        labels=task.labels,
        scoring=task.scoring,
        input_characters=_measure([example.input for example in examples]),
        output_characters=_measure([example.output for example in examples]),
        extra_columns=tuple(dict.fromkeys(column for row in parsed for column in row.extra)),
        changes=tuple(Counter(change for row in parsed for change in row.changes).most_common()),
        test=None if test is None else _overlap(examples, test, format, columns),
    )


def _read(
    source: str | Path, format: str, columns: Mapping[str, str]
) -> tuple[Detection, list[Parsed], tuple[BadRow, ...]]:
    detection, rows = parsed_rows(source, format, columns)
    parsed: list[Parsed] = []
    bad: list[BadRow] = []
    for row in rows:
        if isinstance(row, BadRow):
            bad.append(row)
        else:
            parsed.append(row)
    if not parsed:
        raise DataError(f"{source}: all {len(bad)} rows are bad as {detection.format}, the first: {bad[0]}")
    return detection, parsed, tuple(bad)


def _repeats(examples: Sequence[Example]) -> tuple[int, int]:
    """Rows that repeat an earlier one, and inputs with more than one output, both to the letter."""
    outputs: dict[int, set[str]] = {}
    duplicates = 0
    for example in examples:
        turns = [part for turn in example.history for part in (turn.role, turn.content)]
        known = outputs.setdefault(key(example.instruction, *turns, example.input), set())
        duplicates += example.output in known
        known.add(example.output)
    return duplicates, sum(len(known) > 1 for known in outputs.values())


def _overlap(examples: Sequence[Example], test: str | Path, format: str, columns: Mapping[str, str]) -> Overlap:
    _, parsed, bad = _read(test, format, columns)
    shared = shared_inputs(examples, [row.example for row in parsed])
    return Overlap(str(test), len(parsed), bad, len(shared))


def _measure(texts: Sequence[str]) -> Lengths:
    lengths = [len(text) for text in texts]
    return Lengths(float(median(lengths)), max(lengths))


def _lengths(lengths: Lengths) -> str:
    return f"median {lengths.median:g}, longest {lengths.most}"


def _short(text: str) -> str:
    return repr(text if len(text) <= 40 else f"{text[:39]}…")
