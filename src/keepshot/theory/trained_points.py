"""What trained models add to a figure: points beside its lines, means over seeds with their standard errors."""

from collections.abc import Callable, Iterator, Sequence
from typing import TypeAlias

import numpy as np

from keepshot.theory.beyond import tuned_tasks
from keepshot.theory.chart import Chart, Panel, Series
from keepshot.theory.curves import CONTEXT, SETTING, tasks_by_name
from keepshot.theory.laboratory import BEFORE, FEW_SHOT, Job, Trained
from keepshot.theory.regression import Vector, target
from keepshot.theory.training import trained_risks

_SHOTS = (0, 1, 2, 3, 5, 8, 12, 16, 20)
_SHAPES = {"figure4": "merged", "figure5": "merged", "separate": "separate", "softmax": "softmax"}

Estimate: TypeAlias = tuple[float, float]
"""A mean and its standard error."""


class Points:
    """The points of every figure, from the same trained models.

    Args:
        made: Models, of one seed or more.
        prompts: For each test error.
    """

    def __init__(self, made: Sequence[Trained], prompts: int) -> None:
        self._prompts = prompts
        self._by_job: dict[Job, list[Trained]] = {}
        for trained in made:
            self._by_job.setdefault(trained.job, []).append(trained)

    def of(self, chart: Chart, panel: Panel) -> Iterator[Series]:
        """The points of a panel; none for a figure of closed forms alone."""
        if chart.name in _SHAPES:
            yield from self._over_shots(chart, panel)
        elif chart.name == "several":
            yield from self._over_tasks(panel)
        elif chart.name == "weight":
            yield from self._over_weights(panel)
        elif chart.name == "keeping":
            yield from self._against_each_other()

    def error(self, job: Job, task: Vector | None, shots: Sequence[int]) -> list[Estimate]:
        """Test errors at numbers of shots; over seeds where there are several, over prompts with one."""
        purpose = "all" if task is None else task.tobytes().hex()
        found = np.array(
            [
                trained_risks(trained.model, SETTING, task, shots, self._prompts, trained.seed, purpose)
                for trained in self._by_job[job]
            ]
        )
        means, seeds = found[..., 0].mean(axis=0), len(found)
        errors = found[0, :, 1] if seeds == 1 else found[..., 0].std(axis=0, ddof=1) / seeds**0.5
        return list(zip(means.tolist(), errors.tolist(), strict=True))

    def _jobs(self, shape: str, chosen: Callable[[Job], bool]) -> dict[str, list[Job]]:
        """The jobs of a shape by label, in the order of training."""
        found: dict[str, list[Job]] = {}
        for job in self._by_job:
            if job.shape == shape and chosen(job):
                found.setdefault(job.label, []).append(job)
        return found

    def _over_shots(self, chart: Chart, panel: Panel) -> Iterator[Series]:
        task = panel.curves[0].points[0].task
        lines = {curve.label for curve in panel.curves}

        def shown(job: Job) -> bool:
            if chart.name == "figure4":
                return job.label in lines and not job.tasks
            if chart.name == "figure5":
                return not job.tasks and " + " not in job.label.removesuffix(FEW_SHOT)
            return not job.tasks

        for label, [job] in self._jobs(_SHAPES[chart.name], shown).items():
            yield _series(label, list(map(float, _SHOTS)), self.error(job, task, _SHOTS))

    def _over_tasks(self, panel: Panel) -> Iterator[Series]:
        shots = 0 if panel.title.startswith("no examples") else CONTEXT
        for label, jobs in self._jobs("merged", lambda job: job.label.endswith(FEW_SHOT)).items():
            if len(jobs) == 1:
                continue
            errors = []
            for job in jobs:
                tuned = tuned_tasks(job.tasks) if job.tasks else [target(SETTING.dimension)]
                asked = [None] if panel.title.endswith("all tasks") else tuned
                each = [self.error(job, task, [shots])[0] for task in asked]
                spread = sum(error**2 for _, error in each) ** 0.5 / len(each)
                errors.append((sum(mean for mean, _ in each) / len(each), spread))
            yield _series(label, [float(job.tasks or 1) for job in jobs], errors)

    def _over_weights(self, panel: Panel) -> Iterator[Series]:
        words, _, rest = panel.title.partition(":")
        shots = 0 if "no examples" in rest else CONTEXT
        label = words.removesuffix(FEW_SHOT) + " + constant few-shot"
        [jobs] = self._jobs("merged", lambda job: job.label == label).values()
        weights = [job.tuning.few_shot.weight for job in jobs if job.tuning and job.tuning.few_shot]
        for name, task in tasks_by_name().items():
            if shots or name == "target":
                yield _series(name, weights, [self.error(job, task, [shots])[0] for job in jobs])

    def _against_each_other(self) -> Iterator[Series]:
        shown = (BEFORE, "all", "value", "all + anchors", "value + anchors", "all + self-anchors")
        for label, jobs in self._jobs("merged", lambda job: job.label in shown and not job.tasks).items():
            across = [self.error(job, target(SETTING.dimension), [0])[0][0] for job in jobs]
            yield _series(label, across, [self.error(job, None, [CONTEXT])[0] for job in jobs])


def _series(label: str, x: Sequence[float], errors: Sequence[Estimate]) -> Series:
    y, spreads = zip(*errors, strict=True)
    return Series(label, "trained", tuple(x), y, spreads)
