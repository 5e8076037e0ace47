"""Which components of a weight few-shot prompts use least: where CorDA's knowledge-preserved adapters start.

| paper | meaning | here |
|---|---|---|
| X | inputs of a linear layer, one column a token | what the hooks see |
| C = X X^T | their second moment, not centred | `covariances`, mean over tokens, damped in `least_used` |
| U S V^T = SVD(W C) | components by how much the prompts use them | `least_used` takes the last r |
| B = U sqrt(S), A = sqrt(S) V^T C^-1 | the adapter's start | `b`, `a` |

Reference:
    CorDA, arXiv:2406.05223, equations 2 to 5. C is damped once, by .01 of its mean diagonal as PEFT does at first.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TypeAlias

import torch
from jaxtyping import Float
from peft import PeftModel
from torch import Tensor, nn

from keepshot.errors import DataError, RunError
from keepshot.models.load import quiet

Prompts: TypeAlias = Callable[[int], Sequence[Sequence[int]]]
"""Makes so many rows of token ids: few-shot prompts whose computation an adapter is to leave alone."""

Covariance: TypeAlias = Float[Tensor, "inputs inputs"]

_DAMPING = 0.01
# Of the largest logit. An adapter in float32 beside 16-bit weights can tip the rounding of what they compute.
_STEP_0 = {torch.float32: 1e-4, torch.float16: 3e-2, torch.bfloat16: 3e-2}


def covariances(
    model: PeftModel, layers: Mapping[str, nn.Module], prompts: Sequence[Sequence[int]]
) -> dict[str, Covariance]:
    """The second moment of each layer's inputs, a mean over all tokens of the prompts, in float32.

    Every token weighs the same. The need is inputs x inputs float32 numbers a layer, beside the model.

    Raises:
        DataError: There is no prompt.
        RunError: A layer's inputs are not finite.
    """
    num_tokens = sum(len(ids) for ids in prompts)
    if not num_tokens:
        raise DataError("there are no few-shot prompts to take the adapter's start from")
    found: dict[str, Tensor] = {}

    def hook_of(path: str) -> Callable[[nn.Module, tuple[Tensor, ...]], None]:
        def hook(_: nn.Module, given: tuple[Tensor, ...]) -> None:
            inputs = given[0].detach().flatten(0, -2).float()
            moment = inputs.mT @ inputs / num_tokens
            found[path] = found[path].add_(moment) if path in found else moment

        return hook

    handles = [layer.register_forward_pre_hook(hook_of(path)) for path, layer in layers.items()]
    try:
        with _asking(model), model.disable_adapter():
            for ids in prompts:
                model(input_ids=torch.tensor([list(ids)], device=model.device), use_cache=False, logits_to_keep=1)
    finally:
        for handle in handles:
            handle.remove()
    for path in layers:
        if path not in found or not found[path].isfinite().all():
            raise RunError(f"the inputs of {path} on few-shot prompts are missing or not finite; use another method")
    return found


def least_used(
    weight: Float[Tensor, "outputs inputs"], covariance: Covariance, r: int
) -> tuple[Float[Tensor, "r inputs"], Float[Tensor, "outputs r"]]:
    """The r components of a weight that inputs of such a covariance use least, as A and B.

    Args:
        weight: W.
        covariance: C, before damping.
        r: How many; at most the smaller side of W.

    Returns:
        A and B, with B A the part of W, in float64 on the CPU or the accelerator of the weight.

    Example:
        >>> weight, covariance = torch.eye(3), torch.diag(torch.tensor([9.0, 4.0, 1.0]))
        >>> a, b = least_used(weight, covariance, 1)
        >>> (b @ a).round(decimals=6) + 0.0
        tensor([[0., 0., 0.],
                [0., 0., 0.],
                [0., 0., 1.]], dtype=torch.float64)
    """
    device = "cpu" if weight.device.type == "mps" else weight.device  # which has no float64
    w, c = weight.to(device, torch.float64), covariance.to(device, torch.float64)
    c = c + _DAMPING * c.diagonal().mean() * torch.eye(len(c), dtype=c.dtype, device=device)
    u, s, vh = torch.linalg.svd(w @ c, full_matrices=False)
    root = s[-r:].sqrt()
    return root[:, None] * torch.linalg.solve(c, vh[-r:], left=False), u[:, -r:] * root


def check_step_0(model: PeftModel, ids: Sequence[int]) -> None:
    """Check that the model with its fresh adapter computes what the base computes.

    Raises:
        RunError: Its logits on a prompt differ from the base's by more than rounding.
    """
    row = torch.tensor([list(ids)], device=model.device)
    with _asking(model):
        started = model(input_ids=row, use_cache=False).logits.float()
        with model.disable_adapter():
            expected = model(input_ids=row, use_cache=False).logits.float()
    difference, largest = (started - expected).abs().max(), expected.abs().max()
    if not difference <= _STEP_0[model.dtype] * largest:
        raise RunError(
            f"the adapter does not start at the base: its logits differ by {difference:.2g} (the largest is "
            f"{largest:.2g}); use start: zero, and report this with the model's name"
        )


@contextmanager
def _asking(model: PeftModel) -> Iterator[None]:
    was_training = model.training
    model.eval()
    try:
        with torch.no_grad(), quiet():
            yield
    finally:
        model.train(was_training)
