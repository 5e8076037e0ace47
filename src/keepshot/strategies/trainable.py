"""Which numbers of a model may move: those of some roles, all, those that a pattern names, or an adapter beside them.

A trainable is a value that a config spells and `apply_trainable` carries out. To add one, add a class with `select`
and its entry in `Trainable`.
"""

import re
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Literal, TypeAlias

import torch
from jaxtyping import Float
from peft import PeftModel
from pydantic import BaseModel, ConfigDict, Field, field_validator
from torch import Tensor, nn
from torch.distributed.tensor import DTensor, Replicate, Shard
from torch.utils.hooks import RemovableHandle
from transformers import PreTrainedModel

from keepshot.errors import ConfigError, ModelError
from keepshot.models.load import CausalLM
from keepshot.models.roles import Role, has_tied_head, mask
from keepshot.strategies.adapters import Lora
from keepshot.strategies.knowledge import Prompts
from keepshot.strategies.parts import Mask, Parts, a_few, parts_by_parameter

_STRICT = ConfigDict(frozen=True, extra="forbid")


class Roles(BaseModel):
    """Full training of the numbers that serve some roles; see `keepshot.models.roles`."""

    model_config = _STRICT
    kind: Literal["roles"] = "roles"
    roles: tuple[Role, ...] = Field(default=("value",), min_length=1)

    def select(self, model: PreTrainedModel, seed: int, prompts: Prompts | None) -> tuple[CausalLM, Parts]:
        """The model as it is, and the parts of the roles."""
        parts = parts_by_parameter(model, self.roles)
        if "head" in self.roles and "embed" not in self.roles and has_tied_head(model):
            raise ConfigError("the head of this model is its embedding; add the role embed to train both, or drop head")
        if not parts:
            raise ConfigError(f"this model has no numbers in the roles {', '.join(self.roles)}")
        shapes = {name: parameter.shape for name, parameter in model.named_parameters()}
        return model, {name: mask(parts[name], shapes[name]) for name in shapes if name in parts}


class Everything(BaseModel):
    """Full training of the whole model."""

    model_config = _STRICT
    kind: Literal["everything"] = "everything"

    def select(self, model: PreTrainedModel, seed: int, prompts: Prompts | None) -> tuple[CausalLM, Parts]:
        """The model as it is, and all of its parameters."""
        return model, {name: None for name, _ in model.named_parameters()}


class Pattern(BaseModel):
    """Full training of the parameters whose names a regular expression finds (`re.search`)."""

    model_config = _STRICT
    kind: Literal["pattern"] = "pattern"
    pattern: str = Field(min_length=1)

    @field_validator("pattern")
    @classmethod
    def _compiles(cls, pattern: str) -> str:
        try:
            re.compile(pattern)
        except re.error as error:
            raise ConfigError(f"{pattern!r} is no regular expression: {error}") from error
        return pattern

    def select(self, model: PreTrainedModel, seed: int, prompts: Prompts | None) -> tuple[CausalLM, Parts]:
        """The model as it is, and the parameters that match."""
        names = [name for name, _ in model.named_parameters()]
        parts: Parts = {name: None for name in names if re.search(self.pattern, name)}
        if not parts:
            raise ConfigError(f"pattern {self.pattern!r} matches no parameter; names are like {a_few(names)}")
        return model, parts


Trainable: TypeAlias = Annotated[Roles | Everything | Pattern | Lora, Field(discriminator="kind")]


@dataclass(frozen=True, slots=True, eq=False)
class TrainableSet:
    """A model that is ready to train, and what of it may move.

    Attributes:
        model: The model, wrapped by PEFT where the trainable is an adapter.
        parts: The parameters that may move, by their names in `model`.
        num_parameters: Elements that may move.
        num_total: Elements of `model`, adapter included.
        prompt: A soft prompt that stands before the target's rows, see `soft_prompt`; None is none.
    """

    model: CausalLM
    parts: Parts
    num_parameters: int
    num_total: int
    prompt: Float[Tensor, "tokens width"] | None = None

    @property
    def no_decay_names(self) -> frozenset[str]:
        """Parameters that weight decay must leave alone, since it would move elements that are to stay."""
        return frozenset(name for name, part in self.parts.items() if part is not None)

    def lines(self) -> list[str]:
        """What moves, as text: one line for each name (layers as *), then the total."""
        other_names = _aliases(self.model)
        groups: Counter[tuple[str, str]] = Counter()
        for name, parameter in self.model.named_parameters():
            if name in self.parts:
                moving = _num_moving(parameter, self.parts[name])
                size = f"{moving:,}" + (f" of {parameter.numel():,}" if moving < parameter.numel() else "")
                shown = " = ".join([name, *other_names.get(name, [])])
                groups[re.sub(r"(?<=\.)\d+(?=\.)", "*", shown), size] += 1
        width = max(len(name) for name, _ in groups)
        share = 100 * self.num_parameters / self.num_total
        total = f"{self.num_parameters:,} of {self.num_total:,} numbers move ({share:.3g} %)"
        return [f"{name:<{width}}  {count} x {size}" for (name, size), count in groups.items()] + [total]


def apply_trainable(model: CausalLM, trainable: Trainable, seed: int, prompts: Prompts | None = None) -> TrainableSet:
    """Let the numbers of a trainable move and freeze all others; what moves becomes float32.

    Args:
        model: The base; it is changed in place, and wrapped where the trainable is an adapter.
        trainable: What may move.
        seed: Of the run; adapters start from numbers keyed by it.
        prompts: Makes few-shot prompts as token ids, for a trainable that starts at what they tell; others do not ask.

    Raises:
        ModelError: The model lacks the roles, has an adapter already, or what should move is quantised.
        ConfigError: The trainable matches nothing in this model, does not fit it, or needs prompts.
        RunError: An adapter does not start at the base.

    Example:
        >>> from keepshot.models.load import load_model
        >>> trained = apply_trainable(load_model("mini", device="cpu"), Roles(roles=("value",)), seed=0)
        >>> print(*trained.lines(), sep="\\n")
        model.layers.*.self_attn.v_proj.weight  8 x 65,536
        524,288 of 6,492,416 numbers move (8.08 %)
    """
    if isinstance(model, PeftModel):
        raise ModelError(
            f"{model.name_or_path} has an adapter already; merge it (merge_and_unload) and save the result first"
        )
    wrapped, parts = trainable.select(model, seed, prompts)
    num_parameters = num_total = 0
    for name, parameter in wrapped.named_parameters():
        parameter.requires_grad_(False)
        num_total += parameter.numel()
        if name not in parts:
            continue
        if not parameter.is_floating_point():
            raise ModelError(f"{name} is quantised ({parameter.dtype}) and cannot be trained; use `lora`")
        parameter.data = parameter.data.to(torch.float32)
        parameter.requires_grad_(True)
        num_parameters += _num_moving(parameter, parts[name])
    return TrainableSet(wrapped, parts, num_parameters, num_total)


def register_gradient_masks(model: nn.Module, trained: TrainableSet) -> list[RemovableHandle]:
    """Keep the gradient of part-trained parameters at zero outside their masks, from the next backward pass on.

    Call it after the final wrapping of the model (FSDP2, DDP, compilation), which may replace parameters; hooks stay
    with those they were registered on. An optimizer without weight decay on `TrainableSet.no_decay_names` that treats
    elements one by one (AdamW, SGD, Adafactor) then leaves the masked ones bit-identical.

    Args:
        model: `trained.model`, or what wraps it.
        trained: What may move.

    Returns:
        Handles that remove the hooks.
    """
    parameters = {unwrapped_name(name): parameter for name, parameter in model.named_parameters()}
    return [
        parameters[name].register_post_accumulate_grad_hook(_zero_outside(part))
        for name, part in trained.parts.items()
        if part is not None
    ]


def _zero_outside(part: Mask) -> Callable[[Tensor], None]:
    frozen: Tensor = ~part

    def hook(parameter: Tensor) -> None:
        nonlocal frozen
        gradient = parameter.grad
        assert gradient is not None, "a post-accumulate-grad hook ran without a gradient"
        if frozen.device != gradient.device or isinstance(gradient, DTensor) != isinstance(frozen, DTensor):
            frozen = placed_like(frozen, gradient)
        # Filled, not multiplied: 0 x inf would be NaN and spoil the norm of the whole gradient.
        gradient.masked_fill_(frozen, 0)

    return hook


def placed_like(frozen: Tensor, gradient: Tensor) -> Tensor:
    """The mask on the gradient's device, sharded as it is; axes of length 1 are broadcast and hence replicated."""
    if not isinstance(gradient, DTensor):
        return frozen.to(gradient.device)
    placements = [
        Replicate() if isinstance(placement, Shard) and frozen.shape[placement.dim] == 1 else placement
        for placement in gradient.placements
    ]
    mesh = gradient.device_mesh
    # Every process has the whole mask, so that sharding it takes no communication, which a hook must not do.
    whole = DTensor.from_local(frozen.to(gradient.device), mesh, [Replicate()] * mesh.ndim, run_check=False)
    return whole.redistribute(placements=placements)


def _num_moving(parameter: Tensor, part: Mask | None) -> int:
    return parameter.numel() if part is None else int(part.sum()) * (parameter.numel() // part.numel())


def _aliases(model: nn.Module) -> dict[str, list[str]]:
    """For each parameter that has several names, the others."""
    first = {parameter: name for name, parameter in model.named_parameters()}
    others: dict[str, list[str]] = {}
    for name, parameter in model.named_parameters(remove_duplicate=False):
        if first[parameter] != name:
            others.setdefault(first[parameter], []).append(name)
    return others


def unwrapped_name(name: str) -> str:
    """A parameter's name without what DDP, `torch.compile` and activation checkpointing put into it."""
    return re.sub(r"^module\.", "", re.sub(r"\b(_orig_mod|_checkpoint_wrapped_module)\.", "", name))
