import pytest
import torch

from keepshot.models import muon
from keepshot.models.muon import Muon, orthogonal

SHAPES = [(16, 16), (16, 16), (40, 16), (16, 40), (40, 16)]


@pytest.mark.skipif(not hasattr(torch.optim, "Muon"), reason="torch has its own from 2.9 on")
def test_it_moves_as_the_library_s_own_does(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(muon, "computing_dtype", lambda device: torch.bfloat16)  # the library's, on any machine
    random = torch.Generator().manual_seed(0)
    ours = [torch.nn.Parameter(torch.randn(shape, generator=random) * 0.02) for shape in SHAPES]
    theirs = [torch.nn.Parameter(parameter.detach().clone()) for parameter in ours]
    optimiser = Muon(ours, lr=1e-2, weight_decay=0.05)
    reference = torch.optim.Muon(theirs, lr=1e-2, weight_decay=0.05, adjust_lr_fn="match_rms_adamw")
    for step in range(4):
        for place, (left, right) in enumerate(zip(ours, theirs, strict=True)):
            gradient = torch.randn(left.shape, generator=random)
            left.grad = right.grad = None if (step, place) == (1, 3) else gradient
        optimiser.step()
        reference.step()
    for left, right in zip(ours, theirs, strict=True):
        # Products in bfloat16 round by the shape of a batch.
        torch.testing.assert_close(left, right, atol=2e-4, rtol=0)


def test_singular_values_come_near_one() -> None:
    matrices = (
        torch.randn(3, 20, 12, generator=torch.Generator().manual_seed(0))
        * torch.tensor([1e-3, 1.0, 1e3])[:, None, None]
    )
    values = torch.linalg.svdvals(orthogonal(matrices).float())
    assert values.min() > 0.6
    assert values.max() < 1.3
