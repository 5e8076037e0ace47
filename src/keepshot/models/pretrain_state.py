"""A model in pretraining, with its optimizers: made by key, kept as checkpoints."""

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor
from transformers import LlamaConfig, LlamaForCausalLM

from keepshot import keys
from keepshot.errors import ConfigError, RunError
from keepshot.files import new_folder, read_json, write_json
from keepshot.models.load import load_model
from keepshot.models.muon import Muon
from keepshot.tasks.universe import BOS
from keepshot.tasks.universe.problems import ProblemShares

# AdamW's betas are those of GPT-3 (arXiv 2005.14165); the rates lie between two that did equally well, the decay is
# that of the bundled model before (LOG.md, 2026-11-27).
_BETAS = (0.9, 0.95)
_WEIGHT_DECAY = 0.05
_SAME = (
    "model_type",
    "num_attention_heads",
    "num_key_value_heads",
    "max_position_embeddings",
    "rope_parameters",
    "rms_norm_eps",
    "hidden_act",
)
"""What a model to start from shares with that of the recipe, beside the shapes of its parameters."""


@dataclass(frozen=True, slots=True)
class ModelSize:
    """How large a model is; about 1.6, 6.5 and 25.7 million parameters in `SIZES`.

    Attributes:
        width: Hidden size.
        mlp_width: Hidden size of a layer's MLP.
        heads: Attention heads of a layer.
        layers: Number of layers.
    """

    width: int
    mlp_width: int
    heads: int
    layers: int = 8


SIZES = {
    "small": ModelSize(width=128, mlp_width=352, heads=4),
    "middle": ModelSize(width=256, mlp_width=704, heads=4),  # the bundled one
    "large": ModelSize(width=512, mlp_width=1408, heads=8),
}


def size_of(name: str) -> ModelSize:
    """The size of that name in `SIZES`.

    Raises:
        ConfigError: There is none.
    """
    if name not in SIZES:
        raise ConfigError(f"there is no size {name!r}; the sizes are: {', '.join(SIZES)}")
    return SIZES[name]


@dataclass(frozen=True, slots=True)
class PretrainSettings:
    """The model and its training.

    Attributes:
        size: Of the model.
        length: Tokens of a row; also the model's context.
        rows: Rows of a step.
        peak_rate: Muon's learning rate of the matrices inside the layers after the warm-up, as AdamW would have it.
        embedding_rate: AdamW's learning rate of the other parameters after the warm-up.
        warmup_steps: Steps over which the learning rates rise to their peak.
        steps: Where the schedule ends; None ends it with the minutes that are given.
        workers: Processes that make batches; their number does not change what is learned.
        checkpoint_s: Seconds between checkpoints.
        report_steps: Steps between two reports of the loss.
        measured_episodes: Of each family, for the model's card.
        start: A model of this size to go on from, such as `mini`; empty draws the weights anew. Rows are keyed by the
            seed: one that was trained by this recipe sees the same again, unless it is another or there are problems.
        problems: Share of rows about problems in the layout of `keepshot.tasks.patterns`, under other rules or written
            otherwise.
        released: Share of rows about problems as the paper's pipeline draws and writes them, likewise.
    """

    size: ModelSize = SIZES["middle"]
    length: int = 1024
    rows: int = 256
    peak_rate: float = 6e-3
    embedding_rate: float = 3e-3
    warmup_steps: int = 200
    steps: int | None = None
    workers: int = 14
    checkpoint_s: float = 120.0
    report_steps: int = 50
    measured_episodes: int = 512
    start: str = ""
    problems: float = 0.0
    released: float = 0.0

    @property
    def shares(self) -> ProblemShares:
        """Of rows about problems."""
        return ProblemShares(self.problems, self.released)


@dataclass(slots=True)
class PretrainState:
    """A model in training, with what its optimizers keep.

    Attributes:
        model: In float32.
        optimisers: One for the matrices inside the layers, one for the rest.
        step: Steps made.
        elapsed_s: Seconds of training, those before a resumption included.
    """

    model: LlamaForCausalLM
    optimisers: tuple[torch.optim.Optimizer, ...]
    step: int = 0
    elapsed_s: float = 0.0

    def moments(self, name: str, parameter: Tensor) -> Iterator[tuple[str, Tensor]]:
        """What an optimizer keeps of one parameter, under names that no other parameter has."""
        for optimiser in self.optimisers:
            if parameter in optimiser.state:
                for moment, value in optimiser.state[parameter].items():
                    yield f"{moment}/{name}", value


def new_state(settings: PretrainSettings, seed: int, device: torch.device) -> PretrainState:
    """A model with weights drawn by the seed, or those that it starts from, and fresh optimizers.

    Raises:
        ConfigError: The model to start from is another.
    """
    config = LlamaConfig(
        vocab_size=256,
        hidden_size=settings.size.width,
        num_hidden_layers=settings.size.layers,
        num_attention_heads=settings.size.heads,
        num_key_value_heads=settings.size.heads,
        intermediate_size=settings.size.mlp_width,
        max_position_embeddings=settings.length,
        tie_word_embeddings=True,
        bos_token_id=BOS,
        eos_token_id=0,
        pad_token_id=0,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(keys.key(seed, "pretrain", "weights"))
        model = LlamaForCausalLM(config)
    if settings.start:
        source = load_model(settings.start, device="cpu", dtype=torch.float32)
        weights, own = source.state_dict(), model.state_dict()
        if {name: tensor.shape for name, tensor in weights.items()} != {name: t.shape for name, t in own.items()}:
            raise ConfigError(f"{settings.start} has other parameters than the size that is asked for: {settings.size}")
        for name in _SAME:  # other numbers of heads can have the same shapes
            theirs, ours = (getattr(one, name, None) for one in (source.config, config))
            if theirs != ours:
                raise ConfigError(f"{settings.start} has {name} {theirs}, and the size that is asked for {ours}")
        model.load_state_dict(weights)
    model.to(device).train()
    return PretrainState(model, _optimisers(model, settings))


def _optimisers(model: LlamaForCausalLM, settings: PretrainSettings) -> tuple[torch.optim.Optimizer, ...]:
    """Muon for the matrices inside the layers, AdamW for embedding and norms."""
    inside = [parameter for name, parameter in model.named_parameters() if ".layers." in name and parameter.ndim == 2]
    chosen = set(inside)
    others = [parameter for parameter in model.parameters() if parameter not in chosen]
    fused = model.device.type == "cuda"
    return (
        Muon(inside, lr=settings.peak_rate, weight_decay=_WEIGHT_DECAY),
        torch.optim.AdamW(others, lr=settings.embedding_rate, betas=_BETAS, weight_decay=_WEIGHT_DECAY, fused=fused),
    )


@dataclass(frozen=True, slots=True)
class MadeFor:
    """The run that a checkpoint belongs to: its settings, its seed, and its minutes where these end the schedule."""

    settings: PretrainSettings
    seed: int
    minutes: float | None


def save_checkpoint(state: PretrainState, path: Path, made_for: MadeFor) -> None:
    """Weights and moments in float32: a resumed run makes the steps that the straight one makes.

    But where minutes end the schedule, since then the rates follow the clock.
    """
    named = dict(state.model.named_parameters())
    weights = {name: parameter.detach() for name, parameter in named.items()}
    moments = {key: value for name, parameter in named.items() for key, value in state.moments(name, parameter)}
    with new_folder(path) as folder:
        save_file(weights, folder / "weights.safetensors")
        save_file(moments, folder / "moments.safetensors")
        write_json(folder / "state.json", {**asdict(made_for), "step": state.step, "elapsed_s": state.elapsed_s})


_FREE = {"workers", "checkpoint_s", "report_steps", "measured_episodes"}
"""Settings that change nothing of what is learned: a run may go on elsewhere, and be measured there."""


def _changed(saved: Mapping[str, Any], wanted: Mapping[str, Any]) -> list[str]:
    """What a run differs in, settings by their own names."""
    own, others = (
        {**{name: value for name, value in made_for["settings"].items() if name not in _FREE}, **rest}
        for made_for, rest in ((one, {n: one.get(n) for n in ("seed", "minutes")}) for one in (wanted, saved))
    )
    return [name for name, value in own.items() if others.get(name) != value]


def restore(state: PretrainState, path: Path, made_for: MadeFor) -> None:
    """Continue from a checkpoint: the state is that of the run which wrote it.

    Raises:
        RunError: There is none, or it is of another run.
    """
    if not path.exists():
        raise RunError(f"{path} does not exist: there is no checkpoint to resume from")
    saved = read_json(path / "state.json")
    if changed := _changed(saved, asdict(made_for)):
        raise RunError(f"{path} belongs to a run with other {', '.join(changed)}: resume with those of that run")
    weights = load_file(path / "weights.safetensors")
    moments = load_file(path / "moments.safetensors")
    for name, parameter in state.model.named_parameters():
        with torch.no_grad():
            parameter.copy_(weights[name])
        kept = {key.partition("/")[0]: value for key, value in moments.items() if key.partition("/")[2] == name}
        for optimiser in state.optimisers:
            if any(parameter is own for group in optimiser.param_groups for own in group["params"]):
                optimiser.state[parameter] = {moment: value.to(parameter.device) for moment, value in kept.items()}
    state.step, state.elapsed_s = saved["step"], saved["elapsed_s"]
