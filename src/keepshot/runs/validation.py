"""What a setting is chosen by, and what the choice is reported on: nothing of the one is in the other."""

from dataclasses import dataclass, replace

from keepshot.config import RunConfig
from keepshot.errors import ConfigError
from keepshot.evaluation import EvaluationPlan
from keepshot.runs.data import TargetData, answers_of, evaluation_suite, load_suites
from keepshot.tasks.example import Suite, Task
from keepshot.tasks.read import as_task
from keepshot.tasks.split import input_key
from keepshot.tasks.validation import halves, other_own_input_tasks, universe_suite


@dataclass(frozen=True, slots=True)
class Questions:
    """Two sets of questions about one target.

    Attributes:
        target: The validation part as a task: what a setting is chosen by.
        suite: Other tasks to choose by.
        report_target: The test part.
        report_suite: Other tasks to report on.
        notes: What a reader should know.
    """

    target: Task
    suite: Suite
    report_target: Task
    report_suite: Suite
    notes: tuple[str, ...]


def validation_questions(config: RunConfig, target: TargetData, validation_suite: str | None) -> Questions:
    """Tasks to choose by and tasks to report on.

    The suite to choose by is the one that is named; for the bundled suite, tasks drawn from its universe that it does
    not ask; for any other suite, a keyed half of its tasks, and the other half is reported on. In-context tasks over
    the target's own inputs join both: over validation inputs here, over test inputs there, by different functions.

    Args:
        config: Of the run: its suite and seed.
        target: Its data.
        validation_suite: `mini`, a folder of task files (or one file), or None.

    Raises:
        ConfigError: The suite cannot be divided, or a task stands in both.
        DataError: A suite cannot be read.
    """
    suite, skipped, found = evaluation_suite(config, target)
    own = tuple(task for task in suite.tasks if task.group == "own-input")
    notes = [f"Left out: {row}." for row in skipped] + list(found)
    if validation_suite is not None:
        others, bad = load_suites(validation_suite, on_bad_row=config.data.on_bad_row)
        notes += [f"Left out of the validation suite: {row}." for row in bad]
        _check_apart(others, (target.task, *suite.tasks))
    elif config.suite_name == "mini":
        others = universe_suite((target.task, *suite.tasks))
    else:
        others, kept = halves(replace(suite, tasks=tuple(task for task in suite.tasks if task not in own)), config.seed)
        suite = replace(kept, tasks=(*kept.tasks, *own))
        chosen_by, reported = (", ".join(task.name for task in half.tasks) for half in (others, kept))
        notes.append(f"The suite was divided by a key: chosen by {chosen_by}; reported on {reported}.")
    own_others = other_own_input_tasks(target.validation, (*suite.tasks, *others.tasks), config.seed)
    if not own_others:
        notes.append("There are too few validation inputs for tasks over them, where forgetting is worst.")
    validation = as_task(target.name, target.validation, target.train)
    return Questions(validation, replace(others, tasks=(*others.tasks, *own_others)), target.task, suite, tuple(notes))


def zero_shot_plan(task: Task, sets: int, seed: int) -> EvaluationPlan:
    """Every input of a task asked once without demonstrations, dealt out to at most `sets` sets.

    Example:
        >>> from keepshot.tasks.example import Example
        >>> plan = zero_shot_plan(Task("t", tuple(Example(str(i), "x") for i in range(10))), sets=4, seed=0)
        >>> plan.sets, plan.queries
        (4, 2)
    """
    distinct = len({input_key(example) for example in task.examples})
    sets = min(sets, distinct)
    return EvaluationPlan((0,), sets, distinct // sets, seed)


def _check_apart(suite: Suite, reported: tuple[Task, ...]) -> None:
    """Raises a ConfigError if a task is reported on."""
    for task in suite.tasks:
        for other in reported:
            answers = answers_of(other.examples)
            known = sum(bool(answers_of([example]) & answers) for example in task.examples)
            if task.name == other.name or 2 * known > len(task.examples):
                raise ConfigError(
                    f"the validation suite holds the task {task.name!r}, which is reported on as {other.name!r}; what "
                    "a setting is chosen by flatters it"
                )
