"""From finished cells to figures: which setting stands for a method, and what it comes to on what is reported."""

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NoReturn

import numpy as np

from keepshot.errors import RunError
from keepshot.evaluation import Estimate, Evaluation, few_shot_tasks, headline_shots, retention
from keepshot.files import read_json
from keepshot.runs.cells import VALIDATION, Tried, base_folder, cell_folder, cell_run, choosing, tried
from keepshot.runs.choice import Setting, choose, mean_by_seed, threshold
from keepshot.runs.comparison_config import Cell, CompareConfig
from keepshot.runs.folder import in_use
from keepshot.runs.ground import Ground
from keepshot.runs.progress import Progress, Say
from keepshot.runs.tuning import Run, answered, finish, subjects_of


@dataclass(frozen=True, slots=True)
class Measured:
    """A method on a target: its setting, and the reports of that setting's cells in the order of the seeds."""

    setting: Setting
    matched: bool
    reports: tuple[Mapping[str, Any], ...]
    folders: tuple[str, ...]

    @property
    def seconds(self) -> float:
        """Training time, mean over seeds."""
        return float(np.mean([report["cost"]["train_seconds"] for report in self.reports]))

    @property
    def tokens(self) -> float:
        """Computed tokens, mean over seeds."""
        return float(np.mean([report["cost"]["tokens"] for report in self.reports]))

    @property
    def accuracies(self) -> list[Estimate]:
        """On the target, without examples, by seed.

        Raises:
            RunError: A test row does not fit the context.
        """
        points = [report["target"]["after"]["0"] for report in self.reports]
        if any(point is None for point in points):
            raise RunError("a test row is longer than the model's context without any examples; leave it out")
        return [Estimate(point["accuracy"], point["low"], point["high"]) for point in points]

    @property
    def few_shot(self) -> list[Estimate] | None:
        """On the target at the shot count of the retention, by seed; None where that cannot be measured."""
        points = [report["target"]["after"].get(str(report["retention"]["shots"])) for report in self.reports]
        known = [Estimate(point["accuracy"], point["low"], point["high"]) for point in points if point is not None]
        return known if len(known) == len(points) else None

    def kept(self, group: str = "") -> list[Estimate] | None:
        """Retention by seed, of a group of tasks or of all; None where one seed has none."""
        parts = [report["retention"]["groups"].get(group) if group else report["retention"] for report in self.reports]
        if any(part is None or part["value"] is None for part in parts):
            return None
        return [Estimate(part["value"], part["low"], part["high"]) for part in parts]


@dataclass(frozen=True, slots=True)
class TargetResult:
    """Everything about one target.

    Attributes:
        name: Of the target.
        threshold: The validation accuracy that was to be matched.
        settings: All that were tried.
        cells: All that were tried, with validation retention where it could be measured.
        methods: Those with a usable setting, by name.
        failed: Why methods have none, by name.
        notes: What a reader should know.
    """

    name: str
    threshold: float
    settings: tuple[Setting, ...]
    cells: tuple[tuple[Tried, float | None], ...]
    methods: Mapping[str, Measured]
    failed: Mapping[str, str]
    notes: tuple[str, ...]


def target_result(config: CompareConfig, ground: Ground, say: Say, progress: Progress | None) -> TargetResult:
    """Choose a setting for every method on one target, and ask these what is reported.

    Raises:
        RunError: Every training of the baseline failed.
    """
    name = ground.target.name
    cells = [one for one in config.cells() if one.target == name]
    baseline = next(one for one in cells if one.method == config.baseline)
    base = replace(cell_run(config, baseline, ground), folder=base_folder(config, name))
    asked = choosing(config, base, ground)[VALIDATION]
    say(f"choosing settings on {name}")
    before = answered(asked, VALIDATION, lambda: subjects_of(base, config.model), progress)
    found = []
    for one in cells:
        done = tried(config, one)
        assert done is not None, "all cells have been run"
        found.append((done, _kept(replace(asked, folder=cell_folder(config, one)), before, done)))
    settings = _settings(found)
    least = threshold(settings, config.baseline, config.match)
    if least is None:
        why = next(one.failed for one, _ in found if one.failed and one.cell.method == config.baseline)
        raise RunError(f"every setting of {config.baseline} on {name} failed ({why}); lower its learning_rates")
    chosen = choose(settings, least)
    answered(base, "before", lambda: subjects_of(base, config.model), progress)
    methods = {}
    for method, choice in chosen.items():
        setting = choice.setting
        short = "" if choice.matched else ", not matched"
        say(f"  {method}: learning rate {setting.learning_rate:g}, {setting.steps} steps{short}")
        of_setting = [
            one
            for one in cells
            if (one.method, one.learning_rate, one.steps) == (method, setting.learning_rate, setting.steps)
        ]
        reports = tuple(_report(config, one, ground, say, progress) for one in of_setting)
        folders = tuple((Path("cells") / one.folder).as_posix() for one in of_setting)
        methods[method] = Measured(setting, choice.matched, reports, folders)
    failed = {one.cell.method: one.failed for one, _ in found if one.failed and one.cell.method not in methods}
    notes = list(ground.notes)
    if all(setting.retention is None for setting in settings):
        notes.append(
            f"Settings on {name} were chosen without retention, which the validation suite does not allow to measure: "
            "of those that match, the one with the fewest steps and the lowest learning rate."
        )
    return TargetResult(name, least, tuple(settings), tuple(found), methods, failed, tuple(notes))


def _kept(run: Run, before: Evaluation, done: Tried) -> float | None:
    """Retention of a cell on the validation suite: the mean over shot counts.

    At many shots settings hardly differ on tasks that the base does with ease; at few they do.
    """
    if done.failed:
        return None
    after = answered(run, VALIDATION, _nobody)
    tasks = few_shot_tasks(run.suite.tasks)
    most = headline_shots(before, after, tasks)
    if most is None:
        return None
    found = [retention(before, after, tasks, n) for n in before.plan.shots if 0 < n <= most]
    values = [estimate.value for estimate in found if estimate is not None]
    return float(np.mean(values)) if values else None


def _nobody() -> NoReturn:
    raise RunError("a cell lacks its validation answers; delete its folder and resume")


def _settings(found: Sequence[tuple[Tried, float | None]]) -> list[Setting]:
    grouped: dict[tuple[str, float, int], list[tuple[Tried, float | None]]] = {}
    for done, kept in found:
        grouped.setdefault((done.cell.method, done.cell.learning_rate, done.cell.steps), []).append((done, kept))
    return [
        Setting(
            *place,
            mean_by_seed({done.cell.seed: done.accuracy for done, _ in seeds}),
            mean_by_seed({done.cell.seed: kept for done, kept in seeds}),
        )
        for place, seeds in grouped.items()
    ]


def _report(config: CompareConfig, cell: Cell, ground: Ground, say: Say, progress: Progress | None) -> dict[str, Any]:
    """The report of a chosen cell, which is finished as `tune` finishes a run."""
    folder = cell_folder(config, cell)
    if not folder.report.exists():
        run = cell_run(config, cell, ground)
        with in_use(folder):
            finish(run, base_folder(config, cell.target).path, say, progress)
        shutil.rmtree(folder.checkpoints, ignore_errors=True)
    return read_json(folder.report)


def remove_others(config: CompareConfig, results: Sequence[TargetResult]) -> None:
    """Remove the weights of cells that were not chosen; they are trained again if a later choice falls on them."""
    kept = {folder for result in results for measured in result.methods.values() for folder in measured.folders}
    for one in config.cells():
        folder = cell_folder(config, one)
        if (Path("cells") / one.folder).as_posix() not in kept:
            for is_adapter in (False, True):
                shutil.rmtree(folder.saved_model(is_adapter), ignore_errors=True)
