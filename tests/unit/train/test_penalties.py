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


@pytest.fixture(scope="module")
def rows() -> list[PlannedRow]:
    stream = few_shot()
    found = plan(target(), stream).rows("few-shot", [stream.sampler.draw(index) for index in range(3)])
    assert len({row.num_scored for row in found}) == 3, "rows of equal size would hide a wrong mean"
    return found


def trained(name: str, trainable: Trainable) -> TrainableSet:
    return prepared(ARCHITECTURES[name](), trainable)


def plain_gradients(found: TrainableSet, row: PlannedRow, seed: int) -> list[dict[str, Tensor]]:
    """By the definition: a forward and a backward pass of its own for every answer token of a row."""
    parameters = {name: p for name, p in found.model.named_parameters() if p.requires_grad}
    every = []
    for place in (place for start, end in row.scored for place in range(start, end)):
        logits = found.model(input_ids=torch.tensor([list(row.row.ids[:place])])).logits[0, -1]
        sums = logits.detach().double().softmax(-1).cumsum(0)
        uniform = generator(seed, "ewc answer", row.name, place).random()
        drawn = int((sums <= uniform * sums[-1]).sum())
        gradients = torch.autograd.grad(logits.log_softmax(-1)[drawn], list(parameters.values()), allow_unused=True)
        every.append({name: g for name, g in zip(parameters, gradients, strict=True) if g is not None})
    return every


def plain_fisher(found: TrainableSet, rows: list[PlannedRow], seed: int) -> dict[str, Tensor]:
    """The mean over rows of the mean over tokens of squares."""
    total = {name: torch.zeros_like(p) for name, p in found.model.named_parameters() if p.requires_grad}
    for row in rows:
        every = plain_gradients(found, row, seed)
        for gradients in every:
            for name, gradient in gradients.items():
                total[name] += gradient**2 / len(every) / len(rows)
    return total


def plain_estimate(found: TrainableSet, rows: list[PlannedRow], passes: int, seed: int) -> dict[str, Tensor]:
    """Squares of sums over a part of the rows."""
    total = {name: torch.zeros_like(p) for name, p in found.model.named_parameters() if p.requires_grad}
    for first in range(passes):
        sums = {name: torch.zeros_like(number) for name, number in total.items()}
        for row in rows[first::passes]:
            every = plain_gradients(found, row, seed)
            for gradients in every:
                for name, gradient in gradients.items():
                    sums[name] += gradient / len(every) ** 0.5
        for name, number in sums.items():
            total[name] += number**2 / len(rows)
    return total


@pytest.mark.parametrize(
    ("name", "trainable"),
    [("llama", Roles(roles=("value", "norm"))), ("llama", Lora(dropout=0.5)), ("gpt2", Everything())],
)
@pytest.mark.parametrize("passes", [1, 2, 3])
def test_an_estimate_is_the_squares_of_sums_over_prompts_and_all_their_tokens(
    name: str, trainable: Trainable, passes: int, rows: list[PlannedRow]
) -> None:
    found = trained(name, trainable)
    expected = plain_estimate(found, rows, passes, seed=3)
    found.model.train()
    mine = fisher(found.model, found.parts, rows, passes=passes, seed=3)
    assert found.model.training
    assert all(p.grad is None for p in found.model.parameters())
    assert mine.keys() == expected.keys()
    largest = max(float(tensor.max()) for tensor in expected.values())
    assert largest > 0
    for key in expected:
        torch.testing.assert_close(mine[key], expected[key], rtol=1e-3, atol=1e-5 * largest)


@pytest.mark.parametrize("passes", [1, 3])
def test_its_mean_over_draws_is_the_mean_of_squares_of_single_tokens(passes: int, rows: list[PlannedRow]) -> None:
    """Tensor by tensor: labels in the place of draws, or a mean in the place of a sum, would be far off."""
    found = trained("llama", Roles(roles=("value", "norm")))
    every = [fisher(found.model, found.parts, rows, passes=passes, seed=seed) for seed in range(200)]
    plain = [plain_fisher(found, rows, seed) for seed in range(12)]
    for key in plain[0]:
        mean = sum(float(one[key].double().sum()) for one in every) / len(every)
        assert mean == pytest.approx(sum(float(one[key].double().sum()) for one in plain) / len(plain), rel=0.2)


def test_draws_are_keyed_and_the_order_of_rows_says_nothing(rows: list[PlannedRow]) -> None:
    found = trained("llama", Roles(roles=("value",)))

    def total(seed: int, some: list[PlannedRow]) -> float:
        importance = fisher(found.model, found.parts, some, passes=1, seed=seed)
        return sum(float(tensor.double().sum()) for tensor in importance.values())

    assert total(0, rows) == pytest.approx(total(0, rows[::-1]), rel=1e-4)
    assert total(0, rows) != total(1, rows)


def test_of_a_fused_tensor_only_what_moves_has_information(rows: list[PlannedRow]) -> None:
    found = trained("gpt2", Roles(roles=("value",)))
    importance = fisher(found.model, found.parts, rows, passes=3, seed=0)
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


@pytest.mark.parametrize("scale", [1.0, 1024.0])
def test_the_gradient_is_strength_x_importance_x_the_way_from_the_start(scale: float) -> None:
    """Beside the gradient of a loss, and as autograd has it."""
    found = trained("llama", Roles(roles=("value",)))
    parameters = {name: p for name, p in found.model.named_parameters() if p.requires_grad}
    start = {name: p.detach().clone() for name, p in parameters.items()}
    draw = torch.Generator().manual_seed(0)
    weighed = next(iter(parameters))
    importance = {weighed: torch.rand(parameters[weighed].shape, generator=draw)}
    held = HeldNumbers("ewc", 3.0, start, importance)
    assert held.pull(found.model).item() == 0
    assert all(float(p.grad.abs().max()) == 0 for p in parameters.values())
    *without, last = parameters.values()
    last.grad = None
    before = [torch.randn(p.shape, generator=draw) for p in without]
    with torch.no_grad():
        for parameter in parameters.values():
            parameter += torch.randn(parameter.shape, generator=draw)
    for parameter, gradient in zip(without, before, strict=True):
        parameter.grad = gradient.clone()
    value = held.pull(found.model, scale)
    ours = [parameter.grad.clone() for parameter in parameters.values()]
    found.model.zero_grad()
    plain = sum(
        1.5 * (importance.get(name, torch.ones(())) * (p - start[name]).square()).sum()
        for name, p in parameters.items()
    )
    plain.backward()
    assert value.item() == pytest.approx(plain.item(), rel=1e-4)
    for mine, first, parameter in zip(ours, [*before, torch.zeros_like(last)], parameters.values(), strict=True):
        torch.testing.assert_close(mine, first + scale * parameter.grad, rtol=1e-4, atol=1e-5 * scale)


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
