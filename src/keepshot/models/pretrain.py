"""The recipe of the bundled model: a small Llama trained from scratch on episodes of the synthetic universe."""

import logging
import math
import os
import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import chain
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import cross_entropy
from transformers import LlamaForCausalLM

from keepshot.errors import ConfigError, RunError
from keepshot.files import new_folder, put_back, write_json
from keepshot.models.mini_card import CARD, measured_card
from keepshot.models.precision import computing_dtype
from keepshot.models.pretrain_state import (
    MadeFor,
    ModelSize,
    PretrainSettings,
    PretrainState,
    new_state,
    restore,
    save_checkpoint,
)
from keepshot.tasks.universe.batches import Batch, batches

_BUNDLED = Path(__file__).parent / "mini"
_IGNORED = -100  # the target that `cross_entropy` leaves out
_MEASURED_ON_CPU = 16  # episodes of each family, in about two minutes
_LEAST_RATE = 0.03  # of the peak, at the end of the cosine

logger = logging.getLogger(__name__)


RECIPE = PretrainSettings()
DRY_RUN = PretrainSettings(
    size=ModelSize(width=32, mlp_width=64, heads=2, layers=2),
    length=128,
    rows=4,
    warmup_steps=2,
    steps=6,
    workers=2,
    checkpoint_s=0.0,
    report_steps=1,
    measured_episodes=4,
)


@dataclass(frozen=True, slots=True)
class PretrainProgress:
    """One report: the loss is nats per byte of an answer, over one step's rows before its update."""

    step: int
    loss_nats: float
    rate: float
    elapsed_s: float


def pretrain(
    output: Path,
    *,
    minutes: float,
    recipe: PretrainSettings = RECIPE,
    seed: int = 0,
    dry_run: bool = False,
    resume: bool = False,
    report: Callable[[PretrainProgress], None] | None = None,
) -> None:
    """Train the bundled model anew and save it, in bfloat16, with its tokenizer and its measured card, in `output`.

    With another duration the cosine stretches. Checkpoints go to `<output>.checkpoint` beside the output and are
    deleted when the model is saved. The losses also go to the logger of this module. `card.json` in the output says
    what the model cost and what it can do (`keepshot.models.mini_card`).

    Args:
        output: A folder that does not exist yet.
        minutes: Training time, that before a resumption included; it is not used by a dry run.
        recipe: The model and its training; a dry run has its own.
        seed: Keys the initial weights and every batch.
        dry_run: Run the same code on a tiny model for a few steps: seconds on a CPU. Of a recipe it takes the shares of
            problems alone.
        resume: Continue from the checkpoint.
        report: Called every 50 steps (in a dry run: every step).

    Raises:
        ConfigError: The minutes are not positive, or the recipe cannot be followed.
        RunError: The output exists already; or there is a checkpoint without `resume`, none with it, or one of other
            settings.
    """
    if not minutes > 0:
        raise ConfigError(f"minutes is {minutes}; give a positive number")
    settings = _dry(recipe) if dry_run else recipe
    if min(settings.problems, settings.released) < 0 or settings.problems + settings.released > 1 or settings.rows < 1:
        raise ConfigError(
            f"problems is {settings.problems}, released {settings.released} and rows {settings.rows}; shares are 0 or "
            "more and at most 1 together, a step has rows"
        )
    device = torch.device("cuda" if torch.cuda.is_available() and not dry_run else "cpu")
    if device.type == "cpu":
        settings = replace(settings, measured_episodes=min(settings.measured_episodes, _MEASURED_ON_CPU))
    checkpoint = output.with_name(f"{output.name}.checkpoint")
    put_back(checkpoint)
    if output.exists():
        raise RunError(f"{output} exists already: name a new folder for the model")
    if checkpoint.exists() and not resume:
        raise RunError(f"{checkpoint} holds an unfinished run: resume it, or delete the folder to begin anew")
    state = new_state(settings, seed, device)
    made_for = MadeFor(settings, seed, minutes if settings.steps is None else None)
    if resume:
        restore(state, checkpoint, made_for)
    workers = min(settings.workers, os.cpu_count() or 1)
    shape = (settings.rows, settings.length)
    with batches(seed, *shape, workers, start=state.step, shares=settings.shares) as stream:
        _train(state, stream, settings, minutes * 60, _Outlets(checkpoint, made_for, report))
    save_checkpoint(state, checkpoint, made_for)  # measuring takes a while
    _save(state, output, settings, seed)
    shutil.rmtree(checkpoint, ignore_errors=True)


def _dry(recipe: PretrainSettings) -> PretrainSettings:
    """The recipe of a dry run.

    Raises:
        ConfigError: Something is asked for that it cannot show.
    """
    asked = replace(recipe, problems=RECIPE.problems, released=RECIPE.released)
    if changed := [name for name, value in asdict(asked).items() if value != asdict(RECIPE)[name]]:
        raise ConfigError(f"a dry run has a tiny model and few steps of its own; leave out: {', '.join(changed)}")
    return replace(DRY_RUN, problems=recipe.problems, released=recipe.released)


@dataclass(frozen=True, slots=True)
class _Outlets:
    """Where training reports to while it runs."""

    checkpoint: Path
    made_for: MadeFor
    report: Callable[[PretrainProgress], None] | None


def schedule(settings: PretrainSettings, step: int, done: float) -> float:
    """The share of the peak learning rate at a step: a linear warm-up times a cosine from 1 to 3 %.

    Args:
        settings: Give the length of the warm-up.
        step: Steps made before.
        done: How much of the training is over, in [0, 1].

    Example:
        >>> schedule(RECIPE, step=300, done=0.0), schedule(RECIPE, step=4032, done=1.0)
        (1.0, 0.03)
    """
    warmup = min(1.0, (step + 1) / settings.warmup_steps)
    cosine = 0.5 * (1 + math.cos(math.pi * done))
    return warmup * (cosine * (1 - _LEAST_RATE) + _LEAST_RATE)


def _train(
    state: PretrainState, stream: Iterator[Batch], settings: PretrainSettings, seconds: float, outlets: _Outlets
) -> None:
    """Step until the schedule ends, with reports and checkpoints on the way."""
    forward = torch.compile(state.model) if state.model.device.type == "cuda" else state.model
    stream = chain([next(stream)], stream)  # the clock starts when the workers have
    began = time.monotonic() - state.elapsed_s
    saved = time.monotonic()
    while True:
        done = state.elapsed_s / seconds if settings.steps is None else state.step / settings.steps
        if done >= 1:
            return
        share = schedule(settings, state.step, done)
        loss = _update(state, forward, next(stream), (settings.peak_rate * share, settings.embedding_rate * share))
        state.step += 1
        state.elapsed_s = time.monotonic() - began
        if state.step % settings.report_steps == 0:
            progress = PretrainProgress(state.step, loss.item(), settings.peak_rate * share, state.elapsed_s)
            logger.info("step %d: loss %.4f after %.0f s", progress.step, progress.loss_nats, progress.elapsed_s)
            if outlets.report:
                outlets.report(progress)
        if time.monotonic() - saved >= settings.checkpoint_s:
            save_checkpoint(state, outlets.checkpoint, outlets.made_for)
            saved = time.monotonic()


def _update(state: PretrainState, forward: LlamaForCausalLM, batch: Batch, rates: Sequence[float]) -> Float[Tensor, ""]:
    """One step of the optimizers, each at its rate, on the answers of a batch; what stands between is context only."""
    device = state.model.device
    ids, answers = (_sent(part, device) for part in batch)
    ids = ids.long()
    targets = ids.masked_fill(~answers, _IGNORED)[:, 1:]
    dtype = computing_dtype(device)  # also on a CPU that can: a step takes .7 of the time that it takes in float32
    with torch.autocast(device.type, dtype, enabled=dtype != torch.float32):
        logits = forward(input_ids=ids, use_cache=False).logits[:, :-1].float()
    loss = cross_entropy(logits.flatten(0, 1), targets.flatten(), ignore_index=_IGNORED)
    state.model.zero_grad()
    loss.backward()
    torch.nn.utils.clip_grad_norm_(state.model.parameters(), 1.0)
    for optimiser, rate in zip(state.optimisers, rates, strict=True):
        for group in optimiser.param_groups:
            group["lr"] = rate
        optimiser.step()
    return loss.detach()


def _sent(part: np.ndarray, device: torch.device) -> Tensor:
    """A copy on the device; from pinned memory, so that the next step is prepared while it travels."""
    tensor = torch.from_numpy(part.copy())
    return tensor.pin_memory().to(device, non_blocking=True) if device.type == "cuda" else tensor


def _save(state: PretrainState, output: Path, settings: PretrainSettings, seed: int) -> None:
    with new_folder(output) as folder:
        state.model.to(torch.bfloat16).save_pretrained(folder)
        for file in sorted(_BUNDLED.glob("tokenizer*.json")):
            shutil.copyfile(file, folder / file.name)
        device = torch.cuda.get_device_name() if state.model.device.type == "cuda" else "CPU"
        cost = {
            "steps": state.step,
            "tokens": state.step * settings.rows * settings.length,
            "train_seconds": round(state.elapsed_s, 1),
            "device": device,
        }
        card = measured_card(folder, settings.measured_episodes, settings.shares)
        write_json(folder / CARD, {**card, "seed": seed, "settings": asdict(settings), "cost": cost})
