"""A strategy's streams as samplers over a run's data and sources."""

from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path

from keepshot.config import RunConfig, SourceConfig
from keepshot.episodes import InstructedUniverse, KShot, Mixture, Sampler, SelfAnchors, Universe, ZeroShot
from keepshot.errors import ConfigError, DataError
from keepshot.runs.data import TargetData, answers_of, load_suites, unused_notes
from keepshot.runs.retrieval import context_sampler
from keepshot.runs.training import Encoder
from keepshot.strategies import TARGET, StreamSpec
from keepshot.tasks.example import Task
from keepshot.tasks.read import as_task, read_examples
from keepshot.tasks.universe import FAMILIES, INSTRUCTED_FAMILIES


def build_sampler(
    spec: StreamSpec,
    config: RunConfig,
    target: TargetData,
    held_out: Sequence[Task],
    encoder: Encoder,
    index: Path | None = None,
) -> tuple[Sampler, list[str]]:
    """The sampler of a stream, and notes on what of its sources was left out.

    Args:
        spec: The stream.
        config: Of the run.
        target: The target's examples.
        held_out: Tasks that no stream may train on.
        encoder: Tells what fits a training row.
        index: Where the index over the target's inputs is kept, if one is built.

    Raises:
        ConfigError: The stream needs a source that the config does not name.
        DataError: A source cannot be read, or nothing of it is left.
    """
    if spec.source == TARGET:
        return _target_sampler(spec, config.seed, target, encoder, index), []
    sources: tuple[SourceConfig, ...] = getattr(config.sources, spec.source)
    if not sources:
        if config.model != "mini":
            raise ConfigError(
                f"method adds the stream {spec.name!r}, which needs sources.{spec.source}: a list of {{path, weight}}"
            )
        sources = (SourceConfig(path="mini"),)
    asked = (*held_out, replace(target.task, pool=()))  # what it shows is what it trains on
    notes: list[str] = []
    parts: list[Sampler] = []
    for source in sources:
        if source.path == "mini":
            parts.append(_universe_sampler(spec, config.seed, asked, source.families))
        else:
            parts.append(_file_sampler(spec, source, config, asked, encoder, notes))
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


def _target_sampler(spec: StreamSpec, seed: int, target: TargetData, encoder: Encoder, index: Path | None) -> Sampler:
    match spec.sampler:
        case "zero-shot":
            return ZeroShot(spec.name, target.train, seed, spec.scored)
        case "k-shot":
            return KShot(spec.name, (as_task(target.name, target.train),), spec.shots, seed, spec.scored)
        case "self-anchor":
            return SelfAnchors(spec.name, target.train, seed, pairs=spec.shots, scored=spec.scored, fits=encoder.holds)
        case "context":
            return context_sampler(spec, target.train, seed, index)


def _file_sampler(
    spec: StreamSpec, source: SourceConfig, config: RunConfig, asked: Sequence[Task], encoder: Encoder, notes: list[str]
) -> Sampler:
    """A sampler of a file or folder, without what the evaluation asks and without rows that are too long."""
    path, on_bad_row = source.path, config.data.on_bad_row
    if spec.sampler == "zero-shot":
        dataset = read_examples(path, columns=source.columns, on_bad_row=on_bad_row)
        notes += unused_notes(dataset)
        tasks: tuple[Task, ...] = (as_task(path, dataset.examples),)
        skipped = dataset.skipped
    else:
        suite, skipped = load_suites(path, columns=source.columns, on_bad_row=on_bad_row)
        tasks = suite.tasks
    notes += [f"Left out of stream {spec.name}: {row}." for row in skipped]
    forbidden = answers_of(example for task in asked for example in (*task.examples, *task.pool))
    fewest = 1 if spec.sampler == "zero-shot" else 2
    usable = []
    for task in tasks:
        rows = task.pool or task.examples  # where a task has rows to show beside those to ask, it is trained on these
        if task.pool:
            notes.append(
                f"Left out of stream {spec.name}: the {len(task.examples)} test rows of {task.name}, which has "
                f"{len(task.pool)} others."
            )
        unasked = [example for example in rows if not answers_of([example]) & forbidden]
        fitting = encoder.fitting(unasked)
        if len(unasked) < len(rows):
            notes.append(
                f"Left out of stream {spec.name}: {len(rows) - len(unasked)} of {len(rows)} rows of {task.name} that "
                "the evaluation asks or shows."
            )
        if len(fitting) < len(unasked):
            notes.append(
                f"Left out of stream {spec.name}: {len(unasked) - len(fitting)} of {len(unasked)} rows of {task.name} "
                "that are longer than a training row."
            )
        if len(fitting) >= fewest:
            usable.append(replace(task, examples=fitting, pool=()))
    if not usable:
        raise DataError(
            f"nothing of {path} can be used for the stream {spec.name!r}: its rows are too long for data.max_length, "
            "or the evaluation asks them"
        )
    if spec.sampler == "zero-shot":
        return ZeroShot(spec.name, usable[0].examples, config.seed, spec.scored)
    return KShot(spec.name, usable, spec.shots, config.seed, spec.scored)
