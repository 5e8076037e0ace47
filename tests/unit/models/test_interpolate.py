"""The line between two models: its ends are the models, its middle is what the formula says, role by role."""

import json
import warnings
from collections.abc import Mapping
from pathlib import Path

import pytest
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from tests.architectures import ARCHITECTURES, save_tiny
from tests.training import byte_tokenizer
from torch import Tensor
from transformers import PreTrainedModel

from keepshot.errors import ModelError
from keepshot.models.interpolate import GROUPS, Group, Interpolation
from keepshot.models.load import CausalLM, load_model, peft_warnings
from keepshot.models.roles import FAMILIES, mask, roles
from keepshot.runs.training import save_trained
from keepshot.strategies import Lora, apply_trainable

IDS = torch.randint(2, 256, (2, 12), generator=torch.Generator().manual_seed(0))
APART: Mapping[Group, float] = {"query+key": 0.25, "value+output": 0.5, "mlp": 0.75, "rest": 0.9}
PROJECTIONS = {
    "mistral": ["q_proj", "k_proj", "v_proj", "o_proj", "up_proj", "embed_tokens"],
    "phi3": ["qkv_proj", "o_proj", "down_proj"],
    "gpt2": ["c_attn", "c_proj"],
    "gpt_neox": ["query_key_value", "dense"],
    "bloom": ["query_key_value", "dense_h_to_4h"],
}


@torch.no_grad()
def logits(model: CausalLM) -> Tensor:
    return model(input_ids=IDS, use_cache=False).logits


@torch.no_grad()
def tuned_from(base: PreTrainedModel, chosen: str = "") -> PreTrainedModel:
    """The base with every parameter moved whose name holds `chosen`; changes it in place."""
    noise = torch.Generator().manual_seed(1)
    for name, parameter in base.named_parameters():
        if chosen in name:
            parameter.add_(0.1 * torch.randn(parameter.shape, generator=noise))
    return base


def adapter_on(base: str, folder: Path, targets: list[str], **settings: object) -> str:
    with torch.random.fork_rng(devices=[]), peft_warnings():
        torch.manual_seed(1)
        config = LoraConfig(task_type="CAUSAL_LM", target_modules=targets, r=3, lora_alpha=7, **settings)
        model = get_peft_model(load_model(base), config)
        for name, parameter in model.named_parameters():
            if "lora_B" in name or "lora_embedding" in name:
                torch.nn.init.normal_(parameter, std=0.2)
    model.save_pretrained(folder, save_embedding_layers=False)
    return str(folder)


def pair(name: str, folder: Path) -> tuple[str, str]:
    """Folders of a base and of what was tuned from it."""
    save_tiny(ARCHITECTURES[name](), folder / "base")
    save_tiny(tuned_from(ARCHITECTURES[name]()), folder / "tuned")
    return str(folder / "base"), str(folder / "tuned")


def coefficients_of(groups: tuple[Group, ...]) -> dict[Group, float]:
    return {group: APART.get(group, 0.4) for group in groups}


@pytest.mark.parametrize("name", sorted(ARCHITECTURES))
def test_the_ends_are_the_base_and_the_tuned_model(name: str, tmp_path: Path) -> None:
    base, tuned = pair(name, tmp_path)
    between = Interpolation(base, tuned)
    assert between.groups == (tuple(GROUPS) if name != "bloom" else ("all",))
    expected = logits(load_model(base)), logits(load_model(tuned))
    assert (expected[0] - expected[1]).abs().max() > 0.1
    for end, coefficient in zip(expected, (0.0, 1.0), strict=True):
        for given in (coefficient, dict.fromkeys(between.groups, coefficient)):
            with between.at(given) as model:
                assert torch.equal(logits(model), end)


@pytest.mark.parametrize("name", sorted(set(ARCHITECTURES) - {"bloom"}))
def test_every_role_goes_as_far_as_its_group(name: str, tmp_path: Path) -> None:
    base, tuned = pair(name, tmp_path)
    ends = [dict(load_model(folder).named_parameters()) for folder in (base, tuned)]
    seen = 0
    with Interpolation(base, tuned).at(APART) as model, torch.no_grad():
        by_role = roles(model)
        for group, members in GROUPS.items():
            for part in (part for role in members for part in by_role[role]):
                start, end, found = (numbers[part.parameter] for numbers in (*ends, dict(model.named_parameters())))
                expected = (1 - APART[group]) * start + APART[group] * end
                of_part = torch.ones_like(start, dtype=torch.bool)
                if (covered := mask([part], start.shape)) is not None:
                    of_part &= covered
                torch.testing.assert_close(found[of_part], expected[of_part], rtol=1e-5, atol=1e-6)
                seen += int(of_part.sum())
    assert seen == sum(parameter.numel() for parameter in ends[0].values())


@pytest.mark.parametrize("name", sorted(PROJECTIONS))
def test_scaling_an_adapter_is_interpolating_the_merged_model(name: str, tmp_path: Path) -> None:
    base = str(save_tiny(ARCHITECTURES[name](), tmp_path / "base"))
    conv1d = {"fan_in_fan_out": True} if name == "gpt2" else {}
    adapter = adapter_on(base, tmp_path / "adapter", PROJECTIONS[name], use_rslora=name == "mistral", **conv1d)
    merged = load_model(adapter).merge_and_unload()
    scaled, interpolated = Interpolation(base, adapter), Interpolation(base, str(save_tiny(merged, tmp_path / "m")))
    assert scaled.is_adapter
    assert not interpolated.is_adapter
    assert scaled.groups == interpolated.groups
    for given in (0.0, 0.3, 1.0, coefficients_of(scaled.groups)):
        with interpolated.at(given) as model:
            expected = logits(model)
        with scaled.at(given) as model:
            torch.testing.assert_close(logits(model), expected, rtol=0, atol=1e-5)


def test_coefficients_of_a_fused_adapter_differ_by_feature(tmp_path: Path) -> None:
    base = str(save_tiny(ARCHITECTURES["gpt_neox"](), tmp_path / "base"))
    between = Interpolation(base, adapter_on(base, tmp_path / "adapter", ["query_key_value"]))
    with between.at(1.0) as model:
        whole = dict(model.named_parameters())[
            "base_model.model.gpt_neox.layers.0.attention.query_key_value.lora_B.default.weight"
        ].clone()
    with between.at({"query+key": 0.0, "value+output": 1.0}) as model:
        rows = model.get_parameter("base_model.model.gpt_neox.layers.0.attention.query_key_value.lora_B.default.weight")
        kept = (rows == whole).all(dim=1)
    # By head: 8 queries, 8 keys, 8 values.
    assert kept.tolist() == [feature % 24 >= 16 for feature in range(96)]


@pytest.mark.parametrize(("name", "chosen", "groups"), [
    ("llama", "v_proj", ("value+output",)),
    ("llama", "q_proj", ("query+key",)),
    ("llama", "norm", ("rest",)),
    ("llama", "embed", ("rest",)),
    ("gpt2", "c_attn", ("query+key", "value+output")),
    ("bloom", "dense_h_to_4h", ("all",)),
])  # fmt: skip
def test_groups_are_those_that_were_tuned(name: str, chosen: str, groups: tuple[Group, ...], tmp_path: Path) -> None:
    base = save_tiny(ARCHITECTURES[name](), tmp_path / "base")
    tuned = save_tiny(tuned_from(ARCHITECTURES[name](), chosen), tmp_path / "tuned")
    assert Interpolation(str(base), str(tuned)).groups == groups


@pytest.mark.parametrize(("name", "group"), [("opt", "rest"), ("bloom", "all")])
def test_an_adapter_on_a_tied_head_goes_with_the_embedding(name: str, group: Group, tmp_path: Path) -> None:
    base = str(save_tiny(ARCHITECTURES[name](), tmp_path / "base"))
    with warnings.catch_warnings(action="ignore"):  # PEFT warns of merging such an adapter
        between = Interpolation(base, adapter_on(base, tmp_path / "adapter", ["lm_head"]))
    assert between.groups == (group,)


def test_a_slice_of_a_fused_tensor_is_its_own_group(tmp_path: Path) -> None:
    base, tuned = ARCHITECTURES["gpt2"](), ARCHITECTURES["gpt2"]()
    with torch.no_grad():
        tuned.get_parameter("transformer.h.1.attn.c_attn.weight")[:, 64:].add_(0.1)
    paths = [str(save_tiny(model, tmp_path / name)) for name, model in (("base", base), ("tuned", tuned))]
    assert Interpolation(*paths).groups == ("value+output",)


@pytest.mark.parametrize("adapter", [False, True])
def test_the_base_is_left_as_it_was(adapter: bool, tmp_path: Path) -> None:
    base, tuned = pair("llama", tmp_path)
    if adapter:
        tuned = adapter_on(base, tmp_path / "adapter", ["v_proj"])
    between = Interpolation(base, tuned)
    before = {name: parameter.clone() for name, parameter in load_model(base).named_parameters()}
    with pytest.raises(KeyboardInterrupt), between.at(0.5):
        raise KeyboardInterrupt
    with between.at(0.7):
        pass
    after = dict(between.base.named_parameters())
    assert not isinstance(between.base, PeftModel)
    assert list(after) == list(before)
    assert all(torch.equal(after[name], before[name]) for name in before)


def test_a_saved_point_is_the_model_that_was_looked_at(tmp_path: Path) -> None:
    for name, build in (("base", lambda model: model), ("tuned", tuned_from)):
        save_tiny(build(ARCHITECTURES["llama"]()).to(torch.bfloat16), tmp_path / name)
    between = Interpolation(str(tmp_path / "base"), str(tmp_path / "tuned"))
    assert between.dtype == torch.bfloat16
    with between.at(0.37) as model:
        looked_at = logits(model)
        model.to(between.dtype).save_pretrained(tmp_path / "point")
    assert torch.equal(logits(load_model(str(tmp_path / "point"))), looked_at)


def test_dtypes_meet_at_the_wider_one(tmp_path: Path) -> None:
    save_tiny(ARCHITECTURES["llama"](), tmp_path / "base")
    save_tiny(tuned_from(ARCHITECTURES["llama"]()).to(torch.bfloat16), tmp_path / "tuned")
    between = Interpolation(str(tmp_path / "base"), str(tmp_path / "tuned"))
    with between.at(0.0) as model:
        assert torch.equal(logits(model), logits(between.base))


@pytest.mark.filterwarnings("ignore:Adapter 'default'")  # PEFT takes a bias for a shard
def test_a_scaled_adapter_loads_as_any_other(tmp_path: Path) -> None:
    base = str(save_tiny(ARCHITECTURES["gpt_neox"](), tmp_path / "base"))
    between = Interpolation(base, adapter_on(base, tmp_path / "adapter", ["query_key_value", "dense"], lora_bias=True))
    with between.at({"query+key": 0.2, "value+output": 0.8}) as model:
        expected = logits(model)
        model.save_pretrained(tmp_path / "scaled", save_embedding_layers=False)
    with peft_warnings():
        loaded = PeftModel.from_pretrained(ARCHITECTURES["gpt_neox"](), tmp_path / "scaled").eval()
    assert torch.equal(logits(loaded), expected)


@pytest.mark.parametrize("settings", [
    {"use_dora": True},
    {"modules_to_save": ["lm_head"]},
    {"trainable_token_indices": [3, 5]},
])  # fmt: skip
def test_an_adapter_that_is_no_plain_lora_is_refused(settings: dict[str, object], tmp_path: Path) -> None:
    base = str(save_tiny(ARCHITECTURES["mistral"](), tmp_path / "base"))
    adapter = adapter_on(base, tmp_path / "adapter", ["v_proj"], **settings)
    with pytest.raises(ModelError, match="merge_and_unload"):
        Interpolation(base, adapter)


def test_an_adapter_that_rewrites_the_base_is_refused(tmp_path: Path) -> None:
    base = str(save_tiny(ARCHITECTURES["mistral"](), tmp_path / "base"))
    adapter = adapter_on(base, tmp_path / "adapter", ["v_proj"], init_lora_weights="pissa")
    with pytest.raises(ModelError, match="rewrites weights of the base"):
        Interpolation(base, adapter)


def test_an_adapter_on_another_base_is_refused(tmp_path: Path) -> None:
    base, tuned = pair("llama", tmp_path)
    adapter = adapter_on(base, tmp_path / "adapter", ["v_proj"])
    with pytest.raises(ModelError, match=f"is an adapter on {base}, not on {tuned}"):
        Interpolation(tuned, adapter)
    with pytest.raises(ModelError, match="name the model that it was tuned from"):
        Interpolation(adapter, tuned)


def test_equal_models_are_refused(tmp_path: Path) -> None:
    base, _ = pair("llama", tmp_path)
    with pytest.raises(ModelError, match="nothing to go back on"):
        Interpolation(base, base)
    with peft_warnings():
        fresh = get_peft_model(load_model(base), LoraConfig(target_modules=["v_proj"]))
    fresh.save_pretrained(tmp_path / "fresh", save_embedding_layers=False)
    with pytest.raises(ModelError, match="nothing to go back on"):
        Interpolation(base, str(tmp_path / "fresh"))


@pytest.mark.parametrize("other", ["qwen2", "gpt2"])
def test_another_architecture_is_refused(other: str, tmp_path: Path) -> None:
    base, _ = pair("llama", tmp_path)
    tuned = str(save_tiny(ARCHITECTURES[other](), tmp_path / "other"))
    with pytest.raises(ModelError, match="one architecture, one size and one vocabulary"):
        Interpolation(base, tuned)


def test_another_vocabulary_is_refused(tmp_path: Path) -> None:
    base, _ = pair("llama", tmp_path)
    larger = ARCHITECTURES["llama"]()
    larger.resize_token_embeddings(260, mean_resizing=False)
    with pytest.raises(ModelError, match=r"embed_tokens.weight is \(260, 32\) there and \(256, 32\) here"):
        Interpolation(base, str(save_tiny(larger, tmp_path / "larger")))


def test_a_config_that_computes_otherwise_is_refused(tmp_path: Path) -> None:
    base, tuned = pair("llama", tmp_path)
    path = Path(tuned) / "config.json"
    settings = json.loads(path.read_text())
    settings["rms_norm_eps"] = 0.5
    path.write_text(json.dumps(settings))
    with pytest.raises(ModelError, match="their configs differ"):
        Interpolation(base, tuned)


def test_all_families_have_the_four_groups() -> None:
    assert {role for members in GROUPS.values() for role in members} == set().union(
        *(family.modules for family in FAMILIES.values())
    )


def test_a_started_adapter_goes_back_in_a_straight_line_and_dora_is_refused(tmp_path: Path) -> None:
    """What is saved of a CorDA start is a plain LoRA; the length that DoRA trains is not linear in its scale."""
    base = str(save_tiny(ARCHITECTURES["phi3"](), tmp_path / "base"))
    expected = logits(load_model(base))
    for name, trainable in (("corda", Lora(r=4, start="corda")), ("dora", Lora(r=4, dora=True))):
        trained = apply_trainable(load_model(base), trainable, 0, lambda count: IDS.tolist())
        assert isinstance(trained.model, PeftModel)
        with torch.no_grad():
            for parameter, part in trained.parts.items():
                moving = trained.model.get_parameter(parameter)
                moving.add_(0.1 if part is None else 0.1 * part)
        save_trained(trained, byte_tokenizer(), tmp_path / name, torch.float32, check=lambda folder: None)
    tuned = logits(load_model(str(tmp_path / "corda")))
    assert (tuned - expected).abs().max() > 0.1
    between = Interpolation(base, str(tmp_path / "corda"))
    assert between.groups == ("query+key", "value+output")
    with between.at(0.0) as model:
        assert torch.equal(logits(model), expected)
    with between.at(1.0) as model:
        assert torch.equal(logits(model), tuned)
    with pytest.raises(ModelError, match=r"lora_magnitude_vector.* not A or B of a plain LoRA.*merge_and_unload"):
        Interpolation(base, str(tmp_path / "dora"))
