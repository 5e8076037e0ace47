"""From a base to what was tuned from it: (1 - a) base + a tuned, with one a for all numbers or one per group of roles.

| symbol | here |
|---|---|
| theta_0, theta | the base, the tuned model |
| alpha | `coefficients`: 0 is the base, 1 the tuned model |
| B A | a LoRA adapter: its B is multiplied by alpha, W + alpha (scale B A) = (1 - alpha) W + alpha (W + scale B A) |

Reference:
    WiSE-FT, arXiv 2109.01903, equation 1; a coefficient per group of roles is ours.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Literal, TypeAlias

import torch
from jaxtyping import Float
from peft import PeftModel, get_peft_model_state_dict
from peft.tuners.lora import LoraLayer
from torch import Tensor, nn
from transformers import PreTrainedModel

from keepshot.errors import ModelError
from keepshot.models.load import CausalLM, attach_adapter, base_dtype, detach_adapter, load_model, quiet
from keepshot.models.roles import FAMILIES, Part, Role, mask, roles
from keepshot.models.source import adapter_base, base_name

Group = Literal["query+key", "value+output", "mlp", "rest", "all"]
GROUPS: Mapping[Group, tuple[Role, ...]] = {
    "query+key": ("query", "key"),
    "value+output": ("value", "output"),
    "mlp": ("mlp",),
    "rest": ("norm", "embed", "head"),
}
"""The roles that share a coefficient; a model without roles has the one group `all`."""

Coefficients: TypeAlias = float | Mapping[Group, float]
"""One for all groups, or one for each."""

# The same numbers through the same code; an adapter adds an exact zero.
_SAME_LOGITS = 1e-5
_PROBE_TOKENS = 32


@dataclass(frozen=True, slots=True)
class _Share:
    """The numbers of a parameter that have one coefficient."""

    group: Group
    part: Part


_Shares: TypeAlias = Mapping[str, Sequence[_Share]]
"""Parameter name in the base -> its shares, which together are the whole."""


class Interpolation:
    """Everything between a base and a model or LoRA adapter that was tuned from it.

    At most two models are in memory: the base, and the one that `at` makes. Full weights are loaded anew for every
    point, since a point cannot be undone; an adapter is put on the base and taken off again.

    Attributes:
        base: The base model; while `at` runs on an adapter, it carries it.
        groups: Those whose numbers were tuned, in the order of `GROUPS`.
        is_adapter: Whether an adapter was tuned.
        dtype: In which points are stored; `at` rounds full weights to it, so that a saved point is the same model.

    Args:
        base: `mini`, a folder, or a hub id; no adapter.
        tuned: A model of the same architecture and size, or a LoRA adapter on the base.

    Raises:
        ModelError: One cannot be loaded, they do not fit each other, they are equal, or the adapter is no plain LoRA.
    """

    def __init__(self, base: str, tuned: str) -> None:
        on = adapter_base(tuned)
        if on is not None and on != base_name(base):
            raise ModelError(f"{tuned} is an adapter on {on}, not on {base}; name {on} as the base")
        self.is_adapter = on is not None
        self.dtype = torch.promote_types(base_dtype(base), base_dtype(tuned))
        model = load_model(base)
        if isinstance(model, PeftModel):
            raise ModelError(f"{base} is an adapter; name the model that it was tuned from")
        self.base = model if model.device.type == "cpu" else model.to(self.dtype)
        self._tuned = tuned
        self._shares = _shares(self.base)
        expected = _probe(self.base)
        with self._loaded() as model:
            self.groups = _changed(model, self.base, self._shares)
            if not self.groups:
                raise ModelError(f"{tuned} is equal to {base}, number for number; there is nothing to go back on")
            self._go(model, dict.fromkeys(self.groups, 0.0))
            difference = (_probe(model) - expected).abs().max()
        if not difference <= _SAME_LOGITS * expected.abs().max():
            raise ModelError(
                f"{tuned} does not start at {base}: with its weights it computes something else (by {difference:.2g}). "
                "Either their configs differ, or the adapter rewrites weights of the base (PiSSA, CorDA, OLoRA); "
                "merge such an adapter first (PEFT's merge_and_unload)"
            )

    @contextmanager
    def at(self, coefficients: Coefficients) -> Iterator[CausalLM]:
        """The model at a point: at 0 the base's numbers, at 1 the tuned model's, exactly.

        Args:
            coefficients: One for all groups, or one for each of `groups`.

        Example:
            >>> import tempfile
            >>> changed = load_model("mini", device="cpu")
            >>> _ = changed.model.norm.weight.data.mul_(2)
            >>> with tempfile.TemporaryDirectory() as folder:
            ...     changed.save_pretrained(folder)
            ...     between = Interpolation("mini", folder)
            ...     with between.at(0.5) as model:
            ...         scale = model.model.norm.weight / between.base.model.norm.weight
            >>> between.groups, scale.unique().tolist()
            (('rest',), [1.5])
        """
        by_group = dict.fromkeys(self.groups, coefficients) if isinstance(coefficients, float) else dict(coefficients)
        assert set(by_group) == set(self.groups), f"coefficients are for {self.groups}, not for {tuple(by_group)}"
        with self._loaded() as model:
            self._go(model, by_group)
            yield model

    @contextmanager
    def _loaded(self) -> Iterator[CausalLM]:
        if not self.is_adapter:
            yield load_model(self._tuned, dtype=self.base.dtype)
            return
        adapted = attach_adapter(self.base, self._tuned)
        try:
            yield adapted
        finally:
            self.base = detach_adapter(adapted)

    def _go(self, model: CausalLM, by_group: Mapping[Group, float]) -> None:
        """From the tuned model to a point."""
        coefficients = dict.fromkeys((*GROUPS, "all"), 1.0) | dict(by_group)
        with torch.no_grad():
            if isinstance(model, PeftModel):
                self._scale(model, coefficients)
            else:
                self._interpolate(model, coefficients)

    def _scale(self, model: PeftModel, coefficients: Mapping[Group, float]) -> None:
        for path, layer in lora_layers(model):
            factor = _factor(_shares_of(path, self._shares), coefficients)
            for matrix in _matrices_b(layer):
                matrix.mul_(factor.to(matrix.device, matrix.dtype).view(-1, *[1] * (matrix.dim() - 1)))

    def _interpolate(self, model: PreTrainedModel, coefficients: Mapping[Group, float]) -> None:
        start = dict(self.base.named_parameters())
        for name, end in model.named_parameters():
            shares = self._shares[name]
            factor = _factor(shares, coefficients).to(end.device)
            if factor.dim():
                factor = factor.view([-1 if dim == shares[0].part.axis else 1 for dim in range(end.dim())])
            # In float32: between two 16-bit numbers that lie side by side there is nothing. `lerp` is exact at 0 and 1.
            between = torch.lerp(start[name].float(), end.float(), factor)
            end.copy_(between.to(self.dtype))


def pull_back(model: CausalLM, base: str, coefficient: float) -> None:
    """Bring a tuned model in memory to (1 - a) base + a tuned; of an adapter the update is scaled.

    Numbers that equal the base's stay so, bit for bit.

    Args:
        model: Changed in place.
        base: What it was tuned from; read where the model is no adapter.
        coefficient: a.
    """
    with torch.no_grad():
        if isinstance(model, PeftModel):
            for matrix in (matrix for _, layer in lora_layers(model) for matrix in _matrices_b(layer)):
                matrix.mul_(coefficient)
            return
        start = dict(load_model(base, dtype=base_dtype(base), device="cpu").named_parameters())
        for name, end in model.named_parameters():
            before, after = start[name].float(), end.cpu().float()
            # Where nothing moved, a sum would make +0 of a -0.
            end.copy_(torch.where(before == after, before, torch.lerp(before, after, coefficient)))


def _shares(base: PreTrainedModel) -> _Shares:
    if base.config.model_type not in FAMILIES:
        return {name: (_Share("all", Part(name)),) for name, _ in base.named_parameters()}
    by_role = roles(base)
    found: dict[str, list[_Share]] = {}
    for group, members in GROUPS.items():
        for part in (part for role in members for part in by_role[role]):
            found.setdefault(part.parameter, []).append(_Share(group, part))
    return found


def _shares_of(path: str, shares: _Shares) -> Sequence[_Share]:
    """Those of a module's weight; a head that is tied to the embedding has none of its own and goes with it."""
    whole = [share for of_name in shares.values() for share in of_name if share.group in ("rest", "all")]
    return shares.get(f"{path}.weight") or whole[:1]


def _factor(shares: Sequence[_Share], coefficients: Mapping[Group, float]) -> Float[Tensor, "..."]:
    """The coefficient of every position along the axis that is shared out; a single number where none is."""
    spans = [(span, coefficients[share.group]) for share in shares for span in share.part.spans or ()]
    if not spans:
        return torch.tensor(coefficients[shares[0].group])
    factor = torch.zeros(max(span.stop for span, _ in spans))
    for span, coefficient in spans:
        factor[span.start : span.stop] = coefficient
    return factor


def _changed(tuned: CausalLM, base: PreTrainedModel, shares: _Shares) -> tuple[Group, ...]:
    """The groups whose numbers were tuned."""
    if isinstance(tuned, PeftModel):
        found = _changed_by_adapter(tuned, shares)
    else:
        found = _changed_in_place(tuned, base, shares)
    return tuple(group for group in (*GROUPS, "all") if group in found)


def _changed_in_place(tuned: PreTrainedModel, base: PreTrainedModel, shares: _Shares) -> set[Group]:
    start, end = dict(base.named_parameters()), dict(tuned.named_parameters())
    for name in {**start, **end}:
        here, there = (tuple(part[name].shape) if name in part else "missing" for part in (start, end))
        if here != there:
            raise ModelError(
                f"{tuned.name_or_path} is not tuned from {base.name_or_path}: {name} is {there} there and {here} here; "
                "both must have one architecture, one size and one vocabulary"
            )
        if not end[name].is_floating_point():
            raise ModelError(f"{name} is quantised ({end[name].dtype}); nothing lies between quantised weights")
    found: set[Group] = set()
    for name, of_name in shares.items():
        moved = start[name] != end[name]
        for share in of_name:
            part = mask([share.part], moved.shape)
            if (moved if part is None else moved & part.to(moved.device)).any():
                found.add(share.group)
    return found


def _changed_by_adapter(tuned: PeftModel, shares: _Shares) -> set[Group]:
    others = [name for name in get_peft_model_state_dict(tuned, save_embedding_layers=False) if not _PLAIN.search(name)]
    if others:
        raise ModelError(
            f"the adapter holds {others[0]}, which is not A or B of a plain LoRA, so that scaling it does not lead to "
            "the base in a straight line; merge it into the base (PEFT's merge_and_unload) and name the merged model"
        )
    found: set[Group] = set()
    for path, layer in lora_layers(tuned):
        moved = torch.stack([matrix.flatten(1).any(dim=1) for matrix in _matrices_b(layer) if matrix.dim() > 1]).any(0)
        for share in _shares_of(path, shares):
            spans = share.part.spans or (range(len(moved)),)
            if any(moved[span.start : span.stop].any() for span in spans):
                found.add(share.group)
    return found


_PLAIN = re.compile(r"\.lora_(embedding_)?[AB](\.|$)")


def lora_layers(model: PeftModel) -> Iterator[tuple[str, LoraLayer]]:
    """The layers with a LoRA adapter, by their paths in the base."""
    for path, module in model.get_base_model().named_modules():
        if isinstance(module, LoraLayer):
            yield path, module


def _matrices_b(layer: LoraLayer) -> list[nn.Parameter]:
    """B, whose rows are output features, and its bias where it has one."""
    [adapter] = layer.active_adapters
    if adapter in layer.lora_embedding_B:
        return [layer.lora_embedding_B[adapter]]
    return list(layer.lora_B[adapter].parameters())


def _probe(model: CausalLM) -> Float[Tensor, "1 tokens vocab"]:
    """Logits of a few arbitrary tokens."""
    vocabulary = model.get_input_embeddings().weight.shape[0]
    ids = torch.arange(_PROBE_TOKENS, device=model.device)[None] * 7 % vocabulary
    with torch.no_grad(), quiet():  # one of them may be the padding token
        return model(input_ids=ids, use_cache=False).logits.float()
