"""Rows that continue one context, as trees: every distinct beginning of what they add is one path, computed once.

Sorted rows that begin alike stand side by side, so a depth-first tree grows by appending. A query is the stem of its
options; a node sees the context and the nodes it descends from, nothing else.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from keepshot.prompts import Row


@dataclass(frozen=True, slots=True)
class Tree:
    """Own tokens of several rows, parents before children, depth first.

    Attributes:
        rows: Indices of the rows that it holds.
        ids: Token of every node.
        depths: Tokens between the context and the node.
        ends: The nodes from one itself up to its end are those that descend from it.
        predicting: For every row the nodes that predict its last answer, token by token.
        targets: For every row the answer's tokens.
    """

    rows: tuple[int, ...]
    ids: tuple[int, ...]
    depths: tuple[int, ...]
    ends: tuple[int, ...]
    predicting: tuple[tuple[int, ...], ...]
    targets: tuple[tuple[int, ...], ...]


def own_order(rows: Sequence[Row], done: int) -> list[int]:
    """Indices of the rows by what they add to `done` tokens of context: equal beginnings become neighbours."""
    return sorted(range(len(rows)), key=lambda i: rows[i].ids[done : rows[i].answers[-1][1] - 1])


def grow_tree(rows: Sequence[Row], order: Sequence[int], done: int, budget: int) -> Tree:
    """The tree of the first rows in `order`: as many as `budget` nodes hold, and at least one.

    The last token of an answer predicts nothing that is asked for, so it is no node.

    Example:
        >>> rows = [Row((1, 2, 3, 4), ((2, 4),)), Row((1, 2, 5, 6), ((2, 4),))]
        >>> tree = grow_tree(rows, own_order(rows, 1), done=1, budget=8)
        >>> tree.ids, tree.depths, tree.ends, tree.predicting
        ((2, 3, 5), (0, 1, 1), (3, 2, 3), ((0, 1), (0, 2)))
    """
    ids: list[int] = []
    depths: list[int] = []
    ends: list[int] = []
    predicting: list[tuple[int, ...]] = []
    targets: list[tuple[int, ...]] = []
    path: list[int] = []
    before: tuple[int, ...] = ()
    for index in order:
        first, last = rows[index].answers[-1]
        own = rows[index].ids[done : last - 1]
        shared = agreement(before, own)
        if targets and len(ids) + len(own) - shared > budget:
            break
        for node in path[shared:]:
            ends[node] = len(ids)
        path[shared:] = range(len(ids), len(ids) + len(own) - shared)
        ids += own[shared:]
        depths += range(shared, len(own))
        ends += [0] * (len(own) - shared)
        predicting.append(tuple(path[first - 1 - done :]))
        targets.append(rows[index].ids[first:last])
        before = own
    for node in path:
        ends[node] = len(ids)
    return Tree(tuple(order[: len(targets)]), tuple(ids), tuple(depths), tuple(ends), tuple(predicting), tuple(targets))


def tree_mask(tree: Tree, done: int, window: int | None, dtype: torch.dtype) -> Float[Tensor, "1 1 nodes keys"]:
    """What every node sees, as a number to add to attention scores: 0, or the least of `dtype`.

    Args:
        tree: The nodes, which are the last keys.
        done: Tokens of context.
        window: Tokens that a layer sees, a node's own included; its cache holds one less of the context. None is all.
        dtype: Of the attention scores.
    """
    nodes = torch.arange(len(tree.ids))
    ends, depths = torch.tensor(tree.ends), torch.tensor(tree.depths)
    sees = (nodes[None] <= nodes[:, None]) & (nodes[:, None] < ends[None])
    held = done if window is None else min(done, window - 1)
    context = torch.ones(len(nodes), held, dtype=torch.bool)
    if window is not None:
        sees &= depths[:, None] - depths[None] < window
        context = depths[:, None] + torch.arange(held, 0, -1)[None] < window
    mask = torch.cat([context, sees], dim=1)
    return torch.zeros(mask.shape, dtype=dtype).masked_fill_(~mask, torch.finfo(dtype).min)[None, None]


def agreement(a: Sequence[int], b: Sequence[int]) -> int:
    """How many tokens two sequences begin with alike."""
    for i, (x, y) in enumerate(zip(a, b, strict=False)):
        if x != y:
            return i
    return min(len(a), len(b))
