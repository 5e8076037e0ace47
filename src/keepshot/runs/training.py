"""Train a prepared model, and save it as a user loads it."""

import resource
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from types import MappingProxyType
from typing import Any

import torch
from peft import PeftModel
from transformers import PreTrainedTokenizerBase, TrainingArguments
from transformers.trainer_utils import set_seed

from keepshot.config import RunConfig
from keepshot.episodes import Bank, Contexts, Sampler
from keepshot.errors import DataError
from keepshot.files import new_folder
from keepshot.models.load import quiet
from keepshot.prompts import Template, encode
from keepshot.runs.folder import RunFolder
from keepshot.runs.penalties import held_numbers
from keepshot.runs.references import references
from keepshot.strategies import TARGET, Strategy, TrainableSet, tensors_to_save
from keepshot.tasks.example import Example
from keepshot.tasks.read import OnBadRow
from keepshot.train import (
    Earlier,
    KeepTrainer,
    PlannedRow,
    Planner,
    Stream,
    checkpoints,
    num_steps,
    rows_per_step,
    training_arguments,
)
from keepshot.train.checkpoints import truncate_metrics

# Longest row where the config gives none: the context, but not beyond this, for memory's sake.
DEFAULT_MAX_LENGTH = 2048
# Steps by which the plan is judged before a run, and the part of a stream's weight below which a reader is told: with a
# third of it the default method was measured (recipes/retention-mini.yaml).
_PLANNED_STEPS, _MUCH_LESS = 60, 0.25
DESCRIBED_VISITS = 2_000


@dataclass(frozen=True, slots=True)
class Encoder:
    """How text becomes rows in a run."""

    template: Template
    tokenizer: PreTrainedTokenizerBase
    max_length: int

    def lengths(self, examples: Sequence[Example]) -> list[int]:
        """Tokens of each example's row by itself."""
        return [len(row.ids) for row in encode([self.template.render([e]) for e in examples], self.tokenizer)]

    def fitting(self, examples: Sequence[Example]) -> tuple[Example, ...]:
        """The examples whose rows by themselves are not longer than a training row."""
        lengths = self.lengths(examples)
        return tuple(e for e, length in zip(examples, lengths, strict=True) if length <= self.max_length)

    def holds(self, examples: Sequence[Example]) -> bool:
        """Whether a training row holds these examples together."""
        return len(encode([self.template.render(examples)], self.tokenizer)[0].ids) <= self.max_length

    def fitting_target(self, examples: Sequence[Example], on_bad_row: OnBadRow) -> tuple[Example, ...]:
        """As `fitting`, for the rows that the run is about.

        Raises:
            DataError: One does not fit and `on_bad_row` is `raise`, or none fits.
        """
        kept = self.fitting(examples)
        if len(kept) == len(examples) or (kept and on_bad_row == "skip"):
            return kept
        lengths = self.lengths(examples)
        first = next(i for i, length in enumerate(lengths) if length > self.max_length)
        raise DataError(
            f"{len(examples) - len(kept)} of {len(examples)} training rows are longer than {self.max_length} tokens "
            f"(the first is row {first + 1} with {lengths[first]}); raise data.max_length, as far as the model's "
            "context goes, or leave them out with --on-bad-row skip (config: data.on_bad_row: skip)"
        )


def build_planner(
    config: RunConfig, strategy: Strategy, samplers: Sequence[Sampler], encoder: Encoder, num_processes: int = 1
) -> Planner:
    """The planner of a strategy's streams."""
    streams = [
        Stream(spec.name, sampler, spec.share, strategy.weight(spec.name))
        for spec, sampler in zip(strategy.streams, samplers, strict=True)
    ]
    return Planner(
        streams,
        encoder.template,
        encoder.tokenizer,
        encoder.max_length,
        rows_per_step(config.train, num_processes),
        config.train.get("tokens_per_step"),
    )


def steps_in_all(config: RunConfig, planner: Planner) -> int:
    """Optimiser steps of the run."""
    return num_steps(config.train, num_rows=target_size(planner), rows=mean_rows(planner))


def target_size(planner: Planner) -> int:
    """Examples of the target."""
    size = planner.streams[0].sampler.size
    assert size is not None
    return size


def mean_rows(planner: Planner) -> float:
    """Mean number of target rows in a step: exact by rows, by the mean row length where steps are counted in tokens."""
    if planner.tokens_per_step is None:
        return float(planner.rows_per_step)
    return max(1.0, _target_share(planner) * planner.tokens_per_step / mean_length(planner))


def mean_length(planner: Planner) -> float:
    """Mean tokens of a target row, by a sample of 2,000."""
    size = target_size(planner)
    sample = [planner.streams[0].sampler.draw(index) for index in range(min(size, 2000))]
    rows = encode([planner.template.render(episode.examples) for episode in sample], planner.tokenizer)
    return sum(len(row.ids) for row in rows) / len(rows)


def mean_target_tokens(planner: Planner) -> float:
    """Mean tokens of the target in a step."""
    return mean_rows(planner) * mean_length(planner)


def _target_share(planner: Planner) -> float:
    return 1.0 - sum(stream.share or 0.0 for stream in planner.streams)


@dataclass(frozen=True, slots=True)
class Stage:
    """One training of a run, of one or two.

    Attributes:
        strategy: Its streams, terms and penalties are this training's.
        planner: Plans the steps.
        arguments: Of the Trainer; their folder is that of the stage's checkpoints.
    """

    strategy: Strategy
    planner: Planner
    arguments: TrainingArguments


def run_arguments(config: RunConfig, planner: Planner, checkpoints: Path, learning_rate: float) -> TrainingArguments:
    """The training arguments of a run.

    Raises:
        ConfigError: transformers refuses them.
    """
    return training_arguments(
        config.train,
        folder=checkpoints,
        seed=config.seed,
        learning_rate=learning_rate,
        max_steps=steps_in_all(config, planner),
        steps_per_epoch=max(1, round(target_size(planner) / mean_rows(planner))),
    )


def training_dtype(arguments: TrainingArguments) -> str:
    """Frozen weights may stay as they are stored only under autocast; else all that computes together is float32."""
    return "auto" if arguments.bf16 or arguments.fp16 else "float32"


def train(
    trainable: TrainableSet,
    stage: Stage,
    *,
    validation: Sequence[Example],
    folder: RunFolder,
    prompts: Mapping[str, Sequence[PlannedRow]] = MappingProxyType({}),
    earlier: Earlier = Earlier(),  # noqa: B008 (frozen)
) -> dict[str, Any]:
    """Train from the newest complete checkpoint, or from the start; returns what it cost (see `training.json`).

    Args:
        trainable: What may move.
        stage: How it is trained.
        validation: Examples of the target.
        folder: Of the run.
        prompts: By kind of penalty, see `prompt_rows`.
        earlier: What the stages before have done.

    Raises:
        RunError: The loss or the gradient is not finite.
    """
    strategy, planner, args = stage.strategy, stage.planner, stage.arguments
    set_seed(args.seed)
    root = Path(args.output_dir)
    root.mkdir(parents=True, exist_ok=True)
    budget = args.per_device_train_batch_size * planner.max_length
    start = time.monotonic()
    kept = references(trainable.model, strategy, planner, args, folder, budget)
    trainer = KeepTrainer(
        trainable,
        args,
        planner,
        metrics=folder.metrics,
        micro_batch_tokens=budget,
        validation=validation_rows(validation, planner),
        objective=replace(kept.objective, penalties=held_numbers(trainable, strategy, prompts, args, folder)),
        earlier=earlier,
    )
    found = checkpoints(root)
    if not found:
        truncate_metrics(folder.metrics, earlier.steps)
    if torch.cuda.is_available():
        torch.cuda.reset_peak_memory_stats()
    trainer.train(resume_from_checkpoint=str(found[-1]) if found else None)
    trainer.check_finite()
    return {
        "train_seconds": trainer.seconds_before + time.monotonic() - start,
        "peak_memory_bytes": peak_memory_bytes(),
        "tokens": trainer.tokens,
        "trainable_parameters": trainable.num_parameters,
        "total_parameters": trainable.num_total,
        "steps": trainer.plan_state.step,
        "streams": _cost_of_streams(trainer),
        "reference": kept.report(trainable.model, args, budget),
    }


def _cost_of_streams(trainer: KeepTrainer) -> dict[str, dict[str, Any]]:
    state, total = trainer.plan_state, trainer.tokens
    tokens = {name: stream.tokens for name, stream in state.streams.items()}
    tokens[TARGET] += total - sum(tokens.values())  # a soft prompt's
    samplers = {stream.name: stream.sampler for stream in trainer.planner.streams}
    return {
        name: {
            "episodes": stream.drawn,
            "tokens": tokens[name],
            "share": tokens[name] / total,
            "weight": stream.delivered / state.step,
            "dropped_demonstrations": stream.dropped,
            **_contexts(samplers[name], stream.drawn),
        }
        for name, stream in state.streams.items()
    }


def _contexts(sampler: Sampler, drawn: int) -> dict[str, Any]:
    """What the first contexts of a stream were, where it has such: as they were drawn, since every draw is keyed."""
    source, visits = (sampler.sampler, min(drawn, sampler.rows)) if isinstance(sampler, Bank) else (sampler, drawn)
    return {"contexts": source.summary(min(visits, DESCRIBED_VISITS))} if isinstance(source, Contexts) else {}


def validation_rows(examples: Sequence[Example], planner: Planner) -> list[PlannedRow]:
    """Zero-shot rows of the validation part, but for those that are too long."""
    rows = encode([planner.template.render([example]) for example in examples], planner.tokenizer)
    return [
        PlannedRow(TARGET, f"validation example {i + 1}", row, row.answers[-1:], 1.0)
        for i, row in enumerate(rows)
        if len(row.ids) <= planner.max_length
    ]


def save_trained(
    trainable: TrainableSet,
    tokenizer: PreTrainedTokenizerBase,
    path: Path,
    dtype: torch.dtype,
    *,
    check: Callable[[Path], None],
) -> None:
    """Save a model (in the base's dtype) or an adapter, with the tokenizer; `path` is complete and checked or absent.

    Args:
        trainable: What was trained.
        tokenizer: Of the base.
        path: Where to.
        dtype: Of the base's stored weights.
        check: Called with the folder before it gets its name; an error leaves `path` absent.
    """
    with new_folder(path) as aside:
        model = trainable.model
        with quiet():
            if isinstance(model, PeftModel):
                tensors = tensors_to_save(model, trainable.parts)
                # Embeddings are left out, since PEFT would look the base up on the hub.
                model.save_pretrained(aside, save_embedding_layers=False, state_dict=tensors)
            else:
                model.to(dtype).save_pretrained(aside)
        tokenizer.save_pretrained(aside)
        (aside / "README.md").unlink(missing_ok=True)  # PEFT's empty card; the run folder has a filled one
        check(aside)


def weight_notes(planner: Planner, steps: int) -> list[str]:
    """A note on every added stream of which much less arrives in the loss than was asked, by the first steps.

    One whose episodes are long for its share has one in many steps, and no more than the target's weight in that step.
    """
    _, *added = planner.streams
    looked_at = min(steps, _PLANNED_STEPS) if added else 0
    state = planner.start()
    for _ in range(looked_at):
        state = planner.plan(state).after
    notes = []
    for stream in added:
        found = state.streams[stream.name]
        if (arrives := found.delivered / looked_at) < _MUCH_LESS * stream.weight:
            notes.append(
                f"Stream {stream.name}: its share of {stream.share:.0%} of the tokens is {found.drawn} episodes in the "
                f"first {looked_at} steps, so that {arrives:.1%} of the loss arrives, of {stream.weight:.0%} asked; "
                "larger steps (train.per_device_train_batch_size) or a larger share bring more."
            )
    return notes


def stream_lines(planner: Planner, strategy: Strategy) -> list[str]:
    """Each stream's share of the computed tokens (its cost) and weights in the loss (its effect), penalties, merge."""
    lines = []
    for stream in planner.streams:
        terms = [
            f"{term.weight:.0%} of the loss ({term.kind}"
            f"{'' if term.least is None else f' of tokens that the base holds at {term.least:g} or more'}"
            f"{', falling to 0' if term.anneal == 'linear' else ''})"
            for term in strategy.terms
            if term.stream == stream.name
        ]
        share = stream.share or _target_share(planner)
        fixed = f", {stream.sampler.rows} fixed rows" if isinstance(stream.sampler, Bank) else ""
        lines.append(f"stream {stream.name}: {share:.0%} of the tokens{fixed}, {', '.join(terms)}")
    for penalty in strategy.penalties:
        held = "all that moves" if penalty.roles is None else ", ".join(penalty.roles)
        lines.append(f"penalty {penalty.kind}: strength {penalty.strength:g} on {held}")
    if strategy.merge is not None:
        a = strategy.merge.coefficient
        lines.append(f"saved is {1 - a:g} x the base + {a:g} x what was tuned")
    return lines


def peak_memory_bytes() -> int:
    """Peak memory: of the GPU where there is one, else the resident memory of the process."""
    if torch.cuda.is_available():
        return torch.cuda.max_memory_allocated()
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024
