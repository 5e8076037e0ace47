"""Sources as examples, tasks and suites."""

from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Literal

from keepshot.errors import ConfigError, DataError
from keepshot.tasks.example import Example, Suite, Task, ending_alike, hold_line_ends
from keepshot.tasks.formats import TRAILING_TURNS, Detection, Parsed, check_format, column_names, detect, parse
from keepshot.tasks.lm_eval import TaskFile, data_files, lm_eval_task, load_task_file
from keepshot.tasks.rows import ALL_AS_NAMED, DATA_SUFFIXES, BadRow, RawRow, raw_rows
from keepshot.tasks.split import input_key

OnBadRow = Literal["raise", "skip"]

# Rows that the format is detected from.
_LOOK_AT = 20

# Answers count as a finite set if each occurs this often on average; then the rows show nearly all that there are.
_OUTPUTS_PER_LABEL = 5

# Fewer queries cannot tell an accuracy of .5 from one of .7.
_LEAST_SUITE_ROWS = 20

# Task files of lm-evaluation-harness, which end in nothing else.
_TASK_SUFFIX = ".yaml"

_SKIP_HINT = "--on-bad-row skip (config: data.on_bad_row: skip)"


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


@dataclass(frozen=True, slots=True)
class SuiteFiles:
    """A suite read from files.

    Attributes:
        suite: Its tasks, sorted by name.
        skipped: Everything that was left out, with the reason: files that are no data and demonstrations that stand
            among the queries; with `on_bad_row="skip"` also bad rows and unusable tasks.
    """

    suite: Suite
    skipped: tuple[BadRow, ...] = ()


@dataclass(frozen=True, slots=True)
class _TaskFiles:
    """Where a suite's task stands: its queries, and its demonstrations if they are apart."""

    queries: str | Path
    demonstrations: Path | None = None


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
        _refuse(bad)
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


def _refuse(bad: Sequence[BadRow]) -> None:
    if bad:
        further = f"; {len(bad) - 1} further bad rows" if len(bad) > 2 else "; 1 further bad row" * (len(bad) - 1)
        raise DataError(f"{bad[0]}{further}; mend the file, or leave bad rows out with {_SKIP_HINT}")


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


def read_suite(
    path: str | Path,
    *,
    format: str = "auto",
    columns: Mapping[str, str] = ALL_AS_NAMED,
    on_bad_row: OnBadRow = "raise",
) -> SuiteFiles:
    """A folder of task files, or one source, as a suite.

    Each data file is a task named after it. `<task>.train.<suffix>` and `<task>.test.<suffix>` make one task, whose
    demonstrations come from the former and whose queries from the latter; demonstrations that ask what a query asks are
    left out. Each `.yaml` file is a task of lm-evaluation-harness (see `docs/lm-eval.md`); the data files that it reads
    are no tasks of their own. Other files and inner folders are passed over. A task needs at least 20 queries.

    Args:
        path: The folder; or a file or hub id, as in `read_examples`; or one `.yaml` file.
        format: As in `read_examples`, for every data file.
        columns: As in `read_examples`, for every data file.
        on_bad_row: As in `read_examples`; `skip` also leaves out files that are no task.

    Raises:
        DataError: There is no task, two files claim the same name, or a file is no task.
        ConfigError: As in `read_examples`.
    """
    folder = Path(path).expanduser()
    skipped: list[BadRow] = []
    sources: dict[str, _TaskFiles | TaskFile]
    if folder.is_dir():
        sources = _sources(folder, on_bad_row, skipped)
    elif folder.suffix == _TASK_SUFFIX:
        file = load_task_file(folder)
        sources = {file.name: file}
    else:
        sources = {task_name(path): _TaskFiles(path)}
    read = partial(read_examples, format=format, columns=columns, on_bad_row=on_bad_row)
    tasks = []
    for name, source in sorted(sources.items()):
        try:
            tasks.append(_suite_task(name, source, read, on_bad_row, skipped))
        except DataError as error:
            if on_bad_row == "raise" or len(sources) == 1:
                raise
            file_name = str(source.path if isinstance(source, TaskFile) else source.queries)
            reason = str(error).removeprefix(f"{file_name}: ")
            skipped.append(BadRow(file_name, 0, f"task {name!r} left out: {reason}"))
    if not tasks:
        reason = f", but {skipped[0]}" if skipped else ""
        endings = ", ".join((*DATA_SUFFIXES, _TASK_SUFFIX))
        raise DataError(f"{path} holds no task; data files end in {endings}{reason}")
    return SuiteFiles(Suite(task_name(path), tuple(tasks)), tuple(skipped))


def _sources(folder: Path, on_bad_row: OnBadRow, skipped: list[BadRow]) -> dict[str, _TaskFiles | TaskFile]:
    """Where the tasks of a folder stand, by name."""
    described: dict[str, TaskFile] = {}
    taken: set[Path] = set()
    for path in sorted(folder.glob(f"[!.]*{_TASK_SUFFIX}")):
        taken.add(path.resolve())
        try:
            file = load_task_file(path)
            taken.update(data_files(file))
            if file.is_template:
                skipped.append(BadRow(str(path), 0, "names no task; other task files may include it"))
            elif (other := described.setdefault(file.name, file)) is not file:
                raise DataError(f"{other.path} and {path} would both be task {file.name!r}; rename one")
        except DataError as error:
            if on_bad_row == "raise":
                raise
            skipped.append(BadRow(str(path), 0, f"left out: {str(error).removeprefix(f'{path}: ')}"))
    files = _task_files(folder, taken, skipped)
    for name in described.keys() & files.keys():
        raise DataError(f"{described[name].path} and {files[name].queries} would both be task {name!r}; rename one")
    return {**files, **described}


def _task_files(folder: Path, taken: Collection[Path], skipped: list[BadRow]) -> dict[str, _TaskFiles]:
    parts: dict[tuple[str, bool], Path] = {}
    for file in sorted(folder.iterdir()):
        if file.resolve() in taken:
            continue
        if file.is_dir() or file.suffix not in DATA_SUFFIXES or file.name.startswith("."):
            skipped.append(BadRow(str(file), 0, "a folder" if file.is_dir() else "not a data file"))
            continue
        name, is_train = task_name(file), file.stem.endswith(".train")
        other = parts.setdefault((name, is_train), file)
        if other != file:
            raise DataError(f"{other} and {file} would both be task {name!r}; rename one or join them")
    files: dict[str, _TaskFiles] = {}
    for name, is_train in parts:
        train, test = parts.get((name, True)), parts.get((name, False))
        files[name] = _TaskFiles(test, train) if test else _TaskFiles(parts[name, is_train])
    return files


def _suite_task(
    name: str,
    source: _TaskFiles | TaskFile,
    read: Callable[[str | Path], Dataset],
    on_bad_row: OnBadRow,
    skipped: list[BadRow],
) -> Task:
    if isinstance(source, TaskFile):
        task, bad = lm_eval_task(source)
        if on_bad_row == "raise":
            _refuse(bad)
        _check_size(str(source.path), task.examples, on_bad_row)
        skipped.extend(bad)
        return replace(task, labels=as_task(name, task.examples, task.pool).labels)
    queries = read(source.queries)
    _check_size(queries.source, queries.examples, on_bad_row)
    skipped.extend(queries.skipped)
    if source.demonstrations is None:
        return as_task(name, queries.examples)
    demonstrations = read(source.demonstrations)
    skipped.extend(demonstrations.skipped)
    asked = {input_key(example) for example in queries.examples}
    pool = [example for example in demonstrations.examples if input_key(example) not in asked]
    shared = len(demonstrations.examples) - len(pool)
    if not pool:
        raise DataError(f"{demonstrations.source}: every row also stands in {queries.source}")
    if shared:
        skipped.append(BadRow(demonstrations.source, 0, f"{shared} rows also stand in {queries.source}"))
    return as_task(name, queries.examples, pool)


def _check_size(source: str, queries: Sequence[Example], on_bad_row: OnBadRow) -> None:
    if len(queries) < _LEAST_SUITE_ROWS:
        hint = f"; remove it, or leave such tasks out with {_SKIP_HINT}" if on_bad_row == "raise" else ""
        raise DataError(f"{source}: {len(queries)} usable rows, and a task of a suite needs {_LEAST_SUITE_ROWS}{hint}")


def task_name(source: str | Path) -> str:
    """The name of a task file, or of a hub data set, without folder, suffix and part."""
    path = Path(source).expanduser()
    if path.is_dir():
        return path.resolve().name
    if not path.exists():
        return str(source).split("@")[0].split(":")[0].rpartition("/")[2]
    return path.stem.removesuffix(".train").removesuffix(".test")
