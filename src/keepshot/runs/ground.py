"""What all cells of a comparison on one target share: the data, what chooses the settings, what is reported."""

from dataclasses import dataclass, replace
from pathlib import Path

from keepshot.runs.comparison_config import CompareConfig
from keepshot.runs.data import TargetData, load_target
from keepshot.runs.digests import digest
from keepshot.runs.validation import Questions, validation_questions
from keepshot.tasks.example import Suite


@dataclass(frozen=True, slots=True)
class Ground:
    """A target of a comparison.

    Attributes:
        target: Its examples; the task is the test part.
        questions: Those that choose and those that report.
    """

    target: TargetData
    questions: Questions

    @property
    def held_out(self) -> Suite:
        """All tasks that no method may train on."""
        return Suite("held out", (*self.questions.report_suite.tasks, *self.questions.suite.tasks))

    @property
    def notes(self) -> tuple[str, ...]:
        """What a reader should know."""
        return (*self.target.notes, *self.questions.notes)

    @property
    def digest(self) -> str:
        """Identifies data and tasks."""
        return digest((self.target.train, self.target.validation, self.target.task, self.held_out.tasks))


def load_ground(config: CompareConfig, name: str) -> Ground:
    """Read the data of a target and both suites, split and drawn by the comparison's own seed.

    Raises:
        DataError: Data or a suite cannot be read.
        ConfigError: A suite holds the target, or what chooses is also reported.
    """
    found = load_target(config.named_targets()[name], config.seed)
    target = replace(found, name=name, task=replace(found.task, name=name))
    first = next(cell for cell in config.cells() if cell.target == name)
    asking = config.run(first, Path(config.output)).model_copy(update={"seed": config.seed})
    return Ground(target, validation_questions(asking, target, config.validation_suite))
