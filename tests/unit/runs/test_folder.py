"""What has changed under its name since a folder was begun is noticed, wherever results of before are taken up."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file, save_file

from keepshot.errors import RunError
from keepshot.files import write_json
from keepshot.models.source import model_source
from keepshot.runs import comparison_folder, confounds, patterns, tuning
from keepshot.runs.comparison_config import load_comparison
from keepshot.runs.confounds_config import load_confounds
from keepshot.runs.folder import RunFolder, check_inputs
from keepshot.runs.patterns_config import load_patterns

SMALL: dict[str, Any] = {"learning_rates": [1e-4], "steps": [1], "seeds": [0]}


def open_tuning(model: str, output: str, rows: str, resume: bool) -> None:
    tuning.tune({"model": model, "output": output, "data": {"train": rows}, "suite": "mini"}, resume=resume)


def open_comparison(model: str, output: str, rows: str, resume: bool) -> None:
    config = load_comparison(SMALL | {"model": model, "output": output, "data": {"train": rows}, "methods": ["full"]})
    comparison_folder.open_comparison(config, {}, resume=resume)


def open_patterns(model: str, output: str, rows: str, resume: bool) -> None:
    settings = {
        "model": model,
        "output": output,
        "tasks": ["parity"],
        "examples": [4],
        "shots": [0, 2],
        "methods": ["full"],
    }
    patterns._open(load_patterns(SMALL | settings), {}, resume=resume)


def open_confounds(model: str, output: str, rows: str, resume: bool) -> None:
    config = load_confounds(SMALL | {"model": model, "output": output, "tasks": ["relations"], "examples": 2})
    confounds._open(config, resume)


@pytest.mark.parametrize("begin", [open_tuning, open_comparison, open_patterns, open_confounds])
def test_a_base_that_was_made_anew_under_its_name_is_another(
    begin: Callable[[str, str, str, bool], None], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tuning, "finish", lambda *of: None)
    base, output, rows = tmp_path / "base", str(tmp_path / "run"), tmp_path / "rows.jsonl"
    shutil.copytree(model_source("mini"), base)
    rows.write_text("".join(f'{{"input": "a {place}", "output": "b"}}\n' for place in range(40)))
    begin(str(base), output, str(rows), False)
    begin(str(base), output, str(rows), True)
    weights = load_file(base / "model.safetensors")
    save_file({name: tensor + 1 for name, tensor in weights.items()}, base / "model.safetensors", {"format": "pt"})
    with pytest.raises(RunError, match="run was begun with other model; bring back what it was begun with, or choose"):
        begin(str(base), output, str(rows), True)


def test_what_an_older_version_did_not_tell_is_not_held_against_it(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    check_inputs(folder, {"model": "a"})
    write_json(folder.inputs, {"train": "a", "digest": "b"})
    check_inputs(folder, {"model": "a", "train": "a"})
    with pytest.raises(RunError, match="with other train;"):
        check_inputs(folder, {"model": "a", "train": "b"})
