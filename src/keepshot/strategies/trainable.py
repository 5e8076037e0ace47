"""Which numbers of a model may move: those of some roles, all, those that a pattern names, or an adapter beside them.

A trainable is a value that a config spells and `apply_trainable` carries out. To add one, add a class with `select`
and its entry in `Trainable`.
"""

import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Literal, TypeAlias, get_args

import torch
from jaxtyping import Bool
from peft import LoraConfig, PeftModel, get_peft_model
from peft.utils import TRANSFORMERS_MODELS_TO_LORA_TARGET_MODULES_MAPPING as PEFT_TARGETS
from pydantic import BaseModel, ConfigDict, Field, PositiveFloat, PositiveInt, field_validator
from torch import Tensor, nn
from torch.distributed.tensor import DTensor, Replicate, Shard
from torch.utils.hooks import RemovableHandle
from transformers import PreTrainedModel
from transformers.pytorch_utils import Conv1D

from keepshot.errors import ConfigError, ModelError
from keepshot.keys import key
from keepshot.models.load import CausalLM, peft_warnings
from keepshot.models.roles import FAMILIES, Part, Role, has_tied_head, mask, module_of, roles

Mask: TypeAlias = Bool[Tensor, "..."]
Parts: TypeAlias = dict[str, Mask | None]
"""Parameter name -> mask of the elements that may move (broadcasts to the parameter), or None for all of them."""

LoraRole = Literal["query", "key", "value", "output", "mlp"]
LORA_ROLES: tuple[LoraRole, ...] = get_args(LoraRole)
_DEFAULT_TARGETS = ("query", "value")
_STRICT = ConfigDict(frozen=True, extra="forbid")


class Roles(BaseModel):
    """Full training of the numbers that serve some roles; see `keepshot.models.roles`."""

    model_config = _STRICT
    kind: Literal["roles"] = "roles"
    roles: tuple[Role, ...] = Field(default=("value",), min_length=1)

    def select(self, model: PreTrainedModel, seed: int) -> tuple[CausalLM, Parts]:
        """The model as it is, and the parts of the roles."""
        parts = _parts_by_parameter(model, self.roles)
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

    def select(self, model: PreTrainedModel, seed: int) -> tuple[CausalLM, Parts]:
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

    def select(self, model: PreTrainedModel, seed: int) -> tuple[CausalLM, Parts]:
        """The model as it is, and the parameters that match."""
        names = [name for name, _ in model.named_parameters()]
        parts: Parts = {name: None for name in names if re.search(self.pattern, name)}
        if not parts:
            raise ConfigError(f"pattern {self.pattern!r} matches no parameter; names are like {_a_few(names)}")
        return model, parts


class Lora(BaseModel):
    """Low-rank matrices beside frozen weights: W + (alpha / r) B A, where B starts at zero.

    Where a family fuses query, key and value, an adapter for some of them is put on the fused module, and the rows of B
    that serve the others stay zero: after a merge those rows of W are still the base's, bit for bit.

    Attributes:
        r: Rank.
        alpha: Scale: the update counts alpha / r times.
        dropout: Share of the adapter's inputs that are dropped in training.
        targets: Roles out of query, key, value, output and mlp; or ends of module paths such as `q_proj`; or
            `all-linear`. On a model type without roles, the default takes PEFT's modules for it, else all linear ones.

    Reference:
        arXiv:2106.09685. r, alpha and dropout are keepshot's `lora` baseline.
    """

    model_config = _STRICT
    kind: Literal["lora"] = "lora"
    r: PositiveInt = 16
    alpha: PositiveInt | PositiveFloat = 32
    dropout: float = Field(default=0.05, ge=0, lt=1)
    targets: Literal["all-linear"] | tuple[str, ...] = _DEFAULT_TARGETS

    @field_validator("targets")
    @classmethod
    def _one_kind(cls, targets: str | tuple[str, ...]) -> str | tuple[str, ...]:
        if isinstance(targets, str):
            return targets
        if not targets:
            raise ConfigError("LoRA needs at least one target")
        named = [target for target in targets if target in get_args(Role)]
        if wrong := [role for role in named if role not in LORA_ROLES]:
            raise ConfigError(f"LoRA cannot train the role {wrong[0]}; use {', '.join(LORA_ROLES)}")
        if named and len(named) < len(targets):
            raise ConfigError("name either roles or modules, not both")
        return targets

    def select(self, model: PreTrainedModel, seed: int) -> tuple[CausalLM, Parts]:
        """The model with a fresh adapter, whose first numbers are keyed by `seed`, and the adapter's parameters."""
        targets, rows = self._modules(model)
        config = LoraConfig(
            task_type="CAUSAL_LM",
            r=self.r,
            lora_alpha=self.alpha,
            lora_dropout=self.dropout,
            target_modules=targets,
            fan_in_fan_out=any(isinstance(module, Conv1D) for module in model.modules()),
        )
        with torch.random.fork_rng(devices=[]), peft_warnings():
            # PEFT draws on the CPU, whatever the model's device.
            torch.default_generator.manual_seed(key(seed, "lora"))
            wrapped = get_peft_model(model, config)
        moving = [name for name, parameter in wrapped.named_parameters() if parameter.requires_grad]
        return wrapped, {name: _rows_of_b(name, rows) for name in moving}

    def _modules(self, model: PreTrainedModel) -> tuple[list[str] | str, Mapping[str, Mask]]:
        """PEFT's `target_modules`, and for each fused module the mask of its output features."""
        model_type = model.config.model_type
        if isinstance(self.targets, str):
            return self.targets, {}
        if set(self.targets) <= set(LORA_ROLES):
            if model_type not in FAMILIES and self.targets == _DEFAULT_TARGETS:
                return PEFT_TARGETS.get(model_type, "all-linear"), {}
            wanted: tuple[Role, ...] = tuple(role for role in LORA_ROLES if role in self.targets)
            return _role_modules(model, wanted)
        linear = [path for path, module in model.named_modules() if isinstance(module, nn.Linear | Conv1D)]
        for target in self.targets:
            if not any(_is_end(target, path) for path in linear):
                raise ConfigError(
                    f"LoRA target {target!r} ends no linear module's name; they are like {_a_few(linear)}"
                )
        return list(self.targets), {}


Trainable: TypeAlias = Annotated[Roles | Everything | Pattern | Lora, Field(discriminator="kind")]


@dataclass(frozen=True, slots=True, eq=False)
class TrainableSet:
    """A model that is ready to train, and what of it may move.

    Attributes:
        model: The model, wrapped by PEFT where the trainable is an adapter.
        parts: The parameters that may move, by their names in `model`.
        num_parameters: Elements that may move.
        num_total: Elements of `model`, adapter included.
    """

    model: CausalLM
    parts: Parts
    num_parameters: int
    num_total: int

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


def apply_trainable(model: CausalLM, trainable: Trainable, seed: int) -> TrainableSet:
    """Let the numbers of a trainable move and freeze all others; what moves becomes float32.

    Args:
        model: The base; it is changed in place, and wrapped where the trainable is an adapter.
        trainable: What may move.
        seed: Of the run; adapters start from numbers keyed by it.

    Raises:
        ModelError: The model lacks the roles, has an adapter already, or what should move is quantised.
        ConfigError: The trainable matches nothing in this model.

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
    wrapped, parts = trainable.select(model, seed)
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
    parameters = {_unwrapped(name): parameter for name, parameter in model.named_parameters()}
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
            frozen = _placed_like(frozen, gradient)
        # Filled, not multiplied: 0 x inf would be NaN and spoil the norm of the whole gradient.
        gradient.masked_fill_(frozen, 0)

    return hook


def _placed_like(frozen: Tensor, gradient: Tensor) -> Tensor:
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


def _role_modules(model: PreTrainedModel, wanted: Sequence[Role]) -> tuple[list[str], Mapping[str, Mask]]:
    """The modules whose weights serve some roles, and the masks of the output features of those that are fused."""
    rows: dict[str, Mask | None] = {}
    for name, parts in _parts_by_parameter(model, wanted).items():
        if name.endswith(".weight"):
            covered = mask(parts, model.get_parameter(name).shape)
            rows[module_of(name)] = None if covered is None else covered.flatten()
    others = [path for path, _ in model.named_modules() if path not in rows]
    targets = sorted({_own_end(path, others) for path in rows})
    return targets, {path: covered for path, covered in rows.items() if covered is not None}


def _own_end(path: str, others: Sequence[str]) -> str:
    """The shortest end of a module's path that no other module has: `c_proj` of an MLP is also one of the attention."""
    components = path.split(".")
    ends = (".".join(components[start:]) for start in reversed(range(len(components))))
    return next(end for end in ends if not any(_is_end(end, other) for other in others))


def _parts_by_parameter(model: PreTrainedModel, wanted: Sequence[Role]) -> dict[str, list[Part]]:
    found: dict[str, list[Part]] = {}
    by_role = roles(model)
    for role in dict.fromkeys(wanted):
        for part in by_role[role]:
            found.setdefault(part.parameter, []).append(part)
    return found


def _rows_of_b(name: str, rows: Mapping[str, Mask]) -> Mask | None:
    """The mask of a LoRA parameter: the rows of B that serve the wanted roles; None for A, and where all of B moves."""
    found = re.fullmatch(r"base_model\.model\.(.+)\.lora_B\.default\.weight", name)
    covered = rows.get(found[1]) if found else None
    return None if covered is None else covered[:, None]


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


def _unwrapped(name: str) -> str:
    """A parameter's name without what DDP, `torch.compile` and activation checkpointing put into it."""
    return re.sub(r"^module\.", "", re.sub(r"\b(_orig_mod|_checkpoint_wrapped_module)\.", "", name))


def _is_end(target: str, path: str) -> bool:
    return path == target or path.endswith(f".{target}")


def _a_few(names: Sequence[str]) -> str:
    shown = dict.fromkeys(re.sub(r"(?<=\.)\d+(?=\.)", "0", name) for name in names)
    return ", ".join(list(shown)[:4]) + (", …" if len(shown) > 4 else "")
