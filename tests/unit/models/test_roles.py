"""Roles are tested by what perturbing them does to keys, values and attention, not by names."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from tests.architectures import ARCHITECTURES, HEAD_DIM, HEADS, RELATIVES
from torch import Tensor, nn
from transformers import PreTrainedModel

from keepshot.errors import ModelError
from keepshot.models.roles import FAMILIES, ROLES, Part, Role, has_tied_head, mask, module_of, roles

BUILDERS = {**ARCHITECTURES, **RELATIVES}
WITH_ROLES = sorted(set(BUILDERS) - {"bloom"})
TIED = {"llama", "gemma", "gemma2", "gemma3", "smollm3", "starcoder2", "gpt2", "opt"}
# OLMo 2 and 3 normalise all queries (and all keys) of a position together, so heads are not independent there.
NORM_OVER_HEADS = {"olmo2", "olmo3"}
# The first OLMo normalises without parameters.
NO_NORM = {"olmo"}
# 12 tokens: below the sliding window of 16, so that a cache keeps every key and value.
IDS = torch.randint(2, 256, (2, 12), generator=torch.Generator().manual_seed(0))


@pytest.fixture(params=WITH_ROLES)
def model(request: pytest.FixtureRequest) -> PreTrainedModel:
    built = BUILDERS[request.param]()
    built.set_attn_implementation("eager")
    return built


def first_layer(model: PreTrainedModel) -> dict[str, Tensor]:
    """Keys, values [batch, kv heads, tokens, head], attention [batch, heads, tokens, tokens] and output of layer 0."""
    with torch.no_grad():
        output = model(IDS, use_cache=True, output_attentions=True, output_hidden_states=True)
    cache = output.past_key_values.layers[0]
    return {
        "keys": cache.keys,
        "values": cache.values,
        "attention": output.attentions[0],
        "output": output.hidden_states[1],
    }


def perturb(model: PreTrainedModel, role: Role, block: int | None = None) -> None:
    """Add noise to a role; with `block`, only to the role's output features of that head, in the role's own order."""
    for part in roles(model)[role]:
        parameter = model.get_parameter(part.parameter)
        features = [i for span in part.spans or (range(parameter.shape[part.axis]),) for i in span]
        chosen = features if block is None else features[block * HEAD_DIM : (block + 1) * HEAD_DIM]
        index = torch.tensor(chosen)
        with torch.no_grad():
            noise = torch.randn_like(parameter.index_select(part.axis, index))
            parameter.index_add_(part.axis, index, noise)


def moved(before: dict[str, Tensor], after: dict[str, Tensor]) -> set[str]:
    return {name for name in before if not torch.equal(before[name], after[name])}


def moved_heads(before: Tensor, after: Tensor) -> set[int]:
    return {head for head in range(before.shape[1]) if not torch.equal(before[:, head], after[:, head])}


def test_roles_partition_the_numbers(model: PreTrainedModel) -> None:
    covered = {name: torch.zeros(parameter.shape) for name, parameter in model.named_parameters()}
    for parts in roles(model).values():
        for part in parts:
            inside = mask([part], covered[part.parameter].shape)
            covered[part.parameter] += 1 if inside is None else inside
    assert [name for name, count in covered.items() if not (count == 1).all()] == []


@pytest.mark.parametrize(
    ("role", "expected"),
    [
        ("query", {"attention", "output"}),
        ("key", {"keys", "attention", "output"}),
        ("value", {"values", "output"}),
        ("output", {"output"}),
        ("mlp", {"output"}),
        ("head", set()),
    ],
)
def test_a_role_moves_what_it_is_for_and_nothing_before_it(
    model: PreTrainedModel, role: Role, expected: set[str]
) -> None:
    before = first_layer(model)
    perturb(model, role)
    assert moved(before, first_layer(model)) == expected


def test_norm_and_embed_move_everything(model: PreTrainedModel) -> None:
    before = first_layer(model)
    for role in ("norm", "embed"):
        perturb(model, role)
        after = first_layer(model)
        expected = set(before)
        if role == "norm" and model.config.model_type in NORM_OVER_HEADS:
            expected -= {"values"}  # no norm before the attention: the values see the embedding as it is
        if role == "norm" and model.config.model_type in NO_NORM:
            expected = set()
        assert moved(before, after) == expected
        before = after


@pytest.mark.parametrize("head", [0, 2])
@pytest.mark.parametrize("model", sorted(set(WITH_ROLES) - NORM_OVER_HEADS), indirect=True)
def test_one_block_of_the_query_moves_one_head(model: PreTrainedModel, head: int) -> None:
    before = first_layer(model)
    perturb(model, "query", head)
    after = first_layer(model)
    assert moved_heads(before["attention"], after["attention"]) == {head}
    assert moved(before, after) == {"attention", "output"}


@pytest.mark.parametrize("role", ["key", "value"])
def test_one_block_of_a_key_or_value_moves_one_group(model: PreTrainedModel, role: Role) -> None:
    before = first_layer(model)
    groups = before["values"].shape[1]
    head = groups - 1
    perturb(model, role, head)
    after = first_layer(model)
    if role == "value":
        assert moved_heads(before["values"], after["values"]) == {head}
        assert moved(before, after) == {"values", "output"}
    elif model.config.model_type not in NORM_OVER_HEADS:
        readers = range(head * HEADS // groups, (head + 1) * HEADS // groups)
        assert moved_heads(before["keys"], after["keys"]) == {head}
        assert moved_heads(before["attention"], after["attention"]) == set(readers)


@pytest.mark.parametrize("name", ["gpt2", "gpt_neox", "phi3"])
def test_fused_slices_are_the_features_that_the_model_splits_off(name: str) -> None:
    model = ARCHITECTURES[name]()
    part = roles(model)["value"][0]
    fused: list[Tensor] = []
    projection = model.get_submodule(module_of(part.parameter))
    projection.register_forward_hook(lambda _module, _inputs, output: fused.append(output))
    with torch.no_grad():
        values = model(IDS, use_cache=True).past_key_values.layers[0].values
    features = [i for span in part.spans or () for i in span]
    ours = fused[0][..., features].unflatten(-1, (-1, HEAD_DIM)).transpose(1, 2)
    torch.testing.assert_close(ours, values, rtol=0, atol=0)


@pytest.mark.parametrize("name", WITH_ROLES)
def test_a_tied_head_is_listed_once_under_embed(name: str) -> None:
    model = BUILDERS[name]()
    assert has_tied_head(model) == (name in TIED)
    assert (roles(model)["head"] == ()) == (name in TIED)


def test_an_unknown_architecture_names_itself_and_what_still_works() -> None:
    with pytest.raises(ModelError, match=r"'bloom'.*`full`, `lora`.*models/roles\.py"):
        roles(ARCHITECTURES["bloom"]())


def test_a_parameter_without_role_is_an_error_not_an_omission() -> None:
    model = ARCHITECTURES["llama"]()
    model.model.layers[0].self_attn.register_module("sink_scale", nn.Linear(2, 2))
    with pytest.raises(ModelError, match=r"sink_scale\.weight.*no role"):
        roles(model)


def test_every_family_is_tested() -> None:
    assert {BUILDERS[name]().config.model_type for name in WITH_ROLES} == set(FAMILIES)


def test_roles_are_listed_even_when_empty() -> None:
    assert tuple(roles(ARCHITECTURES["gpt2"]())) == ROLES


@given(
    length=st.integers(1, 30),
    axis=st.sampled_from([0, 1]),
    cuts=st.lists(st.tuples(st.integers(0, 30), st.integers(0, 30)), max_size=5),
)
def test_mask_is_the_union_of_spans(length: int, axis: int, cuts: list[tuple[int, int]]) -> None:
    spans = [range(min(a, length), min(b, length)) for a, b in cuts]
    shape = (length, 3) if axis == 0 else (3, length)
    result = mask([Part("w", axis, (span,)) for span in spans] or [Part("w", axis, ())], shape)
    inside = {i for span in spans for i in span}
    expected = torch.tensor([i in inside for i in range(length)])
    if expected.all():
        assert result is None
    else:
        assert result is not None
        assert torch.equal(result.expand(shape), (expected[:, None] if axis == 0 else expected[None, :]).expand(shape))
