"""The dtype in which a device computes fastest."""

import torch


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
