"""Muon for many small matrices: `torch.optim.Muon`, with all matrices of one shape orthogonalised at once.

The library's optimizer starts some thirty kernels for each matrix. For a model of a few million parameters that takes
longer than the forward and backward passes; here it is some thirty for each shape.
"""

from collections.abc import Iterable
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from keepshot.models.precision import computing_dtype

# The quintic Newton-Schulz iteration of Jordan et al. (2024), as `torch.optim.Muon` has it.
_COEFFICIENTS = (3.4445, -4.7750, 2.0315)
_ITERATIONS = 5
_SMALLEST_NORM = 1e-7
_ADAMW_RMS = 0.2  # the size of AdamW's updates in units of its learning rate (Liu et al. 2025, arXiv 2502.16982)


class Muon(torch.optim.Optimizer):
    """Momentum whose matrices are made orthogonal, at AdamW's learning rates (`adjust_lr_fn="match_rms_adamw"`).

    Args:
        matrices: Parameters of two dimensions.
        lr: As it would be for AdamW.
        weight_decay: Per step and unit of `lr`.
        momentum: Share of the momentum that a step keeps.

    Reference:
        Jordan et al. 2024, https://kellerjordan.github.io/posts/muon
    """

    def __init__(
        self, matrices: Iterable[nn.Parameter], lr: float, weight_decay: float, momentum: float = 0.95
    ) -> None:
        """See the class."""
        super().__init__(matrices, {"lr": lr, "weight_decay": weight_decay, "momentum": momentum})

    def step(self, closure: Any = None) -> None:
        """Move every matrix that has a gradient; `closure` is not used."""
        for group in self.param_groups:
            self._step(group)

    def _step(self, group: dict[str, Any]) -> None:
        with torch.no_grad():
            matrices = [parameter for parameter in group["params"] if parameter.grad is not None]
            gradients = [parameter.grad for parameter in matrices]
            for parameter in matrices:
                if not self.state[parameter]:
                    self.state[parameter]["momentum_buffer"] = torch.zeros_like(parameter)
            momenta = [self.state[parameter]["momentum_buffer"] for parameter in matrices]
            torch._foreach_lerp_(momenta, gradients, 1 - group["momentum"])
            nesterov = torch._foreach_lerp(gradients, momenta, group["momentum"])
            torch._foreach_mul_(matrices, 1 - group["lr"] * group["weight_decay"])
            shapes: dict[torch.Size, list[int]] = {}
            for place, parameter in enumerate(matrices):
                shapes.setdefault(parameter.shape, []).append(place)
            for shape, places in shapes.items():
                updates = orthogonal(torch.stack([nesterov[place] for place in places]))
                rate = group["lr"] * _ADAMW_RMS * max(shape) ** 0.5
                torch._foreach_add_([matrices[place] for place in places], list(updates.float()), alpha=-rate)


def orthogonal(matrices: Float[Tensor, "count rows columns"]) -> Float[Tensor, "count rows columns"]:
    """Matrices with the same singular vectors and singular values near 1 (between about .7 and 1.2).

    They are computed and returned in `computing_dtype`.
    """
    a, b, c = _COEFFICIENTS
    x = matrices.to(computing_dtype(matrices.device))
    tall = x.size(-2) > x.size(-1)
    if tall:
        x = x.mT
    x = x / x.norm(dim=(-2, -1), keepdim=True).clamp(min=_SMALLEST_NORM)
    for _ in range(_ITERATIONS):
        gram = x @ x.mT
        update = torch.baddbmm(gram, gram, gram, beta=b, alpha=c)
        x = torch.baddbmm(x, update, x, beta=a)
    return x.mT if tall else x
