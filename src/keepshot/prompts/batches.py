"""Rows to batches: grouped by length so that little is computed for padding."""

from collections.abc import Sequence

# What one more batch costs beside its tokens (launches, small matrices), in tokens. On two CPU cores a batch of the
# bundled model costs about 10 ms more than its tokens do, the time of about 150 tokens.
BATCH_OVERHEAD_TOKENS = 128


def group_by_length(lengths: Sequence[int], budget: int, overhead: int = BATCH_OVERHEAD_TOKENS) -> list[list[int]]:
    """Split row indices into batches with the least computed tokens (padding included) plus overhead.

    Rows are sorted by length (ties by index); a batch costs `rows x longest + overhead` and holds at most `budget`
    padded tokens, or one row. The split is optimal for that order (dynamic programme, quadratic in the number of rows
    that fit a batch).

    Args:
        lengths: Tokens of every row.
        budget: Most padded tokens in a batch.
        overhead: Cost of one batch, in tokens.

    Returns:
        Batches of row indices, shortest first.

    Example:
        >>> group_by_length([5, 400, 6, 5], budget=1000)
        [[0, 3, 2], [1]]
    """
    order = sorted(range(len(lengths)), key=lambda i: (lengths[i], i))
    best: list[float] = [0.0]
    cut: list[int] = [0]
    for end in range(1, len(order) + 1):
        longest = lengths[order[end - 1]]
        cost, where = float("inf"), end - 1
        for start in range(end - 1, -1, -1):
            padded = (end - start) * longest
            if padded > budget and start < end - 1:
                break
            if best[start] + padded + overhead < cost:
                cost, where = best[start] + padded + overhead, start
        best.append(cost)
        cut.append(where)
    batches: list[list[int]] = []
    end = len(order)
    while end > 0:
        batches.append(order[cut[end] : end])
        end = cut[end]
    return batches[::-1]
