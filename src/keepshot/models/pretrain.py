"""The recipe of the bundled model: a small Llama trained from scratch on episodes of the synthetic universe."""

import logging
import math
import shutil
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from itertools import chain
from pathlib import Path

import torch
from jaxtyping import Float
from safetensors.torch import load_file, save_file
from torch import Tensor
from torch.nn.functional import cross_entropy
from transformers import LlamaConfig, LlamaForCausalLM

from keepshot import keys
from keepshot.errors import ConfigError, RunError
from keepshot.files import new_folder, read_json, write_json
from keepshot.tasks.universe import BOS
from keepshot.tasks.universe.batches import Batch, batches

_BUNDLED = Path(__file__).parent / "mini"
_IGNORED = -100  # the target that `cross_entropy` leaves out
_BETAS = (0.9, 0.95)
_WEIGHT_DECAY = 0.05
_LEAST_RATE = 0.03  # of the peak, at the end of the cosine
_MOMENTS = ("step", "exp_avg", "exp_avg_sq")  # AdamW's state of each parameter

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class PretrainSettings:
    """The size of the model and of its training.

    Attributes:
        length: Bytes of an episode, BOS included; also the model's context.
        rows: Episodes of a step.
        peak_rate: AdamW's learning rate after the warm-up.
        warmup_steps: Steps over which the learning rate rises to its peak.
        steps: Where the schedule ends; None ends it with the minutes that are given.
        width: Hidden size.
        layers: Number of layers.
        heads: Attention heads of a layer.
        mlp_width: Hidden size of a layer's MLP.
        workers: Processes that make batches; their number does not change what is learned.
        checkpoint_s: Seconds between checkpoints.
        report_steps: Steps between two reports of the loss.
    """

    length: int = 512
    rows: int = 512
    peak_rate: float = 1.5e-3
    warmup_steps: int = 300
    steps: int | None = None
    width: int = 256
    layers: int = 8
    heads: int = 4
    mlp_width: int = 704
    workers: int = 14
    checkpoint_s: float = 120.0
    report_steps: int = 50


RECIPE = PretrainSettings()
DRY_RUN = PretrainSettings(
    length=128,
    rows=4,
    warmup_steps=2,
    steps=6,
    width=32,
    layers=2,
    heads=2,
    mlp_width=64,
    workers=2,
    checkpoint_s=0.0,
    report_steps=1,
)


@dataclass(frozen=True, slots=True)
class PretrainProgress:
    """One report: the loss is nats per byte of an answer, over one step's rows before its update."""

    step: int
    loss_nats: float
    rate: float
    elapsed_s: float


@dataclass(slots=True)
class _State:
    model: LlamaForCausalLM
    optimiser: torch.optim.AdamW
    step: int = 0
    elapsed_s: float = 0.0


def pretrain(
    output: Path,
    *,
    minutes: float,
    seed: int = 0,
    dry_run: bool = False,
    resume: bool = False,
    report: Callable[[PretrainProgress], None] | None = None,
) -> None:
    """Train the bundled model anew and save it, in bfloat16 and with its tokenizer, in the folder `output`.

    The weights that are shipped took 5 minutes on one H200: 4,032 steps, 1.06 billion bytes. With another duration the
    cosine stretches. Checkpoints go to `<output>.checkpoint` beside the output and are deleted when the model is saved.
    The losses also go to the logger of this module.

    Args:
        output: A folder that does not exist yet.
        minutes: Training time, that before a resumption included; it is not used by a dry run.
        seed: Keys the initial weights and every batch.
        dry_run: Run the same code on a tiny model for a few steps: seconds on a CPU.
        resume: Continue from the checkpoint.
        report: Called every 50 steps (in a dry run: every step).

    Raises:
        ConfigError: The minutes are not positive.
        RunError: The output exists already; or there is a checkpoint without `resume`, none with it, or one of other
            settings.
    """
    if not minutes > 0:
        raise ConfigError(f"minutes is {minutes}; give a positive number")
    settings = DRY_RUN if dry_run else RECIPE
    device = torch.device("cuda" if torch.cuda.is_available() and not dry_run else "cpu")
    checkpoint = output.with_name(f"{output.name}.checkpoint")
    if output.exists():
        raise RunError(f"{output} exists already: name a new folder for the model")
    if checkpoint.exists() and not resume:
        raise RunError(f"{checkpoint} holds an unfinished run: resume it, or delete the folder to begin anew")
    state = _new_state(settings, seed, device)
    if resume:
        _restore(state, checkpoint, settings, seed)
    with batches(seed, settings.rows, settings.length, settings.workers, start=state.step) as stream:
        _train(state, stream, settings, minutes * 60, _Outlets(checkpoint, seed, report))
    _save(state.model, output)
    shutil.rmtree(checkpoint, ignore_errors=True)


@dataclass(frozen=True, slots=True)
class _Outlets:
    """Where training reports to while it runs."""

    checkpoint: Path
    seed: int
    report: Callable[[PretrainProgress], None] | None


def learning_rate(settings: PretrainSettings, step: int, done: float) -> float:
    """The learning rate of a step: a linear warm-up times a cosine from the peak to 3 % of it.

    Args:
        settings: Give the peak and the length of the warm-up.
        step: Steps made before.
        done: How much of the training is over, in [0, 1].

    Example:
        >>> learning_rate(RECIPE, step=300, done=0.0), round(learning_rate(RECIPE, step=4032, done=1.0), 6)
        (0.0015, 4.5e-05)
    """
    warmup = min(1.0, (step + 1) / settings.warmup_steps)
    cosine = 0.5 * (1 + math.cos(math.pi * done))
    return settings.peak_rate * warmup * (cosine * (1 - _LEAST_RATE) + _LEAST_RATE)


def _new_state(settings: PretrainSettings, seed: int, device: torch.device) -> _State:
    config = LlamaConfig(
        vocab_size=256,
        hidden_size=settings.width,
        num_hidden_layers=settings.layers,
        num_attention_heads=settings.heads,
        num_key_value_heads=settings.heads,
        intermediate_size=settings.mlp_width,
        max_position_embeddings=settings.length,
        tie_word_embeddings=True,
        bos_token_id=BOS,
        eos_token_id=0,
        pad_token_id=0,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(keys.key(seed, "pretrain", "weights"))
        model = LlamaForCausalLM(config)
    model.to(device).train()
    optimiser = torch.optim.AdamW(
        model.parameters(),
        lr=settings.peak_rate,
        betas=_BETAS,
        weight_decay=_WEIGHT_DECAY,
        fused=device.type == "cuda",
    )
    return _State(model, optimiser)


def _train(
    state: _State, stream: Iterator[Batch], settings: PretrainSettings, seconds: float, outlets: _Outlets
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
        rate = learning_rate(settings, state.step, done)
        loss = _update(state, forward, next(stream), rate)
        state.step += 1
        state.elapsed_s = time.monotonic() - began
        if state.step % settings.report_steps == 0:
            progress = PretrainProgress(state.step, loss.item(), rate, state.elapsed_s)
            logger.info("step %d: loss %.4f after %.0f s", progress.step, progress.loss_nats, progress.elapsed_s)
            if outlets.report:
                outlets.report(progress)
        if time.monotonic() - saved >= settings.checkpoint_s:
            _save_checkpoint(state, outlets.checkpoint, settings, outlets.seed)
            saved = time.monotonic()


def _update(state: _State, forward: LlamaForCausalLM, batch: Batch, rate: float) -> Float[Tensor, ""]:
    """One step of AdamW on the answers of a batch; the rest of an episode is context only."""
    device = state.model.device
    ids, answers = (torch.from_numpy(part.copy()).to(device) for part in batch)
    ids = ids.long()
    targets = ids.masked_fill(~answers, _IGNORED)[:, 1:]
    with torch.autocast(device.type, torch.bfloat16, enabled=device.type == "cuda"):
        logits = forward(input_ids=ids, use_cache=False).logits[:, :-1].float()
    loss = cross_entropy(logits.flatten(0, 1), targets.flatten(), ignore_index=_IGNORED)
    for group in state.optimiser.param_groups:
        group["lr"] = rate
    state.optimiser.zero_grad()
    loss.backward()
    torch.nn.utils.clip_grad_norm_(state.model.parameters(), 1.0)
    state.optimiser.step()
    return loss.detach()


def _save_checkpoint(state: _State, path: Path, settings: PretrainSettings, seed: int) -> None:
    """Weights and moments in float32, so that the resumed run makes the steps that the straight one makes."""
    weights = {name: parameter.detach() for name, parameter in state.model.named_parameters()}
    moments = {
        f"{moment}/{name}": state.optimiser.state[parameter][moment]
        for name, parameter in state.model.named_parameters()
        for moment in _MOMENTS
    }
    with new_folder(path) as folder:
        save_file(weights, folder / "weights.safetensors")
        save_file(moments, folder / "moments.safetensors")
        made_for = {"seed": seed, "settings": asdict(settings)}
        write_json(folder / "state.json", {**made_for, "step": state.step, "elapsed_s": state.elapsed_s})


def _restore(state: _State, path: Path, settings: PretrainSettings, seed: int) -> None:
    if not path.exists():
        raise RunError(f"{path} does not exist: there is no checkpoint to resume from")
    saved = read_json(path / "state.json")
    if saved.get("seed") != seed or saved.get("settings") != asdict(settings):
        raise RunError(f"{path} belongs to a run of another seed or other settings: resume with those of that run")
    weights = load_file(path / "weights.safetensors")
    moments = load_file(path / "moments.safetensors")
    for name, parameter in state.model.named_parameters():
        with torch.no_grad():
            parameter.copy_(weights[name])
        state.optimiser.state[parameter] = {
            moment: moments[f"{moment}/{name}"].to(parameter.device) for moment in _MOMENTS
        }
    state.step, state.elapsed_s = saved["step"], saved["elapsed_s"]


def _save(model: LlamaForCausalLM, output: Path) -> None:
    with new_folder(output) as folder:
        model.to(torch.bfloat16).save_pretrained(folder)
        for file in sorted(_BUNDLED.glob("tokenizer*.json")):
            shutil.copyfile(file, folder / file.name)
