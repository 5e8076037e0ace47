"""Where a task file says that its documents stand."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeAlias

from keepshot.tasks.lm_eval.task_file import TaskFile
from keepshot.tasks.rows import kind

Document: TypeAlias = Mapping[str, object]

FILE_KINDS = ("json", "csv", "parquet", "text")


@dataclass(frozen=True, slots=True)
class Source:
    """Where a task's documents stand.

    Attributes:
        path: `json`, `csv`, `parquet` or `text` for files; else a hub id or a folder, for `datasets`.
        config: Name of the configuration of a hub data set.
        files: Files by split.
        options: What `datasets` is given besides, for a hub id.
    """

    path: str
    config: str | None = None
    files: Mapping[str, tuple[Path, ...]] = field(default_factory=dict)
    options: Mapping[str, object] = field(default_factory=dict)


def find_source(file: TaskFile) -> Source:
    """What `dataset_path`, `dataset_name` and `dataset_kwargs` of a task file say.

    A relative path is looked for beside the task file, then in the working folder, where the harness looks.

    Raises:
        DataError: A key is missing or not supported, or a file does not exist.
    """
    path, name = file.config.get("dataset_path"), file.config.get("dataset_name")
    if not isinstance(path, str):
        raise file.refusal("dataset_path", f"is {kind(path)}; it must be json, csv, parquet, text or a hub id")
    options = dict(file.mapping("dataset_kwargs"))
    options.pop("trust_remote_code", None)  # none is run
    if path not in FILE_KINDS:
        if name is not None and not isinstance(name, str):
            raise file.refusal("dataset_name", f"is {kind(name)}; it must be text")
        beside = file.path.parent / path
        return Source(str(beside) if beside.is_dir() else path, name, options=options)
    files = options.pop("data_files", None)
    if options:
        raise file.refusal(f"dataset_kwargs.{next(iter(options))}", f"is not supported for {path} files")
    by_split = files if isinstance(files, dict) else {"train": files}
    return Source(path, files={str(split): _files(file, paths) for split, paths in by_split.items()})


def _files(file: TaskFile, paths: object) -> tuple[Path, ...]:
    found = []
    for path in paths if isinstance(paths, list) else [paths]:
        if not isinstance(path, str):
            raise file.refusal("dataset_kwargs.data_files", f"has {kind(path)} where a path must be")
        places = (file.path.parent / path, Path(path).expanduser())
        at = next((place for place in places if place.is_file()), None)
        if at is None:
            raise file.refusal(
                "dataset_kwargs.data_files", f"names {path}, neither beside it nor in the working folder"
            )
        found.append(at.resolve())
    return tuple(found)
