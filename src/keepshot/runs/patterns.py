"""Implicit patterns: what learning in context finds of a hidden regularity, and what fine-tuning finds of it.

The base answers with 0 to k examples; every method is trained on n distinct labelled examples whose pattern holds, and
answers without examples and behind as many as serve the base best on validation. All are asked the same items: as many
whose pattern holds as whose pattern is broken, so that the shortcut can be told from the rule.
"""

import json
import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from keepshot.config import save_config
from keepshot.errors import RunError
from keepshot.files import read_json, write_json, write_text
from keepshot.models.digest import model_digest
from keepshot.report.patterns_page import patterns_page
from keepshot.runs.folder import RunFolder, check_inputs, check_same, environment, in_use
from keepshot.runs.grid_config import check_number
from keepshot.runs.pattern_cells import (
    Material,
    answers_of,
    base_answers,
    cell_folder,
    chosen_without_model,
    drop_models_of_others,
    material,
    run_cell,
)
from keepshot.runs.pattern_record import chosen_cells, patterns_record, patterns_rows
from keepshot.runs.patterns_config import PatternCell, PatternsConfig, load_patterns
from keepshot.runs.progress import Progress, Say, silent
from keepshot.tasks.patterns import PatternName, item_row

FREE = {"output", "tasks", "methods", "examples", "learning_rates", "steps", "seeds", "gate", "shots"}
"""The grid and the numbers of shots may grow; everything else decides what a cell computes."""


def patterns(
    config: PatternsConfig | Mapping[str, Any] | Path | str,
    *,
    output: Path | str | None = None,
    resume: bool = False,
    cell: int | None = None,
    say: Say = silent,
    progress: Progress | None = None,
) -> Path:
    """Ask the base, train every cell, ask it, and write the table.

    A method is represented by the learning rate and length that have the best accuracy on validation without examples,
    for each number of examples; the number of shots is the base's best on validation. No reported figure has chosen
    anything. A cell is complete or absent, and is a run folder like that of `tune`.

    Args:
        config: A config, its values as a mapping, or the path of a YAML file.
        output: Folder; replaces the config's.
        resume: Continue the experiment that is in the folder. The grid may have grown.
        cell: The number of one cell, from 1, to run alone.
        say: Called with each line worth showing.
        progress: Called with a task's name, sets done and sets in all during evaluations.

    Returns:
        The folder, with `patterns.json`, `patterns.csv` and `patterns.html` (not with `cell`).

    Raises:
        KeepshotError: Config, data or model cannot be used.
    """
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        raise RunError("patterns runs in one process; start one process for each --cell instead of torchrun")
    if not isinstance(config, PatternsConfig):
        config = load_patterns(Path(config) if isinstance(config, str) else config)
    if output is not None:
        config = config.model_copy(update={"output": str(output)})
    cells = tuple(config.cells())
    check_number(cell, len(cells), "experiment")
    made = {task: material(config, task) for task in config.tasks}
    _open(config, made, resume=resume or cell is not None)
    folder = Path(config.output)
    if cell is not None:
        _run_cells(config, cells, cells[cell - 1 : cell], made, say, progress)
        return folder
    with in_use(RunFolder(folder)):
        for one in made.values():
            base_answers(config, one)  # first: it says so where a task cannot be asked
        _run_cells(config, cells, cells, made, say, progress)
        for chosen in chosen_without_model(config, cells):  # another setting was best before the grid grew
            say(f"training anew, since it is the best of its settings now and its model was not kept: {chosen}")
            shutil.rmtree(cell_folder(config, chosen).path)
            run_cell(config, chosen, made[chosen.task], say, progress)
        _report(config, cells, made, say)
    return folder


def _run_cells(
    config: PatternsConfig,
    cells: Sequence[PatternCell],
    mine: Sequence[PatternCell],
    made: Mapping[PatternName, Material],
    say: Say,
    progress: Progress | None,
) -> None:
    for one in mine:
        words = f"cell {1 + cells.index(one)} of {len(cells)}: {one}"
        say(f"{words} is there" if answers_of(config, one) is not None else words)
        run_cell(config, one, made[one.task], say, progress)
        drop_models_of_others(config, cells, one)


def _report(
    config: PatternsConfig, cells: Sequence[PatternCell], made: Mapping[PatternName, Material], say: Say
) -> None:
    """Write what it came to."""
    folder = Path(config.output)
    base = {task: base_answers(config, one) for task, one in made.items()}
    found = {one: asked for one in cells if (asked := answers_of(config, one)) is not None}
    record = patterns_record(config, base, found, {task: one.test for task, one in made.items()})
    write_json(folder / "patterns.json", record)
    write_text(folder / "patterns.csv", patterns_rows(found))
    _drop_circuits_of_others(folder, chosen_cells(found), record["shots"], say)
    patterns_page(folder)


def _drop_circuits_of_others(folder: Path, kept: Sequence[PatternCell], shots: Mapping[str, int], say: Say) -> None:
    """Circuits of trainings or shots that stand for nothing any more do not belong beside the new figures."""
    path = folder / "circuits.json"
    if not path.exists():
        return
    looked_at = {task: found["states"] for task, found in read_json(path)["tasks"].items()}
    trainings = {training for states in looked_at.values() for state in states for training in state["trainings"]}
    others = trainings - {str(one.folder) for one in kept}
    asked = {task: {state["shots"] for state in states} for task, states in looked_at.items()}
    if others or any(shots.get(task) not in counts for task, counts in asked.items()):
        path.unlink()
        say(f"{path.name} was of others and is gone; keepshot patterns circuits {folder} makes it anew")


def _open(config: PatternsConfig, made: Mapping[PatternName, Material], *, resume: bool) -> None:
    """Make the folder with its data, or take up the experiment that is in it.

    Raises:
        RunError: The folder holds something else, or `resume` is off, or what decides on a result has changed.
    """
    folder = Path(config.output)
    path = folder / "config.yaml"
    inputs = {"model": model_digest(config.model)}
    if folder.exists() and any(folder.iterdir()):
        if not path.exists():
            raise RunError(f"{folder} is not empty and no experiment on patterns; choose another --output")
        if not resume:
            raise RunError(
                f"{folder} already holds an experiment; add --resume to continue it, or choose another --output"
            )
        old = load_patterns(path)
        check_same(old, config, path, free=FREE)
        check_inputs(RunFolder(folder), inputs)
        if max(old.examples) != max(config.examples):  # demonstrations are drawn from the examples of the largest
            raise RunError(
                f"{path} has {max(old.examples)} examples at most, and all demonstrations come from these; resume "
                f"with the same largest number (not {max(config.examples)}), or choose another --output"
            )
        if gone := sorted(set(old.shots) - set(config.shots)):
            raise RunError(
                f"{path} asks the base behind {gone[0]} examples; shots may grow, not shrink (not {list(config.shots)})"
            )
        if config.prompt_tokens > old.prompt_tokens:  # numbers of shots were chosen among those that fit with it
            raise RunError(
                f"{path} leaves {old.prompt_tokens} tokens to a soft prompt, and a method needs "
                f"{config.prompt_tokens}; choose another --output"
            )
    files = dict(_data_files(config, made))
    for file, text in files.items():
        if file.exists() and file.read_text() != text:
            raise RunError(f"{file} holds other problems than are drawn now; choose another --output")
    folder.mkdir(parents=True, exist_ok=True)
    save_config(config, path)
    write_json(RunFolder(folder).inputs, inputs)
    write_json(folder / "environment.json", environment())
    for file, text in files.items():
        write_text(file, text)


def _data_files(config: PatternsConfig, made: Mapping[PatternName, Material]) -> Iterator[tuple[Path, str]]:
    """What trainings read, and what all are asked."""
    for task, one in made.items():
        data = config.data_folder(task)
        trained = {
            config.train_file(task, count, seed): one.sample(count, seed)
            for count in config.examples
            for seed in config.seeds
        }
        asked = {data / "validation.jsonl": one.validation, data / "test.jsonl": one.test}
        for file, part in {**trained, **asked}.items():
            yield file, "".join(json.dumps(item_row(task, item)) + "\n" for item in part)
