"""The dense model computes what its equation says, and its roles are the words of a language model's."""

import pytest
import torch

from keepshot.errors import ModelError
from keepshot.models.linear_attention import LinearAttention, Shape, attention_roles, train_only

WIDTH = 4


def tokens(prompts: int = 6, count: int = 5) -> torch.Tensor:
    return torch.randn(prompts, count, WIDTH, generator=torch.Generator().manual_seed(0))


def large(shape: Shape) -> LinearAttention:
    """A model whose numbers are not small, so that a wrong term shows."""
    model = LinearAttention(shape, seed=0)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(10)
    return model


@pytest.mark.parametrize("softmax", [False, True])
@pytest.mark.parametrize("separate", [False, True])
def test_the_equation_token_by_token(softmax: bool, separate: bool) -> None:
    model = large(Shape(2, heads=2, separate=separate, softmax=softmax))
    parameters = {name.rpartition(".")[2]: value for name, value in model.named_parameters()}
    for prompt, found in zip(tokens(), model(tokens()), strict=True):
        query, expected = prompt[-1], prompt[-1, -1].clone()
        for head in range(2):
            if separate:
                scores = [(parameters["query"][head] @ query) @ (parameters["key"][head] @ z) for z in prompt]
            else:
                scores = [query @ parameters["query_key"][head] @ z for z in prompt]
            stacked = torch.stack(scores)
            weights = stacked.softmax(0) if softmax else stacked / len(prompt)
            expected += sum(
                weight * (parameters["value"][head] @ z)[-1] for weight, z in zip(weights, prompt, strict=True)
            )
        torch.testing.assert_close(found, expected)


@pytest.mark.parametrize("softmax", [False, True])
def test_readout_is_the_whole_layer_s_last_number(softmax: bool) -> None:
    [layer] = large(Shape(2, heads=3, softmax=softmax)).layers
    torch.testing.assert_close(layer.readout(tokens()), layer(tokens())[:, -1, -1])


def test_layers_follow_each_other() -> None:
    model = large(Shape(2, layers=2))
    first, second = model.layers
    torch.testing.assert_close(model(tokens()), second(first(tokens()))[:, -1, -1])


def test_order_of_demonstrations_does_not_matter() -> None:
    model, shuffled = large(Shape(2, layers=2, softmax=True)), tokens()[:, [2, 0, 3, 1, 4]]
    torch.testing.assert_close(model(tokens()), model(shuffled))


def test_initial_numbers_are_keyed_and_small() -> None:
    first, same, other = (LinearAttention(Shape(20), seed) for seed in (0, 0, 1))
    assert torch.equal(first.layers[0].value, same.layers[0].value)
    assert not torch.equal(first.layers[0].value, other.layers[0].value)
    assert first.layers[0].value.std().item() == pytest.approx(0.05, rel=0.2)


def test_roles() -> None:
    merged, separate = (attention_roles(LinearAttention(Shape(2, 2, separate=apart), 0)) for apart in (False, True))
    assert [part.parameter for part in merged["value"]] == ["layers.0.value", "layers.1.value"]
    assert merged["query"] == merged["key"]
    assert [part.parameter for part in separate["key"]] == ["layers.0.key", "layers.1.key"]


def test_only_a_role_is_trained() -> None:
    model = LinearAttention(Shape(2, separate=True), 0)
    assert train_only(model, ["value"])[0] is model.layers[0].value
    model(tokens()).sum().backward()
    assert [name for name, value in model.named_parameters() if value.grad is not None] == ["layers.0.value"]
    assert len(train_only(model, ["query", "key", "value"])) == 3


def test_what_it_does_not_have_is_refused() -> None:
    with pytest.raises(ModelError, match="roles query, key, value; got mlp"):
        train_only(LinearAttention(Shape(2), 0), ["mlp"])
    with pytest.raises(ModelError, match="got none"):
        train_only(LinearAttention(Shape(2), 0), [])
    with pytest.raises(ModelError, match="at least 1"):
        Shape(2, heads=0)
