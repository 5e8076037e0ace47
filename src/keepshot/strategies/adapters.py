"""Low-rank adapters beside frozen weights, through PEFT: LoRA, DoRA, and CorDA's start.

| symbol | here |
|---|---|
| W | the base's weight, which no adapter rewrites |
| A, B | PEFT's `lora_A` [rank, in] and `lora_B` [out, rank] |
| A_0, B_0 | where A and B start, in the frozen second half of each |
| m | DoRA's `lora_magnitude_vector` [out] |
"""

import re
from collections.abc import Mapping, Sequence
from typing import Literal, get_args

import torch
from peft import LoraConfig, PeftModel, get_peft_model
from peft.tuners.lora import LoraLayer
from peft.utils import TRANSFORMERS_MODELS_TO_LORA_TARGET_MODULES_MAPPING as PEFT_TARGETS
from peft.utils.integrations import dequantize_module_weight
from peft.utils.other import transpose
from pydantic import BaseModel, ConfigDict, Field, PositiveFloat, PositiveInt, field_validator, model_validator
from torch import Tensor, nn
from transformers import PreTrainedModel
from transformers.pytorch_utils import Conv1D

from keepshot.errors import ConfigError
from keepshot.keys import key
from keepshot.models.interpolate import lora_layers
from keepshot.models.load import CausalLM, peft_warnings
from keepshot.models.roles import FAMILIES, Role, mask, module_of
from keepshot.strategies.knowledge import Prompts, check_step_0, covariances, least_used
from keepshot.strategies.parts import Mask, Parts, a_few, parts_by_parameter

LoraRole = Literal["query", "key", "value", "output", "mlp"]
LORA_ROLES: tuple[LoraRole, ...] = get_args(LoraRole)
_DEFAULT_TARGETS = ("query", "value")
_ADAPTER = "default"
NUM_PROMPTS = 256
_PARAMETER = re.compile(r"base_model\.model\.(.+)\.lora_(A|B|magnitude_vector)\.default\.weight")


class Lora(BaseModel):
    """Low-rank matrices beside frozen weights: W + (alpha / r) B A, where B starts at zero.

    Where a family fuses query, key and value, an adapter for some of them is put on the fused module, and the rows of B
    that serve the others stay zero: after a merge those rows of W are still the base's, bit for bit (with `dora`: to
    rounding, since PEFT computes m / |W| anew).

    With `start: corda`, A and B start at A_0 and B_0, the r components of W that few-shot prompts use least, and what
    is computed is W + (alpha / r) (B A - B_0 A_0). CorDA writes W - (alpha / r) B_0 A_0 into the base; here that term
    is the frozen half of an adapter of rank 2 r, so that the base stays what it is, the model starts at it, and what is
    saved is a plain LoRA.

    Attributes:
        r: Rank.
        alpha: Scale: the update counts alpha / r times.
        dropout: Share of the adapter's inputs that are dropped in training.
        targets: Roles out of query, key, value, output and mlp; or ends of module paths such as `q_proj`; or
            `all-linear`. On a model type without roles, the default takes PEFT's modules for it, else all linear ones.
        dora: Train the length m of every row of W apart from its direction: m (W + (alpha / r) B A) / |W + ...|.
        start: `zero`: A is random, B is zero. `corda`: the least used components.
        prompts: How many few-shot prompts `corda` looks at; None is 256.

    Reference:
        arXiv:2106.09685; r, alpha and dropout are keepshot's `lora` baseline. DoRA: arXiv:2402.09353. CorDA: arXiv:
        2406.05223, knowledge-preserved adaptation, with the covariance of few-shot prompts instead of questions; 256
        samples as there.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")
    kind: Literal["lora"] = "lora"
    r: PositiveInt = 16
    alpha: PositiveInt | PositiveFloat = 32
    dropout: float = Field(default=0.05, ge=0, lt=1)
    targets: Literal["all-linear"] | tuple[str, ...] = _DEFAULT_TARGETS
    dora: bool = False
    start: Literal["zero", "corda"] = "zero"
    prompts: PositiveInt | None = None

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

    @model_validator(mode="after")
    def _fits(self) -> "Lora":
        if self.dora and self.start != "zero":
            raise ConfigError(f"LoRA takes dora or start: {self.start}, not both; leave one out")
        if self.prompts is not None and self.start == "zero":
            raise ConfigError("LoRA looks at prompts with start: corda alone; add that or leave prompts out")
        return self

    @property
    def needs_prompts(self) -> bool:
        """Whether the adapter starts at something that few-shot prompts tell."""
        return self.start != "zero"

    def select(self, model: PreTrainedModel, seed: int, prompts: Prompts | None) -> tuple[CausalLM, Parts]:
        """The model with a fresh adapter, whose first numbers are keyed by `seed`, and the adapter's parameters.

        On the meta device, where there are no numbers, the prompts are not asked for.
        """
        targets, rows = self._modules(model)
        halves = 1 if self.start == "zero" else 2
        config = LoraConfig(
            task_type="CAUSAL_LM",
            r=halves * self.r,
            lora_alpha=halves * self.alpha,
            lora_dropout=self.dropout,
            target_modules=targets,
            fan_in_fan_out=any(isinstance(module, Conv1D) for module in model.modules()),
            use_dora=self.dora,
        )
        with torch.random.fork_rng(devices=[]), peft_warnings():
            # PEFT draws on the CPU, whatever the model's device.
            torch.default_generator.manual_seed(key(seed, "lora"))
            wrapped = get_peft_model(model, config)
        wrapped.train(model.training)  # PEFT's own layers start in training mode, with dropout
        moving = [name for name, parameter in wrapped.named_parameters() if parameter.requires_grad]
        if self.start == "corda":
            self._start_at_least_used(wrapped, rows, prompts)
        if self.dora and model.device.type != "meta":
            for _, layer in lora_layers(wrapped):
                _measure(layer)
        return wrapped, {name: self._mask(name, rows) for name in moving}

    def _mask(self, name: str, rows: Mapping[str, Mask]) -> Mask | None:
        """What of a parameter may move: not the frozen half, nor rows of a fused module that serve other roles."""
        found = _PARAMETER.fullmatch(name)
        if not found:
            return None
        path, matrix = found.groups()
        covered = rows.get(path)
        half = None if self.start == "zero" else torch.arange(2 * self.r) < self.r
        if matrix == "A":
            return None if half is None else half[:, None]
        if covered is None or matrix == "magnitude_vector":
            return covered if half is None else half[None]
        return covered[:, None] if half is None else covered[:, None] & half

    def _start_at_least_used(self, model: PeftModel, rows: Mapping[str, Mask], prompts: Prompts | None) -> None:
        layers = dict(lora_layers(model))
        for path, layer in layers.items():
            covered = rows.get(path)
            num_rows = layer.out_features if covered is None else int(covered.sum())
            if self.r > min(num_rows, layer.in_features):
                raise ConfigError(
                    f"LoRA with start: corda cannot take {self.r} components of {path}, which has "
                    f"{min(num_rows, layer.in_features)}; set a smaller r"
                )
        if model.device.type == "meta":
            return
        if prompts is None:
            raise ConfigError("LoRA with start: corda needs few-shot prompts; pass prompts to apply_trainable")
        asked = prompts(self.prompts or NUM_PROMPTS)
        found = covariances(model, layers, asked)
        for path, layer in layers.items():
            weight = _weight(layer)
            covered = rows.get(path, torch.ones(len(weight), dtype=torch.bool)).to(weight.device)
            a, b = least_used(weight[covered], found.pop(path), self.r)
            a, b = (part / layer.scaling[_ADAPTER] ** 0.5 for part in (a, b))
            with torch.no_grad():
                layer.lora_A[_ADAPTER].weight.copy_(torch.cat([a, a]))
                layer.lora_B[_ADAPTER].weight[covered] = torch.cat([b, -b], dim=1).to(torch.float32)
        check_step_0(model, asked[0])

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
                raise ConfigError(f"LoRA target {target!r} ends no linear module's name; they are like {a_few(linear)}")
        return list(self.targets), {}


def tensors_to_save(model: PeftModel, parts: Parts) -> dict[str, Tensor] | None:
    """What to hand to `PeftModel.save_pretrained` as `state_dict`; None where the adapter is saved as it is.

    B A - B_0 A_0 is the difference of two nearly equal products: rounded to 16 bits, as servers do, little of it would
    be right. It is written as one product with orthogonal columns and rows instead, equal in float32.
    """
    paired = [name for name, part in parts.items() if part is not None and ".lora_A." in name]
    if not paired:
        return None
    tensors = model.state_dict()
    for name_a in paired:
        name_b = name_a.replace(".lora_A.", ".lora_B.")
        a, b = tensors[name_a], tensors[name_b]
        left, upper = torch.linalg.qr(b.cpu().double())
        right, lower = torch.linalg.qr(a.cpu().double().mT)
        u, s, vh = torch.linalg.svd(upper @ lower.mT, full_matrices=False)
        new_a, new_b = torch.zeros_like(a), torch.zeros_like(b)  # of more rank than a small matrix has
        new_a[: len(s)] = (s.sqrt()[:, None] * vh @ right.mT).to(a)
        new_b[:, : len(s)] = (left @ u * s.sqrt()).to(b)
        new_b[~b.any(dim=1)] = 0  # rows of a fused module that serve other roles: exactly
        tensors |= {name_a: new_a, name_b: new_b}
    return tensors


def _weight(layer: LoraLayer) -> Tensor:
    """[out, in], in float32."""
    return transpose(dequantize_module_weight(layer.get_base_layer()), layer.fan_in_fan_out).detach().float()


def _measure(layer: LoraLayer) -> None:
    """Let m be |W| in float32, by the arithmetic of the forward pass; PEFT rounds it to the base's dtype."""
    magnitude = layer.lora_magnitude_vector[_ADAPTER]
    with torch.no_grad():
        change = magnitude.get_lora_weight(lora_A=layer.lora_A[_ADAPTER], lora_B=layer.lora_B[_ADAPTER])
        weight = dequantize_module_weight(layer.get_base_layer()).float()
        magnitude.weight.data = magnitude.get_weight_norm(weight, change.float(), layer.scaling[_ADAPTER])


def _role_modules(model: PreTrainedModel, wanted: Sequence[Role]) -> tuple[list[str], Mapping[str, Mask]]:
    """The modules whose weights serve some roles, and the masks of the output features of those that are fused."""
    rows: dict[str, Mask | None] = {}
    for name, parts in parts_by_parameter(model, wanted).items():
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


def _is_end(target: str, path: str) -> bool:
    return path == target or path.endswith(f".{target}")
