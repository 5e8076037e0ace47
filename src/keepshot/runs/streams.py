"""A strategy's streams as samplers over a run's data and sources."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from pathlib import Path

from keepshot.config import RunConfig, SourceConfig
from keepshot.episodes import InstructedUniverse, KShot, Mixture, Sampler, SelfAnchors, Universe, ZeroShot
from keepshot.errors import ConfigError, DataError
from keepshot.runs.data import TargetData, answers_of, load_suites
from keepshot.runs.retrieval import context_sampler
from keepshot.strategies import TARGET, StreamSpec
from keepshot.tasks.example import Example, Task
from keepshot.tasks.read import as_task, read_examples
from keepshot.tasks.universe import FAMILIES, INSTRUCTED_FAMILIES

Fit = Callable[[Sequence[Example]], tuple[Example, ...]]
"""Keeps the examples that fit a training row by themselves."""


def build_sampler(
    spec: StreamSpec,
    config: RunConfig,
    target: TargetData,
    held_out: Sequence[Task],
    fit: Fit,
    index: Path | None = None,
) -> tuple[Sampler, list[str]]:
    """The sampler of a stream, and notes on what of its sources was left out.

    Args:
        spec: The stream.
        config: Of the run.
        target: The target's examples.
        held_out: Tasks that no stream may train on.
        fit: Keeps the examples that fit a row by themselves.
        index: Where the index over the target's inputs is kept, if one is built.

    Raises:
        ConfigError: The stream needs a source that the config does not name.
        DataError: A source cannot be read, or nothing of it is left.
    """
    if spec.source == TARGET:
        return _target_sampler(spec, config.seed, target, index), []
    sources: tuple[SourceConfig, ...] = getattr(config.sources, spec.source)
    if not sources:
        if config.model != "mini":
            raise ConfigError(
                f"method adds the stream {spec.name!r}, which needs sources.{spec.source}: a list of {{path, weight}}"
            )
        sources = (SourceConfig(path="mini"),)
    asked = (*held_out, target.task)
    notes: list[str] = []
    parts: list[Sampler] = []
    for source in sources:
        if source.path == "mini":
            parts.append(_universe_sampler(spec, config.seed, asked, source.families))
        else:
            parts.append(_file_sampler(spec, source.path, config, asked, fit, notes))
    if len(parts) == 1:
        return parts[0], notes
    return Mixture(spec.name, parts, [source.weight for source in sources], config.seed), notes


def _universe_sampler(
    spec: StreamSpec, seed: int, asked: Sequence[Task], families: Sequence[str]
) -> Universe | InstructedUniverse:
    """Of the bundled universe: examples with an instruction, or few-shot episodes without one."""
    if spec.sampler == "k-shot":
        told = _questions(task for task in asked if task.zero_shot)
        return Universe(spec.name, spec.shots, seed, asked, spec.scored, families or FAMILIES, told)
    if unknown := sorted(set(families) - set(INSTRUCTED_FAMILIES)):
        raise ConfigError(
            f"families {', '.join(unknown)} of the universe have no instructions, which the zero-shot stream "
            f"{spec.name!r} needs; those that have are: {', '.join(INSTRUCTED_FAMILIES)}"
        )
    return InstructedUniverse(spec.name, seed, _questions(asked), families or INSTRUCTED_FAMILIES, spec.scored)


def _questions(tasks: Iterable[Task]) -> dict[tuple[str, str], None]:
    """In order: that of a set differs between processes, and a run would not know its sources again."""
    return dict.fromkeys((example.input, example.output) for task in tasks for example in task.examples)


def _target_sampler(spec: StreamSpec, seed: int, target: TargetData, index: Path | None) -> Sampler:
    match spec.sampler:
        case "zero-shot":
            return ZeroShot(spec.name, target.train, seed, spec.scored)
        case "k-shot":
            return KShot(spec.name, (as_task(target.name, target.train),), spec.shots, seed, spec.scored)
        case "self-anchor":
            return SelfAnchors(spec.name, target.train, seed, pairs=spec.shots, scored=spec.scored)
        case "context":
            return context_sampler(spec, target.train, seed, index)


def _file_sampler(
    spec: StreamSpec, path: str, config: RunConfig, asked: Sequence[Task], fit: Fit, notes: list[str]
) -> Sampler:
    """A sampler of a file or folder, without what the evaluation asks and without rows that are too long."""
    if spec.sampler == "zero-shot":
        dataset = read_examples(path, on_bad_row=config.data.on_bad_row)
        tasks: tuple[Task, ...] = (as_task(path, dataset.examples),)
        skipped = dataset.skipped
    else:
        suite, skipped = load_suites(path, on_bad_row=config.data.on_bad_row)
        tasks = suite.tasks
    notes += [f"Left out of stream {spec.name}: {row}." for row in skipped]
    forbidden = answers_of(example for task in asked for example in task.examples)
    fewest = 1 if spec.sampler == "zero-shot" else 2
    usable = []
    for task in tasks:
        unasked = [example for example in task.examples if not answers_of([example]) & forbidden]
        fitting = fit(unasked)
        if len(unasked) < len(task.examples):
            notes.append(
                f"Left out of stream {spec.name}: {len(task.examples) - len(unasked)} of {len(task.examples)} rows of "
                f"{task.name} that the evaluation asks."
            )
        if len(fitting) < len(unasked):
            notes.append(
                f"Left out of stream {spec.name}: {len(unasked) - len(fitting)} of {len(unasked)} rows of {task.name} "
                "that are longer than a training row."
            )
        if len(fitting) >= fewest:
            usable.append(replace(task, examples=fitting))
    if not usable:
        raise DataError(
            f"nothing of {path} can be used for the stream {spec.name!r}: its rows are too long for data.max_length, "
            "or the evaluation asks them"
        )
    if spec.sampler == "zero-shot":
        return ZeroShot(spec.name, usable[0].examples, config.seed, spec.scored)
    return KShot(spec.name, usable, spec.shots, config.seed, spec.scored)
