"""The lens shows what the model would say if it ended there: as a model that does end there says."""

import pytest
import torch
from tests.architectures import ARCHITECTURES
from transformers import AutoModelForCausalLM, PreTrainedModel

from keepshot.errors import DataError, ModelError
from keepshot.probes.lens import Lens, lens

FAMILIES = tuple(name for name in ARCHITECTURES if name != "bloom")
PROMPTS = [(1, 40, 61, 7, 40, 12), (1, 9, 8, 7)]
TOKENS = [(3, 200), (9, 77)]


def ended(model: PreTrainedModel) -> PreTrainedModel:
    """The same model without its second layer."""
    values = {**model.config.to_dict(), "num_hidden_layers": 1}
    if values.get("layer_types"):
        values["layer_types"] = values["layer_types"][:1]
    config = type(model.config)(**values)
    short = AutoModelForCausalLM.from_config(config, dtype=torch.float32).eval()
    wanted = short.state_dict()
    short.load_state_dict({name: value for name, value in model.state_dict().items() if name in wanted})
    return short


def ranks(model: PreTrainedModel) -> torch.Tensor:
    found = []
    for prompt, asked in zip(PROMPTS, TOKENS, strict=True):
        logits = model(input_ids=torch.tensor([prompt])).logits[0, -1]
        found.append([sorted(logits.tolist(), reverse=True).index(logits[token].item()) + 1 for token in asked])
    return torch.tensor(found)


@pytest.mark.parametrize("name", FAMILIES)
def test_each_layer_is_a_model_that_ends_there(name: str) -> None:
    model = ARCHITECTURES[name]()
    found = lens(model, PROMPTS, TOKENS).ranks
    assert found.shape == (2, 2, 2)
    assert found[1].tolist() == ranks(model).tolist()
    assert found[0].tolist() == ranks(ended(model)).tolist()


def test_where_an_answer_is_decided() -> None:
    ranked = torch.tensor([[[5, 1]], [[1, 2]], [[1, 3]]]).expand(3, 2, 2).clone()
    ranked[2, 1] = torch.tensor([4, 1])
    assert Lens(ranked).first(0) == [1, None]  # at rank 1 from layer 1 on; no longer at the end
    assert Lens(ranked).first(1) == [None, 2]


def test_what_has_no_lens() -> None:
    model = ARCHITECTURES["llama"]()
    for prompts, tokens in (([], []), (PROMPTS, TOKENS[:1]), (PROMPTS, [(1,), (1, 2)])):
        with pytest.raises(DataError, match="a lens needs prompts"):
            lens(model, prompts, tokens)
    with pytest.raises(ModelError, match="'bloom' has no roles"):
        lens(ARCHITECTURES["bloom"](), PROMPTS, TOKENS)
