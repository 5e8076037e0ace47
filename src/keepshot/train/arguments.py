"""`train:` of a config: any TrainingArguments field, checked by name and type, and the few that keepshot decides."""

import dataclasses
import difflib
import math
import typing
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from pydantic import PydanticSchemaGenerationError, TypeAdapter, ValidationError
from pydantic.errors import PydanticUserError
from transformers import TrainingArguments
from transformers.integrations import get_reporting_integration_callbacks

from keepshot.errors import ConfigError

Fields = Mapping[str, Any]

_SHARDED = "not verified by keepshot yet; use one device"
_PUBLISH = "push the run folder with the hf command line (hf upload)"

# What keepshot decides itself, and what to set instead. Setting one of these raises: never warn and carry on.
REFUSED = {
    "output_dir": "set output",
    "seed": "set seed at the top of the config",
    "data_seed": "set seed at the top of the config",
    "logging_nan_inf_filter": "a loss that is not finite stops the run",
    "ignore_data_skip": "resuming needs no data to be skipped",
    "remove_unused_columns": "rows have no columns to remove",
    "label_smoothing_factor": "terms are named in method",
    "train_sampling_strategy": "the planner orders rows, keyed by seed",
    "auto_find_batch_size": "lower per_device_train_batch_size: the rows of a step stay the same with a higher "
    "gradient_accumulation_steps",
    "dataloader_num_workers": "rows are planned in the training process",
    "fsdp": _SHARDED,
    "fsdp_config": _SHARDED,
    "deepspeed": _SHARDED,
    "eval_on_start": "eval_before measures the start",
    "do_train": "tune always trains",
    "use_liger_kernel": "the loss is keepshot's own and builds logits only where an answer is scored",
    "resume_from_checkpoint": "use --resume",
    "include_num_input_tokens_seen": "metrics.jsonl has tokens",
    "per_device_eval_batch_size": "validation rows are computed in micro-batches of training's size",
    "prediction_loss_only": "the validation part gives a loss and nothing else",
    "save_only_model": "a run could not be resumed from such a checkpoint",
    "dataloader_drop_last": "the planner leaves no row out",
    "torch_empty_cache_steps": "memory is not cleared between steps; if it is short, lower per_device_train_batch_size",
    "push_to_hub": _PUBLISH,
    "hub_model_id": _PUBLISH,
    "hub_strategy": _PUBLISH,
    "hub_token": _PUBLISH,
    "hub_private_repo": _PUBLISH,
    "hub_always_push": _PUBLISH,
    "hub_revision": _PUBLISH,
}
_OTHER_OPTIMISERS = ("schedule_free", "lomo", "adalomo", "galore", "apollo")
OWN = ("tokens_per_step",)
# Numbers of rows: transformers takes any, and the plan is empty or endless below 1.
COUNTS = ("tokens_per_step", "per_device_train_batch_size", "gradient_accumulation_steps")
# Of the right type for transformers and yet without a meaning here: what is allowed, and the same in words.
ALLOWED: dict[str, tuple[Callable[[Any], bool], str]] = {
    "learning_rate": (lambda rate: math.isfinite(rate) and rate >= 0, "must be a finite number, 0 or above"),
    "num_train_epochs": (lambda epochs: math.isfinite(epochs) and epochs > 0, "must be a finite number above 0"),
    "max_steps": (lambda steps: steps == -1 or steps > 0, "must be above 0, or -1 for num_train_epochs"),
    "metric_for_best_model": (
        lambda metric: metric in (None, "loss", "eval_loss"),
        "must be eval_loss, the one metric of the validation part",
    ),
    "optim": (
        lambda optim: not str(getattr(optim, "value", optim)).startswith(_OTHER_OPTIMISERS),
        "must be an optimizer that moves each number by its own gradient, such as adamw_torch: masks and steps of "
        "keepshot's training do not fit schedule-free optimizers, nor those that project gradients",
    ),
    "greater_is_better": (lambda greater: not greater, "must be false: the best model has the lowest eval_loss"),
}
# Each with the field that counts its steps.
STRATEGIES = {"eval_strategy": "eval_steps", "save_strategy": "save_steps", "logging_strategy": "logging_steps"}


def check_train_fields(fields: Fields) -> None:
    """Check names and types of the fields under `train:`.

    Raises:
        ConfigError: A field is unknown, decided elsewhere, has the wrong type or a value without a meaning.
    """
    annotations = typing.get_type_hints(TrainingArguments)
    known = {field.name for field in dataclasses.fields(TrainingArguments) if field.init}
    for name, value in fields.items():
        if name in COUNTS and (not isinstance(value, int) or isinstance(value, bool) or value < 1):
            raise ConfigError(f"train.{name} must be a whole number above 0; got {value!r}")
        if name in OWN:
            continue
        if name in REFUSED:
            raise ConfigError(f"train.{name} cannot be set: {REFUSED[name]}")
        if name not in known:
            close = difflib.get_close_matches(name, [*known, *OWN], n=1)
            hint = f"did you mean {close[0]}?" if close else "use a field of transformers.TrainingArguments"
            raise ConfigError(f"train.{name} is unknown; {hint}")
        try:
            adapter = TypeAdapter(annotations[name])
        except (PydanticSchemaGenerationError, PydanticUserError):  # types that only transformers can check
            continue
        try:
            meant = adapter.validate_python(value)
            # "5" is text in YAML and true no number, written so on purpose.
            if isinstance(value, str | bool) and not isinstance(meant, type(value)):
                raise ConfigError(f"train.{name} must be a {type(meant).__name__}; got {value!r}")
        except ValidationError as error:
            raise ConfigError(f"train.{name}: {error.errors(include_url=False)[0]['msg']}; got {value!r}") from None
        means_something, allowed = ALLOWED.get(name, (None, ""))
        if means_something is not None and not means_something(meant):
            raise ConfigError(f"train.{name} {allowed}; got {value!r}")


@contextmanager
def refusals(what: str) -> Iterator[None]:
    """What transformers refuses inside the block becomes one ConfigError line that begins with `what`."""
    try:
        yield
    except (ValueError, TypeError, KeyError, RuntimeError, ImportError) as error:
        raise ConfigError(f"{what}: {' '.join(str(error).split()) or type(error).__name__}") from error


def training_arguments(
    fields: Fields, *, folder: Path, seed: int, learning_rate: float, max_steps: int, steps_per_epoch: int
) -> TrainingArguments:
    """The arguments of a run: the user's fields over keepshot's defaults.

    The strategy `epoch` becomes `steps`: the Trainer knows one endless epoch.

    Args:
        fields: Under `train:`, checked.
        folder: For checkpoints.
        seed: Of the run.
        learning_rate: Where the fields give none.
        max_steps: Optimiser steps in all.
        steps_per_epoch: Optimiser steps in a pass over the target, to the nearest.

    Raises:
        ConfigError: transformers refuses a value or a combination, or a tracker is not installed.
    """
    on_gpu = torch.cuda.is_available()
    defaults: dict[str, Any] = {
        "learning_rate": learning_rate,
        "weight_decay": 0.0,
        "logging_steps": 10,
        "logging_first_step": True,
        "save_total_limit": 1,
        "report_to": "none",
        "bf16": "fp16" not in fields and on_gpu and torch.cuda.is_bf16_supported(including_emulation=False),
        "dataloader_pin_memory": on_gpu,
    }
    chosen = {name: value for name, value in fields.items() if name not in OWN}
    # The planner has multiplied accumulation in, and owns the number of steps.
    chosen |= {"gradient_accumulation_steps": 1, "max_steps": max_steps}
    if chosen.get("eval_strategy") == "epoch":
        chosen["eval_delay"] = chosen.get("eval_delay", 0) * steps_per_epoch
    for strategy, steps in STRATEGIES.items():
        if chosen.get(strategy) == "epoch":
            chosen |= {strategy: "steps", steps: steps_per_epoch}
    with refusals("train"):
        args = TrainingArguments(
            **(defaults | chosen),
            output_dir=str(folder),
            seed=seed,
            logging_nan_inf_filter=False,
            ignore_data_skip=True,
            remove_unused_columns=False,
        )
    with refusals("train.report_to"):
        for tracker in get_reporting_integration_callbacks(args.report_to):
            tracker()  # as the Trainer will, but before anything has been computed
    if args.n_gpu > 1:
        args._n_gpu = 1  # with several visible GPUs the Trainer would wrap the model in DataParallel
    return args


def rows_per_step(fields: Fields, num_processes: int) -> int:
    """Target rows in an optimiser step: batch size per device x accumulation x processes, as users know it."""
    return (
        int(fields.get("per_device_train_batch_size", TrainingArguments.per_device_train_batch_size))
        * int(fields.get("gradient_accumulation_steps", 1))
        * num_processes
    )


def num_steps(fields: Fields, *, num_rows: int, rows: float) -> int:
    """Optimiser steps: `max_steps` if given, else `num_train_epochs` (default 3) passes over the target's rows.

    Args:
        fields: Under `train:`, checked.
        num_rows: Rows of the target.
        rows: Of them in a step, on average: with `tokens_per_step` their number varies.

    Example:
        >>> num_steps({"num_train_epochs": 2}, num_rows=100, rows=2.5)
        80
    """
    most = int(fields.get("max_steps", -1))
    if most > 0:
        return most
    return max(1, round(float(fields.get("num_train_epochs", 3)) * num_rows / rows))
