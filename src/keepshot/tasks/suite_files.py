"""Folders of task files, or single sources, as suites."""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from keepshot.errors import DataError
from keepshot.tasks.example import Example, Suite, Task
from keepshot.tasks.lm_eval import TaskFile, data_files, lm_eval_task, load_task_file
from keepshot.tasks.read import SKIP_HINT, Dataset, OnBadRow, as_task, read_examples, refuse, task_name
from keepshot.tasks.rows import ALL_AS_NAMED, DATA_SUFFIXES, BadRow
from keepshot.tasks.split import input_key

# Fewer queries cannot tell an accuracy of .5 from one of .7.
_LEAST_SUITE_ROWS = 20

# Task files of lm-evaluation-harness, which end in nothing else.
_TASK_SUFFIX = ".yaml"


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
            refuse(bad)
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
        hint = f"; remove it, or leave such tasks out with {SKIP_HINT}" if on_bad_row == "raise" else ""
        raise DataError(f"{source}: {len(queries)} usable rows, and a task of a suite needs {_LEAST_SUITE_ROWS}{hint}")
