"""Implicit patterns: what learning in context finds of a hidden regularity, and what fine-tuning finds of it.

The base answers with 0 to k examples; every method is trained on n distinct labelled examples whose pattern holds, and
answers without examples and behind as many as serve the base best on validation. All are asked the same items: as many
whose pattern holds as whose pattern is broken, so that the shortcut can be told from the rule.
"""

import json
import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from keepshot.config import save_config
from keepshot.errors import ConfigError, DivergedError, RunError
from keepshot.files import read_json, write_json, write_text
from keepshot.keys import permutation
from keepshot.report.patterns_page import patterns_page
from keepshot.report.record import read_report
from keepshot.runs.evaluation import Progress, Say, load_subject, silent
from keepshot.runs.folder import RunFolder, check_same, environment, in_use
from keepshot.runs.grid_config import check_number
from keepshot.runs.pattern_questions import Questions, rates
from keepshot.runs.pattern_record import chosen_cells, patterns_record, patterns_rows
from keepshot.runs.patterns_config import PatternCell, PatternsConfig, load_patterns
from keepshot.runs.tuning import tune
from keepshot.tasks.patterns import PatternItem, PatternName, item_row, items

FREE = {"output", "tasks", "methods", "examples", "learning_rates", "steps", "seeds", "gate"}
"""The grid may grow; everything else decides what a cell computes."""
DONE = "patterns.json"


@dataclass(frozen=True, slots=True)
class Material:
    """The items of a task.

    Attributes:
        train: Twice as many as the largest training sees, so that every seed draws others; demonstrations are from all.
        validation: The pattern holds.
        test: The pattern holds, then as many with a broken one.
    """

    task: PatternName
    train: tuple[PatternItem, ...]
    validation: tuple[PatternItem, ...]
    test: tuple[PatternItem, ...]

    def sample(self, count: int, seed: int) -> tuple[PatternItem, ...]:
        """What a training of this seed sees; of more examples the first stay."""
        order = permutation(len(self.train), seed, "patterns", "train", self.task)
        return tuple(self.train[place] for place in order[:count])

    def questions(self, seed: int) -> dict[str, Questions]:
        """What chooses, and what is reported."""
        parts = {"validation": self.validation, "test": self.test}
        return {name: Questions(self.task, part, self.train, seed) for name, part in parts.items()}


def material(config: PatternsConfig, task: PatternName) -> Material:
    """The items of a task.

    Raises:
        ConfigError: There are not so many.
    """

    def part(split: str, count: int, broken: bool = False) -> tuple[PatternItem, ...]:
        return tuple(items(task, split, count, broken=broken, size=config.size))  # type: ignore[arg-type]

    return Material(
        task,
        part("train", 2 * max(config.examples)),
        part("validation", config.validation),
        (*part("test", config.test), *part("test", config.test, broken=True)),
    )


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
        for chosen in _chosen_without_model(config, cells):  # another setting was best before the grid grew
            say(f"training anew, since it is the best of its settings now and its model was not kept: {chosen}")
            shutil.rmtree(cell_folder(config, chosen).path)
            _run_cell(config, chosen, made[chosen.task], say, progress)
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
        _run_cell(config, one, made[one.task], say, progress)
        _drop_models_of_others(config, cells, one)


def _drop_models_of_others(config: PatternsConfig, cells: Sequence[PatternCell], cell: PatternCell) -> None:
    """Once a method is trained at every setting and seed on as many examples, keep the models of the best alone."""
    alike = [one for one in cells if one.group == cell.group]
    found = {one: asked for one in alike if (asked := answers_of(config, one)) is not None}
    if len(found) < len(alike):
        return
    kept = chosen_cells(found)
    for one in alike:
        if one not in kept and not found[one]["failed"]:
            shutil.rmtree(_model_folder(config, one), ignore_errors=True)


def _chosen_without_model(config: PatternsConfig, cells: Sequence[PatternCell]) -> list[PatternCell]:
    found = {one: asked for one in cells if (asked := answers_of(config, one)) is not None}
    return [one for one in chosen_cells(found) if not _model_folder(config, one).exists()]


def _model_folder(config: PatternsConfig, cell: PatternCell) -> Path:
    run = cell_folder(config, cell).path
    return run / read_report(run).model_path


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
    _drop_circuits_of_others(folder, chosen_cells(found), say)
    patterns_page(folder)


def _drop_circuits_of_others(folder: Path, kept: Sequence[PatternCell], say: Say) -> None:
    """Circuits of trainings that do not stand for their methods any more do not belong beside the new figures."""
    path = folder / "circuits.json"
    if not path.exists():
        return
    states = [state for task in read_json(path)["tasks"].values() for state in task["states"]]
    looked_at = {training for state in states for training in state["trainings"]}
    now = {str(one.folder) for one in kept}
    if looked_at - now:
        path.unlink()
        say(f"{path.name} was of other trainings and is gone; keepshot patterns circuits {folder} makes it anew")


def cell_folder(config: PatternsConfig, cell: PatternCell) -> RunFolder:
    """Where a cell lies."""
    return RunFolder(Path(config.output) / "cells" / cell.folder)


def answers_of(config: PatternsConfig, cell: PatternCell) -> dict[str, Any] | None:
    """What a finished cell came to; None where it is not finished."""
    path = cell_folder(config, cell).path / DONE
    return read_json(path) if path.exists() else None


def base_answers(config: PatternsConfig, made: Material) -> dict[str, Any]:
    """What the base answers at every number of shots, asked once; None at one that does not fit its context.

    Raises:
        ConfigError: No number above 0 fits.
    """
    path = Path(config.output) / "base" / f"{made.task}.json"
    if not path.exists():
        subject = load_subject(config.model, "auto")
        parts = made.questions(config.seed)
        fitting = [
            shots
            for shots in config.shots
            if all(asked.fit(subject, shots, config.prompt_tokens) for asked in parts.values())
        ]
        if len(fitting) < 2:
            raise ConfigError(
                f"no number of shots of {made.task} fits the context of {config.model} "
                f"({subject.context_length} tokens); leave the task out, or take fewer shots and another --output"
            )
        written = {
            name: {str(shots): asked.ask(subject, shots) if shots in fitting else None for shots in config.shots}
            for name, asked in parts.items()
        }
        curves = {
            name: {
                shots: None if texts is None else asdict(rates(made.task, parts[name].items, texts))
                for shots, texts in curve.items()
            }
            for name, curve in written.items()
        }
        write_json(path, {**curves, "written": written})
    return read_json(path)


def best_shots(base: Mapping[str, Any]) -> int:
    """The number of examples that serves the base best on validation; of equally good ones the fewest."""
    asked = {int(shots): found for shots, found in base["validation"].items() if found is not None and shots != "0"}
    curve = {shots: found["holds"]["value"] for shots, found in asked.items()}
    return max(sorted(curve), key=lambda shots: curve[shots])


def _run_cell(config: PatternsConfig, cell: PatternCell, made: Material, say: Say, progress: Progress | None) -> None:
    shots = best_shots(base_answers(config, made))
    if answers_of(config, cell) is not None:
        return
    folder = cell_folder(config, cell)
    done = {"cell": asdict(cell), "failed": "", "shots": shots, "retention": None, "validation": None, "test": None}
    try:
        tune(config.run(cell), resume=True, base_evaluation=_asked_before(config, cell), say=say, progress=progress)
    except DivergedError as error:  # as at a learning rate that is too high: a result too
        say(f"  failed: {error}")
        folder.path.mkdir(parents=True, exist_ok=True)
        write_json(folder.path / DONE, {**done, "failed": str(error)})
        return
    with in_use(folder):
        report = read_report(folder.path)
        prompt = folder.path / report.prompt_path if report.prompt_path else None
        subject = load_subject(str(folder.path / report.model_path), "auto", prompt=prompt)
        asked = made.questions(config.seed)
        written = {str(count): asked["test"].ask(subject, count) for count in (0, shots)}
        done["validation"] = asdict(rates(made.task, made.validation, asked["validation"].ask(subject, 0)))
        done["test"] = {count: asdict(rates(made.task, made.test, texts)) for count, texts in written.items()}
        done["written"] = written
        kept = report.retention.estimate
        done["retention"] = None if kept is None else kept.value
        write_json(folder.path / DONE, done)
        shutil.rmtree(folder.checkpoints, ignore_errors=True)


def _asked_before(config: PatternsConfig, cell: PatternCell) -> Path | None:
    """A finished run that asked the base what this one will: of one seed, with the same data and room for prompts."""
    if config.has_prompt(cell):
        return None
    same = (cell.task, cell.examples, cell.seed)
    for one in config.cells():
        if (one.task, one.examples, one.seed) == same and not config.has_prompt(one):
            asked = answers_of(config, one)
            if asked is not None and not asked["failed"]:
                return cell_folder(config, one).path
    return None


def _open(config: PatternsConfig, made: Mapping[PatternName, Material], *, resume: bool) -> None:
    """Make the folder with its data, or take up the experiment that is in it.

    Raises:
        RunError: The folder holds something else, or `resume` is off, or what decides on a result has changed.
    """
    folder = Path(config.output)
    path = folder / "config.yaml"
    if folder.exists() and any(folder.iterdir()):
        if not path.exists():
            raise RunError(f"{folder} is not empty and no experiment on patterns; choose another --output")
        if not resume:
            raise RunError(
                f"{folder} already holds an experiment; add --resume to continue it, or choose another --output"
            )
        old = load_patterns(path)
        check_same(old, config, path, free=FREE)
        if max(old.examples) != max(config.examples):  # demonstrations are drawn from the examples of the largest
            raise RunError(
                f"{path} has {max(old.examples)} examples at most, and all demonstrations come from these; resume "
                f"with the same largest number (not {max(config.examples)}), or choose another --output"
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
