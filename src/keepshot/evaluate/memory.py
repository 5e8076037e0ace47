"""Batches that do not fit the memory."""

import torch

from keepshot.errors import RunError

OUT_OF_MEMORY = (torch.OutOfMemoryError, MemoryError)


def halved(error: BaseException, size: int, smallest: int) -> int:
    """Half of a batch's size, for another try; what was finished stays finished.

    Args:
        error: What the batch raised.
        size: Its tokens.
        smallest: Tokens of a batch that cannot be cut any more.

    Raises:
        RunError: The batch cannot be smaller.

    Example:
        >>> halved(MemoryError(), 4096, 100)
        2048
    """
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
    if size <= smallest:
        raise RunError(
            f"the memory does not hold a single prompt of {size} tokens; use fewer shots, a smaller data.max_length or "
            "a model in 16 bits"
        ) from error
    return max(size // 2, smallest)
