"""Files and hub data sets as raw rows, each with the place where it stands."""

import csv
import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from types import MappingProxyType
from typing import Protocol, runtime_checkable

from keepshot.errors import DataError

LINE_SUFFIXES = (".jsonl", ".ndjson", ".csv", ".tsv")
DATA_SUFFIXES = (*LINE_SUFFIXES, ".json", ".parquet")

_TABLES = (".csv", ".tsv")

ALL_AS_NAMED: Mapping[str, str] = MappingProxyType({})  # a file whose columns are called as a format's are

# Rows of a Parquet file in memory at once; as Python objects a row is many times its size on disk.
_BATCH_ROWS = 1000

# What CSV, which knows only text, reads as lists.
_CSV_LISTS = ("options", "aliases", "messages", "conversations", "history")

_HUB_ID = re.compile(r"(?P<name>[\w-][\w.-]*(/[\w-][\w.-]*)?)(:(?P<config>[^:@\s]+))?(@(?P<split>[^@\s]+))?")
_SURROGATE = re.compile("[\ud800-\udfff]")


@dataclass(frozen=True, slots=True)
class RawRow:
    """One row as it stands in its source.

    Attributes:
        line: Where it begins: the 1-based line of JSONL and CSV, the 1-based row of everything else.
        values: Column to value, unchecked.
    """

    line: int
    values: Mapping[str, object]


@dataclass(frozen=True, slots=True)
class BadRow:
    """A row, or a whole file, that cannot be used.

    Attributes:
        file: The source as it was given.
        line: As in `RawRow`; 0 for the file as a whole.
        reason: What is wrong with it.
    """

    file: str
    line: int
    reason: str

    @property
    def place(self) -> str:
        """The file and where in it.

        Example:
            >>> BadRow("train.jsonl", 3, "").place, BadRow("train.parquet", 3, "").place
            ('train.jsonl:3', 'train.parquet, row 3')
        """
        if not self.line:
            return self.file
        return f"{self.file}:{self.line}" if self.file.endswith(LINE_SUFFIXES) else f"{self.file}, row {self.line}"

    def __str__(self) -> str:
        return f"{self.place}: {self.reason}"


@runtime_checkable
class ArrowRows(Protocol):
    """What a pyarrow `RecordBatch` and a `Table` have in common, as far as it is used here."""

    def __len__(self) -> int:
        """Number of rows."""

    def slice(self, offset: int, length: int) -> "ArrowRows":
        """Some of the rows."""

    def to_pylist(self) -> list[dict[str, object]]:
        """The rows as Python objects."""


def kind(value: object) -> str:
    """What a raw value is, in words for a message.

    Example:
        >>> kind([1]), kind(True), kind(None)
        ('a list', 'a boolean', 'null')
    """
    names = {str: "text", list: "a list", dict: "an object", bool: "a boolean", int: "a number", float: "a number"}
    return "null" if value is None else names.get(type(value), f"a {type(value).__name__}")


def raw_rows(source: str | Path, columns: Mapping[str, str] = ALL_AS_NAMED) -> Iterator[RawRow | BadRow]:
    """Rows of a file or of a hub data set, in order; rows that cannot be taken apart come as `BadRow`.

    Blank lines are no rows. A path that exists always wins over a hub id.

    Args:
        source: A file with one of `DATA_SUFFIXES`, or `[org/]name[:config][@split]` on the Hugging Face hub (split
            `train` unless named).
        columns: What a column is called here, to what it is called in the source; the others keep their names.

    Raises:
        DataError: The source does not exist or cannot be read, or where its rows begin and end cannot be told.
    """
    rows = _source_rows(source)
    if columns:
        rows = (_renamed(row, columns) if isinstance(row, RawRow) else row for row in rows)
    if Path(source).suffix in _TABLES:
        rows = (_with_lists(str(source), row) if isinstance(row, RawRow) else row for row in rows)
    return rows


def _renamed(row: RawRow, columns: Mapping[str, str]) -> RawRow:
    """The row under the names used here; a column that has one of them by itself stands aside."""
    moved = set(columns.values())
    own = {name: value for name, value in row.values.items() if name not in moved}
    others = {f"{name} (its own)" if name in columns else name: value for name, value in own.items()}
    return RawRow(row.line, others | {name: row.values[old] for name, old in columns.items() if old in row.values})


def _source_rows(source: str | Path) -> Iterator[RawRow | BadRow]:
    path = Path(source).expanduser()
    if not path.exists():
        return _hub_rows(_hub_id(source))
    if path.is_dir():
        raise DataError(f"{source} is a folder; name one of the files in it")
    if path.suffix not in DATA_SUFFIXES:
        raise DataError(f"{source} has the suffix {path.suffix or '(none)'}; data files end in {_or(DATA_SUFFIXES)}")
    return _file_rows(path, str(source))


def _file_rows(path: Path, source: str) -> Iterator[RawRow | BadRow]:
    readers = {".json": _json_rows, ".csv": _csv_rows, ".tsv": _csv_rows, ".parquet": _parquet_rows}
    try:
        yield from readers.get(path.suffix, _jsonl_rows)(path, source)
    except OSError as error:
        raise DataError(f"{source} cannot be read: {error.strerror or error}") from None


def _jsonl_rows(path: Path, source: str) -> Iterator[RawRow | BadRow]:
    with path.open("rb") as file:
        for number, line in enumerate(file, start=1):
            try:
                text = line.decode("utf-8-sig" if number == 1 else "utf-8").strip()
                if text:
                    yield _row(source, number, json.loads(text))
            except UnicodeDecodeError as error:
                yield BadRow(source, number, f"not valid UTF-8 at byte {error.start + 1} of the line")
            except (ValueError, RecursionError) as error:
                yield BadRow(source, number, f"not valid JSON: {error}")


def _json_rows(path: Path, source: str) -> Iterator[RawRow | BadRow]:
    # Bytes that are not UTF-8 become lone surrogates, so that they spoil their own row only.
    text = path.read_bytes().decode("utf-8-sig", errors="surrogateescape")
    if _holds_json_lines(text):
        yield from _jsonl_rows(path, source)
        return
    try:
        value = json.loads(text) if text.strip() else []
    except (ValueError, RecursionError) as error:
        raise DataError(f"{source} is not valid JSON: {error}") from None
    rows = value.get("data") if isinstance(value, dict) else value
    if not isinstance(rows, list):
        raise DataError(f'{source} holds {kind(value)}; JSON data is a list of rows or {{"data": [rows]}}')
    for number, row in enumerate(rows, start=1):
        yield _row(source, number, row)


def _holds_json_lines(text: str) -> bool:
    """Whether `.json` text is JSON lines, as often on the hub: the first line is a whole object, and more follows."""
    first, _, rest = text.lstrip().partition("\n")
    if not rest or rest.isspace():
        return False
    try:
        return isinstance(json.loads(first), dict)
    except (ValueError, RecursionError):
        return False


def _row(source: str, number: int, value: object) -> RawRow | BadRow:
    if isinstance(value, dict):
        return RawRow(number, value)
    return BadRow(source, number, f"the row is {kind(value)}, not an object")


def _csv_rows(path: Path, source: str) -> Iterator[RawRow | BadRow]:
    # The limit is a setting of the whole process, hence only ever raised; no field is longer than its file.
    csv.field_size_limit(max(csv.field_size_limit(), path.stat().st_size))
    with path.open(encoding="utf-8-sig", errors="surrogateescape", newline="") as file:
        # Without `strict` a quote that is never closed would silently swallow the rest of the file.
        reader = csv.reader(file, delimiter="\t" if path.suffix == ".tsv" else ",", strict=True)
        line = 1
        try:
            header = _csv_header(source, next(filter(None, reader), []))
            line = reader.line_num + 1
            for fields in reader:
                if fields:
                    yield _csv_row(source, line, header, fields)
                line = reader.line_num + 1
        except csv.Error as error:
            raise DataError(f"{source}:{line}: not valid CSV: {error}; quotes in a quoted field are doubled") from None


def _csv_header(source: str, names: list[str]) -> list[str]:
    header = [name.strip() for name in names]
    if len(header) == 1 and re.search("[;\t|]", header[0]):
        raise DataError(f"{source}: the header is one column, {header[0]!r}; separate columns with commas (.tsv: tabs)")
    twice = sorted({name for name in header if header.count(name) > 1})
    if twice:
        raise DataError(f"{source}: the header names {twice[0]!r} more than once")
    return header


def _csv_row(source: str, line: int, header: list[str], fields: list[str]) -> RawRow | BadRow:
    if len(fields) != len(header):
        return BadRow(source, line, f"{len(fields)} fields where the header names {len(header)}")
    if any(_SURROGATE.search(text) for text in fields):
        return BadRow(source, line, "not valid UTF-8")
    return RawRow(line, dict(zip(header, fields, strict=True)))


def _with_lists(source: str, row: RawRow) -> RawRow | BadRow:
    """A row of a table whose lists are written as text."""
    values = dict(row.values)
    for name in _CSV_LISTS:
        text = str(values.get(name, "")).strip()
        if name not in values:
            continue
        if text.startswith("["):
            try:
                values[name] = json.loads(text)
            except (ValueError, RecursionError) as error:
                return BadRow(source, row.line, f"{name} begins with [ but is not a JSON list: {error}")
        elif name in ("options", "aliases"):
            values[name] = text.split("|") if text else []
    return RawRow(row.line, values)


def _parquet_rows(path: Path, source: str) -> Iterator[RawRow | BadRow]:
    # Slow to import, and of use to Parquet only.
    import pyarrow
    from pyarrow import parquet

    try:
        with parquet.ParquetFile(path) as file:
            yield from _arrow_rows(source, file.iter_batches(batch_size=_BATCH_ROWS))
    except pyarrow.ArrowException as error:
        raise DataError(f"{source} is not valid Parquet: {_first_line(error)}") from None


def _arrow_rows(source: str, batches: Iterable[ArrowRows]) -> Iterator[RawRow | BadRow]:
    rows = chain.from_iterable(_python_rows(batch) for batch in batches)
    for number, row in enumerate(rows, start=1):
        yield BadRow(source, number, "not valid UTF-8") if row is None else RawRow(number, row)


def _python_rows(batch: ArrowRows) -> Sequence[Mapping[str, object] | None]:
    """The rows of a batch; None for a row with text that is not UTF-8, which Arrow does not forbid."""
    try:
        return batch.to_pylist()
    except UnicodeDecodeError:
        if len(batch) == 1:
            return [None]
        return [row for index in range(len(batch)) for row in _python_rows(batch.slice(index, 1))]


def _hub_id(source: str | Path) -> re.Match[str]:
    match = _HUB_ID.fullmatch(str(source))
    if isinstance(source, Path) or match is None or str(source).endswith(DATA_SUFFIXES):
        raise DataError(f"{source} does not exist")
    return match


def _hub_rows(hub_id: re.Match[str]) -> Iterator[RawRow | BadRow]:
    source, name, config = hub_id[0], hub_id["name"], hub_id["config"]
    try:
        # An optional extra, and slow to import.
        from datasets import load_dataset
    except ImportError:
        raise DataError(
            f"{source} is no file here, and hub data sets need the datasets library: pip install 'keepshot[hub]'"
        ) from None
    try:
        # From version 4 on, which the extra asks for, datasets runs no code that comes with the data.
        rows = load_dataset(name, config, split=hub_id["split"] or "train")
    except (OSError, ValueError, RuntimeError) as error:
        raise DataError(
            f"{source} is no file here, and as a hub data set ([org/]name[:config][@split]) it cannot be loaded: "
            f"{_first_line(error)}"
        ) from None
    # As Arrow, images and sounds beside the text are not decoded.
    return _arrow_rows(source, rows.with_format("arrow").iter(_BATCH_ROWS))


def _first_line(error: Exception) -> str:
    return next(chain(str(error).strip().splitlines(), [type(error).__name__]))


def _or(names: tuple[str, ...]) -> str:
    return f"{', '.join(names[:-1])} or {names[-1]}"
