"""The folder of a comparison: begun, or taken up where nothing has changed that decides on a result."""

from collections.abc import Mapping
from pathlib import Path

from keepshot.config import save_config
from keepshot.errors import ConfigError, RunError
from keepshot.files import write_json
from keepshot.models.digest import model_digest
from keepshot.runs.cells import base_folder
from keepshot.runs.comparison_config import CompareConfig, load_comparison
from keepshot.runs.folder import RunFolder, check_inputs, environment
from keepshot.runs.ground import Ground

# The grid may grow, and what is made of the results may change; everything else decides what a cell computes.
FREE = {"output", "gate", "match", "max_cost", "cost", "keep", "baseline"} | {
    "data", "targets", "methods", "learning_rates", "steps", "seeds",
}  # fmt: skip


def open_comparison(config: CompareConfig, grounds: Mapping[str, Ground], *, resume: bool) -> None:
    """Make the folder, or take up the comparison that is in it.

    Raises:
        RunError: The folder holds something else, or `resume` is off, or what decides on a cell's result has changed.
    """
    folder = Path(config.output)
    path = folder / "config.yaml"
    if folder.exists() and not folder.is_dir():
        raise RunError(f"{folder} is a file; choose another --output")
    taken = folder.is_dir() and any(not entry.name.startswith(".") for entry in folder.iterdir())
    if taken:
        if not path.exists():
            raise RunError(f"{folder} is not empty and no comparison; choose another --output")
        if not resume:
            raise RunError(
                f"{folder} already holds a comparison; add --resume to continue it, or choose another --output"
            )
        _same(_opened(path), config, path)
    folder.mkdir(parents=True, exist_ok=True)
    begun = {
        RunFolder(folder): {"model": model_digest(config.model)},
        **{base_folder(config, name): {"data or suite": ground.digest} for name, ground in grounds.items()},
    }
    for part, inputs in begun.items():
        check_inputs(part, inputs)
    save_config(config, path)
    for part, inputs in begun.items():
        write_json(part.inputs, inputs)
    write_json(folder / "environment.json", environment())


def _opened(path: Path) -> CompareConfig:
    try:
        return load_comparison(path)
    except ConfigError:
        raise RunError(f"{path} is no config of a comparison; choose another --output") from None


def _same(old: CompareConfig, new: CompareConfig, path: Path) -> None:
    before, after = (config.model_dump(mode="json", exclude=FREE) for config in (old, new))
    different = [name for name in before if before[name] != after[name]]
    for what, then, now in (
        ("method", _methods(old), _methods(new)),
        ("target", old.named_targets(), new.named_targets()),
    ):
        different += [f"the {what} {name}" for name in then if name in now and then[name] != now[name]]
    if different:
        raise RunError(
            f"{path} differs from this config in {', '.join(different)}; a grid may grow, but cells are compared only "
            "where all else is the same: resume with the same values, or choose another --output"
        )


def _methods(config: CompareConfig) -> dict[str, object]:
    return {one.name: (one.method, one.sources) for one in config.contenders()}
