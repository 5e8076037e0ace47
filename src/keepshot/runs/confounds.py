"""How much of the published effect each defect of the released pipeline makes.

The effect is what learning in context gets right beyond fine-tuning. The base is asked behind demonstrations and tuned
models without; what they write is kept, and every setting of the defects is a way to look at it: which training, which
prompts, what counts, which number of demonstrations. Only two defects need trainings of their own.
"""

import json
import os
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import Any, Literal

import numpy as np

from keepshot.config import save_config
from keepshot.errors import ConfigError, RunError
from keepshot.evaluation import Subject
from keepshot.files import read_json, write_json, write_text
from keepshot.models.digest import model_digest
from keepshot.report.confounds import confounds_markdown
from keepshot.report.record import read_report
from keepshot.runs.confound_answers import Answers, Asked, Part, ask, hits
from keepshot.runs.confound_effects import Heard, LookedAt, figures
from keepshot.runs.confounds_config import (
    NO_SWITCH,
    RELEASED,
    ConfoundCell,
    ConfoundsConfig,
    ReleasedName,
    load_confounds,
    settings,
)
from keepshot.runs.folder import RunFolder, check_inputs, check_same, environment, in_use, versions
from keepshot.runs.progress import Progress, Say, silent
from keepshot.runs.subjects import load_subject
from keepshot.runs.tuning import tune
from keepshot.tasks.patterns import Defects, PatternItem, item_row, released

SCHEMA = "keepshot.confounds/1"
PARTS: tuple[Part, ...] = ("test", "misleading")
_VALIDATION_ROWS = 300_000
"""Number of the first item of a training's validation part."""
_SEED_ROWS = 1_000_000
"""Numbers of items that belong to a seed's trainings: every seed draws its own."""


def confounds(
    config: ConfoundsConfig | Mapping[str, Any] | Path | str,
    *,
    output: Path | str | None = None,
    resume: bool = False,
    say: Say = silent,
    progress: Progress | None = None,
) -> Path:
    """Train what the settings need, ask all models, and write what each defect makes.

    Args:
        config: A config, its values as a mapping, or the path of a YAML file.
        output: Folder; replaces the config's.
        resume: Continue the study that is in the folder.
        say: Called with each line worth showing.
        progress: Called with a task's name, sets done and sets in all during evaluations.

    Returns:
        The folder, with `confounds.json` (schema `keepshot.confounds/1`) and `confounds.md`.

    Raises:
        KeepshotError: Config or model cannot be used.
    """
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        raise RunError("the study of defects runs in one process; start it without torchrun")
    if not isinstance(config, ConfoundsConfig):
        config = load_confounds(Path(config) if isinstance(config, str) else config)
    if output is not None:
        config = config.model_copy(update={"output": str(output)})
    folder = Path(config.output)
    _open(config, resume)
    with in_use(RunFolder(folder)):
        say("asking the base")
        base = _answers(config, folder / "base.json", lambda: load_subject(config.model, "verbatim"), _of_base(config))
        for task in config.tasks:
            fitting = _fitting(config, base, task)
            if left_out := [str(shots) for shots in config.shots if shots not in fitting]:
                say(f"note: {', '.join(left_out)} shots of {task} do not fit the context, and take no part")
        tuned = {cell: _tuned(config, cell, say, progress) for cell in config.cells()}
        record = _record(config, base, tuned)
        write_json(folder / "confounds.json", record)
        write_text(folder / "confounds.md", confounds_markdown(folder))
    return folder


def _open(config: ConfoundsConfig, resume: bool) -> None:
    """Make the folder with its data, or take up the study that is in it.

    Raises:
        RunError: The folder holds something else, or `resume` is off, or config or data have changed.
    """
    folder, path = Path(config.output), Path(config.output) / "config.yaml"
    inputs = {"model": model_digest(config.model)}
    if folder.exists() and any(folder.iterdir()):
        if not path.exists():
            raise RunError(f"{folder} is not empty and no study of defects; choose another --output")
        if not resume:
            raise RunError(f"{folder} already holds a study; add --resume to continue it, or choose another --output")
        check_same(load_confounds(path), config, path, free={"output"})
        check_inputs(RunFolder(folder), inputs)
    files = dict(_data_files(config))
    for cell in config.cells():
        file = config.data_file(cell, "train")
        trained = (folder / "cells" / cell.folder / "report.json").exists()
        if trained and (not file.exists() or file.read_text() != files[file]):
            raise RunError(f"{folder} holds a training on other problems than are drawn now; choose another --output")
    folder.mkdir(parents=True, exist_ok=True)
    save_config(config, path)
    write_json(RunFolder(folder).inputs, inputs)
    write_json(folder / "environment.json", environment())
    for file, text in files.items():
        write_text(file, text)


def _data_files(config: ConfoundsConfig) -> Iterator[tuple[Path, str]]:
    """What trainings read."""
    for cell in config.cells():
        defects = Defects(code_labels=cell.code_labels, bool_no_suffix=cell.bool_no_suffix)
        mine = _SEED_ROWS * cell.seed
        parts = {"train": (mine, config.examples), "validation": (mine + _VALIDATION_ROWS, 10), "test": (0, 10)}
        for part, (first, count) in parts.items():
            drawn: Literal["test", "train"] = "test" if part == "test" else "train"
            rows = [
                json.dumps(_row(task, released(task, first + number, part=drawn, defects=defects)))
                for number in range(count)
                for task in config.tasks
            ]
            yield config.data_file(cell, part), "\n".join(rows) + "\n"


def _row(task: ReleasedName, item: PatternItem) -> dict[str, str | bool | int]:
    """A training text: the question and its answer, without an instruction."""
    return {**item_row(task, item), "instruction": ""}


def _tuned(config: ConfoundsConfig, cell: ConfoundCell, say: Say, progress: Progress | None) -> Answers:
    """What a training answers without examples."""
    run = RunFolder(Path(config.output) / "cells" / cell.folder)
    path = run.path / "answers.json"
    if not (run.path / "report.json").exists():
        say(f"training on {cell}")
        tune(config.run(cell), resume=True, say=say, progress=progress)

    def subject() -> Subject:
        return load_subject(str(run.path / read_report(run.path).model_path), "verbatim")

    return _answers(config, path, subject, _of_tuned(config, cell))


def _answers(config: ConfoundsConfig, path: Path, load: Callable[[], Subject], wanted: Iterator[Asked]) -> Answers:
    """What a model writes, asked once and kept as it comes; an empty list where a prompt does not fit."""
    found: Answers = dict(read_json(path)) if path.exists() else {}
    subject = cache(load)
    for asked in wanted:
        if asked.name not in found:
            found[asked.name] = ask(subject(), asked, config.seed) or []
            write_json(path, found)
    return found


def _of_base(config: ConfoundsConfig) -> Iterator[Asked]:
    for setting in settings():
        for task in config.tasks:
            for shots in config.shots:
                yield Asked.of(task, "validation", shots, config.validation, setting.defects)
                for part in PARTS:
                    yield Asked.of(task, part, shots, config.test, setting.defects)


def _of_tuned(config: ConfoundsConfig, cell: ConfoundCell) -> Iterator[Asked]:
    for setting in settings():
        if config.cell_of(setting.defects, cell.seed) == cell:
            for task in config.tasks:
                for part in PARTS:
                    yield Asked.of(task, part, 0, config.test, setting.defects)


def _fitting(config: ConfoundsConfig, base: Answers, task: ReleasedName) -> tuple[int, ...]:
    """The numbers of shots of a task that fit the model's context under every setting, so that all choose among these.

    Raises:
        ConfigError: None does.
    """
    unfit = {
        asked.shots for asked in _of_base(config) if asked.task == task and asked.name in base and not base[asked.name]
    }
    fitting = tuple(shots for shots in config.shots if shots not in unfit)
    if not fitting:
        raise ConfigError(f"no number of shots of {task} fits the context of {config.model}; take fewer shots")
    return fitting


def _heard(
    config: ConfoundsConfig,
    base: Answers,
    tuned: Mapping[ConfoundCell, Answers],
    task: ReleasedName,
    part: Part,
    defects: Defects,
) -> Heard:
    def right(answers: Answers, where: Part, shots: int) -> list[bool]:
        count = config.validation if where == "validation" else config.test
        asked = Asked.of(task, where, shots, count, defects)
        return hits(asked, answers[asked.name], defects)

    shots = _fitting(config, base, task)
    chosen_by: Part = part if defects.best_k_on_test else "validation"
    cells = [config.cell_of(defects, seed) for seed in config.seeds]
    return Heard(
        shots,
        np.array([right(base, chosen_by, count) for count in shots]),
        np.array([right(base, part, count) for count in shots]),
        np.array([right(tuned[cell], part, 0) for cell in cells]),
    )


def _looked_at(config: ConfoundsConfig, task: ReleasedName, part: Part, defects: Defects) -> LookedAt:
    """Settings that look at the same cannot differ, so that a switch made nothing."""
    zero, *others = (Asked.of(task, part, shots, config.test, defects).name for shots in (0, *config.shots))
    cells = tuple(config.cell_of(defects, seed) for seed in config.seeds)
    metric = defects.substring_metric
    return LookedAt((tuple(others), metric, defects.best_k_on_test), (zero, metric, cells))


def _record(config: ConfoundsConfig, base: Answers, tuned: Mapping[ConfoundCell, Answers]) -> dict[str, Any]:
    tasks: dict[str, Any] = {}
    for task in config.tasks:
        found: dict[str, dict[str, Any]] = {}
        for part in PARTS[:1] if task == "code" else PARTS:  # the release has no other problems of code
            heard = {one.name: _heard(config, base, tuned, task, part, one.defects) for one in settings()}
            alike = {one.name: _looked_at(config, task, part, one.defects) for one in settings()}
            for name, told in figures(heard, alike, RELEASED, NO_SWITCH, config.seed, task, part).items():
                found.setdefault(name, {})[part] = told
        tasks[task] = {"shots": list(_fitting(config, base, task)), "settings": found}
    return {
        "schema": SCHEMA,
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "model": config.model,
        "versions": versions(),
        "seeds": list(config.seeds),
        "tasks": tasks,
    }
