"""A drift is what was moved: nothing for the same model, known numbers for a known change; alike on all families."""

import pytest
import torch
from peft import LoraConfig, get_peft_model
from tests.architectures import ARCHITECTURES
from transformers import PreTrainedModel

from keepshot.errors import DataError, ModelError
from keepshot.models.load import peft_warnings
from keepshot.models.roles import mask, roles
from keepshot.probes.drift import Drift, drift

FAMILIES = tuple(name for name in ARCHITECTURES if name != "bloom")
PROMPTS = [(1, 40, 61, 7, 40, 12), (1, 9, 8, 7)]


def scaled(model: PreTrainedModel, role: str, layer: int, factor: float) -> PreTrainedModel:
    """The weights (and biases) of a role in a layer, times a number."""
    parameters = dict(model.named_parameters())
    with torch.no_grad():
        for part in roles(model)[role]:  # type: ignore[index]
            if f".{layer}." in part.parameter:
                parameter = parameters[part.parameter]
                where = mask([part], parameter.shape)
                moved = torch.ones(()) if where is None else where
                parameter.mul_(1 + (factor - 1) * moved)
    return model


@pytest.mark.parametrize("name", FAMILIES)
def test_nothing_moved(name: str) -> None:
    model = ARCHITECTURES[name]()
    before = model.config._attn_implementation
    found = drift(model, ARCHITECTURES[name](), PROMPTS)
    assert model.config._attn_implementation == before
    assert found.attention.shape == found.outputs.shape == (2, 4)
    for values in (found.attention, found.values, found.outputs):
        assert values.abs().max() == 0
    assert all(weights.nan_to_num().abs().max() == 0 for weights in found.weights.values())


@pytest.mark.parametrize("name", FAMILIES)
def test_values_that_grow_by_half_are_half_as_far_away(name: str) -> None:
    found = drift(ARCHITECTURES[name](), scaled(ARCHITECTURES[name](), "value", 1, 1.5), PROMPTS)
    assert found.values.tolist() == pytest.approx([0, 0.5], abs=1e-5)
    assert found.attention.abs().max() < 1e-6  # of this layer; there is none behind it
    assert found.outputs[0].abs().max() == 0
    assert found.outputs[1].tolist() == pytest.approx([0.5] * 4, abs=1e-5)
    assert found.weights["value"].tolist() == pytest.approx([0, 0.5], abs=1e-6)
    assert all(found.weights[role].nan_to_num().abs().max() == 0 for role in ("query", "key", "output", "mlp"))


def test_queries_move_attention_alone() -> None:
    found = drift(ARCHITECTURES["qwen2"](), scaled(ARCHITECTURES["qwen2"](), "query", 1, 3.0), PROMPTS)
    assert found.values.abs().max() == 0
    assert (found.attention[1] > 0.01).all()
    assert found.attention.max() <= 1
    # Alone the first token of a prompt looks at itself, whatever the queries are.
    first = drift(ARCHITECTURES["qwen2"](), scaled(ARCHITECTURES["qwen2"](), "query", 1, 3.0), [(1,)])
    assert first.attention.abs().max() == 0


def test_attention_is_read_at_the_query() -> None:
    base, tuned = ARCHITECTURES["llama"](), scaled(ARCHITECTURES["llama"](), "query", 1, 3.0)
    [prompt, _] = PROMPTS
    whole, last = drift(base, tuned, [prompt]), drift(base, tuned, [prompt], [5])
    by_token = [drift(base, tuned, [prompt[: end + 1]], [end]).attention for end in range(6)]
    assert torch.allclose(last.attention, by_token[5], atol=1e-6)
    assert torch.allclose(whole.attention, torch.stack(by_token).mean(dim=0), atol=1e-6)


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_an_adapter_drifts_as_its_merged_model_does() -> None:
    with peft_warnings():
        adapted = get_peft_model(
            ARCHITECTURES["llama"](), LoraConfig(r=2, target_modules=["v_proj", "q_proj"], init_lora_weights=False)
        )
    base = ARCHITECTURES["llama"]()
    found = drift(base, adapted, PROMPTS)
    merged = drift(base, adapted.merge_and_unload(), PROMPTS)
    for name in Drift.__slots__[:3]:
        assert torch.allclose(getattr(found, name), getattr(merged, name), atol=1e-5)
        assert getattr(found, name).abs().max() > 1e-3
    assert torch.allclose(found.weights["value"], merged.weights["value"], atol=1e-6)
    assert found.weights["key"].abs().max() == 0


def test_what_has_no_drift() -> None:
    model = ARCHITECTURES["llama"]()
    with pytest.raises(DataError, match="seen on prompts"):
        drift(model, model, [])
    with pytest.raises(DataError, match="the first token of its query"):
        drift(model, model, PROMPTS, [0])
    with pytest.raises(ModelError, match="two checkpoints of one architecture"):
        drift(model, ARCHITECTURES["gpt2"](), PROMPTS)
    with pytest.raises(ModelError, match="'bloom' has no roles"):
        drift(ARCHITECTURES["bloom"](), ARCHITECTURES["bloom"](), PROMPTS)
