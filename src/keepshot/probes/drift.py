"""What a method moved: attention, values, what heads hand on, and weights, between two checkpoints of one model.

    attention   mean over query tokens of the total variation 1/2 sum_j |a_ij - a'_ij|, in [0, 1], by head
    values      ||v' - v|| / ||v|| over all tokens, by layer
    outputs     ||o' - o|| / ||o|| of what a head hands to the output matrix, over query tokens, by head
    weights     ||W' - W|| / ||W|| of each role, by layer

All but the weights depend on the prompts: take those that the question is about.
"""

import copy
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, TypeAlias

import torch
from jaxtyping import Float
from peft import PeftModel
from torch import Tensor, nn
from transformers import PreTrainedModel

from keepshot.errors import DataError, ModelError
from keepshot.models.roles import Part, Role, mask, module_of
from keepshot.probes.taps import Kept, layer_of, layers_of, parts_of, recording

Model: TypeAlias = PreTrainedModel | PeftModel


@dataclass(frozen=True, slots=True, eq=False)
class Drift:
    """How far a tuned model is from its base; see the top of the module.

    Attributes:
        weights: By role; not a number where a role has no weights in a layer.
    """

    attention: Float[Tensor, "layers heads"]
    values: Float[Tensor, " layers"]
    outputs: Float[Tensor, "layers heads"]
    weights: Mapping[Role, Float[Tensor, " layers"]]


def drift(base: Model, tuned: Model, prompts: Sequence[Sequence[int]], queries: Sequence[int] | None = None) -> Drift:
    """What lies between two checkpoints of one architecture; adapters stay in place.

    Args:
        base: Put into evaluation mode.
        tuned: The same.
        prompts: Token ids; computed one by one.
        queries: For each the first token of its query; the whole prompt unless told.

    Raises:
        DataError: There are no prompts, or not as many queries.
        ModelError: The models differ in their shapes, or have no roles.
    """
    starts = [0] * len(prompts) if queries is None else list(queries)
    if not prompts or len(starts) != len(prompts):
        raise DataError("a drift is seen on prompts, each with the first token of its query")
    weights = _weights(base, tuned)  # first: it says so where the models do not fit together
    moved: list[tuple[Tensor, Tensor, Tensor, Tensor, Tensor]] = []
    for prompt, start in zip(prompts, starts, strict=True):
        (a, v, o), (b, w, p) = (_seen(model, prompt) for model in (base, tuned))
        variation = 0.5 * (a - b).abs().sum(dim=-1)[:, :, start:].mean(dim=-1)
        parts = ((v, w, (-2, -1)), (o[:, :, start:], p[:, :, start:], (-2, -1)))
        sizes = [(((y - x) ** 2).sum(dim=axes), (x**2).sum(dim=axes)) for x, y, axes in parts]
        moved.append((variation, *sizes[0], *sizes[1]))
    variation, value_change, value, output_change, output = (torch.stack(parts) for parts in zip(*moved, strict=True))
    return Drift(
        variation.mean(dim=0),
        (value_change.sum(dim=0) / value.sum(dim=0)).sqrt(),
        (output_change.sum(dim=0) / output.sum(dim=0)).sqrt(),
        weights,
    )


def _seen(model: Model, prompt: Sequence[int]) -> tuple[Tensor, Tensor, Tensor]:
    """Attention (layers heads tokens tokens), values (layers tokens width), outputs (layers heads tokens size)."""
    model.eval()
    layers = layers_of(model)
    kept: Kept = {}
    values: dict[int, Tensor] = {}
    with torch.no_grad(), _eager(model), recording(layers, kept), _values(model, values):
        found = model(input_ids=torch.tensor([prompt], device=model.device), output_attentions=True, use_cache=False)
    attention = torch.stack([layer[0] for layer in found.attentions]).float().cpu()
    heads = [kept[number][0].view(len(prompt), layer.heads, -1).transpose(0, 1) for number, layer in enumerate(layers)]
    said = [values[number].view(len(prompt), -1) for number in range(len(layers))]
    return attention, torch.stack(said).float().cpu(), torch.stack(heads).float().cpu()


@contextmanager
def _eager(model: Model) -> Iterator[None]:
    """Attention that gives its pattern; for a moment."""
    base: Any = model.get_base_model() if isinstance(model, PeftModel) else model
    before = base.config._attn_implementation
    base.set_attn_implementation("eager")
    try:
        yield
    finally:
        base.set_attn_implementation(before)


@contextmanager
def _values(model: Model, values: dict[int, Tensor]) -> Iterator[None]:
    """Keep the value vectors of every layer."""
    base, by_role = parts_of(model)
    hooks = []
    for part in by_role["value"]:
        if (number := layer_of(part.parameter)) is None or part.parameter.endswith("bias"):
            continue
        features = None if part.spans is None else [place for span in part.spans for place in span]

        def keep(module: nn.Module, given: Any, result: Tensor, number: int = number, features: Any = features) -> None:
            values[number] = result if features is None else result[..., features]

        hooks.append(base.get_submodule(module_of(part.parameter)).register_forward_hook(keep))
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


def _weights(base: Model, tuned: Model) -> dict[Role, Float[Tensor, " layers"]]:
    first, second = _merged(base), _merged(tuned)
    _, by_role = parts_of(first)
    one, other = dict(first.named_parameters()), dict(second.named_parameters())
    if one.keys() != other.keys() or any(one[name].shape != other[name].shape for name in one):
        raise ModelError("a drift lies between two checkpoints of one architecture; these have other parameters")
    count = len(layers_of(first))
    found: dict[Role, Float[Tensor, " layers"]] = {}
    for role, parts in by_role.items():
        sums = torch.zeros(2, count, dtype=torch.float64)
        for part in parts:
            number = layer_of(part.parameter)
            if number is not None:
                before, after = (_slice(model[part.parameter], part) for model in (one, other))
                sums[:, number] += torch.stack([((after - before) ** 2).sum(), (before**2).sum()])
        found[role] = (sums[0] / sums[1]).sqrt().float()
    return found


def _merged(model: Model) -> PreTrainedModel:
    if not isinstance(model, PeftModel):
        return model
    merged: PreTrainedModel = copy.deepcopy(model).merge_and_unload()
    return merged


def _slice(parameter: Tensor, part: Part) -> Tensor:
    where = mask([part], parameter.shape)
    values = parameter.detach().cpu().double()
    return values if where is None else values * where
