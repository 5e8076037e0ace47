import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import TypeAdapter, ValidationError
from tests.architectures import ARCHITECTURES
from torch import Tensor
from transformers import PreTrainedModel

from keepshot.errors import ConfigError, ModelError
from keepshot.models.roles import ROLES, Role, roles
from keepshot.strategies.trainable import (
    Everything,
    Lora,
    Pattern,
    Roles,
    Trainable,
    TrainableSet,
    apply_trainable,
    register_gradient_masks,
)

WITH_ROLES = sorted(set(ARCHITECTURES) - {"bloom"})
FUSED = ["gpt2", "gpt_neox", "phi3"]
IDS = torch.randint(2, 256, (2, 10), generator=torch.Generator().manual_seed(0))


def build(name: str) -> PreTrainedModel:
    return ARCHITECTURES[name]()


def train(trained: TrainableSet, steps: int = 2) -> None:
    """AdamW with a weight decay that is hard to overlook, as the trainer would run it."""
    handles = register_gradient_masks(trained.model, trained)
    named = [(name, p) for name, p in trained.model.named_parameters() if p.requires_grad]
    groups = [
        {"params": [p for name, p in named if name not in trained.no_decay_names], "weight_decay": 0.5},
        {"params": [p for name, p in named if name in trained.no_decay_names], "weight_decay": 0.0},
    ]
    optimizer = torch.optim.AdamW(groups, lr=0.01)
    for _ in range(steps):
        optimizer.zero_grad()
        trained.model(IDS, labels=IDS, use_cache=False).loss.backward()
        optimizer.step()
    for handle in handles:
        handle.remove()


def numbers(model: torch.nn.Module) -> dict[str, Tensor]:
    return {name: parameter.detach().clone() for name, parameter in model.named_parameters()}


def inside(parts: dict[str, Tensor | None], name: str, shape: torch.Size) -> Tensor:
    """Which elements of a parameter may move, spelled out in full."""
    if name not in parts:
        return torch.zeros(shape, dtype=torch.bool)
    part = parts[name]
    return torch.ones(shape, dtype=torch.bool) if part is None else part.expand(shape)


@pytest.mark.parametrize("name", WITH_ROLES)
@pytest.mark.parametrize("wanted", [("value",), ("query", "key"), ("query", "key", "value", "output"), ("mlp", "norm")])
def test_training_moves_the_roles_and_nothing_else(name: str, wanted: tuple[Role, ...]) -> None:
    trained = apply_trainable(build(name), Roles(roles=wanted), seed=0)
    before = numbers(trained.model)
    train(trained)
    num_moved = 0
    for parameter, after in numbers(trained.model).items():
        may_move = inside(trained.parts, parameter, after.shape)
        changed = before[parameter] != after
        assert not (changed & ~may_move).any(), parameter
        num_moved += int(changed.sum())
    # A key bias has no gradient without rotary positions, and rarely an element moves by less than it can show.
    assert 0.9 * trained.num_parameters < num_moved <= trained.num_parameters


@pytest.mark.parametrize("name", WITH_ROLES)
def test_the_roles_together_are_everything(name: str) -> None:
    model = build(name)
    filled = [role for role in ROLES if roles(model)[role]]
    one_by_one = [apply_trainable(build(name), Roles(roles=(role,)), seed=0).num_parameters for role in filled]
    together = apply_trainable(build(name), Roles(roles=ROLES), seed=0)
    assert sum(one_by_one) == together.num_parameters == together.num_total
    assert together.no_decay_names == frozenset()


@pytest.mark.parametrize("name", FUSED)
def test_gradients_outside_the_mask_are_zero_even_when_infinite(name: str) -> None:
    trained = apply_trainable(build(name), Roles(roles=("value",)), seed=0)
    (handle, *_) = register_gradient_masks(trained.model, trained)
    parameter_name = next(iter(trained.parts))
    parameter = trained.model.get_parameter(parameter_name)
    (parameter * torch.inf).sum().backward()
    may_move = inside(trained.parts, parameter_name, parameter.shape)
    assert parameter.grad is not None
    assert (parameter.grad[~may_move] == 0).all()
    assert parameter.grad[may_move].isinf().all()
    handle.remove()
    parameter.grad = None
    parameter.sum().backward()
    assert (parameter.grad == 1).all()


def test_masks_accumulate_over_backward_passes() -> None:
    def gradient(masked: bool) -> tuple[Tensor, Tensor]:
        trained = apply_trainable(build("gpt2"), Roles(roles=("value",)), seed=0)
        if masked:
            register_gradient_masks(trained.model, trained)
        for row in IDS:
            trained.model(row[None], labels=row[None], use_cache=False).loss.backward()
        name = "transformer.h.0.attn.c_attn.weight"
        grad = trained.model.get_parameter(name).grad
        assert grad is not None
        return grad, inside(trained.parts, name, grad.shape)

    (plain, may_move), (masked, _) = gradient(False), gradient(True)
    assert torch.equal(masked, plain * may_move)


def test_masks_find_their_parameters_under_wrappers() -> None:
    trained = apply_trainable(build("phi3"), Roles(roles=("key",)), seed=0)
    layers = trained.model.model.layers
    layers[0] = torch.nn.ModuleDict({"_checkpoint_wrapped_module": layers[0]})
    wrapped = torch.nn.ModuleDict({"_orig_mod": torch.nn.ModuleDict({"module": trained.model})})
    assert len(register_gradient_masks(wrapped, trained)) == 2


def test_masks_follow_sharded_gradients() -> None:
    """FSDP2 turns parameters into sharded tensors; one process with the fake backend stands for rank 1 of 2."""
    from torch.distributed import destroy_process_group, init_process_group
    from torch.distributed.fsdp import fully_shard
    from torch.testing._internal.distributed.fake_pg import FakeStore

    init_process_group("fake", store=FakeStore(), rank=1, world_size=2)
    try:
        for name, weight in (
            ("gpt2", "transformer.h.0.attn.c_attn.weight"),
            ("phi3", "model.layers.0.self_attn.qkv_proj.weight"),
        ):
            trained = apply_trainable(build(name), Roles(roles=("value",)), seed=0)
            mesh = torch.distributed.init_device_mesh("cpu", (2,))
            fully_shard(trained.model, mesh=mesh)
            register_gradient_masks(trained.model, trained)
            parameter = trained.model.get_parameter(weight)
            parameter.to_local().sum().backward()
            local = parameter.grad.to_local()
            assert len(local) == len(parameter) // 2
            may_move = inside(trained.parts, weight, parameter.shape)[-len(local) :]
            assert torch.equal(local, may_move.to(local.dtype))
    finally:
        destroy_process_group()


def test_everything_is_every_parameter() -> None:
    trained = apply_trainable(build("bloom"), Everything(), seed=0)
    assert trained.num_parameters == trained.num_total == sum(p.numel() for p in trained.model.parameters())


def test_pattern_searches_names() -> None:
    trained = apply_trainable(build("bloom"), Pattern(pattern=r"h\.1\..*dense\.weight$"), seed=0)
    assert list(trained.parts) == ["transformer.h.1.self_attention.dense.weight"]
    assert [name for name, p in trained.model.named_parameters() if p.requires_grad] == list(trained.parts)


def test_a_pattern_without_a_match_shows_names_to_match() -> None:
    with pytest.raises(
        ConfigError, match=r"'v_porj' matches no parameter.*model\.layers\.0\.self_attn\.q_proj\.weight"
    ):
        apply_trainable(build("llama"), Pattern(pattern="v_porj"), seed=0)


def test_what_moves_is_float32_and_the_rest_stays_as_it_was() -> None:
    trained = apply_trainable(build("gpt2").to(torch.bfloat16), Roles(roles=("value",)), seed=0)
    dtypes = {name: p.dtype for name, p in trained.model.named_parameters()}
    assert {dtypes[name] for name in trained.parts} == {torch.float32}
    assert {dtypes[name] for name in dtypes.keys() - trained.parts.keys()} == {torch.bfloat16}


def test_an_earlier_trainable_leaves_nothing_behind() -> None:
    model = build("llama")
    apply_trainable(model, Everything(), seed=0)
    trained = apply_trainable(model, Roles(roles=("value",)), seed=0)
    assert {name for name, p in model.named_parameters() if p.requires_grad} == set(trained.parts)


def test_a_tied_head_is_trained_with_the_embedding_or_not_at_all() -> None:
    with pytest.raises(ConfigError, match="head of this model is its embedding"):
        apply_trainable(build("llama"), Roles(roles=("head", "value")), seed=0)
    trained = apply_trainable(build("llama"), Roles(roles=("embed",)), seed=0)
    assert trained.lines()[0] == "model.embed_tokens.weight = lm_head.weight  1 x 8,192"
    untied = apply_trainable(build("qwen2"), Roles(roles=("head",)), seed=0)
    assert list(untied.parts) == ["lm_head.weight"]


def test_lines_group_layers_and_say_which_share_of_a_tensor_moves() -> None:
    assert apply_trainable(build("gpt2"), Roles(roles=("value",)), seed=0).lines() == [
        "transformer.h.*.attn.c_attn.weight  2 x 1,024 of 3,072",
        "transformer.h.*.attn.c_attn.bias    2 x 32 of 96",
        "2,112 of 31,456 numbers move (6.71 %)",
    ]


@pytest.mark.parametrize("name", sorted(ARCHITECTURES))
def test_lora_starts_as_the_base_and_trains_only_itself(name: str) -> None:
    base = build(name)
    with torch.no_grad():
        expected = base(IDS).logits
    trained = apply_trainable(base, Lora(r=4, dropout=0), seed=0)
    with torch.no_grad():
        assert torch.equal(trained.model(IDS).logits, expected)
    before = numbers(trained.model)
    train(trained)
    after = numbers(trained.model)
    moved = {parameter for parameter in after if not torch.equal(before[parameter], after[parameter])}
    assert moved == set(trained.parts)
    assert all(".lora_" in parameter for parameter in moved)


@pytest.mark.parametrize("name", WITH_ROLES)
@pytest.mark.parametrize("targets", [("value",), ("query", "value"), ("output", "mlp")])
def test_a_merged_lora_changes_the_weights_of_its_roles_alone(name: str, targets: tuple[str, ...]) -> None:
    model = build(name)
    before = numbers(model)
    wanted = apply_trainable(build(name), Roles.model_validate({"roles": targets}), seed=0).parts
    trained = apply_trainable(model, Lora(r=4, targets=targets), seed=0)
    train(trained)
    for parameter, after in numbers(trained.model.merge_and_unload()).items():
        expected = inside(wanted, parameter, after.shape) & parameter.endswith("weight")
        changed = before[parameter] != after
        assert not (changed & ~expected).any(), parameter
        assert changed.sum() >= 0.9 * expected.sum(), parameter


def test_the_default_lora_is_on_q_proj_and_v_proj() -> None:
    trained = apply_trainable(build("llama"), Lora(), seed=0)
    config = trained.model.peft_config["default"]
    assert (config.r, config.lora_alpha, config.lora_dropout) == (16, 32, 0.05)
    assert set(config.target_modules) == {"q_proj", "v_proj"}
    assert trained.num_parameters == 2 * 16 * ((32 + 32) + (32 + 16))


def test_lora_start_is_keyed_by_the_seed_and_leaves_the_generator_alone() -> None:
    def start(seed: int) -> Tensor:
        trained = apply_trainable(build("llama"), Lora(), seed=seed)
        return torch.cat([p.flatten() for name, p in trained.model.named_parameters() if "lora_A" in name])

    torch.manual_seed(1)
    first, drawn = start(0), torch.rand(3)
    torch.manual_seed(1)
    assert torch.equal(drawn, torch.rand(3))
    assert torch.equal(first, start(0))
    assert not torch.equal(first, start(1))


def test_lora_by_module_names_and_all_linear() -> None:
    by_name = apply_trainable(build("gpt2"), Lora(targets=("mlp.c_proj",)), seed=0)
    assert by_name.no_decay_names == frozenset()
    assert {name.split(".lora_")[0].split(".", 5)[-1] for name in by_name.parts} == {"mlp.c_proj"}
    whole = apply_trainable(build("bloom"), Lora(targets="all-linear"), seed=0)
    assert len(whole.parts) == 2 * 2 * 4
    with pytest.raises(ConfigError, match=r"'c_porj' ends no linear module's name.*c_attn"):
        apply_trainable(build("gpt2"), Lora(targets=("c_attn", "c_porj")), seed=0)


def test_lora_of_roles_needs_roles_unless_it_is_the_default() -> None:
    with pytest.raises(ModelError, match="'bloom' has no roles"):
        apply_trainable(build("bloom"), Lora(targets=("value",)), seed=0)
    config = apply_trainable(build("bloom"), Lora(), seed=0).model.peft_config["default"]
    assert set(config.target_modules) == {"query_key_value"}


def test_a_model_with_an_adapter_is_refused() -> None:
    wrapped = apply_trainable(build("llama"), Lora(), seed=0).model
    with pytest.raises(ModelError, match="has an adapter already"):
        apply_trainable(wrapped, Roles(), seed=0)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"kind": "roles", "roles": ["values"]}, "query"),
        ({"kind": "roles", "roles": []}, "at least 1"),
        ({"kind": "roles", "role": ["value"]}, "Extra inputs"),
        ({"kind": "pattern"}, "required"),
        ({"kind": "pattern", "pattern": "("}, "no regular expression"),
        ({"kind": "lora", "targets": ["value", "c_attn"]}, "either roles or modules"),
        ({"kind": "lora", "targets": ["embed"]}, "cannot train the role embed"),
        ({"kind": "lora", "targets": []}, "at least one target"),
        ({"kind": "lora", "r": 0}, "greater than 0"),
        ({"kind": "lora", "dropout": 1}, "less than 1"),
        ({"kind": "adapter"}, "roles"),
    ],
)
def test_a_trainable_that_is_not_allowed(settings: dict[str, object], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        TypeAdapter(Trainable).validate_python(settings)


SETTINGS = st.one_of(
    st.fixed_dictionaries(
        {"kind": st.just("roles"), "roles": st.lists(st.sampled_from(ROLES), min_size=1, unique=True).map(tuple)}
    ),
    st.tuples(
        st.fixed_dictionaries(
            {
                "kind": st.just("lora"),
                "r": st.integers(1, 256),
                "alpha": st.one_of(st.integers(1, 99), st.floats(0.1, 99)),
                "dropout": st.floats(0, 0.9),
                "targets": st.sampled_from(["all-linear", ("query",), ("q_proj", "fc1")]),
            }
        ),
        st.sampled_from(
            [
                {"dora": False, "start": "zero", "prompts": None},
                {"dora": True, "start": "zero", "prompts": None},
                {"dora": False, "start": "corda", "prompts": 8},
            ]
        ),
    ).map(lambda parts: parts[0] | parts[1]),
    st.just({"kind": "everything"}),
    st.just({"kind": "pattern", "pattern": r"\.v_proj\."}),
)


@settings(max_examples=40)
@given(SETTINGS)
def test_a_trainable_survives_its_config(settings: dict[str, object]) -> None:
    adapter = TypeAdapter(Trainable)
    trainable = adapter.validate_python(settings)
    assert trainable.model_dump() == settings
    assert adapter.validate_json(adapter.dump_json(trainable)) == trainable
