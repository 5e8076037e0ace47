"""Where the activations of heads and MLPs pass, for every architecture with roles, adapters in place."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, TypeAlias

from jaxtyping import Float
from peft import PeftModel
from torch import Tensor, nn
from transformers import PreTrainedModel

from keepshot.errors import ModelError
from keepshot.models.roles import Part, Role, module_of, roles_of_names

Activations: TypeAlias = Float[Tensor, "..."]
Kept: TypeAlias = dict[int, tuple[Activations, Activations]]
"""By layer: all heads side by side, and the MLP's result."""


@dataclass(frozen=True, slots=True)
class Layer:
    """Where a layer's activations pass."""

    output: nn.Module  # reads all heads side by side
    mlp: nn.Module  # its result is the MLP's
    heads: int


def parts_of(model: PreTrainedModel | PeftModel) -> tuple[PreTrainedModel, dict[Role, tuple[Part, ...]]]:
    """The model below an adapter, and the roles of its own parameters, by the names that they have without it.

    Raises:
        ModelError: The model type has no roles.
    """
    base: Any = model.get_base_model() if isinstance(model, PeftModel) else model
    return base, roles_of_names(_own_names(base), base.config)


def layer_of(name: str) -> int | None:
    """The number of the layer that a parameter or module belongs to; None outside the layers.

    Example:
        >>> layer_of("model.layers.3.self_attn.v_proj.weight"), layer_of("model.norm.weight")
        (3, None)
    """
    return next((int(part) for part in name.split(".") if part.isdigit()), None)


def layers_of(model: PreTrainedModel | PeftModel) -> list[Layer]:
    """All layers, in their order.

    Raises:
        ModelError: The model type has no roles, or its layers are not made of heads and one MLP each.
    """
    base, by_role = parts_of(model)
    modules = dict(base.named_modules())
    outputs = _by_layer(module_of(part.parameter) for part in by_role["output"])
    mlps = _by_layer(module_of(part.parameter) for part in by_role["mlp"])
    heads = base.config.num_attention_heads
    if not outputs or len(outputs) != len(mlps):
        raise ModelError(f"{len(outputs)} attention outputs and {len(mlps)} MLPs: layers of another kind than one each")
    # An MLP's last matrix is the last of its modules in the order of the model.
    return [Layer(modules[output[0]], modules[mlp[-1]], heads) for output, mlp in zip(outputs, mlps, strict=True)]


def _by_layer(names: Iterator[str]) -> list[list[str]]:
    """Names of modules, grouped by layer, each once; those outside the layers are left out."""
    found: dict[int, list[str]] = {}
    for name in dict.fromkeys(names):
        if (number := layer_of(name)) is not None:
            found.setdefault(number, []).append(name)
    return [found[number] for number in sorted(found)]


def _own_names(model: PreTrainedModel) -> Iterator[str]:
    """The names of a model's own parameters, as if no adapter were there."""
    for name, _ in model.named_parameters():
        if ".lora_" not in name:
            yield name.replace(".base_layer.", ".")


@contextmanager
def recording(layers: Sequence[Layer], kept: Kept) -> Iterator[None]:
    """Keep what passes: by layer, all heads side by side and the MLP's result."""
    seen: dict[tuple[int, str], Activations] = {}

    def heads(number: int) -> Callable[..., None]:
        return lambda module, given: seen.__setitem__((number, "heads"), given[0].detach())

    def result(number: int) -> Callable[..., None]:
        return lambda module, given, result: seen.__setitem__((number, "mlp"), result.detach())

    hooks = [layer.output.register_forward_pre_hook(heads(number)) for number, layer in enumerate(layers)]
    hooks += [layer.mlp.register_forward_hook(result(number)) for number, layer in enumerate(layers)]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()
    kept.update({number: (seen[number, "heads"], seen[number, "mlp"]) for number in range(len(layers))})
