"""A config's data and suites, as records: what is trained on, what is asked."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from keepshot.config import DataConfig, RunConfig
from keepshot.errors import ConfigError, DataError
from keepshot.tasks.builtin import builtin_suite, builtin_target
from keepshot.tasks.example import Example, Suite, Task, ending_alike, hold_line_ends
from keepshot.tasks.own_inputs import FEWEST_INPUTS, own_input_tasks
from keepshot.tasks.read import Dataset, OnBadRow, as_task, read_examples, task_name
from keepshot.tasks.rows import ALL_AS_NAMED, BadRow
from keepshot.tasks.split import input_key, shared_inputs, split_validation
from keepshot.tasks.suite_files import read_suite

BUILTIN = "mini:"


@dataclass(frozen=True, slots=True)
class TargetData:
    """The target's examples.

    Attributes:
        name: Of the task.
        train: Trained on.
        validation: Watched during training.
        task: The test part as a task; its demonstrations come from `train`.
        skipped: Bad rows that were left out.
        shared_with_test: Rows of `train` that ask what a test row asks.
        notes: What a reader of the report should know.
    """

    name: str
    train: tuple[Example, ...]
    validation: tuple[Example, ...]
    task: Task
    skipped: tuple[BadRow, ...]
    shared_with_test: int
    notes: tuple[str, ...]


def load_target(config: DataConfig, seed: int) -> TargetData:
    """Read train, validation and test; what is not given is split off train, keyed by `split_seed`, else by the seed.

    Raises:
        DataError: A file is missing or empty, or has bad rows.
        ConfigError: A built-in target does not exist or is given a test file.
    """
    notes: list[str] = []
    skipped: list[BadRow] = []
    seed = seed if config.split_seed is None else config.split_seed

    def read(source: str) -> tuple[Example, ...]:
        dataset = read_examples(source, format=config.format, columns=config.columns, on_bad_row=config.on_bad_row)
        skipped.extend(dataset.skipped)
        notes.extend(unused_notes(dataset))
        return dataset.examples

    if config.train.startswith(BUILTIN):
        target = builtin_target(config.train.removeprefix(BUILTIN))
        name, train, test = target.name, target.train, target.test
        if config.test or config.validation:
            raise ConfigError(
                f"data.train {config.train} is built in and brings its own test part; remove data.test and "
                "data.validation"
            )
    else:
        name, train = task_name(config.train), read(config.train)
        if config.test:
            test = read(config.test)
        else:
            train, test = split_validation(train, seed=seed)
            notes.append(f"No test file was given: {len(test)} rows of the training file were set aside as the test.")
    if config.validation:
        validation = read(config.validation)
        notes += _overlap(validation, test, "validation", "test", "the best checkpoint would be chosen on the test")
        notes += _overlap(train, validation, "training", "validation", "eval_loss is flattered")
    else:
        train, validation = split_validation(train, seed=seed + 1)
    notes += _overlap(train, test, "training", "test", "target accuracy is flattered")
    lines = hold_line_ends((*train, *validation, *test))
    train, validation, test = (ending_alike(rows, lines) for rows in (train, validation, test))
    shared = len(shared_inputs(train, test))
    return TargetData(name, train, validation, as_task(name, test, train), tuple(skipped), shared, tuple(notes))


def load_suites(
    name: str,
    *,
    format: str = "auto",
    columns: Mapping[str, str] = ALL_AS_NAMED,
    on_bad_row: OnBadRow = "raise",
) -> tuple[Suite, tuple[BadRow, ...]]:
    """The built-in suite `mini`, or a folder of task files (or one file), and what was left out of it.

    The arguments after the name are those of `read_suite`.

    Raises:
        DataError: A file cannot be used, or the folder has none.
    """
    if name == "mini":
        return builtin_suite(), ()
    if not Path(name).expanduser().exists():
        raise DataError(f"{name} does not exist; name a folder of task files, or mini for the built-in suite")
    found = read_suite(name, format=format, columns=columns, on_bad_row=on_bad_row)
    return found.suite, found.skipped


def evaluation_suite(config: RunConfig, target: TargetData) -> tuple[Suite, tuple[BadRow, ...], tuple[str, ...]]:
    """The config's suite with in-context tasks over the target's own test inputs, what was left out, and notes.

    Raises:
        ConfigError: The target stands in the suite.
    """
    suite, skipped = load_suites(config.suite_name, on_bad_row=config.data.on_bad_row)
    learned = answers_of((*target.train, *target.task.examples))
    for task in suite.tasks:
        known = sum(answer in learned for answer in map(_answer, task.examples))
        if task.name == target.name or 2 * known > len(task.examples):
            raise ConfigError(
                f"suite {suite.name} holds the task {task.name!r}, which is the target; held-out tasks must be others"
            )
    distinct = len({input_key(example) for example in target.task.examples})
    if distinct < FEWEST_INPUTS:
        note = (
            f"No tasks over the target's own inputs were asked: they need {FEWEST_INPUTS} different test inputs, and "
            f"there are {distinct}. Forgetting is worst there, so retention is flattered."
        )
        return suite, skipped, (note,)
    own = own_input_tasks(target.task.examples, config.seed)
    return Suite(suite.name, (*suite.tasks, *own)), skipped, ()


def unused_notes(dataset: Dataset) -> list[str]:
    """What of usable rows is not used, as notes of a report."""
    notes = []
    if dataset.unused:
        notes.append(f"Columns of {dataset.source} that are not used: {', '.join(dataset.unused)}.")
    if dataset.cut:
        notes.append(f"Turns after the last assistant turn left out: {dataset.cut} rows of {dataset.source}.")
    return notes


def answers_of(examples: Iterable[Example]) -> set[tuple[int, str]]:
    """What is asked and answered, but for case and white space of the question."""
    return {_answer(example) for example in examples}


def _answer(example: Example) -> tuple[int, str]:
    return input_key(example), example.output


def _overlap(rows: Sequence[Example], others: Sequence[Example], what: str, other: str, so: str) -> list[str]:
    shared = len(shared_inputs(rows, others))
    return [f"{shared} of {len(rows)} {what} rows ask what a {other} row asks; {so}."] if shared else []
