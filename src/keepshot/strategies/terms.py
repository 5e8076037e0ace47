"""What is minimised: token losses, each in nats and float32. A step's loss is their sum weighted by coefficients."""

import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor


def token_nll(logits: Float[Tensor, "tokens vocab"], targets: Int[Tensor, " tokens"]) -> Float[Tensor, " tokens"]:
    """Negative log-likelihood of every target token, in nats.

    Args:
        logits: Row i predicts `targets[i]`: the shift has been made by whoever chose the positions.
        targets: Token ids.

    Example:
        >>> import torch
        >>> token_nll(torch.zeros(1, 4), torch.tensor([2]))   # ln 4
        tensor([1.3863])
    """
    return F.cross_entropy(logits.float(), targets, reduction="none")
