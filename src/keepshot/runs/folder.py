"""The run folder: what a run leaves, under which names."""

import platform
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch
from filelock import FileLock, Timeout
from pydantic import BaseModel

from keepshot.config import RunConfig, load_config, save_config
from keepshot.errors import RunError
from keepshot.files import read_json, write_json

PACKAGES = ("keepshot", "torch", "transformers", "peft", "accelerate", "tokenizers", "numpy", "scipy")


@dataclass(frozen=True, slots=True)
class RunFolder:
    """Paths inside a run folder. Each file or folder is complete or absent."""

    path: Path

    @property
    def config(self) -> Path:
        """The resolved config; loading it reproduces the run."""
        return self.path / "config.yaml"

    @property
    def environment(self) -> Path:
        """Versions and machine."""
        return self.path / "environment.json"

    @property
    def inputs(self) -> Path:
        """Digests of the model and the data that it was begun with."""
        return self.path / "inputs.json"

    @property
    def metrics(self) -> Path:
        """One JSON object per logged training step."""
        return self.path / "metrics.jsonl"

    @property
    def checkpoints(self) -> Path:
        """Folder of checkpoints."""
        return self.path / "checkpoints"

    @property
    def index(self) -> Path:
        """The retrieval index over the training inputs, where contexts are drawn by similarity."""
        return self.path / "index"

    @property
    def prompt(self) -> Path:
        """The soft prompt, where the method trains one."""
        return self.path / "prompt"

    @property
    def training(self) -> Path:
        """What training cost; written when it has ended."""
        return self.path / "training.json"

    @property
    def report(self) -> Path:
        """The result as JSON."""
        return self.path / "report.json"

    def evaluation(self, when: str) -> tuple[Path, Path]:
        """JSON and items of the evaluation `before` or `after`."""
        return self.path / f"eval_{when}.json", self.path / f"items_{when}.parquet"

    def saved_model(self, is_adapter: bool) -> Path:
        """The tuned model, or the adapter."""
        return self.path / ("adapter" if is_adapter else "model")


def open_run(config: RunConfig, inputs: Mapping[str, str], *, resume: bool) -> RunFolder:
    """Make the run folder, or take up the one that is there.

    Args:
        config: Of the run.
        inputs: A digest of the model and of every part of the data, by its name.
        resume: Take up a run that is there.

    Raises:
        RunError: The folder holds something and `resume` is off, or it was begun with another config, model or data.
    """
    folder = RunFolder(Path(config.output))
    if folder.path.exists() and not folder.path.is_dir():
        raise RunError(f"{folder.path} is a file; choose another --output")
    taken = folder.path.is_dir() and any(not p.name.startswith(".") for p in folder.path.iterdir())
    if taken and not folder.config.exists():
        raise RunError(f"{folder.path} is not empty and no run folder; choose another --output")
    if taken and not resume:
        raise RunError(f"{folder.path} already holds a run; add --resume to continue it, or choose another --output")
    if taken:
        _same_config(load_config(folder.config), config, folder.config)
        check_inputs(folder, inputs)
    # The config is first: where it is, a run was begun. The others follow, also in a run that was killed in between.
    folder.path.mkdir(parents=True, exist_ok=True)
    save_config(config, folder.config)
    write_json(folder.inputs, dict(inputs))
    write_json(folder.environment, environment())
    return folder


@contextmanager
def in_use(folder: RunFolder) -> Iterator[None]:
    """Keep other processes out of a run folder.

    Raises:
        RunError: One is in it.
    """
    lock = FileLock(folder.path / ".lock")
    try:
        lock.acquire(timeout=0)
    except Timeout:
        raise RunError(f"{folder.path} is in use by another process; wait for it, or choose another --output") from None
    try:
        yield
    finally:
        lock.release()
        (folder.path / ".lock").unlink(missing_ok=True)


def environment() -> dict[str, Any]:
    """Versions of what computes, and the kind of machine; no names or paths."""
    return {
        "versions": versions(),
        "python": platform.python_version(),
        "system": platform.system(),
        "machine": platform.machine(),
        "threads": torch.get_num_threads(),
        "device": torch.cuda.get_device_name() if torch.cuda.is_available() else "cpu",
    }


def versions() -> dict[str, str]:
    """Installed versions of the packages that the numbers depend on."""
    found = {}
    for package in PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            found[package] = "not installed"
    return found


def check_same(old: BaseModel, new: BaseModel, path: Path, *, free: set[str]) -> None:
    """Whether two configs say the same.

    Args:
        old: As it lies in a folder.
        new: That the folder is to be taken up with.
        path: Of the old one.
        free: Keys that may differ.

    Raises:
        RunError: They differ; in which keys.
    """
    before, after = (config.model_dump(mode="json", exclude=free) for config in (old, new))
    if different := [key for key in before if before[key] != after[key]]:
        raise RunError(
            f"{path} differs from this config in {', '.join(different)}; resume with the same config, or choose "
            "another --output"
        )


def check_inputs(folder: RunFolder, inputs: Mapping[str, str]) -> None:
    """Whether a folder was begun with these, as far as it says with which: an older version of keepshot told less.

    Raises:
        RunError: It was not.
    """
    begun = read_json(folder.inputs) if folder.inputs.exists() else {}
    if different := [name for name in begun if name in inputs and begun[name] != inputs[name]]:
        raise RunError(
            f"{folder.path} was begun with other {', '.join(different)}; bring back what it was begun with, or choose "
            "another --output"
        )


def _same_config(old: RunConfig, new: RunConfig, path: Path) -> None:
    # The output may have been moved; the gate judges afterwards. Everything else decides what the run computes.
    check_same(old, new, path, free={"output", "gate"})
