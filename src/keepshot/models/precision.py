"""The dtype in which weights are stored, and that in which a device computes fastest."""

import math
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import torch
from safetensors import safe_open

_STORED = (("F32", torch.float32), ("BF16", torch.bfloat16), ("F16", torch.float16))


def stored_dtype(weights: Sequence[Path]) -> torch.dtype:
    """The dtype of most numbers in some safetensors files, of those that weights have: masks may stand beside them."""
    numbers: Counter[str] = Counter()
    for shard in weights:
        with safe_open(shard, framework="pt") as file:
            for tensor in map(file.get_slice, file.keys()):
                numbers[tensor.get_dtype()] += math.prod(tensor.get_shape())
    return max(_STORED, key=lambda stored: numbers[stored[0]])[1]


def computing_dtype(device: torch.device) -> torch.dtype:
    """Bfloat16 where products in it are at least as fast as in float32, else float32.

    A CPU without vector instructions that oneDNN has bfloat16 products for (AVX2 alone, say) makes these one by one:
    one of 1,024 x 1,024 takes some fifty times as long as in float32.

    Example:
        >>> computing_dtype(torch.device("cuda"))
        torch.bfloat16
    """
    fast = device.type != "cpu" or (
        torch.backends.mkldnn.is_available() and torch.ops.mkldnn._is_mkldnn_bf16_supported()
    )
    return torch.bfloat16 if fast else torch.float32
