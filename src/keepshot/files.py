"""Files that are complete or absent: written aside, flushed to disk, then renamed."""

import json
import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from keepshot.errors import RunError


def write_text(path: Path, text: str) -> None:
    """Write `text` to `path`, which afterwards holds the old content or all of the new, never a part of it.

    Raises:
        RunError: A folder is there.
    """
    if path.is_dir():
        raise RunError(f"{path} is a folder; name a file")
    path.parent.mkdir(parents=True, exist_ok=True)
    aside = path.with_name(f".{path.name}.{os.getpid()}.part")
    with aside.open("w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    aside.replace(path)
    _flush_folder(path.parent)


def write_json(path: Path, value: Mapping[str, Any]) -> None:
    """Write `value` as JSON, atomically; NaN and infinities are refused, since JSON has none."""
    write_text(path, json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False) + "\n")


def read_json(path: Path) -> dict[str, Any]:
    """Read a JSON object.

    Raises:
        RunError: The file is missing or is not a JSON object.
    """
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise RunError(f"{path} does not exist") from None
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise RunError(f"{path} is not valid JSON: {error}") from None
    if not isinstance(value, dict):
        raise RunError(f"{path} holds a {type(value).__name__}, not a JSON object")
    return value


@contextmanager
def new_folder(path: Path) -> Iterator[Path]:
    """A folder beside `path` to fill; when the block ends without an error it becomes `path` at once.

    An older `path` is replaced. After an error or a kill, `path` is what it was before; between two renames it is
    there under another name for a moment, from which the next `new_folder` or `put_back` returns it.
    """
    put_back(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    aside = path.with_name(f".{path.name}.part")
    shutil.rmtree(aside, ignore_errors=True)
    aside.mkdir()
    yield aside
    mask = os.umask(0)
    os.umask(mask)
    for file in sorted(aside.rglob("*")):
        if file.is_file():
            file.chmod(0o666 & ~mask)  # safetensors writes for the owner alone
            with file.open("rb") as handle:
                os.fsync(handle.fileno())
    _flush_folder(aside)
    if path.exists():
        path.rename(_replaced(path))
    aside.rename(path)
    _flush_folder(path.parent)
    put_back(path)


def check_replaceable(path: Path, mark: str) -> None:
    """That a folder which `new_folder` is going to replace is absent, empty, or one of its kind.

    Args:
        path: Of the folder.
        mark: A file that stands in every folder of this kind.

    Raises:
        RunError: It is there and holds something else.
    """
    if path.exists() and not (path / mark).is_file() and (not path.is_dir() or any(path.iterdir())):
        raise RunError(f"{path} is there and holds no {mark}; name a new folder with --output")


def put_back(path: Path) -> None:
    """Return what a kill amid its replacement by `new_folder` left under another name; delete it if it was replaced."""
    old, gone = _replaced(path), path.with_name(f".{path.name}.gone")
    shutil.rmtree(gone, ignore_errors=True)
    if old.exists() and path.exists():
        old.rename(gone)  # first, so that nothing half deleted is ever returned
        shutil.rmtree(gone, ignore_errors=True)
    elif old.exists():
        old.rename(path)


def _replaced(path: Path) -> Path:
    return path.with_name(f".{path.name}.old")


def _flush_folder(path: Path) -> None:
    """Make a rename durable; some file systems cannot open a folder for that, and then rename alone must do."""
    try:
        handle = os.open(path, os.O_RDONLY)
    except OSError:
        return
    try:
        os.fsync(handle)
    except OSError:
        return
    finally:
        os.close(handle)
