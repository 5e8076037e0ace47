import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from keepshot.strategies import token_nll


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
