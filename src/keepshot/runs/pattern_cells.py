"""Cells of an experiment on implicit patterns: what the base is asked, what a training is asked, which models stay."""

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from keepshot.errors import ConfigError, DivergedError
from keepshot.evaluation import Subject
from keepshot.files import read_json, write_json
from keepshot.keys import permutation
from keepshot.report.record import read_report
from keepshot.runs.folder import RunFolder, in_use
from keepshot.runs.pattern_questions import Questions, rates
from keepshot.runs.pattern_record import best_shots, chosen_cells
from keepshot.runs.patterns_config import PatternCell, PatternsConfig
from keepshot.runs.progress import Progress, Say
from keepshot.runs.subjects import load_subject
from keepshot.runs.tuning import tune
from keepshot.tasks.patterns import PatternItem, PatternName, items

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

    most = max(config.examples)
    try:
        train = part("train", 2 * most)
    except ConfigError as error:
        raise ConfigError(
            f"{error}, twice the largest of examples ({most}), so that seeds differ in what they draw; lower examples"
        ) from None
    return Material(
        task,
        train,
        part("validation", config.validation),
        (*part("test", config.test), *part("test", config.test, broken=True)),
    )


def cell_folder(config: PatternsConfig, cell: PatternCell) -> RunFolder:
    """Where a cell lies."""
    return RunFolder(Path(config.output) / "cells" / cell.folder)


def answers_of(config: PatternsConfig, cell: PatternCell) -> dict[str, Any] | None:
    """What a finished cell came to; None where it is not finished."""
    path = cell_folder(config, cell).path / DONE
    return read_json(path) if path.exists() else None


def base_answers(config: PatternsConfig, made: Material) -> dict[str, Any]:
    """What the base answers at every number of shots, each asked once; None at one that does not fit its context.

    Raises:
        ConfigError: No number above 0 fits.
    """
    path = Path(config.output) / "base" / f"{made.task}.json"
    asked = read_json(path) if path.exists() else {"validation": {}, "test": {}, "written": {}}
    if missing := [shots for shots in config.shots if str(shots) not in asked["test"]]:
        subject = load_subject(config.model, "auto")
        parts = made.questions(config.seed)
        fitting = [
            shots for shots in missing if all(one.fit(subject, shots, config.prompt_tokens) for one in parts.values())
        ]
        if len(fitting) + sum(found is not None for found in asked["test"].values()) < 2:
            raise ConfigError(
                f"no number of shots of {made.task} fits the context of {config.model} "
                f"({subject.context_length} tokens); leave the task out, or take fewer shots and another --output"
            )
        for name, one in parts.items():
            written = asked["written"].setdefault(name, {})
            for shots in missing:
                texts = one.ask(subject, shots) if shots in fitting else None
                written[str(shots)] = texts
                asked[name][str(shots)] = None if texts is None else asdict(rates(made.task, one.items, texts))
            for curve in (asked[name], written):
                curve.update({str(shots): curve.pop(str(shots)) for shots in config.shots})  # in order
        write_json(path, asked)
    return asked


def run_cell(config: PatternsConfig, cell: PatternCell, made: Material, say: Say, progress: Progress | None) -> None:
    """Train a cell and ask what it has become, unless that is done.

    Raises:
        KeepshotError: Data or model cannot be used; a training that diverges is a result.
    """
    shots = best_shots(base_answers(config, made))
    before = answers_of(config, cell)
    if before is not None:
        _ask_behind(config, cell, made, shots, before)
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
        subject = _tuned_subject(folder)
        asked = made.questions(config.seed)
        written = {str(count): asked["test"].ask(subject, count) for count in (0, shots)}
        done["validation"] = asdict(rates(made.task, made.validation, asked["validation"].ask(subject, 0)))
        done["test"] = {count: asdict(rates(made.task, made.test, texts)) for count, texts in written.items()}
        done["written"] = written
        kept = report.retention.estimate
        done["retention"] = None if kept is None else kept.value
        write_json(folder.path / DONE, done)
        shutil.rmtree(folder.checkpoints, ignore_errors=True)


def _ask_behind(
    config: PatternsConfig, cell: PatternCell, made: Material, shots: int, before: Mapping[str, Any]
) -> None:
    """Ask a kept model behind as many examples as serve the base best since the numbers of shots have grown."""
    if before["failed"] or before["shots"] == shots or not _model_folder(config, cell).exists():
        return
    folder = cell_folder(config, cell)
    with in_use(folder):
        texts = made.questions(config.seed)["test"].ask(_tuned_subject(folder), shots)
        alone = {name: before[name]["0"] for name in ("test", "written")}
        test = {"0": alone["test"], str(shots): asdict(rates(made.task, made.test, texts))}
        written = {"0": alone["written"], str(shots): texts}
        write_json(folder.path / DONE, {**before, "shots": shots, "test": test, "written": written})


def _tuned_subject(folder: RunFolder) -> Subject:
    report = read_report(folder.path)
    prompt = folder.path / report.prompt_path if report.prompt_path else None
    return load_subject(str(folder.path / report.model_path), "auto", prompt=prompt)


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


def drop_models_of_others(config: PatternsConfig, cells: Sequence[PatternCell], cell: PatternCell) -> None:
    """Once a method is trained at every setting and seed on as many examples, keep the models of the best alone."""
    alike = [one for one in cells if one.group == cell.group]
    found = {one: asked for one in alike if (asked := answers_of(config, one)) is not None}
    if len(found) < len(alike):
        return
    kept = chosen_cells(found)
    for one in alike:
        if one not in kept and not found[one]["failed"]:
            shutil.rmtree(_model_folder(config, one), ignore_errors=True)


def chosen_without_model(config: PatternsConfig, cells: Sequence[PatternCell]) -> list[PatternCell]:
    """Trainings that stand for their methods since the grid has grown, and whose models were dropped before."""
    found = {one: asked for one in cells if (asked := answers_of(config, one)) is not None}
    return [one for one in chosen_cells(found) if not _model_folder(config, one).exists()]


def _model_folder(config: PatternsConfig, cell: PatternCell) -> Path:
    run = cell_folder(config, cell).path
    return run / read_report(run).model_path
