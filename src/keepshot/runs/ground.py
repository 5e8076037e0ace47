"""What all cells of a comparison on one target share: the data, the questions that choose, the questions that report."""

from dataclasses import dataclass, replace
from pathlib import Path

from keepshot.errors import ConfigError
from keepshot.keys import key
from keepshot.runs.comparison_config import HALF, CompareConfig
from keepshot.runs.data import TargetData, answers_of, evaluation_suite, load_suites, load_target
from keepshot.runs.evaluation import digest
from keepshot.tasks.example import Suite, Task
from keepshot.tasks.own_inputs import FEWEST_INPUTS, own_input_tasks
from keepshot.tasks.read import OnBadRow
from keepshot.tasks.rows import BadRow
from keepshot.tasks.split import input_key
from keepshot.tasks.validation import mini_validation


@dataclass(frozen=True, slots=True)
class Ground:
    """A target of a comparison.

    Attributes:
        target: Its examples; the task is the test part.
        suite: The tasks that are reported, those over the test inputs included.
        validation_suite: The tasks that settings are chosen by, those over the validation inputs included.
        notes: What a reader should know.
        skipped: What was left out of data and suites.
    """

    target: TargetData
    suite: Suite
    validation_suite: Suite
    notes: tuple[str, ...]
    skipped: tuple[BadRow, ...]

    @property
    def held_out(self) -> Suite:
        """All tasks that no method may train on."""
        return Suite(self.suite.name, (*self.suite.tasks, *self.validation_suite.tasks))

    @property
    def digest(self) -> str:
        """Identifies data and tasks."""
        return digest((self.target.train, self.target.validation, self.target.task, self.held_out.tasks))


def load_ground(config: CompareConfig, name: str) -> Ground:
    """Read the data of a target and both suites.

    Raises:
        DataError: Data or a suite cannot be read.
        ConfigError: A suite holds the target, or both hold the same task.
    """
    data = config.named_targets()[name]
    found = load_target(data, config.seed)
    target = replace(found, name=name, task=replace(found.task, name=name))
    of_target = next(cell for cell in config.cells() if cell.target == name)
    asking = config.run(of_target, Path(config.output)).model_copy(update={"seed": config.seed})
    suite, skipped, notes = evaluation_suite(asking, target)
    validation, also_skipped = _validation_suite(config, data.on_bad_row)
    if config.validation_suite_name == HALF:
        chosen = {task.name for task in validation.tasks}
        suite = Suite(suite.name, tuple(task for task in suite.tasks if task.name not in chosen))
    _check_apart(validation, target, suite)
    own: tuple[Task, ...] = ()
    distinct = len({input_key(example) for example in target.validation})
    if distinct >= FEWEST_INPUTS:
        own = own_input_tasks(target.validation, config.seed + 1)  # other label words than in the report
    else:
        notes = (
            *notes,
            f"Settings for {name} were chosen without tasks over its own inputs: they need {FEWEST_INPUTS} different "
            f"validation inputs, and there are {distinct}.",
        )
    return Ground(
        target,
        suite,
        Suite(validation.name, (*validation.tasks, *own)),
        (*target.notes, *notes),
        (*target.skipped, *skipped, *also_skipped),
    )


def _validation_suite(config: CompareConfig, on_bad_row: OnBadRow) -> tuple[Suite, tuple[BadRow, ...]]:
    match config.validation_suite_name:
        case "mini-validation":
            return mini_validation(), ()
        case "half":
            suite, _ = load_suites(config.suite_name, on_bad_row=on_bad_row)  # its bad rows are told once
            return keyed_half(suite, config.seed), ()
        case name:
            return load_suites(name, on_bad_row=on_bad_row)


def keyed_half(suite: Suite, seed: int) -> Suite:
    """Half of a suite's tasks, as many with a finite set of labels as without; the larger half is left.

    Raises:
        ConfigError: There is only one task.

    Example:
        >>> from keepshot.tasks.example import Example
        >>> suite = Suite("s", tuple(Task(name, (Example("a", "b"),)) for name in "abcde"))
        >>> [task.name for task in keyed_half(suite, seed=0).tasks]
        ['e', 'd']
    """
    if len(suite.tasks) < 2:
        raise ConfigError(f"suite {suite.name} has one task, which cannot be halved; set validation_suite")
    order = sorted(suite.tasks, key=lambda task: (bool(task.labels), key(seed, "validation half", task.name)))
    return Suite(f"half of {suite.name}", tuple(order[1::2]))


def _check_apart(validation: Suite, target: TargetData, suite: Suite) -> None:
    """What chooses a setting is not what is reported, and not what is trained on."""
    others: list[tuple[str, str, set[tuple[int, str]]]] = [
        (target.name, "which is the target", answers_of((*target.train, *target.task.examples)))
    ]
    others += [(task.name, "which the suite has too", answers_of(task.examples)) for task in suite.tasks]
    for task in validation.tasks:
        for name, what, answers in others:
            if task.name == name or 2 * len(answers_of(task.examples) & answers) > len(task.examples):
                raise ConfigError(
                    f"validation_suite {validation.name} holds the task {task.name!r}, {what}; what chooses the "
                    f"settings must not be what is reported: remove it, or set validation_suite to {HALF}"
                )
