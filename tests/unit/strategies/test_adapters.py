"""DoRA and CorDA's start: they begin at the base, move what they say, and what is saved is what plain PEFT loads."""

import json
from pathlib import Path

import pytest
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from peft.tuners.lora.config import CordaConfig
from peft.tuners.lora.corda import preprocess_corda
from pydantic import ValidationError
from tests.architectures import ARCHITECTURES
from tests.training import byte_tokenizer
from torch import Tensor

from keepshot.errors import ConfigError, DataError, RunError
from keepshot.models.interpolate import lora_layers
from keepshot.models.load import CausalLM, peft_warnings
from keepshot.runs.training import save_trained
from keepshot.strategies import (
    Lora,
    Roles,
    TrainableSet,
    apply_trainable,
    fingerprint,
    register_gradient_masks,
    tensors_to_save,
    verify_frozen,
)
from keepshot.strategies import adapters as module
from keepshot.strategies.knowledge import least_used
from keepshot.strategies.parts import Mask
from keepshot.train.checkpoints import load_trainable, save_trainable

FAMILIES = ("llama", "gpt2", "gpt_neox", "phi3", "gemma3", "opt")
FUSED = ("gpt2", "gpt_neox", "phi3")
DORA, CORDA = Lora(r=4, dropout=0, dora=True), Lora(r=4, dropout=0, start="corda")
IDS = torch.randint(2, 256, (2, 10), generator=torch.Generator().manual_seed(0))
PROMPTS = torch.randint(2, 256, (6, 24), generator=torch.Generator().manual_seed(1)).tolist()


def prompts(count: int) -> list[list[int]]:
    return PROMPTS[:count]


@torch.no_grad()
def logits(model: CausalLM) -> Tensor:
    return model.eval()(input_ids=IDS, use_cache=False).logits.float()


def train(trained: TrainableSet, steps: int = 3, rate: float = 0.02) -> None:
    """AdamW with a weight decay that is hard to overlook, as the trainer would run it."""
    handles = register_gradient_masks(trained.model, trained)
    named = [(name, p) for name, p in trained.model.named_parameters() if p.requires_grad]
    groups = [
        {"params": [p for name, p in named if name not in trained.no_decay_names], "weight_decay": 0.5},
        {"params": [p for name, p in named if name in trained.no_decay_names], "weight_decay": 0.0},
    ]
    optimizer = torch.optim.AdamW(groups, lr=rate)
    for _ in range(steps):
        optimizer.zero_grad()
        trained.model(IDS, labels=IDS, use_cache=False).loss.backward()
        optimizer.step()
    for handle in handles:
        handle.remove()


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("trainable", [DORA, CORDA], ids=["dora", "corda"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_an_adapter_starts_at_the_base_moves_its_parts_and_loads_with_peft(
    trainable: Lora, family: str, dtype: torch.dtype, tmp_path: Path
) -> None:
    base = ARCHITECTURES[family]().to(dtype)
    expected = logits(base)
    trained = apply_trainable(base, trainable, 0, prompts)
    if dtype == torch.float32:
        assert (logits(trained.model) - expected).abs().max() < 1e-5
        assert torch.equal(disabled(trained), expected)
    else:  # the magnitudes are not rounded, and the halves cancel
        assert torch.equal(logits(trained.model), expected)
        trained.model.float()  # as the trainer's arithmetic; the stored numbers are still those of 16 bits
    before = {name: p.detach().clone() for name, p in trained.model.named_parameters()}
    frozen = fingerprint(trained.model, trained.parts)
    train(trained)
    verify_frozen(frozen, fingerprint(trained.model, trained.parts))
    for name, after in trained.model.named_parameters():
        changed = before[name] != after
        part: Mask | None = trained.parts.get(name, torch.zeros(1, dtype=torch.bool))
        assert name not in trained.parts or changed.any(), name
        assert part is None or not (changed & ~part).any(), name

    tuned = logits(trained.model)
    assert (tuned - expected).abs().max() > 0.1
    save_trained(trained, byte_tokenizer(), tmp_path / "saved", dtype, check=lambda folder: None)
    with peft_warnings():
        again = PeftModel.from_pretrained(ARCHITECTURES[family]().to(dtype).float(), tmp_path / "saved")
    assert (logits(again) - tuned).abs().max() < 1e-4
    settings = json.loads((tmp_path / "saved/adapter_config.json").read_text())
    assert settings["use_dora"] == trainable.dora
    assert settings["init_lora_weights"] is True  # nothing that would rewrite a base
    assert settings["r"] == (4 if trainable.dora else 8)


def disabled(trained: TrainableSet) -> Tensor:
    assert isinstance(trained.model, PeftModel)
    with trained.model.disable_adapter():
        return logits(trained.model)


@pytest.mark.parametrize("family", FUSED)
@pytest.mark.parametrize("trainable", [DORA, CORDA], ids=["dora", "corda"])
def test_rows_of_other_roles_stay_the_bases_when_an_adapter_is_merged(trainable: Lora, family: str) -> None:
    base = {name: p.detach().clone() for name, p in ARCHITECTURES[family]().named_parameters()}
    by_role = apply_trainable(ARCHITECTURES[family](), Roles(roles=("value",)), seed=0).parts
    trained = apply_trainable(ARCHITECTURES[family](), trainable.model_copy(update={"targets": ("value",)}), 0, prompts)
    train(trained)
    assert isinstance(trained.model, PeftModel)
    num_seen = 0
    for name, after in trained.model.merge_and_unload().named_parameters():
        part = by_role.get(name) if name.endswith("weight") else None
        if part is None:
            assert torch.equal(after, base[name])
            continue
        inside = part.expand(after.shape)
        assert (after != base[name])[inside].float().mean() > 0.9
        # PEFT computes |W| anew at every merge, so that m / |W| can differ from 1 in the last digit.
        apart = 1e-6 if trainable.dora else 0
        torch.testing.assert_close(after[~inside], base[name][~inside], rtol=apart, atol=0)
        num_seen += 1
    assert num_seen == 2


def test_the_start_is_what_peft_takes_out_of_the_base() -> None:
    """With one prompt, PEFT's scaling of every sample by its largest number cancels."""
    theirs = ARCHITECTURES["llama"]()
    config = LoraConfig(
        task_type="CAUSAL_LM",
        r=4,
        lora_alpha=32,
        target_modules=["q_proj", "v_proj"],
        init_lora_weights="corda",
        corda_config=CordaConfig(corda_method="kpm"),
    )
    preprocess_corda(theirs, config, run_model=lambda: theirs(torch.tensor(PROMPTS[:1])))
    with peft_warnings():
        theirs = get_peft_model(theirs, config)
    ours = apply_trainable(ARCHITECTURES["llama"](), CORDA.model_copy(update={"prompts": 1}), 0, prompts).model
    assert isinstance(ours, PeftModel)
    for (path, their), (same, our) in zip(lora_layers(theirs), lora_layers(ours), strict=True):
        assert path == same
        expected = their.get_delta_weight("default")
        a, b = our.lora_A["default"].weight, our.lora_B["default"].weight
        started = our.scaling["default"] * b[:, :4] @ a[:4]
        assert (started - expected).norm() < 1e-2 * expected.norm(), path
        assert torch.equal(b[:, 4:], -b[:, :4])
        assert torch.equal(a[4:], a[:4])
        assert our.scaling["default"] == their.scaling["default"] == 8


def test_few_shot_prompts_use_the_start_least() -> None:
    """On the prompts' own activations, what was taken out computes far less than a random part of that rank would."""
    model = apply_trainable(ARCHITECTURES["mistral"](), CORDA, 0, prompts).model
    assert isinstance(model, PeftModel)
    layer = dict(lora_layers(model))["model.layers.1.self_attn.q_proj"]
    seen: list[Tensor] = []
    handle = layer.register_forward_pre_hook(lambda _, given: seen.append(given[0].flatten(0, 1)))
    with torch.no_grad():
        for ids in PROMPTS:
            model(torch.tensor([ids]))
    handle.remove()
    x, weight = torch.cat(seen).double(), layer.get_base_layer().weight.double()
    a, b = (m["default"].weight.double() for m in (layer.lora_A, layer.lora_B))
    part = 8 * b[:, :4] @ a[:4]
    assert torch.linalg.matrix_rank(weight - part, atol=1e-4) == 28
    others = [weight @ q @ q.mT for q in (torch.linalg.qr(torch.randn(32, 4).double())[0] for _ in range(20))]
    assert (x @ part.mT).norm() < 0.5 * min(float((x @ other.mT).norm()) for other in others)


def test_what_is_saved_survives_rounding_to_16_bits() -> None:
    """The difference of two nearly equal products does not."""
    model = ARCHITECTURES["gpt2"]()
    base = logits(model)
    trained = apply_trainable(model, CORDA.model_copy(update={"targets": ("value",)}), 0, prompts)
    train(trained, steps=1, rate=1e-3)
    assert isinstance(trained.model, PeftModel)
    tensors = tensors_to_save(trained.model, trained.parts)
    assert tensors is not None
    assert tensors_to_save(trained.model, dict.fromkeys(trained.parts)) is None
    paths = [name.removesuffix(".lora_A.default.weight") for name in tensors if "lora_A" in name]
    for path in paths:
        mine = [trained.model.state_dict()[f"{path}.lora_{m}.default.weight"] for m in "BA"]
        saved = [tensors[f"{path}.lora_{m}.default.weight"] for m in "BA"]
        change = mine[0] @ mine[1]
        torch.testing.assert_close(saved[0] @ saved[1], change, rtol=0, atol=1e-5)
        errors = [
            float((b.bfloat16().float() @ a.bfloat16().float() - change).norm() / change.norm())
            for b, a in (mine, saved)
        ]
        assert errors[1] < 0.01 < errors[0]
        assert not saved[0][:64].any()  # the rows of query and key
    assert (logits(trained.model) - base).abs().max() > 1e-3


def test_a_resumed_run_needs_no_equal_start(tmp_path: Path) -> None:
    """A checkpoint holds both halves, so that a decomposition that comes out otherwise cannot change the model."""
    first = apply_trainable(ARCHITECTURES["phi3"](), CORDA, 0, prompts)
    train(first)
    save_trainable(first.model, tmp_path)
    second = apply_trainable(ARCHITECTURES["phi3"](), CORDA, 1, lambda count: PROMPTS[:2])
    assert not torch.equal(logits(first.model), logits(second.model))
    load_trainable(second.model, tmp_path)
    assert torch.equal(logits(first.model), logits(second.model))
    train(first)
    train(second)
    assert torch.equal(logits(first.model), logits(second.model))


def test_a_start_that_is_not_the_base_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    def wrong(weight: Tensor, covariance: Tensor, r: int) -> tuple[Tensor, Tensor]:
        a, b = least_used(weight, covariance, r)
        return a, b * torch.tensor(float("inf"))

    monkeypatch.setattr(module, "least_used", wrong)
    with pytest.raises(RunError, match="does not start at the base"):
        apply_trainable(ARCHITECTURES["llama"](), CORDA, 0, prompts)


def test_bad_adapters_are_refused() -> None:
    with pytest.raises(ConfigError, match="needs few-shot prompts"):
        apply_trainable(ARCHITECTURES["llama"](), CORDA, 0)
    with pytest.raises(ConfigError, match=r"cannot take 17 components .* which has 16; set a smaller r"):
        apply_trainable(ARCHITECTURES["llama"](), Lora(r=17, start="corda"), 0, prompts)
    with pytest.raises(DataError, match="no few-shot prompts"):
        apply_trainable(ARCHITECTURES["llama"](), CORDA, 0, lambda count: [])
    for fields, said in (
        ({"dora": True, "start": "corda"}, "dora or start: corda, not both"),
        ({"prompts": 8}, "start: corda alone"),
    ):
        with pytest.raises((ConfigError, ValidationError), match=said):
            Lora.model_validate(fields)
    # On the meta device there are no numbers; the rank is looked at all the same.
    with torch.device("meta"):
        empty = ARCHITECTURES["gpt2"]().to("meta")
    assert apply_trainable(empty, CORDA, 0).num_parameters == 2 * (4 * 32 + 64 * 4)
