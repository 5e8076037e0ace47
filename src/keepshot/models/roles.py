"""What each number of a model is for: role -> parameters, or the slices of them where a family fuses roles.

A method says "train the values"; which tensor, and which rows of it, that is differs by family: `v_proj` in a Llama,
the last third of the columns of `c_attn` in GPT-2, every third block of rows of `query_key_value` in GPT-NeoX.
To add a family, add one `Family` to `FAMILIES` and its tiny model to `tests/architectures.py`.
"""

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import torch
from jaxtyping import Bool
from torch import Tensor
from transformers import PretrainedConfig, PreTrainedModel

from keepshot.errors import ModelError

Role = Literal["query", "key", "value", "output", "mlp", "norm", "embed", "head"]
ROLES: tuple[Role, ...] = get_args(Role)

Layout = Callable[[PretrainedConfig], Mapping[Role, tuple[range, ...]]]
"""Which output features of a fused projection belong to the query, the key and the value."""


@dataclass(frozen=True, slots=True)
class Part:
    """A parameter, or a slice of it along one axis.

    Attributes:
        parameter: Name as in `model.named_parameters()`.
        axis: The axis that `spans` count along.
        spans: The positions that belong to the part; None where all do.
    """

    parameter: str
    axis: int = 0
    spans: tuple[range, ...] | None = None


@dataclass(frozen=True, slots=True)
class Family:
    """Where the models of one or more model types keep their roles.

    Attributes:
        modules: Role -> regular expression that the end of a module's path matches, whole components at a time.
        fused: The same for the module that holds query, key and value at once; empty where each has its own.
        layout: How the output features of `fused` are shared out.
        output_axis: The axis of a fused weight that holds its output features: 0 in `Linear`, 1 in `Conv1D`.
    """

    modules: Mapping[Role, str]
    fused: str = ""
    layout: Layout | None = None
    output_axis: int = 0


def _thirds(config: PretrainedConfig) -> Mapping[Role, tuple[range, ...]]:
    """All queries, all keys, all values."""
    width = config.hidden_size
    return {
        "query": (range(width),),
        "key": (range(width, 2 * width),),
        "value": (range(2 * width, 3 * width),),
    }


def _grouped(config: PretrainedConfig) -> Mapping[Role, tuple[range, ...]]:
    """All queries, then the keys and the values, of which groups of query heads share one head."""
    head = config.to_dict().get("head_dim") or config.hidden_size // config.num_attention_heads
    key = config.num_attention_heads * head
    value = key + config.num_key_value_heads * head
    return {
        "query": (range(key),),
        "key": (range(key, value),),
        "value": (range(value, value + config.num_key_value_heads * head),),
    }


def _by_head(config: PretrainedConfig) -> Mapping[Role, tuple[range, ...]]:
    """For each head its query, its key and its value."""
    head = config.hidden_size // config.num_attention_heads
    starts = range(0, 3 * config.hidden_size, 3 * head)
    return {
        "query": tuple(range(start, start + head) for start in starts),
        "key": tuple(range(start + head, start + 2 * head) for start in starts),
        "value": tuple(range(start + 2 * head, start + 3 * head) for start in starts),
    }


_LLAMA = Family(
    {
        "query": "q_proj",
        "key": "k_proj",
        "value": "v_proj",
        "output": "o_proj",
        "mlp": "gate_proj|up_proj|down_proj",
        "norm": r"\w*norm",
        "embed": "embed_tokens",
        "head": "lm_head",
    }
)

FAMILIES: Mapping[str, Family] = {
    **dict.fromkeys(("llama", "mistral", "qwen2", "qwen3", "gemma", "gemma2", "gemma3_text", "granite"), _LLAMA),
    **dict.fromkeys(("olmo", "olmo2", "olmo3", "smollm3", "stablelm"), _LLAMA),
    "phi": Family({**_LLAMA.modules, "output": "dense", "mlp": "fc1|fc2"}),
    "phi3": Family({**_LLAMA.modules, "mlp": "gate_up_proj|down_proj"}, "qkv_proj", _grouped),
    "starcoder2": Family({**_LLAMA.modules, "mlp": "c_fc|c_proj"}),
    "opt": Family(
        {
            **_LLAMA.modules,
            "output": "out_proj",
            "mlp": "fc1|fc2",
            "embed": "embed_tokens|embed_positions|project_in",
            "head": "lm_head|project_out",
        }
    ),
    "gpt2": Family(
        {
            "output": r"attn\.c_proj",
            "mlp": r"mlp\.c_fc|mlp\.c_proj",
            "norm": r"ln_\w+",
            "embed": "wte|wpe",
            "head": "lm_head",
        },
        "c_attn",
        _thirds,
        output_axis=1,
    ),
    "gpt_neox": Family(
        {
            "output": r"attention\.dense",
            "mlp": "dense_h_to_4h|dense_4h_to_h",
            "norm": r"\w*norm",
            "embed": "embed_in",
            "head": "lm_head|embed_out",
        },
        "query_key_value",
        _by_head,
    ),
}
"""`config.model_type` -> where its roles are."""


def roles(model: PreTrainedModel) -> dict[Role, tuple[Part, ...]]:
    """The parts of each role; every number of the model lies in exactly one part of one role.

    A bias belongs to the role of its weight, `q_norm` and `k_norm` to `norm`, learned positions to `embed`. A head that
    is tied to the embedding is no parameter of its own: the shared tensor is listed under `embed`, and `head` has no
    parts (see `has_tied_head`).

    Args:
        model: A causal LM without an adapter.

    Raises:
        ModelError: The model type is not in `FAMILIES`, or a parameter matches none of its patterns.
    """
    return roles_of_names((name for name, _ in model.named_parameters()), model.config)


def roles_of_names(names: Iterable[str], config: PretrainedConfig) -> dict[Role, tuple[Part, ...]]:
    """The same from the names of a model's own parameters, such as those below an adapter.

    Raises:
        ModelError: As `roles`.
    """
    family = FAMILIES.get(config.model_type)
    if family is None:
        raise ModelError(
            f"model type {config.model_type!r} has no roles here; use `full`, `lora` or a pattern of parameter names, "
            f"or add it to FAMILIES in keepshot/models/roles.py (known: {', '.join(sorted(FAMILIES))})"
        )
    found: dict[Role, list[Part]] = {role: [] for role in ROLES}
    for name in names:
        for role, part in _parts(name, family, config):
            found[role].append(part)
    return {role: tuple(parts) for role, parts in found.items()}


def has_tied_head(model: PreTrainedModel) -> bool:
    """Whether the head is the embedding's tensor, so that training either moves both."""
    head = model.get_output_embeddings()
    return head is not None and head.weight is model.get_input_embeddings().weight


def mask(parts: Iterable[Part], shape: Sequence[int]) -> Bool[Tensor, "..."] | None:
    """Which elements of one parameter `parts` cover together; None where they cover all.

    The mask has the parameter's number of axes and broadcasts to its shape: all axes but the sliced one have length 1.

    Args:
        parts: Parts of one parameter, all along the same axis.
        shape: The parameter's shape.

    Example:
        >>> mask([Part("c_attn.weight", axis=1, spans=(range(2, 4),))], (8, 6))
        tensor([[False, False,  True,  True, False, False]])
    """
    parts = tuple(parts)
    if any(part.spans is None for part in parts):
        return None
    axes = {part.axis for part in parts}
    assert len(axes) == 1, f"parts of one parameter lie along several axes: {parts}"
    (axis,) = axes
    covered = torch.zeros(shape[axis], dtype=torch.bool)
    for part in parts:
        for span in part.spans or ():
            covered[span.start : span.stop] = True
    if covered.all():
        return None
    return covered.view([-1 if dim == axis else 1 for dim in range(len(shape))])


def module_of(parameter: str) -> str:
    """The path of the module that holds a parameter.

    Example:
        >>> module_of("model.layers.0.self_attn.v_proj.weight")
        'model.layers.0.self_attn.v_proj'
    """
    return parameter.rpartition(".")[0]


def _parts(name: str, family: Family, config: PretrainedConfig) -> list[tuple[Role, Part]]:
    """The roles that one parameter serves; several where it is fused."""
    module = module_of(name)
    if family.layout is not None and _ends_with(module, family.fused):
        axis = family.output_axis if name.endswith(".weight") else 0
        return [(role, Part(name, axis, spans)) for role, spans in family.layout(config).items()]
    matches: list[Role] = [role for role, pattern in family.modules.items() if _ends_with(module, pattern)]
    if len(matches) != 1:
        raise ModelError(
            f"{name} of model type {config.model_type!r} fits {' and '.join(matches) or 'no role'}; it must fit one: "
            "correct its patterns in FAMILIES in keepshot/models/roles.py, or use `full` or `lora`"
        )
    return [(matches[0], Part(name))]


def _ends_with(module: str, pattern: str) -> bool:
    return re.fullmatch(rf"(?:.*\.)?(?:{pattern})", module) is not None
