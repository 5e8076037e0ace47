"""Penalties: value and gradient, the Fisher information against its definition, and its file."""

from pathlib import Path

import pytest
import torch
from tests.architectures import ARCHITECTURES
from tests.training import few_shot, plan, prepared, target
from torch import Tensor

from keepshot.errors import RunError
from keepshot.keys import generator
from keepshot.strategies import Everything, Lora, Roles, Trainable, TrainableSet
from keepshot.train import HeldNumbers, PlannedRow
from keepshot.train.keyed import save_keyed
from keepshot.train.penalties import fisher, fisher_key, load_importance, normalised

ALL = 1000
"""More tokens than any row scores."""


@pytest.fixture(scope="module")
def rows() -> list[PlannedRow]:
    stream = few_shot()
    found = plan(target(), stream).rows("few-shot", [stream.sampler.draw(index) for index in range(3)])
    assert len({row.num_scored for row in found}) == 3, "rows of equal size would hide a wrong mean"
    return found


def trained(name: str, trainable: Trainable) -> TrainableSet:
    return prepared(ARCHITECTURES[name](), trainable)


def plain_fisher(found: TrainableSet, rows: list[PlannedRow], seed: int) -> dict[str, Tensor]:
    """By the definition: a forward and a backward pass of its own for every row and every answer token."""
    parameters = {name: p for name, p in found.model.named_parameters() if p.requires_grad}
    total = {name: torch.zeros_like(p) for name, p in parameters.items()}
    for row in rows:
        places = [place for start, end in row.scored for place in range(start, end)]
        for place in places:
            logits = found.model(input_ids=torch.tensor([list(row.row.ids[:place])])).logits[0, -1]
            sums = logits.detach().double().softmax(-1).cumsum(0)
            uniform = generator(seed, "ewc answer", row.name, place).random()
            drawn = int((sums <= uniform * sums[-1]).sum())
            gradients = torch.autograd.grad(logits.log_softmax(-1)[drawn], list(parameters.values()), allow_unused=True)
            for name, gradient in zip(parameters, gradients, strict=True):
                if gradient is not None:
                    total[name] += gradient**2 / len(places) / len(rows)
    return total


@pytest.mark.parametrize(
    ("name", "trainable"),
    [("llama", Roles(roles=("value", "norm"))), ("llama", Lora(dropout=0.5)), ("gpt2", Everything())],
)
def test_the_fisher_information_is_the_mean_of_squares_of_single_tokens(
    name: str, trainable: Trainable, rows: list[PlannedRow]
) -> None:
    found = trained(name, trainable)
    expected = plain_fisher(found, rows, seed=3)
    found.model.train()
    mine = fisher(found.model, found.parts, rows, tokens=ALL, seed=3)
    assert found.model.training
    assert all(p.grad is None for p in found.model.parameters())
    assert mine.keys() == expected.keys()
    largest = max(float(tensor.max()) for tensor in expected.values())
    assert largest > 0
    for key in expected:
        torch.testing.assert_close(mine[key], expected[key], rtol=1e-3, atol=1e-5 * largest)


def test_fewer_tokens_are_drawn_by_key_and_leave_the_mean_as_it_is(rows: list[PlannedRow]) -> None:
    found = trained("llama", Roles(roles=("value",)))

    def total(tokens: int, seed: int, some: list[PlannedRow]) -> float:
        importance = fisher(found.model, found.parts, some, tokens=tokens, seed=seed)
        return sum(float(tensor.double().sum()) for tensor in importance.values())

    assert total(1, 0, rows) == pytest.approx(total(1, 0, rows[::-1]), rel=1e-5)
    assert total(1, 0, rows) != total(1, 1, rows)
    several = [total(1, seed, rows[:1]) for seed in range(40)]
    every = [total(ALL, seed, rows[:1]) for seed in range(10)]
    assert sum(several) / 40 == pytest.approx(sum(every) / 10, rel=0.3)


def test_of_a_fused_tensor_only_what_moves_has_information(rows: list[PlannedRow]) -> None:
    found = trained("gpt2", Roles(roles=("value",)))
    importance = fisher(found.model, found.parts, rows, tokens=1, seed=0)
    weighed = normalised(importance, found.parts)
    count, total = 0, 0.0
    for name, part in found.parts.items():
        assert part is not None
        inside = part.expand_as(importance[name])
        assert float(importance[name][~inside].abs().max()) == 0
        assert float(importance[name][inside].max()) > 0
        count, total = count + int(inside.sum()), total + float(weighed[name].double().sum())
    assert total / count == pytest.approx(1, rel=1e-5)


def test_information_that_is_0_is_refused() -> None:
    with pytest.raises(RunError, match=r"the mean Fisher information of the numbers that move is 0; .* or l2sp"):
        normalised({"weight": torch.zeros(2, 2)}, {"weight": None})


def test_the_gradient_is_strength_x_importance_x_the_way_from_the_start() -> None:
    found = trained("llama", Roles(roles=("value",)))
    parameters = {name: p for name, p in found.model.named_parameters() if p.requires_grad}
    start = {name: p.detach().clone() for name, p in parameters.items()}
    draw = torch.Generator().manual_seed(0)
    weighed = next(iter(parameters))
    importance = {weighed: torch.rand(parameters[weighed].shape, generator=draw)}
    held = HeldNumbers("ewc", 3.0, start, importance)
    assert held.value(found.model).item() == 0
    away = {name: torch.randn(p.shape, generator=draw) for name, p in parameters.items()}
    with torch.no_grad():
        for name, parameter in parameters.items():
            parameter += away[name]
    value = held.value(found.model)
    value.backward()
    expected = 0.0
    for name, parameter in parameters.items():
        weights = importance.get(name, torch.ones(()))
        torch.testing.assert_close(parameter.grad, 3 * weights * away[name], rtol=1e-4, atol=1e-5)
        expected += 1.5 * float((weights * away[name] ** 2).sum())
    assert value.item() == pytest.approx(expected, rel=1e-4)


def test_the_file_is_read_for_its_own_key_alone(tmp_path: Path) -> None:
    path = tmp_path / "ewc.safetensors"
    assert load_importance(path, "key") is None
    importance = {"a.weight": torch.rand(2, 3), "b": torch.rand(4)}
    save_keyed(importance, path, "key")
    assert [file.name for file in tmp_path.iterdir()] == ["ewc.safetensors"]
    again = load_importance(path, "key")
    assert again is not None
    assert again.keys() == importance.keys()
    assert all(torch.equal(again[name], importance[name]) for name in again)
    assert load_importance(path, "another") is None
    path.write_bytes(b"no tensors")
    with pytest.raises(RunError, match=r"ewc.safetensors is no Fisher information: .*; delete it"):
        load_importance(path, "key")


def test_the_key_knows_all_that_matters(rows: list[PlannedRow]) -> None:
    masked = {"a": torch.tensor([True, False])}
    keys = [
        fisher_key(["w"], {"a": None}, rows, 2, 0),
        fisher_key(["v"], {"a": None}, rows, 2, 0),
        fisher_key(["w"], {"b": None}, rows, 2, 0),
        fisher_key(["w"], masked, rows, 2, 0),
        fisher_key(["w"], {"a": None}, rows[:2], 2, 0),
        fisher_key(["w"], {"a": None}, rows, 1, 0),
        fisher_key(["w"], {"a": None}, rows, 2, 1),
    ]
    assert len(set(keys)) == len(keys)
    assert fisher_key(iter(["w"]), {"a": None}, list(rows), 2, 0) == keys[0]
