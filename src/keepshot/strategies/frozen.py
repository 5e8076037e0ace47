"""Proof that the numbers outside the trainable set are those of the base, bit for bit."""

import hashlib
from collections.abc import Mapping

import torch
from peft import PeftModel
from torch import Tensor

from keepshot.errors import RunError
from keepshot.models.load import CausalLM
from keepshot.strategies.parts import Mask, Parts

_CHUNK = 2**22
"""Numbers that are converted at a time: the whole need is 16 MiB beside the model."""


def fingerprint(model: CausalLM, parts: Parts, dtype: torch.dtype | None = None) -> dict[str, str]:
    """A digest of each parameter's numbers that may not move, as they are stored.

    Adapters are left out and their wrapping does not show in the names, so that the base before training, the model in
    training and the saved model loaded anew can be compared; see `verify_frozen`.

    Args:
        model: Any of these.
        parts: What may move, `TrainableSet.parts`; parameters that may move as a whole get no digest.
        dtype: What the numbers are rounded to first: the dtype of the saved weights; None takes each as it is.

    Returns:
        Parameter name in the base -> hexadecimal digest, which also depends on shape and dtype.

    Example:
        >>> from keepshot.models.load import load_model
        >>> model = load_model("mini", device="cpu")
        >>> before = fingerprint(model, {"model.norm.weight": None})
        >>> _ = model.model.norm.weight.data.mul_(2)
        >>> fingerprint(model, {"model.norm.weight": None}) == before, fingerprint(model, {}) == before
        (True, False)
    """
    adapters = set(model.peft_config) if isinstance(model, PeftModel) else set()
    base = model.get_base_model() if isinstance(model, PeftModel) else model
    digests: dict[str, str] = {}
    for wrapped_name, parameter in base.named_parameters():
        name = wrapped_name.replace(".base_layer.", ".").replace(".original_module.", ".")
        if adapters.intersection(name.split(".")) or (name in parts and parts[name] is None):
            continue
        digests[name] = _digest(parameter, parts.get(name), dtype or parameter.dtype)
    return digests


def adapter_fingerprint(model: PeftModel, adapter: str) -> dict[str, str]:
    """A digest of each tensor of an adapter.

    Args:
        model: Holds the adapter.
        adapter: Its name there, `default` unless several are loaded.

    Returns:
        Parameter name without the adapter's -> hexadecimal digest.
    """
    digests: dict[str, str] = {}
    for name, parameter in model.get_base_model().named_parameters():
        components = name.split(".")
        if adapter in components:
            digests[".".join(c for c in components if c != adapter)] = _digest(parameter, None, parameter.dtype)
    return digests


def verify_frozen(before: Mapping[str, str], after: Mapping[str, str]) -> None:
    """Check that two fingerprints are the same.

    Args:
        before: Of the base.
        after: Of the tuned model, with the same parts and dtype.

    Raises:
        RunError: Numbers that were to stay have changed, or parameters came or went; the message names them.
    """
    changed = [name for name in {**before, **after} if before.get(name) != after.get(name)]
    if changed:
        named = ", ".join(changed[:3]) + (f" and {len(changed) - 3} more" if len(changed) > 3 else "")
        raise RunError(
            f"{len(changed)} of {len(before)} tensors outside the trainable set differ from the base: {named}; "
            "the method did not do what it says, do not use this model"
        )


def _digest(tensor: Tensor, moving: Mask | None, dtype: torch.dtype) -> str:
    digest = hashlib.blake2b(f"{tuple(tensor.shape)} {dtype}".encode(), digest_size=16)
    rows = tensor.detach().view(1) if tensor.dim() == 0 else tensor.detach()
    step = max(1, _CHUNK // max(1, rows[:1].numel()))
    for start in range(0, len(rows), step):
        chunk = rows[start : start + step]
        if moving is not None:
            here = moving if len(moving) == 1 else moving[start : start + step]
            chunk = chunk[~here.to(chunk.device).expand_as(chunk)]
        digest.update(chunk.to(dtype).contiguous().cpu().view(-1).view(torch.uint8).numpy())
    return digest.hexdigest()
