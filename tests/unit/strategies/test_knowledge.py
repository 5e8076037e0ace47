"""The second moment of a layer's inputs on few-shot prompts, and the components of a weight that they use least."""

import pytest
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from tests.architectures import ARCHITECTURES
from torch import Tensor

from keepshot.errors import DataError, RunError
from keepshot.models.interpolate import lora_layers
from keepshot.models.load import peft_warnings
from keepshot.strategies.knowledge import check_step_0, covariances, least_used

PROMPTS = [[1, 5, 9, 2], [7, 8], [3] * 11]
NOISE = torch.Generator().manual_seed(0)


@pytest.fixture
def wrapped() -> PeftModel:
    """A base whose adapter is not at zero, in training mode: neither may show."""
    with peft_warnings():
        model = get_peft_model(ARCHITECTURES["opt"](), LoraConfig(r=2, target_modules=["q_proj", "fc2"]))
    for _, layer in lora_layers(model):
        torch.nn.init.ones_(layer.lora_B["default"].weight)
    return model.train()


def test_every_token_of_every_prompt_weighs_the_same(wrapped: PeftModel) -> None:
    found = covariances(wrapped, dict(lora_layers(wrapped)), PROMPTS)
    assert wrapped.training
    base = ARCHITECTURES["opt"]()
    seen: dict[str, list[Tensor]] = {path: [] for path in found}
    for path, inputs in seen.items():
        base.get_submodule(path).register_forward_pre_hook(
            lambda _, given, inputs=inputs: inputs.append(given[0].reshape(-1, given[0].shape[-1]))
        )
    with torch.no_grad():
        for ids in PROMPTS:
            base(torch.tensor([ids]))
    assert len(found) == 4
    for path, inputs in seen.items():
        x = torch.cat(inputs)
        assert len(x) == 17
        torch.testing.assert_close(found[path], x.T @ x / 17, rtol=1e-4, atol=1e-5)
    with pytest.raises(DataError, match="no few-shot prompts"):
        covariances(wrapped, dict(lora_layers(wrapped)), [])


@pytest.mark.parametrize(("outputs", "inputs"), [(6, 10), (10, 6)])
def test_all_components_together_are_the_weight(outputs: int, inputs: int) -> None:
    weight = torch.randn(outputs, inputs, generator=NOISE)
    factor = torch.randn(inputs, inputs, generator=NOISE)
    a, b = least_used(weight, factor @ factor.T, 6)
    torch.testing.assert_close(b @ a, weight.double())


def test_inputs_that_never_occur_go_first() -> None:
    """Without their covariance the smallest singular value would: that is another direction."""
    weight = torch.diag(torch.tensor([3.0, 2.0, 1.0]))
    a, b = least_used(weight, torch.diag(torch.tensor([0.0, 1.0, 1.0])), 1)
    expected = torch.diag(torch.tensor([3.0, 0.0, 0.0], dtype=torch.float64))
    torch.testing.assert_close(b @ a, expected)
    torch.testing.assert_close(a.norm(), b.norm() / torch.tensor(0.01 * 2 / 3, dtype=torch.float64))


def test_an_adapter_that_computes_something_is_found(wrapped: PeftModel) -> None:
    with pytest.raises(RunError, match="does not start at the base"):
        check_step_0(wrapped, PROMPTS[0])
