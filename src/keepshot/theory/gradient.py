"""Gradients of exact losses by complex steps: is a claimed optimum one?

For an analytic f, f(x + i h) = f(x) + i h f'(x) + O(h^2), so that Im f(x + i h) / h is the derivative without the
difference of two nearly equal numbers: with h = 1e-30 it is exact to rounding.

Reference:
    Squire and Trapp 1998, SIAM Review 40(1).
"""

from collections.abc import Callable, Sequence
from typing import Literal

import numpy as np
from jaxtyping import Float

from keepshot.theory.regression import Regression
from keepshot.theory.risk import Array, Sparse, Term, expression

Block = Literal["q", "A", "v", "w"]
_STEP = 1e-30


def gradient(
    setting: Regression, model: Sparse, terms: Sequence[Term], blocks: Sequence[Block]
) -> Float[np.ndarray, " numbers"]:
    """The gradient of a loss in some blocks of the sparse family, the others held.

    Args:
        setting: Covariance and noise.
        model: Where.
        terms: The loss; see `keepshot.theory.risk.objective`.
        blocks: What may move, such as `("v", "w")` for value-only training. A stays symmetric: its gradient is taken
            along its d (d + 1) / 2 free entries.

    Example:
        >>> from keepshot.theory.regression import isotropic
        >>> setting, task = isotropic(2, noise=0.0), np.array([1.0, 0.0])
        >>> nothing = Sparse(q=1.0, A=np.zeros((2, 2)), v=np.zeros(2), w=0.0)
        >>> gradient(setting, nothing, [Term(task, shots=0)], ["v", "w"])   # -2 q theta, and w is not seen
        array([-2.,  0.,  0.])
    """
    return slopes_of(lambda at: expression(setting, at, terms), model, blocks)


def slopes_of(
    loss: Callable[[tuple[Array, Array, Array, Array]], Array], model: Sparse, blocks: Sequence[Block]
) -> Float[np.ndarray, " numbers"]:
    """The same for any analytic function of (q, A, v, w)."""
    at = (model.q, model.A, model.v, model.w)
    slopes = [
        np.imag(loss(_moved(at, block, direction))) / _STEP
        for block in blocks
        for direction in _directions(block, len(model.v))
    ]
    return np.array(slopes, dtype=np.float64)


def _directions(block: Block, dimension: int) -> list[Array]:
    if block in ("q", "w"):
        return [1.0]
    axes = np.eye(dimension)
    if block == "v":
        return list(axes)
    outer = [(i, np.outer(axes[i], axes[j])) for i in range(dimension) for j in range(i, dimension)]
    return [np.maximum(both, both.T) for _, both in outer]


def _moved(at: tuple[Array, Array, Array, Array], block: Block, direction: Array) -> tuple[Array, Array, Array, Array]:
    names: tuple[Block, ...] = ("q", "A", "v", "w")
    q, A, v, w = (
        value + 1j * _STEP * direction if name == block else value for name, value in zip(names, at, strict=True)
    )
    return q, A, v, w
