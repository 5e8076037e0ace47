"""The logits that were asked for, also of a model that gives all."""

from jaxtyping import Bool, Float
from torch import Tensor

from keepshot.errors import ModelError


def kept_logits(
    logits: Float[Tensor, "*positions vocab"], keep: Bool[Tensor, "rows length"]
) -> Float[Tensor, "kept vocab"]:
    """Logits at the positions that `keep` marks, row by row, from what a model gave for `logits_to_keep=keep`.

    Args:
        logits: Of these positions; or of all, as of an architecture that takes the argument and ignores it.
        keep: What was asked.

    Raises:
        ModelError: They are of another number.

    Example:
        >>> import torch
        >>> keep = torch.tensor([[False, True, True]])
        >>> kept_logits(torch.arange(3.0)[None, :, None], keep).flatten().tolist()
        [1.0, 2.0]
        >>> kept_logits(torch.tensor([[[1.0], [2.0]]]), keep).flatten().tolist()
        [1.0, 2.0]
    """
    flat = logits.reshape(-1, logits.shape[-1])
    asked = int(keep.sum())
    if len(flat) == asked:
        return flat
    if len(flat) == keep.numel():
        return flat[keep.flatten().to(flat.device)]
    raise ModelError(f"the model gave logits at {len(flat)} positions of {keep.numel()}; {asked} were asked for")
