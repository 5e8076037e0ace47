"""Batches that do not fit the memory."""

import torch

from keepshot.errors import RunError

# What a batch that is too large may raise; `halved` raises again what turns out to be something else.
OUT_OF_MEMORY = (RuntimeError, MemoryError)
# How torch says it where it has no error of its own for it: of the CPU's memory, and on Apple's GPUs.
_SAID = ("can't allocate memory", "not enough memory", "out of memory")


def halved(error: BaseException, size: int, smallest: int) -> int:
    """Half of a batch's size, for another try; what was finished stays finished.

    Args:
        error: What the batch raised.
        size: Its tokens.
        smallest: Tokens of a batch that cannot be cut any more.

    Raises:
        RunError: The batch cannot be smaller.
        RuntimeError: `error` itself, where it is not about memory.

    Example:
        >>> halved(MemoryError(), 4096, 100)
        2048
    """
    told = isinstance(error, (torch.OutOfMemoryError, MemoryError)) or any(words in str(error) for words in _SAID)
    if not told:
        raise error
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
    if size <= smallest:
        raise RunError(
            f"the memory does not hold a single prompt ({size} tokens in one pass); use fewer shots, a smaller "
            "data.max_length or a model in 16 bits"
        ) from error
    return max(size // 2, smallest)
