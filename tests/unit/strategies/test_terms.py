import math
from collections.abc import Callable

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from keepshot.strategies import token_nll
from keepshot.strategies.terms import (
    Reference,
    answer_reference,
    base_shares,
    masked_reference,
    reference,
    token_kl,
    token_masked_kl,
    token_reverse_kl,
)

KLS = {"kl": token_kl, "reverse-kl": token_reverse_kl}
# The worked example of preservation_methods.md, "Acceptance numbers".
BASE, MODEL = (torch.tensor([row]).log() for row in ((0.5, 0.3, 0.15, 0.05), (0.4, 0.3, 0.2, 0.1)))
WIDE = {"vocab": st.integers(2, 40), "scale": st.sampled_from([0.1, 1.0, 5.0, 30.0]), "seed": st.integers(0, 10**6)}


def pair(vocab: int, scale: float, seed: int, tokens: int = 8) -> tuple[Tensor, Tensor]:
    """Logits of a base, and of a model that is equal, near or far at some tokens each."""
    draw = torch.Generator().manual_seed(seed)
    base = scale * torch.randn(tokens, vocab, generator=draw)
    away = torch.tensor([0.0, 1e-4, 0.1, 1.0]).repeat(-(-tokens // 4))[:tokens, None]
    return base, base + scale * away * torch.randn(tokens, vocab, generator=draw)


def plain(name: str, base: Tensor, model: Tensor, temperature: float = 1.0) -> Tensor:
    """The definition over the whole vocabulary, in float64."""
    p0, p = ((logits.double() / temperature).softmax(-1) for logits in (base, model))
    log_p0, log_p = ((logits.double() / temperature).log_softmax(-1) for logits in (base, model))
    each = p0 * (log_p0 - log_p) if name == "kl" else p * (log_p - log_p0)
    return temperature**2 * each.sum(-1)


def with_gradient(value_of: Callable[[Tensor], Tensor], logits: Tensor) -> tuple[Tensor, Tensor]:
    leaf = logits.clone().requires_grad_()
    values = value_of(leaf)
    values.sum().backward()
    assert leaf.grad is not None
    return values.detach(), leaf.grad


@given(st.integers(1, 6), st.integers(2, 9), st.integers(0, 10**6))
def test_row_i_is_the_surprise_at_target_i(tokens: int, vocab: int, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    logits = 5 * torch.randn(tokens, vocab, generator=generator)
    targets = torch.randint(vocab, (tokens,), generator=generator)
    probabilities = logits.double().exp() / logits.double().exp().sum(dim=1, keepdim=True)
    expected = torch.stack([-row[target].log() for row, target in zip(probabilities, targets, strict=True)])
    torch.testing.assert_close(token_nll(logits, targets), expected.float())


def test_half_precision_logits_are_summed_in_single_precision() -> None:
    logits = torch.zeros(1, 100_000, dtype=torch.bfloat16)
    found = token_nll(logits, torch.tensor([7]))
    assert found.dtype == torch.float32
    assert float(found) == pytest.approx(torch.log(torch.tensor(1e5)).item(), rel=1e-6)


def test_a_certain_and_an_impossible_token() -> None:
    logits = torch.tensor([[1000.0, 0.0], [1000.0, 0.0]])
    assert token_nll(logits, torch.tensor([0, 1])).tolist() == [0.0, 1000.0]


@pytest.mark.parametrize(
    ("name", "kept", "temperature", "expected"),
    [
        ("kl", 4, 1.0, 0.033762),
        ("kl", 1, 1.0, 0.020411),
        ("kl", 2, 1.0, 0.030479),
        ("kl", 3, 1.0, 0.033762),  # one token is left over: its mass is the tail
        ("kl", 4, 2.0, 0.047147),
        ("reverse-kl", 4, 1.0, 0.037594),
    ],
)
def test_the_worked_example(name: str, kept: int, temperature: float, expected: float) -> None:
    found = KLS[name](MODEL, reference(BASE, kept, temperature), temperature)
    assert found.tolist() == pytest.approx([expected], abs=1e-6)


def test_the_gradient_of_the_worked_example_is_the_difference_of_the_probabilities() -> None:
    _, gradient = with_gradient(lambda logits: token_kl(logits, reference(BASE, 4)), MODEL)
    assert gradient[0].tolist() == pytest.approx([-0.1, 0.0, 0.05, 0.05], abs=1e-6)


def test_within_the_tail_the_gradient_keeps_the_models_proportions() -> None:
    """p - p0 at what is kept; the tail as a whole gets its difference, and shares it as the model's masses do."""
    _, gradient = with_gradient(lambda logits: token_kl(logits, reference(BASE, 2)), MODEL)
    assert gradient[0].tolist() == pytest.approx([-0.1, 0.0, 0.1 * 2 / 3, 0.1 / 3], abs=1e-6)


@pytest.mark.parametrize("name", KLS)
@given(**WIDE, temperature=st.sampled_from([0.5, 1.0, 2.0]))
@settings(max_examples=60)
def test_with_the_whole_vocabulary_it_is_the_definition_in_value_and_gradient(
    name: str, vocab: int, scale: float, seed: int, temperature: float
) -> None:
    base, model = pair(vocab, scale, seed)
    kept = reference(base, vocab, temperature)
    assert torch.isneginf(kept.log_tail).all()
    found = with_gradient(lambda logits: KLS[name](logits, kept, temperature), model)
    expected = with_gradient(lambda logits: plain(name, base, logits, temperature), model)
    # Logits of size `scale` are known to that many units of the last place.
    last_place = temperature * max(scale, 1.0) * 1e-6
    for mine, theirs in zip(found, expected, strict=True):
        torch.testing.assert_close(mine.double(), theirs.double(), rtol=1e-5, atol=last_place)


@pytest.mark.parametrize("name", KLS)
@given(**WIDE)
@settings(max_examples=60)
def test_it_grows_with_what_is_kept_from_0_to_the_whole(name: str, vocab: int, scale: float, seed: int) -> None:
    base, model = pair(vocab, scale, seed)
    whole = plain(name, base, model).float()
    counts = [count for count in (1, 2, 8, vocab // 2, vocab - 1, vocab) if 0 < count <= vocab]
    values = torch.stack([KLS[name](model, reference(base, count)) for count in sorted(counts)])
    assert values.min() >= -1e-7
    slack = 1e-6 + 1e-5 * whole
    assert (values.diff(dim=0) >= -slack).all()
    assert (values <= whole + slack).all()
    same = slice(None, None, 4)  # of the tokens, those where the model is the base
    assert values[:, same].abs().max() <= 1e-6


@pytest.mark.parametrize("name", KLS)
def test_direction_and_sign(name: str) -> None:
    """A base with two answers and a model that has dropped one of them is dear forwards and cheap backwards."""
    both, one = torch.tensor([[5.0, 5.0, -5.0]]), torch.tensor([[5.0, -15.0, -5.0]])
    dropped = float(KLS[name](one, reference(both, 3)))
    gained = float(KLS[name](both, reference(one, 3)))
    assert dropped > 8 if name == "kl" else 0.6 < dropped < 0.7
    assert 0.6 < gained < 0.7 if name == "kl" else gained > 8


@pytest.mark.parametrize("name", KLS)
def test_mass_that_leaves_what_is_kept_is_seen(name: str) -> None:
    """The term that a renormalised top-k KL lacks."""
    base, away = torch.tensor([[4.0, 3.0, 0.0, 0.0, 0.0]]), torch.tensor([[4.0, 3.0, 6.0, 6.0, 6.0]])
    value, gradient = with_gradient(lambda logits: KLS[name](logits, reference(base, 2)), away)
    assert float(value) > 1
    assert (gradient[0, 2:] > 0).all(), "descent lowers what the base holds unlikely"
    assert (gradient[0, :2] < 0).all()


@pytest.mark.parametrize("name", KLS)
@pytest.mark.parametrize("kept", [1, 3, 5, 6])
def test_extreme_logits_have_finite_values_and_gradients(name: str, kept: int) -> None:
    hot = 50 * torch.eye(6) - 50 * (1 - torch.eye(6))
    rows = torch.cat([hot, -hot, torch.zeros(1, 6), 1e4 * torch.eye(6), torch.linspace(-50, 50, 6)[None]])
    base, model = rows.repeat_interleave(len(rows), 0), rows.repeat(len(rows), 1)
    value, gradient = with_gradient(lambda logits: KLS[name](logits, reference(base, kept)), model)
    assert value.isfinite().all()
    assert gradient.isfinite().all()
    assert value.min() >= -1e-7
    torch.testing.assert_close(gradient.sum(-1), torch.zeros(len(value)), atol=2e-2, rtol=0)


@pytest.mark.parametrize("name", KLS)
@pytest.mark.parametrize("kept", [1, 2, 8, 32])
def test_no_token_of_many_breaks_a_gradient(name: str, kept: int) -> None:
    """Confident predictions, whose kept masses sum to 1 but for the last place: a few in a thousand could."""
    base, model = pair(32, 5.0, 0, tokens=4000)
    value, gradient = with_gradient(lambda logits: KLS[name](logits, reference(base, kept)), model)
    assert value.min() >= -1e-7
    assert gradient.isfinite().all()


def test_a_small_tail_keeps_its_digits_in_value_and_gradient() -> None:
    """1 - sum of the kept probabilities would be 0 in float32."""
    base, model = torch.tensor([[0.0, -1.0, -1.0]]), torch.tensor([[0.0, -40.0, -40.0]])
    value, gradient = with_gradient(lambda logits: token_kl(logits, reference(base, 1)), model)
    p0 = base.double().softmax(-1)[0]
    tail = float(p0[1:].sum())
    log_tails = math.log(tail) - (-40 + math.log(2))
    assert float(value) == pytest.approx(float(p0[0] * p0[0].log()) + tail * log_tails, rel=1e-5)
    assert gradient[0].tolist() == pytest.approx([tail, -tail / 2, -tail / 2], rel=1e-5)


def test_a_confident_base_still_sees_a_model_that_leaves_it() -> None:
    base, model = torch.tensor([[20.0, 0.0, 0.0]]), torch.tensor([[0.0, 0.0, 0.0]])
    value = float(token_reverse_kl(model, reference(base, 1)))
    assert value == pytest.approx(math.log(1 / 3) / 3 + 2 / 3 * (math.log(2 / 3) - math.log(2) + 20), rel=1e-5)


def test_temperature_belongs_to_both_sides() -> None:
    at_two = reference(BASE, 4, 2.0)
    torch.testing.assert_close(at_two.log_probs.exp(), (BASE / 2).softmax(-1))
    assert float(token_kl(BASE, at_two, 2.0)) == pytest.approx(0, abs=1e-7)
    assert float(token_kl(BASE, at_two, 1.0)) > 1e-3
    _, gradient = with_gradient(lambda logits: token_kl(logits, at_two, 2.0), MODEL)
    torch.testing.assert_close(gradient, 2 * ((MODEL / 2).softmax(-1) - (BASE / 2).softmax(-1)))


@given(st.integers(2, 30), st.integers(1, 40), st.integers(0, 10**6))
def test_what_is_kept_are_the_most_likely_and_the_mass_of_the_others(vocab: int, kept: int, seed: int) -> None:
    base, _ = pair(vocab, 3.0, seed)
    found = reference(base, kept)
    log_probs = base.log_softmax(-1)
    assert found.ids.shape == found.log_probs.shape == (8, min(kept, vocab))
    torch.testing.assert_close(found.log_probs, log_probs.gather(-1, found.ids))
    assert (found.log_probs.diff(dim=-1) <= 0).all()
    total = found.log_probs.double().exp().sum(-1) + found.log_tail.double().exp()
    torch.testing.assert_close(total, torch.ones(8, dtype=torch.float64), atol=1e-6, rtol=0)
    others = torch.ones_like(base).scatter(-1, found.ids, 0).bool()
    assert all(
        row[left].max() <= lowest if left.any() else True
        for row, left, lowest in zip(log_probs, others, found.log_probs[:, -1], strict=True)
    )


@pytest.mark.parametrize("name", KLS)
def test_half_precision_logits_are_compared_in_single_precision(name: str) -> None:
    base, model = (logits.bfloat16() for logits in pair(16, 3.0, 0))
    found = KLS[name](model, reference(base, 4))
    assert found.dtype == torch.float32
    torch.testing.assert_close(found, KLS[name](model.float(), reference(base.float(), 4)))


def test_a_reference_moves_with_all_that_it_holds() -> None:
    moved = reference(BASE, 2).to(torch.device("meta"))
    assert isinstance(moved, Reference)
    assert {moved.ids.device.type, moved.log_probs.device.type, moved.log_tail.device.type} == {"meta"}


# -- without the right token ------------------------------------------------------------------------------------


def without(base: Tensor, model: Tensor, targets: Tensor) -> Tensor:
    """The definition: the right token struck out, both sides renormalised, in float64."""
    q0, q = (logits.double().softmax(-1).scatter(-1, targets[:, None], 0) for logits in (base, model))
    q0, q = (some / some.sum(-1, keepdim=True) for some in (q0, q))
    return torch.where(q0 > 0, q0 * (q0 / q.clamp_min(1e-300)).log(), 0.0).sum(-1)


@pytest.mark.parametrize(("gold", "expected"), [(0, 0.026702), (1, 0.048232)])
def test_the_worked_example_without_the_right_token(gold: int, expected: float) -> None:
    target = torch.tensor([gold])
    for kept in (3, 4):
        found = float(token_masked_kl(MODEL, target, masked_reference(BASE, target, kept)))
        assert found == pytest.approx(expected, abs=1e-6)


@given(st.integers(3, 40), st.sampled_from([0.1, 1.0, 5.0]), st.integers(0, 10**6))
@settings(max_examples=60)
def test_target_masked_kl_grows_from_0_to_its_definition(vocab: int, scale: float, seed: int) -> None:
    base, model = pair(vocab, scale, seed)
    targets = torch.randint(vocab, (len(base),), generator=torch.Generator().manual_seed(seed))
    whole = without(base, model, targets).float()
    counts = sorted({1, 2, vocab // 2, vocab - 1, vocab} - {0})
    values = torch.stack([token_masked_kl(model, targets, masked_reference(base, targets, k)) for k in counts])
    assert values.isfinite().all()
    assert values.min() >= -1e-7
    slack = 1e-6 + 1e-4 * whole
    assert (values.diff(dim=0) >= -slack).all()
    torch.testing.assert_close(values[-1], whole, rtol=1e-4, atol=1e-5)
    assert values[:, ::4].abs().max() <= 1e-6


@pytest.mark.parametrize("kept", [1, 3, 5])
def test_target_masked_kl_leaves_the_right_token_alone(kept: int) -> None:
    """However sure the base is of it: no gradient reaches its logit, and raising it changes nothing."""
    base = torch.tensor([[40.0, 1.0, 0.0, -1.0, -2.0]])
    model = torch.tensor([[0.0, 0.0, 1.0, -1.0, 2.0]])
    target = torch.tensor([0])
    kept_masses = masked_reference(base, target, kept)
    value, gradient = with_gradient(lambda logits: token_masked_kl(logits, target, kept_masses), model)
    assert float(gradient[0, 0]) == 0
    assert gradient.abs().max() > 0.01
    raised = model + 30 * torch.eye(5)[0]
    torch.testing.assert_close(token_masked_kl(raised, target, kept_masses), value)
    assert 0 not in kept_masses.ids or kept == 5


# -- tokens that the base held improbable -----------------------------------------------------------------------


def test_the_base_is_asked_for_the_right_tokens_alone() -> None:
    base, _ = pair(20, 3.0, 1)
    targets = torch.arange(8)
    found = answer_reference(base, targets)
    probabilities = base.double().softmax(-1)[torch.arange(8), targets]
    torch.testing.assert_close(found.log_probs[:, 0].double().exp(), probabilities, rtol=1e-5, atol=1e-9)
    torch.testing.assert_close(found.log_tail.double().exp(), 1 - probabilities, rtol=1e-5, atol=1e-9)


def held_at(*probabilities: float) -> Reference:
    p = torch.tensor(probabilities)
    return Reference(torch.zeros(len(p), 1, dtype=torch.long), p.log()[:, None], (1 - p).log())


def test_tokens_above_a_perplexity_of_2_5_count_nothing_and_the_others_of_the_row_make_up_for_it() -> None:
    assert base_shares(held_at(0.4, 0.39), [2], 0.4).tolist() == [2.0, 0.0]
    found = base_shares(held_at(0.9, 0.1, 0.5, 0.2, 0.1, 0.9, 0.3), [3, 2, 1, 1], 0.4)
    assert found.tolist() == [1.5, 0.0, 1.5, 1.0, 1.0, 1.0, 1.0], "a row that would lose all keeps all"


@given(st.lists(st.lists(st.floats(0.01, 0.99), min_size=1, max_size=6), min_size=1, max_size=5), st.floats(0.1, 0.9))
def test_a_row_weighs_the_same_however_many_tokens_stay(rows: list[list[float]], least: float) -> None:
    found = base_shares(held_at(*[p for row in rows for p in row]), [len(row) for row in rows], least)
    for row, shares in zip(rows, found.split([len(row) for row in rows]), strict=True):
        assert float(shares.sum()) == pytest.approx(len(row), rel=1e-5)
