"""From a model's name to its folder: the bundled mini, a local folder or a hub id, of a model or of an adapter."""

import re
from pathlib import Path
from typing import Any

from huggingface_hub import snapshot_download
from huggingface_hub.errors import (
    GatedRepoError,
    HFValidationError,
    LocalEntryNotFoundError,
    RepositoryNotFoundError,
)

from keepshot.errors import ModelError, RunError
from keepshot.files import read_json

MINI = "mini"
"""Name of the bundled model; a folder of that name is written `./mini`."""

_DOWNLOADED = ["*.json", "*.safetensors", "*.model", "*.txt", "*.jinja"]
# Sub-folders and `consolidated*` hold the same weights again in other formats.
_NOT_DOWNLOADED = ["*/*", "consolidated*"]


def model_source(name: str) -> str:
    """Where a model's files are: a folder for `mini` and for local folders, else the hub id as given.

    Raises:
        ModelError: `name` is written like a path and is no folder, or is no valid hub id.

    Example:
        >>> model_source("org/some-model")
        'org/some-model'
    """
    if name == MINI:
        return str(Path(__file__).with_name("mini"))
    path = Path(name).expanduser()
    if name and path.is_dir():
        return str(path)
    if path.is_file():
        raise ModelError(f"{name} is a file; name the folder that holds config.json or adapter_config.json")
    if not re.fullmatch(r"[\w.-]+(/[\w.-]+)?", name) or name.startswith("."):
        raise ModelError(
            f"{name!r} is no folder; name {MINI!r}, a model or adapter folder, or a hub id such as org/name"
        )
    return name


def base_name(name: str) -> str:
    """The name under which an adapter or a model card refers to a model: `mini`, a hub id, or a folder's full path.

    Example:
        >>> base_name("mini")
        'mini'
    """
    source = model_source(name)
    if name == MINI or not Path(source).is_dir():
        return name
    return str(Path(source).resolve())


def model_folder(name: str) -> Path:
    """The folder of a model's files, downloaded where `name` is a hub id, and known to be a model or an adapter."""
    source = model_source(name)
    folder = Path(source)
    if not folder.is_dir():
        try:
            folder = Path(snapshot_download(source, allow_patterns=_DOWNLOADED, ignore_patterns=_NOT_DOWNLOADED))
        except GatedRepoError as error:
            raise ModelError(f"{name} is gated on the hub; accept its terms there and run `hf auth login`") from error
        except (RepositoryNotFoundError, HFValidationError) as error:
            raise ModelError(
                f"{name} is no folder, and no model on the hub that you may see (`hf auth login`)"
            ) from error
        except LocalEntryNotFoundError as error:
            raise ModelError(
                f"{name} is no folder, and neither the hub nor a complete local copy can be reached; "
                f"go online once, or name {MINI!r} or a model folder"
            ) from error
        except OSError as error:
            raise ModelError(f"cannot download {name}: {first_line(error)}") from error
    if not any((folder / file).is_file() for file in ("config.json", "adapter_config.json")):
        inside = [folder / part for part in ("model", "adapter") if (folder / part).is_dir()]
        hint = f"; did you mean {inside[0]}?" if inside else ""
        raise ModelError(f"{name} is no model folder: it holds neither config.json nor adapter_config.json{hint}")
    return folder


def adapter_base(name: str) -> str | None:
    """The base that an adapter names, as `base_name` writes it; None where `name` is no adapter.

    Raises:
        ModelError: As `load_model`.

    Example:
        >>> adapter_base("mini") is None
        True
    """
    folder = model_folder(name)
    return base_name(base_in(folder)) if (folder / "adapter_config.json").is_file() else None


def base_in(folder: Path) -> str:
    """The base that the adapter in a folder names, as its config writes it."""
    config = folder / "adapter_config.json"
    base = read_settings(config).get("base_model_name_or_path")
    if not isinstance(base, str) or not base:
        raise ModelError(f"{config} names no base_model_name_or_path; write the base model's name there")
    return base


def read_settings(path: Path) -> dict[str, Any]:
    """The settings in a file of a model.

    Raises:
        ModelError: The file is missing or holds something else.
    """
    try:
        return read_json(path)
    except RunError as error:
        raise ModelError(str(error)) from None


def first_line(error: BaseException) -> str:
    """What an error of another library says first; its kind where it says nothing."""
    return next(iter(str(error).strip().splitlines()), type(error).__name__)
